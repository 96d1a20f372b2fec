//! A control plane with a proxy in its process answers a change when that proxy routes by it.

use super::Running;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate::mesh::compile::View;
use tidegate::mesh::model::{Extensions, Key, Kind, Request};
use tokio::sync::watch;

fn weights(canary: u32) -> Request {
    let target = |node: &str, weight: u32| json!({ "virtualNode": node, "weight": weight });
    let targets = [target("checkout-v1", 100 - canary), target("checkout-v2", canary)];
    Request::Update {
        key: Key::grandchild("shop", Kind::Route, "checkout-router", "checkout"),
        owner: None,
        body: json!({ "spec": { "httpRoute": { "match": { "prefix": "/" }, "action": { "weightedTargets": targets } } } }),
        extensions: Extensions::default(),
    }
}

/// Time passes only where everybody waits, so it is the order of things that is tested.
#[tokio::test(start_paused = true)]
async fn a_change_is_answered_when_the_proxy_beside_routes_by_it() {
    let running = Running::start().await;
    running.load_example().await;
    let control = &running.control;
    let mut published = control.subscribe(View::AllServices);
    let (routes_by, seen) = watch::channel(published.borrow_and_update().version);
    control.wait_for_proxy(View::AllServices, seen);
    let is_routed = Arc::new(AtomicBool::new(false));
    let routed = Arc::clone(&is_routed);
    let proxy = tokio::spawn(async move {
        published.changed().await.unwrap();
        let version = published.borrow_and_update().version;
        // That of another change.
        routes_by.send_replace(version - 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        routed.store(true, Ordering::SeqCst);
        routes_by.send_replace(version);
        routes_by
    });
    control.execute(weights(7)).await.unwrap();
    assert!(is_routed.load(Ordering::SeqCst), "it was answered before");
    // One that waits for something itself holds no answer up for long, and one that has ended not at all.
    let routes_by = proxy.await.unwrap();
    let soon = Duration::from_millis(150);
    tokio::time::timeout(soon, control.execute(weights(8))).await.expect("held up").unwrap();
    drop(routes_by);
    let at_once = Duration::from_millis(50);
    tokio::time::timeout(at_once, control.execute(weights(9))).await.expect("held up").unwrap();
}
