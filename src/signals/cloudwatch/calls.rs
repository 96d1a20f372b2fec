//! The two calls to CloudWatch that Tidegate makes, each bounded and counted, with errors as faults.

use super::fault::{SOURCE, failed};
use super::place;
use super::plan::Batch;
use super::results::Gathered;
use crate::aws::{Made, is_about_the_question, is_throttled};
use crate::base::fault::Fault;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{AlarmType, ScanBy, StateValue};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use std::future::Future;

/// So many alarms CloudWatch describes in one call.
pub(super) const MOST_ALARMS: usize = 100;
/// So many pages of an answer are read, of 100,800 points each. A round of the most questions that one call takes has
/// 90,000 points after three hours of silence, so more pages mean periods of seconds, or somebody else's data.
const MOST_PAGES: usize = 4;

const GET_METRIC_DATA: &str = "GetMetricData";
const DESCRIBE_ALARMS: &str = "DescribeAlarms";

/// The client and what it was used for.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    client: Client,
    made: Made<2>,
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) fault: Fault,
    /// Whether it was refused for what was asked: other questions may be answered.
    pub(super) of_a_question: bool,
    /// Whether it was refused for there being too many.
    pub(super) is_throttled: bool,
}

impl Calls {
    pub(super) fn new(client: Client) -> Self {
        Self { client, made: Made::new([GET_METRIC_DATA, DESCRIBE_ALARMS]) }
    }

    /// How often each operation was called, those that were; each page is a call.
    pub(super) fn made(&self) -> Vec<(&'static str, u64)> {
        self.made.all()
    }

    /// Every call goes through here.
    async fn make<T, E>(
        &self,
        operation: &str,
        place: &str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
    ) -> Result<T, Refusal>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.made.note(operation);
        tracing::debug!(target: "tidegate::aws", service = SOURCE, operation, place, "call");
        call.await.map_err(|error| Refusal {
            of_a_question: is_about_the_question(&error),
            is_throttled: is_throttled(&error),
            fault: failed(operation, place).fault(&error),
        })
    }

    /// Everything that CloudWatch has of a batch.
    pub(super) async fn metric_data(&self, batch: &Batch<'_>) -> Result<Gathered, Refusal> {
        self.pages_of_metric_data(batch, MOST_PAGES).await
    }

    /// The same on so many pages at most.
    pub(super) async fn pages_of_metric_data(&self, batch: &Batch<'_>, most: usize) -> Result<Gathered, Refusal> {
        let first = batch.entries.first().map(|entry| place(entry.query)).unwrap_or_default();
        let place = match batch.entries.len() {
            0 | 1 => first,
            several => format!("{first} and {} more", several - 1),
        };
        let call = self
            .client
            .get_metric_data()
            .set_metric_data_queries(Some(batch.queries()))
            .start_time(DateTime::from_millis(batch.start.0))
            .end_time(DateTime::from_millis(batch.end.0))
            .scan_by(ScanBy::TimestampAscending);
        let (mut gathered, mut token) = (Gathered::default(), None);
        for _ in 0..most {
            let page = self.make(GET_METRIC_DATA, &place, call.clone().set_next_token(token.take()).send()).await?;
            gathered.add(&page);
            token = page.next_token;
            if token.is_none() {
                return Ok(gathered);
            }
        }
        let text = format!("{GET_METRIC_DATA} of {place}: more than {most} pages: ask for longer periods, or less");
        Err(too_long(text))
    }

    /// States of alarms by their names, [`MOST_ALARMS`] at most; those that there are not are left out.
    pub(super) async fn alarms(&self, names: &[String]) -> Result<Vec<(String, StateValue)>, Refusal> {
        let place = format!("alarm {}", names.join(" and "));
        // Without types only alarms on metrics are answered.
        let types = vec![AlarmType::MetricAlarm, AlarmType::CompositeAlarm, AlarmType::LogAlarm];
        let call = self.client.describe_alarms().set_alarm_names(Some(names.to_vec())).set_alarm_types(Some(types));
        let (mut states, mut token) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let call = call.clone().max_records(MOST_ALARMS as i32).set_next_token(token.take()).send();
            let page = self.make(DESCRIBE_ALARMS, &place, call).await?;
            let on_metrics = page.metric_alarms().iter().map(|alarm| (alarm.alarm_name(), alarm.state_value()));
            let composite = page.composite_alarms().iter().map(|alarm| (alarm.alarm_name(), alarm.state_value()));
            let on_logs = page.log_alarms().iter().map(|alarm| (alarm.alarm_name(), alarm.state_value()));
            let named = on_metrics.chain(composite).chain(on_logs);
            states.extend(named.filter_map(|(name, state)| Some((name?.to_owned(), state?.clone()))));
            token = page.next_token;
            if token.is_none() {
                return Ok(states);
            }
        }
        Err(too_long(format!("{DESCRIBE_ALARMS} of {place}: more than {MOST_PAGES} pages")))
    }
}

/// An answer with more pages than are read.
fn too_long(text: String) -> Refusal {
    Refusal { fault: Fault::transient(SOURCE, text), of_a_question: false, is_throttled: false }
}
