//! Traces: each request that is traced becomes a segment for AWS X-Ray, a span for a collector of OpenTelemetry, or both.
//!
//! A worker hands it over and goes on; where the one who sends is behind, it is dropped and counted. The headers of X-Ray and of
//! the W3C both name the trace on the way on. Without a tracer both pass as they came.

/// Headers that name traces (pure).
pub mod ids;
/// To a collector of OpenTelemetry.
pub mod otlp;
/// From the workers to who sends.
mod queue;
/// Which requests are traced.
pub mod sampling;
/// What the X-Ray daemon takes (pure).
pub mod segment;
/// What a collector takes (pure).
pub mod span;
/// To the X-Ray daemon.
pub mod xray;

use super::access_log::facts::Facts;
use super::shared::Shared;
use super::stats::show::Stat;
use crate::clock::{Clock, SystemClock};
use http::{HeaderMap, HeaderName, HeaderValue, request};
use ids::Context;
use otlp::OtlpSettings;
use queue::Queue;
use sampling::Rules;
use segment::{Begun, Sender};
use span::Span;
use std::sync::Arc;
use xray::XraySettings;

const XRAY: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const W3C: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// How requests are traced: for X-Ray, for a collector, or for both.
#[derive(Debug)]
pub struct TraceSettings {
    /// The way to X-Ray.
    pub xray: Option<XraySettings>,
    /// The way to a collector of OpenTelemetry.
    pub otlp: Option<OtlpSettings>,
    /// Which requests are traced.
    pub rules: Rules,
}

/// Traces requests.
pub(super) struct Tracer {
    settings: Arc<TraceSettings>,
    segments: Option<Queue<String>>,
    spans: Option<Queue<Span>>,
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
        let segments = settings.xray.as_ref().map(|_| Queue::new(xray::MOST_WAITING));
        let spans = settings.otlp.as_ref().map(|_| Queue::new(otlp::MOST_WAITING));
        Self { settings, segments, spans }
    }

    /// Decides on a request and names its trace to the next hop. `draw` is the worker's source of chance.
    pub(super) fn begin(&self, head: &mut request::Parts, is_inbound: bool, mut draw: impl FnMut() -> u64) -> Traced {
        let (came, state) = self.came(&head.headers);
        let text = |name: &HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
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
            state: state.then(|| owned(&STATE)).flatten(),
            method: head.method.to_string(),
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            path: head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            agent: owned(&http::header::USER_AGENT),
            forwarded_for: text(&HeaderName::from_static("x-forwarded-for"))
                .map(|all| all.split(',').next().unwrap_or(all).trim().to_owned()),
            is_inbound,
        });
        if !state {
            head.headers.remove(STATE);
        }
        // Only hexadecimal digits and signs: a header may have them.
        set(&mut head.headers, XRAY, &ids::xray_header(trace, span, sampled));
        set(&mut head.headers, W3C, &ids::w3c_header(trace, span, sampled));
        Traced { trace, span, begun }
    }

    /// The trace that a request came with, and whether its `tracestate` is about that one (Trace Context, section 3.3). X-Ray's header
    /// goes first where X-Ray gets the traces; a collector's come by the W3C's, and a load balancer may have begun one for X-Ray.
    fn came(&self, headers: &HeaderMap) -> (Option<Context>, bool) {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let (xray, w3c) = (text(&XRAY).and_then(Context::of_xray), text(&W3C).and_then(Context::of_w3c));
        let came = if self.segments.is_some() { xray.or(w3c) } else { w3c.or(xray) };
        (came, w3c.is_some_and(|w3c| came.is_some_and(|came| came.trace == w3c.trace)))
    }

    /// Hands over what is known of a request that is over.
    pub(super) fn ended(&self, begun: &Begun, facts: &Facts, (mesh, node): (&str, &str)) {
        if let (Some(queue), Some(xray)) = (&self.segments, &self.settings.xray) {
            let name = xray.name.clone().unwrap_or_else(|| format!("{mesh}/{node}"));
            queue.add(segment::datagram(begun, facts, Sender { name: &name, mesh, node }));
        }
        if let Some(queue) = &self.spans {
            queue.add(span::span(begun, facts));
        }
    }

    /// What became of segments and spans.
    pub(super) fn stats(&self) -> impl Iterator<Item = Stat> {
        let segments = self.segments.iter().flat_map(|queue| queue.stats("xray"));
        segments.chain(self.spans.iter().flat_map(|queue| queue.stats("otlp")))
    }
}

/// Sends what is handed over until the proxy has ended. The control side's.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(tracer) = &shared.tracer else { return };
    let to_xray = async {
        if let (Some(queue), Some(settings)) = (&tracer.segments, &tracer.settings.xray) {
            xray::run(queue, settings, shared.ended.subscribe()).await;
        }
    };
    let to_collector = async {
        if let (Some(queue), Some(settings)) = (&tracer.spans, &tracer.settings.otlp) {
            otlp::run(queue, settings, &shared).await;
        }
    };
    tokio::join!(to_xray, to_collector);
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
        let xray = XraySettings { daemon: ([127, 0, 0, 1], 2000).into(), name: None };
        let rules = Rules::share(rate).expect("a share");
        Tracer::new(Arc::new(TraceSettings { xray: Some(xray), otlp: None, rules }))
    }

    fn for_a_collector() -> Tracer {
        let otlp = OtlpSettings {
            endpoint: reqwest::Url::parse("http://127.0.0.1:4318/v1/traces").expect("a URL"),
            headers: Default::default(),
            timeout: std::time::Duration::from_secs(1),
            service: None,
            resource: Vec::new(),
        };
        let rules = Rules::share(0.0).expect("a share");
        Tracer::new(Arc::new(TraceSettings { xray: None, otlp: Some(otlp), rules }))
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
        assert_eq!((begun.parent, begun.path.as_str()), (Some(0x5399_5c3f_42cd_8ad8), "/a?b"));
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

    /// A load balancer names a trace of its own to everybody.
    #[test]
    fn a_collectors_trace_comes_by_the_w3cs_header_first() {
        let balancer = ("x-amzn-trace-id", "Root=1-67891234-12456789abcdef0123456789");
        let w3c = ("traceparent", "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01");
        let state = ("tracestate", "a=b");
        let (traced, headers) = begin(&for_a_collector(), &[balancer, w3c, state]);
        assert_eq!(traced.trace, 0x5759_e988_bd86_2e3f_e1be_46a9_9427_2793);
        assert_eq!(traced.begun.and_then(|begun| begun.state).as_deref(), Some("a=b"));
        assert_eq!(headers["tracestate"], "a=b");
        // To X-Ray it is the balancer's, and what the state says is of another trace.
        let (traced, headers) = begin(&tracer(1.0), &[balancer, w3c, state]);
        assert_eq!(traced.trace, 0x6789_1234_1245_6789_abcd_ef01_2345_6789);
        assert!(!headers.contains_key("tracestate"));
    }

    #[test]
    fn a_request_that_is_over_goes_to_whoever_is_told() {
        let tracer = for_a_collector();
        let begun =
            begin(&tracer, &[("traceparent", "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01")]).0.begun;
        tracer.ended(&begun.expect("it is traced"), &Facts::default(), ("m", "n"));
        let span = tracer.spans.as_ref().and_then(Queue::take_inbox).and_then(|mut inbox| inbox.try_recv().ok());
        assert_eq!(span.expect("a span").name, "GET");
        assert!(tracer.stats().all(|stat| stat.name.starts_with("tracing.otlp.")));
    }
}
