//! Rollouts over real Envoys alone: what they tell of their requests is all that a release is judged by.

use crate::kit::envoy::{Envoy, binary};
use crate::kit::ports::steady_port;
use crate::program::service::{Behaviour, Service};
use crate::program::until;
use crate::program::world::{Api, Files, HOST, QUICK, strs, verify};
use crate::program::{Process, command, finish};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tidegate::bootstrap::{Options, Texts, Variables, build};
use tidegate::demo::load::Load;
use tidegate::demo::service::VERSION_HEADER;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const REQUESTS_PER_S: u32 = 200;

/// The caller: a node without listeners, whose Envoy sends what its application calls.
const FRONT: &str = "---\nmeshName: shop\nvirtualNodeName: front\nspec:\n  backends: [ { virtualService: { virtualServiceName: \
                     checkout.local } } ]\n";

/// Stays at its first step for longer than a cut and a restart need to be told apart from its end.
const PATIENT: &str = "\
version: 1
name: checkout
route: { mesh: shop, router: checkout-router, route: checkout }
versions: [checkout-v1, checkout-v2]
steps:
  - { weight: 10, min: 15s, max: 60s, prove_no_worse_than: 20pp }
  - { weight: 100, min: 1s }
gates:
  - { name: errors, metric: error_rate, compare: stable, tolerate: { ratio: 1.0, add: 0.1pp } }
no_data: { hold_after: 2s, withdraw_after: 4s }
";

/// A daemon with a mesh of its own, two versions, and an Envoy that calls them.
pub(crate) struct World {
    files: Files,
    pub(crate) stable: Service,
    pub(crate) canary: Service,
    daemon: Process,
    pub(crate) api: Api,
    envoy: Envoy,
    egress: SocketAddr,
    ports: [u16; 3],
}

pub(super) fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// What an Envoy of that node starts with.
pub(super) fn bootstrap(node: &str, xds: SocketAddr, egress: u16, variables: &[(&str, &str)]) -> Value {
    let options = Options {
        node: Some(format!("mesh/shop/virtualNode/{node}")),
        control_plane: Some(format!("http://{xds}")),
        admin: Some(local(0)),
        ingress: Some(local(steady_port())),
        egress: Some(local(egress)),
        ca: None,
        certificate: None,
        key: None,
    };
    let variables: Variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    build(&options, &variables, &Texts::new()).unwrap().config
}

/// A key for everything, where one is asked for.
const KEY: (&str, &str) = ("AKIDALL", "all-secret-all-secret");

/// A daemon on these files, that listens on these ports: the API, the mesh, the control plane of Envoys.
async fn daemon(files: &Files, [api, mesh, xds]: [u16; 3], has_keys: bool) -> (Process, Api) {
    let (id, secret) = KEY;
    let keys = match has_keys {
        true => format!("[mesh.keys.all]\nid = \"{id}\"\nsecret = \"{secret}\"\nallow = \"write\"\n"),
        false => "auth = \"none\"\n".to_owned(),
    };
    let config = format!(
        "[api]\nlisten = \"127.0.0.1:{api}\"\nauth = \"none\"\n[database]\ndata_dir = \"{}\"\n[policies]\ndirectory = \"{}\"\n\
         [mesh]\nlisten = \"127.0.0.1:{mesh}\"\nxds_listen = \"127.0.0.1:{xds}\"\n{keys}",
        files.at("data"),
        files.at("policies")
    );
    files.write("tidegate.toml", &config);
    let arguments = ["serve", "--output", "json", "--config", &files.at("tidegate.toml")].map(str::to_owned);
    let mut process = Process::spawn(command(&strs(&arguments)));
    let addresses = process.listening(3).await;
    (process, Api::new(addresses))
}

impl World {
    /// All of it; `None`, and said so, without an Envoy. `seen` is where Envoy finds the control plane that listens there.
    pub(crate) async fn start(
        policy: &str,
        has_keys: bool,
        seen: impl AsyncFnOnce(SocketAddr) -> SocketAddr,
    ) -> Option<Self> {
        binary().await?;
        let (stable, canary) = (Service::start("v1").await, Service::start("v2").await);
        let files = Files::new([stable.address.port(), canary.address.port()], "");
        files.write("policies/checkout.yaml", policy);
        files.write("front.yaml", FRONT);
        let ports = [(); 3].map(|()| steady_port());
        let (daemon, api) = daemon(&files, ports, has_keys).await;
        let endpoint = api.url("appmesh");
        let apply = ["mesh", "apply", "--yes", "--endpoint-url", &endpoint, "-f"];
        for file in ["mesh.yaml", "front.yaml"] {
            let mut apply = command(&[&apply[..], &[&files.at(file)]].concat());
            apply.env("AWS_ACCESS_KEY_ID", KEY.0).env("AWS_SECRET_ACCESS_KEY", KEY.1);
            finish(apply).await.expect(0);
        }
        let egress = steady_port();
        let xds = seen(api.addresses["xds"]).await;
        let token = format!("{}:{}", KEY.0, KEY.1);
        let variables = [("TIDEGATE_TOKEN", &*token)];
        let variables = if has_keys { &variables[..] } else { &[] };
        let mut envoy = Envoy::start_with(&bootstrap("front", xds, egress, variables), variables).await?;
        envoy.wait_ready().await;
        Some(Self { files, stable, canary, daemon, api, envoy, egress: local(egress), ports })
    }

    pub(crate) fn load(&self) -> Load {
        Load::start(self.egress, HOST, REQUESTS_PER_S)
    }

    /// No listener was made anew and nothing was refused, whatever the weights were.
    pub(crate) async fn took_everything(&self) {
        assert_eq!(self.envoy.stats("listener_manager.lds.update_rejected").await, Some(0), "{}", self.envoy.log());
        assert_eq!(self.envoy.stats("listener_manager.listener_modified").await, Some(0));
        assert_eq!(self.envoy.stats("access_logs.grpc_access_log.logs_dropped").await, Some(0));
    }

    pub(crate) async fn end(self, load: Load) {
        load.stop().await;
        assert_eq!(self.daemon.terminate().await, Some(0));
        verify(&self.files.path("data")).await.expect(0);
    }
}

pub(crate) async fn directly(address: SocketAddr) -> SocketAddr {
    address
}

/// By a daemon that asks for keys, as it does off loopback.
#[tokio::test]
#[expect(clippy::print_stderr, reason = "what was measured")]
async fn a_good_release_goes_through_by_what_an_envoy_tells() {
    let Some(world) = World::start(QUICK, true, directly).await else { return };
    let load = world.load();
    let id = world.api.start_rollout().await;
    let end = world.api.end(&id).await;
    assert_eq!(end["phase"], "succeeded", "{end}");
    let (requests, lost) = load.totals();
    assert_eq!(lost, 0, "{}", load.last_loss());
    world.took_everything().await;
    let sent = world.envoy.stats("cluster.tidegate_control_plane.upstream_cx_tx_bytes_total").await.unwrap();
    eprintln!("{requests} requests told in {sent} bytes, configuration included");
    world.end(load).await;
}

/// Whoever sends the header gets the release through an Envoy too, which says when it has the route; and however bad the
/// release is there, nothing of it is counted against it.
#[tokio::test]
async fn a_preview_reaches_the_release_through_an_envoy_and_is_judged_by_nobody() {
    let preview = "preview: { header: { name: x-preview, value: \"1\" }, for: 1h }\n";
    let Some(world) = World::start(&format!("{QUICK}{preview}"), false, directly).await else { return };
    let load = world.load();
    let id = world.api.start_rollout().await;
    world.api.until(&id, "the preview", |view| view["preview"]["until"].is_string()).await;
    world.canary.behave(Behaviour::FailsEvery(2));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/", world.egress);
    for _ in 0..30 {
        let request = http.get(&url).header("host", HOST).header("x-preview", "1");
        assert_eq!(request.send().await.unwrap().headers()[VERSION_HEADER], "v2");
    }
    assert_eq!(load.seen("v2").requests, 0, "nobody else got it");
    world.canary.behave(Behaviour::Good);
    let (status, view) = world.api.post(&format!("/v1/rollouts/{id}/promote"), &json!({"reason": "seen"})).await;
    assert_eq!(status, 200, "{view}");
    let end = world.api.end(&id).await;
    assert_eq!((&end["phase"], &end["evidence"]["canary_errors"]), (&json!("succeeded"), &json!(0)), "{end}");
    world.took_everything().await;
    world.end(load).await;
}

/// A way to the control plane that can be cut, with everything that is on it.
struct Way {
    is_open: watch::Sender<bool>,
}

impl Way {
    /// To there; answers where it begins.
    async fn to(there: SocketAddr) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let (is_open, opened) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut opened = opened.clone();
                tokio::spawn(async move {
                    let carried = async {
                        let mut far = TcpStream::connect(there).await?;
                        copy_bidirectional(&mut near, &mut far).await
                    };
                    tokio::select! {
                        _ = opened.wait_for(|open| !open) => {}
                        _ = carried => {}
                    }
                });
            }
        });
        (Self { is_open }, here)
    }
}

/// While nobody hears of it, Envoy goes on by what it has; the release waits at weight 0 and comes back by itself. A daemon that
/// is killed in the middle of a step is followed by one that goes on by what Envoy tells it.
#[tokio::test]
async fn a_cut_is_silence_and_a_restart_loses_no_release() {
    let mut way = None;
    let started = World::start(PATIENT, false, async |there| {
        let (opened, here) = Way::to(there).await;
        way = Some(opened);
        here
    });
    let Some(mut world) = started.await else { return };
    let way = way.unwrap();
    let load = world.load();
    let id = world.api.start_rollout().await;
    let share = async |api: &Api, percent: u64| {
        until("the share is in the mesh", async || {
            (api.weights().await?.get("checkout-v2") == Some(&percent)).then_some(())
        })
        .await;
    };
    share(&world.api, 10).await;
    until("the new version is asked", async || (load.seen("v2").requests > 10).then_some(())).await;

    way.is_open.send_replace(false);
    share(&world.api, 0).await;
    let view = world.api.until(&id, "it waits", |view| view["phase"] == "paused").await;
    let at_zero = load.seen("v2").requests;
    until("Envoy goes on by what it has", async || (load.seen("v2").requests > at_zero + 10).then_some(())).await;
    assert_eq!(view["finished"], false, "{view}");
    way.is_open.send_replace(true);
    share(&world.api, 10).await;

    world.daemon.kill().await;
    let asked = load.seen("v1").requests;
    until("Envoy serves alone", async || (load.seen("v1").requests > asked + 50).then_some(())).await;
    (world.daemon, world.api) = daemon(&world.files, world.ports, false).await;
    let end = world.api.end(&id).await;
    assert_eq!(end["phase"], "succeeded", "{end}");
    assert_eq!(load.totals().1, 0, "{}", load.last_loss());
    world.took_everything().await;
    world.end(load).await;
}
