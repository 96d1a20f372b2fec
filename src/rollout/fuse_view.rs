//! What people and programs are shown of a rollout's fuses. Derived from plan and state.

use super::fuse::{Fuses, Opening, armed, tripped};
use super::state::State;
use crate::base::fuse::THRESHOLD;
use crate::base::time::Timestamp;
use crate::judge::verdict::thousands;
use crate::policy::plan::Plan;
use serde::{Deserialize, Serialize};

/// The fuses of a rollout's proxies as the API answers them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FuseView {
    /// Proxies in which one is armed now.
    pub armed: u32,
    /// The most that had one at a time.
    pub most: u32,
    /// Of those armed, how many hold the canary back until their counts are read.
    pub held: u32,
    /// And how many have not heard of the daemon for too long.
    pub lapsed: u32,
    /// Evidence in nats at which each trips; absent while nothing is split, and where noise of one version is allowed for: then
    /// none trips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Failures of the canary beyond what is tolerated that each passes on between two readings of its counts.
    pub failures_between_readings: u64,
    /// Those that tripped, the first one first.
    #[serde(default)]
    pub trips: Vec<OpeningView>,
    /// How often one was found holding the canary back after too many failures.
    pub holds: u32,
    /// The last of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_hold: Option<OpeningView>,
}

/// A fuse that opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpeningView {
    /// The proxy.
    pub proxy: String,
    /// When that was read, RFC 3339; absent in rollouts of before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Failures of the canary since the counts were read before: what opened it was charged.
    pub failures_charged: u64,
    /// Requests that this proxy had begun on the canary in the rollout, and how many of them had failed.
    pub canary_requests: u64,
    /// See `canary_requests`.
    pub canary_errors: u64,
    /// Failures of stable.
    pub stable_errors: u64,
    /// Evidence against the canary by this proxy alone, in nats.
    pub evidence: f64,
    /// And at which it trips.
    pub threshold: f64,
}

impl OpeningView {
    fn of(opening: &Opening) -> Self {
        let reading = &opening.reading;
        Self {
            proxy: opening.proxy.clone(),
            at: opening.at.map(Timestamp::rfc3339),
            failures_charged: reading.errors_since_acknowledged,
            canary_requests: reading.canary_requests,
            canary_errors: reading.canary_errors,
            stable_errors: reading.stable_errors,
            evidence: reading.log_e_milli as f64 / 1000.0,
            threshold: reading.threshold_milli as f64 / 1000.0,
        }
    }
}

impl FuseView {
    /// Of a state; `None` where no proxy has had one.
    #[must_use]
    pub fn of(plan: &Plan, state: &State) -> Option<Self> {
        let fuses = state.fuses.as_ref()?;
        let threshold = armed(plan, state).map(|fuse| fuse.threshold).filter(|threshold| threshold < THRESHOLD.end());
        Some(Self {
            armed: fuses.armed,
            most: fuses.most.max(fuses.armed),
            held: fuses.held,
            lapsed: fuses.lapsed,
            threshold: threshold.map(|threshold| threshold.get()).filter(|_| !state.is_finished()),
            failures_between_readings: plan.blast_radius.per_proxy_between_acks,
            trips: trips(fuses).map(OpeningView::of).collect(),
            holds: fuses.holds,
            last_hold: fuses.last_hold.as_ref().map(OpeningView::of),
        })
    }
}

fn trips(fuses: &Fuses) -> impl Iterator<Item = &Opening> {
    fuses.tripped.iter().chain(&fuses.also_tripped)
}

/// How the fuses stand, in a sentence without a full stop; `None` where there is nothing to tell.
#[must_use]
pub fn told(plan: &Plan, state: &State) -> Option<String> {
    let Some(fuses) = &state.fuses else { return unarmed(plan, state) };
    let (is_over, mut parts) = (state.is_finished(), Vec::new());
    if fuses.tripped.is_some() {
        parts.extend(trips(fuses).map(|trip| format!("{}{}", tripped(trip), at(trip))));
    } else if is_over {
        parts.push(match fuses.most.max(fuses.armed) {
            1 => "was armed in one proxy".to_owned(),
            most => format!("was armed in {most} proxies"),
        });
    } else if fuses.armed > 0 {
        parts.push(standing(plan, state, fuses));
    } else {
        parts.extend(unarmed(plan, state));
    }
    parts.extend(fuses.last_hold.as_ref().map(|last| holds(fuses.holds, last)));
    if fuses.lapsed > 0 && !is_over {
        parts.push(format!("{} held it back after a silence of this daemon", of(fuses, fuses.lapsed)));
    }
    if is_over && fuses.tripped.is_none() && fuses.holds == 0 {
        parts.push("none tripped or held".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// What is told where a policy wants fuses, the traffic is split and counted, and no proxy has one.
fn unarmed(plan: &Plan, state: &State) -> Option<String> {
    let is_missing = armed(plan, state).is_some() && !state.evidence.seen.is_empty() && !state.is_finished();
    is_missing.then(|| "armed in no proxy: native proxies of a mesh of Tidegate have one".to_owned())
}

fn of(fuses: &Fuses, count: u32) -> String {
    if fuses.armed == 1 { "the one proxy".to_owned() } else { format!("{count} of {} proxies", fuses.armed) }
}

/// In how many proxies it is armed, and what trips them.
fn standing(plan: &Plan, state: &State, fuses: &Fuses) -> String {
    let (place, each) = match fuses.armed {
        1 => ("one proxy".to_owned(), "trips"),
        armed => (format!("{armed} proxies"), "each trips"),
    };
    match armed(plan, state).map(|fuse| fuse.threshold) {
        None => format!("armed in {place}"),
        Some(threshold) if threshold >= *THRESHOLD.end() => {
            format!("armed in {place}, to hold and not to trip, since noise of one version is allowed for")
        }
        Some(threshold) => format!("armed in {place}, {each} at evidence {:.2}", threshold.get()),
    }
}

fn holds(times: u32, last: &Opening) -> String {
    let times = match times {
        1 => "once".to_owned(),
        times => format!("{} times, last", thousands(times.into())),
    };
    let Opening { proxy, reading, .. } = last;
    let charged = thousands(reading.errors_since_acknowledged);
    format!("held the canary back {times} in proxy {proxy} after {charged} failures between two readings{}", at(last))
}

fn at(opening: &Opening) -> String {
    opening.at.map(|at| format!(", at {}", at.rfc3339())).unwrap_or_default()
}

/// What differs between two views that a person wants to know: fuses that opened since.
#[must_use]
pub fn opened(before: Option<&FuseView>, now: Option<&FuseView>) -> Vec<String> {
    let Some(now) = now else { return Vec::new() };
    let (tripped, holds) = before.map_or((0, 0), |before| (before.trips.len(), before.holds));
    let mut lines: Vec<String> = now.trips.iter().skip(tripped).map(OpeningView::trip).collect();
    if now.holds > holds {
        lines.extend(now.last_hold.as_ref().map(OpeningView::hold));
    }
    lines
}

impl OpeningView {
    fn trip(&self) -> String {
        format!(
            "the fuse of proxy {} tripped after {} of {} requests of the canary failed there",
            self.proxy,
            thousands(self.canary_errors),
            thousands(self.canary_requests)
        )
    }

    fn hold(&self) -> String {
        let charged = thousands(self.failures_charged);
        format!("proxy {} held the canary back after {charged} failures between two readings", self.proxy)
    }
}
