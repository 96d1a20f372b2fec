//! `tidegate proxy`: a native proxy in a process of its own, and what becomes of it when its control plane is gone.

mod fuse;
mod observed;

use crate::kit::ports::steady_port;
use crate::program::service::Service;
use crate::program::{Process, command, run, until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use tempfile::TempDir;

const NODE: &str = "mesh/shop/virtualNode/web";

/// A mesh in which `web` may call `checkout.local`, whose route begins at v1.
fn mesh([v1, v2]: [SocketAddr; 2]) -> String {
    let node = |name: &str, address: SocketAddr| {
        format!(
            "---\nmeshName: shop\nvirtualNodeName: {name}\nspec:\n  serviceDiscovery: {{ dns: {{ hostname: 127.0.0.1 }} }}\n  \
             listeners: [ {{ portMapping: {{ port: {}, protocol: http }} }} ]\n",
            address.port()
        )
    };
    format!(
        "meshName: shop\n{}{}---\nmeshName: shop\nvirtualRouterName: checkout\nspec:\n  listeners: [ {{ portMapping: {{ port: \
         9000, protocol: http }} }} ]\n---\nmeshName: shop\nvirtualRouterName: checkout\nrouteName: main\nspec: {}\n---\n\
         meshName: shop\nvirtualServiceName: checkout.local\nspec: {{ provider: {{ virtualRouter: {{ virtualRouterName: \
         checkout }} }} }}\n---\nmeshName: shop\nvirtualNodeName: web\nspec:\n  serviceDiscovery: {{ dns: {{ hostname: web.local \
         }} }}\n  listeners: [ {{ portMapping: {{ port: 8000, protocol: http }} }} ]\n  backends: [ {{ virtualService: {{ \
         virtualServiceName: checkout.local }} }} ]\n",
        node("v1", v1),
        node("v2", v2),
        route(100, 0)
    )
}

fn route(v1: u32, v2: u32) -> Value {
    let targets = json!([{ "virtualNode": "v1", "weight": v1 }, { "virtualNode": "v2", "weight": v2 }]);
    json!({ "httpRoute": { "match": { "prefix": "/" }, "action": { "weightedTargets": targets } } })
}

/// A control plane that can be ended and started again at the same place, and two services.
struct Plane {
    folder: TempDir,
    ports: [u16; 2],
    control: Option<Process>,
    http: reqwest::Client,
    api: Option<SocketAddr>,
    services: [Service; 2],
}

impl Plane {
    async fn start() -> Self {
        let services = [Service::start("v1").await, Service::start("v2").await];
        let folder = TempDir::with_prefix("tidegate-sidecar-").unwrap();
        let addresses = [services[0].address, services[1].address];
        std::fs::write(folder.path().join("mesh.yaml"), mesh(addresses)).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let ports = [steady_port(), steady_port()];
        let mut plane = Self { folder, ports, control: None, http, api: None, services };
        plane.restart(true).await;
        plane
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn restart(&mut self, with_mesh: bool) {
        let [appmesh, xds] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let mut command = command(&["local", "--output", "json", "--appmesh", &appmesh, "--xds", &xds]);
        for face in ["--api", "--egress", "--admin"] {
            command.args([face, "127.0.0.1:0"]);
        }
        command.arg("--data-dir").arg(self.path("data")).arg("--policies").arg(self.path("policies"));
        if with_mesh {
            command.arg("--mesh").arg(self.path("mesh.yaml"));
        }
        let mut control = Process::spawn(command);
        self.api = control.addresses().await.get("api").copied();
        self.control = Some(control);
    }

    async fn kill(&mut self) {
        self.control.take().unwrap().kill().await;
    }

    fn proxy(&self) -> Process {
        let control_plane = format!("http://127.0.0.1:{}", self.ports[1]);
        let mut command = command(&["proxy", "--output", "json", "--node", NODE, "--control-plane", &control_plane]);
        command
            .args(["--egress", "127.0.0.1:0", "--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state"])
            .arg(self.path("state/web.json"));
        Process::spawn(command)
    }

    async fn split(&self, v1: u32, v2: u32, lease: Option<&str>) {
        let url =
            format!("http://127.0.0.1:{}/v20190125/meshes/shop/virtualRouter/checkout/routes/main", self.ports[0]);
        let mut call = self.http.put(url).json(&json!({ "spec": route(v1, v2) }));
        if let Some(lease) = lease {
            call = call.header("x-tidegate-lease", lease);
        }
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }

    async fn tag(&self, resource: &str, key: &str, value: &str) {
        let arn = format!("arn:aws:appmesh:us-east-1:000000000000:mesh/shop/{resource}");
        let url = format!("http://127.0.0.1:{}/v20190125/tag?resourceArn={arn}", self.ports[0]);
        let call = self.http.put(url).json(&json!({ "tags": [{ "key": key, "value": value }] }));
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }

    async fn answers(&self, egress: SocketAddr) -> String {
        let asked = self.http.get(format!("http://{egress}/")).header("host", "checkout.local").send().await.unwrap();
        let status = asked.status();
        let version = asked.headers().get("x-demo-version").map(|version| version.to_str().unwrap().to_owned());
        version.unwrap_or_else(|| status.to_string())
    }

    /// Waits until requests go to this version.
    async fn expect(&self, egress: SocketAddr, version: &str) {
        until(&format!("requests go to {version}"), async || (self.answers(egress).await == version).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn a_proxy_of_its_own_is_configured_reports_and_acknowledges() {
    let plane = Plane::start().await;
    let mut proxy = plane.proxy();
    let addresses = proxy.listening(3).await;
    let (egress, admin) = (addresses["egress"], addresses["admin"]);
    plane.expect(egress, "v1").await;
    let answer = plane.http.get(format!("http://{egress}/")).header("host", "web.local").send().await.unwrap();
    assert_eq!(answer.status(), 404, "what is no backend is not seen");
    let reason = answer.headers()["x-tidegate-reason"].to_str().unwrap();
    assert_eq!(reason, "web.local is no backend of web: add it to `backends` of the virtual node");

    let shown = until("it has everything", async || {
        let url = format!("http://{}/v1/mesh/proxies", plane.api.unwrap());
        let all: Value = plane.http.get(url).send().await.ok()?.json().await.ok()?;
        let proxy = all["proxies"].as_array()?.iter().find(|proxy| proxy["resource"] == NODE)?.clone();
        let standing = &proxy["types"]["native"];
        (standing["version"].is_string() && standing["version"] == standing["acknowledged"]).then_some(proxy)
    })
    .await;
    assert_eq!((&shown["node"], &shown["known"]), (&json!(NODE), &json!(true)), "{shown}");
    assert!(shown["build"].as_str().unwrap().starts_with("tidegate "), "{shown}");

    plane.split(0, 100, None).await;
    plane.expect(egress, "v2").await;
    // What is applied is told once every worker routes by it, also those that no request came to.
    until("every worker routes by the new weights", async || {
        let told = plane.http.get(format!("http://{admin}/tidegate/report")).send().await.ok()?;
        let report: Value = told.json().await.ok()?;
        report["applied"].to_string().contains("\"main\"").then_some(())
    })
    .await;
    assert_eq!(proxy.terminate().await, Some(0));
}

#[tokio::test]
async fn the_last_configuration_outlives_the_control_plane_and_the_proxy() {
    let mut plane = Plane::start().await;
    let mut proxy = plane.proxy();
    let egress = proxy.listening(3).await["egress"];
    plane.split(0, 100, None).await;
    plane.expect(egress, "v2").await;

    // Without the control plane it goes on, and follows again as soon as there is one.
    plane.kill().await;
    for _ in 0..20 {
        assert_eq!(plane.answers(egress).await, "v2");
    }
    plane.restart(false).await;
    plane.split(100, 0, None).await;
    plane.expect(egress, "v1").await;

    // A split that somebody has to renew; then nobody is there, and the proxy is restarted.
    plane.split(0, 100, Some("1h; fallback=v1=100")).await;
    plane.expect(egress, "v2").await;
    plane.kill().await;
    assert_eq!(plane.answers(egress).await, "v2", "it knows that the lease was good a moment ago");
    proxy.kill().await;
    let mut proxy = plane.proxy();
    let egress = proxy.listening(3).await["egress"];
    for _ in 0..20 {
        assert_eq!(plane.answers(egress).await, "v1", "a lease of an unknown age has lapsed");
    }
    assert!(proxy.stderr.text().contains("going by the configuration that was kept"), "{}", proxy.stderr.text());
    plane.restart(false).await;
    plane.expect(egress, "v2").await;
    assert_eq!(proxy.terminate().await, Some(0));
}

#[tokio::test]
async fn what_tags_say_outlives_the_control_plane_and_the_proxy() {
    let mut plane = Plane::start().await;
    let mut proxy = plane.proxy();
    let egress = proxy.listening(3).await["egress"];
    plane.expect(egress, "v1").await;
    plane.tag("virtualRouter/checkout/route/main", "tidegate:fault", "abort=418").await;
    plane.tag("virtualNode/v1", "tidegate:balance", "by=least-request").await;
    plane.expect(egress, "418 I'm a teapot").await;
    let kept = until("both are kept", async || {
        let text = std::fs::read_to_string(plane.path("state/web.json")).ok()?;
        let kept: Value = serde_json::from_str(&text).ok()?;
        let is_tagged = |cluster: &Value| cluster["extensions"]["balance"]["by"] == "LeastRequest";
        kept["config"]["clusters"].as_array()?.iter().any(is_tagged).then_some(kept)
    })
    .await;
    assert_eq!(kept["format"], 2, "a version without tags must not take it for all there is");
    plane.kill().await;
    proxy.kill().await;
    let mut proxy = plane.proxy();
    let egress = proxy.listening(3).await["egress"];
    for _ in 0..10 {
        assert_eq!(plane.answers(egress).await, "418 I'm a teapot");
    }
    assert_eq!(proxy.terminate().await, Some(0));
}

#[tokio::test]
async fn a_proxy_waits_for_its_node_and_ends_when_it_is_told_to() {
    let plane = Plane::start().await;
    let control_plane = format!("http://127.0.0.1:{}", plane.ports[1]);
    let mut command = command(&["proxy", "--node", "mesh/shop/virtualNode/nobody", "--control-plane", &control_plane]);
    command.args(["--egress", "127.0.0.1:0", "--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let waiting = Process::spawn(command);
    until("the control plane knows that it waits", async || {
        let url = format!("http://{}/v1/mesh/proxies", plane.api.unwrap());
        let all: Value = plane.http.get(url).send().await.ok()?.json().await.ok()?;
        let proxy = all["proxies"].as_array()?.iter().find(|proxy| proxy["node"] == "mesh/shop/virtualNode/nobody")?;
        (proxy["known"] == false).then_some(())
    })
    .await;
    assert_eq!(waiting.terminate().await, Some(0));
}

#[tokio::test]
async fn wrong_options_are_said_with_what_to_do() {
    for (arguments, said) in [
        (&["proxy"][..], &["whose proxy is it?", "--node mesh/shop/virtualNode/checkout-v1"][..]),
        (&["proxy", "--node", NODE], &["where is the control plane?", "http://127.0.0.1:7072"]),
        (
            &[
                "proxy",
                "--node",
                NODE,
                "--control-plane",
                "127.0.0.1:7072",
                "--egress",
                "127.0.0.1:0",
                "--ingress",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
            ],
            &["neither http:// nor https://"],
        ),
        (
            &[
                "proxy",
                "--node",
                NODE,
                "--control-plane",
                "http://127.0.0.1:1",
                "--transparent",
                "--ingress",
                "127.0.0.1:0",
            ],
            &["nothing that is redirected comes to --ingress 127.0.0.1:0", "write 0.0.0.0"],
        ),
        (
            &["proxy", "--node", NODE, "--control-plane", "http://127.0.0.1:1", "--ca", "/dev/null"],
            &["--ca and --certificate are for TLS"],
        ),
        (
            &["proxy", "--node", NODE, "--control-plane", "https://h:1", "--ca", "/no/file"],
            &["--ca /no/file cannot be read"],
        ),
    ] {
        run(arguments).await.expect(2).says(said);
    }
    let mut exposed = command(&["proxy", "--node", NODE, "--control-plane", "http://10.0.0.1:7072"]);
    exposed.env("TIDEGATE_TOKEN", "AKID:secret-word");
    let ran = crate::program::finish(exposed).await.expect(2).says(&["in clear text", "TIDEGATE_INSECURE=1"]);
    assert!(!format!("{:?}", ran.json()).contains("secret-word"));
}

/// The handshake of TLS has an end, whoever does not answer.
#[tokio::test]
async fn a_control_plane_that_says_nothing_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = TempDir::with_prefix("tidegate-sidecar-").unwrap();
    let authority = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, authority.cert.pem()).unwrap();
    let control_plane = format!("https://{}", silent.local_addr().unwrap());
    let mut command = command(&["proxy", "--node", NODE, "--control-plane", &control_plane, "--ca"]);
    command.arg(&file).args(["--egress", "127.0.0.1:0", "--ingress", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let waiting = Process::spawn(command);
    let first = silent.accept().await.unwrap();
    until("it tells that nobody answers", async || {
        waiting.stderr.text().contains("no connection within 5 s").then_some(())
    })
    .await;
    let second = silent.accept().await.unwrap();
    drop((first, second));
    assert_eq!(waiting.terminate().await, Some(0));
}
