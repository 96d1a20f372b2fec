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
    /// An instant query of Prometheus.
    Prometheus {
        /// In PromQL; yields one number.
        query: String,
        /// Which Prometheus; the configured one without it.
        url: Option<String>,
    },
    /// A number in the JSON that an HTTP service answers.
    Http {
        /// Where to ask.
        url: String,
        /// JSON pointer (RFC 6901) to the number; empty for the whole answer.
        value: String,
    },
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
}
