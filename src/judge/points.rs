//! Signals that come as points, such as a queue's depth from a metrics service: beyond a limit several times in a row.
//!
//! This is a threshold and not a test: nobody knows how the points are distributed or how they hang together, so it has
//! no bound on false alarms and is not part of what `max_false_rollback` covers.
//!
//! A missing point neither breaches nor clears. Taken for a breach, an exporter that restarts would roll back a healthy
//! release; taken for a good value, one that drops every other point under load would keep a bad release alive by just
//! that. So it leaves the count as it is, and the breaches in a row are those of the points that there are. An error (the
//! source could not be asked) says even less and is kept apart, for a person to be told about; how long a silence may
//! last is the business of `rollout`.

use crate::base::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Where a point may lie and how often in a row it may lie elsewhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PointRule {
    /// Highest good value, in the signal's unit. A value equal to it is good.
    pub max: Option<f64>,
    /// Lowest good value, likewise.
    pub min: Option<f64>,
    /// Breaches in a row that fail the gate; 0 counts as 1.
    pub breaches: u32,
}

impl PointRule {
    /// Whether a value is outside. A limit that is not a number limits nothing.
    #[must_use]
    pub fn is_breached_by(&self, value: f64) -> bool {
        self.max.is_some_and(|max| value > max) || self.min.is_some_and(|min| value < min)
    }
}

/// What asking the source once came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PointReading {
    /// A point: its own time and value. A value that is not a number is a missing point.
    Point {
        /// Time that the source gives it, not when it was asked.
        at: Timestamp,
        /// In the signal's unit.
        value: f64,
    },
    /// The source answered and had no point.
    Missing,
    /// The source could not be asked.
    Failed,
}

impl PointReading {
    /// A point as a source gives it: not a number is no point, and infinity becomes the largest number, since JSON, in
    /// which readings are kept, has no word for it.
    #[must_use]
    pub const fn of(at: Timestamp, value: f64) -> Self {
        if value.is_nan() { Self::Missing } else { Self::Point { at, value: value.clamp(f64::MIN, f64::MAX) } }
    }
}

/// What a point gate says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PointVerdict {
    /// There was no point yet: neither good nor bad.
    NoData,
    /// The last point was good.
    Within,
    /// So many points in a row were outside, which is not enough yet.
    Breaching(u32),
    /// Enough of them in a row were.
    Fail,
}

/// What was seen of a signal. Small, and worth keeping in a rollout's state.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PointTrail {
    /// Time and value of the newest point.
    pub last: Option<(Timestamp, f64)>,
    /// Breaches in a row up to it.
    pub breaches: u32,
    /// Readings since then in which a point was missing.
    pub missing: u32,
    /// Readings in a row that failed.
    pub failures: u32,
}

impl PointTrail {
    /// Takes a reading in. A point that is not newer than the last is the same one read again, or one that came late:
    /// it says nothing new, else asking more often would fail a release sooner.
    pub fn read(&mut self, rule: &PointRule, reading: PointReading) {
        match reading {
            PointReading::Failed => self.failures = self.failures.saturating_add(1),
            PointReading::Point { at, value } if !value.is_nan() => {
                self.failures = 0;
                if self.last.is_some_and(|(last, _)| at <= last) {
                    return;
                }
                self.last = Some((at, value.clamp(f64::MIN, f64::MAX)));
                self.missing = 0;
                self.breaches = if rule.is_breached_by(value) { self.breaches.saturating_add(1) } else { 0 };
            }
            PointReading::Missing | PointReading::Point { .. } => {
                self.failures = 0;
                self.missing = self.missing.saturating_add(1);
            }
        }
    }

    /// What follows from it.
    #[must_use]
    pub fn verdict(&self, rule: &PointRule) -> PointVerdict {
        match (self.last, self.breaches) {
            (None, _) => PointVerdict::NoData,
            (Some(_), 0) => PointVerdict::Within,
            (Some(_), breaches) if breaches >= rule.breaches.max(1) => PointVerdict::Fail,
            (Some(_), breaches) => PointVerdict::Breaching(breaches),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULE: PointRule = PointRule { max: Some(1000.0), min: Some(1.0), breaches: 3 };

    /// Values a minute apart; `None` is a missing point.
    fn trail(rule: &PointRule, values: &[Option<f64>]) -> PointTrail {
        let mut trail = PointTrail::default();
        for (minute, value) in values.iter().enumerate() {
            let at = Timestamp(minute as i64 * 60_000);
            trail.read(rule, value.map_or(PointReading::Missing, |value| PointReading::Point { at, value }));
        }
        trail
    }

    #[test]
    fn only_breaches_in_a_row_fail() {
        let (good, high, low) = (Some(5.0), Some(1000.1), Some(0.9));
        for (values, verdict) in [
            (vec![], PointVerdict::NoData),
            (vec![None, Some(f64::NAN)], PointVerdict::NoData),
            (vec![Some(1000.0), Some(1.0)], PointVerdict::Within),
            (vec![high, low], PointVerdict::Breaching(2)),
            (vec![high, low, high], PointVerdict::Fail),
            (vec![high, high, good, high], PointVerdict::Breaching(1)),
            (vec![high, high, high, good], PointVerdict::Within),
            (vec![Some(f64::INFINITY), Some(f64::NEG_INFINITY), high], PointVerdict::Fail),
        ] {
            assert_eq!(trail(&RULE, &values).verdict(&RULE), verdict, "{values:?}");
        }
    }

    #[test]
    fn a_missing_point_neither_breaches_nor_clears() {
        let high = Some(2000.0);
        let gaps = trail(&RULE, &[high, None, high, Some(f64::NAN), None]);
        assert_eq!((gaps.verdict(&RULE), gaps.missing), (PointVerdict::Breaching(2), 2));
        assert_eq!(trail(&RULE, &[high, None, high, None, high]).verdict(&RULE), PointVerdict::Fail);
    }

    #[test]
    fn a_point_read_again_or_late_counts_once() {
        let mut trail = PointTrail::default();
        for at in [60_000, 60_000, 60_000, 0] {
            trail.read(&RULE, PointReading::Point { at: Timestamp(at), value: 2000.0 });
        }
        assert_eq!(trail.verdict(&RULE), PointVerdict::Breaching(1));
    }

    #[test]
    fn errors_are_kept_apart() {
        let mut trail = trail(&RULE, &[Some(2000.0), Some(2000.0)]);
        let before = trail.verdict(&RULE);
        (0..5).for_each(|_| trail.read(&RULE, PointReading::Failed));
        assert_eq!((trail.failures, trail.missing, trail.verdict(&RULE)), (5, 0, before));
        trail.read(&RULE, PointReading::Missing);
        assert_eq!((trail.failures, trail.missing, trail.verdict(&RULE)), (0, 1, before));
    }

    #[test]
    fn whatever_a_source_says_can_be_written_down() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.5] {
            let reading = PointReading::of(Timestamp(7), value);
            let json = serde_json::to_string(&reading).unwrap();
            assert_eq!(serde_json::from_str::<PointReading>(&json).unwrap(), reading);
        }
        assert_eq!(PointReading::of(Timestamp(7), f64::NAN), PointReading::Missing);
        let trail = trail(&RULE, &[Some(f64::INFINITY)]);
        let json = serde_json::to_string(&trail).unwrap();
        assert_eq!(serde_json::from_str::<PointTrail>(&json).unwrap(), trail);
    }

    #[test]
    fn limits_that_are_absent_or_senseless_limit_nothing() {
        for rule in [
            PointRule { max: None, min: None, breaches: 1 },
            PointRule { max: Some(f64::NAN), min: Some(f64::NAN), breaches: 0 },
        ] {
            assert_eq!(trail(&rule, &[Some(f64::MAX), Some(f64::MIN)]).verdict(&rule), PointVerdict::Within);
        }
        let at_once = PointRule { breaches: 0, ..RULE };
        assert_eq!(trail(&at_once, &[Some(2000.0)]).verdict(&at_once), PointVerdict::Fail);
    }

    proptest! {
        #[test]
        fn gaps_never_change_the_verdict(values in prop::collection::vec((any::<bool>(), any::<bool>()), 0..30)) {
            let value = |bad: bool| Some(if bad { 2000.0 } else { 5.0 });
            let with: Vec<_> = values.iter().map(|(bad, gap)| if *gap { None } else { value(*bad) }).collect();
            let without: Vec<_> = with.iter().copied().filter(Option::is_some).collect();
            prop_assert_eq!(trail(&RULE, &with).verdict(&RULE), trail(&RULE, &without).verdict(&RULE));
        }
    }
}
