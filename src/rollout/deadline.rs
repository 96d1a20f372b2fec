//! When a rollout needs attention by itself. Derived from the state, never stored as an effect.

use super::gate::on_inconclusive;
use super::state::{Phase, State};
use crate::base::time::{Millis, Timestamp};
use crate::base::weight::Percent;
use crate::policy::plan::{OnInconclusive, OnVerifyTimeout, Plan};

/// Time between readings of the data plane and the route while the canary has weight: the tick of the judge.
const READING: Millis = Millis::from_seconds(1);
/// While a slot without traffic is kept: only for the case that it is given some.
const KEEPING_READING: Millis = Millis::from_seconds(30);
/// While nothing but drift can happen.
const SLOW_READING: Millis = Millis::from_seconds(5);

/// The next instant at which a `Tick` may change something; `None` once finished, and while only a reading can.
#[must_use]
pub fn next_deadline(plan: &Plan, state: &State) -> Option<Timestamp> {
    if state.is_finished() {
        return None;
    }
    let phase = due_at(&state.phase).filter(|_| acts_when_due(plan, state));
    let total = state.step_index().map(|_| state.started_at.plus(plan.max_total));
    let silence = state.step_index().filter(|_| state.wanted > Percent::ZERO && state.wanted < Percent::FULL);
    let silence = silence.map(|_| state.last_live_at.plus(plan.no_data.withdraw_after));
    [phase, total, silence].into_iter().flatten().min()
}

/// Whether the end of the phase's time changes anything by itself.
fn acts_when_due(plan: &Plan, state: &State) -> bool {
    match state.phase {
        Phase::Deploying { .. }
        | Phase::Previewing { .. }
        | Phase::Verifying { .. }
        | Phase::Baking { .. }
        | Phase::AwaitingApproval { .. } => state.paused.is_none(),
        Phase::Judging { step, .. } => state.paused.is_none() && on_inconclusive(plan, step) != OnInconclusive::Hold,
        // A pause waits for a person, except that a withdrawal has to be written.
        Phase::Shifting { .. } => {
            state.is_withdrawn() || state.paused.is_none() || plan.verify.on_timeout == OnVerifyTimeout::Rollback
        }
        Phase::RollingBack { .. } | Phase::Stuck { .. } => true,
        // Ended by a reading.
        Phase::Holding { .. } | Phase::Cleaning { .. } => false,
        Phase::Succeeded | Phase::RolledBack | Phase::Aborted | Phase::Superseded => false,
    }
}

/// Time between readings in this state; `None` once finished.
#[must_use]
pub fn next_reading(state: &State) -> Option<Millis> {
    match state.phase {
        Phase::Previewing { .. }
        | Phase::Shifting { .. }
        | Phase::Verifying { .. }
        | Phase::Baking { .. }
        | Phase::Judging { .. }
        | Phase::AwaitingApproval { .. }
        | Phase::RollingBack { .. }
        | Phase::Holding { .. } => Some(READING),
        Phase::Deploying { .. } if !state.is_first_deployed() => Some(READING),
        Phase::Deploying { .. } | Phase::Stuck { .. } => Some(SLOW_READING),
        // A slot that is kept for seconds is not kept for half a minute.
        Phase::Cleaning { tries: 0, until } => Some(until.since(state.at).clamp(READING, KEEPING_READING)),
        Phase::Cleaning { .. } => Some(SLOW_READING),
        Phase::Succeeded | Phase::RolledBack | Phase::Aborted | Phase::Superseded => None,
    }
}

/// The instant at which `phase` needs attention by itself.
pub(super) const fn due_at(phase: &Phase) -> Option<Timestamp> {
    match phase {
        Phase::Deploying { until, .. }
        | Phase::Previewing { until, .. }
        | Phase::Shifting { until, .. }
        | Phase::Verifying { until, .. }
        | Phase::Baking { until, .. }
        | Phase::Judging { until, .. }
        | Phase::AwaitingApproval { until, .. }
        | Phase::RollingBack { until }
        | Phase::Stuck { until, .. }
        | Phase::Holding { until, .. }
        | Phase::Cleaning { until, .. } => Some(*until),
        Phase::Succeeded | Phase::RolledBack | Phase::Aborted | Phase::Superseded => None,
    }
}
