//! Absolute gates: is a share of requests beyond a fixed limit, and is the release to blame for it?
//!
//! **One arm against the limit.** Null hypothesis: each request is an event (a failure, an answer slower than so many
//! milliseconds) with a chance p of at most l, given all before it. For an alternative p_1 above l a request is worth
//! p_1/l when it is one and (1 - p_1)/(1 - l) when it is not. The expected factor
//!
//! ```text
//!   p p_1/l + (1 - p) (1 - p_1)/(1 - l)
//! ```
//!
//! rises with p and is 1 at p = l, so it is at most 1 under the null hypothesis, the product over k events in n requests,
//! (p_1/l)^k ((1 - p_1)/(1 - l))^(n - k), is an e-process, and by Ville's inequality the chance that it ever reaches
//! 1/alpha is at most alpha, however often one looks. This is Wald's likelihood ratio; not knowing p_1, we average over
//! the raises psi of [`super::evidence`]: p_1 = psi l / (1 - l + psi l), the share whose *odds* are psi times those of l,
//! which stays below 1 by itself. In logarithms k events in n requests add k ln psi - n ln(1 + (psi - 1) l). Epochs are
//! opened as there. No coin and no second arm are needed, so it goes on at 100 %.
//!
//! A limit from below (at least the share l) is the same test on the requests that are *not* events, against 1 - l. A
//! limit on a quantile is one on a share: `latency_p99` at most 800 ms says that at most 1 % of the requests are slower
//! than 800 ms ([`quantile_limit`]); the 800 ms are snapped to a bucket bound in the direction that keeps it valid
//! ([`super::bounds`]).
//!
//! **To blame.** A dependency that fails for both arms drives both over the limit, and often the canary's evidence is the
//! first to get there, for it may have most of the traffic. So the release fails only if there is as much evidence that it
//! has *more events than stable*, by the coin as in [`super::evidence`] without a tolerance. The smaller of two e-values
//! is an e-value for "one or the other null hypothesis holds", hence:
//!
//! > While the arms are compared, a canary that is within the limit **or** no worse than stable fails with a chance of at
//! > most alpha.
//!
//! Simulated with a limit of 1 % and 50 requests a second, 60 worlds each: an incident that fails 30 % of both arms was
//! blamed on the release in 5, 40 and 80 % of the worlds at weights of 50, 75 and 95 % by the limit alone, and in none
//! so. What it costs where only the canary fails (5 %, stable 0.1 %): 9, 12, 26 and 134 canary failures instead of 9, 11,
//! 11 and 11 at 10, 50, 75 and 95 %; at 95 % stable has too few requests to be known by.
//!
//! Until it is known the answer is [`Outcome::Unattributed`]; when stable is over the limit as well,
//! [`Outcome::BothBreach`]: hold and page, never roll back on it. Where nothing can be compared (at 100 %), the limit
//! alone decides. Stable gets no request there, so what it was known by stays as it is for ever: its breach holds nothing
//! then, or a release that mends a failing stable would wait for a stable that can never be seen to be well.
//!
//! Each such gate keeps alpha by itself. They are not part of what a policy's `max_false_rollback` covers.

use super::evidence::{ErrorEvidence, RAISES, STAKES};
use super::wealth::{Reserve, top_up};
use super::{Counts, Tolerance};
use serde::{Deserialize, Serialize};

/// Lowest limit. Below it one event would prove everything, and logarithms must stay finite.
const LOWEST: f64 = 1e-9;

/// A limit on the share of requests that are events, in (0, 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// At most this share: `max` on an error rate.
    AtMost(f64),
    /// At least this share: `min`.
    AtLeast(f64),
}

impl Limit {
    /// The share itself, as the policy has it.
    #[must_use]
    pub const fn share(self) -> f64 {
        match self {
            Self::AtMost(share) | Self::AtLeast(share) => share,
        }
    }

    /// Counts whose errors are the requests that speak against the limit.
    fn beyond(self, counts: &Counts) -> Counts {
        match self {
            Self::AtMost(_) => *counts,
            Self::AtLeast(_) => Counts {
                canary_errors: counts.canary_requests.saturating_sub(counts.canary_errors),
                stable_errors: counts.stable_requests.saturating_sub(counts.stable_errors),
                ..*counts
            },
        }
    }
}

/// The limit on the share of slower requests that a limit on quantile `q` (0.99 for p99) of the latency stands for: at
/// most 1 - q for a `max`, at least 1 - q for a `min`.
#[must_use]
pub fn quantile_limit(q: f64, is_max: bool) -> Limit {
    if is_max { Limit::AtMost(1.0 - q) } else { Limit::AtLeast(1.0 - q) }
}

/// Evidence that an arm's share of events is above a limit (an e-process for the opposite).
///
/// The answer depends on the sums within each epoch only, not on batches or their order.
#[derive(Debug, Clone)]
pub struct LimitEvidence {
    /// Worth of each request to each bet in nats, to be subtracted; events are worth ln psi on top.
    request: [f64; RAISES.len()],
    /// Log-wealth of each bet.
    log_wealth: [f64; RAISES.len()],
    /// Wealth not yet staked.
    reserve: Reserve,
}

impl LimitEvidence {
    /// `limit` is a share; one outside of [10^-9, 1] is moved to the nearest inside, and one that is not a number counts
    /// as 1, which nothing exceeds.
    #[must_use]
    pub fn new(limit: f64) -> Self {
        let limit = if limit.is_nan() { 1.0 } else { limit.clamp(LOWEST, 1.0) };
        let reserve = Reserve::half();
        Self {
            request: RAISES.map(|raise| ((raise - 1.0) * limit).ln_1p()),
            log_wealth: STAKES.map(|stake| (reserve.start() * stake).ln()),
            reserve,
        }
    }

    /// Opens an epoch, at the same moments as [`ErrorEvidence::epoch`].
    pub fn epoch(&mut self) {
        let Some(fresh) = self.reserve.open_epoch() else { return };
        for (log_wealth, stake) in self.log_wealth.iter_mut().zip(STAKES) {
            top_up(log_wealth, fresh * stake);
        }
    }

    /// Takes in `requests`, of which `events` were events; more events than requests would be a lie, then all were.
    pub fn batch(&mut self, requests: u64, events: u64) {
        let (events, requests) = (events.min(requests) as f64, requests as f64);
        for ((log_wealth, request), raise) in self.log_wealth.iter_mut().zip(self.request).zip(RAISES) {
            *log_wealth += events * raise.ln() - requests * request;
        }
    }

    /// Evidence so far in nats. Compare with [`super::rollback_threshold`].
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.reserve.log_e(self.log_wealth.into_iter())
    }
}

/// What an absolute gate comes to. Only [`Self::CanaryBreaches`] speaks against the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// No arm is known to be beyond the limit, which is not a proof that none is.
    Within,
    /// The canary is beyond the limit and worse than stable, or there is no stable to compare it with: the gate fails.
    CanaryBreaches,
    /// The canary is beyond the limit, and whether stable is too, or is any better, is not known yet: hold.
    Unattributed,
    /// Both are beyond the limit: hold and page; not blamed on the release.
    BothBreach,
    /// Stable is beyond the limit and the canary not known to be: hold and page.
    StableBreaches,
}

impl Outcome {
    /// Whether the release fails by it.
    #[must_use]
    pub const fn fails(self) -> bool {
        matches!(self, Self::CanaryBreaches)
    }

    /// Whether the rollout should stay where it is.
    #[must_use]
    pub const fn holds(self) -> bool {
        matches!(self, Self::Unattributed | Self::BothBreach | Self::StableBreaches)
    }

    /// Whether a person should be told: stable itself is in trouble.
    #[must_use]
    pub const fn pages(self) -> bool {
        matches!(self, Self::BothBreach | Self::StableBreaches)
    }
}

/// One absolute gate of a rollout: both arms against the limit, and against each other.
#[derive(Debug, Clone)]
pub struct AbsoluteGate {
    limit: Limit,
    canary: LimitEvidence,
    stable: LimitEvidence,
    worse: ErrorEvidence,
}

impl AbsoluteGate {
    /// No evidence yet.
    #[must_use]
    pub fn new(limit: Limit) -> Self {
        let share = match limit {
            Limit::AtMost(share) => share,
            Limit::AtLeast(share) => 1.0 - share,
        };
        let arm = LimitEvidence::new(share);
        Self { limit, canary: arm.clone(), stable: arm, worse: ErrorEvidence::new(Tolerance::NONE) }
    }

    /// Opens an epoch; see [`ErrorEvidence::epoch`].
    pub fn epoch(&mut self) {
        self.canary.epoch();
        self.stable.epoch();
        self.worse.epoch();
    }

    /// Takes in counts made under one share, also one of 0 or 1. The errors in it are the events that the limit is
    /// about: for a latency the requests slower than the bound ([`super::bounds::slower_than`]).
    pub fn batch(&mut self, share: f64, counts: &Counts) {
        let counts = &self.limit.beyond(counts);
        self.canary.batch(counts.canary_requests, counts.canary_errors);
        self.stable.batch(counts.stable_requests, counts.stable_errors);
        self.worse.batch(share, counts);
    }

    /// What it comes to at an evidence needed of `threshold` nats ([`super::rollback_threshold`]). `comparable` says
    /// whether both arms get requests now; if not, the canary has only the limit to be judged by, and is not blamed where
    /// stable breached it as well.
    #[must_use]
    pub fn outcome(&self, threshold: f64, comparable: bool) -> Outcome {
        let (canary, stable) = (self.canary.log_e() >= threshold, self.stable.log_e() >= threshold);
        match (canary, stable) {
            (false, false) => Outcome::Within,
            (false, true) if !comparable => Outcome::Within,
            (false, true) => Outcome::StableBreaches,
            (true, true) => Outcome::BothBreach,
            (true, false) if comparable && self.worse.log_e() < threshold => Outcome::Unattributed,
            (true, false) => Outcome::CanaryBreaches,
        }
    }

    /// The limit.
    #[must_use]
    pub const fn limit(&self) -> Limit {
        self.limit
    }

    /// Evidence in nats that the canary is beyond the limit.
    #[must_use]
    pub fn canary_log_e(&self) -> f64 {
        self.canary.log_e()
    }

    /// Evidence in nats that stable is beyond the limit.
    #[must_use]
    pub fn stable_log_e(&self) -> f64 {
        self.stable.log_e()
    }

    /// Evidence in nats that the canary has more events beyond the limit than stable.
    #[must_use]
    pub fn worse_log_e(&self) -> f64 {
        self.worse.log_e()
    }
}

#[cfg(test)]
mod tests;
