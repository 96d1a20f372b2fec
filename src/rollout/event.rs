//! What can happen to a rollout. Inputs are journaled, so their JSON form is fixed by golden files.

use super::effect::EffectId;
pub use super::past::{EndpointMinute, MeasuredNoise, Past, PastErrors};
pub use super::unusable::Unusable;
use crate::base::fault::Fault;
use crate::base::histogram::Histogram;
use crate::base::ids::{NodeName, Seq};
use crate::base::tally::FuseState;
use crate::base::time::Timestamp;
use crate::judge::Counts;
use crate::judge::latency::{LatencyCounts, LatencyThresholds};
use crate::judge::points::PointReading;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing that happened, numbered and timed by the runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Its number: the state's last one plus one.
    pub seq: Seq,
    /// When, by the daemon's wall clock. The engine never lets time go back within a rollout.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// Someone wants something.
    Command {
        /// What they want.
        command: Command,
        /// Who.
        actor: Actor,
    },
    /// An effect came to an end.
    Settled {
        /// Which.
        effect: EffectId,
        /// How.
        outcome: Outcome,
    },
    /// One round of readings.
    Observed(Observation),
    /// A deadline passed.
    Tick,
}

/// What people and triggers can ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Command {
    /// Begin. Always the first input and never a later one.
    Start(Start),
    /// Stay at this weight until `resume`; the gates go on judging.
    Pause {
        /// Why, for the audit trail.
        reason: String,
    },
    /// Go on after a pause; the step's clock starts anew.
    Resume,
    /// Take the next step now, or all the traffic with `full`.
    Promote {
        /// Straight to 100.
        full: bool,
        /// Why, for the audit trail.
        reason: String,
    },
    /// Agree to go on, at an approval step.
    Approve {
        /// Name among `from` in which the actor speaks; the actor's own when absent.
        person: Option<String>,
        /// Why, for the audit trail.
        reason: String,
        /// Number of the step that they were asked about, from 1, where they were: another is not meant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<usize>,
        /// Who that is, as far as it is known.
        #[serde(default, skip_serializing_if = "Voice::is_unknown")]
        voice: Voice,
    },
    /// Disagree, at an approval step: weight to 0 and end.
    Reject {
        /// Name among `from` in which the actor speaks; the actor's own when absent.
        person: Option<String>,
        /// Why, for the audit trail.
        reason: String,
        /// As above.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<usize>,
    },
    /// Weight to 0 and end.
    Abort {
        /// Why, for the audit trail.
        reason: String,
    },
    /// Weight 0 and end, since a newer release is to take its place. From the daemon itself, when it starts that one.
    Supersede {
        /// The newer release, in a few words.
        by: String,
    },
    /// Take no step and give the canary no more weight until `thaw`; the gates go on judging. From the daemon itself, for
    /// whoever froze the policy or everything. Where it is frozen already, this reason stands from then on.
    Freeze {
        /// Why, for people.
        reason: String,
    },
    /// No freeze covers it any more. From the daemon itself.
    Thaw,
    /// Leave the cleaning up: the next release takes the slot. From the daemon itself, when it starts that one.
    MakeWay,
}

impl Command {
    /// The verb, as commands and addresses spell it.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
            Self::Promote { .. } => "promote",
            Self::Approve { .. } => "approve",
            Self::Reject { .. } => "reject",
            Self::Abort { .. } => "abort",
            Self::Supersede { .. } => "supersede",
            Self::Freeze { .. } => "freeze",
            Self::Thaw => "thaw",
            Self::MakeWay => "make way for",
        }
    }
}

/// Who gives an approval, beyond the name in which they do: what tells that two names are one person.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Voice {
    /// Names of people that the actor is known by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_as: Vec<String>,
    /// Whether the name in which they speak is a group's, of which they are a member: others may speak in it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub member: bool,
}

impl Voice {
    /// Whether nothing is known.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.known_as.is_empty() && !self.member
    }
}

/// What was asked, and what the route looked like when it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The slot that takes the release; the one without weight when absent.
    pub to: Option<NodeName>,
    /// What is released, for people: a commit, a tag.
    pub revision: Option<String>,
    /// The image that the canary's slot is to run, where the plan has a workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The route as read just before.
    pub route: RouteReading,
    /// Names of people that whoever starts it is known by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub author: Vec<String>,
    /// Index of the step to begin with: 0, or the step that failed when this is a retry.
    #[serde(default)]
    pub first_step: usize,
    /// Why it begins although no window of its policy is open, for the audit trail; absent where one is, or none is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside_windows: Option<String>,
    /// The highest generation that any rollout of this route has used so far.
    pub last_generation: u64,
    /// What stable runs, where a gate asks about it and an earlier rollout has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<ReleaseName>,
    /// Latencies of stable on this route in the last minutes, where a gate compares latencies and they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Histogram>,
    /// What stable did before, where a gate compares error rates and it is known.
    #[serde(default, skip_serializing_if = "Past::is_unknown")]
    pub past: Box<Past>,
}

/// What a version was released as.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReleaseName {
    /// The revision, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The image, where it was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Actor {
    /// A login, or the name of a part of the system.
    pub name: String,
    /// How we know: `os_user`, `token`, `demo`…
    pub via: String,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.via)
    }
}

impl Actor {
    /// Whether somebody checked that they are who they say: on loopback names are only claimed.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.via != "os_user"
    }
}

/// How an effect ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// The weights were accepted.
    Applied {
        /// The route's version from then on.
        version: u64,
    },
    /// The slot was asked to run the release.
    Deployed(Deployed),
    /// The slot was asked to run nothing.
    Retired,
    /// The route of the preview was made, or was there.
    PreviewOpened,
    /// It was removed, or was not there.
    PreviewClosed,
    /// It did not work, retries included.
    Failed(Fault),
}

/// How the instances of a slot stand, as whatever runs them says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadReading {
    /// What it comes to.
    pub standing: Standing,
    /// In a sentence for people, without a full stop: counts, and what is waited for or went wrong.
    pub note: String,
}

/// How the instances of a slot stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// On their way to running what was asked for.
    Progressing,
    /// All of them run what was asked for, and are healthy as far as it is known.
    Ready,
    /// They will not get there by themselves: they stop again and again, or the deployment was given up.
    Failing,
    /// None is asked for and none runs.
    Idle,
}

/// What a slot was made to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Names it: for ECS the ARN of the task definition's revision.
    pub what: String,
    /// Instances that were asked for.
    pub instances: u32,
}

/// One round of readings: each part is absent when it was not read, an error when it could not be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Observation {
    /// The route as the mesh has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Result<RouteReading, Fault>>,
    /// What the data plane counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Result<LiveReading, Fault>>,
    /// How the instances of the slot that is deployed to or retired stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Result<WorkloadReading, Fault>>,
    /// What signals that come as points say, gate by gate; absent for gates that were not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<PointsReading>,
    /// The preview's route as the mesh has it, or that it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Result<Option<PreviewReading>, Fault>>,
}

/// A route under the name of a preview's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewReading {
    /// Whether it was made for a preview: anybody else's is left alone.
    pub ours: bool,
    /// Whether it sends what has the header to the canary, and nothing elsewhere.
    pub fits: bool,
    /// Proxies that have the plan's route and not yet this one as it is now; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u32>,
}

impl Observation {
    /// Whether neither the route nor the data plane was read: it is of points or of the workload alone.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.route.is_none() && self.live.is_none()
    }
}

/// One reading of a gate whose signal comes as points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointsReading {
    /// The gate's name.
    pub gate: String,
    /// Of the canary.
    pub canary: ArmReading,
    /// Of stable.
    pub stable: ArmReading,
}

/// The reading of one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmReading {
    /// What the source said.
    pub point: PointReading,
    /// The same for people, where it is worth telling: which endpoint, which status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A route's weights as the mesh answers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReading {
    /// Version of the route.
    pub version: u64,
    /// Every target and its weight.
    pub targets: Vec<(NodeName, u32)>,
    /// When the lease of the weights before these ran out, so that the mesh itself wrote these; as the mesh tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapsed: Option<String>,
}

impl RouteReading {
    /// A node's weight; 0 when it is no target.
    #[must_use]
    pub fn weight_of(&self, node: &str) -> u32 {
        let weights = self.targets.iter().filter(|(name, _)| name == node).map(|(_, weight)| *weight);
        weights.fold(0, u32::saturating_add)
    }

    /// The sum of all weights.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.targets.iter().map(|(_, weight)| *weight).fold(0, u32::saturating_add)
    }

    /// A node's share of the total, rounded to whole percents, which is what a rollout writes; but 0 only for none at
    /// all and 100 only for everything, so that a trickle is not taken for an end. 0 when nothing has weight.
    #[must_use]
    pub fn percent_of(&self, node: &str) -> u8 {
        let (own, total) = (u64::from(self.weight_of(node)), u64::from(self.total()));
        if own == 0 {
            return 0;
        }
        if own >= total {
            return 100;
        }
        u8::try_from(((own * 100 + total / 2) / total).clamp(1, 99)).unwrap_or(99)
    }
}

/// What each proxy counted on the route since it started, by weights version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LiveReading {
    /// One entry for each proxy that answered. None is silence.
    pub proxies: Vec<ProxyCounts>,
    /// What some proxies told and nobody can judge by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unusable: Vec<Unusable>,
}

/// The counts of one proxy process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyCounts {
    /// Names the process.
    pub proxy: String,
    /// The version by which it routes now; `None` when it does not have the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// Whether it placed a request on the route lately: then its acknowledgement is waited for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub serving: bool,
    /// Its counts, by the weights version that placed the requests; cumulative.
    pub versions: Vec<VersionCounts>,
    /// How its fuse on the route stands, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuse: Option<FuseReading>,
}

/// What a proxy says of its fuse. Whole numbers, so that a replay sees the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FuseReading {
    /// The rollout that it was armed for.
    pub rollout: String,
    /// Where it stands.
    pub state: FuseState,
    /// Evidence against the canary, in thousandths of a nat.
    pub log_e_milli: i64,
    /// Evidence at which it trips, likewise.
    pub threshold_milli: i64,
    /// Requests that this proxy began on the canary in the rollout.
    pub canary_requests: u64,
    /// Those that failed.
    pub canary_errors: u64,
    /// Failures of stable.
    pub stable_errors: u64,
    /// Failures of the canary since the counts were read before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub errors_since_acknowledged: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Requests that one weights version placed on the two slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionCounts {
    /// The route's version.
    pub version: u64,
    /// The canary's share in it, in millionths: the coin that placed each request.
    pub share_ppm: u32,
    /// Requests and errors.
    pub counts: Counts,
    /// Latencies of successful requests for the comparison with stable; absent where no gate compares them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Successful requests that were slower than the bounds of absolute gates; empty where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slower: Vec<SlowCounts>,
    /// Whether requests were placed by sessions and not one by one: then their number on each arm is no binomial.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_sessions: bool,
}

impl VersionCounts {
    /// Requests and errors alone.
    #[must_use]
    pub const fn new(version: u64, share_ppm: u32, counts: Counts) -> Self {
        Self { version, share_ppm, counts, latency: None, slower: Vec::new(), in_sessions: false }
    }
}

/// Latencies in one of two forms; cumulative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Latency {
    /// Stable's, to choose thresholds by.
    Baseline(Histogram),
    /// Both arms', counted by the thresholds.
    Counts(LatencyCounts),
}

/// Requests that were slower than a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowCounts {
    /// The bound in microseconds, one between two buckets of the histogram.
    pub bound_us: u64,
    /// Successful requests, the slower ones as "errors".
    pub counts: Counts,
}

/// What a reading should count of latencies. Derived from plan and state, and never stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TimingAsk {
    /// For the comparison with stable; `None` where no gate compares latencies.
    pub compared: Option<ComparedBy>,
    /// Bounds of absolute gates, in microseconds.
    pub bounds_us: Vec<u64>,
}

/// How latencies are to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComparedBy {
    /// As stable's histogram: the thresholds are still being chosen.
    Collecting,
    /// As counts.
    Thresholds(LatencyThresholds),
}
