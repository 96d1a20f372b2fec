//! `/v1/tokens`: makes, lists and revokes tokens. The token itself is in the answer that makes it, and in no other.

use super::ApiState;
use super::auth::{Access, Caller, TokenAccess};
use super::error::ApiError;
use super::rollouts::body;
use super::wire::{NewToken, TokenBody, TokenEntry, TokenList};
use crate::base::token::{TokenId, TokenRecord, problem_with_name};
use crate::clock::{Clock, SystemClock, new_token};
use crate::ports::TokenError;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};

pub(super) fn router() -> Router<ApiState> {
    Router::new().route("/v1/tokens", get(list).post(create)).route("/v1/tokens/{id}", delete(revoke))
}

fn access(state: &ApiState) -> Result<&TokenAccess, ApiError> {
    let Access::Tokens(access) = &state.access else {
        let error = ApiError::new(StatusCode::CONFLICT, "no-tokens", "this daemon asks nobody for a token");
        return Err(error.hint("`tidegate token create --data-dir DIRECTORY` makes one for a daemon that will"));
    };
    Ok(access)
}

async fn list(State(state): State<ApiState>) -> Result<Json<TokenList>, ApiError> {
    let tokens = access(&state)?.store().list().await?;
    Ok(Json(TokenList { tokens: tokens.iter().map(TokenEntry::from).collect() }))
}

async fn create(State(state): State<ApiState>, caller: Caller, bytes: Bytes) -> Result<Response, ApiError> {
    let access = access(&state)?;
    let TokenBody { name, role } = body(&bytes)?;
    if let Some(problem) = problem_with_name(&name) {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "bad-name", problem));
    }
    let token = new_token();
    let (id, created_at) = (token.id().clone(), SystemClock.now());
    let record = TokenRecord { id, name, role, created_at, created_by: caller.actor().to_string(), revoked: None };
    access.store().create(&record, &token.hash()).await.map_err(|error| match error {
        TokenError::Full => ApiError::new(StatusCode::CONFLICT, "too-many-tokens", error.to_string())
            .hint("`tidegate token list` shows them, `tidegate token revoke ID` revokes one"),
        TokenError::Fault(fault) => fault.into(),
    })?;
    access.forget(&record.id);
    tracing::info!(id = %record.id, name = %record.name, role = %record.role, by = %record.created_by, "token made");
    let answer = NewToken { token: token.reveal().clone(), entry: TokenEntry::from(&record) };
    // Nothing between here and whoever asked may keep it.
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

async fn revoke(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TokenEntry>, ApiError> {
    let (access, id) = (access(&state)?, TokenId(id));
    let by = caller.actor().to_string();
    let revoked = access.store().revoke(&id, SystemClock.now(), &by).await?;
    access.forget(&id);
    let Some(record) = revoked else {
        let error = ApiError::new(StatusCode::NOT_FOUND, "no-such-token", format!("there is no token `{id}`"));
        return Err(error.hint("`tidegate token list` shows their identifiers"));
    };
    tracing::info!(%id, name = %record.name, %by, "token revoked");
    Ok(Json(TokenEntry::from(&record)))
}
