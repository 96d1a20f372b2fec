//! Counts of the data plane that nobody can judge by: a proxy that answers and cannot be read, or whose counts contradict
//! themselves or what it was told to do.
//!
//! That is an error, which is neither silence nor evidence. What such a proxy counted is left out, so it speaks neither for the
//! release nor against it. While a proxy contradicts itself nothing advances, since requests go through one that nobody can
//! see into; what the others count can still fail the release. What cannot be read at all may be no proxy of the route, so
//! it holds nothing while others can be judged by. After [`TOLD_AFTER`] readings in a row a person is told which it is.
//! Where no proxy is left that can be judged by, the canary is as unwatched as in silence, and loses its weight as soon.

use super::event::{LiveReading, ProxyCounts};
use super::evidence::Evidence;
use super::moves::Moves;
use super::state::State;
use crate::base::time::{Millis, Timestamp};
use crate::judge::Counts;
use crate::policy::plan::{Gate, GateRule, Plan};
use serde::{Deserialize, Serialize};

/// Readings in a row with an error after which a person is told: one may be a proxy that is just being replaced.
pub const TOLD_AFTER: u32 = 3;
/// Proxies that cannot be read and are named in one reading: a reading is journaled with each change, and the first of them is
/// what is told. Those whose counts cannot be true are in it anyway.
const NAMED_MAX: usize = 8;
/// Everything, in millionths.
const ALL_PPM: u32 = 1_000_000;

/// What one proxy told and nobody can judge by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unusable {
    /// Names the proxy: as it does itself, or its address where that could not be read.
    pub proxy: String,
    /// What is wrong with it, in a sentence that begins after the proxy's name.
    pub why: String,
}

/// Readings in a row with something unusable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusableSince {
    /// Since when.
    pub since: Timestamp,
    /// How many readings, counted up to [`TOLD_AFTER`].
    pub times: u32,
    /// The first of them, for as long as it is among them.
    #[serde(flatten)]
    pub first: Unusable,
    /// How many other proxies had something unusable when that was looked at first.
    #[serde(default, skip_serializing_if = "is_none")]
    pub others: usize,
    /// Whether nothing advances meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_none(others: &usize) -> bool {
    *others == 0
}

impl UnusableSince {
    /// In a sentence without a full stop: whose fault it is, what follows, and what to do.
    #[must_use]
    pub fn sentence(&self) -> String {
        let others = match self.others {
            0 => String::new(),
            1 => " (and another proxy)".to_owned(),
            others => format!(" (and {others} other proxies)"),
        };
        let rest = match self.holds {
            true => {
                "its counts are left out, and nothing advances until they can be judged by: look at its log, or restart it"
            }
            false => {
                "only what the others count is judged by: look at its log, restart it, or correct `telemetry.proxies`"
            }
        };
        format!("error: proxy {} {}{others}: {rest}", self.first.proxy, self.first.why)
    }

    /// Why the canary lost its weight after so long without counts that can be judged by.
    pub(super) fn unheard_for(&self, unheard: Millis) -> String {
        format!(
            "error: no proxy has told counts for {unheard} that can be judged by (proxy {} {}); resumes by itself when one does",
            self.first.proxy, self.first.why
        )
    }

    /// What a person is told, once it has lasted; the same text as long as it is the same trouble.
    #[must_use]
    pub fn page(&self) -> Option<String> {
        (self.times >= TOLD_AFTER).then(|| self.sentence())
    }
}

// === what can be judged by ===

impl State {
    /// The reading without counts that contradict themselves, each proxy named: all that a proxy told is left out where a
    /// part of it cannot be true. Counts are cumulative, so nothing is lost once it can be believed again.
    #[must_use]
    pub fn usable(&self, mut reading: LiveReading) -> LiveReading {
        let LiveReading { proxies, unusable } = &mut reading;
        let mut unreadable = 0;
        unusable.retain(|one| {
            let is_read = proxies.iter().any(|proxy| proxy.proxy == one.proxy);
            unreadable += usize::from(!is_read);
            is_read || unreadable <= NAMED_MAX
        });
        for proxy in &mut reading.proxies {
            let problem = proxy.versions.iter().find_map(|now| {
                let seen = self.evidence.seen.get(&proxy.proxy).and_then(|seen| seen.get(&now.version));
                let what = contradiction(now.share_ppm, &now.counts, seen.filter(|_| self.is_kept(now.version)))?;
                Some(format!("{what} under version {} of the weights", now.version))
            });
            if let Some(why) = problem {
                proxy.versions.clear();
                reading.unusable.push(Unusable { proxy: proxy.proxy.clone(), why });
            }
        }
        reading
    }

    /// Whether a proxy still has all that it counted under a version: of weights of before it forgets the oldest, one worker
    /// after the other.
    fn is_kept(&self, version: u64) -> bool {
        is_judged(&self.evidence, version) && self.written.is_none_or(|written| version >= written.version)
    }
}

fn is_judged(evidence: &Evidence, version: u64) -> bool {
    version > evidence.after_version
}

/// What cannot be true of one version's counts; `seen` is what the same proxy counted before.
fn contradiction(share_ppm: u32, now: &Counts, seen: Option<&Counts>) -> Option<&'static str> {
    let fewer = |seen: &Counts| {
        now.canary_requests < seen.canary_requests
            || now.canary_errors < seen.canary_errors
            || now.stable_requests < seen.stable_requests
            || now.stable_errors < seen.stable_errors
    };
    if now.canary_errors > now.canary_requests || now.stable_errors > now.stable_requests {
        Some("counts more failures than requests")
    } else if share_ppm > ALL_PPM {
        Some("tells a weight above 100 %")
    } else if seen.is_some_and(fewer) {
        Some("counts fewer requests or failures than it did before")
    } else {
        None
    }
}

// === what the engine makes of it ===

/// Notes what of a reading is unusable, or that nothing is any more.
pub(super) fn take_in(moves: &mut Moves<'_>, reading: &LiveReading) {
    let at = moves.at();
    let Some(first) = reading.unusable.first() else {
        // Silence takes nothing back.
        if !reading.proxies.is_empty() {
            moves.state.unusable = None;
        }
        return;
    };
    let before = moves.state.unusable.take();
    let is_of_proxy = |one: &Unusable| reading.proxies.iter().any(|proxy| proxy.proxy == one.proxy);
    let holds = reading.unusable.iter().any(is_of_proxy) || !is_any_heard(reading);
    moves.state.unusable = Some(match before {
        Some(before) => UnusableSince {
            times: before.times.saturating_add(1).min(TOLD_AFTER),
            holds,
            // The same words for as long as it is the same trouble.
            ..match reading.unusable.contains(&before.first) {
                true => before,
                false => UnusableSince { first: first.clone(), others: reading.unusable.len() - 1, ..before },
            }
        },
        None => UnusableSince { since: at, times: 1, first: first.clone(), others: reading.unusable.len() - 1, holds },
    });
}

/// Whether some proxy that has the route can be judged by.
pub(super) fn is_any_heard(reading: &LiveReading) -> bool {
    let is_usable = |proxy: &str| !reading.unusable.iter().any(|one| one.proxy == proxy);
    let has_route = |proxy: &ProxyCounts| proxy.serving || proxy.applied.is_some();
    reading.proxies.iter().any(|proxy| has_route(proxy) && is_usable(&proxy.proxy))
}

/// What stands in the way of judging a rollout by live counts now.
pub(super) fn in_the_way(plan: &Plan, state: &State) -> Option<UnusableSince> {
    noticed(plan, state).filter(|unusable| unusable.holds).cloned()
}

/// What of a rollout's live counts a person is told, whether it holds anything or not.
pub(super) fn page(plan: &Plan, state: &State) -> Option<String> {
    noticed(plan, state).and_then(UnusableSince::page)
}

fn noticed<'a>(plan: &Plan, state: &'a State) -> Option<&'a UnusableSince> {
    state.unusable.as_ref().filter(|_| !plan.gates.is_empty() && state.is_judged())
}

/// The same for one gate, in a sentence; `None` for one that is not about live counts.
pub(super) fn of_gate(plan: &Plan, gate: &Gate, state: &State) -> Option<String> {
    let is_live = match gate.rule {
        GateRule::ErrorRateAgainstStable { .. }
        | GateRule::LatencyAgainstStable { .. }
        | GateRule::ErrorRateLimit { .. }
        | GateRule::LatencyLimit { .. } => true,
        GateRule::Health { .. } | GateRule::Signal(_) => false,
    };
    in_the_way(plan, state).filter(|_| is_live).map(|unusable| unusable.sentence())
}
