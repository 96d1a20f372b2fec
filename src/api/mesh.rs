//! `/v1/mesh/problems`: what is wrong with the mesh that this process keeps.

use super::ApiState;
use super::error::ApiError;
use super::wire::MeshProblemList;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};

/// Problems in one answer, some 200 bytes each. Whoever has more mends the first ones first.
const PROBLEMS_MAX: usize = 1_000;

pub(super) fn router() -> Router<ApiState> {
    Router::new().route("/v1/mesh/problems", get(problems))
}

async fn problems(State(state): State<ApiState>) -> Result<Json<MeshProblemList>, ApiError> {
    let Some(mesh) = &state.mesh else {
        let error = ApiError::new(StatusCode::NOT_FOUND, "no-mesh", "this daemon keeps no mesh of its own");
        return Err(error.hint("ask the daemon that does, such as `tidegate local`"));
    };
    let mut problems = mesh.problems();
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    problems.truncate(PROBLEMS_MAX);
    Ok(Json(MeshProblemList { problems, more }))
}
