//! A state in the making: the few moves that the step function is composed of, so that each is written once.

use super::effect::{Effect, EffectId};
use super::event::Input;
use super::fuse;
use super::gate::weight_index;
use super::preview;
use super::scope;
use super::state::{Ending, EndingKind, Next, Pause, PauseCause, Phase, State};
use super::workload;
use crate::base::fault::Fault;
use crate::base::time::{Millis, Timestamp};
use crate::base::weight::Percent;
use crate::policy::plan::{OnVerifyTimeout, Plan, Step};

/// A write that has not settled by then is written anew. Longer than the request timeout of `traffic` with its retries,
/// so that the answer of a healthy but slow mesh still counts.
const REWRITE_AFTER: Millis = Millis::from_seconds(20);
/// From the end's weights being accepted to the reading that may end the rollout: the request timeout of `traffic`
/// (5 s) and that of a reading (3 s), so that a write that timed out on its way cannot land unseen.
const SETTLE: Millis = Millis::from_seconds(8);
/// Pause between tries of a write that was refused for good: a person has to act first, and may be watching.
const RETRY_WHEN_STUCK: Millis = Millis::from_seconds(10);

/// A copy of the state that is being moved on by one input.
pub(super) struct Moves<'a> {
    pub(super) plan: &'a Plan,
    pub(super) state: State,
    pub(super) effects: Vec<(EffectId, Effect)>,
}

impl<'a> Moves<'a> {
    pub(super) fn new(plan: &'a Plan, state: &State, input: &Input) -> Self {
        let mut state = state.clone();
        state.seq = input.seq;
        state.at = state.at.max(input.at);
        Self { plan, state, effects: Vec::new() }
    }

    pub(super) const fn at(&self) -> Timestamp {
        self.state.at
    }

    pub(super) fn phase(&mut self, phase: Phase) {
        if std::mem::discriminant(&self.state.phase) != std::mem::discriminant(&phase) {
            self.state.phase_since = self.state.at;
        }
        self.state.phase = phase;
    }

    /// Writes a share for the canary. An older write that is still under way is no longer waited for.
    fn write(&mut self, share: Percent) {
        let urgent = share < self.state.wanted || share == Percent::ZERO;
        if share != self.state.wanted {
            self.state.evidence.open_block(self.state.at);
        }
        let idle = scope::idle(self.plan, &self.state);
        self.state.wanted = share;
        scope::awaken(self.plan, &mut self.state, &idle);
        // Whatever is written, its weights are not in force yet; without weight nothing is exposed.
        self.state.exposed = self.state.exposed.filter(|_| share != Percent::ZERO);
        self.state.exposed.iter_mut().for_each(|exposed| exposed.since = None);
        // Saturates for the sake of totality: the number an endpoint remembers is a stranger's input.
        self.state.generation = self.state.generation.saturating_add(1);
        // Draws are counted by versions, and those of this write begin at zero.
        self.state.split_checked = 0;
        let id = EffectId { rollout: self.state.id.clone(), seq: self.state.seq, n: 0 };
        // One write for each input: what this very input wanted a moment ago must not be carried out as well.
        self.effects.retain(|(_, effect)| !matches!(effect, Effect::SetWeights(_)));
        self.state.pending.clear();
        self.state.pending.insert(id.clone(), share);
        let fuse = fuse::armed(self.plan, &self.state);
        let effect = Effect::set_weights(self.plan, self.state.weights(), (self.state.generation, urgent), fuse);
        self.effects.push((id, effect));
    }

    /// Writes the share that is wanted once more, after someone raised it: the step is set up and verified anew.
    pub(super) fn put_back(&mut self, step: usize) {
        let Some(step) = weight_index(self.plan, step) else {
            // At an approval before any weight: nothing to set up anew.
            return self.write(self.state.wanted);
        };
        if self.state.is_withdrawn() {
            return self.write_withdrawal(step);
        }
        self.write(self.state.wanted);
        let until = self.at().plus(self.plan.verify.timeout);
        self.phase(Phase::Shifting { step, until });
    }

    /// Writes the share that is wanted once more and leaves the phase as it is.
    pub(super) fn write_in_place(&mut self) {
        self.write(self.state.wanted);
    }

    /// Takes up a step that nobody asked for by hand, unless it is frozen: then it stays, and whatever led here does so
    /// again once it is not.
    pub(super) fn advance(&mut self, step: usize) {
        if self.state.frozen.is_none() {
            self.shift_to(step);
        }
    }

    /// Takes up a step: writes its weights, or asks people. A step beyond the last ends the rollout well.
    pub(super) fn shift_to(&mut self, step: usize) {
        self.state.paused = None;
        self.state.approvals.clear();
        if preview::comes_first(self, step) {
            return;
        }
        match self.plan.steps.get(step) {
            None => self.finish_well(),
            Some(Step::Weight(wanted)) => self.shift_to_weight(step, wanted.weight),
            Some(Step::Approval(approval)) => {
                let until = self.at().plus(approval.timeout);
                self.phase(Phase::AwaitingApproval { step, until });
            }
        }
        // From one step straight to another is a new phase too.
        self.state.phase_since = self.at();
    }

    fn shift_to_weight(&mut self, step: usize, share: Percent) {
        if workload::grow_first(self, step, share) {
            return;
        }
        self.write(share);
        // The silence clock starts with the exposure, not with whatever came before it.
        self.state.last_live_at = self.at();
        let until = self.at().plus(self.plan.verify.timeout);
        self.phase(Phase::Shifting { step, until });
    }

    /// Writes a step's weights once more; its time does not begin anew.
    pub(super) fn write_step_again(&mut self, step: usize, until: Timestamp) {
        self.write(self.state.wanted);
        self.phase(Phase::Shifting { step, until });
    }

    /// Takes up a step after its weight was, or may have been, changed: at an approval the weight before it comes first.
    pub(super) fn take_up(&mut self, step: usize) {
        self.shift_to(weight_index(self.plan, step).unwrap_or(step));
    }

    /// All the traffic is where it should stay: watch that it does, then end.
    pub(super) fn finish_well(&mut self) {
        self.state.paused = None;
        self.state.frozen = None;
        let reason = "every step passed".to_owned();
        let at_step = self.state.step_index();
        self.state.ending = Some(Ending { kind: EndingKind::Succeeded, reason, decided_at: self.at(), at_step });
        self.hold();
    }

    /// Weight 0 in this very input: needs no gate, approval, metric or notifier.
    pub(super) fn roll_back(&mut self, kind: EndingKind, reason: String) {
        self.state.paused = None;
        self.state.frozen = None;
        if let Some(release) = &mut self.state.release {
            // A deployment under way is no longer wanted.
            release.pending = None;
        }
        self.effects.clear();
        let at_step = self.state.step_index().or_else(|| self.state.ending.as_ref().and_then(|ending| ending.at_step));
        self.state.ending = Some(Ending { kind, reason, decided_at: self.at(), at_step });
        self.write_zero();
        preview::end(self);
    }

    /// Writes weight 0 (again, under a new generation).
    pub(super) fn write_zero(&mut self) {
        self.write(Percent::ZERO);
        let until = self.at().plus(REWRITE_AFTER);
        self.phase(Phase::RollingBack { until });
    }

    /// Writes the weights of the end that was decided once more.
    pub(super) fn write_end_again(&mut self) {
        match self.state.ending.as_ref().map(|ending| ending.kind) {
            Some(EndingKind::Succeeded) => {
                self.write(Percent::FULL);
                self.hold();
            }
            Some(EndingKind::RolledBack | EndingKind::Aborted | EndingKind::Superseded) | None => self.write_zero(),
        }
    }

    /// Whether a write of the end's weights, begun with the hold, has been under way for too long.
    pub(super) fn hold_is_stalled(&self, until: Timestamp) -> bool {
        !self.state.pending.is_empty() && self.at().since(until).0 + SETTLE.0 >= REWRITE_AFTER.0
    }

    /// Begins (again) to watch that the end's weights stay.
    pub(super) fn hold(&mut self) {
        let until = self.at().plus(SETTLE);
        self.phase(Phase::Holding { until });
    }

    /// The end's weights have settled: what is left without traffic is cleaned up, and that is the end.
    pub(super) fn end(&mut self) {
        match workload::kept_for(self.plan, &self.state) {
            Some(keep) => {
                let until = self.at().plus(keep);
                self.phase(Phase::Cleaning { until, tries: 0 });
            }
            None => self.finish(),
        }
    }

    /// The end.
    pub(super) fn finish(&mut self) {
        let phase = match self.state.ending.as_ref().map(|ending| ending.kind) {
            Some(EndingKind::Succeeded) => Phase::Succeeded,
            Some(EndingKind::Aborted) => Phase::Aborted,
            Some(EndingKind::Superseded) => Phase::Superseded,
            Some(EndingKind::RolledBack) | None => Phase::RolledBack,
        };
        self.state.pending.clear();
        if let Some(release) = &mut self.state.release {
            release.pending = None;
        }
        self.phase(phase);
    }

    pub(super) fn stuck(&mut self, fault: Fault) {
        let what = match self.state.wanted {
            Percent::ZERO => "taking the traffic off the release",
            _ => "keeping all the traffic on the release",
        };
        self.state.trouble = Some(format!("{what} was refused: {}", fault.message));
        let until = self.at().plus(RETRY_WHEN_STUCK);
        self.phase(Phase::Stuck { fault, until });
    }

    /// A step's weights are not in force, for this reason: what the policy says about that.
    pub(super) fn not_in_force(&mut self, step: usize, reason: String) {
        match self.plan.verify.on_timeout {
            OnVerifyTimeout::Rollback => self.roll_back(EndingKind::RolledBack, reason),
            // It waits for a person already; which pause it is decides what `resume` may do, so that stays.
            OnVerifyTimeout::Pause if self.state.paused.is_some() => self.state.trouble = Some(reason),
            OnVerifyTimeout::Pause => self.pause(step, PauseCause::VerifyTimeout, reason),
        }
    }

    /// Stays where it is until someone (or the data) says otherwise.
    pub(super) fn pause(&mut self, step: usize, cause: PauseCause, reason: String) {
        self.state.paused = Some(Pause { cause, reason, at: self.at(), step });
    }

    /// Pauses and takes the traffic off the canary; the step is taken up again later. Silence does not replace another
    /// pause, since it ends by itself and a pause that waits for a person must not; nor does a spent budget replace
    /// failing gates, since it ends with `resume` and they must not.
    pub(super) fn withdraw(&mut self, step: usize, cause: PauseCause, reason: String) {
        // Approvals were given for a weight that is no longer there.
        self.state.approvals.clear();
        let step = weight_index(self.plan, step).unwrap_or(step);
        match &mut self.state.paused {
            Some(pause)
                if pause.cause == PauseCause::GateFailed
                    || cause == PauseCause::NoData && pause.cause != PauseCause::NoData =>
            {
                pause.reason = format!("{}; then {reason}", pause.reason);
            }
            _ => self.pause(step, cause, reason),
        }
        if self.state.wanted != Percent::ZERO {
            self.write_withdrawal(step);
        }
    }

    /// Pauses and gives the canary less, as an earlier step had it; the step is taken up again later.
    pub(super) fn step_back(&mut self, step: usize, share: Percent, cause: PauseCause, reason: String) {
        if share == Percent::ZERO {
            return self.withdraw(step, cause, reason);
        }
        self.state.approvals.clear();
        let step = weight_index(self.plan, step).unwrap_or(step);
        self.pause(step, cause, reason);
        self.write(share);
        let until = self.at().plus(self.plan.verify.timeout);
        self.phase(Phase::Shifting { step, until });
    }

    /// Writes a withdrawal's weight 0 (again, under a new generation).
    pub(super) fn write_withdrawal(&mut self, step: usize) {
        self.write(Percent::ZERO);
        let until = self.at().plus(REWRITE_AFTER);
        self.phase(Phase::Shifting { step, until });
    }

    /// The result, when it differs from what was there before in more than its number and time.
    pub(super) fn done(self, before: &State) -> Next {
        let unchanged = State { seq: before.seq, at: before.at, ..self.state.clone() } == *before;
        if unchanged && self.effects.is_empty() {
            return Next::Ignored("nothing new");
        }
        Next::Step { state: Box::new(self.state), effects: self.effects }
    }
}
