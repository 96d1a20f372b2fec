//! Rates and response times of traces, and what a person reads on a bad day.

use super::{BEGAN_S, at, expect_fault, seen};
use crate::ecs::config;
use crate::program::aws_double::AwsDouble;
use serde_json::{Value, json};
use tidegate::base::fault::FaultKind;
use tidegate::base::time::Timestamp;
use tidegate::policy::plan::{XrayBeside, XrayMeasure, XrayQuery};
use tidegate::signals::xray::{LAG, Xray};
use tidegate::signals::{Answer, Asked};

fn query(version: &str, measure: XrayMeasure) -> XrayQuery {
    XrayQuery { filter: format!("annotation.version = \"{version}\""), measure, min_traces: 1, beside: None }
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

    /// Asked by somebody who knows nothing yet.
    async fn one(&self, query: &XrayQuery) -> Answer {
        let asked = Asked { query, after: at(0), since: at(0), now: at(180) };
        Xray::from_config(&config(&self.double.url)).points(&[asked]).await.remove(0)
    }

    async fn ask(&self, query: &XrayQuery, after: Timestamp, now: Timestamp) -> Answer {
        self.xray.points(&[Asked { query, after, since: at(0), now }]).await.remove(0)
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
        expect_fault(kind, account.one(&query).await, expected, text);
    }
    let wrong = XrayQuery { filter: "version is v2".to_owned(), ..query };
    let text =
        "X-Ray does not take this filter; correct `xray.filter` in the policy: InvalidRequestException: Invalid filter";
    expect_fault("a filter", account.one(&wrong).await, FaultKind::Permanent, text);
}

#[tokio::test]
async fn fewer_traces_than_are_asked_for_make_the_span_longer() {
    let Some(account) = Account::start().await else { return };
    let query = XrayQuery { min_traces: 50, ..query("v2", XrayMeasure::FaultRate) };
    assert_eq!(seen(&account.ask(&query, at(0), at(100)).await), [], "40 traces");
    assert_eq!(seen(&account.ask(&query, at(0), at(120)).await), [(60, 0.25)], "60, since the same beginning");
}

#[tokio::test]
async fn who_is_throttled_leaves_xray_alone_for_a_while() {
    let Some(account) = Account::start().await else { return };
    let query = query("v2", XrayMeasure::FaultRate);
    account.double.fault_of("xray", "GetTraceSummaries", "throttle", json!({ "times": 3 })).await;
    let text = "AWS limits the calls of this account: ThrottledException";
    expect_fault("throttled", account.ask(&query, at(0), at(180)).await, FaultKind::Transient, text);
    let calls = account.xray.calls();
    let text = "AWS limits the calls of this account: X-Ray is asked again in ";
    expect_fault("at once", account.ask(&query, at(0), at(182)).await, FaultKind::Transient, text);
    assert_eq!(account.xray.calls(), calls, "no call was made");
    assert_eq!(seen(&account.ask(&query, at(0), at(186)).await).len(), 1, "after the wait");
}

fn beside(measure: XrayMeasure) -> XrayQuery {
    let filter = |version: &str| format!("annotation.version = \"{version}\"");
    let beside =
        XrayBeside { filter: filter("v1"), canary: "checkout-v2".to_owned(), stable: "checkout-v1".to_owned() };
    XrayQuery { filter: filter("v2"), measure, min_traces: 10, beside: Some(beside) }
}

/// The answer's value and what it tells people.
async fn news(account: &Account, measure: XrayMeasure, now: i64) -> (f64, Option<String>) {
    let answer = account.ask(&beside(measure), at(0), at(now)).await;
    let point = answer.unwrap_or_else(|fault| panic!("{fault}")).remove(0);
    assert_eq!(point.at, at(now - 60));
    (point.value, point.note)
}

#[tokio::test]
async fn a_type_of_exception_that_stable_has_not_is_new() {
    let Some(account) = Account::start().await else { return };
    let thrown = |version: &str, name: &str, count: i64| {
        let causes =
            json!([{ "Services": [{ "EntityPath": [{ "Exceptions": [{ "Name": name, "Message": "at 12:00" }] }] }] }]);
        let trace = |second| {
            json!({ "start": BEGAN_S + second, "annotations": { "version": version }, "HasFault": true,
                    "FaultRootCauses": causes })
        };
        (0..count).map(trace).collect::<Vec<_>>()
    };
    assert_eq!(news(&account, XrayMeasure::NewExceptions, 180).await, (0.0, None));
    account.put(thrown("v2", "TimeoutException", 20)).await;
    account.put(thrown("v1", "TimeoutException", 1)).await;
    assert_eq!(news(&account, XrayMeasure::NewExceptions, 180).await, (0.0, None), "stable has it as well");
    account.put(thrown("v2", "KeyError", 3)).await;
    assert_eq!(news(&account, XrayMeasure::NewExceptions, 180).await, (0.0, None), "three of 143 and 121 are luck");
    account.put(thrown("v2", "KeyError", 9)).await;
    let told = Some("KeyError in 12 traces".to_owned());
    assert_eq!(news(&account, XrayMeasure::NewExceptions, 180).await, (1.0, told));
    // What the canary's node did before the release had traffic is another release's doing.
    let query = beside(XrayMeasure::NewExceptions);
    let asked = Asked { query: &query, after: at(100), since: at(100), now: at(180) };
    assert_eq!(seen(&account.xray.points(&[asked]).await.remove(0)), [(120, 0.0)]);
}

#[tokio::test]
async fn a_call_to_a_service_that_stable_does_not_make_is_new() {
    let Some(account) = Account::start().await else { return };
    let traces = |version: &str, calls: &Value, from: i64, to: i64| {
        let trace =
            |second| json!({ "start": BEGAN_S + second, "annotations": { "version": version }, "calls": calls });
        (from..to).map(trace).collect::<Vec<_>>()
    };
    let table = json!(["Orders", "AWS::DynamoDB::Table"]);
    let usual = |node: &str| json!([["front", node], [node, table]]);
    account.put(traces("v1", &usual("shop/checkout-v1"), 0, 120)).await;
    account.put(traces("v2", &usual("shop/checkout-v2"), 0, 120)).await;
    assert_eq!(news(&account, XrayMeasure::NewEdges, 180).await, (0.0, None), "each version is itself");
    let calls = account.xray.calls();
    assert_eq!(calls[1].0, "GetTraceGraph");
    assert!(calls[1].1 <= 20, "ten for each version: {calls:?}");
    // In most traces, since a graph of five counts as one.
    for _ in 0..4 {
        account.put(traces("v2", &json!([["checkout-v2", "mail.example.com"]]), 0, 120)).await;
    }
    let (value, note) = news(&account, XrayMeasure::NewEdges, 180).await;
    assert!((value - 1.0).abs() < 1e-9, "{note:?}");
    assert!(note.unwrap().starts_with("(this version) -> mail.example.com in "));
    // Its own bad days, of one call for each version.
    for version in ["v4", "v5"] {
        account.put(traces(version, &usual("shop/checkout"), 0, 3)).await;
    }
    let few = |version: &str| format!("annotation.version = \"{version}\"");
    let mut query = XrayQuery { filter: few("v5"), min_traces: 1, ..beside(XrayMeasure::NewEdges) };
    query.beside.as_mut().unwrap().filter = few("v4");
    for (kind, more, expected, text) in [
        ("throttle", json!({ "times": 6 }), FaultKind::Transient, "AWS limits the calls of this account"),
        ("deny", json!({}), FaultKind::Permanent, "not allowed: xray:GetTraceGraph on traces with annotation.version"),
        ("server_error", json!({ "times": 6 }), FaultKind::Transient, "InternalFailure: Service Unavailable"),
        ("garbage", json!({ "body": "<html>" }), FaultKind::Transient, "answered with status 200, and not as AWS does"),
        ("hang", json!({}), FaultKind::Transient, "no answer: "),
    ] {
        account.double.fault_of("xray", "GetTraceGraph", kind, more).await;
        expect_fault(kind, account.one(&query).await, expected, text);
    }
}
