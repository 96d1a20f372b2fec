//! Limits on latency and the bucket bounds of a histogram: how many requests were slower, exactly.
//!
//! A histogram can tell exactly how many requests took at least so long only where that is a bound between two buckets.
//! So limits are moved to a bound, in the direction that keeps a test valid: up where slow requests are counted against
//! someone, down where fast ones are. Bounds are 6.7 to 12.5 % apart, so a limit moves by less than that.
//!
//! "Slower than a bound" is short for "at least as slow": latencies are whole microseconds and bounds exclusive above.

use crate::base::histogram::{BUCKETS, Histogram, bucket_of, upper_bound_us};

/// Inclusive lower bound of a bucket in microseconds.
const fn lower_bound_us(bucket: usize) -> u64 {
    match bucket.checked_sub(1) {
        Some(below) => match upper_bound_us(below) {
            Some(bound) => bound,
            None => u64::MAX,
        },
        None => 0,
    }
}

/// The lowest bound that is not below the limit, in microseconds; `None` above the highest bound (134 s), where nothing
/// can be counted.
#[must_use]
pub fn snapped_up_us(limit_us: u64) -> Option<u64> {
    let bucket = bucket_of(limit_us);
    let own = lower_bound_us(bucket);
    if own >= limit_us { Some(own) } else { upper_bound_us(bucket) }
}

/// The highest bound that is not above the limit, in microseconds; 0 below the lowest (64 µs).
#[must_use]
pub fn snapped_down_us(limit_us: u64) -> u64 {
    lower_bound_us(bucket_of(limit_us))
}

/// Requests that took at least so many microseconds: exact for a bound. Any other limit is snapped up first, so that no
/// request is counted that was faster. `None` stands for a limit above all bounds, which nothing exceeds.
#[must_use]
pub fn slower_than(histogram: &Histogram, bound_us: Option<u64>) -> u64 {
    let Some(bound_us) = bound_us.and_then(snapped_up_us) else { return 0 };
    sum(histogram.counts().get(bucket_of(bound_us)..BUCKETS).unwrap_or_default())
}

/// All requests of a histogram. Saturates, unlike [`Histogram::total`].
#[must_use]
pub fn requests_in(histogram: &Histogram) -> u64 {
    sum(histogram.counts())
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_move_to_bounds_and_bounds_stay() {
        for (limit, down, up) in [
            (0, 0, Some(0)),
            (1, 0, Some(64)),
            (64, 64, Some(64)),
            (65, 64, Some(72)),
            (800_000, 786_432, Some(851_968)),
            (1 << 27, 1 << 27, Some(1 << 27)),
            ((1 << 27) + 1, 1 << 27, None),
            (u64::MAX, 1 << 27, None),
        ] {
            assert_eq!((snapped_down_us(limit), snapped_up_us(limit)), (down, up), "{limit}");
        }
        for bound in (0..BUCKETS).filter_map(upper_bound_us) {
            assert_eq!((snapped_down_us(bound), snapped_up_us(bound)), (bound, Some(bound)));
        }
    }

    #[test]
    fn nothing_is_slower_than_no_bound_and_sums_do_not_wrap() {
        let full = Histogram::from_counts(vec![u64::MAX; BUCKETS]).expect("as many as there are buckets");
        assert_eq!((slower_than(&full, None), slower_than(&full, Some(u64::MAX))), (0, 0));
        assert_eq!((slower_than(&full, Some(64)), requests_in(&full)), (u64::MAX, u64::MAX));
    }

    proptest! {
        #[test]
        fn counts_at_a_bound_are_those_of_the_latencies_themselves(
            latencies in prop::collection::vec(0_u64..200_000_000, 0..200), limit in 0_u64..200_000_000
        ) {
            let mut histogram = Histogram::default();
            latencies.iter().for_each(|latency| histogram.record(*latency));
            let direct = |bound: u64| latencies.iter().filter(|latency| **latency >= bound).count() as u64;
            let (down, up) = (snapped_down_us(limit), snapped_up_us(limit));
            prop_assert_eq!(slower_than(&histogram, Some(down)), direct(down));
            prop_assert_eq!(slower_than(&histogram, up), up.map_or(0, direct));
            // A limit that is no bound never counts a request that was faster.
            prop_assert!(slower_than(&histogram, Some(limit)) <= direct(limit));
            prop_assert!(down <= limit && up.is_none_or(|up| up >= limit && up.saturating_sub(64) * 8 <= limit * 9));
            prop_assert_eq!(requests_in(&histogram), latencies.len() as u64);
        }
    }
}
