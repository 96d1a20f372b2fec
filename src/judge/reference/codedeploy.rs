//! CodeDeploy's and ECS's traffic shifting with a CloudWatch alarm on the canary's target group.
//!
//! That an alarm is on the canary alone, of one-minute periods and of 3 datapoints, is a choice in its favour: alarms
//! are the user's. A minute without requests has no datapoint and does not breach.

use super::{Decision, Rule, SLICE_S, Slice, failed_share};
use crate::judge::Counts;
use std::collections::VecDeque;

/// Period of the alarm in seconds.
const PERIOD_S: u32 = 60;
/// Datapoints that must breach, all of the newest.
const DATAPOINTS: usize = 3;
/// From the end of a period to its datapoint, in seconds.
const DELAY_S: u32 = 60;
/// Bake time after the last shift, in seconds.
const BAKE_S: u32 = 900;

/// One deployment.
#[derive(Debug)]
pub(super) struct CodeDeploy {
    /// The alarm's threshold on the failed share.
    failed_max: f64,
    /// Percent of each shift, and seconds between two.
    shift: (u8, u32),
    /// Whether everything follows the first shift, as in canary configurations.
    at_once: bool,
    elapsed_s: u32,
    period: Counts,
    /// Whether each of the newest periods breached, oldest first.
    breaches: VecDeque<bool>,
}

impl CodeDeploy {
    /// Canary10Percent5Minutes.
    pub(super) fn canary(failed_max: f64) -> Self {
        Self::new(failed_max, (10, 300), true)
    }

    /// Linear10PercentEvery1Minute.
    pub(super) fn linear(failed_max: f64) -> Self {
        Self::new(failed_max, (10, 60), false)
    }

    fn new(failed_max: f64, shift: (u8, u32), at_once: bool) -> Self {
        let (period, breaches) = Default::default();
        Self { failed_max, shift, at_once, elapsed_s: 0, period, breaches }
    }

    fn full_from_s(&self) -> u32 {
        let (percent, every_s) = self.shift;
        if self.at_once { every_s } else { (100 / u32::from(percent) - 1) * every_s }
    }
}

impl Rule for CodeDeploy {
    fn weight(&self) -> u8 {
        let (percent, every_s) = self.shift;
        let shifts = if self.elapsed_s >= self.full_from_s() { 10 } else { self.elapsed_s / every_s + 1 };
        u8::try_from(u32::from(percent) * shifts).unwrap_or(100).min(100)
    }

    fn take(&mut self, slice: &Slice) -> Option<Decision> {
        self.period.add(&slice.counts);
        self.elapsed_s += SLICE_S;
        if self.elapsed_s.is_multiple_of(PERIOD_S) {
            // The newest are still on their way: they are looked at so much later.
            let known = DATAPOINTS + (DELAY_S / PERIOD_S) as usize;
            self.breaches.push_back(failed_share(&self.period).is_some_and(|failed| failed > self.failed_max));
            self.period = Counts::default();
            while self.breaches.len() > known {
                self.breaches.pop_front();
            }
            if self.breaches.len() == known && self.breaches.iter().take(DATAPOINTS).all(|breach| *breach) {
                return Some(Decision::RolledBack);
            }
        }
        (self.elapsed_s >= self.full_from_s() + BAKE_S).then_some(Decision::Promoted)
    }
}
