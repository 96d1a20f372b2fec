//! Gates whose signal comes as points, such as health checks: beyond a limit several times in a row.
//!
//! As with every limit, the release fails only by what stable does not do as well. The rule is a threshold and not a test
//! (see `judge::points`), so the bound on false rollbacks does not cover it.

use super::event::PointsReading;
use super::limits::{LimitVerdict, stable_is_beyond};
use super::preview;
use super::scope::{acts, deciding, exposed};
use super::signals;
use super::state::State;
use crate::base::time::{Millis, Timestamp};
use crate::base::weight::Percent;
use crate::judge::absolute::Outcome;
use crate::judge::points::{PointReading, PointRule, PointTrail, PointVerdict};
use crate::policy::plan::{Gate, GateRule, Plan, SignalGate};
use serde::{Deserialize, Serialize};

/// Readings in a row without an answer after which a person is told that the gate sees nothing.
pub(super) const BLIND_AFTER: u32 = 3;

/// What one gate has seen of both arms.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ArmPoints {
    /// The canary.
    pub canary: ArmTrail,
    /// Stable.
    pub stable: ArmTrail,
}

/// What one gate has seen of one arm.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ArmTrail {
    /// The points.
    pub trail: PointTrail,
    /// The last reading for people, where it was worth telling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How a gate's points are judged.
enum Judged<'a> {
    /// Health checks.
    Health(PointRule),
    /// A signal from outside.
    Signal(&'a SignalGate),
}

/// `None` for gates that have no points.
fn judged(gate: &Gate) -> Option<Judged<'_>> {
    match &gate.rule {
        // The value is the number of endpoints that fail.
        GateRule::Health { breaches, .. } => {
            Some(Judged::Health(PointRule { max: Some(0.0), min: None, breaches: *breaches }))
        }
        GateRule::Signal(signal) => Some(Judged::Signal(signal)),
        GateRule::ErrorRateAgainstStable { .. }
        | GateRule::LatencyAgainstStable { .. }
        | GateRule::ErrorRateLimit { .. }
        | GateRule::LatencyLimit { .. } => None,
    }
}

/// The gate that a reading is for, and how it judges; `None` where the plan has none, or it does not act now.
fn taker<'a>(plan: &'a Plan, state: &State, reading: &PointsReading) -> Option<(&'a Gate, Judged<'a>)> {
    let gate = plan.gates.iter().find(|gate| gate.name == reading.gate)?;
    // Of a plan that scopes nothing every reading is taken, as ever; but a preview has gates of its own.
    let acts = gate.during.is_empty() && !preview::is_on(state) || acts(plan, state, gate);
    judged(gate).filter(|_| acts).map(|judged| (gate, judged))
}

/// Takes readings in. One of a gate that the plan does not have, or that does not act now, says nothing.
pub(super) fn absorb(plan: &Plan, state: &mut State, readings: &[PointsReading]) {
    for reading in readings {
        if let Some((gate, judged)) = taker(plan, state, reading) {
            let before = state.points.get(&reading.gate);
            let mut seen = before.cloned().unwrap_or_default();
            match judged {
                Judged::Health(rule) => seen.take(&rule, reading),
                Judged::Signal(signal) => {
                    signals::take(signal, (exposed(plan, state, gate), state.wanted, state.at), &mut seen, reading);
                    if before.is_none() && seen == ArmPoints::default() {
                        continue;
                    }
                }
            }
            state.points.insert(reading.gate.clone(), seen);
        }
    }
}

impl ArmPoints {
    fn take(&mut self, rule: &PointRule, reading: &PointsReading) {
        for (arm, reading) in [(&mut self.canary, &reading.canary), (&mut self.stable, &reading.stable)] {
            arm.trail.read(rule, in_order(&arm.trail, reading.point));
            arm.note.clone_from(&reading.note);
        }
    }
}

/// A check is made when its answer comes, and answers come in order: a wall clock that was set back must not make new
/// ones look old.
fn in_order(trail: &PointTrail, reading: PointReading) -> PointReading {
    match (reading, trail.last) {
        (PointReading::Point { at, value }, Some((last, _))) if at <= last => {
            PointReading::Point { at: last.plus(Millis(1)), value }
        }
        _ => reading,
    }
}

impl State {
    /// Whether a reading says something that is worth keeping: more of the same is not, once nothing depends on how
    /// often it was said.
    #[must_use]
    pub fn is_news(&self, plan: &Plan, reading: &PointsReading) -> bool {
        let before = self.points.get(&reading.gate);
        let mut after = before.cloned().unwrap_or_default();
        let Some((gate, judged)) = taker(plan, self, reading) else { return false };
        let enough = match judged {
            Judged::Health(rule) => {
                after.take(&rule, reading);
                rule.breaches.max(1)
            }
            Judged::Signal(signal) => {
                // Not held against the time of the last input: that of this one is not known here.
                let exposed = exposed(plan, self, gate);
                signals::take(signal, (exposed, self.wanted, Timestamp(i64::MAX)), &mut after, reading);
                let unseen = ArmPoints::default();
                let (before, last) = (before.unwrap_or(&unseen), |arm: &ArmTrail| arm.trail.last);
                // When the last point came matters too.
                if last(&before.canary) != last(&after.canary) || last(&before.stable) != last(&after.stable) {
                    return true;
                }
                if *before == after {
                    return false;
                }
                signal.breaches.max(1)
            }
        };
        let Some(before) = before else { return true };
        let counts = |trail: &PointTrail| {
            let (missing, failures) = (trail.missing.min(BLIND_AFTER), trail.failures.min(BLIND_AFTER));
            (trail.last.is_some(), trail.breaches.min(enough), missing, failures)
        };
        let same = |before: &ArmTrail, after: &ArmTrail| {
            counts(&before.trail) == counts(&after.trail) && before.note == after.note
        };
        !(same(&before.canary, &after.canary) && same(&before.stable, &after.stable))
    }
}

/// What the gates on points that decide now say, in the plan's order.
pub(super) fn judge_points(plan: &Plan, state: &State) -> Vec<LimitVerdict> {
    deciding(plan, state).filter_map(|gate| judge_point(gate, state)).collect()
}

/// What one gate on points says; `None` for any other.
pub(super) fn judge_point(gate: &Gate, state: &State) -> Option<LimitVerdict> {
    let seen = state.points.get(&gate.name).cloned().unwrap_or_default();
    match judged(gate)? {
        Judged::Health(rule) => Some(judge_one(gate, &rule, &seen, state.wanted == Percent::FULL)),
        Judged::Signal(signal) => Some(signals::judge_signal(gate, signal, state)),
    }
}

/// `is_full` says that the canary has all the traffic: what has none and is ill is no reason to wait with the end.
fn judge_one(gate: &Gate, rule: &PointRule, seen: &ArmPoints, is_full: bool) -> LimitVerdict {
    use PointVerdict::{Breaching, Fail, NoData, Within};
    let (canary, stable) = (seen.canary.trail.verdict(rule), seen.stable.trail.verdict(rule));
    let told = |arm: &ArmTrail| arm.note.clone().unwrap_or_else(|| "outside its limit".to_owned());
    let (outcome, sentence) = match (canary, stable) {
        (Fail, Fail) => (Outcome::BothBreach, format!("canary and stable alike: {}", told(&seen.canary))),
        // One bad moment of both may be a network's: whose it is shows with the next points.
        (Fail, Breaching(_)) => {
            (Outcome::Unattributed, format!("canary {}, and stable began to as well", told(&seen.canary)))
        }
        (Fail, Within | NoData) => (
            Outcome::CanaryBreaches,
            format!("canary {}, {} times in a row", told(&seen.canary), seen.canary.trail.breaches),
        ),
        (Breaching(times), _) => {
            (Outcome::Unattributed, format!("canary {}, {times} of {} times", told(&seen.canary), rule.breaches))
        }
        (NoData, _) => (Outcome::Unattributed, "nothing known yet".to_owned()),
        (Within, Fail) if !is_full => (Outcome::StableBreaches, format!("stable {}", told(&seen.stable))),
        // Good as it was then; nobody knows how it is now.
        (Within, _) if is_blind(&seen.canary) => {
            (Outcome::Unattributed, format!("good when it was last seen, and not seen since: {}", unseen(&seen.canary)))
        }
        (Within, _) => (Outcome::Within, "good".to_owned()),
    };
    LimitVerdict {
        gate: gate.name.clone(),
        outcome,
        sentence: format!("gate {}: {sentence}", gate.name),
        page: stable_is_beyond(&gate.name, outcome).or_else(|| blind(gate, &seen.canary)),
        error: outcome == Outcome::Unattributed && seen.canary.trail.failures > 0,
        on_failure: gate.on_failure,
    }
}

/// What is told once a gate has seen nothing of the canary for a while: silence is no verdict, but a person can end it.
fn blind(gate: &Gate, arm: &ArmTrail) -> Option<String> {
    is_blind(arm).then(|| format!("gate {} sees nothing of the canary: {}", gate.name, unseen(arm)))
}

/// Whether so many readings in a row said nothing that what was seen before them is old.
fn is_blind(arm: &ArmTrail) -> bool {
    arm.trail.failures.max(arm.trail.missing) >= BLIND_AFTER
}

fn unseen(arm: &ArmTrail) -> &str {
    arm.note.as_deref().unwrap_or("no answer")
}
