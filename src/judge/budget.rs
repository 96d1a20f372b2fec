//! Blast radius: how many failures may be charged to a release before the weight goes to 0.
//!
//! Exposure control and not a test: "budget spent" pauses a rollout and says nothing about whether the release is bad.
//! It binds where evidence is slow, that is for releases less than twice as bad as stable. The three standard errors in
//! [`Exposure::is_spent`] keep ordinary luck on a service with many errors from spending it.

use super::{Counts, Tolerance, is_coin};

/// Standard errors that the attributable failures must exceed the budget by.
const SLACK_STANDARD_ERRORS: f64 = 3.0;

/// Failures charged to the release so far. Sums over batches; each needs only the share it was made under.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposure {
    tolerance: Tolerance,
    attributable: f64,
    variance: f64,
}

impl Exposure {
    /// Nothing so far.
    #[must_use]
    pub const fn new(tolerance: Tolerance) -> Self {
        Self { tolerance, attributable: 0.0, variance: 0.0 }
    }

    /// Takes in counts made under one share. Stable's errors times rho w / (1 - w) are what the canary would have had
    /// if it were just tolerable, d times its requests what the policy allows on top. A share outside (0, 1) gives
    /// nothing to compare with and is ignored.
    pub fn batch(&mut self, share: f64, counts: &Counts) {
        if !is_coin(share) {
            return;
        }
        let odds = self.tolerance.ratio() * share / (1.0 - share);
        let (canary_errors, stable_errors) = (counts.canary_errors as f64, counts.stable_errors as f64);
        self.attributable +=
            canary_errors - odds * stable_errors - self.tolerance.add() * counts.canary_requests as f64;
        self.variance += canary_errors + odds * odds * stable_errors;
    }

    /// X: canary failures beyond what is tolerated, in requests. Negative when the canary does better.
    #[must_use]
    pub const fn attributable(&self) -> f64 {
        self.attributable
    }

    /// Standard error of [`Self::attributable`], the square root of V, in requests.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        self.variance.sqrt()
    }

    /// Whether a budget of so many failed requests is spent: X >= N + 3 sqrt(V).
    #[must_use]
    pub fn is_spent(&self, failed_requests: u64) -> bool {
        self.attributable >= failed_requests as f64 + SLACK_STANDARD_ERRORS * self.standard_error()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposure(tolerance: Tolerance, batches: &[(f64, [u64; 4])]) -> Exposure {
        let mut exposure = Exposure::new(tolerance);
        for (share, [canary_requests, canary_errors, stable_requests, stable_errors]) in batches.iter().copied() {
            exposure.batch(share, &Counts { canary_requests, canary_errors, stable_requests, stable_errors });
        }
        exposure
    }

    #[test]
    fn attributable_is_what_exceeds_the_tolerated() {
        // At 10 % stable's 90 errors foretell 10 for the canary: rho 1.2 tolerates 12, and 0.1 pp of 1,000 one more.
        let some = exposure(Tolerance::new(1.2, 0.001), &[(0.1, [1000, 40, 9000, 90])]);
        assert!((some.attributable() - 27.0).abs() < 1e-9, "{some:?}");
        let odds = 1.2 * 0.1 / 0.9;
        assert!((some.standard_error() - (40.0 + odds * odds * 90.0_f64).sqrt()).abs() < 1e-9);
        assert!(exposure(Tolerance::NONE, &[(0.5, [100, 0, 100, 7])]).attributable() < 0.0);
    }

    #[test]
    fn spent_needs_three_standard_errors_beyond_the_budget() {
        // Without stable errors X = V = k, so N = 50 is spent when k >= 50 + 3 sqrt(k): at 77 and not at 76.
        assert!(!exposure(Tolerance::NONE, &[(0.01, [900, 76, 89_000, 0])]).is_spent(50));
        assert!(exposure(Tolerance::NONE, &[(0.01, [900, 77, 89_000, 0])]).is_spent(50));
        assert!(!exposure(Tolerance::NONE, &[]).is_spent(1));
    }

    #[test]
    fn nothing_is_charged_where_nothing_compares() {
        let shares = [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY];
        for share in shares {
            assert_eq!(exposure(Tolerance::NONE, &[(share, [9, 9, 9, 9])]), Exposure::new(Tolerance::NONE));
        }
    }

    #[test]
    fn batches_add_up_across_weights_and_stay_finite() {
        let parts = [(0.1, [100, 3, 900, 2]), (0.5, [500, 9, 500, 4])];
        let whole = exposure(Tolerance::NONE, &parts);
        let sum = exposure(Tolerance::NONE, &parts[..1]).attributable()
            + exposure(Tolerance::NONE, &parts[1..]).attributable();
        assert!((whole.attributable() - sum).abs() < 1e-9);
        let wild = exposure(Tolerance::new(f64::INFINITY, 1.0), &[(1.0 - f64::EPSILON, [u64::MAX; 4]); 3]);
        assert!(wild.attributable().is_finite() && wild.standard_error().is_finite());
    }
}
