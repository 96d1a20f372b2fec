//! Compiles the mesh into what one proxy needs to know.
//!
//! Pure. Parts that are equal to those of the last configuration keep their `Arc`, so that a comparison of pointers
//! shows what changed; the version changes only when something did. What was looked at is kept beside the result
//! ([`Compiled::seen`]), so that a change elsewhere costs no compilation. The view of all services is larger than what a
//! change touches, so it is kept up piece by piece ([`Whole`]).
//!
//! The native proxy does not know everything yet that a mesh can say, and never does something halfway: what it leaves out, a
//! [`Problem`] of the view of all services says.
//!
//! Semantics are those of App Mesh (user guide and the configuration that it gave to Envoy): routes by priority, then
//! the longest prefix; 15 s for a request unless told otherwise; two retries unless told otherwise.

mod cluster;
mod gateway;
mod matching;
mod own;
mod retry;
mod whole;

pub use whole::{Touched, Whole};

use crate::base::fuse::RouteFuse;
use crate::base::ids::RouteRef;
use crate::base::time::Millis;
use crate::mesh::model::lease::weights;
use crate::mesh::model::spec::{
    Backend, ClientPolicy, ClientTls, Listener, PortMapping, PortProtocol, Provider, RouteSpec, Timeouts,
    VirtualNodeSpec,
};
use crate::mesh::model::{Key, Kind, MeshState, Resource};
use crate::mesh::snapshot::extension::Flaw;
use crate::mesh::snapshot::{
    Cluster, ClusterKey, NodeConfig, Own, Protocol, Route, RouteMatch, ServicePort, Target, VirtualService,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Whose view of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// Every virtual service of every mesh: local mode's egress.
    AllServices,
    /// A virtual node and its backends.
    Node {
        /// Name of the mesh.
        mesh: String,
        /// Name of the node.
        node: String,
    },
    /// A virtual gateway and what its routes lead to.
    Gateway {
        /// Name of the mesh.
        mesh: String,
        /// Name of the gateway.
        gateway: String,
    },
}

impl View {
    /// The resource whose view it is; `None` for all services.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        match self {
            Self::AllServices => None,
            Self::Node { mesh, node } => Some(Key::child(&**mesh, Kind::VirtualNode, &**node)),
            Self::Gateway { mesh, gateway } => Some(Key::child(&**mesh, Kind::VirtualGateway, &**gateway)),
        }
    }
}

/// Something in the mesh that this version cannot do, and what it does instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Path of the resource, as in an ARN: `mesh/shop/virtualRouter/r/route/x`.
    pub resource: String,
    /// What and what instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource, self.message)
    }
}

/// A configuration and what could not be put into it.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// For the proxy; the very same pointer as before when nothing changed.
    pub config: Arc<NodeConfig>,
    /// For people; sorted.
    pub problems: Vec<Problem>,
    /// What the result depends on: resources that were looked for, found or not. A router stands for its routes here, a
    /// gateway for its own.
    pub seen: BTreeSet<Key>,
}

/// Changed resources as [`Compiled::seen`] names them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changed(BTreeSet<Key>);

impl Changed {
    /// Of the keys that changed.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k Key>) -> Self {
        let stands = |key: &Key| key.owner().filter(|_| key.kind.parent().is_some()).unwrap_or_else(|| key.clone());
        Self(keys.into_iter().map(stands).collect())
    }
}

impl Compiled {
    /// Whether these changes may make another result.
    #[must_use]
    pub fn depends_on(&self, Changed(changed): &Changed) -> bool {
        let (few, many) = if changed.len() < self.seen.len() { (changed, &self.seen) } else { (&self.seen, changed) };
        few.iter().any(|key| many.contains(key))
    }
}

/// Default time for a whole request (user guide, "Timeouts": "the default is 15 seconds").
const REQUEST_TIMEOUT: Millis = Millis::from_seconds(15);
/// Default time without a byte (user guide, "Timeouts": "the default is 300 seconds"; the model's "none" is older).
const IDLE_TIMEOUT: Millis = Millis::from_seconds(300);

/// Compiles a view. `version` is taken if something changed since `last`.
#[must_use]
pub fn compile(state: &MeshState, view: &View, last: &Arc<NodeConfig>, version: u64) -> Compiled {
    let mut compiler = Compiler::new(state, last, false);
    let own = match view {
        View::AllServices => return whole::compile(state, last, version),
        View::Node { mesh, .. } => view.key().and_then(|key| compiler.node(mesh, &key)),
        View::Gateway { mesh, .. } => view.key().and_then(|key| compiler.gateway(mesh, &key)),
    };
    let own = own.map(|own| keep(last.own.as_ref(), own));
    let Compiler { problems, clusters, services, seen, .. } = compiler;
    let same = services == last.services && clusters == last.clusters && own == last.own;
    let config = if same {
        Arc::clone(last)
    } else {
        Arc::new(NodeConfig { version, services, clusters, own, gateways: Vec::new() })
    };
    Compiled { config, problems: problems.into_iter().collect(), seen }
}

struct Compiler<'a> {
    state: &'a MeshState,
    last: &'a NodeConfig,
    /// Whether it is for the native proxy, which cannot do everything.
    native: bool,
    /// The policy for TLS of the backend that is being compiled.
    policy: Option<&'a ClientTls>,
    problems: BTreeSet<Problem>,
    clusters: BTreeMap<ClusterKey, Arc<Cluster>>,
    services: BTreeMap<String, Arc<VirtualService>>,
    seen: BTreeSet<Key>,
}

impl<'a> Compiler<'a> {
    fn new(state: &'a MeshState, last: &'a NodeConfig, native: bool) -> Self {
        Self {
            state,
            last,
            native,
            policy: None,
            problems: BTreeSet::new(),
            clusters: BTreeMap::new(),
            services: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    fn problem(&mut self, key: &Key, message: impl Into<String>) {
        self.problems.insert(Problem { resource: key.path(), message: message.into() });
    }

    fn not_in_force(&mut self, key: &Key, flaws: Vec<Flaw>) {
        for flaw in flaws {
            self.problem(key, format!("{flaw}; this tag is not in force"));
        }
    }

    /// A resource, noted as one that the result depends on.
    fn look(&mut self, key: Key) -> Option<&'a Arc<Resource>> {
        let found = self.state.get(&key);
        if !self.native {
            self.seen.insert(key);
        }
        found
    }

    /// A virtual node: its backends, and itself.
    fn node(&mut self, mesh: &str, key: &Key) -> Option<Own> {
        let mesh_spec = self.look(Key::mesh(mesh))?;
        let resource = self.look(key.clone())?;
        let spec = resource.spec.virtual_node()?;
        let defaults = spec.backend_defaults.as_ref().and_then(|defaults| tls_of(defaults.client_policy.as_ref()));
        for backend in &spec.backends {
            let Backend::VirtualService(service) = backend;
            // A policy of a backend takes the place of the default one entirely (appmesh 2.19).
            self.policy = match &service.client_policy {
                Some(policy) => policy.tls.as_ref(),
                None => defaults,
            };
            // A backend that does not exist yet is simply not visible yet, as in App Mesh.
            if let Some(resource) = self.look(backend_key(mesh, backend)) {
                self.add_service(resource);
            }
        }
        Some(own::node(mesh_spec, &key.name, spec))
    }

    /// Adds a service, unless one of that name is there.
    fn add_service(&mut self, resource: &'a Resource) {
        let name = resource.key.name.to_lowercase();
        if !self.services.contains_key(&name) {
            let service = self.service(resource);
            self.services.insert(name, service);
        }
    }

    fn service(&mut self, resource: &Resource) -> Arc<VirtualService> {
        let key = &resource.key;
        let last = self.last.services.get(&key.name.to_lowercase());
        let (ports, routes) = match resource.spec.virtual_service().and_then(|spec| spec.provider.as_ref()) {
            None => Default::default(),
            Some(Provider::VirtualNode { virtual_node_name }) => self.node_routes(resource, virtual_node_name),
            Some(Provider::VirtualRouter { virtual_router_name }) => self.router_routes(key, virtual_router_name),
        };
        let last_routes = last.map(|last| by_identity(last)).unwrap_or_default();
        let routes = routes.into_iter().map(|route| keep(last_routes.get(&identity(&route)).copied(), route));
        let service =
            VirtualService { mesh: key.mesh.clone(), name: key.name.clone(), ports, routes: routes.collect() };
        keep(last, service)
    }

    /// A service whose provider is a node: everything goes there, from each of its ports to the same one.
    fn node_routes(&mut self, service: &Resource, node: &str) -> (Vec<ServicePort>, Vec<Route>) {
        let mesh = &service.key.mesh;
        let Some(resource) = self.look(Key::child(&**mesh, Kind::VirtualNode, node)) else { return Default::default() };
        let empty = VirtualNodeSpec::default();
        let listeners = &resource.spec.virtual_node().unwrap_or(&empty).listeners;
        let ports = listeners.iter().map(|listener| service_port(listener.port_mapping)).collect();
        let several = listeners.len() > 1;
        let mut routes = Vec::new();
        for listener in listeners {
            let mapping = listener.port_mapping;
            if self.native && mapping.protocol == PortProtocol::Tcp {
                let message = "answers 404, because its provider listens for tcp, and the proxy of local mode takes requests alone";
                self.problem(&service.key, message);
            }
            routes.push(self.node_route(service, node, Some(listener), several.then_some(mapping.port)));
        }
        if listeners.is_empty() {
            routes.push(self.node_route(service, node, None, None));
        }
        (ports, routes)
    }

    fn node_route(&mut self, service: &Resource, node: &str, listener: Option<&Listener>, port: Option<u16>) -> Route {
        let mesh = &service.key.mesh;
        // For a node provider the time is the node's own (appmesh "Timeouts").
        let timeouts = listener.and_then(|listener| listener.timeout.as_ref()).map(|timeout| timeout.timeouts());
        let protocol = listener.map_or(Protocol::Http, |listener| protocol(listener.port_mapping.protocol));
        Route {
            id: RouteRef { mesh: mesh.clone(), router: String::new(), route: service.key.name.clone() },
            version: version(service),
            protocol,
            matches: RouteMatch { port, ..RouteMatch::default() },
            targets: vec![self.target(mesh, node, listener.map(|listener| listener.port_mapping.port), 100)],
            request_timeout: request_timeout(timeouts),
            idle_timeout: idle_timeout(timeouts),
            retry: retry::default_policy(),
            fallback: None,
            extensions: None,
            fuse: None,
        }
    }

    fn router_routes(&mut self, service: &Key, router: &str) -> (Vec<ServicePort>, Vec<Route>) {
        let mesh = &service.mesh;
        let Some(resource) = self.look(Key::child(&**mesh, Kind::VirtualRouter, router)) else {
            return Default::default();
        };
        let listeners = resource.spec.virtual_router().map_or(&[][..], |router| &router.listeners);
        let mut found: Vec<(&Resource, &RouteSpec)> = self
            .state
            .children(mesh, Kind::Route, router)
            .filter_map(|route| Some((&**route, route.spec.route()?)))
            .collect();
        found.sort_by_cached_key(|(route, spec)| matching::order(&route.key.name, spec));
        let mut routes = Vec::new();
        for (resource, spec) in found {
            let matches = match matching::conditions(spec, listeners) {
                Ok(matches) => matches,
                Err(reason) => {
                    self.problem(&resource.key, format!("matches nothing: {reason}"));
                    RouteMatch::never()
                }
            };
            if self.native && spec.tcp_route.is_some() {
                self.problem(
                    &resource.key,
                    "left out: the proxy of local mode takes requests alone (`tidegate proxy` carries connections)",
                );
                continue;
            }
            routes.push(self.route(resource, spec, matches));
        }
        (listeners.iter().map(|listener| service_port(listener.port_mapping)).collect(), routes)
    }

    fn route(&mut self, resource: &Resource, spec: &RouteSpec, matches: RouteMatch) -> Route {
        let key = &resource.key;
        let (extensions, flaws) = spec.extensions(&resource.tags);
        self.not_in_force(key, flaws);
        let targets = spec.targets().iter();
        let targets =
            targets.map(|target| self.target(&key.mesh, &target.virtual_node, target.port, target.weight)).collect();
        let http = spec.http_route.as_ref().or(spec.http2_route.as_ref());
        let (timeouts, policy) = match (http, &spec.grpc_route, &spec.tcp_route) {
            (Some(route), ..) => (route.timeout, route.retry_policy.as_ref()),
            (None, Some(route), _) => (route.timeout, route.retry_policy.as_ref()),
            (None, None, Some(route)) => (route.timeout, None),
            (None, None, None) => (None, None),
        };
        let protocol = match spec.member() {
            "httpRoute" => Protocol::Http,
            "http2Route" => Protocol::Http2,
            "grpcRoute" => Protocol::Grpc,
            _ => Protocol::Tcp,
        };
        Route {
            id: RouteRef { mesh: key.mesh.clone(), router: key.parent.clone(), route: key.name.clone() },
            version: version(resource),
            protocol,
            matches,
            targets,
            request_timeout: request_timeout(timeouts),
            idle_timeout: idle_timeout(timeouts),
            retry: policy.map_or_else(retry::default_policy, retry::policy),
            fallback: resource.lease.as_ref().map(|lease| weights(&lease.fallback, spec.targets()).collect()),
            extensions,
            fuse: resource.fuse.clone().map(|fuse| {
                let lapses_after = resource.lease.as_ref().map(|lease| lease.span);
                Box::new(RouteFuse { fuse, lapses_after })
            }),
        }
    }

    /// A target, and its cluster beside it.
    fn target(&mut self, mesh: &str, node: &str, port: Option<u16>, weight: u32) -> Target {
        let key = ClusterKey { mesh: mesh.into(), node: node.into() };
        let resource = self.look(Key::child(&*key.mesh, Kind::VirtualNode, &*key.node));
        let (cluster, flaws) =
            cluster::cluster(&key, resource.map(|resource| &**resource), self.mesh_spec(mesh), self.policy);
        if let Some(resource) = resource {
            self.not_in_force(&resource.key, flaws);
        }
        let cluster = match self.clusters.get(&key) {
            Some(first) => {
                let first = Arc::clone(first);
                if *first != cluster {
                    let key = Key::child(&*key.mesh, Kind::VirtualNode, &*key.node);
                    let message = "is reached by backends with different policies for TLS; the first one is in force";
                    self.problem(&key, message);
                }
                first
            }
            None => {
                let cluster = keep(self.last.clusters.get(&key), cluster);
                self.clusters.insert(key.clone(), Arc::clone(&cluster));
                cluster
            }
        };
        Target { port: port.unwrap_or(cluster.first_port()), cluster: key, weight }
    }

    fn mesh_spec(&self, mesh: &str) -> Option<&'a Resource> {
        self.state.get(&Key::mesh(mesh)).map(|mesh| &**mesh)
    }
}

/// The old value if it equals the new one.
fn keep<T: PartialEq>(last: Option<&Arc<T>>, new: T) -> Arc<T> {
    match last {
        Some(last) if **last == new => Arc::clone(last),
        _ => Arc::new(new),
    }
}

/// What tells the routes of a service apart.
fn identity(route: &Route) -> (String, Option<u16>) {
    (route.id.route.clone(), route.matches.port)
}

fn by_identity(service: &VirtualService) -> BTreeMap<(String, Option<u16>), &Arc<Route>> {
    service.routes.iter().map(|route| (identity(route), route)).collect()
}

fn version(resource: &Resource) -> u64 {
    u64::try_from(resource.version).unwrap_or_default()
}

fn tls_of(policy: Option<&ClientPolicy>) -> Option<&ClientTls> {
    policy.and_then(|policy| policy.tls.as_ref())
}

/// A backend is named by its service's name or ARN (appmesh "Referential rules").
fn backend_key(mesh: &str, backend: &Backend) -> Key {
    let Backend::VirtualService(backend) = backend;
    Key::of_backend(mesh, &backend.virtual_service_name)
}

fn request_timeout(timeouts: Option<Timeouts>) -> Option<Millis> {
    match timeouts.and_then(|timeouts| timeouts.per_request) {
        None => Some(REQUEST_TIMEOUT),
        // "0" switches the limit off (user guide, "Timeouts").
        Some(span) => Some(span.millis()).filter(|millis| millis.0 > 0),
    }
}

fn idle_timeout(timeouts: Option<Timeouts>) -> Option<Millis> {
    match timeouts.and_then(|timeouts| timeouts.idle) {
        None => Some(IDLE_TIMEOUT),
        Some(span) => Some(span.millis()).filter(|millis| millis.0 > 0),
    }
}

fn service_port(mapping: PortMapping) -> ServicePort {
    ServicePort { port: mapping.port, protocol: protocol(mapping.protocol) }
}

fn protocol(protocol: PortProtocol) -> Protocol {
    match protocol {
        PortProtocol::Http => Protocol::Http,
        PortProtocol::Http2 => Protocol::Http2,
        PortProtocol::Grpc => Protocol::Grpc,
        PortProtocol::Tcp => Protocol::Tcp,
    }
}

#[cfg(test)]
mod tests;
