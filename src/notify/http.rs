//! One request over HTTP to a place that is told something, bounded in time and size.

use crate::base::fault::Fault;
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, StatusCode};
use std::time::Duration;

/// What was answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A client. Redirects are not followed: they could lead a token elsewhere.
pub(super) fn client(source: &str, timeout: Duration) -> Result<reqwest::Client, Fault> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(timeout)
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Fault::permanent(source, format!("no HTTP client can be made: {error}")))
}

/// Sends a request and reads all of its answer, up to `body_max_bytes`. `place` is what it is about, for people.
pub(super) async fn send(
    source: &str,
    request: RequestBuilder,
    body_max_bytes: usize,
    place: &str,
) -> Result<Answer, Fault> {
    let failed = |error: reqwest::Error| Fault::transient(source, format!("{place}: {}", why(&error)));
    let mut answer = request.send().await.map_err(failed)?;
    let (status, headers, mut body) = (answer.status(), answer.headers().clone(), Vec::new());
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > body_max_bytes && !status.is_success() {
            // A page about an error: its beginning says what it is.
            break;
        }
        if body.len() + chunk.len() > body_max_bytes {
            let text = format!("{place}: the answer has more than {body_max_bytes} bytes, so it is not from there");
            return Err(Fault::permanent(source, text));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body })
}

/// What went wrong on the way.
fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let what = if error.is_connect() { "no connection" } else { "the answer broke off" };
    let cause = std::iter::successors(std::error::Error::source(error), |cause| cause.source()).last();
    cause.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}
