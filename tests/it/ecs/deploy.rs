//! Deploying and retiring: what is written, how often, and that repeating it writes nothing more.

use super::{IMAGE, OLD_IMAGE, Shop, deployment, ecs_target, target};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tidegate::base::weight::{Percent, Slot};
use tidegate::policy::plan::{EcsTarget, Scale, WorkloadTarget};
use tidegate::ports::Workloads;
use tidegate::rollout::effect::Deployment;
use tidegate::rollout::event::Standing;

/// Registrations of the world itself.
const BEFORE: usize = 2;

/// A described revision without what ECS gives each one, so that two can be compared.
fn comparable(described: &Value) -> Value {
    let mut definition = described["taskDefinition"].clone();
    for member in ["taskDefinitionArn", "revision", "registeredAt"] {
        definition.as_object_mut().unwrap().remove(member);
    }
    definition
}

#[tokio::test]
async fn a_release_differs_in_the_image_and_becomes_ready() {
    let Some(shop) = Shop::start().await else { return };
    let before = shop.definition("checkout-v2:1").await;
    let stable_before = shop.service("checkout-a").await;
    shop.double
        .control(
            "ecs/system_tag",
            json!({ "taskDefinition": "checkout-v2:1", "key": "aws:cloudformation:x", "value": "y" }),
        )
        .await;
    let earlier = shop.double.calls().await.len();
    let deployed = shop.deploy().await;
    assert_eq!(deployed.what, "arn:aws:ecs:us-east-1:123456789012:task-definition/checkout-v2:2");
    assert_eq!(deployed.instances, 3);

    let mut looks = Vec::new();
    while looks.last().is_none_or(|(standing, _)| *standing == Standing::Progressing) {
        assert!(looks.len() < 20, "{looks:?}");
        let reading = shop.look(&deployed).await;
        looks.push((reading.standing, reading.note));
        shop.advance(1).await;
    }
    let said: Vec<String> = looks.iter().map(|(standing, note)| format!("{standing:?}: {note}")).collect();
    assert_said(
        &said,
        &[
            "Progressing: 0 of 3 tasks running: they are starting",
            "Progressing: 0 of 3 tasks running, 3 pending: they are starting",
            "Progressing: 0 of 3 tasks running, 3 pending: they are starting",
            "Progressing: 3 of 3 tasks running: 3 not checked yet",
            "Ready: 3 of 3 tasks running and healthy",
        ],
    );
    print_calls(&shop, earlier, looks.len()).await;

    let after = shop.definition("checkout-v2:2").await;
    let mut expected = comparable(&before);
    expected["containerDefinitions"][0]["image"] = json!(IMAGE);
    assert_eq!(comparable(&after), expected);
    assert_eq!(
        after["tags"],
        json!([
            { "key": "team", "value": "payments" },
            { "key": "tidegate:rollout", "value": "r-0123456789abcdef" },
            { "key": "tidegate:revision", "value": "v2 _commit 4f2a_" },
        ])
    );
    assert_eq!(shop.service("checkout-a").await, stable_before, "stable's service is not touched");
}

#[track_caller]
fn assert_said(said: &[String], expected: &[&str]) {
    assert_eq!(said, expected, "{said:#?}");
}

/// The calls of one deployment until it is ready: each operation, how often.
async fn print_calls(shop: &Shop, earlier: usize, looks: usize) {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for call in &shop.double.calls().await[earlier..] {
        *counts.entry(call["operation"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let own: BTreeMap<String, u64> =
        shop.ecs.calls().into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    assert_eq!(own, counts, "what the adapter counts is what arrived");
    #[expect(clippy::print_stdout, reason = "for docs/aws.md: shown with --no-capture")]
    {
        println!("calls of one deployment with {looks} looks: {counts:?}");
    }
    let of_deploy = ["DescribeTaskDefinition", "ListTaskDefinitions", "RegisterTaskDefinition", "UpdateService"];
    let of_deploy: Vec<u64> = of_deploy.iter().map(|name| counts[*name]).collect();
    // The second DescribeTaskDefinition learns whether there are health checks, once for each revision.
    assert_eq!(of_deploy, [2, 1, 1, 1]);
    assert_eq!(counts["DescribeServices"], 1 + looks as u64);
}

#[tokio::test]
async fn a_second_deployment_for_the_same_rollout_changes_nothing() {
    let Some(shop) = Shop::start().await else { return };
    let first = shop.deploy().await;
    let before = (shop.revisions().await, shop.service("checkout-b").await);
    assert_eq!(shop.deploy().await, first);
    assert_eq!((shop.revisions().await, shop.service("checkout-b").await), before);

    // Another image for the same rollout, and the same image for another one, are other deployments.
    let other = Deployment { image: OLD_IMAGE.to_owned(), ..deployment() };
    assert!(shop.ecs.deploy(&other).await.unwrap().what.ends_with("checkout-v2:3"));
    let mut another = deployment();
    another.rollout.0 = "r-fedcba9876543210".to_owned();
    another.revision = None;
    assert!(shop.ecs.deploy(&another).await.unwrap().what.ends_with("checkout-v2:4"));
    let tags = shop.definition("checkout-v2:4").await["tags"].clone();
    let expected = [("team", "payments"), ("tidegate:rollout", "r-fedcba9876543210")];
    assert_eq!(tags, json!(expected.map(|(key, value)| json!({ "key": key, "value": value }))));
}

#[tokio::test]
async fn an_answer_that_is_lost_at_any_call_leads_to_one_revision_and_one_deployment() {
    for operation in
        ["DescribeServices", "DescribeTaskDefinition", "ListTaskDefinitions", "RegisterTaskDefinition", "UpdateService"]
    {
        let Some(shop) = Shop::start().await else { return };
        // As often as the SDK tries by itself, so that the caller notices.
        shop.double.fault(operation, "lost", json!({ "times": 3 })).await;
        let mut faults = Vec::new();
        let deployed = loop {
            match shop.ecs.deploy(&deployment()).await {
                Ok(deployed) => break deployed,
                Err(fault) => faults.push(fault.to_string()),
            }
            assert!(faults.len() < 5, "{operation}: {faults:#?}");
        };
        assert_eq!(deployed.instances, 3, "{operation}");
        let revisions = shop.revisions().await;
        assert_eq!(revisions.last().unwrap(), &json!(deployed.what), "{operation}");
        assert_eq!(revisions.len(), 2, "{operation}: one revision beside the old one, {faults:#?}");
        let service = shop.service("checkout-b").await;
        assert_eq!(service["taskDefinition"], json!(deployed.what), "{operation}");
        assert_eq!(service["desiredCount"], 3, "{operation}");
        assert_eq!(service["deployments"].as_array().unwrap().len(), 2, "{operation}: the new and the old one");
        #[expect(clippy::print_stdout, reason = "what a user reads: shown with --no-capture")]
        {
            println!("{operation} lost: {faults:#?}");
        }
    }
}

const fn follow(headroom_percent: u32) -> Scale {
    Scale::FollowShare { headroom_percent }
}

#[tokio::test]
async fn as_many_tasks_as_are_needed_and_never_fewer_than_there_are() {
    let cases = [
        // scale, share, stable has, canary has, canary gets
        (Scale::SameAsStable, None, 3, 0, 3),
        (Scale::SameAsStable, None, 0, 0, 1),
        (Scale::SameAsStable, None, 3, 5, 5),
        (Scale::SameAsStable, None, 3, 2, 3),
        (Scale::Keep, None, 3, 0, 1),
        (Scale::Keep, None, 3, 2, 2),
        (Scale::Tasks(4), None, 3, 0, 4),
        (Scale::Tasks(4), None, 9, 5, 5),
        (follow(0), Some(1), 10, 0, 1),
        (follow(20), Some(50), 10, 1, 6),
        (follow(20), Some(10), 7, 0, 1),
        (follow(25), Some(50), 7, 0, 5),
        (follow(50), Some(100), 10, 6, 15),
        (follow(0), Some(50), 0, 0, 1),
        (follow(0), Some(10), 10, 4, 4),
    ];
    let Some(shop) = Shop::start().await else { return };
    for (number, (scale, share, stable, canary, expected)) in cases.into_iter().enumerate() {
        for (service, count) in [("checkout-a", stable), ("checkout-b", canary)] {
            shop.double
                .ecs("UpdateService", json!({ "cluster": "prod", "service": service, "desiredCount": count }))
                .await;
        }
        let target = WorkloadTarget::Ecs(EcsTarget { scale, ..ecs_target() });
        let share = share.and_then(Percent::new);
        let mut wanted = Deployment { target, share, ..deployment() };
        wanted.rollout.0 = format!("r-{number}");
        let earlier = shop.double.calls().await.len();
        let deployed = shop.ecs.deploy(&wanted).await.unwrap();
        assert_eq!(deployed.instances, expected, "{scale:?} {share:?} {stable} {canary}");
        let calls = shop.double.calls().await;
        let update = calls[earlier..].iter().find(|call| call["operation"] == "UpdateService").unwrap();
        let count = update["params"].get("desiredCount").and_then(Value::as_u64);
        assert_eq!(
            count,
            (u64::from(expected) > canary).then_some(u64::from(expected)),
            "{scale:?} {share:?} {stable} {canary}"
        );
        assert_eq!(shop.service("checkout-b").await["desiredCount"], expected);
        assert_eq!(shop.service("checkout-a").await["desiredCount"], stable);
    }
}

/// More of the same revision: nothing is registered, and fewer than were asked for are not ready.
#[tokio::test]
async fn a_growing_slot_keeps_its_revision_and_waits_for_its_tasks() {
    let Some(shop) = Shop::start().await else { return };
    let target = WorkloadTarget::Ecs(EcsTarget { scale: follow(0), ..ecs_target() });
    let at = |percent| Deployment { target: target.clone(), share: Percent::new(percent), ..deployment() };
    let first = shop.ecs.deploy(&at(10)).await.unwrap();
    shop.advance(6).await;
    let ready = shop.ecs.look(&target, Slot::Second, Some(&first)).await.unwrap();
    assert_eq!((first.instances, ready.standing), (1, Standing::Ready), "{}", ready.note);

    let second = shop.ecs.deploy(&at(100)).await.unwrap();
    assert_eq!((&second.what, second.instances), (&first.what, 3));
    let reading = shop.ecs.look(&target, Slot::Second, Some(&second)).await.unwrap();
    assert_eq!(reading.standing, Standing::Progressing, "{}", reading.note);
    shop.advance(6).await;
    let reading = shop.ecs.look(&target, Slot::Second, Some(&second)).await.unwrap();
    assert_eq!(reading.standing, Standing::Ready, "{}", reading.note);

    let fewer = json!({ "cluster": "prod", "service": "checkout-b", "desiredCount": 1 });
    shop.double.ecs("UpdateService", fewer).await;
    shop.advance(6).await;
    let reading = shop.ecs.look(&target, Slot::Second, Some(&second)).await.unwrap();
    assert_eq!(reading.standing, Standing::Progressing);
    let note = "1 of 1 tasks running: 3 are needed; somebody else lowered the number if it stays so";
    assert_eq!(reading.note, note);
    let calls = shop.double.calls().await;
    assert_eq!(calls.iter().filter(|call| call["operation"] == "RegisterTaskDefinition").count(), BEFORE + 1);
}

#[tokio::test]
async fn a_retired_slot_comes_to_rest_and_is_asked_once() {
    let Some(shop) = Shop::start().await else { return };
    let updates = async || {
        let calls = shop.double.calls().await;
        calls.iter().filter(|call| call["operation"] == "UpdateService").count()
    };
    shop.ecs.retire(&target(), Slot::First).await.unwrap();
    shop.ecs.retire(&target(), Slot::First).await.unwrap();
    // The canary's service never had any.
    shop.ecs.retire(&target(), Slot::Second).await.unwrap();
    assert_eq!(updates().await, 1);
    let reading = shop.ecs.look(&target(), Slot::First, None).await.unwrap();
    assert_eq!(reading.standing, Standing::Progressing, "{}", reading.note);
    assert_eq!(reading.note, "3 of 0 tasks running: none is asked for, the others are on their way out");
    shop.advance(3).await;
    let reading = shop.ecs.look(&target(), Slot::First, None).await.unwrap();
    assert_eq!((reading.standing, reading.note.as_str()), (Standing::Idle, "no task is asked for and none runs"));

    // One that is gone has nothing left to retire.
    for service in ["checkout-a", "checkout-b"] {
        shop.double.ecs("DeleteService", json!({ "cluster": "prod", "service": service })).await;
    }
    shop.ecs.retire(&target(), Slot::First).await.unwrap();
    let elsewhere = EcsTarget { services: ["x".to_owned(), "y".to_owned()], ..ecs_target() };
    shop.ecs.retire(&WorkloadTarget::Ecs(elsewhere), Slot::First).await.unwrap();
    assert_eq!(updates().await, 1);
}
