//! What is wrong with a mesh as a whole, although each change of it was taken: what it leaves open, and what this
//! version's data plane cannot do. For the log, the start's output and `GET /v1/mesh/problems`.
//!
//! Kept up change by change: only what a change touches is looked at again.

use crate::mesh::compile::{Problem, Touched};
use crate::mesh::model::{Key, Kind, MeshState};
use crate::mesh::ops;
use std::collections::{BTreeMap, BTreeSet};

/// Lines that one publication may add to the log for problems that came, and for those that went. Loading a large mesh
/// may bring thousands; the whole list is at `GET /v1/mesh/problems`.
const TOLD_MAX: usize = 20;

/// All problems of a state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Problems {
    /// What a resource leaves open; never empty.
    open: BTreeMap<Key, Vec<Problem>>,
    /// What a service or gateway asks for in vain; never empty.
    vain: BTreeMap<Key, Vec<Problem>>,
    /// In how many of these lists a problem is: a route may be in vain for several services. Never zero.
    all: BTreeMap<Problem, usize>,
}

/// Problems that a change brought and took, each list sorted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    /// Those that were not there before.
    pub came: Vec<Problem>,
    /// Those that are not there any more.
    pub went: Vec<Problem>,
}

impl Problems {
    /// Takes over that resources changed, which the state has as they are now, and what the view of all services came to.
    pub fn update<'k>(
        &mut self,
        state: &MeshState,
        changed: impl IntoIterator<Item = &'k Key>,
        touched: Touched,
    ) -> Difference {
        let mut looked_at = BTreeSet::new();
        for key in changed {
            let naming = OPEN.into_iter().flat_map(|kind| state.naming(key, kind));
            looked_at.extend(naming.map(|resource| resource.key.clone()));
            looked_at.insert(key.clone());
        }
        // What the lists say of a problem that is in one of those that change.
        let mut was = BTreeMap::new();
        for key in looked_at {
            let now = open(state, &key);
            let before = exchange(&mut self.open, key, now.clone());
            self.count(before, now, &mut was);
        }
        for (key, now) in touched.problems {
            let before = exchange(&mut self.vain, key, now.clone());
            self.count(before, now, &mut was);
        }
        let mut difference = Difference::default();
        for (problem, was) in was {
            match (was, self.all.contains_key(&problem)) {
                (false, true) => difference.came.push(problem),
                (true, false) => difference.went.push(problem),
                _ => {}
            }
        }
        difference
    }

    fn count(&mut self, before: Vec<Problem>, now: Vec<Problem>, was: &mut BTreeMap<Problem, bool>) {
        for problem in before.iter().chain(&now) {
            if !was.contains_key(problem) {
                was.insert(problem.clone(), self.all.contains_key(problem));
            }
        }
        for problem in now {
            *self.all.entry(problem).or_default() += 1;
        }
        for problem in before {
            if let Some(count) = self.all.get_mut(&problem) {
                *count -= 1;
                if *count == 0 {
                    self.all.remove(&problem);
                }
            }
        }
    }

    /// All of them, by resource.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.all.keys()
    }

    /// Tells the log what came and what went.
    pub(super) fn tell(&self, Difference { came, went }: &Difference) {
        for problem in came.iter().take(TOLD_MAX) {
            tracing::warn!(resource = problem.resource, problem = problem.message, "the mesh has a problem");
        }
        for problem in went.iter().take(TOLD_MAX) {
            tracing::info!(resource = problem.resource, problem = problem.message, "a problem of the mesh is gone");
        }
        let more = came.len().saturating_sub(TOLD_MAX) + went.len().saturating_sub(TOLD_MAX);
        if more > 0 {
            let all = self.all.len();
            tracing::warn!(more, all, "more problems of the mesh came or went; GET /v1/mesh/problems has all");
        }
    }
}

/// Kinds that may leave something open.
const OPEN: [Kind; 2] = [Kind::VirtualNode, Kind::VirtualService];

fn open(state: &MeshState, key: &Key) -> Vec<Problem> {
    let open = state.get(key).map(|resource| ops::unresolved_of(state, resource)).unwrap_or_default();
    let told = open.into_iter().map(|open| Problem {
        resource: open.key.path(),
        message: format!("unresolved: {}: {}", open.path, open.message),
    });
    let lapsed = state.get(key).and_then(|resource| ops::lease::told(resource));
    let lapsed = lapsed.map(|message| Problem { resource: key.path(), message });
    told.chain(lapsed).collect()
}

/// Puts a list in the place of another one, which is the answer.
fn exchange(lists: &mut BTreeMap<Key, Vec<Problem>>, key: Key, now: Vec<Problem>) -> Vec<Problem> {
    let before = if now.is_empty() { lists.remove(&key) } else { lists.insert(key, now) };
    before.unwrap_or_default()
}

#[cfg(test)]
mod tests;
