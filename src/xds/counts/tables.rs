//! Counts of the Envoys of one place, by route, version, target and endpoint.

use super::Told;
use crate::base::histogram::Histogram;
use crate::base::ids::RouteRef;
use crate::base::tally::{Outcomes, Series, SeriesKey};
use crate::xds::outcome::Outcome;
use std::collections::{BTreeMap, VecDeque};

/// Versions of a route whose counts are kept; a rollout has taken in what older ones placed.
const VERSIONS_KEPT: usize = 16;
/// Endpoints of one target that are told apart; all others are one, without an address.
const ENDPOINTS_MAX: usize = 32;

/// Everything that was counted.
#[derive(Debug, Default)]
pub(super) struct Tables {
    judged: Table,
    /// Requests of sessions.
    raw: Table,
}

#[derive(Debug, Default)]
struct Table {
    cells: BTreeMap<SeriesKey, Cell>,
    versions: BTreeMap<RouteRef, Versions>,
}

/// Versions of one route, in the order in which they were first told of: by number, a route that was made anew would be older
/// than what was there before it.
#[derive(Debug, Default)]
struct Versions {
    /// Those that there are cells of.
    kept: VecDeque<u64>,
    /// Those that went last. Counting one of them anew would begin at zero what was counted before.
    gone: VecDeque<u64>,
}

#[derive(Debug, Default)]
struct Cell {
    share: f64,
    outcomes: Outcomes,
    latency: Histogram,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// It counts, or is too old to.
    Yes,
    /// Its cluster is none of its route.
    Strange,
    /// It is of a new series, and there is no room.
    Full,
}

impl Tables {
    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.judged.cells.len() + self.raw.cells.len()
    }

    /// What is judged.
    pub(super) fn series(&self) -> Vec<Series> {
        self.judged.series()
    }

    /// Every request of routes that place sessions.
    pub(super) fn raw(&self) -> Vec<Series> {
        self.raw.series()
    }

    /// Counts a request. Those of sessions are not independent draws, so nothing is judged by them: which of them belong
    /// together, an Envoy does not tell.
    pub(super) fn count(&mut self, told: Told<'_>, has_room: bool) -> Counted {
        let Told { route, cluster, endpoint, outcome } = told;
        let Some((target, share)) = route.targets.get(cluster) else { return Counted::Strange };
        let endpoint = if route.in_sessions { String::new() } else { endpoint };
        let key = SeriesKey { route: route.id.clone(), version: route.version, target: target.clone(), endpoint };
        let table = if route.in_sessions { &mut self.raw } else { &mut self.judged };
        table.count(key, *share, outcome, has_room)
    }
}

impl Table {
    fn count(&mut self, mut key: SeriesKey, share: f64, outcome: Outcome, has_room: bool) -> Counted {
        if !self.cells.contains_key(&key) {
            if self.endpoints(&key) >= ENDPOINTS_MAX {
                key.endpoint.clear();
            }
            if !self.cells.contains_key(&key) {
                if !has_room {
                    return Counted::Full;
                }
                if !self.makes_room(&key) {
                    return Counted::Yes;
                }
            }
        }
        let cell = self.cells.entry(key).or_insert_with(|| Cell { share, ..Cell::default() });
        cell.outcomes.requests += 1;
        match outcome {
            Outcome::Good { latency_us } => cell.latency.record(latency_us),
            Outcome::Status5xx => cell.outcomes.status_5xx += 1,
            Outcome::Reset => cell.outcomes.reset += 1,
            Outcome::Timeout => cell.outcomes.timeout += 1,
        }
        Counted::Yes
    }

    /// How many endpoints of the target there are counts of.
    fn endpoints(&self, key: &SeriesKey) -> usize {
        let first = SeriesKey { endpoint: String::new(), ..key.clone() };
        let is_same =
            |other: &SeriesKey| (&other.route, other.version, &other.target) == (&key.route, key.version, &key.target);
        self.cells.range(first..).take_while(|(other, _)| is_same(other)).count()
    }

    /// Whether a series of this version is kept; older ones go for it.
    fn makes_room(&mut self, key: &SeriesKey) -> bool {
        let Versions { kept, gone } = self.versions.entry(key.route.clone()).or_default();
        if kept.contains(&key.version) {
            return true;
        }
        if gone.contains(&key.version) {
            return false;
        }
        kept.push_back(key.version);
        if kept.len() <= VERSIONS_KEPT {
            return true;
        }
        let Some(oldest) = kept.pop_front() else { return true };
        gone.push_back(oldest);
        if gone.len() > VERSIONS_KEPT {
            gone.pop_front();
        }
        self.cells.retain(|other, _| other.route != key.route || other.version != oldest);
        true
    }

    fn series(&self) -> Vec<Series> {
        let series = self.cells.iter().map(|(key, cell)| Series {
            key: key.clone(),
            share: cell.share,
            outcomes: cell.outcomes,
            latency: cell.latency.clone(),
        });
        series.collect()
    }
}
