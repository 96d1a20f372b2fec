//! `/v1/hooks/{source}`: events from outside. Each proves itself by its sender's secret, so that no token is asked for and
//! no Host or Origin looked at: a page in a browser has no secret.

use super::ApiState;
use super::error::ApiError;
use super::wire::{HookAnswer, HookRollout};
use crate::trigger::deliveries;
use crate::trigger::event::Source;
use crate::trigger::inbox::{TakeError, Taken};
use crate::trigger::matching::Unmatched;
use crate::trigger::signature::{self, Secrets};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use std::collections::BTreeMap;

/// Events of GitHub have some hundred kilobytes at most in practice, and those with more are of kinds that start nothing.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// What the hooks are configured with.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Secrets by source. A source without one takes nothing.
    pub secrets: BTreeMap<Source, Secrets>,
    /// Address at which people reach the API; links in answers begin with it.
    pub public_url: Option<String>,
}

pub(super) fn router() -> Router<ApiState> {
    Router::new().route("/v1/hooks/{source}", post(hook)).layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
}

async fn hook(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let source = Source::named(&name).ok_or_else(|| {
        let known = Source::ALL.map(Source::name).join(", ");
        let detail = format!("there is no hook `{}`", crate::trigger::image::shown(&name));
        ApiError::new(StatusCode::NOT_FOUND, "no-such-hook", detail).hint(format!("there are: {known}"))
    })?;
    let secrets = state.hooks.secrets.get(&source).ok_or_else(|| not_configured(source))?;
    signature::verify(source, &headers, &body, secrets, state.inbox.now()).map_err(|error| {
        tracing::warn!(source = source.name(), %error, "a delivery was not believed");
        ApiError::new(StatusCode::UNAUTHORIZED, "not-believed", error.to_string())
            .hint("docs/TRIGGERS.md says how this sender proves itself")
    })?;
    let delivered = deliveries(source, &headers, &body).map_err(|error| {
        tracing::warn!(source = source.name(), %error, "a delivery was not understood");
        ApiError::new(StatusCode::BAD_REQUEST, "bad-body", error.to_string())
            .hint("docs/TRIGGERS.md says what this sender sends")
    })?;
    let taken = state.inbox.take(source, delivered).await?;
    answer(source, taken, state.hooks.public_url.as_deref())
}

fn not_configured(source: Source) -> ApiError {
    let (name, upper) = (source.name(), source.name().to_ascii_uppercase());
    let detail = format!("the hook `{name}` has no secret, so it takes nothing");
    ApiError::new(StatusCode::NOT_FOUND, "hook-not-configured", detail)
        .hint(format!("set `hooks.{name}` in the daemon's configuration, or TIDEGATE_HOOK_SECRET_{upper}"))
}

fn answer(source: Source, taken: Taken, public_url: Option<&str>) -> Result<Response, ApiError> {
    let Taken { rollouts, mut nothing, refused, pending, repeated } = taken;
    // A script can do something about it; others would repeat the request, or stop sending after some such answers.
    if let (true, Source::Generic, Some((why, hint))) = (rollouts.is_empty(), source, refused.first()) {
        return Err(ApiError::new(StatusCode::CONFLICT, "refused", why).hint(hint));
    }
    nothing.extend(refused.into_iter().map(|(why, hint)| format!("{why} ({hint})")));
    let status = match (rollouts.is_empty(), pending, repeated) {
        (false, true, _) => StatusCode::ACCEPTED,
        (false, false, false) => StatusCode::CREATED,
        (true, ..) | (false, false, true) => StatusCode::OK,
    };
    let base = public_url.unwrap_or_default().trim_end_matches('/');
    let rollouts = rollouts.into_iter().map(|(policy, id)| {
        let url = format!("{base}/v1/rollouts/{id}");
        HookRollout { policy, id: id.0, url }
    });
    Ok((status, Json(HookAnswer { rollouts: rollouts.collect(), nothing, repeated })).into_response())
}

impl From<TakeError> for ApiError {
    fn from(error: TakeError) -> Self {
        let text = error.to_string();
        match error {
            TakeError::Unmatched(Unmatched::NoSuchPolicy { .. }) => {
                Self::new(StatusCode::NOT_FOUND, "no-such-policy", text).hint("`GET /v1/policies` lists them")
            }
            TakeError::Unmatched(Unmatched::Invalid { .. }) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-policy", text)
                    .hint("correct the policy, and send the event again")
            }
            TakeError::Fault(fault) => fault.into(),
        }
    }
}
