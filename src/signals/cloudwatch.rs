//! Metrics, metric math and alarms of Amazon CloudWatch, through the AWS SDK.
//!
//! All metrics and expressions that any rollout asks about are asked for together (`shared`, `plan`), and an answer is
//! believed only where CloudWatch says that it is complete (`results`) and its period has settled (`lag`). A question that
//! cannot have a new point yet is not asked at all, and nothing is while CloudWatch limits the calls of the account.

mod alarms;
mod calls;
mod fault;
mod history;
mod lag;
mod plan;
mod results;
mod shared;

use super::backoff::{Backoff, draw};
use super::{Answer, Asked, at_a_time};
use crate::aws;
use crate::base::fault::Fault;
use crate::base::time::{Millis, Timestamp};
use crate::clock;
use crate::policy::plan::CloudwatchQuery;
use alarms::Alarms;
use aws_sdk_cloudwatch::Client;
use aws_types::SdkConfig;
use calls::{Calls, Refusal};
use fault::SOURCE;
use plan::{Batch, Entry};
use shared::{Due, Shared};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Calls of a round that are under way at the same time. CloudWatch allows an account 50 `GetMetricData` and 9
/// `DescribeAlarms` in a second, and other tools need some of them.
const AT_A_TIME: usize = 4;
/// So many calls are made to find which questions of a call CloudWatch refuses: enough for four among 500.
const MOST_SEARCHES: usize = 64;

/// Amazon CloudWatch. Clones share what they know.
#[derive(Debug, Clone)]
pub struct CloudWatch {
    calls: Calls,
    inner: Arc<Inner>,
}

/// What all who ask share. Whoever has a turn makes calls; the others wait for what they bring.
#[derive(Debug, Default)]
struct Inner {
    series: Mutex<Shared>,
    series_turn: tokio::sync::Mutex<()>,
    alarms: Mutex<Alarms>,
    alarms_turn: tokio::sync::Mutex<()>,
    backoff: Backoff,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CloudWatch {
    /// Over a client that is already bounded as its owner wants it.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { calls: Calls::new(client), inner: Arc::default() }
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

    /// How long after its end a period of this length is taken for settled, until its namespace is known better.
    #[must_use]
    pub const fn lag(period: Millis) -> Millis {
        plan::lag(period)
    }

    /// Answers each question in its order.
    pub async fn points(&self, asked: &[Asked<'_, CloudwatchQuery>]) -> Vec<Answer> {
        let now = asked.iter().map(|asked| asked.now).max().unwrap_or_default();
        let (series, alarms) = tokio::join!(self.series(asked, now), self.alarms(asked, now));
        let either = |(asked, (series, alarm)): (&Asked<'_, CloudwatchQuery>, (Answer, Answer))| match asked.query {
            CloudwatchQuery::Alarm { .. } => alarm,
            CloudwatchQuery::Metric { .. } | CloudwatchQuery::Expression { .. } => series,
        };
        asked.iter().zip(series.into_iter().zip(alarms)).map(either).collect()
    }

    /// Of metrics and expressions; nothing of alarms.
    async fn series(&self, asked: &[Asked<'_, CloudwatchQuery>], now: Timestamp) -> Vec<Answer> {
        let is_series = |asked: &Asked<'_, CloudwatchQuery>| plan::period(asked.query).is_some();
        let known = || {
            let shared = locked(&self.inner.series);
            let of = |asked| if is_series(asked) { shared.answer(asked) } else { Some(Ok(Vec::new())) };
            asked.iter().map(of).collect::<Vec<Option<Answer>>>()
        };
        locked(&self.inner.series).note(asked);
        let mut answers = known();
        let mut why = None;
        if answers.contains(&None) {
            let _turn = self.inner.series_turn.lock().await;
            // Whoever had the turn before may have brought it.
            answers = known();
            if answers.contains(&None) {
                why = self.look(now).await.err();
                answers = known();
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(unanswered(why.as_ref())))).collect()
    }

    /// Asks for all metrics and expressions that have something new to tell.
    async fn look(&self, now: Timestamp) -> Result<(), Fault> {
        self.may_call(now)?;
        let due = locked(&self.inner.series).due(now);
        let entries = due.iter().enumerate().filter_map(|(index, due)| due.entry(index));
        let calls = plan::batches(entries).into_iter().map(|batch| self.batch(batch, &due, now)).collect();
        at_a_time(AT_A_TIME, calls).await;
        Ok(())
    }

    /// Whether CloudWatch is to be called now.
    fn may_call(&self, now: Timestamp) -> Result<(), Fault> {
        let Some(left) = self.inner.backoff.remaining(now) else { return Ok(()) };
        let seconds = left.0.div_ceil(1000);
        let text = format!("AWS limits the calls of this account: CloudWatch is asked again in {seconds} s");
        Err(Fault::transient(SOURCE, text))
    }

    /// Asks for a batch. Where CloudWatch refuses what was asked, one question may have spoilt the others' call, so the
    /// halves are asked, down to single questions.
    async fn batch(&self, batch: Batch<'_>, due: &[Due], now: Timestamp) {
        let take = |entry: &Entry<'_>, answer| locked(&self.inner.series).take(&due[entry.index], answer, now);
        let fail = |entries: &[Entry<'_>], fault: &Fault| {
            entries.iter().for_each(|entry| take(entry, Err(fault.clone())));
        };
        let (mut todo, mut searches) = (vec![batch], 0);
        while let Some(batch) = todo.pop() {
            match self.calls.metric_data(&batch).await {
                Ok(gathered) => {
                    self.inner.backoff.answered();
                    for (number, entry) in batch.entries.iter().enumerate() {
                        take(entry, gathered.answer(&batch.id(number), &place(entry.query)));
                    }
                }
                Err(Refusal { fault, of_a_question: true, .. }) if batch.entries.len() > 1 => {
                    searches += 1;
                    if searches > MOST_SEARCHES {
                        let text = format!("too many questions that CloudWatch refuses: {}", fault.message);
                        fail(&batch.entries, &Fault::permanent(SOURCE, text));
                    } else {
                        todo.extend(batch.halves());
                    }
                }
                Err(Refusal { fault, of_a_question: true, .. }) => batch.entries.iter().for_each(|entry| {
                    locked(&self.inner.series).refuse(&due[entry.index], fault.clone(), now);
                }),
                Err(refusal) => {
                    self.note_limits(&refusal, now);
                    fail(&batch.entries, &refusal.fault);
                }
            }
        }
    }

    fn note_limits(&self, refusal: &Refusal, now: Timestamp) {
        if refusal.is_throttled && self.inner.backoff.remaining(now).is_none() {
            self.inner.backoff.refused(now, draw(clock::seed()));
        }
    }

    /// Of alarms; nothing of metrics.
    async fn alarms(&self, asked: &[Asked<'_, CloudwatchQuery>], now: Timestamp) -> Vec<Answer> {
        let known = || {
            let alarms = locked(&self.inner.alarms);
            asked.iter().map(|asked| alarms.answer(asked)).collect::<Vec<Option<Answer>>>()
        };
        locked(&self.inner.alarms).note(asked);
        let mut answers = known();
        let mut why = None;
        if answers.contains(&None) {
            let _turn = self.inner.alarms_turn.lock().await;
            answers = known();
            if answers.contains(&None) {
                why = self.look_at_alarms(now).await.err();
                answers = known();
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(unanswered(why.as_ref())))).collect()
    }

    async fn look_at_alarms(&self, now: Timestamp) -> Result<(), Fault> {
        self.may_call(now)?;
        let due = locked(&self.inner.alarms).due(now);
        let ask = async |names: &[String]| {
            let found = self.calls.alarms(names).await;
            match &found {
                Ok(_) => self.inner.backoff.answered(),
                Err(refusal) => self.note_limits(refusal, now),
            }
            locked(&self.inner.alarms).take(names, found.map_err(|refusal| refusal.fault), now);
        };
        at_a_time(AT_A_TIME, due.chunks(calls::MOST_ALARMS).map(ask).collect()).await;
        Ok(())
    }
}

/// What is said where there is no answer: why nothing was asked, where that is known.
fn unanswered(why: Option<&Fault>) -> Fault {
    why.cloned().unwrap_or_else(|| Fault::transient(SOURCE, "not asked this time; asked again next round"))
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
