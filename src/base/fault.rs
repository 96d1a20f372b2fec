//! What adapters report when a call did not work: whose fault, and whether to try again.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Whether doing the same again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Throttled, unavailable, timed out before it was sent: try again later.
    Transient,
    /// Refused for what was asked: the same call will be refused again.
    Permanent,
    /// No telling whether it took effect (a timeout after sending): look before trying again.
    Unknown,
}

/// A failed call to something outside, reduced to what decisions need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Whether to try again.
    pub kind: FaultKind,
    /// Who said so: `app mesh`, `sqlite`, `dns`…
    pub source: String,
    /// What they said, with what to do about it where that is known. Holds no secret.
    pub message: String,
}

impl Fault {
    /// A fault that may pass.
    pub fn transient(source: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { kind: FaultKind::Transient, source: source.into(), message: message.to_string() }
    }

    /// A refusal.
    pub fn permanent(source: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { kind: FaultKind::Permanent, source: source.into(), message: message.to_string() }
    }

    /// A call whose effect is not known.
    pub fn unknown(source: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { kind: FaultKind::Unknown, source: source.into(), message: message.to_string() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let retry = match self.kind {
            FaultKind::Transient => "may pass, retried",
            FaultKind::Permanent => "will not pass by itself",
            FaultKind::Unknown => "effect unknown, looked up before any retry",
        };
        write!(f, "{}: {} ({retry})", self.source, self.message)
    }
}

impl std::error::Error for Fault {}

/// An error and what caused it.
pub fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// An error and what caused it, in one line: the outermost alone often says nothing.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
