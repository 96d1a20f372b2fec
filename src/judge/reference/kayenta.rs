//! Kayenta's NetflixACAJudge (`NetflixACAJudge.scala`, `MannWhitneyClassifier.scala` at a69573be) on the failed share of
//! each minute.
//!
//! The confidence interval is the one by order statistics of all differences, which is what the root of the judge's
//! statistic converges to; ties are not corrected for.

use super::{Decision, Rule, SLICE_S, Slice};
use crate::judge::Counts;

/// The canary's share, in percent.
const WEIGHT: u8 = 10;
/// Length of a point in seconds.
const POINT_S: u32 = 60;
/// Length of the whole analysis in seconds.
const LIFETIME_S: u32 = 3600;
/// Quantile of the normal distribution for the fixed confidence of 0.98, two-sided.
const Z: f64 = 2.326_347_874;
/// The fixed tolerance: a difference counts beyond this part of its own estimate.
const TOLERANCE: f64 = 0.25;

/// One analysis: judged in each interval over everything since its beginning, and ended by the first judgement below.
#[derive(Debug)]
pub(super) struct Kayenta {
    interval_s: u32,
    elapsed_s: u32,
    point: Counts,
    canary: Vec<f64>,
    stable: Vec<f64>,
}

impl Kayenta {
    /// Judged every `interval_s` seconds.
    pub(super) fn new(interval_s: u32) -> Self {
        let (point, canary, stable) = Default::default();
        Self { interval_s, elapsed_s: 0, point, canary, stable }
    }
}

impl Rule for Kayenta {
    fn weight(&self) -> u8 {
        WEIGHT
    }

    fn take(&mut self, slice: &Slice) -> Option<Decision> {
        self.point.add(&slice.counts);
        self.elapsed_s += SLICE_S;
        if self.elapsed_s.is_multiple_of(POINT_S) {
            let Counts { canary_requests, canary_errors, stable_requests, stable_errors } =
                std::mem::take(&mut self.point);
            // `nanStrategy: remove`.
            let points = |of: u64, part: u64| (of > 0).then(|| part as f64 / of as f64);
            self.canary.extend(points(canary_requests, canary_errors));
            self.stable.extend(points(stable_requests, stable_errors));
        }
        if self.elapsed_s.is_multiple_of(self.interval_s) && is_high(&self.canary, &self.stable) {
            return Some(Decision::RolledBack);
        }
        (self.elapsed_s >= LIFETIME_S).then_some(Decision::Promoted)
    }
}

/// Whether the classifier says High: the canary's values lie above stable's.
fn is_high(canary: &[f64], stable: &[f64]) -> bool {
    if canary.is_empty() || stable.is_empty() || sorted(canary.iter().copied()) == sorted(stable.iter().copied()) {
        return false;
    }
    let differences = sorted(canary.iter().flat_map(|canary| stable.iter().map(move |stable| canary - stable)));
    let (n, m, all) = (canary.len() as f64, stable.len() as f64, differences.len());
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    let rank = (n * m / 2.0 - 0.5 - Z * deviation).floor();
    if rank < 0.0 {
        // Too few points for this confidence.
        return false;
    }
    let (lower, estimate) = (differences[rank as usize], (differences[(all - 1) / 2] + differences[all / 2]) / 2.0);
    lower > TOLERANCE * estimate.abs() && effect_is_raised(canary, stable)
}

/// The ratio of the means is at least `allowedIncrease`, 1; skipped where one of them is 0.
fn effect_is_raised(canary: &[f64], stable: &[f64]) -> bool {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (canary, stable) = (mean(canary), mean(stable));
    canary == 0.0 || stable == 0.0 || canary >= stable
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
