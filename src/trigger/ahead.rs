//! Starts that people ask for ahead of their time. They are kept and followed as what events ask for, so they outlive the
//! process and a takeover; but each has its own time, so until then it competes with nothing.

use super::inbox::Inbox;
use crate::base::time::Timestamp;
use crate::clock::new_rollout_id;
use crate::ports::{HookStart, JournalError, Received};
use crate::rollout::event::Actor;
use crate::rollout::view::RolloutView;
use crate::runner::handle::{StartError, StartRequest};

/// What a delivery of such a start is called.
const SOURCE: &str = "ahead";

impl Inbox {
    /// Keeps a start for a time; answers it as one that has not begun. What is asked of it then is what is asked of a start
    /// by an event: it waits for a freeze and for a window, and does with a live rollout what `while_live` says.
    ///
    /// # Errors
    /// [`StartError`]; nothing was kept then, unless it is a fault of unknown outcome: a list of rollouts tells.
    pub async fn ask(
        &self,
        request: StartRequest,
        not_before: Timestamp,
        actor: Actor,
    ) -> Result<RolloutView, StartError> {
        let kept = |fault| StartError::Journal(JournalError::Fault(fault));
        let waiting = self.shared.deliveries.open().await.map_err(kept)?;
        let waiting = waiting.iter().filter(|start| start.not_before.is_some()).count();
        self.shared.runner.may_be_asked(&request, not_before, waiting).await?;
        let StartRequest { policy, image, revision, outside_windows, .. } = request;
        let (rollout, at) = (new_rollout_id(), self.now());
        let start = HookStart {
            rollout,
            policy,
            image,
            revision,
            actor,
            at,
            not_before: Some(not_before),
            outside_windows,
            outcome: None,
        };
        let received = Received {
            ids: vec![format!("{SOURCE}:{}", start.rollout)],
            source: SOURCE.to_owned(),
            at,
            nothing: Vec::new(),
            starts: vec![start.clone()],
        };
        self.shared.deliveries.receive(&received).await.map_err(kept)?;
        tracing::info!(rollout = %start.rollout, policy = %start.policy, by = %start.actor, not_before = %not_before.rfc3339(), "start asked for");
        self.shared.waits(&start, &waits_for(not_before));
        self.wake(&start.policy);
        Ok(self.view(&start))
    }
}

/// What such a start waits for until its time.
pub(super) fn waits_for(not_before: Timestamp) -> String {
    format!("it waits: it is to begin at {}", not_before.rfc3339())
}
