//! A directory with a mesh, policies and a database, two services, and a daemon of `tidegate local` over them.

use super::service::Service;
use super::{Process, Ran, command, run, text, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tidegate::base::secret::Redacted;
use tidegate::clock::{Clock, SystemClock};
use tidegate::demo::load::Load;
use tidegate::trigger::signature;

/// The virtual service of every test.
pub(crate) const HOST: &str = "checkout.local";
/// Requests per second: enough for a verdict within seconds, and little for a busy machine.
const REQUESTS_PER_S: u32 = 150;

/// A policy with short stays, which proves little and does it fast.
pub(crate) const QUICK: &str = "\
version: 1
name: checkout
route: { mesh: shop, router: checkout-router, route: checkout }
versions: [checkout-v1, checkout-v2]
steps:
  - { weight: 10, min: 1s, max: 60s, prove_no_worse_than: 20pp }
  - { weight: 50, min: 1s, max: 60s, prove_no_worse_than: 20pp }
  - { weight: 100, min: 1s }
gates:
  - { name: errors, metric: error_rate, compare: stable, tolerate: { ratio: 1.0, add: 0.1pp } }
";

/// A mesh with one route over two nodes; `timeout` is put into the route.
pub(crate) fn mesh(ports: [u16; 2], timeout: &str) -> String {
    let node = |name: &str, port: u16| {
        format!(
            "---\nmeshName: shop\nvirtualNodeName: {name}\nspec:\n  serviceDiscovery: {{ dns: {{ hostname: 127.0.0.1 }} }}\n  \
             listeners: [ {{ portMapping: {{ port: {port}, protocol: http }} }} ]\n"
        )
    };
    format!(
        "meshName: shop\n{}{}---\nmeshName: shop\nvirtualRouterName: checkout-router\nspec:\n  listeners: \
         [ {{ portMapping: {{ port: 9000, protocol: http }} }} ]\n---\nmeshName: shop\nvirtualRouterName: checkout-router\n\
         routeName: checkout\nspec:\n  httpRoute:\n    match: {{ prefix: / }}\n    {timeout}\n    action:\n      \
         weightedTargets:\n        - {{ virtualNode: checkout-v1, weight: 100 }}\n        - {{ virtualNode: \
         checkout-v2, weight: 0 }}\n---\nmeshName: shop\nvirtualServiceName: {HOST}\nspec:\n  provider: \
         {{ virtualRouter: {{ virtualRouterName: checkout-router }} }}\n",
        node("checkout-v1", ports[0]),
        node("checkout-v2", ports[1])
    )
}

/// The files, without anything that runs.
pub(crate) struct Files {
    directory: TempDir,
}

impl Files {
    pub(crate) fn new(ports: [u16; 2], timeout: &str) -> Self {
        let files = Self { directory: TempDir::with_prefix("tidegate-test-").unwrap() };
        std::fs::create_dir(files.path("policies")).unwrap();
        files.write("mesh.yaml", &mesh(ports, timeout));
        files.write("policies/checkout.yaml", QUICK);
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same as text, for a command line.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Arguments of `tidegate local` on these files; port 0 everywhere unless `ports` says otherwise.
    pub(crate) fn local(&self, ports: &BTreeMap<&str, u16>) -> Vec<String> {
        let mut arguments: Vec<String> = ["local", "--output", "json"].map(str::to_owned).to_vec();
        let files = [("--mesh", "mesh.yaml"), ("--policies", "policies"), ("--data-dir", "data")];
        for (flag, name) in files {
            arguments.extend([flag.to_owned(), self.at(name)]);
        }
        for name in super::NAMES {
            let port = ports.get(name).copied().unwrap_or(0);
            arguments.extend([format!("--{name}"), format!("127.0.0.1:{port}")]);
        }
        arguments
    }
}

/// `&str` of `String`s, for a command line.
pub(crate) fn strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// The secret of the generic hook, where a daemon is given one. A shell would change most of it.
pub(crate) const HOOK_SECRET: &str = "it is $quoted \"well\" and 'long'";

/// A daemon, and a client of it.
pub(crate) struct Daemon {
    pub(crate) process: Process,
    pub(crate) api: Api,
}

impl std::ops::Deref for Daemon {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

/// A client of a daemon, which need not be running.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) addresses: BTreeMap<String, SocketAddr>,
    http: reqwest::Client,
}

/// Status and body of an answer.
pub(crate) type Answer = (u16, Value);

impl Daemon {
    pub(crate) async fn start(arguments: &[String]) -> Self {
        Self::spawn(command(&strs(arguments))).await
    }

    /// By a command that was prepared.
    pub(crate) async fn spawn(command: tokio::process::Command) -> Self {
        let mut process = Process::spawn(command);
        let addresses = process.addresses().await;
        Self { process, api: Api::new(addresses) }
    }
}

impl Api {
    pub(crate) fn new(addresses: BTreeMap<String, SocketAddr>) -> Self {
        Self { addresses, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}", self.addresses[name])
    }

    /// A client command against this daemon, with JSON output.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        let server = self.url("api");
        run(&[arguments, &["--output", "json", "--server", &server]].concat()).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Option<Answer> {
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// A call of the API; `None` when the daemon did not answer.
    pub(crate) async fn try_api(&self, path: &str) -> Option<Answer> {
        self.send(self.http.get(format!("{}{path}", self.url("api")))).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body).await.unwrap()
    }

    /// The same; `None` when the daemon did not answer.
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> Option<Answer> {
        self.send(self.http.post(format!("{}{path}", self.url("api"))).json(body)).await
    }

    /// A request of the API with a text as its body and some headers.
    pub(crate) async fn text(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let method = method.parse().unwrap();
        let request = self.http.request(method, format!("{}{path}", self.url("api"))).body(body.into());
        self.send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await.unwrap()
    }

    /// A request of the generic hook, signed with [`HOOK_SECRET`]; `None` when the daemon did not answer.
    pub(crate) async fn hook(&self, body: &str) -> Option<Answer> {
        let seconds = SystemClock.now().0 / 1000;
        let signature = signature::sign(&Redacted::new(HOOK_SECRET.to_owned()), seconds, body.as_bytes());
        let request = self.http.post(format!("{}/v1/hooks/generic", self.url("api")));
        let request = request.header("x-tidegate-timestamp", seconds.to_string());
        self.send(request.header("x-tidegate-signature", signature).body(body.to_owned())).await
    }

    /// Starts a rollout of the policy `checkout`; its identifier.
    pub(crate) async fn start_rollout(&self) -> String {
        let (status, view) = self.post("/v1/rollouts", &json!({"policy": "checkout"})).await;
        assert_eq!(status, 201, "{view}");
        text(&view["id"])
    }

    pub(crate) async fn view(&self, id: &str) -> Value {
        let (status, view) = self.try_api(&format!("/v1/rollouts/{id}")).await.unwrap();
        assert_eq!(status, 200, "{view}");
        view
    }

    /// Waits until the rollout is as `wanted`.
    pub(crate) async fn until(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = until(what, async || {
            last = self.view(id).await;
            (wanted(&last) || last["finished"] == true).then(|| last.clone())
        });
        let view = found.await;
        assert!(wanted(&view), "waited for {what}, it ended: {view}");
        view
    }

    /// Waits for the end.
    pub(crate) async fn end(&self, id: &str) -> Value {
        self.until(id, "the end", |view| view["finished"] == true).await
    }

    fn route_url(&self) -> String {
        format!("{}/v20190125/meshes/shop/virtualRouter/checkout-router/routes/checkout", self.url("appmesh"))
    }

    /// The weights of the route by node; `None` when the mesh did not answer.
    pub(crate) async fn weights(&self) -> Option<BTreeMap<String, u64>> {
        let (status, route) = self.send(self.http.get(self.route_url())).await?;
        assert_eq!(status, 200, "{route}");
        let targets = route["spec"]["httpRoute"]["action"]["weightedTargets"].as_array().unwrap();
        let weight = |target: &Value| (text(&target["virtualNode"]), target["weight"].as_u64().unwrap());
        Some(targets.iter().map(weight).collect())
    }

    /// What a person does with `aws appmesh update-route`.
    pub(crate) async fn set_weights(&self, v1: u64, v2: u64) {
        let (_, route) = self.send(self.http.get(self.route_url())).await.unwrap();
        let mut spec = route["spec"].clone();
        let targets = spec["httpRoute"]["action"]["weightedTargets"].as_array_mut().unwrap();
        for target in targets {
            target["weight"] = if target["virtualNode"] == "checkout-v1" { v1.into() } else { v2.into() };
        }
        let (status, body) = self.send(self.http.put(self.route_url()).json(&json!({ "spec": spec }))).await.unwrap();
        assert_eq!(status, 200, "{body}");
    }

    pub(crate) fn load(&self) -> Load {
        Load::start(self.addresses["egress"], HOST, REQUESTS_PER_S)
    }
}

/// Files, services and a daemon.
pub(crate) struct World {
    pub(crate) files: Files,
    pub(crate) stable: Service,
    pub(crate) canary: Service,
    pub(crate) daemon: Daemon,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with("", QUICK).await
    }

    /// With a line for the route and a policy.
    pub(crate) async fn with(timeout: &str, policy: &str) -> Self {
        let (stable, canary) = (Service::start("v1").await, Service::start("v2").await);
        let files = Files::new([stable.address.port(), canary.address.port()], timeout);
        files.write("policies/checkout.yaml", policy);
        let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
        Self { files, stable, canary, daemon }
    }

    /// `journal verify` beside the daemon or after it.
    pub(crate) async fn verify(&self) -> Ran {
        verify(&self.files.path("data")).await
    }
}

pub(crate) async fn verify(data: &Path) -> Ran {
    run(&["journal", "verify", "--output", "json", "--data-dir", &data.display().to_string()]).await
}
