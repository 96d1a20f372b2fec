//! `policy replay --cloudwatch` as people call it: the real program and SDK against the double of CloudWatch.

use crate::program::aws_double::AwsDouble;
use crate::program::{Ran, command, finish};
use serde_json::{Value, json};
use tidegate::clock::{Clock, SystemClock};

const POLICY: &str = "examples/replay/from-cloudwatch.yaml";
/// Before now, in minutes, the history begins.
const BACK: i64 = 1500;

/// The double with a day of the example's requests: every minute 600 of checkout-v1, and 60 of checkout-v2 in the last hour,
/// of which half fail from its third minute on.
struct Past {
    double: AwsDouble,
    /// Seconds since 1970 in which the release began.
    began_s: i64,
}

impl Past {
    async fn start() -> Option<Self> {
        let double = AwsDouble::start().await?;
        let now_s = SystemClock.now().0 / 60_000 * 60;
        let past = Self { double, began_s: now_s - 3600 };
        let all = |count: f64| (-BACK..0).map(|minute| (now_s + minute * 60, count)).collect::<Vec<_>>();
        let late = |count: fn(i64) -> f64| {
            (0..60).map(|minute| (now_s - 3600 + minute * 60, count(minute))).collect::<Vec<_>>()
        };
        past.put("RequestCountPerTarget", "checkout-v1", &all(600.0)).await;
        past.put("HTTPCode_Target_5XX_Count", "checkout-v1", &all(1.0)).await;
        past.put("RequestCountPerTarget", "checkout-v2", &late(|_| 60.0)).await;
        past.put("HTTPCode_Target_5XX_Count", "checkout-v2", &late(|minute| if minute < 2 { 0.0 } else { 30.0 })).await;
        Some(past)
    }

    async fn put(&self, name: &str, node: &str, samples: &[(i64, f64)]) {
        let dimensions = json!({
            "Mesh": "shop", "VirtualGateway": "ingress", "TargetVirtualService": "checkout.local", "TargetVirtualNode": node,
        });
        let samples: Vec<Value> = samples.iter().map(|(at, value)| json!([at, value])).collect();
        let metric = format!("envoy.appmesh.{name}");
        let body = json!({ "namespace": "AppMesh", "metric": metric, "dimensions": dimensions, "samples": samples });
        self.double.control("cloudwatch/put", body).await;
    }

    async fn replay(&self, more: &[&str]) -> Ran {
        let words = ["policy", "replay", POLICY, "--cloudwatch"];
        let mut command = command(&words.iter().chain(more).copied().collect::<Vec<_>>());
        command.env("AWS_REGION", "us-east-1").env("AWS_ENDPOINT_URL", &self.double.url);
        command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "secret");
        finish(command).await
    }

    async fn calls(&self) -> usize {
        self.double.calls().await.iter().filter(|call| call["operation"] == "GetMetricData").count()
    }
}

#[tokio::test]
async fn a_release_of_the_last_hour_is_found_and_would_have_been_rolled_back() {
    let Some(past) = Past::start().await else { return };
    let ran = past.replay(&["--days", "1", "--output", "json"]).await.expect(0);
    let [answer] = ran.json().try_into().unwrap();
    assert_eq!((&answer["canary"], &answer["stable"]), (&"checkout-v2".into(), &"checkout-v1".into()));
    assert_eq!(answer["from"], tidegate::base::time::Timestamp(past.began_s * 1000).rfc3339());
    let moments = answer["moments"].as_array().unwrap();
    let last = moments.last().unwrap();
    // Two good minutes, which prove too little; the third is known at its end.
    assert_eq!((&last["what"], last["after_s"].as_f64()), (&"rolled_back".into(), Some(180.0)), "{answer}");
    assert!(last["why"].as_str().unwrap().contains("chance if no worse"), "{answer}");
    let text = past.replay(&["--days", "1"]).await.expect(0).stdout;
    assert!(text.starts_with("CloudWatch: the release is on checkout-v2, beside checkout-v1;"), "{text}");
    assert!(text.contains("would have been rolled back: canary "), "{text}");
}

#[tokio::test]
async fn a_long_history_comes_in_many_pages_and_throttling_is_waited_for() {
    let Some(past) = Past::start().await else { return };
    past.double.control("cloudwatch/settings", json!({ "page_points": 500 })).await;
    // More often than the SDK repeats a call by itself.
    past.double.fault_of("cloudwatch", "GetMetricData", "throttle", json!({ "times": 4 })).await;
    past.replay(&["--days", "1"]).await.expect(0);
    // Two series of 1,440 minutes and two of 60, once as counts and once as the gate's share.
    assert!(past.calls().await > 10, "{} calls", past.calls().await);
}

#[tokio::test]
async fn what_cannot_be_read_says_whose_fault_it_is() {
    let Some(past) = Past::start().await else { return };
    past.double.fault_of("cloudwatch", "GetMetricData", "deny", json!({})).await;
    let denied = past.replay(&["--days", "1"]).await.expect(1);
    denied.says(&["not allowed: cloudwatch:GetMetricData", "add it to the role"]);
    let quiet = past.replay(&["--days", "1", "--canary", "checkout-v1"]).await.expect(1);
    quiet.says(&["no version of policy `checkout` began to have requests beside the other in that time", "--from"]);
    let stranger = past.replay(&["--canary", "checkout-v3"]).await.expect(2);
    stranger.says(&["`checkout-v3` is no version of policy `checkout`: they are checkout-v1 and checkout-v2"]);
    past.replay(&["--from", "2020-01-01T00:00:00Z"]).await.expect(2).says(&["is more than 7 days ago", "--days"]);
    past.replay(&["--days", "16"]).await.expect(2).says(&["16 is not in 1..=15"]);
    past.replay(&["--load-balancer", "app/front/1", "--target-group", "checkout-v1=targetgroup/a/2"])
        .await
        .expect(2)
        .says(&["--target-group is needed for each version"]);
}
