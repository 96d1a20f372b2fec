//! Rates and response times of traces of AWS X-Ray, through the AWS SDK.
//!
//! A round reads the traces that began since the last point, and makes one point of them at the end of that span, where
//! the next round begins. No trace is no point: silence is never a rate of zero.

mod summary;

use super::{Answer, Asked, at_a_time};
use crate::aws::{self, Failed, Made};
use crate::base::fault::Fault;
use crate::base::time::{Millis, Timestamp};
use crate::policy::plan::XrayQuery;
use crate::ports::SignalPoint;
use aws_sdk_xray::Client;
use aws_sdk_xray::primitives::DateTime;
use aws_sdk_xray::types::TimeRangeType;
use aws_types::SdkConfig;
use summary::{Summaries, Verdict};

/// Traces are read so long after they began. X-Ray's guide says that what it received can mostly be found within 30 s; the
/// other half is for requests that take long and for the agents that send the segments of a trace.
pub const LAG: Millis = Millis::from_seconds(60);
/// Nothing older is read. X-Ray takes spans of six hours at most, and what a release did then says little of it now; a
/// longer span would have more pages than are read.
pub const LONGEST_SPAN: Millis = Millis::from_seconds(30 * 60);
/// So many pages are read for a point. A page takes X-Ray some tenths of a second, and a round has 30 s. When there are
/// more, those that were read are a sample, as traces are one of requests anyway.
const MOST_PAGES: usize = 10;
/// Questions that are asked at the same time. X-Ray documents no limit for this call and throttles early.
const AT_A_TIME: usize = 4;
/// Name under which faults are reported.
const SOURCE: &str = "xray";
const GET_TRACE_SUMMARIES: &str = "GetTraceSummaries";

/// AWS X-Ray.
#[derive(Debug, Clone)]
pub struct Xray {
    client: Client,
    made: Made<1>,
}

impl Xray {
    /// Over a client that is already bounded as its owner wants it.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, made: Made::new([GET_TRACE_SUMMARIES]) }
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
        self.made.all()
    }

    /// Answers each question in its order.
    pub async fn points(&self, asked: &[Asked<'_, XrayQuery>]) -> Vec<Answer> {
        at_a_time(AT_A_TIME, asked.iter().map(|asked| self.point(*asked)).collect()).await
    }

    async fn point(&self, asked: Asked<'_, XrayQuery>) -> Answer {
        let Some((from, to)) = span(asked.after, asked.now) else { return Ok(Vec::new()) };
        let place = format!("traces with {}", aws::bounded(&asked.query.filter));
        let call = self
            .client
            .get_trace_summaries()
            .start_time(DateTime::from_millis(from.0))
            .end_time(DateTime::from_millis(to.0))
            // By their beginning, so that a trace is in one span and no other.
            .time_range_type(TimeRangeType::TraceId)
            .filter_expression(&asked.query.filter);
        let (mut summaries, mut token) = (Summaries::default(), None);
        for _ in 0..MOST_PAGES {
            self.made.note(GET_TRACE_SUMMARIES);
            tracing::debug!(target: "tidegate::aws", service = SOURCE, operation = GET_TRACE_SUMMARIES, place, "call");
            let page = call.clone().set_next_token(token.take()).send().await;
            let failed =
                Failed { service: SOURCE, operation: GET_TRACE_SUMMARIES, writes: false, place: &place, remedy };
            let page = page.map_err(|error| failed.fault(&error))?;
            summaries.add(page.trace_summaries(), from, to);
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        match summaries.measure(asked.query.measure) {
            Verdict::Value(value) => Ok(vec![SignalPoint { at: to, value }]),
            Verdict::NoTrace => Ok(Vec::new()),
            Verdict::Unfinished { unfinished, all } => {
                let todo = "the span is read again next round";
                let text = format!("{unfinished} of {all} {place} are still in progress, which is too many; {todo}");
                Err(Fault::transient(SOURCE, text))
            }
        }
    }
}

/// What to do about a refusal, where that is known; ends in `: `.
fn remedy(code: &str, _: &str) -> &'static str {
    match code {
        "InvalidRequestException" => "X-Ray does not take this filter; correct `xray.filter` in the policy: ",
        _ => "",
    }
}

/// Since the last point until what can have arrived, in whole seconds, since that is how X-Ray counts.
fn span(after: Timestamp, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let to = now.0.saturating_sub_unsigned(LAG.0);
    let to = to.saturating_sub(to.rem_euclid(1000));
    let from = after.0.max(to.saturating_sub_unsigned(LONGEST_SPAN.0));
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
            assert_eq!(span(Timestamp(after), Timestamp(now)), expected, "{after} {now}");
        }
    }
}
