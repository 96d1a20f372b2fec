//! Keeps the weights of a route that exists, when a file says something about it.
//!
//! Whoever wrote the file does not know how far a rollout has come. So targets that are there keep their weights, a new
//! target starts with none, and one that still has traffic cannot vanish.

use crate::mesh::error::Violation;
use crate::mesh::model::spec::{RouteSpec, WeightedTarget};
use crate::mesh::model::{Kind, Resource};
use crate::mesh::validate::{self, SpecPair, Unknown};
use serde_json::Value;
use std::fmt;

/// Weights that stay, target by target as the file lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptWeights {
    /// As they are and stay.
    pub kept: Vec<u32>,
    /// As the file has them.
    pub said: Vec<u32>,
}

impl fmt::Display for KeptWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (the file says {})", slashes(&self.kept), slashes(&self.said))
    }
}

/// The file's spec with the weights of the route as it is, and what to tell; `None` when they agree anyway.
pub(super) fn keep(old: &Resource, new: &SpecPair) -> Result<Option<(SpecPair, KeptWeights)>, Violation> {
    let (Some(old_route), Some(new_route)) = (old.spec.route(), new.typed.route()) else { return Ok(None) };
    let (was, says) = (old_route.targets(), new_route.targets());
    let path = format!("spec.{}.action.weightedTargets", new_route.member());
    if let Some(lost) =
        was.iter().find(|was| was.weight > 0 && !says.iter().any(|says| same(was, says, was_once(says, new_route))))
    {
        let message = format!(
            "{path}: virtualNode {} is missing here but has weight {} now; shift its traffic first, or load with the \
             file's weights",
            lost.virtual_node, lost.weight
        );
        return Err(Violation { path, message });
    }
    let kept: Vec<u32> = says
        .iter()
        .map(|says| {
            let was = was.iter().find(|was| same(was, says, was_once(says, new_route)));
            was.map_or(0, |was| was.weight)
        })
        .collect();
    let said: Vec<u32> = says.iter().map(|target| target.weight).collect();
    if kept == said {
        return Ok(None);
    }
    let mut raw = new.raw.clone();
    let pointer = format!("/{}/action/weightedTargets", new_route.member());
    let targets = raw.pointer_mut(&pointer).and_then(Value::as_array_mut);
    for (target, weight) in targets.into_iter().flatten().zip(&kept) {
        target["weight"] = (*weight).into();
    }
    let pair = validate::spec(Kind::Route, &raw, Unknown::Drop)
        .map_err(|violations| violations.into_iter().next().unwrap_or(Violation { path, message: String::new() }))?;
    Ok(Some((pair, KeptWeights { kept, said })))
}

/// Whether a node appears once in a route, so that its name alone tells the target.
fn was_once(target: &WeightedTarget, route: &RouteSpec) -> bool {
    route.targets().iter().filter(|other| other.virtual_node == target.virtual_node).count() == 1
}

/// The same target, even if the file names a port that was not named before.
fn same(was: &WeightedTarget, says: &WeightedTarget, once: bool) -> bool {
    was.virtual_node == says.virtual_node && (was.port == says.port || once)
}

fn slashes(weights: &[u32]) -> String {
    weights.iter().map(u32::to_string).collect::<Vec<_>>().join("/")
}
