//! Metrics, metric math and alarms of Amazon CloudWatch, through the AWS SDK.
//!
//! All metrics and expressions of a round are asked for together (`plan`), and an answer is believed only where
//! CloudWatch says that it is complete (`results`). A question that cannot have a new point yet is not asked at all.

mod calls;
mod fault;
mod plan;
mod results;

use super::{Answer, Asked, at_a_time};
use crate::aws;
use crate::base::fault::Fault;
use crate::base::time::{Millis, Timestamp};
use crate::policy::plan::CloudwatchQuery;
use crate::ports::SignalPoint;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::StateValue;
use aws_types::SdkConfig;
use calls::{Calls, Refusal};
use fault::SOURCE;
use plan::{Batch, Entry};
use std::collections::{BTreeMap, BTreeSet};

/// Calls of a round that are under way at the same time. CloudWatch allows an account 50 `GetMetricData` and 9
/// `DescribeAlarms` in a second, and other tools need some of them.
const AT_A_TIME: usize = 4;
/// So many calls are made to find which questions of a call CloudWatch refuses: enough for four among 500.
const MOST_SEARCHES: usize = 64;

/// Amazon CloudWatch.
#[derive(Debug, Clone)]
pub struct CloudWatch {
    calls: Calls,
}

impl CloudWatch {
    /// Over a client that is already bounded as its owner wants it.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { calls: Calls::new(client) }
    }

    /// With the region, credentials and endpoint of a shared set. Timeouts and retries are this adapter's own; the HTTP
    /// client is the set's, or one over rustls with the system's certificates.
    #[must_use]
    pub fn from_config(config: &SdkConfig) -> Self {
        Self::new(Client::from_conf(aws::builder!(aws_sdk_cloudwatch, config).build()))
    }

    /// How often each operation was called since this was made, for those that were; repeats by the SDK count once.
    #[must_use]
    pub fn calls(&self) -> Vec<(&'static str, u64)> {
        self.calls.made()
    }

    /// How long after its end a period of this length is taken for settled.
    #[must_use]
    pub const fn lag(period: Millis) -> Millis {
        plan::lag(period)
    }

    /// Answers each question in its order.
    pub async fn points(&self, asked: &[Asked<'_, CloudwatchQuery>]) -> Vec<Answer> {
        // Whoever is in no batch has nothing new to expect.
        let mut answers: Vec<Answer> = asked.iter().map(|_| Ok(Vec::new())).collect();
        let batches = plan::batches(asked).into_iter().map(|batch| self.batch(batch, asked)).collect();
        let (batches, alarms) = tokio::join!(at_a_time(AT_A_TIME, batches), self.alarms(asked));
        for (index, answer) in batches.into_iter().flatten().chain(alarms) {
            answers[index] = answer;
        }
        answers
    }

    /// Asks for a batch. Where CloudWatch refuses what was asked, one question may have spoilt the others' call, so the
    /// halves are asked, down to single questions.
    async fn batch(&self, batch: Batch<'_>, asked: &[Asked<'_, CloudwatchQuery>]) -> Vec<(usize, Answer)> {
        let (mut todo, mut answers, mut searches) = (vec![batch], Vec::new(), 0);
        while let Some(batch) = todo.pop() {
            match self.calls.metric_data(&batch).await {
                Ok(gathered) => {
                    for (number, entry) in batch.entries.iter().enumerate() {
                        let found = gathered.answer(&batch.id(number), &place(entry.query));
                        answers.extend(entry.questions.iter().map(|index| {
                            let asked = &asked[*index];
                            (*index, found.clone().map(|points| wanted(points, entry, asked.after, asked.now)))
                        }));
                    }
                }
                Err(Refusal { fault, of_a_question: true }) if batch.entries.len() > 1 => {
                    searches += 1;
                    if searches > MOST_SEARCHES {
                        let text = format!("too many questions that CloudWatch refuses: {}", fault.message);
                        answers.extend(all(&batch.entries, &Fault::permanent(SOURCE, text)));
                    } else {
                        todo.extend(batch.halves());
                    }
                }
                Err(Refusal { fault, .. }) => answers.extend(all(&batch.entries, &fault)),
            }
        }
        answers
    }

    /// States of alarms as points at the time of asking: an alarm says how things are now, and keeps no series.
    async fn alarms(&self, asked: &[Asked<'_, CloudwatchQuery>]) -> Vec<(usize, Answer)> {
        let alarms: Vec<(usize, &str)> = asked.iter().enumerate().filter_map(alarm).collect();
        let names: BTreeSet<&str> = alarms.iter().map(|(_, name)| *name).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let mut states: BTreeMap<String, Result<StateValue, Fault>> = BTreeMap::new();
        for names in names.chunks(calls::MOST_ALARMS) {
            match self.calls.alarms(names).await {
                Ok(found) => states.extend(found.into_iter().map(|(name, state)| (name, Ok(state)))),
                Err(fault) => states.extend(names.iter().map(|name| ((*name).to_owned(), Err(fault.clone())))),
            }
        }
        let answer = |(index, name): (usize, &str)| (index, state(name, states.get(name), asked[index].now));
        alarms.into_iter().map(answer).collect()
    }
}

/// A question about an alarm whose answer would be a new point.
fn alarm<'a>((index, asked): (usize, &Asked<'a, CloudwatchQuery>)) -> Option<(usize, &'a str)> {
    match asked.query {
        CloudwatchQuery::Alarm { name } if asked.now > asked.after => Some((index, name.as_str())),
        CloudwatchQuery::Alarm { .. } | CloudwatchQuery::Metric { .. } | CloudwatchQuery::Expression { .. } => None,
    }
}

fn state(name: &str, state: Option<&Result<StateValue, Fault>>, now: Timestamp) -> Answer {
    let point = |value| Ok(vec![SignalPoint { at: now, value }]);
    match state {
        Some(Ok(StateValue::Alarm)) => point(1.0),
        Some(Ok(StateValue::Ok)) => point(0.0),
        Some(Ok(StateValue::InsufficientData)) => Ok(Vec::new()),
        Some(Ok(other)) => {
            Err(Fault::permanent(SOURCE, format!("alarm {name} is in the state {other}, which is none that is known")))
        }
        Some(Err(fault)) => Err(fault.clone()),
        None => {
            let todo = "create it, or correct `cloudwatch.alarm`";
            Err(Fault::permanent(SOURCE, format!("there is no alarm {name} in this account and region: {todo}")))
        }
    }
}

/// Points of an entry that a question wants: newer than what it has, of periods that have settled.
fn wanted(points: Vec<SignalPoint>, entry: &Entry<'_>, after: Timestamp, now: Timestamp) -> Vec<SignalPoint> {
    let Some(span) = plan::span(after, now, entry.period) else { return Vec::new() };
    points.into_iter().filter(|point| span.from <= point.at && point.at.plus(entry.period) <= span.to).collect()
}

fn all(entries: &[Entry<'_>], fault: &Fault) -> Vec<(usize, Answer)> {
    entries.iter().flat_map(|entry| entry.questions.iter()).map(|index| (*index, Err(fault.clone()))).collect()
}

/// What a question is about, for people.
fn place(query: &CloudwatchQuery) -> String {
    match query {
        CloudwatchQuery::Metric { metric, .. } => {
            format!("metric {}/{} ({})", metric.namespace, metric.name, metric.stat)
        }
        CloudwatchQuery::Expression { expression, .. } => format!("expression `{}`", aws::bounded(expression)),
        CloudwatchQuery::Alarm { name } => format!("alarm {name}"),
    }
}
