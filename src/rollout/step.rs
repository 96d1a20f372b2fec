//! The transition function: one input, one new state. Sync, total, no I/O.

use super::effect::EffectId;
use super::event::{Command, Event, Input, Outcome};
use super::gate::{self, judge, weight_step};
use super::moves::Moves;
use super::observe;
use super::state::{EndingKind, Next, PauseCause, Phase, Refusal, State};
use crate::base::fault::{Fault, FaultKind};
use crate::base::time::Timestamp;
use crate::base::weight::Percent;
use crate::policy::plan::{OnFailure, OnInconclusive, OnVerifyTimeout, Plan};

/// Moves a rollout on by one input.
#[must_use]
pub fn step(plan: &Plan, state: &State, input: &Input) -> Next {
    let mut moves = Moves::new(plan, state, input);
    match &input.event {
        Event::Command { command, actor } => {
            if let Err(refusal) = on_command(&mut moves, command, &actor.name) {
                return Next::Refused(refusal);
            }
        }
        Event::Settled { effect, outcome } => {
            if moves.state.pending.remove(effect).is_none() {
                return Next::Ignored("settles nothing that is pending");
            }
            on_settled(&mut moves, effect, outcome);
        }
        Event::Observed(observation) => {
            observe::take_in(&mut moves, observation);
            on_due(&mut moves);
        }
        Event::Tick => on_due(&mut moves),
    }
    moves.done(state)
}

// === commands ===

fn on_command(moves: &mut Moves<'_>, command: &Command, by: &str) -> Result<(), Refusal> {
    let verb = command.verb();
    let at_step = moves.state.step_index();
    match (command, at_step) {
        (Command::Start(_), _) => Err(refused(moves, verb, "it has started already")),
        (Command::Abort { reason }, None) if promoted_but_not_finished(&moves.state) => {
            moves.roll_back(EndingKind::Aborted, format!("aborted by {by}: {reason}"));
            Ok(())
        }
        (_, None) => Err(refused(moves, verb, &ended_text(&moves.state))),
        (Command::Abort { reason }, Some(_)) => {
            moves.roll_back(EndingKind::Aborted, format!("aborted by {by}: {reason}"));
            Ok(())
        }
        (Command::Pause { reason }, Some(step)) => pause(moves, step, by, reason),
        (Command::Resume, Some(_)) => resume(moves),
        (Command::Promote { full, .. }, Some(step)) => promote(moves, step, *full),
    }
}

fn refused(moves: &Moves<'_>, verb: &str, why: &str) -> Refusal {
    Refusal {
        message: format!("cannot {verb} rollout {} of {}: {why}", moves.state.id, moves.plan.name),
        hint: format!("`tidegate rollout get {}` shows where it stands", moves.state.id),
    }
}

fn ended_text(state: &State) -> String {
    match &state.ending {
        Some(ending) => format!("its end is decided ({})", ending.reason),
        None => "it has ended".to_owned(),
    }
}

fn pause(moves: &mut Moves<'_>, step: usize, by: &str, reason: &str) -> Result<(), Refusal> {
    if let Some(pause) = &moves.state.paused
        && pause.cause != PauseCause::NoData
    {
        return Err(refused(moves, "pause", &format!("it is paused already ({})", pause.reason)));
    }
    moves.pause(step, PauseCause::Person, format!("paused by {by}: {reason}"));
    Ok(())
}

fn resume(moves: &mut Moves<'_>) -> Result<(), Refusal> {
    let Some(pause) = moves.state.paused.clone() else {
        return Err(refused(moves, "resume", "it is not paused"));
    };
    if pause.cause == PauseCause::GateFailed {
        let why = "its gates still fail; `abort` it, or `promote --full` it with a reason";
        return Err(refused(moves, "resume", why));
    }
    if pause.cause == PauseCause::Budget {
        moves.state.budget_grants += 1;
    }
    // Written anew whatever it was, so that a drifted route is put right as well.
    moves.shift_to(pause.step);
    Ok(())
}

fn promote(moves: &mut Moves<'_>, step: usize, full: bool) -> Result<(), Refusal> {
    if has_pause(moves, PauseCause::GateFailed) && !full {
        let why = "its gates fail, so the next step would fail too; `abort` it, or take the risk with `--full`";
        return Err(refused(moves, "promote", why));
    }
    let last = moves.plan.steps.len() - 1;
    moves.shift_to(if full { last } else { step + 1 });
    Ok(())
}

/// All the traffic moved, stable still runs: the last moment at which an abort is one write.
fn promoted_but_not_finished(state: &State) -> bool {
    let promoted = state.ending.as_ref().is_some_and(|ending| ending.kind == EndingKind::Succeeded);
    promoted && !state.is_finished()
}

// === settled effects ===

fn on_settled(moves: &mut Moves<'_>, _effect: &EffectId, outcome: &Outcome) {
    match outcome {
        Outcome::Applied { .. } => on_applied(moves),
        Outcome::Failed(fault) => on_failed(moves, fault),
    }
}

fn on_applied(moves: &mut Moves<'_>) {
    match moves.state.phase {
        Phase::Shifting { step, .. } => {
            let until = moves.at().plus(moves.plan.verify.timeout);
            moves.phase(Phase::Verifying { step, until });
        }
        Phase::RollingBack { .. } | Phase::Stuck { .. } | Phase::Holding { .. } => moves.hold(),
        // Put back after drift: the step goes on.
        Phase::Verifying { .. } | Phase::Baking { .. } | Phase::Judging { .. } => {}
        Phase::Succeeded | Phase::RolledBack | Phase::Aborted => {}
    }
}

fn on_failed(moves: &mut Moves<'_>, fault: &Fault) {
    match moves.state.phase {
        Phase::Shifting { step, .. } | Phase::Verifying { step, .. } => {
            let reason = format!("the weights of step {} could not be set: {}", step + 1, fault.message);
            moves.roll_back(EndingKind::RolledBack, reason);
        }
        Phase::Baking { .. } | Phase::Judging { .. } => {
            let reason = format!("a changed route could not be put back: {}", fault.message);
            moves.roll_back(EndingKind::RolledBack, reason);
        }
        Phase::RollingBack { .. } | Phase::Stuck { .. } => match fault.kind {
            FaultKind::Permanent => moves.stuck(fault.clone()),
            FaultKind::Transient | FaultKind::Unknown => {
                moves.state.trouble = Some(format!("weight 0 not confirmed yet: {}", fault.message));
                moves.write_zero();
            }
        },
        // The weights were in force before; a failed put-back shows as a difference at the next reading.
        Phase::Holding { .. } => moves.hold(),
        Phase::Succeeded | Phase::RolledBack | Phase::Aborted => {}
    }
}

// === deadlines and decisions ===

/// Whatever is due now, by the clock or by the evidence. The verdict against the release comes first.
fn on_due(moves: &mut Moves<'_>) {
    let now = moves.at();
    if let Some(step) = moves.state.step_index()
        && (verdict_ends_it(moves, step) || total_time_is_over(moves) || silence_withdraws(moves, step))
    {
        return;
    }
    match moves.state.phase {
        Phase::Shifting { step, until } if now >= until => {
            let reason = format!("the weights of step {} were not set within {}", step + 1, moves.plan.verify.timeout);
            moves.roll_back(EndingKind::RolledBack, reason);
        }
        Phase::Verifying { step, until } if now >= until => on_unverified(moves, step),
        Phase::Baking { step, until } if now >= until && moves.state.paused.is_none() => on_baked(moves, step),
        Phase::Judging { step, until } if moves.state.paused.is_none() => on_judging(moves, step, now >= until),
        Phase::RollingBack { until } | Phase::Stuck { until, .. } if now >= until => moves.write_zero(),
        Phase::Holding { until, confirmed } if now >= until => match confirmed {
            true => moves.end(),
            // Nobody could say that the weights stayed: an end that was not seen is none.
            false => moves.hold(),
        },
        Phase::Shifting { .. }
        | Phase::Verifying { .. }
        | Phase::Baking { .. }
        | Phase::Judging { .. }
        | Phase::RollingBack { .. }
        | Phase::Stuck { .. }
        | Phase::Holding { .. }
        | Phase::Succeeded
        | Phase::RolledBack
        | Phase::Aborted => {}
    }
}

fn verdict_ends_it(moves: &mut Moves<'_>, step: usize) -> bool {
    if gate::is_full(moves.plan, step) {
        return false;
    }
    let judgement = judge(moves.plan, &moves.state);
    if judgement.fails() {
        let reason = judgement.sentence();
        match moves.plan.on_failure {
            OnFailure::Rollback => moves.roll_back(EndingKind::RolledBack, reason),
            OnFailure::Pause if has_pause(moves, PauseCause::GateFailed) => return false,
            OnFailure::Pause => moves.pause(step, PauseCause::GateFailed, reason),
        }
        return true;
    }
    if judgement.budget_spent && !has_pause(moves, PauseCause::Budget) {
        let reason = format!(
            "budget spent: {} failed requests beyond stable's rate; this is no verdict on the release",
            moves.plan.blast_radius.failed_requests
        );
        moves.withdraw(step, PauseCause::Budget, reason);
        return true;
    }
    false
}

fn has_pause(moves: &Moves<'_>, cause: PauseCause) -> bool {
    moves.state.paused.as_ref().is_some_and(|pause| pause.cause == cause)
}

fn total_time_is_over(moves: &mut Moves<'_>) -> bool {
    let over = moves.at() >= moves.state.started_at.plus(moves.plan.max_total);
    if over {
        let reason = format!("not finished within max_total {}", moves.plan.max_total);
        moves.roll_back(EndingKind::RolledBack, reason);
    }
    over
}

/// Live telemetry silent for `withdraw_after` while the canary has weight: weight 0, paused, no verdict.
fn silence_withdraws(moves: &mut Moves<'_>, step: usize) -> bool {
    let silence = moves.at().since(moves.state.last_live_at);
    let exposed = moves.state.wanted > Percent::ZERO && !gate::is_full(moves.plan, step);
    if !exposed || silence < moves.plan.no_data.withdraw_after {
        return false;
    }
    let reason = format!("no report from the data plane for {silence}; resumes by itself when reports come again");
    moves.withdraw(step, PauseCause::NoData, reason);
    true
}

fn on_unverified(moves: &mut Moves<'_>, step: usize) {
    let reason = format!("step {} was not seen in force within {}", step + 1, moves.plan.verify.timeout);
    if moves.state.paused.is_some() {
        return;
    }
    match moves.plan.verify.on_timeout {
        OnVerifyTimeout::Rollback => moves.roll_back(EndingKind::RolledBack, reason),
        OnVerifyTimeout::Pause => moves.pause(step, PauseCause::VerifyTimeout, reason),
    }
}

fn on_baked(moves: &mut Moves<'_>, step: usize) {
    let Some(wanted) = weight_step(moves.plan, step) else { return moves.finish_well() };
    if wanted.weight == Percent::FULL {
        return moves.finish_well();
    }
    let until = moves.state.phase_since.plus(wanted.max);
    moves.phase(Phase::Judging { step, until });
    on_judging(moves, step, moves.at() >= until);
}

fn on_judging(moves: &mut Moves<'_>, step: usize, over: bool) {
    let silent = moves.at().since(moves.state.last_live_at) >= moves.plan.no_data.hold_after;
    let proven = judge(moves.plan, &moves.state).proven();
    if proven && !silent {
        return moves.shift_to(step + 1);
    }
    if !over {
        return;
    }
    match gate::on_inconclusive(moves.plan, step) {
        OnInconclusive::Hold => {}
        // "Silence never advances" stands over `advance`: that one is for thin data, not for none.
        OnInconclusive::Advance if silent => {}
        OnInconclusive::Advance => moves.shift_to(step + 1),
        OnInconclusive::Rollback => {
            let reason = format!("step {} was still inconclusive at the end of its longest stay", step + 1);
            moves.roll_back(EndingKind::RolledBack, reason);
        }
    }
}

/// The instant at which `phase` needs attention by itself; used by `deadline`.
pub(super) const fn due_at(phase: &Phase) -> Option<Timestamp> {
    match phase {
        Phase::Shifting { until, .. }
        | Phase::Verifying { until, .. }
        | Phase::Baking { until, .. }
        | Phase::Judging { until, .. }
        | Phase::RollingBack { until }
        | Phase::Stuck { until, .. }
        | Phase::Holding { until, .. } => Some(*until),
        Phase::Succeeded | Phase::RolledBack | Phase::Aborted => None,
    }
}
