//! How many retries a target takes at a time (`tidegate:retry-budget`): a share of the requests under way to it, by all workers.
//! As Envoy's `RetryBudget`: a retry counts from when it is decided until its try is over, its pause included.

use crate::mesh::snapshot::extension::RetryBudget;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What is under way to a target.
#[derive(Debug, Default)]
pub struct Tries {
    requests: AtomicU32,
    retries: AtomicU32,
}

/// A request that is under way.
#[derive(Debug)]
pub struct Request(Arc<Tries>);

/// A retry that is decided, or under way.
#[derive(Debug)]
pub struct Retry(Arc<Tries>);

impl Tries {
    /// A request is under way.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Request {
        self.requests.fetch_add(1, Ordering::AcqRel);
        Request(Arc::clone(self))
    }

    /// A retry, where there is room for it.
    #[must_use]
    pub fn retry(self: &Arc<Self>, budget: RetryBudget) -> Option<Retry> {
        let most = most(budget, self.requests.load(Ordering::Acquire));
        let begins = |retries: u32| (retries < most).then_some(retries + 1);
        self.retries.fetch_update(Ordering::AcqRel, Ordering::Acquire, begins).ok()?;
        Some(Retry(Arc::clone(self)))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Retry {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How many retries there may be while so many requests are under way.
fn most(budget: RetryBudget, requests: u32) -> u32 {
    let share = u64::from(requests) * u64::from(budget.share.millionths()) / 1_000_000;
    // No more than requests.
    u32::try_from(share).unwrap_or(u32::MAX).max(budget.least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::snapshot::extension::NodeExtensions;

    fn budget(value: &str) -> RetryBudget {
        let (read, flaws) = NodeExtensions::read([("tidegate:retry-budget", value)]);
        assert!(flaws.is_empty(), "{flaws:?}");
        read.retry_budget.expect("it is one")
    }

    #[test]
    fn retries_are_a_share_of_requests_and_never_below_the_least() {
        for (value, requests, retries) in [
            ("percent=20", 0, 3),
            ("percent=20", 15, 3),
            ("percent=20", 19, 3),
            ("percent=20", 20, 4),
            ("percent=20", 1000, 200),
            ("percent=20 least=0", 4, 0),
            ("percent=20 least=0", 5, 1),
            ("percent=0.5 least=1", 399, 1),
            ("percent=0.5 least=1", 400, 2),
            ("percent=100 least=1", u32::MAX, u32::MAX),
            ("least=7", 10, 7),
        ] {
            assert_eq!(most(budget(value), requests), retries, "{value} of {requests}");
        }
    }

    #[test]
    fn what_is_over_makes_room() {
        let (tries, budget) = (Arc::new(Tries::default()), budget("percent=50 least=1"));
        let first = tries.retry(budget);
        assert!(first.is_some() && tries.retry(budget).is_none());
        let requests: Vec<Request> = (0..4).map(|_| tries.begin()).collect();
        let second = tries.retry(budget);
        assert!(second.is_some() && tries.retry(budget).is_none());
        drop((first, second, requests));
        let left = (tries.requests.load(Ordering::Acquire), tries.retries.load(Ordering::Acquire));
        assert_eq!(left, (0, 0));
    }

    #[test]
    fn many_workers_do_not_exceed_it() {
        let (tries, budget) = (Arc::new(Tries::default()), budget("percent=1 least=5"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let held: Vec<Retry> = (0..3).filter_map(|_| tries.retry(budget)).collect();
                        assert!(tries.retries.load(Ordering::Acquire) <= 5);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(tries.retries.load(Ordering::Acquire), 0);
    }
}
