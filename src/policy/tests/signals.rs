//! Gates on signals from outside: what arrives in the plan, presets, placeholders, and what makes no sense.

use super::{good, with};
use crate::base::time::Millis;
use crate::policy::compile;
use crate::policy::plan::placeholder::Names;
use crate::policy::plan::{
    Bound, CloudwatchMetric, CloudwatchQuery, GateRule, SignalGate, SignalQuery, SignalRule, SignalUnit, WebhookQuery,
    XrayBeside, XrayMeasure, XrayQuery,
};
use std::collections::BTreeMap;

/// A policy with one gate.
fn gate(rest: &str) -> String {
    with(&format!("gates:\n  - {{ name: e, {rest} }}\n"))
}

fn signal(text: &str) -> SignalGate {
    match good(text).plan.gates.remove(0).rule {
        GateRule::Signal(signal) => signal,
        other => panic!("{other:?}"),
    }
}

/// A gate that is refused for one reason: the text that is marked, and what is said of it.
#[track_caller]
fn refused(rest: &str, marked: &str, told: &str) {
    let problems = compile("p.yaml", &gate(rest)).expect_err("refused");
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    let hint =
        problem.hint.as_deref().filter(|_| told.contains(" | ")).map_or_else(String::new, |hint| format!(" | {hint}"));
    assert_eq!((problem.offending.as_str(), format!("{}{hint}", problem.message).as_str()), (marked, told), "{rest}");
}

fn at_most(value: f64) -> SignalRule {
    SignalRule::Limit { value, bound: Bound::Max }
}

fn metric(namespace: &str, name: &str, stat: &str, dimensions: &[(&str, &str)]) -> CloudwatchMetric {
    let dimensions = dimensions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    CloudwatchMetric { namespace: namespace.into(), name: name.into(), stat: stat.into(), dimensions }
}

const MINUTE: Millis = Millis::from_seconds(60);

#[test]
fn every_source_arrives_in_the_plan_with_its_defaults() {
    let queue = signal(&gate(
        "cloudwatch: { namespace: Shop, metric: QueueDepth, stat: Average, dimensions: { Service: checkout } }, max: 1000",
    ));
    let asked = CloudwatchQuery::Metric {
        metric: metric("Shop", "QueueDepth", "Average", &[("Service", "checkout")]),
        period: MINUTE,
    };
    assert_eq!((queue.query, queue.interval, queue.breaches), (SignalQuery::Cloudwatch(asked), MINUTE, 3));
    assert_eq!((queue.rule, queue.unit), (at_most(1000.0), SignalUnit::Number));

    let traces = signal(&gate(
        "xray: { filter: 'annotation.version = \"{version}\"', measure: fault_rate }, compare: stable, tolerate: { add: 0.2pp }",
    ));
    let asked = XrayQuery {
        filter: "annotation.version = \"{version}\"".into(),
        measure: XrayMeasure::FaultRate,
        min_traces: 1,
        beside: None,
    };
    assert_eq!((traces.query, traces.interval), (SignalQuery::Xray(asked), Millis::from_seconds(30)));
    assert_eq!(traces.rule, SignalRule::AgainstStable { ratio: 1.0, add: 0.002 });

    let series = signal(&gate("prometheus: { query: 'up{node=\"{node}\"}' }, min: 1, breaches: 2"));
    let asked = SignalQuery::Prometheus { query: "up{node=\"{node}\"}".into(), url: None, step: None };
    assert_eq!((series.query, series.interval, series.breaches), (asked, Millis::from_seconds(10), 2));
    assert_eq!(series.rule, SignalRule::Limit { value: 1.0, bound: Bound::Min });

    let number = signal(&gate(
        "http: { url: 'http://h/{node}', value: /a~1b/0, interval: 5m }, compare: stable, tolerate: { ratio: 1.2, add: 5 }",
    ));
    let asked = SignalQuery::Http { url: "http://h/{node}".into(), value: "/a~1b/0".into() };
    assert_eq!((number.query, number.interval), (asked, Millis::from_seconds(300)));
    assert_eq!(number.rule, SignalRule::AgainstStable { ratio: 1.2, add: 5.0 });
}

#[test]
fn cloudwatch_takes_expressions_and_alarms() {
    let rate = signal(&gate(
        "cloudwatch: { expression: 'bad / all', metrics: { bad: { namespace: S, metric: B, stat: Sum }, all: { namespace: S, metric: A, stat: p99.9 } }, period: 30s, interval: 5s }, max: 0.01",
    ));
    let metrics = [("bad", "B", "Sum"), ("all", "A", "p99.9")];
    let metrics: BTreeMap<_, _> =
        metrics.into_iter().map(|(id, name, stat)| (id.to_owned(), metric("S", name, stat, &[]))).collect();
    let period = Millis::from_seconds(30);
    let asked = CloudwatchQuery::Expression { expression: "bad / all".into(), metrics, period };
    assert_eq!((rate.query.clone(), rate.interval), (SignalQuery::Cloudwatch(asked), Millis::from_seconds(5)));
    assert_eq!(rate.span(), period);
    let alarm = signal(&gate("cloudwatch: { alarm: checkout-slo }"));
    assert_eq!(alarm.query, SignalQuery::Cloudwatch(CloudwatchQuery::Alarm { name: "checkout-slo".into() }));
    assert!(alarm.is_alarm() && !alarm.query.is_per_version());
    assert_eq!((alarm.rule, alarm.interval), (at_most(0.0), MINUTE));
    let hourly = signal(&gate("cloudwatch: { namespace: S, metric: A, stat: Sum, period: 1h }, max: 1"));
    assert_eq!((hourly.interval, hourly.span()), (Millis::from_seconds(300), Millis::from_seconds(3600)));
}

#[test]
fn measures_and_limits_have_units() {
    for (measure, what, limit, unit, value) in [
        ("fault_rate", XrayMeasure::FaultRate, "1%", SignalUnit::Share, 0.01),
        ("error_rate", XrayMeasure::ErrorRate, "1%", SignalUnit::Share, 0.01),
        ("throttle_rate", XrayMeasure::ThrottleRate, "1%", SignalUnit::Share, 0.01),
        ("response_time", XrayMeasure::ResponseTime { quantile: 0.95 }, "800ms", SignalUnit::Seconds, 0.8),
        ("response_time_p50", XrayMeasure::ResponseTime { quantile: 0.5 }, "2s", SignalUnit::Seconds, 2.0),
        ("response_time_p99", XrayMeasure::ResponseTime { quantile: 0.99 }, "1m", SignalUnit::Seconds, 60.0),
    ] {
        let traces = signal(&gate(&format!("xray: {{ filter: f, measure: {measure} }}, max: {limit}")));
        assert_eq!(
            traces.query,
            SignalQuery::Xray(XrayQuery { filter: "f".into(), measure: what, min_traces: 1, beside: None })
        );
        assert_eq!((traces.unit, traces.rule), (unit, at_most(value)), "{measure}");
    }
}

const ECS: &str = "workload: { ecs: { cluster: 'arn:aws:ecs:eu-central-1:1:cluster/prod', services: { a: shop-a, b: shop-b }, container: app } }\n";

#[test]
fn presets_fill_in_what_a_service_has_by_itself() {
    let arn = "arn:aws:elasticloadbalancing:eu-central-1:1:loadbalancer/app/shop/50dc";
    let group = "arn:aws:elasticloadbalancing:eu-central-1:1:targetgroup/checkout/73e2";
    let balancer = [("LoadBalancer", "app/shop/50dc"), ("TargetGroup", "targetgroup/checkout/73e2")];
    let time = signal(&gate(&format!(
        "cloudwatch: {{ preset: alb_target_response_time, load_balancer: '{arn}', target_group: '{group}' }}, max: 800ms"
    )));
    let asked = CloudwatchQuery::Metric {
        metric: metric("AWS/ApplicationELB", "TargetResponseTime", "p95", &balancer),
        period: MINUTE,
    };
    assert_eq!((time.query, time.rule), (SignalQuery::Cloudwatch(asked), at_most(0.8)));

    let failed = signal(&gate("cloudwatch: { preset: alb_target_5xx, load_balancer: app/shop/50dc }, max: 0.5%"));
    let SignalQuery::Cloudwatch(CloudwatchQuery::Expression { metrics, .. }) = &failed.query else { panic!() };
    assert_eq!(metrics["errors"].name, "HTTPCode_Target_5XX_Count");
    assert_eq!(metrics["requests"], metric("AWS/ApplicationELB", "RequestCount", "Sum", &balancer[..1]));
    assert_eq!((failed.unit, failed.rule), (SignalUnit::Share, at_most(0.005)));

    // The policy's own services are asked about without being named again.
    for (preset, name) in [("ecs_cpu", "CPUUtilization"), ("ecs_memory", "MemoryUtilization")] {
        let text = gate(&format!("cloudwatch: {{ preset: {preset}, stat: Maximum }}, max: 80%")) + ECS;
        let busy = signal(&text);
        let dimensions = [("ClusterName", "prod"), ("ServiceName", "{service}")];
        let asked = CloudwatchQuery::Metric { metric: metric("AWS/ECS", name, "Maximum", &dimensions), period: MINUTE };
        assert!(busy.query.is_per_version());
        assert_eq!(
            (busy.query, busy.unit, busy.rule),
            (SignalQuery::Cloudwatch(asked), SignalUnit::Percent, at_most(80.0))
        );
    }
    let age = signal(&gate("cloudwatch: { preset: sqs_age, queue: orders, period: 5m }, max: 10m"));
    let asked = metric("AWS/SQS", "ApproximateAgeOfOldestMessage", "Maximum", &[("QueueName", "orders")]);
    let period = Millis::from_seconds(300);
    let asked = SignalQuery::Cloudwatch(CloudwatchQuery::Metric { metric: asked, period });
    assert_eq!((age.query, age.rule), (asked, at_most(600.0)));
}

#[test]
fn questions_that_make_no_sense() {
    for (rest, marked, told) in [
        (
            "cloudwatch: { namespace: S, metric: A }, max: 1",
            "",
            "a metric of CloudWatch needs `stat` | add `stat: Average`",
        ),
        (
            "cloudwatch: { namespace: S, metric: A, stat: avg }, max: 1",
            "avg",
            "`gates[0].cloudwatch.stat` must be `Average`, `Sum`, `Minimum`, `Maximum`, `SampleCount`, a percentile such as `p99` or `p99.9`, or a trimmed statistic such as `tm90`, `TM(10%:90%)` or `IQM`, found the text `avg`",
        ),
        (
            "cloudwatch: { namespace: S, metric: A, stat: Sum, period: 90s }, max: 1",
            "90s",
            "`period` must be 1s, 5s, 10s, 30s or whole minutes up to 1h | the default is `1m`",
        ),
        (
            "cloudwatch: { namespace: S, metric: A, stat: Sum, interval: 6m }, max: 1",
            "6m",
            "`interval` must be from 1s to 5m",
        ),
        ("cloudwatch: { expression: 1 + m }, max: 1", "1 + m", "an expression needs 1 to 16 `metrics`, found 0"),
        (
            "cloudwatch: { expression: M, metrics: { M: { namespace: S, metric: A, stat: Sum } } }, max: 1",
            "M",
            "`M` is no name in an expression | begin it with a lower-case letter; letters, digits and `_` may follow",
        ),
        ("cloudwatch: { alarm: a, stat: Sum }", "stat", "`stat` has no meaning beside `alarm` | leave it out"),
        ("cloudwatch: { alarm: a }, max: 1", "max", "`max` has no meaning for an alarm"),
        (
            "cloudwatch: { preset: ecs_cpuu, cluster: c, service: s }, max: 80%",
            "ecs_cpuu",
            "`gates[0].cloudwatch.preset` must be `alb_target_5xx`, `alb_target_response_time`, `appmesh_target_5xx`, `appmesh_target_response_time`, `ecs_cpu`, `ecs_memory`, `service_connect_5xx`, `service_connect_response_time`, `sqs_age`, `tidegate_target_5xx` or `tidegate_target_response_time`, found the text `ecs_cpuu` | did you mean `ecs_cpu`?",
        ),
        (
            "cloudwatch: { preset: ecs_cpu, cluster: c }, max: 80%",
            "ecs_cpu",
            "`ecs_cpu` needs `service` | add `service: NAME`, or give the policy a `workload` of ECS",
        ),
        (
            "cloudwatch: { preset: sqs_age, queue: q, cluster: c }, max: 1m",
            "cluster",
            "`cluster` has no meaning for `sqs_age` | it is about `queue`",
        ),
        (
            "http: { url: 'http://me:secret@h/' }, max: 1",
            "'http://me:secret@h/' ",
            "a name or password in an address | policies are stored and shown: leave the part before `@` out",
        ),
        (
            "http: { url: 'http://h/', value: depth }, max: 1",
            "depth",
            "`gates[0].http.value` must be a JSON pointer such as `/queue/depth`, in which `~1` stands for `/` and `~0` for `~`, found the text `depth`",
        ),
        (
            "prometheus: { query: up, interval: 10 }, max: 1",
            "10",
            "`gates[0].prometheus.interval` must be a duration such as `90s`, `5m` or `1h`: `10` has no unit",
        ),
    ] {
        refused(rest, marked, told);
    }
}

#[test]
fn placeholders_that_nobody_knows() {
    for (rest, marked, told) in [
        (
            "prometheus: { query: 'up{n=\"{nod}\"}' }, max: 1",
            "{nod}",
            "unknown placeholder `{nod}` | did you mean `{node}`?",
        ),
        (
            "cloudwatch: { namespace: S, metric: A, stat: Sum, dimensions: { V: '{Version}' } }, max: 1",
            "{Version}",
            "unknown placeholder `{Version}` | did you mean `{version}`?",
        ),
        (
            "xray: { filter: 'service(\"x\"){fault}', measure: fault_rate }, max: 1%",
            "{fault}",
            "unknown placeholder `{fault}` | known are `{node}`, `{service}`, `{image_tag}`, `{digest}`, `{revision}`, `{version}`; where none is meant, put spaces inside the braces",
        ),
        (
            "http: { url: 'http://h/{service}' }, max: 1",
            "{service}",
            "`{service}` is not known: the policy has no workload with services",
        ),
    ] {
        refused(rest, marked, told);
    }
    good(&gate("xray: { filter: 'service(\"x\") { fault }', measure: fault_rate }, max: 1%"));
    assert!(signal(&(gate("http: { url: 'http://h/{service}' }, max: 1") + ECS)).query.is_per_version());
}

#[test]
fn signals_that_are_not_judged_or_not_like_this() {
    let fault = "xray: { filter: 'v = \"{node}\"', measure: fault_rate }";
    let time = "xray: { filter: 'v = \"{node}\"', measure: response_time }";
    for (rest, marked, told) in [
        (
            "http: { url: 'http://h/' }".to_owned(),
            "",
            "this gate says what to measure and not how to judge it | add a limit such as `max: 1000`, or `compare: stable`",
        ),
        (
            "http: { url: 'http://h/' }, max: 1%".to_owned(),
            "1%",
            "a limit on this signal is a plain number, as the source gives it | write it like `1000`",
        ),
        (format!("{fault}, max: 5"), "5", "a limit on this signal is a share | write it like `1%`"),
        (format!("{time}, max: 1%"), "1%", "a limit on this signal is a duration | write it like `800ms`"),
        (format!("{fault}, max: 1%, min: 1%"), "1%", "`max` and `min` exclude each other in one gate"),
        (
            format!("{fault}, max: 1%, compare: stable"),
            "stable",
            "`compare` and a limit exclude each other in one gate",
        ),
        (
            "http: { url: 'http://h/' }, compare: stable, tolerate: { ratio: 2 }".to_owned(),
            "stable",
            "the question is the same for both versions, so there is nothing to compare | put a placeholder such as `{node}` into it, or give it a limit",
        ),
        (
            format!("{time}, compare: stable"),
            "stable",
            "two versions never measure quite the same, so that without a tolerance chance would decide",
        ),
        (
            format!("{time}, compare: stable, tolerate: {{ add: 1pp }}"),
            "1pp",
            "`add` of this signal is a duration | write it like `50ms`",
        ),
        (
            format!("{fault}, compare: stable, tolerate: {{ ratio: 0.5 }}"),
            "0.5",
            "`ratio` must be from 1 to 1000 | 1.0 accepts the same as stable's",
        ),
        (
            format!("{fault}, compare: stable, tolerate: 10%"),
            "10%",
            "a single share leaves open which of the two is meant",
        ),
        (
            format!("{fault}, max: 1%, breaches: 0"),
            "0",
            "`gates[0].breaches` must be a whole number from 1 to 1000, found the number `0`",
        ),
    ] {
        refused(&rest, marked, told);
    }
    // A share has the tolerance of an error rate.
    let rule = signal(&gate(&format!("{fault}, compare: stable"))).rule;
    assert_eq!(rule, SignalRule::AgainstStable { ratio: 1.0, add: 0.001 });
}

#[test]
fn a_step_that_is_over_before_a_gate_can_speak_is_warned_about() {
    let told =
        |text: &str| -> Vec<String> { good(text).warnings.iter().map(|warning| warning.message.clone()).collect() };
    let queue = "gates:\n  - { name: queue, cloudwatch: { namespace: S, metric: A, stat: Sum }, max: 1 }\n";
    assert_eq!(
        told(&with(queue)),
        ["gate `queue` has a point every 1m, and the step of 10 % lasts 10s at least: it waits for its first point"]
    );
    assert_eq!(told(&with(&format!("step_defaults: {{ min: 1m }}\n{queue}"))), [] as [&str; 0]);
    assert_eq!(
        told(&with(&queue.replace("max: 1 }", "max: 1, dry_run: true }"))).len(),
        1,
        "only that all are dry runs"
    );
    assert_eq!(told(&gate("http: { url: 'http://h/' }, max: 1")), [] as [&str; 0]);
}

#[test]
fn presets_of_meshes_name_sender_service_and_version() {
    let of =
        |preset: &str, rest: &str| signal(&gate(&format!("cloudwatch: {{ preset: {preset}, {rest} }}, max: 500ms")));
    let sent = [
        ("Mesh", "shop"),
        ("TargetVirtualNode", "{node}"),
        ("TargetVirtualService", "checkout.local"),
        ("VirtualNode", "front"),
    ];
    let own = of("tidegate_target_response_time", "virtual_node: front, virtual_service: checkout.local, stat: tm90");
    let expression = |time: CloudwatchMetric| {
        let metrics = [("time".to_owned(), time)].into();
        SignalQuery::Cloudwatch(CloudwatchQuery::Expression {
            expression: "time / 1000".into(),
            metrics,
            period: MINUTE,
        })
    };
    assert_eq!(own.query, expression(metric("AppMesh", "envoy.appmesh.TargetResponseTime", "tm90", &sent)));
    assert_eq!((own.unit, own.rule), (SignalUnit::Seconds, at_most(0.5)));
    let typed = |kind| {
        let mut all = sent.to_vec();
        all[3] = ("VirtualGateway", "front");
        all.push(("metric_type", kind));
        all
    };
    let agents =
        of("appmesh_target_response_time", "virtual_gateway: front, virtual_service: checkout.local, namespace: Envoy");
    assert_eq!(agents.query, expression(metric("Envoy", "envoy.appmesh.TargetResponseTime", "p95", &typed("timing"))));
    let failed = signal(&gate(
        "cloudwatch: { preset: appmesh_target_5xx, virtual_gateway: front, virtual_service: checkout.local }, compare: stable",
    ));
    let SignalQuery::Cloudwatch(CloudwatchQuery::Expression { expression, metrics, .. }) = &failed.query else {
        panic!()
    };
    assert_eq!(expression, "(SUM([requests, FILL(errors, 0)]) - requests) / requests");
    assert_eq!(
        metrics["errors"],
        metric("CWAgent", "envoy.appmesh.HTTPCode_Target_5XX_Count", "Sum", &typed("counter"))
    );
    assert_eq!(metrics["requests"].name, "envoy.appmesh.RequestCountPerTarget");

    let connect = signal(
        &(gate("cloudwatch: { preset: service_connect_5xx, discovery_name: '{service}' }, compare: stable") + ECS),
    );
    let SignalQuery::Cloudwatch(CloudwatchQuery::Expression { expression, metrics, .. }) = &connect.query else {
        panic!()
    };
    let all = "SUM([informed, moved, refused, failed])";
    assert_eq!(*expression, format!("(SUM([{all}, FILL(errors, 0)]) - {all}) / {all}"));
    assert_eq!(metrics.len(), 5);
    let discovery = [("TargetDiscoveryName", "{service}")];
    assert_eq!(metrics["refused"], metric("AWS/ECS", "HTTPCode_Target_4XX_Count", "Sum", &discovery));
    for (rest, marked, told) in [
        (
            "cloudwatch: { preset: tidegate_target_5xx, virtual_service: s }, max: 1%",
            "tidegate_target_5xx",
            "`tidegate_target_5xx` needs one of the two senders",
        ),
        (
            "cloudwatch: { preset: ecs_cpu, cluster: c, service: s, stat: tc90 }, max: 1%",
            "tc90",
            "this statistic counts or ranks values, and the limit is one of values",
        ),
        (
            "cloudwatch: { preset: sqs_age, queue: q, discovery_name: d }, max: 1m",
            "discovery_name",
            "`discovery_name` has no meaning for `sqs_age` | it is about `queue`",
        ),
    ] {
        refused(rest, marked, told);
    }
}

#[test]
fn what_is_new_beside_stable_is_one_question_about_both() {
    let news = signal(&gate(
        "xray: { filter: 'annotation.v = \"{node}\"', measure: new_exceptions, min_traces: 20 }, compare: stable, tolerate: { add: 1 }",
    ));
    let beside =
        XrayBeside { filter: "annotation.v = \"{node}\"".into(), canary: "{node}".into(), stable: "{node}".into() };
    let asked = XrayQuery {
        filter: "annotation.v = \"{node}\"".into(),
        measure: XrayMeasure::NewExceptions,
        min_traces: 20,
        beside: Some(beside),
    };
    assert_eq!((news.query.clone(), news.rule), (SignalQuery::Xray(asked), at_most(1.0)));
    let names = |node: &str| Names { node: node.into(), ..Names::default() };
    let filled = news.query.about(&names("a")).and_then(|query| query.beside(&names("b"))).unwrap();
    let SignalQuery::Xray(XrayQuery { filter, beside: Some(beside), .. }) = filled else { panic!() };
    assert_eq!(filter, "annotation.v = \"a\"");
    assert_eq!([beside.filter, beside.canary, beside.stable], ["annotation.v = \"b\"", "a", "b"]);
    let none = signal(&gate("xray: { filter: '{node}', measure: new_edges }, compare: stable"));
    assert_eq!(none.rule, at_most(0.0));
    for (rest, marked, told) in [
        (
            "xray: { filter: all, measure: new_edges }, compare: stable",
            "all",
            "the filter selects the same traces for both versions, so nothing can be new | put a placeholder such as `{version}` into it",
        ),
        (
            "xray: { filter: '{node}', measure: new_edges }, compare: stable, tolerate: { ratio: 2 }",
            "ratio",
            "what is new has no multiple of stable's",
        ),
        (
            "xray: { filter: '{node}', measure: new_edges, min_traces: 0 }, compare: stable",
            "0",
            "`gates[0].xray.min_traces` must be a whole number from 1 to 1000, found the number `0`",
        ),
    ] {
        refused(rest, marked, told);
    }
}

#[test]
fn webhooks_and_ranges_arrive_in_the_plan_or_say_what_is_wrong() {
    let judge = signal(&gate("webhook: { url: 'https://h/judge', timeout: 3s, interval: 30s }, breaches: 1"));
    let (url, timeout) = ("https://h/judge".to_owned(), Millis::from_seconds(3));
    let asked = SignalQuery::Webhook(WebhookQuery { url, timeout, facts: Box::default() });
    assert_eq!((judge.query, judge.rule, judge.interval), (asked, at_most(0.0), Millis::from_seconds(30)));
    let range = signal(&gate("prometheus: { query: up, step: 15s }, min: 1"));
    let asked = SignalQuery::Prometheus { query: "up".into(), url: None, step: Some(Millis::from_seconds(15)) };
    assert_eq!((range.span(), range.interval), (Millis::from_seconds(15), Millis::from_seconds(10)));
    assert_eq!(range.query, asked);
    for (rest, marked, told) in [
        (
            "webhook: { url: 'https://h/' }, max: 1",
            "max",
            "`max` has no meaning for a webhook | it passes or fails by its status; leave this out",
        ),
        ("webhook: { url: 'https://h/', timeout: 1m }", "1m", "`timeout` must be from 1s to 20s"),
        ("webhook: { url: 'https://u:p@h/' }", "'https://u:p@h/' ", "a name or password in an address"),
        ("prometheus: { query: up, step: 1500ms }, min: 1", "1500ms", "`step` must be whole seconds from 1s to 5m"),
        ("prometheus: { query: up, step: 10m }, min: 1", "10m", "`step` must be whole seconds from 1s to 5m"),
    ] {
        refused(rest, marked, told);
    }
}
