//! What each endpoint of stable did, minute by minute for a day: by how much endpoints differ of themselves, and how many
//! errors were usual.
//!
//! Reports are cumulative, so this keeps the last counts of each proxy and series and adds what came on top. A route's
//! stable is the version that has more than half of its weight: while nothing is released, the only one. What a proxy
//! counted before it was first seen is of unknown age and left out, and so is a minute that took much longer than one,
//! since nobody was there to end it. Everything is bounded; beyond the bounds something is not known, and a rollout then
//! allows for less noise and says so.

use crate::base::ids::{NodeName, RouteRef};
use crate::base::tally::{Report, SeriesKey};
use crate::base::time::{Millis, Timestamp};
use crate::clock::Monotonic;
use crate::rollout::event::{EndpointMinute, MeasuredNoise, Past, PastErrors};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Length of a block: that of the judge's.
const MINUTE: Duration = Duration::from_secs(60);
/// A block that took longer is of another kind.
const LONGEST: Duration = Duration::from_secs(120);
/// How far back it goes: a day has all hours.
pub(super) const DAY: Millis = Millis::from_seconds(24 * 3600);
/// What is usual is that of the last ten minutes, as with latencies.
const USUAL: Millis = Millis::from_seconds(600);
/// Minutes of a route: a day's.
const MINUTES_KEPT: usize = 1440;
/// Routes, up to 170 KB each when all their endpoints fail in every minute; commonly 40.
const ROUTES_KEPT: usize = 256;
/// Pairs of endpoints in a minute: more would make the estimate better by less than their memory is worth.
const PAIRS_KEPT: usize = 8;
/// Series of all proxies, about 250 bytes each.
const SERIES_KEPT: usize = 32_768;
/// Minutes of one note: one hour's.
pub(super) const NOTE: Millis = Millis::from_seconds(3600);

/// Requests and errors.
type Tally = (u64, u64);
/// Minutes by the time of their end, oldest first.
type Day = VecDeque<(Timestamp, EndpointMinute)>;
/// A route, the number of an hour since 1970, and the minutes in it.
pub(super) type Hour = (RouteRef, i64, Vec<(Timestamp, EndpointMinute)>);

/// The last day of every route.
#[derive(Default)]
pub(super) struct Minutes {
    /// Proxies that were seen before: only on top of that something is new.
    proxies: BTreeSet<String>,
    last: BTreeMap<(String, SeriesKey), Tally>,
    /// The minute that is not over, by route, node and endpoint.
    open: BTreeMap<RouteRef, BTreeMap<(NodeName, String), Tally>>,
    opened: Option<Monotonic>,
    days: BTreeMap<RouteRef, Day>,
    /// Routes whose earlier minutes were looked for.
    restored: BTreeSet<RouteRef>,
    /// Routes and hours that were changed since they were last written down.
    unwritten: BTreeSet<(RouteRef, i64)>,
}

impl Minutes {
    /// Takes reports in. To be called every half minute; more often does no harm.
    pub(super) fn sample(&mut self, reports: &[Report], now: Monotonic, wall: Timestamp) {
        let cumulative = by_series(reports);
        for ((proxy, key), (requests, errors)) in &cumulative {
            if !self.proxies.contains(proxy) || !(self.open.contains_key(&key.route) || self.open.len() < ROUTES_KEPT) {
                continue;
            }
            let (before, failed_before) = self.last.get(&(proxy.clone(), key.clone())).copied().unwrap_or_default();
            let fresh = (requests.saturating_sub(before), errors.saturating_sub(failed_before));
            if fresh.0 > 0 {
                let endpoints = self.open.entry(key.route.clone()).or_default();
                let tally = endpoints.entry((key.target.clone(), key.endpoint.clone())).or_default();
                *tally = (tally.0.saturating_add(fresh.0), tally.1.saturating_add(fresh.1));
            }
        }
        // A proxy whose series are not all kept must not have them counted from zero again.
        let complete = cumulative.len() <= SERIES_KEPT;
        self.proxies = reports.iter().filter(|_| complete).map(|report| report.proxy.clone()).collect();
        self.last = if complete { cumulative } else { BTreeMap::new() };
        let length = now.since(*self.opened.get_or_insert(now));
        if length >= MINUTE {
            self.opened = Some(now);
            self.close(length, wall);
        }
    }

    fn close(&mut self, length: Duration, wall: Timestamp) {
        for (route, endpoints) in std::mem::take(&mut self.open) {
            let known = self.days.contains_key(&route) || self.days.len() < ROUTES_KEPT;
            if length <= LONGEST && known {
                self.unwritten.insert((route.clone(), hour_of(wall)));
                self.days.entry(route).or_default().push_back((wall, minute(endpoints)));
            }
        }
        self.prune(wall);
    }

    fn prune(&mut self, wall: Timestamp) {
        self.days.retain(|_, day| {
            day.retain(|(at, _)| wall.since(*at) < DAY);
            day.drain(..day.len().saturating_sub(MINUTES_KEPT));
            !day.is_empty()
        });
        let (days, oldest) =
            (&self.days, hour_of(Timestamp(wall.0.saturating_sub(i64::try_from(DAY.0).unwrap_or(i64::MAX)))));
        self.restored.retain(|route| days.contains_key(route));
        // Where nothing can be written down, or not for long, what is not kept any more is not owed either.
        self.unwritten.retain(|(route, hour)| days.contains_key(route) && *hour >= oldest);
    }

    /// Routes that were not looked for in what was written down.
    pub(super) fn unrestored(&self) -> Vec<RouteRef> {
        self.days.keys().filter(|route| !self.restored.contains(*route)).cloned().collect()
    }

    /// Whether a route was.
    pub(super) fn is_restored(&self, route: &RouteRef) -> bool {
        self.restored.contains(route)
    }

    /// Takes in what was written down of a route: what is older than anything that is here.
    pub(super) fn restore(&mut self, route: &RouteRef, mut written: Vec<(Timestamp, EndpointMinute)>, wall: Timestamp) {
        if !self.days.contains_key(route) && self.days.len() >= ROUTES_KEPT || !self.restored.insert(route.clone()) {
            return;
        }
        let day = self.days.entry(route.clone()).or_default();
        let first = day.front().map(|(at, _)| *at);
        // A clock that was set back has left minutes that are not over yet.
        written.retain(|(at, _)| *at <= wall && first.is_none_or(|first| *at < first));
        written.sort_by_key(|(at, _)| *at);
        written.extend(std::mem::take(day));
        *day = written.into();
        self.prune(wall);
    }

    /// What is to be written down: route, hour and its minutes. Each is told once.
    pub(super) fn unwritten(&mut self) -> Vec<Hour> {
        // Of a route whose earlier minutes are not here yet an hour would be written over by a part of it.
        let (told, kept) = std::mem::take(&mut self.unwritten)
            .into_iter()
            .partition::<BTreeSet<_>, _>(|(route, _)| self.restored.contains(route));
        self.unwritten = kept;
        let of_hour = |(route, hour): (RouteRef, i64)| {
            let day = self.days.get(&route)?;
            let minutes = day.iter().filter(|(at, _)| hour_of(*at) == hour).cloned().collect();
            Some((route, hour, minutes))
        };
        told.into_iter().filter_map(of_hour).collect()
    }

    /// An hour that could not be written down is told again.
    pub(super) fn not_written(&mut self, route: RouteRef, hour: i64) {
        self.unwritten.insert((route, hour));
    }

    /// What a rollout should know of a route.
    pub(super) fn past(&self, route: &RouteRef, wall: Timestamp) -> Past {
        let Some(day) = self.days.get(route) else { return Past::default() };
        let last = day.iter().filter(|(at, _)| wall.since(*at) < USUAL).map(|(_, minute)| minute);
        let sum = last.fold(None, |sum: Option<PastErrors>, minute| {
            let sum = sum.unwrap_or(PastErrors { requests: 0, errors: 0 });
            Some(PastErrors {
                requests: sum.requests.saturating_add(minute.requests),
                errors: sum.errors.saturating_add(minute.errors),
            })
        });
        Past { noise: Some(MeasuredNoise::of(day.iter().map(|(_, minute)| minute))), stable: sum, ..Past::default() }
    }
}

/// Number of an hour since 1970.
fn hour_of(at: Timestamp) -> i64 {
    at.0.div_euclid(i64::try_from(NOTE.0).unwrap_or(i64::MAX))
}

/// Weights versions apart, since a proxy begins a series anew with each.
fn by_series(reports: &[Report]) -> BTreeMap<(String, SeriesKey), Tally> {
    let stable = reports.iter().flat_map(|report| {
        let series = report.series.iter().filter(|series| series.share > 0.5);
        series.map(|series| {
            let tally = (series.outcomes.requests, series.outcomes.errors());
            ((report.proxy.clone(), series.key.clone()), tally)
        })
    });
    stable.collect()
}

/// A minute of the node that had most of the requests: another one was stable for a part of it only.
fn minute(endpoints: BTreeMap<(NodeName, String), Tally>) -> EndpointMinute {
    let mut nodes: BTreeMap<NodeName, Vec<(String, Tally)>> = BTreeMap::new();
    for ((node, endpoint), tally) in endpoints {
        nodes.entry(node).or_default().push((endpoint, tally));
    }
    let requests = |endpoints: &Vec<(String, Tally)>| endpoints.iter().map(|(_, (requests, _))| *requests).sum::<u64>();
    let errors = |endpoints: &Vec<(String, Tally)>| endpoints.iter().map(|(_, (_, errors))| *errors).sum::<u64>();
    let Some(stable) = nodes.into_values().max_by_key(requests) else { return EndpointMinute::default() };
    // Where no endpoint could be chosen, none has failed.
    let chosen: Vec<Tally> =
        stable.iter().filter(|(endpoint, _)| !endpoint.is_empty()).map(|(_, tally)| *tally).collect();
    let pairs = chosen.chunks_exact(2).take(PAIRS_KEPT).filter_map(|pair| match pair {
        [(_, 0), (_, 0)] => None,
        [(first, first_errors), (second, second_errors)] => {
            let few = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
            let share_ppm = (*first as f64 / (*first as f64 + *second as f64) * 1e6).round() as u32;
            Some((few(*first_errors), few(*second_errors), share_ppm))
        }
        _ => None,
    });
    EndpointMinute {
        requests: requests(&stable),
        errors: errors(&stable),
        endpoints: u32::try_from(chosen.len()).unwrap_or(u32::MAX),
        pairs: pairs.collect(),
    }
}

#[cfg(test)]
mod tests;
