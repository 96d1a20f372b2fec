//! How many requests a route takes.

use super::Flaw;
use super::words::{Words, number, span};
use crate::base::time::Millis;
use serde::{Deserialize, Serialize};

/// Most tokens and requests: more than a proxy serves in an hour's twentieth, so more is no limit.
const MOST: u32 = 1_000_000;

/// A bucket of tokens, one for each request, in each proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Tokens that come in `per`, evenly; 1 to 1,000,000.
    pub requests: u32,
    /// 50 ms to 1 h; Envoy takes no shorter one.
    pub per: Millis,
    /// Tokens that the bucket holds; 1 to 1,000,000.
    pub burst: u32,
}

impl Limit {
    /// Name of the tag.
    pub(super) const TAG: &'static str = "tidegate:limit";

    /// Reads the tag's value.
    pub(super) fn read(value: &str) -> Result<Self, Flaw> {
        let mut words = Words::of(Self::TAG, &["requests", "per", "burst"], value)?;
        let requests = words.take("requests", |text| number(text, 1..=MOST))?;
        let per = words.take("per", |text| span(text, Millis(50)..=Millis::from_seconds(3600)))?;
        let burst = words.take("burst", |text| number(text, 1..=MOST))?;
        let requests = requests.ok_or_else(|| words.flaw("has no requests"))?;
        Ok(Self { requests, per: per.unwrap_or(Millis::from_seconds(1)), burst: burst.unwrap_or(requests) })
    }
}
