//! Which gates act now, and what counts for them.
//!
//! A gate that does not act neither fails the release nor holds it. What happens where it does not act does not count for it
//! at all: it stakes nothing on requests that are drawn at other weights, and takes no points of other times. The scopes
//! stand in the plan, so what is staked on a request is fixed before the request is drawn, and the tests stay valid (a bet
//! of nothing is one that is not in the gambler's favour either); to read a valid test at some times only is one more
//! stopping rule, of which it holds for any.

use super::gate::{weight_index, weight_step};
use super::preview;
use super::state::{Exposed, State};
use crate::base::weight::Percent;
use crate::policy::plan::{Gate, Moment, Plan, Step};

/// Where a rollout stands, as gates see it. While the canary has no weight it is the step that it waits at, the first one
/// before any; once its end is decided it is the step at which that was.
#[must_use]
pub fn moment(plan: &Plan, state: &State) -> Moment {
    if state.wanted > Percent::ZERO {
        return Moment::At(state.wanted);
    }
    if preview::is_on(state) {
        return Moment::Preview;
    }
    let step = state.step_index().or_else(|| state.ending.as_ref().and_then(|ending| ending.at_step)).unwrap_or(0);
    let at = weight_index(plan, step).and_then(|index| weight_step(plan, index)).map(|step| step.weight);
    Moment::At(at.or_else(|| weights(plan).next()).unwrap_or(Percent::FULL))
}

/// Whether a gate acts now. For a comparison 100 % is still the last weight below: what was counted there and arrives late
/// speaks, and nothing more comes.
#[must_use]
pub fn acts(plan: &Plan, state: &State, gate: &Gate) -> bool {
    let now = moment(plan, state);
    let below = || weights(plan).filter(|weight| *weight < Percent::FULL).last();
    let read = match now {
        Moment::At(Percent::FULL) if gate.rule.compares() => below().map_or(now, Moment::At),
        Moment::At(_) | Moment::Preview => now,
    };
    gate.acts(read)
}

/// Gates that decide something now.
pub(super) fn deciding<'a>(plan: &'a Plan, state: &State) -> impl Iterator<Item = &'a Gate> {
    plan.gates.iter().filter(|gate| !gate.dry_run && acts(plan, state, gate))
}

/// Since when points of a signal count for a gate. One that acts at some weights only takes those of the present weights
/// alone: those of before may be of a time when it did not act.
pub(super) fn exposed(plan: &Plan, state: &State, gate: &Gate) -> Option<Exposed> {
    let exposed = state.exposed?;
    if weights(plan).all(|weight| gate.during.is_empty() || gate.acts(Moment::At(weight))) {
        return Some(exposed);
    }
    exposed.since.map(|since| Exposed { from: since, since: Some(since) })
}

/// Gates that do not act now, of those whose policy says where they do.
pub(super) fn idle<'a>(plan: &'a Plan, state: &State) -> Vec<&'a Gate> {
    plan.gates.iter().filter(|gate| !gate.during.is_empty() && !acts(plan, state, gate)).collect()
}

/// Drops the points of gates that begin to act, so that bad ones on both sides of a gap are not "in a row".
pub(super) fn awaken(plan: &Plan, state: &mut State, idle: &[&Gate]) {
    for gate in idle {
        if acts(plan, state, gate) {
            state.points.remove(&gate.name);
        }
    }
}

fn weights(plan: &Plan) -> impl Iterator<Item = Percent> + '_ {
    plan.steps.iter().filter_map(|step| match step {
        Step::Weight(step) => Some(step.weight),
        Step::Approval(_) => None,
    })
}
