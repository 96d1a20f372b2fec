//! Answers of CloudWatch: what counts, and what a person reads of the others.

use super::*;
use crate::base::fault::FaultKind;
use aws_sdk_cloudwatch::primitives::DateTime;

fn result(status: &str, points: &[(i64, f64)]) -> MetricDataResult {
    labelled("Errors", status, points)
}

fn labelled(label: &str, status: &str, points: &[(i64, f64)]) -> MetricDataResult {
    MetricDataResult::builder()
        .id("t0")
        .label(label)
        .status_code(StatusCode::from(status))
        .set_timestamps(Some(points.iter().map(|(at, _)| DateTime::from_secs(*at)).collect()))
        .set_values(Some(points.iter().map(|(_, value)| *value).collect()))
        .build()
}

fn said(result: MetricDataResult, code: &str) -> MetricDataResult {
    let mut result = result;
    result.messages = Some(vec![MessageData::builder().code(code).value("some text").build()]);
    result
}

/// Each list is a page.
fn read(pages: &[Vec<MetricDataResult>]) -> Answer {
    let mut gathered = Gathered::default();
    for page in pages {
        gathered.add(&GetMetricDataOutput::builder().set_metric_data_results(Some(page.clone())).build());
    }
    gathered.answer("t0", "metric Shop/Errors (Sum)")
}

fn values(answer: Answer) -> Vec<(i64, f64)> {
    answer.unwrap().iter().map(|point| (point.at.0 / 1000, point.value)).collect()
}

#[test]
fn complete_data_are_points_in_rising_order() {
    let answer = read(&[vec![result("Complete", &[(120, 2.0), (60, 1.0), (180, f64::NAN)])]]);
    assert_eq!(values(answer), [(60, 1.0), (120, 2.0)]);
    assert_eq!(values(read(&[vec![result("Complete", &[])]])), [], "silence");
}

#[test]
fn a_series_goes_on_from_page_to_page() {
    let pages = [vec![result("PartialData", &[(60, 1.0)])], vec![result("Complete", &[(120, 2.0)])]];
    assert_eq!(values(read(&pages)), [(60, 1.0), (120, 2.0)]);
}

#[test]
fn points_that_a_division_by_zero_left_out_are_missing_and_not_wrong() {
    let answer = read(&[vec![said(result("Complete", &[(60, 1.0)]), "ArithmeticError")]]);
    assert_eq!(values(answer), [(60, 1.0)]);
}

#[test]
fn what_is_not_complete_is_never_data() {
    let data = [(60, 0.0)];
    let (mut torn, mut silent) = (result("Complete", &data), result("Complete", &data));
    torn.values = Some(vec![]);
    silent.status_code = None;
    let rows: Vec<(Vec<Vec<MetricDataResult>>, FaultKind, &str)> = vec![
        (vec![vec![result("PartialData", &data)]], FaultKind::Transient, "has only a part of the data yet"),
        (vec![vec![result("InternalError", &data)]], FaultKind::Transient, "could not read the data"),
        (
            vec![vec![result("Complete", &data)], vec![result("InternalError", &[])]],
            FaultKind::Transient,
            "could not read the data",
        ),
        (
            vec![vec![said(result("Forbidden", &data), "Forbidden")]],
            FaultKind::Permanent,
            "not allowed: cloudwatch:GetMetricData in the account that has it; add it to the role there (docs/aws.md): \
             Forbidden: some text",
        ),
        (vec![vec![result("Settling", &data)]], FaultKind::Transient, "the status of the answer is Settling"),
        (vec![vec![silent]], FaultKind::Transient, "the status of the answer is none"),
        (
            vec![vec![said(result("Complete", &data), "Odd")]],
            FaultKind::Transient,
            "has doubts about the data: Odd: some",
        ),
        (vec![vec![torn]], FaultKind::Transient, "not as many times as values"),
        (vec![vec![]], FaultKind::Transient, "left it out of its answer"),
        (
            vec![vec![labelled("v1", "Complete", &data), labelled("v2", "Complete", &data)]],
            FaultKind::Permanent,
            "it yields more than one time series (v1, v2): make one of them, with SUM, AVG or MAX around it",
        ),
        (
            vec![vec![result("Complete", &data), result("Complete", &data)]],
            FaultKind::Permanent,
            "more than one time series",
        ),
        (
            vec![vec![labelled("v1", "PartialData", &data)], vec![labelled("v2", "Complete", &data)]],
            FaultKind::Permanent,
            "more than one time series",
        ),
    ];
    for (pages, kind, text) in rows {
        let fault = read(&pages).unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.message.starts_with("GetMetricData of metric Shop/Errors (Sum): "), "{fault}");
        assert!(fault.message.contains(text), "{fault}");
    }
}

#[test]
fn a_doubt_about_the_whole_call_is_one_about_each_answer() {
    let mut gathered = Gathered::default();
    let message = MessageData::builder().code("MaxMetricsExceeded").value("too many").build();
    let page = GetMetricDataOutput::builder().metric_data_results(result("Complete", &[(60, 1.0)])).messages(message);
    gathered.add(&page.build());
    let fault = gathered.answer("t0", "metric Shop/Errors (Sum)").unwrap_err();
    assert!(fault.message.contains("answered the call in part: MaxMetricsExceeded: too many"), "{fault}");
}
