//! Active health checks of one endpoint, on the control runtime. What the results mean is `health_state`'s to say.
//!
//! HTTP (1.1 or 2) asks for the check's path and wants 200, as Envoy does. gRPC wants the server as a whole to say that it
//! serves (`grpc.health.v1.Health`). TCP wants a connection.

use super::config::SetKey;
use super::control::Event;
use super::stream::Stream;
use super::tls::Towards;
use super::upstream::dial;
use crate::mesh::snapshot::{HealthCheck, Protocol};
use crate::probe::grpc;
use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Who asks, in the endpoint's log.
const ASKER: &str = "tidegate-health";
/// Shortest time between checks, whatever is configured: App Mesh allows no less than 5 s, tests want less.
const SHORTEST: Duration = Duration::from_millis(10);

/// Result of a check.
pub(super) struct Checked {
    pub(super) set: SetKey,
    pub(super) address: SocketAddr,
    pub(super) passed: bool,
}

/// Checks an endpoint for as long as the task runs.
pub(super) async fn watch(
    check: HealthCheck,
    host: String,
    set: SetKey,
    address: SocketAddr,
    towards: Towards,
    events: mpsc::Sender<Event>,
) {
    let asked = SocketAddr::new(address.ip(), check.port.unwrap_or(address.port()));
    loop {
        let limit = check.timeout.duration().max(SHORTEST);
        let passed = timeout(limit, probe(&check, &host, asked, &towards)).await.unwrap_or(false);
        if events.send(Event::Checked(Checked { set: set.clone(), address, passed })).await.is_err() {
            return;
        }
        sleep(check.interval.duration().max(SHORTEST)).await;
    }
}

async fn probe(check: &HealthCheck, host: &str, address: SocketAddr, towards: &Towards) -> bool {
    let Ok(stream) = dial(address, towards).await else { return false };
    let path = if check.path.is_empty() { "/" } else { &check.path };
    match check.protocol {
        Protocol::Http => over_http1(stream, host, path).await.is_some_and(|status| status == StatusCode::OK),
        Protocol::Http2 => over_http2(stream, host, path).await.is_some_and(|status| status == StatusCode::OK),
        Protocol::Grpc => grpc::check(stream, "").await.is_ok(),
        Protocol::Tcp => true,
    }
}

async fn over_http1(stream: Stream, host: &str, path: &str) -> Option<StatusCode> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get(path).header(HOST, host).header(USER_AGENT, ASKER).body(Empty::<Bytes>::new()).ok()?;
    tokio::select! {
        answered = sender.send_request(request) => answered.ok().map(|answer| answer.status()),
        // The connection has to be driven; when it ends first there is no answer.
        _ = connection => None,
    }
}

async fn over_http2(stream: Stream, host: &str, path: &str) -> Option<StatusCode> {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(host).path_and_query(path).build().ok()?;
    let request = Request::get(uri).header(USER_AGENT, ASKER).body(Empty::<Bytes>::new()).ok()?;
    tokio::select! {
        answered = sender.send_request(request) => answered.ok().map(|answer| answer.status()),
        _ = connection => None,
    }
}
