//! The daemon's HTTP API: JSON in and out, errors as RFC 9457 problem details; and the page for people.

pub mod auth;
pub mod client;
pub mod error;
pub mod events;
mod freezes;
pub mod front;
pub mod hooks;
pub mod listen;
mod mesh;
mod pages;
pub mod policies;
pub mod rollouts;
pub mod slack;
pub mod status;
mod tokens;
pub mod wire;

use crate::dashboard::feed::Feed;
use crate::ports::{MeshOverview, PolicyDoor};
use crate::runner::handle::Runner;
use crate::trigger::inbox::Inbox;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use std::sync::Arc;

/// Bodies of this API are a few names and a reason; 64 KiB is far beyond any of them.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// What handlers work with.
#[derive(Clone)]
pub struct ApiState {
    /// Drives rollouts.
    pub runner: Runner,
    /// Who may call.
    pub access: auth::Access,
    /// What `/readyz` and `/metrics` say about this process.
    pub status: std::sync::Arc<status::Status>,
    /// Takes policies that are pushed.
    pub policies: Arc<dyn PolicyDoor>,
    /// Takes events from outside.
    pub inbox: Inbox,
    /// By what those are believed.
    pub hooks: Arc<hooks::Hooks>,
    /// By what people at Slack are believed.
    pub slack: Arc<slack::Door>,
    /// What happened to the rollouts that somebody looks at.
    pub feed: Arc<Feed>,
    /// The mesh that this process hosts, where it hosts one.
    pub mesh: Option<Arc<dyn MeshOverview>>,
}

/// Every address of the API, guarded by `state.access` and the rules of [`auth::rules`].
pub fn router(state: ApiState) -> Router {
    Router::new()
        .merge(rollouts::router())
        .merge(events::router())
        .merge(freezes::router())
        .merge(mesh::router())
        .merge(policies::router())
        .merge(status::router())
        .merge(tokens::router())
        .merge(pages::router())
        .fallback(error::no_such_address)
        .merge(hooks::router())
        .merge(slack::router())
        .method_not_allowed_fallback(error::no_such_method)
        .layer(middleware::map_response(error::as_problem))
        .layer(middleware::from_fn_with_state(state.access.clone(), auth::guard))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(state)
}
