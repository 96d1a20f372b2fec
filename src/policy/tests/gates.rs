//! Gates: those that make no sense with what is said of them, and those that arrive in the plan.

use super::{check, good, with};
use crate::base::time::Millis;
use crate::policy::plan::{Bound, GateRule, HealthProbe};

#[test]
fn gates_that_make_no_sense() {
    check(
        &with("gates: []\n"),
        &["6:8 no gate judges the step of 10 % | leave `gates` out to compare error rates with stable"],
    );
    check(
        &with("gates:\n  - { name: e, metric: error_rate }\n"),
        &[
            "7:5 this gate says what to measure and not how to judge it | add `compare: stable`, or a limit such as `max: 1%`",
        ],
    );
    check(
        &with("gates:\n  - { name: e }\n"),
        &[
            "7:5 `gates[0]` needs one of the keys `metric`, `cloudwatch`, `xray`, `prometheus`, `http`, `webhook`, `health`",
        ],
    );
    check(
        &with("gates:\n  - { metric: error_rate, compare: stable }\n"),
        &["7:5 missing key `name` in `gates[0]` | add `name: errors`"],
    );
    check(
        &with(
            "gates:\n  - { name: e, metric: error_rate, compare: stable }\n  - { name: e, metric: error_rate, compare: stable }\n",
        ),
        &["8:13 duplicate gate name `e` | it is already used on line 7"],
    );
    let gate = |rest: &str| with(&format!("gates:\n  - {{ name: e, metric: error_rate, compare: stable, {rest} }}\n"));
    check(
        &gate("tolerate: { ratio: 0.9 }"),
        &["7:72 `ratio` must be from 1 to 1000 | 1.0 accepts the same rate as stable's"],
    );
    check(
        &gate("tolerate: { ratio: 110% }"),
        &[
            "7:72 `gates[0].tolerate.ratio` must be a plain number such as `1.5`: `110%` is followed by `%`, and no unit is expected | write `110`",
        ],
    );
    check(&gate("tolerate: { add: 100pp }"), &["7:70 `add` must be below 100pp"]);
    check(
        &gate("tolerate: { add: 0.1 }"),
        &["7:70 `add` of an error rate is a difference of shares | write it with its unit: `0.1pp`"],
    );
    check(
        &gate("tolerate: 10%"),
        &[
            "7:63 a single share leaves open which of the two is meant | write `tolerate: { ratio: 1.1 }` for a multiple, `tolerate: { add: 0.1pp }` for a difference",
        ],
    );
    check(&gate("dry_run: yes"), &["7:62 `gates[0].dry_run` must be `true` or `false`, found the text `yes`"]);
    check(
        &gate("health: { http: health }"),
        &[
            "7:53 `metric` and `health` exclude each other in `gates[0]`",
            "7:69 `gates[0].health.http` must be a path that begins with `/`, such as `/health`, found the text `health`",
        ],
    );
    check(
        &with("gates:\n  - { name: p99, metric: latency_p99, max: 800 ms }\n"),
        &[
            "7:44 `gates[0].max` must be a limit such as `800ms`, `1%` or `1000`: `800 ms` has the unit ` ms`, which is not one of `ms`, `s`, `m`, `h`",
        ],
    );
}

#[test]
fn limits_and_latencies_that_make_no_sense() {
    let gate = |rest: &str| with(&format!("gates:\n  - {{ name: e, metric: {rest} }}\n"));
    let (either, share, span) = (
        "a gate either compares with stable or has a limit: write two gates",
        "a limit on the error rate is a share | write it with its unit: `1%`",
        "a limit on latency is a duration | write it with its unit: `800ms`",
    );
    for (rest, expected) in [
        ("error_rate, max: 1% , min: 2%", "7:51 `max` and `min` exclude each other in one gate".to_owned()),
        (
            "error_rate, compare: stable, max: 1%",
            format!("7:45 `compare` and a limit exclude each other in one gate | {either}"),
        ),
        ("error_rate, max: 800ms", format!("7:41 {share}")),
        ("error_rate, max: 1", format!("7:41 {share}")),
        ("error_rate, max: 100%", "7:41 a limit on the error rate must be above 0% and below 100%".to_owned()),
        ("error_rate, min: 0%", "7:41 a limit on the error rate must be above 0% and below 100%".to_owned()),
        ("latency_p99, max: 1%", format!("7:42 {span}")),
        ("latency_p99, min: 0s", "7:42 a limit on latency must be above 0".to_owned()),
        ("latency, max: 800ms", "7:38 `metric: latency` looks at all quantiles, and a limit is one of them".to_owned()),
        ("latency, compare: stable, tolerate: { add: 1pp }", "7:60 `ratio` and `add` are for error rates".to_owned()),
        ("latency", "7:5 this gate says what to measure and not how to judge it | add `compare: stable`".to_owned()),
        (
            "latency_p50",
            "7:5 this gate says what to measure and not how to judge it | add a limit such as `max: 800ms`".to_owned(),
        ),
        ("latency_p50, compare: stable", "7:46 the comparison with stable is one of all quantiles".to_owned()),
        (
            "error_rate, max: 1%, breaches: 2",
            "7:55 `breaches` is for signals that come as points, such as `health`".to_owned(),
        ),
    ] {
        check(&gate(rest), &[&expected]);
    }
    check(
        &with(
            "gates:\n  - { name: a, metric: latency, compare: stable }\n  - { name: b, metric: latency, compare: stable, tolerate: 20% }\n",
        ),
        &["8:60 latencies are compared with one tolerance in a policy"],
    );
}

#[test]
fn stored_health_gates_are_read_those_of_the_first_release_too() {
    let http = HealthProbe::Http { path: "/health".to_owned() };
    let grpc = HealthProbe::Grpc { service: String::new() };
    for (probe, text) in [
        (http, r#"{"health":{"path":"/health","interval":5000,"breaches":3}}"#),
        (grpc, r#"{"health":{"grpc":"","interval":5000,"breaches":3}}"#),
        (HealthProbe::Tcp, r#"{"health":{"tcp":true,"interval":5000,"breaches":3}}"#),
        (
            HealthProbe::Ecs { cluster: "prod".to_owned(), services: [("a".to_owned(), "shop-a".to_owned())].into() },
            r#"{"health":{"ecs":{"cluster":"prod","services":{"a":"shop-a"}},"interval":5000,"breaches":3}}"#,
        ),
    ] {
        let rule = GateRule::Health { probe, interval: Millis::from_seconds(5), breaches: 3 };
        assert_eq!(serde_json::to_string(&rule).unwrap(), text);
        assert_eq!(serde_json::from_str::<GateRule>(text).unwrap(), rule);
    }
    for text in [
        r#"{"health":{"interval":5000,"breaches":3}}"#,
        r#"{"health":{"path":"/","tcp":true,"interval":5000,"breaches":3}}"#,
        r#"{"health":{"tcp":false,"interval":5000,"breaches":3}}"#,
    ] {
        let error = serde_json::from_str::<GateRule>(text).unwrap_err().to_string();
        assert!(error.contains("exactly one of `path`, `grpc`, `tcp: true` and `ecs`"), "{error}");
    }
}

#[test]
fn health_gates_arrive_in_the_plan_or_say_what_is_wrong() {
    let gate = |rest: &str| with(&format!("gates:\n  - {{ name: e, health: {rest} }}\n"));
    let rule = |rest: &str| good(&gate(rest)).plan.gates.remove(0).rule;
    let health =
        |probe, seconds, breaches| GateRule::Health { probe, interval: Millis::from_seconds(seconds), breaches };
    let http = || HealthProbe::Http { path: "/health".to_owned() };
    let grpc = |service: &str| HealthProbe::Grpc { service: service.to_owned() };
    assert_eq!(rule("{ http: /health }"), health(http(), 5, 3));
    assert_eq!(rule("{ http: /health, interval: 1s }, breaches: 1"), health(http(), 1, 1));
    assert_eq!(rule("{ grpc: shop.Checkout }"), health(grpc("shop.Checkout"), 5, 3));
    assert_eq!(rule("{ grpc: '' }"), health(grpc(""), 5, 3));
    assert_eq!(rule("{ tcp: true, interval: 10s }"), health(HealthProbe::Tcp, 10, 3));
    let ecs = "workload: { ecs: { cluster: prod, services: { a: shop-a, b: shop-b }, container: app } }\n";
    let services = [("a", "shop-a"), ("b", "shop-b")].map(|(node, service)| (node.to_owned(), service.to_owned()));
    assert_eq!(
        good(&(gate("{ ecs: true }") + ecs)).plan.gates.remove(0).rule,
        health(HealthProbe::Ecs { cluster: "prod".to_owned(), services: services.into() }, 5, 3)
    );
    for (rest, expected) in [
        ("{ interval: 5s }", "7:24 `gates[0].health` needs one of the keys `http`, `grpc`, `tcp`, `ecs`"),
        ("{ http: /health, tcp: true }", "7:41 `http` and `tcp` exclude each other in `gates[0].health`"),
        (
            "{ ecs: true }",
            "7:31 the policy has no services of ECS whose tasks could be asked about | give the policy a `workload` of ECS, or check \
             by `http`, `grpc` or `tcp`",
        ),
        (
            "{ tcp: false }",
            "7:31 `tcp: false` asks nothing | write `tcp: true`, `http: /health`, `grpc: SERVICE` or `ecs: true`",
        ),
        (
            "{ grpc: a b }",
            "7:32 `gates[0].health.grpc` must be a name of a gRPC service such as `shop.Checkout`, or `\"\"` for the whole \
             server, found the text `a b`",
        ),
        ("{ http: /health, interval: 500ms }", "7:51 `interval` must be from 1s to 5m | the default is `5s`"),
        ("{ http: /health, interval: 6m }", "7:51 `interval` must be from 1s to 5m | the default is `5s`"),
        ("{ http: /health }, max: 1%", "7:48 `max` has no meaning for health checks"),
        ("{ http: /health }, compare: stable", "7:52 `compare` has no meaning for health checks"),
        (
            "{ http: /health }, breaches: 0",
            "7:53 `gates[0].breaches` must be a whole number from 1 to 1000, found the number `0`",
        ),
    ] {
        check(&gate(rest), &[expected]);
    }
}

#[test]
fn limits_and_latencies_arrive_in_the_plan() {
    let compiled = good(&with(
        "gates:\n  - { name: a, metric: latency, compare: stable }\n  - { name: b, metric: latency, compare: stable, tolerate: 10%, dry_run: true }\n  \
         - { name: c, metric: error_rate, max: 0.5% }\n  - { name: d, metric: latency_p999, max: 2s }\n  - { name: f, metric: latency_p50, min: 1ms }\n",
    ));
    let rules: Vec<&GateRule> = compiled.plan.gates.iter().map(|gate| &gate.rule).collect();
    assert_eq!(
        rules,
        [
            &GateRule::LatencyAgainstStable { tolerate: 0.1 },
            &GateRule::LatencyAgainstStable { tolerate: 0.1 },
            &GateRule::ErrorRateLimit { share: 0.005, bound: Bound::Max },
            &GateRule::LatencyLimit { quantile: 0.999, limit: Millis(2000), bound: Bound::Max },
            &GateRule::LatencyLimit { quantile: 0.5, limit: Millis(1), bound: Bound::Min },
        ]
    );
    assert_eq!(compiled.plan.latency_tolerance(), Some(0.1));
}
