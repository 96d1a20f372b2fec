//! Which weights a rollout has a mesh keep that are to be renewed. Derived from the state, never stored.

use super::effect::{Effect, WeightsWrite};
use super::fuse;
use super::state::State;
use crate::base::weight::Percent;
use crate::policy::plan::Plan;

/// The last write, where it was answered and splits the traffic: in every phase, paused, frozen or waiting for people too.
/// While another write is under way nothing is renewed, since either of them may be in force; and where one version has
/// everything there is nothing to be put back. Its fuse is as of now: more proxies need a higher threshold each.
#[must_use]
pub fn leased(plan: &Plan, state: &State) -> Option<WeightsWrite> {
    let is_split = state.wanted > Percent::ZERO && state.wanted < Percent::FULL;
    if !is_split || state.written.is_none() || !state.pending.is_empty() || state.is_finished() {
        return None;
    }
    match Effect::set_weights(plan, state.weights(), (state.generation, false), fuse::armed(plan, state)) {
        Effect::SetWeights(write) => Some(write),
        Effect::Deploy(_) | Effect::Retire(_) | Effect::OpenPreview(_) | Effect::ClosePreview(_) => None,
    }
}
