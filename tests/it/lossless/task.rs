//! A control plane, two versions of a service, an application, and `tidegate proxy` beside it: all on 127.0.0.1.

use crate::kit::echo::Echo;
use crate::kit::ports::steady_port;
use crate::program::{Process, command, until};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use tempfile::TempDir;

pub(super) const HOST: &str = "checkout.local";

fn route([v1, v2]: [u32; 2]) -> Value {
    let targets = json!([{ "virtualNode": "v1", "weight": v1 }, { "virtualNode": "v2", "weight": v2 }]);
    json!({ "httpRoute": { "match": { "prefix": "/" }, "action": { "weightedTargets": targets } } })
}

/// A gateway with a listener on this port.
fn front(port: u16) -> Value {
    json!({ "listeners": [{ "portMapping": { "port": port, "protocol": "http" } }] })
}

/// The mesh: v1 speaks HTTP/1.1 and v2 HTTP/2. JSON documents are YAML ones too.
fn mesh([v1, v2, application]: [u16; 3], gateway: u16) -> String {
    let node = |name: &str, port: u16, protocol: &str, backends: Value| {
        let listener = json!({ "portMapping": { "port": port, "protocol": protocol } });
        let discovery = json!({ "dns": { "hostname": "127.0.0.1" } });
        let spec = json!({ "listeners": [listener], "serviceDiscovery": discovery, "backends": backends });
        json!({ "meshName": "shop", "virtualNodeName": name, "spec": spec })
    };
    let listener = json!({ "portMapping": { "port": 9000, "protocol": "http" } });
    let router = json!({ "virtualRouter": { "virtualRouterName": "checkout" } });
    let target = json!({ "target": { "virtualService": { "virtualServiceName": HOST } } });
    let everything = json!({ "httpRoute": { "match": { "prefix": "/" }, "action": target } });
    let documents = [
        json!({ "meshName": "shop" }),
        node("v1", v1, "http", json!([])),
        node("v2", v2, "http2", json!([])),
        json!({ "meshName": "shop", "virtualRouterName": "checkout", "spec": { "listeners": [listener] } }),
        json!({ "meshName": "shop", "virtualRouterName": "checkout", "routeName": "main", "spec": route([50, 50]) }),
        json!({ "meshName": "shop", "virtualServiceName": HOST, "spec": { "provider": router } }),
        node("web", application, "http", json!([{ "virtualService": { "virtualServiceName": HOST } }])),
        json!({ "meshName": "shop", "virtualGatewayName": "front", "spec": front(gateway) }),
        json!({ "meshName": "shop", "virtualGatewayName": "front", "gatewayRouteName": "all", "spec": everything }),
    ];
    documents.map(|document| document.to_string()).join("\n---\n")
}

/// Everything but the proxy.
pub(super) struct Task {
    folder: TempDir,
    http: reqwest::Client,
    /// Of the App Mesh API, of xDS, of the proxy's egress, ingress and admin pages, and of the gateway.
    ports: [u16; 7],
    control: Option<Process>,
    services: Vec<Echo>,
}

impl Task {
    pub(super) async fn start() -> Self {
        let services = vec![
            Echo::start("v1", false).await,
            Echo::start("v2", true).await,
            Echo::start("application", false).await,
        ];
        let folder = TempDir::with_prefix("tidegate-lossless-").unwrap();
        let services_at = [0, 1, 2].map(|at: usize| services[at].address.port());
        let ports = [(); 7].map(|()| steady_port());
        std::fs::write(folder.path().join("mesh.yaml"), mesh(services_at, ports[5])).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut task = Self { folder, http, ports, control: None, services };
        task.start_control().await;
        task
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) async fn start_control(&mut self) {
        let [appmesh, xds] = [0, 1].map(|at| format!("127.0.0.1:{}", self.ports[at]));
        let mut command = command(&["local", "--output", "json", "--appmesh", &appmesh, "--xds", &xds]);
        for face in ["--api", "--egress", "--admin"] {
            command.args([face, "127.0.0.1:0"]);
        }
        command.arg("--data-dir").arg(self.path("data")).arg("--policies").arg(self.path("policies"));
        // Its own proxy is no gateway then.
        command.arg("--mesh").arg(self.path("mesh.yaml")).args(["--as", "shop/web"]);
        let mut control = Process::spawn(command);
        control.addresses().await;
        self.control = Some(control);
    }

    pub(super) async fn kill_control(&mut self) {
        self.control.take().unwrap().kill().await;
    }

    /// The proxy's address: 0 for the egress, 1 for the ingress, 2 for the admin pages; 3 for the gateway's port, and 4 for one
    /// that it may have.
    pub(super) fn address(&self, at: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[2 + at]))
    }

    /// Starts a proxy on the task's addresses.
    pub(super) fn proxy(&self) -> Process {
        Process::spawn(self.command("virtualNode/web"))
    }

    /// Starts the gateway.
    pub(super) fn gateway(&self) -> Process {
        Process::spawn(self.command("virtualGateway/front"))
    }

    /// A proxy, or the gateway, on the task's addresses.
    pub(super) fn command(&self, resource: &str) -> tokio::process::Command {
        let control_plane = format!("http://127.0.0.1:{}", self.ports[1]);
        let node = format!("mesh/shop/{resource}");
        let mut command = command(&["proxy", "--output", "json", "--node", &node, "--control-plane", &control_plane]);
        for (at, face) in ["--egress", "--ingress", "--admin"].into_iter().enumerate() {
            command.args([face, &self.address(at).to_string()]);
        }
        command.args(["--workers", "2", "--hot-restart"]).arg(self.path("hot"));
        command.arg("--state").arg(self.path("state.json"));
        command
    }

    /// Moves the gateway to this of its two ports.
    pub(super) async fn move_gateway(&self, at: usize) {
        let url = format!("http://127.0.0.1:{}/v20190125/meshes/shop/virtualGateways/front", self.ports[0]);
        let spec = front(self.ports[2 + at]);
        until("the gateway is written", async || {
            let answer = self.http.put(&url).json(&json!({ "spec": spec })).send().await.ok()?;
            assert!(answer.status() == 200 || answer.status() == 503, "{}", answer.status());
            (answer.status() == 200).then_some(())
        })
        .await;
    }

    /// A proxy that serves.
    pub(super) async fn serving(&self) -> Process {
        let mut proxy = self.proxy();
        proxy.listening(3).await;
        proxy
    }

    /// Ends the second version: whoever is sent there gets no answer.
    pub(super) async fn end_v2(&mut self) {
        self.services.remove(1).drain().await;
    }

    /// Asks until it is done: on a machine whose disk is busy for seconds, a change is refused with 503 "try again".
    pub(super) async fn split(&self, weights: [u32; 2]) {
        self.split_with(weights, HeaderMap::new()).await;
    }

    /// The same, under a fuse.
    pub(super) async fn arm(&self, weights: [u32; 2], fuse: &'static str) {
        let header = (HeaderName::from_static("x-tidegate-fuse"), HeaderValue::from_static(fuse));
        self.split_with(weights, HeaderMap::from_iter([header])).await;
    }

    async fn split_with(&self, weights: [u32; 2], headers: HeaderMap) {
        let url =
            format!("http://127.0.0.1:{}/v20190125/meshes/shop/virtualRouter/checkout/routes/main", self.ports[0]);
        until("the route is written", async || {
            let asked = self.http.put(&url).headers(headers.clone()).json(&json!({ "spec": route(weights) }));
            let answer = asked.send().await.ok()?;
            assert!(answer.status() == 200 || answer.status() == 503, "{}", answer.status());
            (answer.status() == 200).then_some(())
        })
        .await;
    }

    /// A page of the proxy that answers now. `None` for every other answer than 200.
    pub(super) async fn page(&self, path: &str) -> Option<String> {
        // A connection of its own: one that is kept would go on asking the process that it was made to.
        let asked = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        let answer = asked.get(format!("http://{}{path}", self.address(2))).send().await.ok()?;
        if answer.status() == 200 { answer.text().await.ok() } else { None }
    }

    /// Weights by the configuration in force.
    pub(super) async fn weights(&self) -> Option<[u32; 2]> {
        let dump: Value = serde_json::from_str(&self.page("/config_dump").await?).ok()?;
        let service = dump["services"].as_array()?.iter().find(|service| service["name"] == HOST)?;
        let targets = &service["routes"][0]["targets"];
        let weight = |at: usize| u32::try_from(targets[at]["weight"].as_u64()?).ok();
        Some([weight(0)?, weight(1)?])
    }

    /// The name under which the proxy counts that answers now.
    pub(super) async fn name(&self) -> String {
        let report = self.page("/tidegate/report").await.expect("the admin pages are always somebody's");
        let report: Value = serde_json::from_str(&report).unwrap();
        crate::program::text(&report["proxy"])
    }
}
