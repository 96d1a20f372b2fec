//! The control plane's HTTP face: one handler that hands every request to `wire`, `ops` and back.
//!
//! No router of paths, because a path must be split before it is decoded. No signature is checked: this is local mode,
//! where any is accepted, and none. Every answer is JSON and carries `x-amzn-requestid`.

mod control;

pub use control::{LoadReport, MeshControl};

use crate::clock;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::{Kind, Request};
use crate::mesh::wire::{self, BODY_MAX, FEATURES, FEATURES_HEADER, GENERATION_HEADER};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use std::future::Future;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long a client may take to send a body; the CLI sends its few kilobytes at once.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

impl MeshControl {
    /// The API as an axum router; it answers every path itself.
    pub fn router(&self) -> axum::Router {
        axum::Router::new().fallback(handle).with_state(self.clone())
    }

    /// Serves the API until `shutdown` resolves; requests under way are finished first.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        axum::serve(listener, self.router()).with_graceful_shutdown(shutdown).await
    }
}

async fn handle(State(control): State<MeshControl>, request: axum::extract::Request) -> Response {
    let (head, body) = request.into_parts();
    let asked = match read_body(body).await {
        Ok(body) => {
            let parts = wire::Parts {
                method: head.method.as_str(),
                path: head.uri.path(),
                query: head.uri.query().unwrap_or_default(),
                generation: generation(&head.headers),
                body: &body,
            };
            wire::request(parts)
        }
        Err(error) => Err(error),
    };
    let announces = matches!(&asked, Ok(Request::Describe { key, .. }) if key.kind == Kind::Route);
    let done = match asked {
        Ok(request) => control.execute(request).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(reply) => {
            let mut response = respond(StatusCode::OK, &wire::reply(&reply));
            if announces {
                response.headers_mut().insert(FEATURES_HEADER, HeaderValue::from_static(FEATURES));
                // So that a controller which lost its own memory begins above what was used before.
                if let Some(generation) = reply.generation() {
                    response.headers_mut().insert(GENERATION_HEADER, HeaderValue::from(generation));
                }
            }
            response
        }
        Err(error) => refuse(&error),
    }
}

async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let refused = |message: &str| ApiError::new(ErrorCode::BadRequest, message);
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(refused("body: is larger than 1 MiB, or ended early")),
        Err(_) => Err(refused("body: did not arrive within 30 s")),
    }
}

/// A value that is not text cannot be a number; the empty text is refused like one.
fn generation(headers: &HeaderMap) -> Option<&str> {
    headers.get(GENERATION_HEADER).map(|value| value.to_str().unwrap_or_default())
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
