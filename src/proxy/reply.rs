//! The proxy's own answers, where there is none from an endpoint.

use super::body::ResponseBody;
use super::headers::is_grpc;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

/// Tells people why the proxy itself answered.
const REASON: HeaderName = HeaderName::from_static("x-tidegate-reason");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

pub(super) const NO_UPSTREAM: &str = "no healthy upstream";
pub(super) const CONNECT_FAILED: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection failure";
pub(super) const WAS_RESET: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination";
pub(super) const WAS_REFUSED: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: remote refused stream reset";
pub(super) const UNSECURED: &str =
    "the mesh wants TLS to this target, and its certificates cannot be used: the proxy's log says why";
pub(super) const OVERFLOW: &str = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
pub(super) const TIMED_OUT: &str = "upstream request timeout";
pub(super) const LIMITED: &str = "local_rate_limited";
pub(super) const STREAM_IDLE: &str = "stream timeout";

/// An answer with a text, to a request with these headers: callers by gRPC are told in their own way.
pub(super) fn own(
    request: &HeaderMap,
    status: StatusCode,
    text: &'static str,
    reason: HeaderValue,
) -> Response<ResponseBody> {
    if is_grpc(request) {
        return to_grpc(status, text, reason);
    }
    let body = (!text.is_empty()).then_some(Bytes::from_static(text.as_bytes()));
    let has_text = body.is_some();
    let mut response = Response::new(ResponseBody::Own(body));
    *response.status_mut() = status;
    response.headers_mut().insert(REASON, reason);
    if has_text {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

/// Status and message in the head, no body ("Trailers-Only" of gRPC over HTTP/2), as Envoy's own answers are.
fn to_grpc(status: StatusCode, text: &'static str, reason: HeaderValue) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Own(None));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(grpc_status(status)));
    if !text.is_empty() {
        headers.insert(GRPC_MESSAGE, HeaderValue::from_static(text));
    }
    headers.insert(REASON, reason);
    response
}

/// What gRPC calls a status of HTTP (grpc/grpc, doc/http-grpc-status-mapping.md).
const fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}
