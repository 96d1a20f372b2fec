//! Approval steps: who may say yes, how many must, and what a missing answer does.
//!
//! The weight stays where it was and the gates go on judging. Nothing goes past an approval but approvals: `promote`
//! stops before one. The author of a release is not its approver, wherever names are proven; on loopback they are only
//! claimed, so that rule would lock out whoever works alone and protect nobody.

use super::event::{Actor, Command, Voice};
use super::gate::judge;
use super::moves::Moves;
use super::silence::may_go_on;
use super::state::{Approval, EndingKind, Pause, PauseCause, Phase, Refusal};
use super::step::refused;
use crate::policy::plan::{ApprovalStep, OnFailure, Step};

/// A yes or a no. Of other commands nothing comes.
pub(super) fn answer(moves: &mut Moves<'_>, actor: &Actor, command: &Command) -> Result<(), Refusal> {
    match command {
        Command::Approve { person, reason, step, voice } => {
            in_time(moves, "approve", *step)?;
            approve(moves, actor, (person.as_deref(), voice), reason)
        }
        Command::Reject { person, reason, step } => {
            in_time(moves, "reject", *step)?;
            reject(moves, actor, person.as_deref(), reason)
        }
        _ => Ok(()),
    }
}

/// Whether people are asked about this step, and the time for it is not over: after a restart that is seen late.
fn in_time(moves: &Moves<'_>, verb: &str, asked: Option<usize>) -> Result<(), Refusal> {
    let (step, approval) = awaited(moves, verb)?;
    if asked.is_some_and(|asked| asked != step + 1) {
        return Err(refused(moves, verb, &format!("another approval is awaited now, at step {}", step + 1)));
    }
    match moves.state.phase {
        // Where enough have said yes and something holds it, time ends nothing, and a no still counts.
        Phase::AwaitingApproval { until, .. }
            if moves.state.paused.is_none() && moves.at() >= until && !is_given(moves) =>
        {
            Err(refused(moves, verb, &format!("the time for it, {}, is over", approval.timeout)))
        }
        _ => Ok(()),
    }
}

/// The approval that is awaited now.
fn awaited<'a>(moves: &Moves<'a>, verb: &str) -> Result<(usize, &'a ApprovalStep), Refusal> {
    let Phase::AwaitingApproval { step, .. } = moves.state.phase else {
        return Err(refused(moves, verb, "it awaits no approval now"));
    };
    match moves.plan.steps.get(step) {
        Some(Step::Approval(approval)) => Ok((step, approval)),
        Some(Step::Weight(_)) | None => Err(refused(moves, verb, "it awaits no approval now")),
    }
}

/// The name in which an actor speaks, when `from` has it.
fn speaker(
    moves: &Moves<'_>,
    verb: &str,
    approval: &ApprovalStep,
    actor: &Actor,
    person: Option<&str>,
) -> Result<String, Refusal> {
    let person = person.unwrap_or(&actor.name);
    if approval.from.iter().any(|name| name == person) {
        return Ok(person.to_owned());
    }
    let why = format!("`{person}` is not among those who may: {}", approval.from.join(", "));
    let hint = format!("one of them runs `tidegate rollout {verb} {} --person NAME`", moves.state.id);
    Err(Refusal { hint, ..refused(moves, verb, &why) })
}

fn approve(
    moves: &mut Moves<'_>,
    actor: &Actor,
    (person, voice): (Option<&str>, &Voice),
    reason: &str,
) -> Result<(), Refusal> {
    let (step, approval) = awaited(moves, "approve")?;
    let person = speaker(moves, "approve", approval, actor, person)?;
    if actor.is_proven() && (*actor == moves.state.started_by || is_author(moves, actor, voice)) {
        return Err(refused(moves, "approve", "whoever started a release does not approve it; ask somebody else"));
    }
    let at = moves.at();
    let approval_given = Approval { person, actor: actor.clone(), voice: voice.clone(), at, reason: reason.to_owned() };
    if let Some(before) = moves.state.approvals.iter().find(|given| are_one(given, &approval_given)) {
        return Err(refused(moves, "approve", &format!("`{}` has approved already", before.person)));
    }
    moves.state.approvals.push(approval_given);
    // While paused, frozen or held by silence or a gate the yes is kept; `resume`, or the first look that may, goes on
    // with it.
    if moves.state.paused.is_none() && is_complete(moves, approval) && is_free(moves) {
        moves.advance(step + 1);
    }
    Ok(())
}

/// Whether two approvals come from one person. A name counts once, but for a group's, in which each member may speak once.
fn are_one(one: &Approval, other: &Approval) -> bool {
    let in_groups = one.voice.member && other.voice.member;
    let in_a_group = one.voice.member || other.voice.member;
    meet(&one.voice.known_as, &other.voice.known_as)
        || in_a_group && one.actor == other.actor
        || !in_groups && one.person == other.person
}

/// Whether they are among those who started it, or the one that it is a retry of.
fn is_author(moves: &Moves<'_>, actor: &Actor, voice: &Voice) -> bool {
    let author = &moves.state.author;
    meet(&voice.known_as, author) || author.contains(&actor.to_string())
}

fn meet(some: &[String], others: &[String]) -> bool {
    some.iter().any(|name| others.contains(name))
}

fn is_free(moves: &Moves<'_>) -> bool {
    may_go_on(moves, &judge(moves.plan, &moves.state))
}

/// Whether everybody who is needed has said yes.
pub(super) fn is_given(moves: &Moves<'_>) -> bool {
    awaited(moves, "approve").is_ok_and(|(_, approval)| is_complete(moves, approval))
}

fn is_complete(moves: &Moves<'_>, approval: &ApprovalStep) -> bool {
    moves.state.approvals.len() >= approval.need as usize
}

fn reject(moves: &mut Moves<'_>, actor: &Actor, person: Option<&str>, reason: &str) -> Result<(), Refusal> {
    let (_, approval) = awaited(moves, "reject")?;
    let person = speaker(moves, "reject", approval, actor, person)?;
    let reason = if reason.is_empty() { "no reason given" } else { reason };
    moves.roll_back(EndingKind::RolledBack, format!("rejected by {person}: {reason}"));
    Ok(())
}

/// Resumes a wait for people whose weight was not touched; answers whether that was all there is to do. What was said
/// before the pause counts.
pub(super) fn resume(moves: &mut Moves<'_>, pause: &Pause) -> bool {
    let touched = match pause.cause {
        PauseCause::Person | PauseCause::ApprovalTimeout | PauseCause::GateFailed => moves.state.is_withdrawn(),
        PauseCause::Drift
        | PauseCause::NoData
        | PauseCause::Budget
        | PauseCause::VerifyTimeout
        | PauseCause::BothFail
        | PauseCause::BothRecovered => true,
    };
    let Ok((step, approval)) = awaited(moves, "resume") else { return false };
    if touched {
        return false;
    }
    moves.state.paused = None;
    if is_complete(moves, approval) && is_free(moves) {
        moves.shift_to(step + 1);
        return true;
    }
    let until = moves.at().plus(approval.timeout);
    moves.phase(Phase::AwaitingApproval { step, until });
    true
}

/// The approval that a `promote` would pass over, in words.
pub(super) fn in_the_way(moves: &Moves<'_>, step: usize, full: bool) -> Option<String> {
    let awaits = matches!(moves.state.phase, Phase::AwaitingApproval { .. });
    if awaits && !is_given(moves) {
        return Some("it awaits approval: `approve` or `reject` it".to_owned());
    }
    // Its own is given, and silence or a gate holds it: that is a person's to overrule, as anywhere else.
    let from = step + usize::from(awaits);
    let skipped = moves.plan.steps.iter().skip(from).position(|step| matches!(step, Step::Approval(_)));
    let number = skipped.filter(|_| full).map(|skipped| from + skipped + 1)?;
    Some(format!("`--full` would pass over the approval at step {number}; take the steps one by one"))
}

pub(super) fn on_timeout(moves: &mut Moves<'_>, step: usize) {
    let Some(Step::Approval(approval)) = moves.plan.steps.get(step) else { return };
    let given = moves.state.approvals.len();
    let reason = format!("{given} of {} approvals within {}", approval.need, approval.timeout);
    match approval.on_timeout {
        OnFailure::Rollback => moves.roll_back(EndingKind::RolledBack, reason),
        OnFailure::Pause => moves.pause(step, PauseCause::ApprovalTimeout, reason),
    }
}
