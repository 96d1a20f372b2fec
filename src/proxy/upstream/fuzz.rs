//! Answers of any endpoint, as far as their bytes get before anything is passed on. For the fuzzer and its corpus alone.

use super::wire::{Malformed, Piece, parse_head, write_request};
use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode, Uri};

/// What an answer comes to.
#[derive(Debug, PartialEq)]
struct Read {
    status: StatusCode,
    fields: HeaderMap,
    keep_alive: bool,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Whether it was whole when the connection ended.
    is_whole: bool,
    /// What came behind it.
    rest: usize,
}

/// The first byte says whether the request was a HEAD, and in pieces of how many bytes the answer comes; the others are the
/// answer. However it is cut, it means the same; and its fields can be written into the head of another message without
/// becoming more than they are.
pub fn answers(bytes: &[u8]) {
    let Some((how, answer)) = bytes.split_first() else { return };
    let (to_head, piece) = (how % 2 == 1, usize::from(how / 2) + 1);
    let whole = read(answer, answer.len().max(1), to_head);
    let cut = read(answer, piece, to_head);
    assert_eq!(whole.is_ok(), cut.is_ok(), "{whole:?} is {cut:?} in pieces of {piece}");
    let (Ok(whole), Ok(cut)) = (whole, cut) else { return };
    // Bytes behind the answer are only ever counted, and those of a later piece may not be there yet.
    assert_eq!(whole, cut, "in pieces of {piece}");
    let Some(read) = whole else { return };
    assert!(!to_head || read.body.is_empty(), "a body to HEAD");
    assert!(read.body.len() + read.rest <= answer.len(), "more than came");
    let mut written = Vec::new();
    write_request(&mut written, &Method::GET, &Uri::from_static("/"), &read.fields);
    let mut lines = 0;
    let mut room = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut room);
    if let Ok(httparse::Status::Complete(length)) = request.parse(&written) {
        assert_eq!(length, written.len(), "a head ends in the middle");
        lines = request.headers.len();
    }
    assert_eq!(lines, read.fields.len(), "a field became two, or none");
}

/// Reads an answer that comes in pieces; `None` when its head did not end.
fn read(answer: &[u8], piece: usize, to_head: bool) -> Result<Option<Read>, Malformed> {
    let mut pieces = answer.chunks(piece);
    let (mut input, mut fields) = (BytesMut::new(), HeaderMap::new());
    let head = loop {
        if let Some(head) = parse_head(&mut input, to_head, &mut fields)? {
            break head;
        }
        match pieces.next() {
            Some(next) => input.extend_from_slice(next),
            None => return Ok(None),
        }
    };
    let (mut body, mut bytes, mut trailers) = (head.body, Vec::new(), None);
    let ended = loop {
        match body.next(&mut input)? {
            Some(Piece::Data(data)) => bytes.extend_from_slice(&data),
            Some(Piece::Trailers(last)) => {
                trailers = Some(last);
                break true;
            }
            Some(Piece::End) => break true,
            None => match pieces.next() {
                Some(next) => input.extend_from_slice(next),
                None => break body.close(),
            },
        }
    };
    let rest = input.len() + pieces.map(<[u8]>::len).sum::<usize>();
    let (status, keep_alive) = (head.status, head.keep_alive);
    Ok(Some(Read { status, fields, keep_alive, body: bytes, trailers, is_whole: ended, rest }))
}
