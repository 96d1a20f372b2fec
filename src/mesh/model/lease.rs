//! Tidegate's extensions of a route, stored with it: the weight lease, the generation and the fuse.
//!
//! Weights under a lease stay for as long as somebody renews it. When nobody does, the control plane writes the lease's
//! fallback: so a controller that is gone cannot leave a release half out for ever. The lease says how long, not until when:
//! each control plane counts from when it got to know of it, on its own clock.

use super::spec::{RouteSpec, WeightedTarget};
use crate::base::fuse::Fuse;
use crate::base::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;

/// How long a lease may be. Below a second its renewals would be load; a lease of more than a day protects nobody.
pub const LEASE_SPAN: RangeInclusive<Millis> = Millis::from_seconds(1)..=Millis::from_seconds(86_400);

/// What a change of a route brings along beyond App Mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    /// `x-tidegate-generation`: the number of the write.
    pub generation: Option<u64>,
    /// `x-tidegate-lease`.
    pub lease: Option<LeaseAsk>,
    /// `x-tidegate-fuse`: what a proxy watches the release by.
    pub fuse: Option<Fuse>,
    /// The version of the route that is to get this fuse, where no lease says so: then nothing else is changed, or nothing at all.
    pub fuse_renews: Option<i64>,
}

/// A lease as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseAsk {
    /// How long the weights stay without a renewal, within [`LEASE_SPAN`].
    pub span: Millis,
    /// Weights that are written then, by node; every other target gets 0.
    pub fallback: BTreeMap<String, u32>,
    /// The version of the route whose weights are to go on: then nothing but the lease is changed, or nothing at all.
    pub renews: Option<i64>,
}

/// A lease as it is kept with a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lease {
    /// How long the weights stay without a renewal.
    pub span: Millis,
    /// Weights that are written then, by node; every other target gets 0.
    pub fallback: BTreeMap<String, u32>,
    /// How often it was renewed. Whoever counts it down tells by this number whether there was a renewal meanwhile.
    pub renewals: u64,
}

/// That a lease ran out, for as long as the weights of its fallback stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lapsed {
    /// When.
    pub at: Timestamp,
    /// How long it was.
    pub span: Millis,
}

/// Tells one lease, and one renewal of it, from all others: a route that is made anew has another uid, and a change that
/// ends a lease has another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The route's uid.
    pub uid: String,
    /// Its version.
    pub version: i64,
    /// Renewals of the lease.
    pub renewals: u64,
}

impl LeaseAsk {
    /// The lease that begins with it.
    #[must_use]
    pub fn begun(&self) -> Lease {
        Lease { span: self.span, fallback: self.fallback.clone(), renewals: 0 }
    }

    /// A lease renewed by it.
    #[must_use]
    pub fn renewed(&self, old: &Lease) -> Lease {
        Lease { renewals: old.renewals.saturating_add(1), ..self.begun() }
    }
}

/// What keeps a fallback from being written into a route; `None` where nothing does.
#[must_use]
pub fn unfit(fallback: &BTreeMap<String, u32>, spec: &RouteSpec) -> Option<String> {
    let targets = spec.targets();
    for node in fallback.keys() {
        match targets.iter().filter(|target| target.virtual_node == *node).count() {
            0 => return Some(format!("the fallback names {node}, which is no target of the route")),
            1 => {}
            _ => return Some(format!("the fallback names {node}, which is a target of the route more than once")),
        }
    }
    None
}

/// What keeps a fuse from watching a route's canary; `None` where nothing does.
#[must_use]
pub fn unfit_fuse(fuse: &Fuse, spec: &RouteSpec) -> Option<String> {
    let canary = &fuse.canary;
    match spec.targets().iter().filter(|target| target.virtual_node == *canary).count() {
        0 => Some(format!("canary is {canary}, which is no target of the route")),
        1 => None,
        _ => Some(format!("canary is {canary}, which is a target of the route more than once")),
    }
}

/// A route's weight by a fallback, target by target.
pub fn weights<'a>(
    fallback: &'a BTreeMap<String, u32>,
    targets: &'a [WeightedTarget],
) -> impl Iterator<Item = u32> + 'a {
    targets.iter().map(|target| fallback.get(&target.virtual_node).copied().unwrap_or(0))
}

/// Weights for people: `checkout-v1=100, checkout-v2=0`.
#[must_use]
pub fn said(targets: &[WeightedTarget]) -> String {
    let mut text = String::new();
    for target in targets {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{}={}", target.virtual_node, target.weight);
    }
    text
}
