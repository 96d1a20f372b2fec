//! What happened since: every change of every rollout, numbered, live and from the journal.
//!
//! A listener that was away says where it stopped and misses nothing: the journal is folded again from the start of each
//! rollout that changed, which costs its length once and needs no second record of what people were shown.

use super::handle::Runner;
use super::verify::fold;
use crate::base::fault::Fault;
use crate::base::ids::{RolloutId, Seq};
use crate::ports::Journal;
use crate::rollout::event::{Command, Event};
use crate::rollout::state::State;
use crate::rollout::view::RolloutView;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Changes caught up with in one go; a listener that was away for longer catches up in several.
const CATCH_UP: u32 = 1000;

/// One change of one rollout.
#[derive(Debug, Clone)]
pub struct Change {
    /// Position among all changes: rises.
    pub position: u64,
    /// How the rollout stood after it.
    pub view: Arc<RolloutView>,
    /// What somebody asked for by it, and who, where it was a command.
    pub asked: Option<String>,
}

/// What a rollout's journal tells when it is replayed.
#[derive(Debug)]
pub enum Replayed<T> {
    /// All of it was taken in.
    Whole(T),
    /// It is longer than asked for, or another engine wrote it: nothing was taken in.
    Not,
}

/// What somebody asked for, and who, in a line.
pub(super) fn asked(event: &Event) -> Option<String> {
    let Event::Command { command, actor } = event else { return None };
    let (person, reason) = match command {
        Command::Start(_) | Command::Resume | Command::Thaw | Command::MakeWay => (None, ""),
        Command::Pause { reason }
        | Command::Promote { reason, .. }
        | Command::Abort { reason }
        | Command::Freeze { reason } => (None, reason.as_str()),
        Command::Approve { person, reason, .. } | Command::Reject { person, reason, .. } => {
            (person.as_deref(), reason.as_str())
        }
        Command::Supersede { by } => (None, by.as_str()),
    };
    let full = if matches!(command, Command::Promote { full: true, .. }) { " --full" } else { "" };
    let name = person.filter(|person| *person != actor.name).map(|person| format!(" for {person}")).unwrap_or_default();
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    Some(format!("{}{full} by {}{name}{why}", command.verb(), actor.name))
}

impl Runner {
    /// Position of the last change.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn position(&self) -> Result<u64, Fault> {
        self.parts().journal.position().await
    }

    /// Changes after a position, oldest first, a thousand at most. A rollout whose journal cannot be folded (written by
    /// another engine) is shown as it stands, once.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn changes_since(&self, position: u64) -> Result<Vec<Change>, Fault> {
        let journal = &self.parts().journal;
        let mut wanted: BTreeMap<RolloutId, BTreeMap<Seq, u64>> = BTreeMap::new();
        for (position, id, seq) in journal.since(position, CATCH_UP).await? {
            wanted.entry(id).or_default().insert(seq, position);
        }
        let mut changes = Vec::new();
        for (id, positions) in wanted {
            let Some(stored) = journal.get(&id).await? else { continue };
            let inputs = journal.inputs(&id).await?;
            let folded = fold(&stored, &inputs, |state| {
                if let Some(position) = positions.get(&state.seq) {
                    let view = Arc::new(RolloutView::of(&stored.plan, state));
                    changes.push(Change { position: *position, view, asked: None });
                }
            });
            if let (Err(_), Some((_, position))) = (folded, positions.last_key_value()) {
                let view = Arc::new(RolloutView::of(&stored.plan, &stored.state));
                changes.push(Change { position: *position, view, asked: None });
            }
        }
        changes.sort_by_key(|change| change.position);
        Ok(changes)
    }
    /// Replays a rollout's journal: hands about `points` changes of it to `take`, evenly spread, and besides each that people are
    /// told of, with what somebody asked for by it. `None` where there is no such rollout. A journal of more than `most`
    /// inputs is not replayed.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn replay<T: Send + 'static>(
        &self,
        id: &str,
        (most, points): (u64, u64),
        begin: T,
        take: fn(&mut T, &RolloutView, Option<String>),
    ) -> Result<Option<Replayed<T>>, Fault> {
        replay(self.parts().journal.as_ref(), id, (most, points), begin, take).await
    }
}

/// The same as [`Runner::replay`], of a journal that no daemon need be running on.
///
/// # Errors
/// The store's fault.
pub async fn replay<T: Send + 'static>(
    journal: &dyn Journal,
    id: &str,
    (most, points): (u64, u64),
    begin: T,
    take: fn(&mut T, &RolloutView, Option<String>),
) -> Result<Option<Replayed<T>>, Fault> {
    let id = RolloutId(id.to_owned());
    let Some(stored) = journal.get(&id).await? else { return Ok(None) };
    let last = stored.state.seq.0;
    if last > most {
        return Ok(Some(Replayed::Not));
    }
    let inputs = journal.inputs(&id).await?;
    // Thousands of inputs take a while, for which nobody else on this thread should wait.
    let replaying = tokio::task::spawn_blocking(move || {
        let (mut taken, mut rows, mut before) = (begin, inputs.iter(), None);
        let every = (last / points.max(1)).max(1);
        let folded = fold(&stored, &inputs, |state| {
            let asked = rows.next().and_then(|row| asked(&row.input.event));
            let news = Some(told(state));
            // A view is judged anew, which costs as much as the step did.
            if state.seq.0.is_multiple_of(every) || state.seq.0 == last || asked.is_some() || before != news {
                take(&mut taken, &RolloutView::of(&stored.plan, state), asked);
            }
            before = news;
        });
        folded.map(|()| taken)
    });
    let replayed = replaying.await.map_err(|_| Fault::unknown("runner", "the replay of a journal broke off"))?;
    Ok(Some(replayed.map_or(Replayed::Not, Replayed::Whole)))
}

/// What people are told of when it changes.
fn told(state: &State) -> impl PartialEq + use<> {
    let reason = state.paused.as_ref().map(|pause| pause.reason.clone());
    let frozen = state.frozen.as_ref().map(|frozen| frozen.at);
    let (approvals, ended) = (state.approvals.len(), state.ending.is_some());
    (std::mem::discriminant(&state.phase), state.wanted, reason, frozen, approvals, ended, state.trouble.clone())
}
