//! The two calls to X-Ray that Tidegate makes, each bounded and counted, with errors as faults.

use crate::aws::{self, Failed, Made, is_throttled};
use crate::base::fault::Fault;
use crate::base::time::Timestamp;
use aws_sdk_xray::Client;
use aws_sdk_xray::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_xray::primitives::DateTime;
use aws_sdk_xray::types::{Service, TimeRangeType, TraceSummary};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use futures_util::{StreamExt, TryStreamExt};

/// So many pages are read for a point. A page takes X-Ray some tenths of a second, and a round has 30 s. When there are
/// more, those that were read are a sample, as traces are one of requests anyway.
const MOST_PAGES: usize = 10;
/// So many traces X-Ray makes a graph of.
pub(super) const MOST_OF_A_GRAPH: usize = 5;
/// Pages of one graph: five traces have few services.
const MOST_GRAPH_PAGES: usize = 4;
/// Graphs that are asked for at the same time.
const GRAPHS_AT_A_TIME: usize = 4;
/// Name under which faults are reported.
pub(super) const SOURCE: &str = "xray";
const GET_TRACE_SUMMARIES: &str = "GetTraceSummaries";
const GET_TRACE_GRAPH: &str = "GetTraceGraph";

/// The client and what it was used for.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    client: Client,
    made: Made<2>,
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    /// Whether it was refused for there being too many.
    pub(super) is_throttled: bool,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault, is_throttled: false }
    }
}

/// The services of some traces, and what they call.
#[derive(Debug)]
pub(super) struct Graph {
    /// How many traces it is of.
    pub(super) traces: usize,
    pub(super) services: Vec<Service>,
}

/// What a filter is about, for people.
pub(super) fn place(filter: &str) -> String {
    format!("traces with {}", aws::bounded(filter))
}

impl Calls {
    pub(super) fn new(client: Client) -> Self {
        Self { client, made: Made::new([GET_TRACE_SUMMARIES, GET_TRACE_GRAPH]) }
    }

    pub(super) fn made(&self) -> Vec<(&'static str, u64)> {
        self.made.all()
    }

    /// Every call is noted here before it is made.
    fn note(&self, operation: &str, place: &str) {
        self.made.note(operation);
        tracing::debug!(target: "tidegate::aws", service = SOURCE, operation, place, "call");
    }

    /// Hands on the summaries of traces that began in a span, page by page.
    pub(super) async fn summaries(
        &self,
        filter: &str,
        (from, to): (Timestamp, Timestamp),
        mut take: impl FnMut(&[TraceSummary]) + Send,
    ) -> Result<(), Failure> {
        let place = place(filter);
        let call = self
            .client
            .get_trace_summaries()
            .start_time(DateTime::from_millis(from.0))
            .end_time(DateTime::from_millis(to.0))
            // By their beginning, so that a trace is in one span and no other.
            .time_range_type(TimeRangeType::TraceId)
            .filter_expression(filter);
        let mut token = None;
        for _ in 0..MOST_PAGES {
            self.note(GET_TRACE_SUMMARIES, &place);
            let page = call.clone().set_next_token(token.take()).send().await;
            let page = page.map_err(|error| failure(GET_TRACE_SUMMARIES, &place, &error))?;
            take(page.trace_summaries());
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Graphs of traces, a few of them to each.
    pub(super) async fn graphs(&self, ids: &[&String], filter: &str) -> Result<Vec<Graph>, Failure> {
        let calls: Vec<_> = ids.chunks(MOST_OF_A_GRAPH).map(|ids| self.graph(ids, filter)).collect();
        // The first failure ends it: what X-Ray refuses once it is not asked nine times more.
        futures_util::stream::iter(calls).buffered(GRAPHS_AT_A_TIME).try_collect().await
    }

    async fn graph(&self, ids: &[&String], filter: &str) -> Result<Graph, Failure> {
        let place = place(filter);
        let call = self.client.get_trace_graph().set_trace_ids(Some(ids.iter().map(|id| (*id).clone()).collect()));
        let (mut services, mut token) = (Vec::new(), None);
        for _ in 0..MOST_GRAPH_PAGES {
            self.note(GET_TRACE_GRAPH, &place);
            let page = call.clone().set_next_token(token.take()).send().await;
            let page = page.map_err(|error| failure(GET_TRACE_GRAPH, &place, &error))?;
            services.extend(page.services.unwrap_or_default());
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        Ok(Graph { traces: ids.len(), services })
    }
}

fn failure<E>(operation: &str, place: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let failed = Failed { service: SOURCE, operation, writes: false, place, remedy };
    Failure { fault: failed.fault(error), is_throttled: is_throttled(error) }
}

/// What to do about a refusal, where that is known; ends in `: `.
fn remedy(code: &str, _: &str) -> &'static str {
    match code {
        "InvalidRequestException" => "X-Ray does not take this filter; correct `xray.filter` in the policy: ",
        _ => "",
    }
}
