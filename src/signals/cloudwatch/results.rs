//! What an answer of `GetMetricData` says of each query, and what it does not.
//!
//! Points count only where CloudWatch says that they are all of them. A part of the data is none: which part is missing
//! follows no rule that a judge could allow for.

use super::fault::SOURCE;
use crate::aws::bounded;
use crate::base::fault::Fault;
use crate::base::time::Timestamp;
use crate::ports::SignalPoint;
use crate::signals::Answer;
use aws_sdk_cloudwatch::operation::get_metric_data::GetMetricDataOutput;
use aws_sdk_cloudwatch::types::{MessageData, MetricDataResult, StatusCode};
use std::collections::BTreeMap;

/// The message of an expression that divided by zero: CloudWatch leaves those points out and answers the others, so they
/// are missing and not wrong.
const NO_NUMBER: &str = "ArithmeticError";
/// So many labels are named where there should be one.
const LABELS_SHOWN: usize = 3;

/// Pages of an answer, taken together.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    found: BTreeMap<String, Found>,
    pages: usize,
    /// About the call as a whole.
    messages: Vec<String>,
}

#[derive(Debug, Default)]
struct Found {
    /// Pages on which it was: the same series goes on from page to page.
    pages: Vec<usize>,
    labels: Vec<String>,
    points: BTreeMap<i64, f64>,
    status: Option<StatusCode>,
    messages: Vec<String>,
    is_torn: bool,
}

impl Gathered {
    /// Takes in the next page.
    pub(super) fn add(&mut self, page: &GetMetricDataOutput) {
        self.messages.extend(page.messages().iter().map(text));
        for result in page.metric_data_results() {
            self.found.entry(result.id().unwrap_or_default().to_owned()).or_default().add(result, self.pages);
        }
        self.pages += 1;
    }

    /// What was answered to the query of an id, `place` for people.
    pub(super) fn answer(&self, id: &str, place: &str) -> Answer {
        let transient = |why: String| Err(Fault::transient(SOURCE, format!("GetMetricData of {place}: {why}")));
        let permanent = |why: String| Err(Fault::permanent(SOURCE, format!("GetMetricData of {place}: {why}")));
        let Some(found) = self.found.get(id) else {
            return transient("CloudWatch left it out of its answer; asked again next round".to_owned());
        };
        let also = found.messages.first().map(|message| format!(": {message}")).unwrap_or_default();
        match &found.status {
            Some(StatusCode::Complete) => {}
            Some(StatusCode::Forbidden) => {
                let todo = "not allowed: cloudwatch:GetMetricData in the account that has it; add it to the role there \
                            (docs/aws.md)";
                return permanent(format!("{todo}{also}"));
            }
            Some(StatusCode::PartialData) => {
                return transient(format!("CloudWatch has only a part of the data yet; asked again next round{also}"));
            }
            Some(StatusCode::InternalError) => {
                return transient(format!("CloudWatch could not read the data; asked again next round{also}"));
            }
            other => {
                let status = other.as_ref().map_or("none", StatusCode::as_str);
                return transient(format!("the status of the answer is {status}, which is none that is known{also}"));
            }
        }
        if found.is_several() {
            let labels = found.labels.iter().take(LABELS_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            let todo = "make one of them, with SUM, AVG or MAX around it";
            return permanent(format!("it yields more than one time series ({labels}): {todo}"));
        }
        if found.is_torn {
            return transient("the answer has not as many times as values".to_owned());
        }
        if let Some(message) = found.messages.iter().find(|message| !message.starts_with(NO_NUMBER)) {
            return transient(format!("CloudWatch has doubts about the data: {message}"));
        }
        if let Some(message) = self.messages.first() {
            return transient(format!("CloudWatch answered the call in part: {message}"));
        }
        Ok(found.points.iter().map(|(at, value)| SignalPoint::of(Timestamp(*at), *value)).collect())
    }
}

impl Found {
    fn add(&mut self, result: &MetricDataResult, page: usize) {
        self.pages.push(page);
        let label = result.label().unwrap_or_default();
        if !self.labels.iter().any(|known| known == label) {
            self.labels.push(label.to_owned());
        }
        self.status = result.status_code().cloned();
        self.messages.extend(result.messages().iter().map(text));
        self.is_torn |= result.timestamps().len() != result.values().len();
        for (at, value) in result.timestamps().iter().zip(result.values()) {
            if let (Ok(at), true) = (at.to_millis(), value.is_finite()) {
                self.points.insert(at, *value);
            }
        }
    }

    /// Whether more than one time series has this id: twice on a page, or under different names.
    fn is_several(&self) -> bool {
        self.labels.len() > 1 || self.pages.windows(2).any(|pages| pages[0] == pages[1])
    }
}

fn text(message: &MessageData) -> String {
    let (code, value) = (message.code().unwrap_or("no code"), message.value().unwrap_or("no text"));
    bounded(&format!("{code}: {value}"))
}

#[cfg(test)]
mod tests;
