//! Why a request, or one try of it, has no answer.

use super::body::Late;
use super::retry::Failure;
use super::upstream::{NoConnection, Unsuccessful};
use http::StatusCode;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The target has no endpoint.
    NoEndpoint,
    /// This version cannot talk to the target.
    Unsupported(&'static str),
    /// The mesh wants TLS to the target, and what that takes cannot be had.
    Unsecured,
    /// The last try failed.
    Failed(Failure),
    /// Time ran out.
    Late(Late),
    /// The client stopped in the middle of its body.
    ClientGone,
    /// Answered with this status on purpose.
    Injected(StatusCode),
}

/// Why a try on one endpoint failed.
pub(super) enum TryError {
    NoConnection(NoConnection),
    Reset,
    Refused,
    ClientGone,
}

impl From<Unsuccessful> for TryError {
    fn from(unsuccessful: Unsuccessful) -> Self {
        match unsuccessful {
            Unsuccessful::ClientGone => Self::ClientGone,
            Unsuccessful::Refused => Self::Refused,
            Unsuccessful::Unsent | Unsuccessful::Broken | Unsuccessful::Malformed => Self::Reset,
        }
    }
}

impl From<TryError> for Ended {
    fn from(error: TryError) -> Self {
        match error {
            TryError::NoConnection(_) => Self::Failed(Failure::Connect),
            TryError::Reset => Self::Failed(Failure::Reset),
            TryError::Refused => Self::Failed(Failure::Refused),
            TryError::ClientGone => Self::ClientGone,
        }
    }
}
