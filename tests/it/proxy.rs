//! The native proxy between real sockets: backends and clients made here.
#![allow(clippy::unwrap_used, reason = "clippy allows it in test functions; their helpers are tests too")]

mod admin;
mod answers;
mod balance;
mod carried;
mod counted;
mod doors;
mod ends;
mod extensions;
mod failures;
mod frames;
mod fuse;
mod harness;
mod hostile;
mod http2;
mod idle;
mod observe;
mod reload;
mod removed;
mod told;
mod tunnel;
mod wire;

use harness::{Backend, Mesh, Proxy, eventually};
use http::{Method, StatusCode};

/// Requests and errors over all series.
fn sums(proxy: &Proxy) -> (u64, u64) {
    let report = proxy.handle.report();
    report.series.iter().fold((0, 0), |(requests, errors), series| {
        (requests + series.outcomes.requests, errors + series.outcomes.errors())
    })
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_so_does_the_one_upstream() {
    let backend = Backend::text("hello").await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 100)).await;
    let mut client = proxy.client().await;
    for _ in 0..50 {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "hello".to_owned()));
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(sums(&proxy), (50, 0));
    let series = &proxy.handle.report().series[0];
    assert_eq!((series.key.target.as_str(), series.share), ("v1", 1.0));
    assert_eq!(series.key.endpoint, backend.address.to_string());
    assert_eq!(series.latency.total(), 50);
}

#[tokio::test]
async fn requests_fall_in_proportion_to_the_weights() {
    let (stable, canary) = (Backend::text("stable").await, Backend::text("canary").await);
    let mesh = Mesh::new(7).target("v1", stable.address, 80).target("v2", canary.address, 20);
    let proxy = Proxy::start(mesh).await;
    let n = 2000_u32;
    let mut client = proxy.client().await;
    let mut canaries = 0_u32;
    for _ in 0..n {
        canaries += u32::from(client.get("/").await.unwrap().text() == "canary");
    }
    let (mean, sigma) = (f64::from(n) * 0.2, (f64::from(n) * 0.2 * 0.8).sqrt());
    assert!((f64::from(canaries) - mean).abs() < 6.0 * sigma, "{canaries} of {n}");
    let report = proxy.handle.report();
    let counted = |node: &str| -> u64 {
        report.series.iter().filter(|s| s.key.target == node).map(|s| s.outcomes.requests).sum()
    };
    assert_eq!((counted("v1"), counted("v2")), (u64::from(n - canaries), u64::from(canaries)));
    assert!(report.series.iter().all(|series| series.key.version == 7));
}

#[tokio::test]
async fn what_no_draw_placed_is_answered_and_not_judged() {
    let backend = Backend::text("hello").await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 100).prefix("/shop")).await;
    let mut client = proxy.client().await;
    for (host, path, status) in
        [("other.local", "/shop", 404), ("shop.local", "/", 404), ("SHOP.local:80", "/shop?x=/", 200)]
    {
        let answer = client.request(Method::GET, host, path, &[]).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{host}{path}");
        assert_eq!(answer.headers.contains_key("x-tidegate-reason"), status == 404);
        assert_eq!(answer.body.is_empty(), status == 404);
    }
    let upgrade =
        client.request(Method::GET, "shop.local", "/shop", &[("connection", "upgrade"), ("upgrade", "other")]);
    assert_eq!(upgrade.await.unwrap().status, StatusCode::FORBIDDEN);
    assert_eq!(sums(&proxy), (1, 0));
    eventually("they are counted apart", || async { proxy.stat("proxy.unrouted").await == 3 }).await;
}
