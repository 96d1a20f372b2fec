//! `/healthz`, `/readyz`, `/metrics`: for whoever keeps this process running.

use super::ApiState;
use super::error::ApiError;
use crate::clock::Monotonic;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Facts about this process.
#[derive(Debug)]
pub struct Status {
    started: Monotonic,
    ready: AtomicBool,
}

impl Default for Status {
    fn default() -> Self {
        Self { started: Monotonic::now(), ready: AtomicBool::new(false) }
    }
}

impl Status {
    /// Rollouts are resumed and every listener is open.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

pub(super) fn router() -> Router<ApiState> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// Alive: the process answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready: rollouts are driven and the store answers.
async fn readyz(State(state): State<ApiState>) -> Result<&'static str, ApiError> {
    if !state.status.is_ready() {
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "still starting, or already stopping"));
    }
    state.runner.list().await?;
    Ok("ready\n")
}

/// Prometheus text format 0.0.4.
async fn metrics(State(state): State<ApiState>) -> Result<Response, ApiError> {
    let mut phases: BTreeMap<String, u64> = BTreeMap::new();
    let mut weights = String::new();
    for view in state.runner.list().await? {
        *phases.entry(view.phase.clone()).or_default() += 1;
        if !view.finished {
            let weight = view.weights.get(&view.canary).copied().unwrap_or(0);
            // Writing to a String cannot fail.
            let _ = writeln!(
                weights,
                "tidegate_canary_weight_percent{{policy=\"{}\",rollout=\"{}\"}} {weight}",
                view.policy, view.id
            );
        }
    }
    let mut text = String::from(
        "# HELP tidegate_rollouts Rollouts by phase: all live ones and the newest finished ones, 100 at most.\n# TYPE tidegate_rollouts gauge\n",
    );
    for (phase, count) in phases {
        let _ = writeln!(text, "tidegate_rollouts{{phase=\"{phase}\"}} {count}");
    }
    text += "# HELP tidegate_canary_weight_percent Weight last asked for, of live rollouts.\n# TYPE tidegate_canary_weight_percent gauge\n";
    text += &weights;
    let _ = write!(
        text,
        "# HELP tidegate_uptime_seconds Time since start.\n# TYPE tidegate_uptime_seconds gauge\ntidegate_uptime_seconds {}\n\
         # HELP tidegate_build_info Version.\n# TYPE tidegate_build_info gauge\ntidegate_build_info{{version=\"{}\"}} 1\n",
        state.status.started.elapsed().as_secs(),
        env!("CARGO_PKG_VERSION")
    );
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
