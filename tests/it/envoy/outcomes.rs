//! How each request of a real Envoy counts, whatever became of it: once, for the version that was drawn, as the native proxy
//! would have counted it.

use super::counts::{bootstrap, local};
use crate::kit::envoy::{Envoy, binary};
use crate::kit::ports::steady_port;
use crate::mesh::Running;
use crate::program::service::{Behaviour, Service};
use crate::program::until;
use reqwest::Client;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tidegate::base::tally::{Outcomes, Report};
use tidegate::clock::SystemClock;
use tidegate::discovery::dns::DnsSource;
use tidegate::ports::Telemetry;
use tidegate::xds::counts::Counts;
use tidegate::xds::door::OpenDoor;
use tidegate::xds::registry::Registry;
use tidegate::xds::server::{AdsParts, AdsServer};
use tidegate::xds::source::Source;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const HOST: &str = "checkout.local";

/// A control plane in this process, with an Envoy of the node `front`.
struct Place {
    counts: Counts,
    envoy: Envoy,
    egress: SocketAddr,
    client: Client,
    mesh: Running,
    _stop: watch::Sender<bool>,
}

/// A route to two of the nodes; what is in `more` goes beside its action.
fn route(name: &str, targets: [(&str, u32); 2], more: &Value, tags: &Value) -> Value {
    let target = |(node, weight): (&str, u32)| json!({ "virtualNode": node, "weight": weight });
    let mut spec = json!({
        "match": { "prefix": format!("/{name}") },
        "action": { "weightedTargets": targets.map(target) },
        "timeout": { "perRequest": { "unit": "s", "value": 15 } },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({
        "meshName": "shop", "virtualRouterName": "r", "routeName": name, "tags": tags, "spec": { "httpRoute": spec },
    })
}

fn mesh(stable: u16, canary: u16) -> String {
    let node = |name: &str, port: u16| {
        json!({ "meshName": "shop", "virtualNodeName": name, "spec": {
            "listeners": [{ "portMapping": { "port": port, "protocol": "http" } }],
            "serviceDiscovery": { "dns": { "hostname": "127.0.0.1" } },
        } })
    };
    let (plain, none) = (json!({}), json!([]));
    let retry = |unit: &str, value: u64| {
        json!({
            "maxRetries": 2, "httpRetryEvents": ["server-error"], "perRetryTimeout": { "unit": unit, "value": value },
        })
    };
    let again = json!({ "retryPolicy": retry("s", 15) });
    // Their requests are never answered, so these may be short.
    let short = json!({ "perRequest": { "unit": "ms", "value": 400 } });
    let (silent, silent_again) =
        (json!({ "timeout": short }), json!({ "timeout": short, "retryPolicy": retry("ms", 300) }));
    let by_hand = json!([{ "key": "tidegate:override", "value": "header=x-version" }]);
    let sessions = json!([{ "key": "tidegate:affinity", "value": "header=x-user" }]);
    let fault = json!([{ "key": "tidegate:fault", "value": "abort=503" }]);
    let faulty = json!([{ "key": "tidegate:fault", "value": "abort=503 target=v2" }]);
    let all = [
        json!({ "meshName": "shop", "spec": {} }),
        node("v1", stable),
        node("v2", canary),
        // Nothing listens there.
        node("closed", steady_port()),
        json!({ "meshName": "shop", "virtualNodeName": "nowhere", "spec": {
            "listeners": [{ "portMapping": { "port": 80, "protocol": "http" } }],
        } }),
        json!({ "meshName": "shop", "virtualRouterName": "r", "spec": {
            "listeners": [{ "portMapping": { "port": 9000, "protocol": "http" } }],
        } }),
        route("plain", [("v1", 0), ("v2", 100)], &plain, &none),
        route("again", [("v1", 0), ("v2", 100)], &again, &none),
        route("silent", [("v1", 0), ("v2", 100)], &silent, &none),
        route("silent-again", [("v1", 0), ("v2", 100)], &silent_again, &none),
        route("closed", [("v1", 0), ("closed", 1)], &plain, &none),
        route("nowhere", [("v1", 0), ("nowhere", 1)], &plain, &none),
        route("split", [("v1", 90), ("v2", 10)], &plain, &by_hand),
        route("user", [("v1", 50), ("v2", 50)], &plain, &sessions),
        route("fault", [("v1", 50), ("v2", 50)], &plain, &fault),
        route("faulty", [("v1", 0), ("v2", 50)], &plain, &faulty),
        json!({ "meshName": "shop", "virtualRouterName": "r", "routeName": "alone", "spec": { "httpRoute": {
            "match": { "prefix": "/alone" }, "action": { "weightedTargets": [{ "virtualNode": "v1", "weight": 1 }] },
        } } }),
        json!({ "meshName": "shop", "virtualServiceName": HOST, "spec": {
            "provider": { "virtualRouter": { "virtualRouterName": "r" } },
        } }),
        json!({ "meshName": "shop", "virtualNodeName": "front", "spec": {
            "backends": [{ "virtualService": { "virtualServiceName": HOST } }],
        } }),
    ];
    all.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

impl Place {
    async fn start(stable: u16, canary: u16) -> Option<Self> {
        binary().await?;
        let running = Running::start().await;
        let documents = tidegate::mesh::document::parse("mesh.yaml", &mesh(stable, canary)).unwrap();
        running.control.load_documents(&documents, false).await.unwrap();
        let (counts, (stop, stopping)) = (Counts::default(), watch::channel(false));
        let (_, secrets) = watch::channel(Arc::default());
        let server = AdsServer::new(AdsParts {
            source: Source::new(running.control.clone(), Arc::new(DnsSource), secrets),
            registry: Registry::default(),
            counts: counts.clone(),
            door: Arc::new(OpenDoor),
            clock: Arc::new(SystemClock),
            names_here: false,
            per_resource: usize::MAX,
            tls: None,
            stopping,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let xds = listener.local_addr().unwrap();
        tokio::spawn(server.serve(listener));
        let egress = steady_port();
        let mut envoy = Envoy::start(&bootstrap("front", xds, egress, &[])).await?;
        envoy.wait_ready().await;
        let client = Client::builder().no_proxy().build().unwrap();
        Some(Self { counts, envoy, egress: local(egress), client, mesh: running, _stop: stop })
    }

    /// Requests, one after the other, each to its end. Answers that break off are none.
    async fn ask(&self, times: u64, path: &str, headers: &[(&str, &str)]) {
        for _ in 0..times {
            let request = self.client.get(format!("http://{}{path}", self.egress)).header("host", HOST);
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            if let Ok(answer) = request.send().await {
                let _ = answer.bytes().await;
            }
        }
    }

    async fn report(&self) -> Report {
        let reports = self.counts.reports().await.unwrap();
        let [report] = &reports[..] else { panic!("one Envoy is connected: {reports:?}") };
        report.clone()
    }

    /// What was counted of a node on a route.
    async fn outcomes(&self, route: &str, node: &str) -> Outcomes {
        let mut all = Outcomes::default();
        for series in self.report().await.series {
            if series.key.route.route == route && series.key.target == node {
                all.add(&series.outcomes);
            }
        }
        all
    }

    /// Asks so often and waits for what is counted of it.
    async fn counts(&self, times: u64, path: &str, node: &str, expected: Outcomes) {
        let route = path.trim_start_matches('/');
        let before = self.outcomes(route, node).await;
        self.ask(times, path, &[]).await;
        let mut now = before;
        until("its requests are counted", async || {
            now = self.outcomes(route, node).await;
            (now.requests - before.requests >= expected.requests).then_some(())
        })
        .await;
        let mut wanted = before;
        wanted.add(&expected);
        assert_eq!(now, wanted, "{path}, {}", self.envoy.log());
    }
}

const fn outcomes(requests: u64, status_5xx: u64, reset: u64, timeout: u64) -> Outcomes {
    Outcomes { requests, status_5xx, reset, timeout }
}

#[tokio::test]
async fn every_end_of_a_request_counts_once_and_as_what_it_was() {
    let (stable, canary) = (Service::start("v1").await, Service::start("v2").await);
    let Some(place) = Place::start(stable.address.port(), canary.address.port()).await else { return };
    for (behaviour, expected) in [
        (Behaviour::Good, outcomes(10, 0, 0, 0)),
        (Behaviour::FailsEvery(1), outcomes(10, 10, 0, 0)),
        (Behaviour::Gone, outcomes(10, 0, 10, 0)),
        (Behaviour::CutsOff, outcomes(10, 0, 10, 0)),
    ] {
        canary.behave(behaviour);
        place.counts(expected.requests, "/plain", "v2", expected).await;
    }
    canary.behave(Behaviour::Silent);
    place.counts(3, "/silent", "v2", outcomes(3, 0, 0, 3)).await;
    // The last try decides, and no other is counted.
    canary.behave(Behaviour::FailsEvery(2));
    let tries = canary.requests();
    place.counts(10, "/again", "v2", outcomes(10, 0, 0, 0)).await;
    assert!(canary.requests() - tries >= 15, "some were tried again");
    canary.behave(Behaviour::FailsEvery(1));
    place.counts(5, "/again", "v2", outcomes(5, 5, 0, 0)).await;
    canary.behave(Behaviour::Silent);
    place.counts(1, "/silent-again", "v2", outcomes(1, 0, 0, 1)).await;
    canary.behave(Behaviour::Good);
    // No connection, no endpoint: they count for the version that was drawn.
    place.counts(5, "/closed", "closed", outcomes(5, 0, 5, 0)).await;
    place.counts(5, "/nowhere", "nowhere", outcomes(5, 0, 5, 0)).await;
    // On purpose: a fault of one version is that version's.
    place.counts(5, "/faulty", "v2", outcomes(5, 5, 0, 0)).await;
    what_is_not_judged(&place, &canary).await;
}

/// Requests of these kinds, and then one that is: nothing else came before it.
async fn what_is_not_judged(place: &Place, canary: &Service) {
    // Before the clients that go away: whatever is told of them comes before what is told of the last request.
    let before = place.outcomes("plain", "v2").await;
    canary.behave(Behaviour::Silent);
    for _ in 0..3 {
        let before = canary.requests();
        let mut stream = TcpStream::connect(place.egress).await.unwrap();
        stream.write_all(format!("GET /plain HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        until("it arrives", async || (canary.requests() > before).then_some(())).await;
    }
    canary.behave(Behaviour::Good);
    place.ask(5, "/split", &[("x-version", "v2")]).await;
    place.ask(5, "/fault", &[]).await;
    place.ask(5, "/alone", &[]).await;
    place.ask(5, "/elsewhere", &[]).await;
    place.ask(20, "/user", &[("x-user", "ann")]).await;
    place.ask(1, "/plain", &[]).await;
    let mut now = before;
    until("it is counted", async || {
        now = place.outcomes("plain", "v2").await;
        (now.requests > before.requests).then_some(())
    })
    .await;
    let mut wanted = before;
    wanted.add(&outcomes(1, 0, 0, 0));
    assert_eq!(now, wanted, "the clients that went away count nowhere");
    let report = place.report().await;
    let judged = |route: &str| report.series.iter().any(|series| series.key.route.route == route);
    for route in ["split", "fault", "alone", "user"] {
        assert!(!judged(route), "{route}: {report:?}");
    }
    let of_sessions: u64 = report.raw.iter().map(|series| series.outcomes.requests).sum();
    assert_eq!(of_sessions, 20);
    let shares: Vec<f64> = report.series.iter().map(|series| series.share).collect();
    assert!(shares.iter().all(|share| *share == 1.0), "{shares:?}");
    let plain = report.series.iter().find(|series| series.key.route.route == "plain").unwrap();
    assert_eq!(plain.key.endpoint, canary.address.to_string());
    assert!(plain.latency.quantile_us(1.0).is_some_and(|slowest| slowest < 15_000_000), "{:?}", plain.latency);
}

/// Which version it goes by, and that it says so without a request.
#[tokio::test]
async fn an_envoy_says_by_which_weights_it_routes() {
    let (stable, canary) = (Service::start("v1").await, Service::start("v2").await);
    let Some(place) = Place::start(stable.address.port(), canary.address.port()).await else { return };
    let version = async || {
        let report = place.report().await;
        report.applied.into_iter().find(|(route, _)| route.route == "plain").map(|(_, version)| version)
    };
    until("it has the first version", async || (version().await == Some(1)).then_some(())).await;
    let changed = route("plain", [("v1", 75), ("v2", 25)], &json!({}), &json!([])).to_string();
    let documents = tidegate::mesh::document::parse("change.yaml", &changed).unwrap();
    place.mesh.control.load_documents(&documents, true).await.unwrap();
    until("it has the second version", async || (version().await == Some(2)).then_some(())).await;
    place.ask(40, "/plain", &[]).await;
    until("both versions were asked", async || {
        let [v1, v2] = [place.outcomes("plain", "v1").await, place.outcomes("plain", "v2").await];
        (v1.requests + v2.requests == 40).then_some(())
    })
    .await;
    for series in place.report().await.series {
        let share = if series.key.target == "v1" { 0.75 } else { 0.25 };
        assert_eq!((series.key.version, series.share), (2, share));
    }
    assert_eq!(place.envoy.stats("listener_manager.listener_modified").await, Some(0));
}
