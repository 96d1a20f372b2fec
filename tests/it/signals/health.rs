//! Health checks by HTTP, gRPC and TCP against real listeners.

use super::server::{Reply, Server};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tidegate::base::fault::Fault;
use tidegate::policy::plan::HealthProbe;
use tidegate::ports::{Checked, Health, NodeEndpoints};
use tidegate::signals::health::EndpointHealth;
use tokio::net::TcpListener;

struct Fixed(Vec<Vec<SocketAddr>>);

#[async_trait]
impl NodeEndpoints for Fixed {
    async fn endpoints(&self, _: &str, _: &str) -> Result<Vec<Vec<SocketAddr>>, Fault> {
        Ok(self.0.clone())
    }
}

async fn check(endpoints: Vec<Vec<SocketAddr>>, probe: HealthProbe) -> Checked {
    let health = EndpointHealth::new(Arc::new(Fixed(endpoints))).unwrap();
    health.check("shop", "v2", &probe).await.unwrap()
}

fn grpc(service: &str) -> HealthProbe {
    HealthProbe::Grpc { service: service.to_owned() }
}

/// What a gRPC server answers: status of HTTP, the message without its prefix, `grpc-status` in trailers.
#[derive(Debug, Clone)]
struct Says(u16, &'static [u8], Option<&'static str>);

/// A server of gRPC that checks what it is asked.
async fn grpc_server(says: Says) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let says = says.clone();
            let answer = service_fn(move |request| answer(request, says.clone()));
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer));
        }
    });
    address
}

type Body = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn answer(request: Request<Incoming>, says: Says) -> Result<Response<Body>, Infallible> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    assert!([&b"\0\0\0\0\0"[..], b"\0\0\0\0\x0f\x0a\x0dshop.Checkout"].contains(&&asked[..]), "{asked:?}");
    let Says(status, message, grpc_status) = says;
    let mut framed = vec![0, 0, 0, 0, message.len() as u8];
    framed.extend_from_slice(message);
    let mut frames = Vec::new();
    let mut response = Response::builder().status(status).header("content-type", "application/grpc");
    match grpc_status {
        Some("0") => {
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            frames.extend([Ok(Frame::data(Bytes::from(framed))), Ok(Frame::trailers(trailers))]);
        }
        // Without a message the status is in the head.
        Some(other) => response = response.header("grpc-status", other).header("grpc-message", "some text"),
        None => frames.push(Ok(Frame::data(Bytes::from(framed)))),
    }
    Ok(response.body(StreamBody::new(futures_util::stream::iter(frames))).unwrap())
}

#[tokio::test]
async fn a_grpc_service_that_serves_is_well_and_every_other_answer_is_told() {
    let well = grpc_server(Says(200, &[0x08, 1], Some("0"))).await;
    for service in ["", "shop.Checkout"] {
        assert_eq!(check(vec![vec![well]], grpc(service)).await, Checked { asked: 1, failed: 0, first: None });
    }
    for (says, text) in [
        (Says(200, &[0x08, 2], Some("0")), "says that shop.Checkout is NOT_SERVING"),
        (Says(200, &[], Some("0")), "says that shop.Checkout is UNKNOWN"),
        (Says(200, &[0x08, 3], Some("0")), "says that shop.Checkout is SERVICE_UNKNOWN"),
        (Says(200, &[0x0b], Some("0")), "answered its gRPC health check with something else than a status"),
        (Says(200, &[0x08, 1], None), "answered its gRPC health check without a status"),
        (Says(200, &[], Some("5")), "does not know shop.Checkout"),
        (Says(200, &[], Some("12")), "does not offer grpc.health.v1.Health"),
        (Says(200, &[], Some("14")), "answered its gRPC health check with status 14: some text"),
        (Says(503, &[], None), "answered status 503 to a gRPC health check"),
    ] {
        let ill = grpc_server(says).await;
        let checked = check(vec![vec![well], vec![ill]], grpc("shop.Checkout")).await;
        assert_eq!(checked, Checked { asked: 2, failed: 1, first: Some(format!("{ill} {text}")) });
    }
}

#[tokio::test]
async fn what_does_not_speak_grpc_or_hangs_or_refuses_has_failed() {
    let plain = Server::start(Reply::Body(200, "{}".to_owned())).await;
    let mute = Server::start(Reply::Nothing).await;
    let address = |server: &Server| server.url.trim_start_matches("http://").parse::<SocketAddr>().unwrap();
    // Bound for the whole test and never listened on: nobody else can get it.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    closed.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let closed_at = closed.local_addr().unwrap().as_socket().unwrap();
    let refused = format!("{closed_at} takes no connection");
    let (plain_at, mute_at) = (address(&plain), address(&mute));
    let rows = [
        (vec![plain_at], grpc(""), Some(format!("{plain_at} does not speak gRPC without TLS"))),
        (
            vec![mute_at],
            grpc("shop.Checkout"),
            Some(format!("{mute_at} did not answer the gRPC health check of shop.Checkout within 2 s")),
        ),
        (vec![closed_at], grpc(""), Some(refused.clone())),
        (vec![closed_at], HealthProbe::Tcp, Some(refused.clone())),
        (vec![mute_at], HealthProbe::Tcp, None),
        (vec![closed_at, mute_at], HealthProbe::Tcp, None),
        (vec![plain_at], HealthProbe::Http { path: "/health".to_owned() }, None),
        (vec![closed_at], HealthProbe::Http { path: "/health".to_owned() }, Some(refused)),
    ];
    for (addresses, probe, first) in rows {
        let failed = usize::from(first.is_some());
        assert_eq!(check(vec![addresses], probe.clone()).await, Checked { asked: 1, failed, first }, "{probe:?}");
    }
    assert_eq!(check(vec![], HealthProbe::Tcp).await, Checked::default(), "nobody to ask is no answer");
}
