//! Presets of CloudWatch: the metrics that a load balancer, a service of ECS, Service Connect, a mesh and a queue have by
//! themselves, so that a common policy needs none of their names. Limits stay the policy's own: nobody else knows what is
//! normal.
//!
//! Names, units and dimensions are those of AWS's documentation: "CloudWatch metrics for your Application Load Balancer",
//! "Amazon ECS CloudWatch metrics" (Service Connect's are there), "Available CloudWatch metrics for Amazon SQS", and for the
//! mesh "App Mesh metrics extension" with what the CloudWatch agent adds to metrics of StatsD (`metric_type`). Tidegate's
//! own proxy sends the same names without that (docs/proxy-observability.md).

use super::plan::{CloudwatchMetric, CloudwatchQuery, SignalUnit};
use super::problem::Report;
use super::statistic::keeps_unit;
use super::tree::Node;
use crate::base::time::Millis;
use std::collections::BTreeMap;

/// Keys that belong to presets alone.
pub(super) const KEYS: [&str; 9] = [
    "cluster",
    "service",
    "load_balancer",
    "target_group",
    "queue",
    "virtual_node",
    "virtual_gateway",
    "virtual_service",
    "discovery_name",
];

/// One of them.
struct Preset {
    name: &'static str,
    namespace: &'static str,
    measure: Measure,
    unit: SignalUnit,
    dimensions: &'static [Dimension],
}

/// What is measured.
enum Measure {
    /// A statistic of one metric, and the usual one.
    Stat(&'static str, &'static str),
    /// The same of one in milliseconds.
    Millis(&'static str, &'static str),
    /// The share that one metric has of another: no statistic of their own.
    Share { part: &'static str, whole: &'static [(&'static str, &'static str)] },
}

/// A dimension of the metrics, and where its value is from.
enum Dimension {
    /// The policy's key, and whether it must be there.
    Key(&'static str, &'static str, bool),
    /// The mesh of the policy's route.
    Mesh,
    /// The version's virtual node.
    Version,
    /// What a metric's type is called by whoever sends it: that of counts, and that of times.
    Type,
}

use Dimension::{Key, Mesh, Type, Version};

const BALANCER: &[Dimension] = &[Key("load_balancer", "LoadBalancer", true), Key("target_group", "TargetGroup", false)];
const SERVICE: &[Dimension] = &[Key("cluster", "ClusterName", true), Key("service", "ServiceName", true)];
const DISCOVERY: &[Dimension] = &[Key("discovery_name", "TargetDiscoveryName", true)];
const TARGET: &[Dimension] = &[
    Mesh,
    Key("virtual_node", "VirtualNode", false),
    Key("virtual_gateway", "VirtualGateway", false),
    Key("virtual_service", "TargetVirtualService", true),
    Version,
];
const TARGET_BY_AGENT: &[Dimension] = &[
    Mesh,
    Key("virtual_node", "VirtualNode", false),
    Key("virtual_gateway", "VirtualGateway", false),
    Key("virtual_service", "TargetVirtualService", true),
    Version,
    Type,
];

const MESH_ERRORS: Measure = Measure::Share {
    part: "envoy.appmesh.HTTPCode_Target_5XX_Count",
    whole: &[("requests", "envoy.appmesh.RequestCountPerTarget")],
};
const MESH_TIMES: Measure = Measure::Millis("envoy.appmesh.TargetResponseTime", "p95");
/// The classes are what is counted of one discovery name's requests; a class without any has no point.
const CONNECT_ERRORS: Measure = Measure::Share {
    part: "HTTPCode_Target_5XX_Count",
    whole: &[
        ("informed", "HTTPCode_Target_2XX_Count"),
        ("moved", "HTTPCode_Target_3XX_Count"),
        ("refused", "HTTPCode_Target_4XX_Count"),
        ("failed", "HTTPCode_Target_5XX_Count"),
    ],
};
const BALANCER_ERRORS: Measure =
    Measure::Share { part: "HTTPCode_Target_5XX_Count", whole: &[("requests", "RequestCount")] };

const fn preset_of(
    name: &'static str,
    namespace: &'static str,
    measure: Measure,
    unit: SignalUnit,
    dimensions: &'static [Dimension],
) -> Preset {
    Preset { name, namespace, measure, unit, dimensions }
}

const PRESETS: [Preset; 11] = {
    use SignalUnit::{Percent, Seconds, Share};
    let balancer = "AWS/ApplicationELB";
    [
        preset_of("alb_target_5xx", balancer, BALANCER_ERRORS, Share, BALANCER),
        preset_of("alb_target_response_time", balancer, Measure::Stat("TargetResponseTime", "p95"), Seconds, BALANCER),
        preset_of("appmesh_target_5xx", "CWAgent", MESH_ERRORS, Share, TARGET_BY_AGENT),
        preset_of("appmesh_target_response_time", "CWAgent", MESH_TIMES, Seconds, TARGET_BY_AGENT),
        preset_of("ecs_cpu", "AWS/ECS", Measure::Stat("CPUUtilization", "Average"), Percent, SERVICE),
        preset_of("ecs_memory", "AWS/ECS", Measure::Stat("MemoryUtilization", "Average"), Percent, SERVICE),
        preset_of("service_connect_5xx", "AWS/ECS", CONNECT_ERRORS, Share, DISCOVERY),
        preset_of(
            "service_connect_response_time",
            "AWS/ECS",
            Measure::Millis("TargetResponseTime", "Average"),
            Seconds,
            DISCOVERY,
        ),
        preset_of(
            "sqs_age",
            "AWS/SQS",
            Measure::Stat("ApproximateAgeOfOldestMessage", "Maximum"),
            Seconds,
            &[Key("queue", "QueueName", true)],
        ),
        preset_of("tidegate_target_5xx", "AppMesh", MESH_ERRORS, Share, TARGET),
        preset_of("tidegate_target_response_time", "AppMesh", MESH_TIMES, Seconds, TARGET),
    ]
};

impl Preset {
    /// The policy's keys that it has a use for.
    fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.dimensions.iter().filter_map(|dimension| match dimension {
            Key(key, ..) => Some(*key),
            Mesh | Version | Type => None,
        })
    }
}

/// The query of a preset. The policy's own workload, where it has one of ECS, knows cluster and services.
pub(super) fn preset(
    cloudwatch: &Node,
    period: Millis,
    root: &Node,
    report: &mut Report<'_>,
) -> Option<(CloudwatchQuery, SignalUnit)> {
    let node = cloudwatch.get("preset")?;
    let preset = PRESETS.iter().find(|preset| node.text() == Some(preset.name))?;
    strays(cloudwatch, preset, report);
    let dimensions = dimensions(cloudwatch, preset, root, report);
    let namespace = cloudwatch.get("namespace").and_then(Node::text).unwrap_or(preset.namespace);
    let of = |name: &str, stat: &str| {
        let kind = if stat == "Sum" { "counter" } else { "timing" };
        let typed = preset.dimensions.iter().any(|dimension| matches!(dimension, Type));
        let mut dimensions = dimensions.clone();
        dimensions.extend(typed.then(|| ("metric_type".to_owned(), kind.to_owned())));
        CloudwatchMetric { namespace: namespace.to_owned(), name: name.to_owned(), stat: stat.to_owned(), dimensions }
    };
    let stat = cloudwatch.get("stat").and_then(Node::text);
    let query = match &preset.measure {
        Measure::Stat(name, usual) => CloudwatchQuery::Metric { metric: of(name, stat.unwrap_or(usual)), period },
        Measure::Millis(name, usual) => CloudwatchQuery::Expression {
            expression: "time / 1000".to_owned(),
            metrics: [("time".to_owned(), of(name, stat.unwrap_or(usual)))].into(),
            period,
        },
        // Nothing is reported of a minute without a 5xx, which is 0 and not silence; of one without a request nothing is
        // known. The sum takes the requests where the other one has no point at all.
        Measure::Share { part, whole } => {
            let metrics = whole.iter().copied().chain([(ERRORS, *part)]);
            CloudwatchQuery::Expression {
                expression: share(whole),
                metrics: metrics.map(|(id, name)| (id.to_owned(), of(name, "Sum"))).collect(),
                period,
            }
        }
    };
    Some((query, preset.unit))
}

/// The failed requests, in the expression of a share.
const ERRORS: &str = "errors";

/// The expression of a share of requests.
fn share(whole: &[(&str, &str)]) -> String {
    let names: Vec<&str> = whole.iter().map(|(id, _)| *id).collect();
    let all = match names.as_slice() {
        [one] => (*one).to_owned(),
        several => format!("SUM([{}])", several.join(", ")),
    };
    format!("(SUM([{all}, FILL({ERRORS}, 0)]) - {all}) / {all}")
}

/// What counts all requests, and what counts those that failed, where a query is a preset's share of failed requests.
#[must_use]
pub fn request_counts(query: &CloudwatchQuery) -> Option<(Vec<CloudwatchMetric>, CloudwatchMetric)> {
    let CloudwatchQuery::Expression { expression, metrics, .. } = query else { return None };
    let mut shares = PRESETS.iter().filter_map(|preset| match &preset.measure {
        Measure::Share { whole, .. } => Some(*whole),
        Measure::Stat(..) | Measure::Millis(..) => None,
    });
    let whole = shares.find(|whole| *expression == share(whole))?;
    let all: Option<Vec<CloudwatchMetric>> = whole.iter().map(|(id, _)| metrics.get(*id).cloned()).collect();
    Some((all?, metrics.get(ERRORS)?.clone()))
}

/// The same of one target group of a load balancer, both by name or by ARN.
#[must_use]
pub fn balancer_counts(load_balancer: &str, target_group: &str) -> (Vec<CloudwatchMetric>, CloudwatchMetric) {
    let named = |key: &str, text: &str| end_of_arn(key, text);
    let dimensions = BTreeMap::from([
        ("LoadBalancer".to_owned(), named("load_balancer", load_balancer)),
        ("TargetGroup".to_owned(), named("target_group", target_group)),
    ]);
    let of = |name: &str| CloudwatchMetric {
        namespace: "AWS/ApplicationELB".to_owned(),
        name: name.to_owned(),
        stat: "Sum".to_owned(),
        dimensions: dimensions.clone(),
    };
    (vec![of("RequestCount")], of("HTTPCode_Target_5XX_Count"))
}

/// Refuses keys and statistics that a preset has no use for.
fn strays(cloudwatch: &Node, preset: &Preset, report: &mut Report<'_>) {
    for key in KEYS.into_iter().filter(|key| !preset.keys().any(|known| known == *key)) {
        if let Some(entry) = cloudwatch.entry(key) {
            let known: Vec<String> = preset.keys().map(|key| format!("`{key}`")).collect();
            let hint = format!("it is about {}", known.join(" and "));
            report.error(entry.place, format!("`{key}` has no meaning for `{}`", preset.name), Some(hint));
        }
    }
    let Some(stat) = cloudwatch.get("stat") else { return };
    if let Measure::Share { .. } = preset.measure {
        let message = format!("`stat` has no meaning for `{}`: it is a share of requests", preset.name);
        report.error(stat.place, message, None);
    } else if stat.text().is_some_and(|stat| !keeps_unit(stat)) {
        let hint = "name the metric itself for that: `namespace`, `metric`, `stat`, `dimensions`".to_owned();
        report.error(stat.place, "this statistic counts or ranks values, and the limit is one of values", Some(hint));
    }
}

fn dimensions(cloudwatch: &Node, preset: &Preset, root: &Node, report: &mut Report<'_>) -> BTreeMap<String, String> {
    let place = cloudwatch.get("preset").unwrap_or(cloudwatch).place;
    let ecs = root.get("workload").and_then(|workload| workload.get("ecs"));
    let mut dimensions = BTreeMap::new();
    for dimension in preset.dimensions {
        let (name, value) = match dimension {
            Key(key, name, required) => {
                let value = match cloudwatch.get(key) {
                    Some(node) => node.text().map(|text| end_of_arn(key, text)),
                    None => of_workload(key, ecs),
                };
                if value.is_none() && *required && cloudwatch.get(key).is_none() {
                    let hint = match *key {
                        "cluster" | "service" => {
                            format!("add `{key}: NAME`, or give the policy a `workload` of ECS")
                        }
                        _ => format!("add `{key}: NAME`"),
                    };
                    report.error(place, format!("`{}` needs `{key}`", preset.name), Some(hint));
                }
                (*name, value)
            }
            Mesh => ("Mesh", root.get("route").and_then(|route| route.get("mesh")?.text()).map(str::to_owned)),
            Version => ("TargetVirtualNode", Some("{node}".to_owned())),
            // It differs between the metrics of one preset.
            Type => continue,
        };
        dimensions.extend(value.map(|value| (name.to_owned(), value)));
    }
    let senders = ["virtual_node", "virtual_gateway"].map(|key| cloudwatch.get(key).is_some());
    if preset.keys().any(|key| key == "virtual_node") && senders[0] == senders[1] {
        let hint = "name whose proxy sends the requests: `virtual_node: NAME` or `virtual_gateway: NAME`".to_owned();
        report.error(place, format!("`{}` needs one of the two senders", preset.name), Some(hint));
    }
    dimensions
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
