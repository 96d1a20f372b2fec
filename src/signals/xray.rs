//! Rates and response times of traces of AWS X-Ray, and what is new in them, through the AWS SDK.
//!
//! A round reads the traces that began since the last point, and makes one point of them at the end of that span, where
//! the next round begins. No trace is no point: silence is never a rate of zero. X-Ray keeps a sample of the requests, so
//! a policy may ask for a least number of traces; with fewer the span grows. What is new (`new`) is looked for in a longer
//! span of both versions, and counts only where chance does not explain that stable's sample lacks it.

mod calls;
mod new;
mod summary;

use super::backoff::{Backoff, draw};
use super::{Answer, Asked, at_a_time};
use crate::aws::{self};
use crate::base::fault::Fault;
use crate::base::time::{Millis, Timestamp};
use crate::clock;
use crate::policy::plan::{XrayBeside, XrayMeasure, XrayQuery};
use crate::ports::SignalPoint;
use aws_sdk_xray::Client;
use aws_types::SdkConfig;
use calls::{Calls, SOURCE};
use new::Seen;
use std::sync::Arc;
use summary::{Summaries, Verdict};

/// Traces are read so long after they began. X-Ray's guide says that what it received can mostly be found within 30 s; the
/// other half is for requests that take long and for the agents that send the segments of a trace.
pub const LAG: Millis = Millis::from_seconds(60);
/// Nothing older is read. X-Ray takes spans of six hours at most, and what a release did then says little of it now; a
/// longer span would have more pages than are read.
pub const LONGEST_SPAN: Millis = Millis::from_seconds(30 * 60);
/// What is new is looked for in so much of the past: long enough for what happens every few minutes, and no more pages
/// than are read at some traces in a second.
pub const NEWS_SPAN: Millis = Millis::from_seconds(10 * 60);
/// Questions that are asked at the same time. X-Ray documents no limit for this call and throttles early.
const AT_A_TIME: usize = 4;

/// AWS X-Ray. Clones share what they know of its limits.
#[derive(Debug, Clone)]
pub struct Xray {
    calls: Calls,
    backoff: Arc<Backoff>,
}

impl Xray {
    /// Over a client that is already bounded as its owner wants it.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { calls: Calls::new(client), backoff: Arc::default() }
    }

    /// With the region, credentials and endpoint of a shared set. Timeouts and retries are this adapter's own; the HTTP
    /// client is the set's, or one over rustls with the system's certificates.
    #[must_use]
    pub fn from_config(config: &SdkConfig) -> Self {
        Self::new(Client::from_conf(aws::builder!(aws_sdk_xray, config).build()))
    }

    /// How often each operation was called since this was made, for those that were; each page is a call.
    #[must_use]
    pub fn calls(&self) -> Vec<(&'static str, u64)> {
        self.calls.made()
    }

    /// Answers each question in its order.
    pub async fn points(&self, asked: &[Asked<'_, XrayQuery>]) -> Vec<Answer> {
        at_a_time(AT_A_TIME, asked.iter().map(|asked| self.point(*asked)).collect()).await
    }

    async fn point(&self, asked: Asked<'_, XrayQuery>) -> Answer {
        let now = asked.now;
        let Some((from, to)) = span(asked.after, now, LONGEST_SPAN) else { return Ok(Vec::new()) };
        if let Some(left) = self.backoff.remaining(now) {
            let seconds = left.0.div_ceil(1000);
            let text = format!("AWS limits the calls of this account: X-Ray is asked again in {seconds} s");
            return Err(Fault::transient(SOURCE, text));
        }
        let answer = match &asked.query.beside {
            Some(beside) => self.news(&asked, beside, to).await,
            None => self.measured(asked.query, (from, to)).await,
        };
        match answer {
            Ok(points) => {
                self.backoff.answered();
                Ok(points)
            }
            Err(failed) => {
                if failed.is_throttled && self.backoff.remaining(now).is_none() {
                    self.backoff.refused(now, draw(clock::seed()));
                }
                Err(failed.fault)
            }
        }
    }

    async fn measured(
        &self,
        query: &XrayQuery,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<Vec<SignalPoint>, calls::Failure> {
        let mut summaries = Summaries::default();
        self.calls.summaries(&query.filter, (from, to), |page| summaries.add(page, from, to)).await?;
        match summaries.measure(query.measure, query.min_traces) {
            Verdict::Value(value) => Ok(vec![SignalPoint::of(to, value)]),
            Verdict::TooFew => Ok(Vec::new()),
            Verdict::Unfinished { unfinished, all } => {
                let traces = calls::place(&query.filter);
                let todo = "the span is read again next round";
                let text = format!("{unfinished} of {all} {traces} are still in progress, which is too many; {todo}");
                Err(Fault::transient(SOURCE, text).into())
            }
        }
    }

    /// How many kinds of something the canary's traces have that stable's have not, by name.
    async fn news(
        &self,
        asked: &Asked<'_, XrayQuery>,
        beside: &XrayBeside,
        to: Timestamp,
    ) -> Result<Vec<SignalPoint>, calls::Failure> {
        let XrayQuery { filter, measure, min_traces, .. } = asked.query;
        let back = Timestamp(to.0.saturating_sub_unsigned(NEWS_SPAN.0));
        // What the canary's node did before was another release's doing.
        let since = Timestamp(back.0.max(asked.since.0));
        if since >= to {
            return Ok(Vec::new());
        }
        let arms = [(filter, since, &beside.canary), (&beside.filter, back, &beside.stable)];
        let (canary, stable) = tokio::join!(self.seen(arms[0], to, *measure), self.seen(arms[1], to, *measure));
        let (canary, stable) = (canary?, stable?);
        if canary.found < *min_traces as usize {
            return Ok(Vec::new());
        }
        let new = canary.beside(&stable);
        Ok(vec![SignalPoint { at: to, value: new.len() as f64, note: new::told(&new) }])
    }

    /// Which exceptions or edges one version's traces have.
    async fn seen(
        &self,
        (filter, from, node): (&String, Timestamp, &String),
        to: Timestamp,
        measure: XrayMeasure,
    ) -> Result<Seen, calls::Failure> {
        let mut seen = Seen::default();
        let mut ids = Vec::new();
        let page = |page: &[aws_sdk_xray::types::TraceSummary]| match measure {
            XrayMeasure::NewEdges => ids.extend(new::finished(page).filter_map(|summary| summary.id.clone())),
            _ => seen.add_exceptions(page),
        };
        self.calls.summaries(filter, (from, to), page).await?;
        if measure == XrayMeasure::NewEdges {
            seen.found = ids.len();
            for graph in self.calls.graphs(&new::spread(&ids), filter).await? {
                seen.add_graph(graph.traces, &graph.services, node);
            }
        }
        Ok(seen)
    }
}

/// Since the last point until what can have arrived, in whole seconds, since that is how X-Ray counts.
fn span(after: Timestamp, now: Timestamp, longest: Millis) -> Option<(Timestamp, Timestamp)> {
    let to = now.0.saturating_sub_unsigned(LAG.0);
    let to = to.saturating_sub(to.rem_euclid(1000));
    let from = after.0.max(to.saturating_sub_unsigned(longest.0));
    (from < to).then_some((Timestamp(from), Timestamp(to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_meet_and_end_where_traces_have_arrived() {
        let rows = [
            (0, 61_000, Some((0, 1000))),
            (1000, 91_400, Some((1000, 31_000))),
            (31_000, 91_999, None),
            (31_000, 92_000, Some((31_000, 32_000))),
            (500_000, 92_000, None),
            (0, 10_860_000, Some((9_000_000, 10_800_000))),
            (i64::MIN, i64::MIN, None),
        ];
        for (after, now, expected) in rows {
            let expected = expected.map(|(from, to)| (Timestamp(from), Timestamp(to)));
            assert_eq!(span(Timestamp(after), Timestamp(now), LONGEST_SPAN), expected, "{after} {now}");
        }
    }
}
