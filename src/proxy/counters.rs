//! What a worker counts, and how others read it while it counts.
//!
//! Each worker owns its own cells and is their only writer, so a count is a plain load and store without a locked
//! instruction or a shared cache line. A cell is made at the first request of its series; that once, the worker takes
//! the lock of its table. The number of requests is never stored: it is the latencies plus the errors, so a reader can
//! at no moment see more errors than requests.

use crate::base::histogram::{BUCKETS, Histogram, bucket_of};
use crate::base::ids::RouteRef;
use crate::base::tally::{Outcomes, Series, SeriesKey};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Endpoints of a target whose counts a version keeps apart, at about 1.4 KB each. Where more came and went, those that nobody
/// counts under any more are one: a version that stays for months would keep each address that a task of it ever had.
const MOST_ENDPOINTS: usize = 256;
/// What stands for them in place of an address.
const REPLACED: &str = "replaced";

/// How a judged request ended, after retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered below 500; microseconds to the head of the answer.
    Good { latency_us: u64 },
    /// The upstream answered 5xx.
    Status5xx,
    /// No connection, no endpoint, reset, malformed or broken off.
    Reset,
    /// Past its deadline.
    Timeout,
}

/// Counts of one series in one worker.
pub(super) struct Counts {
    status_5xx: AtomicU64,
    reset: AtomicU64,
    timeout: AtomicU64,
    latency_sum_us: AtomicU64,
    latency: [AtomicU64; BUCKETS],
}

/// Adds to a counter that only this thread writes.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl Counts {
    pub(super) fn new() -> Self {
        Self {
            status_5xx: AtomicU64::new(0),
            reset: AtomicU64::new(0),
            timeout: AtomicU64::new(0),
            latency_sum_us: AtomicU64::new(0),
            latency: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    /// Counts one request. Only the owning worker calls this.
    pub(super) fn record(&self, outcome: Outcome) {
        match outcome {
            Outcome::Good { latency_us } => {
                add(&self.latency[bucket_of(latency_us)], 1);
                add(&self.latency_sum_us, latency_us);
            }
            Outcome::Status5xx => add(&self.status_5xx, 1),
            Outcome::Reset => add(&self.reset, 1),
            Outcome::Timeout => add(&self.timeout, 1),
        }
    }

    /// Adds what another one has. Nobody but the caller has this one yet.
    fn take(&self, other: &Self) {
        let pairs = [
            (&self.status_5xx, &other.status_5xx),
            (&self.reset, &other.reset),
            (&self.timeout, &other.timeout),
            (&self.latency_sum_us, &other.latency_sum_us),
        ];
        for (sum, count) in pairs.into_iter().chain(self.latency.iter().zip(&other.latency)) {
            add(sum, count.load(Ordering::Relaxed));
        }
    }

    fn read(&self) -> (Outcomes, Histogram, u64) {
        let latency = Histogram::from_counts(self.latency.iter().map(|count| count.load(Ordering::Relaxed)).collect())
            .unwrap_or_default();
        let mut outcomes = Outcomes {
            requests: 0,
            status_5xx: self.status_5xx.load(Ordering::Relaxed),
            reset: self.reset.load(Ordering::Relaxed),
            timeout: self.timeout.load(Ordering::Relaxed),
        };
        outcomes.requests = latency.total() + outcomes.errors();
        (outcomes, latency, self.latency_sum_us.load(Ordering::Relaxed))
    }
}

/// Counts of one worker that no rollout is judged by.
#[derive(Default)]
pub(super) struct Totals {
    /// Answered by the proxy itself without a draw: no service, no route, refused.
    pub(super) unrouted: AtomicU64,
    /// Tries made after a first one.
    pub(super) retries: AtomicU64,
    /// Requests sent again because a kept-alive connection turned out to be closed.
    pub(super) replays: AtomicU64,
    /// Client connections accepted.
    pub(super) accepted: AtomicU64,
    /// Client connections turned away at the limit.
    pub(super) turned_away: AtomicU64,
    /// Times that an idle client connection gave up its memory.
    pub(super) parked: AtomicU64,
    /// Connections made to endpoints.
    pub(super) connects: AtomicU64,
    /// Requests whose client went away before their outcome was known.
    pub(super) aborted: AtomicU64,
    /// Requests that met a failure on purpose (`tidegate:fault`).
    pub(super) faults: AtomicU64,
    /// Requests that chose their version (`tidegate:override`).
    pub(super) forced: AtomicU64,
    /// Sessions that were begun (`tidegate:affinity` by cookie).
    pub(super) sessions: AtomicU64,
    /// Requests beyond the bound of their route (`tidegate:limit`).
    pub(super) limited: AtomicU64,
    /// Copies sent (`tidegate:mirror`).
    pub(super) mirrored: AtomicU64,
    /// Requests that were to be copied and were not: too many copies under way, or a body that is too long or not complete.
    pub(super) unmirrored: AtomicU64,
}

impl Totals {
    /// Adds one. Only the owning worker calls this.
    pub(super) fn count(counter: &AtomicU64) {
        add(counter, 1);
    }

    /// Every total by name.
    pub(super) fn read(&self) -> [(&'static str, u64); 14] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("unrouted", get(&self.unrouted)),
            ("retries", get(&self.retries)),
            ("replays", get(&self.replays)),
            ("connections_accepted", get(&self.accepted)),
            ("connections_turned_away", get(&self.turned_away)),
            ("connections_parked", get(&self.parked)),
            ("upstream_connects", get(&self.connects)),
            ("aborted_by_client", get(&self.aborted)),
            ("faults_injected", get(&self.faults)),
            ("forced", get(&self.forced)),
            ("sessions_begun", get(&self.sessions)),
            ("rate_limited", get(&self.limited)),
            ("mirrored", get(&self.mirrored)),
            ("not_mirrored", get(&self.unmirrored)),
        ]
    }
}

/// A worker's cells by what they count.
pub(super) struct Table {
    series: Mutex<BTreeMap<SeriesKey, (f64, Arc<Counts>)>>,
    kept_versions: usize,
}

impl Table {
    /// An empty table that keeps the last `kept_versions` versions of each route.
    pub(super) const fn new(kept_versions: usize) -> Self {
        Self { series: Mutex::new(BTreeMap::new()), kept_versions }
    }

    // No code can panic while it holds the lock halfway through a change.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SeriesKey, (f64, Arc<Counts>)>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cell of a series, made when it is new.
    pub(super) fn cell(&self, key: SeriesKey, share: f64) -> Arc<Counts> {
        let mut series = self.lock();
        if let Some((_, counts)) = series.get(&key) {
            return Arc::clone(counts);
        }
        let (new, counts) = (key.clone(), Arc::new(Counts::new()));
        series.insert(key, (share, Arc::clone(&counts)));
        put_replaced_together(&mut series, &new);
        forget_old_versions(&mut series, &new.route, self.kept_versions);
        counts
    }

    /// The cells now. The lock is not held while they are read.
    fn cells(&self) -> Vec<(SeriesKey, f64, Arc<Counts>)> {
        self.lock().iter().map(|(key, (share, counts))| (key.clone(), *share, Arc::clone(counts))).collect()
    }
}

/// Drops the series of a route's oldest versions, except those that a request in flight still counts under: its worker
/// holds the cell, so a count is never lost to this.
fn forget_old_versions(series: &mut BTreeMap<SeriesKey, (f64, Arc<Counts>)>, route: &RouteRef, kept: usize) {
    let mut versions: Vec<u64> = series.keys().filter(|key| key.route == *route).map(|key| key.version).collect();
    versions.dedup();
    if let Some(oldest_kept) = versions.len().checked_sub(kept).and_then(|index| versions.get(index)).copied() {
        series.retain(|key, (_, counts)| {
            key.route != *route || key.version >= oldest_kept || Arc::strong_count(counts) > 1
        });
    }
}

/// Makes one series of those whose endpoints nobody counts under any more, where a target has many. The sum goes into a cell of its
/// own in place of the last one: whoever reads meanwhile reads either all of the old ones or the new one.
fn put_replaced_together(series: &mut BTreeMap<SeriesKey, (f64, Arc<Counts>)>, key: &SeriesKey) {
    let with = |endpoint: &str| SeriesKey { endpoint: endpoint.to_owned(), ..key.clone() };
    let of_target = |(other, _): &(&SeriesKey, _)| {
        (&other.route, other.version, &other.target) == (&key.route, key.version, &key.target)
    };
    let all = || series.range(with("")..).take_while(of_target);
    if all().count() <= MOST_ENDPOINTS {
        return;
    }
    let is_over = |(other, (_, counts)): &(&SeriesKey, &(f64, Arc<Counts>))| {
        !other.endpoint.is_empty() && Arc::strong_count(counts) == 1
    };
    let over: Vec<SeriesKey> = all().filter(is_over).map(|(other, _)| other.clone()).collect();
    let (together, mut share) = (Counts::new(), 0.0);
    for key in &over {
        if let Some((of, counts)) = series.remove(key) {
            together.take(&counts);
            share = of;
        }
    }
    if !over.is_empty() {
        series.insert(with(REPLACED), (share, Arc::new(together)));
    }
}

/// A series of all workers together, with the sum of its latencies.
pub(super) struct Merged {
    pub(super) series: Series,
    pub(super) latency_sum_us: u64,
}

/// Adds up the workers' series, in key order.
pub(super) fn merge<'a>(tables: impl Iterator<Item = &'a Table>) -> Vec<Merged> {
    let mut all: BTreeMap<SeriesKey, Merged> = BTreeMap::new();
    for (key, share, counts) in tables.flat_map(Table::cells) {
        let (outcomes, latency, sum) = counts.read();
        let merged = all.entry(key).or_insert_with_key(|key| Merged {
            series: Series { key: key.clone(), share, outcomes: Outcomes::default(), latency: Histogram::default() },
            latency_sum_us: 0,
        });
        merged.series.outcomes.add(&outcomes);
        merged.series.latency.merge(&latency);
        merged.latency_sum_us = merged.latency_sum_us.wrapping_add(sum);
    }
    all.into_values().collect()
}

/// All series of the workers.
pub(super) fn series<'a>(tables: impl Iterator<Item = &'a Table>) -> Vec<Series> {
    merge(tables).into_iter().map(|merged| merged.series).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(route: &str, version: u64, endpoint: &str) -> SeriesKey {
        let route = RouteRef { mesh: "m".into(), router: "r".into(), route: route.into() };
        SeriesKey { route, version, target: "n".into(), endpoint: endpoint.into() }
    }

    #[test]
    fn workers_add_up_and_requests_are_good_ones_plus_errors() {
        let tables = [Table::new(4), Table::new(4)];
        for table in &tables {
            let counts = table.cell(key("a", 1, "e"), 0.25);
            counts.record(Outcome::Good { latency_us: 1000 });
            counts.record(Outcome::Reset);
            counts.record(Outcome::Timeout);
            table.cell(key("a", 1, "e"), 0.25).record(Outcome::Status5xx);
        }
        let merged = merge(tables.iter());
        assert_eq!(merged.len(), 1);
        let outcomes = Outcomes { requests: 8, status_5xx: 2, reset: 2, timeout: 2 };
        assert_eq!((merged[0].series.outcomes, merged[0].latency_sum_us), (outcomes, 2000));
        assert_eq!(merged[0].series.latency.total(), 2);
    }

    #[test]
    fn endpoints_that_come_and_go_do_not_gather_and_no_count_is_lost() {
        let table = Table::new(2);
        let held = table.cell(key("a", 1, "held"), 1.0);
        let sum = || merge(std::iter::once(&table)).iter().map(|merged| merged.series.outcomes.requests).sum::<u64>();
        for number in 0..5 * MOST_ENDPOINTS as u64 {
            held.record(Outcome::Good { latency_us: 900 });
            table.cell(key("a", 1, &format!("10.0.0.1:{number}")), 1.0).record(Outcome::Reset);
            table.cell(key("a", 2, ""), 1.0);
            assert_eq!(sum(), 2 * (number + 1));
            assert!(table.cells().len() <= MOST_ENDPOINTS + 2, "{} cells", table.cells().len());
        }
        let merged = merge(std::iter::once(&table));
        let of = |endpoint: &str| {
            merged.iter().find(|merged| merged.series.key == key("a", 1, endpoint)).expect("it is there")
        };
        assert_eq!(of("held").series.latency.total(), 5 * MOST_ENDPOINTS as u64);
        assert!(of(REPLACED).series.outcomes.reset > 4 * MOST_ENDPOINTS as u64 - 2);
        assert_eq!(of(REPLACED).series.share, 1.0);
    }

    #[test]
    fn the_last_versions_of_each_route_stay_and_those_in_use() {
        let table = Table::new(2);
        let held = table.cell(key("a", 1, "e"), 1.0);
        for version in 2..=5 {
            table.cell(key("a", version, "e"), 1.0);
            table.cell(key("a", version, "f"), 1.0);
        }
        table.cell(key("b", 1, "e"), 1.0);
        let versions = |table: &Table| -> Vec<u64> { table.cells().iter().map(|cell| cell.0.version).collect() };
        assert_eq!(versions(&table), [1, 4, 4, 5, 5, 1]);
        drop(held);
        table.cell(key("a", 6, "e"), 1.0);
        assert_eq!(versions(&table), [5, 5, 6, 1]);
    }
}
