//! Lines of logs, in each format.

use super::super::facts::{Fields, Flags};
use super::*;
use crate::base::time::Timestamp;
use http::{HeaderMap, HeaderValue, Method, Uri};
use std::time::Duration;

fn read(text: &str) -> Format {
    Format::read(&LogFormat::Text(text.into()), "host-1").expect("a good format")
}

/// What a request with a query left behind, for this format.
fn facts(format: &Format) -> Facts {
    let headers = |all: &[(&'static str, &'static str)]| {
        let pairs = all.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect::<HeaderMap>()
    };
    let mut fields = Fields::with_room(format.wanted().len());
    let request = headers(&[("host", "shop.local"), ("user-agent", "a \"b\"\\"), ("x-request-id", "id-1")]);
    let uri = Uri::from_static("/a/b?c=d&e=&cc=x");
    fields.take_request(format.wanted(), &Method::GET, &uri, &request);
    let answer = headers(&[("x-envoy-upstream-service-time", "7"), ("server", "s")]);
    fields.take_answer(format.wanted(), Place::Response, &answer);
    fields.take_answer(format.wanted(), Place::Trailers, &headers(&[("grpc-message", "m")]));
    Facts {
        started: Timestamp(1_795_859_881_045),
        protocol: Some("HTTP/1.1"),
        status: 200,
        bytes_received: 12,
        bytes_sent: 34,
        duration: Duration::from_micros(20_900),
        received: Some(Duration::from_millis(1)),
        answered: Some(Duration::from_millis(7)),
        upstream: Some("10.0.0.1:8080".parse().expect("an address")),
        attempts: 2,
        cluster: Some("cds_egress_m_v1_http_8080".into()),
        route: Some("r/all@3".into()),
        client: Some("[::ffff:10.0.0.9]:4000".parse().expect("an address")),
        local: Some("[2001:db8::1]:15001".parse().expect("an address")),
        fields,
        ..Facts::default()
    }
}

fn line(format: &Format, facts: &Facts) -> String {
    let mut out = Vec::new();
    format.write(facts, &mut Instants::default(), &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn without_a_format_a_line_is_envoys() {
    let format = Format::read(&LogFormat::Default, "").expect("good");
    assert_eq!(
        line(&format, &facts(&format)),
        "[2026-11-28T09:58:01.045Z] \"GET /a/b?c=d&e=&cc=x HTTP/1.1\" 200 - 12 34 20 7 \"-\" \"a \"b\"\\\" \"id-1\" \
         \"shop.local\" \"10.0.0.1:8080\"\n"
    );
}

#[test]
fn every_command_is_written_as_envoy_writes_it() {
    for (text, wanted) in [
        ("%REQ(X-NONE?:METHOD)% %REQ(X-NONE)% %RESP(SERVER)% %TRAILER(grpc-message)%", "GET - s m"),
        ("%REQ(:PATH):4%|%PROTOCOL:20%", "/a/b|HTTP/1.1"),
        ("%PATH(NQ)% %QUERY_PARAM(c)% [%QUERY_PARAM(e)%] %QUERY_PARAM(x)%", "/a/b d [] -"),
        ("%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "1 7 13"),
        (
            "%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%",
            "10.0.0.1:8080 10.0.0.1 8080",
        ),
        ("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS%", "10.0.0.9:4000 [2001:db8::1]:15001"),
        ("%UPSTREAM_CLUSTER% %ROUTE_NAME% %UPSTREAM_REQUEST_ATTEMPT_COUNT%", "cds_egress_m_v1_http_8080 r/all@3 2"),
        ("%CONNECTION_ID% %STREAM_ID% %HOSTNAME% %ACCESS_LOG_TYPE%", "- id-1 host-1 DownstreamEnd"),
        ("%START_TIME(%s)% %EMIT_TIME(%s.%3f)% %EMIT_TIME%", "1795859881 1795859881.065 2026-11-28T09:58:01.065Z"),
        ("%TRACE_ID% %GRPC_STATUS% %DYNAMIC_METADATA(a:b)% 100%%", "- - - 100%"),
    ] {
        let format = read(text);
        assert_eq!(line(&format, &facts(&format)), wanted, "{text}");
    }
}

#[test]
fn flags_have_envoys_order_and_both_spellings() {
    let format = read("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%");
    let flags = Flags::RETRIES_SPENT.and(Flags::NO_CONNECTION);
    let text = line(&format, &Facts { flags, ..Facts::default() });
    assert_eq!(text, "URX,UF UpstreamRetryLimitExceeded,UpstreamConnectionFailure");
}

#[test]
fn statuses_of_grpc_are_spelled_as_asked() {
    let format = read("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%");
    let said = |status| line(&format, &Facts { grpc_status: Some(status), ..Facts::default() });
    assert_eq!(said(4), "DeadlineExceeded DEADLINE_EXCEEDED 4");
    assert_eq!(said(0), "OK OK 0");
    assert_eq!(said(99), "99 99 99");
}

#[test]
fn an_object_keeps_the_order_of_its_members_and_numbers_as_numbers() {
    let member = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let members = vec![
        member("z\"", "%RESPONSE_CODE%"),
        member("agent", "%REQ(USER-AGENT)%"),
        member("none", "%REQ(X-NONE)%"),
        member("flags", "%RESPONSE_FLAGS%"),
        member("both", "%REQ(X-NONE)% %RESPONSE_CODE%"),
        member("text", "plain"),
    ];
    let format = Format::read(&LogFormat::Json(members), "").expect("good");
    let text = line(&format, &facts(&format));
    assert_eq!(
        text,
        "{\"z\\\"\":200,\"agent\":\"a \\\"b\\\"\\\\\",\"none\":null,\"flags\":\"-\",\"both\":\"- 200\",\"text\":\"plain\"}\n"
    );
    serde_json::from_str::<serde_json::Value>(&text).expect("it is JSON");
}

#[test]
fn what_is_wrong_with_a_format_is_said() {
    let error = Format::read(&LogFormat::Json(vec![("k".into(), "%NO_SUCH%".into())]), "").expect_err("unknown");
    assert_eq!(error, "%NO_SUCH% is no command of Envoy's");
}
