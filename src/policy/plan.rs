//! A policy that is valid by construction: what a rollout runs by. Stored with the rollout and never re-read.

use crate::base::ids::{NodeName, RouteRef};
use crate::base::time::Millis;
use crate::base::weight::{Percent, Slot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod noise;
mod notice;
pub mod placeholder;
mod preview;
mod question;
mod scope;
mod start;
mod workload;

pub use noise::NoiseRule;
pub use notice::{GithubNotice, Notice, NoticeKind, SlackNotice, WebhookNotice};
pub use preview::{Preview, PreviewHeader};
pub use question::{
    CloudwatchMetric, CloudwatchQuery, SignalQuery, WebhookFacts, WebhookQuery, XrayBeside, XrayMeasure, XrayQuery,
};
pub use scope::{Moment, Scope, listed};
pub use start::{ImageRule, StartRules, WhileLive, WorkflowImage};
pub use workload::{EcsTarget, ProcessTarget, Scale, Workload, WorkloadTarget};

/// Format of the stored plan; raised with an up-converter in `store::record` when a field changes its meaning.
pub const PLAN_FORMAT: u32 = 1;

/// A checked policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// See [`PLAN_FORMAT`].
    pub format: u32,
    /// The policy's name: unique among policies, and an alias for its live rollout.
    pub name: String,
    /// The route that is stepped.
    pub route: RouteRef,
    /// The two slots, different from each other.
    pub versions: [NodeName; 2],
    /// What makes the canary's slot run the release; `None` where both slots already run what they should.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// What starts its rollouts by itself, and when they may begin; `None` where only people and scripts that name it start
    /// them, at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartRules>,
    /// A route by a header to the canary, before its first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
    /// At least one; weights rise strictly; the last is a weight of 100.
    pub steps: Vec<Step>,
    /// Rolled back when the rollout has not ended by then, whatever `on_failure` says.
    pub max_total: Millis,
    /// What to judge by. May be empty only when no step below 100 exists.
    pub gates: Vec<Gate>,
    /// Bound on the chance of rolling back a release that is no worse, over the whole rollout: alpha, in (0, 0.5].
    pub max_false_rollback: f64,
    /// Confidence needed to advance: 1 - beta, in [0.5, 1).
    pub confidence_to_advance: f64,
    /// Exposure control.
    pub blast_radius: BlastRadius,
    /// Which noise the comparison of error rates allows for.
    #[serde(default, skip_serializing_if = "NoiseRule::is_none")]
    pub noise: NoiseRule,
    /// What silence of the live telemetry does.
    pub no_data: NoData,
    /// Bound on the wait for a step to be in force.
    pub verify: Verify,
    /// What a failing verdict does.
    pub on_failure: OnFailure,
    /// Who is told how it goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<Notice>,
}

impl Plan {
    /// Node name of a slot.
    #[must_use]
    pub fn node(&self, slot: Slot) -> &str {
        &self.versions[slot.index()]
    }

    /// Slot of a node name; `None` when it is neither version.
    #[must_use]
    pub fn slot(&self, node: &str) -> Option<Slot> {
        [Slot::First, Slot::Second].into_iter().find(|slot| self.node(*slot) == node)
    }

    /// Gates on signals from outside the mesh, dry runs included.
    pub fn signals(&self) -> impl Iterator<Item = (&Gate, &SignalGate)> {
        self.gates.iter().filter_map(|gate| match &gate.rule {
            GateRule::Signal(signal) => Some((gate, signal)),
            _ => None,
        })
    }

    /// The service that runs a slot, where the plan's workload has one for each.
    #[must_use]
    pub fn service(&self, slot: Slot) -> Option<&str> {
        self.workload.as_ref().and_then(|workload| match &workload.target {
            WorkloadTarget::Ecs(ecs) => Some(ecs.services[slot.index()].as_str()),
            WorkloadTarget::Process(_) => None,
        })
    }

    /// By which part the canary may be slower than stable: m of the gates that compare latencies, dry runs included.
    /// `None` where none does.
    #[must_use]
    pub fn latency_tolerance(&self) -> Option<f64> {
        self.gates.iter().find_map(|gate| match gate.rule {
            GateRule::LatencyAgainstStable { tolerate } => Some(tolerate),
            _ => None,
        })
    }
}

/// One step: a weight, or a person's approval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Give the canary this share and judge it.
    Weight(WeightStep),
    /// Stay at the weight until people say yes.
    Approval(ApprovalStep),
}

/// A wait for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalStep {
    /// Channel in which to ask.
    pub slack: Option<String>,
    /// Who may approve: names of people. At least one.
    pub from: Vec<String>,
    /// How many of them must, at least 1.
    pub need: u32,
    /// Longest wait.
    pub timeout: Millis,
    /// What happens then: roll back, or pause and keep the weight.
    pub on_timeout: OnFailure,
}

/// A step of weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightStep {
    /// The canary's share, 1 to 100.
    pub weight: Percent,
    /// Shortest stay (the bake).
    pub min: Millis,
    /// Longest stay; then `on_inconclusive`. Not below `min`.
    pub max: Millis,
    /// Margin D that the safe gate must exclude before advancing, as a share in (0, 1): 0.01 is one percentage point.
    pub prove_no_worse_than: f64,
    /// What happens at `max` without a proof.
    pub on_inconclusive: OnInconclusive,
}

/// At the end of a step without enough evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnInconclusive {
    /// Stay at this weight and go on judging until it is proven, someone decides, or `max_total`.
    Hold,
    /// Take the next step all the same.
    Advance,
    /// Give up.
    Rollback,
}

/// When a gate fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Weight to 0.
    Rollback,
    /// Keep the weight and page a person.
    Pause,
}

/// One thing to judge by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Unique within the policy.
    pub name: String,
    /// What is judged, and how.
    pub rule: GateRule,
    /// Reports and never decides.
    pub dry_run: bool,
    /// Where it acts; empty for where such gates usually do: [`GateRule::usual_scopes`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub during: Vec<Scope>,
    /// What it weighs among the gates that share `max_false_rollback`, above 0 and up to 1000; `None` where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// What its failure does, where that differs from the policy's [`Plan::on_failure`] or is said once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
}

/// How a gate judges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateRule {
    /// Canary's error rate against stable's over the same requests: fails when p_canary <= ratio * p_stable + add is
    /// refuted.
    ErrorRateAgainstStable {
        /// rho, at least 1.
        ratio: f64,
        /// d, a share in [0, 1).
        add: f64,
    },
    /// Canary's latencies against stable's over the same requests, at all quantiles: fails when it is refuted that the
    /// canary is slower by the part `tolerate` at most. All such gates of a plan tolerate the same.
    LatencyAgainstStable {
        /// m, from 0: 0.1 is 10 %.
        tolerate: f64,
    },
    /// Share of failed requests against a fixed limit.
    ErrorRateLimit {
        /// The limit, a share in (0, 1).
        share: f64,
        /// Which side of it is good.
        bound: Bound,
    },
    /// A quantile of the latency of successful requests against a fixed limit.
    LatencyLimit {
        /// 0.99 for p99.
        quantile: f64,
        /// The limit as the policy has it; what is tested is a bucket bound near it.
        limit: Millis,
        /// Which side of it is good.
        bound: Bound,
    },
    /// Health checks of every endpoint of both versions: fails when some endpoint of the canary failed so many times in
    /// a row, and none of stable's did.
    Health {
        /// What is asked of an endpoint.
        #[serde(flatten)]
        probe: HealthProbe,
        /// Time between checks.
        interval: Millis,
        /// Checks in a row that fail the gate, from 1.
        breaches: u32,
    },
    /// A signal from outside the mesh, point by point.
    Signal(SignalGate),
}

/// What a health check asks of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredProbe", into = "StoredProbe")]
pub enum HealthProbe {
    /// A plain GET, which must be answered with a success status.
    Http {
        /// Where; begins with `/`.
        path: String,
    },
    /// `grpc.health.v1.Health/Check` without TLS, which must be answered with SERVING.
    Grpc {
        /// The service that is asked about; empty for the server as a whole.
        service: String,
    },
    /// A connection, which must be accepted.
    Tcp,
    /// Nothing of an endpoint: what ECS says of the health of the version's tasks.
    Ecs {
        /// The cluster.
        cluster: String,
        /// The service of each version, by its virtual node.
        services: BTreeMap<String, String>,
    },
}

/// A probe as it is stored among the members of its gate: exactly one of these. Plans of the first release have `path`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct StoredProbe {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grpc: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ecs: Option<StoredTasks>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredTasks {
    cluster: String,
    services: BTreeMap<String, String>,
}

impl From<HealthProbe> for StoredProbe {
    fn from(probe: HealthProbe) -> Self {
        match probe {
            HealthProbe::Http { path } => Self { path: Some(path), ..Self::default() },
            HealthProbe::Grpc { service } => Self { grpc: Some(service), ..Self::default() },
            HealthProbe::Tcp => Self { tcp: Some(true), ..Self::default() },
            HealthProbe::Ecs { cluster, services } => {
                Self { ecs: Some(StoredTasks { cluster, services }), ..Self::default() }
            }
        }
    }
}

impl TryFrom<StoredProbe> for HealthProbe {
    type Error = &'static str;

    fn try_from(stored: StoredProbe) -> Result<Self, Self::Error> {
        match stored {
            StoredProbe { path: Some(path), grpc: None, tcp: None, ecs: None } => Ok(Self::Http { path }),
            StoredProbe { path: None, grpc: Some(service), tcp: None, ecs: None } => Ok(Self::Grpc { service }),
            StoredProbe { path: None, grpc: None, tcp: Some(true), ecs: None } => Ok(Self::Tcp),
            StoredProbe { path: None, grpc: None, tcp: None, ecs: Some(StoredTasks { cluster, services }) } => {
                Ok(Self::Ecs { cluster, services })
            }
            _ => Err("a health check has exactly one of `path`, `grpc`, `tcp: true` and `ecs`"),
        }
    }
}

/// In a sentence: `/health`, `the gRPC health check of shop.Checkout`, `TCP`.
impl std::fmt::Display for HealthProbe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http { path } => f.write_str(path),
            Self::Grpc { service } if service.is_empty() => f.write_str("the gRPC health check"),
            Self::Grpc { service } => write!(f, "the gRPC health check of {service}"),
            Self::Tcp => f.write_str("TCP"),
            Self::Ecs { .. } => f.write_str("the health of each version's tasks"),
        }
    }
}

impl GateRule {
    /// Whether the limit is fixed, so that the gate acts without a comparison.
    #[must_use]
    pub const fn is_absolute(&self) -> bool {
        match self {
            Self::ErrorRateLimit { .. } | Self::LatencyLimit { .. } | Self::Health { .. } => true,
            Self::ErrorRateAgainstStable { .. } | Self::LatencyAgainstStable { .. } => false,
            Self::Signal(signal) => matches!(signal.rule, SignalRule::Limit { .. }),
        }
    }
}

/// A gate on a signal from outside the mesh: fails when so many of its points in a row breach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalGate {
    /// What is asked. With a placeholder once for each version, without one once for both.
    pub query: SignalQuery,
    /// Time between two rounds of questions.
    pub interval: Millis,
    /// What its values are, for people: values and limits are kept as the source gives them.
    pub unit: SignalUnit,
    /// Which points breach.
    pub rule: SignalRule,
    /// Points in a row that fail the gate, from 1.
    pub breaches: u32,
}

impl SignalGate {
    /// How long one point is about: the period of CloudWatch, the step of a range of Prometheus, else the time between two
    /// questions.
    #[must_use]
    pub const fn span(&self) -> Millis {
        match &self.query {
            SignalQuery::Cloudwatch(
                CloudwatchQuery::Metric { period, .. } | CloudwatchQuery::Expression { period, .. },
            ) => *period,
            SignalQuery::Prometheus { step: Some(step), .. } => *step,
            SignalQuery::Cloudwatch(CloudwatchQuery::Alarm { .. })
            | SignalQuery::Xray(_)
            | SignalQuery::Prometheus { step: None, .. }
            | SignalQuery::Http { .. }
            | SignalQuery::Webhook(_) => self.interval,
        }
    }

    /// Whether it is the state of an alarm: each asking is a point.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        matches!(self.query, SignalQuery::Cloudwatch(CloudwatchQuery::Alarm { .. }))
    }
}

/// What the values of a signal are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalUnit {
    /// Whatever the source counts.
    Number,
    /// A share, 0 to 1.
    Share,
    /// A share in percent, 0 to 100.
    Percent,
    /// A span in seconds.
    Seconds,
}

/// Which points of a signal breach. Numbers are in the signal's own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalRule {
    /// Those beyond a limit.
    Limit {
        /// The limit; a value equal to it is good.
        value: f64,
        /// Which side of it is good.
        bound: Bound,
    },
    /// Those of the canary above `ratio` times stable's of the same time, plus `add`.
    AgainstStable {
        /// At least 1.
        ratio: f64,
        /// At least 0.
        add: f64,
    },
}

/// What a limit limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Fails above.
    Max,
    /// Fails below.
    Min,
}

/// Exposure control: neither is a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlastRadius {
    /// Failures that may be charged to the release, beyond stable's rate, before the weight goes to 0.
    pub failed_requests: u64,
    /// Canary failures that one proxy may pass on between two acknowledgements.
    pub per_proxy_between_acks: u64,
}

/// What silence of the live telemetry does while the canary has weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoData {
    /// Nothing advances after so long without a report.
    pub hold_after: Millis,
    /// Weight 0 and paused after so long; resumes by itself.
    pub withdraw_after: Millis,
}

/// Bound on the wait for a step to be in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// Longest wait.
    pub timeout: Millis,
    /// What happens then.
    pub on_timeout: OnVerifyTimeout,
}

/// When a step's weights were not seen in force in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnVerifyTimeout {
    /// Weight to 0.
    Rollback,
    /// Keep the weight and page a person.
    Pause,
}
