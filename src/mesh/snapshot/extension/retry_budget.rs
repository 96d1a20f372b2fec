//! How many retries a node takes at a time.

use super::Flaw;
use super::words::{Share, Words, number};
use serde::{Deserialize, Serialize};

/// Share of retries unless another is given: 20 %, Envoy's (`CircuitBreakers.Thresholds.RetryBudget`).
const SHARE: Share = Share::of_percent(20);
/// Retries that are always allowed unless told otherwise (likewise).
const LEAST: u32 = 3;
/// Most retries that may always be allowed: more than a proxy has under way to one node would be no bound.
const LEAST_MAX: u32 = 10_000;

/// Bound of retries, so that a node that is overloaded is not asked several times for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryBudget {
    /// Retries under way, of the requests that are.
    pub share: Share,
    /// So many are allowed however few requests are under way; 0 to 10,000.
    pub least: u32,
}

impl RetryBudget {
    /// Name of the tag.
    pub(super) const TAG: &'static str = "tidegate:retry-budget";

    /// Reads the tag's value.
    pub(super) fn read(value: &str) -> Result<Self, Flaw> {
        let mut words = Words::of(Self::TAG, &["percent", "least"], value)?;
        let share = words.take("percent", Share::read)?;
        let least = words.take("least", |text| number(text, 0..=LEAST_MAX))?;
        if share.is_none() && least.is_none() {
            return Err(words.flaw("has neither percent nor least"));
        }
        Ok(Self { share: share.unwrap_or(SHARE), least: least.unwrap_or(LEAST) })
    }
}
