//! Flagger's scheduler (`pkg/controller/scheduler.go` at 15bd6ad5): one look in each interval at the canary alone.

use super::{Decision, Rule, SLICE_S, Slice, failed_share};
use crate::base::histogram::Histogram;

/// `interval: 1m`, the default, in seconds.
const INTERVAL_S: u32 = 60;
/// `thresholdRange.min: 99` of `request-success-rate`: at most this share may fail.
const FAILED_MAX: f64 = 0.01;
/// `thresholdRange.max: 500` of `request-duration`, which is a p99, in microseconds.
const P99_MAX_US: u64 = 500_000;
/// `maxWeight: 50`.
const MAX_WEIGHT: u8 = 50;

/// One rollout under Flagger. Failed checks are counted over the whole rollout and a good check takes none back; the
/// rollback comes one interval after the last of them. No data is a failed check.
#[derive(Debug)]
pub(super) struct Flagger {
    threshold: u32,
    step: u8,
    weight: u8,
    failed_checks: u32,
    elapsed_s: u32,
    window: Slice,
}

impl Flagger {
    /// With `threshold` and `stepWeight`, at the moment of the first weight.
    pub(super) fn new(threshold: u32, step: u8) -> Self {
        Self { threshold, step, weight: step, failed_checks: 0, elapsed_s: 0, window: Slice::default() }
    }

    fn check_passes(&self) -> bool {
        let slow = self.window.canary_latency.as_ref().and_then(|latency| latency.quantile_us(0.99));
        failed_share(&self.window.counts).is_some_and(|failed| failed <= FAILED_MAX)
            && slow.is_none_or(|p99_us| p99_us <= P99_MAX_US)
    }
}

impl Rule for Flagger {
    fn weight(&self) -> u8 {
        self.weight
    }

    fn take(&mut self, slice: &Slice) -> Option<Decision> {
        self.window.counts.add(&slice.counts);
        if let Some(latency) = &slice.canary_latency {
            self.window.canary_latency.get_or_insert_with(Histogram::default).merge(latency);
        }
        self.elapsed_s += SLICE_S;
        if !self.elapsed_s.is_multiple_of(INTERVAL_S) {
            return None;
        }
        if self.failed_checks >= self.threshold {
            return Some(Decision::RolledBack);
        }
        let passes = self.check_passes();
        self.window = Slice::default();
        if !passes {
            self.failed_checks += 1;
            return None;
        }
        if self.weight >= MAX_WEIGHT {
            return Some(Decision::Promoted);
        }
        self.weight = self.weight.saturating_add(self.step).min(MAX_WEIGHT);
        None
    }
}
