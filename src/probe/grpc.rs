//! One call of `grpc.health.v1.Health/Check` over HTTP/2.
//!
//! Its request has one text and its answer one number, so both are written out here instead of by a generator.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

/// An answer has five bytes and the number; what is longer is no answer to this question.
const BODY_MAX_BYTES: usize = 4096;
/// So much of a server's own words is passed on, in characters.
const LONGEST_MESSAGE: usize = 200;
/// Before each message: whether it is compressed, and its length in four bytes.
const PREFIX_BYTES: usize = 5;
const SERVING: u64 = 1;

/// Asks about a service; empty for the server as a whole.
///
/// # Errors
/// What the server did instead of saying that it serves, to stand behind its address.
pub async fn check(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, service: &str) -> Result<(), String> {
    let no_grpc = || "does not speak gRPC without TLS".to_owned();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|_| no_grpc())?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let request = Request::post("http://health/grpc.health.v1.Health/Check")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(request(service)))
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|_| no_grpc())?;
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK {
            return Err(format!("answered status {} to a gRPC health check", head.status.as_u16()));
        }
        let body = Limited::new(body, BODY_MAX_BYTES).collect().await;
        let body = body.map_err(|_| "broke off its answer to a gRPC health check".to_owned())?;
        // An answer without a message has its status in the head.
        let trailers = body.trailers().cloned().unwrap_or(head.headers);
        ended_well(&trailers, service)?;
        let status = serving_status(&body.to_bytes())?;
        if status == SERVING { Ok(()) } else { Err(format!("says that {} is {}", whom(service), name(status))) }
    };
    let answer = answer.await;
    driver.abort();
    answer
}

fn whom(service: &str) -> &str {
    if service.is_empty() { "the server" } else { service }
}

fn name(status: u64) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => format!("in state {other}"),
    }
}

/// What the status of the call itself says.
fn ended_well(trailers: &HeaderMap, service: &str) -> Result<(), String> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => Ok(()),
        Some("12") => Err("does not offer grpc.health.v1.Health".to_owned()),
        Some("5") => Err(format!("does not know {}", whom(service))),
        Some(status) => {
            let message: String = text("grpc-message").unwrap_or_default().chars().take(LONGEST_MESSAGE).collect();
            Err(format!("answered its gRPC health check with status {status}: {message}"))
        }
        None => Err("answered its gRPC health check without a status".to_owned()),
    }
}

/// The request: field 1 is the name of the service.
fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put(message);
    framed.freeze()
}

/// The answer: field 1 is a number, which is left out when it is 0. Other fields may come with later versions.
fn serving_status(body: &[u8]) -> Result<u64, String> {
    let broken = || "answered its gRPC health check with something else than a status".to_owned();
    let (prefix, mut rest) = body.split_at_checked(PREFIX_BYTES).ok_or_else(broken)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 || length != rest.len() {
        return Err(broken());
    }
    let mut status = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest).ok_or_else(broken)?;
        let skipped = match (tag >> 3, tag & 7) {
            (1, 0) => {
                status = varint(&mut rest).ok_or_else(broken)?;
                0
            }
            (_, 0) => {
                varint(&mut rest).ok_or_else(broken)?;
                0
            }
            (_, 1) => 8,
            (_, 2) => varint(&mut rest).and_then(|length| usize::try_from(length).ok()).ok_or_else(broken)?,
            (_, 5) => 4,
            _ => return Err(broken()),
        };
        rest = rest.get(skipped..).ok_or_else(broken)?;
    }
    Ok(status)
}

/// Seven bits to a byte, lowest first, ten bytes at most.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_protobuf_makes_of_it() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = request(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 308);
    }

    #[test]
    fn the_status_is_found_and_what_is_none_is_refused() {
        for (body, status) in [
            (&[0, 0, 0, 0, 2, 0x08, 1][..], Some(1)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 3, 0x08, 0x80, 1], Some(128)),
            // Fields of later versions, of every kind.
            (
                &[
                    0, 0, 0, 0, 24, 0x10, 5, 0x1a, 2, 9, 9, 0x25, 1, 2, 3, 4, 0x29, 1, 2, 3, 4, 5, 6, 7, 8, 0x08, 2,
                    0x10, 0,
                ],
                Some(2),
            ),
            (&[], None),
            (&[0, 0, 0, 0], None),
            (&[1, 0, 0, 0, 2, 0x08, 1], None),
            (&[0, 0, 0, 0, 3, 0x08, 1], None),
            (&[0, 0, 0, 0, 1, 0x08], None),
            (&[0, 0, 0, 0, 2, 0x0b, 1], None),
            (&[0, 0, 0, 0, 3, 0x12, 9, 1], None),
            (&[0, 0, 0, 0, 12, 0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255], None),
        ] {
            assert_eq!(serving_status(body).ok(), status, "{body:?}");
        }
    }

    #[test]
    fn the_status_of_the_call_is_told_in_words() {
        for (status, message, text) in [
            (Some("12"), "", "does not offer grpc.health.v1.Health"),
            (Some("5"), "", "does not know shop.Checkout"),
            (Some("14"), "busy", "answered its gRPC health check with status 14: busy"),
            (None, "", "answered its gRPC health check without a status"),
        ] {
            let mut trailers = HeaderMap::new();
            status.map(|status| trailers.insert("grpc-status", status.parse().unwrap()));
            trailers.insert("grpc-message", message.parse().unwrap());
            assert_eq!(ended_well(&trailers, "shop.Checkout").unwrap_err(), text);
        }
    }
}
