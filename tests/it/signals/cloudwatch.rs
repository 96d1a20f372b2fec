//! Metrics, expressions and alarms of CloudWatch: what a round asks, what it gets, and what a person reads on a bad day.

use super::{BEGAN_S, at, expect_fault, seen};
use crate::ecs::config;
use crate::program::aws_double::AwsDouble;
use aws_sdk_cloudwatch::config::timeout::TimeoutConfig;
use aws_sdk_cloudwatch::config::{BehaviorVersion, ProvideCredentials, SharedCredentialsProvider};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::base::fault::FaultKind;
use tidegate::base::time::{Millis, Timestamp};
use tidegate::policy::plan::{CloudwatchMetric, CloudwatchQuery};
use tidegate::signals::cloudwatch::CloudWatch;
use tidegate::signals::{Answer, Asked};

fn of(name: &str, stat: &str, service: &str) -> CloudwatchMetric {
    CloudwatchMetric {
        namespace: "Shop".to_owned(),
        name: name.to_owned(),
        stat: stat.to_owned(),
        dimensions: BTreeMap::from([("Service".to_owned(), service.to_owned())]),
    }
}

fn metric(name: &str, stat: &str) -> CloudwatchQuery {
    CloudwatchQuery::Metric { metric: of(name, stat, "v2"), period: Millis::from_seconds(60) }
}

fn error_rate(service: &str) -> CloudwatchQuery {
    CloudwatchQuery::Expression {
        expression: "100 * errors / requests".to_owned(),
        metrics: BTreeMap::from([
            ("errors".to_owned(), of("Errors", "Sum", service)),
            ("requests".to_owned(), of("Requests", "Sum", service)),
        ]),
        period: Millis::from_seconds(60),
    }
}

fn alarm(name: &str) -> CloudwatchQuery {
    CloudwatchQuery::Alarm { name: name.to_owned() }
}

/// The double with samples, and the adapter.
pub(super) struct Account {
    double: AwsDouble,
    pub(super) cloudwatch: CloudWatch,
}

impl Account {
    pub(super) async fn start() -> Option<Self> {
        let double = AwsDouble::start().await?;
        let cloudwatch = CloudWatch::from_config(&config(&double.url));
        let account = Self { double, cloudwatch };
        // Errors of minute n: n each; requests: 100; latencies: 1 to 100 ms in every minute.
        for service in ["v1", "v2"] {
            let sum =
                |value: fn(i64) -> f64| (0..10).map(|minute| (minute * 60 + 5, value(minute))).collect::<Vec<_>>();
            account.put("Errors", service, &sum(|minute| minute as f64)).await;
            account.put("Requests", service, &sum(|_| 100.0)).await;
            let latencies = (0..10).flat_map(|minute| (1..=100).map(move |ms| (minute * 60 + ms / 2, ms as f64)));
            account.put("Latency", service, &latencies.collect::<Vec<_>>()).await;
        }
        Some(account)
    }

    /// Samples by seconds after the beginning.
    pub(super) async fn put(&self, name: &str, service: &str, samples: &[(i64, f64)]) {
        let samples: Vec<_> = samples.iter().map(|(after, value)| json!([BEGAN_S + after, value])).collect();
        let body =
            json!({ "namespace": "Shop", "metric": name, "dimensions": { "Service": service }, "samples": samples });
        self.double.control("cloudwatch/put", body).await;
    }

    async fn alarm(&self, name: &str, state: &str, kind: &str) {
        self.double.control("cloudwatch/alarm", json!({ "name": name, "state": state, "kind": kind })).await;
    }

    async fn behave(&self, rule: Value) {
        self.double.control("cloudwatch/behave", rule).await;
    }

    async fn fault(&self, operation: &str, kind: &str, more: Value) {
        self.double.fault_of("cloudwatch", operation, kind, more).await;
    }

    pub(super) async fn ask(&self, queries: &[CloudwatchQuery], after: Timestamp, now: Timestamp) -> Vec<Answer> {
        let asked: Vec<_> = queries.iter().map(|query| Asked { query, after, since: after, now }).collect();
        self.cloudwatch.points(&asked).await
    }

    /// An adapter that knows nothing yet.
    fn anew(&self) -> CloudWatch {
        CloudWatch::from_config(&config(&self.double.url))
    }

    /// Asked once, eight minutes after the beginning, by somebody who knows nothing yet.
    async fn one(&self, query: CloudwatchQuery) -> Answer {
        let asked = Asked { query: &query, after: at(0), since: at(0), now: at(480) };
        self.anew().points(&[asked]).await.remove(0)
    }
}

#[tokio::test]
async fn a_round_of_metrics_expressions_and_alarms_is_two_calls() {
    let Some(account) = Account::start().await else { return };
    account.alarm("queue", "ALARM", "metric").await;
    account.alarm("all", "OK", "composite").await;
    account.alarm("young", "INSUFFICIENT_DATA", "log").await;
    let slow = CloudwatchQuery::Metric { metric: of("Latency", "p99", "v2"), period: Millis::from_seconds(300) };
    let queries = [
        metric("Errors", "Sum"),
        error_rate("v1"),
        alarm("queue"),
        error_rate("v2"),
        slow,
        metric("Latency", "Average"),
        alarm("all"),
        alarm("young"),
        metric("Latency", "SampleCount"),
    ];
    // The minute from 240 s has settled at 420 s; that from 300 s has not.
    let answers = account.ask(&queries, at(120), at(420)).await;
    let seen: Vec<_> = answers.iter().map(seen).collect();
    assert_eq!(seen[0], [(180, 3.0), (240, 4.0)]);
    assert_eq!(seen[1], [(180, 3.0), (240, 4.0)], "per cent of 100 requests");
    assert_eq!(seen[1], seen[3]);
    assert_eq!((seen[2].as_slice(), seen[6].as_slice()), ([(420, 1.0)].as_slice(), [(420, 0.0)].as_slice()));
    assert_eq!(seen[4], [], "the first five minutes began before");
    assert_eq!(seen[5], [(180, 50.5), (240, 50.5)]);
    assert_eq!(seen[7], [], "an alarm without data says nothing");
    assert_eq!(seen[8], [(180, 100.0), (240, 100.0)]);
    assert_eq!(account.cloudwatch.calls(), [("GetMetricData", 1), ("DescribeAlarms", 1)]);
}

#[tokio::test]
async fn points_come_once_and_nobody_is_asked_before_there_can_be_one() {
    let Some(account) = Account::start().await else { return };
    let query = [metric("Errors", "Sum")];
    let mut after = at(0);
    let mut all = Vec::new();
    for now in (0..600).step_by(10) {
        let answer = account.ask(&query, after, at(now)).await.remove(0);
        all.extend(seen(&answer));
        after = answer.unwrap().last().map_or(after, |point| point.at);
    }
    assert_eq!(all, [(60, 1.0), (120, 2.0), (180, 3.0), (240, 4.0), (300, 5.0), (360, 6.0)]);
    assert_eq!(account.cloudwatch.calls(), [("GetMetricData", 6)], "of 60 rounds");
}

#[tokio::test]
async fn percentiles_of_long_periods_begin_at_the_same_time_in_each_round() {
    let Some(account) = Account::start().await else { return };
    let slow =
        |stat: &str| CloudwatchQuery::Metric { metric: of("Latency", stat, "v2"), period: Millis::from_seconds(300) };
    for after in [0, 60, 123] {
        let answers = account.ask(&[slow("p50"), slow("p99.9"), metric("Errors", "Sum")], at(after), at(720)).await;
        let [median, tail] = [0, 1].map(|index| seen(&answers[index]));
        assert_eq!(median, [(300, 50.5)], "after {after}");
        assert!(tail[0].1 > 99.0, "{tail:?}");
    }
}

#[tokio::test]
async fn a_long_answer_is_read_page_by_page() {
    let Some(mut account) = Account::start().await else { return };
    account.double.control("cloudwatch/settings", json!({ "page_points": 4 })).await;
    let answers = account.ask(&[metric("Errors", "Sum"), error_rate("v2")], at(0), at(480)).await;
    let expected = [(60, 1.0), (120, 2.0), (180, 3.0), (240, 4.0), (300, 5.0)];
    assert_eq!((seen(&answers[0]), seen(&answers[1])), (expected.to_vec(), expected.to_vec()));
    assert_eq!(account.cloudwatch.calls(), [("GetMetricData", 4)], "with the minutes that have not settled");
    account.cloudwatch = account.anew();
    account.double.control("cloudwatch/settings", json!({ "page_points": 2 })).await;
    let answers = account.ask(&[metric("Errors", "Sum"), error_rate("v2")], at(0), at(480)).await;
    for answer in answers {
        expect_fault(
            "a page too many",
            answer,
            FaultKind::Transient,
            "more than 4 pages: ask for longer periods, or less",
        );
    }
}

#[tokio::test]
async fn no_data_is_silence_and_no_zero() {
    let Some(account) = Account::start().await else { return };
    assert_eq!(seen(&account.one(metric("Nothing", "Sum")).await), []);
    // No request, so no rate: 0 / 0 is left out by CloudWatch.
    account.put("Requests", "v3", &[(65, 0.0), (125, 10.0)]).await;
    account.put("Errors", "v3", &[(65, 0.0), (125, 1.0)]).await;
    assert_eq!(seen(&account.one(error_rate("v3")).await), [(120, 10.0)]);
}

/// What CloudWatch says of one query.
#[tokio::test]
async fn an_answer_that_is_not_complete_is_no_data() {
    let place = "GetMetricData of metric Shop/Errors (Sum): ";
    for (rule, kind, text) in [
        (
            json!({ "status": "PartialData" }),
            FaultKind::Transient,
            "has only a part of the data yet; asked again next round",
        ),
        (json!({ "status": "InternalError" }), FaultKind::Transient, "could not read the data; asked again next round"),
        (
            json!({ "status": "Forbidden", "message": ["Forbidden", "no access to account 2"] }),
            FaultKind::Permanent,
            "not allowed: cloudwatch:GetMetricData in the account that has it; add it to the role there (docs/aws.md): \
             Forbidden: no access to account 2",
        ),
        (json!({ "message": ["Odd", "something"] }), FaultKind::Transient, "has doubts about the data: Odd: something"),
        (json!({ "leave_out": true }), FaultKind::Transient, "left it out of its answer; asked again next round"),
        (
            json!({ "labels": ["v1", "v2"] }),
            FaultKind::Permanent,
            "more than one time series (v1, v2): make one of them, with SUM, AVG or MAX around it",
        ),
    ] {
        let Some(account) = Account::start().await else { return };
        let mut rule = rule;
        rule["metric"] = json!("Errors");
        account.behave(rule.clone()).await;
        let answers = account.ask(&[metric("Errors", "Sum"), metric("Requests", "Sum")], at(0), at(480)).await;
        assert_eq!(seen(&answers[1]).len(), 5, "the others are answered all the same: {rule}");
        let fault = expect_fault(&rule.to_string(), answers[0].clone(), kind, text);
        assert!(fault.message.starts_with(place), "{fault}");
    }
    let Some(account) = Account::start().await else { return };
    let messages = json!({ "messages": [["MaxMetricsExceeded", "Maximum number of allowed metrics exceeded"]] });
    account.double.control("cloudwatch/settings", messages).await;
    let text = "answered the call in part: MaxMetricsExceeded: Maximum number of allowed metrics exceeded";
    expect_fault("a message of the call", account.one(metric("Errors", "Sum")).await, FaultKind::Transient, text);
}

/// What AWS, or whatever stands before it, says to the call.
#[tokio::test]
async fn a_call_that_fails_says_whose_fault_it_is() {
    let Some(account) = Account::start().await else { return };
    account.alarm("queue", "OK", "metric").await;
    let html = "<html><title>Bad gateway</title></html>";
    let rows = [
        (
            "throttle",
            json!({ "times": 3 }),
            FaultKind::Transient,
            "AWS limits the calls of this account: Throttling: Rate",
        ),
        ("server_error", json!({ "times": 3 }), FaultKind::Transient, "InternalFailure: Service Unavailable"),
        (
            "expired",
            json!({}),
            FaultKind::Transient,
            "renew the AWS credentials of the daemon, or look at its clock: Expired",
        ),
        (
            "unknown_key",
            json!({}),
            FaultKind::Permanent,
            "AWS does not know the credentials of the daemon: correct them",
        ),
        ("lost", json!({ "times": 3 }), FaultKind::Transient, "no answer: "),
        ("garbage", json!({ "body": html }), FaultKind::Transient, "answered with status 200, and not as AWS does"),
        (
            "garbage",
            json!({ "body": html, "status": 404 }),
            FaultKind::Permanent,
            "answered with status 404, and not as AWS does: look at what stands between the daemon and AWS, and at \
             AWS_ENDPOINT_URL",
        ),
        (
            "garbage",
            json!({ "body": html, "status": 502, "times": 3 }),
            FaultKind::Transient,
            "answered with status 502, and not as AWS does",
        ),
    ];
    for (operation, query) in [("GetMetricData", metric("Errors", "Sum")), ("DescribeAlarms", alarm("queue"))] {
        for (kind, more, expected, text) in &rows {
            account.fault(operation, kind, more.clone()).await;
            expect_fault(&format!("{operation}: {kind}"), account.one(query.clone()).await, *expected, text);
        }
        account.fault(operation, "deny", json!({})).await;
        let denied = account.one(query.clone()).await;
        let text = format!(
            "not allowed: cloudwatch:{operation} on {}; add it to the role that the daemon runs with (docs/aws.md lists \
             all); AWS says: User: arn:aws:sts::123456789012:assumed-role/tidegate/i-1 is not authorized",
            if operation == "DescribeAlarms" { "alarm queue" } else { "metric Shop/Errors (Sum)" }
        );
        expect_fault(&format!("{operation}: deny"), denied, FaultKind::Permanent, &text);
        account.fault(operation, "throttle", json!({ "times": 2 })).await;
        assert!(account.one(query.clone()).await.is_ok(), "throttling that passes is not noticed");
        account.fault(operation, "hang", json!({})).await;
        expect_fault(&format!("{operation}: hang"), account.one(query).await, FaultKind::Transient, "no answer: ");
    }
}

#[tokio::test]
async fn a_question_that_cloudwatch_refuses_spoils_no_other() {
    let Some(account) = Account::start().await else { return };
    let mut queries: Vec<_> = (0..6).map(|_| metric("Errors", "Sum")).collect();
    queries.extend([metric("Latency", "p50"), metric("Latency", "Medium"), error_rate("v1"), metric("Latency", "p90")]);
    queries.push(CloudwatchQuery::Expression {
        expression: "errors / missing".to_owned(),
        metrics: BTreeMap::from([("errors".to_owned(), of("Errors", "Sum", "v2"))]),
        period: Millis::from_seconds(60),
    });
    let answers = account.ask(&queries, at(0), at(480)).await;
    let todo = "CloudWatch does not take this question; correct `cloudwatch` in the policy: ValidationError: ";
    for (index, answer) in answers.into_iter().enumerate() {
        match index {
            7 => {
                let text = format!("GetMetricData of metric Shop/Latency (Medium): {todo}The value Medium");
                expect_fault("a statistic that is none", answer, FaultKind::Permanent, &text);
            }
            10 => {
                let text = format!("GetMetricData of expression `errors / missing`: {todo}Error in expression");
                expect_fault("an expression with an unknown name", answer, FaultKind::Permanent, &text);
            }
            _ => assert_eq!(seen(&answer).len(), 5, "{index}"),
        }
    }
    let calls = account.cloudwatch.calls();
    assert!(calls[0].1 <= 11, "halves, and not each by itself twice: {calls:?}");
}

#[tokio::test]
async fn alarms_are_asked_by_the_hundred_and_missing_ones_are_named() {
    let Some(account) = Account::start().await else { return };
    for number in 0..120 {
        account.alarm(&format!("a{number}"), "OK", "metric").await;
    }
    let mut queries: Vec<_> = (0..120).map(|number| alarm(&format!("a{number}"))).collect();
    queries.extend([alarm("a7"), alarm("typo")]);
    let mut answers = account.ask(&queries, at(0), at(10)).await;
    let text = "there is no alarm typo in this account and region: create it, or correct `cloudwatch.alarm`";
    expect_fault("an alarm that is not there", answers.remove(121), FaultKind::Permanent, text);
    assert!(answers.iter().all(|answer| seen(answer) == [(10, 0.0)]));
    assert_eq!(account.cloudwatch.calls(), [("DescribeAlarms", 2)]);
    assert_eq!(seen(&account.ask(&[alarm("a7")], at(10), at(10)).await.remove(0)), [], "nothing newer");
}

#[tokio::test]
async fn without_credentials_or_a_connection_nothing_is_sent() {
    let Some(account) = Account::start().await else { return };
    #[derive(Debug)]
    struct Nobody;
    impl ProvideCredentials for Nobody {
        fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let error =
                aws_credential_types::provider::error::CredentialsError::not_loaded("no key in the environment");
            aws_credential_types::provider::future::ProvideCredentials::ready(Err(error))
        }
    }
    let ask = async |cloudwatch: CloudWatch| {
        let query = metric("Errors", "Sum");
        cloudwatch.points(&[Asked { query: &query, after: at(0), since: at(0), now: at(480) }]).await.remove(0)
    };
    let nobody = config(&account.double.url).into_builder();
    let nobody = nobody.credentials_provider(SharedCredentialsProvider::new(Nobody)).build();
    let answer = ask(CloudWatch::from_config(&nobody)).await;
    expect_fault("no credentials", answer, FaultKind::Transient, "no credentials for AWS, so nothing was sent");
    let answer = ask(CloudWatch::from_config(&config("http://127.0.0.1:1"))).await;
    expect_fault("nobody listens", answer, FaultKind::Transient, "no connection: ");
    assert_eq!(account.double.calls().await.len(), 0);
}

#[tokio::test]
async fn statistics_over_a_part_of_the_values_are_cloudwatchs() {
    let Some(account) = Account::start().await else { return };
    // 1 to 100 in each minute.
    for (stat, expected) in [
        ("tm90", 45.5),
        ("IQM", 50.5),
        ("TM(10%:90%)", 50.5),
        ("WM(:90%)", 50.005),
        ("tc90", 90.0),
        ("TS(:10)", 55.0),
        ("PR(:30)", 30.0),
    ] {
        let found = seen(&account.one(metric("Latency", stat)).await);
        assert_eq!(found.len(), 5, "{stat}");
        let value = found[0].1;
        assert!((value - expected).abs() < 0.1, "{stat}: {value}");
    }
}

/// The bound of the interface: 1,000 rollouts with three gates each cost six calls in an interval, however they ask.
#[tokio::test]
async fn a_thousand_rollouts_with_three_gates_make_six_calls_in_an_interval() {
    let Some(mut account) = Account::start().await else { return };
    // The double takes its time for 500 questions, which is not what is tried here.
    let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_secs(120)).build();
    let settings = aws_sdk_cloudwatch::config::Builder::from(&config(&account.double.url));
    let settings = settings.behavior_version(BehaviorVersion::latest()).timeout_config(timeouts);
    let settings = settings.http_client(tidegate::aws::https()).build();
    account.cloudwatch = CloudWatch::new(aws_sdk_cloudwatch::Client::from_conf(settings));
    let rollouts: Vec<[CloudwatchQuery; 3]> = (0..1000)
        .map(|rollout| {
            ["Errors", "Requests", "Latency"].map(|name| {
                let metric = of(name, "Sum", &format!("v{rollout}"));
                CloudwatchQuery::Metric { metric, period: Millis::from_seconds(60) }
            })
        })
        .collect();
    let mut counted = Vec::new();
    for interval in 0..4_i64 {
        let before = account.cloudwatch.calls().first().map_or(0, |(_, calls)| *calls);
        // Every rollout asks once in the interval, at a time of its own, forty of them in each moment.
        for moment in 0..25 {
            let now = at(600 + interval * 60 + moment * 2);
            let ask = |rollout: usize| {
                let (cloudwatch, queries) = (account.cloudwatch.clone(), rollouts[rollout].clone());
                async move {
                    let after = at(360 + interval * 60);
                    let asked: Vec<_> = queries.iter().map(|query| Asked { query, after, since: after, now }).collect();
                    cloudwatch.points(&asked).await
                }
            };
            let moment = usize::try_from(moment).unwrap();
            let all = futures_util::future::join_all((moment * 40..moment * 40 + 40).map(ask)).await;
            let faults = all.iter().flatten().filter_map(|answer| answer.as_ref().err()).collect::<Vec<_>>();
            assert!(faults.is_empty(), "{:?}", faults.first());
        }
        counted.push(account.cloudwatch.calls()[0].1 - before);
    }
    // In the first interval nobody is known before he asks.
    assert_eq!(counted[1..], [6, 6, 6], "{counted:?}");
}

#[tokio::test]
async fn who_is_throttled_leaves_cloudwatch_alone_for_a_while() {
    let Some(account) = Account::start().await else { return };
    account.fault("GetMetricData", "throttle", json!({ "times": 3 })).await;
    let ask = async |now: i64| account.ask(&[metric("Errors", "Sum")], at(0), at(now)).await.remove(0);
    let text = "AWS limits the calls of this account: Throttling: Rate";
    expect_fault("throttled", ask(480).await, FaultKind::Transient, text);
    let calls = account.cloudwatch.calls();
    // What was refused stands for ten seconds for whoever asks that; another question is not asked before two and a half.
    expect_fault("the same again", ask(482).await, FaultKind::Transient, text);
    let other = account.ask(&[metric("Requests", "Sum")], at(0), at(482)).await.remove(0);
    let text = "AWS limits the calls of this account: CloudWatch is asked again in ";
    expect_fault("another one", other, FaultKind::Transient, text);
    let alarm = account.ask(&[alarm("queue")], at(0), at(482)).await.remove(0);
    expect_fault("an alarm", alarm, FaultKind::Transient, text);
    assert_eq!(account.cloudwatch.calls(), calls, "no call was made");
    assert_eq!(seen(&ask(490).await).len(), 5, "after the wait");
}

#[tokio::test]
async fn a_slow_sender_is_read_later_once_it_was_seen() {
    let Some(account) = Account::start().await else { return };
    let ask =
        async |after: i64, now: i64| seen(&account.ask(&[metric("Late", "Sum")], at(after), at(now)).await.remove(0));
    account.put("Late", "v2", &[(65, 1.0), (125, 1.0)]).await;
    assert_eq!(ask(0, 270).await, [(60, 1.0)]);
    // What is missing of the second minute comes 90 to 150 s after its end, when it was read 90 s after it.
    account.put("Late", "v2", &[(170, 4.0), (185, 1.0)]).await;
    assert_eq!(ask(60, 330).await, [(120, 5.0)], "it has settled by now");
    // From now on minutes are read 150 s after their end, and not 120.
    assert_eq!(ask(120, 380).await, []);
    assert_eq!(ask(120, 391).await, [(180, 1.0)]);
}
