//! `policy replay`: the engine over what was recorded.
//!
//! Counts are taken as they were recorded, with the weight that they were recorded under as the coin. So the verdicts are
//! those that the policy would have come to by these very requests; the steps it would have taken meanwhile change its own
//! clock and not the recording. It looks whenever the recording has a reading.

use super::engine::{Engine, Standing};
use super::recording::Recording;
use crate::base::time::Timestamp;
use crate::base::weight::Percent;
use crate::policy::plan::Plan;
use crate::rollout::gate::judge;
use crate::rollout::state::{Phase, State};
use serde::Serialize;

/// Versions of the replay's own weights begin here, far above those of any recording.
const FIRST_VERSION: u64 = 1 << 40;

/// Something that would have happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moment {
    /// When, RFC 3339.
    pub at: String,
    /// Seconds since the recording begins.
    pub after_s: f64,
    /// The canary's share from then on, in percent.
    pub weight: u8,
    /// What.
    pub what: What,
    /// Why, in a sentence without a full stop.
    pub why: String,
}

/// What would have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It would have begun.
    Started,
    /// It would have taken a step.
    Stepped,
    /// It would have paused.
    Paused,
    /// It would have gone on after a pause.
    Resumed,
    /// It would have been rolled back by a verdict.
    RolledBack,
    /// It would have been rolled back since its time was over.
    GaveUp,
    /// It would have had all the traffic.
    Promoted,
    /// The recording ends, and it is still at a step.
    Ended,
}

/// Replays a recording under a plan that [`super::engine::prepared`] made.
///
/// # Errors
/// The engine's refusal to start.
pub fn replay(plan: &Plan, recording: &Recording) -> Result<Vec<Moment>, String> {
    let begun = Engine::begin(plan, recording.begin, FIRST_VERSION, recording.before.clone());
    let mut engine = begun.map_err(|refusal| refusal.message)?;
    let first = format!("step 1 of {}", plan.steps.len());
    let mut moments = vec![moment(recording.begin, recording.begin, engine.weight(), What::Started, first)];
    let mut at = recording.begin;
    engine.observe(at, Vec::new(), Vec::new());
    for sample in &recording.samples {
        at = at.max(sample.at);
        let before = Place::of(engine.state());
        match &sample.live {
            Some(live) => engine.observe_reading(at, live.clone(), sample.points.clone()),
            None => engine.observe_points(at, sample.points.clone()),
        }
        if !before.is_left(engine.state()) {
            continue;
        }
        let (what, why) = happened(plan, &engine, &before);
        moments.push(moment(recording.begin, at, engine.weight(), what, why));
        if matches!(what, What::RolledBack | What::GaveUp | What::Promoted) {
            return Ok(moments);
        }
    }
    let why = judge(plan, engine.state()).sentence();
    moments.push(moment(recording.begin, at, engine.weight(), What::Ended, why));
    Ok(moments)
}

fn moment(begin: Timestamp, at: Timestamp, weight: u8, what: What, why: String) -> Moment {
    Moment { at: at.rfc3339(), after_s: at.since(begin).0 as f64 / 1000.0, weight, what, why }
}

/// Where a rollout stands, as far as it is told.
struct Place {
    phase: Phase,
    step: Option<usize>,
    wanted: Percent,
    paused: bool,
}

impl Place {
    fn of(state: &State) -> Self {
        Self {
            phase: state.phase.clone(),
            step: state.step_index(),
            wanted: state.wanted,
            paused: state.paused.is_some(),
        }
    }

    fn is_left(&self, now: &State) -> bool {
        self.step != now.step_index() || self.wanted != now.wanted || self.paused != now.paused.is_some()
    }
}

fn happened(plan: &Plan, engine: &Engine<'_>, before: &Place) -> (What, String) {
    let state = engine.state();
    // By what the step had to prove that it was at.
    let then = State { phase: before.phase.clone(), wanted: before.wanted, ..state.clone() };
    let verdict = judge(plan, &then).sentence();
    let ending = state.ending.as_ref().map(|ending| ending.reason.clone());
    match engine.standing() {
        Standing::Full => (What::Promoted, verdict),
        Standing::Failed if state.paused.is_none() => (What::RolledBack, ending.unwrap_or(verdict)),
        Standing::GaveUp => (What::GaveUp, ending.unwrap_or(verdict)),
        Standing::Going | Standing::Failed | Standing::BudgetSpent | Standing::BothFailed => {
            match (&state.paused, before.paused) {
                (Some(pause), _) => (What::Paused, pause.reason.clone()),
                (None, true) => (What::Resumed, verdict),
                (None, false) => {
                    let step = state.step_index().map_or(0, |step| step + 1);
                    (What::Stepped, format!("step {step} of {}: {verdict}", plan.steps.len()))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
