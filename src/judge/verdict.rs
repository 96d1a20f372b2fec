//! What the evidence amounts to, and one sentence that says so to a person.
//!
//! "Not known yet" and "nothing seen" are verdicts of their own, so that neither can be taken for good or for bad.

use super::Counts;
use super::absolute::{Limit, Outcome};
use super::latency::{LatencyCounts, LatencyThresholds, QUANTILE_NAMES, QUANTILES};
use serde::{Deserialize, Serialize};

/// What a comparative gate says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// Proven to be no worse than the step's margin, at the confidence asked for.
    Pass,
    /// Worse than tolerated, at the level of false rollbacks asked for.
    Fail,
    /// What was told cannot be judged by. No count makes it: who reads the counts says so.
    Error,
    /// Neither yet.
    Inconclusive {
        /// Canary requests without an error that would prove it; `None` when nothing can be compared at this share.
        missing_requests: Option<u64>,
        /// Seconds in which they come at the traffic seen lately; `None` where there was too little to tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        eta_s: Option<u64>,
    },
    /// The canary has had no judged request yet.
    NoData,
}

/// What is known about one gate at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// Counts of the whole rollout, for people: the evidence was computed share by share.
    pub counts: Counts,
    /// Evidence of being worse than tolerated in nats; the largest so far when it may be acted on late.
    pub worse_log_e: f64,
    /// Evidence of being no worse than `margin`, in nats.
    pub safe_log_e: f64,
    /// The step's margin D as a share: 0.02 is 2 pp.
    pub margin: f64,
    /// See [`Verdict::Inconclusive`].
    pub missing_requests: Option<u64>,
    /// Requests that the canary has had each second lately, at the present share; `None` where that is not known.
    pub canary_requests_per_s: Option<f64>,
}

/// Evidence needed to act, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// [`super::rollback_threshold`].
    pub rollback: f64,
    /// [`super::advance_threshold`].
    pub advance: f64,
}

impl Finding {
    /// The verdict. Evidence of harm comes first: a release can be proven within a generous margin and worse than
    /// tolerated at once.
    #[must_use]
    pub fn verdict(&self, thresholds: &Thresholds) -> Verdict {
        if self.worse_log_e >= thresholds.rollback {
            Verdict::Fail
        } else if self.counts.canary_requests == 0 {
            Verdict::NoData
        } else if self.safe_log_e >= thresholds.advance {
            Verdict::Pass
        } else {
            Verdict::Inconclusive { missing_requests: self.missing_requests, eta_s: self.eta_s() }
        }
    }

    /// One sentence without a full stop that says what was seen and what follows from it.
    #[must_use]
    pub fn explain(&self, verdict: Verdict) -> String {
        let margin = points(self.margin);
        match verdict {
            Verdict::NoData => NO_DATA.to_owned(),
            Verdict::Error => format!("{}: what is counted now cannot be judged by", self.rates()),
            Verdict::Fail => format!("{}: {} chance if no worse", self.rates(), odds(self.worse_log_e)),
            Verdict::Pass => {
                format!("{}: proven no worse than +{margin} ({} chance if worse)", self.rates(), odds(self.safe_log_e))
            }
            Verdict::Inconclusive { missing_requests: Some(missing), eta_s } => format!(
                "{}: no worse than +{margin} not proven yet: about {} more canary requests without an error{}",
                self.rates(),
                thousands(round_up(missing)),
                eta_s.map_or_else(String::new, |eta| format!(", {} at the present traffic", span(eta)))
            ),
            Verdict::Inconclusive { missing_requests: None, .. } => {
                format!("{}: nothing to compare at this weight", self.rates())
            }
        }
    }

    fn rates(&self) -> String {
        rates(&self.counts, "failed")
    }

    /// See [`Verdict::Inconclusive`]. Rounded up, and no promise: an error on the way asks for more.
    fn eta_s(&self) -> Option<u64> {
        let per_s = self.canary_requests_per_s.filter(|per_s| *per_s > 0.0)?;
        Some((self.missing_requests? as f64 / per_s).ceil() as u64)
    }
}

/// A span in seconds in the unit that reads best: `40 s`, `12 min`, `3 h`, `over 90 days`.
#[must_use]
pub fn span(seconds: u64) -> String {
    match seconds {
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s.div_ceil(60)),
        s if s < 48 * 3600 => format!("{} h", s.div_ceil(3600)),
        s if s <= 90 * 86_400 => format!("{} days", s.div_ceil(86_400)),
        _ => "over 90 days".to_owned(),
    }
}

/// What was seen of errors, and how unlikely that is for a release that is no worse: without what follows from it.
#[must_use]
pub fn seen(counts: &Counts, worse_log_e: f64) -> String {
    match counts.canary_requests {
        0 => NO_DATA.to_owned(),
        _ => format!("{}: {} chance if no worse", rates(counts, "failed"), odds(worse_log_e.max(0.0))),
    }
}

/// What is said before anything was seen.
const NO_DATA: &str = "no judged request has reached the canary yet";

/// `canary 41/1,930 failed (2.1 %), stable 12/17,400 (0.07 %)`.
fn rates(counts: &Counts, events: &str) -> String {
    let Counts { canary_requests, canary_errors, stable_requests, stable_errors } = *counts;
    format!("{}, {}", arm("canary", canary_errors, canary_requests, events), stable_arm(stable_errors, stable_requests))
}

fn stable_arm(errors: u64, requests: u64) -> String {
    arm("stable", errors, requests, "")
}

/// `canary 41/1,930 failed (2.1 %)`, without the share when there were no requests.
fn arm(name: &str, errors: u64, requests: u64, events: &str) -> String {
    let gap = if events.is_empty() { "" } else { " " };
    let share = match requests {
        0 => String::new(),
        _ => format!(" ({})", percent(errors as f64 / requests as f64)),
    };
    format!("{name} {}/{}{gap}{events}{share}", thousands(errors), thousands(requests))
}

/// What is known about a gate on latency at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyFinding {
    /// Counts of the whole rollout, for people; successful requests, failures not counted in.
    pub counts: LatencyCounts,
    /// What they were counted by.
    pub thresholds: LatencyThresholds,
    /// Evidence of being slower than tolerated, in nats; the largest so far when it may be acted on late.
    pub log_e: f64,
    /// The quantile to tell about, an index: [`super::latency::LatencyEvidence::strongest`].
    pub quantile: usize,
}

impl LatencyFinding {
    /// One sentence without a full stop that says what was seen and, when `fails`, how unlikely that is.
    #[must_use]
    pub fn explain(&self, fails: bool) -> String {
        let quantile = self.quantile.min(QUANTILES.len() - 1);
        let LatencyCounts { canary_requests, canary_slower, stable_requests, stable_slower } = self.counts;
        if canary_requests == 0 {
            return "no successful request of the canary has been timed yet".to_owned();
        }
        let (stable_us, canary_us) = (self.thresholds.stable_us()[quantile], self.thresholds.canary_us()[quantile]);
        let bound = |us: Option<u64>| us.map_or("any latency that is told apart".to_owned(), duration);
        let of = |slower: u64, requests: u64| format!("{} of {}", thousands(slower), thousands(requests));
        // One threshold is named once.
        let stable_bound =
            if canary_us == Some(stable_us) { String::new() } else { format!(" above {}", duration(stable_us)) };
        let seen = format!(
            "{} above {}, stable {}{stable_bound}",
            of(canary_slower[quantile], canary_requests),
            bound(canary_us),
            of(stable_slower[quantile], stable_requests)
        );
        let name = QUANTILE_NAMES[quantile];
        if !fails {
            return format!("canary {name} not known to be slower: {seen}");
        }
        let null = match self.thresholds.tolerated(quantile) {
            Some(tolerated) if tolerated > 0.0 => format!("at most {} slower", percent(tolerated)),
            _ => "no slower".to_owned(),
        };
        format!("canary {name} slower: {seen}: {} chance if {null}", odds(self.log_e))
    }
}

/// What is known about an absolute gate at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AbsoluteFinding<'a> {
    /// Counts of the whole rollout; the errors in them are the events that the limit is about.
    pub counts: Counts,
    /// The limit on their share.
    pub limit: Limit,
    /// What the events are called behind a number: `failed`, `slower than 852 ms`.
    pub events: &'a str,
    /// What it comes to.
    pub outcome: Outcome,
    /// Evidence in nats that the canary is beyond the limit.
    pub canary_log_e: f64,
}

impl AbsoluteFinding<'_> {
    /// One sentence without a full stop that says what was seen and what follows from it.
    #[must_use]
    pub fn explain(&self) -> String {
        let Counts { canary_requests, canary_errors, stable_requests, stable_errors } = self.counts;
        let limit = match self.limit {
            Limit::AtMost(share) => format!("limit {}", plain_percent(share)),
            Limit::AtLeast(share) => format!("limit at least {}", plain_percent(share)),
        };
        let canary = arm("canary", canary_errors, canary_requests, self.events);
        let both = format!("{canary}, {}, {limit}", stable_arm(stable_errors, stable_requests));
        match self.outcome {
            Outcome::Within if canary_requests == 0 => {
                format!("no judged request has reached the canary yet, {limit}")
            }
            Outcome::Within => format!("{canary}, {limit}: not known to be beyond it"),
            Outcome::CanaryBreaches => {
                format!("{canary}, {limit}: {} chance if within it", odds(self.canary_log_e))
            }
            Outcome::Unattributed => format!("{both}: held until it is known whether stable is any better"),
            Outcome::BothBreach => format!("{both}: both breach: held, not blamed on the release"),
            Outcome::StableBreaches => format!("{both}: stable breaches: held, not blamed on the release"),
        }
    }
}

/// Chance of evidence this strong at any time if there were nothing to find: min(1, exp(-log_e)), by Ville's
/// inequality. To be given the largest evidence so far.
#[must_use]
pub fn anytime_p_value(log_e: f64) -> f64 {
    (-log_e).exp().min(1.0)
}

/// `1 in 130`, rounded so that the chance is never made smaller; `1 in 10^6` from a million on.
#[must_use]
pub fn odds(log_e: f64) -> String {
    // A hair is added, so that evidence of exactly ln(10^k) is not cut down to what lies below it.
    let decades = log_e / std::f64::consts::LN_10 + 1e-9;
    if decades >= 6.0 {
        return format!("1 in 10^{}", decades.floor());
    }
    let one_in = (anytime_p_value(log_e).recip() + 1e-9).floor().max(1.0) as u64;
    let unit = 10_u64.pow(one_in.ilog10().saturating_sub(1));
    format!("1 in {}", thousands(one_in / unit * unit))
}

/// A whole number with thousands separated by commas: `17,400`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share (0.0 to 1.0) in percent, as exact as it is useful: `12 %`, `2.1 %`, `0.07 %`, `0.004 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    let decimals = match value {
        v if v <= 0.0 || v >= 99.95 => 0,
        v if v >= 99.0 => 1,
        v if v >= 9.95 => 0,
        v if v >= 0.995 => 1,
        v if v >= 0.01 => 2,
        // One digit that counts.
        v => (-v.log10().floor()).clamp(0.0, 20.0) as usize,
    };
    // Nearly all is not all.
    let shown = if (99.95..100.0).contains(&value) { "over 99.9".to_owned() } else { format!("{value:.decimals$}") };
    format!("{shown} %")
}

/// A difference of shares in percentage points, as a policy writes it: `2pp`, `0.5pp`.
#[must_use]
pub fn points(share: f64) -> String {
    format!("{}pp", trimmed(share * 100.0, 4))
}

/// A share that someone chose, in percent and as it was written: `1 %`, `0.5 %`.
#[must_use]
pub fn plain_percent(share: f64) -> String {
    format!("{} %", trimmed(share * 100.0, 7))
}

/// A span of microseconds to three digits that count: `0.064 ms`, `1.23 ms`, `120 ms`, `12.3 s`.
#[must_use]
pub fn duration(us: u64) -> String {
    let (value, unit) = if us < 10_000_000 { (us as f64 / 1e3, "ms") } else { (us as f64 / 1e6, "s") };
    let decimals = match value {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    format!("{} {unit}", trimmed(value, decimals))
}

/// A number with at most so many decimals, and no zero at their end.
fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Rounded up to two digits that count: an estimate should not look like a promise.
const fn round_up(number: u64) -> u64 {
    let mut unit = 1;
    while number / unit >= 100 {
        unit *= 10;
    }
    number.div_ceil(unit).saturating_mul(unit)
}

#[cfg(test)]
mod tests;
