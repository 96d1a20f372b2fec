//! What a failing verdict does: the gates that fail ask to roll back or to pause, and a person may overrule them.

use super::gate::Judgement;
use super::moves::Moves;
use super::state::{EndingKind, PauseCause, State};
use super::step::has_pause;
use crate::policy::plan::OnFailure;

/// Whether the gates decided its end. At 100 % absolute gates go on, and nothing more is counted for comparison; but what
/// was counted below and arrives late still speaks: the last second before 100 is judged too.
///
/// A gate of `pause` never ends it, and does not keep one of `rollback` from ending it later.
pub(super) fn verdict_ends_it(moves: &mut Moves<'_>, step: usize, judgement: &Judgement) -> bool {
    let Some(action) = judgement.action().filter(|action| !is_overruled(&moves.state, *action)) else { return false };
    let reason = judgement.sentence();
    match action {
        OnFailure::Rollback => moves.roll_back(EndingKind::RolledBack, reason),
        OnFailure::Pause if has_pause(moves, PauseCause::GateFailed) => {}
        OnFailure::Pause => moves.pause(step, PauseCause::GateFailed, reason),
    }
    action == OnFailure::Rollback
}

/// Whether a person took the risk of this.
pub(super) fn is_overruled(state: &State, action: OnFailure) -> bool {
    state.overruled || state.pauses_overruled && action == OnFailure::Pause
}

/// A person takes the step against what fails. Whoever overrules gates that only pause has not overruled those that would
/// roll back; where none would, that is all of them.
pub(super) fn overrule(moves: &mut Moves<'_>, failure: Option<OnFailure>) {
    let critical = OnFailure::Rollback;
    let rolls_back = moves.plan.on_failure == critical
        || moves.plan.gates.iter().any(|gate| !gate.dry_run && gate.on_failure == Some(critical));
    match failure {
        Some(OnFailure::Pause) if rolls_back => moves.state.pauses_overruled = true,
        Some(_) => moves.state.overruled = true,
        None => {}
    }
}
