//! Connections to one endpoint, kept alive between requests. One pool for each endpoint and worker; nothing is shared.
//!
//! A connection has no task of its own: the request that uses it drives it, so that request and answer pass between
//! the two sockets within one task. One that is known to be closed is not handed out; whether the other side has closed
//! it just now shows by its first use. The sweep once a second closes those that nobody takes.

/// One connection.
mod client;
/// What is to be written.
mod outgoing;
/// HTTP/1.1 on bytes (pure).
mod wire;

pub(super) use client::{BodyError, Unsuccessful, Upstream};

use crate::clock::Monotonic;
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

    /// The connection used last of those that are open. The most recent one is the least likely to be closed by the
    /// other side, and the rest can age away.
    pub(super) fn take(&self, repeatable: bool, now: Monotonic) -> Option<Upstream> {
        let max_age = if repeatable { MAX_IDLE_AGE } else { MAX_IDLE_AGE_UNREPEATABLE };
        let mut idle = self.idle.borrow_mut();
        while let Some(last) = idle.pop_if(|idle| now.since(idle.since) <= max_age) {
            if last.upstream.is_alive() {
                return Some(last.upstream);
            }
        }
        None
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
        Ok(Upstream::new(stream))
    }

    /// Whether a connect was refused a moment ago.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.get().is_some_and(|since| since.elapsed() < REFUSAL_REMEMBERED)
    }

    fn put(&self, mut upstream: Upstream, since: Monotonic) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            upstream.rest();
            idle.push(Idle { upstream, since });
        }
    }

    /// Closes what has been idle for too long or was closed by the other side.
    pub(super) fn expire(&self) {
        self.idle.borrow_mut().retain(|idle| {
            idle.upstream.forget_task();
            idle.upstream.is_alive() && idle.since.elapsed() <= MAX_IDLE_AGE
        });
    }
}

/// A connection that is busy with one exchange.
pub(super) struct Lease {
    pub(super) upstream: Upstream,
    pub(super) pool: Rc<Pool>,
}

impl Lease {
    /// The answer is complete: the next request may have the connection, unless this one's body is still going out.
    pub(super) fn give_back(self, now: Monotonic) {
        if self.upstream.is_free() {
            self.pool.put(self.upstream, now);
        } else {
            self.upstream.finish();
        }
    }
}
