//! The double against moto, which others wrote: the same samples, put in by the AWS CLI, give the same statistics.
//!
//! The SDK for Rust speaks CBOR to CloudWatch, which moto does not, so it is the CLI (JSON) that asks both.

use super::{BEGAN_S, at, expect_fault};
use crate::ecs::config;
use crate::ecs::moto::moto;
use crate::mesh::cli::{aws, run_service};
use crate::program::aws_double::AwsDouble;
use serde_json::{Value, json};
use tidegate::base::fault::FaultKind;
use tidegate::policy::plan::CloudwatchQuery;
use tidegate::signals::Asked;
use tidegate::signals::cloudwatch::CloudWatch;

#[tokio::test]
async fn the_double_and_moto_make_the_same_statistics_of_the_same_samples() {
    let Some(aws) = aws().await else { return };
    let Some((_moto, moto_url)) = moto().await else { return };
    let Some(double) = AwsDouble::start().await else { return };
    let dimension = json!([{ "Name": "Service", "Value": "v2" }]);
    let samples: Vec<Value> = (0..12)
        .map(|n| {
            json!({ "MetricName": "Latency", "Dimensions": dimension, "Timestamp": BEGAN_S + n * 25,
                    "Values": [n as f64, 10.0], "Counts": [1.0, 2.0] })
        })
        .collect();
    let stat = |name: &str, stat: &str, period: i64| {
        let metric = json!({ "Namespace": "Shop", "MetricName": "Latency", "Dimensions": dimension });
        json!({ "Id": name, "MetricStat": { "Metric": metric, "Period": period, "Stat": stat } })
    };
    let queries = json!([
        stat("sum", "Sum", 60),
        stat("average", "Average", 60),
        stat("least", "Minimum", 300),
        stat("most", "Maximum", 300),
        stat("count", "SampleCount", 120),
    ]);
    let ask = json!({ "MetricDataQueries": queries, "StartTime": BEGAN_S, "EndTime": BEGAN_S + 300,
                      "ScanBy": "TimestampAscending" });
    let mut answers = Vec::new();
    for url in [&double.url, &moto_url] {
        let cli = async |operation: &str, input: &Value| {
            run_service(&aws, url, "cloudwatch", &[operation, "--cli-input-json", &input.to_string()]).await.unwrap()
        };
        cli("put-metric-data", &json!({ "Namespace": "Shop", "MetricData": samples })).await;
        let mut results = cli("get-metric-data", &ask).await["MetricDataResults"].clone();
        for result in results.as_array_mut().unwrap() {
            result
                .as_object_mut()
                .unwrap()
                .retain(|member, _| ["Id", "Timestamps", "Values", "StatusCode"].contains(&member.as_str()));
            // The CLI prints a moment as it comes over the wire, and JSON lets a whole second be 60 or 60.0.
            for moment in result["Timestamps"].as_array_mut().unwrap() {
                *moment = json!(moment.as_f64().unwrap());
            }
        }
        let alarm = json!({ "AlarmName": "queue", "MetricName": "Depth", "Namespace": "Shop", "Statistic": "Sum", "Period": 60,
                            "EvaluationPeriods": 1, "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold" });
        if url == &double.url {
            double.control("cloudwatch/alarm", json!({ "name": "queue", "state": "ALARM" })).await;
        } else {
            cli("put-metric-alarm", &alarm).await;
            cli("set-alarm-state", &json!({ "AlarmName": "queue", "StateValue": "ALARM", "StateReason": "test" }))
                .await;
        }
        let described = cli("describe-alarms", &json!({ "AlarmNames": ["queue", "missing"] })).await;
        let states: Vec<_> =
            described["MetricAlarms"].as_array().unwrap().iter().map(|alarm| alarm["StateValue"].clone()).collect();
        answers.push((results, states));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0[0]["Values"].as_array().unwrap().len(), 5, "{:?}", answers[0]);
    assert_eq!(answers[0].1, [json!("ALARM")]);
}

/// What somebody reads who points the daemon at something that is no CloudWatch of today.
#[tokio::test]
async fn a_server_that_does_not_know_the_protocol_is_told_from_aws() {
    let Some((_moto, url)) = moto().await else { return };
    let query = CloudwatchQuery::Alarm { name: "queue".to_owned() };
    let cloudwatch = CloudWatch::from_config(&config(&url));
    let answer = cloudwatch.points(&[Asked { query: &query, after: at(0), since: at(0), now: at(60) }]).await.remove(0);
    expect_fault("moto", answer, FaultKind::Permanent, "answered with status 404, and not as AWS does");
}
