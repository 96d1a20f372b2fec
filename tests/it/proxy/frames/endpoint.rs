//! What endpoints send.

use super::super::harness::{Backend, Mesh, Proxy};
use super::super::hostile::*;
use super::*;
use std::sync::{Arc, Mutex};
use tidegate::mesh::snapshot::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the client of the proxy sees.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sees {
    /// An answer that is whole, with this status and body.
    Whole(u16, &'static str),
    /// An answer that breaks off in its body, never a whole one.
    BrokenOff,
    /// The proxy's own 503.
    Failed,
}

struct Case {
    section: &'static str,
    what: &'static str,
    /// What the endpoint sends once it has the request, on stream 1.
    sent: Vec<u8>,
    good: Vec<Sees>,
}

fn case(section: &'static str, what: &'static str, sent: Vec<u8>, good: &[Sees]) -> Case {
    Case { section, what, sent, good: good.to_vec() }
}

const STATUS: &[u8] = b"\x88";
const FINE: Sees = Sees::Whole(200, "fine");

/// The head of an answer, with more fields.
fn answer(more: &[Vec<u8>]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &[STATUS, &more.concat()].concat())
}

fn body(flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, 1, bytes)
}

/// Answered well, with something before it.
fn behind(first: Vec<u8>) -> Vec<u8> {
    [first, answer(&[]), body(END_STREAM, b"fine")].concat()
}

fn connection_cases() -> Vec<Case> {
    let window = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let fails = |section, what, sent| case(section, what, behind(sent), &[Sees::Failed]);
    vec![
        case("4.1", "a frame of an unknown type is ignored", behind(frame(0x16, 0, 0, b"x")), &[FINE]),
        case("6.5", "settings nobody knows", behind(frame(SETTINGS, 0, 0, &setting(0xff, 1))), &[FINE]),
        case("6.7", "an answer to no ping", behind(frame(PING, ACK, 0, b"12345678")), &[FINE]),
        case("6.9", "larger windows", behind([window(0, 1000), window(1, 1000)].concat()), &[FINE]),
        fails("4.2", "a head above the largest frame", frame(HEADERS, END_HEADERS, 1, &[0; 16_385])),
        fails("4.3", "a head that is no HPACK", frame(HEADERS, END_HEADERS, 1, b"\x80")),
        fails("5.1", "a body of a stream that never began", frame(DATA, 0, 7, b"x")),
        fails("5.1.1", "a stream that an endpoint begins", frame(HEADERS, END_HEADERS, 2, STATUS)),
        fails("5.1.1", "an answer to nobody", frame(HEADERS, END_HEADERS, 9, STATUS)),
        fails("6.1", "a body of no stream", frame(DATA, 0, 0, b"x")),
        fails("6.2", "a head of no stream", frame(HEADERS, END_HEADERS, 0, STATUS)),
        fails(
            "6.2",
            "another frame inside of a head",
            [frame(HEADERS, 0, 1, STATUS), frame(PING, 0, 0, b"12345678")].concat(),
        ),
        fails("6.4", "a reset of no stream", frame(RST_STREAM, 0, 0, &[0; 4])),
        fails("6.4", "a reset of three bytes", frame(RST_STREAM, 0, 1, &[0; 3])),
        fails("6.5", "settings of a stream", frame(SETTINGS, 0, 1, &[])),
        fails("6.5", "settings of half a setting", frame(SETTINGS, 0, 0, &[0; 3])),
        fails("6.5", "an acknowledgement that says something", frame(SETTINGS, ACK, 0, &setting(1, 1))),
        fails("6.5.2", "a window of 2^31", frame(SETTINGS, 0, 0, &setting(4, 1 << 31))),
        fails("6.5.2", "frames below 16,384", frame(SETTINGS, 0, 0, &setting(5, 16_383))),
        fails(
            "6.6",
            "a push that was not allowed",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], GET].concat()),
        ),
        fails("6.7", "a ping of seven bytes", frame(PING, 0, 0, b"1234567")),
        fails("6.8", "a farewell of a stream", frame(GOAWAY, 0, 1, &[0; 8])),
        fails("6.9", "a window that grows by nothing", window(0, 0)),
        fails("6.9.1", "a window above 2^31 - 1", window(0, i32::MAX as u32)),
        // The request has ended, so nothing is sent on this window any more and nobody counts it.
        case("6.9.1", "a stream's window above 2^31 - 1", behind(window(1, i32::MAX as u32)), &[FINE]),
        fails("6.10", "a continuation of no head", frame(CONTINUATION, END_HEADERS, 1, STATUS)),
        fails(
            "6.10",
            "a continuation of another stream",
            [frame(HEADERS, 0, 1, STATUS), frame(CONTINUATION, END_HEADERS, 3, b"")].concat(),
        ),
    ]
}

fn answer_cases() -> Vec<Case> {
    let whole = |head: Vec<u8>| [head, body(END_STREAM, b"fine")].concat();
    let fails = |section, what, sent| case(section, what, sent, &[Sees::Failed]);
    // What is malformed may be seen before or after the head was passed on.
    let breaks = |section, what, sent| case(section, what, sent, &[Sees::BrokenOff, Sees::Failed]);
    let length = |length: &str| [answer(&[field("content-length", length)])].concat();
    let late = |flags, fields: &[u8]| frame(HEADERS, END_HEADERS | flags, 1, fields);
    vec![
        case(
            "6.1",
            "padding is not the body",
            [answer(&[]), body(PADDED | END_STREAM, b"\x02fine\0\0")].concat(),
            &[FINE],
        ),
        case("6.2", "a padded head", whole(frame(HEADERS, PADDED | END_HEADERS, 1, b"\x02\x88\0\0")), &[FINE]),
        case(
            "6.10",
            "a head in two pieces",
            whole([frame(HEADERS, 0, 1, STATUS), frame(CONTINUATION, END_HEADERS, 1, &field("x", "1"))].concat()),
            &[FINE],
        ),
        case("8.1", "an interim answer", whole([late(0, &field(":status", "103")), answer(&[])].concat()), &[FINE]),
        case(
            "8.1",
            "trailers",
            [answer(&[]), body(0, b"fine"), late(END_STREAM, &field("x-late", "1"))].concat(),
            &[FINE],
        ),
        case(
            "8.1",
            "a whole answer, and the request is not wanted any more",
            [whole(answer(&[])), frame(RST_STREAM, 0, 1, &0_u32.to_be_bytes())].concat(),
            &[FINE],
        ),
        fails("6.1", "a body before the head", whole(vec![])),
        breaks(
            "6.1",
            "padding as long as the body",
            [answer(&[]), body(PADDED | END_STREAM, &[4, b'a', 0, 0])].concat(),
        ),
        breaks(
            "6.4",
            "a reset in the body",
            [answer(&[]), body(0, b"fi"), frame(RST_STREAM, 0, 1, &2_u32.to_be_bytes())].concat(),
        ),
        breaks("6.9.1", "a body above the window", [answer(&[]), body(0, &[b'x'; 16_384]).repeat(2000)].concat()),
        breaks(
            "8.1",
            "a second head that does not end the stream",
            [answer(&[]), body(0, b"fi"), late(0, &field("x", "1")), body(END_STREAM, b"ne")].concat(),
        ),
        // The library drops pseudo-fields that have no place there, and nobody is told what they say.
        case(
            "8.1",
            "trailers with a pseudo-field",
            [answer(&[]), body(0, b"fine"), late(END_STREAM, STATUS)].concat(),
            &[FINE],
        ),
        breaks("8.1.1", "a body shorter than its length", whole(length("5"))),
        breaks("8.1.1", "a body longer than its length", whole(length("3"))),
        fails("8.1.1", "two lengths", whole(answer(&[field("content-length", "4"), field("content-length", "5")]))),
        fails("8.1.1", "a length that is none", whole(answer(&[field("content-length", "four")]))),
        fails("8.2", "a name in capitals", whole(answer(&[field("X-Big", "1")]))),
        fails("8.2.1", "a line's end in a value", whole(answer(&[field("x", "a\r\nset-cookie: b")]))),
        fails("8.2.2", "a field of a connection", whole(answer(&[field("connection", "close")]))),
        fails("8.2.2", "transfer-encoding", whole(answer(&[field("transfer-encoding", "chunked")]))),
        case("8.3", "a request's pseudo-field", whole(answer(&[field(":path", "/")])), &[FINE]),
        fails("8.3.2", "no status", whole(frame(HEADERS, END_HEADERS, 1, &field("x", "1")))),
        fails("8.3.2", "two statuses", whole(answer(&[STATUS.to_vec()]))),
        fails("8.3.2", "a status that is none", whole(frame(HEADERS, END_HEADERS, 1, &field(":status", "fine")))),
        fails(
            "8.6",
            "101, which HTTP/2 does not have",
            whole(frame(HEADERS, END_HEADERS, 1, &field(":status", "101"))),
        ),
    ]
}

/// An endpoint that says what it is told to as soon as it has a request.
async fn saying() -> (Backend, Arc<Mutex<Vec<u8>>>) {
    let says: Arc<Mutex<Vec<u8>>> = Arc::default();
    let told = Arc::clone(&says);
    let backend = Backend::raw(move |mut stream| {
        let told = Arc::clone(&told);
        async move {
            stream.write_all(&[frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat()).await.unwrap();
            if wait_for_request(&mut stream).await {
                let says = told.lock().unwrap().clone();
                // It may be closed in the middle, which is as it should be for some.
                let _ = stream.write_all(&says).await;
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            }
        }
    })
    .await;
    (backend, says)
}

/// Whether the head of a request came.
async fn wait_for_request(stream: &mut TcpStream) -> bool {
    let mut preface = [0; PREFACE.len()];
    if stream.read_exact(&mut preface).await.is_err() {
        return false;
    }
    loop {
        let mut start = [0; 9];
        if stream.read_exact(&mut start).await.is_err() {
            return false;
        }
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, start[0], start[1], start[2]])).unwrap()];
        if stream.read_exact(&mut payload).await.is_err() {
            return false;
        }
        if start[3] == HEADERS {
            return true;
        }
    }
}

#[tokio::test]
async fn frames_of_endpoints_are_judged_by_the_letter() {
    let (backend, says) = saying().await;
    let mut mesh = Mesh::new(1).target("v1", backend.address, 1).timeout(10_000);
    for cluster in mesh.config.clusters.values_mut() {
        Arc::make_mut(cluster).ports[0].protocol = Protocol::Http2;
    }
    let proxy = Proxy::start(mesh).await;
    let mut wrong = Vec::new();
    let cases: Vec<Case> = connection_cases().into_iter().chain(answer_cases()).collect();
    let count = cases.len();
    for Case { section, what, sent, good } in cases {
        // A connection that is left to the next case would have its stream 1 behind it: good ones say farewell.
        let farewell = frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
        *says.lock().unwrap() = [sent, farewell].concat();
        let came = match proxy.client().await.get("/").await {
            Ok(answer) if answer.status == 503 => Sees::Failed,
            Ok(answer) if answer.status == 200 && answer.text() == "fine" => FINE,
            Ok(answer) => panic!("{section} {what}: {answer:?}"),
            Err(_) => Sees::BrokenOff,
        };
        if !good.contains(&came) {
            wrong.push(format!("{section} {what}: {came:?} instead of {good:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
