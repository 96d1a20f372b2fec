//! Looks at the instances of a slot while a release is on its way into it, runs in it or leaves it, bounded in time.
//!
//! Apart from the other readings, so that a system that does not answer delays none of them.

use super::driver::Message;
use crate::base::fault::Fault;
use crate::policy::plan::WorkloadTarget;
use crate::ports::Workloads;
use crate::rollout::event::{Event, Observation, WorkloadReading};
use crate::rollout::workload::Look;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// A look that takes longer than this says nothing about now: four calls of 5 s.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Looks for as long as there is something to look at; ends with the driver. What to look at comes through `asks`, and
/// when it changes the next look is at once.
pub(super) async fn look_on(
    workloads: Arc<dyn Workloads>,
    target: WorkloadTarget,
    mut asks: watch::Receiver<Option<Look>>,
    inbox: mpsc::Sender<Message>,
) {
    loop {
        let asked = asks.borrow_and_update().clone();
        let Some(look) = asked else {
            match asks.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        let every = look.every.duration();
        // A task of its own: should an adapter panic, the next look is made all the same.
        let looked = tokio::spawn(once(Arc::clone(&workloads), target.clone(), look)).await;
        let broken = |_| Err(Fault::unknown("workload", "the look broke off"));
        let workload = Some(looked.unwrap_or_else(broken));
        let observation = Observation { workload, ..Observation::default() };
        if asks.has_changed().unwrap_or(false) {
            // What was asked is over, and its answer may not be taken for that of what is asked now.
            continue;
        }
        if inbox.send(Message::Event(Event::Observed(observation))).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            changed = asks.changed() => if changed.is_err() { return },
        }
    }
}

async fn once(workloads: Arc<dyn Workloads>, target: WorkloadTarget, look: Look) -> Result<WorkloadReading, Fault> {
    let asked = workloads.look(&target, look.slot, look.wanted.as_ref());
    let late = || Err(Fault::transient("workload", "no answer in time"));
    tokio::time::timeout(TIMEOUT, asked).await.unwrap_or_else(|_| late())
}
