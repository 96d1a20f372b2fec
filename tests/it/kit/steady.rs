//! Steady load of which every answer is checked: kept and new connections, over HTTP/1.1 and HTTP/2.
//!
//! A request is lost when its answer is not that of a service to just this request. One that the connection did not take (it
//! was closed before, or the proxy said that it goes away) was never sent, and goes over the next connection.

use super::echo::{ECHO, VERSION};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// An answer that takes longer is lost. Everything is on this machine, which may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause of a client between requests: with the clients below some thousand a second, which leaves a core to others.
const PAUSE: Duration = Duration::from_millis(3);
/// Requests at a time over a connection of HTTP/2.
const TOGETHER: u64 = 4;
/// Connections that one request may be tried on.
const CONNECTIONS: u32 = 20;
/// Of a body that is sent.
const BODY: &[u8] = &[b'x'; 3000];

/// How a client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    KeptHttp1,
    NewHttp1,
    KeptHttp2,
    NewHttp2,
}

const KINDS: [Kind; 4] = [Kind::KeptHttp1, Kind::NewHttp1, Kind::KeptHttp2, Kind::NewHttp2];

/// What the load saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answered: BTreeMap<Kind, u64>,
    pub(crate) versions: BTreeMap<String, u64>,
    pub(crate) connections: u64,
    /// What became of requests without an answer.
    pub(crate) lost: Vec<String>,
}

impl Seen {
    pub(crate) fn total(&self) -> u64 {
        self.answered.values().sum()
    }

    fn add(&mut self, other: Self) {
        for (kind, count) in other.answered {
            *self.answered.entry(kind).or_default() += count;
        }
        for (version, count) in other.versions {
            *self.versions.entry(version).or_default() += count;
        }
        self.connections += other.connections;
        self.lost.extend(other.lost);
    }

    /// Everything was answered, to clients of each kind.
    #[track_caller]
    pub(crate) fn expect_whole(&self) {
        assert!(self.lost.is_empty(), "{} lost of {}: {:#?}", self.lost.len(), self.total(), self.lost);
        assert!(KINDS.iter().all(|kind| self.answered.get(kind).is_some_and(|count| *count > 0)), "{self:?}");
    }
}

/// Load that runs until it is stopped, in a thread of its own.
pub(crate) struct Steady {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    seen: oneshot::Receiver<Seen>,
}

impl Steady {
    /// One client of each kind and one more that keeps its connection, to this address, for this service.
    pub(crate) fn start(to: SocketAddr, host: &'static str) -> Self {
        let (stop, answered): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let kinds = KINDS.into_iter().chain([Kind::KeptHttp1]);
        let clients = kinds.enumerate().map(|(index, kind)| {
            let seen = Seen::default();
            let number = u64::try_from(index).unwrap() << 32;
            let client = Client { to, host, kind, number, kept: None, seen };
            client.run(Arc::clone(&stop), Arc::clone(&answered))
        });
        let clients: Vec<_> = clients.collect();
        let (tell, seen) = oneshot::channel();
        // One thread: with more of them hyper's client may take a request for a connection that it is about to drop since
        // the other side said farewell, and then nobody can say whether it was sent.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut all = Seen::default();
            runtime.block_on(join_all(clients)).into_iter().for_each(|seen| all.add(seen));
            let _ = tell.send(all);
        });
        Self { stop, answered, seen }
    }

    /// Answers so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits for so many more answers. Fails when there are none for long.
    pub(crate) async fn more(&self, count: u64) {
        let wanted = self.answered() + count;
        crate::program::until("the load goes on", async || (self.answered() >= wanted).then_some(())).await;
    }

    pub(crate) async fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.seen.await.unwrap()
    }
}

enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Why there is no answer.
enum Unanswered {
    /// It was not sent.
    NotSent(String),
    Lost(String),
}

struct Client {
    to: SocketAddr,
    host: &'static str,
    kind: Kind,
    number: u64,
    kept: Option<Connection>,
    seen: Seen,
}

impl Client {
    async fn run(mut self, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) -> Seen {
        while !stop.load(Ordering::Relaxed) {
            let before = self.seen.total();
            if let Err(why) = self.ask().await {
                let kind = self.kind;
                self.seen.lost.push(format!("{kind:?}: {why}"));
                self.kept = None;
            }
            answered.fetch_add(self.seen.total() - before, Ordering::Relaxed);
            sleep(PAUSE).await;
        }
        self.seen
    }

    /// One request, or as many at a time as are usual.
    async fn ask(&mut self) -> Result<(), String> {
        if matches!(self.kind, Kind::NewHttp1 | Kind::NewHttp2) {
            self.kept = None;
        }
        let mut last = String::new();
        for _ in 0..CONNECTIONS {
            if self.kept.is_none() {
                self.kept = Some(self.connect().await?);
            }
            match self.over_connection().await {
                Ok(()) => return Ok(()),
                Err(Unanswered::Lost(why)) => return Err(why),
                Err(Unanswered::NotSent(why)) => last = why,
            }
            self.kept = None;
        }
        Err(format!("no connection takes it: {last}"))
    }

    async fn connect(&mut self) -> Result<Connection, String> {
        let failed = |error: &dyn std::fmt::Display| format!("no connection: {error}");
        let stream = timeout(PATIENCE, TcpStream::connect(self.to)).await;
        let stream = stream.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let _ = stream.set_nodelay(true);
        self.seen.connections += 1;
        match self.kind {
            Kind::KeptHttp1 | Kind::NewHttp1 => {
                let (sender, connection) =
                    http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
                tokio::spawn(connection);
                Ok(Connection::Http1(sender))
            }
            Kind::KeptHttp2 | Kind::NewHttp2 => {
                let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
                let (sender, connection) = shaken.map_err(|error| failed(&error))?;
                tokio::spawn(connection);
                Ok(Connection::Http2(sender))
            }
        }
    }

    async fn over_connection(&mut self) -> Result<(), Unanswered> {
        let not_sent = |error: hyper::Error| Unanswered::NotSent(error.to_string());
        let (number, host) = (self.number, self.host);
        match self.kept.as_mut().unwrap() {
            Connection::Http1(sender) => {
                sender.ready().await.map_err(not_sent)?;
                let request = request(host, number, false);
                let sent = timeout(PATIENCE, sender.try_send_request(request)).await;
                let answer = sent.map_err(|_| Unanswered::Lost("no answer".to_owned()))?.map_err(unsent)?;
                self.number += 1;
                self.take(check(answer, number).await.map_err(Unanswered::Lost)?);
                Ok(())
            }
            Connection::Http2(sender) => {
                sender.ready().await.map_err(not_sent)?;
                let all = (0..TOGETHER).map(|more| {
                    let (mut sender, number) = (sender.clone(), number + more);
                    async move {
                        let sent = timeout(PATIENCE, sender.try_send_request(request(host, number, true))).await;
                        let answer = sent.map_err(|_| Unanswered::Lost("no answer".to_owned()))?.map_err(unsent)?;
                        check(answer, number).await.map_err(Unanswered::Lost)
                    }
                });
                self.number += TOGETHER;
                let mut last = Ok(());
                for answer in join_all(all).await {
                    match answer {
                        Ok(version) => self.take(version),
                        // A loss counts more than what was not sent.
                        Err(Unanswered::NotSent(why)) if last.is_ok() => last = Err(Unanswered::NotSent(why)),
                        Err(Unanswered::NotSent(_)) => {}
                        Err(lost) => last = Err(lost),
                    }
                }
                last
            }
        }
    }

    fn take(&mut self, version: String) {
        *self.seen.answered.entry(self.kind).or_default() += 1;
        *self.seen.versions.entry(version).or_default() += 1;
    }
}

/// Every other request has a body, so that not all of them may be sent twice.
fn request(host: &str, number: u64, http2: bool) -> Request<Full<Bytes>> {
    let has_body = number % 2 == 1;
    let builder =
        if has_body { Request::post(path(host, number, http2)) } else { Request::get(path(host, number, http2)) };
    let builder = if http2 { builder } else { builder.header("host", host) };
    builder.body(Full::new(Bytes::from_static(if has_body { BODY } else { b"" }))).unwrap()
}

fn path(host: &str, number: u64, http2: bool) -> String {
    if http2 { format!("http://{host}/{number}") } else { format!("/{number}") }
}

fn unsent(mut error: hyper::client::conn::TrySendError<Request<Full<Bytes>>>) -> Unanswered {
    let was_taken = error.take_message().is_none();
    let error = error.into_error();
    // RFC 9113 section 6.8: what comes behind a farewell was not looked at, and may be sent again.
    let farewell = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<h2::Error>());
    let was_sent =
        was_taken && !farewell.is_some_and(|error| error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR));
    let why = format!("{error:?}");
    if was_sent { Unanswered::Lost(why) } else { Unanswered::NotSent(why) }
}

/// The version that answered, if it answered this request.
async fn check(answer: Response<Incoming>, number: u64) -> Result<String, String> {
    let (head, body) = answer.into_parts();
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let body = timeout(PATIENCE, body.collect()).await.map_err(|_| "its body does not end".to_owned())?;
    let body = body.map_err(|error| format!("its body broke off: {error:?}"))?.to_bytes();
    if head.status != 200 {
        return Err(format!("{}: {} {}", head.status, text("x-tidegate-reason"), String::from_utf8_lossy(&body)));
    }
    let expected: &[u8] = if number % 2 == 1 { BODY } else { b"" };
    if text(ECHO) != format!("/{number}") || body != expected {
        return Err(format!("another request's answer: {} of {} bytes for /{number}", text(ECHO), body.len()));
    }
    Ok(text(VERSION))
}
