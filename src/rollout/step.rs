//! The transition function: one input, one new state. Sync, total, no I/O.

use super::approval;
use super::event::{Actor, Command, Event, Input, Outcome};
use super::failure::{self, verdict_ends_it};
use super::freeze;
use super::gate::{self, Judgement, judge, weight_step};
use super::incident;
use super::moves::Moves;
use super::observe;
use super::preview;
use super::silence::{is_silent, may_go_on, silence_withdraws};
use super::state::{EndingKind, Next, PauseCause, Phase, Refusal, State, Written};
use super::workload;
use crate::base::fault::{Fault, FaultKind};
use crate::base::weight::Percent;
use crate::judge::verdict::Verdict;
use crate::policy::plan::{OnInconclusive, OnVerifyTimeout, Plan};

/// Moves a rollout on by one input.
#[must_use]
pub fn step(plan: &Plan, state: &State, input: &Input) -> Next {
    let mut moves = Moves::new(plan, state, input);
    match &input.event {
        Event::Command { command, actor } => {
            if let Err(refusal) = on_command(&mut moves, command, actor) {
                return Next::Refused(refusal);
            }
        }
        Event::Settled { .. } | Event::Observed(_) | Event::Tick if state.is_finished() => {
            return Next::Ignored("it has ended");
        }
        Event::Settled { effect, outcome } => {
            if !moves.state.waits_for(effect) {
                return Next::Ignored("settles nothing that is pending");
            }
            match moves.state.pending.remove(effect) {
                Some(_) => on_settled(&mut moves, outcome),
                None if effect.n == preview::N => preview::on_settled(&mut moves, outcome),
                None => workload::on_settled(&mut moves, outcome),
            }
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

fn on_command(moves: &mut Moves<'_>, command: &Command, actor: &Actor) -> Result<(), Refusal> {
    let (verb, by) = (command.verb(), actor.name.as_str());
    match (command, moves.state.step_index()) {
        (Command::Start(_), _) => Err(refused(moves, verb, "it has started already")),
        (Command::Abort { reason }, at_step) => abort(moves, at_step, by, reason),
        (Command::MakeWay, _) => workload::make_way(moves),
        (Command::Supersede { by }, at_step) => supersede(moves, at_step, by),
        (_, None) => Err(refused(moves, verb, &ended_text(&moves.state))),
        (Command::Freeze { reason }, Some(_)) => freeze::freeze(moves, reason, actor),
        (Command::Thaw, Some(_)) => freeze::thaw(moves),
        (Command::Pause { reason }, Some(step)) => pause(moves, step, by, reason),
        (Command::Resume, Some(_)) => resume(moves),
        (Command::Promote { full, reason }, Some(step)) => promote(moves, step, *full, reason),
        (command @ (Command::Approve { .. } | Command::Reject { .. }), Some(_)) => {
            approval::answer(moves, actor, command)
        }
    }
}

pub(super) fn refused(moves: &Moves<'_>, verb: &str, why: &str) -> Refusal {
    let hint = if moves.state.is_finished() {
        format!("`tidegate rollout start {}` starts another", moves.plan.name)
    } else {
        format!("`tidegate rollout get {}` shows where it stands", moves.state.id)
    };
    Refusal { message: format!("cannot {verb} rollout {} of {}: {why}", moves.state.id, moves.plan.name), hint }
}

fn ended_text(state: &State) -> String {
    match &state.ending {
        Some(ending) if state.is_finished() => format!("it has ended ({})", ending.reason),
        Some(ending) => format!("its end is decided ({})", ending.reason),
        None => "it has ended".to_owned(),
    }
}

/// Weight 0 now. Refused only where that is done or under way: writing it anew would break off the write that is.
fn abort(moves: &mut Moves<'_>, at_step: Option<usize>, by: &str, reason: &str) -> Result<(), Refusal> {
    if let Phase::Cleaning { tries: 1.., .. } = moves.state.phase {
        let why = format!("{}, and what has no traffic is being scaled in", ended_text(&moves.state));
        return Err(refused(moves, "abort", &why));
    }
    if at_step.is_some() || promoted_but_not_finished(&moves.state) {
        moves.roll_back(EndingKind::Aborted, format!("aborted by {by}: {reason}"));
        return Ok(());
    }
    match moves.state.phase {
        // Somebody may just have mended what stood in the way. How it ends was decided before.
        Phase::Stuck { .. } => {
            moves.write_zero();
            Ok(())
        }
        Phase::RollingBack { .. } | Phase::Holding { .. } | Phase::Cleaning { .. } => {
            let why = format!("{}, and the weight is being set to 0", ended_text(&moves.state));
            Err(refused(moves, "abort", &why))
        }
        Phase::Deploying { .. }
        | Phase::Previewing { .. }
        | Phase::Shifting { .. }
        | Phase::Verifying { .. }
        | Phase::Baking { .. }
        | Phase::Judging { .. }
        | Phase::AwaitingApproval { .. }
        | Phase::Succeeded
        | Phase::RolledBack
        | Phase::Aborted
        | Phase::Superseded => Err(refused(moves, "abort", &ended_text(&moves.state))),
    }
}

/// A newer release is to take its place: weight 0 now. One whose end is decided comes to it by itself, and one that has
/// all the traffic has been proven on the way there: both are let finish.
fn supersede(moves: &mut Moves<'_>, at_step: Option<usize>, by: &str) -> Result<(), Refusal> {
    if at_step.is_none() {
        return Err(refused(moves, "supersede", &ended_text(&moves.state)));
    }
    if moves.state.wanted == Percent::FULL {
        return Err(refused(moves, "supersede", "it has all the traffic and is let finish"));
    }
    moves.roll_back(EndingKind::Superseded, format!("superseded by {by}"));
    Ok(())
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
    freeze::refuses(moves, "resume")?;
    incident::refuses(moves, "resume", false)?;
    // Counts that came since may have turned the verdict.
    if pause.cause == PauseCause::GateFailed && judge(moves.plan, &moves.state).fails() {
        let why = "its gates still fail; `abort` it, or `promote --full` it with a reason";
        return Err(refused(moves, "resume", why));
    }
    if let Phase::Deploying { step, .. } = moves.state.phase {
        workload::resume(moves, step);
        return Ok(());
    }
    if let Phase::Previewing { step, .. } = moves.state.phase {
        preview::resume(moves, step);
        return Ok(());
    }
    if pause.cause == PauseCause::Budget {
        moves.state.budget_grants += 1;
    }
    if approval::resume(moves, &pause) {
        return Ok(());
    }
    // Written anew whatever it was, so that a drifted route is put right as well.
    moves.take_up(pause.step);
    Ok(())
}

fn promote(moves: &mut Moves<'_>, step: usize, full: bool, reason: &str) -> Result<(), Refusal> {
    if reason.trim().is_empty() {
        let why = "taking a step by hand needs a reason: add `--reason TEXT`";
        return Err(refused(moves, "promote", why));
    }
    freeze::refuses(moves, "promote")?;
    incident::refuses(moves, "promote", full)?;
    if let Phase::Deploying { .. } = moves.state.phase {
        let why = match moves.state.wanted {
            Percent::ZERO => "its release is not up yet, and traffic would reach nothing",
            _ => "it is on its way to the next step, for which its instances are not up yet",
        };
        return Err(refused(moves, "promote", why));
    }
    if let Some(why) = approval::in_the_way(moves, step, full) {
        return Err(refused(moves, "promote", &why));
    }
    let failure = judge(moves.plan, &moves.state).action();
    if !full && failure.is_some_and(|action| !failure::is_overruled(&moves.state, action)) {
        let why = if preview::is_on(&moves.state) {
            "its gates fail; `resume` it once what they ask about is mended, `abort` it, or take the risk with `--full`, which \
             gives it all the traffic"
        } else {
            "its gates fail, so the next step would fail too; `abort` it, or take the risk with `--full`"
        };
        return Err(refused(moves, "promote", why));
    }
    failure::overrule(moves, failure);
    if has_pause(moves, PauseCause::Budget) {
        moves.state.budget_grants += 1;
    }
    let last = moves.plan.steps.len().saturating_sub(1);
    if preview::is_on(&moves.state) {
        return preview::promote(moves, (step, if full { last } else { step }));
    }
    moves.shift_to(if full { last } else { step + 1 });
    Ok(())
}

/// All the traffic moved and stable still runs: an abort is one write.
fn promoted_but_not_finished(state: &State) -> bool {
    let promoted = state.ending.as_ref().is_some_and(|ending| ending.kind == EndingKind::Succeeded);
    promoted && !state.is_finished()
}

// === settled effects ===

fn on_settled(moves: &mut Moves<'_>, outcome: &Outcome) {
    match outcome {
        Outcome::Applied { version } => {
            moves.state.written = Some(Written { version: *version, at: moves.at() });
            on_applied(moves);
        }
        Outcome::Failed(fault) => on_failed(moves, fault),
        // These end other effects.
        Outcome::Deployed(_) | Outcome::Retired | Outcome::PreviewOpened | Outcome::PreviewClosed => {}
    }
}

fn on_applied(moves: &mut Moves<'_>) {
    match moves.state.phase {
        Phase::Shifting { step, .. } => {
            let until = moves.at().plus(moves.plan.verify.timeout);
            moves.phase(Phase::Verifying { step, until });
        }
        Phase::RollingBack { .. } | Phase::Stuck { .. } | Phase::Holding { .. } => moves.hold(),
        // Somebody's early weight was put back.
        Phase::Deploying { .. } | Phase::Previewing { .. } => {}
        // Nothing is pending in these.
        Phase::Verifying { .. } | Phase::Baking { .. } | Phase::Judging { .. } | Phase::AwaitingApproval { .. } => {}
        Phase::Cleaning { .. } | Phase::Succeeded | Phase::RolledBack | Phase::Aborted | Phase::Superseded => {}
    }
}

fn on_failed(moves: &mut Moves<'_>, fault: &Fault) {
    let passing = fault.kind != FaultKind::Permanent;
    match moves.state.phase {
        // Silence is no verdict, and a mesh that does not answer either does not make it one.
        Phase::Shifting { step, .. } if passing && moves.state.is_withdrawn() => {
            moves.state.trouble = Some(format!("writing weight 0 failed and is tried again: {}", fault.message));
            moves.write_withdrawal(step);
        }
        // It waits for a person, or is about to: `resume` writes it anew.
        Phase::Shifting { step, until }
            if passing && (moves.at() >= until || has_pause(moves, PauseCause::VerifyTimeout)) =>
        {
            // Paused, it stands like a step that is written and not seen in force: a write that lands late is found.
            moves.phase(Phase::Verifying { step, until });
            moves.not_in_force(step, unset(moves.plan, step));
            let trouble = format!("setting the weights of step {} failed: {}", step + 1, fault.message);
            moves.state.trouble = Some(trouble);
        }
        // Nor does it make a release bad: tried again for as long as the step may take to be in force.
        Phase::Shifting { step, until } if passing => {
            let trouble =
                format!("setting the weights of step {} failed and is tried again: {}", step + 1, fault.message);
            moves.state.trouble = Some(trouble);
            moves.write_step_again(step, until);
        }
        // The next reading shows whether that is still needed.
        Phase::Deploying { .. } | Phase::Previewing { .. } if passing => {
            let wanted = moves.state.wanted;
            moves.state.trouble = Some(format!("putting the canary back to {wanted} failed: {}", fault.message));
        }
        Phase::Deploying { step, .. }
        | Phase::Previewing { step, .. }
        | Phase::Shifting { step, .. }
        | Phase::Verifying { step, .. }
        | Phase::Baking { step, .. }
        | Phase::Judging { step, .. }
        | Phase::AwaitingApproval { step, .. } => {
            let reason = format!("the weights of step {} could not be set: {}", step + 1, fault.message);
            moves.roll_back(EndingKind::RolledBack, reason);
        }
        Phase::RollingBack { .. } | Phase::Stuck { .. } if passing => {
            moves.state.trouble = Some(format!("writing weight 0 failed and is tried again: {}", fault.message));
            moves.write_zero();
        }
        // The next reading shows whether the weights are in force all the same.
        Phase::Holding { .. } if passing => {
            moves.state.trouble = Some(format!("writing the end's weights failed: {}", fault.message));
            moves.hold();
        }
        Phase::RollingBack { .. } | Phase::Stuck { .. } | Phase::Holding { .. } => moves.stuck(fault.clone()),
        Phase::Cleaning { .. } | Phase::Succeeded | Phase::RolledBack | Phase::Aborted | Phase::Superseded => {}
    }
}

// === deadlines and decisions ===

/// Whatever is due now, by the clock or by the evidence.
fn on_due(moves: &mut Moves<'_>) {
    if let Some(step) = moves.state.step_index() {
        return on_step_due(moves, step);
    }
    let now = moves.at();
    match moves.state.phase {
        Phase::RollingBack { until } if now >= until => moves.write_zero(),
        Phase::Stuck { until, .. } if now >= until => moves.write_end_again(),
        Phase::Holding { until } if moves.hold_is_stalled(until) => moves.write_end_again(),
        // Time alone ends nothing: `observe` does, by a reading.
        Phase::Holding { .. }
        | Phase::Cleaning { .. }
        | Phase::Deploying { .. }
        | Phase::Previewing { .. }
        | Phase::Shifting { .. }
        | Phase::Verifying { .. }
        | Phase::Baking { .. }
        | Phase::Judging { .. }
        | Phase::AwaitingApproval { .. }
        | Phase::RollingBack { .. }
        | Phase::Stuck { .. }
        | Phase::Succeeded
        | Phase::RolledBack
        | Phase::Aborted
        | Phase::Superseded => {}
    }
}

/// At a step. The verdict against the release comes first.
fn on_step_due(moves: &mut Moves<'_>, step: usize) {
    if let Phase::Deploying { until, .. } = moves.state.phase
        && moves.state.is_first_deployed()
    {
        // Nothing is there to be judged yet.
        if !total_time_is_over(moves) {
            workload::on_due(moves, until);
        }
        return;
    }
    if let Phase::Previewing { until, .. } = moves.state.phase {
        return preview::on_due(moves, step, until);
    }
    let judgement = judge(moves.plan, &moves.state);
    if verdict_ends_it(moves, step, &judgement) || total_time_is_over(moves) {
        return;
    }
    // Told once: the text stays the same as long as the trouble does.
    moves.state.trouble = judgement.page().or_else(|| moves.state.trouble.take());
    budget_withdraws(moves, step, &judgement);
    silence_withdraws(moves, step);
    incident::on_due(moves, step);
    let (now, paused) = (moves.at(), moves.state.paused.is_some());
    match moves.state.phase {
        Phase::Shifting { step, until } if now >= until && moves.state.is_withdrawn() => moves.write_withdrawal(step),
        Phase::Shifting { step, until }
            if now >= until && (!paused || moves.plan.verify.on_timeout == OnVerifyTimeout::Rollback) =>
        {
            moves.not_in_force(step, unset(moves.plan, step));
        }
        Phase::Verifying { step, until } if now >= until && !paused => on_unverified(moves, step),
        Phase::Baking { step, until } if now >= until && !paused => on_baked(moves, step, &judgement),
        Phase::Judging { step, until } if !paused => on_judging(moves, step, now >= until, &judgement),
        // Said while it was frozen or held.
        Phase::AwaitingApproval { step, .. } if !paused && approval::is_given(moves) => {
            if may_go_on(moves, &judgement) {
                moves.advance(step + 1);
            }
        }
        Phase::AwaitingApproval { step, until } if now >= until && !paused => approval::on_timeout(moves, step),
        // More traffic waits for more instances, and for what any advance waits for.
        Phase::Deploying { until, .. } if may_go_on(moves, &judgement) => workload::on_due(moves, until),
        Phase::Deploying { .. }
        | Phase::Previewing { .. }
        | Phase::Shifting { .. }
        | Phase::Verifying { .. }
        | Phase::Baking { .. }
        | Phase::Judging { .. }
        | Phase::AwaitingApproval { .. }
        | Phase::RollingBack { .. }
        | Phase::Stuck { .. }
        | Phase::Holding { .. }
        | Phase::Cleaning { .. }
        | Phase::Succeeded
        | Phase::RolledBack
        | Phase::Aborted
        | Phase::Superseded => {}
    }
}

/// Failures that may be charged to the release are used up: weight 0, paused, no verdict.
fn budget_withdraws(moves: &mut Moves<'_>, step: usize, judgement: &Judgement) {
    let known = has_pause(moves, PauseCause::Budget)
        || has_pause(moves, PauseCause::GateFailed) && moves.state.wanted == Percent::ZERO;
    if known || is_full(moves, step) || !judgement.budget_spent {
        return;
    }
    let failed = moves.plan.blast_radius.failed_requests;
    let reason =
        format!("budget spent: {failed} failed requests beyond stable's rate; this is no verdict on the release");
    moves.withdraw(step, PauseCause::Budget, reason);
}

/// Whether all the traffic is on the canary, or on its way there.
pub(super) fn is_full(moves: &Moves<'_>, step: usize) -> bool {
    !matches!(moves.state.phase, Phase::Deploying { .. }) && gate::is_full(moves.plan, step)
}

/// Why a step is not in force whose weights could not be written.
fn unset(plan: &Plan, step: usize) -> String {
    format!("the weights of step {} were not set within {}", step + 1, plan.verify.timeout)
}

pub(super) fn has_pause(moves: &Moves<'_>, cause: PauseCause) -> bool {
    moves.state.paused.as_ref().is_some_and(|pause| pause.cause == cause)
}

pub(super) fn total_time_is_over(moves: &mut Moves<'_>) -> bool {
    let over = moves.at() >= moves.state.started_at.plus(moves.plan.max_total);
    if over {
        let reason = format!("not finished within max_total {}", moves.plan.max_total);
        moves.roll_back(EndingKind::RolledBack, reason);
    }
    over
}

fn on_unverified(moves: &mut Moves<'_>, step: usize) {
    let reason = format!("step {} was not seen in force within {}", step + 1, moves.plan.verify.timeout);
    moves.not_in_force(step, reason);
}

fn on_baked(moves: &mut Moves<'_>, step: usize, judgement: &Judgement) {
    let Some(wanted) = weight_step(moves.plan, step).filter(|wanted| wanted.weight != Percent::FULL) else {
        if may_go_on(moves, judgement) {
            moves.finish_well();
        }
        return;
    };
    let until = moves.state.phase_since.plus(wanted.max);
    moves.phase(Phase::Judging { step, until });
    on_judging(moves, step, moves.at() >= until, judgement);
}

fn on_judging(moves: &mut Moves<'_>, step: usize, over: bool, judgement: &Judgement) {
    // "Silence never advances" stands over everything below, and it is no verdict either. Nor is a limit that is breached
    // by no known fault of the release.
    if is_silent(moves) || judgement.holds() {
        return;
    }
    if judgement.proven() {
        return moves.advance(step + 1);
    }
    if !over {
        return;
    }
    match gate::on_inconclusive(moves.plan, step) {
        OnInconclusive::Hold => {}
        // It is for thin data, not for none.
        OnInconclusive::Advance if judgement.verdict == Verdict::NoData => {}
        OnInconclusive::Advance => moves.advance(step + 1),
        OnInconclusive::Rollback => {
            let reason = format!("step {} was still inconclusive at the end of its longest stay", step + 1);
            moves.roll_back(EndingKind::RolledBack, reason);
        }
    }
}
