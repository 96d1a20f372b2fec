//! Weight changes through the whole of local mode (App Mesh API, store, compiler, proxy) while clients keep sending.
//!
//! `make bench-weights` is the longer form of this, with 1,000 changes and times.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate::app::{Addresses, Bound, LocalOptions, start_local};
use tokio::net::{TcpListener, TcpStream};

const ANY: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0));
const CHANGES: usize = 200;
const CLIENTS: usize = 4;

/// A server that answers every request with this text, over connections that it keeps.
async fn backend(text: &'static str) -> u16 {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(move |_: Request<Incoming>| async move {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(text.as_bytes()))))
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    port
}

fn weighted_targets(weights: [u32; 2]) -> serde_json::Value {
    json!([{"virtualNode": "v1", "weight": weights[0]}, {"virtualNode": "v2", "weight": weights[1]}])
}

fn spec(weights: [u32; 2]) -> serde_json::Value {
    json!({"httpRoute": {"match": {"prefix": "/"}, "action": {"weightedTargets": weighted_targets(weights)}}})
}

/// Two versions behind `shop.local`, all the weight on the first. JSON documents are YAML ones too.
fn mesh_document(ports: [u16; 2]) -> String {
    let node = |name: &str, port: u16| {
        let listener = json!({"portMapping": {"port": port, "protocol": "http"}});
        let discovery = json!({"dns": {"hostname": "127.0.0.1"}});
        json!({"meshName": "m", "virtualNodeName": name, "spec": {"listeners": [listener], "serviceDiscovery": discovery}})
    };
    let listener = json!({"portMapping": {"port": 80, "protocol": "http"}});
    let documents = [
        json!({"meshName": "m"}),
        node("v1", ports[0]),
        node("v2", ports[1]),
        json!({"meshName": "m", "virtualRouterName": "shop", "spec": {"listeners": [listener]}}),
        json!({"meshName": "m", "virtualRouterName": "shop", "routeName": "all", "spec": spec([100, 0])}),
        json!({"meshName": "m", "virtualServiceName": "shop.local",
               "spec": {"provider": {"virtualRouter": {"virtualRouterName": "shop"}}}}),
    ];
    documents.map(|document| document.to_string()).join("\n---\n")
}

async fn local_mode(directory: &Path, ports: [u16; 2]) -> Bound {
    let mesh = directory.join("mesh.yaml");
    std::fs::write(&mesh, mesh_document(ports)).unwrap();
    std::fs::create_dir(directory.join("policies")).unwrap();
    let options = LocalOptions {
        mesh: vec![mesh],
        parameters: std::collections::BTreeMap::new(),
        overwrite_weights: false,
        policies: directory.join("policies"),
        data_dir: directory.join("data"),
        discovery: None,
        certificates: Vec::new(),
        as_node: None,
        workers: 2,
        region: "us-east-1".into(),
        hooks: std::collections::BTreeMap::new(),
        listen: Addresses { api: ANY, appmesh: ANY, xds: ANY, egress: ANY, admin: ANY },
    };
    start_local(options).await.unwrap()
}

/// What one client saw: answers of each version, and everything that was not an answer of one.
#[derive(Debug, Default)]
struct Seen {
    versions: [usize; 2],
    lost: Vec<String>,
}

/// Sends requests one after the other over one connection until told to stop.
async fn client(egress: SocketAddr, stop: Arc<AtomicBool>) -> Seen {
    let stream = TcpStream::connect(egress).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut seen = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let request = Request::get("/").header("host", "shop.local").body(Empty::<Bytes>::new()).unwrap();
        match ask(&mut sender, request).await {
            Ok((StatusCode::OK, body)) if &*body == b"v1" => seen.versions[0] += 1,
            Ok((StatusCode::OK, body)) if &*body == b"v2" => seen.versions[1] += 1,
            Ok((status, _)) => seen.lost.push(status.to_string()),
            Err(error) => {
                // The connection is gone, and with it this client: one loss fails the test.
                seen.lost.push(error.to_string());
                break;
            }
        }
    }
    seen
}

async fn ask(
    sender: &mut hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<(StatusCode, Bytes)> {
    sender.ready().await?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok((head.status, body.collect().await?.to_bytes()))
}

/// Asks until it is done: on a machine whose disk is busy for seconds, a change is refused with 503 "try again".
async fn update_route(api: &reqwest::Client, route: &str, weights: [u32; 2]) {
    for _ in 0..10 {
        let answer = api.put(route).json(&json!({"spec": spec(weights)})).send().await.unwrap();
        match answer.status() {
            StatusCode::OK => return,
            StatusCode::SERVICE_UNAVAILABLE => tokio::time::sleep(Duration::from_millis(200)).await,
            status => panic!("{status}: {:?}", answer.text().await),
        }
    }
    panic!("UpdateRoute is refused for good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_weight_changes_under_load_lose_no_request() {
    let ports = [backend("v1").await, backend("v2").await];
    let directory = tempfile::tempdir().unwrap();
    let bound = local_mode(directory.path(), ports).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| tokio::spawn(client(bound.addresses.egress, Arc::clone(&stop)))).collect();

    let api = reqwest::Client::new();
    let route = format!("http://{}/v20190125/meshes/m/virtualRouter/shop/routes/all", bound.addresses.appmesh);
    for number in 0..CHANGES {
        let weights = [[0, 100], [100, 0], [50, 50]][number % 3];
        update_route(&api, &route, weights).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut versions = [0, 0];
    for client in clients {
        let seen = client.await.unwrap();
        assert_eq!(seen.lost, Vec::<String>::new());
        versions = [versions[0] + seen.versions[0], versions[1] + seen.versions[1]];
    }
    assert!(versions.iter().all(|count| *count > 0), "both versions answer: {versions:?}");
    bound.drain().await;
}
