//! Whether the sources answer that policies' gates ask: one question to each, which costs next to nothing and needs the same
//! rights as theirs.

use super::{Finding, in_time};
use crate::base::fault::Fault;
use crate::base::time::{Millis, Timestamp};
use crate::clock::{Clock, SystemClock};
use crate::policy::plan::{CloudwatchMetric, CloudwatchQuery, Plan, SignalQuery, XrayMeasure, XrayQuery};
use crate::ports::{SignalQuestion, Signals};
use std::collections::BTreeMap;

/// How far back is asked.
const BACK: Millis = Millis::from_seconds(600);

/// A question for each source of the plans, and what to do where it is not answered.
pub(super) async fn sources(plans: &[Plan], signals: &dyn Signals) -> Vec<Finding> {
    let mut asked: BTreeMap<&'static str, (SignalQuery, &'static str)> = BTreeMap::new();
    for (_, signal) in plans.iter().flat_map(Plan::signals) {
        if let Some((about, query, remedy)) = question(&signal.query) {
            asked.entry(about).or_insert((query, remedy));
        }
    }
    let now = SystemClock.now();
    let after = Timestamp(now.0.saturating_sub(i64::try_from(BACK.0).unwrap_or(0)));
    let mut found = Vec::new();
    for (about, (query, remedy)) in asked {
        let question = SignalQuestion { query, after, since: after, now };
        let answer = in_time(about, async {
            let nothing = || Err(Fault::unknown(about, "it answered nothing"));
            signals.points(&[question]).await.pop().unwrap_or_else(nothing)
        });
        found.push(match answer.await {
            Ok(_) => Finding::good(about, "answers"),
            Err(fault) => Finding::bad(about, fault.message, remedy),
        });
    }
    found
}

/// What stands for a gate's question: the same call, about something that has no placeholders. `None` where only the gate's own
/// question could tell.
fn question(query: &SignalQuery) -> Option<(&'static str, SignalQuery, &'static str)> {
    const AWS: &str = "docs/aws.md has the rights that the daemon's role needs for signals";
    const PROMETHEUS: &str = "correct prometheus.url or the gate's `url`, and prometheus.token";
    match query {
        SignalQuery::Cloudwatch(CloudwatchQuery::Metric { .. } | CloudwatchQuery::Expression { .. }) => {
            let metric = CloudwatchMetric {
                namespace: "AWS/ECS".to_owned(),
                name: "CPUUtilization".to_owned(),
                stat: "Average".to_owned(),
                dimensions: BTreeMap::new(),
            };
            let metric = CloudwatchQuery::Metric { metric, period: Millis::from_seconds(60) };
            Some(("cloudwatch metrics", SignalQuery::Cloudwatch(metric), AWS))
        }
        // One with a placeholder has a name for each version.
        SignalQuery::Cloudwatch(alarm @ CloudwatchQuery::Alarm { name }) if !name.contains('{') => {
            Some(("cloudwatch alarms", SignalQuery::Cloudwatch(alarm.clone()), AWS))
        }
        SignalQuery::Xray(_) => {
            let filter = "annotation.tidegate = \"doctor\"".to_owned();
            let query = XrayQuery { filter, measure: XrayMeasure::FaultRate, min_traces: 1, beside: None };
            Some(("x-ray", SignalQuery::Xray(query), AWS))
        }
        SignalQuery::Prometheus { url, .. } => {
            let query = SignalQuery::Prometheus { query: "vector(1)".to_owned(), url: url.clone(), step: None };
            Some(("prometheus", query, PROMETHEUS))
        }
        SignalQuery::Cloudwatch(CloudwatchQuery::Alarm { .. })
        | SignalQuery::Http { .. }
        // It may do something when it is asked.
        | SignalQuery::Webhook(_) => None,
    }
}
