//! Serves a listener over HTTP/1.1, with TLS or without, and lets no client hold more of it than it needs.
//!
//! Everything that a client can draw out has a time: the handshake, the head of a request, its body, reading the answer,
//! and silence between requests. Connections are bounded, and one too many is told so at once. When the process stops no
//! more is taken, and what is under way finishes.

mod body;
mod pulse;

use crate::clock::{Clock, Monotonic, SystemClock};
use crate::tls::{RELOAD, Reloaded, Tls};
use axum::Router;
use axum::body::Body;
use body::{InTime, Tracked};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pulse::{Pulse, Watched};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// When the system has no more sockets, accepting pauses: they come back as connections end.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// Connections that were turned away are told in the log so often, however many they are.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Answer to one connection too many; said without reading what it wanted.
const TURNED_AWAY: &str = "{\"type\":\"tidegate:too-many-connections\",\"title\":\"too many connections\",\
\"status\":503,\"detail\":\"the daemon has as many connections as it takes\",\"hint\":\"try again in a moment\",\
\"retryable\":true}";

/// What a client may take of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// The longest head of a request in bytes; 8 KiB at least.
    pub head_bytes: usize,
    /// For the handshake of TLS.
    pub handshake: Duration,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// For the body, once its handler reads it.
    pub body: Duration,
    /// Between requests, and before the first.
    pub idle: Duration,
    /// For a client to take some more of an answer.
    pub write: Duration,
    /// For what is under way when the process stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A file descriptor and some 50 kB each, with TLS; a team has dozens of clients, most of them listening to events.
            connections: 1024,
            // Ours are below 1 KiB; a load balancer in front adds some, and single sign-on long cookies.
            head_bytes: 32 * 1024,
            // Two ways over the worst of networks, several times.
            handshake: Duration::from_secs(10),
            // The same for what fits into a few packets.
            head: Duration::from_secs(10),
            // Bodies have up to 64 KiB, those of hooks more: minutes of a modem.
            body: Duration::from_secs(30),
            // Longer than a load balancer's 60 s, which must be the one to close: it may just be sending a request.
            idle: Duration::from_secs(75),
            // Events are sent every 15 s at least; a client that takes none for so long is gone or stuck.
            write: Duration::from_secs(60),
            // An answer takes one commit, and streams of events end by themselves; whoever stops the process waits no longer.
            drain: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// How often a connection is looked at.
    fn tick(&self) -> Duration {
        let shortest = [self.head, self.idle, self.write].into_iter().min().unwrap_or(self.idle);
        (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }
}

/// Serves until `stop`; ends when what was under way then has finished, or [`Limits::drain`] has passed. The files of `tls`
/// are followed as long, for whatever else shows the same certificate too.
pub fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    if let Some(tls) = &tls {
        tokio::spawn(follow(Arc::clone(tls), stop.clone()));
    }
    let server = Server { router, tls, limits, stop, places: Arc::new(Semaphore::new(limits.connections)) };
    tokio::spawn(server.run(listener))
}

/// Reads the certificate again when its files change, until `stop`.
async fn follow(tls: Arc<Tls>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RELOAD) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let reading = Arc::clone(&tls);
        // Reads files, of a few kB.
        let reloaded = tokio::task::spawn_blocking(move || reading.reload(SystemClock.now())).await;
        match reloaded {
            Ok(Reloaded::Changed) => {
                tracing::info!(file = %tls.file().display(), "the new certificate is shown from now on");
            }
            Ok(Reloaded::Kept(error)) => tracing::error!(%error, "the last good certificate stays"),
            Ok(Reloaded::Unchanged) | Err(_) => {}
        }
    }
}

#[derive(Clone)]
struct Server {
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    stop: watch::Receiver<bool>,
    places: Arc<Semaphore>,
}

impl Server {
    async fn run(mut self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let mut told: Option<Monotonic> = None;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                _ = self.stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, _)) => match Arc::clone(&self.places).try_acquire_owned() {
                    Ok(place) => {
                        connections.spawn(self.clone().connection(stream, place));
                    }
                    Err(_) => {
                        self.turn_away(&stream);
                        if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                            told = Some(Monotonic::now());
                            tracing::warn!(most = self.limits.connections, "connections turned away: too many at once");
                        }
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        // Nobody comes in any more.
        drop(listener);
        let finishing = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.drain, finishing).await.is_err() {
            tracing::warn!(connections = connections.len(), "connections of the API cut: still busy at the end");
            connections.shutdown().await;
        }
    }

    /// Says so where that takes no reading: with TLS a word would take a handshake.
    fn turn_away(&self, stream: &TcpStream) {
        if self.tls.is_none() {
            let answer = format!(
                "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 2\r\n\
                 connection: close\r\ncontent-length: {}\r\n\r\n{TURNED_AWAY}",
                TURNED_AWAY.len()
            );
            // It fits into an empty buffer; where it does not, closing says enough.
            let _ = stream.try_write(answer.as_bytes());
        }
    }

    async fn connection(self, stream: TcpStream, place: OwnedSemaphorePermit) {
        // Answers are small, and a client waits for each.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => self.speak(stream).await,
            Some(tls) => {
                let accepting = TlsAcceptor::from(tls.config()).accept(stream);
                match tokio::time::timeout(self.limits.handshake, accepting).await {
                    Ok(Ok(stream)) => self.speak(stream).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a handshake of TLS failed"),
                    Err(_) => tracing::debug!("a handshake of TLS took too long"),
                }
            }
        }
        drop(place);
    }

    async fn speak(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let pulse = Arc::new(Pulse::new(Monotonic::now()));
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&pulse)));
        let service = service_fn(|request: Request<Incoming>| {
            let router = self.router.clone();
            let request = request.map(|body| Body::new(InTime::new(body, self.limits.body)));
            let busy = Pulse::request(&pulse);
            async move {
                // A router's error type has no values.
                let response = router.oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
                // The request lasts until its answer is out, or nobody wants it any more.
                Ok::<_, Infallible>(response.map(|body| Tracked::new(body, busy)))
            }
        });
        // Less than this is refused by a panic.
        let head = self.limits.head_bytes.max(8192);
        let mut connection =
            pin!(http1::Builder::new().max_buf_size(head).max_header_size(head).serve_connection(io, service));
        let mut stop = self.stop.clone();
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection of the API broke off");
                    }
                    return;
                }
                () = tokio::time::sleep(self.limits.tick()) => {
                    if let Some(cut) = pulse.cut(&self.limits, Monotonic::now()) {
                        tracing::debug!(?cut, "a connection of the API is closed");
                        return;
                    }
                }
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
