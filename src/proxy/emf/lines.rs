//! What was counted in a period, as lines for CloudWatch. Pure.

use crate::base::histogram::{Histogram, upper_bound_us};
use crate::base::time::Timestamp;
use crate::mesh::snapshot::{Own, Role};
use crate::proxy::stats::{HttpSum, TargetKey, TargetSum};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Values that CloudWatch takes for one metric of one line.
const MOST_VALUES: usize = 100;

/// Everything counted up to some moment.
#[derive(Default)]
pub(super) struct Period {
    pub(super) https: BTreeMap<String, HttpSum>,
    pub(super) targets: BTreeMap<TargetKey, TargetSum>,
}

/// Who reports, and how.
pub(super) struct Source<'a> {
    pub(super) own: &'a Own,
    pub(super) namespace: &'a str,
    pub(super) log_group: Option<&'a str>,
    pub(super) now: Timestamp,
}

/// The lines of what came on top of `before`: one for what came in, and one for each target that was sent anything.
pub(super) fn lines(source: &Source<'_>, before: &Period, now: &Period) -> Vec<String> {
    let mut lines = vec![line(source, &[], inbound(before, now))];
    for (key, sum) in now.targets.iter().filter(|(key, _)| !key.service.is_empty()) {
        let earlier = before.targets.get(key).cloned().unwrap_or_default();
        if sum.statuses != earlier.statuses {
            let dimensions = [("TargetVirtualService", key.service.as_str()), ("TargetVirtualNode", key.node.as_str())];
            lines.push(line(source, &dimensions, outbound(&earlier, sum)));
        }
    }
    lines
}

type Metric = (&'static str, &'static str, Value);

fn inbound(before: &Period, now: &Period) -> Vec<Metric> {
    let sum = |period: &Period, of: fn(&HttpSum) -> u64| -> u64 {
        period.https.iter().filter(|(prefix, _)| prefix.starts_with("ingress")).map(|(_, sum)| of(sum)).sum()
    };
    let new = |of: fn(&HttpSum) -> u64| json!(sum(now, of).saturating_sub(sum(before, of)));
    let active = sum(now, |http| http.connections).saturating_sub(sum(now, |http| http.connections_ended));
    vec![
        ("envoy.appmesh.ActiveConnectionCount", "Count", json!(active)),
        ("envoy.appmesh.NewConnectionCount", "Count", new(|http| http.connections)),
        ("envoy.appmesh.RequestCount", "Count", new(|http| http.requests)),
        ("envoy.appmesh.GrpcRequestCount", "Count", new(|http| http.grpc_requests)),
    ]
}

fn outbound(before: &TargetSum, now: &TargetSum) -> Vec<Metric> {
    let class = |sum: &TargetSum, class: u16| -> u64 {
        sum.statuses.range(class * 100..class * 100 + 100).map(|(_, count)| count).sum()
    };
    let new = |number: u16| json!(class(now, number).saturating_sub(class(before, number)));
    let all = |sum: &TargetSum| sum.statuses.values().sum::<u64>();
    let mut metrics = vec![
        ("envoy.appmesh.RequestCountPerTarget", "Count", json!(all(now).saturating_sub(all(before)))),
        ("envoy.appmesh.HTTPCode_Target_2XX_Count", "Count", new(2)),
        ("envoy.appmesh.HTTPCode_Target_3XX_Count", "Count", new(3)),
        ("envoy.appmesh.HTTPCode_Target_4XX_Count", "Count", new(4)),
        ("envoy.appmesh.HTTPCode_Target_5XX_Count", "Count", new(5)),
    ];
    let times = now.times.0.beyond(&before.times.0);
    if times.total() > 0 {
        let sum_us = now.times.1.wrapping_sub(before.times.1);
        metrics.push(("envoy.appmesh.TargetResponseTime", "Milliseconds", distribution(&times, sum_us)));
    }
    metrics
}

/// A distribution as values with their counts (the form that the OpenTelemetry exporter for this format writes): the upper bounds
/// of our buckets, neighbours put together where there are more than CloudWatch takes.
fn distribution(times: &Histogram, sum_us: u64) -> Value {
    let highest = upper_bound_us(times.counts().len().saturating_sub(2)).unwrap_or_default();
    let bound = |bucket: usize| upper_bound_us(bucket).unwrap_or(highest) as f64 / 1000.0;
    let filled = times.counts().iter().enumerate().filter(|(_, count)| **count > 0);
    let filled: Vec<(f64, u64)> = filled.map(|(bucket, count)| (bound(bucket), *count)).collect();
    let together = filled.len().div_ceil(MOST_VALUES).max(1);
    let (mut values, mut counts) = (Vec::new(), Vec::new());
    for chunk in filled.chunks(together) {
        values.extend(chunk.last().map(|(value, _)| *value));
        counts.push(chunk.iter().map(|(_, count)| count).sum::<u64>());
    }
    json!({
        "Values": values,
        "Counts": counts,
        "Min": values.first(),
        "Max": values.last(),
        "Count": times.total(),
        "Sum": sum_us as f64 / 1000.0,
    })
}

fn line(source: &Source<'_>, more: &[(&'static str, &str)], metrics: Vec<Metric>) -> String {
    let kind = if source.own.role == Role::Node { "VirtualNode" } else { "VirtualGateway" };
    let own = [("Mesh", source.own.mesh.as_str()), (kind, source.own.name.as_str())];
    let dimensions = own.iter().chain(more);
    let names: Vec<&str> = dimensions.clone().map(|(name, _)| *name).collect();
    let listed: Vec<Value> = metrics.iter().map(|(name, unit, _)| json!({ "Name": name, "Unit": unit })).collect();
    let directive = json!({ "Namespace": source.namespace, "Dimensions": [names], "Metrics": listed });
    let mut about = json!({ "Timestamp": source.now.0, "CloudWatchMetrics": [directive] });
    if let Some(group) = source.log_group {
        about["LogGroupName"] = group.into();
    }
    let mut members = Map::from_iter([("_aws".to_owned(), about)]);
    members.extend(dimensions.map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
    members.extend(metrics.into_iter().map(|(name, _, value)| (name.to_owned(), value)));
    format!("{}\n", Value::Object(members))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::snapshot::IpPreference;

    fn own() -> Own {
        Own {
            mesh: "shop".into(),
            name: "web".into(),
            role: Role::Node,
            listeners: Vec::new(),
            allow_all: false,
            access_log: None,
            ip_preference: IpPreference::Unset,
        }
    }

    fn of(before: &Period, now: &Period, log_group: Option<&str>) -> Vec<Value> {
        let own = own();
        let source = Source { own: &own, namespace: "AppMesh", log_group, now: Timestamp(5) };
        lines(&source, before, now).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn key(service: &str) -> TargetKey {
        TargetKey { cluster: "c".into(), service: service.into(), node: "v1".into() }
    }

    fn target(statuses: &[(u16, u64)], us: &[u64]) -> TargetSum {
        let mut times = Histogram::default();
        us.iter().for_each(|us| times.record(*us));
        TargetSum {
            statuses: statuses.iter().copied().collect(),
            times: (times, us.iter().sum()),
            ..TargetSum::default()
        }
    }

    #[test]
    fn what_came_in_is_told_by_mesh_and_node() {
        let http = |requests, connections, ended| HttpSum {
            requests,
            connections,
            connections_ended: ended,
            ..HttpSum::default()
        };
        let before = Period { https: [("ingress".into(), http(3, 2, 0))].into(), ..Period::default() };
        let https = [
            ("ingress.http.80".into(), http(1, 1, 0)),
            ("ingress".into(), http(10, 5, 4)),
            ("egress".into(), http(100, 9, 0)),
        ];
        let now = Period { https: https.into(), ..Period::default() };
        let lines = of(&before, &now, None);
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        assert_eq!((&line["Mesh"], &line["VirtualNode"]), (&json!("shop"), &json!("web")));
        assert_eq!(line["envoy.appmesh.RequestCount"], 8);
        assert_eq!(line["envoy.appmesh.NewConnectionCount"], 4);
        assert_eq!(line["envoy.appmesh.ActiveConnectionCount"], 2);
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(
            (&directive["Namespace"], &directive["Dimensions"]),
            (&json!("AppMesh"), &json!([["Mesh", "VirtualNode"]]))
        );
        assert_eq!(line["_aws"]["LogGroupName"], Value::Null);
    }

    #[test]
    fn each_target_has_its_classes_and_times_since_the_last_report() {
        let before = Period { targets: [(key("a.local"), target(&[(200, 5)], &[900]))].into(), ..Period::default() };
        let targets = [
            (key("a.local"), target(&[(200, 7), (404, 1), (503, 2)], &[900, 900, 4000])),
            (key("quiet.local"), target(&[], &[])),
            (key(""), target(&[(200, 1)], &[1])),
        ];
        let now = Period { targets: targets.into(), ..Period::default() };
        let lines = of(&before, &now, Some("group"));
        assert_eq!(lines.len(), 2, "one of its own, and one for the only target that was sent anything: {lines:?}");
        let line = &lines[1];
        assert_eq!((&line["TargetVirtualService"], &line["TargetVirtualNode"]), (&json!("a.local"), &json!("v1")));
        let counts = ["2XX", "3XX", "4XX", "5XX"]
            .map(|class| line[format!("envoy.appmesh.HTTPCode_Target_{class}_Count")].clone());
        assert_eq!(counts, [json!(2), json!(0), json!(1), json!(2)]);
        assert_eq!(line["envoy.appmesh.RequestCountPerTarget"], 5);
        let times = &line["envoy.appmesh.TargetResponseTime"];
        assert_eq!((&times["Count"], &times["Sum"], &times["Counts"]), (&json!(2), &json!(4.9), &json!([1, 1])));
        assert_eq!(line["_aws"]["LogGroupName"], "group");
    }

    #[test]
    fn a_wide_distribution_has_no_more_values_than_cloudwatch_takes() {
        let mut times = Histogram::default();
        (0..150).filter_map(upper_bound_us).for_each(|us| times.record(us));
        let value = distribution(&times, 1);
        let values = value["Values"].as_array().expect("values");
        assert!(values.len() <= MOST_VALUES);
        let counts: u64 = value["Counts"].as_array().expect("counts").iter().filter_map(Value::as_u64).sum();
        assert_eq!(counts, 150);
    }
}
