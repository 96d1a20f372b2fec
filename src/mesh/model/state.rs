//! All resources of the control plane, as one value.
//!
//! `ops` reads it and answers with a list of changes; [`MeshState::commit`] applies them once they are stored. So a
//! store that fails leaves nothing half done.

use super::{Key, Kind, Resource, TokenUse};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A resource that is new, changed or (with `None`) gone.
pub type Change = (Key, Option<Arc<Resource>>);

/// Every resource by its key, and the index of remembered client tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MeshState {
    resources: BTreeMap<Key, Arc<Resource>>,
    /// Which resource remembers a token. Derived from `resources`.
    tokens: BTreeMap<String, Key>,
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
            let old = match resource {
                Some(resource) => {
                    let new_tokens: Vec<String> = resource.tokens.iter().map(|used| used.token.clone()).collect();
                    let old = self.resources.insert(key.clone(), resource);
                    self.forget(old.as_deref());
                    self.tokens.extend(new_tokens.into_iter().map(|token| (token, key.clone())));
                    continue;
                }
                None => self.resources.remove(&key),
            };
            self.forget(old.as_deref());
        }
    }

    fn forget(&mut self, old: Option<&Resource>) {
        for used in old.into_iter().flat_map(|resource| &resource.tokens) {
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

    /// All resources of a kind in a mesh, by parent and name.
    pub fn of_kind<'a>(&'a self, mesh: &'a str, kind: Kind) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.resources
            .range(Key::child(mesh, kind, "")..)
            .take_while(move |(key, _)| key.mesh == mesh && key.kind == kind)
            .map(|(_, resource)| resource)
    }

    /// The children of a router or gateway, by name.
    pub fn children<'a>(
        &'a self,
        mesh: &'a str,
        kind: Kind,
        parent: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.resources
            .range(Key::grandchild(mesh, kind, parent, "")..)
            .take_while(move |(key, _)| key.mesh == mesh && key.kind == kind && key.parent == parent)
            .map(|(_, resource)| resource)
    }

    /// The meshes, by name.
    pub fn meshes(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values().filter(|resource| resource.key.kind == Kind::Mesh)
    }

    /// Whoever remembers a client token, and what it was used for.
    #[must_use]
    pub fn token(&self, token: &str) -> Option<(&Arc<Resource>, &TokenUse)> {
        let resource = self.resources.get(self.tokens.get(token)?)?;
        let used = resource.tokens.iter().find(|used| used.token == token)?;
        Some((resource, used))
    }
}
