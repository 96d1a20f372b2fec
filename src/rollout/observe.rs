//! Readings taken in: counts into the evidence, the route compared with what it should be.

use super::event::{LiveReading, Observation, ProxyCounts, RouteReading};
use super::fuse;
use super::gate::weight_step;
use super::moves::Moves;
use super::points;
use super::preview;
use super::state::{Exposed, PauseCause, Phase};
use super::unusable;
use super::workload;
use crate::base::time::Millis;
use crate::base::weight::Percent;
use crate::judge::split;
use crate::judge::verdict::percent;

pub(super) fn take_in(moves: &mut Moves<'_>, observation: &Observation) {
    if let Some(Ok(reading)) = &observation.live {
        heard(moves, reading);
    }
    if moves.state.is_judged() {
        points::absorb(moves.plan, &mut moves.state, &observation.points);
    }
    if let Some(reading) = &observation.workload {
        workload::take_in(moves, reading);
    }
    preview::take_in(moves, observation.preview.as_ref());
    // No answer is not a bad answer: the deadlines go on, nothing else does.
    if let Some(Ok(route)) = &observation.route {
        compare(moves, route, observation);
    }
    check_split(moves);
}

/// A reading of the route that is older than the last write may still be on its way so long after it: readings time out
/// sooner. Later, a lower version means that the route was made anew, and its weights count.
const STALE_FOR: Millis = Millis::from_seconds(8);

/// Counts, and that the data plane lives.
fn heard(moves: &mut Moves<'_>, reading: &LiveReading) {
    unusable::take_in(moves, reading);
    // Who does not have the route says nothing of it: others of the mesh that report must not hide that all who place its
    // requests fell silent.
    if !reading.proxies.iter().any(|proxy| proxy.serving || proxy.applied.is_some()) {
        return;
    }
    fuse::take_in(moves, reading);
    if !unusable::is_any_heard(reading) {
        return;
    }
    let at = moves.at();
    let fresh = moves.state.evidence.absorb(reading, at, moves.plan.latency_tolerance());
    // A quiet service is heard as well, but not written down every second.
    let patience = moves.plan.no_data.hold_after.min(moves.plan.no_data.withdraw_after);
    let stale = at.since(moves.state.last_live_at) >= Millis(patience.0 / 4);
    if fresh || stale {
        moves.state.last_live_at = at;
    }
    let silenced = moves.state.paused.as_ref().filter(|pause| pause.cause == PauseCause::NoData);
    if let Some(step) = silenced.map(|pause| pause.step)
        && moves.state.pending.is_empty()
    {
        moves.advance(step);
    }
}

/// The route as it is against the route as it should be.
fn compare(moves: &mut Moves<'_>, route: &RouteReading, observation: &Observation) {
    // While a write is under way either answer is right.
    if !moves.state.pending.is_empty() || precedes_the_last_write(moves, route) {
        return;
    }
    let canary = moves.plan.node(moves.state.canary).to_owned();
    let seen = route.percent_of(&canary);
    let wanted = moves.state.wanted.get();
    let stranger = route.targets.iter().any(|(node, weight)| *weight > 0 && moves.plan.slot(node).is_none());
    match moves.state.phase {
        // Read back, and in the proxies too: in force.
        Phase::Verifying { step, .. } if seen == wanted && !stranger => {
            if acknowledged(moves, observation) {
                verified(moves, step);
            }
        }
        Phase::Deploying { .. } if seen > wanted => workload::on_early_weight(moves, seen),
        Phase::Previewing { .. } if seen > wanted => preview::on_early_weight(moves, seen),
        Phase::Deploying { step, .. } if wanted > 0 => drifted(moves, step, seen, stranger, route),
        Phase::Cleaning { until, tries } => workload::clean(moves, route, until, tries),
        Phase::Verifying { step, .. }
        | Phase::Baking { step, .. }
        | Phase::Judging { step, .. }
        | Phase::AwaitingApproval { step, .. } => {
            drifted(moves, step, seen, stranger, route);
        }
        Phase::Holding { .. } if seen != wanted || stranger => {
            moves.state.trouble = Some(format!("someone changed the route to {seen} % while the end was settling"));
            moves.write_end_again();
        }
        Phase::Holding { until } if moves.at() >= until => {
            if preview::is_gone(moves, observation.preview.as_ref()) {
                moves.end();
            }
        }
        Phase::Holding { .. }
        | Phase::Deploying { .. }
        | Phase::Previewing { .. }
        | Phase::Shifting { .. }
        | Phase::RollingBack { .. }
        | Phase::Stuck { .. }
        | Phase::Succeeded
        | Phase::RolledBack
        | Phase::Aborted
        | Phase::Superseded => {}
    }
}

/// Whether every proxy that serves the route routes by the last write. Without any proxy that reports, which is how a
/// plain App Mesh endpoint looks, the reading back is all there is.
fn acknowledged(moves: &Moves<'_>, observation: &Observation) -> bool {
    let Some(written) = &moves.state.written else { return true };
    match &observation.live {
        Some(Ok(reading)) => {
            let serving = |proxy: &&ProxyCounts| proxy.serving;
            reading.proxies.iter().filter(serving).all(|proxy| proxy.applied.is_some_and(|at| at >= written.version))
        }
        Some(Err(_)) | None => moves.state.evidence.seen.is_empty(),
    }
}

/// Looks whether the traffic is split as wanted, at 200 draws of the present version and at each doubling. A split that
/// luck does not explain means that the weights are not in force, whatever the mesh answers. Where sessions are placed and
/// not requests, one session that lasts looks like many draws, and nothing is concluded.
fn check_split(moves: &mut Moves<'_>) {
    let (Some(step), Some(written)) = (moves.state.step_index(), &moves.state.written) else { return };
    if !moves.state.pending.is_empty() || moves.state.paused.is_some() || moves.state.wanted == Percent::ZERO {
        return;
    }
    let seen = moves.state.evidence.seen.values().filter_map(|versions| versions.get(&written.version));
    let (canary, draws) = seen.fold((0_u64, 0_u64), |(canary, draws), counts| {
        let both = counts.canary_requests.saturating_add(counts.stable_requests);
        (canary.saturating_add(counts.canary_requests), draws.saturating_add(both))
    });
    if draws < (moves.state.split_checked.saturating_mul(2)).max(split::LEAST_DRAWS) {
        return;
    }
    moves.state.split_checked = draws;
    if moves.state.evidence.in_sessions.contains(&written.version) {
        return;
    }
    let share = moves.state.wanted.share();
    if split::disagrees(canary, draws, share) {
        let got = percent(canary as f64 / draws as f64);
        moves.not_in_force(step, format!("{got} of {draws} requests went to the canary and not {}", percent(share)));
    }
}

/// A reading that was begun before the last write and arrives after it shows the weights of before: that is no drift.
fn precedes_the_last_write(moves: &Moves<'_>, route: &RouteReading) -> bool {
    moves
        .state
        .written
        .is_some_and(|written| route.version < written.version && moves.at().since(written.at) < STALE_FOR)
}

/// In force: the step's clock starts.
fn verified(moves: &mut Moves<'_>, step: usize) {
    // Withdrawn, not shifted: it stays here until the pause ends.
    if moves.state.wanted == Percent::ZERO {
        return;
    }
    if moves.plan.signals().next().is_some() {
        let from = moves.state.exposed.map_or(moves.at(), |exposed| exposed.from);
        moves.state.exposed = Some(Exposed { from, since: Some(moves.at()) });
    }
    let min = weight_step(moves.plan, step).map_or(Millis(0), |step| step.min);
    let until = moves.at().plus(min);
    moves.phase(Phase::Baking { step, until });
}

/// Someone else wrote the route, or the mesh itself did. Lower is kept, higher is put back at once.
fn drifted(moves: &mut Moves<'_>, step: usize, seen: u8, stranger: bool, route: &RouteReading) {
    let wanted = moves.state.wanted.get();
    if seen == wanted && !stranger {
        return;
    }
    if seen > wanted {
        moves.state.trouble = Some(format!("someone raised the canary to {seen} %; put back to {wanted} %"));
        return moves.put_back(step);
    }
    let reason = why_lower(step, (seen, wanted), stranger, route.lapsed.as_deref());
    match moves.state.paused.as_ref().map(|pause| pause.cause) {
        // That the weights are not in force is why it is paused.
        Some(PauseCause::Drift | PauseCause::VerifyTimeout) => {}
        // It waits for a person already; which pause it is decides what `resume` may do, so that stays.
        Some(
            PauseCause::Person
            | PauseCause::Budget
            | PauseCause::GateFailed
            | PauseCause::ApprovalTimeout
            | PauseCause::BothFail
            | PauseCause::BothRecovered,
        ) => {
            moves.state.trouble = Some(reason);
        }
        Some(PauseCause::NoData) | None => moves.pause(step, PauseCause::Drift, reason),
    }
}

/// Why the canary has less than its step wants, for people.
fn why_lower(step: usize, (seen, wanted): (u8, u8), stranger: bool, lapsed: Option<&str>) -> String {
    let step = step + 1;
    match lapsed {
        // Nobody meddled: the mesh did what it had been asked for, while nobody drove.
        Some(at) if !stranger => format!(
            "the lease of the weights ran out at {at}, since no daemon renewed it, and the mesh put the traffic back on stable \
             (canary at {seen} %, step {step} wants {wanted} %): see why no daemon drove; then `resume` takes the step up \
             again or `abort` ends it"
        ),
        _ => {
            let what = if stranger { "gave another target weight on the route" } else { "lowered the canary" };
            format!(
                "someone {what} (canary at {seen} %, step {step} wants {wanted} %): that is kept; ask who ran `update-route`, \
                 then `resume` puts the step back or `abort` ends it"
            )
        }
    }
}
