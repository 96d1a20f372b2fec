//! What a client may take of the listener: connections, time and bytes, over real sockets.

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tidegate::api::listen::{Limits, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

/// Nothing here takes as long on a machine that lives.
const PATIENCE: Duration = Duration::from_secs(60);

struct Served {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: JoinHandle<()>,
}

impl Served {
    async fn new(router: Router, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let ended = serve(listener, router, None, limits, stopped);
        Self { address, stop, ended }
    }

    /// A connection on which something was said.
    async fn say(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }
}

fn small() -> Limits {
    let short = Duration::from_millis(200);
    // Those that a test is not about are out of its way.
    Limits { head: short, body: short, idle: short, write: short, ..Limits::default() }
}

/// All that comes until the other side closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it is closed");
    // A reset is an end as well.
    let _ = read;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The first bytes that come.
async fn first(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await.expect("it answers").unwrap();
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

fn hello() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/take", post(|body: Bytes| async move { body.len().to_string() }))
}

const ASK: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn clients_that_say_nothing_or_say_it_slowly_are_closed() {
    let served = Served::new(hello(), Limits { idle: Duration::from_secs(3_600), ..small() }).await;
    // A head without an end, begun at once.
    assert_eq!(rest(served.say("GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await).await, "");
    // The same after a request that went well.
    let mut stream = served.say(ASK).await;
    let answer = first(&mut stream).await;
    assert!(answer.contains("200 OK") && answer.contains("content-length: 5"), "{answer}");
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(rest(stream).await, "");

    let served = Served::new(hello(), Limits { head: Duration::from_secs(3_600), ..small() }).await;
    assert_eq!(rest(served.say("").await).await, "", "nothing was asked");
    let answer = rest(served.say(ASK).await).await;
    assert!(answer.contains("200 OK") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let slow = Limits { head: Duration::from_secs(3_600), idle: Duration::from_secs(3_600), ..small() };
    let served = Served::new(hello(), slow).await;
    let mut stream = served.say("POST /take HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc").await;
    let answer = first(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    // In time it is taken.
    let mut stream = served.say("POST /take HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc").await;
    assert!(first(&mut stream).await.ends_with("\r\n\r\n3"));
}

#[tokio::test]
async fn heads_are_bounded() {
    let served = Served::new(hello(), Limits::default()).await;
    let ask = |length: usize| format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "y".repeat(length));
    let mut stream = served.say(&ask(16_000)).await;
    assert!(first(&mut stream).await.contains("200 OK"));
    let mut stream = served.say(&ask(40_000)).await;
    let answer = first(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    let mut stream = served.say(&many).await;
    let answer = first(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_takes_nobodys_place() {
    let served = Served::new(hello(), Limits { connections: 2, ..Limits::default() }).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = served.say(ASK).await;
        assert!(first(&mut stream).await.contains("200 OK"));
        kept.push(stream);
    }
    for _ in 0..20 {
        // It says nothing: what is sent and not read would have the system reset the connection and lose the answer.
        let answer = rest(served.say("").await).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["type"], "tidegate:too-many-connections");
    }
    // Those that are in are served, and a place that is given back is another's.
    for stream in &mut kept {
        stream.write_all(ASK.as_bytes()).await.unwrap();
        assert!(first(stream).await.contains("200 OK"));
    }
    kept.pop();
    crate::program::until("there is room again", async || {
        let mut stream = served.say(ASK).await;
        let mut bytes = vec![0; 1024];
        let read = stream.read(&mut bytes).await.unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).contains("200 OK").then_some(())
    })
    .await;
}

/// Tells that it is dropped.
struct Told(mpsc::UnboundedSender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_closed_and_one_that_waits_for_it_is_not() {
    let (sender, mut dropped) = mpsc::unbounded_channel();
    let endless = move || {
        let told = Told(sender.clone());
        let block = Bytes::from(vec![b'x'; 64 * 1024]);
        let body = stream::repeat_with(move || {
            let _kept = &told;
            Ok::<_, Infallible>(block.clone())
        });
        async move { Body::from_stream(body) }
    };
    let quiet = Arc::new(Notify::new());
    let waits = Arc::clone(&quiet);
    let router = Router::new().route("/endless", get(endless)).route(
        "/quiet",
        get(move || {
            let waits = Arc::clone(&waits);
            async move {
                waits.notified().await;
                "at last"
            }
        }),
    );
    let served = Served::new(router, small()).await;
    let mut waiting = served.say("GET /quiet HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let stuck = served.say("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    tokio::time::timeout(PATIENCE, dropped.recv()).await.expect("it is given up");
    drop(stuck);
    quiet.notify_one();
    assert!(first(&mut waiting).await.ends_with("at last"), "it took longer than all the limits");
}

#[tokio::test]
async fn what_is_under_way_finishes_when_the_process_stops() {
    let (began, mut begun) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let slow = get(move || {
        let (began, goes) = (began.clone(), Arc::clone(&goes));
        async move {
            began.send(()).unwrap();
            goes.notified().await;
            "finished"
        }
    });
    let served = Served::new(hello().route("/slow", slow), Limits::default()).await;
    let mut idle = served.say(ASK).await;
    assert!(first(&mut idle).await.contains("200 OK"));
    let busy = served.say("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    begun.recv().await.unwrap();
    served.stop.send_replace(true);
    assert_eq!(rest(idle).await, "", "nothing was asked on it");
    go.notify_one();
    let answer = rest(busy).await;
    assert!(answer.contains("200 OK") && answer.ends_with("finished"), "{answer}");
    tokio::time::timeout(PATIENCE, served.ended).await.expect("it ends").unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn what_does_not_finish_is_cut_after_a_while() {
    let (began, mut begun) = mpsc::unbounded_channel();
    let stuck = get(move || {
        began.send(()).unwrap();
        std::future::pending::<&'static str>()
    });
    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let served = Served::new(Router::new().route("/", stuck), limits).await;
    let stream = served.say(ASK).await;
    begun.recv().await.unwrap();
    served.stop.send_replace(true);
    tokio::time::timeout(PATIENCE, served.ended).await.expect("it ends").unwrap();
    assert_eq!(rest(stream).await, "");
}
