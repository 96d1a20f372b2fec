//! The release's way into the canary's slot, and the retirement of the slot that is left without traffic.
//!
//! Nothing of it stands in the way of the safe direction: a rollback never waits for instances, and a slot is retired
//! only after a reading of the route has shown it without weight.

use super::effect::{Deployment, Effect, EffectId, Retirement};
use super::event::{Deployed, Outcome, RouteReading, Standing, WorkloadReading};
use super::gate::weight_step;
use super::moves::Moves;
use super::state::{EndingKind, Pause, PauseCause, Phase, Refusal, Release, State};
use super::step::refused;
use crate::base::fault::{Fault, FaultKind};
use crate::base::time::{Millis, Timestamp};
use crate::base::weight::{Percent, Slot};
use crate::policy::plan::{OnFailure, Plan, Workload};

/// From weight 0 being settled to the canary's retirement. Its requests under way, and those that proxies still send by
/// connections of before, come to their end meanwhile; the runtime's own stop timeout follows.
const DRAIN: Millis = Millis::from_seconds(10);
/// A retirement that shows no effect is asked for again after so long: longer than a task may take to stop by default.
const RETIRE_AGAIN: Millis = Millis::from_seconds(60);
/// So often at most. Ten minutes: what still runs then needs a person, and holds the next release up no longer.
const RETIRE_TRIES: u32 = 10;
/// Time between looks while the slot's instances are expected to change.
const LOOK: Millis = Millis::from_seconds(5);
/// While they are expected to stay as they are.
const SLOW_LOOK: Millis = Millis::from_seconds(15);
/// Weights are effect 0 of an input.
const N: u8 = 1;

/// What to look at. Derived from plan and state, and never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Whose instances.
    pub slot: Slot,
    /// What they should run; `None` while they should come to their end.
    pub wanted: Option<Deployed>,
    /// Time between looks.
    pub every: Millis,
}

/// What is to be looked at now; `None` where nothing would be made of it.
#[must_use]
pub fn look(state: &State) -> Option<Look> {
    let release = state.release.as_ref()?;
    match state.phase {
        Phase::Deploying { .. } => {
            Some(Look { slot: state.canary, wanted: Some(release.deployed.clone()?), every: LOOK })
        }
        Phase::Previewing { .. }
        | Phase::Shifting { .. }
        | Phase::Verifying { .. }
        | Phase::Baking { .. }
        | Phase::Judging { .. }
        | Phase::AwaitingApproval { .. } => {
            Some(Look { slot: state.canary, wanted: Some(release.deployed.clone()?), every: SLOW_LOOK })
        }
        Phase::Cleaning { tries, .. } if tries > 0 => Some(Look { slot: retiree(state), wanted: None, every: LOOK }),
        Phase::Cleaning { .. }
        | Phase::RollingBack { .. }
        | Phase::Holding { .. }
        | Phase::Stuck { .. }
        | Phase::Succeeded
        | Phase::RolledBack
        | Phase::Aborted
        | Phase::Superseded => None,
    }
}

/// The slot that is left without traffic by the end that was decided.
fn retiree(state: &State) -> Slot {
    match state.ending.as_ref().map(|ending| ending.kind) {
        Some(EndingKind::Succeeded) => state.canary.other(),
        Some(EndingKind::RolledBack | EndingKind::Aborted | EndingKind::Superseded) | None => state.canary,
    }
}

// === into the slot ===

/// The first move of a rollout whose plan has a workload.
pub(super) fn begin(moves: &mut Moves<'_>, image: String, step: usize) {
    let Some(workload) = &moves.plan.workload else { return moves.shift_to(step) };
    let share = workload.target.follows_share().then(|| share_of(moves.plan, step));
    moves.state.release = Some(Release { image, pending: None, deployed: None, reading: None, share });
    wait_for(moves, workload, step);
    deploy(moves, workload);
}

/// The share that comes with a step: its own, or for an approval that of the next step with one.
fn share_of(plan: &Plan, step: usize) -> Percent {
    let shares = (step..plan.steps.len()).find_map(|index| weight_step(plan, index));
    shares.map_or(Percent::FULL, |step| step.weight)
}

fn wait_for(moves: &mut Moves<'_>, workload: &Workload, step: usize) {
    let until = moves.at().plus(workload.ready_within);
    moves.phase(Phase::Deploying { step, until });
}

fn deploy(moves: &mut Moves<'_>, workload: &Workload) {
    let (id, slot) = (next_id(moves), moves.state.canary);
    let (rollout, revision) = (moves.state.id.clone(), moves.state.revision.clone());
    let Some(release) = &mut moves.state.release else { return };
    release.pending = Some(id.clone());
    let (target, image, share) = (workload.target.clone(), release.image.clone(), release.share);
    moves.effects.push((id, Effect::Deploy(Deployment { rollout, target, slot, image, revision, share })));
}

/// Whether a step's share needs more instances than there are: they are asked for, and the step waits for them.
pub(super) fn grow_first(moves: &mut Moves<'_>, step: usize, share: Percent) -> bool {
    let Some(workload) = moves.plan.workload.as_ref().filter(|workload| workload.target.follows_share()) else {
        return false;
    };
    let Some(release) = &mut moves.state.release else { return false };
    let asked_for = release.share.is_some_and(|asked_for| asked_for >= share);
    if asked_for && release.deployed.is_some() {
        return false;
    }
    if !asked_for {
        release.share = Some(share);
        // What was seen says nothing about what is asked for now.
        (release.deployed, release.reading) = (None, None);
    }
    let is_under_way = asked_for && release.pending.is_some();
    wait_for(moves, workload, step);
    if !is_under_way {
        deploy(moves, workload);
    }
    true
}

fn next_id(moves: &Moves<'_>) -> EffectId {
    EffectId { rollout: moves.state.id.clone(), seq: moves.state.seq, n: N }
}

/// Takes in how an effect on instances ended.
pub(super) fn on_settled(moves: &mut Moves<'_>, outcome: &Outcome) {
    let deploying = moves.state.step_index().is_some();
    let Some(release) = &mut moves.state.release else { return };
    release.pending = None;
    match outcome {
        Outcome::Deployed(deployed) => release.deployed = Some(deployed.clone()),
        Outcome::Failed(fault) if deploying => on_not_deployed(moves, fault),
        Outcome::Failed(fault) => on_not_retired(moves, fault),
        // The looks that follow show whether it came to anything.
        Outcome::Retired | Outcome::Applied { .. } | Outcome::PreviewOpened | Outcome::PreviewClosed => {}
    }
}

fn on_not_deployed(moves: &mut Moves<'_>, fault: &Fault) {
    if fault.kind == FaultKind::Permanent {
        let reason = format!("the release could not be deployed: {}", fault.message);
        return moves.roll_back(EndingKind::RolledBack, reason);
    }
    // Asked for again by `on_due`, with the next reading.
    moves.state.trouble = Some(format!("deploying failed and is tried again: {}", fault.message));
}

/// Whatever is due while the release is on its way.
pub(super) fn on_due(moves: &mut Moves<'_>, until: Timestamp) {
    let (Some(workload), Some(release)) = (&moves.plan.workload, &moves.state.release) else { return };
    if moves.state.paused.is_some() {
        return;
    }
    if has_come(moves) {
        let Phase::Deploying { step, .. } = moves.state.phase else { return };
        if moves.state.frozen.is_some() && moves.at() >= until {
            // It was up in time. Should an instance be replaced while it may go no further, that is waited for anew.
            wait_for(moves, workload, step);
        }
        return moves.advance(step);
    }
    if moves.at() >= until {
        let last = match (&release.reading, &moves.state.trouble) {
            (Some(reading), _) => reading.note.clone(),
            (None, Some(trouble)) => trouble.clone(),
            (None, None) => "nothing is known of its instances".to_owned(),
        };
        if moves.state.is_first_deployed() {
            let reason = format!("the release was not up within {}: {last}", workload.ready_within);
            return moves.roll_back(EndingKind::RolledBack, reason);
        }
        // It has shown nothing bad. Room for more instances may come, and `max_total` ends the wait.
        let Phase::Deploying { step, .. } = moves.state.phase else { return };
        let within = workload.ready_within;
        moves.state.trouble =
            Some(format!("no instances for step {} within {within}: {last}; the weight stays", step + 1));
        wait_for(moves, workload, step);
    }
    let is_open = |release: &Release| release.pending.is_none() && release.deployed.is_none();
    if moves.state.release.as_ref().is_some_and(is_open) {
        deploy(moves, workload);
    }
}

/// Someone gave the canary weight before its instances are there: put back, and nothing else changes.
pub(super) fn on_early_weight(moves: &mut Moves<'_>, seen: u8) {
    let wanted = moves.state.wanted;
    let before = if wanted == Percent::ZERO { "its release was up" } else { "it has the instances for it" };
    moves.state.trouble = Some(format!("someone raised the canary to {seen} % before {before}; put back to {wanted}"));
    moves.write_in_place();
}

/// A pause while the release was on its way ends: the wait for it begins anew.
pub(super) fn resume(moves: &mut Moves<'_>, step: usize) {
    moves.state.paused = None;
    if has_come(moves) {
        return moves.shift_to(step);
    }
    if moves.state.wanted > Percent::ZERO {
        // Written anew whatever it was, so that a drifted route is put right as well.
        moves.write_in_place();
    }
    let Some(workload) = &moves.plan.workload else { return };
    wait_for(moves, workload, step);
}

fn has_come(moves: &Moves<'_>) -> bool {
    let reading = moves.state.release.as_ref().and_then(|release| release.reading.as_ref());
    reading.is_some_and(|reading| reading.standing == Standing::Ready)
}

// === looks ===

/// Takes in one look at the instances.
pub(super) fn take_in(moves: &mut Moves<'_>, reading: &Result<WorkloadReading, Fault>) {
    // Nothing is to be made of a look that was begun before, and answered after, its phase.
    let Some(asked) = look(&moves.state) else { return };
    let reading = match reading {
        Ok(reading) => reading,
        // No answer is not a bad answer: the deadlines go on, nothing else does.
        Err(fault) => {
            moves.state.trouble = Some(format!("how the instances stand is not known: {}", fault.message));
            return;
        }
    };
    if let Some(release) = &mut moves.state.release {
        release.reading = Some(reading.clone());
    }
    match (moves.state.phase.clone(), reading.standing) {
        // Where it has traffic, what else speaks against more is looked at first.
        (Phase::Deploying { step, .. }, Standing::Ready)
            if moves.state.paused.is_none() && moves.state.is_first_deployed() =>
        {
            moves.advance(step);
        }
        (Phase::Deploying { .. }, Standing::Failing) if moves.state.is_first_deployed() => {
            moves.roll_back(EndingKind::RolledBack, format!("the release does not come up: {}", reading.note));
        }
        // Not before its retirement is settled: a late one could reach the instances of the next release.
        (Phase::Cleaning { .. }, Standing::Idle) if !is_pending(moves) => moves.finish(),
        (_, Standing::Failing) if asked.wanted.is_some() => on_failing(moves, &reading.note),
        (_, Standing::Progressing | Standing::Ready | Standing::Failing | Standing::Idle) => {}
    }
}

/// The release's instances fail while it has traffic, whatever the requests say so far.
fn on_failing(moves: &mut Moves<'_>, note: &str) {
    let Some(step) = moves.state.step_index().filter(|_| !moves.state.overruled) else { return };
    let reason = format!("the release's instances fail: {note}");
    let known = matches!(&moves.state.paused, Some(Pause { cause: PauseCause::GateFailed, .. }));
    match moves.plan.on_failure {
        OnFailure::Rollback => moves.roll_back(EndingKind::RolledBack, reason),
        OnFailure::Pause if known => {}
        OnFailure::Pause => moves.pause(step, PauseCause::GateFailed, reason),
    }
}

// === out of the slot ===

/// How long the slot without traffic is kept once the end's weights have settled; `None` where nothing is retired.
pub(super) fn kept_for(plan: &Plan, state: &State) -> Option<Millis> {
    let workload = plan.workload.as_ref().filter(|_| state.release.is_some())?;
    match state.ending.as_ref().map(|ending| ending.kind) {
        Some(EndingKind::Succeeded) => Some(workload.keep_for),
        Some(EndingKind::RolledBack | EndingKind::Aborted | EndingKind::Superseded) | None => Some(DRAIN),
    }
}

fn is_pending(moves: &Moves<'_>) -> bool {
    moves.state.release.as_ref().is_some_and(|release| release.pending.is_some())
}

/// Retires the slot that is left, when it is time and the route as read just now gives it nothing.
pub(super) fn clean(moves: &mut Moves<'_>, route: &RouteReading, until: Timestamp, tries: u32) {
    let slot = retiree(&moves.state);
    let node = moves.plan.node(slot);
    if route.weight_of(node) > 0 {
        // Somebody decided otherwise, which is theirs to do: what has traffic is not taken down.
        moves.state.trouble = Some(format!("someone gave {node} weight again, so its instances are kept"));
        return moves.finish();
    }
    if moves.at() < until || is_pending(moves) {
        return;
    }
    if tries >= RETIRE_TRIES {
        let reading = moves.state.release.as_ref().and_then(|release| release.reading.as_ref());
        let last = reading.map_or_else(String::new, |reading| format!(": {}", reading.note));
        moves.state.trouble = Some(format!("{node} could not be scaled in{last}; look after it yourself"));
        return moves.finish();
    }
    let Some(workload) = &moves.plan.workload else { return moves.finish() };
    let (id, target) = (next_id(moves), workload.target.clone());
    if let Some(release) = &mut moves.state.release {
        release.pending = Some(id.clone());
        // What was last seen was said of the release and not of its end.
        release.reading = release.reading.take().filter(|_| tries > 0);
    }
    moves.effects.push((id, Effect::Retire(Retirement { target, slot })));
    let until = moves.at().plus(RETIRE_AGAIN);
    moves.phase(Phase::Cleaning { until, tries: tries + 1 });
}

fn on_not_retired(moves: &mut Moves<'_>, fault: &Fault) {
    let node = moves.plan.node(retiree(&moves.state));
    let permanent = fault.kind == FaultKind::Permanent;
    let then = if permanent { "look after it yourself" } else { "tried again" };
    moves.state.trouble = Some(format!("scaling {node} in failed: {}; {then}", fault.message));
    if permanent {
        moves.finish();
    }
}

/// The next release takes the slot over: what is kept need not be retired.
pub(super) fn make_way(moves: &mut Moves<'_>) -> Result<(), Refusal> {
    match moves.state.phase {
        Phase::Cleaning { tries: 0, .. } => {
            moves.finish();
            Ok(())
        }
        // A retirement that is on its way could reach the instances of the next release.
        Phase::Cleaning { .. } => {
            let node = moves.plan.node(retiree(&moves.state));
            let why = format!("{node} is being scaled in; try again when that is done");
            Err(refused(moves, "make way for", &why))
        }
        Phase::Deploying { .. }
        | Phase::Previewing { .. }
        | Phase::Shifting { .. }
        | Phase::Verifying { .. }
        | Phase::Baking { .. }
        | Phase::Judging { .. }
        | Phase::AwaitingApproval { .. }
        | Phase::RollingBack { .. }
        | Phase::Holding { .. }
        | Phase::Stuck { .. }
        | Phase::Succeeded
        | Phase::RolledBack
        | Phase::Aborted
        | Phase::Superseded => Err(refused(moves, "make way for", "it is live")),
    }
}
