//! Connections to one endpoint, kept between requests. One pool for each endpoint and worker; nothing is shared.
//!
//! **HTTP/1.1.** A connection has no task of its own: the request that uses it drives it, so that request and answer pass
//! between the two sockets within one task. One that is known to be closed is not handed out; whether the other side has
//! closed it just now shows by its first use. The sweep once a second closes those that nobody takes.
//!
//! **HTTP/2.** A connection is shared by many exchanges and so has a task; an exchange drives its own stream and nothing else.
//! There is one connection to an endpoint until it has as many streams as the endpoint allows.

/// Connections of HTTP/2 to one endpoint.
mod channel;
/// Answers of any bytes, for the fuzzer.
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
/// One connection of HTTP/1.1.
mod http1;
/// One stream of HTTP/2.
mod http2;
/// What is to be written.
mod outgoing;
/// HTTP/1.1 on bytes (pure).
mod wire;

use super::balance::Load;
use super::held::Held;
use super::stream::Stream;
use super::tls::Towards;
use super::upload::RequestBody;
use crate::clock::Monotonic;
use bytes::{Bytes, BytesMut};
use channel::Channels;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use http1::Http1;
use http2::Http2;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
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

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 from the first byte ("prior knowledge").
    Http2,
}

/// Connections to one endpoint.
pub(super) struct Pool {
    address: SocketAddr,
    /// What its connections begin with.
    towards: Towards,
    idle: RefCell<Vec<Idle>>,
    channels: Channels,
    refused: Cell<Option<Monotonic>>,
    /// What is known of the endpoint's load, where its target asks for it.
    pub(super) load: Load,
}

struct Idle {
    connection: Http1,
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

/// Why one sending of a request brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsuccessful {
    /// Nothing was written and no body taken from the client, or the endpoint said that it took no notice.
    Unsent,
    /// The endpoint does not take this stream, and may take others.
    Refused,
    /// The connection broke, or the stream was reset, before an answer.
    Broken,
    /// What came back was not HTTP.
    Malformed,
    /// The client broke its body off.
    ClientGone,
}

/// Why the body of an answer ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The connection ended before the body.
    #[error("the connection ended too early")]
    Incomplete,
    /// What came is not framed as a body has to be.
    #[error("it is malformed: {0}")]
    Malformed(String),
    /// The stream failed or was reset.
    #[error("the stream ended: {0}")]
    Stream(#[from] h2::Error),
    /// The client broke its own body off.
    #[error("the client broke its request off")]
    ClientGone,
}

impl Pool {
    pub(super) fn new(address: SocketAddr, towards: Towards) -> Self {
        let (idle, channels, refused, load) = Default::default();
        Self { address, towards, idle, channels, refused, load }
    }

    /// A connection that is there. Of those of HTTP/1.1 the one used last: it is the least likely to be closed by the other
    /// side, and the rest can age away.
    pub(super) fn take(&self, spoken: Spoken, repeatable: bool, now: Monotonic) -> Option<Upstream> {
        if spoken == Spoken::Http2 {
            return self.channels.take().map(Upstream::Http2);
        }
        let max_age = if repeatable { MAX_IDLE_AGE } else { MAX_IDLE_AGE_UNREPEATABLE };
        let mut idle = self.idle.borrow_mut();
        while let Some(mut last) = idle.pop_if(|idle| now.since(idle.since) <= max_age) {
            if last.connection.is_alive() {
                return Some(Upstream::Http1(last.connection));
            }
        }
        None
    }

    /// A new connection; of HTTP/2 also one that another request is just making.
    pub(super) async fn connect(&self, spoken: Spoken) -> Result<Upstream, NoConnection> {
        match spoken {
            Spoken::Http1 => self.dial().await.map(|stream| Upstream::Http1(Http1::new(stream))),
            Spoken::Http2 => self.channels.open(|| self.dial()).await.map(Upstream::Http2),
        }
    }

    async fn dial(&self) -> Result<Stream, NoConnection> {
        let dialled = dial(self.address, &self.towards).await;
        match &dialled {
            Err(NoConnection::Refused) => self.refused.set(Some(Monotonic::now())),
            Err(NoConnection::Failed) => {}
            Ok(_) => self.refused.set(None),
        }
        dialled
    }

    /// Whether a connect was refused a moment ago.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.get().is_some_and(|since| since.elapsed() < REFUSAL_REMEMBERED)
    }

    fn put(&self, mut connection: Http1, since: Monotonic) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            connection.rest();
            idle.push(Idle { connection, since });
        }
    }

    /// Closes what has been idle for too long or was closed by the other side.
    pub(super) fn expire(&self) {
        self.idle.borrow_mut().retain_mut(|idle| {
            idle.connection.forget_task();
            idle.connection.is_alive() && idle.since.elapsed() <= MAX_IDLE_AGE
        });
        self.channels.expire(MAX_IDLE_AGE);
    }
}

/// A new connection, secured where that is wanted.
pub(super) async fn dial(address: SocketAddr, towards: &Towards) -> Result<Stream, NoConnection> {
    let tls = match towards {
        Towards::Plain => None,
        Towards::Tls(side) => Some(side),
        Towards::Unusable => return Err(NoConnection::Failed),
    };
    let dialled = async {
        let socket = match TcpStream::connect(address).await {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(NoConnection::Refused),
            Err(_) => return Err(NoConnection::Failed),
        };
        // Heads and small bodies go out in one write each; waiting for more would only add delay.
        let _ = socket.set_nodelay(true);
        match tls {
            None => Ok(Stream::Plain(socket)),
            // Boxed: few requests make a connection, and all would keep the room for it.
            Some(side) => Box::pin(side.connect(socket, address)).await.ok_or(NoConnection::Failed),
        }
    };
    timeout(CONNECT_TIMEOUT, dialled).await.unwrap_or(Err(NoConnection::Failed))
}

/// A connection that is busy with one exchange, or a stream of one.
pub(super) enum Upstream {
    Http1(Http1),
    Http2(Http2),
}

impl Upstream {
    /// Takes a request. It goes out, and its answer comes, while the exchange is polled.
    pub(super) fn begin(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, body: Option<RequestBody>) {
        match self {
            Self::Http1(connection) => connection.begin(method, uri, headers, body),
            Self::Http2(stream) => stream.begin(method, uri, headers, body),
        }
    }

    /// Ready when the head of the answer is there.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsuccessful>> {
        match self {
            Self::Http1(connection) => connection.poll_head(cx),
            Self::Http2(stream) => stream.poll_head(cx),
        }
    }

    /// The next piece of the answer's body.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Http1(connection) => connection.poll_frame(cx),
            Self::Http2(stream) => stream.poll_frame(cx),
        }
    }

    /// Status of the answer.
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Http1(connection) => connection.status(),
            Self::Http2(stream) => stream.status(),
        }
    }

    /// Fields of the answer's head, until they are taken.
    pub(super) const fn headers(&self) -> &HeaderMap {
        match self {
            Self::Http1(connection) => connection.headers(),
            Self::Http2(stream) => stream.headers(),
        }
    }

    /// The answer's head, once. `used` is a map that nobody needs any more; the next answer's fields go there.
    pub(super) fn take_response(&mut self, used: HeaderMap) -> Response<()> {
        match self {
            Self::Http1(connection) => connection.take_response(used),
            Self::Http2(stream) => stream.take_response(),
        }
    }

    /// Whether the answer is complete.
    pub(super) fn is_answered(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_answered(),
            Self::Http2(stream) => stream.is_answered(),
        }
    }

    /// Whether whoever knows of no trailers has all of the answer.
    pub(super) fn has_all(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_answered(),
            Self::Http2(stream) => stream.has_all(),
        }
    }

    /// How much of the answer's body is left.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(connection) => connection.size_hint(),
            Self::Http2(stream) => stream.size_hint(),
        }
    }

    /// Whether the next piece can only come from the socket.
    pub(super) fn has_to_read(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.has_to_read(),
            Self::Http2(_) => true,
        }
    }
}

/// A connection that is busy with one exchange.
pub(super) struct Lease {
    pub(super) upstream: Upstream,
    pub(super) pool: Rc<Pool>,
    /// Its places, where they are counted.
    pub(super) held: Option<Box<Held>>,
}

impl Lease {
    /// The answer is complete: the next request may have the connection, unless this one's body is still going out. A stream
    /// ends with its exchange.
    pub(super) fn give_back(self, now: Monotonic) {
        match self.upstream {
            Upstream::Http1(connection) if connection.is_free() => self.pool.put(connection, now),
            Upstream::Http1(connection) => connection.finish(),
            Upstream::Http2(stream) => stream.finish(),
        }
    }

    /// The socket of a connection that its endpoint made something else than HTTP, what came behind the answer, and its places.
    pub(super) fn into_socket(self) -> Option<(Stream, BytesMut, Option<Box<Held>>)> {
        match self.upstream {
            Upstream::Http1(connection) => {
                let (socket, early) = connection.into_socket();
                Some((socket, early, self.held))
            }
            Upstream::Http2(_) => None,
        }
    }

    /// The answer is not wanted: the connection is kept if nothing more is to come or to go on it.
    pub(super) fn let_go(self, now: Monotonic) {
        if let Upstream::Http1(connection) = self.upstream
            && connection.is_free()
        {
            self.pool.put(connection, now);
        }
    }
}
