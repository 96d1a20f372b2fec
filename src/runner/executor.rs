//! Carries out one effect: notes the attempt, calls under a timeout, tries again where that helps.

use super::driver::Message;
use crate::base::fault::{Fault, FaultKind};
use crate::ports::{Journal, JournalError, Traffic};
use crate::rollout::effect::{Effect, EffectId};
use crate::rollout::event::{Event, Outcome};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Tries of one effect, with waits of 0.1, 0.2, 0.4 and 0.8 s between them. Where calls hang rather than fail, the
/// engine's own deadlines come first: they write anew, or give the step up.
const TRIES: u32 = 5;
/// First wait between tries; doubles each time.
const BACKOFF: Duration = Duration::from_millis(100);
/// Noting an attempt takes one small write.
const NOTE_TIMEOUT: Duration = Duration::from_secs(1);
/// Stands over the adapter's own timeouts: describe and update, 5 s each.
const CALL_TIMEOUT: Duration = Duration::from_secs(12);

/// What effects act on.
#[derive(Clone)]
pub(super) struct Executor {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) traffic: Arc<dyn Traffic>,
}

impl Executor {
    /// Begins an effect; its outcome arrives in the driver's queue. Aborting the task abandons the tries that are left.
    pub(super) fn launch(
        &self,
        id: EffectId,
        effect: Effect,
        inbox: mpsc::Sender<Message>,
    ) -> tokio::task::AbortHandle {
        let executor = self.clone();
        let task = tokio::spawn(async move {
            let outcome = executor.run(&id, &effect).await;
            let _ = inbox.send(Message::Event(Event::Settled { effect: id, outcome })).await;
        });
        task.abort_handle()
    }

    async fn run(&self, id: &EffectId, effect: &Effect) -> Outcome {
        let mut wait = BACKOFF;
        let mut tried = 0;
        loop {
            tried += 1;
            // The intent itself is committed: that this note fails or hangs must not keep traffic on a bad release.
            match tokio::time::timeout(NOTE_TIMEOUT, self.journal.attempt(id)).await {
                Ok(Ok(())) => {}
                Ok(Err(error @ JournalError::Fenced(_))) => return Outcome::Failed(Fault::permanent("store", error)),
                Ok(Err(error)) => tracing::warn!(effect = %id, %error, "attempt not noted"),
                Err(_) => tracing::warn!(effect = %id, "attempt not noted: the store does not answer"),
            }
            let fault = match tokio::time::timeout(CALL_TIMEOUT, self.traffic.set_weights(effect)).await {
                Ok(Ok(version)) => return Outcome::Applied { version },
                Ok(Err(fault)) => fault,
                Err(_) => Fault::unknown("app mesh", format!("no answer within {} s", CALL_TIMEOUT.as_secs())),
            };
            tracing::warn!(effect = %id, tried, %fault, "effect failed");
            if fault.kind == FaultKind::Permanent || tried >= TRIES {
                return Outcome::Failed(fault);
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }
}
