//! Workloads, steps and bounds that make no sense, with what is said of them.

use super::{HEAD, check, good, with};
use crate::base::time::Millis;
use crate::policy::plan::{EcsTarget, ProcessTarget, Scale, WorkloadTarget};

const ECS: &str = "workload: { ecs: { cluster: prod, services: { a: shop-a, b: shop-b }, container: app";

#[test]
fn services_for_the_versions() {
    let plan = good(&with(&format!("{ECS} }} }}\n"))).plan;
    let workload = plan.workload.expect("as the file has it");
    let services = ["shop-a".to_owned(), "shop-b".to_owned()];
    let (cluster, container) = ("prod".to_owned(), "app".to_owned());
    let target = EcsTarget { cluster, services, container, scale: Scale::SameAsStable };
    assert_eq!(workload.target, WorkloadTarget::Ecs(target));
    assert_eq!((workload.ready_within, workload.keep_for), (Millis::from_seconds(900), Millis::from_seconds(1800)));
    let plan = good(&with(&format!("{ECS}, scale: keep, ready_within: 2m, keep_for: 0s }} }}\n"))).plan;
    let workload = plan.workload.expect("as the file has it");
    assert_eq!((workload.ready_within, workload.keep_for), (Millis::from_seconds(120), Millis(0)));
    assert!(good(&with("")).plan.workload.is_none());
}

const PROCESS: &str = "workload: { process: { command: [./server, \"{revision}\"], ports: { a: 9001, b: 9002 }";

#[test]
fn processes_for_the_versions() {
    let plan = good(&with(&format!("{PROCESS}, env: {{ PORT: \"{{port}}\" }} }} }}\n"))).plan;
    let workload = plan.workload.expect("as the file has it");
    let target = ProcessTarget {
        nodes: ["a".into(), "b".into()],
        command: vec!["./server".into(), "{revision}".into()],
        env: [("PORT".to_owned(), "{port}".to_owned())].into(),
        ports: [9001, 9002],
        first: "initial".into(),
    };
    assert_eq!(workload.target, WorkloadTarget::Process(target));
    assert_eq!((workload.ready_within, workload.keep_for), (Millis::from_seconds(60), Millis::from_seconds(30)));
    check(
        &with(
            "workload: { process: { command: [./server, \"{version}\", \"{}{x y}\"], ports: { a: 9001, b: 9001, c: 1 } } }\n",
        ),
        &[
            "6:44 `{version}` stands for nothing in a process | known are {port}, {node}, {revision}, {image}",
            "6:90 both versions listen on port 9001 | the processes of both versions run side by side during a rollout",
            "6:96 `c` is no version of this policy | the versions are `a` and `b`",
        ],
    );
    check(
        &with("workload: { process: { command: [./server], ports: { a: 9001 }, ready_within: 0s } }\n"),
        &[
            "6:52 `ports` names no port for `b` | add `b: PORT`",
            "6:79 `ready_within` must be from 1s to 24h | the default is `1m`",
        ],
    );
}

#[test]
fn so_many_tasks() {
    for (text, expected) in [
        ("same_as_stable", Scale::SameAsStable),
        ("keep", Scale::Keep),
        ("{ tasks: 3 }", Scale::Tasks(3)),
        ("{ follow_share: 0% }", Scale::FollowShare { headroom_percent: 0 }),
        ("{ follow_share: 29% }", Scale::FollowShare { headroom_percent: 29 }),
    ] {
        let plan = good(&with(&format!("{ECS}, scale: {text} }} }}\n"))).plan;
        match plan.workload.expect("as the file has it").target {
            WorkloadTarget::Ecs(target) => assert_eq!(target.scale, expected, "{text}"),
            other @ WorkloadTarget::Process(_) => panic!("{other:?}"),
        }
    }
    for (text, expected) in [
        (
            "{ tasks: 0 }",
            "6:103 `workload.ecs.scale.tasks` must be a whole number from 1 to 5000, found the number `0`",
        ),
        (
            "{ follow_share: 2.5% }",
            "6:110 the headroom of `follow_share` must be whole percents | such as `20%`; `0%` for none",
        ),
        ("{}", "6:94 `workload.ecs.scale` needs one of the keys `tasks`, `follow_share`"),
        (
            "3",
            "6:94 `workload.ecs.scale` must be `same_as_stable` or `keep` or a mapping with the keys `tasks`, `follow_share`, \
             found the number `3`",
        ),
    ] {
        check(&with(&format!("{ECS}, scale: {text} }} }}\n")), &[expected]);
    }
}

#[test]
fn services_that_make_no_sense() {
    check(
        &with("workload: { ecs: { cluster: prod, services: { a: shop, b: shop }, container: app } }\n"),
        &[
            "6:59 both versions are in the service `shop` | each version needs a service of its own: they run side by side during a rollout",
        ],
    );
    check(
        &with("workload: { ecs: { cluster: prod, services: { a: shop-a, c: shop-c }, container: app } }\n"),
        &[
            "6:45 `services` names no service for `b` | add `b: SERVICE`",
            "6:58 `c` is no version of this policy | the versions are `a` and `b`",
        ],
    );
    check(
        &with("workload: { ecs: { cluster: prod, services: { a: shop-a, b: shop-b } } }\n"),
        &["6:18 missing key `container` in `workload.ecs`"],
    );
    check(
        &with(&format!("{ECS}, ready_within: 0s, keep_for: 721h }} }}\n")),
        &[
            "6:101 `ready_within` must be from 1s to 24h | the default is `15m`",
            "6:115 `keep_for` must be at most 720h | the default is `30m`",
        ],
    );
}

#[test]
fn steps_that_make_no_sense() {
    check(HEAD, &["1:1 missing key `steps`"]);
    check(&with("steps: []\n"), &["5:8 `steps` must have 1 to 200 entries, found 0"]);
    check(
        &with("steps: [10, 50]\n"),
        &[
            "5:13 the last step gives 50 and not 100 | add a last step of 100; to stay below it, pause the rollout there",
        ],
    );
    check(
        &with("steps: [10, 50, 50, 100]\n"),
        &["5:17 weight 50 does not rise: the step before it has 50 | give the steps rising weights"],
    );
    check(&with("steps: [10, 5, 100]\n"), &["5:13 weight 5 does not rise: the step before it has 10"]);
    check(&with("steps: [0, 100]\n"), &["5:9 `steps[0]` must be a whole number from 1 to 100, found the number `0`"]);
    check(
        &with("steps: [10, 101]\n"),
        &["5:13 `steps[1]` must be a whole number from 1 to 100, found the number `101`"],
    );
    check(
        &with("steps: [10%, 100]\n"),
        &[
            "5:9 `steps[0]` must be a whole number from 1 to 100, found the text `10%` | write `10`: this key is in whole numbers, without a sign",
        ],
    );
    check(
        &with("steps: [2.5, 100]\n"),
        &["5:9 `steps[0]` must be a whole number from 1 to 100, found the number `2.5`"],
    );
    check(
        &with("steps: [{ weight: 10, approval: { from: [me] } }, 100]\n"),
        &["5:23 `weight` and `approval` exclude each other in `steps[0]`"],
    );
    check(
        &with("steps: [{ weight: 10, min: 10m }, 100]\n"),
        &["5:28 `min` of 10m is longer than `max` of 5m | give a `max` of at least 10m"],
    );
    check(&with("steps: [{ weight: 10, max: 5s }, 100]\n"), &["5:28 `min` of 10s is longer than `max` of 5s"]);
    check(&with("step_defaults: { min: 2m, max: 1m }\n"), &["6:23 `min` of 2m is longer than `max` of 1m"]);
    check(&with("steps: [{ weight: 10, min: 0s, max: 0s }, 100]\n"), &["5:37 a `max` of 0 leaves no time to judge"]);
    check(
        &with("steps: [{ weight: 10, prove_no_worse_than: 0pp }, 100]\n"),
        &["5:44 `prove_no_worse_than` must be above 0pp and below 100pp"],
    );
    check(
        &with("step_defaults: { prove_no_worse_than: 100pp }\n"),
        &["6:39 `prove_no_worse_than` must be above 0pp and below 100pp"],
    );
    // One mistake is told once: no rule judges what is not readable.
    check(
        &with("steps: [{ weight: 10, min: 10m, max: 20 }, 100]\n"),
        &["5:38 `steps[0].max` must be a duration such as `90s`, `5m` or `1h`: `20` has no unit"],
    );
}

#[test]
fn bounds_that_make_no_sense() {
    check(
        &with("max_total: 20s\n"),
        &[
            "6:12 `max_total` of 20s is not longer than the 20s of all `min` together | raise `max_total`, or shorten the steps",
        ],
    );
    check(
        &with("steps: [{ weight: 1, min: 23h, max: 24h }, { weight: 100, min: 1h, max: 2h }]\n"),
        &["5:8 `max_total` of 24h is not longer than the 24h of all `min` together"],
    );
    check(&with("max_false_rollback: 0%\n"), &["6:21 `max_false_rollback` must be above 0% and at most 50%"]);
    check(&with("max_false_rollback: 51%\n"), &["6:21 `max_false_rollback` must be above 0% and at most 50%"]);
    check(&with("confidence_to_advance: 49%\n"), &["6:24 `confidence_to_advance` must be at least 50% and below 100%"]);
    check(
        &with("confidence_to_advance: 100%\n"),
        &["6:24 `confidence_to_advance` must be at least 50% and below 100%"],
    );
    check(
        &with("no_data: { hold_after: 30s }\n"),
        &["6:24 `hold_after` of 30s must be shorter than `withdraw_after` of 30s"],
    );
    check(&with("no_data: { hold_after: 0s }\n"), &["6:24 `hold_after` must be above 0: reports arrive once a second"]);
    check(&with("verify: { timeout: 0s }\n"), &["6:20 a `timeout` of 0 fails every step"]);
}
