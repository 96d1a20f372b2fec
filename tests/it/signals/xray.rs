//! Rates and response times of traces, and what a person reads on a bad day.

use super::{BEGAN_S, at, expect_fault, seen};
use crate::ecs::config;
use crate::program::aws_double::AwsDouble;
use serde_json::{Value, json};
use tidegate::base::fault::FaultKind;
use tidegate::base::time::Timestamp;
use tidegate::policy::plan::{XrayMeasure, XrayQuery};
use tidegate::signals::xray::{LAG, Xray};
use tidegate::signals::{Answer, Asked};

fn query(version: &str, measure: XrayMeasure) -> XrayQuery {
    XrayQuery { filter: format!("annotation.version = \"{version}\""), measure }
}

struct Account {
    double: AwsDouble,
    xray: Xray,
}

impl Account {
    /// One trace a second: of v1 without faults, of v2 with one in four.
    async fn start() -> Option<Self> {
        let double = AwsDouble::start().await?;
        let xray = Xray::from_config(&config(&double.url));
        let account = Self { double, xray };
        for version in ["v1", "v2"] {
            let traces = (0..120).map(|second| {
                let is_bad = version == "v2" && second % 4 == 0;
                let seconds = if is_bad { 2.0 } else { 0.1 };
                json!({ "start": BEGAN_S + second, "annotations": { "version": version }, "HasFault": is_bad,
                        "HasError": second % 10 == 0, "HasThrottle": second % 20 == 0, "ResponseTime": seconds })
            });
            account.put(traces.collect()).await;
        }
        Some(account)
    }

    async fn put(&self, traces: Vec<Value>) {
        self.double.control("xray/put", json!({ "traces": traces })).await;
    }

    async fn ask(&self, query: &XrayQuery, after: Timestamp, now: Timestamp) -> Answer {
        self.xray.points(&[Asked { query, after, now }]).await.remove(0)
    }
}

#[tokio::test]
async fn each_measure_is_of_the_traces_that_a_filter_selects() {
    let Some(account) = Account::start().await else { return };
    for (version, measure, value) in [
        ("v1", XrayMeasure::FaultRate, 0.0),
        ("v2", XrayMeasure::FaultRate, 0.25),
        ("v2", XrayMeasure::ErrorRate, 0.1),
        ("v2", XrayMeasure::ThrottleRate, 0.05),
        ("v2", XrayMeasure::ResponseTime { quantile: 0.5 }, 0.1),
        ("v2", XrayMeasure::ResponseTime { quantile: 0.9 }, 2.0),
    ] {
        let answer = account.ask(&query(version, measure), at(0), at(120 + 60)).await;
        assert_eq!(seen(&answer), [(120, value)], "{version} {measure:?}");
    }
}

#[tokio::test]
async fn rounds_share_no_trace_and_end_where_traces_have_arrived() {
    let Some(account) = Account::start().await else { return };
    account.double.control("xray/settings", json!({ "page_traces": 7 })).await;
    let query = query("v2", XrayMeasure::FaultRate);
    let (mut after, mut read) = (at(0), Vec::new());
    for now in (0..240).step_by(25) {
        let answer = account.ask(&query, after, at(now)).await;
        read.extend(seen(&answer));
        after = answer.unwrap().last().map_or(after, |point| point.at);
    }
    let times: Vec<i64> = read.iter().map(|(time, _)| *time).collect();
    assert_eq!(times, [15, 40, 65, 90, 115, 140], "{} s behind, and silence after the last trace", LAG.0 / 1000);
    let faults: f64 =
        [15, 25, 25, 25, 25, 5].iter().zip(&read).map(|(traces, (_, rate))| f64::from(*traces) * rate).sum();
    assert!((faults - 30.0).abs() < 1e-9, "each of the 30 faults once: {faults}");
}

#[tokio::test]
async fn no_trace_is_silence_and_no_rate_of_zero() {
    let Some(account) = Account::start().await else { return };
    let silent = query("v3", XrayMeasure::FaultRate);
    assert_eq!(seen(&account.ask(&silent, at(0), at(180)).await), []);
    assert_eq!(account.xray.calls(), [("GetTraceSummaries", 1)]);
    assert_eq!(seen(&account.ask(&silent, at(0), at(60)).await), [], "nothing can have arrived: nobody is asked");
    assert_eq!(account.xray.calls(), [("GetTraceSummaries", 1)]);
    let long_ago = Timestamp(at(0).0 - 86_400_000);
    assert_eq!(seen(&account.ask(&silent, long_ago, at(180)).await), [], "no span beyond what X-Ray takes");
}

#[tokio::test]
async fn more_pages_than_are_read_are_a_sample() {
    let Some(account) = Account::start().await else { return };
    account.double.control("xray/settings", json!({ "page_traces": 4 })).await;
    let answer = account.ask(&query("v2", XrayMeasure::FaultRate), at(0), at(180)).await;
    assert_eq!(seen(&answer), [(120, 0.25)]);
    assert_eq!(account.xray.calls(), [("GetTraceSummaries", 10)]);
}

#[tokio::test]
async fn traces_in_progress_count_nowhere_and_too_many_are_no_answer() {
    let Some(account) = Account::start().await else { return };
    let hanging = |count: i64| {
        let trace =
            |second| json!({ "start": BEGAN_S + second, "annotations": { "version": "v2" }, "IsPartial": true });
        (0..count).map(trace).collect::<Vec<_>>()
    };
    let query = query("v2", XrayMeasure::FaultRate);
    account.put(hanging(12)).await;
    assert_eq!(seen(&account.ask(&query, at(0), at(180)).await), [(120, 0.25)]);
    account.put(hanging(12)).await;
    let text = "24 of 144 traces with annotation.version = \"v2\" are still in progress, which is too many; the span is read \
                again next round";
    expect_fault("hanging", account.ask(&query, at(0), at(180)).await, FaultKind::Transient, text);
}

#[tokio::test]
async fn a_call_that_fails_says_whose_fault_it_is() {
    let Some(account) = Account::start().await else { return };
    let query = query("v2", XrayMeasure::FaultRate);
    for (kind, more, expected, text) in [
        (
            "throttle",
            json!({ "times": 3 }),
            FaultKind::Transient,
            "AWS limits the calls of this account: ThrottledException",
        ),
        ("server_error", json!({ "times": 3 }), FaultKind::Transient, "InternalFailure: Service Unavailable"),
        (
            "deny",
            json!({}),
            FaultKind::Permanent,
            "not allowed: xray:GetTraceSummaries on traces with annotation.version = \"v2\"; add it to the role",
        ),
        ("expired", json!({}), FaultKind::Transient, "renew the AWS credentials of the daemon, or look at its clock"),
        ("unknown_key", json!({}), FaultKind::Permanent, "AWS does not know the credentials of the daemon"),
        ("lost", json!({ "times": 3 }), FaultKind::Transient, "no answer: "),
        ("hang", json!({}), FaultKind::Transient, "no answer: "),
        ("garbage", json!({ "body": "<html>" }), FaultKind::Transient, "answered with status 200, and not as AWS does"),
        ("garbage", json!({ "body": "<html>", "status": 404 }), FaultKind::Permanent, "look at what stands between"),
    ] {
        account.double.fault_of("xray", "GetTraceSummaries", kind, more).await;
        expect_fault(kind, account.ask(&query, at(0), at(180)).await, expected, text);
    }
    let wrong = XrayQuery { filter: "version is v2".to_owned(), measure: XrayMeasure::FaultRate };
    let text =
        "X-Ray does not take this filter; correct `xray.filter` in the policy: InvalidRequestException: Invalid filter";
    expect_fault("a filter", account.ask(&wrong, at(0), at(180)).await, FaultKind::Permanent, text);
}
