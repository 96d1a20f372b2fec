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
}

/// The entry of one stream; gone with it.
#[derive(Debug)]
pub struct Entry {
    registry: Registry,
    number: u64,
}

impl Registry {
    /// How many there are of a resource, and in all.
    #[must_use]
    pub fn count(&self, resource: &str) -> (usize, usize) {
        let inner = self.lock();
        let same = inner.proxies.values().filter(|proxy| proxy.resource == resource).count();
        (same, inner.proxies.len())
    }

    /// Enters a proxy.
    #[must_use]
    pub fn enter(&self, proxy: ConnectedProxy) -> Entry {
        let mut inner = self.lock();
        inner.next += 1;
        let number = inner.next;
        inner.proxies.insert(number, proxy);
        Entry { registry: self.clone(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held left a whole map behind: each change is a single insert, remove or assignment.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
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
        self.registry.lock().proxies.remove(&self.number);
    }
}

fn type_standing(standing: &Standing) -> TypeStanding {
    let rejected = standing.refused.clone().map(|(version, reason)| Rejection { version, reason });
    TypeStanding { version: standing.sent.clone(), acknowledged: standing.acknowledged.clone(), rejected }
}
