//! Which of a node's endpoints a request goes to.

use super::Flaw;
use super::words::{Words, span};
use crate::base::time::Millis;
use serde::{Deserialize, Serialize};

/// Longest window of a slow start: a cache that takes longer to fill has no use for a share that grows by itself.
const SLOW_START_MAX: Millis = Millis::from_seconds(3600);

/// How requests are spread over endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// By what they are chosen.
    pub by: Choice,
    /// How long a new endpoint's share grows to that of the others, 1 s to 1 h; `None` where it has it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Millis>,
}

/// By what an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Choice {
    /// They take turns, as App Mesh has it.
    #[default]
    RoundRobin,
    /// The better of two by chance: less under way, and quicker.
    LeastRequest,
}

impl Balance {
    /// Name of the tag.
    pub(super) const TAG: &'static str = "tidegate:balance";

    /// Reads the tag's value.
    pub(super) fn read(value: &str) -> Result<Self, Flaw> {
        let mut words = Words::of(Self::TAG, &["by", "slow-start"], value)?;
        let by = words.take("by", |text| match text {
            "round-robin" => Ok(Choice::RoundRobin),
            "least-request" => Ok(Choice::LeastRequest),
            _ => Err(format!("must be round-robin or least-request, not {text:?}")),
        })?;
        let slow_start = words.take("slow-start", |text| span(text, Millis::from_seconds(1)..=SLOW_START_MAX))?;
        if by.is_none() && slow_start.is_none() {
            return Err(words.flaw("has neither by nor slow-start"));
        }
        Ok(Self { by: by.unwrap_or_default(), slow_start })
    }
}
