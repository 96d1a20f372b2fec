//! What would otherwise be counted and searched for with each change: how many resources there are in one place, and
//! which resources name another one.
//!
//! Derived from the resources alone and kept up with each change of one, so that a change costs as much in a mesh of ten
//! thousand resources as in one of ten.

use super::spec::{Backend, Provider};
use super::{Key, Kind, Resource, Spec};
use std::collections::{BTreeMap, BTreeSet};

/// Counts and references.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Index {
    /// How many there are in a place; never zero.
    counts: BTreeMap<Key, usize>,
    /// Who names a resource, whether that is there or not; never empty.
    named: BTreeMap<Key, BTreeSet<Key>>,
}

impl Index {
    /// Takes a resource in.
    pub(super) fn add(&mut self, resource: &Resource) {
        *self.counts.entry(place(&resource.key)).or_default() += 1;
        for named in references(resource) {
            self.named.entry(named).or_default().insert(resource.key.clone());
        }
    }

    /// Forgets a resource that was taken in.
    pub(super) fn remove(&mut self, resource: &Resource) {
        let place = place(&resource.key);
        if let Some(count) = self.counts.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&place);
            }
        }
        for named in references(resource) {
            if let Some(by) = self.named.get_mut(&named) {
                by.remove(&resource.key);
                if by.is_empty() {
                    self.named.remove(&named);
                }
            }
        }
    }

    /// How many resources there are where this one is, or would be.
    pub(super) fn count(&self, key: &Key) -> usize {
        self.counts.get(&place(key)).copied().unwrap_or_default()
    }

    /// Whoever of a kind names a resource, by key: they are of the same mesh, and neighbours.
    pub(super) fn naming(&self, key: &Key, kind: Kind) -> impl Iterator<Item = &Key> {
        let from = Key::child(&*key.mesh, kind, "");
        let by = self.named.get(key).map(|by| by.range(from..));
        by.into_iter().flatten().take_while(move |by| by.kind == kind)
    }
}

/// Where a resource is among others of its kind: in its router, its gateway or its mesh; all meshes are in one place.
fn place(key: &Key) -> Key {
    let mesh = if key.kind == Kind::Mesh { String::new() } else { key.mesh.clone() };
    Key { mesh, kind: key.kind, parent: key.parent.clone(), name: String::new() }
}

/// What the spec of a resource names, beside what the resource is in.
fn references(resource: &Resource) -> BTreeSet<Key> {
    let mesh = &*resource.key.mesh;
    match &resource.spec {
        Spec::Mesh(_) | Spec::VirtualRouter(_) | Spec::VirtualGateway(_) => BTreeSet::new(),
        Spec::VirtualNode(spec) => {
            let names = spec.backends.iter().map(|Backend::VirtualService(backend)| &*backend.virtual_service_name);
            names.map(|name| Key::of_backend(mesh, name)).collect()
        }
        Spec::Route(spec) => {
            let targets = spec.targets().iter();
            targets.map(|target| Key::child(mesh, Kind::VirtualNode, &*target.virtual_node)).collect()
        }
        Spec::VirtualService(spec) => spec.provider.as_ref().map(|provider| provider.key(mesh)).into_iter().collect(),
        Spec::GatewayRoute(spec) => {
            let name = spec.target().map(|target| &*target.virtual_service.virtual_service_name);
            name.map(|name| Key::child(mesh, Kind::VirtualService, name)).into_iter().collect()
        }
    }
}

impl Provider {
    /// The node or router that it names.
    #[must_use]
    pub fn key(&self, mesh: &str) -> Key {
        match self {
            Self::VirtualNode { virtual_node_name } => Key::child(mesh, Kind::VirtualNode, &**virtual_node_name),
            Self::VirtualRouter { virtual_router_name } => {
                Key::child(mesh, Kind::VirtualRouter, &**virtual_router_name)
            }
        }
    }
}
