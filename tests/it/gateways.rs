//! Virtual gateways in local mode: each listens on its own ports, as they come and go.

use crate::kit::ports::steady_port;
use crate::program::service::Service;
use crate::program::{FREE_PORTS, Process, command, until};
use crate::shell::root;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// Port of the example's gateway.
const EXAMPLE_PORT: &str = "8088";

/// Local mode with the example's gateway, before one service.
struct Local {
    process: Process,
    api: SocketAddr,
    appmesh: SocketAddr,
    http: reqwest::Client,
    _folder: TempDir,
    _service: Service,
}

impl Local {
    async fn start(port: u16) -> Self {
        let service = Service::start("v1").await;
        let folder = TempDir::with_prefix("tidegate-gateways-").unwrap();
        let example = std::fs::read_to_string(root().join("examples/local/gateway.yaml")).unwrap();
        assert!(example.contains(EXAMPLE_PORT), "{example}");
        let listener = json!({ "portMapping": { "port": service.address.port(), "protocol": "http" } });
        let node = json!({ "listeners": [listener], "serviceDiscovery": { "dns": { "hostname": "127.0.0.1" } } });
        let provider = json!({ "provider": { "virtualNode": { "virtualNodeName": "v1" } } });
        let documents = [
            json!({ "meshName": "shop" }).to_string(),
            json!({ "meshName": "shop", "virtualNodeName": "v1", "spec": node }).to_string(),
            json!({ "meshName": "shop", "virtualServiceName": "checkout.local", "spec": provider }).to_string(),
            example.replace(EXAMPLE_PORT, &port.to_string()),
        ];
        std::fs::write(folder.path().join("mesh.yaml"), documents.join("\n---\n")).unwrap();
        let mut command = command(&["local", "--output", "json"]);
        command.args(FREE_PORTS).arg("--mesh").arg(folder.path().join("mesh.yaml"));
        command.arg("--data-dir").arg(folder.path().join("data")).arg("--policies").arg(folder.path().join("policies"));
        let process = Process::spawn(command);
        until("it says that it is ready", async || process.stdout.events("listening").get(4).map(drop)).await;
        let listening = process.stdout.events("listening");
        let at = |name: &str| {
            let event = listening.iter().find(|event| event["name"] == name);
            crate::program::text(&event.unwrap_or_else(|| panic!("no {name} in {listening:?}"))["address"])
                .parse()
                .unwrap()
        };
        let (api, appmesh) = (at("api"), at("appmesh"));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { process, api, appmesh, http, _folder: folder, _service: service }
    }

    async fn answer(&self, port: u16, path: &str) -> Option<(u16, Option<String>)> {
        let answer = self.http.get(format!("http://127.0.0.1:{port}{path}")).send().await.ok()?;
        let version = answer.headers().get("x-demo-version").map(|version| version.to_str().unwrap().to_owned());
        Some((answer.status().as_u16(), version))
    }

    async fn write(&self, path: &str, body: &Value) {
        let url = format!("http://{}/v20190125/meshes/shop/{path}", self.appmesh);
        let answer = self.http.put(url).json(body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }
}

fn listener(port: u16) -> Value {
    json!({ "listeners": [{ "portMapping": { "port": port, "protocol": "http" } }] })
}

#[tokio::test]
async fn the_gateway_of_the_example_listens_in_local_mode_and_follows_the_mesh() {
    let (port, other) = (steady_port(), steady_port());
    let local = Local::start(port).await;
    let served = Some((200, Some("v1".to_owned())));
    assert_eq!(local.answer(port, "/shop").await, served);
    assert_eq!(local.answer(port, "/elsewhere").await, Some((404, None)), "no route of the gateway leads there");
    let told = async || {
        let events = local.process.stdout.events("listening");
        events.iter().any(|event| event["address"] == format!("127.0.0.1:{port}")).then_some(())
    };
    until("its port is told", told).await;

    // A second gateway, first on a port of its own, then on that of the first.
    let target = json!({ "target": { "virtualService": { "virtualServiceName": "checkout.local" } } });
    let route = json!({ "httpRoute": { "match": { "prefix": "/" }, "action": target } });
    local.write("virtualGateways", &json!({ "virtualGatewayName": "second", "spec": listener(other) })).await;
    let created = json!({ "gatewayRouteName": "all", "spec": route });
    local.write("virtualGateway/second/gatewayRoutes", &created).await;
    until("it listens", async || (local.answer(other, "/anything").await == served).then_some(())).await;
    local.write("virtualGateways/second", &json!({ "spec": listener(port) })).await;
    until("its old port is closed", async || {
        TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, other)).await.is_err().then_some(())
    })
    .await;
    assert_eq!(local.answer(port, "/anything").await, Some((404, None)), "the first one has the port");
    let problems: Value = {
        let url = format!("http://{}/v1/mesh/problems", local.api);
        local.http.get(url).send().await.unwrap().json().await.unwrap()
    };
    let said = format!("does not listen on port {port} for it, because mesh/shop/virtualGateway/front does");
    assert!(problems.to_string().contains(&said), "{problems}");
    assert_eq!(local.process.terminate().await, Some(0));
}

#[tokio::test]
async fn a_port_that_somebody_has_is_said_and_local_mode_starts_without_it() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let local = Local::start(port).await;
    let said = format!("cannot listen on 127.0.0.1:{port} for the virtual gateway");
    until("it is said", async || local.process.stderr.text().contains(&said).then_some(())).await;
    drop(taken);
    until("it is tried again", async || local.answer(port, "/shop").await.filter(|answer| answer.0 == 200)).await;
    assert_eq!(local.process.terminate().await, Some(0));
}
