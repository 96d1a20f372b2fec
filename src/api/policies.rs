//! `/v1/policies`: what can be started, and pushing it.

use super::ApiState;
use super::auth::Caller;
use super::error::ApiError;
use super::wire::{PolicyEntry, PolicyList};
use crate::policy;
use crate::ports::{PolicyFault, PushFault, PushedPolicy};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};

pub(super) fn router() -> Router<ApiState> {
    // A policy file is larger than anything else that this API takes.
    let one = get(one).put(push).layer(DefaultBodyLimit::max(policy::MAX_BYTES));
    Router::new().route("/v1/policies", get(list)).route("/v1/policies/{name}", one)
}

async fn entries(state: &ApiState) -> Result<Vec<PolicyEntry>, ApiError> {
    let all = state.runner.policies().await?;
    Ok(all
        .into_iter()
        .map(|(name, checked)| match checked {
            Ok(plan) => PolicyEntry { name, valid: true, plan: Some(plan), ..PolicyEntry::default() },
            Err(problems) => PolicyEntry { name, problems: Some(problems), ..PolicyEntry::default() },
        })
        .collect())
}

async fn list(State(state): State<ApiState>) -> Result<Json<PolicyList>, ApiError> {
    Ok(Json(PolicyList { policies: entries(&state).await? }))
}

async fn one(State(state): State<ApiState>, Path(name): Path<String>) -> Result<Json<PolicyEntry>, ApiError> {
    let found = entries(&state).await?.into_iter().find(|entry| entry.name == name);
    let found = found.ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "no-such-policy", format!("there is no policy `{name}`"))
            .hint("GET /v1/policies lists them")
    })?;
    let pushed = state.policies.pushed(&name).await?;
    Ok(Json(with_version(found, pushed)))
}

fn with_version(entry: PolicyEntry, pushed: Option<PushedPolicy>) -> PolicyEntry {
    let Some(PushedPolicy { version, actor, at, text, .. }) = pushed else { return entry };
    PolicyEntry { version: Some(version), actor: Some(actor), pushed_at: Some(at.rfc3339()), text: Some(text), ..entry }
}

async fn push(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<PolicyEntry>, ApiError> {
    let text = String::from_utf8(body.to_vec()).map_err(|_| {
        ApiError::new(StatusCode::BAD_REQUEST, "bad-body", "the body is no UTF-8 text")
            .hint("send the policy file as it is")
    })?;
    let (actor, at) = (caller.actor(), state.inbox.now());
    let pushed = state.policies.push(PushedPolicy { name, version: 0, text, actor, at }).await?;
    tracing::info!(policy = %pushed.name, version = pushed.version, by = %pushed.actor, "policy in force");
    let plan = state.runner.plan(&pushed.name).await?;
    let entry = PolicyEntry { name: pushed.name.clone(), valid: true, plan: Some(plan), ..PolicyEntry::default() };
    Ok(Json(with_version(entry, Some(pushed))))
}

impl From<PushFault> for ApiError {
    fn from(error: PushFault) -> Self {
        let text = error.to_string();
        match error {
            PushFault::Invalid(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-policy", text)
                .hint("correct the file and push it again; `tidegate policy lint FILE` checks it"),
            PushFault::OtherName { said, .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-policy", text)
                .hint(format!("push it to /v1/policies/{said}, or correct `name`")),
            PushFault::InDirectory { .. } => Self::new(StatusCode::CONFLICT, "policy-in-directory", text)
                .hint("change the file there; or take it away, and push the policy then"),
            PushFault::TooMany(_) => Self::new(StatusCode::CONFLICT, "too-many-policies", text)
                .hint("keep policies in the daemon's directory instead"),
            PushFault::Fault(fault) => PolicyFault::Unavailable(fault).into(),
        }
    }
}
