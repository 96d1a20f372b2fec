//! `/v1/slack/{interactions|commands}`: buttons and commands of people at Slack. Each request proves itself by the app's
//! signing secret, so that no token is asked for; who the person is, Slack says in it.
//!
//! Slack wants an answer within 3 s, and what is wanted is waited for as long as that allows. Whoever pressed a button reads
//! by a word of its own what came to nothing; what was done is seen in the message.

mod deed;
mod form;

use self::deed::{Deed, done};
use self::form::Unreadable;
use super::ApiState;
use super::error::ApiError;
use crate::base::mac::{hmac_sha256, to_hex};
use crate::base::people::People;
use crate::base::secret::Redacted;
use crate::base::time::Timestamp;
use crate::notify::signature::{NotSlack, verify_slack};
use crate::ports::{Chat, Notes};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Slack gives up after 3 s, and the way there and back takes some of it.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Requests that were taken are remembered for so long, in milliseconds: twice as long as one counts.
const REMEMBERED_MS: i64 = 2 * 2 * 300 * 1000;
/// Keys of their notes begin so.
const SEEN: &str = "slack-seen/";

/// What stands between Slack and rollouts.
#[derive(Clone, Default)]
pub struct Door {
    /// By which requests are believed; without it none is.
    pub secret: Option<Redacted<String>>,
    /// Slack itself, for groups and for words to one person; without it nobody is known by a group.
    pub chat: Option<Arc<dyn Chat>>,
    /// Who is who.
    pub people: Arc<People>,
    /// Where requests that were taken are noted.
    pub notes: Option<Arc<dyn Notes>>,
}

pub(super) fn router() -> Router<ApiState> {
    Router::new().route("/v1/slack/{what}", post(take))
}

async fn take(
    State(state): State<ApiState>,
    Path(what): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let read = match what.as_str() {
        "interactions" => form::interaction,
        "commands" => form::command,
        _ => {
            let detail = format!("there is nothing for Slack at `{}`", crate::trigger::image::shown(&what));
            let error = ApiError::new(StatusCode::NOT_FOUND, "no-such-address", detail);
            return Err(error.hint("there are: interactions, commands"));
        }
    };
    believe(&state, &headers, &body).await?;
    let deed = match read(&body) {
        Ok(deed) => deed,
        // Menus that are opened, links that are followed: Slack tells of them, and nothing is to be done.
        Err(Unreadable::Nothing) => return Ok(StatusCode::OK.into_response()),
        Err(Unreadable::Usage(text)) => return Ok(said(&text)),
        Err(Unreadable::Malformed(why)) => {
            let error =
                ApiError::new(StatusCode::BAD_REQUEST, "bad-body", format!("this is not what Slack sends: {why}"));
            return Err(error.hint("docs/chatops.md says which addresses to give the app"));
        }
    };
    // A task of its own: a client that hangs up must not end it half way.
    let is_button = deed.is_button;
    let doing = tokio::spawn(answered(state, deed));
    // A button's answer says that it was taken, so it is not given before it was.
    match tokio::time::timeout(PATIENCE, doing).await {
        Ok(Ok(_)) | Err(_) if is_button => Ok(StatusCode::OK.into_response()),
        Ok(Ok(text)) => Ok(said(&text)),
        Ok(Err(_)) => Ok(said("It broke off; the daemon's log says more. `/tidegate status` shows how things stand.")),
        Err(_) => Ok(said("It takes longer than Slack waits. `/tidegate status` shows what came of it.")),
    }
}

/// Whether a request is Slack's, just now and for the first time.
async fn believe(state: &ApiState, headers: &HeaderMap, body: &Bytes) -> Result<(), ApiError> {
    let door = &state.slack;
    let (Some(secret), Some(notes)) = (&door.secret, &door.notes) else {
        let detail = "this daemon has no signing secret of Slack, so it takes nothing from there";
        let error = ApiError::new(StatusCode::NOT_FOUND, "slack-not-configured", detail);
        return Err(error.hint("set slack.signing_secret, or TIDEGATE_SLACK_SIGNING_SECRET (docs/chatops.md)"));
    };
    let now = state.inbox.now();
    let believed = (|| {
        let (signature, timestamp) = (only(headers, "x-slack-signature")?, only(headers, "x-slack-request-timestamp")?);
        verify_slack(secret, signature, timestamp, body, now)?;
        Ok(timestamp)
    })();
    let timestamp = believed.map_err(|error: NotSlack| {
        tracing::warn!(%error, "a request in Slack's name was not believed");
        ApiError::new(StatusCode::UNAUTHORIZED, "not-believed", error.to_string())
            .hint("is slack.signing_secret the one of this app, and the clock right?")
    })?;
    let key = format!("{SEEN}{}", to_hex(&hmac_sha256(SEEN.as_bytes(), &[timestamp.as_bytes(), b":", body])));
    notes.forget_notes(SEEN, Timestamp(now.0 - REMEMBERED_MS)).await?;
    if notes.first_note(&key, "", now).await? {
        return Ok(());
    }
    tracing::warn!("a request from Slack came twice");
    Err(ApiError::new(StatusCode::CONFLICT, "taken-already", "this very request was taken already, and counts once"))
}

/// The value of a header that must be there once.
fn only<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, NotSlack> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(NotSlack::Missing(name))?;
    if values.next().is_some() {
        return Err(NotSlack::Missing(name));
    }
    value.to_str().map_err(|_| NotSlack::Malformed(name))
}

/// Does it, and tells whoever pressed a button when it came to nothing: what it did is seen in the message.
async fn answered(state: ApiState, deed: Deed) -> String {
    let (text, was_done) = match done(&state, &deed).await {
        Ok(text) => (text, true),
        Err(text) => (text, false),
    };
    tracing::info!(user = deed.user, verb = deed.verb, which = deed.which, was_done, text, "asked in Slack");
    if let (true, false, Some(chat)) = (deed.is_button, was_done, &state.slack.chat)
        && let Err(fault) = chat.whisper(&deed.channel, &deed.user, &text).await
    {
        tracing::warn!(%fault, user = deed.user, "whoever pressed a button was not told that it came to nothing");
    }
    text
}

/// An answer that only whoever asked sees.
fn said(text: &str) -> Response {
    Json(json!({ "response_type": "ephemeral", "text": text })).into_response()
}
