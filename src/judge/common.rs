//! Whether both versions fail far more than was usual before the release: then comparing them says nothing.
//!
//! A release may hurt what both versions depend on (a database, a queue), and then both fail alike. The comparison is blind
//! to that by design, since a common incident must not be blamed on a release. So this is no test of the release and no
//! verdict on it: it tells when to give the canary less and look whether both recover.

use super::absolute::LimitEvidence;
use super::{Counts, rollback_threshold};

/// Requests of stable before the release by which its errors are known well enough.
const LEAST_REQUESTS: u64 = 1000;
/// So many times the usual rate is far more.
const FACTOR: f64 = 3.0;
/// And at least this much more, as a share: a service that hardly ever fails may fail a little.
const LEAST_RISE: f64 = 0.01;
/// Errors that are added to those seen, so that a lucky ten minutes are not taken for the usual: with none seen, three are
/// still in one accord with it at 95 %.
const SLACK_ERRORS: f64 = 3.0;
/// Chance of calling what is usual too much, in each window that is looked at.
const FALSE_ALARM: f64 = 0.001;
/// Failures that a window would have had at the limit before it counts as recovered: with fewer it says nothing.
const LEAST_EXPECTED: f64 = 3.0;

/// What stable's errors were before a release began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usual {
    limit: f64,
}

impl Usual {
    /// Of counts of stable alone; `None` for less than a thousand requests, and where it failed so often that nothing is far
    /// more.
    #[must_use]
    pub fn of(requests: u64, errors: u64) -> Option<Self> {
        let rate = (errors as f64 + SLACK_ERRORS) / requests.max(1) as f64;
        let limit = (FACTOR * rate).max(rate + LEAST_RISE);
        (requests >= LEAST_REQUESTS && limit < 1.0).then_some(Self { limit })
    }

    /// The share of failures above which it is far more.
    #[must_use]
    pub const fn limit(self) -> f64 {
        self.limit
    }

    /// Whether both arms failed far more in a window of time: stable with little chance of error, and the canary too as far
    /// as it is known, with one failure at least.
    #[must_use]
    pub fn is_exceeded_by_both(self, window: &Counts) -> bool {
        let mut stable = LimitEvidence::new(self.limit);
        stable.batch(window.stable_requests, window.stable_errors);
        stable.log_e() >= rollback_threshold(FALSE_ALARM)
            && window.canary_errors > 0
            && window.canary_errors as f64 >= self.limit * window.canary_requests as f64
    }

    /// Whether neither did, and stable had requests enough to tell.
    #[must_use]
    pub fn is_kept_by_both(self, window: &Counts) -> bool {
        let kept = |requests: u64, errors: u64| errors as f64 <= self.limit * requests as f64;
        self.limit * window.stable_requests as f64 >= LEAST_EXPECTED
            && kept(window.stable_requests, window.stable_errors)
            && kept(window.canary_requests, window.canary_errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn counts(canary_requests: u64, canary_errors: u64, stable_requests: u64, stable_errors: u64) -> Counts {
        Counts { canary_requests, canary_errors, stable_requests, stable_errors }
    }

    #[test]
    fn the_limit_is_far_above_what_is_usual() {
        for (requests, errors, limit) in [
            (999, 0, None),
            (1000, 0, Some(0.013)),
            (60_000, 57, Some(0.011)),
            (1000, 97, Some(0.3)),
            (1000, 400, None),
            (0, 0, None),
        ] {
            let found = Usual::of(requests, errors).map(Usual::limit);
            let same = found.zip(limit).is_some_and(|(found, limit)| (found - limit).abs() < 1e-12);
            assert!(same || found.is_none() && limit.is_none(), "{requests} {errors}: {found:?}");
        }
    }

    #[test]
    fn it_takes_both_to_exceed_it_and_both_to_keep_it() {
        // At most 1.1 %.
        let usual = Usual::of(60_000, 57).expect("known");
        for (window, exceeded, kept) in [
            (counts(100, 10, 900, 90), true, false),
            (counts(100, 0, 900, 90), false, false),
            (counts(0, 0, 900, 90), false, false),
            (counts(100, 10, 900, 1), false, false),
            (counts(100, 1, 900, 5), false, true),
            (counts(0, 0, 900, 5), false, true),
            // Two in a hundred may be luck; and nothing seen is no recovery.
            (counts(10, 1, 100, 2), false, false),
            (counts(10, 0, 90, 0), false, false),
            (counts(0, 0, 0, 0), false, false),
        ] {
            let found = (usual.is_exceeded_by_both(&window), usual.is_kept_by_both(&window));
            assert_eq!(found, (exceeded, kept), "{window:?}");
        }
    }

    proptest! {
        #[test]
        fn more_failures_never_look_more_usual(
            past in (1000_u64..1_000_000, 0_u64..1000), window in (0_u64..1000, 0_u64..1000, 0_u64..9000, 0_u64..9000)
        ) {
            let Some(usual) = Usual::of(past.0, past.1) else { return Ok(()) };
            let window = counts(window.0.max(window.1), window.1, window.2.max(window.3), window.3);
            let worse = Counts { stable_errors: (window.stable_errors + 1).min(window.stable_requests), ..window };
            prop_assert!(!usual.is_exceeded_by_both(&window) || usual.is_exceeded_by_both(&worse));
            prop_assert!(!usual.is_kept_by_both(&worse) || usual.is_kept_by_both(&window));
            prop_assert!(!(usual.is_kept_by_both(&window) && usual.is_exceeded_by_both(&window)));
        }
    }
}
