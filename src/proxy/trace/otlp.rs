//! The way to a collector of OpenTelemetry: spans in batches by HTTP, as protobuf (OTLP 1.x, "OTLP/HTTP").
//!
//! One batch is under way at a time. While it waits for a collector that is slow or away, spans gather up to a bound, and those
//! beyond are dropped and counted; so it is with a batch that was refused, or sent in vain four times.

use super::queue::Queue;
use super::span::{Answer, Export, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans, Span, text};
use crate::aws::bounded;
use crate::base::fault::chain;
use crate::base::secret::Redacted;
use crate::clock;
use crate::mesh::snapshot::Own;
use crate::proxy::shared::Shared;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use prost::Message;
use reqwest::{Client, Response, Url};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// Spans that may wait to be sent, and spans of a batch: the defaults of OpenTelemetry's batch processor (`OTEL_BSP_…`). A span is
/// 1 to 2 KiB, so what waits is 4 MiB at most of usual requests, and a batch well below the 4 MiB that collectors take.
pub(super) const MOST_WAITING: usize = 2048;
const MOST_TOGETHER: usize = 512;
/// A batch goes this long after its first span, full or not: a trace is looked for right after the request, and the default of 5 s
/// would lose more of them with a process that is killed.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// So often a batch is sent where the collector asks for it, or cannot be reached.
const ATTEMPTS: u32 = 4;
/// The pause before the second time, which doubles; each is a random part of it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A collector that asks for a longer pause gets this one.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// So much of an answer is read.
const MAX_ANSWER: usize = 64 * 1024;

/// How spans go to a collector.
#[derive(Debug, Clone)]
pub struct OtlpSettings {
    /// Where it takes traces, with the path.
    pub endpoint: Url,
    /// What goes with each call, such as a token.
    pub headers: Redacted<HeaderMap>,
    /// How long a call may take.
    pub timeout: Duration,
    /// `service.name`; `None` for `MESH/NODE`.
    pub service: Option<String>,
    /// What else is said of the process.
    pub resource: Vec<(String, String)>,
}

/// Sends what is handed over until the proxy has ended, and then what is left.
pub(super) async fn run(queue: &Queue<Span>, settings: &OtlpSettings, shared: &Shared) {
    let Some(mut inbox) = queue.take_inbox() else { return };
    let client = Client::builder()
        // They could lead the token elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        // A proxy of the environment may be this one.
        .no_proxy()
        .timeout(settings.timeout)
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .default_headers(settings.headers.reveal().clone())
        .build();
    let client = match client {
        Ok(client) => client,
        // What is handed over finds no room from now on, and is counted.
        Err(error) => return tracing::error!(error = %chain(&error), "no traces: no HTTP client can be made here"),
    };
    let mut exporter = Exporter { queue, settings, shared, client, was_told: false };
    let mut ended = shared.ended.subscribe();
    while let Some(batch) = next_batch(&mut inbox, &mut ended).await {
        exporter.export(batch).await;
    }
}

/// The next spans that go together; `None` when no more come.
async fn next_batch(inbox: &mut mpsc::Receiver<Span>, ended: &mut watch::Receiver<bool>) -> Option<Vec<Span>> {
    let mut batch = Vec::new();
    tokio::select! {
        biased;
        count = inbox.recv_many(&mut batch, MOST_TOGETHER) => if count == 0 { return None },
        _ = ended.wait_for(|ended| *ended) => return None,
    }
    let mut late = pin!(sleep(MAX_WAIT));
    while batch.len() < MOST_TOGETHER {
        let room = MOST_TOGETHER - batch.len();
        tokio::select! {
            biased;
            count = inbox.recv_many(&mut batch, room) => if count == 0 { break },
            () = &mut late => break,
            _ = ended.wait_for(|ended| *ended) => break,
        }
    }
    Some(batch)
}

struct Exporter<'a> {
    queue: &'a Queue<Span>,
    settings: &'a OtlpSettings,
    shared: &'a Shared,
    client: Client,
    /// Whether it was said that batches fail.
    was_told: bool,
}

/// Why a batch was not taken.
struct Refused {
    reason: String,
    /// Whether it may be sent again, and after how long at least.
    again: Option<Duration>,
}

impl Exporter<'_> {
    async fn export(&mut self, spans: Vec<Span>) {
        let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        let own = self.shared.current().config.own.clone();
        let body = export(resource(self.settings, own.as_deref()), spans).encode_to_vec();
        match self.send(&body).await {
            Ok(answer) => {
                let refused = answer.partial_success.unwrap_or_default();
                let rejected = u64::try_from(refused.rejected_spans).unwrap_or(0).min(count);
                self.queue.sent(count - rejected);
                self.queue.failed(rejected);
                match rejected {
                    0 => self.was_told = false,
                    _ => self.tell(&format!("{rejected} of {count} refused: {}", bounded(&refused.error_message))),
                }
            }
            Err(reason) => {
                self.queue.failed(count);
                self.tell(&reason);
            }
        }
    }

    /// Once, until a batch is taken again.
    fn tell(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.was_told, true) {
            let endpoint = place(&self.settings.endpoint);
            tracing::error!(endpoint, reason, "traces are lost: the collector does not take them");
        }
    }

    async fn send(&self, body: &[u8]) -> Result<Answer, String> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let refused = match self.call(body).await {
                Ok(answer) => return Ok(answer),
                Err(refused) => refused,
            };
            let Some(least) = refused.again.filter(|_| attempt < ATTEMPTS) else { return Err(refused.reason) };
            sleep(least.min(MAX_PAUSE) + pause.mul_f64(chance())).await;
            pause *= 2;
        }
        unreachable!("the last attempt has returned")
    }

    async fn call(&self, body: &[u8]) -> Result<Answer, Refused> {
        let request = self.client.post(self.settings.endpoint.clone());
        let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        // Nothing came back: it may be sent again ("OTLP/HTTP Connection").
        let failed = |error: reqwest::Error| Refused {
            reason: format!("no answer: {}", chain(&error.without_url())),
            again: Some(Duration::ZERO),
        };
        let answer = request.body(body.to_vec()).send().await.map_err(failed)?;
        let (status, pause) = (answer.status(), retry_after(answer.headers()));
        let text = read(answer).await.map_err(failed)?;
        if status.is_success() {
            // An answer that cannot be read is none of the batch's loss.
            return Ok(Answer::decode(text.as_slice()).unwrap_or_default());
        }
        Err(Refused {
            reason: format!("status {}{}", status.as_u16(), todo(status)),
            again: pause.filter(|_| is_later(status)),
        })
    }
}

/// Where it is, without the query, which may hold a key.
fn place(endpoint: &Url) -> String {
    format!("{}{}", endpoint.origin().ascii_serialization(), endpoint.path())
}

/// The statuses after which it may be sent again ("OTLP/HTTP Response", "Retryable Response Codes").
const fn is_later(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502..=504)
}

const fn todo(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => " (it wants a token, or another one: OTEL_EXPORTER_OTLP_HEADERS)",
        404 | 405 => " (it takes no traces there: correct OTEL_EXPORTER_OTLP_ENDPOINT)",
        415 => " (it does not speak OTLP by HTTP with protobuf)",
        300..=399 => " (redirects are not followed: name the last address)",
        _ => "",
    }
}

/// Seconds of `Retry-After`, or none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Some(seconds.map_or(Duration::ZERO, Duration::from_secs))
}

/// The beginning of an answer.
async fn read(mut answer: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if text.len() + chunk.len() > MAX_ANSWER {
            break;
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

/// A random share.
fn chance() -> f64 {
    clock::seed() as f64 / u64::MAX as f64
}

fn export(resource: Resource, spans: Vec<Span>) -> Export {
    let scope = Scope { name: "tidegate".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    Export { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] }
}

fn resource(settings: &OtlpSettings, own: Option<&Own>) -> Resource {
    let (mesh, node) = own.map_or(("", ""), |own| (own.mesh.as_str(), own.name.as_str()));
    let service = settings.service.clone().unwrap_or_else(|| format!("{mesh}/{node}"));
    let mut attributes: Vec<KeyValue> =
        vec![text("service.name", service), text("tidegate.mesh", mesh), text("tidegate.node", node)];
    attributes.extend(settings.resource.iter().map(|(key, value)| text(key, value.as_str())));
    Resource { attributes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn spans(count: usize) -> Vec<Span> {
        vec![Span::default(); count]
    }

    #[test]
    fn the_collectors_place_is_told_without_its_key() {
        let endpoint = "https://collector:4318/v1/traces?key=word#x".parse().expect("a URL");
        assert_eq!(place(&endpoint), "https://collector:4318/v1/traces");
    }

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "the paused clock of the test's runtime")]
    async fn a_batch_is_full_or_a_second_old() {
        let (sender, mut inbox) = mpsc::channel(MOST_WAITING);
        let (end, mut ended) = watch::channel(false);
        for span in spans(MOST_TOGETHER + 3) {
            sender.try_send(span).expect("room");
        }
        let began = Instant::now();
        assert_eq!(next_batch(&mut inbox, &mut ended).await.map(|batch| batch.len()), Some(MOST_TOGETHER));
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(next_batch(&mut inbox, &mut ended).await.map(|batch| batch.len()), Some(3));
        assert!(began.elapsed() >= MAX_WAIT && began.elapsed() < MAX_WAIT * 2);
        // The end waits for nothing, and loses nothing.
        sender.try_send(Span::default()).expect("room");
        end.send_replace(true);
        assert_eq!(next_batch(&mut inbox, &mut ended).await.map(|batch| batch.len()), Some(1));
        assert_eq!(next_batch(&mut inbox, &mut ended).await, None);
    }

    #[test]
    fn the_statuses_of_otlp_are_told_apart() {
        for (status, later) in [(429, true), (503, true), (502, true), (504, true), (500, false), (400, false)] {
            assert_eq!(is_later(StatusCode::from_u16(status).expect("a status")), later, "{status}");
        }
        let after =
            |text: &'static str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]));
        assert_eq!((after("3"), after("soon")), (Some(Duration::from_secs(3)), Some(Duration::ZERO)));
    }

    #[test]
    fn headers_are_never_shown() {
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_static("secret-word"))]);
        let settings = OtlpSettings {
            endpoint: Url::parse("http://127.0.0.1:4318/v1/traces").expect("a URL"),
            headers: Redacted::new(headers),
            timeout: Duration::from_secs(10),
            service: None,
            resource: vec![("team".into(), "pay".into())],
        };
        assert!(!format!("{settings:?}").contains("secret-word"));
        let keys: Vec<String> = resource(&settings, None).attributes.into_iter().map(|one| one.key).collect();
        assert_eq!(keys, ["service.name", "tidegate.mesh", "tidegate.node", "team"]);
    }
}
