//! Latency histogram with fixed bounds, so that any two can be added and compared bucket by bucket.
//!
//! Buckets are log-linear: eight to each doubling from 64 µs to 134 s, so a bound is at most 12.5 % above the
//! last one and a quantile read from it errs by no more than that. Fixed bounds make merging across workers,
//! proxies and restarts a plain addition.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// Buckets to each doubling of the latency.
const PER_DOUBLING: u32 = 8;
/// Exponent of the first bound: below 2^6 = 64 µs loopback noise is all there is to see.
const FIRST_EXPONENT: u32 = 6;
/// 21 doublings end at 2^27 µs = 134 s, above any request timeout that a route may set in practice.
const DOUBLINGS: u32 = 21;
/// Number of buckets: one for everything under the first bound, the log-linear ones, one for everything above.
pub const BUCKETS: usize = (DOUBLINGS * PER_DOUBLING) as usize + 2;

/// Index of the bucket that holds a latency in microseconds.
#[must_use]
pub const fn bucket_of(latency_us: u64) -> usize {
    if latency_us < 1 << FIRST_EXPONENT {
        return 0;
    }
    let exponent = 63 - latency_us.leading_zeros();
    if exponent >= FIRST_EXPONENT + DOUBLINGS {
        return BUCKETS - 1;
    }
    // The three bits after the leading one say which eighth of the doubling it is in.
    let eighth = (latency_us >> (exponent - 3)) & 7;
    1 + ((exponent - FIRST_EXPONENT) * PER_DOUBLING) as usize + eighth as usize
}

/// Exclusive upper bound of a bucket in microseconds; `None` for the last, which is open.
#[must_use]
pub const fn upper_bound_us(bucket: usize) -> Option<u64> {
    if bucket >= BUCKETS - 1 {
        return None;
    }
    // Bucket b ends where bucket b + 1 begins.
    let (exponent, eighth) = (bucket as u32 / PER_DOUBLING + FIRST_EXPONENT, bucket as u64 % PER_DOUBLING as u64);
    Some((8 + eighth) << (exponent - 3))
}

/// Counts of requests by latency. Adding two is exact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    #[serde(deserialize_with = "all_buckets")]
    counts: Vec<u64>,
}

/// Counts that come from elsewhere: another number of buckets has other bounds, and would be added up wrongly.
fn all_buckets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    let counts = Vec::<u64>::deserialize(deserializer)?;
    if counts.len() == BUCKETS {
        return Ok(counts);
    }
    Err(D::Error::custom(format!("a histogram has {BUCKETS} buckets, and this one has {}", counts.len())))
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS] }
    }
}

impl Histogram {
    /// From one count for each bucket; `None` when there are not exactly [`BUCKETS`] of them.
    #[must_use]
    pub fn from_counts(counts: Vec<u64>) -> Option<Self> {
        (counts.len() == BUCKETS).then_some(Self { counts })
    }

    /// Counts one request of this latency.
    pub fn record(&mut self, latency_us: u64) {
        self.counts[bucket_of(latency_us)] += 1;
    }

    /// Adds another histogram to this one. Saturates, since a wrapped count would be a lie.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// What came on top of `earlier`, a count of the same series: no bucket below zero.
    #[must_use]
    pub fn beyond(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, earlier)| now.saturating_sub(*earlier));
        Self { counts: counts.collect() }
    }

    /// The count of each bucket.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Requests counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// Upper bound in microseconds of the bucket that holds quantile `q` (0.0 to 1.0); `None` when empty.
    /// The open last bucket answers with its lower bound.
    #[must_use]
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let rank = (q.clamp(0.0, 1.0) * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen = u64::saturating_add(seen, *count);
            if seen >= rank {
                return upper_bound_us(bucket).or_else(|| upper_bound_us(BUCKETS - 2));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_under_its_bound_and_not_under_the_one_before() {
        for latency in (0..2000).chain((0..37).map(|e| 1 << e)).chain((0..37).map(|e| (1 << e) - 1)) {
            let bucket = bucket_of(latency);
            assert!(upper_bound_us(bucket).is_none_or(|bound| latency < bound), "{latency} in {bucket}");
            if bucket > 0 {
                assert!(upper_bound_us(bucket - 1).expect("not the last") <= latency, "{latency} in {bucket}");
            }
        }
    }

    #[test]
    fn bounds_rise_by_at_most_an_eighth() {
        for bucket in 1..BUCKETS - 1 {
            let (low, high) = (upper_bound_us(bucket - 1).unwrap(), upper_bound_us(bucket).unwrap());
            assert!(high > low && high * 8 <= low * 9, "{low}..{high}");
        }
    }

    #[test]
    fn merged_quantiles_are_those_of_the_union() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        assert_eq!(a.quantile_us(0.5), None);
        (0..90).for_each(|_| a.record(1000));
        (0..10).for_each(|_| b.record(50_000));
        a.merge(&b);
        assert_eq!(a.total(), 100);
        assert_eq!(a.quantile_us(0.5), upper_bound_us(bucket_of(1000)));
        assert_eq!(a.quantile_us(0.95), upper_bound_us(bucket_of(50_000)));
    }
}
