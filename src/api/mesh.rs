//! What people see of the mesh that this process hosts.

use super::ApiState;
use super::error::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

pub(super) fn router() -> Router<ApiState> {
    Router::new().route("/v1/mesh/proxies", get(proxies))
}

/// Proxies that are connected, and what they took of what they were sent.
async fn proxies(State(state): State<ApiState>) -> Result<Json<Value>, ApiError> {
    let mesh = state.mesh.as_ref().ok_or_else(|| {
        let message = "this daemon hosts no mesh; ask the one that proxies are connected to";
        ApiError::new(StatusCode::NOT_FOUND, "no-mesh", message)
    })?;
    Ok(Json(json!({ "proxies": mesh.proxies() })))
}
