//! Readings taken in: counts into the evidence, the route compared with what it should be.

use super::event::{LiveReading, Observation, RouteReading};
use super::gate::weight_step;
use super::moves::Moves;
use super::state::{PauseCause, Phase};
use crate::base::time::Millis;
use crate::base::weight::Percent;

pub(super) fn take_in(moves: &mut Moves<'_>, observation: &Observation) {
    if let Some(Ok(reading)) = &observation.live {
        heard(moves, reading);
    }
    // No answer is not a bad answer: the deadlines go on, nothing else does.
    if let Some(Ok(route)) = &observation.route {
        compare(moves, route);
    }
}

/// Counts, and that the data plane lives.
fn heard(moves: &mut Moves<'_>, reading: &LiveReading) {
    if reading.proxies.is_empty() {
        return;
    }
    let at = moves.at();
    let fresh = moves.state.evidence.absorb(reading, at);
    // A quiet service is heard as well, but not written down every second.
    let stale = at.since(moves.state.last_live_at) >= Millis(moves.plan.no_data.hold_after.0 / 4);
    if fresh || stale {
        moves.state.last_live_at = at;
    }
    let silenced = moves.state.paused.as_ref().filter(|pause| pause.cause == PauseCause::NoData);
    if let Some(step) = silenced.map(|pause| pause.step)
        && moves.state.pending.is_empty()
    {
        moves.shift_to(step);
    }
}

/// The route as it is against the route as it should be.
fn compare(moves: &mut Moves<'_>, route: &RouteReading) {
    // While a write is under way either answer is right.
    if !moves.state.pending.is_empty() {
        return;
    }
    let canary = moves.plan.node(moves.state.canary).to_owned();
    let seen = route.percent_of(&canary);
    let wanted = moves.state.wanted.get();
    let stranger = route.targets.iter().any(|(node, weight)| *weight > 0 && moves.plan.slot(node).is_none());
    match moves.state.phase {
        Phase::Verifying { step, .. } if seen == wanted && !stranger => verified(moves, step),
        Phase::Verifying { step, .. } | Phase::Baking { step, .. } | Phase::Judging { step, .. } => {
            drifted(moves, step, seen, stranger);
        }
        Phase::Holding { .. } if seen != wanted || stranger => {
            moves.state.trouble = Some(format!("someone changed the route to {seen} % while the end was settling"));
            moves.write_end_again();
        }
        Phase::Holding { until, .. } => moves.phase(Phase::Holding { until, confirmed: true }),
        Phase::Shifting { .. }
        | Phase::RollingBack { .. }
        | Phase::Stuck { .. }
        | Phase::Succeeded
        | Phase::RolledBack
        | Phase::Aborted => {}
    }
}

/// In force: the step's clock starts.
fn verified(moves: &mut Moves<'_>, step: usize) {
    // Withdrawn, not shifted: it stays here until the pause ends.
    if moves.state.wanted == Percent::ZERO {
        return;
    }
    let min = weight_step(moves.plan, step).map_or(Millis(0), |step| step.min);
    let until = moves.at().plus(min);
    moves.phase(Phase::Baking { step, until });
}

/// Someone else wrote the route. Lower is kept, higher is put back at once.
fn drifted(moves: &mut Moves<'_>, step: usize, seen: u8, stranger: bool) {
    let wanted = moves.state.wanted.get();
    let known = moves.state.paused.as_ref().is_some_and(|pause| pause.cause == PauseCause::Drift);
    if seen == wanted && !stranger || known && seen <= wanted {
        return;
    }
    if seen > wanted {
        moves.state.trouble = Some(format!("someone raised the canary to {seen} %; put back to {wanted} %"));
        return moves.put_back();
    }
    let what = if stranger { "gave another target weight on the route" } else { "lowered the canary" };
    let reason = format!(
        "someone {what} (canary at {seen} %, step {} wants {wanted} %): that is kept; ask who ran `update-route`, then \
         `resume` puts the step back or `abort` ends it",
        step + 1
    );
    moves.pause(step, PauseCause::Drift, reason);
}
