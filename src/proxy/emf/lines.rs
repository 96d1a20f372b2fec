//! Metrics of a period as lines for CloudWatch (CloudWatch User Guide, "Embedded metric format specification"). Pure.

use crate::base::time::Timestamp;
use crate::proxy::metrics::{Amount, Distribution, Portion};
use serde_json::{Map, Value, json};

/// Who reports, and how.
pub(super) struct Source<'a> {
    pub(super) namespace: &'a str,
    pub(super) log_group: Option<&'a str>,
    pub(super) now: Timestamp,
}

/// The line of a portion.
pub(super) fn line(source: &Source<'_>, portion: &Portion) -> String {
    let Portion { dimensions, metrics, .. } = portion;
    let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
    let listed = metrics.iter().map(|metric| json!({ "Name": metric.name, "Unit": metric.amount.unit() }));
    let listed: Vec<Value> = listed.collect();
    let directive = json!({ "Namespace": source.namespace, "Dimensions": [names], "Metrics": listed });
    let mut about = json!({ "Timestamp": source.now.0, "CloudWatchMetrics": [directive] });
    if let Some(group) = source.log_group {
        about["LogGroupName"] = group.into();
    }
    let mut members = Map::from_iter([("_aws".to_owned(), about)]);
    members.extend(dimensions.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))));
    members.extend(metrics.iter().map(|metric| (metric.name.to_owned(), value(&metric.amount))));
    format!("{}\n", Value::Object(members))
}

/// Distributions in the form that the OpenTelemetry exporter for this format writes.
fn value(amount: &Amount) -> Value {
    match amount {
        Amount::Count(count) => json!(count),
        Amount::Times(Distribution { values, counts, sum }) => json!({
            "Values": values,
            "Counts": counts,
            "Min": values.first(),
            "Max": values.last(),
            "Count": counts.iter().sum::<u64>(),
            "Sum": sum,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::metrics::tests::{key, own, target};
    use crate::proxy::metrics::{Period, portions};

    fn of(before: &Period, now: &Period, log_group: Option<&str>) -> Vec<Value> {
        let source = Source { namespace: "AppMesh", log_group, now: Timestamp(5) };
        let lines = portions(&own(), before, now);
        lines.iter().map(|portion| serde_json::from_str(&line(&source, portion)).expect("JSON")).collect()
    }

    #[test]
    fn a_line_names_its_dimensions_and_metrics() {
        let lines = of(&Period::default(), &Period::default(), None);
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        assert_eq!((&line["Mesh"], &line["VirtualNode"]), (&json!("shop"), &json!("web")));
        assert_eq!(line["envoy.appmesh.RequestCount"], 0);
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(
            (&directive["Namespace"], &directive["Dimensions"]),
            (&json!("AppMesh"), &json!([["Mesh", "VirtualNode"]]))
        );
        assert_eq!(directive["Metrics"][0], json!({ "Name": "envoy.appmesh.ActiveConnectionCount", "Unit": "Count" }));
        assert_eq!((&line["_aws"]["Timestamp"], &line["_aws"]["LogGroupName"]), (&json!(5), &Value::Null));
    }

    #[test]
    fn times_are_values_with_their_counts() {
        let targets = [(key("a.local"), target(&[(200, 2)], &[900, 4000]))];
        let now = Period { targets: targets.into(), ..Period::default() };
        let lines = of(&Period::default(), &now, Some("group"));
        let line = &lines[1];
        assert_eq!((&line["TargetVirtualService"], &line["TargetVirtualNode"]), (&json!("a.local"), &json!("v1")));
        assert_eq!(line["envoy.appmesh.HTTPCode_Target_2XX_Count"], 2);
        let times = &line["envoy.appmesh.TargetResponseTime"];
        assert_eq!((&times["Count"], &times["Sum"], &times["Counts"]), (&json!(2), &json!(4.9), &json!([1, 1])));
        assert_eq!((&times["Min"], &times["Max"]), (&times["Values"][0], &times["Values"][1]));
        assert_eq!(line["_aws"]["LogGroupName"], "group");
    }
}
