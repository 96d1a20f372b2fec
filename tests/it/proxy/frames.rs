//! HTTP/2 by the letter: frames that RFC 9113 has an opinion on, each with what may come of it, in both directions.
//!
//! A case names the section that its rule is in. Sections 5.4.1 and 5.4.2 let a receiver make an error of a stream one of the
//! connection, and close without a word, so most cases have several good ends. What matters is that nothing malformed is
//! taken for a request or an answer, and that nothing allowed breaks anything.

mod client;
mod endpoint;

use super::hostile::{END_HEADERS, END_STREAM, GET, HEADERS, POST, frame};

// Those that `hostile` has no use for.
const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const ACK: u8 = 1;
const PADDED: u8 = 8;
// Codes of errors (RFC 9113 section 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// A field as a literal that is not kept, name and value without Huffman's code (RFC 7541 section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// A setting.
fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A whole request without a body, with more fields.
fn get(stream: u32, more: &[Vec<u8>]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &[GET, &more.concat()].concat())
}

/// The head of a request with a body, with more fields.
fn post(stream: u32, more: &[Vec<u8>]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &[POST, &more.concat()].concat())
}

/// The head of a request of exactly these fields.
fn head(stream: u32, fields: &[&[u8]]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields.concat())
}
