//! What runs the two versions of a plan.

use crate::base::ids::NodeName;
use crate::base::time::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What runs the two versions, and how a release gets into the canary's slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// The system that runs them.
    pub target: WorkloadTarget,
    /// Rolled back when the canary is not up and healthy so long after the start.
    pub ready_within: Millis,
    /// How long the version before is kept running after a promotion.
    pub keep_for: Millis,
}

/// The system that runs the two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadTarget {
    /// Two services of Amazon ECS.
    Ecs(EcsTarget),
    /// Two processes on the daemon's machine.
    Process(ProcessTarget),
}

/// Two processes on the daemon's machine, one for each slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessTarget {
    /// Names of the slots, in the order of the plan's `versions`.
    pub nodes: [NodeName; 2],
    /// Program and arguments; with placeholders.
    pub command: Vec<String>,
    /// Variables besides the daemon's own; with placeholders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Port of each slot, on which its process listens; different from each other.
    pub ports: [u16; 2],
    /// What stable is said to run where nothing was released yet.
    pub first: String,
}

/// Two services of Amazon ECS, one for each slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcsTarget {
    /// Name or ARN of the cluster.
    pub cluster: String,
    /// Names of the services, in the order of the plan's `versions`; different from each other.
    pub services: [String; 2],
    /// Container whose image is released.
    pub container: String,
    /// How many tasks the canary's service gets.
    pub scale: Scale,
}

/// How many instances the canary's slot gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// As many as stable is asked to have at the start, and at least one.
    SameAsStable,
    /// As many as it is asked to have already; somebody else decides about it.
    Keep,
    /// So many, and at least one.
    Tasks(u32),
    /// As many as its share of the traffic asks for: stable's number times the share, and so many percent on top. Raised
    /// before the share is.
    FollowShare {
        /// Percent on top.
        headroom_percent: u32,
    },
}

impl WorkloadTarget {
    /// Whether the number of instances depends on the canary's share of the traffic.
    #[must_use]
    pub const fn follows_share(&self) -> bool {
        match self {
            Self::Ecs(target) => target.scale.follows_share(),
            Self::Process(_) => false,
        }
    }
}

impl Scale {
    /// Whether the number depends on the share of the traffic.
    #[must_use]
    pub const fn follows_share(self) -> bool {
        matches!(self, Self::FollowShare { .. })
    }
}
