//! `/v1/policies`: what can be started.

use super::ApiState;
use super::error::ApiError;
use super::wire::{PolicyEntry, PolicyList};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};

pub(super) fn router() -> Router<ApiState> {
    Router::new().route("/v1/policies", get(list)).route("/v1/policies/{name}", get(one))
}

async fn entries(state: &ApiState) -> Result<Vec<PolicyEntry>, ApiError> {
    let all = state.runner.policies().await?;
    Ok(all
        .into_iter()
        .map(|(name, checked)| match checked {
            Ok(plan) => PolicyEntry { name, valid: true, problems: None, plan: Some(plan) },
            Err(problems) => PolicyEntry { name, valid: false, problems: Some(problems), plan: None },
        })
        .collect())
}

async fn list(State(state): State<ApiState>) -> Result<Json<PolicyList>, ApiError> {
    Ok(Json(PolicyList { policies: entries(&state).await? }))
}

async fn one(State(state): State<ApiState>, Path(name): Path<String>) -> Result<Json<PolicyEntry>, ApiError> {
    let found = entries(&state).await?.into_iter().find(|entry| entry.name == name);
    found.map(Json).ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "no-such-policy", format!("there is no policy `{name}`"))
            .hint("GET /v1/policies lists them")
    })
}
