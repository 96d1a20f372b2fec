//! HTTP/1.1 as a client speaks it, on bytes: the head of a request written, the head of an answer read, and how long
//! the answer's body is. Pure.
//!
//! Answers come from services that a release may have broken, and what is read wrongly here is read as the next answer
//! on the connection. So: an answer whose length can be understood in two ways is refused or ends its connection, what
//! `httparse` calls invalid is invalid (folded lines included), and everything that grows has a limit.

/// Reading bodies in chunks.
mod chunked;

use bytes::{Bytes, BytesMut};
use chunked::Chunks;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST,
    HeaderName, HeaderValue, MAX_FORWARDS, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, Method, StatusCode, Uri};
use std::io::Write;
use std::mem::MaybeUninit;

/// Largest head of an answer: above what nginx and Envoy take.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Most fields in a head and in trailers, as on the side of the clients.
pub(super) const MAX_FIELDS: usize = 100;

/// Why what came is not taken for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// Not a head, or a field of one that is not valid.
    #[error("not an HTTP/1 head: {0}")]
    Syntax(#[from] httparse::Error),
    /// A status, name or value that is out of range.
    #[error("a status or a field is out of range")]
    Field,
    /// A head without an end.
    #[error("the head is longer than 64 KiB")]
    HeadTooLong,
    /// Lengths that are no numbers or contradict each other.
    #[error("the body's lengths are no numbers or contradict each other")]
    Length,
    /// HTTP/1.0 knows no transfer encoding, so nobody can say what is meant.
    #[error("a transfer encoding in an HTTP/1.0 answer")]
    Encoding,
    /// A chunk without a size, or not followed by a line end.
    #[error("a chunk is not framed as one")]
    Chunk,
    /// More extensions or trailers than anybody needs.
    #[error("too much beside the chunks")]
    BesideChunks,
}

/// Head of an answer; its fields are in a map of their own.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// The reason phrase, if it is not the usual one.
    pub(super) reason: Option<Bytes>,
    pub(super) body: Body,
    /// Whether the connection may be used again after the body.
    pub(super) keep_alive: bool,
}

/// Writes the head of a request. How its body is framed has to be among the fields.
pub(super) fn write_request(out: &mut Vec<u8>, method: &Method, uri: &Uri, headers: &HeaderMap) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    let path = uri.path();
    out.extend_from_slice(if path.is_empty() { b"/" } else { path.as_bytes() });
    if let Some(query) = uri.query() {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in headers {
        write_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes what stands before the data of a chunk. Behind it stands [`CHUNK_END`].
pub(super) fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    // Writing into memory does not fail.
    let _ = write!(out, "{size:X}\r\n");
}

/// Stands behind the data of a chunk.
pub(super) const CHUNK_END: &[u8] = b"\r\n";

/// Writes the last chunk with those trailers that were announced and are allowed there.
pub(super) fn write_last_chunk(out: &mut Vec<u8>, trailers: &HeaderMap, announced: &[HeaderName]) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        if announced.contains(name) && may_trail(name) {
            write_field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The fields that a head announces to follow its body.
pub(super) fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(TRAILER).into_iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}

/// Whether a field may come when its message was already dealt with (RFC 9110 section 6.5.1).
fn may_trail(name: &HeaderName) -> bool {
    let never = [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        HOST,
        MAX_FORWARDS,
        SET_COOKIE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
    ];
    !never.contains(name)
}

/// Whether a head can end within what came after its first `seen` bytes, so that parsing it again is worth it.
///
/// A head that comes byte by byte would otherwise cost the square of its length.
pub(super) fn may_end(input: &[u8], seen: usize) -> bool {
    let news = &input[seen.saturating_sub(3).min(input.len())..];
    news.windows(2).any(|pair| pair == b"\n\n") || news.windows(3).any(|three| three == b"\n\r\n")
}

/// Takes the head of an answer off `input` and puts its fields into `headers`, which has to be empty; `None` until all
/// of it is there. `to_head` says that the request was a HEAD.
pub(super) fn parse_head(
    input: &mut BytesMut,
    to_head: bool,
    headers: &mut HeaderMap,
) -> Result<Option<Head>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    // The parsed fields borrow the input, which is about to be cut: only where they are is kept. Two bytes are enough
    // for a place in a head.
    let mut places = [[0_u16; 4]; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, input, &mut fields)?;
    let httparse::Status::Complete(length) = parsed else {
        return if input.len() < MAX_HEAD { Ok(None) } else { Err(Malformed::HeadTooLong) };
    };
    if length > MAX_HEAD {
        return Err(Malformed::HeadTooLong);
    }
    let status = StatusCode::from_u16(response.code.unwrap_or(0)).map_err(|_| Malformed::Field)?;
    let http_1_0 = response.version == Some(0);
    let reason = response.reason.unwrap_or_default();
    let reason = (Some(reason) != status.canonical_reason()).then(|| Bytes::copy_from_slice(reason.as_bytes()));
    let count = response.headers.len();
    for (place, field) in places.iter_mut().zip(response.headers.iter()) {
        *place = [
            offset(input, field.name.as_bytes())?,
            short(field.name.len())?,
            offset(input, field.value)?,
            short(field.value.len())?,
        ];
    }
    let head = input.split_to(length).freeze();
    let mut framing = Framing::default();
    headers.reserve(count);
    for [name_at, name_length, value_at, value_length] in places[..count].iter().map(|place| place.map(usize::from)) {
        let name = HeaderName::from_bytes(&head[name_at..name_at + name_length]).map_err(|_| Malformed::Field)?;
        let value = head.slice(value_at..value_at + value_length);
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| Malformed::Field)?;
        framing.note(&name, &value);
        headers.append(name, value);
    }
    let (body, keep_alive) = framing.decide(status, http_1_0, to_head)?;
    Ok(Some(Head { status, reason, body: Body(body), keep_alive }))
}

/// Where a part of `all` begins in it.
fn offset(all: &[u8], part: &[u8]) -> Result<u16, Malformed> {
    // Empty values may be constants from elsewhere: they are nowhere, and their place does not matter.
    if part.is_empty() { Ok(0) } else { short((part.as_ptr() as usize).wrapping_sub(all.as_ptr() as usize)) }
}

fn short(number: usize) -> Result<u16, Malformed> {
    u16::try_from(number).map_err(|_| Malformed::HeadTooLong)
}

/// What the fields of a head say about its body and its connection.
#[derive(Default)]
struct Framing {
    length: Length,
    /// Whether `chunked` is the last transfer encoding; `None` without any.
    chunked: Option<bool>,
    close: bool,
    keep_alive: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Length {
    #[default]
    Unknown,
    Known(u64),
    Nonsense,
}

impl Framing {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        if *name == CONTENT_LENGTH {
            self.length = value.as_bytes().split(|byte| *byte == b',').map(digits).fold(self.length, Length::and);
        } else if *name == TRANSFER_ENCODING {
            let last = value.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
            self.chunked = Some(last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        } else if *name == CONNECTION {
            for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
    }

    /// RFC 9112 section 6.3 for answers, and whether the connection outlives this one.
    fn decide(self, status: StatusCode, http_1_0: bool, to_head: bool) -> Result<(Framed, bool), Malformed> {
        let keep_alive = !self.close && (!http_1_0 || self.keep_alive);
        if status.is_informational() {
            return Ok((Framed::Exact(0), keep_alive));
        }
        let (body, keep_alive) = match (self.chunked, self.length) {
            (Some(_), _) if http_1_0 => return Err(Malformed::Encoding),
            // A length beside an encoding is an error or an attack: what follows the body is not trusted.
            (Some(true), length) => (Framed::Chunked(Chunks::default()), keep_alive && length == Length::Unknown),
            (None, Length::Nonsense) => return Err(Malformed::Length),
            (None, Length::Known(length)) => (Framed::Exact(length), keep_alive),
            (Some(false), _) | (None, Length::Unknown) => (Framed::UntilClose, keep_alive),
        };
        if to_head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
            return Ok((Framed::Exact(0), keep_alive));
        }
        let ends_with_connection = matches!(body, Framed::UntilClose);
        Ok((body, keep_alive && !ends_with_connection))
    }
}

impl Length {
    /// The same length said again is one length (RFC 9110 section 8.6).
    fn and(self, next: Option<u64>) -> Self {
        match (self, next) {
            (Self::Unknown, Some(next)) => Self::Known(next),
            (Self::Known(length), Some(next)) if length == next => self,
            _ => Self::Nonsense,
        }
    }
}

/// A decimal number; neither a sign nor more than fits.
fn digits(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    let add = |number: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    if text.is_empty() { None } else { text.iter().try_fold(0, add) }
}

/// What is still to come of an answer's body.
#[derive(Debug)]
pub(super) struct Body(Framed);

#[derive(Debug)]
enum Framed {
    /// This many bytes.
    Exact(u64),
    /// Chunks.
    Chunked(Chunks),
    /// All until the connection ends.
    UntilClose,
}

/// A piece of a body.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    /// The fields behind the last chunk. The end.
    Trailers(HeaderMap),
    End,
}

impl Body {
    /// Whether all of it was taken.
    pub(super) fn is_over(&self) -> bool {
        match &self.0 {
            Framed::Exact(left) => *left == 0,
            Framed::Chunked(chunks) => chunks.is_over(),
            Framed::UntilClose => false,
        }
    }

    /// How many bytes are left, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match &self.0 {
            Framed::Exact(left) => Some(*left),
            Framed::Chunked(chunks) => chunks.is_over().then_some(0),
            Framed::UntilClose => None,
        }
    }

    /// Takes the next piece off `input`; `None` when more has to be read first.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        match &mut self.0 {
            Framed::Exact(0) => Ok(Some(Piece::End)),
            Framed::Exact(left) => Ok(take(input, left).map(Piece::Data)),
            Framed::Chunked(chunks) => chunks.next(input),
            Framed::UntilClose if input.is_empty() => Ok(None),
            Framed::UntilClose => Ok(Some(Piece::Data(input.split().freeze()))),
        }
    }

    /// The connection has ended. Whether the body has, too.
    pub(super) fn close(&mut self) -> bool {
        if matches!(self.0, Framed::UntilClose) {
            self.0 = Framed::Exact(0);
        }
        self.is_over()
    }
}

/// Takes what is there of `left` bytes.
fn take(input: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    if input.is_empty() {
        return None;
    }
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= length as u64;
    Some(input.split_to(length).freeze())
}

#[cfg(test)]
mod tests;
