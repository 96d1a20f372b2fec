//! The gates of a plan: what is judged, and how.

use super::compile::{difference, duration, read};
use super::keys::{GATE, TOLERATE};
use super::keys_outside::HEALTH;
use super::plan::{Bound, Gate, GateRule, HealthProbe, Step};
use super::problem::Report;
use super::scopes::{scoped, unjudged};
use super::signals::{SOURCES, signal_rule, slower_than_steps};
use super::steps::weights;
use super::tree::{Node, Value};
use super::units;
use crate::base::time::Millis;
use crate::base::weight::Percent;
use std::collections::BTreeMap;

/// Largest tolerated multiple of stable's rate: beyond it a gate would pass anything.
const LARGEST_RATIO: f64 = 1000.0;
/// By which part the canary may be slower where a gate on latency does not say.
const LATENCY_TOLERANCE: f64 = 0.1;
/// Longest and shortest time between two health checks. Three failures in a row must not take longer than a step, and
/// checks are no load.
const HEALTH_INTERVALS: std::ops::RangeInclusive<Millis> = Millis::from_seconds(1)..=Millis::from_seconds(300);
/// Metrics that are one quantile.
const LATENCY_QUANTILES: [(&str, f64); 6] = [
    ("latency_p50", 0.50),
    ("latency_p75", 0.75),
    ("latency_p90", 0.90),
    ("latency_p95", 0.95),
    ("latency_p99", 0.99),
    ("latency_p999", 0.999),
];

pub(super) fn gates(root: &Node, steps: &[Step], report: &mut Report<'_>) -> Vec<Gate> {
    let compared = weights(steps).find(|step| step.weight != Percent::FULL);
    let Some(list) = root.get("gates") else {
        // Where nothing is compared, a gate that never sees evidence would only look like protection.
        return compared.map(|_| default_gate()).into_iter().collect();
    };
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut gates = Vec::new();
    for element in list.elements() {
        if let Some(node) = element.get("name")
            && let Some(name) = node.text()
        {
            if let Some(line) = names.get(name) {
                let hint = Some(format!("it is already used on line {line}"));
                report.error(node.place, format!("duplicate gate name `{name}`"), hint);
            }
            names.entry(name).or_insert(node.place.line);
        }
        let gate = gate(root, element, report).map(|gate| scoped(gate, root, element, steps, report));
        gate.iter().for_each(|gate| slower_than_steps(gate, element.place, steps, report));
        gates.extend(gate);
    }
    one_tolerance(list.elements(), report);
    let is_list = matches!(list.value, Value::List(_));
    if let (Some(step), true, true) = (compared, is_list, list.elements().is_empty()) {
        let message = format!("no gate judges the step of {} %", step.weight.get());
        report.error(list.place, message, Some("leave `gates` out to compare error rates with stable".to_owned()));
    }
    if !gates.is_empty() && gates.iter().all(|gate| gate.dry_run) {
        let message = "every gate is a dry run: no verdict rolls this release back";
        report.warning(list.place, message, None);
    }
    unjudged(list, &gates, steps, report);
    gates
}

fn gate(root: &Node, element: &Node, report: &mut Report<'_>) -> Option<Gate> {
    let rule = match (element.get("metric"), element.get("health")) {
        (Some(metric), _) => metric_rule(element, metric.text()?, report),
        (None, Some(health)) => health_rule(root, element, health, report),
        (None, None) if SOURCES.iter().any(|source| element.get(source).is_some()) => {
            signal_rule(root, element, report)
        }
        (None, None) => None,
    };
    let dry_run = read(Some(element), &GATE, "dry_run", |text| text.to_ascii_lowercase().parse().ok()).value;
    Some(Gate { dry_run, ..Gate::new(element.get("name")?.text()?, rule?) })
}

fn health_rule(root: &Node, element: &Node, health: &Node, report: &mut Report<'_>) -> Option<GateRule> {
    for key in ["compare", "tolerate", "max", "min"] {
        if let Some(stray) = element.get(key) {
            let hint = "a check passes or fails; `breaches` says how often in a row it may fail".to_owned();
            report.error(stray.place, format!("`{key}` has no meaning for health checks"), Some(hint));
        }
    }
    let interval = read(Some(health), &HEALTH, "interval", duration);
    if let (false, Some(place)) = (HEALTH_INTERVALS.contains(&interval.value), interval.place) {
        report.error(place, "`interval` must be from 1s to 5m", Some("the default is `5s`".to_owned()));
    }
    let breaches = read(Some(element), &GATE, "breaches", |text| text.parse().ok()).value;
    Some(GateRule::Health { probe: probe(root, health, report)?, interval: interval.value, breaches })
}

/// What is asked; that it is one thing was told before.
fn probe(root: &Node, health: &Node, report: &mut Report<'_>) -> Option<HealthProbe> {
    if let Some(path) = health.get("http") {
        return Some(HealthProbe::Http { path: path.text()?.to_owned() });
    }
    if let Some(service) = health.get("grpc") {
        return Some(HealthProbe::Grpc { service: service.text()?.to_owned() });
    }
    let key = ["tcp", "ecs"].into_iter().find(|key| health.get(key).is_some())?;
    let node = health.get(key)?;
    match node.written().and_then(|text| text.to_ascii_lowercase().parse().ok()) {
        Some(true) if key == "tcp" => return Some(HealthProbe::Tcp),
        Some(true) => return tasks(root, node, report),
        Some(false) => {
            let hint = "write `tcp: true`, `http: /health`, `grpc: SERVICE` or `ecs: true`".to_owned();
            report.error(node.place, format!("`{key}: false` asks nothing"), Some(hint));
        }
        // Its shape was told before.
        None => {}
    }
    None
}

/// The tasks of the policy's own services.
fn tasks(root: &Node, node: &Node, report: &mut Report<'_>) -> Option<HealthProbe> {
    let Some(ecs) = root.get("workload").and_then(|workload| workload.get("ecs")) else {
        let hint = "give the policy a `workload` of ECS, or check by `http`, `grpc` or `tcp`".to_owned();
        report.error(node.place, "the policy has no services of ECS whose tasks could be asked about", Some(hint));
        return None;
    };
    let services = ecs.get("services").map(Node::entries).unwrap_or_default();
    let service = |(node, service): (&String, &Node)| Some((node.clone(), service.text()?.to_owned()));
    let services = services.iter().filter_map(|entry| service((&entry.key, &entry.value))).collect();
    Some(HealthProbe::Ecs { cluster: ecs.get("cluster")?.text()?.to_owned(), services })
}

fn metric_rule(element: &Node, metric: &str, report: &mut Report<'_>) -> Option<GateRule> {
    if let Some(breaches) = element.get("breaches") {
        let hint = "leave it out: requests are judged by a test that needs no such number".to_owned();
        report.error(breaches.place, "`breaches` is for signals that come as points, such as `health`", Some(hint));
    }
    let limit = limit(element, report);
    let rule = match (metric, limit) {
        // The shape was told before.
        (_, Err(())) => None,
        ("error_rate", Ok(None)) => Some(error_comparison(element, report)),
        ("latency", Ok(None)) => Some(latency_comparison(element, report)),
        ("error_rate", Ok(Some((bound, node)))) => error_limit(node, bound, report),
        ("latency", Ok(Some((_, node)))) => {
            let hint = "for a limit name one quantile: `metric: latency_p99`".to_owned();
            report.error(
                node.place,
                "`metric: latency` looks at all quantiles, and a limit is one of them",
                Some(hint),
            );
            None
        }
        (quantile, Ok(limit)) => quantile_limit(element, quantile, limit, report),
    };
    if element.get("compare").is_none() && matches!(limit, Ok(None)) {
        let hint = match metric {
            "error_rate" => "add `compare: stable`, or a limit such as `max: 1%`",
            "latency" => "add `compare: stable`",
            _ => "add a limit such as `max: 800ms`",
        };
        report.error(element.place, "this gate says what to measure and not how to judge it", Some(hint.to_owned()));
    }
    rule
}

/// The limit of a gate that has one; an error when it excludes what else the gate says.
pub(super) fn limit<'a>(element: &'a Node, report: &mut Report<'_>) -> Result<Option<(Bound, &'a Node)>, ()> {
    let (bound, node) = match (element.get("max"), element.get("min")) {
        (None, None) => return Ok(None),
        (Some(_), Some(min)) => {
            let hint = "write two gates, one for each".to_owned();
            report.error(min.place, "`max` and `min` exclude each other in one gate", Some(hint));
            return Err(());
        }
        (Some(max), None) => (Bound::Max, max),
        (None, Some(min)) => (Bound::Min, min),
    };
    for key in ["compare", "tolerate"] {
        if let Some(stray) = element.get(key) {
            let hint = "a gate either compares with stable or has a limit: write two gates".to_owned();
            report.error(stray.place, format!("`{key}` and a limit exclude each other in one gate"), Some(hint));
        }
    }
    Ok(Some((bound, node)))
}

fn error_comparison(element: &Node, report: &mut Report<'_>) -> GateRule {
    let tolerate = element.get("tolerate");
    if let Some(node) = tolerate.filter(|node| matches!(node.value, Value::Scalar { .. }) && !node.is_null()) {
        let hint = "write `tolerate: { ratio: 1.1 }` for a multiple, `tolerate: { add: 0.1pp }` for a difference";
        report.error(node.place, "a single share leaves open which of the two is meant", Some(hint.to_owned()));
    }
    let ratio = read(tolerate, &TOLERATE, "ratio", |text| units::ratio(text).ok());
    let add = read(tolerate, &TOLERATE, "add", difference);
    if let (true, Some(place)) = (!(1.0..=LARGEST_RATIO).contains(&ratio.value), ratio.place) {
        let hint = "1.0 accepts the same rate as stable's".to_owned();
        report.error(place, format!("`ratio` must be from 1 to {LARGEST_RATIO}"), Some(hint));
    }
    if let Some(node) = tolerate.and_then(|node| node.get("add"))
        && !add.known
        && is_excess(node)
    {
        let hint = "write it with its unit: `0.1pp`".to_owned();
        report.error(node.place, "`add` of an error rate is a difference of shares", Some(hint));
    }
    if let (true, Some(place)) = (add.value >= 1.0, add.place) {
        report.error(place, "`add` must be below 100pp", Some("the default is `0.1pp`".to_owned()));
    }
    GateRule::ErrorRateAgainstStable { ratio: ratio.value, add: add.value }
}

fn latency_comparison(element: &Node, report: &mut Report<'_>) -> GateRule {
    let tolerate = element.get("tolerate");
    if let Some(node) = tolerate.filter(|node| matches!(node.value, Value::Mapping(_))) {
        let hint = "write the part by which it may be slower: `tolerate: 10%`".to_owned();
        report.error(node.place, "`ratio` and `add` are for error rates", Some(hint));
    }
    let share = tolerate.and_then(Node::written).and_then(|text| units::share(text).ok());
    GateRule::LatencyAgainstStable { tolerate: share.unwrap_or(LATENCY_TOLERANCE) }
}

fn error_limit(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<GateRule> {
    let share = node.written().and_then(|text| units::share(text).ok());
    match share {
        Some(share) if share > 0.0 && share < 1.0 => return Some(GateRule::ErrorRateLimit { share, bound }),
        Some(_) => {
            report.error(node.place, "a limit on the error rate must be above 0% and below 100%", None);
        }
        None if is_amount(node) => {
            let hint = "write it with its unit: `1%`".to_owned();
            report.error(node.place, "a limit on the error rate is a share", Some(hint));
        }
        // Its shape was told before.
        None => {}
    }
    None
}

fn quantile_limit(
    element: &Node,
    metric: &str,
    limit: Option<(Bound, &Node)>,
    report: &mut Report<'_>,
) -> Option<GateRule> {
    let (_, quantile) = LATENCY_QUANTILES.into_iter().find(|(name, _)| *name == metric)?;
    let Some((bound, node)) = limit else {
        if let Some(compare) = element.get("compare") {
            let hint = format!("give `{metric}` a limit such as `max: 800ms`, or write `metric: latency`");
            report.error(compare.place, "the comparison with stable is one of all quantiles", Some(hint));
        }
        return None;
    };
    match node.written().and_then(duration) {
        Some(limit) if limit > Millis(0) => return Some(GateRule::LatencyLimit { quantile, limit, bound }),
        Some(_) => report.error(node.place, "a limit on latency must be above 0", None),
        None if is_amount(node) => {
            let hint = "write it with its unit: `800ms`".to_owned();
            report.error(node.place, "a limit on latency is a duration", Some(hint));
        }
        // Its shape was told before.
        None => {}
    }
    None
}

/// Whether a value has the shape of some limit.
pub(super) fn is_amount(node: &Node) -> bool {
    let of = |text: &str| units::ratio(text).is_ok() || units::share(text).is_ok() || units::duration(text).is_ok();
    node.written().is_some_and(of)
}

/// Whether a value has the shape of some difference but not of one of shares.
fn is_excess(node: &Node) -> bool {
    node.written().is_some_and(|text| units::ratio(text).is_ok() || units::duration(text).is_ok())
}

/// Refuses a second tolerance: the thresholds of a rollout are one set.
fn one_tolerance(elements: &[Node], report: &mut Report<'_>) {
    let mut first: Option<f64> = None;
    for element in elements.iter().filter(|element| element.get("metric").and_then(Node::text) == Some("latency")) {
        let node = element.get("tolerate");
        let share = node.and_then(Node::written).and_then(|text| units::share(text).ok()).unwrap_or(LATENCY_TOLERANCE);
        if *first.get_or_insert(share) != share {
            let hint = "give all gates on `latency` the same `tolerate`".to_owned();
            let place = node.unwrap_or(element).place;
            report.error(place, "latencies are compared with one tolerance in a policy", Some(hint));
        }
    }
}

fn default_gate() -> Gate {
    let ratio = read(None, &TOLERATE, "ratio", |text| units::ratio(text).ok()).value;
    let add = read(None, &TOLERATE, "add", difference).value;
    Gate::new("errors", GateRule::ErrorRateAgainstStable { ratio, add })
}
