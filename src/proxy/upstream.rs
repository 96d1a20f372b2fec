//! Connections to one endpoint, kept alive between requests. One pool for each endpoint and worker; nothing is shared.

use super::body::{RequestBody, Upload};
use crate::clock::Monotonic;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
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
/// How long a connection may take from the end of an answer to being free: a turn or two of the worker's loop.
const SETTLE: Duration = Duration::from_millis(5);
/// For this long after a refused connect the name's other address family is tried first.
const REFUSAL_REMEMBERED: Duration = Duration::from_secs(5);

/// Idle connections to one endpoint.
pub(super) struct Pool {
    address: SocketAddr,
    idle: RefCell<Vec<Idle>>,
    refused: Cell<Option<Monotonic>>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
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

    /// The connection used last that still seems open. The most recent one is the least likely to be closed by the
    /// other side, and the rest can age away.
    pub(super) async fn take(&self, repeatable: bool) -> Option<SendRequest<RequestBody>> {
        let max_age = if repeatable { MAX_IDLE_AGE } else { MAX_IDLE_AGE_UNREPEATABLE };
        loop {
            // Its own statement, so that the borrow ends before the wait.
            let popped = self.idle.borrow_mut().pop_if(|idle| idle.since.elapsed() <= max_age);
            let Idle { mut sender, .. } = popped?;
            if sender.is_ready() {
                return Some(sender);
            }
            // Ready as soon as its task has seen the end of the last exchange. One that takes longer is still stuck in
            // that exchange, and this request must not wait for it.
            if !sender.is_closed() && matches!(timeout(SETTLE, sender.ready()).await, Ok(Ok(()))) {
                return Some(sender);
            }
        }
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<SendRequest<RequestBody>, NoConnection> {
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
        // Heads and small bodies go out in one write each; waiting for more would only add delay.
        let _ = stream.set_nodelay(true);
        let handshake = Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|_| NoConnection::Failed)?;
        tokio::task::spawn_local(async move {
            // What goes wrong here reaches the request as its error.
            let _ = connection.await;
        });
        Ok(sender)
    }

    /// Whether a connect was refused a moment ago.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.get().is_some_and(|since| since.elapsed() < REFUSAL_REMEMBERED)
    }

    fn put(&self, sender: SendRequest<RequestBody>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push(Idle { sender, since: Monotonic::now() });
        }
    }

    /// Closes what has been idle for too long.
    pub(super) fn expire(&self) {
        self.idle.borrow_mut().retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() <= MAX_IDLE_AGE);
    }
}

/// A connection that is busy with one exchange.
pub(super) struct Lease {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) pool: Rc<Pool>,
    pub(super) upload: Option<Rc<Upload>>,
}

impl Lease {
    /// The answer is complete: the next request may have the connection, unless this one's body is still going out.
    pub(super) fn give_back(self) {
        if self.upload.is_none_or(|upload| upload.is_finished()) {
            self.pool.put(self.sender);
        }
    }
}
