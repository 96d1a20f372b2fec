//! What happened since: every change of every rollout, numbered, live and from the journal.
//!
//! A listener that was away says where it stopped and misses nothing: the journal is folded again from the start of each
//! rollout that changed, which costs its length once and needs no second record of what people were shown.

use super::handle::Runner;
use super::verify::fold;
use crate::base::fault::Fault;
use crate::base::ids::{RolloutId, Seq};
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
                    changes.push(Change { position: *position, view });
                }
            });
            if let (Err(_), Some((_, position))) = (folded, positions.last_key_value()) {
                let view = Arc::new(RolloutView::of(&stored.plan, &stored.state));
                changes.push(Change { position: *position, view });
            }
        }
        changes.sort_by_key(|change| change.position);
        Ok(changes)
    }
}
