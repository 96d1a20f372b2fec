//! `/v1/freezes`: stops every start and every step, of one policy or of all.

use super::ApiState;
use super::auth::Caller;
use super::error::ApiError;
use super::rollouts::{REASON_MAX_CHARS, body};
use super::wire::{FreezeBody, FreezeDone, FreezeEntry, FreezeList};
use crate::runner::freezes::FreezeAnswer;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};

pub(super) fn router() -> Router<ApiState> {
    Router::new()
        .route("/v1/freezes", get(list).post(freeze).delete(lift_all))
        .route("/v1/freezes/{policy}", delete(lift))
}

impl From<FreezeAnswer> for FreezeDone {
    fn from(answer: FreezeAnswer) -> Self {
        let FreezeAnswer { freeze, told, untold } = answer;
        let untold = untold.into_iter().map(|(rollout, why)| format!("{rollout}: {why}")).collect();
        Self { freeze: FreezeEntry::from(&freeze), rollouts: told, untold }
    }
}

async fn list(State(state): State<ApiState>) -> Result<Json<FreezeList>, ApiError> {
    let freezes = state.runner.freezes().await?;
    Ok(Json(FreezeList { freezes: freezes.iter().map(FreezeEntry::from).collect() }))
}

async fn freeze(
    State(state): State<ApiState>,
    caller: Caller,
    bytes: Bytes,
) -> Result<(StatusCode, Json<FreezeDone>), ApiError> {
    let FreezeBody { policy, reason } = body(&bytes)?;
    let reason: String = reason.trim().chars().take(REASON_MAX_CHARS).collect();
    if reason.is_empty() {
        let error = ApiError::new(StatusCode::BAD_REQUEST, "reason-missing", "a freeze needs a reason");
        return Err(error.hint("send {\"reason\": \"…\"}; whoever is held up reads it"));
    }
    let done = state.runner.freeze(policy, reason, caller.actor()).await?;
    Ok((StatusCode::CREATED, Json(done.into())))
}

async fn lift_all(State(state): State<ApiState>, caller: Caller) -> Result<Json<FreezeDone>, ApiError> {
    Ok(Json(state.runner.lift(None, caller.actor()).await?.into()))
}

async fn lift(
    State(state): State<ApiState>,
    caller: Caller,
    Path(policy): Path<String>,
) -> Result<Json<FreezeDone>, ApiError> {
    Ok(Json(state.runner.lift(Some(policy), caller.actor()).await?.into()))
}
