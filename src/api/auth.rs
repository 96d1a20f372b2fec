//! Who may call. On loopback no token is needed, but a web page that the user happens to visit must not be able to
//! start or abort rollouts: Host and Origin must name this machine.

use super::error::ApiError;
use super::wire::USER_HEADER;
use crate::base::loopback::{is_origin_of_this_machine, is_this_machine};
use crate::rollout::event::Actor;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Names longer than this are not logins.
const USER_MAX_CHARS: usize = 64;

/// Refuses requests whose Host or Origin is not this machine.
pub async fn loopback_only(request: Request, next: Next) -> Response {
    match check(request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check(headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).or_else(|| uri.host());
    if !host.is_some_and(is_this_machine) {
        let detail = format!("the Host `{}` is not this machine", host.unwrap_or(""));
        return Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-host", detail)
            .hint("in local mode the API answers on 127.0.0.1 and localhost only"));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    if origin.to_str().is_ok_and(is_origin_of_this_machine) {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-origin", "a page of another site may not use this API"))
}

/// Who a request is from, for the audit trail.
#[must_use]
pub fn actor(headers: &HeaderMap) -> Actor {
    let name = headers.get(USER_HEADER).and_then(|value| value.to_str().ok()).unwrap_or("someone on this machine");
    let name: String = name.chars().filter(|c| !c.is_control()).take(USER_MAX_CHARS).collect();
    Actor { name, via: "os_user".to_owned() }
}
