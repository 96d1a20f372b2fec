//! What a gate asks of a source outside the mesh, as it is kept with a plan.

use crate::base::time::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A question to a source of measurements, in the source's own words. Text may hold placeholders such as `{node}`, which
/// are filled in for each version before it is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalQuery {
    /// Amazon CloudWatch.
    Cloudwatch(CloudwatchQuery),
    /// Traces of AWS X-Ray.
    Xray(XrayQuery),
    /// A query of Prometheus.
    Prometheus {
        /// In PromQL; yields one number.
        query: String,
        /// Which Prometheus; the configured one without it.
        url: Option<String>,
        /// Time between two points of a range query, a whole number of seconds; an instant query without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<Millis>,
    },
    /// A number in the JSON that an HTTP service answers.
    Http {
        /// Where to ask.
        url: String,
        /// JSON pointer (RFC 6901) to the number; empty for the whole answer.
        value: String,
    },
    /// Whether a service says that the release may go on: 0 when it does, 1 when it does not.
    Webhook(WebhookQuery),
}

impl SignalQuery {
    /// Whether an answer is yes or no, so that a gate on it has no limit of its own.
    #[must_use]
    pub const fn is_yes_or_no(&self) -> bool {
        matches!(self, Self::Webhook(_) | Self::Cloudwatch(CloudwatchQuery::Alarm { .. }))
    }

    /// Whether one question is about both versions at once: what the canary has that stable has not.
    #[must_use]
    pub const fn is_about_both(&self) -> bool {
        matches!(self, Self::Xray(XrayQuery { beside: Some(_), .. }))
    }
}

/// What a service is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookQuery {
    /// Where to ask.
    pub url: String,
    /// Longest wait for the answer.
    pub timeout: Millis,
    /// What it is told: known when a rollout asks, and no part of a plan.
    #[serde(default, skip_serializing_if = "WebhookFacts::is_empty")]
    pub facts: Box<WebhookFacts>,
}

/// What a service is told of the rollout that asks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WebhookFacts {
    /// The rollout.
    pub rollout: String,
    /// Its policy.
    pub policy: String,
    /// The gate.
    pub gate: String,
    /// Virtual node of the version that is asked about.
    pub node: String,
    /// Virtual node that takes the release.
    pub canary: String,
    /// Virtual node that it is compared with.
    pub stable: String,
    /// Revision of the release, where it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Image of the release, where it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl WebhookFacts {
    /// Whether nobody has filled it in.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rollout.is_empty()
    }
}

/// What is asked of CloudWatch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloudwatchQuery {
    /// A statistic of one metric.
    Metric {
        /// The metric.
        metric: CloudwatchMetric,
        /// Length of one point: 1 s, 5 s, 10 s, 30 s or whole minutes.
        period: Millis,
    },
    /// Metric math.
    Expression {
        /// The expression; yields one time series.
        expression: String,
        /// Metrics that it names, by the names that it has for them (each begins with a lower-case letter).
        metrics: BTreeMap<String, CloudwatchMetric>,
        /// As above, of all of them.
        period: Millis,
    },
    /// Whether an alarm is in the state ALARM: 1 when it is, 0 when it is OK, no point with INSUFFICIENT_DATA.
    Alarm {
        /// Name of the alarm.
        name: String,
    },
}

/// A statistic of one metric of CloudWatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudwatchMetric {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `Average`, `Sum`, `Minimum`, `Maximum`, `SampleCount` or a percentile such as `p99` or `p99.9`.
    pub stat: String,
    /// Dimensions by name.
    pub dimensions: BTreeMap<String, String>,
}

/// What is asked of X-Ray.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct XrayQuery {
    /// Filter expression that selects a version's traces.
    pub filter: String,
    /// What to take of them.
    pub measure: XrayMeasure,
    /// So many traces make a point at least, from 1; with fewer, the span grows until there are.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub min_traces: u32,
    /// What the canary's traces are looked through beside, where the measure is what they have and stable's have not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<XrayBeside>,
}

const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_one(count: &u32) -> bool {
    *count == 1
}

/// Stable's traces, and what the versions are called in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct XrayBeside {
    /// Filter expression that selects stable's traces.
    pub filter: String,
    /// The canary's virtual node: what is called so in its traces is the version itself.
    pub canary: String,
    /// Likewise of stable.
    pub stable: String,
}

/// What is measured of traces.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XrayMeasure {
    /// Share with a fault (a 5xx of a service), 0 to 1.
    FaultRate,
    /// Share with an error (a 4xx), 0 to 1.
    ErrorRate,
    /// Share that was throttled (429), 0 to 1.
    ThrottleRate,
    /// A quantile of the response times, in seconds.
    ResponseTime {
        /// 0.5 for the median.
        quantile: f64,
    },
    /// Types of exceptions that the canary's traces have and stable's have not.
    NewExceptions,
    /// Calls from one service to another, likewise.
    NewEdges,
}
