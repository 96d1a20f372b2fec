//! Slack's Web API: one call, and what its refusals mean (<https://docs.slack.dev/apis/web-api/>).

use crate::aws::bounded;
use crate::base::fault::Fault;
use crate::base::secret::Redacted;
use crate::clock::Monotonic;
use crate::notify::http::{self, Answer};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The name that faults are reported under.
pub(super) const SOURCE: &str = "slack";
/// Slack's word for a channel in which the app is not.
pub(super) const NOT_A_MEMBER: &str = "not_in_channel";
/// Slack answers within a second; whoever waits here holds nothing up.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A page of a channel's messages with all their blocks has a few hundred kilobytes.
const BODY_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Slack says how long to keep quiet, usually 30 s. Longer than this it is asked again all the same.
const QUIET_MAX: Duration = Duration::from_secs(300);
/// Where it does not say so.
const QUIET: Duration = Duration::from_secs(30);

/// A client of it, with a bot's token.
pub(super) struct Api {
    client: reqwest::Client,
    url: Url,
    token: Redacted<String>,
    /// Until when Slack wants not to be asked.
    quiet_until: Mutex<Option<Monotonic>>,
}

/// Why a call came to nothing.
pub(super) struct Refusal {
    pub(super) fault: Fault,
    /// Whether it is certain that it has done nothing.
    pub(super) nothing_done: bool,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self { fault, nothing_done: false }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        refusal.fault
    }
}

impl Api {
    /// At this address (`https://slack.com/api`).
    ///
    /// # Errors
    /// An address that is none; no HTTP client can be made on this system.
    pub(super) fn new(url: &str, token: Redacted<String>) -> Result<Self, Fault> {
        let wrong = |why: String| Fault::permanent(SOURCE, format!("`{}` (slack.api_url): {why}", bounded(url)));
        let parsed = Url::parse(url.trim_end_matches('/')).map_err(|error| wrong(error.to_string()))?;
        if parsed.cannot_be_a_base() {
            return Err(wrong("it has to be like `https://slack.com/api`".to_owned()));
        }
        let client = http::client(SOURCE, TIMEOUT)?;
        Ok(Self { client, url: parsed, token, quiet_until: Mutex::default() })
    }

    /// Calls a method. `place` is what it is about, for people.
    ///
    /// # Errors
    /// It was refused, or there was no telling.
    pub(super) async fn call(&self, method: &str, body: Value, place: &str) -> Result<Value, Refusal> {
        if let Some(left) = self.quiet_for() {
            let text = format!("{place}: Slack wants not to be asked for {} s more", left.as_secs() + 1);
            return Err(Refusal { fault: Fault::transient(SOURCE, text), nothing_done: true });
        }
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(method);
        }
        let request = self.client.post(url).bearer_auth(self.token.reveal());
        // Methods that read take no JSON.
        let request = match method {
            "chat.postMessage" | "chat.update" | "chat.postEphemeral" => request.json(&body),
            _ => request.form(&form(&body)),
        };
        let Answer { status, headers, body } = http::send(SOURCE, request, BODY_MAX_BYTES, place).await?;
        if status == StatusCode::TOO_MANY_REQUESTS {
            let quiet = self.keep_quiet(&headers);
            let text = format!("{place}: its limit of requests is spent for {} s", quiet.as_secs());
            return Err(Refusal { fault: Fault::transient(SOURCE, text), nothing_done: true });
        }
        if !status.is_success() {
            let text = format!("{place}: status {}", status.as_u16());
            let passes = status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT;
            let fault = if passes { Fault::transient(SOURCE, text) } else { Fault::permanent(SOURCE, text) };
            return Err(fault.into());
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|error| {
            let text = format!("{place}: the answer is not one of Slack's: no JSON ({error}); is slack.api_url right?");
            Fault::permanent(SOURCE, text)
        })?;
        if answer["ok"] == true { Ok(answer) } else { Err(refusal(&answer, place)) }
    }

    fn quiet_for(&self) -> Option<Duration> {
        let until = (*self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(until.since(Monotonic::now())).filter(|left| !left.is_zero())
    }

    fn keep_quiet(&self, headers: &HeaderMap) -> Duration {
        let said = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let quiet = said.map_or(QUIET, Duration::from_secs).min(QUIET_MAX);
        *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Monotonic::now().plus(quiet));
        quiet
    }
}

/// The fields of an object as a form has them.
fn form(body: &Value) -> Vec<(String, String)> {
    let fields = body.as_object().into_iter().flatten();
    fields
        .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect()
}

/// Errors of Slack that stay as they are until somebody changes what is said.
const FINAL: &[&str] = &[
    "message_not_found",
    "cant_update_message",
    "edit_window_closed",
    "is_archived",
    "msg_too_long",
    "invalid_blocks",
    "invalid_blocks_format",
    "invalid_arguments",
    "no_text",
    "thread_not_found",
    "user_not_in_channel",
];

/// Errors after which it may have been done all the same.
const UNSURE: &[&str] = &["internal_error", "fatal_error", "service_unavailable", "request_timeout"];

/// What Slack refused, whose fault that is, and what to do. A token, a right or a channel that is wrong is asked again:
/// somebody mends it, and the question that waits must be asked then.
fn refusal(answer: &Value, place: &str) -> Refusal {
    let error = answer["error"].as_str().unwrap_or("no error");
    let todo = match error {
        "invalid_auth" | "token_revoked" | "token_expired" | "account_inactive" | "not_authed" => {
            "; slack.token is wrong or was revoked: install the app again and set its new token"
        }
        "channel_not_found" | NOT_A_MEMBER => {
            "; correct the channel in the policy, or invite the app there (`/invite @Tidegate`)"
        }
        "missing_scope" => "; give the app this scope and install it again (docs/chatops.md)",
        "is_archived" => "; the channel is archived: name another one in the policy",
        "message_not_found" => "; somebody deleted the message",
        "invalid_blocks" | "invalid_blocks_format" | "msg_too_long" => {
            "; this is a defect of tidegate: please report it"
        }
        _ => "",
    };
    let needed = answer["needed"].as_str().map(|scope| format!(" ({})", bounded(scope))).unwrap_or_default();
    let text = format!("{place}: {}{needed}{todo}", bounded(error));
    let fault = if FINAL.contains(&error) { Fault::permanent(SOURCE, text) } else { Fault::transient(SOURCE, text) };
    Refusal { fault, nothing_done: !UNSURE.contains(&error) }
}
