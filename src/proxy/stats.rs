//! Counts by Envoy's names, for dashboards that know those: of requests and connections of clients (`http.PREFIX`), and of
//! what each service's targets were sent (`cluster.NAME`). Nothing is judged by them.
//!
//! As with the judged counts, each worker has cells of its own that only it writes, by plain loads and stores; it takes a
//! lock at the first request of each kind under a snapshot.

/// The list of them all.
mod list;
/// How they are shown (pure).
pub mod show;
/// One request that is counted.
mod watch;

pub(super) use list::list;
pub(super) use watch::{Watch, prefix};

use super::body::Late;
use super::ended::Ended;
use super::retry::Failure;
use crate::base::histogram::{BUCKETS, Histogram, bucket_of};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names that a worker keeps counts under. Those that nothing counts under any more make room for new ones: services come
/// and go, and each takes 6 KiB.
const MOST_NAMES: usize = 2048;
/// Statuses of HTTP, 100 to 599.
const STATUSES: usize = 500;

/// A count that one thread writes.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Adds one. Only the owning worker calls this.
    pub(super) fn add(&self) {
        self.add_many(1);
    }

    /// Adds some. Only the owning worker calls this.
    pub(super) fn add_many(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long things took.
pub(super) struct Times {
    sum_us: Count,
    buckets: [Count; BUCKETS],
}

impl Default for Times {
    fn default() -> Self {
        Self { sum_us: Count::default(), buckets: std::array::from_fn(|_| Count::default()) }
    }
}

impl Times {
    fn note(&self, us: u64) {
        self.buckets[bucket_of(us)].add();
        self.sum_us.add_many(us);
    }

    fn read(&self) -> (Histogram, u64) {
        let counts = self.buckets.iter().map(Count::get).collect();
        (Histogram::from_counts(counts).unwrap_or_default(), self.sum_us.get())
    }
}

/// Counts of clients' requests.
#[derive(Default)]
pub(super) struct Http {
    pub(super) connections: Count,
    pub(super) connections_ended: Count,
    pub(super) requests: Count,
    pub(super) requests_ended: Count,
    pub(super) http2_requests: Count,
    pub(super) grpc_requests: Count,
    /// Answers by their hundreds, from 1xx.
    pub(super) classes: [Count; 5],
    times: Times,
}

/// Counts of what a target was sent for one service.
pub(super) struct Target {
    pub(super) requests: Count,
    pub(super) begun: Count,
    pub(super) ended: Count,
    pub(super) retries: Count,
    pub(super) retries_spent: Count,
    pub(super) retries_over_budget: Count,
    pub(super) timeouts: Count,
    pub(super) try_timeouts: Count,
    pub(super) overflows: Count,
    pub(super) no_endpoint: Count,
    pub(super) connections: Count,
    pub(super) connections_failed: Count,
    statuses: Box<[Count]>,
    times: Times,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            requests: Count::default(),
            begun: Count::default(),
            ended: Count::default(),
            retries: Count::default(),
            retries_spent: Count::default(),
            retries_over_budget: Count::default(),
            timeouts: Count::default(),
            try_timeouts: Count::default(),
            overflows: Count::default(),
            no_endpoint: Count::default(),
            connections: Count::default(),
            connections_failed: Count::default(),
            statuses: std::iter::repeat_with(Count::default).take(STATUSES).collect(),
            times: Times::default(),
        }
    }
}

impl Http {
    /// A request was answered.
    pub(super) fn answered(&self, status: u16) {
        if let Some(class) = usize::from(status / 100).checked_sub(1).and_then(|class| self.classes.get(class)) {
            class.add();
        }
    }

    /// A request is over.
    pub(super) fn ended(&self, us: u64) {
        self.requests_ended.add();
        self.times.note(us);
    }
}

impl Target {
    /// A request was answered, by the target or in its place.
    pub(super) fn answered(&self, status: u16) {
        if let Some(count) = usize::from(status).checked_sub(100).and_then(|status| self.statuses.get(status)) {
            count.add();
        }
    }

    /// A request was answered in the target's place.
    pub(super) fn failed(&self, ended: &Ended, status: u16) {
        self.answered(status);
        match ended {
            Ended::NoEndpoint => self.no_endpoint.add(),
            Ended::Late(Late::Upstream) => self.timeouts.add(),
            Ended::Failed(Failure::Overflow) => self.overflows.add(),
            _ => {}
        }
    }

    /// A try failed.
    pub(super) fn try_failed(&self, failure: Failure) {
        match failure {
            Failure::Connect => self.connections_failed.add(),
            Failure::TryTimeout => self.try_timeouts.add(),
            _ => {}
        }
    }

    /// A request is over.
    pub(super) fn ended(&self, us: u64) {
        self.ended.add();
        self.times.note(us);
    }
}

/// Names what a target was sent: for which service, and Envoy's name of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TargetKey {
    pub(super) cluster: String,
    pub(super) service: String,
    pub(super) node: String,
}

/// A worker's counts by their names.
#[derive(Default)]
pub(super) struct Names {
    https: Mutex<BTreeMap<String, Arc<Http>>>,
    targets: Mutex<BTreeMap<TargetKey, Arc<Target>>>,
}

// No code can panic while it holds a lock halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cell<K: Ord + Clone, C: Default>(names: &Mutex<BTreeMap<K, Arc<C>>>, key: &K) -> Arc<C> {
    let mut names = lock(names);
    if let Some(known) = names.get(key) {
        return Arc::clone(known);
    }
    if names.len() >= MOST_NAMES {
        names.retain(|_, counts| Arc::strong_count(counts) > 1);
    }
    Arc::clone(names.entry(key.clone()).or_default())
}

impl Names {
    /// The counts of requests with this prefix.
    pub(super) fn http(&self, prefix: &String) -> Arc<Http> {
        cell(&self.https, prefix)
    }

    /// The counts of what this target is sent.
    pub(super) fn target(&self, key: &TargetKey) -> Arc<Target> {
        cell(&self.targets, key)
    }

    fn https(&self) -> Vec<(String, Arc<Http>)> {
        lock(&self.https).iter().map(|(name, counts)| (name.clone(), Arc::clone(counts))).collect()
    }

    fn targets(&self) -> Vec<(TargetKey, Arc<Target>)> {
        lock(&self.targets).iter().map(|(key, counts)| (key.clone(), Arc::clone(counts))).collect()
    }
}

/// Counts of clients' requests, of all workers together.
#[derive(Debug, Clone, Default)]
pub(super) struct HttpSum {
    pub(super) connections: u64,
    pub(super) connections_ended: u64,
    pub(super) requests: u64,
    pub(super) requests_ended: u64,
    pub(super) http2_requests: u64,
    pub(super) grpc_requests: u64,
    pub(super) classes: [u64; 5],
    pub(super) times: (Histogram, u64),
}

impl HttpSum {
    fn add(&mut self, one: &Http) {
        for (sum, count) in [
            (&mut self.connections, &one.connections),
            (&mut self.connections_ended, &one.connections_ended),
            (&mut self.requests, &one.requests),
            (&mut self.requests_ended, &one.requests_ended),
            (&mut self.http2_requests, &one.http2_requests),
            (&mut self.grpc_requests, &one.grpc_requests),
        ] {
            *sum += count.get();
        }
        for (sum, count) in self.classes.iter_mut().zip(&one.classes) {
            *sum += count.get();
        }
        let (histogram, sum_us) = one.times.read();
        self.times.0.merge(&histogram);
        self.times.1 = self.times.1.wrapping_add(sum_us);
    }
}

/// Counts of what a target was sent, of all workers together.
#[derive(Debug, Clone, Default)]
pub(super) struct TargetSum {
    pub(super) requests: u64,
    pub(super) begun: u64,
    pub(super) ended: u64,
    pub(super) retries: u64,
    pub(super) retries_spent: u64,
    pub(super) retries_over_budget: u64,
    pub(super) timeouts: u64,
    pub(super) try_timeouts: u64,
    pub(super) overflows: u64,
    pub(super) no_endpoint: u64,
    pub(super) connections: u64,
    pub(super) connections_failed: u64,
    /// By status; those that never came are not there.
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) times: (Histogram, u64),
}

impl TargetSum {
    fn add(&mut self, one: &Target) {
        for (sum, count) in [
            (&mut self.requests, &one.requests),
            (&mut self.begun, &one.begun),
            (&mut self.ended, &one.ended),
            (&mut self.retries, &one.retries),
            (&mut self.retries_spent, &one.retries_spent),
            (&mut self.retries_over_budget, &one.retries_over_budget),
            (&mut self.timeouts, &one.timeouts),
            (&mut self.try_timeouts, &one.try_timeouts),
            (&mut self.overflows, &one.overflows),
            (&mut self.no_endpoint, &one.no_endpoint),
            (&mut self.connections, &one.connections),
            (&mut self.connections_failed, &one.connections_failed),
        ] {
            *sum += count.get();
        }
        for (status, count) in (100..).zip(&one.statuses).filter(|(_, count)| count.get() > 0) {
            *self.statuses.entry(status).or_default() += count.get();
        }
        let (histogram, sum_us) = one.times.read();
        self.times.0.merge(&histogram);
        self.times.1 = self.times.1.wrapping_add(sum_us);
    }

    /// Adds those of another service.
    fn merge(&mut self, other: &Self) {
        for (sum, count) in [
            (&mut self.requests, other.requests),
            (&mut self.begun, other.begun),
            (&mut self.ended, other.ended),
            (&mut self.retries, other.retries),
            (&mut self.retries_spent, other.retries_spent),
            (&mut self.retries_over_budget, other.retries_over_budget),
            (&mut self.timeouts, other.timeouts),
            (&mut self.try_timeouts, other.try_timeouts),
            (&mut self.overflows, other.overflows),
            (&mut self.no_endpoint, other.no_endpoint),
            (&mut self.connections, other.connections),
            (&mut self.connections_failed, other.connections_failed),
        ] {
            *sum += count;
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.times.0.merge(&other.times.0);
        self.times.1 = self.times.1.wrapping_add(other.times.1);
    }
}

/// All workers' counts of clients' requests, by prefix.
pub(super) fn https<'a>(workers: impl Iterator<Item = &'a Names>) -> BTreeMap<String, HttpSum> {
    let mut sums: BTreeMap<String, HttpSum> = BTreeMap::new();
    for (name, counts) in workers.flat_map(Names::https) {
        sums.entry(name).or_default().add(&counts);
    }
    sums
}

/// All workers' counts of what targets were sent.
pub(super) fn targets<'a>(workers: impl Iterator<Item = &'a Names>) -> BTreeMap<TargetKey, TargetSum> {
    let mut sums: BTreeMap<TargetKey, TargetSum> = BTreeMap::new();
    for (key, counts) in workers.flat_map(Names::targets) {
        sums.entry(key).or_default().add(&counts);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up_and_services_too() {
        let workers = [Names::default(), Names::default()];
        let key = |service: &str| TargetKey { cluster: "c".into(), service: service.into(), node: "n".into() };
        for (worker, service, status) in [(0, "a", 200), (1, "a", 404), (1, "b", 200), (0, "a", 99), (0, "a", 600)] {
            let counts = workers[worker].target(&key(service));
            counts.answered(status);
            counts.ended(2000);
        }
        let sums = targets(workers.iter());
        assert_eq!(sums[&key("a")].statuses, BTreeMap::from([(200, 1), (404, 1)]));
        assert_eq!((sums[&key("a")].ended, sums[&key("b")].ended), (4, 1));
        let mut both = sums[&key("a")].clone();
        both.merge(&sums[&key("b")]);
        assert_eq!((both.statuses[&200], both.times.0.total(), both.times.1), (2, 5, 10_000));
    }

    #[test]
    fn names_that_nothing_counts_under_make_room() {
        let names = Names::default();
        let held = names.http(&"held".to_owned());
        for number in 0..MOST_NAMES * 2 {
            names.http(&format!("p{number}"));
        }
        assert!(lock(&names.https).len() <= MOST_NAMES);
        held.answered(204);
        assert_eq!(https(std::iter::once(&names))["held"].classes, [0, 1, 0, 0, 0]);
    }
}
