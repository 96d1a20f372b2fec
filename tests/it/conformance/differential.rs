//! Random meshes and random requests, on a real Envoy and on the native proxy beside each other: both have to choose the same
//! targets, answer the same and send on the same, as a node's sidecar and as gateways. The chance is seeded, so what is found can
//! be found again.

mod gateway;

use super::backend::{self, Memory, Seen};
use super::case::{Group, Places, Request};
use super::client::{self, Outcome};
use super::plane::{Plane, Running};
use crate::kit::envoy::binary;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate::proxy::split::Draws;

/// Meshes, and requests to each, unless `TIDEGATE_PAIRS` says how many requests in all.
const MESHES: u64 = 8;
const REQUESTS: usize = 500;
/// Services of a mesh.
const SERVICES: usize = 24;
/// Backends: the last one is a node for gRPC, the one before for HTTP/2, the others for HTTP/1.1.
const BACKENDS: usize = 6;
/// A target that has a share of a route is drawn at least once in so many requests, but for one run in a million or so: no
/// share is below a third.
const DRAWS: usize = 36;

/// What is not compared: numbers that each proxy makes up, and what tells the tests' requests apart.
const IGNORED: &[&str] = &["x-request-id", "x-case"];

#[expect(clippy::disallowed_methods, reason = "the switch of whoever runs the tests")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What is chosen by chance.
#[derive(Clone)]
struct Chance(Draws);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.draw() % end as u64).unwrap()
    }

    /// Whether something of so many percent happens.
    fn is(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

const NAMES: &[&str] = &["x-k", "x-n"];
const VALUES: &[&str] = &["gold", "goldfish", "old", "5", "50", "-3", "abc", ""];

/// A condition on a text.
fn text_match(chance: &mut Chance) -> Value {
    match chance.below(5) {
        0 => json!({ "exact": chance.one(&VALUES[..7]) }),
        1 => json!({ "prefix": chance.one(&["go", "5", "a"]) }),
        2 => json!({ "suffix": chance.one(&["ld", "0", "c"]) }),
        3 => json!({ "regex": chance.one(&["g.*d", "[0-9]+", "old|abc", "a?b?c?"]) }),
        _ => json!({ "range": { "start": chance.one(&[-5, 0, 5]), "end": chance.one(&[6, 50, 51]) } }),
    }
}

/// Conditions on headers, or metadata of gRPC.
fn headers(chance: &mut Chance, pseudo: bool) -> Vec<Value> {
    let mut all = Vec::new();
    for _ in 0..chance.one(&[0, 0, 0, 1, 1, 2]) {
        let name =
            if pseudo && chance.is(15) { chance.one(&[":method", ":path", ":authority"]) } else { chance.one(NAMES) };
        let mut header = json!({ "name": name });
        if chance.is(75) {
            header["match"] = text_match(chance);
        }
        if chance.is(30) {
            header["invert"] = json!(true);
        }
        all.push(header);
    }
    all
}

fn http_match(chance: &mut Chance) -> Value {
    let mut matches = match chance.below(10) {
        0..6 => json!({ "prefix": chance.one(&["/", "/", "/a", "/a/", "/a/b", "/ab", "/b", "/shop.A"]) }),
        6..8 => json!({ "path": { "exact": chance.one(&["/a", "/a/b", "/b", "/"]) } }),
        _ => json!({ "path": { "regex": chance.one(&["/a/.*", "/[ab]", "/a(/b)?", ".*b"]) } }),
    };
    if chance.is(20) {
        matches["method"] = json!(chance.one(&["GET", "POST", "PUT"]));
    }
    if chance.is(12) {
        matches["scheme"] = json!(chance.one(&["http", "https"]));
    }
    let headers = headers(chance, true);
    if !headers.is_empty() {
        matches["headers"] = json!(headers);
    }
    if chance.is(20) {
        let mut query = json!({ "name": chance.one(&["q", "r"]) });
        if chance.is(60) {
            query["match"] = json!({ "exact": chance.one(&["1", "2", ""]) });
        }
        matches["queryParameters"] = json!([query]);
    }
    matches
}

fn grpc_match(chance: &mut Chance) -> Value {
    let mut matches = Map::new();
    if chance.is(70) {
        matches.insert("serviceName".into(), json!(chance.one(&["shop.A", "shop.B"])));
        if chance.is(50) {
            matches.insert("methodName".into(), json!(chance.one(&["Get", "Put"])));
        }
    }
    let metadata = headers(chance, false);
    if !metadata.is_empty() {
        matches.insert("metadata".into(), json!(metadata));
    }
    matches.into()
}

/// Targets of which each has none of the traffic or a third at least.
fn targets(chance: &mut Chance) -> Vec<Value> {
    let mut nodes: Vec<usize> = (0..BACKENDS).collect();
    let mut all = Vec::new();
    for number in 0..chance.one(&[1, 1, 2, 3]) {
        let node = nodes.remove(chance.below(nodes.len()));
        let weight = if number == 0 || chance.is(25) { 30 } else { 0 };
        all.push(json!({ "virtualNode": format!("v{node}"), "weight": weight }));
    }
    all
}

fn document(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "meshName": "shop", kind: name, "spec": spec })
}

/// A router with its routes.
fn router(chance: &mut Chance, name: &str, mesh: &mut Vec<Value>) {
    let protocol = chance.one(&["http", "http", "http2", "grpc"]);
    let ports = if chance.is(25) { vec![8080, 8081] } else { vec![8080] };
    let listeners: Vec<Value> =
        ports.iter().map(|port| json!({ "portMapping": { "port": port, "protocol": protocol } })).collect();
    mesh.push(document("virtualRouterName", name, &json!({ "listeners": listeners })));
    for number in 0..chance.below(6) {
        let (member, mut matches) = match protocol {
            "grpc" => ("grpcRoute", grpc_match(chance)),
            "http2" => ("http2Route", http_match(chance)),
            _ => ("httpRoute", http_match(chance)),
        };
        if ports.len() > 1 {
            matches["port"] = json!(chance.one(&ports));
        }
        let action = json!({ "weightedTargets": targets(chance) });
        let mut spec = json!({ member: { "match": matches, "action": action } });
        if chance.is(35) {
            spec["priority"] = json!(chance.one(&[0, 5, 5, 10, 1000]));
        }
        let mut route = document("virtualRouterName", name, &spec).as_object().unwrap().clone();
        // Names break ties, so their order is not that of their making.
        route.insert("routeName".into(), json!(format!("{}{number}", chance.one(&["a", "m", "z"]))));
        mesh.push(route.into());
    }
}

/// A mesh in which `web` calls all services.
fn mesh(chance: &mut Chance, places: &mut Places) -> Vec<Value> {
    let mut mesh = vec![json!({ "meshName": "shop", "spec": {} })];
    let dns = json!({ "dns": { "hostname": "127.0.0.1" } });
    for node in 0..BACKENDS {
        let protocol = ["http2", "grpc"].get((node + 2).wrapping_sub(BACKENDS)).unwrap_or(&"http");
        let listener = json!({ "portMapping": { "port": places.port(&format!("v{node}")), "protocol": protocol } });
        let spec = json!({ "listeners": [listener], "serviceDiscovery": dns });
        mesh.push(document("virtualNodeName", &format!("v{node}"), &spec));
    }
    let mut backends = Vec::new();
    for number in 0..SERVICES {
        let provider = match chance.below(10) {
            0 => json!({ "virtualNode": { "virtualNodeName": format!("v{}", chance.below(BACKENDS)) } }),
            1 => Value::Null,
            _ => {
                let name = format!("r{number}");
                router(chance, &name, &mut mesh);
                json!({ "virtualRouter": { "virtualRouterName": name } })
            }
        };
        let name = format!("s{number}.local");
        let spec = if provider.is_null() { json!({}) } else { json!({ "provider": provider }) };
        mesh.push(document("virtualServiceName", &name, &spec));
        backends.push(json!({ "virtualService": { "virtualServiceName": name } }));
    }
    let listener = json!({ "portMapping": { "port": places.port("app"), "protocol": "http" } });
    let spec = json!({ "listeners": [listener], "serviceDiscovery": dns, "backends": backends });
    mesh.push(document("virtualNodeName", "web", &spec));
    mesh
}

fn request(chance: &mut Chance) -> Value {
    let service = chance.below(SERVICES + 1);
    let host = match chance.below(12) {
        0 => format!("s{service}.local:8080"),
        1 => format!("s{service}.local:8081"),
        2 => format!("S{service}.Local"),
        3 => format!("s{service}.local:9"),
        _ => format!("s{service}.local"),
    };
    let protocol = chance.one(&["http1", "http1", "http1", "h2c", "grpc"]);
    let paths =
        ["/", "/a", "/a", "/a/b", "/a/b", "/a/b/c", "/ab", "/b", "/b/", "//a", "/a/../b", "/A", "/a%2Fb", "/%61", "/c"];
    let calls = ["/shop.A/Get", "/shop.A/Put", "/shop.B/Get", "/shop.AB/Get", "/a"];
    let path = if protocol == "grpc" { chance.one(&calls) } else { chance.one(&paths) };
    let query = chance.one(&["", "", "", "?q=1", "?q=2&r", "?r=1&q=1", "?q", "?q=1&q=2"]);
    let mut headers = Map::new();
    for name in NAMES {
        match chance.below(10) {
            0..4 => drop(headers.insert((*name).into(), json!(chance.one(VALUES)))),
            4 => drop(headers.insert((*name).into(), json!([chance.one(VALUES), chance.one(VALUES)]))),
            _ => {}
        }
    }
    if chance.is(15) {
        headers.insert("x-forwarded-proto".into(), json!(chance.one(&["https", "http"])));
    }
    let method = chance.one(&["GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD"]);
    let body = if matches!(method, "POST" | "PUT") { "text" } else { "" };
    json!({ "host": host, "protocol": protocol, "path": format!("{path}{query}"), "headers": headers, "method": method, "body": body })
}

/// What of a request and its answer has to be the same on both data planes, but for who of several targets was drawn.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    status: Option<u16>,
    grpc: Option<i32>,
    body: String,
    sent: Vec<Sent>,
}

/// What a backend was sent.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    method: String,
    path: String,
    host: String,
    body: String,
    over: &'static str,
    headers: BTreeMap<String, String>,
}

/// The comparable part, and who was asked.
fn came(outcome: Outcome, seen: Vec<Seen>) -> (Came, BTreeSet<String>) {
    let by: BTreeSet<String> = seen.iter().map(|seen| seen.by.clone()).collect();
    let sent = seen.into_iter().map(|seen| {
        let Seen { method, path, host, body, over, mut headers, .. } = seen;
        headers.retain(|name, _| !IGNORED.contains(&name.as_str()));
        Sent { method, path, host, body, over, headers }
    });
    let sent: Vec<Sent> = sent.collect();
    // A backend answers with its name, and one for HTTP/2 is sent what HTTP/1.1 has no field for.
    let body = if sent.is_empty() { outcome.body } else { String::new() };
    (Came { status: outcome.status, grpc: outcome.grpc, body, sent }, by)
}

/// A port of a data plane that is asked.
struct Asked<'a> {
    port: u16,
    group: &'a Group,
    memory: &'a Memory,
    folder: &'a Path,
}

impl Asked<'_> {
    async fn ask(&self, request: &Value) -> (Came, BTreeSet<String>) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mut request: Request = serde_json::from_value(request.clone()).unwrap();
        request.to = Some(self.port);
        request.host = request.host.map(|host| host.replace("{port}", &self.port.to_string()));
        let id = format!("pair-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let outcome = client::send(&request, &self.group.defaults, id, self.folder).await;
        let mut seen = self.memory.of(&outcome.id);
        // Each data plane has ports of its own.
        let same = |host: &mut String| *host = host.replace(&format!(":{}", self.port), ":{port}");
        for seen in &mut seen {
            same(&mut seen.host);
            for name in ["host", "x-envoy-original-host"] {
                seen.headers.entry(name.to_owned()).and_modify(same);
            }
        }
        came(outcome, seen)
    }

    /// Everybody who is asked in many requests.
    async fn all_targets(&self, request: &Value) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for _ in 0..DRAWS {
            all.extend(self.ask(request).await.1);
        }
        all
    }
}

/// How the two differ; `None` when they do not.
async fn difference(envoy: &Asked<'_>, native: &Asked<'_>, request: &Value) -> Option<String> {
    let ((mut one, mut by_one), (other, by_other)) = (envoy.ask(request).await, native.ask(request).await);
    if one.sent.is_empty() && one.body.ends_with("reset reason: connection termination") {
        // An Envoy that is a gateway keeps connections to itself, and closes one now and then as it takes it
        // (docs/PROXY.md has the native proxy's way with such connections).
        (one, by_one) = envoy.ask(request).await;
    }
    if by_one != by_other {
        let (all, others) = (envoy.all_targets(request).await, native.all_targets(request).await);
        if all != others {
            return Some(format!("targets {all:?} on Envoy and {others:?} on the native proxy"));
        }
        // Another target may speak another protocol.
        return None;
    }
    (one != other).then(|| format!("Envoy: {one:?}\n  native: {other:?}"))
}

/// What stands around a mesh on one data plane.
fn group(mesh: &[Value], gateways: Vec<Value>) -> Group {
    let backends: BTreeMap<String, Value> = (0..BACKENDS).map(|node| (format!("v{node}"), json!({}))).collect();
    let mut proxies = Map::from_iter([("web".to_owned(), json!({ "mesh": "shop", "node": "web" }))]);
    for (name, _) in gateway::GATEWAYS {
        proxies.insert(name.to_owned(), json!({ "mesh": "shop", "gateway": name }));
    }
    let mesh: Vec<Value> = mesh.iter().cloned().chain(gateways).collect();
    let group = json!({ "about": "chance", "backends": backends, "proxies": proxies,
                        "defaults": { "to": 1, "host": "none" }, "mesh": mesh, "cases": [] });
    serde_json::from_value(group).unwrap()
}

/// The documents that a difference may come from.
fn documents<'m>(mesh: &'m [Value], request: &Value, door: Option<usize>) -> Vec<&'m Value> {
    let of_gateway = |document: &&Value| !document["virtualGatewayName"].is_null();
    if door.is_some() {
        return mesh.iter().filter(of_gateway).collect();
    }
    let service = request["host"].as_str().unwrap().split(['.', ':']).next().unwrap().to_lowercase();
    let router = service.replace('s', "r");
    mesh.iter().filter(|document| document["virtualRouterName"] == *router).collect()
}

/// Tries a mesh; what differs.
async fn try_mesh(seed: u64, requests: usize) -> Vec<String> {
    let mut chance = Chance(Draws::seeded(seed));
    let (folder, other_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut places, mut others) = (Places::new(folder.path()), Places::new(other_folder.path()));
    let mesh = mesh(&mut chance, &mut places);
    // The same gateways on other ports.
    let gateways = gateway::gateways(&mut chance.clone(), &mesh, |door| places.port(door));
    let others_gateways = gateway::gateways(&mut chance, &mesh, |door| others.port(door));
    let (group, others_group) = (group(&mesh, gateways), group(&mesh, others_gateways));
    let memory = Memory::default();
    for (name, kind) in &group.backends {
        backend::start(name, kind, places.port(name), folder.path(), &memory).await;
    }
    let _envoy = Running::start(Plane::Envoy, &group, &mut places).await;
    let _native = Running::start(Plane::Native, &others_group, &mut others).await;
    let doors: Vec<(&str, &str)> = std::iter::once(("web.egress", "")).chain(gateway::doors()).collect();
    let mut found = Vec::new();
    for number in 0..requests {
        let door = chance.is(50).then(|| 1 + chance.below(doors.len() - 1));
        let (name, spoken) = doors[door.unwrap_or(0)];
        let request = if door.is_some() { gateway::request(&mut chance, spoken) } else { request(&mut chance) };
        let asked = |port| Asked { port, group: &group, memory: &memory, folder: folder.path() };
        let (envoy, native) = (asked(places.port(name)), asked(others.port(name)));
        if let Some(difference) = difference(&envoy, &native, &request).await {
            let of: Vec<String> = documents(&group.mesh, &request, door).iter().map(ToString::to_string).collect();
            found.push(format!(
                "seed {seed}, request {number} to {name}: {request}\n  {difference}\n  {}",
                of.join("\n  ")
            ));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "what was tried is what a person reads")]
async fn both_data_planes_do_the_same_with_random_meshes_and_requests() {
    if binary().await.is_none() {
        return;
    }
    let first = number("TIDEGATE_SEED").unwrap_or(1);
    let requests = number("TIDEGATE_PAIRS").map_or(REQUESTS, |pairs| usize::try_from(pairs / MESHES).unwrap().max(1));
    let mut found = Vec::new();
    for seed in first..first + MESHES {
        found.extend(try_mesh(seed, requests).await);
    }
    println!("{} pairs of {MESHES} meshes from seed {first}: {} differ", requests * MESHES as usize, found.len());
    found.truncate(10);
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}
