//! How a proxy starts, drains and stops, and its bounds.

use super::harness::{Backend, Client, Mesh, Proxy, eventually, full};
use http::{Method, Response, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tidegate::discovery::dns::DnsSource;
use tidegate::proxy::{self, ProxyError, ProxySettings};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

/// A backend that answers once it is let, and the two gates: one tells of arrivals, the other lets go.
async fn gated() -> (Backend, Arc<Semaphore>, Arc<Semaphore>) {
    let (arrived, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (arrives, opens) = (Arc::clone(&arrived), Arc::clone(&gate));
    let backend = Backend::http(move |_| {
        let (arrives, opens) = (Arc::clone(&arrives), Arc::clone(&opens));
        async move {
            arrives.add_permits(1);
            opens.acquire().await.unwrap().forget();
            Response::new(full("done"))
        }
    })
    .await;
    (backend, arrived, gate)
}

#[tokio::test]
async fn draining_finishes_what_is_under_way_and_closes_idle_connections() {
    let (backend, arrived, gate) = gated().await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let address = proxy.handle.egress_address();
    let (mut busy, mut idle, untouched) = (proxy.client().await, proxy.client().await, proxy.client().await);
    gate.add_permits(1);
    assert_eq!(idle.get("/").await.unwrap().status, StatusCode::OK);
    arrived.acquire().await.unwrap().forget();
    let under_way = tokio::spawn(async move { busy.get("/").await });
    arrived.acquire().await.unwrap().forget();

    proxy.admin(Method::POST, "/drain_listeners").await;
    eventually("accepts no more", || async { TcpStream::connect(address).await.is_err() }).await;
    // A client that was idle may already be sending its next request: it is served, and told to close.
    let told = tokio::spawn(async move { idle.get("/").await });
    arrived.acquire().await.unwrap().forget();
    let (reporter, mut untouched) = (proxy.handle.reporter(), untouched);
    let draining = tokio::spawn(proxy.handle.drain(Duration::from_secs(20)));
    eventually("the idle one is closed", || std::future::ready(untouched.sender.is_closed())).await;
    assert!(untouched.get("/").await.is_err() && !draining.is_finished());
    gate.add_permits(2);
    for answer in [told.await.unwrap().unwrap(), under_way.await.unwrap().unwrap()] {
        assert_eq!((answer.text().as_str(), answer.headers["connection"].as_bytes()), ("done", &b"close"[..]));
    }
    assert_eq!(draining.await.unwrap().cut, 0);
    assert_eq!(reporter.report().series[0].outcomes.requests, 3);
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let (backend, arrived, _gate) = gated().await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let mut busy = proxy.client().await;
    let under_way = tokio::spawn(async move { busy.get("/").await });
    arrived.acquire().await.unwrap().forget();
    assert_eq!(proxy.handle.drain(Duration::from_millis(100)).await.cut, 1);
    assert!(under_way.await.unwrap().is_err());
}

#[tokio::test]
async fn the_admin_interface_drains_and_asks_to_quit() {
    let backend = Backend::text("hello").await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("/").await.unwrap().status, StatusCode::OK);
    let asked = tokio::spawn(proxy.handle.quit_requested());
    assert_eq!(proxy.admin(Method::GET, "/ready").await.text(), "LIVE\n");
    assert_eq!(proxy.admin(Method::POST, "/drain_listeners").await.status, StatusCode::OK);
    let address = proxy.handle.egress_address();
    eventually("accepts no more", || async { TcpStream::connect(address).await.is_err() }).await;
    let ready = proxy.admin(Method::GET, "/ready").await;
    assert_eq!((ready.status, ready.text().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n"));
    assert!(proxy.admin(Method::GET, "/server_info").await.text().contains("\"state\":\"DRAINING\""));
    assert_eq!(client.get("/").await.unwrap().status, StatusCode::OK, "what is connected is still served");
    assert!(!asked.is_finished());
    assert_eq!(proxy.admin(Method::POST, "/quitquitquit").await.status, StatusCode::OK);
    asked.await.unwrap();
    assert_eq!(proxy.handle.drain(Duration::from_secs(5)).await.cut, 0);
}

#[tokio::test]
async fn a_taken_address_is_told_with_the_option_that_moves_it() {
    let taken = Proxy::start(Mesh::new(1)).await;
    let start = |egress, admin| async move {
        let settings = ProxySettings { admin, workers: 1, ..ProxySettings::new("second", egress) };
        let (_config, receiver) = watch::channel(Mesh::new(1).build());
        proxy::start(settings, receiver, Arc::new(DnsSource)).await.err().unwrap()
    };
    let (egress, admin) = (taken.handle.egress_address(), taken.handle.admin_address().unwrap());
    for (error, address, flag) in [
        (start(egress, None).await, egress, "--egress"),
        (start(([127, 0, 0, 1], 0).into(), Some(admin)).await, admin, "--admin"),
    ] {
        assert!(matches!(error, ProxyError::Bind { .. }));
        let text = error.to_string();
        assert!(text.contains(&address.to_string()) && text.contains(flag), "{text}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_turned_away() {
    let backend = Backend::text("hello").await;
    let proxy =
        Proxy::with(Mesh::new(1).target("v1", backend.address, 1), |settings| settings.max_connections = 2).await;
    let mut kept: Vec<Client> = vec![proxy.client().await, proxy.client().await];
    for client in &mut kept {
        assert_eq!(client.get("/").await.unwrap().status, StatusCode::OK);
    }
    let mut third = TcpStream::connect(proxy.handle.egress_address()).await.unwrap();
    let mut told = String::new();
    third.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("too many connections"), "{told}");
    drop(kept.pop());
    eventually("room again", || async { proxy.client().await.get("/").await.is_ok_and(|answer| answer.status == 200) })
        .await;
    assert_eq!(kept[0].get("/").await.unwrap().status, StatusCode::OK);
}
