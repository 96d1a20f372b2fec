//! Keeps a rollout driven: a driver that panics (a defect) or that finds the store further on than itself (a write that
//! was reported as failed had been made) is followed by another, which begins where the store stands. One that was
//! fenced is not: another process drives then.

use super::driver::{Driver, INBOX, Stopped};
use super::handle::Shared;
use crate::base::ids::RolloutId;
use crate::ports::Stored;
use crate::rollout::effect::{Effect, EffectId};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// First wait before the next driver; doubles, so that a defect that strikes each time does not eat the processor.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait. A canary must not stand unjudged for longer than its telemetry may be silent by default.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What a driver begins with.
type Beginning = (Stored, Vec<(EffectId, Effect)>);

/// Drives a rollout until it is finished, the process stops, or another process has taken over.
pub(super) async fn keep(shared: Arc<Shared>, id: RolloutId, first: Driver, effects: Vec<(EffectId, Effect)>) {
    let (mut driver, mut effects, mut wait) = (first, effects, FIRST_WAIT);
    loop {
        // The driver is dropped with its panic, so nothing half-changed is seen again.
        match AssertUnwindSafe(driver.run(effects)).catch_unwind().await {
            Ok(Stopped::Over) => return shared.forget(&id),
            Ok(Stopped::Behind) => tracing::warn!(rollout = %id, "the store is further on than its driver"),
            Err(_) => tracing::error!(rollout = %id, "the driver panicked; another one takes the rollout up"),
        }
        let Some((stored, unsettled)) = next_beginning(&shared, &id, &mut wait).await else {
            return shared.forget(&id);
        };
        tracing::warn!(rollout = %id, "rollout taken up again");
        driver = enlist(&shared, stored);
        effects = unsettled;
    }
}

/// A driver that commands can reach.
pub(super) fn enlist(shared: &Arc<Shared>, stored: Stored) -> Driver {
    let (sender, inbox) = mpsc::channel(INBOX);
    shared.enlist(stored.state.id.clone(), sender.clone());
    Driver::new(Arc::clone(shared), stored, inbox, sender)
}

/// Where the next driver begins; `None` when there is nothing left to drive.
async fn next_beginning(shared: &Shared, id: &RolloutId, wait: &mut Duration) -> Option<Beginning> {
    let journal = &shared.parts.journal;
    let mut stopping = shared.stopping.subscribe();
    loop {
        if *stopping.borrow() {
            return None;
        }
        match journal.get(id).await {
            Ok(Some(stored)) if stored.state.is_finished() => return None,
            Ok(None) => return None,
            Ok(Some(_)) => {}
            Err(fault) => tracing::error!(rollout = %id, %fault, "the store does not say how the rollout stands"),
        }
        tokio::select! {
            () = tokio::time::sleep(*wait) => *wait = (*wait * 2).min(LONGEST_WAIT),
            _ = stopping.changed() => return None,
        }
        if let (Ok(Some(stored)), Ok(unsettled)) = (journal.get(id).await, journal.unsettled(id).await) {
            return Some((stored, unsettled));
        }
    }
}
