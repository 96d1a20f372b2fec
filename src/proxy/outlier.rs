//! Which endpoints are left out for a while for what they answered: outlier detection as Envoy has it under App Mesh
//! (appmesh "Outlier detection"). Pure but for one counter.
//!
//! An endpoint that fails `maxServerErrors` times in a row is out at once, for `baseEjectionDuration` times the number of
//! times in a row that it was. Failed connects, resets and timeouts count as server errors. At most `maxEjectionPercent` of
//! a node's endpoints are out, but one may always be.

use crate::mesh::snapshot::OutlierDetection;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// No endpoint is out for longer, unless the base itself is longer: Envoy's default of `max_ejection_time`.
const LONGEST: Duration = Duration::from_secs(300);

/// How many failures in a row an endpoint has, seen by all workers. Endpoints that do not fail are only read.
#[derive(Debug, Default)]
pub struct Failures(AtomicU32);

impl Failures {
    /// Notes how a try ended; whether the run of failures is now as long as `most`.
    pub fn note(&self, failed: bool, most: u32) -> bool {
        if failed {
            return self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= most;
        }
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
        false
    }

    /// Begins anew.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Whether one more of `all` endpoints may be left out when `out` are.
#[must_use]
pub fn may_eject(all: usize, out: usize, max_percent: u8) -> bool {
    out == 0 || out * 100 < all * usize::from(max_percent)
}

/// How often an endpoint was left out, and until when it is. Times are since any fixed point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ejection {
    times: u32,
    until: Duration,
}

impl Ejection {
    /// Leaves it out from now on. Each interval that it was back without failing takes one of the times before away.
    pub fn begin(&mut self, now: Duration, detection: &OutlierDetection) {
        let interval = detection.interval.duration().max(Duration::from_millis(1));
        let good = now.saturating_sub(self.until).as_nanos() / interval.as_nanos();
        let forgiven = if self.times == 0 { 0 } else { u32::try_from(good).unwrap_or(u32::MAX) };
        self.times = self.times.saturating_sub(forgiven).saturating_add(1);
        let base = detection.base_ejection.duration();
        self.until = now + base.saturating_mul(self.times).min(LONGEST.max(base));
    }

    /// How much longer it is left out; zero when it is not.
    #[must_use]
    pub const fn left(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Millis;

    #[test]
    fn a_run_of_failures_is_what_counts() {
        let failures = Failures::default();
        let notes: Vec<bool> =
            [true, true, false, true, true, true, true].map(|failed| failures.note(failed, 3)).to_vec();
        assert_eq!(notes, [false, false, false, false, false, true, true]);
        failures.clear();
        assert!(!failures.note(true, 3));
    }

    #[test]
    fn one_may_always_go_and_the_share_is_kept() {
        for (all, out, percent, may) in [
            (1, 0, 10, true),
            (10, 0, 0, true),
            (10, 1, 10, false),
            (10, 1, 11, true),
            (4, 1, 50, true),
            (4, 2, 50, false),
            (2, 1, 100, true),
        ] {
            assert_eq!(may_eject(all, out, percent), may, "{out} of {all} at {percent} %");
        }
    }

    #[test]
    fn each_time_is_longer_and_good_intervals_are_forgiven() {
        let s = Duration::from_secs;
        let detection = OutlierDetection {
            max_server_errors: 5,
            interval: Millis(10_000),
            base_ejection: Millis(30_000),
            max_ejection_percent: 50,
        };
        let mut ejection = Ejection::default();
        let mut out = |at| {
            ejection.begin(at, &detection);
            ejection.left(at)
        };
        assert_eq!([out(s(100)), out(s(130)), out(s(190))], [s(30), s(60), s(90)]);
        // 25 s after the end: two intervals.
        assert_eq!(out(s(280 + 25)), s(60));
        assert_eq!(out(s(10_000)), s(30));
        for _ in 0..20 {
            out(s(10_030));
        }
        assert_eq!(ejection.left(s(10_030)), LONGEST);
        let long = OutlierDetection { base_ejection: Millis(600_000), ..detection };
        ejection.begin(s(20_000), &long);
        assert_eq!(ejection.left(s(20_000)), s(600));
    }
}
