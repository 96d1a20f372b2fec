//! The control plane's HTTP face: one handler that hands every request to `wire`, `ops` and back.
//!
//! No router of paths, because a path must be split before it is decoded. Who may call is up to whoever makes the router:
//! anyone, as in local mode, where any signature is accepted and none, or whoever signs with one of some keys. Every answer
//! is JSON and carries `x-amzn-requestid`.

mod control;
mod published;

pub use control::{ACCOUNT, LoadReport, MeshControl, MeshSettings};

use crate::base::access_key::AccessKey;
use crate::clock;
use crate::mesh::access::{self, Keys};
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::{Kind, Request};
use crate::mesh::sigv4::{Claim, Head, Payload};
use crate::mesh::wire::{self, Asked, BODY_MAX, FUSE_HEADER, GENERATION_HEADER, LEASE_HEADER};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long a client may take to send a body; the CLI sends its few kilobytes at once.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Whom the API answers.
#[derive(Debug, Clone)]
pub enum Callers {
    /// Anyone who reaches it.
    Anyone,
    /// Whoever signs with one of these keys, as far as it allows.
    Signed(Arc<Keys>),
}

impl MeshControl {
    /// The API as an axum router; it answers every path itself.
    pub fn router(&self, callers: Callers) -> axum::Router {
        axum::Router::new().fallback(handle).with_state((self.clone(), callers))
    }

    /// Serves the API until `shutdown` resolves; requests under way are finished first.
    pub async fn serve(
        &self,
        listener: TcpListener,
        callers: Callers,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        axum::serve(listener, self.router(callers)).with_graceful_shutdown(shutdown).await
    }
}

async fn handle(State((control, callers)): State<(MeshControl, Callers)>, request: axum::extract::Request) -> Response {
    let (head, body) = request.into_parts();
    let asked = read(&control, &callers, &head, body).await;
    let announces = matches!(&asked, Ok(Request::Describe { key, .. }) if key.kind == Kind::Route);
    let done = match asked {
        Ok(request) => control.execute(request).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(reply) => {
            let mut response = respond(StatusCode::OK, &wire::reply(&reply));
            for (name, value) in reply.resource().filter(|_| announces).map(wire::announced).unwrap_or_default() {
                // Names of nodes in it are encoded, so that it is ASCII in any case.
                if let Ok(value) = HeaderValue::from_str(&value) {
                    response.headers_mut().insert(HeaderName::from_static(name), value);
                }
            }
            response
        }
        Err(error) => refuse(&error),
    }
}

/// A request that whoever made it may make. Who that is, is settled as far as it can be before the body is waited for.
async fn read(control: &MeshControl, callers: &Callers, head: &Parts, body: Body) -> Result<Request, ApiError> {
    let Callers::Signed(keys) = callers else { return parse(head, &read_body(body).await?) };
    let headers = signable(head);
    let signed = Head {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &headers,
    };
    let claim = Claim::read(&signed, control.now())?;
    let key: &AccessKey = keys.find(&claim)?;
    let body = read_body(body).await?;
    claim.verify(&signed, Payload::Body(&body), &key.secrets)?;
    let request = parse(head, &body)?;
    access::allows(key, &request)?;
    Ok(request)
}

/// Headers as they are signed; the host also where a client names it in the target of its request alone.
fn signable(head: &Parts) -> Vec<(&str, &[u8])> {
    let mut headers: Vec<(&str, &[u8])> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    if let Some(authority) = head.uri.authority()
        && !head.headers.contains_key(header::HOST)
    {
        headers.push((header::HOST.as_str(), authority.as_str().as_bytes()));
    }
    headers
}

fn parse(head: &Parts, body: &Bytes) -> Result<Request, ApiError> {
    wire::request(wire::Parts {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        extensions: asked(&head.headers),
        body,
    })
}

async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let refused = |message: &str| ApiError::new(ErrorCode::BadRequest, message);
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(refused("body: is larger than 1 MiB, or ended early")),
        Err(_) => Err(refused("body: did not arrive within 30 s")),
    }
}

/// A value that is not text says nothing; the empty text is refused like it.
fn asked(headers: &HeaderMap) -> Asked<'_> {
    let value = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    Asked { generation: value(GENERATION_HEADER), lease: value(LEASE_HEADER), fuse: value(FUSE_HEADER) }
}

fn refuse(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(status, &wire::error(error));
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(error.code.name()));
    response
}

fn respond(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::from_str(&clock::new_uuid()) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}
