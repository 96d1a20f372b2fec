//! A service of the mesh in this process, which behaves as it is told: well, badly, not at all.

use super::usual::Usual;
use rand::RngExt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What it does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers 200.
    Good,
    /// Answers every n-th request with 500.
    FailsEvery(u64),
    /// Answers one request in n with 500, by chance.
    FailsOneIn(u32),
    /// Answers 200 after so many milliseconds.
    Slow(u64),
    /// As a service of a shop does, or as one that is worse.
    Usual(Usual),
    /// Answers 200, but 503 to `/health`.
    Unwell,
    /// Takes the request and never answers.
    Silent,
    /// Nothing runs there: every connection is closed before an answer.
    Gone,
    /// Announces a long answer and closes the connection in the middle of it.
    CutsOff,
}

struct Inner {
    version: &'static str,
    behaviour: Mutex<Behaviour>,
    requests: AtomicU64,
}

/// A service on a free port, until it is dropped.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
    _alive: oneshot::Sender<()>,
}

impl Service {
    pub(crate) async fn start(version: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let behaviour = Mutex::new(Behaviour::Good);
        let inner = Arc::new(Inner { version, behaviour, requests: AtomicU64::new(0) });
        let (alive, mut dropped) = oneshot::channel::<()>();
        let serving = Arc::clone(&inner);
        tokio::spawn(async move {
            // Connections end with the set, so that a service which is dropped is gone like a process that died.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        connections.spawn(serve(Arc::clone(&serving), stream));
                    },
                    _ = &mut dropped => return,
                }
            }
        });
        Self { address, inner, _alive: alive }
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.inner.behaviour.lock().unwrap() = behaviour;
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::SeqCst)
    }
}

/// One connection; it ends when either side closes it.
async fn serve(inner: Arc<Inner>, stream: TcpStream) -> std::io::Result<()> {
    let (source, mut sink) = stream.into_split();
    let mut source = BufReader::new(source);
    loop {
        let (mut line, mut is_check) = (String::new(), false);
        while line != "\r\n" {
            line.clear();
            if source.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            is_check |= line.starts_with("GET /health ");
        }
        let number = inner.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let behaviour = *inner.behaviour.lock().unwrap();
        let status = match behaviour {
            Behaviour::FailsEvery(n) if number.is_multiple_of(n) => "500 Internal Server Error",
            Behaviour::Unwell if is_check => "503 Service Unavailable",
            Behaviour::Good | Behaviour::Unwell | Behaviour::FailsEvery(_) => "200 OK",
            Behaviour::FailsOneIn(n) if one_in(n) => "500 Internal Server Error",
            Behaviour::FailsOneIn(_) => "200 OK",
            Behaviour::Usual(usual) => {
                let (fails, wait) = usual.draw(number);
                tokio::time::sleep(wait).await;
                if fails { "500 Internal Server Error" } else { "200 OK" }
            }
            Behaviour::Slow(wait_ms) => {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                "200 OK"
            }
            Behaviour::CutsOff => {
                sink.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nthe beginning").await?;
                return Ok(());
            }
            Behaviour::Gone => return Ok(()),
            Behaviour::Silent => {
                // Until the other side gives up.
                let _ = source.read_u8().await;
                return Ok(());
            }
        };
        let version = inner.version;
        let answer = format!("HTTP/1.1 {status}\r\nx-demo-version: {version}\r\ncontent-length: 3\r\n\r\nok\n");
        sink.write_all(answer.as_bytes()).await?;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "services of tests fail by chance; no test depends on which request does"
)]
fn one_in(n: u32) -> bool {
    rand::rng().random_ratio(1, n)
}
