//! The task definition of a virtual gateway that is a native proxy, in a network namespace: its command as its user, its
//! environment and its health check.

use super::server::{Server, Speaks};
use super::task::container;
use crate::kit::netns::Namespace;
use crate::program::{Process, TIDEGATE, finish, text, until};
use crate::shell::root;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::process::Command;

const CONTROL: &str = "http://127.0.0.1:7072";
const APPMESH: &str = "http://127.0.0.1:7071/v20190125/meshes/my-mesh";

fn example(name: &str) -> PathBuf {
    root().join("examples/native-proxy").join(name)
}

/// What the example's gateway leads to.
fn service() -> String {
    let node = json!({ "listeners": [{ "portMapping": { "port": 8080, "protocol": "http" } }],
                       "serviceDiscovery": { "dns": { "hostname": "127.0.0.1" } } });
    let service = json!({ "provider": { "virtualNode": { "virtualNodeName": "checkout" } } });
    let all = [
        json!({ "meshName": "my-mesh", "spec": {} }),
        json!({ "meshName": "my-mesh", "virtualNodeName": "checkout", "spec": node }),
        json!({ "meshName": "my-mesh", "virtualServiceName": "checkout.local", "spec": service }),
    ];
    all.map(|document| document.to_string()).join("\n---\n")
}

/// The task, and what it needs around it.
struct Gateway {
    task: Namespace,
    definition: Value,
    directory: TempDir,
    server: Server,
}

impl Gateway {
    async fn prepare() -> Option<Self> {
        let task = Namespace::new().await?;
        let definition = std::fs::read_to_string(example("gateway-task-definition.json")).unwrap();
        let definition: Value = serde_json::from_str(&definition).unwrap();
        let server = Server::start(&task, Ipv4Addr::LOCALHOST, 8080, "checkout", Speaks::Http);
        let directory = tempfile::tempdir().unwrap();
        let uid: u32 = text(&container(&definition, "gateway")["user"]).parse().unwrap();
        chown(directory.path(), Some(uid), Some(uid)).unwrap();
        std::fs::write(directory.path().join("mesh.yaml"), service()).unwrap();
        Some(Self { task, definition, directory, server })
    }

    fn at(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    async fn control(&self) -> Process {
        let mut command = self.task.command(0, TIDEGATE);
        command
            .args(["local", "--output", "json", "--as", "my-mesh/checkout", "--mesh", &self.at("mesh.yaml"), "--mesh"])
            .arg(example("gateway.yaml"));
        command.args(["--data-dir", &self.at("data"), "--policies", &self.at("policies")]);
        command.args(["--egress", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let mut control = Process::spawn(command);
        control.addresses().await;
        control
    }

    /// A program in the container.
    fn contained(&self, program: &str) -> Command {
        let container = container(&self.definition, "gateway");
        let mut command = self.task.command(text(&container["user"]).parse().unwrap(), program);
        for variable in container["environment"].as_array().unwrap() {
            command.env(text(&variable["name"]), text(&variable["value"]));
        }
        command
    }

    /// The proxy, by the command of the definition but with this control plane.
    fn proxy(&self) -> Process {
        let container = container(&self.definition, "gateway");
        let words = container["command"].as_array().unwrap().iter().map(text).map(|word| match word.as_str() {
            "https://tidegate.example.com:7072" => CONTROL.to_owned(),
            "/tmp/tidegate-proxy.json" => self.at("proxy.json"),
            _ => word,
        });
        let mut command = self.contained(TIDEGATE);
        command.args(words);
        Process::spawn(command)
    }

    async fn is_healthy(&self) -> bool {
        let check = &container(&self.definition, "gateway")["healthCheck"]["command"];
        let mut command = self.contained("/bin/sh");
        command.args(["-c", &text(&check[1])]);
        finish(command).await.code == Some(0)
    }

    async fn healthy(&self) {
        until("the gateway is healthy", async || self.is_healthy().await.then_some(())).await;
    }

    async fn listens_on(&self, port: u16) {
        let connect =
            async || self.task.within(|| std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()).map(drop);
        until("the gateway listens", connect).await;
    }

    async fn change(&self, path: &str, spec: &Value) {
        let mut curl = self.task.command(0, "curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "60", "--request", "PUT"]);
        curl.args(["--header", "content-type: application/json", "--data", &json!({ "spec": spec }).to_string()]);
        curl.arg(format!("{APPMESH}/{path}"));
        finish(curl).await.expect(0);
    }
}

#[tokio::test]
async fn the_gateways_task_definition_runs_the_native_proxy() {
    let Some(gateway) = Gateway::prepare().await else { return };
    let (definition, task) = (&gateway.definition, &gateway.task);
    assert!(definition["proxyConfiguration"].is_null(), "nothing is redirected to a gateway");
    let port = &container(definition, "gateway")["portMappings"][0]["containerPort"];
    assert_eq!(*port, 8088);
    let mut proxy = gateway.proxy();
    assert!(!gateway.is_healthy().await, "it has no configuration yet");
    let control = gateway.control().await;
    gateway.healthy().await;

    let shop = "http://127.0.0.1:8088/shop/orders/7?a=b";
    assert_eq!(task.get(shop).await.as_deref(), Some("checkout"));
    let seen = gateway.server.one();
    assert!(
        seen.head.starts_with("get /orders/7?a=b ") && seen.head.contains("\r\nhost: checkout.local\r\n"),
        "{seen:?}"
    );
    assert_eq!(task.get("http://127.0.0.1:8088/other").await, None);

    // Its ports follow the mesh.
    let listener = |port: u16| json!({ "listeners": [{ "portMapping": { "port": port, "protocol": "http" } }] });
    gateway.change("virtualGateways/front", &listener(8089)).await;
    gateway.listens_on(8089).await;
    assert_eq!(task.get("http://127.0.0.1:8089/shop").await.as_deref(), Some("checkout"));
    until("the old port is closed", async || task.get(shop).await.is_none().then_some(())).await;

    // A port that somebody has is said, and taken once it is free.
    let taken = task.listen(Ipv4Addr::UNSPECIFIED, 8090);
    gateway.change("virtualGateways/front", &listener(8090)).await;
    until("the log says so", async || proxy.stderr.text().contains("cannot listen on 0.0.0.0:8090").then_some(()))
        .await;
    drop(taken);
    until("it is taken", async || task.get("http://127.0.0.1:8090/shop").await).await;

    // It starts without the control plane as well, by what it kept.
    control.kill().await;
    assert_eq!(task.get("http://127.0.0.1:8090/shop").await.as_deref(), Some("checkout"));
    proxy.signal("TERM").await;
    assert!(proxy.ended().await.success());
    let _proxy = gateway.proxy();
    gateway.healthy().await;
    assert_eq!(task.get("http://127.0.0.1:8090/shop").await.as_deref(), Some("checkout"));
}

#[tokio::test]
async fn a_gateway_whose_port_is_taken_at_its_start_says_so_and_ends() {
    let Some(gateway) = Gateway::prepare().await else { return };
    let _control = gateway.control().await;
    let _taken = gateway.task.listen(Ipv4Addr::UNSPECIFIED, 8088);
    let mut proxy = gateway.proxy();
    assert_eq!(proxy.ended().await.code(), Some(1));
    let said = proxy.stderr.text();
    assert!(said.contains("cannot listen on 0.0.0.0:8088 for the virtual gateway: Address"), "{said}");
}
