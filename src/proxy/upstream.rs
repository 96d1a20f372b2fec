//! Connections to one endpoint, kept alive between requests. One pool for each endpoint and worker; nothing is shared.
//!
//! A connection has no task of its own: the request that uses it drives it, so that request and answer pass between
//! the two sockets within one task. Whoever takes an idle connection finds out by its first use whether the other side
//! has closed it, and the sweep once a second does for those that nobody takes.

use super::body::{RequestBody, Upload};
use super::socket::HttpSocket;
use crate::clock::Monotonic;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::{Request, Response};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Idle connections kept for each endpoint and worker. One worker saturates a core at far fewer requests in parallel;
/// above that, a burst's connections would only hold file descriptors.
const MAX_IDLE: usize = 256;
/// An idle connection is closed after this: below the 75 s of nginx and the 60 s and more of load balancers.
const MAX_IDLE_AGE: Duration = Duration::from_secs(55);
/// A request that cannot be sent twice only takes a connection that was busy this recently. Common servers close idle
/// ones after 2 s (gunicorn) or 5 s (Node.js), and a request that meets such a close is lost.
const MAX_IDLE_AGE_UNREPEATABLE: Duration = Duration::from_secs(1);
/// Time to connect, as Envoy under App Mesh had it.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Largest head of an answer, and how much of a body waits in memory when a client reads slowly.
const MAX_BUFFER: usize = 64 * 1024;
/// For this long after a refused connect the name's other address family is tried first.
const REFUSAL_REMEMBERED: Duration = Duration::from_secs(5);

/// Idle connections to one endpoint.
pub(super) struct Pool {
    address: SocketAddr,
    idle: RefCell<Vec<Idle>>,
    refused: Cell<Option<Monotonic>>,
}

struct Idle {
    upstream: Upstream,
    since: Monotonic,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoConnection {
    /// Nobody listens there.
    Refused,
    /// No answer in time, unreachable, out of file descriptors.
    Failed,
}

impl Pool {
    pub(super) const fn new(address: SocketAddr) -> Self {
        Self { address, idle: RefCell::new(Vec::new()), refused: Cell::new(None) }
    }

    /// The connection used last. The most recent one is the least likely to be closed by the other side, and the rest
    /// can age away.
    pub(super) fn take(&self, repeatable: bool, now: Monotonic) -> Option<Upstream> {
        let max_age = if repeatable { MAX_IDLE_AGE } else { MAX_IDLE_AGE_UNREPEATABLE };
        self.idle.borrow_mut().pop_if(|idle| now.since(idle.since) <= max_age).map(|idle| idle.upstream)
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Upstream, NoConnection> {
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(self.address)).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                self.refused.set(Some(Monotonic::now()));
                return Err(NoConnection::Refused);
            }
            Ok(Err(_)) | Err(_) => return Err(NoConnection::Failed),
        };
        self.refused.set(None);
        let handshake = Builder::new().max_buf_size(MAX_BUFFER).handshake(HttpSocket::new(stream)).await;
        let (sender, driver) = handshake.map_err(|_| NoConnection::Failed)?;
        Ok(Upstream { sender, driver: Some(Box::pin(driver)) })
    }

    /// Whether a connect was refused a moment ago.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.get().is_some_and(|since| since.elapsed() < REFUSAL_REMEMBERED)
    }

    fn put(&self, upstream: Upstream, since: Monotonic) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { upstream, since });
        }
    }

    /// Closes what has been idle for too long or was closed by the other side.
    pub(super) fn expire(&self) {
        self.idle.borrow_mut().retain_mut(|idle| {
            // Lets go of the task that used the connection last, too: its waker would keep it in memory.
            idle.upstream.drive(&mut Context::from_waker(Waker::noop()));
            idle.upstream.is_free() && idle.since.elapsed() <= MAX_IDLE_AGE
        });
    }
}

/// A connection to an endpoint.
pub(super) struct Upstream {
    sender: SendRequest<RequestBody>,
    /// Reads and writes; `None` once the connection has ended.
    driver: Option<Pin<Box<Connection<HttpSocket, RequestBody>>>>,
}

impl Upstream {
    /// Reads and writes what can be now.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if self.driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
            // What went wrong reaches the request as its error; dropping the driver hands an unsent request back.
            self.driver = None;
        }
    }

    /// Hands a request over. Its answer's head comes while the connection is driven.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        self.sender.try_send_request(request)
    }

    /// Whether the next request can be sent.
    fn is_free(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Lets what was handed over go out, then closes.
    fn finish(self) {
        if let Some(driver) = self.driver {
            tokio::task::spawn_local(async move {
                // The answer is complete; nobody asks how this ends.
                let _ = driver.await;
            });
        }
    }
}

/// A connection that is busy with one exchange.
pub(super) struct Lease {
    pub(super) upstream: Upstream,
    pub(super) pool: Rc<Pool>,
    pub(super) upload: Option<Rc<Upload>>,
}

impl Lease {
    /// The answer is complete: the next request may have the connection, unless this one's body is still going out.
    pub(super) fn give_back(self, now: Monotonic) {
        let upload_is_over = self.upload.is_none_or(|upload| upload.is_finished());
        if upload_is_over && self.upstream.is_free() {
            self.pool.put(self.upstream, now);
        } else {
            self.upstream.finish();
        }
    }
}
