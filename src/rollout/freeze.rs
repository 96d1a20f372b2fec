//! A freeze as a rollout knows it: no step and no more weight while it lasts. `Moves::advance` keeps it; here is what
//! begins and ends it, and what people are told meanwhile.

use super::event::Actor;
use super::moves::Moves;
use super::state::{Frozen, Refusal};
use super::step::refused;

pub(super) fn freeze(moves: &mut Moves<'_>, reason: &str, by: &Actor) -> Result<(), Refusal> {
    if let Some(frozen) = moves.state.frozen.as_ref().filter(|frozen| frozen.reason == reason && frozen.by == *by) {
        return Err(refused(moves, "freeze", &format!("it is {frozen} already")));
    }
    moves.state.frozen = Some(Frozen { reason: reason.to_owned(), by: by.clone(), at: moves.at() });
    Ok(())
}

/// Takes no step by itself: the next look does, by how things stand then.
pub(super) fn thaw(moves: &mut Moves<'_>) -> Result<(), Refusal> {
    match moves.state.frozen.take() {
        Some(_) => Ok(()),
        None => Err(refused(moves, "thaw", "it is not frozen")),
    }
}

/// What a frozen rollout says to whoever wants it to go on.
pub(super) fn refuses(moves: &Moves<'_>, verb: &str) -> Result<(), Refusal> {
    let Some(frozen) = &moves.state.frozen else { return Ok(()) };
    let hint =
        "`tidegate freeze` lists what is frozen; with `--lift` and the policy or `--all` it lifts that".to_owned();
    Err(Refusal { hint, ..refused(moves, verb, &format!("it is {frozen}")) })
}
