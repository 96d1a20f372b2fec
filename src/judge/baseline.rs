//! When stable's latency is known well enough to fix thresholds by it, and what then carries no evidence.
//!
//! Thresholds must be chosen before the requests that are judged by them. Latencies of stable from the last minutes
//! before the rollout are the best choice; when there are too few, the rollout's own first stable requests are used, and
//! these, with the canary's requests of the same readings, carry no evidence. Which of the two it was makes no difference
//! to validity, and how well a quantile was met none either: both cost power only.

use super::bounds::requests_in;
use super::latency::LatencyThresholds;
use crate::base::histogram::Histogram;
use serde::{Deserialize, Serialize};

/// Successful stable requests that make a baseline. Its p99 is then the tenth slowest of them; the p99.9, the slowest
/// but one, is rough.
pub const BASELINE_REQUESTS: u64 = 1000;

/// Stable's latency before it is judged by: being collected, or turned into thresholds for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Latencies of stable so far.
    Collecting(Histogram),
    /// Fixed for the rest of the rollout.
    Fixed(LatencyThresholds),
}

impl Baseline {
    /// At the start of a rollout: fixed by what stable did in the last minutes if that were [`BASELINE_REQUESTS`], else
    /// begun anew, so that a stable of long ago is not mixed with that of now. `tolerance` is the gate's m.
    #[must_use]
    pub fn begin(recent: Option<&Histogram>, tolerance: f64) -> Self {
        let mut baseline = Self::Collecting(Histogram::default());
        if let Some(recent) = recent.filter(|recent| requests_in(recent) >= BASELINE_REQUESTS) {
            baseline.collect(recent, tolerance);
        }
        baseline
    }

    /// Takes in stable's latencies of one reading, in which they are not counted yet. Does nothing once fixed. Whoever
    /// calls this while there are no [`Self::thresholds`] must count nothing of that reading as evidence, of either arm,
    /// also when the thresholds are there afterwards.
    pub fn collect(&mut self, stable: &Histogram, tolerance: f64) {
        let Self::Collecting(collected) = self else { return };
        collected.merge(stable);
        if requests_in(collected) >= BASELINE_REQUESTS
            && let Some(thresholds) = LatencyThresholds::choose(collected, tolerance)
        {
            *self = Self::Fixed(thresholds);
        }
    }

    /// What to count by; `None` while it is being collected.
    #[must_use]
    pub const fn thresholds(&self) -> Option<&LatencyThresholds> {
        match self {
            Self::Collecting(_) => None,
            Self::Fixed(thresholds) => Some(thresholds),
        }
    }

    /// Successful stable requests that it still needs.
    #[must_use]
    pub fn missing_requests(&self) -> u64 {
        match self {
            Self::Collecting(collected) => BASELINE_REQUESTS.saturating_sub(requests_in(collected)),
            Self::Fixed(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(number: u64, latency_us: u64) -> Histogram {
        let mut histogram = Histogram::default();
        (0..number).for_each(|_| histogram.record(latency_us));
        histogram
    }

    #[test]
    fn enough_recent_requests_fix_it_at_once() {
        let recent = requests(1000, 5000);
        let baseline = Baseline::begin(Some(&recent), 0.1);
        assert_eq!(baseline, Baseline::Fixed(LatencyThresholds::choose(&recent, 0.1).expect("not empty")));
        assert_eq!(baseline.missing_requests(), 0);
    }

    #[test]
    fn otherwise_the_first_thousand_do_and_too_few_recent_ones_are_left_out() {
        for recent in [None, Some(requests(999, 90_000_000))] {
            let mut baseline = Baseline::begin(recent.as_ref(), 0.1);
            assert_eq!((baseline.thresholds(), baseline.missing_requests()), (None, 1000));
            baseline.collect(&Histogram::default(), 0.1);
            baseline.collect(&requests(600, 5000), 0.1);
            assert_eq!((baseline.thresholds(), baseline.missing_requests()), (None, 400));
            baseline.collect(&requests(500, 5000), 0.1);
            assert_eq!(baseline.thresholds(), LatencyThresholds::choose(&requests(1100, 5000), 0.1).as_ref());
        }
    }

    #[test]
    fn once_fixed_it_stays() {
        let mut baseline = Baseline::begin(Some(&requests(2000, 5000)), 0.0);
        let before = baseline.clone();
        baseline.collect(&requests(100_000, 9_000_000), 0.0);
        assert_eq!(baseline, before);
    }

    #[test]
    fn it_keeps_its_written_form() {
        let baseline = Baseline::begin(Some(&requests(1000, 100)), 0.0);
        let json = r#"{"fixed":{"stable_us":[104,104,104,104,104,104],"canary_us":[104,104,104,104,104,104]}}"#;
        assert_eq!(serde_json::to_string(&baseline).unwrap(), json);
        assert_eq!(serde_json::from_str::<Baseline>(json).unwrap(), baseline);
        let collecting = Baseline::begin(None, 0.0);
        let json = serde_json::to_string(&collecting).unwrap();
        assert_eq!(serde_json::from_str::<Baseline>(&json).unwrap(), collecting);
    }
}
