//! Counts that the data plane keeps and the judge reads: cumulative since the proxy started, so that a lost or
//! repeated report changes nothing.

use super::histogram::Histogram;
use super::ids::{NodeName, RouteRef};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What one series of counts is about. `version` is the route's metadata version: the weights that placed a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesKey {
    /// The route that placed the requests.
    pub route: RouteRef,
    /// Version of that route whose weights placed them.
    pub version: u64,
    /// The virtual node that was drawn.
    pub target: NodeName,
    /// `ip:port` of the endpoint, empty when none could be chosen, and `replaced` for all those together that are gone, where there
    /// were many.
    pub endpoint: String,
}

/// Final outcomes of requests by class. One request is one weighted draw; its outcome is the final one, after retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcomes {
    /// All judged requests: good ones and every class of error below. A client's abort is in neither.
    pub requests: u64,
    /// Status 5xx that the upstream sent.
    pub status_5xx: u64,
    /// No connection, no healthy endpoint, reset, malformed or broken-off answer.
    pub reset: u64,
    /// Past the deadline, counted at the deadline.
    pub timeout: u64,
}

impl Outcomes {
    /// Requests that failed.
    #[must_use]
    pub const fn errors(&self) -> u64 {
        self.status_5xx + self.reset + self.timeout
    }

    /// Adds another count to this one.
    pub const fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.status_5xx += other.status_5xx;
        self.reset += other.reset;
        self.timeout += other.timeout;
    }
}

/// One series: its counts, its latencies, and the weights of the version that placed its requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// What is counted.
    pub key: SeriesKey,
    /// The target's share of the route's total weight in that version, 0.0 to 1.0: the router's coin.
    pub share: f64,
    /// Outcomes so far.
    pub outcomes: Outcomes,
    /// Time to the answer's head in microseconds, of requests that did not fail.
    pub latency: Histogram,
}

/// Everything one proxy counted up to now.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Names the proxy process; a new one after each restart, since counts begin again at zero.
    pub proxy: String,
    /// All series, in key order.
    pub series: Vec<Series>,
    /// Every route that it has, with the version by which all of its workers route now: its acknowledgement.
    #[serde(default)]
    pub applied: Vec<(RouteRef, u64)>,
    /// Requests that went to a target and are not judged, by that target; their endpoint is left empty. They are those that
    /// an extension of the route took out of the judge's sight, and they are in no series above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unjudged: Vec<Series>,
    /// Every request of routes whose requests belong to sessions, by target; their endpoint is left empty. Of these, `series`
    /// has what is judged: of each session at most one request and one failure in each minute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raw: Vec<Series>,
    /// Fuses of routes whose weights are split, at most [`FUSES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fuses: Vec<FuseReport>,
    /// Why its answer could not be read, where it gave one: then everything else is empty, and `proxy` is its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// Which fuses a reading of the counts is an acknowledgement for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledges<'a> {
    /// None: a person looks, or a program that judges nothing.
    Nothing,
    /// All of them: whoever reads judges and does not say what.
    Everything,
    /// Those of the routes that the reader judges. Several daemons may read one proxy, and the silence of one of them is not
    /// to be made up for by another.
    Routes(&'a BTreeSet<RouteRef>),
}

impl Acknowledges<'_> {
    /// Whether it is one for the fuse of this route.
    #[must_use]
    pub fn is_for(self, route: &RouteRef) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Routes(routes) => routes.contains(route),
        }
    }
}

/// Fuses in a report, at most: as many rollouts at a time as nobody has through one proxy.
pub const FUSES_MAX: usize = 1000;

/// How the fuse of one route stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FuseReport {
    /// The route.
    pub route: RouteRef,
    /// Version of its weights.
    pub version: u64,
    /// The rollout that it was armed for.
    pub rollout: String,
    /// Where it stands.
    pub state: FuseState,
    /// Evidence against the canary, in nats, and at which it trips.
    pub log_e: f64,
    /// See `log_e`.
    pub threshold: f64,
    /// Requests that this proxy began on the canary in the rollout.
    pub canary_requests: u64,
    /// Those that failed.
    pub canary_errors: u64,
    /// Failures of stable.
    pub stable_errors: u64,
    /// Failures of the canary since the controller read the counts before.
    pub errors_since_acknowledged: u64,
}

/// Where a fuse stands. All but [`FuseState::Armed`] send what the weights would give to the canary to stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FuseState {
    /// It watches.
    Armed,
    /// Too many failures since the controller last read the counts: until it reads them.
    Held,
    /// The controller has been silent for too long: until it is heard.
    Lapsed,
    /// The release is worse, by this proxy's own requests: for good.
    Tripped,
}
