//! Headers that concern one connection only and must not pass through. Pure.
//!
//! `Trailer` stays: it announces fields of the message, not of the connection.

use http::HeaderValue;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, TE, TRANSFER_ENCODING, UPGRADE,
};

/// Whether a header is about the connection (RFC 9110 section 7.6.1 and the older names still seen).
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Removes hop-by-hop headers and those that `Connection` lists.
///
/// One pass over the headers when there are none, which is what most messages look like.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        strip_listed(headers);
    }
    // Who takes trailers is told that they are wanted, as gRPC's servers want to know; nothing else of `TE` passes.
    if headers.get(TE).is_some_and(|value| value != "trailers") {
        headers.remove(TE);
    }
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        // A length beside chunked framing is a smuggling attempt; the framing wins (RFC 9112 section 6.3).
        if name == TRANSFER_ENCODING {
            headers.remove(CONTENT_LENGTH);
        }
        headers.remove(name);
    }
}

/// Removes what `Connection` lists. Framing and the host are not a client's to remove from the next hop's request.
fn strip_listed(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING)
        .collect();
    for name in listed {
        headers.remove(name);
    }
}

/// Whether a message is of gRPC (grpc/grpc, doc/PROTOCOL-HTTP2.md): `application/grpc`, with `+proto` or the like behind.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    kind.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Whether the head or the trailers of an answer say that the server failed, in gRPC's way: unknown, deadline exceeded,
/// internal, unavailable or data loss. The other statuses are what a caller may have brought on itself, as 4xx are.
#[must_use]
pub fn is_grpc_failure(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| matches!(status.as_bytes(), b"2" | b"4" | b"13" | b"14" | b"15"))
}

/// Puts cookies together that HTTP/2 may send apart (RFC 9113 section 8.2.3); other protocols know one field of them.
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// What a client asks for beside HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing, or `h2c`, which may be ignored and is.
    None,
    /// A WebSocket (RFC 6455).
    WebSocket,
    /// Something else.
    Other,
}

/// What the client asks this connection to become.
#[must_use]
pub fn upgrade(headers: &HeaderMap) -> Upgrade {
    let Some(wanted) = headers.get(UPGRADE) else { return Upgrade::None };
    if wanted.as_bytes().eq_ignore_ascii_case(b"h2c") {
        return Upgrade::None;
    }
    let listed = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let is_listed = listed.into_iter().any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    // Without that it is a remark, which goes no further (RFC 9110 section 7.8).
    match (is_listed, wanted.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        (false, _) => Upgrade::None,
        (true, true) => Upgrade::WebSocket,
        (true, false) => Upgrade::Other,
    }
}

/// Says that a message is about an upgrade, when what concerned the last connection is gone.
pub fn say_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn stripped(lines: &[(&str, &str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        strip_hop_by_hop(&mut headers);
        headers.keys().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn an_upgrade_is_asked_for_by_two_fields() {
        for (lines, wanted) in [
            (&[][..], Upgrade::None),
            (&[("upgrade", "h2c"), ("connection", "upgrade")], Upgrade::None),
            (&[("upgrade", "websocket")], Upgrade::None),
            (&[("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade")], Upgrade::WebSocket),
            (&[("upgrade", "tls/1.3"), ("connection", "upgrade")], Upgrade::Other),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(upgrade(&headers), wanted, "{lines:?}");
        }
    }

    #[test]
    fn only_end_to_end_headers_pass() {
        for (lines, left) in [
            (&[("host", "a"), ("accept", "*/*")][..], &["host", "accept"][..]),
            (&[("host", "a"), ("connection", "keep-alive"), ("keep-alive", "timeout=5")], &["host"]),
            (
                &[
                    ("connection", "x-one, X-Two"),
                    ("connection", "x-three"),
                    ("x-one", "1"),
                    ("x-two", "2"),
                    ("x-three", "3"),
                ],
                &[],
            ),
            (
                &[("connection", "host, content-length"), ("host", "a"), ("content-length", "3")],
                &["host", "content-length"],
            ),
            (&[("transfer-encoding", "chunked"), ("content-length", "3"), ("x", "y")], &["x"]),
            (
                &[("te", "trailers"), ("trailer", "x-sum"), ("upgrade", "websocket"), ("proxy-connection", "close")],
                &["te", "trailer"],
            ),
            (&[("te", "gzip, trailers"), ("x", "y")], &["x"]),
            (&[("proxy-authorization", "Basic x"), ("authorization", "Basic y")], &["authorization"]),
            (&[("connection", "close, ,;@,"), ("x", "y")], &["x"]),
        ] {
            let mut got = stripped(lines);
            let mut want: Vec<String> = left.iter().map(|name| (*name).to_owned()).collect();
            got.sort();
            want.sort();
            assert_eq!(got, want, "{lines:?}");
        }
    }
}
