//! Instant queries and ranges. Answers are written after the HTTP API page of Prometheus's documentation ("Format overview", "Instant
//! queries", "Range queries", "Expression query result formats").

use super::server::{Reply, Server};
use super::{at, expect_fault, seen};
use serde_json::{Value, json};
use tidegate::base::fault::FaultKind;
use tidegate::base::secret::Redacted;
use tidegate::base::time::Millis;
use tidegate::signals::prometheus::{PromQuery, Prometheus, PrometheusSettings};
use tidegate::signals::{Answer, Asked};

const QUERY: PromQuery<'static> = PromQuery { query: "sum(rate(errors{node=\"v2\"}[1m]))", url: None, step: None };

fn prometheus(url: Option<&str>, token: Option<&str>) -> Prometheus {
    let token = token.map(|token| Redacted::new(token.to_owned()));
    Prometheus::new(&PrometheusSettings { url: url.map(str::to_owned), token, login: None }).unwrap()
}

async fn ask(prometheus: &Prometheus, query: PromQuery<'_>) -> Answer {
    prometheus.points(&[Asked { query: &query, after: at(0), since: at(0), now: at(30) }]).await.remove(0)
}

fn success(data: &Value) -> Reply {
    Reply::Body(200, json!({ "status": "success", "data": data }).to_string())
}

fn vector(elements: &Value) -> Reply {
    success(&json!({ "resultType": "vector", "result": elements }))
}

fn element(value: &str) -> Value {
    json!({ "metric": { "node": "v2" }, "value": [at(20).0 / 1000, value] })
}

fn error(status: u16, kind: &str, text: &str) -> Reply {
    Reply::Body(status, json!({ "status": "error", "errorType": kind, "error": text }).to_string())
}

#[tokio::test]
async fn a_query_is_posted_and_its_one_number_is_the_point() {
    let server = Server::start(vector(&json!([element("0.25")]))).await;
    let prometheus = prometheus(Some(&format!("{}/prefix/", server.url)), Some("t0ken"));
    assert_eq!(seen(&ask(&prometheus, QUERY).await), [(20, 0.25)]);
    let asked = server.asked().remove(0);
    assert!(asked.starts_with("POST /prefix/api/v1/query HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: Bearer t0ken\r\n"), "{asked}");
    assert!(asked.contains("content-type: application/x-www-form-urlencoded\r\n"), "{asked}");
    let body = "query=sum%28rate%28errors%7Bnode%3D%22v2%22%7D%5B1m%5D%29%29&timeout=5s";
    assert!(asked.ends_with(body), "{asked}");
    assert!(!format!("{prometheus:?}").contains("t0ken"));

    server.reply(success(&json!({ "resultType": "scalar", "result": [at(21).0 / 1000, "3"] })));
    assert_eq!(seen(&ask(&prometheus, QUERY).await), [(21, 3.0)]);
}

#[tokio::test]
async fn a_token_goes_to_the_configured_origin_and_to_no_other() {
    let (ours, other) = (Server::start(vector(&json!([]))).await, Server::start(vector(&json!([]))).await);
    let prometheus = prometheus(Some(&ours.url), Some("t0ken"));
    let with_path = format!("{}/team", ours.url);
    for url in [other.url.as_str(), &with_path] {
        assert_eq!(seen(&ask(&prometheus, PromQuery { url: Some(url), ..QUERY }).await), []);
    }
    assert!(!other.asked()[0].contains("authorization"), "{}", other.asked()[0]);
    assert!(ours.asked()[0].starts_with("POST /team/api/v1/query ") && ours.asked()[0].contains("Bearer t0ken"));
}

#[tokio::test]
async fn what_is_no_number_is_silence() {
    let server = Server::start(vector(&json!([]))).await;
    let prometheus = prometheus(Some(&server.url), None);
    assert_eq!(seen(&ask(&prometheus, QUERY).await), [], "an empty vector");
    for value in ["NaN", "+Inf", "-Inf"] {
        server.reply(vector(&json!([element(value)])));
        assert_eq!(seen(&ask(&prometheus, QUERY).await), [], "{value}");
    }
    let old = json!([{ "metric": {}, "value": [at(0).0 / 1000, "1"] }]);
    server.reply(vector(&old));
    assert_eq!(seen(&ask(&prometheus, QUERY).await), [], "not newer than the release");
}

#[tokio::test]
async fn a_bad_day_says_whose_fault_it_is() {
    let warned = json!({ "status": "success", "warnings": ["one of two shards did not answer"],
                         "data": { "resultType": "vector", "result": [element("1")] } });
    let rows = [
        (
            vector(&json!([element("1"), element("2"), element("3")])),
            FaultKind::Permanent,
            "it yields 3 series, such as {\"node\":\"v2\"} and {\"node\":\"v2\"}: make one of them, with `sum`, `avg` or \
             `max` around it",
        ),
        (
            success(&json!({ "resultType": "matrix", "result": [] })),
            FaultKind::Permanent,
            "it yields a range: take a function such as `rate` or `avg_over_time` of it",
        ),
        (success(&json!({ "resultType": "string", "result": [1, "x"] })), FaultKind::Permanent, "it yields a text"),
        (
            vector(&json!([{ "metric": {}, "histogram": [1, { "count": "1", "sum": "1" }] }])),
            FaultKind::Permanent,
            "it yields a histogram: take `histogram_quantile`",
        ),
        (vector(&json!([element("many")])), FaultKind::Permanent, "that is no sample of Prometheus"),
        (vector(&json!([{ "metric": {}, "value": 5 }])), FaultKind::Permanent, "that is no sample of Prometheus"),
        (success(&json!(null)), FaultKind::Permanent, "that is no answer of Prometheus"),
        (Reply::Body(200, warned.to_string()), FaultKind::Transient, "has doubts about the data: one of two shards"),
        (
            error(400, "bad_data", "1:5: parse error: unexpected \"(\""),
            FaultKind::Permanent,
            "correct `prometheus.query` in the policy: bad_data: 1:5: parse error",
        ),
        (
            error(422, "execution", "multiple matches for labels"),
            FaultKind::Permanent,
            "status 422: execution: multiple matches for labels",
        ),
        (error(503, "timeout", "query timed out"), FaultKind::Transient, "timeout: query timed out"),
        (error(503, "unavailable", "starting"), FaultKind::Transient, "unavailable: starting"),
        (error(500, "internal", "oops"), FaultKind::Transient, "internal: oops"),
        (Reply::Body(401, String::new()), FaultKind::Permanent, "status 401 (it wants a token, or another one)"),
        (Reply::Body(404, "404 page not found".into()), FaultKind::Permanent, "status 404 (nothing is at this address"),
        (Reply::Body(302, String::new()), FaultKind::Permanent, "redirects are not followed: name the last address"),
        (Reply::Body(429, "slow down".into()), FaultKind::Transient, "status 429: slow down"),
        (Reply::Body(502, "<html>".into()), FaultKind::Transient, "status 502: <html>"),
        (Reply::Body(200, "<html>".into()), FaultKind::Transient, "the answer is no JSON"),
        (Reply::Body(200, "{}".into()), FaultKind::Permanent, "that is no answer of Prometheus: {}"),
        (Reply::Long(2_000_000), FaultKind::Permanent, "the answer has more than 1048576 bytes; ask for one number"),
        (Reply::Raw(""), FaultKind::Transient, "the answer broke off"),
        (
            Reply::Raw("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"stat"),
            FaultKind::Transient,
            "the answer broke off",
        ),
        (Reply::Nothing, FaultKind::Transient, "no answer within 5 s"),
    ];
    let server = Server::start(Reply::Nothing).await;
    let prometheus = prometheus(Some(&server.url), None);
    for (reply, kind, text) in rows {
        let what = format!("{reply:?}").chars().take(80).collect::<String>();
        server.reply(reply);
        let fault = expect_fault(&what, ask(&prometheus, QUERY).await, kind, text);
        assert!(fault.message.starts_with(&format!("query `{}` at {}: ", QUERY.query, server.url)), "{fault}");
    }
}

#[tokio::test]
async fn addresses_that_lead_nowhere_are_named() {
    let fault = expect_fault(
        "no address",
        ask(&prometheus(None, None), QUERY).await,
        FaultKind::Permanent,
        "no Prometheus is configured: set `prometheus.url` in the daemon's configuration file, or name `prometheus.url` in the \
         policy",
    );
    assert_eq!(fault.source, "prometheus");
    let nobody = ask(&prometheus(Some("http://127.0.0.1:1"), None), QUERY).await;
    expect_fault("nobody listens", nobody, FaultKind::Transient, "no connection: ");
    for (url, text) in [
        ("ftp://host", "has the scheme ftp; it has to be http or https"),
        ("nonsense", "is no URL"),
        ("http://user:hunter2@host/", "holds a user or password; leave them out"),
    ] {
        let settings = PrometheusSettings { url: Some(url.to_owned()), ..PrometheusSettings::default() };
        let fault = Prometheus::new(&settings).unwrap_err();
        assert!(
            fault.message.contains(text) && fault.message.contains("prometheus.url of the configuration"),
            "{fault}"
        );
        assert!(!fault.message.contains("hunter2"), "{fault}");
        let answer = ask(&prometheus(None, None), PromQuery { url: Some(url), ..QUERY }).await;
        expect_fault(url, answer, FaultKind::Permanent, text);
    }
}

#[tokio::test]
async fn a_user_and_a_password_stand_for_a_token() {
    let server = Server::start(vector(&json!([]))).await;
    let login = Some(("tidegate".to_owned(), Redacted::new("hunter2".to_owned())));
    let settings = PrometheusSettings { url: Some(server.url.clone()), token: None, login };
    let prometheus = Prometheus::new(&settings).unwrap();
    assert_eq!(seen(&ask(&prometheus, QUERY).await), []);
    assert!(server.asked()[0].contains("authorization: Basic dGlkZWdhdGU6aHVudGVyMg==\r\n"), "{}", server.asked()[0]);
    assert!(!format!("{prometheus:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_range_brings_a_point_for_each_step_since_the_last_one() {
    let range = PromQuery { step: Some(Millis::from_seconds(10)), ..QUERY };
    let matrix = |series: Value| success(&json!({ "resultType": "matrix", "result": series }));
    let values = |values: &[(i64, &str)]| {
        let values: Vec<Value> = values.iter().map(|(after, value)| json!([at(*after).0 / 1000, value])).collect();
        json!([{ "metric": {}, "values": values }])
    };
    let server = Server::start(matrix(values(&[(10, "1"), (20, "NaN"), (30, "3.5")]))).await;
    let prometheus = prometheus(Some(&server.url), None);
    assert_eq!(seen(&ask(&prometheus, range).await), [(10, 1.0), (30, 3.5)], "what is no number is left out");
    let asked = server.asked().remove(0);
    assert!(asked.starts_with("POST /api/v1/query_range HTTP/1.1\r\n"), "{asked}");
    let (start, end) = (at(10).0 / 1000, at(30).0 / 1000);
    assert!(asked.ends_with(&format!("&timeout=5s&start={start}&end={end}&step=10")), "{asked}");
    server.reply(matrix(json!([])));
    assert_eq!(seen(&ask(&prometheus, range).await), [], "no series is silence");
    for (reply, text) in [
        (
            matrix(json!([{ "metric": { "a": "1" } }, { "metric": { "a": "2" } }])),
            "it yields 2 series, such as {\"a\":\"1\"}",
        ),
        (matrix(json!([{ "metric": {}, "histograms": [] }])), "it yields a histogram: take `histogram_quantile`"),
        (matrix(values(&[(10, "many")])), "that is no sample of Prometheus"),
        (vector(&json!([element("1")])), "that is no answer of Prometheus"),
    ] {
        server.reply(reply);
        expect_fault("a range", ask(&prometheus, range).await, FaultKind::Permanent, text);
    }
    let before = server.asked().len();
    let early = Asked { query: &range, after: at(25), since: at(0), now: at(29) };
    assert_eq!(seen(&prometheus.points(&[early]).await.remove(0)), []);
    assert_eq!(server.asked().len(), before, "no step has passed: nobody is asked");
}
