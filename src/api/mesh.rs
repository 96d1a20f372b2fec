//! What people see of the mesh that this process hosts: `/v1/mesh/problems`, `/v1/mesh/proxies`.

use super::ApiState;
use super::error::ApiError;
use super::wire::MeshProblemList;
use crate::ports::MeshOverview;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

/// Problems in one answer, some 200 bytes each. Whoever has more mends the first ones first.
const PROBLEMS_MAX: usize = 1_000;

pub(super) fn router() -> Router<ApiState> {
    Router::new().route("/v1/mesh/problems", get(problems)).route("/v1/mesh/proxies", get(proxies))
}

fn hosted(state: &ApiState) -> Result<&dyn MeshOverview, ApiError> {
    state.mesh.as_deref().ok_or_else(|| {
        let error = ApiError::new(StatusCode::NOT_FOUND, "no-mesh", "this daemon keeps no mesh of its own");
        error.hint("ask the daemon that does, such as `tidegate local`")
    })
}

/// Proxies that are connected to this process, and what they took of what they were sent. Bounded by how many may be.
async fn proxies(State(state): State<ApiState>) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "proxies": hosted(&state)?.proxies() })))
}

async fn problems(State(state): State<ApiState>) -> Result<Json<MeshProblemList>, ApiError> {
    let mut problems = hosted(&state)?.problems();
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    problems.truncate(PROBLEMS_MAX);
    Ok(Json(MeshProblemList { problems, more }))
}
