//! Fuses of a rollout's proxies: what they are armed with, and what comes of it when one opens.
//!
//! A proxy that takes the release out of the traffic by itself needs a part of the bound on false rollbacks. With M proxies
//! each trips at ln(2M/alpha), so all of them together are wrong in at most alpha/2 of the rollouts, and where any was armed
//! the comparing gates here keep the other half (gate.md section 7). That one was armed is known before anything is judged by
//! it: it stands in the same reports as the counts. A fuse watches errors alone, so its threshold is raised by what that
//! channel weighs in the whole, and it is never quicker to blame than the gates that see the same requests.

use super::compare::{Channel, error_channel};
use super::event::{FuseReading, LiveReading};
use super::limits::LimitVerdict;
use super::moves::Moves;
use super::noise::Allowance;
use super::scope::acts;
use super::state::State;
use crate::base::fuse::{ADD, Decimal, FAILURES, Fuse, RATIO, THRESHOLD};
use crate::base::tally::FuseState;
use crate::base::time::Timestamp;
use crate::base::weight::Percent;
use crate::judge::absolute::Outcome;
use crate::judge::rollback_threshold;
use crate::judge::verdict::thousands;
use crate::policy::plan::{OnFailure, Plan};
use serde::{Deserialize, Serialize};

/// Openings beside the first trip that are kept: more proxies than so many say nothing new.
const OTHERS_KEPT: usize = 16;

/// How the fuses of a rollout's proxies stood when they were last read, and what they did before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fuses {
    /// Proxies that have one.
    pub armed: u32,
    /// The most that had one at a time.
    #[serde(default, skip_serializing_if = "is_none")]
    pub most: u32,
    /// Of those that have one, those that hold the canary back until their counts are read.
    #[serde(default, skip_serializing_if = "is_none")]
    pub held: u32,
    /// And those that do because they have not heard of us for too long.
    #[serde(default, skip_serializing_if = "is_none")]
    pub lapsed: u32,
    /// How often one was found holding the canary back after too many failures; the reading lets it go on.
    #[serde(default, skip_serializing_if = "is_none")]
    pub holds: u32,
    /// The last of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_hold: Option<Opening>,
    /// The first one that tripped. It stays: a false alarm is not armed again in silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tripped: Option<Opening>,
    /// Others that did, at most sixteen, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_tripped: Vec<Opening>,
    /// What the failure of the gate does that the first one was armed for; absent before one tripped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_none(count: &u32) -> bool {
    *count == 0
}

/// A fuse that tripped or held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The proxy.
    pub proxy: String,
    /// When it was read; absent in rollouts of before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What it said.
    pub reading: FuseReading,
}

/// What the weights that the state wants are to be watched by: `None` where nothing is split, and where no gate that decides
/// compares error rates.
#[must_use]
pub fn armed(plan: &Plan, state: &State) -> Option<Fuse> {
    if state.wanted == Percent::ZERO || state.wanted == Percent::FULL {
        return None;
    }
    let Channel { ratio, add, part, .. } = error_channel(plan, |gate| acts(plan, state, gate))?;
    let allowance = Allowance::of(plan, state);
    let tolerance = allowance.tolerance(ratio, add);
    let proxies = proxies(state) as f64;
    // The test of a proxy allows for no noise of one version alone: where there is some it holds and lapses, and never trips.
    let threshold = match allowance.is_none() {
        true => rollback_threshold(plan.max_false_rollback / (2.0 * proxies)) - part.ln(),
        false => f64::INFINITY,
    };
    let most = u64::from(*FAILURES.end());
    let failures = u32::try_from(plan.blast_radius.per_proxy_between_acks.clamp(1, most)).unwrap_or(*FAILURES.end());
    Some(Fuse {
        failures,
        canary: plan.node(state.canary).to_owned(),
        rollout: state.id.0.clone(),
        threshold: Decimal::at_least(threshold).min(*THRESHOLD.end()),
        ratio: Decimal::at_least(tolerance.ratio()).clamp(*RATIO.start(), *RATIO.end()),
        add: Decimal::at_least(tolerance.add()).min(*ADD.end()),
    })
}

/// The most proxies that may be wrong in this rollout: M of the bound. Every process that ever judged a request of it, since one
/// that was restarted began anew and could be wrong once more; and at first, while none has, those that served the route when it
/// began: the first weights arm all of them.
fn proxies(state: &State) -> usize {
    let at_first = usize::try_from(state.past.proxies).unwrap_or(usize::MAX);
    state.evidence.seen.len().max(at_first).max(1)
}

/// Whether proxies are armed at some weight.
pub(super) fn is_wanted(plan: &Plan) -> bool {
    error_channel(plan, |_| true).is_some()
}

/// The bound on false rollbacks that is left for the gates here.
pub(super) fn max_false_rollback(plan: &Plan, state: &State) -> f64 {
    let is_shared = state.fuses.is_some() && Allowance::of(plan, state).is_none();
    if is_shared { plan.max_false_rollback / 2.0 } else { plan.max_false_rollback }
}

/// Takes in what the proxies say of their fuses.
pub(super) fn take_in(moves: &mut Moves<'_>, reading: &LiveReading) {
    let known = moves.state.fuses.take();
    let is_first = known.is_none();
    let before = known.unwrap_or_default();
    let had_tripped = before.tripped.is_some();
    let mut seen = Fuses { armed: 0, held: 0, lapsed: 0, ..before };
    for proxy in &reading.proxies {
        let Some(fuse) = proxy.fuse.as_ref().filter(|fuse| fuse.rollout == moves.state.id.0) else { continue };
        seen.armed = seen.armed.saturating_add(1);
        let opening = || Opening { proxy: proxy.proxy.clone(), at: Some(moves.state.at), reading: fuse.clone() };
        match fuse.state {
            FuseState::Armed => {}
            FuseState::Held => {
                seen.held = seen.held.saturating_add(1);
                seen.holds = seen.holds.saturating_add(1);
                seen.last_hold = Some(opening());
            }
            FuseState::Lapsed => seen.lapsed = seen.lapsed.saturating_add(1),
            FuseState::Tripped => trip(&mut seen, opening()),
        }
    }
    seen.most = seen.most.max(seen.armed);
    // Kept, since another gate may act at the next weight.
    if !had_tripped && seen.tripped.is_some() {
        seen.on_failure = Some(armed_for(moves.plan, &moves.state).unwrap_or(moves.plan.on_failure));
    }
    moves.state.fuses = if is_first && seen.armed == 0 { None } else { Some(seen) };
}

/// Keeps a trip that is not known yet.
fn trip(seen: &mut Fuses, opening: Opening) {
    match &seen.tripped {
        None => seen.tripped = Some(opening),
        Some(first) if first.proxy == opening.proxy => {}
        Some(_) => {
            let is_known = seen.also_tripped.iter().any(|known| known.proxy == opening.proxy);
            if !is_known && seen.also_tripped.len() < OTHERS_KEPT {
                seen.also_tripped.push(opening);
            }
        }
    }
}

/// What the failure of the gate that proxies are armed for now does, where it says so itself.
fn armed_for(plan: &Plan, state: &State) -> Option<OnFailure> {
    error_channel(plan, |gate| acts(plan, state, gate)).and_then(|channel| channel.gate.on_failure)
}

/// The verdict of a fuse that tripped.
pub(super) fn verdict(plan: &Plan, state: &State) -> Option<LimitVerdict> {
    let trip = state.fuses.as_ref()?.tripped.as_ref()?;
    let (gate, outcome, sentence) = ("fuse".to_owned(), Outcome::CanaryBreaches, tripped(trip));
    // It speaks for the gate that it was armed for.
    let on_failure = state.fuses.as_ref().and_then(|fuses| fuses.on_failure).or_else(|| armed_for(plan, state));
    Some(LimitVerdict { gate, outcome, sentence, page: None, error: false, on_failure })
}

/// What a fuse that tripped says, in a sentence without a full stop.
pub(super) fn tripped(Opening { proxy, reading, .. }: &Opening) -> String {
    let FuseReading { canary_requests, canary_errors, stable_errors, log_e_milli, threshold_milli, .. } = reading;
    format!(
        "the fuse of proxy {proxy} tripped: there the canary failed {} of {} requests while stable failed {} (evidence {}, trips \
         at {})",
        thousands(*canary_errors),
        thousands(*canary_requests),
        thousands(*stable_errors),
        nats(*log_e_milli),
        nats(*threshold_milli)
    )
}

/// Evidence from thousandths.
fn nats(milli: i64) -> String {
    format!("{:.2}", milli as f64 / 1000.0)
}
