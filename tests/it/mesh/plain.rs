//! With plain HTTP: what no SDK would send, Tidegate's extensions, and what a store that fails leads to.

use super::Running;
use crate::mesh_store::{Failing, FakeMeshStore};
use serde_json::{Value, json};
use std::sync::Arc;
use tidegate::mesh::compile::View;

const ROUTE: &str = "/v20190125/meshes/shop/virtualRouter/checkout-router/routes/checkout";

struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

async fn send(running: &Running, method: &str, path: &str, generation: Option<&str>, body: Option<Value>) -> Answer {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(method.parse().unwrap(), format!("{}{path}", running.url()));
    if let Some(generation) = generation {
        request = request.header("x-tidegate-generation", generation);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.json().await.unwrap();
    let answer = Answer { status, headers, body };
    assert!(answer.header("x-amzn-requestid").is_some_and(|id| id.len() == 36), "{:?}", answer.headers);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer
}

fn weights(v1: u32, v2: u32) -> Value {
    let targets =
        json!([{ "virtualNode": "checkout-v1", "weight": v1 }, { "virtualNode": "checkout-v2", "weight": v2 }]);
    let route = json!({ "match": { "prefix": "/" }, "action": { "weightedTargets": targets } });
    json!({ "spec": { "httpRoute": route } })
}

#[tokio::test]
async fn an_answered_update_is_published() {
    let running = Running::start().await;
    running.load_example().await;
    let mut all = running.control.subscribe(View::AllServices);
    let before = Arc::clone(&all.borrow_and_update());
    let answer = send(&running, "PUT", ROUTE, None, Some(weights(75, 25))).await;
    assert_eq!((answer.status, &answer.body["metadata"]["version"]), (200, &json!(2)));
    assert!(all.has_changed().unwrap());
    let after = Arc::clone(&all.borrow_and_update());
    assert!(after.version > before.version);
    let route = &after.services["checkout.local"].routes[0];
    assert_eq!(route.version, 2);
    assert_eq!(route.targets.iter().map(|target| target.weight).collect::<Vec<_>>(), [75, 25]);
    for (key, cluster) in &after.clusters {
        assert!(Arc::ptr_eq(cluster, &before.clusters[key]), "an unchanged cluster keeps its pointer");
    }
}

#[tokio::test]
async fn a_stale_generation_is_refused_for_ever() {
    let running = Running::start().await;
    running.load_example().await;
    let described = send(&running, "GET", ROUTE, None, None).await;
    assert_eq!(described.header("x-tidegate-features"), Some("generation, lease, fuse"));
    for (generation, status) in [("7", 200), ("7", 200), ("6", 409), ("x", 400), ("8", 200)] {
        let answer = send(&running, "PUT", ROUTE, Some(generation), Some(weights(60, 40))).await;
        assert_eq!(answer.status, status, "{generation}: {}", answer.body);
    }
    // An update without one neither asks nor forgets.
    assert_eq!(send(&running, "PUT", ROUTE, None, Some(weights(50, 50))).await.status, 200);

    let again = Running::with_store(Arc::clone(&running.store)).await;
    let answer = send(&again, "PUT", ROUTE, Some("7"), Some(weights(60, 40))).await;
    assert_eq!(answer.status, 409);
    assert_eq!(answer.header("x-amzn-errortype"), Some("ConflictException"));
    assert!(answer.body["message"].as_str().unwrap().contains("stale"), "{}", answer.body);
    let answer = send(&again, "GET", ROUTE, None, None).await;
    assert_eq!(answer.body["spec"], weights(50, 50)["spec"]);
}

#[tokio::test]
async fn a_store_that_fails_changes_nothing() {
    let running = Running::start().await;
    running.load_example().await;
    let all = running.control.subscribe(View::AllServices);
    let before = Arc::clone(&all.borrow());
    running.store.fail(Some(Failing::Before));
    let answer = send(&running, "PUT", ROUTE, None, Some(weights(1, 99))).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(answer.header("x-amzn-errortype"), Some("ServiceUnavailableException"));
    assert!(answer.body["message"].as_str().unwrap().contains("nothing has changed"), "{}", answer.body);
    let answer = send(&running, "GET", ROUTE, None, None).await;
    assert_eq!(answer.body["metadata"]["version"], 1);
    assert!(Arc::ptr_eq(&before, &all.borrow()));
    running.store.fail(None);
    let answer = send(&running, "PUT", ROUTE, None, Some(weights(60, 40))).await;
    assert_eq!((answer.status, &answer.body["metadata"]["version"]), (200, &json!(2)));
}

/// What was written all the same is what holds, as soon as the store can be asked.
#[tokio::test]
async fn a_lost_answer_is_looked_up() {
    let running = Running::start().await;
    running.load_example().await;
    let all = running.control.subscribe(View::AllServices);
    running.store.fail(Some(Failing::After));
    let answer = send(&running, "PUT", ROUTE, None, Some(weights(1, 99))).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body["message"].as_str().unwrap().contains("is not known"), "{}", answer.body);
    let answer = send(&running, "GET", ROUTE, None, None).await;
    assert_eq!((&answer.body["metadata"]["version"], &answer.body["spec"]), (&json!(2), &weights(1, 99)["spec"]));
    let route = all.borrow().services["checkout.local"].routes[0].clone();
    assert_eq!(route.targets.iter().map(|target| target.weight).collect::<Vec<_>>(), [1, 99]);
    running.store.fail(None);
    let answer = send(&running, "PUT", ROUTE, None, Some(weights(60, 40))).await;
    assert_eq!((answer.status, &answer.body["metadata"]["version"]), (200, &json!(3)));
    let row = &running.store.rows()["mesh/shop/virtualRouter/checkout-router/route/checkout"];
    assert!(row.contains(r#""version":3"#), "{row}");
}

/// Two control planes on one store: each writes what follows from what the other one did.
#[tokio::test]
async fn control_planes_that_share_a_store_lose_nothing() {
    let store: Arc<FakeMeshStore> = Arc::default();
    store.share();
    let (a, b) = (Running::with_store(Arc::clone(&store)).await, Running::with_store(Arc::clone(&store)).await);
    a.load_example().await;
    assert!(
        b.load_example().await.iter().all(|line| line.starts_with("unchanged ")),
        "it sees what the other one loaded"
    );
    let writes = (0..20).map(|number| {
        let running = if number % 2 == 0 { &a } else { &b };
        send(running, "PUT", ROUTE, None, Some(weights(100 - number, number)))
    });
    let answers = futures_util::future::join_all(writes).await;
    let mut versions: Vec<u64> =
        answers.iter().map(|answer| answer.body["metadata"]["version"].as_u64().expect("done")).collect();
    versions.sort_unstable();
    assert_eq!(versions, (2..22).collect::<Vec<_>>());

    // A change by one is published by the other, once it looks.
    let followed = b.control.subscribe(View::AllServices);
    b.control.refresh().await.unwrap();
    assert_eq!(send(&a, "PUT", ROUTE, None, Some(weights(3, 97))).await.status, 200);
    assert!(b.control.refresh().await.unwrap() && !b.control.refresh().await.unwrap());
    let route = followed.borrow().services["checkout.local"].routes[0].clone();
    assert_eq!((route.version, route.targets[0].weight), (22, 3));
    assert_eq!(send(&a, "DELETE", ROUTE, None, None).await.status, 200);
    assert_eq!(send(&b, "DELETE", ROUTE, None, None).await.status, 404, "also before it looked");
    assert!(followed.borrow().services["checkout.local"].routes.is_empty());
}

#[tokio::test]
async fn what_is_no_operation_is_said_to_be_none() {
    let running = Running::start().await;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v20190125/mesh"),
        ("POST", "/v20190125/meshes"),
        ("GET", "/v20190125/meshes/shop/virtualRouters/r/routes"),
        ("GET", "/v20190125/meshes/shop/virtualNodes/"),
    ] {
        let answer = send(&running, method, path, None, None).await;
        assert_eq!(answer.status, 404, "{method} {path}");
        assert_eq!(answer.header("x-amzn-errortype"), Some("UnknownOperationException"));
        let text = answer.body["message"].as_str().unwrap();
        assert!(text.contains(path) && text.contains(method), "{text}");
    }
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused() {
    let running = Running::start().await;
    let body = json!({ "meshName": "a".repeat(1024 * 1024) });
    let answer = send(&running, "PUT", "/v20190125/meshes", None, Some(body)).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body["message"].as_str().unwrap().contains("1 MiB"));
}

/// Sends bytes; status, error type and message.
async fn send_bytes(running: &Running, method: &str, path: &str, body: Vec<u8>) -> (u16, String, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.request(method.parse().unwrap(), format!("{}{path}", running.url())).body(body);
    let response = request.send().await.unwrap();
    let kind = response.headers().get("x-amzn-errortype").map(|kind| kind.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (status, kind.unwrap_or_default(), body["message"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn bodies_and_names_that_nobody_means_are_refused_with_the_reason() {
    let running = Running::start().await;
    running.load_example().await;
    let (meshes, routes) = ("/v20190125/meshes", "/v20190125/meshes/shop/virtualRouter/checkout-router/routes");
    let matching = |regex: &str| {
        let action = json!({ "weightedTargets": [{ "virtualNode": "checkout-v1", "weight": 1 }] });
        let spec = json!({ "httpRoute": { "match": { "path": { "regex": regex } }, "action": action } });
        json!({ "routeName": "r", "spec": spec }).to_string().into_bytes()
    };
    let deep = format!("{{\"meshName\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for (method, path, body, kind, says) in [
        ("PUT", meshes, deep.into_bytes(), "BadRequestException", "body: is not JSON: recursion limit exceeded"),
        ("PUT", meshes, b"{\"meshName\":\"\xff\"}".to_vec(), "BadRequestException", "body: is not JSON: "),
        ("PUT", meshes, br#"{"meshName":"\ud800"}"#.to_vec(), "BadRequestException", "body: is not JSON: "),
        (
            "PUT",
            meshes,
            br#"{"meshName":"a\u0000"}"#.to_vec(),
            "BadRequestException",
            "meshName: may hold only letters",
        ),
        ("PUT", meshes, br#"{"meshName":"shop"}"#.to_vec(), "ConflictException", "Mesh with name shop already exists"),
        ("PUT", meshes, b"[]".to_vec(), "BadRequestException", "body: must be an object, not a list"),
        ("PUT", meshes, b"{".to_vec(), "BadRequestException", "body: is not JSON: EOF"),
        ("GET", "/v20190125/meshes/%ff", Vec::new(), "BadRequestException", "path: is not UTF-8 once it is decoded"),
        ("GET", "/v20190125/meshes?limit=%ff", Vec::new(), "BadRequestException", "query: is not UTF-8"),
        (
            "GET",
            "/v20190125/meshes?limit=1e2",
            Vec::new(),
            "BadRequestException",
            "limit: must be a number from 1 to 100",
        ),
        ("PATCH", "/v20190125/meshes/shop", Vec::new(), "UnknownOperationException", "is not an operation of App Mesh"),
        (
            "PUT",
            routes,
            matching("(a*)*(b*)*((c{100}){100}){100}"),
            "BadRequestException",
            "is not a regular expression of RE2",
        ),
        ("PUT", routes, matching(&"(".repeat(255)), "BadRequestException", "is not a regular expression of RE2"),
    ] {
        let (status, found, message) = send_bytes(&running, method, path, body).await;
        assert!(
            (400..500).contains(&status) && found == kind && message.contains(says),
            "{method} {path}: {found}: {message}"
        );
    }
    // Nothing of it came to be.
    let answer = send(&running, "GET", routes, None, None).await;
    assert_eq!(answer.body["routes"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_restart_serves_what_was_stored() {
    let running = Running::start().await;
    assert_eq!(running.load_example().await[0], "created mesh shop");
    let version = running.control.subscribe(View::AllServices).borrow().version;
    let again = Running::with_store(Arc::clone(&running.store)).await;
    let config = Arc::clone(&again.control.subscribe(View::AllServices).borrow());
    assert_eq!(config.services.keys().collect::<Vec<_>>(), ["checkout.local"]);
    assert!(config.version >= version, "{} after {version}", config.version);
    let lines = again.load_example().await;
    assert!(lines.iter().all(|line| line.starts_with("unchanged ")), "{lines:?}");

    let broken: Arc<FakeMeshStore> = Arc::default();
    let row = ("mesh/shop".to_owned(), Some("{}".to_owned()));
    tidegate::ports::MeshStore::save(&*broken, 0, vec![row]).await.unwrap();
    let clock = Arc::new(tidegate::clock::SystemClock);
    let fault = tidegate::mesh::http::MeshControl::open(broken, clock, "us-east-1".into()).await.unwrap_err();
    assert!(fault.message.contains("mesh/shop"), "{fault}");
}

#[tokio::test]
async fn a_node_sees_its_backends_only() {
    let running = Running::start().await;
    running.load_example().await;
    let view = View::Node { mesh: "shop".into(), node: "web".into() };
    let mut web = running.control.subscribe(view);
    assert!(web.borrow_and_update().services.is_empty());
    let node = |backend: &str| {
        let backends = json!([{ "virtualService": { "virtualServiceName": backend } }]);
        json!({ "virtualNodeName": "web", "spec": { "backends": backends } })
    };
    let nodes = "/v20190125/meshes/shop/virtualNodes";
    assert_eq!(send(&running, "PUT", nodes, None, Some(node("checkout.local"))).await.status, 200);
    assert!(web.has_changed().unwrap());
    assert_eq!(web.borrow_and_update().services.keys().collect::<Vec<_>>(), ["checkout.local"]);
    let path = format!("{nodes}/web");
    assert_eq!(send(&running, "PUT", &path, None, Some(node("gone.local"))).await.status, 200);
    assert!(web.borrow_and_update().services.is_empty());
}
