//! What every node did on every route in the last ten minutes: latencies of successful requests, kept so that a rollout
//! knows stable before it begins.
//!
//! Reports are cumulative, so this keeps the last histogram of each proxy and series, and adds what came on top to
//! intervals of half a minute. What a proxy counted before it was first seen is of unknown age and left out. Bounded in
//! series and intervals; beyond it something is not known, and a rollout's own first requests serve instead.

use crate::base::histogram::Histogram;
use crate::base::ids::RouteRef;
use crate::base::tally::Report;
use crate::clock::Monotonic;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How far back it goes.
const WINDOW: Duration = Duration::from_secs(600);
/// Length of an interval.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);
/// Series of proxy, route and node, about 1.4 KB each.
const SERIES_KEPT: usize = 8192;
/// Pairs of route and node, about 30 KB each.
const PAIRS_KEPT: usize = 1024;

/// A node on a route.
type Pair = (RouteRef, String);
/// By proxy, route and node.
type Cumulative = BTreeMap<(String, Pair), Histogram>;

/// Latencies of the last ten minutes.
#[derive(Default)]
pub(super) struct Recent {
    /// Proxies that were seen before: only on top of that something is new.
    proxies: BTreeSet<String>,
    last: Cumulative,
    /// Intervals by the time of their beginning, oldest first.
    intervals: BTreeMap<Pair, VecDeque<(Monotonic, Histogram)>>,
}

impl Recent {
    /// Takes reports in. To be called every [`INTERVAL`]; more often does no harm.
    pub(super) fn sample(&mut self, reports: &[Report], now: Monotonic) {
        let cumulative = by_series(reports);
        for ((proxy, pair), histogram) in &cumulative {
            if !self.proxies.contains(proxy) {
                continue;
            }
            let fresh = match self.last.get(&(proxy.clone(), pair.clone())) {
                Some(earlier) => histogram.beyond(earlier),
                None => histogram.clone(),
            };
            if fresh.total() > 0 && (self.intervals.len() < PAIRS_KEPT || self.intervals.contains_key(pair)) {
                add(self.intervals.entry(pair.clone()).or_default(), fresh, now);
            }
        }
        // A proxy whose series are not all kept must not have them counted from zero again.
        let complete = cumulative.len() <= SERIES_KEPT;
        self.proxies = reports.iter().filter(|_| complete).map(|report| report.proxy.clone()).collect();
        self.last = if complete { cumulative } else { Cumulative::new() };
        self.intervals.retain(|_, intervals| {
            intervals.retain(|(at, _)| now.since(*at) < WINDOW);
            !intervals.is_empty()
        });
    }

    /// All of it for one node on one route; `None` when nothing is known.
    pub(super) fn of(&self, route: &RouteRef, node: &str) -> Option<Histogram> {
        let intervals = self.intervals.get(&(route.clone(), node.to_owned()))?;
        let mut sum = Histogram::default();
        intervals.iter().for_each(|(_, histogram)| sum.merge(histogram));
        Some(sum)
    }
}

fn add(intervals: &mut VecDeque<(Monotonic, Histogram)>, fresh: Histogram, now: Monotonic) {
    match intervals.back_mut() {
        Some((began, last)) if now.since(*began) < INTERVAL => last.merge(&fresh),
        _ => intervals.push_back((now, fresh)),
    }
}

/// Weights versions and endpoints added up.
fn by_series(reports: &[Report]) -> Cumulative {
    let mut all = Cumulative::new();
    for report in reports {
        for series in &report.series {
            let pair = (series.key.route.clone(), series.key.target.clone());
            all.entry((report.proxy.clone(), pair)).or_default().merge(&series.latency);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tally::{Outcomes, Series, SeriesKey};

    fn route() -> RouteRef {
        RouteRef { mesh: "shop".into(), router: "r".into(), route: "checkout".into() }
    }

    fn report(proxy: &str, version: u64, requests: u64) -> Report {
        let mut latency = Histogram::default();
        (0..requests).for_each(|_| latency.record(5000));
        let key = SeriesKey { route: route(), version, target: "v1".into(), endpoint: "127.0.0.1:1".into() };
        let outcomes = Outcomes { requests, ..Outcomes::default() };
        Report {
            proxy: proxy.into(),
            applied: vec![],
            series: vec![Series { key, share: 1.0, outcomes, latency }],
            ..Report::default()
        }
    }

    fn known(recent: &Recent) -> Option<u64> {
        recent.of(&route(), "v1").map(|histogram| histogram.total())
    }

    #[test]
    fn only_what_came_on_top_counts_and_not_for_ever() {
        let start = Monotonic::now();
        let at = |seconds| start.after(Duration::from_secs(seconds));
        let mut recent = Recent::default();
        recent.sample(&[report("p", 7, 5000)], at(0));
        assert_eq!(known(&recent), None, "of unknown age");
        recent.sample(&[report("p", 7, 5300)], at(30));
        recent.sample(&[report("p", 7, 5350), report("q", 7, 9000)], at(40));
        assert_eq!(known(&recent), Some(350));
        recent.sample(&[report("p", 7, 5400), report("q", 7, 9001)], at(75));
        assert_eq!(known(&recent), Some(401));
        // A proxy that was restarted has counted nothing.
        recent.sample(&[report("p2", 7, 60)], at(629));
        assert_eq!(known(&recent), Some(401));
        recent.sample(&[], at(631));
        assert_eq!(known(&recent), Some(51));
        recent.sample(&[], at(676));
        assert_eq!(known(&recent), None);
    }
}
