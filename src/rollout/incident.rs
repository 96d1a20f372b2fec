//! Both versions fail far more than before the rollout: the weight goes back by one step and the rollout waits.
//!
//! The comparison says nothing then, and the release may be what hurts both. It is no verdict: a person is asked, and told
//! when both have recovered, which makes the release suspect.

use super::event::PastErrors;
use super::evidence::Block;
use super::gate::{is_full, weight_index, weight_step};
use super::moves::Moves;
use super::state::{PauseCause, Phase, Refusal, State};
use super::step::refused;
use crate::base::time::{Millis, Timestamp};
use crate::base::weight::Percent;
use crate::judge::Counts;
use crate::judge::common::Usual;
use crate::judge::verdict::percent;
use crate::policy::plan::{GateRule, Plan};

/// Blocks that are looked at for an incident, the open one among them: up to two minutes.
const BLOCKS: usize = 2;
/// A window that is shorter tells of no recovery.
const RECOVERED_FOR: Millis = Millis::from_seconds(30);

/// Whatever follows from it now.
pub(super) fn on_due(moves: &mut Moves<'_>, step: usize) {
    let Some(usual) = usual(moves.plan, &moves.state) else { return };
    let in_force = !matches!(moves.state.phase, Phase::Deploying { .. }) && moves.state.pending.is_empty();
    match moves.state.paused.as_ref().map(|pause| (pause.cause, pause.at)) {
        None if in_force && !is_full(moves.plan, step) && moves.state.wanted > Percent::ZERO => {
            if let Some(window) = exceeded(usual, &moves.state) {
                step_back(moves, step, &window);
            }
        }
        Some((PauseCause::BothFail, at)) if in_force && has_recovered(usual, &moves.state, at) => {
            recovered(moves);
        }
        None | Some(_) => {}
    }
}

/// Refuses to go on while both still fail; taking all the traffic is a person's own risk.
pub(super) fn refuses(moves: &Moves<'_>, verb: &str, full: bool) -> Result<(), Refusal> {
    let waits = moves.state.paused.as_ref().is_some_and(|pause| pause.cause == PauseCause::BothFail);
    let still = || usual(moves.plan, &moves.state).is_some_and(|usual| exceeded(usual, &moves.state).is_some());
    if waits && !full && still() {
        let why = "both versions still fail far more than before it; wait until they have recovered, or `abort` it";
        return Err(refused(moves, verb, why));
    }
    Ok(())
}

/// What was usual, where a gate on errors decides and it is known. A person who overruled the gates overruled this too.
fn usual(plan: &Plan, state: &State) -> Option<Usual> {
    let compares = |rule: &GateRule| matches!(rule, GateRule::ErrorRateAgainstStable { .. });
    let PastErrors { requests, errors } = state.past.stable?;
    let watched = plan.gates.iter().any(|gate| !gate.dry_run && compares(&gate.rule)) && !state.overruled;
    Usual::of(requests, errors).filter(|_| watched)
}

/// Counts of the last block, or of the last ones together, in which both versions failed far more, where both had weight.
fn exceeded(usual: Usual, state: &State) -> Option<Counts> {
    let lately = |blocks| sum(state.evidence.blocks.iter().rev().take(blocks), |share| (1..1_000_000).contains(&share));
    (1..=BLOCKS).map(lately).find(|window| usual.is_exceeded_by_both(window))
}

fn sum<'a>(blocks: impl Iterator<Item = &'a Block>, wanted: impl Fn(u32) -> bool) -> Counts {
    let mut sum = Counts::default();
    for (share, counts) in blocks.flat_map(|block| &block.by_share) {
        if wanted(*share) {
            sum.add(counts);
        }
    }
    sum
}

/// By the blocks since the weight went back, the last one alone where it is long enough. What comes late under the weights of
/// before is left out.
fn has_recovered(usual: Usual, state: &State, since: Timestamp) -> bool {
    let after = state.evidence.blocks.iter().rev().take_while(|block| block.opened_at >= since);
    let mut window = Vec::new();
    for block in after {
        window.push(block);
        if state.at.since(block.opened_at) >= RECOVERED_FOR {
            let share = u32::from(state.wanted.get()) * 10_000;
            return usual.is_kept_by_both(&sum(window.into_iter(), |of| of == share));
        }
    }
    false
}

fn step_back(moves: &mut Moves<'_>, step: usize, window: &Counts) {
    let index = weight_index(moves.plan, step).unwrap_or(step);
    let before =
        (0..index).rev().find_map(|index| weight_step(moves.plan, index)).map_or(Percent::ZERO, |step| step.weight);
    let share = |errors: u64, requests: u64| percent(errors as f64 / requests.max(1) as f64);
    let usual = moves.state.past.stable.map_or_else(String::new, |past| {
        format!(", {} of stable's before the rollout", share(past.errors, past.requests))
    });
    let reason = format!(
        "canary and stable both fail ({} and {} of their requests lately{usual}): not blamed on the release, which may hurt what \
         both depend on; weight back from {} to {before}",
        share(window.canary_errors, window.canary_requests),
        share(window.stable_errors, window.stable_requests),
        moves.state.wanted,
    );
    moves.step_back(step, before, PauseCause::BothFail, reason);
}

fn recovered(moves: &mut Moves<'_>) {
    let back = moves.state.wanted;
    let Some(pause) = &mut moves.state.paused else { return };
    pause.cause = PauseCause::BothRecovered;
    pause.reason = format!(
        "both versions recovered after the weight went back to {back}: the release may hurt what both depend on; `resume` takes \
         step {} up again, `abort` ends it",
        pause.step + 1
    );
}
