//! How a slot is said to stand while its tasks come up, fail to, or are changed by others: rows of what a user reads.

use super::{Shop, ecs_target, target};
use serde_json::{Value, json};
use tidegate::base::weight::Slot;
use tidegate::ports::Workloads;
use tidegate::rollout::event::{Deployed, Standing, WorkloadReading};

/// Looks once per step until the standing is one that lasts, for `steps` at most.
async fn settle(shop: &Shop, wanted: &Deployed, steps: u32) -> WorkloadReading {
    for _ in 0..steps {
        let reading = shop.look(wanted).await;
        if reading.standing != Standing::Progressing {
            return reading;
        }
        shop.advance(1).await;
    }
    shop.look(wanted).await
}

fn breaker(rollback: bool) -> Value {
    json!({ "deploymentConfiguration": { "deploymentCircuitBreaker": { "enable": true, "rollback": rollback } } })
}

#[tokio::test]
async fn tasks_that_do_not_come_up_are_told_apart() {
    let cannot_pull = "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref \
                       IMAGE: not found";
    let no_instance = "0 of 3 tasks running: no capacity: was unable to place a task because no container instance met \
                       all of its requirements. The closest matching (container-instance 0123456789abcdef0) has \
                       insufficient memory available";
    let no_fargate = "0 of 3 tasks running: no capacity: was unable to place a task. Reason: Capacity is unavailable at \
                      this time. Please try again later or in a different availability zone";
    let exited = "3 tasks stopped: Essential container in task exited: app exit code 1";
    let rows = [
        ("crash", json!({}), Standing::Failing, exited.to_owned()),
        ("crash", json!({ "after": 0, "exit_code": 2 }), Standing::Failing, exited.replace("code 1", "code 2")),
        (
            "crash",
            json!({ "exit_code": 137 }),
            Standing::Failing,
            exited.replace("code 1", "code 137 (OutOfMemoryError: Container killed due to memory usage)"),
        ),
        ("cannot_pull", json!({}), Standing::Failing, format!("3 tasks stopped: {cannot_pull}")),
        (
            "never_healthy",
            json!({}),
            Standing::Failing,
            "3 tasks stopped: Task failed container health checks".to_owned(),
        ),
        ("never_checked", json!({}), Standing::Progressing, "3 of 3 tasks running: 3 not checked yet".to_owned()),
        ("stuck", json!({}), Standing::Progressing, "0 of 3 tasks running, 3 pending: they are starting".to_owned()),
        ("no_capacity", json!({}), Standing::Progressing, no_instance.to_owned()),
        ("no_fargate_capacity", json!({}), Standing::Progressing, no_fargate.to_owned()),
    ];
    for (kind, more, standing, note) in rows {
        let Some(shop) = Shop::start().await else { return };
        shop.behave(kind, more).await;
        let deployed = shop.deploy().await;
        let reading = settle(&shop, &deployed, 8).await;
        let note = note.replace("IMAGE", super::IMAGE);
        assert_eq!((reading.standing, reading.note), (standing, note), "{kind}");
        assert_eq!(shop.ecs.look(&target(), Slot::First, None).await.unwrap().standing, Standing::Ready, "{kind}");
    }
}

#[tokio::test]
async fn a_slow_crash_loop_is_failing_even_while_all_tasks_run() {
    let Some(shop) = Shop::with(json!({})).await else { return };
    shop.behave("crash", json!({ "after": 4, "exit_code": 3 })).await;
    let deployed = shop.deploy().await;
    let mut standings = Vec::new();
    for _ in 0..14 {
        standings.push(shop.look(&deployed).await);
        shop.advance(1).await;
    }
    let ready = standings.iter().position(|reading| reading.standing == Standing::Ready);
    let failing = standings.iter().position(|reading| reading.standing == Standing::Failing);
    assert!(ready.is_some() && ready < failing, "{standings:#?}");
    let is_failing = |reading: &WorkloadReading| reading.standing == Standing::Failing;
    assert!(standings[failing.unwrap()..].iter().all(is_failing), "it stays so: {standings:#?}");
    let note = &standings[failing.unwrap()].note;
    assert_eq!(note, "3 tasks stopped: Essential container in task exited: app exit code 3");
}

#[tokio::test]
async fn the_circuit_breaker_is_believed() {
    for (rollback, expected) in [
        (
            false,
            "the deployment of checkout-v2:2 was given up: ECS deployment circuit breaker: tasks failed to start; \
             3 tasks stopped: Essential container in task exited: app exit code 1",
        ),
        (
            true,
            "the deployment of checkout-v2:2 was given up and the service goes back to checkout-v2:1: ECS deployment \
             circuit breaker: tasks failed to start; 3 tasks stopped: Essential container in task exited: app exit code 1",
        ),
    ] {
        let Some(shop) = Shop::with(breaker(rollback)).await else { return };
        // A slot that runs: there is something to go back to.
        shop.double
            .ecs("UpdateService", json!({ "cluster": "prod", "service": "checkout-b", "desiredCount": 3 }))
            .await;
        shop.advance(6).await;
        shop.behave("crash", json!({ "after": 0 })).await;
        let deployed = shop.deploy().await;
        let mut last = shop.look(&deployed).await;
        for _ in 0..6 {
            shop.advance(1).await;
            let reading = shop.look(&deployed).await;
            assert!(
                reading.standing == last.standing || reading.standing == Standing::Failing,
                "never back from failing: {last:?}, then {reading:?}"
            );
            last = reading;
            if last.note == expected {
                break;
            }
        }
        assert_eq!((last.standing, last.note.as_str()), (Standing::Failing, expected));
        // Once the service is back on the old revision, only the stopped tasks tell.
        shop.advance(8).await;
        let later = shop.look(&deployed).await;
        assert_eq!(later.standing, Standing::Failing, "{}", later.note);
    }
}

#[tokio::test]
async fn what_others_do_to_the_service_is_said() {
    let Some(shop) = Shop::start().await else { return };
    let update = async |more: Value| {
        let mut call = json!({ "cluster": "prod", "service": "checkout-b" });
        for (key, value) in more.as_object().unwrap() {
            call[key] = value.clone();
        }
        shop.double.ecs("UpdateService", call).await;
    };
    let deployed = shop.deploy().await;
    let said = |reading: WorkloadReading| format!("{:?}: {}", reading.standing, reading.note);
    assert!(said(settle(&shop, &deployed, 9).await).starts_with("Ready"));

    // Somebody deploys over it: first both deployments are there, later only theirs.
    update(json!({ "taskDefinition": "checkout-v2:1" })).await;
    let reading = said(shop.look(&deployed).await);
    assert_eq!(reading, "Failing: somebody else deployed checkout-v2:1 over checkout-v2:2");
    shop.advance(8).await;
    assert_eq!(
        said(shop.look(&deployed).await),
        "Progressing: the service runs checkout-v2:1 and not checkout-v2:2 yet; somebody else changed it if it stays so"
    );
    update(json!({ "taskDefinition": deployed.what })).await;
    shop.advance(8).await;
    assert!(said(shop.look(&deployed).await).starts_with("Ready"));

    // More of them, as autoscaling does.
    update(json!({ "desiredCount": 5 })).await;
    shop.advance(1).await;
    assert_eq!(said(shop.look(&deployed).await), "Progressing: 3 of 5 tasks running, 2 pending: they are starting");
    shop.advance(3).await;
    assert_eq!(said(shop.look(&deployed).await), "Ready: 5 of 5 tasks running and healthy");

    // A task that somebody stops is no evidence.
    let tasks = shop.double.ecs("ListTasks", json!({ "cluster": "prod", "serviceName": "checkout-b" })).await;
    for task in &tasks["taskArns"].as_array().unwrap()[..4] {
        shop.double.ecs("StopTask", json!({ "cluster": "prod", "task": task })).await;
    }
    shop.advance(1).await;
    assert_eq!(said(shop.look(&deployed).await), "Progressing: 1 of 5 tasks running, 4 pending: they are starting");
    shop.advance(4).await;
    assert!(said(shop.look(&deployed).await).starts_with("Ready"));

    update(json!({ "desiredCount": 0 })).await;
    shop.advance(3).await;
    assert_eq!(said(shop.look(&deployed).await), "Idle: no task is asked for and none runs");
    shop.double.ecs("DeleteService", json!({ "cluster": "prod", "service": "checkout-b" })).await;
    let at_its_end = async || said(shop.ecs.look(&target(), Slot::Second, None).await.unwrap());
    let reading = said(shop.look(&deployed).await);
    assert_eq!(reading, "Failing: service checkout-b in cluster prod is DRAINING: it was deleted");
    assert_eq!(at_its_end().await, "Progressing: service checkout-b in cluster prod is DRAINING: it was deleted");
    shop.advance(1).await;
    let reading = said(shop.look(&deployed).await);
    assert_eq!(reading, "Failing: service checkout-b in cluster prod is INACTIVE: it was deleted");
    // Where it should come to its end, it has.
    assert_eq!(at_its_end().await, "Idle: service checkout-b in cluster prod is INACTIVE: it was deleted");
    let refused = shop.ecs.examine(&ecs_target(), Slot::Second).await.unwrap_err();
    assert!(refused.message.contains("service checkout-b in cluster prod is INACTIVE"), "{refused}");
}

#[tokio::test]
async fn more_tasks_than_one_call_describes_are_bounded() {
    let Some(shop) = Shop::start().await else { return };
    shop.double.ecs("UpdateService", json!({ "cluster": "prod", "service": "checkout-a", "desiredCount": 130 })).await;
    let deployed = shop.deploy().await;
    assert_eq!(deployed.instances, 130);
    let reading = settle(&shop, &deployed, 9).await;
    assert_eq!(reading.note, "130 of 130 tasks running and healthy; 30 of them were not looked at");
    assert_eq!(reading.standing, Standing::Ready);
}
