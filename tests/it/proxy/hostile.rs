//! What clients of HTTP/2 do to a server that believes them: each is refused or bounded, and the next client is served.

use super::harness::{Backend, Client, Mesh, Proxy, full};
use http::{Response, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
// Types of frames and flags (RFC 9113 section 6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
/// `GET http://shop.local/` by HPACK (RFC 7541): three of the static table, and the authority as a literal.
pub(super) const GET: &[u8] = b"\x82\x86\x84\x41\x0ashop.local";
/// The same as `POST`.
pub(super) const POST: &[u8] = b"\x83\x86\x84\x41\x0ashop.local";
/// No test sends more than this: what is not refused by then is not bounded.
const MOST_BYTES: usize = 64 << 20;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection that says what it likes.
struct Raw(TcpStream);

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// With a frame GOAWAY of this code, or 0 for an end without one.
    Closed(u32),
    /// It did not: the proxy does not take any more, and waits.
    NotTaken,
}

impl Raw {
    async fn open(address: SocketAddr, settings: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await.unwrap();
        Self(stream)
    }

    /// Says the same again and again, and reads nothing. Whether the other side still takes it.
    async fn insist(&mut self, mut next: impl FnMut(u32) -> Vec<u8>) -> bool {
        let mut sent = 0;
        for turn in 0.. {
            let bytes = next(turn);
            match timeout(Duration::from_secs(1), self.0.write_all(&bytes)).await {
                Ok(Ok(())) => sent += bytes.len(),
                Ok(Err(_)) | Err(_) => return false,
            }
            if sent > MOST_BYTES {
                break;
            }
        }
        true
    }

    /// Reads what there is until the end.
    async fn end(mut self) -> Ended {
        let mut code = 0;
        loop {
            let mut head = [0; 9];
            match timeout(Duration::from_secs(5), self.0.read_exact(&mut head)).await {
                Err(_) => return Ended::NotTaken,
                Ok(Err(_)) => return Ended::Closed(code),
                Ok(Ok(_)) => {}
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            if self.0.read_exact(&mut payload).await.is_err() {
                return Ended::Closed(code);
            }
            if head[3] == GOAWAY && code == 0 {
                code = u32::from_be_bytes(payload[4..8].try_into().unwrap());
            }
        }
    }
}

async fn proxy() -> (Proxy, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let backend = Backend::http(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Response::new(full(vec![b'x'; 1 << 20])) }
    })
    .await;
    let mesh = Mesh::new(1).target("v1", backend.address, 1);
    (Proxy::with(mesh, |settings| settings.workers = 1).await, asked)
}

/// The one worker goes on serving others.
async fn expect_served(proxy: &Proxy) {
    let answer = Client::connect(proxy.handle.egress_address()).await.get("/").await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 1 << 20));
}

#[tokio::test]
async fn streams_that_are_reset_as_fast_as_they_are_opened_end_the_connection() {
    let (proxy, asked) = proxy().await;
    let mut raw = Raw::open(proxy.handle.egress_address(), &[]).await;
    let taken = raw
        .insist(|turn| {
            let stream = 2 * turn + 1;
            let get = frame(HEADERS, END_HEADERS | END_STREAM, stream, GET);
            [get, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        })
        .await;
    assert!(!taken);
    assert!(matches!(raw.end().await, Ended::Closed(_)));
    assert!(asked.load(Ordering::SeqCst) < 2000, "{asked:?}");
    expect_served(&proxy).await;
}

#[tokio::test]
async fn a_head_without_an_end_ends_the_connection() {
    let (proxy, asked) = proxy().await;
    let mut raw = Raw::open(proxy.handle.egress_address(), &[]).await;
    raw.0.write_all(&frame(HEADERS, END_STREAM, 1, GET)).await.unwrap();
    // Literals that nobody keeps: name `a`, value `b`, again and again.
    let field = b"\x00\x01a\x01b".repeat(1000);
    assert!(!raw.insist(|_| frame(CONTINUATION, 0, 1, &field)).await);
    assert!(matches!(raw.end().await, Ended::Closed(_)));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    expect_served(&proxy).await;
}

#[tokio::test]
async fn a_small_head_that_means_a_large_one_is_refused() {
    let (proxy, asked) = proxy().await;
    let mut raw = Raw::open(proxy.handle.egress_address(), &[]).await;
    // A field of 2,000 bytes goes into the table once, and is named by one byte (62, the first of the table) from then on.
    let value = vec![b'v'; 2000];
    let large = [&b"\x40\x01a\x7f\xd1\x0e"[..], &value].concat();
    let times = |count| [GET, &large, &vec![0xbe; count]].concat();
    // Said a few times it is a head like any other, so it is their number that is refused.
    raw.0.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &times(3))).await.unwrap();
    super::harness::eventually("it is asked", || async { asked.load(Ordering::SeqCst) == 1 }).await;
    raw.0.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &times(10_000))).await.unwrap();
    // A head of 20 MB, told by 12 kB: the stream is refused, by an answer or by a reset, and the endpoint is not asked.
    raw.0.write_all(&frame(GOAWAY, 0, 0, &[0; 8])).await.unwrap();
    raw.0.shutdown().await.unwrap();
    assert!(matches!(raw.end().await, Ended::Closed(_)));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    expect_served(&proxy).await;
}

#[tokio::test]
async fn frames_that_want_an_answer_are_not_read_faster_than_answers_are() {
    for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[])] {
        let (proxy, _) = proxy().await;
        let mut raw = Raw::open(proxy.handle.egress_address(), &[]).await;
        let many = frame(kind, 0, 0, payload).repeat(1000);
        assert!(!raw.insist(|_| many.clone()).await, "kind {kind}");
        expect_served(&proxy).await;
    }
}

#[tokio::test]
async fn empty_frames_of_a_body_end_the_connection_or_are_slow() {
    let (proxy, _) = proxy().await;
    let mut raw = Raw::open(proxy.handle.egress_address(), &[]).await;
    raw.0.write_all(&frame(HEADERS, END_HEADERS, 1, POST)).await.unwrap();
    let many = frame(DATA, 0, 1, &[]).repeat(1000);
    // They cost the sender as much as the proxy, and keep no memory.
    let _ = raw.insist(|_| many.clone()).await;
    expect_served(&proxy).await;
}

#[tokio::test]
async fn whoever_gives_no_room_for_answers_keeps_little_of_them() {
    let (proxy, asked) = proxy().await;
    // SETTINGS_INITIAL_WINDOW_SIZE (4) of 0.
    let mut raw = Raw::open(proxy.handle.egress_address(), &[0, 4, 0, 0, 0, 0]).await;
    for stream in 0..100 {
        raw.0.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, GET)).await.unwrap();
    }
    super::harness::eventually("all are asked", || async { asked.load(Ordering::SeqCst) == 100 }).await;
    expect_served(&proxy).await;
    // Windows that overflow are an error (RFC 9113 section 6.9.1).
    let update = frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
    raw.0.write_all(&update.repeat(2)).await.unwrap();
    assert_eq!(raw.end().await, Ended::Closed(3));
}

#[tokio::test]
async fn what_is_no_http2_is_an_error_of_the_connection() {
    for (what, bytes, code) in [
        ("data on no stream", frame(DATA, 0, 0, b"x"), 1),
        ("a head on a stream of the server's", frame(HEADERS, END_HEADERS | END_STREAM, 2, GET), 1),
        ("a frame longer than allowed", frame(DATA, 0, 1, &[0; 20_000]), 6),
        // FRAME_SIZE_ERROR and, below, COMPRESSION_ERROR by the RFC; the library says PROTOCOL_ERROR.
        ("settings of odd length", frame(SETTINGS, 0, 0, &[0; 5]), 1),
        ("a head that is no HPACK", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 20]), 1),
    ] {
        let (proxy, asked) = proxy().await;
        let mut raw = Raw::open(proxy.handle.egress_address(), &[]).await;
        raw.0.write_all(&bytes).await.unwrap();
        assert_eq!(raw.end().await, Ended::Closed(code), "{what}");
        assert_eq!(asked.load(Ordering::SeqCst), 0, "{what}");
        expect_served(&proxy).await;
    }
}

#[tokio::test]
async fn half_a_preface_is_waited_for_and_a_wrong_one_is_http1() {
    let (proxy, _) = proxy().await;
    let mut stream = TcpStream::connect(proxy.handle.egress_address()).await.unwrap();
    for byte in PREFACE {
        stream.write_all(&[*byte]).await.unwrap();
    }
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], SETTINGS, "the proxy's own settings");
    let mut stream = TcpStream::connect(proxy.handle.egress_address()).await.unwrap();
    stream.write_all(b"PRI / HTTP/1.1\r\nhost: nowhere.local\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

/// A stream that its client resets "without error" in the middle of its body is none that it ended.
#[tokio::test]
async fn half_a_body_is_never_taken_for_a_whole_one() {
    let whole = Arc::new(AtomicUsize::new(0));
    let broken = Arc::new(AtomicUsize::new(0));
    let (count_whole, count_broken) = (Arc::clone(&whole), Arc::clone(&broken));
    let backend = Backend::http(move |request| {
        let (whole, broken) = (Arc::clone(&count_whole), Arc::clone(&count_broken));
        async move {
            let body = http_body_util::BodyExt::collect(request.into_body()).await;
            if body.is_ok() { &whole } else { &broken }.fetch_add(1, Ordering::SeqCst);
            Response::new(full("x"))
        }
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let mut raw = Raw::open(proxy.handle.egress_address(), &[]).await;
    let post = [frame(HEADERS, END_HEADERS, 1, POST), frame(DATA, 0, 1, &[b'x'; 6000])].concat();
    raw.0.write_all(&post).await.unwrap();
    super::harness::eventually("it is on its way", || async { backend.connections() == 1 }).await;
    raw.0.write_all(&frame(RST_STREAM, 0, 1, &0_u32.to_be_bytes())).await.unwrap();
    super::harness::eventually("the endpoint knows", || async { broken.load(Ordering::SeqCst) == 1 }).await;
    assert_eq!(whole.load(Ordering::SeqCst), 0);
}
