//! `journal verify`: folds a rollout's inputs through the engine again and compares the end with the stored state.

use crate::base::fault::Fault;
use crate::base::ids::RolloutId;
use crate::ports::{Journal, JournalRow, Stored};
use crate::rollout::state::{ENGINE_VERSION, Next, State};
use crate::rollout::{begin, step};

/// Tries to read a rollout between two of its inputs.
const READ_TRIES: u32 = 20;

/// What verifying one rollout came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// The inputs lead to the stored state.
    Matches {
        /// How many.
        inputs: usize,
    },
    /// They do not: the journal or the state was changed by something else.
    Differs {
        /// The first thing that is wrong.
        problem: String,
    },
    /// Written by another version of the engine, whose decisions may differ.
    OtherEngine {
        /// That version.
        version: u32,
    },
}

/// Verifies one rollout.
///
/// # Errors
/// The store's fault, when something could not be read at all.
pub async fn verify(journal: &dyn Journal, id: &RolloutId) -> Result<Verified, Fault> {
    let Some((stored, inputs)) = read_together(journal, id).await? else {
        return Ok(Verified::Differs { problem: format!("there is no rollout {id}") });
    };
    if let Some(row) = inputs.iter().find(|row| row.engine_version != ENGINE_VERSION) {
        return Ok(Verified::OtherEngine { version: row.engine_version });
    }
    Ok(match replay(&stored, &inputs) {
        Ok(state) if state == stored.state => Verified::Matches { inputs: inputs.len() },
        Ok(state) => Verified::Differs { problem: difference(&state, &stored.state) },
        Err(problem) => Verified::Differs { problem },
    })
}

/// State and inputs as of one moment: a daemon may be adding inputs meanwhile, one every second or so.
async fn read_together(journal: &dyn Journal, id: &RolloutId) -> Result<Option<(Stored, Vec<JournalRow>)>, Fault> {
    let Some(mut stored) = journal.get(id).await? else { return Ok(None) };
    for _ in 0..READ_TRIES {
        let inputs = journal.inputs(id).await?;
        let Some(after) = journal.get(id).await? else { return Ok(None) };
        if after.state.seq == stored.state.seq {
            return Ok(Some((stored, inputs)));
        }
        stored = after;
    }
    Err(Fault::transient("journal", format!("rollout {id} moved on every time that it was read; try again")))
}

fn replay(stored: &Stored, inputs: &[JournalRow]) -> Result<State, String> {
    let mut last = None;
    fold(stored, inputs, |state| last = Some(state.clone()))?;
    last.ok_or_else(|| "its journal is empty".to_owned())
}

/// Folds a rollout's inputs through the engine again, and shows each state on the way.
pub(super) fn fold(stored: &Stored, inputs: &[JournalRow], mut show: impl FnMut(&State)) -> Result<(), String> {
    let Some((first, rest)) = inputs.split_first() else { return Ok(()) };
    let begun = begin(&stored.plan, stored.state.id.clone(), &first.input);
    let (mut state, _) = begun.map_err(|refusal| format!("its first input is refused: {refusal}"))?;
    show(&state);
    for row in rest {
        let seq = row.input.seq;
        if seq != state.seq.next() {
            return Err(format!("input {} follows input {}", seq.0, state.seq.0));
        }
        match step(&stored.plan, &state, &row.input) {
            Next::Step { state: next, .. } => state = *next,
            Next::Ignored(why) => return Err(format!("input {} changes nothing ({why}), yet it is journaled", seq.0)),
            Next::Refused(refusal) => {
                return Err(format!("input {} is refused ({refusal}), yet it is journaled", seq.0));
            }
        }
        show(&state);
    }
    Ok(())
}

fn difference(replayed: &State, stored: &State) -> String {
    if replayed.seq != stored.seq {
        return format!("the journal ends at input {}, the state is that of input {}", replayed.seq.0, stored.seq.0);
    }
    format!("replayed: {:?} at {}; stored: {:?} at {}", replayed.phase, replayed.wanted, stored.phase, stored.wanted)
}
