//! Data planes that cases are tried on, and the control plane that configures them.

use super::case::{Case, Group, Places, Proxy, Updates};
use crate::kit::envoy::Envoy;
use crate::program::{FREE_PORTS, Process, command, finish, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// File of the endpoints that the control plane knows.
const DISCOVERY: &str = "discovery.yaml";

/// What runs the proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    /// A real Envoy, which is configured over xDS.
    Envoy,
    /// The native proxy, in a process of its own.
    Native,
}

impl Plane {
    pub(super) const ALL: [Self; 2] = [Self::Envoy, Self::Native];

    /// Its name in `only` of a case.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::Native => "native",
        }
    }

    /// Whether it is one of those that something is tried on; without a list it is.
    pub(super) fn is_among(self, only: Option<&[String]>) -> bool {
        only.is_none_or(|only| only.iter().any(|name| name == self.word()))
    }
}

/// A control plane and its proxies, ready to take requests.
pub(super) struct Running {
    api: SocketAddr,
    mesh: SocketAddr,
    proxies: BTreeMap<String, (Proxy, Envoy)>,
    natives: BTreeMap<String, (Proxy, Process)>,
    _control: Process,
}

impl Running {
    /// Starts all of it.
    pub(super) async fn start(plane: Plane, group: &Group, places: &mut Places) -> Self {
        let mut control = control(group, &places.folder);
        let addresses = control.addresses().await;
        let mut proxies = BTreeMap::new();
        for (name, proxy) in group.proxies.iter().filter(|_| plane == Plane::Envoy) {
            let ports = ["egress", "ingress"].map(|side| places.port(&format!("{name}.{side}")));
            let envoy = Envoy::start(&bootstrap(proxy, ports, addresses["xds"])).await.unwrap();
            proxies.insert(name.clone(), (proxy.clone(), envoy));
        }
        for (_, envoy) in proxies.values_mut() {
            envoy.wait_ready().await;
        }
        let mut natives = BTreeMap::new();
        for (name, proxy) in group.proxies.iter().filter(|_| plane == Plane::Native) {
            let ports = ["egress", "ingress"].map(|side| places.port(&format!("{name}.{side}")));
            let discovery = group.discovery.as_ref().map(|_| places.folder.join(DISCOVERY));
            let mut native = Process::spawn(native(proxy, ports, addresses["xds"], discovery.as_deref()));
            native.listening(2 + listeners(group, proxy)).await;
            natives.insert(name.clone(), (proxy.clone(), native));
        }
        Self { api: addresses["api"], mesh: addresses["appmesh"], proxies, natives, _control: control }
    }

    /// Changes the mesh, and where its endpoints are.
    pub(super) async fn change(&self, case: &Case, folder: &Path) {
        if let Some(discovery) = &case.discovery {
            written(folder, DISCOVERY, &discovery.to_string());
        }
        if !case.change.is_empty() {
            let file = written(folder, "change.yaml", &documents(&case.change));
            let endpoint = format!("http://{}", self.mesh);
            let mut command = command(&["mesh", "apply", "--weights", "-f", &file, "--endpoint-url", &endpoint]);
            command.env("TIDEGATE_SERVER", format!("http://{}", self.api));
            finish(command).await.expect(0);
        }
    }

    /// Fails unless every proxy took everything that it was sent.
    pub(super) async fn check(&self) -> Result<(), String> {
        for (name, (proxy, envoy)) in &self.proxies {
            self.acknowledged(proxy, &["CDS", "LDS"]).await;
            let (_, text) = envoy.admin_get("/stats?filter=update_rejected").await;
            if let Some(line) = text.lines().find(|line| !line.ends_with(": 0")) {
                return Err(format!("{name} did not take something: {line}\n{}", envoy.log()));
            }
            let dump = envoy.config_dump().await.to_string();
            if dump.contains("\"error_state\"") {
                return Err(format!("{name} did not take something: {dump}"));
            }
        }
        for (proxy, _) in self.natives.values() {
            self.acknowledged(proxy, &["native"]).await;
        }
        Ok(())
    }

    /// Waits until the control plane knows that a proxy has the newest of each type, and asked for these.
    async fn acknowledged(&self, proxy: &Proxy, needs: &[&str]) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/v1/mesh/proxies", self.api);
        until("a proxy acknowledges everything", async || {
            let answer: Value = client.get(&url).send().await.ok()?.json().await.ok()?;
            let all = answer["proxies"].as_array()?.iter().filter(|found| found["resource"] == resource(proxy));
            let standings: Vec<&Value> = all.collect();
            (!standings.is_empty() && standings.into_iter().all(|found| has_everything(found, needs))).then_some(())
        })
        .await;
    }
}

/// Whether a proxy has the newest of each type; one that refused something never will.
fn has_everything(proxy: &Value, needs: &[&str]) -> bool {
    let types: Vec<(&String, &Value)> = proxy["types"].as_object().into_iter().flatten().collect();
    assert!(types.iter().all(|(_, standing)| standing["rejected"].is_null()), "{proxy}");
    assert_eq!(proxy["problems"], json!([]), "{proxy}");
    // A proxy of connections alone asks for no routes.
    let asked = needs.iter().all(|kind| types.iter().any(|(name, _)| name == kind));
    let taken = |standing: &Value| standing["version"].is_string() && standing["version"] == standing["acknowledged"];
    asked && types.iter().all(|(_, standing)| taken(standing))
}

fn resource(proxy: &Proxy) -> String {
    match (&proxy.node, &proxy.gateway) {
        (Some(node), _) => format!("mesh/{}/virtualNode/{node}", proxy.mesh),
        (None, Some(gateway)) => format!("mesh/{}/virtualGateway/{gateway}", proxy.mesh),
        (None, None) => panic!("a proxy is that of a node or of a gateway"),
    }
}

/// How many ports a proxy takes what comes in on: a node has one, a gateway those of its listeners.
fn listeners(group: &Group, proxy: &Proxy) -> usize {
    let Some(gateway) = &proxy.gateway else { return 1 };
    let is_it =
        |document: &&Value| document["virtualGatewayName"] == **gateway && document["gatewayRouteName"].is_null();
    let found = group.mesh.iter().find(is_it);
    found.and_then(|document| document["spec"]["listeners"].as_array()).map_or(0, Vec::len)
}

/// Writes a file; answers its path.
fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Documents as a file of them: JSON is YAML.
fn documents(all: &[Value]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n")
}

fn control(group: &Group, folder: &Path) -> Process {
    let mesh = written(folder, "mesh.yaml", &documents(&group.mesh));
    let (data, policies) = (folder.join("data"), folder.join("policies"));
    let mut command = command(&["local", "--output", "json", "--mesh", &mesh, "--data-dir"]);
    // Its own proxy is no gateway then: those that are tried have the ports.
    command.arg(data).arg("--policies").arg(policies).args(["--as", "nobody/nobody"]);
    command.args(FREE_PORTS);
    if let Some(discovery) = &group.discovery {
        command.args(["--discovery", &written(folder, DISCOVERY, &discovery.to_string())]);
    }
    Process::spawn(command)
}

/// A native proxy.
fn native(proxy: &Proxy, ports: [u16; 2], xds: SocketAddr, discovery: Option<&Path>) -> tokio::process::Command {
    let [egress, ingress] = ports.map(|port| format!("127.0.0.1:{port}"));
    let (node, control_plane) = (resource(proxy), format!("http://{xds}"));
    let mut command = command(&["proxy", "--output", "json", "--node", &node, "--control-plane", &control_plane]);
    command.args(["--egress", &egress, "--ingress", &ingress, "--admin", "127.0.0.1:0"]);
    if let Some(file) = discovery {
        command.arg("--discovery").arg(file);
    }
    command
}

/// What an Envoy has to know to ask for the rest.
fn bootstrap(proxy: &Proxy, [egress, ingress]: [u16; 2], xds: SocketAddr) -> Value {
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let form = if proxy.updates == Updates::Delta { "DELTA_GRPC" } else { "GRPC" };
    let stream = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let http2 = json!({
        "@type": format!("type.googleapis.com/{options}"),
        "explicit_http_config": { "http2_protocol_options": {} },
    });
    let [egress, ingress] = [egress, ingress].map(|port| format!("127.0.0.1:{port}"));
    // With the log that counts are made of, as bootstraps of `tidegate envoy bootstrap` ask for it.
    let listens = json!({ "egress": egress, "ingress": ingress, "reports_to": "control" });
    // Envoy 1.39 began to look at each value of a repeated header alone; those of App Mesh joined them.
    let runtime = json!({ "envoy.reloadable_features.match_headers_individually": false });
    json!({
        "layered_runtime": { "layers": [{ "name": "as App Mesh", "static_layer": runtime }] },
        "node": { "id": resource(proxy), "cluster": "conformance", "metadata": { "tidegate": listens } },
        "admin": { "address": address(0) },
        "dynamic_resources": {
            "ads_config": {
                "api_type": form,
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "control" } }],
            },
            "cds_config": stream,
            "lds_config": stream,
        },
        "static_resources": { "clusters": [{
            "name": "control",
            "type": "STATIC",
            "typed_extension_protocol_options": { options: http2 },
            "load_assignment": {
                "cluster_name": "control",
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(xds.port()) } }] }],
            },
        }]},
    })
}
