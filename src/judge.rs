//! The judge: how strongly the counts of two arms speak against a release, or for it.
//!
//! Everything here is arithmetic on counts and shares: no clock, no I/O, no randomness, no async. The same counts in
//! the same order give the same answer, so a restarted controller replays its epochs and decides as before.
//!
//! Two questions are kept apart. *Is the canary worse than tolerated?* is answered by
//! [`ErrorEvidence`](crate::judge::evidence::ErrorEvidence) and leads to a rollback. *Is it proven not to be worse than a
//! margin?* is answered by [`SafetyEvidence`](crate::judge::evidence::SafetyEvidence) and lets a step advance. Between the
//! two lies "not known yet", which is neither. How much harm is acceptable while it is not known is the business of
//! [`budget`](crate::judge::budget), which is exposure control and not a test.
//!
//! Where one version's error rate swings by itself, [`PolyaEvidence`](crate::judge::polya::PolyaEvidence) asks the first
//! question; [`noise`](crate::judge::noise) measures by how much it does.
//!
//! Latency is asked the first question too, by [`LatencyEvidence`](crate::judge::latency::LatencyEvidence), and
//! [`combine`](crate::judge::combine) makes one answer of several. Limits that do not depend on stable are the business of
//! [`absolute`](crate::judge::absolute) and, for signals that are no counts of requests, of
//! [`points`](crate::judge::points).
//!
//! [`common`](crate::judge::common) tells when both arms fail far more than was usual, which is no verdict on the release.
//!
//! [`reference`](crate::judge::reference) is how other systems decide, for comparison alone.
//!
//! It deliberately does not know about steps, deadlines or silence: those belong to `rollout`.

pub mod absolute;
pub mod baseline;
pub mod bounds;
pub mod budget;
pub mod combine;
pub mod common;
pub mod evidence;
pub mod latency;
pub mod noise;
pub mod points;
pub mod polya;
pub mod reference;
pub mod split;
pub mod verdict;
mod wealth;

use serde::{Deserialize, Serialize};

/// What both arms did under one set of weights. One request is one weighted draw with its final outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Judged requests that the weights gave to the canary, failed ones included.
    pub canary_requests: u64,
    /// Those of them that failed.
    pub canary_errors: u64,
    /// Judged requests that the weights gave to stable, failed ones included.
    pub stable_requests: u64,
    /// Those of them that failed.
    pub stable_errors: u64,
}

impl Counts {
    /// Adds counts made under the same weights. Saturates, since a wrapped count would be a lie.
    pub const fn add(&mut self, other: &Self) {
        self.canary_requests = self.canary_requests.saturating_add(other.canary_requests);
        self.canary_errors = self.canary_errors.saturating_add(other.canary_errors);
        self.stable_requests = self.stable_requests.saturating_add(other.stable_requests);
        self.stable_errors = self.stable_errors.saturating_add(other.stable_errors);
    }

    /// What came on top of `earlier`, a count of the same series: no part below zero.
    #[must_use]
    pub const fn beyond(&self, earlier: &Self) -> Self {
        Self {
            canary_requests: self.canary_requests.saturating_sub(earlier.canary_requests),
            canary_errors: self.canary_errors.saturating_sub(earlier.canary_errors),
            stable_requests: self.stable_requests.saturating_sub(earlier.stable_requests),
            stable_errors: self.stable_errors.saturating_sub(earlier.stable_errors),
        }
    }

    /// Whether nothing was counted at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.canary_requests == 0 && self.canary_errors == 0 && self.stable_requests == 0 && self.stable_errors == 0
    }
}

/// How much worse than stable the canary may be: its error rate is acceptable while p_canary <= ratio * p_stable + add.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    ratio: f64,
    add: f64,
}

impl Tolerance {
    /// No worse at all.
    pub const NONE: Self = Self { ratio: 1.0, add: 0.0 };

    /// Largest ratio. Beyond it a comparison means nothing, and products with it must stay finite.
    const MAX_RATIO: f64 = 1e6;

    /// `ratio` (rho) is a factor of at least 1; `add` (d) a share from 0 to 1, so that 0.001 is 0.1 pp. Plans are checked
    /// before they get here; all the same a value out of range is moved to the nearest one inside, and one that is not
    /// a number counts as no tolerance, so that no input can make the evidence infinite.
    #[must_use]
    pub fn new(ratio: f64, add: f64) -> Self {
        Self {
            ratio: if ratio.is_nan() { 1.0 } else { ratio.clamp(1.0, Self::MAX_RATIO) },
            add: if add.is_nan() { 0.0 } else { add.clamp(0.0, 1.0) },
        }
    }

    /// rho, 1 to a million.
    #[must_use]
    pub const fn ratio(self) -> f64 {
        self.ratio
    }

    /// d, 0.0 to 1.0.
    #[must_use]
    pub const fn add(self) -> f64 {
        self.add
    }
}

/// Evidence at which a release is rolled back: ln(1/alpha). `alpha` is the bound on false rollbacks over the whole
/// rollout, however often one looks (Ville's inequality). Infinite, hence never reached, for an alpha of 0 or less and
/// for one that is not a number.
#[must_use]
pub fn rollback_threshold(alpha: f64) -> f64 {
    if alpha > 0.0 { -alpha.min(1.0).ln() } else { f64::INFINITY }
}

/// Evidence at which a step may advance: ln(1/(1 - confidence)). Infinite, hence never reached, for a confidence of 1
/// or more and for one that is not a number.
#[must_use]
pub fn advance_threshold(confidence: f64) -> f64 {
    rollback_threshold(1.0 - confidence)
}

/// Whether a share is a coin that can come up either way. Nothing can be compared at 0 or 1.
const fn is_coin(share: f64) -> bool {
    0.0 < share && share < 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) mod chance;

    #[test]
    fn thresholds_are_those_of_the_reference() {
        // V13 of the reference vectors.
        assert!((rollback_threshold(0.01) - 4.605_170_185_988).abs() < 1e-9);
        assert!((advance_threshold(0.95) - 20.0_f64.ln()).abs() < 1e-9);
        assert_eq!(rollback_threshold(1.0), 0.0);
    }

    #[test]
    fn a_senseless_level_is_never_reached() {
        for alpha in [0.0, -1.0, f64::NAN] {
            assert_eq!(rollback_threshold(alpha), f64::INFINITY);
        }
        for confidence in [1.0, 2.0, f64::NAN] {
            assert_eq!(advance_threshold(confidence), f64::INFINITY);
        }
    }

    #[test]
    fn tolerance_is_always_in_range() {
        for (ratio, add) in [(f64::NAN, f64::NAN), (0.5, -1.0), (f64::INFINITY, 7.0), (-f64::INFINITY, f64::INFINITY)] {
            let tolerance = Tolerance::new(ratio, add);
            assert!((1.0..=1e6).contains(&tolerance.ratio()) && (0.0..=1.0).contains(&tolerance.add()));
        }
        assert_eq!(Tolerance::new(f64::NAN, f64::NAN), Tolerance::NONE);
        assert_eq!((Tolerance::new(1.2, 0.001).ratio(), Tolerance::new(1.2, 0.001).add()), (1.2, 0.001));
    }

    #[test]
    fn counts_add_up_and_do_not_wrap() {
        let mut sum = Counts::default();
        assert!(sum.is_empty());
        sum.add(&Counts { canary_requests: 3, canary_errors: 1, stable_requests: u64::MAX, stable_errors: 2 });
        sum.add(&Counts { canary_requests: 4, canary_errors: 0, stable_requests: 1, stable_errors: 5 });
        assert_eq!(sum, Counts { canary_requests: 7, canary_errors: 1, stable_requests: u64::MAX, stable_errors: 7 });
        assert!(!sum.is_empty());
    }
}
