//! What a mesh leaves open: names of what is not there (yet), and nodes that say nowhere where they are.
//!
//! All of it is taken, since setting a mesh up goes through such states, and each says what happens meanwhile. What is
//! named later works at once: nothing is bound when it is named.

use super::{virtual_node, virtual_service};
use crate::mesh::model::spec::{Backend, Spec};
use crate::mesh::model::{Key, MeshState, Resource};

/// Something that is left open, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unresolved {
    /// The resource that leaves it open.
    pub key: Key,
    /// The member: `spec.provider.virtualRouter.virtualRouterName`.
    pub path: String,
    /// What, and what happens meanwhile.
    pub message: String,
}

/// All that a state leaves open, by resource.
#[must_use]
pub fn unresolved(state: &MeshState) -> Vec<Unresolved> {
    state.iter().flat_map(|resource| unresolved_of(state, resource)).collect()
}

/// What one resource leaves open, in the order of its spec.
#[must_use]
pub fn unresolved_of(state: &MeshState, resource: &Resource) -> Vec<Unresolved> {
    let key = &resource.key;
    let open = |path: String, message: String| Unresolved { key: key.clone(), path, message };
    let mut found = Vec::new();
    match &resource.spec {
        Spec::VirtualService(spec) => {
            if let Some((provider, path)) = virtual_service::provider(key, spec)
                && state.get(&provider).is_none()
            {
                let what = provider.describe();
                found.push(open(path, format!("{what} does not exist yet; until it does, requests are answered 404")));
            }
        }
        Spec::VirtualNode(spec) => {
            if virtual_node::lacks_discovery(spec) {
                let message = "is missing, so nothing says where the node is; until it is there, requests to the node \
                               are answered 503";
                found.push(open(virtual_node::DISCOVERY.into(), message.into()));
            }
            for (at, Backend::VirtualService(backend)) in spec.backends.iter().enumerate() {
                let service = Key::of_backend(&key.mesh, &backend.virtual_service_name);
                if state.get(&service).is_none() {
                    let path = format!("spec.backends[{at}].virtualService.virtualServiceName");
                    let what = service.describe();
                    found
                        .push(open(path, format!("{what} does not exist yet; until it does, the node cannot call it")));
                }
            }
        }
        Spec::Mesh(_) | Spec::VirtualRouter(_) | Spec::Route(_) | Spec::VirtualGateway(_) | Spec::GatewayRoute(_) => {}
    }
    found
}
