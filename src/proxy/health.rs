//! Active health checks of one endpoint, on the control runtime. What the results mean is `health_state`'s to say.
//!
//! HTTP asks for the check's path and wants 200, as Envoy does. TCP wants a connection. HTTP/2 and gRPC are checked as
//! TCP in this version.

use super::config::SetKey;
use super::control::Event;
use super::upstream::CONNECT_TIMEOUT;
use crate::mesh::snapshot::{HealthCheck, Protocol};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

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
    events: mpsc::Sender<Event>,
) {
    let asked = SocketAddr::new(address.ip(), check.port.unwrap_or(address.port()));
    loop {
        let limit = check.timeout.duration().max(SHORTEST);
        let passed = timeout(limit, probe(&check, &host, asked)).await.unwrap_or(false);
        if events.send(Event::Checked(Checked { set: set.clone(), address, passed })).await.is_err() {
            return;
        }
        sleep(check.interval.duration().max(SHORTEST)).await;
    }
}

async fn probe(check: &HealthCheck, host: &str, address: SocketAddr) -> bool {
    let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await else { return false };
    if check.protocol != Protocol::Http {
        return true;
    }
    let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(stream)).await else { return false };
    let path = if check.path.is_empty() { "/" } else { &check.path };
    let request =
        Request::get(path).header(http::header::HOST, host).header(http::header::USER_AGENT, "tidegate-health");
    let Ok(request) = request.body(Empty::<Bytes>::new()) else { return false };
    tokio::select! {
        answered = sender.send_request(request) => answered.is_ok_and(|answer| answer.status() == StatusCode::OK),
        // The connection has to be driven; when it ends first there is no answer.
        _ = connection => false,
    }
}
