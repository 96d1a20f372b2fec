//! Other systems' thresholds, looked at more often than their documentation has it: whether waiting is all that keeps them.
//!
//! All of them go through the same weights, a minute at each, so that what differs is the rule and not the exposure.

use super::{Decision, Rule, SLICE_S, Slice, failed_share};
use crate::judge::Counts;

/// The weights, in percent.
const WEIGHTS: [u8; 4] = [10, 25, 50, 75];
/// Time at each of them, in seconds.
const STEP_S: u32 = 60;
/// At most this share of the canary's requests may fail: the 99 % of all three systems' examples.
const FAILED_MAX: f64 = 0.01;

/// How a threshold is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    /// Seconds between two looks, a multiple of [`SLICE_S`]; each is at what came since the last one.
    pub(super) every_s: u32,
    /// Looks that must have failed, over the whole rollout; from 1.
    pub(super) failures: u32,
    /// Seconds from the last of them to the rollback.
    pub(super) after_s: u32,
    /// Whether a look at no request at all has failed.
    pub(super) silence_fails: bool,
}

/// One rollout under a threshold.
#[derive(Debug)]
pub(super) struct Hurried {
    looks: Looks,
    elapsed_s: u32,
    failed: u32,
    window: Counts,
    /// When it is rolled back, once that is decided.
    ends_at_s: Option<u32>,
}

impl Hurried {
    /// At the moment of the first weight.
    pub(super) fn new(looks: Looks) -> Self {
        Self { looks, elapsed_s: 0, failed: 0, window: Counts::default(), ends_at_s: None }
    }
}

impl Rule for Hurried {
    fn weight(&self) -> u8 {
        WEIGHTS.get((self.elapsed_s / STEP_S) as usize).copied().unwrap_or(100)
    }

    fn take(&mut self, slice: &Slice) -> Option<Decision> {
        self.window.add(&slice.counts);
        self.elapsed_s += SLICE_S;
        if self.elapsed_s.is_multiple_of(self.looks.every_s) {
            let window = std::mem::take(&mut self.window);
            let fails = failed_share(&window).map_or(self.looks.silence_fails, |failed| failed > FAILED_MAX);
            self.failed += u32::from(fails);
            if self.failed >= self.looks.failures {
                self.ends_at_s.get_or_insert(self.elapsed_s + self.looks.after_s);
            }
        }
        if self.ends_at_s.is_some_and(|at| self.elapsed_s >= at) {
            return Some(Decision::RolledBack);
        }
        (self.weight() == 100).then_some(Decision::Promoted)
    }
}
