//! Evidence from which arm the errors fall on, valid however often one looks at it.
//!
//! The router tosses a coin for each request: with probability w (the canary's share) it goes to the canary. If the
//! canary is no worse, an error falls on it with probability of at most w, whatever the error rate, the traffic or a
//! common incident do. Betting on "errors land on the canary too often" is then a game that cannot be won on average,
//! and the wealth it makes is evidence: by Ville's inequality the chance that it ever reaches 1/alpha is at most alpha.
//! Nothing needs to be known beforehand, there is no warm-up, and looking after each batch costs nothing. This is the
//! conditional Bernoulli test of Lindon & Malek (arXiv 2011.03567) with an exact additive margin; the mixture over
//! starting times is in the spirit of Shin, Ramdas & Rinaldo (*E-detectors*, 2022).
//!
//! Conditions: each request is drawn independently, and counts are those of one set of weights (one share). Sessions
//! that stick and errors that come in clusters break it.
//!
//! Wealth is kept as logarithms, and one batch adds counts times coefficients that depend on the share alone. Sums run
//! in a fixed order. No finite or infinite input can make a result that is not a finite number.

use super::wealth::{Reserve, log_sum_exp, top_up};
use super::{Counts, Tolerance, is_coin};

/// By how much the canary's odds of an error may be raised: one bet for each. From a release that is half as bad again
/// to one that is dead.
pub(super) const RAISES: [f64; 8] = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0];
/// How the stake is divided among [`RAISES`]; sums to 1.
pub(super) const STAKES: [f64; 8] = [0.10, 0.15, 0.15, 0.10, 0.10, 0.10, 0.15, 0.15];
/// Bets of the safety test, as the part of the wealth that one canary error costs; staked equally.
const SAFETY_BETS: [f64; 5] = [0.1, 0.2, 0.4, 0.7, 0.95];

/// What one error and one request are worth to one bet at one share, in nats.
#[derive(Debug, Clone, Copy, Default)]
struct BetCoefficients {
    /// Each error on either arm; below 0.
    error: f64,
    /// Each canary error on top of that; above 0.
    canary_error: f64,
    /// Each canary request, to be subtracted: pays for the additive tolerance. 0 without one.
    canary_request: f64,
}

/// Evidence that the canary's error rate is above ratio * stable's + add (an e-process for the opposite).
///
/// The answer depends on the counts and the share of each batch and on where epochs were opened; not on how the counts
/// of one epoch and share are divided into batches.
#[derive(Debug, Clone)]
pub struct ErrorEvidence {
    tolerance: Tolerance,
    /// Log-wealth of each bet.
    log_wealth: [f64; RAISES.len()],
    /// Wealth not yet staked.
    reserve: Reserve,
    /// Coefficients of the share seen last: shares change once per step, batches come each second.
    coefficients: Option<(f64, [BetCoefficients; RAISES.len()])>,
}

impl ErrorEvidence {
    /// No evidence yet (log_e 0). Half the wealth is kept back for [`Self::epoch`].
    #[must_use]
    pub fn new(tolerance: Tolerance) -> Self {
        Self::with_reserve(tolerance, Reserve::half())
    }

    /// The same without restarts: all is staked at once and [`Self::epoch`] does nothing. A little faster where a fault
    /// can only be there from the beginning.
    #[must_use]
    pub fn without_restarts(tolerance: Tolerance) -> Self {
        Self::with_reserve(tolerance, Reserve::nothing())
    }

    fn with_reserve(tolerance: Tolerance, reserve: Reserve) -> Self {
        let log_wealth = STAKES.map(|stake| (reserve.start() * stake).ln());
        Self { tolerance, log_wealth, reserve, coefficients: None }
    }

    /// Opens an epoch: stakes a part of the reserve afresh, so that evidence of a fault that begins now does not have to
    /// make good for a healthy past. To be called at each change of weights and after each 60 s of canary exposure,
    /// before the counts of that epoch; not before the first counts of all.
    pub fn epoch(&mut self) {
        let Some(fresh) = self.reserve.open_epoch() else { return };
        for (log_wealth, stake) in self.log_wealth.iter_mut().zip(STAKES) {
            top_up(log_wealth, fresh * stake);
        }
    }

    /// Takes in counts made under one share (the canary's part of the route's weight, in (0, 1)). At any other share
    /// there was nothing to compare and the counts are ignored.
    pub fn batch(&mut self, share: f64, counts: &Counts) {
        if !is_coin(share) {
            return;
        }
        let coefficients = self.coefficients_at(share);
        let errors = counts.canary_errors as f64 + counts.stable_errors as f64;
        let (canary_errors, canary_requests) = (counts.canary_errors as f64, counts.canary_requests as f64);
        for (log_wealth, each) in self.log_wealth.iter_mut().zip(coefficients) {
            *log_wealth +=
                errors * each.error + canary_errors * each.canary_error - canary_requests * each.canary_request;
        }
    }

    /// Evidence so far in nats: the logarithm of the wealth made from 1. Compare with [`super::rollback_threshold`].
    /// Negative when the errors so far speak for the canary.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.reserve.log_e(self.log_wealth.into_iter())
    }

    /// With theta_psi = psi rho w / (psi rho w + 1 - w), the chance that an error falls on a canary whose odds are raised
    /// by psi, a canary error is worth ln(theta_psi / theta_0), a stable error ln((1 - theta_psi) / (1 - theta_0)).
    fn coefficients_at(&mut self, share: f64) -> [BetCoefficients; RAISES.len()] {
        if let Some((known, coefficients)) = self.coefficients
            && known == share
        {
            return coefficients;
        }
        let canary_part = self.tolerance.ratio() * share;
        let coefficients = RAISES.map(|raise| {
            let error = ((canary_part + 1.0 - share) / (raise * canary_part + 1.0 - share)).ln();
            // The bet's size: 1 + size = theta_psi / theta_0.
            let size = raise * error.exp() - 1.0;
            BetCoefficients { error, canary_error: raise.ln(), canary_request: self.tolerance.add() * size }
        });
        self.coefficients = Some((share, coefficients));
        coefficients
    }
}

/// Evidence that the canary's error rate is below ratio * stable's + margin (the mirror image of [`ErrorEvidence`]).
///
/// Fed from the rollout's first counts and never reset, one for each distinct margin. Without any error it is the rule
/// of three: about ln(1/beta) / margin requests prove it.
#[derive(Debug, Clone)]
pub struct SafetyEvidence {
    margin: f64,
    ratio: f64,
    log_wealth: [f64; SAFETY_BETS.len()],
    /// Worth of one stable error to each bet at the share seen last; the other worths do not depend on the share.
    stable_error: Option<(f64, [f64; SAFETY_BETS.len()])>,
}

impl SafetyEvidence {
    /// `margin` (D) is a difference of shares in (0, 1]: 0.01 is one percentage point; one that is 0 or not a number can
    /// never be proven. `ratio` (rho) is as in [`Tolerance`].
    #[must_use]
    pub fn new(margin: f64, ratio: f64) -> Self {
        let stake = 1.0 / SAFETY_BETS.len() as f64;
        Self {
            margin: if margin.is_nan() { 0.0 } else { margin.clamp(0.0, 1.0) },
            ratio: Tolerance::new(ratio, 0.0).ratio(),
            log_wealth: [stake.ln(); SAFETY_BETS.len()],
            stable_error: None,
        }
    }

    /// Takes in counts made under one share; see [`ErrorEvidence::batch`].
    pub fn batch(&mut self, share: f64, counts: &Counts) {
        if !is_coin(share) {
            return;
        }
        let stable_error = self.stable_error_at(share);
        let (canary_errors, stable_errors) = (counts.canary_errors as f64, counts.stable_errors as f64);
        let canary_requests = counts.canary_requests as f64;
        for ((log_wealth, bet), stable_error) in self.log_wealth.iter_mut().zip(SAFETY_BETS).zip(stable_error) {
            *log_wealth +=
                canary_errors * (-bet).ln_1p() + stable_errors * stable_error + bet * self.margin * canary_requests;
        }
    }

    /// Evidence so far in nats. Compare with [`super::advance_threshold`].
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.log_e_after(0)
    }

    /// The margin that is to be excluded.
    #[must_use]
    pub const fn margin(&self) -> f64 {
        self.margin
    }

    /// How many more canary requests without an error bring the evidence to `threshold`: 0 when it is there, `None` when
    /// no number does (nothing can be compared at this share, no margin, or a threshold that is not finite). Errors of
    /// stable in the meantime only make it fewer.
    #[must_use]
    pub fn requests_to_proof(&self, share: f64, threshold: f64) -> Option<u64> {
        if self.log_e() >= threshold {
            return Some(0);
        }
        if !is_coin(share) || self.margin <= 0.0 || !threshold.is_finite() {
            return None;
        }
        // The bet that gets there first by itself bounds the number from above: the others only add to it.
        let bound = SAFETY_BETS
            .iter()
            .zip(self.log_wealth)
            .map(|(bet, log_wealth)| (threshold - log_wealth) / (bet * self.margin))
            .fold(f64::INFINITY, f64::min);
        // One more for the rounding of the division. The cast saturates.
        let (mut too_few, mut enough) = (0, (bound.ceil() as u64).saturating_add(1));
        while enough - too_few > 1 {
            let middle = too_few + (enough - too_few) / 2;
            if self.log_e_after(middle) >= threshold {
                enough = middle;
            } else {
                too_few = middle;
            }
        }
        Some(enough)
    }

    /// Evidence after so many more canary requests without an error on either arm.
    fn log_e_after(&self, canary_requests: u64) -> f64 {
        let gain = self.margin * canary_requests as f64;
        log_sum_exp(self.log_wealth.iter().zip(SAFETY_BETS).map(|(log_wealth, bet)| log_wealth + bet * gain))
    }

    /// Worth of one stable error to each bet: ln(1 + bet * ratio * w / (1 - w)).
    fn stable_error_at(&mut self, share: f64) -> [f64; SAFETY_BETS.len()] {
        if let Some((known, worths)) = self.stable_error
            && known == share
        {
            return worths;
        }
        let odds = self.ratio * share / (1.0 - share);
        let worths = SAFETY_BETS.map(|bet| (bet * odds).ln_1p());
        self.stable_error = Some((share, worths));
        worths
    }
}

#[cfg(test)]
mod tests;
