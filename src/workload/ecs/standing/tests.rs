//! Standings as functions of what ECS describes: what the double of the integration tests does not show.

use super::*;
use aws_sdk_ecs::types::{Container, ServiceEvent, TaskStopCode};

const WANTED: &str = "arn:aws:ecs:us-east-1:1:task-definition/web:2";
const OLD: &str = "arn:aws:ecs:us-east-1:1:task-definition/web:1";

/// A value with a change: the SDK's structs cannot be written out.
fn with<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

fn deployment(definition: &str, running: i32, pending: i32) -> Deployment {
    Deployment::builder()
        .id(format!("ecs-svc/{}", short(definition)))
        .status("PRIMARY")
        .task_definition(definition)
        .created_at(DateTime::from_secs(100))
        .running_count(running)
        .pending_count(pending)
        .rollout_state(DeploymentRolloutState::Completed)
        .build()
}

/// Makes it one that ECS does not work towards.
fn active(deployment: &mut Deployment) {
    deployment.status = Some("ACTIVE".to_owned());
}

fn service(desired: i32, deployments: Vec<Deployment>) -> Service {
    let running = deployments.iter().map(Deployment::running_count).sum();
    let pending = deployments.iter().map(Deployment::pending_count).sum();
    Service::builder()
        .desired_count(desired)
        .running_count(running)
        .pending_count(pending)
        .set_deployments(Some(deployments))
        .build()
}

fn running(definition: &str, health: Option<HealthStatus>) -> Task {
    let task = Task::builder().task_definition_arn(definition).started_by("ecs-svc/web:2").set_health_status(health);
    task.last_status("RUNNING").desired_status("RUNNING").build()
}

fn stopped(code: TaskStopCode, reason: &str, containers: Vec<Container>) -> Task {
    let task = Task::builder().task_definition_arn(WANTED).started_by("ecs-svc/web:2").last_status("STOPPED");
    task.stop_code(code).stopped_reason(reason).set_containers(Some(containers)).build()
}

fn container(name: &str, exit_code: Option<i32>, reason: Option<&str>) -> Container {
    Container::builder().name(name).set_exit_code(exit_code).set_reason(reason.map(str::to_owned)).build()
}

fn exited(code: i32) -> Task {
    let containers = vec![container("envoy", Some(143), None), container("app", Some(code), None)];
    stopped(TaskStopCode::EssentialContainerExited, "Essential container in task exited", containers)
}

fn said(service: &Service, tasks: &[Task], wanted: Option<&str>) -> String {
    let reading = read(&Seen { service, tasks, is_checked: true, wanted, least: 0 });
    format!("{:?}: {}", reading.standing, reading.note)
}

#[test]
fn two_stops_are_an_accident_and_three_are_not() {
    let service = service(3, vec![deployment(WANTED, 1, 2)]);
    let tasks = [exited(1), exited(1), exited(2)];
    for (count, expected) in [
        (0, "Progressing: 1 of 3 tasks running, 2 pending: they are starting"),
        (
            1,
            "Progressing: 1 of 3 tasks running, 2 pending: 1 task stopped: Essential container in task exited: app exit code 1",
        ),
        (
            2,
            "Progressing: 1 of 3 tasks running, 2 pending: 2 tasks stopped: Essential container in task exited: app exit code 1",
        ),
        (3, "Failing: 3 tasks stopped: Essential container in task exited: app exit code 1 (1 for other reasons)"),
    ] {
        assert_eq!(said(&service, &tasks[..count], Some(WANTED)), expected);
    }
}

#[test]
fn an_image_that_cannot_be_pulled_twice_is_failing() {
    let service = service(3, vec![deployment(WANTED, 0, 3)]);
    let reason = "CannotPullContainerError: not found";
    let pull = || stopped(TaskStopCode::TaskFailedToStart, reason, vec![container("app", None, Some(reason))]);
    assert!(said(&service, &[pull()], Some(WANTED)).starts_with("Progressing: "));
    let expected = format!("Failing: 2 tasks stopped: {reason}");
    assert_eq!(said(&service, &[pull(), pull()], Some(WANTED)), expected);
}

#[test]
fn tasks_that_others_end_are_no_evidence() {
    let service = service(1, vec![deployment(WANTED, 1, 0)]);
    let ends = [
        (TaskStopCode::UserInitiated, "Task stopped by user"),
        (TaskStopCode::SpotInterruption, "Your Spot Task was interrupted."),
        (TaskStopCode::ServiceSchedulerInitiated, "Scaling activity initiated by (deployment ecs-svc/1)"),
        (TaskStopCode::InfrastructureHealth, "The host failed"),
        (TaskStopCode::TerminationNotice, "x"),
    ];
    let mut tasks: Vec<Task> = ends
        .iter()
        .flat_map(|(code, reason)| std::iter::repeat_with(|| stopped(code.clone(), reason, vec![])).take(3))
        .collect();
    // Nor are those of another revision.
    tasks.extend(
        std::iter::repeat_with(|| with(exited(1), |task| task.task_definition_arn = Some(OLD.to_owned()))).take(3),
    );
    tasks.push(running(WANTED, Some(HealthStatus::Healthy)));
    assert_eq!(said(&service, &tasks, Some(WANTED)), "Ready: 1 of 1 tasks running and healthy");
    let failed =
        stopped(TaskStopCode::ServiceSchedulerInitiated, "Task failed ELB health checks in (target-group x)", vec![]);
    tasks.extend(std::iter::repeat_n(failed, 3));
    let expected = "Failing: 3 tasks stopped: Task failed ELB health checks in (target-group x)";
    assert_eq!(said(&service, &tasks, Some(WANTED)), expected);
}

#[test]
fn the_container_that_is_the_cause_is_named() {
    for (app, envoy, expected) in [
        ((Some(1), None), (Some(143), None), "app exit code 1"),
        ((Some(143), None), (Some(2), None), "envoy exit code 2"),
        ((Some(0), None), (Some(143), None), "app exit code 0"),
        (
            (Some(137), Some("OutOfMemoryError: killed")),
            (Some(1), None),
            "app exit code 137 (OutOfMemoryError: killed)",
        ),
        ((Some(143), None), (Some(137), None), "envoy exit code 137"),
    ] {
        let containers = vec![container("app", app.0, app.1), container("envoy", envoy.0, envoy.1)];
        let task = stopped(TaskStopCode::EssentialContainerExited, "Essential container in task exited.", containers);
        let stops = Stops::among(std::iter::once(&task));
        assert_eq!(stops.to_string(), format!("1 task stopped: Essential container in task exited: {expected}"));
    }
}

#[test]
fn missing_capacity_is_no_evidence_whatever_ecs_counts() {
    let event = |seconds: i64, text: &str| {
        ServiceEvent::builder().created_at(DateTime::from_secs(seconds)).message(text).build()
    };
    let no_room = "(service web) was unable to place a task. Reason: RESOURCE:MEMORY.";
    let failed = |count: i32| with(deployment(WANTED, 1, 0), |deployment| deployment.failed_tasks = count);
    let told = |events: Vec<ServiceEvent>| with(service(3, vec![failed(7)]), |service| service.events = Some(events));
    let expected =
        "Progressing: 1 of 3 tasks running: no capacity: was unable to place a task. Reason: RESOURCE:MEMORY";
    assert_eq!(said(&told(vec![event(101, no_room)]), &[], Some(WANTED)), expected);
    // What was said before the deployment began explains nothing of it.
    let expected = "Failing: 7 tasks failed, says ECS; 1 of 3 tasks running";
    assert_eq!(said(&told(vec![event(99, no_room)]), &[], Some(WANTED)), expected);
    assert_eq!(said(&told(vec![]), &[], Some(WANTED)), expected);
    // Once all are up, earlier failures are history.
    let up = service(1, vec![failed(7)]);
    let tasks = [running(WANTED, Some(HealthStatus::Healthy))];
    assert!(said(&up, &tasks, Some(WANTED)).starts_with("Ready: "));
}

#[test]
fn ready_waits_for_everything() {
    let healthy = || running(WANTED, Some(HealthStatus::Healthy));
    let primary = || deployment(WANTED, 2, 0);
    let state = |state: Option<DeploymentRolloutState>| with(primary(), |deployment| deployment.rollout_state = state);
    let old = |count: i32| with(deployment(OLD, count, 0), active);
    let in_progress = DeploymentRolloutState::InProgress;
    let rows = [
        (vec![primary()], vec![healthy(), healthy()], "Ready: 2 of 2 tasks running and healthy"),
        (vec![state(None)], vec![healthy(), healthy()], "Ready: 2 of 2 tasks running and healthy"),
        (vec![primary(), old(0)], vec![healthy(), healthy()], "Ready: 2 of 2 tasks running and healthy"),
        (
            vec![state(Some(in_progress))],
            vec![healthy(), healthy()],
            "Progressing: 2 of 2 tasks running: ECS has not completed the deployment: no reason given",
        ),
        (
            vec![primary(), old(1)],
            vec![healthy(), healthy()],
            "Progressing: 3 of 2 tasks running: 1 of the version before still run",
        ),
        (
            vec![primary()],
            vec![healthy(), running(WANTED, Some(HealthStatus::Unhealthy))],
            "Progressing: 2 of 2 tasks running: 1 unhealthy by its own check",
        ),
        (
            vec![primary()],
            vec![healthy(), running(WANTED, None)],
            "Progressing: 2 of 2 tasks running: 1 not checked yet",
        ),
        (
            vec![primary()],
            vec![healthy(), with(healthy(), |task| task.last_status = Some("ACTIVATING".to_owned()))],
            "Progressing: 2 of 2 tasks running: 1 not running yet",
        ),
        // Old tasks fill the count of the service and not that of the deployment.
        (vec![deployment(WANTED, 0, 0), old(2)], vec![], "Progressing: 2 of 2 tasks running: they are starting"),
        (vec![], vec![], "Progressing: 0 of 2 tasks running; ECS has not begun a deployment"),
    ];
    for (deployments, tasks, expected) in rows {
        assert_eq!(said(&service(2, deployments), &tasks, Some(WANTED)), expected);
    }
    let service = service(2, vec![primary()]);
    let tasks = [running(WANTED, None), running(WANTED, None)];
    let reading = read(&Seen { service: &service, tasks: &tasks, is_checked: false, wanted: None, least: 0 });
    assert_eq!(
        (reading.standing, reading.note.as_str()),
        (Standing::Ready, "2 of 2 tasks running; no container has a health check")
    );
}

#[test]
fn short_names_and_arns_are_the_same() {
    let service = service(1, vec![deployment("web:2", 1, 0)]);
    let tasks = [running(WANTED, Some(HealthStatus::Healthy))];
    assert!(said(&service, &tasks, Some(WANTED)).starts_with("Ready: "));
}

#[test]
fn a_deployment_that_ecs_gave_up_is_failing() {
    let failed = with(deployment(WANTED, 0, 0), |deployment| {
        deployment.rollout_state = Some(DeploymentRolloutState::Failed);
        deployment.rollout_state_reason = Some("ECS deployment circuit breaker: tasks failed to start.".to_owned());
    });
    let given_up = service(1, vec![failed.clone()]);
    let text = "ECS deployment circuit breaker: tasks failed to start";
    let expected = format!("Failing: the deployment of web:2 was given up: {text}");
    assert_eq!(said(&given_up, &[], Some(WANTED)), expected);
    assert_eq!(said(&given_up, &[], None), expected);
    let back = service(1, vec![deployment(OLD, 0, 1), with(failed, active)]);
    let expected = format!(
        "Failing: the deployment of web:2 was given up and the service goes back to web:1: {text}; \
                            1 task stopped: Essential container in task exited: app exit code 9"
    );
    assert_eq!(said(&back, &[exited(9)], Some(WANTED)), expected);
}
