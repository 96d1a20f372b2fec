//! Keeps a rollout driven: a driver that panics (a defect) or that finds the store further on than itself (a write that
//! was reported as failed had been made) is followed by another, which begins where the store stands. One that was
//! fenced is not: another process drives then.

use super::driver::{Driver, INBOX, Stopped};
use super::handle::Shared;
use crate::base::ids::RolloutId;
use crate::clock::Monotonic;
use crate::ports::Stored;
use crate::rollout::effect::{Effect, EffectId};
use crate::rollout::view::RolloutView;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
        let began = Monotonic::now();
        // The driver is dropped with its panic, so nothing half-changed is seen again.
        let ended = AssertUnwindSafe(driver.run(effects)).catch_unwind().await;
        if began.elapsed() > LONGEST_WAIT {
            wait = FIRST_WAIT;
        }
        let first_wait = match ended {
            Ok(Stopped::Over) => return shared.forget(&id),
            Ok(Stopped::Fenced) => {
                shared.taken_over.store(true, Ordering::SeqCst);
                return shared.forget(&id);
            }
            Ok(Stopped::Behind) => {
                tracing::warn!(rollout = %id, "the store is further on than its driver");
                // What it holds may be a rollback that is waiting to be carried out.
                Duration::ZERO
            }
            Err(_) => {
                tracing::error!(rollout = %id, "the driver panicked; another one takes the rollout up");
                let waited = wait;
                wait = (wait * 2).min(LONGEST_WAIT);
                waited
            }
        };
        let Some((stored, unsettled)) = next_beginning(&shared, &id, first_wait).await else {
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

/// Where the next driver begins, after a wait and as soon as the store answers; `None` when there is nothing left to
/// drive.
async fn next_beginning(shared: &Shared, id: &RolloutId, first_wait: Duration) -> Option<Beginning> {
    let journal = &shared.parts.journal;
    let mut stopping = shared.stopping.subscribe();
    let mut wait = first_wait;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        }
        match (journal.get(id).await, journal.unsettled(id).await) {
            (Ok(None), _) => return None,
            (Ok(Some(stored)), _) if stored.state.is_finished() => {
                tell_the_end(shared, &stored).await;
                return None;
            }
            (Ok(Some(stored)), Ok(unsettled)) => return Some((stored, unsettled)),
            (Err(fault), _) | (_, Err(fault)) => {
                tracing::error!(rollout = %id, %fault, "the store does not say how the rollout stands");
            }
        }
        wait = (wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
    }
}

/// An end that is stored and was told to nobody. Its position is unknown here; the last of all has listeners look at
/// what they missed.
async fn tell_the_end(shared: &Shared, stored: &Stored) {
    if let Ok(position) = shared.parts.journal.position().await {
        shared.publish(position, RolloutView::of(&stored.plan, &stored.state), None);
    }
}
