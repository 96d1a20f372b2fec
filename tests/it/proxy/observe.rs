//! What a proxy tells of its requests: access log, counts by Envoy's names, traces, metrics for CloudWatch.

use super::harness::{Backend, Mesh, Proxy, eventually, full};
use http::{Method, Response};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::mesh::snapshot::{AccessLog, IpPreference, LogFormat, Own, Role};
use tidegate::proxy::emf::{EmfSettings, EmfTarget};
use tidegate::proxy::trace::TraceSettings;
use tidegate::proxy::trace::sampling::Rules;
use tidegate::proxy::trace::xray::XraySettings;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UdpSocket};

/// The same mesh as seen by a node, which logs there.
pub(super) fn of_node(mut mesh: Mesh, log: Option<(&Path, &str)>) -> Mesh {
    let access_log = log.map(|(path, format)| AccessLog {
        path: path.display().to_string(),
        format: LogFormat::Text(format.to_owned()),
    });
    mesh.config.own = Some(Arc::new(Own {
        mesh: "m".into(),
        name: "web".into(),
        role: Role::Node,
        listeners: Vec::new(),
        allow_all: false,
        access_log,
        ip_preference: IpPreference::Unset,
    }));
    mesh
}

async fn written(path: &Path, wanted: &str) {
    eventually(&format!("{wanted:?} in {}", path.display()), async || {
        tokio::fs::read_to_string(path).await.unwrap_or_default() == wanted
    })
    .await;
}

#[tokio::test]
async fn a_log_follows_its_name_and_is_whole_at_the_end() {
    let backend = Backend::text("hello").await;
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
    let mesh = of_node(Mesh::new(1).target("v1", backend.address, 1), Some((&path, "%REQ(:PATH)% %RESPONSE_CODE%\n")));
    let proxy = Proxy::start(mesh).await;
    let mut client = proxy.client().await;
    client.get("/1").await.unwrap();
    written(&path, "/1 200\n").await;
    // Moved away, and told so.
    std::fs::rename(&path, &moved).unwrap();
    proxy.admin(Method::POST, "/reopen_logs").await;
    client.get("/2").await.unwrap();
    written(&path, "/2 200\n").await;
    assert_eq!(std::fs::read_to_string(&moved).unwrap(), "/1 200\n");
    assert_eq!(proxy.stat("access_log.lines_written").await, 2);
    // Lines that wait are written before the end.
    for _ in 0..100 {
        client.get("/3").await.unwrap();
    }
    proxy.handle.drain(Duration::from_millis(100)).await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().filter(|line| *line == "/3 200").count(), 100);
}

#[tokio::test]
async fn a_moved_log_is_noticed_without_being_told() {
    let backend = Backend::text("hello").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    let mesh = of_node(Mesh::new(1).target("v1", backend.address, 1), Some((&path, "%REQ(:PATH)%\n")));
    let proxy = Proxy::start(mesh).await;
    let mut client = proxy.client().await;
    client.get("/1").await.unwrap();
    written(&path, "/1\n").await;
    std::fs::rename(&path, folder.path().join("a.log.1")).unwrap();
    // It looks once a second, before it writes.
    for _ in 0..1000 {
        client.get("/2").await.unwrap();
        if path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("there is no new file");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_costs_lines_and_no_requests() {
    let backend = Backend::text("hello").await;
    let nowhere = Path::new("/nowhere/at/all.log");
    let mesh = of_node(Mesh::new(1).target("v1", backend.address, 1), Some((nowhere, "%NO_SUCH%")));
    let proxy = Proxy::start(mesh).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.unwrap().text(), "hello");
    eventually("a lost line is counted", async || proxy.stat("access_log.lines_failed").await == 1).await;
}

#[tokio::test]
async fn a_client_that_goes_away_is_logged_as_such() {
    let stalls = Backend::http(|_| async { std::future::pending().await }).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    let format = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n";
    let proxy = Proxy::start(of_node(Mesh::new(1).target("v1", stalls.address, 1), Some((&path, format)))).await;
    let mut client = proxy.client().await;
    let gone = tokio::time::timeout(Duration::from_millis(50), client.get("/")).await;
    assert!(gone.is_err());
    drop(client);
    written(&path, "0 DC downstream_remote_disconnect\n").await;
}

#[tokio::test]
async fn counts_have_envoys_names() {
    let (good, bad) = (Backend::text("hello").await, Backend::status(503).await);
    let mesh = of_node(Mesh::new(1).target("v1", good.address, 1).target("v2", bad.address, 0).retries(1), None);
    let proxy = Proxy::with(mesh.clone(), |settings| settings.stats_tags = true).await;
    let mut client = proxy.client().await;
    for _ in 0..3 {
        client.get("/").await.unwrap();
    }
    client.request(Method::GET, "other.local", "/", &[]).await.unwrap();
    proxy.publish(&mesh.reweighted(&[0, 1])).await;
    client.get("/").await.unwrap();
    let cluster = |node: &str, port: u16| format!("cluster.cds_egress_m_{node}_http_{port}");
    let (v1, v2) = (cluster("v1", good.address.port()), cluster("v2", bad.address.port()));
    for (name, wanted) in [
        (format!("{v1}.upstream_rq_total"), 3),
        (format!("{v1}.upstream_rq_2xx"), 3),
        (format!("{v1}.upstream_rq_200"), 3),
        (format!("{v1}.upstream_rq_active"), 0),
        (format!("{v1}.membership_healthy"), 1),
        (format!("{v2}.upstream_rq_total"), 2),
        (format!("{v2}.upstream_rq_503"), 1),
        (format!("{v2}.upstream_rq_completed"), 1),
        (format!("{v2}.upstream_rq_retry"), 1),
        (format!("{v2}.upstream_rq_retry_limit_exceeded"), 1),
        ("http.egress.downstream_rq_total".to_owned(), 5),
        ("http.egress.downstream_rq_2xx".to_owned(), 3),
        ("http.egress.downstream_rq_4xx".to_owned(), 1),
        ("http.egress.downstream_rq_5xx".to_owned(), 1),
        ("http.egress.downstream_rq_active".to_owned(), 0),
        ("http.egress.downstream_cx_active".to_owned(), 1),
        ("server.live".to_owned(), 1),
    ] {
        assert_eq!(proxy.stat(&name).await, wanted, "{name}");
    }
    let filtered = proxy.admin(Method::GET, "/stats?format=json&usedonly&filter=egress.downstream_rq_.xx").await;
    let object: Value = serde_json::from_slice(&filtered.body).unwrap();
    let names: Vec<&str> =
        object["stats"].as_array().unwrap().iter().filter_map(|stat| stat["name"].as_str()).collect();
    assert_eq!(names, ["2", "4", "5"].map(|class| format!("http.egress.downstream_rq_{class}xx")));
    let wrong = proxy.admin(Method::GET, "/stats?filter=(").await;
    assert_eq!(wrong.status, 400);
    let text = proxy.admin(Method::GET, "/stats/prometheus").await.text();
    let name = &v2["cluster.".len()..];
    let tags = "appmesh_mesh=\"m\",appmesh_virtual_node=\"web\"";
    for line in [
        format!(
            "envoy_cluster_upstream_rq_xx{{envoy_response_code_class=\"5\",envoy_cluster_name=\"{name}\",{tags}}} 1"
        ),
        format!("envoy_http_downstream_rq_time_count{{envoy_http_conn_manager_prefix=\"egress\",{tags}}} 5"),
    ] {
        assert!(text.lines().any(|each| each == line), "no {line} in\n{text}");
    }
    let clusters = proxy.admin(Method::GET, "/clusters").await.text();
    let endpoint = format!("{name}::{}", bad.address);
    assert!(clusters.contains(&format!("{endpoint}::rq_error::1\n")), "{clusters}");
    let clusters: Value =
        serde_json::from_slice(&proxy.admin(Method::GET, "/clusters?format=json").await.body).unwrap();
    assert_eq!(clusters["cluster_statuses"].as_array().unwrap().len(), 2);
    let dump: Value = serde_json::from_slice(&proxy.admin(Method::GET, "/config_dump").await.body).unwrap();
    assert_eq!(dump["node_config"]["own"]["name"], "web");
}

#[tokio::test]
async fn the_level_of_the_log_is_one_of_envoys_words() {
    let backend = Backend::text("hello").await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let wrong = proxy.admin(Method::POST, "/logging?level=loud").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("it is trace, debug, info, warning, error, critical or off"), "{}", wrong.text());
}

#[tokio::test]
async fn traced_requests_become_segments_and_name_their_trace_to_the_service() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let backend = Backend::http(move |request| {
        let named = ["x-amzn-trace-id", "traceparent"].map(|name| {
            request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        });
        notes.lock().unwrap().push(named);
        async { Response::builder().status(404).body(full("hello")).unwrap() }
    })
    .await;
    let daemon = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = daemon.local_addr().unwrap();
    let mesh = of_node(Mesh::new(1).target("v1", backend.address, 1), None);
    let proxy = Proxy::with(mesh, |settings| {
        let rules = Rules::share(0.0).unwrap();
        let xray = Some(XraySettings { daemon: address, name: None });
        settings.traces = Some(Arc::new(TraceSettings { xray, otlp: None, rules }));
    })
    .await;
    let mut client = proxy.client().await;
    let root = "1-5759e988-bd862e3fe1be46a994272793";
    let came = format!("Root={root};Parent=53995c3f42cd8ad8;Sampled=1");
    client.request(Method::GET, "shop.local", "/a?b", &[("x-amzn-trace-id", &came)]).await.unwrap();
    let mut datagram = [0; 8192];
    let length = tokio::time::timeout(Duration::from_secs(10), daemon.recv(&mut datagram)).await.unwrap().unwrap();
    let text = std::str::from_utf8(&datagram[..length]).unwrap();
    let segment: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    assert_eq!((&segment["trace_id"], &segment["parent_id"]), (&root.into(), &"53995c3f42cd8ad8".into()));
    assert_eq!((&segment["name"], &segment["error"]), (&"m/web".into(), &true.into()));
    assert_eq!(segment["http"]["request"]["url"], "http://shop.local/a?b");
    assert_eq!(segment["http"]["response"], serde_json::json!({ "status": 404, "content_length": 5 }));
    let span = segment["id"].as_str().unwrap();
    let [xray, w3c] = seen.lock().unwrap()[0].clone();
    assert_eq!(xray, format!("Root={root};Parent={span};Sampled=1"));
    assert_eq!(w3c, format!("00-5759e988bd862e3fe1be46a994272793-{span}-01"));
    eventually("it is counted", async || proxy.stat("tracing.xray.spans_sent").await == 1).await;
}

#[tokio::test]
async fn headers_of_traces_pass_as_they_came_where_nothing_is_traced() {
    let backend = Backend::http(|request| async move {
        let all = ["x-amzn-trace-id", "traceparent", "tracestate"].map(|name| request.headers()[name].clone());
        let text = all.iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        Response::new(full(text))
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let headers = [("x-amzn-trace-id", "Root=x"), ("traceparent", "00-y"), ("tracestate", "z=1")];
    let answer = proxy.client().await.request(Method::GET, "shop.local", "/", &headers).await.unwrap();
    assert_eq!(answer.text(), "Root=x 00-y z=1");
}

/// A proxy that tells metrics to an agent so often, and the agent's door.
pub(super) async fn with_agent(backend: &Backend, every: Duration) -> (Proxy, TcpListener) {
    let agent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = EmfTarget::Tcp(agent.local_addr().unwrap());
    let mesh = of_node(Mesh::new(1).target("v1", backend.address, 1), None);
    let proxy = Proxy::with(mesh, |settings| {
        let (namespace, log_group) = ("AppMesh".into(), "group".into());
        settings.emf = Some(EmfSettings { to, namespace, log_group, every });
    });
    (proxy.await, agent)
}

/// Lines of the next connection.
pub(super) async fn lines(agent: &TcpListener) -> Vec<Value> {
    let (mut stream, mut text) = (agent.accept().await.unwrap().0, String::new());
    stream.read_to_string(&mut text).await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn an_agent_gets_app_meshs_metrics() {
    let backend = Backend::text("hello").await;
    let (proxy, agent) = with_agent(&backend, Duration::from_millis(50)).await;
    proxy.client().await.get("/").await.unwrap();
    let found = async {
        loop {
            let all = lines(&agent).await;
            if let Some(line) = all.into_iter().find(|line| line["envoy.appmesh.HTTPCode_Target_2XX_Count"] == 1) {
                return line;
            }
        }
    };
    let line = tokio::time::timeout(Duration::from_secs(10), found).await.unwrap();
    let dimensions = ["Mesh", "VirtualNode", "TargetVirtualService", "TargetVirtualNode"];
    assert_eq!(dimensions.map(|name| line[name].as_str().unwrap()), ["m", "web", "shop.local", "v1"]);
    assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0], serde_json::json!(dimensions));
    assert_eq!(line["envoy.appmesh.TargetResponseTime"]["Count"], 1);
}
