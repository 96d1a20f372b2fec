//! What a policy says about noise.

use serde::{Deserialize, Serialize};

/// Noise that one version has and the other does not: how much of it the comparison of error rates allows for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseRule {
    /// None. Also of plans that were stored before there was a choice.
    #[default]
    None,
    /// What stable's endpoints were seen to have before the rollout began.
    Auto,
    /// So much.
    Fixed {
        /// Squared coefficient of variation of the factor by which one version's error rate swings by itself from minute
        /// to minute, from 0 to 4.
        v: f64,
        /// Errors of one cause, from 1.
        phi: f64,
    },
}

impl NoiseRule {
    /// Whether it allows for none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}
