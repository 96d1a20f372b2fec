//! Argo Rollouts' background analysis (`analysis/analysis.go` at 9f8d111d) beside timed steps.

use super::{Decision, Rule, SLICE_S, Slice, failed_share};
use crate::judge::Counts;

/// `setWeight` of the documentation's example.
const WEIGHTS: [u8; 4] = [20, 40, 60, 80];
/// `pause` after each of them, in seconds.
const STEP_S: u32 = 600;
/// `failureLimit: 3`: the fourth failed measurement ends it, over the whole run.
const FAILURE_LIMIT: u32 = 3;
/// `consecutiveErrorLimit`, the default: the fifth measurement in a row without an answer ends it.
const ERROR_LIMIT: u32 = 4;
/// `DefaultErrorRetryInterval`, which goes before the interval, in seconds.
const ERROR_RETRY_S: u32 = 10;

/// One rollout under Argo Rollouts with `successCondition: result[0] >= N`.
#[derive(Debug)]
pub(super) struct Argo {
    interval_s: u32,
    success_min: f64,
    elapsed_s: u32,
    next_s: u32,
    failed: u32,
    errors_in_a_row: u32,
    /// Slices of the query's range, one interval long.
    range: Vec<Counts>,
}

impl Argo {
    /// With `interval`, which is the query's range too, and the least success rate.
    pub(super) const fn new(interval_s: u32, success_min: f64) -> Self {
        Self {
            interval_s,
            success_min,
            elapsed_s: 0,
            next_s: interval_s,
            failed: 0,
            errors_in_a_row: 0,
            range: Vec::new(),
        }
    }

    fn measure(&mut self) -> Option<Decision> {
        let mut sum = Counts::default();
        self.range.iter().for_each(|slice| sum.add(slice));
        match failed_share(&sum) {
            None => {
                self.errors_in_a_row += 1;
                self.next_s = self.elapsed_s + ERROR_RETRY_S;
            }
            Some(failed) => {
                self.errors_in_a_row = 0;
                self.failed += u32::from(1.0 - failed < self.success_min);
                self.next_s = self.elapsed_s + self.interval_s;
            }
        }
        (self.failed > FAILURE_LIMIT || self.errors_in_a_row > ERROR_LIMIT).then_some(Decision::RolledBack)
    }
}

impl Rule for Argo {
    fn weight(&self) -> u8 {
        WEIGHTS.get((self.elapsed_s / STEP_S) as usize).copied().unwrap_or(100)
    }

    fn take(&mut self, slice: &Slice) -> Option<Decision> {
        self.elapsed_s += SLICE_S;
        self.range.push(slice.counts);
        let most = (self.interval_s / SLICE_S) as usize;
        self.range.drain(..self.range.len().saturating_sub(most));
        let measured = if self.elapsed_s >= self.next_s { self.measure() } else { None };
        // Once the steps are through, the analysis is cancelled and counts as successful.
        measured.or_else(|| (self.weight() == 100).then_some(Decision::Promoted))
    }
}
