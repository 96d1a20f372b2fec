//! The view of all services, kept up piece by piece: what a change touches is compiled anew, and nothing else.
//!
//! A piece is a name under which services are called. What a change touches follows from who names what
//! ([`MeshState::naming`]), so nothing is noted while a piece is compiled. Pieces share clusters, which are counted.

use super::{Compiled, Compiler, Problem};
use crate::mesh::model::{Key, Kind, MeshState};
use crate::mesh::snapshot::{ClusterKey, NodeConfig, Own};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All services of all meshes.
#[derive(Debug, Clone, Default)]
pub struct Whole {
    /// As the state is; its version is that of `shown`.
    draft: NodeConfig,
    /// As somebody was shown it last.
    shown: Arc<NodeConfig>,
    /// Whether the draft has more than was shown.
    has_more: bool,
    /// Services by the name that they are called by; never empty. The first one has it.
    claims: BTreeMap<String, BTreeSet<Key>>,
    /// Clusters of the service that has a name.
    pieces: BTreeMap<String, Vec<ClusterKey>>,
    /// Virtual gateways of all meshes.
    gateways: BTreeSet<Key>,
    /// How many pieces a cluster is in; never zero.
    uses: BTreeMap<ClusterKey, usize>,
}

/// What a change came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Touched {
    /// What could not be done, by service or gateway: of each that was looked at, also where there is nothing any more.
    pub problems: BTreeMap<Key, Vec<Problem>>,
    /// How many services were compiled.
    pub compiled: usize,
}

/// All services at once, by a mesh of which nothing is known but its last configuration.
pub(super) fn compile(state: &MeshState, last: &Arc<NodeConfig>, version: u64) -> Compiled {
    let mut whole = Whole { draft: NodeConfig::clone(last), ..Whole::default() };
    let touched = whole.update(state, state.iter().map(|resource| &resource.key));
    // What is in no piece is left from before.
    let Whole { draft, pieces, uses, .. } = &mut whole;
    draft.services.retain(|name, _| pieces.contains_key(name));
    draft.clusters.retain(|key, _| uses.contains_key(key));
    let same = draft.services == last.services
        && draft.clusters == last.clusters
        && draft.gateways == last.gateways
        && last.own.is_none();
    draft.version = version;
    draft.own = None;
    let config = if same { Arc::clone(last) } else { Arc::new(whole.draft) };
    let problems: BTreeSet<Problem> = touched.problems.into_values().flatten().collect();
    Compiled { config, problems: problems.into_iter().collect(), seen: BTreeSet::new() }
}

impl Whole {
    /// Takes over that resources changed, which the state has as they are now.
    pub fn update<'k>(&mut self, state: &MeshState, changed: impl IntoIterator<Item = &'k Key>) -> Touched {
        let mut touched = Touched::default();
        let mut names = BTreeSet::new();
        for key in changed {
            match key.kind {
                Kind::VirtualGateway => {
                    if state.get(key).is_some() {
                        self.gateways.insert(key.clone());
                    } else {
                        self.gateways.remove(key);
                    }
                    // It may be gone, and then nothing below speaks of it.
                    touched.problems.insert(key.clone(), Vec::new());
                }
                Kind::VirtualService => {
                    let name = self.claim(state, key);
                    // It may be gone, and then nothing below speaks of it.
                    touched.problems.insert(key.clone(), Vec::new());
                    names.insert(name);
                }
                _ => affected(state, key, &mut names),
            }
        }
        for name in names {
            self.compile(state, name, &mut touched);
        }
        self.compile_gateways(state, &mut touched);
        touched
    }

    /// Whether there is something that was not shown.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// The configuration; of this version, if it is another one than before.
    pub fn show(&mut self, version: u64) -> Arc<NodeConfig> {
        if self.has_more {
            self.has_more = false;
            self.draft.version = version;
            self.shown = Arc::new(self.draft.clone());
        }
        Arc::clone(&self.shown)
    }

    /// Notes whether a service is there; the name that it is called by.
    fn claim(&mut self, state: &MeshState, key: &Key) -> String {
        let name = called(key);
        if state.get(key).is_some() {
            self.claims.entry(name.clone()).or_default().insert(key.clone());
        } else if let Some(claims) = self.claims.get_mut(&name) {
            claims.remove(key);
            if claims.is_empty() {
                self.claims.remove(&name);
            }
        }
        name
    }

    /// Makes the piece of a name anew.
    fn compile(&mut self, state: &MeshState, name: String, touched: &mut Touched) {
        let mut claims = self.claims.get(&name).into_iter().flatten();
        let first = claims.next().and_then(|key| state.get(key));
        for key in claims {
            touched.problems.insert(key.clone(), second(key, first.map_or("", |first| &first.key.mesh)));
        }
        let Some(first) = first else {
            self.has_more |= self.draft.services.remove(&name).is_some();
            let before = self.pieces.remove(&name).unwrap_or_default();
            return self.release(before);
        };
        let mut compiler = Compiler::new(state, &self.draft, true);
        let service = compiler.service(first);
        let Compiler { problems, clusters, .. } = compiler;
        touched.compiled += 1;
        touched.problems.insert(first.key.clone(), problems.into_iter().collect());
        // What is equal is the very same.
        let old = self.draft.services.insert(name.clone(), Arc::clone(&service));
        self.has_more |= old.is_none_or(|old| !Arc::ptr_eq(&old, &service));
        let before = self.pieces.insert(name, clusters.keys().cloned().collect()).unwrap_or_default();
        for (key, cluster) in clusters {
            *self.uses.entry(key.clone()).or_default() += 1;
            let old = self.draft.clusters.insert(key, Arc::clone(&cluster));
            self.has_more |= old.is_none_or(|old| !Arc::ptr_eq(&old, &cluster));
        }
        self.release(before);
    }

    /// Makes the gateways anew, whatever changed: they are few, and the services that they lead to are there already.
    fn compile_gateways(&mut self, state: &MeshState, touched: &mut Touched) {
        let (mut taken, mut all): (BTreeMap<u16, String>, Vec<Arc<Own>>) = Default::default();
        for key in &self.gateways {
            let is_it = |own: &&Arc<Own>| own.mesh == *key.mesh && own.name == key.name;
            let before = self.draft.gateways.iter().find(is_it).map(Arc::clone);
            let last = NodeConfig { own: before.clone(), ..NodeConfig::default() };
            let known = self.draft.services.len();
            let mut compiler = Compiler::new(state, &last, true);
            // Lent and not copied: a change may be one of thousands of services.
            compiler.services = std::mem::take(&mut self.draft.services);
            let own = compiler.gateway(&key.mesh, key);
            let Compiler { mut problems, services, .. } = compiler;
            self.draft.services = services;
            if self.draft.services.len() > known {
                // One that is not a piece yet is made when its change comes.
                self.draft.services.retain(|name, _| self.pieces.contains_key(name));
            }
            let Some(mut own) = own else { continue };
            own.listeners.retain(|listener| match taken.entry(listener.port) {
                Entry::Vacant(free) => {
                    free.insert(key.path());
                    true
                }
                Entry::Occupied(by) => {
                    problems.insert(second_port(key, listener.port, by.get()));
                    false
                }
            });
            touched.problems.insert(key.clone(), problems.into_iter().collect());
            all.push(before.filter(|before| **before == own).unwrap_or_else(|| Arc::new(own)));
        }
        self.has_more |= all != self.draft.gateways;
        self.draft.gateways = all;
    }

    /// Forgets clusters that were in a piece, where they are in no other one.
    fn release(&mut self, clusters: Vec<ClusterKey>) {
        for key in clusters {
            let Some(uses) = self.uses.get_mut(&key) else { continue };
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(&key);
                self.has_more |= self.draft.clusters.remove(&key).is_some();
            }
        }
    }
}

/// The Host that a service is called by.
fn called(service: &Key) -> String {
    service.name.to_lowercase()
}

/// Names of services that another resource has a part in.
fn affected(state: &MeshState, key: &Key, names: &mut BTreeSet<String>) {
    let provided = |provider: &Key, names: &mut BTreeSet<String>| {
        names.extend(state.naming(provider, Kind::VirtualService).map(|service| called(&service.key)));
    };
    match key.kind {
        // Its clusters are reached as the mesh says.
        Kind::Mesh => {
            let services = state.children(&key.name, Kind::VirtualService, "");
            names.extend(services.map(|service| called(&service.key)));
        }
        Kind::VirtualNode => {
            provided(key, names);
            let routers: BTreeSet<Key> = state.naming(key, Kind::Route).filter_map(|route| route.key.owner()).collect();
            routers.iter().for_each(|router| provided(router, names));
        }
        Kind::VirtualRouter => provided(key, names),
        Kind::Route => key.owner().iter().for_each(|router| provided(router, names)),
        Kind::VirtualService | Kind::VirtualGateway | Kind::GatewayRoute => {}
    }
}

/// What is wrong with a gateway's listener whose port another one has.
fn second_port(gateway: &Key, port: u16, by: &str) -> Problem {
    let message = format!(
        "the proxy of local mode does not listen on port {port} for it, because {by} does; give it another port, or run it by \
         itself (`tidegate proxy` with its name)"
    );
    Problem { resource: gateway.path(), message }
}

/// What is wrong with a service whose name another one has. Two of one mesh differ in the case of letters alone.
fn second(key: &Key, mesh: &str) -> Vec<Problem> {
    let message =
        format!("not served, because mesh {mesh} has a virtual service of the same name; give it another name");
    let problem = Problem { resource: key.path(), message };
    (mesh != key.mesh).then_some(problem).into_iter().collect()
}
