//! What clients send.

use super::super::harness::{Backend, Mesh, Proxy, full};
use super::super::hostile::*;
use super::*;
use http::Response;
use http_body_util::BodyExt as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What comes of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// The connection ended, with this code or, where it is `None`, without one.
    Goaway(Option<u32>),
    /// The stream ended, with this code.
    Reset(u32),
    /// The stream was answered; the first byte of the answer's head names its status in HPACK's table.
    Answer(u8),
    /// Nothing but an answer to the ping behind it.
    Nothing,
}

const OK: Came = Came::Answer(0x88);
const BAD_REQUEST: Came = Came::Answer(0x8c);
const CLOSED: Came = Came::Goaway(None);

/// An error of the connection.
const fn goaway(code: u32) -> Came {
    Came::Goaway(Some(code))
}

struct Case {
    section: &'static str,
    what: &'static str,
    sent: Vec<u8>,
    good: Vec<Came>,
}

fn case(section: &'static str, what: &'static str, sent: Vec<u8>, good: &[Came]) -> Case {
    Case { section, what, sent, good: good.to_vec() }
}

/// An error of the connection with this code, also said by closing it, or by the general code that the library (h2) has for
/// frames that it cannot read.
fn breaks(section: &'static str, what: &'static str, sent: Vec<u8>, code: u32) -> Case {
    case(section, what, sent, &[goaway(code), goaway(PROTOCOL_ERROR), CLOSED])
}

/// A request that is malformed (section 8.1.1): an error of the stream, also as one of the connection, or an answer of 400.
fn malformed(section: &'static str, what: &'static str, sent: Vec<u8>) -> Case {
    case(section, what, sent, &[Came::Reset(PROTOCOL_ERROR), goaway(PROTOCOL_ERROR), BAD_REQUEST])
}

const PING_PAYLOAD: &[u8] = b"the end.";

fn connection_cases() -> Vec<Case> {
    let window = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    vec![
        case("4.1", "a frame of an unknown type is ignored", frame(0x16, 0, 0, b"12345678"), &[Came::Nothing]),
        case("4.1", "flags without a meaning are ignored", frame(PING, 0x16, 0, b"12345678"), &[Came::Nothing]),
        case("4.1", "the reserved bit is ignored", frame(PING, 0, 1 << 31, b"12345678"), &[Came::Nothing]),
        case("4.1", "an unknown type on a stream is ignored", [frame(0x16, 0, 1, b"x"), get(1, &[])].concat(), &[OK]),
        breaks("4.2", "a head above the largest frame", frame(HEADERS, END_HEADERS, 1, &[0; 16_385]), FRAME_SIZE_ERROR),
        breaks("4.2", "settings above the largest frame", frame(SETTINGS, 0, 0, &[0; 16_386]), FRAME_SIZE_ERROR),
        breaks("4.3", "a head that is no HPACK", head(1, &[b"\x80"]), COMPRESSION_ERROR),
        breaks("4.3", "an index beyond the table", head(1, &[b"\xff\xff\xff\x0f"]), COMPRESSION_ERROR),
        breaks("4.3", "a table larger than was allowed", head(1, &[b"\x3f\xff\xff\x03", GET]), COMPRESSION_ERROR),
        breaks(
            "5.5",
            "an unknown frame inside of a head",
            [frame(HEADERS, END_STREAM, 1, GET), frame(0x16, 0, 0, b"")].concat(),
            PROTOCOL_ERROR,
        ),
        breaks("6.1", "a body of no stream", frame(DATA, END_STREAM, 0, b"x"), PROTOCOL_ERROR),
        breaks("6.2", "a head of no stream", frame(HEADERS, END_HEADERS | END_STREAM, 0, GET), PROTOCOL_ERROR),
        breaks("6.3", "a priority of no stream", frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 1]), PROTOCOL_ERROR),
        breaks("6.4", "a reset of no stream", frame(RST_STREAM, 0, 0, &[0; 4]), PROTOCOL_ERROR),
        breaks(
            "6.4",
            "a reset of three bytes",
            [post(1, &[]), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            FRAME_SIZE_ERROR,
        ),
        case("6.5", "settings nobody knows", frame(SETTINGS, 0, 0, &setting(0xff, 1)), &[Came::Nothing]),
        breaks("6.5", "settings of a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL_ERROR),
        breaks("6.5", "settings of half a setting", frame(SETTINGS, 0, 0, &[0; 3]), FRAME_SIZE_ERROR),
        breaks(
            "6.5",
            "an acknowledgement that says something",
            frame(SETTINGS, ACK, 0, &setting(1, 1)),
            FRAME_SIZE_ERROR,
        ),
        breaks("6.5.2", "a push setting of 2", frame(SETTINGS, 0, 0, &setting(2, 2)), PROTOCOL_ERROR),
        breaks("6.5.2", "a window of 2^31", frame(SETTINGS, 0, 0, &setting(4, 1 << 31)), FLOW_CONTROL_ERROR),
        breaks("6.5.2", "frames below 16,384", frame(SETTINGS, 0, 0, &setting(5, 16_383)), PROTOCOL_ERROR),
        breaks("6.5.2", "frames of 2^24", frame(SETTINGS, 0, 0, &setting(5, 1 << 24)), PROTOCOL_ERROR),
        breaks(
            "6.6",
            "a push by a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], GET].concat()),
            PROTOCOL_ERROR,
        ),
        breaks("6.7", "a ping of a stream", frame(PING, 0, 1, b"12345678"), PROTOCOL_ERROR),
        breaks("6.7", "a ping of seven bytes", frame(PING, 0, 0, b"1234567"), FRAME_SIZE_ERROR),
        case("6.7", "an answer to no ping", frame(PING, ACK, 0, b"12345678"), &[Came::Nothing]),
        breaks("6.8", "a farewell of a stream", frame(GOAWAY, 0, 1, &[0; 8]), PROTOCOL_ERROR),
        breaks("6.9", "a window that grows by nothing", window(0, 0), PROTOCOL_ERROR),
        breaks("6.9", "a window's growth of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), FRAME_SIZE_ERROR),
        breaks("6.9.1", "a window above 2^31 - 1", window(0, i32::MAX as u32), FLOW_CONTROL_ERROR),
        breaks("6.10", "a continuation of no stream", frame(CONTINUATION, END_HEADERS, 0, GET), PROTOCOL_ERROR),
    ]
}

fn stream_cases() -> Vec<Case> {
    let window = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let reset = |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    let half = |stream| frame(HEADERS, END_STREAM, stream, &GET[..3]);
    let rest = |stream| frame(CONTINUATION, END_HEADERS, stream, &GET[3..]);
    let closed = [Came::Reset(STREAM_CLOSED), goaway(STREAM_CLOSED), goaway(PROTOCOL_ERROR), CLOSED];
    // An answer that was ready before is as good.
    let closed_or_answered = [&closed[..], &[OK]].concat();
    vec![
        breaks("5.1", "a body of a stream that never began", frame(DATA, END_STREAM, 1, b"x"), PROTOCOL_ERROR),
        breaks("5.1", "the reset of a stream that never began", reset(1), PROTOCOL_ERROR),
        breaks("5.1", "the window of a stream that never began", window(1, 1), PROTOCOL_ERROR),
        breaks("5.1", "the continuation of a stream that never began", rest(1), PROTOCOL_ERROR),
        case("5.1", "a body behind the end", [get(1, &[]), frame(DATA, 0, 1, b"x")].concat(), &closed_or_answered),
        case("5.1", "a head behind the end", [get(1, &[]), get(1, &[])].concat(), &closed_or_answered),
        case(
            "5.1",
            "a body behind a reset",
            [post(1, &[]), reset(1), frame(DATA, 0, 1, b"x")].concat(),
            &[&closed[..], &[Came::Nothing]].concat(),
        ),
        breaks("5.1.1", "a stream of an even number", get(2, &[]), PROTOCOL_ERROR),
        case("5.1.1", "a stream below the last one", [get(5, &[]), get(3, &[])].concat(), &closed_or_answered),
        breaks(
            "6.1",
            "padding as long as the body",
            [post(1, &[]), frame(DATA, PADDED | END_STREAM, 1, &[4, b'a', 0, 0])].concat(),
            PROTOCOL_ERROR,
        ),
        case(
            "6.1",
            "padding is not the body",
            [post(1, &[field("content-length", "1")]), frame(DATA, PADDED | END_STREAM, 1, &[2, b'a', 0, 0])].concat(),
            &[OK],
        ),
        case("6.1", "an empty body", [post(1, &[]), frame(DATA, END_STREAM, 1, b"")].concat(), &[OK]),
        breaks(
            "6.2",
            "padding as long as the head",
            frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1, &[&[40], GET].concat()),
            PROTOCOL_ERROR,
        ),
        case(
            "6.2",
            "a padded head with a priority",
            frame(HEADERS, PADDED | 0x20 | END_HEADERS | END_STREAM, 1, &[&[2, 0, 0, 0, 0, 16], GET, &[0, 0]].concat()),
            &[OK],
        ),
        breaks(
            "6.2",
            "another frame inside of a head",
            [half(1), frame(PING, 0, 0, b"12345678"), rest(1)].concat(),
            PROTOCOL_ERROR,
        ),
        breaks("6.2", "another head inside of a head", [half(1), get(3, &[])].concat(), PROTOCOL_ERROR),
        case(
            "6.3",
            "a priority before its stream",
            [frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]), get(1, &[])].concat(),
            &[OK],
        ),
        case(
            "6.3",
            "a priority of four bytes",
            [frame(PRIORITY, 0, 1, &[0; 4]), get(1, &[])].concat(),
            &[Came::Reset(FRAME_SIZE_ERROR), goaway(FRAME_SIZE_ERROR), goaway(PROTOCOL_ERROR)],
        ),
        case(
            "6.9",
            "a stream's window that grows by nothing",
            [post(1, &[]), window(1, 0)].concat(),
            &[Came::Reset(PROTOCOL_ERROR), goaway(PROTOCOL_ERROR)],
        ),
        case(
            "6.9.1",
            "a stream's window above 2^31 - 1",
            [post(1, &[]), window(1, i32::MAX as u32)].concat(),
            &[Came::Reset(FLOW_CONTROL_ERROR), goaway(FLOW_CONTROL_ERROR)],
        ),
        case("6.10", "a head in two pieces", [half(1), rest(1)].concat(), &[OK]),
        case("6.10", "a head in three pieces", [half(1), frame(CONTINUATION, 0, 1, b""), rest(1)].concat(), &[OK]),
        breaks("6.10", "a continuation of another stream", [half(1), rest(3)].concat(), PROTOCOL_ERROR),
        breaks("6.10", "a continuation behind the end of the head", [post(1, &[]), rest(1)].concat(), PROTOCOL_ERROR),
    ]
}

fn request_cases() -> Vec<Case> {
    let method: &[u8] = b"\x82";
    let scheme: &[u8] = b"\x86";
    let path: &[u8] = b"\x84";
    let authority: &[u8] = b"\x41\x0ashop.local";
    let body = |stream, bytes: &[u8]| frame(DATA, END_STREAM, stream, bytes);
    let trailers = |flags: u8, fields: &[u8]| frame(HEADERS, END_HEADERS | flags, 1, fields);
    vec![
        case(
            "8.1",
            "trailers",
            [post(1, &[]), frame(DATA, 0, 1, b"x"), trailers(END_STREAM, &field("x-late", "1"))].concat(),
            &[OK],
        ),
        malformed(
            "8.1",
            "a second head that does not end the stream",
            [post(1, &[]), trailers(0, &field("x-late", "1"))].concat(),
        ),
        // The library drops the field, so nobody is told what it says: a request all the same.
        case(
            "8.1",
            "trailers with a pseudo-field",
            [post(1, &[]), frame(DATA, 0, 1, b"x"), trailers(END_STREAM, b"\x82")].concat(),
            &[OK],
        ),
        malformed(
            "8.1.1",
            "a body shorter than its length",
            [post(1, &[field("content-length", "5")]), body(1, b"four")].concat(),
        ),
        malformed(
            "8.1.1",
            "a body longer than its length",
            [post(1, &[field("content-length", "3")]), body(1, b"four")].concat(),
        ),
        malformed("8.1.1", "no body and a length", get(1, &[field("content-length", "3")])),
        malformed("8.2", "a name in capitals", get(1, &[field("X-Big", "1")])),
        malformed("8.2.1", "a line's end in a value", get(1, &[field("x", "a\r\nb")])),
        malformed("8.2.1", "a zero byte in a value", get(1, &[field("x", "a\0b")])),
        malformed("8.2.1", "a space in a name", get(1, &[field("x y", "1")])),
        malformed("8.2.1", "a colon in a name", get(1, &[field("x:y", "1")])),
        malformed("8.2.1", "no name", get(1, &[field("", "1")])),
        malformed("8.2.2", "a field of a connection", get(1, &[field("connection", "close")])),
        malformed("8.2.2", "transfer-encoding", get(1, &[field("transfer-encoding", "chunked")])),
        malformed("8.2.2", "keep-alive", get(1, &[field("keep-alive", "1")])),
        malformed("8.2.2", "upgrade", get(1, &[field("upgrade", "websocket")])),
        malformed("8.2.2", "te with anything but trailers", get(1, &[field("te", "gzip")])),
        case("8.2.2", "te with trailers", get(1, &[field("te", "trailers")]), &[OK]),
        malformed(
            "8.3",
            "a pseudo-field nobody knows",
            head(1, &[method, scheme, path, authority, &field(":other", "1")]),
        ),
        malformed("8.3", "an answer's pseudo-field", head(1, &[method, scheme, path, authority, b"\x88"])),
        malformed("8.3", "a pseudo-field behind others", head(1, &[method, scheme, &field("x", "1"), path, authority])),
        malformed("8.3.1", "no method", head(1, &[scheme, path, authority])),
        malformed("8.3.1", "no scheme", head(1, &[method, path, authority])),
        malformed("8.3.1", "no path", head(1, &[method, scheme, authority])),
        malformed("8.3.1", "an empty path", head(1, &[method, scheme, &field(":path", ""), authority])),
        malformed("8.3.1", "two methods", head(1, &[method, method, scheme, path, authority])),
        malformed("8.3.1", "two schemes", head(1, &[method, scheme, scheme, path, authority])),
        malformed("8.3.1", "two paths", head(1, &[method, scheme, path, path, authority])),
        malformed("8.3.1", "two authorities", head(1, &[method, scheme, path, authority, authority])),
        // 403 has no place in the table: a literal with the name of :status.
        case(
            "8.5",
            "CONNECT is not allowed here",
            head(1, &[&field(":method", "CONNECT"), authority]),
            &[Came::Answer(0x48)],
        ),
    ]
}

/// The end of a case: what the proxy says first that is not an answer to settings.
async fn outcome(address: SocketAddr, sent: &[u8], waits_for_answer: bool) -> Came {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let all = [PREFACE, &frame(SETTINGS, 0, 0, &[]), sent, &frame(PING, 0, 0, PING_PAYLOAD)].concat();
    // It may have closed before everything is sent.
    let _ = stream.write_all(&all).await;
    loop {
        let mut start = [0; 9];
        // Nothing hangs: the next frame is an answer of this machine.
        let read = timeout(Duration::from_secs(10), stream.read_exact(&mut start)).await;
        if read.expect("it says something, or closes").is_err() {
            return CLOSED;
        }
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, start[0], start[1], start[2]])).unwrap()];
        if stream.read_exact(&mut payload).await.is_err() {
            return CLOSED;
        }
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match start[3] {
            GOAWAY => return Came::Goaway(Some(code(4))),
            RST_STREAM => return Came::Reset(code(0)),
            HEADERS => return Came::Answer(payload[0]),
            PING if payload == PING_PAYLOAD && !waits_for_answer => return Came::Nothing,
            _ => {}
        }
    }
}

#[tokio::test]
async fn frames_of_clients_are_judged_by_the_letter() {
    let backend = Backend::http(|request| async move {
        // As it may not come whole.
        let _ = request.into_body().collect().await;
        Response::new(full("fine"))
    })
    .await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let mut wrong = Vec::new();
    let mut cases = connection_cases();
    cases.extend(stream_cases());
    cases.extend(request_cases());
    let count = cases.len();
    for Case { section, what, sent, good } in cases {
        let came = outcome(proxy.handle.egress_address(), &sent, !good.contains(&Came::Nothing)).await;
        if !good.contains(&came) {
            wrong.push(format!("{section} {what}: {came:?} instead of {good:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(proxy.client().await.get("/").await.unwrap().text(), "fine", "others are served");
}

/// Section 6.9.2: settings change the windows of streams that are open, below zero too.
#[tokio::test]
async fn a_window_of_one_byte_is_kept() {
    let backend = Backend::text("fine").await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let mut stream = TcpStream::connect(proxy.handle.egress_address()).await.unwrap();
    let small = frame(SETTINGS, 0, 0, &setting(4, 1));
    stream.write_all(&[PREFACE, &small, &get(1, &[])].concat()).await.unwrap();
    let mut body = Vec::new();
    while body.len() < 4 {
        let mut start = [0; 9];
        stream.read_exact(&mut start).await.unwrap();
        let mut payload = vec![0; usize::from(u16::from_be_bytes([start[1], start[2]]))];
        stream.read_exact(&mut payload).await.unwrap();
        if start[3] == DATA {
            assert_eq!(payload.len(), 1, "one byte at a time");
            body.extend(payload);
            stream.write_all(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())).await.unwrap();
        }
    }
    assert_eq!(body, b"fine");
}
