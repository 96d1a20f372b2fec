//! A service that says whether a release may go on: it is told which rollout asks, and answers by its status.
//!
//! A success (2xx) is yes, and most of 4xx is no. Everything else is no answer, so that it decides nothing: a server's own
//! error (5xx), too many requests, a request that took too long, an address or a right that is wrong, a redirect.

use super::fetch::{self, Fetched};
use super::{Answer, Asked, at_a_time};
use crate::aws::bounded;
use crate::base::fault::Fault;
use crate::policy::plan::WebhookQuery;
use crate::ports::SignalPoint;
use reqwest::StatusCode;

/// Requests at the same time.
const AT_A_TIME: usize = 4;
/// Name under which faults are reported.
const SOURCE: &str = "webhook";
/// Refusals that are about the request and not about the release.
const ABOUT_THE_REQUEST: [StatusCode; 9] = [
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::TOO_MANY_REQUESTS,
];

/// Services that policies name.
#[derive(Debug, Clone)]
pub struct Webhook {
    client: reqwest::Client,
}

impl Webhook {
    /// With nothing configured: policies name whom they ask.
    ///
    /// # Errors
    /// A permanent fault when no HTTP client can be made on this system.
    pub fn new() -> Result<Self, Fault> {
        Ok(Self { client: fetch::client(SOURCE)? })
    }

    /// Answers each question in its order: 0 is yes, 1 is no, with what the service says to it.
    pub async fn points(&self, asked: &[Asked<'_, WebhookQuery>]) -> Vec<Answer> {
        at_a_time(AT_A_TIME, asked.iter().map(|asked| self.point(*asked)).collect()).await
    }

    /// An answer has no time of its own, so that of asking is its.
    async fn point(&self, asked: Asked<'_, WebhookQuery>) -> Answer {
        let WebhookQuery { url, timeout, facts } = asked.query;
        if asked.now <= asked.after {
            return Ok(Vec::new());
        }
        let url = fetch::url(SOURCE, url, "webhook.url of the policy")?;
        // Without the query of the address, which may hold a key.
        let place = format!("{}{}", url.origin().ascii_serialization(), url.path());
        let request = self.client.post(url).timeout(timeout.duration()).json(facts);
        let fetched = fetch::fetch_within(SOURCE, request, &place, timeout.duration()).await?;
        let value = match fetched.status {
            status if status.is_success() => 0.0,
            status if status.is_client_error() && !ABOUT_THE_REQUEST.contains(&status) => 1.0,
            _ => return Err(fetched.fault(SOURCE, &place, &fetched.beginning())),
        };
        Ok(vec![SignalPoint { at: asked.now, value, note: said(&fetched) }])
    }
}

/// Why, in the service's words: `reason` of its JSON, or the first line of what it sent.
fn said(fetched: &Fetched) -> Option<String> {
    let reason = fetched.json().ok().and_then(|answer| Some(bounded(answer.get("reason")?.as_str()?)));
    let line = || fetched.text().lines().map(str::trim).find(|line| !line.is_empty()).map(bounded);
    let is_json = fetched.json().is_ok();
    reason.or_else(|| if is_json { None } else { line() })
}
