//! How many failures the evidence takes beside the limits, looked at after every error.

use crate::judge::evidence::ErrorEvidence;
use crate::judge::{Counts, Tolerance, rollback_threshold};
use crate::simulate::chance::Chance;
use crate::simulate::question::limits;

/// The level of all cells.
const ALPHA: f64 = 0.01;
/// Stable's error rate.
const P0: f64 = 0.001;
/// Requests in a second: says how many errors an epoch has.
const RATE: f64 = 50.0;
/// Length of an epoch in seconds.
const EPOCH_S: f64 = 60.0;

/// One weight and effect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// The canary's share, 0 to 1.
    pub weight: f64,
    /// Stable's error rate.
    pub p0: f64,
    /// The canary's.
    pub p1: f64,
    /// Mean failures of the canary until the evidence is there.
    pub failed: f64,
    /// Of the limit for anyone.
    pub informed: f64,
    /// Of the limit for tests of labels.
    pub of_labels: f64,
}

impl Cell {
    /// Divided by the limit for anyone.
    #[must_use]
    pub fn times_informed(&self) -> f64 {
        self.failed / self.informed
    }

    /// Divided by the limit for tests of labels.
    #[must_use]
    pub fn times_of_labels(&self) -> f64 {
        self.failed / self.of_labels
    }
}

/// Every cell of the table.
pub(super) fn cells(courses: u64) -> Vec<Cell> {
    let weights = [0.01, 0.05, 0.1, 0.25, 0.5];
    let all = weights.into_iter().flat_map(|weight| [0.002, 0.005, 0.02, 0.05, 0.2, 1.0].map(move |p1| (weight, p1)));
    all.filter_map(|(weight, p1)| {
        let (informed, of_labels) = limits(weight, P0, p1, ALPHA, 1)?;
        let sum: u64 = (0..courses).map(|course| failures(weight, p1, Chance::of_run(1, course))).sum();
        Some(Cell { weight, p0: P0, p1, failed: sum as f64 / courses as f64, informed, of_labels })
    })
    .collect()
}

/// Failures of the canary in one course of events until the evidence reaches the threshold.
fn failures(weight: f64, p1: f64, mut chance: Chance) -> u64 {
    let mut evidence = ErrorEvidence::new(Tolerance::NONE);
    let threshold = rollback_threshold(ALPHA);
    let (on_canary, on_stable) = (weight * p1, (1.0 - weight) * P0);
    let (mut at_s, mut epoch_ends_s, mut failed) = (0.0, EPOCH_S, 0);
    while evidence.log_e() < threshold {
        at_s -= (1.0 - chance.uniform()).ln() / (RATE * (on_canary + on_stable));
        while at_s >= epoch_ends_s {
            evidence.epoch();
            epoch_ends_s += EPOCH_S;
        }
        let is_canary = chance.uniform() * (on_canary + on_stable) < on_canary;
        failed += u64::from(is_canary);
        let [canary, stable] = [u64::from(is_canary), u64::from(!is_canary)];
        let counts =
            Counts { canary_requests: canary, canary_errors: canary, stable_requests: stable, stable_errors: stable };
        evidence.batch(weight, &counts);
    }
    failed
}
