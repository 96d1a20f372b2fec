//! A bucket of tokens that all workers take from without a lock. Pure: the time comes in as a number.
//!
//! It is one word, the time at which the bucket would be full again (the generic cell rate algorithm, ITU-T I.371, in its
//! virtual scheduling form): a token moves it one interval on, and there is none left while it lies further ahead than the
//! bucket is deep.

use crate::mesh::snapshot::extension::Limit;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bucket, full at first.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// In nanoseconds since the proxy began.
    full_at_ns: AtomicU64,
}

impl Bucket {
    /// Takes a token, if there is one at this time.
    pub(super) fn take(&self, limit: &Limit, now_ns: u64) -> bool {
        // At most an hour for one token, and 10^6 of them: 3.6 * 10^18, which leaves room for centuries of uptime.
        let interval_ns = (limit.per.0 * 1_000_000 / u64::from(limit.requests)).max(1);
        let depth_ns = interval_ns * u64::from(limit.burst);
        let taken = |full_at_ns: u64| {
            let next = full_at_ns.max(now_ns).saturating_add(interval_ns);
            (next - now_ns <= depth_ns).then_some(next)
        };
        self.full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Millis;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn it_is_full_at_first_and_fills_evenly() {
        let (bucket, limit) = (Bucket::default(), Limit { requests: 10, per: Millis(1000), burst: 3 });
        let take = |ms: u64| bucket.take(&limit, ms * MS);
        assert_eq!([take(5), take(5), take(5), take(5)], [true, true, true, false]);
        assert_eq!([take(104), take(105), take(105)], [false, true, false]);
        assert_eq!([take(10_000), take(10_000), take(10_000), take(10_000)], [true, true, true, false], "no deeper");
    }

    #[test]
    fn workers_together_take_no_more_than_there_is() {
        let (bucket, limit) = (Bucket::default(), Limit { requests: 1, per: Millis(3_600_000), burst: 1000 });
        let took: usize = std::thread::scope(|scope| {
            let worker = || (0..1000).filter(|_| bucket.take(&limit, MS)).count();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().expect("took")).sum()
        });
        assert_eq!(took, 1000);
    }

    proptest! {
        /// Over any time no more than the depth and what flowed in.
        #[test]
        fn the_rate_holds(
            requests in 1_u32..1000,
            per_ms in 50_u64..5000,
            burst in 1_u32..100,
            pauses_us in proptest::collection::vec(0_u64..5000, 1..400),
        ) {
            let (bucket, limit) = (Bucket::default(), Limit { requests, per: Millis(per_ms), burst });
            let (mut now_ns, mut taken) = (0_u64, 0_u64);
            for pause_us in pauses_us {
                now_ns += pause_us * 1000;
                taken += u64::from(bucket.take(&limit, now_ns));
                let flowed = now_ns / (per_ms * MS / u64::from(requests));
                prop_assert!(taken <= u64::from(burst) + flowed, "{} {}", taken, flowed);
            }
        }
    }
}
