//! Evidence from how many requests of each arm were slow, valid however often one looks at it.
//!
//! Six thresholds tau are fixed before the first request that is judged, at quantiles of stable's latency. The question
//! at each: is a canary request slower than tau more often than a stable one? For shares theta_b = 1 - q (what stable
//! does at quantile q) and theta_c, with raised odds, the bet on a request is the likelihood ratio of its arm's share to
//! the mixed share theta_0 = w theta_c + (1 - w) theta_b: the two-sample test of Turner, Ly & Grünwald (arXiv 2106.02693,
//! *Generic E-variables*), with the router's coin w in place of their fixed group sizes. Why it is valid: let a request be
//! slow with chance p on stable and p_c on the canary. The expected factor is
//!
//! ```text
//!   w     [ p_c theta_c/theta_0 + (1 - p_c) (1 - theta_c)/(1 - theta_0) ]
//! + (1-w) [ p   theta_b/theta_0 + (1 - p)   (1 - theta_b)/(1 - theta_0) ]
//! ```
//!
//! which is exactly 1 at p_c = p, since the weighted shares add up to theta_0, and falls with p_c, since theta_c is above
//! theta_0. So p may be anything and change at any time: an incident that slows both arms, a baseline that has grown old
//! or was small, thresholds that coincide because the latencies are all alike. All of these cost power only.
//!
//! **Tolerance.** With m tolerated, the canary's requests are held against (1 + m) tau and stable's against tau. A canary
//! all of whose latencies are stretched by 1 + m or less is then within the null hypothesis, exactly. Both thresholds lie
//! on bucket bounds of the histogram, so that the counts are exact; they are snapped *up*: the canary's bound is never
//! below (1 + m) tau, hence the test stays valid and what is tolerated is m at least and less than a bucket more
//! ([`LatencyThresholds::tolerated`] says how much: 10 % becomes 10 to 20 %, and 0 % stays exactly 0 %).
//!
//! **The coin.** Only successful requests have a latency, and the coin was tossed for all. While the arms fail equally
//! often that makes no difference. Where they do not, the share among the successful is not w, and on top of a common
//! slowdown that looks like a slow canary: a release that mends a failing stable would be rolled back for it.
//! [`LatencyCounts::with_failures`] takes that case out, exactly.
//!
//! Otherwise as in [`super::evidence`]: independent draws, logarithms, sums in a fixed order, always finite.

use super::bounds::{requests_in, slower_than, snapped_up_us};
use super::wealth::{Reserve, log_sum_exp, top_up};
use super::{Counts, is_coin};
use crate::base::histogram::Histogram;
use serde::{Deserialize, Serialize};

/// Quantiles of stable's latency at which thresholds are set.
pub const QUANTILES: [f64; 6] = [0.50, 0.75, 0.90, 0.95, 0.99, 0.999];
/// The same for people.
pub const QUANTILE_NAMES: [&str; QUANTILES.len()] = ["p50", "p75", "p90", "p95", "p99", "p99.9"];
/// By how much the canary's odds of a slow request may be raised: one bet for each, at each quantile, staked equally.
const RAISES: [f64; 5] = [1.2, 1.5, 2.0, 4.0, 16.0];
/// Part of the stake of one bet.
const STAKE: f64 = 1.0 / (QUANTILES.len() * RAISES.len()) as f64;
/// Largest tolerance: a canary a thousand times as slow.
const MAX_TOLERANCE: f64 = 1000.0;

/// How slow both arms were under one set of weights: counts of successful requests, by threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LatencyCounts {
    /// Successful requests of the canary.
    pub canary_requests: u64,
    /// Those of them that were slower than the canary's threshold, for each of [`QUANTILES`].
    pub canary_slower: [u64; QUANTILES.len()],
    /// Successful requests of stable.
    pub stable_requests: u64,
    /// Those of them that were slower than stable's threshold, for each of [`QUANTILES`].
    pub stable_slower: [u64; QUANTILES.len()],
}

impl LatencyCounts {
    /// Adds counts made under the same weights and thresholds. Saturates, as [`Counts::add`] does.
    pub fn add(&mut self, other: &Self) {
        *self = self.by_field(other, u64::saturating_add);
    }

    /// What came on top of `earlier`, a count of the same series: no part below zero.
    #[must_use]
    pub fn beyond(&self, earlier: &Self) -> Self {
        self.by_field(earlier, u64::saturating_sub)
    }

    /// Whether nothing was counted at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same with the failed requests of the same weights and time counted in, to the canary's advantage: its own as
    /// fast, stable's as slow.
    ///
    /// The coin that decided each request's arm is then that of every request counted, and a request that failed brings
    /// the smallest factor that one of its arm can bring. Whatever share of its requests an arm fails (s_c and s_b being
    /// the rest), the expected factor is w [s_c A + (1 - s_c) min A] + (1 - w) [s_b B + (1 - s_b) min B] and so at most
    /// w A + (1 - w) B, which is the one of the module's derivation. The price is power at quantiles beyond stable's
    /// success rate: where 1 % of stable's requests fail, twice as many of the canary's must be above p99 to be seen.
    /// For a canary that is 1.3 times as slow at all quantiles (lognormal, 10 %) that is 171 canary requests instead of
    /// 157 at 1 % of failures on both arms, and about twice that at 5 %.
    #[must_use]
    pub fn with_failures(&self, failures: &Counts) -> Self {
        let Counts { canary_errors, stable_errors, .. } = *failures;
        Self {
            canary_requests: self.canary_requests.saturating_add(canary_errors),
            canary_slower: self.canary_slower,
            stable_requests: self.stable_requests.saturating_add(stable_errors),
            stable_slower: self.stable_slower.map(|slower| slower.saturating_add(stable_errors)),
        }
    }

    fn by_field(&self, other: &Self, combined: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            canary_requests: combined(self.canary_requests, other.canary_requests),
            canary_slower: std::array::from_fn(|i| combined(self.canary_slower[i], other.canary_slower[i])),
            stable_requests: combined(self.stable_requests, other.stable_requests),
            stable_slower: std::array::from_fn(|i| combined(self.stable_slower[i], other.stable_slower[i])),
        }
    }
}

/// What counts as slow for each arm at each of [`QUANTILES`]. Chosen once, before the first request that is judged by
/// it, and kept for the whole rollout: a choice that looks at the requests it judges makes evidence out of nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyThresholds {
    /// tau: bucket bounds in microseconds, rising. Neighbours are equal where the latencies are much alike.
    stable_us: [u64; QUANTILES.len()],
    /// (1 + m) tau or the next bound above; `None` where there is none (over 134 s), and nothing is slower.
    canary_us: [Option<u64>; QUANTILES.len()],
}

impl LatencyThresholds {
    /// From latencies of stable, for a canary that may be slower by the part `tolerance` (m, 0 or more: 0.1 is 10 %; one
    /// that is not a number is none). `None` without a single latency.
    #[must_use]
    pub fn choose(baseline: &Histogram, tolerance: f64) -> Option<Self> {
        // Each is the upper bound of the quantile's bucket; 134 s where that is the open one.
        let mut stable_us = [0; QUANTILES.len()];
        for (bound, quantile) in stable_us.iter_mut().zip(QUANTILES) {
            *bound = baseline.quantile_us(quantile)?;
        }
        Some(Self { stable_us, canary_us: stable_us.map(|bound| stretched_us(bound, tolerance)) })
    }

    /// Stable's thresholds in microseconds, by quantile.
    #[must_use]
    pub const fn stable_us(&self) -> [u64; QUANTILES.len()] {
        self.stable_us
    }

    /// The canary's thresholds in microseconds, by quantile; `None` above all bounds.
    #[must_use]
    pub const fn canary_us(&self) -> [Option<u64>; QUANTILES.len()] {
        self.canary_us
    }

    /// How much slower the canary may really be at a quantile (0.125 is 12.5 %): the tolerance asked for and what
    /// snapping added. `None` where no latency would be too much.
    #[must_use]
    pub fn tolerated(&self, quantile: usize) -> Option<f64> {
        let (stable, canary) = (self.stable_us.get(quantile)?, self.canary_us.get(quantile).copied().flatten()?);
        Some((canary as f64 / (*stable).max(1) as f64 - 1.0).max(0.0))
    }

    /// Counts by these thresholds of the latencies that both arms had under one set of weights. Exact.
    #[must_use]
    pub fn counts(&self, canary: &Histogram, stable: &Histogram) -> LatencyCounts {
        LatencyCounts {
            canary_requests: requests_in(canary),
            canary_slower: self.canary_us.map(|bound| slower_than(canary, bound)),
            stable_requests: requests_in(stable),
            stable_slower: self.stable_us.map(|bound| slower_than(stable, Some(bound))),
        }
    }
}

/// (1 + m) times a bound, snapped up.
fn stretched_us(bound_us: u64, tolerance: f64) -> Option<u64> {
    let tolerance = if tolerance.is_nan() { 0.0 } else { tolerance.clamp(0.0, MAX_TOLERANCE) };
    // A millionth of a microsecond is forgiven, so that 10 % on a bound whose 1.1-fold is a bound does not skip it.
    snapped_up_us((bound_us as f64 * (1.0 + tolerance) - 1e-6).ceil() as u64)
}

/// What one request is worth to one bet at one share, in nats.
#[derive(Debug, Clone, Copy, Default)]
struct BetCoefficients {
    canary_slower: f64,
    canary_faster: f64,
    stable_slower: f64,
    stable_faster: f64,
}

type Bets<T> = [[T; RAISES.len()]; QUANTILES.len()];

/// Evidence that the canary is slower than tolerated at some quantile (an e-process for the opposite at all of them).
///
/// The answer depends on the counts and the share of each batch and on where epochs were opened; not on how the counts
/// of one epoch and share are divided into batches.
#[derive(Debug, Clone)]
pub struct LatencyEvidence {
    /// Log-wealth of each bet.
    log_wealth: Bets<f64>,
    /// Wealth not yet staked.
    reserve: Reserve,
    /// Coefficients of the share seen last.
    coefficients: Option<(f64, Bets<BetCoefficients>)>,
}

impl Default for LatencyEvidence {
    fn default() -> Self {
        Self::new()
    }
}

impl LatencyEvidence {
    /// No evidence yet (log_e 0). Half the wealth is kept back for [`Self::epoch`].
    #[must_use]
    pub fn new() -> Self {
        let reserve = Reserve::half();
        let log_wealth = [[(reserve.start() * STAKE).ln(); RAISES.len()]; QUANTILES.len()];
        Self { log_wealth, reserve, coefficients: None }
    }

    /// Opens an epoch, at the same moments as [`super::evidence::ErrorEvidence::epoch`].
    pub fn epoch(&mut self) {
        let Some(fresh) = self.reserve.open_epoch() else { return };
        for log_wealth in self.log_wealth.iter_mut().flatten() {
            top_up(log_wealth, fresh * STAKE);
        }
    }

    /// Takes in counts made under one share (the canary's part of the route's weight, in (0, 1)), all by the same
    /// thresholds. At any other share there was nothing to compare and the counts are ignored.
    pub fn batch(&mut self, share: f64, counts: &LatencyCounts) {
        if !is_coin(share) {
            return;
        }
        let coefficients = self.coefficients_at(share);
        for (index, (row, coefficients)) in self.log_wealth.iter_mut().zip(coefficients).enumerate() {
            // More slow requests than requests would be a lie; then all were slow.
            let canary_slower = counts.canary_slower[index].min(counts.canary_requests);
            let stable_slower = counts.stable_slower[index].min(counts.stable_requests);
            let canary_faster = (counts.canary_requests - canary_slower) as f64;
            let stable_faster = (counts.stable_requests - stable_slower) as f64;
            for (log_wealth, each) in row.iter_mut().zip(coefficients) {
                *log_wealth += canary_slower as f64 * each.canary_slower
                    + canary_faster * each.canary_faster
                    + stable_slower as f64 * each.stable_slower
                    + stable_faster * each.stable_faster;
            }
        }
    }

    /// Evidence so far in nats. Compare with [`super::rollback_threshold`], alone or within [`super::combine`].
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.reserve.log_e(self.log_wealth.into_iter().flatten())
    }

    /// The quantile (an index into [`QUANTILES`]) whose bets have won the most: the one to tell people about. The first
    /// of several.
    #[must_use]
    pub fn strongest(&self) -> usize {
        let wealth = self.log_wealth.map(|row| log_sum_exp(row.into_iter()));
        (1..wealth.len()).fold(0, |best, index| if wealth[index] > wealth[best] { index } else { best })
    }

    fn coefficients_at(&mut self, share: f64) -> Bets<BetCoefficients> {
        if let Some((known, coefficients)) = self.coefficients
            && known == share
        {
            return coefficients;
        }
        let coefficients = QUANTILES.map(|quantile| {
            let stable = 1.0 - quantile;
            RAISES.map(|raise| {
                let canary = raise * stable / (1.0 - stable + raise * stable);
                let mixed = share * canary + (1.0 - share) * stable;
                BetCoefficients {
                    canary_slower: (canary / mixed).ln(),
                    canary_faster: ((1.0 - canary) / (1.0 - mixed)).ln(),
                    stable_slower: (stable / mixed).ln(),
                    stable_faster: ((1.0 - stable) / (1.0 - mixed)).ln(),
                }
            })
        });
        self.coefficients = Some((share, coefficients));
        coefficients
    }
}

#[cfg(test)]
mod tests;
