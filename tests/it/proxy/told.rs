//! What a proxy tells others of its requests: spans to a collector, metrics to CloudWatch, the last of them when it ends.

use super::harness::{Backend, Mesh, Proxy, eventually};
use super::observe::{lines, of_node, with_agent};
use crate::ecs::config;
use crate::program::aws_double::AwsDouble;
use crate::program::otlp::OtlpReceiver;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidegate::base::secret::Redacted;
use tidegate::proxy::cloudwatch::CloudWatchSettings;
use tidegate::proxy::trace::TraceSettings;
use tidegate::proxy::trace::otlp::OtlpSettings;
use tidegate::proxy::trace::sampling::Rules;

async fn traced(backend: &Backend, collector: &str, rate: f64) -> Proxy {
    let otlp = OtlpSettings {
        endpoint: format!("{collector}/v1/traces").parse().unwrap(),
        headers: Redacted::new(HeaderMap::from_iter([("x-token".parse().unwrap(), "word".parse().unwrap())])),
        timeout: Duration::from_secs(10),
        service: None,
        resource: vec![("team".into(), "pay".into())],
    };
    let mesh = of_node(Mesh::new(1).target("v1", backend.address, 1), None);
    Proxy::with(mesh, |settings| {
        let rules = Rules::share(rate).unwrap();
        settings.traces = Some(Arc::new(TraceSettings { xray: None, otlp: Some(otlp), rules }));
    })
    .await
}

#[tokio::test]
async fn traced_requests_become_spans_that_opentelemetry_reads() {
    let Some(collector) = OtlpReceiver::start().await else { return };
    let backend = Backend::text("hello").await;
    let proxy = traced(&backend, &collector.url, 0.0).await;
    let trace = "5759e988bd862e3fe1be46a994272793";
    let parent = format!("00-{trace}-53995c3f42cd8ad8-01");
    let mut client = proxy.client().await;
    let headers = [("traceparent", parent.as_str()), ("tracestate", "a=b"), ("user-agent", "tester")];
    client.request(Method::GET, "shop.local", "/a?b", &headers).await.unwrap();
    // One that whoever began it does not want kept.
    let unwanted = format!("00-{trace}-53995c3f42cd8ad8-00");
    client.request(Method::GET, "shop.local", "/c", &[("traceparent", &unwanted)]).await.unwrap();
    eventually("a span arrives", async || !collector.spans().await.is_empty()).await;
    let (calls, spans) = (collector.calls().await, collector.spans().await);
    assert_eq!((calls.len(), spans.len()), (1, 1));
    assert_eq!(calls[0]["headers"]["x-token"], "word");
    let scope = &calls[0]["message"]["resourceSpans"][0]["scopeSpans"][0]["scope"];
    assert_eq!(scope["name"], "tidegate");
    let span = &spans[0];
    // Their JSON has bytes in base64.
    assert_eq!((&span["traceId"], &span["parentSpanId"]), (&json!("V1npiL2GLj/hvkaplCcnkw=="), &json!("U5lcP0LNitg=")));
    assert_eq!(
        (&span["traceState"], &span["name"], &span["kind"]),
        (&json!("a=b"), &json!("GET"), &json!("SPAN_KIND_CLIENT"))
    );
    let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
    assert!(time("endTimeUnixNano") >= time("startTimeUnixNano"));
    assert_eq!(
        span["resource"],
        json!({ "service.name": "m/web", "tidegate.mesh": "m", "tidegate.node": "web", "team": "pay" })
    );
    let attributes = &span["attributes"];
    for (key, value) in [
        ("url.full", json!("http://shop.local/a?b")),
        ("http.request.method", json!("GET")),
        ("http.response.status_code", json!("200")),
        ("network.peer.port", json!(backend.address.port().to_string())),
        ("user_agent.original", json!("tester")),
        ("tidegate.route", json!("shop/all@1")),
    ] {
        assert_eq!(attributes[key], value, "{key} of {attributes}");
    }
    eventually("it is counted", async || proxy.stat("tracing.otlp.spans_sent").await == 1).await;
}

#[tokio::test]
async fn spans_are_sent_again_where_the_collector_asks_for_it_and_told_as_lost_where_it_refuses() {
    let Some(collector) = OtlpReceiver::start().await else { return };
    let backend = Backend::text("hello").await;
    collector.answer(json!({ "status": 503, "headers": { "Retry-After": "0" } })).await;
    collector.answer(json!({ "rejected": 1 })).await;
    let proxy = traced(&backend, &collector.url, 1.0).await;
    let mut client = proxy.client().await;
    for _ in 0..3 {
        client.get("/").await.unwrap();
    }
    eventually("two of three are taken at the second try", async || {
        proxy.stat("tracing.otlp.spans_sent").await == 2 && proxy.stat("tracing.otlp.spans_failed").await == 1
    })
    .await;
    collector.answer(json!({ "status": 400 })).await;
    client.get("/").await.unwrap();
    eventually("one is refused", async || proxy.stat("tracing.otlp.spans_failed").await == 2).await;
    assert_eq!(collector.spans().await.len(), 3, "what was refused is not sent again");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_no_requests() {
    let backend = Backend::text("hello").await;
    // It takes connections and says nothing, so the first batch is under way for as long as its time is.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = traced(&backend, &format!("http://{}", silent.local_addr().unwrap()), 1.0).await;
    let mut client = proxy.client().await;
    // Those under way and those that wait, and some more.
    for _ in 0..2048 + 512 + 20 {
        assert_eq!(client.get("/").await.unwrap().text(), "hello");
    }
    eventually("what found no room is counted", async || proxy.stat("tracing.otlp.spans_dropped").await > 0).await;
}

#[tokio::test]
async fn the_end_sends_the_spans_that_wait() {
    let Some(collector) = OtlpReceiver::start().await else { return };
    let backend = Backend::text("hello").await;
    let proxy = traced(&backend, &collector.url, 1.0).await;
    let mut client = proxy.client().await;
    for _ in 0..700 {
        client.get("/").await.unwrap();
    }
    drop(client);
    proxy.handle.drain(Duration::from_millis(100)).await;
    assert_eq!(collector.spans().await.len(), 700);
}

/// Sums of what CloudWatch was sent, by metric and by the target's service.
fn sums(calls: &[Value]) -> BTreeMap<(String, String), f64> {
    let mut sums = BTreeMap::new();
    for call in calls.iter().filter(|call| call["operation"] == "PutMetricData" && call["outcome"] == "ok") {
        assert_eq!(call["params"]["Namespace"], "AppMesh");
        for datum in call["params"]["MetricData"].as_array().unwrap() {
            let dimensions = datum["Dimensions"].as_array().unwrap();
            let service = dimensions.iter().find(|one| one["Name"] == "TargetVirtualService");
            let service = service.map_or("", |one| one["Value"].as_str().unwrap());
            let counts = datum["Counts"].as_array().into_iter().flatten().filter_map(Value::as_f64).sum::<f64>();
            let key = (datum["MetricName"].as_str().unwrap().to_owned(), service.to_owned());
            *sums.entry(key).or_default() += datum["Value"].as_f64().unwrap_or(counts);
        }
    }
    sums
}

fn of(sums: &BTreeMap<(String, String), f64>, name: &str, service: &str) -> Option<f64> {
    sums.get(&(format!("envoy.appmesh.{name}"), service.to_owned())).copied()
}

async fn measured(backend: &Backend, double: &AwsDouble, every: Duration) -> Proxy {
    let sdk = config(&double.url);
    let mesh = of_node(Mesh::new(1).target("v1", backend.address, 1), None);
    Proxy::with(mesh, |settings| {
        settings.cloudwatch = Some(CloudWatchSettings { sdk, namespace: "AppMesh".into(), every });
    })
    .await
}

#[tokio::test]
async fn cloudwatch_gets_app_meshs_metrics_and_the_last_of_them_at_the_end() {
    let Some(double) = AwsDouble::start().await else { return };
    let backend = Backend::text("hello").await;
    // The second report would come in an hour.
    let proxy = measured(&backend, &double, Duration::from_secs(3600)).await;
    let mut client = proxy.client().await;
    for _ in 0..7 {
        client.get("/").await.unwrap();
    }
    drop(client);
    proxy.handle.drain(Duration::from_millis(100)).await;
    let calls = double.calls().await;
    let sums = sums(&calls);
    for (name, service, wanted) in [
        ("RequestCountPerTarget", "shop.local", 7.0),
        ("HTTPCode_Target_2XX_Count", "shop.local", 7.0),
        ("HTTPCode_Target_5XX_Count", "shop.local", 0.0),
        ("TargetResponseTime", "shop.local", 7.0),
        ("RequestCount", "", 0.0),
    ] {
        assert_eq!(of(&sums, name, service), Some(wanted), "{name}");
    }
    let data = calls.iter().flat_map(|call| call["params"]["MetricData"].as_array().unwrap());
    let times = data.clone().find(|datum| datum["MetricName"] == "envoy.appmesh.TargetResponseTime").unwrap();
    assert_eq!(times["Unit"], "Milliseconds");
    let dimensions = ["Mesh", "VirtualNode", "TargetVirtualService", "TargetVirtualNode"];
    let named: Vec<&str> =
        times["Dimensions"].as_array().unwrap().iter().map(|one| one["Name"].as_str().unwrap()).collect();
    assert_eq!(named, dimensions);
}

#[tokio::test]
async fn what_cloudwatch_does_not_take_is_kept_for_one_report() {
    let Some(double) = AwsDouble::start().await else { return };
    let backend = Backend::text("hello").await;
    let proxy = measured(&backend, &double, Duration::from_millis(300)).await;
    eventually("the first report", async || !double.calls().await.is_empty()).await;
    double.fault_of("cloudwatch", "PutMetricData", "deny", json!({})).await;
    proxy.client().await.get("/").await.unwrap();
    eventually("it arrives with the next one", async || {
        of(&sums(&double.calls().await), "RequestCountPerTarget", "shop.local") == Some(1.0)
    })
    .await;
    assert_eq!((proxy.stat("cloudwatch.calls_failed").await, proxy.stat("cloudwatch.metrics_dropped").await), (1, 0));
    double.fault_of("cloudwatch", "PutMetricData", "deny", json!({ "times": 1000 })).await;
    proxy.client().await.get("/").await.unwrap();
    eventually("the second time it is dropped", async || proxy.stat("cloudwatch.metrics_dropped").await > 0).await;
    assert_eq!(of(&sums(&double.calls().await), "RequestCountPerTarget", "shop.local"), Some(1.0));
}

#[tokio::test]
async fn the_last_minute_reaches_the_agent_at_the_end() {
    let backend = Backend::text("hello").await;
    let (proxy, agent) = with_agent(&backend, Duration::from_secs(3600)).await;
    let first = lines(&agent).await;
    assert_eq!(first.len(), 1, "nothing was sent anywhere yet");
    let mut client = proxy.client().await;
    for _ in 0..3 {
        client.get("/").await.unwrap();
    }
    drop(client);
    let ending = tokio::spawn(proxy.handle.drain(Duration::from_millis(100)));
    let last = lines(&agent).await;
    ending.await.unwrap();
    assert_eq!(last[1]["envoy.appmesh.RequestCountPerTarget"], 3);
}
