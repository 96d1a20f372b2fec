//! What events from outside and pushed policies need, put together once: the inbox is made for each turn of driving.

use super::StartupError;
use crate::api::ApiState;
use crate::api::auth::Access;
use crate::api::hooks::Hooks;
use crate::api::slack::Door;
use crate::api::status::Status;
use crate::base::fault::Fault;
use crate::base::secret::Redacted;
use crate::clock::Clock;
use crate::dashboard::feed::Feed;
use crate::ports::{Deliveries, Policies, PolicyStore};
use crate::runner::Runner;
use crate::store::directory::PolicyDirectory;
use crate::store::policies::JoinedPolicies;
use crate::trigger::event::Source;
use crate::trigger::inbox::Inbox;
use crate::trigger::signature::Secrets;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Secrets of the hooks by the name of their source, two at most each.
pub type HookSecrets = BTreeMap<String, Vec<Redacted<String>>>;

/// The parts that outlive turns.
pub(super) struct Triggers {
    deliveries: Arc<dyn Deliveries>,
    policies: Arc<JoinedPolicies>,
    hooks: Arc<Hooks>,
    clock: Arc<dyn Clock>,
}

impl Triggers {
    /// Joins a directory of policies and what a store keeps.
    pub(super) fn new<S: Deliveries + PolicyStore>(
        store: Arc<S>,
        directory: &Path,
        hooks: Hooks,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let policies = JoinedPolicies::new(PolicyDirectory::new(directory), Arc::clone(&store) as Arc<dyn PolicyStore>);
        Self { deliveries: store, policies: Arc::new(policies), hooks: Arc::new(hooks), clock }
    }

    /// Policies of the directory and pushed ones.
    pub(super) fn policies(&self) -> Arc<dyn Policies> {
        Arc::clone(&self.policies) as Arc<dyn Policies>
    }

    /// What the API works with while this process drives by a runner that has taken up its rollouts. Starts that were
    /// asked for and have no outcome are taken up here.
    ///
    /// # Errors
    /// The store's fault.
    pub(super) async fn state(
        &self,
        runner: &Runner,
        access: Access,
        status: Arc<Status>,
        slack: Arc<Door>,
    ) -> Result<ApiState, Fault> {
        let inbox = Inbox::new(runner.clone(), Arc::clone(&self.deliveries), Arc::clone(&self.clock));
        let starts = inbox.resume().await?;
        if starts > 0 {
            tracing::info!(starts, "starts taken up that events had asked for");
        }
        let (policies, hooks) = (Arc::clone(&self.policies), Arc::clone(&self.hooks));
        let feed = Feed::new(runner.clone());
        Ok(ApiState { runner: runner.clone(), access, status, policies, inbox, hooks, slack, feed, mesh: None })
    }
}

/// By what events from outside are believed.
///
/// # Errors
/// A secret that is none; said without showing it.
pub(super) fn hooks(secrets: &HookSecrets, public_url: Option<&str>) -> Result<Hooks, StartupError> {
    Ok(Hooks { secrets: checked(secrets)?, public_url: public_url.map(str::to_owned) })
}

fn checked(secrets: &HookSecrets) -> Result<BTreeMap<Source, Secrets>, StartupError> {
    let mut checked = BTreeMap::new();
    for (name, values) in secrets {
        let wrong = |why: String| {
            let variable = format!("TIDEGATE_HOOK_SECRET_{}", name.to_ascii_uppercase());
            StartupError::Files(format!("the secret of the hook `{name}` (hooks.{name}, or ${variable}): {why}"))
        };
        let source = Source::named(name).ok_or_else(|| wrong("there is no such hook".to_owned()))?;
        let mut values = values.iter().cloned();
        let Some(current) = values.next() else { continue };
        let previous = values.next();
        if values.next().is_some() {
            return Err(wrong("there are more than two; drop the old ones".to_owned()));
        }
        let both = Secrets::new(current, previous).map_err(|error| wrong(error.to_string()))?;
        checked.insert(source, both);
    }
    Ok(checked)
}
