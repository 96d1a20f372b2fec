//! Errors at the edge: what went wrong below, as a status and a problem document.

use super::wire::Problem;
use crate::base::fault::{Fault, FaultKind};
use crate::ports::{JournalError, PolicyFault};
use crate::rollout::state::Refusal;
use crate::runner::freezes::FreezeError;
use crate::runner::handle::{CommandError, RetryError, StartError};
use axum::Json;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Media type of RFC 9457.
const PROBLEM_JSON: &str = "application/problem+json";
/// The framework's own error texts are a line; more than this is none of them.
const TEXT_MAX_BYTES: usize = 16 * 1024;

/// An error answer.
#[derive(Debug)]
pub struct ApiError(pub Problem);

impl ApiError {
    /// Kind, status and what is wrong.
    pub fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self(Problem {
            kind: format!("tidegate:{kind}"),
            title: kind.replace('-', " "),
            status: status.as_u16(),
            detail: detail.into(),
            hint: None,
            retryable: status.is_server_error(),
        })
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// A refusal, which is a conflict with how things stand.
    #[must_use]
    pub fn refused(refusal: Refusal) -> Self {
        Self::new(StatusCode::CONFLICT, "refused", refusal.message).hint(refusal.hint)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], Json(self.0)).into_response()
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            FaultKind::Transient | FaultKind::Unknown => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", fault.to_string())
            }
            FaultKind::Permanent => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", fault.to_string()),
        }
    }
}

impl From<PolicyFault> for ApiError {
    fn from(error: PolicyFault) -> Self {
        match error {
            PolicyFault::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "no-such-policy", error.to_string())
                .hint("`tidegate local --policies DIR` names the directory that policies are read from"),
            PolicyFault::Invalid { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-policy", error.to_string())
                    .hint("correct the file and start again; `tidegate policy lint FILE` checks it without starting")
            }
            PolicyFault::Unavailable(fault) => fault.into(),
        }
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Policy(error) => error.into(),
            StartError::Refused(refusal) => Self::refused(refusal),
            StartError::Frozen { ref freeze, .. } => {
                let what = freeze.policy.as_deref().unwrap_or("--all");
                Self::new(StatusCode::CONFLICT, "frozen", error.to_string())
                    .hint(format!("`tidegate freeze {what} --lift` lifts it"))
            }
            StartError::OutsideWindows(_) => Self::new(StatusCode::CONFLICT, "outside-windows", error.to_string())
                .hint(
                    "wait for it, or say why it must begin all the same: `--outside-windows REASON`, in the API \
                 `outside_windows`; the reason goes into the audit trail",
                ),
            StartError::Route(fault) if fault.kind == FaultKind::Permanent => {
                Self::new(StatusCode::CONFLICT, "route-not-readable", fault.to_string())
                    .hint("create the route first (--mesh FILE), or correct `route` in the policy")
            }
            StartError::Route(fault) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "route-not-readable", fault.to_string())
            }
            StartError::Journal(error) => error.into(),
        }
    }
}

impl From<FreezeError> for ApiError {
    fn from(error: FreezeError) -> Self {
        let text = error.to_string();
        match error {
            FreezeError::NoSuchPolicy(_) => Self::new(StatusCode::NOT_FOUND, "no-such-policy", text)
                .hint("`tidegate freeze --all` freezes everything, policies that come later included"),
            FreezeError::Already(_) => Self::new(StatusCode::CONFLICT, "frozen-already", text)
                .hint("it stays as it is; lift it first to give another reason"),
            FreezeError::NotFrozen(_) => {
                Self::new(StatusCode::NOT_FOUND, "not-frozen", text).hint("`tidegate freeze` lists what is frozen")
            }
            FreezeError::Fault(fault) => fault.into(),
        }
    }
}

impl From<RetryError> for ApiError {
    fn from(error: RetryError) -> Self {
        match error {
            RetryError::Command(error) => error.into(),
            RetryError::Start(error) => error.into(),
        }
    }
}

impl From<JournalError> for ApiError {
    fn from(error: JournalError) -> Self {
        let text = error.to_string();
        match error {
            JournalError::AlreadyLive { id, .. } => Self::new(StatusCode::CONFLICT, "already-live", text)
                .hint(format!("`tidegate rollout watch {id}` shows it; `tidegate rollout abort {id}` ends it")),
            JournalError::Fenced(_) => Self::new(StatusCode::CONFLICT, "driven-elsewhere", text),
            JournalError::Ahead(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-written", text)
                .hint("it is being taken up from the store; try again"),
            JournalError::Fault(fault) => fault.into(),
        }
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "no-such-rollout", error.to_string())
                .hint("`tidegate rollout list` shows them"),
            CommandError::Refused(refusal) => Self::refused(refusal),
            CommandError::NotWritten(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-written", error.to_string()),
        }
    }
}

/// An answer in the words of the framework (a body that is too large, an address that is no text) as a problem document.
pub async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    // The framework writes no HTML: that is a page of ours.
    let is_ours = kind == PROBLEM_JSON || kind.starts_with("text/html");
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), TEXT_MAX_BYTES).await.unwrap_or_default();
    let kind = if status == StatusCode::PAYLOAD_TOO_LARGE { "body-too-large" } else { "bad-request" };
    ApiError::new(status, kind, String::from_utf8_lossy(&text)).hint("see docs/API.md").into_response()
}

/// Answers addresses that do not exist.
pub async fn no_such_address(request: Request) -> ApiError {
    let detail = format!("there is nothing at {}", request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, "no-such-address", detail).hint("see docs/API.md")
}

/// Answers methods that an address does not have.
pub async fn no_such_method(request: Request) -> ApiError {
    let detail = format!("{} is not answered at {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", detail).hint("see docs/API.md")
}
