//! Runs the versions as two services of Amazon ECS, one for each slot, through the AWS SDK.
//!
//! A release is the next revision of the task definition that the slot's service has, which differs in one container's
//! image and in tags (`revision`). Every call may be repeated: a revision is found again by its rollout's tag, and an
//! update is made only where it changes something. How a slot stands follows from its service and its tasks
//! (`standing`). Stable's service is read and never written.

mod calls;
mod fault;
mod revision;
mod standing;

use crate::aws;
use crate::base::fault::Fault;
use crate::base::weight::{Percent, Slot};
use crate::policy::plan::{EcsTarget, Scale, WorkloadTarget};
use crate::ports::Workloads;
use crate::rollout::effect::Deployment;
use crate::rollout::event::{Deployed, WorkloadReading};
use async_trait::async_trait;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::types::{DeploymentControllerType, DesiredStatus, HealthStatus, SchedulingStrategy, Service, Task};
use aws_types::SdkConfig;
use calls::Calls;
use fault::SOURCE;
use revision::{Release, short};
use standing::Seen;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// So many of the newest revisions are looked at for one's own. A lost one is among the first unless others registered
/// more than that in the seconds between two attempts.
const NEWEST_REVISIONS: i32 = 5;
/// So many tasks ECS describes in one call.
const MOST_TASKS: usize = 100;
/// Of these, so many may be stopped ones: enough to count to three and see what is common.
const MOST_STOPPED: usize = 20;
/// So many revisions are remembered: two for each policy, of a hundred policies.
const MOST_REMEMBERED: usize = 200;

/// Amazon ECS.
#[derive(Debug, Clone)]
pub struct Ecs {
    calls: Calls,
    /// Whether ECS checks the health of a revision's tasks. Revisions never change.
    checked: Arc<Mutex<BTreeMap<String, bool>>>,
}

impl Ecs {
    /// Over a client that is already bounded as its owner wants it.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { calls: Calls::new(client), checked: Arc::default() }
    }

    /// With the region, credentials and endpoint of a shared set. Timeouts and retries are this adapter's own; the HTTP
    /// client is the set's, or one over rustls with the system's certificates.
    #[must_use]
    pub fn from_config(config: &SdkConfig) -> Self {
        Self::new(Client::from_conf(aws::builder!(aws_sdk_ecs, config).build()))
    }

    /// How often each operation was called since this was made, for those that were; repeats by the SDK count once.
    #[must_use]
    pub fn calls(&self) -> Vec<(&'static str, u64)> {
        self.calls.made()
    }

    /// How a slot stands, where its service can take a release.
    ///
    /// # Errors
    /// There is no such service, or one that cannot take a release: what to do about it. And the faults of ECS.
    pub async fn examine(&self, target: &EcsTarget, slot: Slot) -> Result<WorkloadReading, Fault> {
        let name = name(target, slot);
        let answer = self.calls.services(&target.cluster, &[name]).await?;
        changeable(target, name, find(answer.services(), name))?;
        self.look(&WorkloadTarget::Ecs(target.clone()), slot, None).await
    }

    /// The revision of this rollout, which is registered unless it is found: on the service, or among newer ones when an
    /// answer was lost on the way. An older one was made from something that the service has no more.
    async fn revision(&self, service: &Service, release: &Release<'_>) -> Result<String, Fault> {
        let present = service.task_definition().unwrap_or_default();
        let described = self.calls.definition(present).await?;
        let present = revision::arn(&described).unwrap_or(present);
        if revision::is_of(&described, release) {
            return Ok(present.to_owned());
        }
        let family = revision::family(present);
        for arn in self.calls.newest(family, NEWEST_REVISIONS).await? {
            if revision::number(&arn) <= revision::number(present) {
                break;
            }
            if revision::is_of(&self.calls.definition(&arn).await?, release) {
                return Ok(arn);
            }
        }
        let request = revision::next(&described, release)
            .map_err(|unfit| Fault::permanent(SOURCE, format!("task definition {}: {unfit}", short(present))))?;
        self.calls.register(&request, &format!("family {family}")).await
    }

    /// Whether ECS checks the health of tasks of a revision.
    async fn is_checked(&self, arn: &str) -> Result<bool, Fault> {
        let known = self.checked.lock().ok().and_then(|checked| checked.get(arn).copied());
        if let Some(known) = known {
            return Ok(known);
        }
        let is_checked = revision::has_health_check(&self.calls.definition(arn).await?);
        if let Ok(mut checked) = self.checked.lock() {
            if checked.len() >= MOST_REMEMBERED {
                checked.clear();
            }
            checked.insert(arn.to_owned(), is_checked);
        }
        Ok(is_checked)
    }

    /// Tasks of a service, as many as one call describes: some stopped ones, and of the others what fits.
    async fn tasks(&self, cluster: &str, service: &str) -> Result<Vec<Task>, Fault> {
        let mut arns = self.calls.tasks(cluster, service, DesiredStatus::Stopped).await?;
        arns.truncate(MOST_STOPPED);
        arns.extend(self.calls.tasks(cluster, service, DesiredStatus::Running).await?);
        arns.truncate(MOST_TASKS);
        if arns.is_empty() { Ok(Vec::new()) } else { self.calls.describe_tasks(cluster, arns).await }
    }
}

#[async_trait]
impl Workloads for Ecs {
    fn unfit(&self, target: &WorkloadTarget) -> Option<String> {
        match target {
            WorkloadTarget::Ecs(_) => None,
            WorkloadTarget::Process(_) => Some(NO_PROCESSES.to_owned()),
        }
    }

    async fn deploy(&self, deployment: &Deployment) -> Result<Deployed, Fault> {
        let target = ours(&deployment.target)?;
        let (canary, stable) = (name(target, deployment.slot), name(target, deployment.slot.other()));
        let answer = self.calls.services(&target.cluster, &[canary, stable]).await?;
        let service = changeable(target, canary, find(answer.services(), canary))?;
        let wanted = instances(target, service, find(answer.services(), stable), (stable, deployment.share))?;
        let release = Release {
            rollout: &deployment.rollout,
            container: &target.container,
            image: &deployment.image,
            revision: deployment.revision.as_deref(),
        };
        let arn = self.revision(service, &release).await?;
        let runs_it = service.task_definition().map(short) == Some(short(&arn));
        let definition = (!runs_it).then_some(arn.as_str());
        // What autoscaling or a person has raised stays.
        let count = (service.desired_count() < wanted).then_some(wanted);
        let mut asked_for = service.desired_count().max(wanted);
        if definition.is_some() || count.is_some() {
            let updated = self.calls.update(&target.cluster, canary, definition, count).await?;
            asked_for = updated.map_or(asked_for, |service| service.desired_count());
        }
        Ok(Deployed { what: arn, instances: u32::try_from(asked_for).unwrap_or(0) })
    }

    async fn look(
        &self,
        target: &WorkloadTarget,
        slot: Slot,
        wanted: Option<&Deployed>,
    ) -> Result<WorkloadReading, Fault> {
        let target = ours(target)?;
        let (cluster, name) = (target.cluster.as_str(), name(target, slot));
        let answer = self.calls.services(cluster, &[name]).await?;
        let service = match find(answer.services(), name) {
            Some(service) if service.status() == Some("ACTIVE") => service,
            service => {
                let status = service.and_then(Service::status);
                return Ok(match wanted {
                    Some(_) => standing::gone(name, cluster, status),
                    // It should come to its end, and has: waiting for more would hold the next release up.
                    None => standing::ended(name, cluster, status),
                });
            }
        };
        if standing::is_idle(service) {
            return Ok(standing::idle());
        }
        let tasks = self.tasks(cluster, name).await?;
        // Without a check the health of a task is UNKNOWN for ever, with one until it was made the first time.
        let is_unknown =
            |task: &Task| !matches!(task.health_status(), Some(HealthStatus::Healthy | HealthStatus::Unhealthy));
        let is_open = tasks.iter().any(|task| task.last_status() == Some("RUNNING") && is_unknown(task));
        let revision = standing::primary(service).and_then(|deployment| deployment.task_definition());
        let is_checked = match revision {
            Some(revision) if is_open => self.is_checked(revision).await?,
            _ => true,
        };
        // ECS may still tell the number of before. Where autoscaling decides, a lower one is nothing to wait for.
        let least = wanted.filter(|_| target.scale.follows_share()).map_or(0, |deployed| deployed.instances);
        let wanted = wanted.map(|deployed| deployed.what.as_str());
        Ok(standing::read(&Seen { service, tasks: &tasks, is_checked, wanted, least }))
    }

    async fn retire(&self, target: &WorkloadTarget, slot: Slot) -> Result<(), Fault> {
        let target = ours(target)?;
        let name = name(target, slot);
        let answer = self.calls.services(&target.cluster, &[name]).await?;
        match find(answer.services(), name) {
            Some(service) if service.status() == Some("ACTIVE") && service.desired_count() > 0 => {
                self.calls.update(&target.cluster, name, None, Some(0)).await.map(|_| ())
            }
            // Asked already, or there is nothing left to ask.
            _ => Ok(()),
        }
    }
}

/// Said of processes.
const NO_PROCESSES: &str = "this daemon runs no processes: `workload.process` is for `tidegate local`";

/// The target, when it is services of ECS.
fn ours(target: &WorkloadTarget) -> Result<&EcsTarget, Fault> {
    match target {
        WorkloadTarget::Ecs(target) => Ok(target),
        WorkloadTarget::Process(_) => Err(Fault::permanent(SOURCE, NO_PROCESSES)),
    }
}

/// Name of a slot's service.
fn name(target: &EcsTarget, slot: Slot) -> &str {
    &target.services[slot.index()]
}

/// A service of an answer, by its name or ARN.
fn find<'a>(services: &'a [Service], name: &str) -> Option<&'a Service> {
    services.iter().find(|service| service.service_name() == Some(short(name)))
}

/// The canary's service, when it can be given a task definition and a count.
fn changeable<'a>(target: &EcsTarget, name: &str, service: Option<&'a Service>) -> Result<&'a Service, Fault> {
    let place = format!("service {name} in cluster {}", target.cluster);
    let refuse = |why: String| Err(Fault::permanent(SOURCE, why));
    let Some(service) = service else {
        return refuse(format!("there is no {place}: create it, or correct `workload.ecs.services`"));
    };
    let status = service.status().unwrap_or("of unknown status");
    if status != "ACTIVE" {
        return refuse(format!("{place} is {status}: it was deleted; create it, or correct `workload.ecs.services`"));
    }
    let controller = service.deployment_controller().map(|controller| controller.r#type());
    if let Some(controller) = controller.filter(|controller| **controller != DeploymentControllerType::Ecs) {
        let todo = "Tidegate needs one of type ECS (a rolling update)";
        return refuse(format!("{place} has the deployment controller {}: {todo}", controller.as_str()));
    }
    if service.scheduling_strategy() == Some(&SchedulingStrategy::Daemon) {
        return refuse(format!(
            "{place} is a DAEMON service, which has no number of tasks: it has to be a REPLICA one"
        ));
    }
    Ok(service)
}

/// How many tasks the canary's service needs at least. Never more than it has, when somebody else decides about that.
fn instances(
    target: &EcsTarget,
    canary: &Service,
    stable: Option<&Service>,
    (name, share): (&str, Option<Percent>),
) -> Result<i32, Fault> {
    match (target.scale, stable) {
        (Scale::Keep, _) => Ok(canary.desired_count().max(1)),
        (Scale::Tasks(number), _) => Ok(i32::try_from(number).unwrap_or(i32::MAX).max(1)),
        (Scale::SameAsStable, Some(stable)) => Ok(stable.desired_count().max(1)),
        (Scale::FollowShare { headroom_percent }, Some(stable)) => {
            let share = u64::from(share.unwrap_or(Percent::FULL).get());
            let parts =
                u64::try_from(stable.desired_count()).unwrap_or(0) * share * (100 + u64::from(headroom_percent));
            Ok(i32::try_from(parts.div_ceil(100 * 100)).unwrap_or(i32::MAX).max(1))
        }
        (Scale::SameAsStable | Scale::FollowShare { .. }, None) => {
            let place = format!("service {name} in cluster {}", target.cluster);
            let todo = "create it, or correct `workload.ecs.services`";
            Err(Fault::permanent(SOURCE, format!("there is no {place} to be as large as: {todo}")))
        }
    }
}
