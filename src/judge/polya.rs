//! The same question as in [`super::evidence`] for arms that have noise of their own: evidence that allows for it.
//!
//! The coin says that an error falls on the canary with probability of at most w as long as both arms have the same error
//! rate *at each moment*. An instance with a bad neighbour, a cold cache, or a session whose requests fail together break
//! that: the error rate of one arm swings alone, and the plain evidence takes a swing for a regression (16 to 68 % false
//! rollbacks at a coefficient of variation of 0.5, gate.md section 6).
//!
//! So within one block (60 s at most, one share) the canary's part theta of the errors is taken to be drawn anew around its
//! mean, from a beta distribution with precision a. The arms of the errors are then no independent tosses but a Pólya urn:
//! each error makes the next one on the same arm more likely. With k_c and k_b errors of a block its likelihood is, up to
//! what cancels,
//!
//! ```text
//!   f(theta) = ln [ Gamma(k_c + a theta) / Gamma(a theta) * Gamma(k_b + a (1 - theta)) / Gamma(a (1 - theta)) ]
//! ```
//!
//! and a bet's worth in the block f(theta_psi) - f(theta_0) in place of the binomial's. v is the squared coefficient of
//! variation of one arm's multiplier; two of them, independent, give theta a variance of 2 v theta_0^2 (1 - theta_0)^2, hence
//! a = 1 / (2 v theta_0 (1 - theta_0)). For v towards 0 the urn forgets nothing and learns nothing: that is the plain
//! evidence. All counts are divided by phi, the number of errors that one cause makes.
//!
//! An urn is closed where the rollout opens an epoch, and where the share changes; never by anything outside of that
//! rollout. Each count costs a fixed number of operations, whatever was counted before.

use super::evidence::{RAISES, STAKES};
use super::noise::Noise;
use super::wealth::{Reserve, top_up};
use super::{Counts, Tolerance, is_coin};

/// Least weight that an urn begins with on one side. Shares next to 0 and 1 would make it 0, of which there is no
/// logarithm.
const LEAST_WEIGHT: f64 = 1e-12;

/// Largest precision, for shares so near to 0 or 1 that it would be infinite.
const MOST_PRECISION: f64 = 1e300;

/// Counts of the block that is open, divided by phi, and what the bets had when it opened.
#[derive(Debug, Clone, Copy)]
struct Urn {
    share: f64,
    canary_requests: f64,
    canary_errors: f64,
    stable_errors: f64,
    /// Log-wealth of each bet when the block opened.
    before: [f64; RAISES.len()],
}

/// Evidence that the canary's error rate is above ratio * stable's + add, where each arm's rate also swings by itself.
///
/// The answer depends on the sums in each block; not on how the counts of one block are divided into batches.
#[derive(Debug, Clone)]
pub struct PolyaEvidence {
    tolerance: Tolerance,
    noise: Noise,
    /// Log-wealth of each bet.
    log_wealth: [f64; RAISES.len()],
    /// Wealth not yet staked.
    reserve: Reserve,
    urn: Option<Urn>,
}

impl PolyaEvidence {
    /// No evidence yet (log_e 0). Half the wealth is kept back for [`Self::epoch`].
    #[must_use]
    pub fn new(tolerance: Tolerance, noise: Noise) -> Self {
        let reserve = Reserve::half();
        let log_wealth = STAKES.map(|stake| (reserve.start() * stake).ln());
        Self { tolerance, noise, log_wealth, reserve, urn: None }
    }

    /// Closes the block and opens an epoch, at the same moments as [`super::evidence::ErrorEvidence::epoch`].
    pub fn epoch(&mut self) {
        self.urn = None;
        let Some(fresh) = self.reserve.open_epoch() else { return };
        for (log_wealth, stake) in self.log_wealth.iter_mut().zip(STAKES) {
            top_up(log_wealth, fresh * stake);
        }
    }

    /// Takes in counts made under one share; at another share than that of the open block a new one opens. Ignored where
    /// there is nothing to compare, as in [`super::evidence::ErrorEvidence::batch`].
    pub fn batch(&mut self, share: f64, counts: &Counts) {
        if !is_coin(share) {
            return;
        }
        let open = self.urn.filter(|urn| urn.share == share);
        let mut urn = open.unwrap_or(Urn {
            share,
            canary_requests: 0.0,
            canary_errors: 0.0,
            stable_errors: 0.0,
            before: self.log_wealth,
        });
        let phi = self.noise.phi();
        urn.canary_requests += counts.canary_requests as f64 / phi;
        urn.canary_errors += counts.canary_errors as f64 / phi;
        urn.stable_errors += counts.stable_errors as f64 / phi;
        self.log_wealth = self.judged(&urn);
        self.urn = Some(urn);
    }

    /// Evidence so far in nats. Compare with [`super::rollback_threshold`].
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.reserve.log_e(self.log_wealth.into_iter())
    }

    /// What the bets have with everything in the open block.
    fn judged(&self, urn: &Urn) -> [f64; RAISES.len()] {
        // Odds that an error falls on the canary: of a release that is just tolerable, and psi times these.
        let odds = self.tolerance.ratio() * urn.share / (1.0 - urn.share);
        let canary_part = |raise: f64| raise * odds / (1.0 + raise * odds);
        let stable_part = |raise: f64| 1.0 / (1.0 + raise * odds);
        let precision = (1.0 / (2.0 * self.noise.v() * canary_part(1.0) * stable_part(1.0))).min(MOST_PRECISION);
        let likelihood = |raise: f64| {
            ln_rising(precision * canary_part(raise), urn.canary_errors)
                + ln_rising(precision * stable_part(raise), urn.stable_errors)
        };
        let tolerable = likelihood(1.0);
        let mut log_wealth = urn.before;
        for (log_wealth, raise) in log_wealth.iter_mut().zip(RAISES) {
            // The bet's size, which pays for the additive tolerance: theta_psi / theta_0 - 1.
            let size = canary_part(raise) / canary_part(1.0) - 1.0;
            *log_wealth += likelihood(raise) - tolerable - urn.canary_requests * self.tolerance.add() * size;
        }
        log_wealth
    }
}

/// From here on the series below has all digits that count: its first left-out term is about 10^-16.
const SERIES_FROM: f64 = 16.0;

/// ln(Gamma(x + k) / Gamma(x)), the logarithm of the rising factorial x (x + 1) ... (x + k - 1) for real k >= 0 and x > 0.
///
/// Not as a difference of two logarithms of Gamma: for x = 5 million these have 8 digits in common and each of them loses
/// as many behind the point. By Stirling's series (Abramowitz & Stegun 6.1.41), whose large terms are subtracted
/// symbolically, after x has been raised to where it is exact.
fn ln_rising(x: f64, k: f64) -> f64 {
    let x = x.max(LEAST_WEIGHT);
    if k <= 0.0 {
        return 0.0;
    }
    let (mut low, mut raised) = (x, 0.0);
    while low < SERIES_FROM {
        raised += (low / (low + k)).ln();
        low += 1.0;
    }
    let high = low + k;
    raised + (low - 0.5) * (k / low).ln_1p() + k * (high.ln() - 1.0) + stirling(high) - stirling(low)
}

/// ln Gamma(z) - [(z - 1/2) ln z - z + ln(2 pi) / 2] for z from [`SERIES_FROM`].
fn stirling(z: f64) -> f64 {
    let inverse = 1.0 / z;
    let square = inverse * inverse;
    inverse
        * (1.0 / 12.0
            - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square * (1.0 / 1188.0)))))
}

#[cfg(test)]
mod tests;
