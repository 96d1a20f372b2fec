//! Starts under an identifier that was reserved before: whoever reserved it can ask again after a crash, and what had
//! begun is found and not begun twice.

use super::handle::{CommandError, Runner, StartError, StartRequest};
use crate::base::fault::Fault;
use crate::base::ids::{RolloutId, RouteRef};
use crate::policy::plan::Plan;
use crate::ports::PolicyFault;
use crate::rollout::event::{Actor, Command};
use crate::rollout::view::RolloutView;

impl Runner {
    /// The plan of a policy as it is now.
    ///
    /// # Errors
    /// [`PolicyFault`]: there is none, it is not valid, or it cannot be read.
    pub async fn plan(&self, policy: &str) -> Result<Plan, PolicyFault> {
        self.parts().policies.plan(policy).await
    }

    /// Starts a rollout by a plan under an identifier. To be called when [`Runner::reserved`] finds none.
    ///
    /// # Errors
    /// [`StartError`]; nothing was changed then, unless it is a fault of unknown outcome: ask [`Runner::reserved`].
    pub async fn start_reserved(
        &self,
        id: &RolloutId,
        plan: Plan,
        request: &StartRequest,
        actor: Actor,
    ) -> Result<RolloutView, StartError> {
        self.start_by(plan, request, actor, id.clone()).await
    }

    /// The rollout of exactly this identifier, which is driven from here on if nobody did.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn reserved(&self, id: &RolloutId) -> Result<Option<RolloutView>, Fault> {
        let Some(stored) = self.parts().journal.get(id).await? else { return Ok(None) };
        let view = RolloutView::of(&stored.plan, &stored.state);
        if !view.finished {
            self.adopt(id).await?;
        }
        Ok(Some(view))
    }

    /// The live rollout of a route.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn live_on(&self, route: &RouteRef) -> Result<Option<RolloutView>, Fault> {
        let live = self.parts().journal.live().await?;
        let found = live.iter().find(|stored| stored.plan.route == *route);
        Ok(found.map(|stored| RolloutView::of(&stored.plan, &stored.state)))
    }

    /// Ends a live rollout, since a newer release is to take its place.
    ///
    /// # Errors
    /// [`CommandError::Refused`] where it is past that; else what a command can come to.
    pub async fn supersede(&self, id: &str, by: String) -> Result<RolloutView, CommandError> {
        // Under a freeze the newer one would not begin: what is live stays.
        let _no_freeze_meanwhile = self.shared().freezing.read().await;
        let policy = self.get(id).await.ok().flatten().map(|view| view.policy).unwrap_or_default();
        self.not_frozen(&policy).await.map_err(|error| CommandError::NotWritten(error.to_string()))?;
        let daemon = Actor { name: "tidegate".to_owned(), via: "daemon".to_owned() };
        self.command(id, Command::Supersede { by }, daemon).await
    }
}
