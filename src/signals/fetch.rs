//! JSON over HTTP from services that are not AWS: one request, bounded in time and size, with faults that people can act on.

use crate::aws::bounded;
use crate::base::fault::Fault;
use reqwest::{RequestBuilder, StatusCode, Url};
use serde_json::Value;
use std::time::Duration;

/// A request may take so long: as long as a call of AWS. Whoever asked tries again next round.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// The answer is one number. Prometheus answers a query with a thousand series in 200 KB, and is told to aggregate.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// What one service answered.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) status: StatusCode,
    body: Vec<u8>,
}

/// A client for services that policies name. Redirects are not followed: they could lead a token elsewhere.
pub(super) fn client(source: &str) -> Result<reqwest::Client, Fault> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Fault::permanent(source, format!("no HTTP client can be made on this system: {error}")))
}

/// An address of the right kind, or what is wrong with it. `key` is where it stands.
pub(super) fn url(source: &str, text: &str, key: &str) -> Result<Url, Fault> {
    let wrong = |why: &str| Fault::permanent(source, format!("`{}` ({key}) {why}", bounded(text)));
    let url = Url::parse(text).map_err(|error| wrong(&format!("is no URL: {error}")))?;
    match url.scheme() {
        "http" | "https" => {}
        other => return Err(wrong(&format!("has the scheme {other}; it has to be http or https"))),
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not repeated: it holds a secret.
        return Err(Fault::permanent(source, format!("the URL in {key} holds a user or password; leave them out")));
    }
    Ok(url)
}

/// Sends a request and reads all of its answer. `place` is what was asked, for people.
pub(super) async fn fetch(source: &str, request: RequestBuilder, place: &str) -> Result<Fetched, Fault> {
    fetch_within(source, request, place, TIMEOUT).await
}

/// The same of a request that has another time limit.
pub(super) async fn fetch_within(
    source: &str,
    request: RequestBuilder,
    place: &str,
    timeout: Duration,
) -> Result<Fetched, Fault> {
    let failed = |error: &reqwest::Error| {
        let text = format!("{place}: {}", why(error, timeout));
        if error.is_builder() { Fault::permanent(source, text) } else { Fault::transient(source, text) }
    };
    let mut answer = request.send().await.map_err(|error| failed(&error))?;
    let (status, mut body) = (answer.status(), Vec::new());
    while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + chunk.len() > BODY_MAX_BYTES {
            let text = format!("{place}: the answer has more than {BODY_MAX_BYTES} bytes; ask for one number");
            return Err(Fault::permanent(source, text));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Fetched { status, body })
}

impl Fetched {
    /// The answer as JSON, or how it begins.
    pub(super) fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("no JSON ({error}): {}", self.beginning()))
    }

    /// The answer as text, however it is encoded.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// How the answer begins, for people.
    pub(super) fn beginning(&self) -> String {
        match self.body.is_empty() {
            true => "an empty body".to_owned(),
            false => bounded(String::from_utf8_lossy(&self.body).trim()),
        }
    }

    /// A fault that a status stands for: refusals stay, but for the two that say "later".
    pub(super) fn fault(&self, source: &str, place: &str, said: &str) -> Fault {
        let text = format!("{place}: status {}{}: {said}", self.status.as_u16(), self.todo());
        let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&self.status);
        if self.status.is_client_error() && !later || self.status.is_redirection() {
            Fault::permanent(source, text)
        } else {
            Fault::transient(source, text)
        }
    }

    fn todo(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => " (it wants a token, or another one)",
            StatusCode::NOT_FOUND => " (nothing is at this address: correct the URL)",
            status if status.is_redirection() => " (redirects are not followed: name the last address)",
            _ => "",
        }
    }
}

/// What went wrong, without the address, which may hold what a policy's author filled in.
fn why(error: &reqwest::Error, timeout: Duration) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", timeout.as_secs());
    }
    let what = if error.is_connect() { "no connection" } else { "the answer broke off" };
    let cause = std::iter::successors(std::error::Error::source(error), |cause| cause.source()).last();
    cause.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}
