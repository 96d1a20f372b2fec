//! All resources of the control plane, as one value.
//!
//! `ops` reads it and answers with a list of changes; [`MeshState::commit`] applies them once they are stored. So a
//! store that fails leaves nothing half done.

use super::index::Index;
use super::{Key, Kind, Resource, TokenUse};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A resource that is new, changed or (with `None`) gone.
pub type Change = (Key, Option<Arc<Resource>>);

/// Every resource by its key, and what is derived from them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MeshState {
    resources: BTreeMap<Key, Arc<Resource>>,
    /// Which resource remembers a token. Derived from `resources`.
    tokens: BTreeMap<String, Key>,
    /// Counts and references. Derived from `resources`.
    index: Index,
}

impl MeshState {
    /// The state that holds these resources.
    pub fn new(resources: impl IntoIterator<Item = Resource>) -> Self {
        let mut state = Self::default();
        let changes = resources.into_iter().map(|resource| (resource.key.clone(), Some(Arc::new(resource))));
        state.commit(changes);
        state
    }

    /// Takes changes over.
    pub fn commit(&mut self, changes: impl IntoIterator<Item = Change>) {
        for (key, resource) in changes {
            match resource {
                Some(resource) => {
                    let old = self.resources.insert(key.clone(), Arc::clone(&resource));
                    self.forget(old.as_deref());
                    self.index.add(&resource);
                    self.tokens.extend(resource.tokens.iter().map(|used| (used.token.clone(), key.clone())));
                }
                None => {
                    let old = self.resources.remove(&key);
                    self.forget(old.as_deref());
                }
            }
        }
    }

    fn forget(&mut self, old: Option<&Resource>) {
        let Some(old) = old else { return };
        self.index.remove(old);
        for used in &old.tokens {
            self.tokens.remove(&used.token);
        }
    }

    /// The resource of that key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<Resource>> {
        self.resources.get(key)
    }

    /// Every resource, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// How many resources there are beside this one, in its router, gateway or mesh, itself included if it is there; of a
    /// mesh, all meshes.
    #[must_use]
    pub fn count(&self, key: &Key) -> usize {
        self.index.count(key)
    }

    /// Resources of a kind whose specs name this one, by key; it may not be there (yet).
    pub fn naming(&self, key: &Key, kind: Kind) -> impl Iterator<Item = &Arc<Resource>> {
        self.index.naming(key, kind).filter_map(|by| self.resources.get(by))
    }

    /// The children of a router or gateway, or of a mesh with an empty `parent`, by name.
    pub fn children<'a>(
        &'a self,
        mesh: &'a str,
        kind: Kind,
        parent: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.children_from(mesh, kind, parent, Bound::Unbounded)
    }

    /// Those whose names do not come before the bound.
    pub fn children_from<'a>(
        &'a self,
        mesh: &'a str,
        kind: Kind,
        parent: &'a str,
        name: Bound<&str>,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        let from = match name {
            Bound::Unbounded => Bound::Included(Key::grandchild(mesh, kind, parent, "")),
            name => name.map(|name| Key::grandchild(mesh, kind, parent, name)),
        };
        self.resources
            .range((from, Bound::Unbounded))
            .take_while(move |(key, _)| key.mesh == mesh && key.kind == kind && key.parent == parent)
            .map(|(_, resource)| resource)
    }

    /// The meshes whose names do not come before the bound, by name. What is in them is stepped over.
    pub fn meshes_from(&self, name: Bound<&str>) -> impl Iterator<Item = &Arc<Resource>> {
        let first = match name {
            Bound::Unbounded => Some(String::new()),
            Bound::Included(name) => Some(name.to_owned()),
            Bound::Excluded(name) => Some(after(name)),
        };
        let next = move |from: &mut Option<String>| {
            // The mesh itself is the first of all that is in it.
            let key = Key { mesh: from.take()?, kind: Kind::Mesh, parent: String::new(), name: String::new() };
            let (key, resource) = self.resources.range(key..).next()?;
            *from = Some(after(&key.mesh));
            Some(resource)
        };
        let mut from = first;
        std::iter::from_fn(move || next(&mut from)).filter(|resource| resource.key.kind == Kind::Mesh)
    }

    /// Whoever remembers a client token, and what it was used for.
    #[must_use]
    pub fn token(&self, token: &str) -> Option<(&Arc<Resource>, &TokenUse)> {
        let resource = self.resources.get(self.tokens.get(token)?)?;
        let used = resource.tokens.iter().find(|used| used.token == token)?;
        Some((resource, used))
    }
}

/// The first text that comes after this one.
fn after(name: &str) -> String {
    format!("{name}\0")
}
