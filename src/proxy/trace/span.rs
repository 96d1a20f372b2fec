//! A request as a span of OpenTelemetry: the messages of OTLP (opentelemetry-proto 1.x, `collector/trace/v1/trace_service.proto` and
//! `trace/v1/trace.proto`, those fields that are filled), and what they say by the semantic conventions for HTTP (Semantic
//! Conventions 1.3x, "HTTP spans"; of gRPC, `rpc.grpc.status_code`). Pure.
//!
//! What comes in is a span of kind SERVER and what goes out one of kind CLIENT, as Envoy's tracer for OpenTelemetry has it.

use super::segment::{Begun, cut};
use crate::proxy::access_log::facts::{Facts, Flags};
use std::net::SocketAddr;

/// `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Export {
    /// Spans by whose they are.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// `ResourceSpans`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceSpans {
    /// Whose they are.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// The spans by who made them.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// `Resource`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// What is known of it.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// `ScopeSpans`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeSpans {
    /// Who made them.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// The spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// `InstrumentationScope`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Scope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// `Span`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Span {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// What came as `tracestate`.
    #[prost(string, tag = "3")]
    pub trace_state: String,
    /// 8 bytes, or none.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// The method.
    #[prost(string, tag = "5")]
    pub name: String,
    /// 2 is SERVER, 3 CLIENT.
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What is known of it.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// None for what went well.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
    /// 1 is sampled; 0x100 says that 0x200 is known: that the parent is another process's.
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

/// `Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    /// 2 is ERROR.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// `KeyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// `AnyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AnyValue {
    /// What it is.
    #[prost(oneof = "Any", tags = "1, 3")]
    pub value: Option<Any>,
}

/// What an `AnyValue` is.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Any {
    /// Text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A number.
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    /// What was not taken.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PartialSuccess {
    /// Spans that were not taken.
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    /// Why.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// Methods that a span is named by; others are `HTTP` ("HTTP spans", `http.request.method`).
const METHODS: [&str; 10] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];
/// Parameters of queries whose values are secrets ("HTTP spans", `url.query`), and those of AWS's signed URLs.
const SECRETS: [&str; 6] =
    ["AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature", "X-Amz-Signature", "X-Amz-Security-Token"];
/// Statuses of gRPC that are the server's fault: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const SERVERS_FAULT: [u16; 6] = [2, 4, 12, 13, 14, 15];

const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// An attribute that is text.
#[must_use]
pub fn text(key: &str, value: impl Into<String>) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Any::Text(value.into())) }) }
}

fn number(key: &str, value: impl TryInto<i64>) -> KeyValue {
    let value = Any::Number(value.try_into().unwrap_or(i64::MAX));
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

/// The span of a request that is over.
#[must_use]
pub fn span(begun: &Begun, facts: &Facts) -> Span {
    let start = u64::try_from(facts.started.0).unwrap_or(0).saturating_mul(1_000_000);
    let is_known = METHODS.contains(&begun.method.as_str());
    let mut attributes = vec![text("http.request.method", if is_known { &begun.method } else { "_OTHER" })];
    if !is_known {
        attributes.push(text("http.request.method_original", cut(&begun.method)));
    }
    asked_for(&mut attributes, begun);
    ends(&mut attributes, begun, facts);
    let error = error(begun, facts);
    answered(&mut attributes, facts, error.as_deref());
    Span {
        trace_id: begun.trace.to_be_bytes().to_vec(),
        span_id: begun.span.to_be_bytes().to_vec(),
        trace_state: begun.state.clone().unwrap_or_default(),
        parent_span_id: begun.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        name: if is_known { begun.method.clone() } else { "HTTP".to_owned() },
        kind: if begun.is_inbound { SERVER } else { CLIENT },
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(u64::try_from(facts.duration.as_nanos()).unwrap_or(u64::MAX)),
        attributes,
        status: error.map(|_| Status { code: 2 }),
        flags: if begun.parent.is_some() { 0x301 } else { 0x101 },
    }
}

/// What the request was for.
fn asked_for(attributes: &mut Vec<KeyValue>, begun: &Begun) {
    let (path, query) = match begun.path.split_once('?') {
        Some((path, query)) => (path, Some(without_secrets(query))),
        None => (begun.path.as_str(), None),
    };
    if begun.is_inbound {
        attributes.extend([text("url.scheme", begun.scheme.as_str()), text("url.path", cut(path))]);
        attributes.extend(query.map(|query| text("url.query", cut(&query))));
    } else {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        attributes.push(text("url.full", cut(&format!("{}://{}{path}{query}", begun.scheme, begun.host))));
    }
    let port = begun.host.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
    let (name, port) = port.map_or((begun.host.as_str(), None), |(name, port)| (name, Some(port)));
    attributes.push(text("server.address", cut(name.trim_start_matches('[').trim_end_matches(']'))));
    attributes.extend(port.map(|port| number("server.port", port)));
}

fn without_secrets(query: &str) -> String {
    let of = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if SECRETS.contains(&name) => format!("{name}=REDACTED"),
        _ => pair.to_owned(),
    };
    query.split('&').map(of).collect::<Vec<_>>().join("&")
}

/// Who asked whom.
fn ends(attributes: &mut Vec<KeyValue>, begun: &Begun, facts: &Facts) {
    let ip = |address: SocketAddr| address.ip().to_canonical().to_string();
    let peer = if begun.is_inbound { facts.client } else { facts.upstream };
    if let Some(peer) = peer {
        attributes.extend([text("network.peer.address", ip(peer)), number("network.peer.port", peer.port())]);
    }
    if begun.is_inbound {
        let client = begun.forwarded_for.as_deref().map(|client| cut(client).to_owned());
        attributes.extend(client.or(facts.client.map(ip)).map(|client| text("client.address", client)));
    }
    attributes.extend(begun.agent.as_deref().map(|agent| text("user_agent.original", cut(agent))));
    // Towards the endpoint it may be another one, which is not noted.
    let version = facts.protocol.filter(|_| begun.is_inbound).and_then(|protocol| protocol.strip_prefix("HTTP/"));
    attributes.extend(version.map(|version| text("network.protocol.version", version)));
}

/// What became of it.
fn answered(attributes: &mut Vec<KeyValue>, facts: &Facts, error: Option<&str>) {
    if facts.status > 0 {
        attributes.push(number("http.response.status_code", facts.status));
    }
    if let Some(status) = facts.grpc_status {
        attributes.extend([text("rpc.system", "grpc"), number("rpc.grpc.status_code", status)]);
    }
    attributes.extend(error.map(|error| text("error.type", error)));
    attributes.push(number("http.request.body.size", facts.bytes_received));
    attributes.push(number("http.response.body.size", facts.bytes_sent));
    if facts.attempts > 1 {
        attributes.push(number("http.request.resend_count", facts.attempts - 1));
    }
    // Ours: what a log of requests says of it.
    if !facts.flags.is_empty() {
        let flags = facts.flags.words(false).collect::<Vec<_>>().join(",");
        attributes.push(text("tidegate.response_flags", flags));
    }
    let ours = [("tidegate.route", &facts.route), ("tidegate.upstream_cluster", &facts.cluster)];
    attributes.extend(ours.into_iter().filter_map(|(key, value)| Some(text(key, value.as_ref()?.as_str()))));
}

/// What a failure is called; `None` for what went well by the conventions: a client that goes away is no failure, and 4xx is one
/// only to who asked.
fn error(begun: &Begun, facts: &Facts) -> Option<String> {
    if facts.flags == Flags::CLIENT_ENDED {
        return None;
    }
    let is_failure = facts.status == 0 || facts.status >= if begun.is_inbound { 500 } else { 400 };
    if is_failure {
        let word = facts.flags.words(true).last();
        return Some(word.map_or_else(|| facts.status.to_string(), str::to_owned));
    }
    let is_failure = |status: &u16| if begun.is_inbound { SERVERS_FAULT.contains(status) } else { *status != 0 };
    facts.grpc_status.filter(is_failure).map(|status| status.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;
    use prost::Message;
    use std::time::Duration;

    fn begun(is_inbound: bool) -> Begun {
        Begun {
            trace: 0x5759_e988_bd86_2e3f_e1be_46a9_9427_2793,
            span: 10,
            parent: Some(9),
            state: Some("a=b".into()),
            method: "GET".into(),
            scheme: "http".into(),
            host: "shop.local:8080".into(),
            path: "/a?b=1&X-Amz-Signature=abc&c".into(),
            agent: Some("curl".into()),
            forwarded_for: None,
            is_inbound,
        }
    }

    fn facts(status: u16) -> Facts {
        Facts {
            started: Timestamp(1_500),
            duration: Duration::from_millis(250),
            status,
            protocol: Some("HTTP/2"),
            bytes_sent: 7,
            attempts: 2,
            client: Some("10.0.0.9:4000".parse().expect("an address")),
            upstream: Some("10.0.0.7:80".parse().expect("an address")),
            cluster: Some("c".into()),
            ..Facts::default()
        }
    }

    fn of(span: &Span, key: &str) -> Option<String> {
        let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Any::Text(text) => Some(text.clone()),
            Any::Number(number) => Some(number.to_string()),
        }
    }

    #[test]
    fn what_comes_in_is_told_by_the_conventions_for_servers() {
        let span = span(&begun(true), &facts(200));
        assert_eq!((span.name.as_str(), span.kind, span.flags), ("GET", SERVER, 0x301));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (1_500_000_000, 1_750_000_000));
        assert_eq!((span.trace_id.len(), span.trace_id[0], span.span_id[7], span.parent_span_id[7]), (16, 0x57, 10, 9));
        assert_eq!((span.trace_state.as_str(), span.status.clone()), ("a=b", None));
        for (key, value) in [
            ("http.request.method", "GET"),
            ("url.scheme", "http"),
            ("url.path", "/a"),
            ("url.query", "b=1&X-Amz-Signature=REDACTED&c"),
            ("server.address", "shop.local"),
            ("server.port", "8080"),
            ("client.address", "10.0.0.9"),
            ("network.peer.address", "10.0.0.9"),
            ("network.peer.port", "4000"),
            ("network.protocol.version", "2"),
            ("user_agent.original", "curl"),
            ("http.response.status_code", "200"),
            ("http.response.body.size", "7"),
            ("tidegate.upstream_cluster", "c"),
        ] {
            assert_eq!(of(&span, key).as_deref(), Some(value), "{key}");
        }
        assert_eq!(of(&span, "url.full"), None);
        assert_eq!(Span::decode(span.encode_to_vec().as_slice()), Ok(span));
    }

    #[test]
    fn what_goes_out_is_told_by_the_conventions_for_clients() {
        let span = span(&begun(false), &facts(404));
        assert_eq!((span.kind, span.status.clone()), (CLIENT, Some(Status { code: 2 })));
        for (key, value) in [
            ("url.full", "http://shop.local:8080/a?b=1&X-Amz-Signature=REDACTED&c"),
            ("network.peer.address", "10.0.0.7"),
            ("http.request.resend_count", "1"),
            ("error.type", "404"),
        ] {
            assert_eq!(of(&span, key).as_deref(), Some(value), "{key}");
        }
        assert_eq!((of(&span, "client.address"), of(&span, "network.protocol.version")), (None, None));
    }

    #[test]
    fn what_is_a_failure_depends_on_the_side() {
        let error = |is_inbound, facts: &Facts| of(&span(&begun(is_inbound), facts), "error.type");
        assert_eq!((error(true, &facts(404)), error(true, &facts(503)).as_deref()), (None, Some("503")));
        let refused = Facts { flags: Flags::RETRIES_SPENT.and(Flags::NO_CONNECTION), ..facts(503) };
        assert_eq!(error(false, &refused).as_deref(), Some("UpstreamConnectionFailure"));
        assert_eq!(of(&span(&begun(false), &refused), "tidegate.response_flags").as_deref(), Some("URX,UF"));
        let gone = Facts { flags: Flags::CLIENT_ENDED, ..facts(0) };
        assert_eq!(error(true, &gone), None);
        let call = |status| Facts { grpc_status: Some(status), ..facts(200) };
        assert_eq!((error(true, &call(5)), error(false, &call(5)).as_deref()), (None, Some("5")));
        assert_eq!((error(true, &call(14)).as_deref(), error(false, &call(0))), (Some("14"), None));
    }

    #[test]
    fn an_unheard_of_method_names_nothing() {
        let span = span(&Begun { method: "BREW".into(), ..begun(true) }, &facts(200));
        assert_eq!((span.name.as_str(), of(&span, "http.request.method").as_deref()), ("HTTP", Some("_OTHER")));
        assert_eq!(of(&span, "http.request.method_original").as_deref(), Some("BREW"));
    }
}
