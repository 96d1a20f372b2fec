//! What always holds, whatever a test is about: checked at each input that is given through the kit.

use super::World;
use crate::base::weight::Percent;
use crate::policy::plan::{Gate, OnInconclusive, SignalRule, Step};
use crate::rollout::effect::{Effect, EffectId, WeightsWrite};
use crate::rollout::event::{Command, Event, Input, Observation, Standing};
use crate::rollout::failure::is_overruled;
use crate::rollout::gate::{Judgement, judge, weight_step};
use crate::rollout::preview::Stage;
use crate::rollout::scope::acts;
use crate::rollout::state::{EndingKind, Next, PauseCause, Phase, State};
use crate::rollout::{begin, next_deadline, next_reading, step};
use std::collections::BTreeSet;

/// Whether no gate fails that a person has not overruled.
fn is_heeded(judgement: &Judgement, state: &State) -> bool {
    judgement.action().is_none_or(|action| is_overruled(state, action))
}

impl World {
    pub(super) fn check(&mut self, input: &Input, next: &Next) {
        if let Event::Observed(Observation { live: Some(Ok(reading)), .. }) = &input.event
            && reading.proxies.iter().any(|proxy| proxy.serving || proxy.applied.is_some())
        {
            self.heard_at = self.heard_at.max(self.now).max(self.state.at);
        }
        match next {
            Next::Refused(refusal) => {
                assert!(matches!(input.event, Event::Command { .. }), "only commands are refused");
                assert!(!refusal.message.is_empty() && !refusal.hint.is_empty(), "{refusal:?}");
            }
            Next::Ignored(_) => assert!(!matches!(input.event, Event::Command { .. }), "a command is never ignored"),
            Next::Step { state, effects } => {
                assert!(!self.state.is_finished(), "a finished rollout changed: {input:?}");
                self.check_form(input, state, effects);
                self.check_rise(input, state);
            }
        }
        self.check_abort(input, next);
    }

    fn check_form(&self, input: &Input, state: &State, effects: &[(EffectId, Effect)]) {
        assert_eq!(state.seq, input.seq);
        assert_eq!(state.at, self.state.at.max(input.at));
        let writes = effects.iter().filter_map(|(id, effect)| match effect {
            Effect::SetWeights(write) => Some((id, write)),
            Effect::Deploy(_) | Effect::Retire(_) | Effect::OpenPreview(_) | Effect::ClosePreview(_) => None,
        });
        assert!(writes.clone().count() <= 1 && effects.len() <= 2);
        self.check_preview(input, state);
        for (id, effect) in effects {
            assert_eq!((id.seq, &id.rollout), (input.seq, &state.id));
            assert!(state.waits_for(id), "an effect that nobody waits for");
            self.check_instances(state, effect);
        }
        for (_, WeightsWrite { canary, stable, generation, urgent, .. }) in writes.clone() {
            assert_eq!(u32::from(canary.1) + u32::from(stable.1), 100);
            assert_eq!((canary.0.as_str(), stable.0.as_str()), ("v2", "v1"));
            assert_eq!(canary.1, state.wanted.get());
            assert!(*generation > self.state.generation && *generation == state.generation);
            assert!(*urgent == (canary.1 < self.state.wanted.get() || canary.1 == 0));
        }
        assert!(writes.count() > 0 || state.generation == self.state.generation);
        assert!(state.pending.len() <= 1);
        assert!(state.pending.keys().all(|id| self.ids.contains(id) || effects.iter().any(|(new, _)| new == id)));
        let waits = matches!(state.phase, Phase::Shifting { .. } | Phase::RollingBack { .. });
        let early = matches!(state.phase, Phase::Deploying { .. } | Phase::Previewing { .. });
        let either = early || matches!(state.phase, Phase::Holding { .. });
        assert!(state.pending.is_empty() != waits || either, "{state:?}");
        assert!(!state.is_withdrawn() || state.paused.is_some() || early, "weight 0 at a step, and nobody told");
        assert_eq!(state.ending.is_some(), state.step_index().is_none(), "{state:?}");
        assert_eq!(next_reading(state).is_none(), state.is_finished(), "a live rollout that nobody looks at");
        assert_eq!(next_deadline(&self.plan, state).is_none() && !state.is_finished(), {
            matches!(state.phase, Phase::Holding { .. } | Phase::Cleaning { .. })
        });
        for kept in [serde_json::to_string(state), serde_json::to_string(input)] {
            let kept = kept.expect("every stored value has a JSON form");
            assert!(
                serde_json::from_str::<State>(&kept).is_ok_and(|read| read == *state)
                    || serde_json::from_str::<Input>(&kept).is_ok_and(|read| read == *input),
                "does not survive the store: {kept}"
            );
        }
    }

    /// What has traffic, or may have, is not deployed to and not taken down.
    fn check_instances(&self, state: &State, effect: &Effect) {
        match effect {
            Effect::SetWeights(_) | Effect::ClosePreview(_) => {}
            Effect::OpenPreview(_) => {
                assert!(matches!(state.phase, Phase::Previewing { .. }) && state.wanted == Percent::ZERO);
            }
            Effect::Deploy(deployment) => {
                assert!(matches!(state.phase, Phase::Deploying { .. }));
                assert_eq!(deployment.slot, state.canary);
                // More of the same for a greater share, or the first of it.
                assert!(state.wanted == Percent::ZERO || deployment.share.is_some_and(|share| share > state.wanted));
            }
            Effect::Retire(retirement) => {
                assert!(matches!(state.phase, Phase::Cleaning { .. }));
                assert_eq!(state.weights().of(retirement.slot), Percent::ZERO);
            }
        }
    }

    /// The preview's route is there before any weight only, and gone when the rollout has ended; and what leads out of it is
    /// that every gate of it was heard and is content, or a person.
    fn check_preview(&self, input: &Input, state: &State) {
        assert!(self.plan.preview.is_some() || state.preview.is_none(), "a preview that nobody asked for");
        let Some(preview) = &state.preview else { return };
        let is_ours = self.preview.as_ref().is_some_and(|preview| preview.ours);
        assert!(!state.is_finished() || !is_ours && preview.pending.is_none(), "left behind");
        if self.state.wanted == Percent::ZERO && state.wanted > Percent::ZERO && state.step_index().is_some() {
            assert!(preview.stage == Stage::Closed && !is_ours, "weight beside a preview: {:?}", preview.stage);
        }
        let (Some(before), Phase::Previewing { .. }) = (&self.state.preview, &state.phase) else { return };
        let closes = preview.stage == Stage::Closing && before.stage != Stage::Closing;
        if closes && !matches!(&input.event, Event::Command { command: Command::Promote { .. }, .. }) {
            let lasts = self.plan.preview.as_ref().expect("it has one").lasts;
            let since = before.since.expect("it was in force");
            assert!(state.at.since(since) >= lasts && state.frozen.is_none() && state.paused.is_none());
            for gate in self.plan.preview_gates() {
                let seen = state.points.get(&gate.name).expect("heard");
                let last = seen.canary.trail.last.expect("heard");
                assert!(seen.canary.trail.breaches == 0 && last.1 <= 0.0, "not content: {seen:?}");
            }
        }
    }

    /// The canary gets more only by proof (or where the policy says that time will do), by a person, or back to where
    /// it was before silence; a rollout ends well by the same rules.
    fn check_rise(&self, input: &Input, state: &State) {
        let finishes = |state: &State| state.ending.as_ref().is_some_and(|end| end.kind == EndingKind::Succeeded);
        let finished_well = finishes(state) && !finishes(&self.state);
        let by_hand = matches!(
            &input.event,
            Event::Command { command: Command::Resume | Command::Promote { .. } | Command::Approve { .. }, .. }
        );
        let rises = state.wanted > self.state.wanted;
        assert!(!rises || self.state.frozen.is_none(), "raised while frozen: {input:?}");
        if let (Phase::Deploying { .. }, Event::Observed(Observation { workload: Some(Ok(reading)), .. })) =
            (&self.state.phase, &input.event)
        {
            // The first step, as soon as the release is there.
            assert!(reading.standing == Standing::Ready || state.wanted <= self.state.wanted);
            if self.state.is_first_deployed() {
                return;
            }
        }
        let seen = self.state.release.as_ref().and_then(|release| release.reading.as_ref());
        if matches!(self.state.phase, Phase::Deploying { .. })
            && self.state.is_first_deployed()
            && self.state.paused.is_none()
            && seen.is_some_and(|reading| reading.standing == Standing::Ready)
        {
            // It was there before, and a freeze kept it from its first step.
            return;
        }
        self.check_instances_bear(state);
        if rises && matches!(self.state.phase, Phase::Previewing { .. }) {
            // What led there was checked when the preview was closed.
            let first = weight_step(&self.plan, state.step_index().expect("a step")).map(|step| step.weight);
            assert_eq!(Some(state.wanted), first);
            return;
        }
        if by_hand || state.wanted <= self.state.wanted && !finished_well {
            return;
        }
        assert!(matches!(input.event, Event::Observed(_) | Event::Tick), "{:?} raised the canary", input.event);
        let silence = state.at.since(self.heard_at);
        let judges = !self.plan.gates.is_empty();
        assert!(silence < self.plan.no_data.hold_after || !judges, "advanced in silence: {input:?}");
        self.check_signals(state);
        let from = self.state.step_index().expect("only a step rises");
        if let Some(pause) = &self.state.paused {
            assert_eq!(pause.cause, PauseCause::NoData, "advanced while paused");
            assert_eq!(Some(state.wanted), weight_step(&self.plan, pause.step).map(|step| step.weight));
            return;
        }
        if let Phase::Deploying { step, .. } = self.state.phase {
            // It was allowed before the wait for its instances.
            assert_eq!(Some(state.wanted), weight_step(&self.plan, step).map(|step| step.weight));
            let judged = self.judged_by(state);
            let judgement = judge(&self.plan, &judged);
            assert!(!judgement.holds() && is_heeded(&judgement, state), "{judgement:?}");
            return;
        }
        if let Phase::AwaitingApproval { step, .. } = self.state.phase {
            // Said while it was frozen or held.
            let Step::Approval(asked) = &self.plan.steps[step] else { panic!("awaits nobody") };
            assert!(self.state.approvals.len() >= asked.need as usize);
            let judgement = judge(&self.plan, state);
            assert!(!judgement.holds() && is_heeded(&judgement, state), "{judgement:?}");
            return;
        }
        assert!(
            matches!(self.state.phase, Phase::Baking { .. } | Phase::Judging { .. }),
            "skipped {:?}",
            self.state.phase
        );
        let wanted = weight_step(&self.plan, from).expect("a step that exists");
        assert!(
            state.at.since(self.state.phase_since) >= wanted.min || matches!(self.state.phase, Phase::Judging { .. })
        );
        if wanted.weight == Percent::FULL {
            return;
        }
        let judged = self.judged_by(state);
        let judgement = judge(&self.plan, &judged);
        // Long ago, where a freeze kept it from taking effect.
        let stayed = matches!(self.state.phase, Phase::Judging { until, .. } if state.at >= until);
        let stayed = stayed || state.at.since(self.state.phase_since) >= wanted.min;
        let by_time = wanted.on_inconclusive == OnInconclusive::Advance && stayed;
        assert!(judgement.proven() || by_time && judgement.finding.counts.canary_requests > 0, "{judgement:?}");
        assert!(!judgement.fails());
        assert_eq!(state.step_index(), Some(from + 1));
    }

    /// The state of before with what is judged by now.
    fn judged_by(&self, state: &State) -> State {
        let State { evidence, points, unusable, .. } = state.clone();
        State { evidence, points, unusable, ..self.state.clone() }
    }

    /// A share that is written is one that the instances were asked to bear.
    fn check_instances_bear(&self, state: &State) {
        let Some(asked_for) = state.release.as_ref().and_then(|release| release.share) else { return };
        assert!(state.wanted <= asked_for, "{} with instances for {asked_for}", state.wanted);
    }

    /// No advance without a point of every deciding gate on a signal since the weights that it advances from were in force.
    fn check_signals(&self, state: &State) {
        if matches!(&self.state.paused, Some(pause) if pause.cause == PauseCause::NoData) {
            // Back to where it was before silence.
            return;
        }
        let decides = |gate: &Gate| !gate.dry_run && acts(&self.plan, &self.state, gate);
        for (gate, signal) in self.plan.signals().filter(|(gate, _)| decides(gate)) {
            let compared = matches!(signal.rule, SignalRule::AgainstStable { .. });
            if compared && self.state.wanted == Percent::FULL {
                continue;
            }
            let since = self.state.exposed.and_then(|exposed| exposed.since).expect("in force");
            let last = state.points.get(&gate.name).and_then(|seen| seen.canary.trail.last);
            assert!(last.is_some_and(|(at, _)| at >= since && at <= state.at), "advanced blindly: {last:?}");
            let seen = &state.points[&gate.name].canary.trail;
            assert_eq!(seen.breaches, 0, "advanced while gate {} breaches", gate.name);
        }
    }

    fn check_abort(&self, input: &Input, next: &Next) {
        let Event::Command { command: Command::Abort { .. }, .. } = &input.event else { return };
        match next {
            Next::Step { effects, .. } => {
                assert!(matches!(
                    effects.as_slice(),
                    [(_, Effect::SetWeights(WeightsWrite { canary: (_, 0), urgent: true, .. }))]
                        | [
                            (_, Effect::SetWeights(WeightsWrite { canary: (_, 0), urgent: true, .. })),
                            (_, Effect::ClosePreview(_))
                        ]
                ));
            }
            // Only where weight 0 was written last, whether answered or not.
            // And where the version before is being scaled in, so that there is nothing to go back to.
            _ if matches!(self.state.phase, Phase::Cleaning { tries: 1.., .. }) => {}
            _ => assert!(self.state.wanted == Percent::ZERO && self.state.ending.is_some() || self.state.is_finished()),
        }
    }

    /// The journal leads to the state.
    pub(in crate::rollout::tests) fn check_replay(&self) {
        let (first, rest) = self.inputs.split_first().expect("a start");
        let (mut state, effects) = begin(&self.plan, self.state.id.clone(), first).expect("it began before");
        let mut ids: BTreeSet<EffectId> = effects.into_iter().map(|(id, _)| id).collect();
        for input in rest {
            let Next::Step { state: moved, effects } = step(&self.plan, &state, input) else {
                panic!("journaled, yet it changes nothing: {input:?}")
            };
            state = *moved;
            ids.extend(effects.into_iter().map(|(id, _)| id));
        }
        assert_eq!(state, self.state);
        assert_eq!(ids, self.ids);
    }
}
