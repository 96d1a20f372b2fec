//! The preview of a rollout: before its first step a route of its own sends what has a header to the canary, which has no
//! weight yet, so that whoever tests the release sees it before any user does.
//!
//! Its requests are other routes' requests: they are counted apart and judged by nobody. What judges meanwhile is what asks
//! the release itself. The route is there for as long as the preview lasts and no longer: it is removed before the first
//! step's weights are written, and no rollout ends before a reading has shown that it is gone.

mod told;

use super::effect::{Effect, EffectId, PreviewRoute};
use super::event::{Outcome, PreviewReading};
use super::failure::verdict_ends_it;
use super::gate::{Judgement, judge};
use super::moves::Moves;
use super::state::{EndingKind, Exposed, PauseCause, Phase, Refusal, State};
use super::step::{refused, total_time_is_over};
use crate::base::fault::{Fault, FaultKind};
use crate::base::time::{Millis, Timestamp};
use crate::judge::absolute::Outcome as GateOutcome;
use crate::policy::plan::{Gate, OnInconclusive, Plan};
use serde::{Deserialize, Serialize};

pub use told::PreviewView;
pub(super) use told::{explained, phase_name, told};

/// Weights are effect 0 of an input, and instances effect 1.
pub(super) const N: u8 = 2;
/// What stands behind the name of the plan's route in that of its preview's.
const SUFFIX: &str = "-preview";
/// Longest name of a route in App Mesh (ResourceName of its model), in bytes: names are ASCII.
const NAME_MAX_BYTES: usize = 255;
/// So often a route that somebody removed or changed is put back by itself: more than that is somebody's will, or another
/// program's.
const PUT_BACK_MOST: u32 = 3;

/// How a rollout's preview stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewState {
    /// Where it is.
    pub stage: Stage,
    /// The effect on its route that was committed and not settled yet: at most one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<EffectId>,
    /// Since when its route is seen in force, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// How often the route was put back since a person last had a say.
    #[serde(default, skip_serializing_if = "is_none")]
    pub put_back: u32,
    /// Why the last removal was refused for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Fault>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_none(count: &u32) -> bool {
    *count == 0
}

/// Where a preview is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its route is being made.
    Opening,
    /// Made; waiting to see it in force.
    Verifying,
    /// In force; its time is not over.
    Open,
    /// Its time is over, and some gate has not said yet that it is content.
    Waiting,
    /// Its route is being removed.
    Closing,
    /// Removed.
    Closed,
}

/// The route that is to be there, or to be gone; `None` where the plan has no preview.
#[must_use]
pub fn route(plan: &Plan, state: &State) -> Option<PreviewRoute> {
    let preview = plan.preview.as_ref()?;
    let beside = plan.route.clone();
    let kept = beside.route.len().min(NAME_MAX_BYTES - SUFFIX.len());
    // Names are ASCII; should one not be, it is left whole and the mesh says what it thinks of it.
    let name = format!("{}{SUFFIX}", beside.route.get(..kept).unwrap_or(&beside.route));
    let (canary, header) = (plan.node(state.canary).to_owned(), preview.header.clone());
    Some(PreviewRoute { beside, name, canary, header, rollout: state.id.clone() })
}

/// The route that readings are to look for: while it should be in force, and at the end, where it must be gone.
#[must_use]
pub fn watched(plan: &Plan, state: &State) -> Option<PreviewRoute> {
    let at_it = matches!(state.phase, Phase::Previewing { .. } | Phase::Holding { .. });
    route(plan, state).filter(|_| at_it && state.preview.is_some())
}

/// Whether requests with the header may reach the canary before it has any weight: gates of the preview judge, and others
/// do not.
#[must_use]
pub const fn is_on(state: &State) -> bool {
    matches!(state.phase, Phase::Previewing { .. })
}

// === the way in ===

/// Begins the preview where the plan has one and it has not been: then the step waits for it.
pub(super) fn comes_first(moves: &mut Moves<'_>, step: usize) -> bool {
    if moves.plan.preview.is_none() || moves.state.preview.is_some() {
        return false;
    }
    moves.state.preview =
        Some(PreviewState { stage: Stage::Opening, pending: None, since: None, put_back: 0, refused: None });
    open(moves, step);
    true
}

/// Has the route made, or put right; its clock begins anew.
fn open(moves: &mut Moves<'_>, step: usize) {
    let until = moves.at().plus(moves.plan.verify.timeout);
    moves.state.exposed = None;
    enter(moves, Stage::Opening, step, until);
    act(moves, Effect::OpenPreview);
}

fn enter(moves: &mut Moves<'_>, stage: Stage, step: usize, until: Timestamp) {
    moves.phase(Phase::Previewing { step, until });
    let now = moves.at();
    if let Some(preview) = &mut moves.state.preview {
        if stage != preview.stage {
            // From one stage to another is a new phase too.
            moves.state.phase_since = now;
        }
        preview.stage = stage;
        preview.since = preview.since.filter(|_| matches!(stage, Stage::Open | Stage::Waiting));
    }
}

/// Wants something done about the route; what was wanted before is not waited for any more.
fn act(moves: &mut Moves<'_>, effect: fn(PreviewRoute) -> Effect) {
    let Some(route) = route(moves.plan, &moves.state) else { return };
    let id = EffectId { rollout: moves.state.id.clone(), seq: moves.state.seq, n: N };
    let Some(preview) = &mut moves.state.preview else { return };
    preview.pending = Some(id.clone());
    preview.refused = None;
    moves.effects.retain(|(_, effect)| !matches!(effect, Effect::OpenPreview(_) | Effect::ClosePreview(_)));
    moves.effects.push((id, effect(route)));
}

fn is_idle(moves: &Moves<'_>) -> bool {
    moves.state.preview.as_ref().is_some_and(|preview| preview.pending.is_none())
}

fn stage(moves: &Moves<'_>) -> Option<Stage> {
    moves.state.preview.as_ref().map(|preview| preview.stage)
}

/// Takes in how an effect on the route ended.
pub(super) fn on_settled(moves: &mut Moves<'_>, outcome: &Outcome) {
    let Some(preview) = &mut moves.state.preview else { return };
    preview.pending = None;
    match (preview.stage, outcome) {
        (Stage::Opening, Outcome::PreviewOpened) => {
            if let Phase::Previewing { step, until } = moves.state.phase {
                enter(moves, Stage::Verifying, step, until);
            }
        }
        (Stage::Opening, Outcome::Failed(fault)) => on_not_opened(moves, fault),
        (Stage::Closing, Outcome::PreviewClosed) => on_closed(moves),
        (_, Outcome::Failed(fault)) => on_not_closed(moves, fault),
        _ => {}
    }
}

fn on_not_opened(moves: &mut Moves<'_>, fault: &Fault) {
    let Phase::Previewing { step, until } = moves.state.phase else { return };
    let failed = format!("the route of the preview could not be made: {}", fault.message);
    if fault.kind == FaultKind::Permanent {
        return moves.roll_back(EndingKind::RolledBack, failed);
    }
    if moves.at() < until {
        moves.state.trouble = Some(format!("{failed}; it is tried again"));
        return act(moves, Effect::OpenPreview);
    }
    moves.not_in_force(step, failed);
}

/// Looks at one reading of the route.
pub(super) fn take_in(moves: &mut Moves<'_>, reading: Option<&Result<Option<PreviewReading>, Fault>>) {
    // No answer is not a bad answer; and while something is done about the route either answer is right.
    let Some(Ok(reading)) = reading else { return };
    let Phase::Previewing { step, .. } = moves.state.phase else { return };
    if !is_idle(moves) {
        return;
    }
    let fits = reading.as_ref().is_some_and(|reading| reading.ours && reading.fits);
    match stage(moves) {
        Some(Stage::Verifying) if fits && reading.as_ref().is_some_and(|reading| is_acknowledged(moves, reading)) => {
            in_force(moves, step);
        }
        Some(Stage::Open | Stage::Waiting) if !fits => drifted(moves, step, reading.as_ref()),
        _ => {}
    }
}

/// Whether every proxy that has the plan's route has this one as well: tests may come through any of them. Without one that
/// reports the reading back is all there is.
fn is_acknowledged(moves: &Moves<'_>, reading: &PreviewReading) -> bool {
    reading.behind.map_or(moves.state.evidence.seen.is_empty(), |behind| behind == 0)
}

/// In force: its time begins, and so does what its gates have to say.
fn in_force(moves: &mut Moves<'_>, step: usize) {
    let Some(preview) = &moves.plan.preview else { return };
    let now = moves.at();
    enter(moves, Stage::Open, step, now.plus(preview.lasts));
    if let Some(state) = &mut moves.state.preview {
        state.since = Some(now);
    }
    // What was seen before says nothing of what is seen now.
    moves.state.points.clear();
    if moves.plan.signals().any(|(gate, _)| gate.acts_in_preview()) {
        moves.state.exposed = Some(Exposed { from: now, since: Some(now) });
    }
}

/// Somebody removed or changed the route: put back, but not for ever.
fn drifted(moves: &mut Moves<'_>, step: usize, reading: Option<&PreviewReading>) {
    let what = match reading {
        None => "removed the route of the preview",
        Some(reading) if reading.ours => "changed the route of the preview",
        Some(_) => "put another route in place of the preview's",
    };
    if moves.state.paused.is_some() {
        moves.state.trouble = Some(format!("someone {what}; `resume` puts it back"));
        return;
    }
    let Some(preview) = &mut moves.state.preview else { return };
    if preview.put_back >= PUT_BACK_MOST {
        let reason = format!(
            "someone {what} again, after it was put back {PUT_BACK_MOST} times: ask who runs `delete-route`, then `resume` puts \
             it back, `promote` goes on without it, or `abort` ends it"
        );
        return moves.pause(step, PauseCause::Drift, reason);
    }
    preview.put_back += 1;
    moves.state.trouble = Some(format!("someone {what}; it is put back, and its time begins anew"));
    open(moves, step);
}

/// Someone gave the canary weight before its first step: put back, and nothing else changes.
pub(super) fn on_early_weight(moves: &mut Moves<'_>, seen: u8) {
    moves.state.trouble = Some(format!("someone raised the canary to {seen} % during its preview; put back to 0 %"));
    // Weights of zero say that nothing is exposed, and the preview still is.
    let exposed = moves.state.exposed;
    moves.write_in_place();
    moves.state.exposed = exposed;
}

// === what is due ===

/// Whatever is due, by the clock or by the gates. The verdict against the release comes first.
pub(super) fn on_due(moves: &mut Moves<'_>, step: usize, until: Timestamp) {
    let judgement = judge(moves.plan, &moves.state);
    if verdict_ends_it(moves, step, &judgement) || total_time_is_over(moves) {
        return;
    }
    moves.state.trouble = judgement.page().or_else(|| moves.state.trouble.take());
    if moves.state.paused.is_some() {
        return;
    }
    let is_over = moves.at() >= until;
    match stage(moves) {
        Some(Stage::Opening | Stage::Verifying) if is_over => {
            let timeout = moves.plan.verify.timeout;
            moves.not_in_force(step, format!("the route of the preview was not seen in force within {timeout}"));
        }
        Some(Stage::Open) if is_over => on_time_over(moves, step, &judgement),
        Some(Stage::Waiting) if is_content(moves.plan, &moves.state, &judgement) => go_on(moves, step),
        // Frozen it waits on, and when that is over for as long again.
        Some(Stage::Waiting) if is_over && moves.state.frozen.is_some() => wait(moves, step),
        Some(Stage::Waiting) if is_over => on_inconclusive(moves, &judgement),
        Some(Stage::Closing) if is_over => {
            let timeout = moves.plan.verify.timeout;
            moves.not_in_force(step, format!("the route of the preview was not removed within {timeout}"));
        }
        Some(Stage::Closing) if is_idle(moves) => act(moves, Effect::ClosePreview),
        // A freeze kept it from its first step.
        Some(Stage::Closed) => moves.advance(step),
        Some(Stage::Opening | Stage::Verifying | Stage::Open | Stage::Waiting | Stage::Closing) | None => {}
    }
}

fn on_time_over(moves: &mut Moves<'_>, step: usize, judgement: &Judgement) {
    if is_content(moves.plan, &moves.state, judgement) {
        return go_on(moves, step);
    }
    wait(moves, step);
}

/// Waits for its gates from now on, for what `max` leaves beside `for`: a freeze may have kept it long beyond both.
fn wait(moves: &mut Moves<'_>, step: usize) {
    let Some(preview) = &moves.plan.preview else { return };
    let left = Millis(preview.max.0.saturating_sub(preview.lasts.0));
    enter(moves, Stage::Waiting, step, moves.at().plus(left));
}

/// Whether every gate of the preview has said since it is in force, and says now, that it is content.
fn is_content(plan: &Plan, state: &State, judgement: &Judgement) -> bool {
    let has_spoken = |gate: &Gate| state.points.get(&gate.name).is_some_and(|seen| seen.canary.trail.last.is_some());
    plan.preview_gates().all(has_spoken) && judgement.limits.iter().all(|limit| limit.outcome == GateOutcome::Within)
}

/// Its time is over, and its gates are content.
fn go_on(moves: &mut Moves<'_>, step: usize) {
    // Frozen it stays as it is, so that tests may go on meanwhile.
    if moves.state.frozen.is_none() {
        close(moves, step);
    }
}

fn on_inconclusive(moves: &mut Moves<'_>, judgement: &Judgement) {
    let Some(preview) = &moves.plan.preview else { return };
    match preview.on_inconclusive {
        // A gate that has said nothing is silent, and silence never advances, whatever thin data may do.
        OnInconclusive::Hold | OnInconclusive::Advance => {}
        OnInconclusive::Rollback => {
            let open = judgement.limits.iter().find(|limit| limit.outcome != GateOutcome::Within);
            let what =
                open.map_or_else(|| "its gates have not all answered".to_owned(), |limit| limit.sentence.clone());
            let reason = format!("the preview was not passed within {}: {what}", preview.max);
            moves.roll_back(EndingKind::RolledBack, reason);
        }
    }
}

// === the way out ===

/// Has the route removed; the step comes when it is.
fn close(moves: &mut Moves<'_>, step: usize) {
    let until = moves.at().plus(moves.plan.verify.timeout);
    enter(moves, Stage::Closing, step, until);
    act(moves, Effect::ClosePreview);
}

fn on_closed(moves: &mut Moves<'_>) {
    if let Some(preview) = &mut moves.state.preview {
        preview.stage = Stage::Closed;
    }
    moves.state.exposed = None;
    if let Phase::Previewing { step, .. } = moves.state.phase
        && moves.state.paused.is_none()
    {
        moves.advance(step);
    }
}

fn on_not_closed(moves: &mut Moves<'_>, fault: &Fault) {
    let failed = format!("removing the route of the preview failed: {}", fault.message);
    moves.state.trouble = Some(failed.clone());
    if let (Phase::Previewing { .. }, FaultKind::Permanent) = (&moves.state.phase, fault.kind) {
        return moves.roll_back(EndingKind::RolledBack, failed);
    }
    if let Some(preview) = &mut moves.state.preview {
        // The end comes when a reading shows that it is gone: what to make of a refusal is decided then.
        preview.refused = (fault.kind == FaultKind::Permanent).then(|| fault.clone());
    }
}

/// The end is decided: the route goes, whatever it was about to become. It stands in the way of nothing that takes traffic
/// off the canary.
pub(super) fn end(moves: &mut Moves<'_>) {
    let Some(preview) = &mut moves.state.preview else { return };
    if preview.stage != Stage::Closed {
        preview.stage = Stage::Closing;
        preview.since = None;
        moves.state.exposed = None;
        act(moves, Effect::ClosePreview);
    }
}

/// Whether the end may come as far as the preview's route is concerned: this reading shows that it is gone. A write that
/// timed out on its way may have made it anew, so this is asked although it was removed before.
pub(super) fn is_gone(moves: &mut Moves<'_>, reading: Option<&Result<Option<PreviewReading>, Fault>>) -> bool {
    let Some(preview) = &moves.state.preview else { return true };
    let is_there = match reading {
        Some(Ok(reading)) => reading.as_ref().is_some_and(|reading| reading.ours),
        Some(Err(fault)) if fault.kind == FaultKind::Permanent => {
            stuck(moves, fault.clone());
            return false;
        }
        Some(Err(_)) | None => return false,
    };
    if !is_there || preview.pending.is_some() {
        return preview.pending.is_none();
    }
    match preview.refused.clone() {
        Some(fault) => stuck(moves, fault),
        None => act(moves, Effect::ClosePreview),
    }
    if let Some(preview) = &mut moves.state.preview {
        preview.stage = Stage::Closing;
        preview.refused = None;
    }
    false
}

fn stuck(moves: &mut Moves<'_>, fault: Fault) {
    let message = format!("removing the route of the preview was refused: {}", fault.message);
    moves.stuck(fault);
    moves.state.trouble = Some(message);
}

// === commands ===

/// A pause ends: the route is put right whatever became of it, and its time begins anew.
pub(super) fn resume(moves: &mut Moves<'_>, step: usize) {
    moves.state.paused = None;
    match stage(moves) {
        Some(Stage::Closed) => moves.advance(step),
        Some(Stage::Closing) => close(moves, step),
        _ => {
            if let Some(preview) = &mut moves.state.preview {
                preview.put_back = 0;
            }
            open(moves, step);
        }
    }
}

/// Ends the preview now; `step` is what comes then.
pub(super) fn promote(moves: &mut Moves<'_>, (from, step): (usize, usize)) -> Result<(), Refusal> {
    let is_on_its_way = matches!(stage(moves), Some(Stage::Closing | Stage::Closed));
    if is_on_its_way && from == step && moves.state.paused.is_none() {
        return Err(refused(moves, "promote", "its preview is over, and it is on its way to its first step"));
    }
    moves.state.paused = None;
    match stage(moves) {
        Some(Stage::Closed) => moves.shift_to(step),
        _ => close(moves, step),
    }
    Ok(())
}
