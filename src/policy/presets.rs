//! Presets of CloudWatch: the metrics that a load balancer, a service of ECS and a queue have by themselves, so that a
//! common policy needs none of their names. Limits stay the policy's own: nobody else knows what is normal.
//!
//! Names, units and dimensions are those of AWS's documentation: "CloudWatch metrics for your Application Load Balancer",
//! "Amazon ECS CloudWatch metrics" and "Available CloudWatch metrics for Amazon SQS".

use super::plan::{CloudwatchMetric, CloudwatchQuery, SignalUnit};
use super::problem::Report;
use super::tree::Node;
use crate::base::time::Millis;
use std::collections::BTreeMap;

/// Keys that belong to presets alone.
pub(super) const KEYS: [&str; 5] = ["cluster", "service", "load_balancer", "target_group", "queue"];

/// One of them.
struct Preset {
    name: &'static str,
    namespace: &'static str,
    metric: &'static str,
    /// `None` where the statistic is part of what is measured.
    stat: Option<&'static str>,
    unit: SignalUnit,
    /// The policy's key, the metric's dimension, and whether it must be there.
    dimensions: &'static [(&'static str, &'static str, bool)],
}

const BALANCER: &[(&str, &str, bool)] =
    &[("load_balancer", "LoadBalancer", true), ("target_group", "TargetGroup", false)];
const SERVICE: &[(&str, &str, bool)] = &[("cluster", "ClusterName", true), ("service", "ServiceName", true)];

const PRESETS: [Preset; 5] = [
    Preset {
        name: "alb_target_5xx",
        namespace: "AWS/ApplicationELB",
        metric: "HTTPCode_Target_5XX_Count",
        stat: None,
        unit: SignalUnit::Share,
        dimensions: BALANCER,
    },
    Preset {
        name: "alb_target_response_time",
        namespace: "AWS/ApplicationELB",
        metric: "TargetResponseTime",
        stat: Some("p95"),
        unit: SignalUnit::Seconds,
        dimensions: BALANCER,
    },
    Preset {
        name: "ecs_cpu",
        namespace: "AWS/ECS",
        metric: "CPUUtilization",
        stat: Some("Average"),
        unit: SignalUnit::Percent,
        dimensions: SERVICE,
    },
    Preset {
        name: "ecs_memory",
        namespace: "AWS/ECS",
        metric: "MemoryUtilization",
        stat: Some("Average"),
        unit: SignalUnit::Percent,
        dimensions: SERVICE,
    },
    Preset {
        name: "sqs_age",
        namespace: "AWS/SQS",
        metric: "ApproximateAgeOfOldestMessage",
        stat: Some("Maximum"),
        unit: SignalUnit::Seconds,
        dimensions: &[("queue", "QueueName", true)],
    },
];

/// The query of a preset. `ecs` is the policy's own workload, which knows cluster and services.
pub(super) fn preset(
    cloudwatch: &Node,
    period: Millis,
    ecs: Option<&Node>,
    report: &mut Report<'_>,
) -> Option<(CloudwatchQuery, SignalUnit)> {
    let node = cloudwatch.get("preset")?;
    let preset = PRESETS.iter().find(|preset| node.text() == Some(preset.name))?;
    for key in KEYS.into_iter().filter(|key| !preset.dimensions.iter().any(|(known, ..)| known == key)) {
        if let Some(entry) = cloudwatch.entry(key) {
            let known: Vec<String> = preset.dimensions.iter().map(|(key, ..)| format!("`{key}`")).collect();
            let hint = format!("it is about {}", known.join(" and "));
            report.error(entry.place, format!("`{key}` has no meaning for `{}`", preset.name), Some(hint));
        }
    }
    let mut dimensions = BTreeMap::new();
    for (key, dimension, required) in preset.dimensions {
        let value = match cloudwatch.get(key) {
            Some(node) => node.text().map(|text| end_of_arn(key, text)),
            None => of_workload(key, ecs),
        };
        match value {
            Some(value) => drop(dimensions.insert((*dimension).to_owned(), value)),
            None if *required && cloudwatch.get(key).is_none() => {
                let hint = match *key {
                    "cluster" | "service" => format!("add `{key}: NAME`, or give the policy a `workload` of ECS"),
                    _ => format!("add `{key}: NAME`"),
                };
                report.error(node.place, format!("`{}` needs `{key}`", preset.name), Some(hint));
            }
            None => {}
        }
    }
    let stat = cloudwatch.get("stat");
    if let (Some(stat), None) = (stat, preset.stat) {
        report.error(
            stat.place,
            format!("`stat` has no meaning for `{}`: it is a share of requests", preset.name),
            None,
        );
    }
    let metric = |name: &str, stat: &str| CloudwatchMetric {
        namespace: preset.namespace.to_owned(),
        name: name.to_owned(),
        stat: stat.to_owned(),
        dimensions: dimensions.clone(),
    };
    let query = match preset.stat {
        Some(usual) => {
            let stat = stat.and_then(Node::text).unwrap_or(usual);
            CloudwatchQuery::Metric { metric: metric(preset.metric, stat), period }
        }
        // Nothing is reported of a minute without a 5xx, which is 0 and not silence; of one without a request nothing is
        // known. The sum takes the requests where the other one has no point at all.
        None => CloudwatchQuery::Expression {
            expression: "(SUM([requests, FILL(errors, 0)]) - requests) / requests".to_owned(),
            metrics: [("errors", preset.metric), ("requests", "RequestCount")]
                .map(|(id, name)| (id.to_owned(), metric(name, "Sum")))
                .into(),
            period,
        },
    };
    Some((query, preset.unit))
}

/// What the policy's workload says of a key already.
fn of_workload(key: &str, ecs: Option<&Node>) -> Option<String> {
    match key {
        "cluster" => ecs?.get("cluster")?.text().map(|text| end_of_arn(key, text)),
        "service" => ecs.map(|_| "{service}".to_owned()),
        _ => None,
    }
}

/// Dimensions of load balancers and target groups are the ends of their ARNs, which is how people have them at hand.
fn end_of_arn(key: &str, text: &str) -> String {
    let end = match key {
        _ if !text.starts_with("arn:") => None,
        "load_balancer" => text.split_once(":loadbalancer/").map(|(_, end)| end),
        "target_group" => text.rsplit(':').next(),
        // A cluster may be named by its ARN in a workload, and by its name only here.
        "cluster" => text.rsplit('/').next(),
        _ => None,
    };
    end.unwrap_or(text).to_owned()
}
