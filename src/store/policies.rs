//! Policies of two places: files of a directory, and those that were pushed. A name that the directory has is the
//! directory's: whoever reviews its files must not find another text in force.

use super::directory::PolicyDirectory;
use crate::base::fault::Fault;
use crate::policy::compile;
use crate::policy::plan::{Plan, WorkloadTarget};
use crate::ports::{Policies, PolicyDoor, PolicyFault, PolicyStore, PushFault, PushedPolicy};
use async_trait::async_trait;
use std::sync::Arc;

/// Pushed policies at most, as for files of a directory: all of them are compiled for each event from outside.
const PUSHED_MAX: usize = 1000;

/// A directory, and what was pushed beside it.
#[derive(Clone)]
pub struct JoinedPolicies {
    directory: PolicyDirectory,
    store: Arc<dyn PolicyStore>,
}

impl JoinedPolicies {
    /// Joins both.
    #[must_use]
    pub fn new(directory: PolicyDirectory, store: Arc<dyn PolicyStore>) -> Self {
        Self { directory, store }
    }
}

/// The plan of a text, or all that is wrong with it.
fn plan(name: &str, text: &str) -> Result<Plan, String> {
    let compiled = compile(name, text).map(|compiled| compiled.plan);
    compiled.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// The same for one that is pushed. Whoever may push must not thereby run programs as the daemon's user.
fn pushed_plan(name: &str, text: &str) -> Result<Plan, String> {
    let plan = plan(name, text)?;
    match plan.workload.as_ref().map(|workload| &workload.target) {
        Some(WorkloadTarget::Process(_)) => Err(format!(
            "{name}: a policy with `workload.process` has to be a file of the daemon's own directory: whoever may push one \
             could otherwise run any program as the daemon's user"
        )),
        Some(WorkloadTarget::Ecs(_)) | None => Ok(plan),
    }
}

/// Valid when it was pushed, and refused by this version: it was pushed to another one.
fn stored(policy: &PushedPolicy) -> Result<Plan, String> {
    pushed_plan(&format!("{} (version {}, pushed)", policy.name, policy.version), &policy.text)
}

#[async_trait]
impl Policies for JoinedPolicies {
    async fn plan(&self, name: &str) -> Result<Plan, PolicyFault> {
        let missing = match self.directory.plan(name).await {
            Err(missing @ PolicyFault::NotFound { .. }) => missing,
            known => return known,
        };
        match self.store.pushed(name).await? {
            Some(policy) => {
                stored(&policy).map_err(|problems| PolicyFault::Invalid { name: name.to_owned(), problems })
            }
            None => {
                let pushed = self.store.all_pushed().await?;
                Err(match missing {
                    PolicyFault::NotFound { name, known } if !pushed.is_empty() => {
                        let names: Vec<&str> = pushed.iter().map(|policy| policy.name.as_str()).collect();
                        let known = format!("{known} (pushed: {})", names.join(", "));
                        PolicyFault::NotFound { name, known }
                    }
                    other => other,
                })
            }
        }
    }

    async fn all(&self) -> Result<Vec<(String, Result<Plan, String>)>, Fault> {
        let mut all = self.directory.all().await?;
        let pushed = self.store.all_pushed().await?;
        let hidden = |name: &str| all.iter().any(|(known, _)| known == name);
        let beside: Vec<_> = pushed.into_iter().filter(|policy| !hidden(&policy.name)).collect();
        all.extend(beside.into_iter().map(|policy| (policy.name.clone(), stored(&policy))));
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(all)
    }
}

#[async_trait]
impl PolicyDoor for JoinedPolicies {
    async fn push(&self, policy: PushedPolicy) -> Result<PushedPolicy, PushFault> {
        let plan = pushed_plan(&policy.name, &policy.text).map_err(PushFault::Invalid)?;
        if plan.name != policy.name {
            return Err(PushFault::OtherName { said: plan.name, asked: policy.name });
        }
        if self.in_directory(&policy.name).await? {
            let directory = self.directory.path().display().to_string();
            return Err(PushFault::InDirectory { name: policy.name, directory });
        }
        let all = self.store.all_pushed().await?;
        if all.len() >= PUSHED_MAX && all.iter().all(|known| known.name != policy.name) {
            return Err(PushFault::TooMany(PUSHED_MAX));
        }
        let version = self.store.push(&policy).await?;
        // Where the same text was in force before, whoever pushed it first stays known for it.
        let kept = self.store.pushed(&policy.name).await?;
        Ok(kept.filter(|kept| kept.version == version).unwrap_or(PushedPolicy { version, ..policy }))
    }

    async fn pushed(&self, name: &str) -> Result<Option<PushedPolicy>, Fault> {
        if self.in_directory(name).await? {
            return Ok(None);
        }
        self.store.pushed(name).await
    }
}

impl JoinedPolicies {
    /// Whether a file claims the name, a broken one too.
    async fn in_directory(&self, name: &str) -> Result<bool, Fault> {
        match self.directory.plan(name).await {
            Ok(_) | Err(PolicyFault::Invalid { .. }) => Ok(true),
            Err(PolicyFault::NotFound { .. }) => Ok(false),
            Err(PolicyFault::Unavailable(fault)) => Err(fault),
        }
    }
}
