//! Endpoints that misbehave and clients that do.

use futures_util::FutureExt as _;
use socket2::SockRef;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// What a client waits for at most; what nobody answers ends then.
const PATIENCE: Duration = Duration::from_secs(2);

/// Something that runs until it is dropped.
pub(super) struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Closes so that the other side sees a reset.
fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// Listens on a free port and does with each connection what its number says.
async fn endpoint<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream, u64) -> F + Send + 'static,
) -> (SocketAddr, Running) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { continue };
            connections.spawn(serve(stream, number));
            while connections.join_next().now_or_never().flatten().is_some() {}
        }
    });
    (address, Running(accepting))
}

/// Reads a head, and never the body.
async fn head(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) if seen.len() < 10_000 => seen.push(byte),
            _ => return false,
        }
    }
    true
}

/// An endpoint of HTTP/1.1 with ten ways to fail.
pub(super) async fn http1() -> (SocketAddr, Running) {
    endpoint(|mut stream, number| async move {
        if number % 10 == 0 {
            return reset(stream);
        }
        if !head(&mut stream).await {
            return;
        }
        let answer: &[u8] = match number % 10 {
            1 => return reset(stream),
            2 => return sleep(PATIENCE).await,
            3 => b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nthe beginning",
            4 => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\nnonsense",
            5 => b"nonsense",
            6 => b"HTTP/1.1 200 OK\r\nx: ",
            7 => b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
            8 => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more",
            _ => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno",
        };
        let _ = stream.write_all(answer).await;
        if number % 20 < 10 { reset(stream) } else { sleep(Duration::from_millis(50)).await }
    })
    .await
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// An endpoint of HTTP/2 with ways of its own: it resets streams, goes away, says nonsense, stalls, dies.
pub(super) async fn http2() -> (SocketAddr, Running) {
    const STATUS_200: &[u8] = b"\x88";
    endpoint(|mut stream, number| async move {
        // SETTINGS.
        if stream.write_all(&frame(4, 0, 0, &[])).await.is_err() {
            return;
        }
        let mut room = [0; 4096];
        // The preface and a first request; how much of it came does not matter.
        let _ = stream.read(&mut room).await;
        let _ = timeout(Duration::from_millis(20), stream.read(&mut room)).await;
        let reset_stream = frame(3, 0, 1, &7_u32.to_be_bytes());
        let answer = match number % 8 {
            0 => return reset(stream),
            1 => reset_stream,
            // GOAWAY that took notice of nothing, and of everything.
            2 => frame(7, 0, 0, &[0; 8]),
            3 => frame(7, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 2]),
            4 => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            // An answer that ends in the middle, and one that goes on for ever.
            5 => [frame(1, 4, 1, STATUS_200), frame(0, 0, 1, b"the beginning"), reset_stream].concat(),
            6 => frame(1, 4, 1, STATUS_200),
            _ => frame(0, 0, 5, b"of no stream"),
        };
        let _ = stream.write_all(&answer).await;
        let _ = timeout(Duration::from_millis(200), stream.read(&mut room)).await;
        if number % 16 < 8 {
            reset(stream);
        }
    })
    .await
}

/// Switches to a WebSocket's bytes and says them back, or dies at it.
pub(super) async fn websocket() -> (SocketAddr, Running) {
    endpoint(|mut stream, number| async move {
        if !head(&mut stream).await || number % 5 == 4 {
            return reset(stream);
        }
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        let _ = stream.write_all(switch).await;
        converse(stream, number).await;
    })
    .await
}

/// Says back what it hears.
pub(super) async fn tcp() -> (SocketAddr, Running) {
    endpoint(converse).await
}

async fn converse(mut stream: TcpStream, number: u64) {
    let (mut read, mut write) = stream.split();
    if number.is_multiple_of(3) {
        let _ = timeout(Duration::from_millis(30), tokio::io::copy(&mut read, &mut write)).await;
        return reset(stream);
    }
    let _ = tokio::io::copy(&mut read, &mut write).await;
}

/// A client that connects again and again until it is told to stop, and counts how often.
pub(super) fn client<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    to: SocketAddr,
    stop: &Arc<AtomicBool>,
    done: &Arc<AtomicU64>,
    talk: impl Fn(TcpStream, u64) -> F + Send + Sync + 'static,
) -> JoinHandle<()> {
    let (stop, done) = (Arc::clone(stop), Arc::clone(done));
    tokio::spawn(async move {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if let Ok(stream) = TcpStream::connect(to).await {
                // What comes of it is nobody's business here.
                let _ = timeout(PATIENCE, talk(stream, number)).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(2)).await;
        }
    })
}

/// Requests over HTTP/1.1, some given up at various moments.
pub(super) async fn ask(host: &'static str, mut stream: TcpStream, number: u64) -> std::io::Result<()> {
    let body = if number.is_multiple_of(3) { 20_000 } else { 0 };
    let head = format!("POST /{number} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {body}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    // Half of the body, and for some the rest.
    stream.write_all(&vec![b'x'; body / 2]).await?;
    match number % 7 {
        0 => {
            reset(stream);
            return Ok(());
        }
        1 => return Ok(()),
        2 => {
            sleep(Duration::from_millis(number % 100)).await;
            reset(stream);
            return Ok(());
        }
        _ => stream.write_all(&vec![b'x'; body - body / 2]).await?,
    }
    let mut room = [0; 4096];
    // One piece of the answer is enough.
    stream.read(&mut room).await.map(drop)
}

/// Streams of HTTP/2, some of them reset, and connections that end in the middle.
pub(super) async fn ask_http2(host: &'static str, mut stream: TcpStream, number: u64) -> std::io::Result<()> {
    let fields = |method: u8| {
        let length = u8::try_from(host.len()).unwrap();
        [&[method, 0x86, 0x84, 0x41, length], host.as_bytes()].concat()
    };
    let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
    for id in [1, 3, 5, 7, 9_u32] {
        // GET that ends, or POST that goes on.
        let ends = id % 4 == 1;
        bytes.extend(frame(1, if ends { 5 } else { 4 }, id, &fields(if ends { 0x82 } else { 0x83 })));
        if !ends {
            bytes.extend(frame(0, 0, id, &[b'x'; 3000]));
        }
    }
    if number % 4 == 1 {
        bytes.truncate(bytes.len() - 1000);
    }
    stream.write_all(&bytes).await?;
    sleep(Duration::from_millis(number % 60)).await;
    if number.is_multiple_of(2) {
        // CANCEL.
        let resets: Vec<u8> = [3, 7_u32].iter().flat_map(|id| frame(3, 0, *id, &8_u32.to_be_bytes())).collect();
        stream.write_all(&resets).await?;
    }
    let mut room = [0; 16_384];
    while !number.is_multiple_of(3)
        && timeout(Duration::from_millis(300), stream.read(&mut room)).await.is_ok_and(|n| n.is_ok_and(|n| n > 0))
    {}
    if number.is_multiple_of(5) {
        reset(stream);
    }
    Ok(())
}

/// A WebSocket, or with no host a connection, over which something is said; given up by some.
pub(super) async fn chat(host: Option<&'static str>, mut stream: TcpStream, number: u64) -> std::io::Result<()> {
    if let Some(host) = host {
        let ask = format!("GET /chat HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        stream.write_all(ask.as_bytes()).await?;
        if !head(&mut stream).await {
            return Ok(());
        }
    }
    let mut heard = [0; 1000];
    for _ in 0..number % 4 {
        stream.write_all(&[b'x'; 1000]).await?;
        stream.read_exact(&mut heard).await?;
    }
    if number % 4 == 1 {
        reset(stream);
    }
    Ok(())
}
