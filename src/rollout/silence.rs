//! Silence: what it takes away, and what it holds back. It is never a verdict.

use super::gate::Judgement;
use super::moves::Moves;
use super::state::PauseCause;
use super::step::is_full;
use crate::base::weight::Percent;

/// Live telemetry silent or unusable for `withdraw_after` while the canary has weight: weight 0, paused, no verdict.
pub(super) fn silence_withdraws(moves: &mut Moves<'_>, step: usize) {
    let silence = moves.at().since(moves.state.last_live_at);
    let exposed = moves.state.wanted > Percent::ZERO && !is_full(moves, step);
    if !exposed || silence < moves.plan.no_data.withdraw_after {
        return;
    }
    let reason = match &moves.state.unusable {
        None => format!("no report from the data plane for {silence}; resumes by itself when reports come again"),
        Some(unusable) => unusable.unheard_for(silence),
    };
    moves.withdraw(step, PauseCause::NoData, reason);
}

pub(super) fn is_silent(moves: &Moves<'_>) -> bool {
    moves.at().since(moves.state.last_live_at) >= moves.plan.no_data.hold_after
}

/// Whether neither silence nor a gate holds it where it is. A plan without gates does not listen in the first place, and
/// before the canary has any weight nobody needs to.
pub(super) fn may_go_on(moves: &Moves<'_>, judgement: &Judgement) -> bool {
    let is_watched = !moves.plan.gates.is_empty() && moves.state.wanted > Percent::ZERO;
    !is_watched || !is_silent(moves) && !judgement.holds()
}
