//! Traces for AWS X-Ray: each request that is traced becomes a segment, which goes to the daemon beside the proxy by UDP.
//!
//! A worker hands a segment over and goes on; where the one who sends is behind, segments are dropped and counted. The headers
//! of X-Ray and of the W3C both name the trace on the way on. Without a tracer both pass as they came.

/// Headers that name traces (pure).
pub mod ids;
/// Which requests are traced.
pub mod sampling;
/// What the daemon takes (pure).
pub mod segment;

use super::stats::show::{Stat, Value};
use crate::clock::{Clock, SystemClock};
use http::{HeaderMap, HeaderName, HeaderValue, request};
use ids::Context;
use sampling::Rules;
use segment::Begun;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

const XRAY: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const W3C: HeaderName = HeaderName::from_static("traceparent");
/// Segments that may wait to be sent, about 1 KiB each.
const MOST_WAITING: usize = 1024;

/// How requests are traced.
#[derive(Debug)]
pub struct TraceSettings {
    /// Where the X-Ray daemon listens.
    pub daemon: SocketAddr,
    /// Name of the segments; `None` for `MESH/NODE`.
    pub name: Option<String>,
    /// Which requests are traced.
    pub rules: Rules,
}

/// Traces requests.
pub(super) struct Tracer {
    settings: Arc<TraceSettings>,
    sender: mpsc::Sender<String>,
    /// Until the task that sends takes it.
    inbox: Mutex<Option<mpsc::Receiver<String>>>,
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// A request's trace, whether it is kept or not.
pub(super) struct Traced {
    pub(super) trace: u128,
    pub(super) span: u64,
    /// What the segment is made of, of one that is kept.
    pub(super) begun: Option<Begun>,
}

impl Tracer {
    pub(super) fn new(settings: Arc<TraceSettings>) -> Self {
        let (sender, inbox) = mpsc::channel(MOST_WAITING);
        let (sent, dropped, failed) = Default::default();
        Self { settings, sender, inbox: Mutex::new(Some(inbox)), sent, dropped, failed }
    }

    /// Decides on a request and names its trace to the next hop. `draw` is the worker's source of chance.
    pub(super) fn begin(&self, head: &mut request::Parts, is_inbound: bool, mut draw: impl FnMut() -> u64) -> Traced {
        let text = |name: &HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
        let came = text(&XRAY).and_then(Context::of_xray).or_else(|| text(&W3C).and_then(Context::of_w3c));
        let second = u64::try_from(SystemClock.now().0 / 1000).unwrap_or(0);
        let host = text(&http::header::HOST).unwrap_or_default();
        let scheme = text(&HeaderName::from_static("x-forwarded-proto")).unwrap_or("http");
        let asked = (host, head.method.as_str(), head.uri.path());
        let decided = came.and_then(|context| context.sampled);
        let sampled = decided.unwrap_or_else(|| self.settings.rules.take(asked, second, draw()));
        let trace = came.map_or_else(|| ids::new_trace(second, [draw(), draw()]), |context| context.trace);
        let span = draw().max(1);
        let owned = |name: &HeaderName| text(name).map(str::to_owned);
        let begun = sampled.then(|| Begun {
            trace,
            span,
            parent: came.and_then(|context| context.parent),
            method: head.method.to_string(),
            url: format!("{scheme}://{host}{}", head.uri.path_and_query().map_or("/", |path| path.as_str())),
            agent: owned(&http::header::USER_AGENT),
            forwarded_for: text(&HeaderName::from_static("x-forwarded-for"))
                .map(|all| all.split(',').next().unwrap_or(all).trim().to_owned()),
            is_inbound,
        });
        // Only hexadecimal digits and signs: a header may have them.
        set(&mut head.headers, XRAY, &ids::xray_header(trace, span, sampled));
        set(&mut head.headers, W3C, &ids::w3c_header(trace, span, sampled));
        Traced { trace, span, begun }
    }

    /// Name of the segments of this node.
    pub(super) fn name(&self, mesh: &str, node: &str) -> String {
        self.settings.name.clone().unwrap_or_else(|| format!("{mesh}/{node}"))
    }

    /// Hands a segment over.
    pub(super) fn send(&self, datagram: String) {
        if self.sender.try_send(datagram).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends what is handed over, for ever. The control side's; whoever calls it first is the one.
    pub(super) async fn run(&self) {
        let inbox = self.inbox.lock().ok().and_then(|mut inbox| inbox.take());
        let Some(mut inbox) = inbox else { return };
        let any: IpAddr = match self.settings.daemon {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = match UdpSocket::bind((any, 0)).await {
            Ok(socket) => socket,
            // What is handed over finds no room from now on, and is counted.
            Err(error) => return tracing::error!(%error, "no traces: there is no socket for them"),
        };
        while let Some(datagram) = inbox.recv().await {
            let sent = socket.send_to(datagram.as_bytes(), self.settings.daemon).await;
            let count = if sent.is_ok() { &self.sent } else { &self.failed };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of segments, by Envoy's name for the like (`tracing.*`).
    pub(super) fn stats(&self) -> impl Iterator<Item = Stat> {
        let counts = [("spans_sent", &self.sent), ("spans_dropped", &self.dropped), ("spans_failed", &self.failed)];
        counts.into_iter().map(|(what, count)| {
            let name = format!("tracing.xray.{what}");
            let value = Value::Counter(count.load(Ordering::Relaxed));
            Stat { family: name.clone(), name, labels: Vec::new(), value }
        })
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(rate: f64) -> Tracer {
        let daemon = SocketAddr::from(([127, 0, 0, 1], 2000));
        Tracer::new(Arc::new(TraceSettings { daemon, name: None, rules: Rules::share(rate).expect("a share") }))
    }

    fn begin(tracer: &Tracer, headers: &[(&'static str, &'static str)]) -> (Traced, HeaderMap) {
        let mut request = http::Request::builder().uri("/a?b").header("host", "shop.local");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).expect("a request").into_parts();
        let mut next = 0;
        let traced = tracer.begin(&mut head, true, || {
            next += 1;
            next
        });
        (traced, head.headers)
    }

    #[test]
    fn a_trace_that_came_is_gone_on_with_under_a_span_of_its_own() {
        let root = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let (traced, headers) = begin(&tracer(0.0), &[("x-amzn-trace-id", root)]);
        let begun = traced.begun.expect("it is traced");
        assert_eq!((begun.parent, begun.url.as_str()), (Some(0x5399_5c3f_42cd_8ad8), "http://shop.local/a?b"));
        let span = format!("{:016x}", traced.span);
        assert_eq!(
            headers["x-amzn-trace-id"],
            format!("Root=1-5759e988-bd862e3fe1be46a994272793;Parent={span};Sampled=1")
        );
        assert_eq!(headers["traceparent"], format!("00-5759e988bd862e3fe1be46a994272793-{span}-01"));
        let w3c = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-00";
        let (traced, headers) = begin(&tracer(1.0), &[("traceparent", w3c)]);
        assert!(traced.begun.is_none(), "whoever began it decided");
        assert!(headers["x-amzn-trace-id"].to_str().expect("text").ends_with(";Sampled=0"));
    }

    #[test]
    fn one_is_made_where_none_came_and_the_rule_decides() {
        let tracer = tracer(1.0);
        let (traced, headers) = begin(&tracer, &[]);
        assert!(traced.begun.is_some() && traced.trace != 0);
        let named = Context::of_xray(headers["x-amzn-trace-id"].to_str().expect("text")).expect("a trace");
        assert_eq!((named.trace, named.parent, named.sampled), (traced.trace, Some(traced.span), Some(true)));
    }

    #[test]
    fn segments_that_find_no_room_are_dropped_and_counted() {
        let tracer = tracer(1.0);
        (0..MOST_WAITING + 3).for_each(|_| tracer.send("x".into()));
        assert_eq!(tracer.dropped.load(Ordering::Relaxed), 3);
    }
}
