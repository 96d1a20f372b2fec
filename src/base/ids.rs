//! Identifiers, each its own type so that one cannot stand in for another.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A rollout's identifier: opaque, unique for ever, safe in a URL path (`r-` and 16 hex digits).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RolloutId(pub String);

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Number of an input within one rollout: 1 for the start, then without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The number of the next input.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Names one App Mesh route: the thing whose weights a rollout steps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteRef {
    /// Name of the mesh.
    pub mesh: String,
    /// Name of the virtual router that owns the route.
    pub router: String,
    /// Name of the route.
    pub route: String,
}

impl fmt::Display for RouteRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.mesh, self.router, self.route)
    }
}

/// Name of a virtual node within the mesh of its route. In a policy the two `versions` are such names.
pub type NodeName = String;
