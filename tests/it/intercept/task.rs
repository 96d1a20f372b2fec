//! A task as ECS runs it for the guide's task definition, and the world around it: two network namespaces with a wire
//! between them. In the task are Envoy as the container of the definition, the rules of its `proxyConfiguration`, and the
//! application; in the world the control plane, other services, and addresses that are no part of the mesh.

use super::rules::Interception;
use super::server::{Server, Speaks};
use crate::kit::envoy::binary;
use crate::kit::netns::Namespace;
use crate::program::{Process, TIDEGATE, finish, text, until};
use crate::shell::root;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::process::Command;

/// The task's address, and the world's end of the wire.
pub(super) const TASK: &str = "10.99.0.1";
pub(super) const WORLD: &str = "10.99.0.2";
/// Where nobody is: a name of the mesh may lead to any address.
pub(super) const NOWHERE: &str = "10.99.0.50";
/// An address that the mesh does not know.
pub(super) const OUTSIDE: &str = "203.0.113.7";
/// The port on which nobody but Envoy takes what the application sends.
pub(super) const EGRESS: u16 = 15001;
/// Users of the application, and of whoever calls it.
pub(super) const APPLICATION: u32 = 1000;
pub(super) const CLIENT: u32 = 1001;

/// The control plane's listener for Envoys, and its App Mesh API.
const XDS: &str = "10.99.0.2:7072";
const APPMESH: &str = "http://127.0.0.1:7071/v20190125";
/// Key and secret of whoever changes the mesh, and of the Envoys.
const ADMIN: [&str; 2] = ["AKIDADMIN", "admin-secret-admin-secret"];
const PROXIES: [&str; 2] = ["AKIDPROXIES", "proxies-secret-proxies-secret"];

/// What an image with an Envoy of one's own starts: `$1` is a directory, `$2` the control plane, `$3` and `$4` are programs.
/// Container runtimes hand stdout to the container's user, who may open `/dev/stdout` then; here it is a file of that user.
const CONTAINER: &str = r#"
"$3" envoy bootstrap --control-plane "$2" >"$1/envoy.yaml" || exit
exec >"$1/stdout"
exec "$4" -c "$1/envoy.yaml" --concurrency 1 --use-dynamic-base-id --file-flush-interval-msec 50 \
    --component-log-level main:warning
"#;

/// Who is in the world: name, address, port, and what it speaks.
const SERVERS: &[(&str, &str, u16, Speaks)] = &[
    ("payments-v1", "10.99.0.11", 8080, Speaks::Http),
    ("payments-v2", "10.99.0.12", 8080, Speaks::Http),
    ("orders", "10.99.0.13", 8080, Speaks::Http),
    ("database", "10.99.0.14", 5432, Speaks::First),
    ("outside", OUTSIDE, 8080, Speaks::Http),
    ("outside-9090", OUTSIDE, 9090, Speaks::Http),
    ("outside-443", OUTSIDE, 443, Speaks::Https),
    ("outside-3306", OUTSIDE, 3306, Speaks::First),
    ("credentials", "169.254.170.2", 80, Speaks::Http),
    ("metadata", "169.254.169.254", 80, Speaks::Http),
];

/// The guide's task definition.
pub(super) fn guide() -> Value {
    let text = std::fs::read_to_string(root().join("tests/golden/guide-task-definition.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The same with the native proxy in the place of Envoy.
pub(super) fn native() -> Value {
    let text = std::fs::read_to_string(root().join("examples/native-proxy/task-definition.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What came back to a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// A status, and the name of who answered where it is 200.
    Answered(u16, String),
    /// The connection was refused, or closed without an answer.
    Nothing,
}

/// `200` by this one.
pub(super) fn by(name: &str) -> Said {
    Said::Answered(200, name.to_owned())
}

/// The task and its world. What runs ends before the namespaces do.
pub(super) struct Task {
    envoy: Option<Process>,
    control: Option<Process>,
    servers: BTreeMap<&'static str, Server>,
    directory: TempDir,
    program: PathBuf,
    iptables: &'static str,
    definition: Value,
    pub(super) interception: Interception,
    pub(super) task: Namespace,
    pub(super) world: Namespace,
}

impl Task {
    /// The namespaces with the rules, and nothing in them but servers of the world; `None`, and said so, where something
    /// is missing that is needed.
    pub(super) async fn prepare() -> Option<Self> {
        Self::prepare_as(guide()).await
    }

    /// The same for another task definition.
    pub(super) async fn prepare_as(definition: Value) -> Option<Self> {
        let task = Self::prepare_without_rules(definition).await?;
        for rule in task.interception.rules() {
            let words: Vec<String> = rule.split(' ').map(str::to_owned).collect();
            task.task.run(task.iptables, &words).await.expect(0);
        }
        Some(task)
    }

    /// The same where nobody redirects anything.
    pub(super) async fn prepare_without_rules(definition: Value) -> Option<Self> {
        let program = binary().await?;
        let (task, world) = (Namespace::new().await?, Namespace::new().await?);
        let iptables = task.iptables().await?;
        let mut addresses: Vec<String> = SERVERS.iter().map(|(_, address, ..)| format!("{address}/32")).collect();
        addresses.dedup();
        addresses.insert(0, format!("{WORLD}/24"));
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        task.wire(&format!("{TASK}/24"), &world, &addresses).await;
        task.ip(&format!("route add default via {WORLD}")).await;
        let interception = Interception::of(&definition).unwrap();
        let servers = SERVERS.iter().map(|(name, address, port, speaks)| {
            (*name, Server::start(&world, address.parse().unwrap(), *port, name, *speaks))
        });
        let servers = servers.collect();
        let directory = tempfile::tempdir().unwrap();
        let uid: u32 = text(&container(&definition, "envoy")["user"]).parse().unwrap();
        chown(directory.path(), Some(uid), Some(uid)).unwrap();
        Some(Self {
            envoy: None,
            control: None,
            servers,
            directory,
            program,
            iptables,
            definition,
            interception,
            task,
            world,
        })
    }

    /// All of it, as it is once ECS calls the task healthy.
    pub(super) async fn start() -> Option<Self> {
        let mut task = Self::prepare().await?;
        task.start_control().await;
        task.apply(&mesh()).await;
        task.start_envoy();
        task.healthy().await;
        for port in task.interception.app_ports.clone() {
            task.serve(Ipv4Addr::UNSPECIFIED, port, "application");
        }
        Some(task)
    }

    /// A server of the task itself.
    pub(super) fn serve(&mut self, address: Ipv4Addr, port: u16, name: &'static str) {
        self.servers.insert(name, Server::start(&self.task, address, port, name, Speaks::Http));
    }

    pub(super) fn server(&self, name: &str) -> &Server {
        &self.servers[name]
    }

    pub(super) fn at(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// What Envoy wrote to stdout, where its access log goes.
    pub(super) fn access_log(&self) -> String {
        std::fs::read_to_string(self.at("stdout")).unwrap_or_default()
    }

    /// A daemon in the world that hosts the mesh, with a listener for Envoys that others reach.
    pub(super) async fn start_control(&mut self) {
        let key = |name: &str, [id, secret]: [&str; 2], allow: &str| {
            format!("[mesh.keys.{name}]\nid = \"{id}\"\nsecret = \"{secret}\"\nallow = \"{allow}\"\n")
        };
        std::fs::create_dir_all(self.at("policies")).unwrap();
        let config = format!(
            "[api]\nlisten = \"127.0.0.1:7070\"\nauth = \"none\"\n[policies]\ndirectory = \"{}\"\n[database]\n\
             data_dir = \"{}\"\n[mesh]\nlisten = \"127.0.0.1:7071\"\nxds_listen = \"{XDS}\"\nregion = \"us-west-2\"\n\
             account = \"123456789012\"\n{}{}",
            self.at("policies"),
            self.at("data"),
            key("admin", ADMIN, "write"),
            key("proxies", PROXIES, "read"),
        );
        std::fs::write(self.at("tidegate.toml"), config).unwrap();
        let mut command = self.world.command(0, TIDEGATE);
        command.args(["serve", "--output", "json", "--config", &self.at("tidegate.toml")]);
        let mut control = Process::spawn(command);
        control.listening(3).await;
        self.control = Some(control);
    }

    /// Changes the mesh, by signed requests.
    pub(super) async fn apply(&self, changes: &[Change]) {
        for (path, body) in changes {
            let mut curl = self.world.command(0, "curl");
            curl.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "60", "--request", "PUT"]);
            curl.args(["--aws-sigv4", "aws:amz:us-west-2:appmesh", "--user", &ADMIN.join(":")]);
            curl.args(["--header", "content-type: application/json", "--data", &body.to_string()]);
            curl.arg(format!("{APPMESH}/{path}"));
            finish(curl).await.expect(0);
        }
    }

    /// A program in a container of the definition: its user and its environment.
    fn contained(&self, name: &str, program: &str) -> Command {
        let container = container(&self.definition, name);
        let mut command = self.task.command(text(&container["user"]).parse().unwrap(), program);
        for variable in container["environment"].as_array().unwrap() {
            command.env(text(&variable["name"]), text(&variable["value"]));
        }
        command
    }

    /// Envoy, in its container.
    pub(super) fn start_envoy(&mut self) {
        let mut command = self.contained("envoy", "sh");
        command.args(["-c", CONTAINER, "sh"]).arg(self.directory.path()).arg(format!("http://{XDS}"));
        command.args([TIDEGATE.as_ref(), self.program.as_os_str()]);
        // What the guide's definition cannot have: App Mesh's image signs by the role of the task.
        command.env("TIDEGATE_TOKEN", PROXIES.join(":")).env("TIDEGATE_INSECURE", "1");
        self.envoy = Some(Process::spawn(command));
    }

    /// A native proxy, by the command that the definition has for it, but with this control plane.
    pub(super) fn start_native(&mut self) {
        let envoy = container(&self.definition, "envoy");
        let words = envoy["command"].as_array().unwrap().iter().map(text);
        let here = |word: String| match word.as_str() {
            "https://tidegate.example.com:7072" => format!("http://{XDS}"),
            "/tmp/tidegate-proxy.json" => self.at("proxy.json"),
            _ => word,
        };
        let mut command = self.contained("envoy", TIDEGATE);
        command.args(words.map(here));
        command.env("TIDEGATE_TOKEN", PROXIES.join(":")).env("TIDEGATE_INSECURE", "1");
        self.envoy = Some(Process::spawn(command));
    }

    /// A native proxy as root, which makes the rules itself.
    pub(super) async fn start_transparent(&mut self) {
        let mut command = self.task.command(0, TIDEGATE);
        command.args(["proxy", "--output", "json", "--transparent", "--control-plane", &format!("http://{XDS}")]);
        command.args(["--node", "mesh/my-mesh/virtualNode/user-service-v1"]);
        command.env("TIDEGATE_TOKEN", PROXIES.join(":")).env("TIDEGATE_INSECURE", "1");
        let mut proxy = Process::spawn(command);
        proxy.listening(3).await;
        self.envoy = Some(proxy);
    }

    /// Ends the proxy, in good order or not.
    pub(super) async fn stop_proxy(&mut self, in_good_order: bool) {
        let proxy = self.envoy.take().unwrap();
        if in_good_order {
            assert_eq!(proxy.terminate().await, Some(0));
        } else {
            proxy.kill().await;
        }
    }

    /// Tells the proxy to stop twice at once, so that it does not wait for anybody.
    pub(super) async fn interrupt_proxy_twice(&mut self) {
        let mut proxy = self.envoy.take().unwrap();
        proxy.signal("TERM").await;
        proxy.signal("TERM").await;
        proxy.ended().await;
    }

    /// Changes a rule of the nat table.
    pub(super) async fn iptables(&self, rule: &str) {
        let words: Vec<String> = format!("-t nat {rule}").split(' ').map(str::to_owned).collect();
        self.task.run(self.iptables, &words).await.expect(0);
    }

    /// The rules of the nat table, as iptables writes them.
    pub(super) async fn nat(&self) -> String {
        let words = ["-t", "nat", "-S"].map(str::to_owned);
        self.task.run(self.iptables, &words).await.expect(0).stdout
    }

    /// What Envoy said so far.
    pub(super) fn log(&self) -> String {
        self.envoy.as_ref().map(|envoy| envoy.stderr.text()).unwrap_or_default()
    }

    /// Whether the health check of the definition, as it stands there, finds Envoy well.
    pub(super) async fn is_healthy(&self) -> bool {
        let check = &container(&self.definition, "envoy")["healthCheck"]["command"];
        assert_eq!(check[0], "CMD-SHELL");
        let mut command = self.contained("envoy", "/bin/sh");
        command.args(["-c", &text(&check[1])]);
        finish(command).await.code == Some(0)
    }

    /// Waits until the health check passes.
    pub(super) async fn healthy(&self) {
        until("the task is healthy", async || self.is_healthy().await.then_some(())).await;
    }

    /// A page of Envoy's admin.
    pub(super) async fn admin(&self, path: &str) -> String {
        let page = self.task.get(&format!("http://127.0.0.1:9901{path}")).await;
        page.unwrap_or_else(|| panic!("no answer to {path}: {}", self.log()))
    }

    /// A counter; 0 where there is none of that name yet.
    pub(super) async fn count(&self, name: &str) -> u64 {
        let page = self.admin("/stats").await;
        let mut pairs = page.lines().filter_map(|line| line.split_once(": "));
        pairs.find(|(known, _)| *known == name).map_or(0, |(_, value)| value.parse().unwrap())
    }

    /// A request of the application, to a name at an address that somebody's DNS has for it.
    pub(super) async fn application(&self, url: &str, address: &str) -> Said {
        call(self.task.command(APPLICATION, "curl"), url, address).await
    }

    /// The same by Envoy's user.
    pub(super) async fn as_envoy(&self, url: &str, address: &str) -> Said {
        call(self.contained("envoy", "curl"), url, address).await
    }

    /// A request from the world.
    pub(super) async fn client(&self, url: &str, address: &str) -> Said {
        call(self.world.command(CLIENT, "curl"), url, address).await
    }

    /// What a server says before it is asked, to the application.
    pub(super) async fn first_words(&self, address: &str, port: u16) -> String {
        let mut command = self.task.command(APPLICATION, "timeout");
        command.args(["60", "bash", "-c", &format!("cat </dev/tcp/{address}/{port}")]);
        finish(command).await.stdout
    }

    /// Packets that took each rule of a chain, in order.
    pub(super) async fn packets(&self, chain: &str) -> Vec<u64> {
        let words = ["-t", "nat", "-L", chain, "-v", "-n", "-x"].map(str::to_owned);
        let listed = self.task.run(self.iptables, &words).await.expect(0).stdout;
        let counts = listed.lines().skip(2).filter_map(|line| line.split_whitespace().next());
        counts.map(|count| count.parse().unwrap()).collect()
    }
}

async fn call(mut curl: Command, url: &str, address: &str) -> Said {
    let name = url.split('/').nth(2).unwrap();
    let (host, port) = name.split_once(':').unwrap_or((name, if url.starts_with("https") { "443" } else { "80" }));
    curl.args(["--silent", "--insecure", "--max-time", "60", "--write-out", "\n%{http_code}"]);
    curl.args(["--resolve", &format!("{host}:{port}:{address}"), url]);
    if port == EGRESS.to_string() {
        // Whoever addresses Envoy itself names the service, and its port is none of the service's.
        curl.args(["--header", &format!("host: {host}")]);
    }
    let ran = finish(curl).await;
    // 28 is curl's own word for a wait that was too long: nobody refused anything.
    assert_ne!(ran.code, Some(28), "{url} at {address} hangs");
    let (body, status) = ran.stdout.rsplit_once('\n').unwrap();
    match status.parse().unwrap() {
        0 => Said::Nothing,
        200 => Said::Answered(200, body.to_owned()),
        other => Said::Answered(other, String::new()),
    }
}

pub(super) fn container(definition: &Value, name: &str) -> Value {
    let all = definition["containerDefinitions"].as_array().unwrap();
    all.iter().find(|container| container["name"] == name).unwrap().clone()
}

/// A change of the mesh: a path of the App Mesh API, and what is put there.
pub(super) type Change = (String, Value);

/// The mesh of the guide's node: what it calls, by HTTP and not.
pub(super) fn mesh() -> Vec<Change> {
    let within = |path: &str| format!("meshes/my-mesh/{path}");
    let node = |name: &str, address: &str, port: u16, protocol: &str, backends: &[&str]| {
        let backends: Vec<Value> =
            backends.iter().map(|name| json!({ "virtualService": { "virtualServiceName": name } })).collect();
        let spec = json!({
            "listeners": [{ "portMapping": { "port": port, "protocol": protocol } }],
            "serviceDiscovery": { "dns": { "hostname": address } },
            "backends": backends,
            "logging": { "accessLog": { "file": { "path": "/dev/stdout" } } },
        });
        (within("virtualNodes"), json!({ "virtualNodeName": name, "spec": spec }))
    };
    let service = |name: &str, provider: Value| {
        (within("virtualServices"), json!({ "virtualServiceName": name, "spec": { "provider": provider } }))
    };
    let by_node = |name: &str| json!({ "virtualNode": { "virtualNodeName": name } });
    let (_, all) = weights(100, 0);
    let router = json!({ "listeners": [{ "portMapping": { "port": 8080, "protocol": "http" } }] });
    vec![
        ("meshes".to_owned(), json!({ "meshName": "my-mesh", "spec": { "egressFilter": { "type": "DROP_ALL" } } })),
        node("payments-v1", "10.99.0.11", 8080, "http", &[]),
        node("payments-v2", "10.99.0.12", 8080, "http", &[]),
        node("orders-v1", "10.99.0.13", 8080, "http", &[]),
        node("database-v1", "10.99.0.14", 5432, "tcp", &[]),
        (within("virtualRouters"), json!({ "virtualRouterName": "payments", "spec": router })),
        (within("virtualRouter/payments/routes"), json!({ "routeName": "all", "spec": all["spec"] })),
        service("payments.local", json!({ "virtualRouter": { "virtualRouterName": "payments" } })),
        service("orders.local", by_node("orders-v1")),
        service("database.local", by_node("database-v1")),
        node("user-service-v1", TASK, 8080, "http", &["payments.local", "orders.local", "database.local"]),
    ]
}

/// Another egress filter.
pub(super) fn filter(kind: &str) -> Change {
    ("meshes/my-mesh".to_owned(), json!({ "spec": { "egressFilter": { "type": kind } } }))
}

/// Other weights of the route to the payments.
pub(super) fn weights(first: u32, second: u32) -> Change {
    let targets = json!([
        { "virtualNode": "payments-v1", "weight": first },
        { "virtualNode": "payments-v2", "weight": second },
    ]);
    let route = json!({ "httpRoute": { "match": { "prefix": "/" }, "action": { "weightedTargets": targets } } });
    ("meshes/my-mesh/virtualRouter/payments/routes/all".to_owned(), json!({ "spec": route }))
}
