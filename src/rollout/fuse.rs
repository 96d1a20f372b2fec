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
use crate::base::weight::Percent;
use crate::judge::absolute::Outcome;
use crate::judge::rollback_threshold;
use crate::judge::verdict::thousands;
use crate::policy::plan::Plan;
use serde::{Deserialize, Serialize};

/// How the fuses of a rollout's proxies stood when they were last read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fuses {
    /// Proxies that have one.
    pub armed: u32,
    /// Of these, those that hold the canary back until their counts are read.
    #[serde(default, skip_serializing_if = "is_none")]
    pub held: u32,
    /// And those that do because they have not heard of us for too long.
    #[serde(default, skip_serializing_if = "is_none")]
    pub lapsed: u32,
    /// The first one that tripped. It stays: a false alarm is not armed again in silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tripped: Option<Trip>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_none(count: &u32) -> bool {
    *count == 0
}

/// A fuse that tripped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    /// The proxy.
    pub proxy: String,
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
    // Every process that ever judged a request: one that was restarted began anew, and could be wrong once more.
    let proxies = state.evidence.seen.len().max(1) as f64;
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
    let of_this = |fuse: &&FuseReading| fuse.rollout == moves.state.id.0;
    let mut seen = Fuses::default();
    for proxy in &reading.proxies {
        let Some(fuse) = proxy.fuse.as_ref().filter(of_this) else { continue };
        seen.armed += 1;
        match fuse.state {
            FuseState::Armed => {}
            FuseState::Held => seen.held += 1,
            FuseState::Lapsed => seen.lapsed += 1,
            FuseState::Tripped => {
                let trip = || Trip { proxy: proxy.proxy.clone(), reading: fuse.clone() };
                seen.tripped = seen.tripped.or_else(|| Some(trip()));
            }
        }
    }
    let known = moves.state.fuses.take();
    let tripped = known.as_ref().and_then(|known| known.tripped.clone());
    moves.state.fuses = match (known, seen.armed) {
        (None, 0) => None,
        _ => Some(Fuses { tripped: tripped.or(seen.tripped), ..seen }),
    };
}

/// The verdict of a fuse that tripped.
pub(super) fn verdict(plan: &Plan, state: &State) -> Option<LimitVerdict> {
    let trip = state.fuses.as_ref()?.tripped.as_ref()?;
    let (gate, outcome, sentence) = ("fuse".to_owned(), Outcome::CanaryBreaches, tripped(trip));
    // It speaks for the gate that it was armed for.
    let on_failure = error_channel(plan, |gate| acts(plan, state, gate)).and_then(|channel| channel.gate.on_failure);
    Some(LimitVerdict { gate, outcome, sentence, page: None, error: false, on_failure })
}

fn tripped(Trip { proxy, reading }: &Trip) -> String {
    let FuseReading { canary_requests, canary_errors, stable_errors, log_e_milli, threshold_milli, .. } = reading;
    let nats = |milli: i64| format!("{:.2}", milli as f64 / 1000.0);
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

/// How the fuses stand, in a sentence without a full stop; `None` where there are none.
#[must_use]
pub fn told(state: &State) -> Option<String> {
    let fuses = state.fuses.as_ref()?;
    if let Some(trip) = &fuses.tripped {
        return Some(tripped(trip));
    }
    let of = |count: u32| {
        if fuses.armed == 1 { "the one proxy".to_owned() } else { format!("{count} of {} proxies", fuses.armed) }
    };
    let mut text = match fuses.armed {
        0 => return None,
        1 => "armed in one proxy".to_owned(),
        armed => format!("armed in {armed} proxies"),
    };
    if fuses.held > 0 {
        text += &format!("; {} held the canary back after too many failures, until they were read", of(fuses.held));
    }
    if fuses.lapsed > 0 {
        text += &format!("; {} held it back after a silence of this daemon", of(fuses.lapsed));
    }
    Some(text)
}
