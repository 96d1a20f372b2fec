//! Ports of a virtual gateway that come, go, and move while clients are there.

use super::harness::{Backend, Client, Mesh, Proxy, eventually};
use crate::kit::ports::steady_port;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tidegate::base::time::Millis;
use tidegate::mesh::snapshot::{
    GatewayRoute, GatewayTarget, IpPreference, Listener, Own, PathMatch, PathRewrite, Protocol, Role, RouteMatch,
};
use tokio::net::TcpStream;

/// A mesh whose gateway sends everything to its one service, from these ports.
fn gateway(backend: &Backend, version: u64, ports: &[u16], ip_preference: IpPreference) -> Mesh {
    let (request_timeout, idle_timeout, pool, tls) = Default::default();
    let listener = |port: &u16| Listener {
        port: *port,
        protocol: Protocol::Http,
        request_timeout,
        idle_timeout,
        pool,
        tls: Clone::clone(&tls),
    };
    let route = GatewayRoute {
        name: "all".into(),
        version: 1,
        protocol: Protocol::Http,
        host: None,
        matches: RouteMatch { path: PathMatch::Prefix("/".into()), ..RouteMatch::default() },
        target: GatewayTarget { service: "shop.local".into(), port: None },
        rewrite_host: true,
        path: PathRewrite::Keep,
        request_timeout: Some(Millis(15_000)),
    };
    let own = Own {
        mesh: "m".into(),
        name: "front".into(),
        role: Role::Gateway(vec![Arc::new(route)]),
        listeners: ports.iter().map(listener).collect(),
        allow_all: false,
        access_log: None,
        ip_preference,
    };
    let mut mesh = Mesh::new(version).target("v1", backend.address, 100);
    mesh.config.own = Some(Arc::new(own));
    mesh
}

async fn start(mesh: Mesh, at: Ipv4Addr) -> Proxy {
    Proxy::with(mesh, |settings| settings.gateway = Some(IpAddr::V4(at))).await
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[tokio::test]
async fn who_is_connected_to_a_port_that_goes_is_answered_and_told_to_go() {
    let backend = Backend::text("hello").await;
    let (stays, goes) = (steady_port(), steady_port());
    let unset = IpPreference::Unset;
    let proxy = start(gateway(&backend, 1, &[stays, goes], unset), Ipv4Addr::LOCALHOST).await;
    let (mut kept, mut other) = (Client::connect(at(goes)).await, Client::connect(at(stays)).await);
    let stream = TcpStream::connect(at(goes)).await.unwrap();
    let (mut http2, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let ask = || Request::get(format!("http://any:{goes}/")).body(Empty::<bytes::Bytes>::new()).unwrap();
    assert_eq!(http2.send_request(ask()).await.unwrap().status(), StatusCode::OK);
    for client in [&mut kept, &mut other] {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.status, answer.headers.get("connection")), (StatusCode::OK, None));
    }
    // Connected, and silent until the port is gone.
    let mut silent = Client::connect(at(goes)).await;

    proxy.config.send_replace(gateway(&backend, 2, &[stays], unset).build());
    eventually("nobody new is taken", || async { TcpStream::connect(at(goes)).await.is_err() }).await;
    for client in [&mut kept, &mut silent] {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "hello".to_owned()));
        assert_eq!(answer.headers["connection"], "close");
    }
    // One of HTTP/2 is told by a frame, and ends by itself.
    connection.await.unwrap().unwrap();
    assert!(http2.send_request(ask()).await.is_err());
    let answer = other.get("/").await.unwrap();
    assert_eq!((answer.status, answer.headers.get("connection")), (StatusCode::OK, None), "its port stays");

    // The port comes back, and is as any other.
    proxy.config.send_replace(gateway(&backend, 3, &[stays, goes], unset).build());
    eventually("it is taken again", || async { TcpStream::connect(at(goes)).await.is_ok() }).await;
    let answer = Client::connect(at(goes)).await.get("/").await.unwrap();
    assert_eq!((answer.status, answer.headers.get("connection")), (StatusCode::OK, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_moves_to_another_family_is_never_refused() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: needs IPv6");
        return;
    }
    let backend = Backend::text("hello").await;
    let port = steady_port();
    let families = [IpPreference::V4Preferred, IpPreference::Unset];
    let proxy = start(gateway(&backend, 1, &[port], families[1]), Ipv4Addr::UNSPECIFIED).await;
    let (stop, refused, made): (Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
    let knocking = {
        let (stop, refused, made) = (Arc::clone(&stop), Arc::clone(&refused), Arc::clone(&made));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let error = TcpStream::connect(at(port)).await.err();
                let is_refusal = error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
                refused.fetch_add(u64::from(is_refusal), Ordering::Relaxed);
                made.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let mut version = 1;
    for _ in 0..10 {
        for family in families {
            version += 1;
            proxy.config.send_replace(gateway(&backend, version, &[port], family).build());
            eventually("it listens there", || async {
                let both = proxy.handle.gateway_addresses().iter().all(SocketAddr::is_ipv6);
                both == (family == IpPreference::V4Preferred)
            })
            .await;
            let before = made.load(Ordering::Relaxed);
            eventually("somebody came", || async { made.load(Ordering::Relaxed) > before + 10 }).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    knocking.await.unwrap();
    assert_eq!(refused.load(Ordering::Relaxed), 0, "of {}", made.load(Ordering::Relaxed));
    let answer = Client::connect(at(port)).await.get("/").await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}
