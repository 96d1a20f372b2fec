//! Secrets of an SDS server beside the proxies, for both ends of mutual TLS: native proxies take them as real Envoys do, and
//! new ones while requests go on, of which none is lost.

use crate::kit::certificates::Authority;
use crate::kit::envoy::{Envoy, binary};
use crate::kit::ports::steady_port;
use crate::kit::sds::{Sds, authorities, certificate};
use crate::program::service::Service;
use crate::program::{FREE_PORTS, Process, command, until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate::bootstrap::{Options, Texts, Variables, build};

/// As many as a day of renewals by the hour, and some.
const ROTATIONS: usize = 30;
/// Names as SPIRE gives them.
const SERVED: &str = "spiffe://shop/served";
const CALLER: &str = "spiffe://shop/caller";
const TRUST: &str = "spiffe://shop";

fn mesh(app: u16) -> String {
    let shown = |secret: &str| json!({ "sds": { "secretName": secret } });
    let believed = |name: &str| {
        let names = json!({ "match": { "exact": [name] } });
        json!({ "trust": { "sds": { "secretName": TRUST } }, "subjectAlternativeNames": names })
    };
    let listener = json!([{
        "portMapping": { "port": app, "protocol": "http" },
        "tls": { "mode": "STRICT", "certificate": shown(SERVED), "validation": believed(CALLER) },
    }]);
    let caller = |name: &str, secret: &str| {
        let tls = json!({ "certificate": shown(secret), "validation": believed(SERVED) });
        let backend =
            json!({ "virtualService": { "virtualServiceName": "served.local", "clientPolicy": { "tls": tls } } });
        json!({ "meshName": "shop", "virtualNodeName": name, "spec": { "backends": [backend] } })
    };
    let discovery = json!({ "dns": { "hostname": "served.test" } });
    let provider = json!({ "virtualNode": { "virtualNodeName": "served" } });
    let all = [
        json!({ "meshName": "shop", "spec": {} }),
        json!({ "meshName": "shop", "virtualNodeName": "served", "spec": { "listeners": listener, "serviceDiscovery": discovery } }),
        json!({ "meshName": "shop", "virtualServiceName": "served.local", "spec": { "provider": provider } }),
        caller("caller", CALLER),
        caller("stranger", "spiffe://shop/stranger"),
    ];
    all.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

/// A native proxy of a node; answers its egress.
async fn native(node: &str, (xds, folder): (SocketAddr, &Path), ingress: u16) -> (Process, u16) {
    let (node, control_plane) = (format!("mesh/shop/virtualNode/{node}"), format!("http://{xds}"));
    let mut command = command(&["proxy", "--output", "json", "--node", &node, "--control-plane", &control_plane]);
    command.args(["--ingress", &format!("127.0.0.1:{ingress}"), "--egress", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    // As the App Mesh image was told.
    command.env("APPMESH_SDS_SOCKET_PATH", folder.join("sds.sock"));
    command.arg("--discovery").arg(folder.join("discovery.json"));
    let mut proxy = Process::spawn(command);
    let egress = proxy.listening(3).await["egress"].port();
    (proxy, egress)
}

async fn envoy(node: &str, xds: SocketAddr, egress: u16, socket: &Path) -> Envoy {
    let at = |port: u16| Some(SocketAddr::from(([127, 0, 0, 1], port)));
    let options = Options {
        node: Some(format!("mesh/shop/virtualNode/{node}")),
        control_plane: Some(format!("http://{xds}")),
        admin: at(0),
        ingress: at(steady_port()),
        egress: at(egress),
        ..Options::default()
    };
    let variables = Variables::from([("APPMESH_SDS_SOCKET_PATH".to_owned(), socket.display().to_string())]);
    let mut envoy = Envoy::start(&build(&options, &variables, &Texts::new()).unwrap().config).await.unwrap();
    envoy.wait_ready().await;
    envoy
}

async fn asked(client: &reqwest::Client, egress: u16) -> Option<u16> {
    let request = client.get(format!("http://127.0.0.1:{egress}/")).header("host", "served.local");
    Some(request.send().await.ok()?.status().as_u16())
}

/// Calls until it is told to stop, over kept connections and new ones in turn; answers how many calls, and what was no 200.
async fn call(egress: u16, stop: Arc<AtomicBool>) -> (usize, Vec<Option<u16>>) {
    let kept = reqwest::Client::builder().no_proxy().build().unwrap();
    let (mut calls, mut lost) = (0, Vec::new());
    while !stop.load(Ordering::Acquire) {
        let client = match calls % 2 {
            0 => kept.clone(),
            _ => reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        let status = asked(&client, egress).await;
        lost.extend((status != Some(200)).then_some(status));
        calls += 1;
    }
    (calls, lost)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_beside_the_proxies_are_followed_and_no_request_is_lost() {
    if binary().await.is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("sds.sock");
    let (sds, authority, other) = (Sds::start(&socket), Authority::new(), Authority::new());
    let renew = || {
        sds.tell(SERVED, certificate(&authority.issue(&[SERVED])));
        sds.tell(CALLER, certificate(&authority.issue(&[CALLER])));
    };
    renew();
    sds.tell("spiffe://shop/stranger", certificate(&other.issue(&[CALLER])));
    sds.tell(TRUST, authorities(&authority.pem));
    let app = Service::start("app").await;
    let [ingress, by_envoy] = [steady_port(), steady_port()];
    let file = |name: &str, text: String| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let mesh = file("mesh.yaml", mesh(app.address.port()));
    let discovery =
        file("discovery.json", json!({ "dns": { "served.test": [format!("127.0.0.1:{ingress}")] } }).to_string());
    let mut program = command(&["local", "--output", "json", "--mesh", &mesh, "--discovery", &discovery]);
    program.args(FREE_PORTS).arg("--data-dir").arg(folder.path().join("data"));
    program.arg("--policies").arg(folder.path().join("policies"));
    let mut control = Process::spawn(program);
    let xds = control.addresses().await["xds"];
    let sources = (xds, folder.path());
    let (served, _) = native("served", sources, ingress).await;
    let (_caller, egress) = native("caller", sources, 0).await;
    let (_stranger, strange) = native("stranger", sources, 0).await;
    let _envoy = envoy("caller", xds, by_envoy, &socket).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for port in [egress, by_envoy] {
        until("a request gets through", async || (asked(&client, port).await == Some(200)).then_some(())).await;
    }
    assert_eq!(asked(&client, strange).await, Some(503), "another authority vouches for it");

    let stop = Arc::new(AtomicBool::new(false));
    let callers = [egress, by_envoy].map(|port| tokio::spawn(call(port, Arc::clone(&stop))));
    for round in 0..ROTATIONS {
        renew();
        // Both take it at their own time: so many calls go on with whatever each has.
        let before = app.requests();
        until(&format!("calls go on in round {round}"), async || (app.requests() > before + 20).then_some(())).await;
    }
    stop.store(true, Ordering::Release);
    for caller in callers {
        let (calls, lost) = tokio::time::timeout(Duration::from_secs(20), caller).await.unwrap().unwrap();
        assert!(calls > ROTATIONS && lost.is_empty(), "{} of {calls} calls: {lost:?}", lost.len());
    }
    // What cannot be used is told, and what was good stays.
    sds.tell(SERVED, certificate(&(authority.pem.clone(), "-----BEGIN PRIVATE KEY-----\nno\n".into())));
    until("it is said", async || served.stderr.text().contains("the last good certificate stays").then_some(())).await;
    assert_eq!(asked(&client, egress).await, Some(200));
    drop(sds);
    assert_eq!(asked(&client, egress).await, Some(200), "without the server of secrets");
    let said = served.stderr.text();
    assert!(!said.contains("PRIVATE KEY"), "{said}");
}
