//! Which proxies are connected, and what they took of what they were sent.
//!
//! For people (`GET /v1/mesh/proxies`): App Mesh never said whether a proxy took a configuration (appmesh "Requested, never
//! delivered"). Written when a stream begins, says something, or ends; never on the way of a push.

use super::session::Standing;
use super::translate::Type;
use crate::mesh::http::MeshControl;
use crate::ports::{ConnectedProxy, MeshOverview, MeshProblem, Rejection, TypeStanding};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All that are connected. A handle: clones are the same registry.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    proxies: BTreeMap<u64, ConnectedProxy>,
    /// How many there are of each resource.
    counts: BTreeMap<String, usize>,
}

/// No more may be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Proxies of the resource.
    pub same: usize,
    /// Proxies in all.
    pub all: usize,
}

/// The entry of one stream; gone with it.
#[derive(Debug)]
pub struct Entry {
    registry: Registry,
    number: u64,
    node: String,
}

impl Registry {
    /// Enters a proxy, if there are fewer than `same_max` of its resource and fewer than `all_max` in all.
    ///
    /// # Errors
    /// There are that many.
    pub fn enter(&self, proxy: ConnectedProxy, same_max: usize, all_max: usize) -> Result<Entry, Full> {
        let mut inner = self.lock();
        let (same, all) = (inner.counts.get(&proxy.resource).copied().unwrap_or_default(), inner.proxies.len());
        if same >= same_max || all >= all_max {
            return Err(Full { same, all });
        }
        inner.next += 1;
        let number = inner.next;
        *inner.counts.entry(proxy.resource.clone()).or_default() += 1;
        let node = proxy.node.clone();
        inner.proxies.insert(number, proxy);
        Ok(Entry { registry: self.clone(), number, node })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held left a whole map behind: each change is a single insert, remove or assignment.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Name of the proxy.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Notes where its stream stands.
    pub fn stands(&self, known: bool, standing: &BTreeMap<Type, Standing>, problems: &[String]) {
        let mut inner = self.registry.lock();
        let Some(proxy) = inner.proxies.get_mut(&self.number) else { return };
        proxy.known = known;
        proxy.types = standing.iter().map(|(kind, standing)| (kind.word(), type_standing(standing))).collect();
        if proxy.problems != problems {
            proxy.problems = problems.to_vec();
        }
    }
}

/// A mesh with its proxies, for people.
pub struct HostedMesh {
    control: MeshControl,
    registry: Registry,
}

impl HostedMesh {
    /// A mesh, and who is configured by it.
    #[must_use]
    pub const fn new(control: MeshControl, registry: Registry) -> Self {
        Self { control, registry }
    }
}

impl MeshOverview for HostedMesh {
    fn proxies(&self) -> Vec<ConnectedProxy> {
        self.registry.lock().proxies.values().cloned().collect()
    }

    fn problems(&self) -> Vec<MeshProblem> {
        let all = self.control.problems().into_iter();
        all.map(|problem| MeshProblem { resource: problem.resource, message: problem.message }).collect()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        let Some(proxy) = inner.proxies.remove(&self.number) else { return };
        if let std::collections::btree_map::Entry::Occupied(mut count) = inner.counts.entry(proxy.resource) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

fn type_standing(standing: &Standing) -> TypeStanding {
    let rejected = standing.refused.clone().map(|(version, reason)| Rejection { version, reason });
    TypeStanding { version: standing.sent.clone(), acknowledged: standing.acknowledged.clone(), rejected }
}
