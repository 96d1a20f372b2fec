//! Mixed traffic with faults through `tidegate proxy`, after which nothing has grown. `make soak` runs it for 20 minutes.
//!
//! HTTP/1.1, HTTP/2, WebSockets and carried connections; endpoints that reset, stall, talk nonsense, die and are replaced by
//! others; clients that give up. Beside them runs load on good endpoints, of which every answer is checked.
//!
//! **What flat means.** Memory: resident size from `/proc/PID/status`, twice a second. The first third of the time is warm-up
//! (pools, buffers and the allocator's own pages fill up). Of the rest the median of the last quarter may be above that of
//! the first by a tenth and 3 MiB: an allocator's noise, while a leak grows with every request, and in 20 minutes a
//! million of them are made. Descriptors: once clients and endpoints are gone there are as many as before the first request, from
//! `/proc/PID/fd`; no tolerance. Neither looks at how long anything took.

mod faulty;

use crate::kit::echo::Echo;
use crate::kit::ports::steady_port;
use crate::kit::steady::Steady;
use crate::program::{Process, command, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Unless `TIDEGATE_SOAK_SECONDS` says otherwise.
const SECONDS: u64 = 20;
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// What an allocator may hold more of at one time than at another.
const NOISE_KIB: u64 = 3 * 1024;

/// A mesh of these services, each of one node by its name: its port by discovery, its protocol, and whether its route has
/// a timeout and retries.
fn mesh(services: &[(&'static str, &str)], application: u16) -> String {
    let node = |name: &str, hostname: &str, (port, protocol): (u16, &str), backends: Vec<Value>| {
        let listener = json!({ "portMapping": { "port": port, "protocol": protocol } });
        let discovery = json!({ "dns": { "hostname": hostname } });
        let spec = json!({ "listeners": [listener], "serviceDiscovery": discovery, "backends": backends });
        json!({ "meshName": "soak", "virtualNodeName": name, "spec": spec })
    };
    let mut documents = vec![json!({ "meshName": "soak" }), node("carrier", "127.0.0.1", (application, "tcp"), vec![])];
    let mut backends = Vec::new();
    for (host, protocol) in services {
        let name = host.trim_end_matches(".local");
        let listener = json!({ "portMapping": { "port": 80, "protocol": "http" } });
        let action = json!({ "weightedTargets": [{ "virtualNode": name, "weight": 1 }] });
        let timeout = json!({ "perRequest": { "value": 300, "unit": "ms" } });
        let events = ["server-error", "gateway-error", "stream-error"];
        let retry =
            json!({ "maxRetries": 2, "perRetryTimeout": { "value": 100, "unit": "ms" }, "httpRetryEvents": events });
        let mut route = json!({ "match": { "prefix": "/" }, "action": action });
        if name.starts_with("bad") {
            route["timeout"] = timeout;
            route["retryPolicy"] = retry;
        }
        let provider = json!({ "virtualRouter": { "virtualRouterName": name } });
        documents.extend([
            node(name, host, (80, protocol), vec![]),
            json!({ "meshName": "soak", "virtualRouterName": name, "spec": { "listeners": [listener] } }),
            json!({ "meshName": "soak", "virtualRouterName": name, "routeName": "all", "spec": { "httpRoute": route } }),
            json!({ "meshName": "soak", "virtualServiceName": host, "spec": { "provider": provider } }),
        ]);
        backends.push(json!({ "virtualService": { "virtualServiceName": host } }));
    }
    documents.push(node("web", "127.0.0.1", (8000, "http"), backends));
    documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

const SERVICES: [(&str, &str); 5] = [
    ("good.local", "http"),
    ("fast.local", "http2"),
    ("bad.local", "http"),
    ("bad2.local", "http2"),
    ("chat.local", "http"),
];

/// A folder with the mesh and the file of discovery, and a control plane.
struct Plane {
    folder: TempDir,
    xds: SocketAddr,
    _control: Process,
}

impl Plane {
    async fn start(application: SocketAddr, endpoints: &BTreeMap<&str, SocketAddr>) -> Self {
        let folder = TempDir::with_prefix("tidegate-soak-").unwrap();
        std::fs::write(folder.path().join("mesh.yaml"), mesh(&SERVICES, application.port())).unwrap();
        let xds = SocketAddr::from(([127, 0, 0, 1], steady_port()));
        let mut command = command(&["local", "--output", "json", "--xds", &xds.to_string()]);
        for face in ["--api", "--appmesh", "--egress", "--admin"] {
            command.args([face, "127.0.0.1:0"]);
        }
        for (option, name) in [("--data-dir", "data"), ("--policies", "policies"), ("--mesh", "mesh.yaml")] {
            command.arg(option).arg(folder.path().join(name));
        }
        list(&folder, endpoints);
        command.arg("--discovery").arg(folder.path().join("discovery.yaml"));
        let mut control = Process::spawn(command);
        control.addresses().await;
        Self { folder, xds, _control: control }
    }

    async fn proxy(&self, node: &str) -> (Process, BTreeMap<String, SocketAddr>) {
        let (node, xds) = (format!("mesh/soak/virtualNode/{node}"), format!("http://{}", self.xds));
        let mut command =
            command(&["proxy", "--output", "json", "--workers", "2", "--node", &node, "--control-plane", &xds]);
        for face in ["--egress", "--ingress", "--admin"] {
            command.args([face, "127.0.0.1:0"]);
        }
        command.arg("--discovery").arg(self.folder.path().join("discovery.yaml"));
        let mut proxy = Process::spawn(command);
        let addresses = proxy.listening(3).await;
        (proxy, addresses)
    }
}

/// Writes where services are; those that are not named have no endpoint.
fn list(folder: &TempDir, endpoints: &BTreeMap<&str, SocketAddr>) {
    let of = |name: &str| endpoints.get(name).map(ToString::to_string).into_iter().collect::<Vec<_>>();
    let dns: BTreeMap<&str, Vec<String>> = SERVICES.iter().map(|(name, _)| (*name, of(name))).collect();
    let whole = folder.path().join("discovery.new");
    std::fs::write(&whole, json!({ "dns": dns }).to_string()).unwrap();
    // At once, so that nobody reads half of it.
    std::fs::rename(whole, folder.path().join("discovery.yaml")).unwrap();
}

/// Resident memory in KiB, and descriptors.
fn size(process: &Process) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident = line.trim().trim_end_matches(" kB").parse().unwrap();
    (resident, std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap().count())
}

fn median(samples: &[(u64, usize)]) -> u64 {
    let mut sizes: Vec<u64> = samples.iter().map(|(resident, _)| *resident).collect();
    sizes.sort_unstable();
    sizes[sizes.len() / 2]
}

/// Says what a process took, and fails when its memory grew.
#[track_caller]
fn expect_flat(what: &str, before: (u64, usize), samples: &[(u64, usize)], requests: u64) {
    let warm = &samples[samples.len() / 3..];
    let quarter = warm.len().div_ceil(4);
    let (early, late) = (median(&warm[..quarter]), median(&warm[warm.len() - quarter..]));
    let descriptors = samples.iter().map(|(_, descriptors)| *descriptors).max().unwrap();
    #[expect(clippy::print_stderr, reason = "the figures are what a long run is made for")]
    {
        let (idle_kib, idle_fds) = before;
        eprintln!(
            "{what}: {requests} exchanges; KiB idle {idle_kib}, warm {early}, at the end {late}; descriptors {idle_fds}, at \
             most {descriptors}"
        );
    }
    assert!(late <= early + early / 10 + NOISE_KIB, "{what} grew: {samples:?}");
}

/// Waits until a process has no more descriptors than when it was idle.
async fn expect_closed(process: &Process, before: usize, admin: SocketAddr) {
    until("every descriptor is given back", async || (size(process).1 <= before).then_some(())).await;
    // By a connection of the page's own.
    let stats = reqwest::get(format!("http://{admin}/stats")).await.unwrap().text().await.unwrap();
    assert!(stats.contains("downstream.connections_active: 0\n"), "{stats}");
}

struct Faults {
    stop: Arc<AtomicBool>,
    done: [Arc<AtomicU64>; 2],
    clients: Vec<JoinHandle<()>>,
}

impl Faults {
    /// To an egress, and to an ingress of connections.
    fn start(egress: SocketAddr, ingress: SocketAddr) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let done: [Arc<AtomicU64>; 2] = Default::default();
        let mut clients = Vec::new();
        for host in ["good.local", "bad.local", "bad2.local", "nobody.local"] {
            clients.push(faulty::client(egress, &stop, &done[0], move |stream, n| faulty::ask(host, stream, n)));
            clients.push(faulty::client(egress, &stop, &done[0], move |stream, n| faulty::ask_http2(host, stream, n)));
        }
        clients.push(faulty::client(egress, &stop, &done[0], |stream, n| faulty::chat(Some("chat.local"), stream, n)));
        clients.push(faulty::client(ingress, &stop, &done[1], |stream, n| faulty::chat(None, stream, n)));
        Self { stop, done, clients }
    }

    async fn stop(self) -> [u64; 2] {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        self.done.map(|done| done.load(Ordering::Relaxed))
    }
}

#[expect(clippy::disallowed_methods, reason = "how long is for whoever runs the tests to say")]
fn seconds() -> u64 {
    std::env::var("TIDEGATE_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_traffic_with_faults_leaves_nothing_behind() {
    let (mut good, fast) = (Echo::start("good", false).await, Echo::start("fast", true).await);
    let [bad, bad2, chat, tcp] =
        [faulty::http1().await, faulty::http2().await, faulty::websocket().await, faulty::tcp().await];
    let mut endpoints = BTreeMap::from([
        ("good.local", good.address),
        ("fast.local", fast.address),
        ("bad.local", bad.0),
        ("bad2.local", bad2.0),
        ("chat.local", chat.0),
    ]);
    let plane = Plane::start(tcp.0, &endpoints).await;
    let ((web, at), (carrier, carrier_at)) = (plane.proxy("web").await, plane.proxy("carrier").await);
    let before = [size(&web), size(&carrier)];

    let steady = [Steady::start(at["egress"], "good.local"), Steady::start(at["egress"], "fast.local")];
    let faults = Faults::start(at["egress"], carrier_at["ingress"]);
    let mut samples = [Vec::new(), Vec::new()];
    let rounds = seconds() * 1000 / u64::try_from(SAMPLE_EVERY.as_millis()).unwrap();
    for round in 0..rounds {
        tokio::time::sleep(SAMPLE_EVERY).await;
        samples[0].push(size(&web));
        samples[1].push(size(&carrier));
        // Look-ups are 5 s apart: the one before goes when nobody is sent there any more.
        if round % 24 == 12 {
            let next = Echo::start("good", false).await;
            endpoints.insert("good.local", next.address);
            list(&plane.folder, &endpoints);
            let before = std::mem::replace(&mut good, next);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(7)).await;
                before.drain().await;
            });
        }
    }
    let mut requests = 0;
    for steady in steady {
        let seen = steady.stop().await;
        seen.expect_whole();
        requests += seen.total();
    }
    let [done, carried] = faults.stop().await;
    assert!(done > 0 && carried > 0, "{done} {carried}");
    expect_flat("the proxy of requests", before[0], &samples[0], requests + done);
    expect_flat("the proxy of connections", before[1], &samples[1], carried);
    // No endpoints, so nothing is kept for them.
    list(&plane.folder, &BTreeMap::new());
    expect_closed(&web, before[0].1, at["admin"]).await;
    expect_closed(&carrier, before[1].1, carrier_at["admin"]).await;
    assert_eq!(web.terminate().await, Some(0));
    assert_eq!(carrier.terminate().await, Some(0));
}
