//! Configuration changes under load.

use super::harness::{Backend, Mesh, Proxy, eventually, full};
use http::{Response, StatusCode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tidegate::mesh::snapshot::Discovery;
use tokio::sync::Semaphore;

/// 200 weight changes under eight busy connections: nothing fails, and every request is counted exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weight_changes_lose_no_request_and_count_each_once() {
    let (stable, canary) = (Backend::text("stable").await, Backend::text("canary").await);
    let mut mesh = Mesh::new(1).target("v1", stable.address, 100).target("v2", canary.address, 0);
    let proxy = Proxy::with(mesh.clone(), |settings| settings.kept_versions = 1000).await;
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let (mut client, stop, sent) = (proxy.client().await, Arc::clone(&stop), Arc::clone(&sent));
        clients.push(tokio::spawn(async move {
            let mut canaries = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let answer = client.get("/").await.unwrap();
                assert_eq!(answer.status, StatusCode::OK);
                canaries += u64::from(answer.text() == "canary");
                sent.fetch_add(1, Ordering::Relaxed);
            }
            canaries
        }));
    }
    for change in 0..200_u32 {
        let weight = change % 101;
        mesh = mesh.reweighted(&[100 - weight, weight]);
        proxy.publish(&mesh).await;
        let so_far = sent.load(Ordering::Relaxed);
        eventually("requests go on", || async { sent.load(Ordering::Relaxed) > so_far + 4 }).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut canaries = 0;
    for client in clients {
        canaries += client.await.unwrap();
    }
    let report = proxy.handle.report();
    let total: u64 = report.series.iter().map(|series| series.outcomes.requests).sum();
    assert_eq!(total, sent.load(Ordering::Relaxed));
    assert_eq!(report.series.iter().map(|series| series.outcomes.errors()).sum::<u64>(), 0);
    let of_canary = report.series.iter().filter(|series| series.key.target == "v2");
    assert_eq!(of_canary.clone().map(|series| series.outcomes.requests).sum::<u64>(), canaries);
    assert!(of_canary.clone().all(|series| series.share > 0.0), "a weight of 0 gets nothing");
    let versions: BTreeMap<u64, f64> = of_canary.map(|series| (series.key.version, series.share)).collect();
    assert!(versions.iter().all(|(version, share)| (*share - ((version - 2) % 101) as f64 / 100.0).abs() < 1e-9));
}

/// A request that is under way when the weights change is counted under the version that routed it.
#[tokio::test]
async fn a_request_under_way_is_counted_under_the_version_that_routed_it() {
    let gate = Arc::new(Semaphore::new(0));
    let opens = Arc::clone(&gate);
    let arrived = Arc::new(Semaphore::new(0));
    let arrives = Arc::clone(&arrived);
    let slow = Backend::http(move |_| {
        let (gate, arrives) = (Arc::clone(&opens), Arc::clone(&arrives));
        async move {
            arrives.add_permits(1);
            gate.acquire().await.unwrap().forget();
            Response::new(full("done"))
        }
    })
    .await;
    let other = Backend::text("other").await;
    let mesh = Mesh::new(1).target("v1", slow.address, 1).target("v2", other.address, 0);
    let proxy = Proxy::start(mesh.clone()).await;
    let mut client = proxy.client().await;
    let under_way = tokio::spawn(async move { client.get("/").await.unwrap().text() });
    arrived.acquire().await.unwrap().forget();
    // The new configuration does not even name the node any more.
    let mut next = mesh.reweighted(&[0, 1]);
    next.route.targets.remove(0);
    next.config.clusters.pop_first();
    proxy.publish(&next).await;
    assert_eq!(proxy.client().await.get("/").await.unwrap().text(), "other");
    gate.add_permits(1);
    assert_eq!(under_way.await.unwrap(), "done");
    let counted: Vec<(u64, String, u64)> = proxy
        .handle
        .report()
        .series
        .into_iter()
        .map(|series| (series.key.version, series.key.target, series.outcomes.requests))
        .collect();
    assert_eq!(counted, [(1, "v1".to_owned(), 1), (2, "v2".to_owned(), 1)]);
}

/// A node whose endpoints nobody has looked up gets no request before they are known.
#[tokio::test]
async fn a_new_node_is_looked_up_before_it_gets_weight() {
    let (stable, canary) = (Backend::text("stable").await, Backend::text("canary").await);
    let mesh = Mesh::new(1).target("v1", stable.address, 1);
    let proxy = Proxy::start(mesh.clone()).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.unwrap().text(), "stable");
    let next = mesh.discovered("v2", Discovery::by_name("localhost", false), canary.address.port(), 1);
    let next = next.reweighted(&[0, 1]);
    proxy.config.send_replace(next.build());
    eventually("moved over", || async {
        let answer = proxy.client().await.get("/").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        answer.text() == "canary"
    })
    .await;
    assert_eq!(proxy.handle.report().series.iter().map(|series| series.outcomes.errors()).sum::<u64>(), 0);
}

/// The proxy goes on with its last configuration when the control plane is gone.
#[tokio::test]
async fn the_last_configuration_outlives_its_sender() {
    let backend = Backend::text("hello").await;
    let Proxy { handle, config } = Proxy::start(Mesh::new(5).target("v1", backend.address, 1)).await;
    drop(config);
    let mut client = super::harness::Client::connect(handle.egress_address()).await;
    assert_eq!(client.get("/").await.unwrap().text(), "hello");
    assert_eq!(handle.applied_version(), 5);
}
