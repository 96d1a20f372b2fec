//! A round of questions to all sources at once.

use super::server::{Reply, Server};
use super::{at, expect_fault, seen};
use crate::ecs::config;
use crate::program::aws_double::AwsDouble;
use serde_json::json;
use tidegate::base::fault::FaultKind;
use tidegate::policy::plan::{CloudwatchQuery, SignalQuery, XrayMeasure, XrayQuery};
use tidegate::ports::{SignalQuestion, Signals};
use tidegate::signals::cloudwatch::CloudWatch;
use tidegate::signals::http::HttpNumber;
use tidegate::signals::outside::Outside;
use tidegate::signals::prometheus::{Prometheus, PrometheusSettings};
use tidegate::signals::webhook::Webhook;
use tidegate::signals::xray::Xray;

fn question(query: SignalQuery) -> SignalQuestion {
    SignalQuestion { query, after: at(0), since: at(0), now: at(180) }
}

fn alarm(name: &str) -> SignalQuestion {
    question(SignalQuery::Cloudwatch(CloudwatchQuery::Alarm { name: name.to_owned() }))
}

fn traces(filter: &str) -> SignalQuestion {
    question(SignalQuery::Xray(XrayQuery {
        filter: filter.to_owned(),
        measure: XrayMeasure::FaultRate,
        min_traces: 1,
        beside: None,
    }))
}

fn number(url: &str) -> SignalQuestion {
    question(SignalQuery::Http { url: url.to_owned(), value: String::new() })
}

fn series() -> SignalQuestion {
    question(SignalQuery::Prometheus { query: "up".to_owned(), url: None, step: None })
}

#[tokio::test]
async fn answers_stand_in_the_order_of_the_questions_and_a_fault_is_one_questions_own() {
    let Some(double) = AwsDouble::start().await else { return };
    for (name, state) in [("on", "ALARM"), ("off", "OK")] {
        double.control("cloudwatch/alarm", json!({ "name": name, "state": state })).await;
    }
    double.control("xray/put", json!({ "traces": [{ "start": at(60).0 / 1000, "HasFault": true }] })).await;
    let seven = Server::start(Reply::Body(200, "7".to_owned())).await;
    let silent = Server::start(Reply::Body(200, "null".to_owned())).await;
    let outside = Outside {
        cloudwatch: Some(CloudWatch::from_config(&config(&double.url))),
        xray: Some(Xray::from_config(&config(&double.url))),
        prometheus: Some(Prometheus::new(&PrometheusSettings::default()).unwrap()),
        http: Some(HttpNumber::new().unwrap()),
        webhook: Some(Webhook::new().unwrap()),
    };
    let questions = [
        number(&seven.url),
        alarm("on"),
        series(),
        traces("nonsense"),
        number(&silent.url),
        alarm("missing"),
        traces(""),
        alarm("off"),
    ];
    let answers = outside.points(&questions).await;
    assert_eq!(answers.len(), questions.len());
    for (index, points) in
        [(0, vec![(180, 7.0)]), (1, vec![(180, 1.0)]), (4, vec![]), (6, vec![(120, 1.0)]), (7, vec![(180, 0.0)])]
    {
        assert_eq!(seen(&answers[index]), points, "{index}");
    }
    for (index, text) in [(2, "no Prometheus is configured"), (3, "Invalid filter"), (5, "there is no alarm missing")] {
        expect_fault("one of eight", answers[index].clone(), FaultKind::Permanent, text);
    }
    assert_eq!(outside.points(&[]).await, []);
}

#[tokio::test]
async fn a_source_that_is_not_configured_names_its_key() {
    let answers = Outside::default().points(&[series(), alarm("on"), traces(""), number("http://127.0.0.1:1")]).await;
    for (answer, (source, text)) in answers.into_iter().zip([
        ("prometheus", "asks no Prometheus: set `prometheus.url` in its configuration file"),
        ("cloudwatch", "asks nothing of AWS: `tidegate serve` does, in the region `aws.region` of its configuration"),
        ("xray", "asks nothing of AWS: `tidegate serve` does, in the region `aws.region` of its configuration"),
        ("http", "asks no services by HTTP: `tidegate serve` does"),
    ]) {
        let fault = expect_fault(source, answer, FaultKind::Permanent, text);
        assert_eq!(fault.source, source);
    }
}

/// One slow source holds nobody else's answers up: all are asked at the same time.
#[tokio::test]
async fn sources_are_asked_side_by_side() {
    let Some(double) = AwsDouble::start().await else { return };
    double.fault_of("cloudwatch", "DescribeAlarms", "hang", json!({})).await;
    double.fault_of("xray", "GetTraceSummaries", "hang", json!({})).await;
    let slow = Server::start(Reply::Nothing).await;
    let outside = Outside {
        cloudwatch: Some(CloudWatch::from_config(&config(&double.url))),
        xray: Some(Xray::from_config(&config(&double.url))),
        prometheus: Some(
            Prometheus::new(&PrometheusSettings { url: Some(slow.url.clone()), ..PrometheusSettings::default() })
                .unwrap(),
        ),
        http: Some(HttpNumber::new().unwrap()),
        webhook: None,
    };
    // Each gives up after 5 s; one after the other that would be 20 s.
    let questions = [alarm("on"), traces(""), series(), number(&slow.url)];
    let answers = tokio::time::timeout(std::time::Duration::from_secs(15), outside.points(&questions)).await.unwrap();
    for answer in answers {
        expect_fault("a source that hangs", answer, FaultKind::Transient, "no answer");
    }
}
