//! `/v1/rollouts`: start, look, and the verbs.

use super::ApiState;
use super::auth::Caller;
use super::error::ApiError;
use super::wire::{RolloutList, StartBody, VerbBody};
use crate::rollout::event::{Actor, Command, Voice};
use crate::rollout::view::RolloutView;
use crate::runner::handle::StartRequest;
use crate::schedule;
use crate::trigger::inbox::NotBegun;
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::de::DeserializeOwned;

/// Reasons are kept in the journal for ever; one that does not fit here belongs into a ticket.
pub(super) const REASON_MAX_CHARS: usize = 1000;

pub(super) fn router() -> Router<ApiState> {
    Router::new()
        .route("/v1/rollouts", get(list).post(start))
        .route("/v1/rollouts/{id}", get(one))
        .route("/v1/rollouts/{id}/retry", post(retry))
        .route("/v1/rollouts/{id}/{verb}", post(verb))
}

/// A JSON body, with an error that says what is wrong with it. An empty body is an empty object.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, ApiError> {
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(text).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "bad-body", format!("the body is not what this address takes: {error}"))
            .hint("send a JSON object with the fields of docs/API.md")
    })
}

async fn list(State(state): State<ApiState>) -> Result<Json<RolloutList>, ApiError> {
    Ok(Json(RolloutList { rollouts: all(&state).await? }))
}

/// Starts that wait, live rollouts, then finished ones.
pub(super) async fn all(state: &ApiState) -> Result<Vec<RolloutView>, ApiError> {
    let mut rollouts = state.inbox.all_pending().await?;
    let begun = state.runner.list().await?;
    // One that has just begun may still be noted as waiting.
    rollouts.retain(|pending| begun.iter().all(|rollout| rollout.id != pending.id));
    rollouts.extend(begun);
    Ok(rollouts)
}

async fn one(State(state): State<ApiState>, Path(id): Path<String>) -> Result<Json<RolloutView>, ApiError> {
    let no_such = |detail: String| {
        ApiError::new(StatusCode::NOT_FOUND, "no-such-rollout", detail).hint("`tidegate rollout list` shows them")
    };
    match find(&state, &id).await? {
        Ok(view) => Ok(Json(view)),
        Err(None) => Err(no_such(format!("there is no rollout `{id}`, and no policy of that name has had one"))),
        Err(Some(NotBegun::Over(why))) => Err(no_such(format!("start `{id}` has begun no rollout: {why}"))),
        Err(Some(NotBegun::Fault(fault))) => Err(fault.into()),
    }
}

/// A rollout or a start that waits, else why there is none where that is known.
pub(super) async fn find(state: &ApiState, id: &str) -> Result<Result<RolloutView, Option<NotBegun>>, ApiError> {
    if let Some(view) = state.runner.get(id).await? {
        return Ok(Ok(view));
    }
    match state.inbox.pending(id).await {
        Ok(Some(view)) => Ok(Ok(view)),
        // It may have begun between the two looks.
        Ok(None) => Ok(state.runner.get(id).await?.ok_or(None)),
        Err(not_begun) => Ok(Err(Some(not_begun))),
    }
}

async fn start(
    State(state): State<ApiState>,
    caller: Caller,
    bytes: Bytes,
) -> Result<(StatusCode, Json<RolloutView>), ApiError> {
    let StartBody { policy, to, image, revision, outside_windows, at } = body(&bytes)?;
    let outside_windows = given_reason(outside_windows)?;
    let request = StartRequest { policy, to, revision, image, outside_windows, ..StartRequest::default() };
    let Some(at) = at else {
        let view = state.runner.start(&request, caller.actor()).await?;
        return Ok((StatusCode::CREATED, Json(view)));
    };
    let at = schedule::instant(&at).ok_or_else(|| {
        let detail = format!("`{}` is no time", at.chars().take(64).collect::<String>());
        ApiError::new(StatusCode::BAD_REQUEST, "bad-time", detail)
            .hint("write date, time and offset, such as 2026-11-30T09:00:00+01:00 or 2026-11-30T08:00:00Z")
    })?;
    let view = state.inbox.ask(request, at, caller.actor()).await?;
    Ok((StatusCode::ACCEPTED, Json(view)))
}

async fn retry(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    caller: Caller,
    bytes: Bytes,
) -> Result<(StatusCode, Json<RolloutView>), ApiError> {
    let VerbBody { outside_windows, .. } = body(&bytes)?;
    let view = state.runner.retry(&id, given_reason(outside_windows)?, caller.actor()).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// A reason for the audit trail: where one is given, it says something.
fn given_reason(reason: Option<String>) -> Result<Option<String>, ApiError> {
    let reason = reason.map(|reason| reason.trim().chars().take(REASON_MAX_CHARS).collect::<String>());
    match reason {
        Some(reason) if reason.is_empty() => {
            let detail = "to begin outside of the windows needs a reason";
            Err(ApiError::new(StatusCode::BAD_REQUEST, "reason-missing", detail)
                .hint("send {\"outside_windows\": \"…\"} with one; it goes into the audit trail"))
        }
        reason => Ok(reason),
    }
}

async fn verb(
    State(state): State<ApiState>,
    Path((id, verb)): Path<(String, String)>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Json<RolloutView>, ApiError> {
    let VerbBody { reason, full, person, step, outside_windows: _ } = body(&bytes)?;
    if let Some(person) = &person {
        caller.speaks_for(person)?;
    }
    let reason: String = reason.trim().chars().take(REASON_MAX_CHARS).collect();
    let needs_reason = || {
        ApiError::new(StatusCode::BAD_REQUEST, "reason-missing", format!("`{verb}` needs a reason"))
            .hint("send {\"reason\": \"…\"}; it goes into the audit trail")
    };
    if verb == "abort"
        && let Some(view) = abort_pending(&state, &id, &caller.actor(), &reason).await?
    {
        return Ok(Json(view));
    }
    let command = match verb.as_str() {
        "pause" => Command::Pause { reason },
        "resume" => Command::Resume,
        "approve" => Command::Approve { person, reason, step, voice: Voice::default() },
        "reject" => Command::Reject { person, reason, step },
        "promote" if reason.is_empty() => return Err(needs_reason()),
        "promote" => Command::Promote { full, reason },
        // The safe direction is never refused for a missing text.
        "abort" => Command::Abort { reason: if reason.is_empty() { "no reason given".into() } else { reason } },
        _ => {
            return Err(ApiError::new(
                StatusCode::NOT_FOUND,
                "no-such-verb",
                format!("`{verb}` is nothing a rollout can do"),
            )
            .hint("pause, resume, promote, approve, reject, abort or retry"));
        }
    };
    Ok(Json(state.runner.command(&id, command, caller.actor()).await?))
}

/// Gives up a start that has not begun its rollout; `None` when there is none.
pub(super) async fn abort_pending(
    state: &ApiState,
    id: &str,
    actor: &Actor,
    reason: &str,
) -> Result<Option<RolloutView>, ApiError> {
    let Ok(Some(view)) = state.inbox.pending(id).await else { return Ok(None) };
    let reason = if reason.is_empty() { "no reason given" } else { reason };
    let why = format!("aborted by {}: {reason}", actor.name);
    if !state.inbox.give_up(id, why.clone()).await? {
        return Ok(None);
    }
    let (phase, finished) = ("aborted".to_owned(), true);
    Ok(Some(RolloutView { phase, finished, verdict: why.clone(), reason: Some(why), ..view }))
}
