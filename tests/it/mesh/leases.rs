//! Weight leases over HTTP: how they are asked for, renewed and told, and that one control plane of several writes the
//! fallback. By clocks that the tests move.

use super::Running;
use crate::mesh_store::{Failing, FakeMeshStore};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tidegate::base::ids::RouteRef;
use tidegate::base::time::{Millis, Timestamp};
use tidegate::clock::Clock;
use tidegate::mesh::compile::View;
use tidegate::ports::Traffic;
use tidegate::rollout::effect::WeightsWrite;
use tidegate::traffic::appmesh::AppMesh;

/// Seconds that the test lets pass.
#[derive(Default)]
struct Hand(AtomicI64);

impl Hand {
    fn pass(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

const ROUTE: &str = "/v20190125/meshes/shop/virtualRouter/checkout-router/routes/checkout";
const LEASE: &str = "1m; fallback=checkout-v1=100";

/// One control plane, on a store that may be others' too, with its own clock.
async fn plane(store: &Arc<FakeMeshStore>) -> (Running, Arc<Hand>) {
    let hand = Arc::new(Hand::default());
    (Running::with_clock(Arc::clone(store), Arc::clone(&hand) as _).await, hand)
}

fn weights(v1: u32, v2: u32) -> Value {
    let targets =
        json!([{ "virtualNode": "checkout-v1", "weight": v1 }, { "virtualNode": "checkout-v2", "weight": v2 }]);
    json!({ "spec": { "httpRoute": { "match": { "prefix": "/" }, "action": { "weightedTargets": targets } } } })
}

/// Status, `x-tidegate-lease` and body.
async fn send(running: &Running, headers: &[(&str, &str)], body: Option<Value>) -> (u16, Option<String>, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}{ROUTE}", running.url());
    let request = body.map_or_else(|| client.get(&url), |body| client.put(&url).json(&body));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let lease = headers.get("x-tidegate-lease").map(|value| value.to_str().unwrap().to_owned());
    (status, lease, answer.json().await.unwrap())
}

/// Asks for these weights under a lease; the route's metadata.
async fn leased(running: &Running, v1: u32, v2: u32) -> Value {
    let (status, _, body) = send(running, &[("x-tidegate-lease", LEASE)], Some(weights(v1, v2))).await;
    assert_eq!(status, 200, "{body}");
    body["metadata"].clone()
}

fn split(body: &Value) -> Vec<u64> {
    let targets = body["spec"]["httpRoute"]["action"]["weightedTargets"].as_array().unwrap();
    targets.iter().map(|target| target["weight"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_renewal_is_seen_by_nobody_and_its_end_by_everybody() {
    let (running, hand) = plane(&Arc::default()).await;
    running.load_example().await;
    let written = leased(&running, 90, 10).await;
    let mut all = running.control.subscribe(View::AllServices);
    all.mark_unchanged();
    for renewals in 1..=5 {
        hand.pass(40);
        assert_eq!(leased(&running, 90, 10).await, written, "version, times and uid stay");
        let (_, lease, _) = send(&running, &[], None).await;
        assert_eq!(lease.unwrap(), format!("{LEASE}; renewals={renewals}"));
        assert_eq!(running.control.expire_leases().await.unwrap(), 0);
    }
    assert!(!all.has_changed().unwrap(), "proxies are sent nothing");
    hand.pass(59);
    assert_eq!(running.control.expire_leases().await.unwrap(), 0);
    hand.pass(1);
    // While the store does not answer nobody could renew it: it is counted anew from then on.
    running.store.fail(Some(Failing::Before));
    running.control.expire_leases().await.unwrap_err();
    running.store.fail(None);
    hand.pass(59);
    assert_eq!(running.control.expire_leases().await.unwrap(), 0);
    hand.pass(1);
    assert_eq!(running.control.expire_leases().await.unwrap(), 1);
    assert!(all.has_changed().unwrap(), "proxies are sent the fallback");
    let (_, lease, body) = send(&running, &[], None).await;
    assert_eq!((split(&body), &body["metadata"]["version"]), (vec![100, 0], &json!(3)));
    assert_eq!(lease.unwrap(), "expired; at=1970-01-01T00:05:20.000Z; lease=1m");
    let problems: Vec<String> = running.control.problems().iter().map(ToString::to_string).collect();
    assert!(problems.iter().any(|problem| problem.contains("the weight lease of 1m ran out")), "{problems:?}");
    // Whoever writes other weights has seen it.
    assert_eq!(send(&running, &[], Some(weights(95, 5))).await.0, 200);
    assert_eq!((send(&running, &[], None).await.1, running.control.problems()), (None, vec![]));
    hand.pass(1000);
    assert_eq!(running.control.expire_leases().await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_nothing_is_changed() {
    let (running, _) = plane(&Arc::default()).await;
    running.load_example().await;
    for (header, value, status) in [
        ("x-tidegate-lease", "1m", 400),
        ("x-tidegate-lease", "1m; fallback=checkout-v9=100", 400),
        ("x-tidegate-lease", "1m; fallback=checkout-v1=100; renews=7", 409),
        ("x-tidegate-fuse", "5", 400),
        ("x-tidegate-fuse", "5; canary=checkout-v9; rollout=r; threshold=5", 400),
    ] {
        let (answered, _, body) = send(&running, &[(header, value)], Some(weights(90, 10))).await;
        assert_eq!(answered, status, "{header}: {value}: {body}");
    }
    let (_, lease, body) = send(&running, &[], None).await;
    assert_eq!((lease, &body["metadata"]["version"]), (None, &json!(1)));
}

#[tokio::test]
async fn of_several_control_planes_one_writes_and_only_what_was_not_renewed() {
    let store: Arc<FakeMeshStore> = Arc::default();
    store.share();
    let ((a, a_hand), (b, b_hand)) = (plane(&store).await, plane(&store).await);
    a.load_example().await;
    leased(&a, 90, 10).await;
    b.control.refresh().await.unwrap();
    // Renewed by way of the one, and the other one has not heard of it when its own count ends.
    a_hand.pass(50);
    leased(&a, 90, 10).await;
    b_hand.pass(60);
    assert_eq!(b.control.expire_leases().await.unwrap(), 0);
    assert_eq!(send(&b, &[], None).await.1.unwrap(), format!("{LEASE}; renewals=1"));
    // Now both counts end at once.
    a_hand.pass(60);
    b_hand.pass(60);
    let (by_a, by_b) = tokio::join!(a.control.expire_leases(), b.control.expire_leases());
    assert_eq!(by_a.unwrap() + by_b.unwrap(), 1);
    for running in [&a, &b] {
        running.control.refresh().await.unwrap();
        let (_, lease, body) = send(running, &[], None).await;
        assert!(lease.unwrap().starts_with("expired; "));
        assert_eq!((split(&body), &body["metadata"]["version"]), (vec![100, 0], &json!(3)));
    }
}

#[tokio::test]
async fn a_control_plane_that_starts_counts_in_full() {
    let store: Arc<FakeMeshStore> = Arc::default();
    let (before, hand) = plane(&store).await;
    before.load_example().await;
    leased(&before, 90, 10).await;
    hand.pass(59);
    drop(before);
    let (after, hand) = plane(&store).await;
    hand.pass(59);
    assert_eq!(after.control.expire_leases().await.unwrap(), 0);
    hand.pass(1);
    assert_eq!(after.control.expire_leases().await.unwrap(), 1);
    // A route that goes takes its lease along.
    leased(&after, 90, 10).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(client.delete(format!("{}{ROUTE}", after.url())).send().await.unwrap().status().as_u16(), 200);
    hand.pass(1000);
    assert_eq!(after.control.expire_leases().await.unwrap(), 0);
}

#[tokio::test]
async fn the_controller_asks_renews_and_leaves_others_alone() {
    let (running, hand) = plane(&Arc::default()).await;
    running.load_example().await;
    let mesh = AppMesh::local(&running.url(), "us-east-1").with_lease(Some(Millis::from_seconds(60)));
    let route = RouteRef { mesh: "shop".into(), router: "checkout-router".into(), route: "checkout".into() };
    let write = |canary: u8, generation| WeightsWrite {
        route: route.clone(),
        canary: ("checkout-v2".into(), canary),
        stable: ("checkout-v1".into(), 100 - canary),
        generation,
        urgent: false,
        fuse: None,
    };
    let default = tidegate::config::keys::KEYS.iter().find(|key| key.path == "mesh.lease").and_then(|key| key.default);
    assert_eq!(
        default,
        Some(tidegate::traffic::appmesh::LEASE.to_string().as_str()),
        "with and without a configuration"
    );
    let lease = async || send(&running, &[], None).await.1;
    let version = mesh.set_weights(&write(10, 1)).await.unwrap();
    let asked = "1m; fallback=checkout-v1=100,checkout-v2=0";
    assert_eq!(lease().await.unwrap(), format!("{asked}; renewals=0"));
    mesh.renew(&write(10, 1)).await.unwrap();
    // The same write once more, whose answer was lost: the version is still its own.
    assert_eq!(mesh.set_weights(&write(10, 1)).await.unwrap(), version);
    assert_eq!(lease().await.unwrap(), format!("{asked}; renewals=2"));
    assert_eq!(mesh.read(&route).await.unwrap().0.version, version);
    // A person who keeps the weights ends the lease without knowing of it, and it goes on with the next renewal.
    assert_eq!(send(&running, &[], Some(weights(90, 10))).await.0, 200);
    assert_eq!(lease().await, None);
    mesh.renew(&write(10, 1)).await.unwrap();
    assert_eq!(lease().await.unwrap(), format!("{asked}; renewals=0"));
    // A person's other weights are nobody's to renew.
    assert_eq!(send(&running, &[], Some(weights(95, 5))).await.0, 200);
    mesh.renew(&write(10, 1)).await.unwrap();
    assert_eq!((lease().await, split(&send(&running, &[], None).await.2)), (None, vec![95, 5]));
    // An older daemon that believes that it drives is refused.
    mesh.set_weights(&write(50, 3)).await.unwrap();
    mesh.renew(&write(50, 2)).await.unwrap();
    assert_eq!(lease().await.unwrap(), format!("{asked}; renewals=0"));
    assert!(mesh.set_weights(&write(90, 2)).await.is_err());
    // It runs out, and that is what is read.
    hand.pass(60);
    assert_eq!(running.control.expire_leases().await.unwrap(), 1);
    mesh.renew(&write(50, 3)).await.unwrap();
    let reading = mesh.read(&route).await.unwrap().0;
    assert_eq!((reading.percent_of("checkout-v2"), reading.lapsed.is_some()), (0, true));
    // The ends have none.
    for canary in [100, 0] {
        mesh.set_weights(&write(canary, 4)).await.unwrap();
        assert_eq!(lease().await, None);
    }
    assert_eq!(mesh.read(&route).await.unwrap().0.lapsed, None);
}
