//! Carries out one effect: notes the attempt, calls under a timeout, tries again where that helps.

use super::driver::Message;
use super::preview::NO_PREVIEWS;
use crate::base::fault::{Fault, FaultKind};
use crate::ports::{Journal, JournalError, Previews, Traffic, Workloads};
use crate::rollout::effect::{Effect, EffectId, Retirement};
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

/// The same for a deployment: some ten calls of 5 s at worst, most of which answer within 100 ms.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(60);
/// Why nothing is deployed.
pub(super) const NO_WORKLOADS: &str = "this daemon deploys nothing: it has no access to what runs the versions";

/// What effects act on.
#[derive(Clone)]
pub(super) struct Executor {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) traffic: Arc<dyn Traffic>,
    pub(super) workloads: Option<Arc<dyn Workloads>>,
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
            let fault = match self.call(effect).await {
                Ok(outcome) => return outcome,
                Err(fault) => fault,
            };
            tracing::warn!(effect = %id, tried, %fault, "effect failed");
            if fault.kind == FaultKind::Permanent || tried >= TRIES {
                return Outcome::Failed(fault);
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    async fn call(&self, effect: &Effect) -> Result<Outcome, Fault> {
        match effect {
            Effect::SetWeights(write) => {
                let version = within(CALL_TIMEOUT, "app mesh", self.traffic.set_weights(write)).await?;
                Ok(Outcome::Applied { version })
            }
            Effect::Deploy(deployment) => {
                let deployed = within(DEPLOY_TIMEOUT, "workload", self.workloads()?.deploy(deployment)).await?;
                Ok(Outcome::Deployed(deployed))
            }
            Effect::Retire(Retirement { target, slot }) => {
                within(DEPLOY_TIMEOUT, "workload", self.workloads()?.retire(target, *slot)).await?;
                Ok(Outcome::Retired)
            }
            Effect::OpenPreview(preview) => {
                within(CALL_TIMEOUT, "app mesh", self.previews()?.open(preview)).await?;
                Ok(Outcome::PreviewOpened)
            }
            Effect::ClosePreview(preview) => {
                within(CALL_TIMEOUT, "app mesh", self.previews()?.close(preview)).await?;
                Ok(Outcome::PreviewClosed)
            }
        }
    }

    /// A rollout with a preview is not started where there are none; it may be taken up there.
    fn previews(&self) -> Result<&dyn Previews, Fault> {
        self.traffic.previews().ok_or_else(|| Fault::permanent("app mesh", NO_PREVIEWS))
    }

    /// A rollout with a workload is not started where there is none; it may be taken up there.
    fn workloads(&self) -> Result<&dyn Workloads, Fault> {
        self.workloads.as_deref().ok_or_else(|| Fault::permanent("workload", NO_WORKLOADS))
    }
}

async fn within<T>(limit: Duration, source: &str, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late = || Err(Fault::unknown(source, format!("no answer within {} s", limit.as_secs())));
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| late())
}
