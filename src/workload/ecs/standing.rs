//! How a slot stands, from what ECS says of its service and tasks.
//!
//! ECS keeps trying for ever unless a service has a circuit breaker. So a task that stops by itself is evidence here,
//! whatever its deployment says: three of them are a release that does not run. Missing capacity is not; it says nothing
//! of the release, and the time for getting ready bounds the wait.

mod stops;

use super::revision::short;
use crate::rollout::event::{Standing, WorkloadReading};
use aws_sdk_ecs::types::{Deployment, DeploymentRolloutState, HealthStatus, Service, Task};
use aws_smithy_types::DateTime;
use stops::Stops;

/// So many stopped or failed tasks are no accident.
const TOO_MANY: usize = 3;
/// So many tasks whose image cannot be pulled are none: the image does not get there by trying.
const TOO_MANY_PULLS: usize = 2;
/// What events of a service say when tasks have no room.
const NO_CAPACITY: [&str; 3] = ["unable to place a task", "RESOURCE:", "Capacity is unavailable"];

/// What was read of a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    /// Its service.
    pub(super) service: &'a Service,
    /// Its tasks, stopped ones too, as far as they were looked at.
    pub(super) tasks: &'a [Task],
    /// Whether an essential container has a health check.
    pub(super) is_checked: bool,
    /// ARN of the revision that it should run, when that is asked.
    pub(super) wanted: Option<&'a str>,
    /// Fewer tasks than this being asked for is not ready yet.
    pub(super) least: u32,
}

/// A service that is not there, or is going.
pub(super) fn gone(name: &str, cluster: &str, status: Option<&str>) -> WorkloadReading {
    let what = match status {
        Some(status) => format!("service {name} in cluster {cluster} is {status}: it was deleted"),
        None => {
            format!("service {name} is not in cluster {cluster}: it was deleted, or `workload.ecs.services` is wrong")
        }
    };
    WorkloadReading { standing: Standing::Failing, note: what }
}

/// The same where it should run nothing. While it drains, tasks of it may still run.
pub(super) fn ended(name: &str, cluster: &str, status: Option<&str>) -> WorkloadReading {
    let draining = status == Some("DRAINING");
    let standing = if draining { Standing::Progressing } else { Standing::Idle };
    WorkloadReading { standing, note: gone(name, cluster, status).note }
}

/// Whether nothing is asked of a service and nothing runs.
pub(super) fn is_idle(service: &Service) -> bool {
    (service.desired_count(), service.running_count(), service.pending_count()) == (0, 0, 0)
}

/// What a service with nothing to do is said to be.
pub(super) fn idle() -> WorkloadReading {
    WorkloadReading { standing: Standing::Idle, note: "no task is asked for and none runs".to_owned() }
}

/// The deployment that ECS works towards.
pub(super) fn primary(service: &Service) -> Option<&Deployment> {
    service.deployments().iter().find(|deployment| deployment.status() == Some("PRIMARY"))
}

/// Whether two names of revisions, ARNs or short ones, mean the same.
fn is_same(one: Option<&str>, other: Option<&str>) -> bool {
    one.map(short) == other.map(short)
}

/// What a service and its tasks come to. The service is active and not idle.
pub(super) fn read(seen: &Seen<'_>) -> WorkloadReading {
    let Some(primary) = primary(seen.service) else {
        return progressing(format!("{}; ECS has not begun a deployment", counts(seen.service)));
    };
    let stops = Stops::among(seen.tasks.iter().filter(|task| is_of(seen, primary, task)));
    let failing = |note: String| WorkloadReading { standing: Standing::Failing, note };
    if let Some(note) = superseded(seen, primary, &stops).or_else(|| given_up(primary, &stops)) {
        return failing(note);
    }
    let is_wanted = seen.wanted.is_none() || is_same(primary.task_definition(), seen.wanted);
    if stops.crashed() >= TOO_MANY || stops.pulls() >= TOO_MANY_PULLS {
        return failing(stops.to_string());
    }
    if !is_wanted {
        let (has, wants) = (primary.task_definition().unwrap_or("nothing"), seen.wanted.unwrap_or_default());
        let text = format!("the service runs {} and not {} yet", short(has), short(wants));
        return progressing(format!("{text}; somebody else changed it if it stays so"));
    }
    match waited_for(seen, primary, &stops) {
        None => WorkloadReading { standing: Standing::Ready, note: ready_note(seen) },
        Some(_) if failed_unseen(primary, &stops, seen.service) => {
            failing(format!("{} tasks failed, says ECS; {}", primary.failed_tasks(), counts(seen.service)))
        }
        Some(why) => progressing(format!("{}: {why}", counts(seen.service))),
    }
}

fn progressing(note: String) -> WorkloadReading {
    WorkloadReading { standing: Standing::Progressing, note }
}

/// Whether a task belongs to the release that is looked at.
fn is_of(seen: &Seen<'_>, primary: &Deployment, task: &Task) -> bool {
    match seen.wanted {
        Some(wanted) => is_same(task.task_definition_arn(), Some(wanted)),
        None => task.started_by().is_some() && task.started_by() == primary.id(),
    }
}

/// The wanted revision has a deployment, and ECS works towards another one.
fn superseded(seen: &Seen<'_>, primary: &Deployment, stops: &Stops) -> Option<String> {
    let wanted = seen.wanted.filter(|wanted| !is_same(primary.task_definition(), Some(wanted)))?;
    let left = seen.service.deployments().iter().find(|item| is_same(item.task_definition(), Some(wanted)))?;
    let now = short(primary.task_definition().unwrap_or("nothing"));
    if left.rollout_state() == Some(&DeploymentRolloutState::Failed) {
        let why = left.rollout_state_reason().unwrap_or("no reason given").trim_end_matches('.');
        let back = format!("the deployment of {} was given up and the service goes back to {now}", short(wanted));
        return Some(format!("{back}: {why}{}", stops.as_appendix()));
    }
    Some(format!("somebody else deployed {now} over {}", short(wanted)))
}

/// The circuit breaker, or an alarm, gave the deployment up.
fn given_up(primary: &Deployment, stops: &Stops) -> Option<String> {
    let is_failed = primary.rollout_state() == Some(&DeploymentRolloutState::Failed);
    let why = primary.rollout_state_reason().unwrap_or("no reason given").trim_end_matches('.');
    let what = short(primary.task_definition().unwrap_or("nothing"));
    is_failed.then(|| format!("the deployment of {what} was given up: {why}{}", stops.as_appendix()))
}

/// ECS counted failures of which no stopped task tells. Those that it has no room for are counted as well.
fn failed_unseen(primary: &Deployment, stops: &Stops, service: &Service) -> bool {
    let failed = usize::try_from(primary.failed_tasks()).unwrap_or(0);
    failed >= TOO_MANY && (stops.crashed() > 0 || capacity(service, primary, stops).is_none())
}

/// What keeps the service from being ready.
fn waited_for(seen: &Seen<'_>, primary: &Deployment, stops: &Stops) -> Option<String> {
    let service = seen.service;
    let (desired, running, pending) = (service.desired_count(), service.running_count(), service.pending_count());
    if desired == 0 {
        return Some("none is asked for, the others are on their way out".to_owned());
    }
    if i64::from(desired) < i64::from(seen.least) {
        return Some(format!("{} are needed; somebody else lowered the number if it stays so", seen.least));
    }
    if running < desired || primary.running_count() < desired || pending > 0 {
        return Some(missing(service, primary, stops));
    }
    let old: i32 = others(service, primary).map(Deployment::running_count).sum();
    if old > 0 {
        return Some(format!("{old} of the version before still run"));
    }
    if let Some(health) = unhealthy(seen, primary) {
        return Some(health);
    }
    let is_completed = primary.rollout_state().is_none_or(|state| *state == DeploymentRolloutState::Completed);
    let why = primary.rollout_state_reason().unwrap_or("no reason given").trim_end_matches('.');
    (!is_completed).then(|| format!("ECS has not completed the deployment: {why}"))
}

fn others<'a>(service: &'a Service, primary: &'a Deployment) -> impl Iterator<Item = &'a Deployment> {
    service.deployments().iter().filter(|deployment| deployment.id() != primary.id())
}

/// Why tasks are missing.
fn missing(service: &Service, primary: &Deployment, stops: &Stops) -> String {
    let placed = primary.running_count() + primary.pending_count();
    if placed < service.desired_count()
        && let Some(text) = capacity(service, primary, stops)
    {
        return format!("no capacity: {text}");
    }
    if stops.is_empty() { "they are starting".to_owned() } else { stops.to_string() }
}

/// What ECS says about missing capacity since the deployment began: the newest of it.
fn capacity(service: &Service, primary: &Deployment, stops: &Stops) -> Option<String> {
    let moment = |time: Option<&DateTime>| time.map(|time| (time.secs(), time.subsec_nanos()));
    let began = moment(primary.created_at());
    let is_new = |time: Option<&DateTime>| moment(time) >= began;
    let is_about = |message: &&str| NO_CAPACITY.iter().any(|text| message.contains(text));
    let events = service.events().iter().filter(|event| is_new(event.created_at()));
    let event = events.filter_map(|event| event.message()).find(is_about);
    // "(service checkout-b) was unable to…": whose event it is stands in the sentence around it.
    let event = event.map(|text| text.split_once(") ").map_or(text, |(_, rest)| rest));
    event.map(|text| text.trim_end_matches('.').to_owned()).or_else(|| stops.capacity())
}

/// What the tasks that run say of their health, when it is not good.
fn unhealthy(seen: &Seen<'_>, primary: &Deployment) -> Option<String> {
    let wanted = seen.wanted.or(primary.task_definition());
    let is_going = |task: &Task| task.desired_status() == Some("STOPPED") || task.last_status() == Some("STOPPED");
    let is_current = |task: &&Task| is_same(task.task_definition_arn(), wanted) && !is_going(task);
    let tasks = seen.tasks.iter().filter(is_current);
    let (mut starting, mut sick, mut unknown) = (0, 0, 0);
    for task in tasks {
        match (task.last_status(), task.health_status()) {
            (Some("RUNNING"), Some(HealthStatus::Healthy)) => {}
            (Some("RUNNING"), Some(HealthStatus::Unhealthy)) => sick += 1,
            (Some("RUNNING"), _) => unknown += i32::from(seen.is_checked),
            _ => starting += 1,
        }
    }
    let parts = [(sick, "unhealthy by its own check"), (unknown, "not checked yet"), (starting, "not running yet")];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, text)| format!("{count} {text}")).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// "2 of 3 tasks running, 1 pending".
fn counts(service: &Service) -> String {
    let running = format!("{} of {} tasks running", service.running_count(), service.desired_count());
    if service.pending_count() == 0 { running } else { format!("{running}, {} pending", service.pending_count()) }
}

fn ready_note(seen: &Seen<'_>) -> String {
    let health = if seen.is_checked { " and healthy" } else { "; no container has a health check" };
    let known = seen.tasks.iter().filter(|task| task.last_status() == Some("RUNNING")).count();
    let beyond = match usize::try_from(seen.service.running_count()).unwrap_or(0).saturating_sub(known) {
        0 => String::new(),
        more => format!("; {more} of them were not looked at"),
    };
    format!("{}{health}{beyond}", counts(seen.service))
}

#[cfg(test)]
mod tests;
