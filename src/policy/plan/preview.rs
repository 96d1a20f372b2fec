//! Reaching the canary by a header before it has any weight.

use super::{Gate, Moment, OnInconclusive, Plan};
use crate::base::time::Millis;
use serde::{Deserialize, Serialize};

/// A route by a header to the canary, in force for a while before the first step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// What requests to the canary have.
    pub header: PreviewHeader,
    /// How long it is in force at least.
    #[serde(rename = "for")]
    pub lasts: Millis,
    /// How long at most while its gates have not said that they are content; not below `lasts`.
    pub max: Millis,
    /// What happens then. With `Advance` it stays all the same: silence never advances.
    pub on_inconclusive: OnInconclusive,
}

/// A header with exactly this value. Names are compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewHeader {
    /// Its name: a token of HTTP, 50 characters at most as App Mesh takes them.
    pub name: String,
    /// Its value: 1 to 255 printable characters.
    pub value: String,
}

impl Gate {
    /// Whether it acts before the canary has any weight, if only as a dry run.
    #[must_use]
    pub fn acts_in_preview(&self) -> bool {
        self.acts(Moment::Preview)
    }
}

impl Plan {
    /// Gates that have a say in a preview.
    pub fn preview_gates(&self) -> impl Iterator<Item = &Gate> {
        self.gates.iter().filter(|gate| !gate.dry_run && gate.acts_in_preview())
    }
}

impl std::fmt::Display for PreviewHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.value)
    }
}
