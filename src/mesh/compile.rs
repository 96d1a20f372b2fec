//! Compiles the mesh into what one proxy needs to know.
//!
//! Pure. Parts that are equal to those of the last configuration keep their `Arc`, so that a comparison of pointers
//! shows what changed; the version changes only when something did.
//!
//! What this version cannot do is never done halfway: a route whose conditions cannot be checked matches nothing, and a
//! [`Problem`] says so. A tcp route is left out, likewise with a problem.
//!
//! Semantics are those of App Mesh (user guide and the configuration that it gave to Envoy): routes by priority, then
//! the longest prefix; 15 s for a request unless told otherwise; two retries unless told otherwise.

mod matching;
mod retry;

use crate::base::ids::RouteRef;
use crate::base::time::Millis;
use crate::mesh::model::spec::{
    Backend, Listener, PortProtocol, Provider, RouteSpec, ServiceDiscovery, Timeouts, VirtualNodeSpec,
};
use crate::mesh::model::{Key, Kind, MeshState, Resource};
use crate::mesh::snapshot::{
    Cluster, ClusterKey, Discovery, HealthCheck, NodeConfig, Protocol, Route, RouteMatch, Target, VirtualService,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Whose view of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// Every virtual service of every mesh: local mode's egress.
    AllServices,
    /// The backends of one virtual node.
    Node {
        /// Name of the mesh.
        mesh: String,
        /// Name of the node.
        node: String,
    },
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
}

/// Default time for a whole request (user guide, "Timeouts": "the default is 15 seconds").
const REQUEST_TIMEOUT: Millis = Millis::from_seconds(15);

/// Compiles a view. `version` is taken if something changed since `last`.
#[must_use]
pub fn compile(state: &MeshState, view: &View, last: &Arc<NodeConfig>, version: u64) -> Compiled {
    let mut compiler = Compiler { state, last, problems: BTreeSet::new(), clusters: BTreeMap::new() };
    let mut services: BTreeMap<String, Arc<VirtualService>> = BTreeMap::new();
    for resource in compiler.visible(view) {
        let name = resource.key.name.to_lowercase();
        if let Some(first) = services.get(&name) {
            let message = format!(
                "not served, because mesh {} has a virtual service of the same name; give it another name",
                first.mesh
            );
            compiler.problem(&resource.key, message);
            continue;
        }
        let service = compiler.service(resource);
        services.insert(name, service);
    }
    if *view == View::AllServices {
        for gateway in state.iter().filter(|resource| resource.key.kind == Kind::VirtualGateway) {
            compiler.problem(&gateway.key, "does not listen: virtual gateways are not in this version's data plane");
        }
    }
    let Compiler { problems, clusters, .. } = compiler;
    let same = services == last.services && clusters == last.clusters;
    let config = if same { Arc::clone(last) } else { Arc::new(NodeConfig { version, services, clusters }) };
    Compiled { config, problems: problems.into_iter().collect() }
}

struct Compiler<'a> {
    state: &'a MeshState,
    last: &'a NodeConfig,
    problems: BTreeSet<Problem>,
    clusters: BTreeMap<ClusterKey, Arc<Cluster>>,
}

impl<'a> Compiler<'a> {
    fn problem(&mut self, key: &Key, message: impl Into<String>) {
        self.problems.insert(Problem { resource: key.path(), message: message.into() });
    }

    /// Virtual services that the view shows, by mesh and name.
    fn visible(&mut self, view: &View) -> Vec<&'a Arc<Resource>> {
        match view {
            View::AllServices => {
                self.state.iter().filter(|resource| resource.key.kind == Kind::VirtualService).collect()
            }
            View::Node { mesh, node } => {
                let key = Key::child(&**mesh, Kind::VirtualNode, &**node);
                let node = self.state.get(&key).and_then(|node| node.spec.virtual_node());
                let backends = node.map_or(&[][..], |node| &node.backends);
                let keys: BTreeSet<Key> = backends.iter().map(|backend| backend_key(mesh, backend)).collect();
                // A backend that does not exist yet is simply not visible yet, as in App Mesh.
                keys.iter().filter_map(|key| self.state.get(key)).collect()
            }
        }
    }

    fn service(&mut self, resource: &Resource) -> Arc<VirtualService> {
        let key = &resource.key;
        let last = self.last.services.get(&key.name.to_lowercase());
        let routes = match resource.spec.virtual_service().and_then(|spec| spec.provider.as_ref()) {
            None => Vec::new(),
            Some(Provider::VirtualNode { virtual_node_name }) => {
                self.node_route(resource, virtual_node_name).into_iter().collect()
            }
            Some(Provider::VirtualRouter { virtual_router_name }) => self.router_routes(key, virtual_router_name),
        };
        let routes = routes.into_iter().map(|route| keep(last.and_then(|last| same_route(last, &route)), route));
        let service = VirtualService { mesh: key.mesh.clone(), name: key.name.clone(), routes: routes.collect() };
        keep(last, service)
    }

    /// A service whose provider is a node: everything goes there.
    fn node_route(&mut self, service: &Resource, node: &str) -> Option<Route> {
        let mesh = &service.key.mesh;
        let resource = self.state.get(&Key::child(&**mesh, Kind::VirtualNode, node))?;
        let listener = resource.spec.virtual_node().and_then(|spec| spec.listeners.first());
        if listener.is_some_and(|listener| listener.port_mapping.protocol == PortProtocol::Tcp) {
            self.problem(
                &service.key,
                "answers 404, because its provider listens for tcp, which is not in this version",
            );
            return None;
        }
        // For a node provider the time is the node's own (appmesh "Timeouts").
        let timeouts = listener.and_then(|listener| listener.timeout.as_ref()).map(|timeout| timeout.timeouts());
        let id = RouteRef { mesh: mesh.clone(), router: String::new(), route: service.key.name.clone() };
        Some(Route {
            id,
            version: version(service),
            matches: RouteMatch::default(),
            targets: vec![self.target(mesh, node, None, 100)],
            request_timeout: request_timeout(timeouts),
            retry: retry::default_policy(),
        })
    }

    fn router_routes(&mut self, service: &Key, router: &str) -> Vec<Route> {
        let mesh = &service.mesh;
        let listeners = self.state.get(&Key::child(&**mesh, Kind::VirtualRouter, router));
        let listeners = listeners.and_then(|router| router.spec.virtual_router()).map_or(&[][..], |r| &r.listeners);
        let mut found: Vec<(&Resource, &RouteSpec)> = self
            .state
            .children(mesh, Kind::Route, router)
            .filter_map(|route| Some((&**route, route.spec.route()?)))
            .collect();
        found.sort_by_cached_key(|(route, spec)| matching::order(&route.key.name, spec));
        let mut routes = Vec::new();
        for (resource, spec) in found {
            if spec.tcp_route.is_some() {
                self.problem(&resource.key, "left out: tcp routes are not in this version");
                continue;
            }
            let matches = match matching::conditions(spec, listeners) {
                Ok(matches) => matches,
                Err(reason) => {
                    self.problem(&resource.key, format!("matches nothing: {reason}"));
                    RouteMatch::never()
                }
            };
            routes.push(self.route(resource, spec, matches));
        }
        routes
    }

    fn route(&mut self, resource: &Resource, spec: &RouteSpec, matches: RouteMatch) -> Route {
        let key = &resource.key;
        let targets = spec.targets().iter();
        let targets =
            targets.map(|target| self.target(&key.mesh, &target.virtual_node, target.port, target.weight)).collect();
        let http = spec.http_route.as_ref().or(spec.http2_route.as_ref());
        let (timeouts, policy) = match (http, &spec.grpc_route) {
            (Some(route), _) => (route.timeout, route.retry_policy.as_ref()),
            (None, Some(route)) => (route.timeout, route.retry_policy.as_ref()),
            (None, None) => (None, None),
        };
        Route {
            id: RouteRef { mesh: key.mesh.clone(), router: key.parent.clone(), route: key.name.clone() },
            version: version(resource),
            matches,
            targets,
            request_timeout: request_timeout(timeouts),
            retry: policy.map_or_else(retry::default_policy, retry::policy),
        }
    }

    /// A target, and its cluster beside it.
    fn target(&mut self, mesh: &str, node: &str, port: Option<u16>, weight: u32) -> Target {
        let key = ClusterKey { mesh: mesh.into(), node: node.into() };
        let cluster = match self.clusters.get(&key) {
            Some(cluster) => Arc::clone(cluster),
            None => {
                let cluster = self.cluster(&key);
                self.clusters.insert(key.clone(), Arc::clone(&cluster));
                cluster
            }
        };
        Target { port: port.unwrap_or(cluster.port), cluster: key, weight }
    }

    fn cluster(&mut self, key: &ClusterKey) -> Arc<Cluster> {
        let resource = self.state.get(&Key::child(&*key.mesh, Kind::VirtualNode, &*key.node));
        let empty = VirtualNodeSpec::default();
        let spec = resource.and_then(|resource| resource.spec.virtual_node()).unwrap_or(&empty);
        let listener = spec.listeners.first();
        let mapping = listener.map(|listener| listener.port_mapping);
        let cluster = Cluster {
            key: key.clone(),
            discovery: discovery(spec),
            // Without a listener there is no discovery either, so nothing is ever connected to.
            port: mapping.map_or(0, |mapping| mapping.port),
            protocol: mapping.map_or(Protocol::Http, |mapping| protocol(mapping.protocol)),
            health_check: listener.and_then(health_check),
        };
        keep(self.last.clusters.get(key), cluster)
    }
}

/// The old value if it equals the new one.
fn keep<T: PartialEq>(last: Option<&Arc<T>>, new: T) -> Arc<T> {
    match last {
        Some(last) if **last == new => Arc::clone(last),
        _ => Arc::new(new),
    }
}

fn same_route<'l>(last: &'l VirtualService, route: &Route) -> Option<&'l Arc<Route>> {
    last.routes.iter().find(|last| last.id == route.id)
}

fn version(resource: &Resource) -> u64 {
    u64::try_from(resource.version).unwrap_or_default()
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

fn discovery(spec: &VirtualNodeSpec) -> Discovery {
    match &spec.service_discovery {
        None => Discovery::None,
        Some(ServiceDiscovery::Dns(dns)) => Discovery::Dns { hostname: dns.hostname.clone() },
        Some(ServiceDiscovery::AwsCloudMap(map)) => Discovery::CloudMap {
            namespace: map.namespace_name.clone(),
            service: map.service_name.clone(),
            attributes: map.attribute_map(),
        },
    }
}

fn protocol(protocol: PortProtocol) -> Protocol {
    match protocol {
        PortProtocol::Http => Protocol::Http,
        PortProtocol::Http2 => Protocol::Http2,
        PortProtocol::Grpc => Protocol::Grpc,
        PortProtocol::Tcp => Protocol::Tcp,
    }
}

fn health_check(listener: &Listener) -> Option<HealthCheck> {
    let check = listener.health_check.as_ref()?;
    Some(HealthCheck {
        // Nothing says what is asked for without a path; every server has a root.
        path: check.path.clone().unwrap_or_else(|| "/".into()),
        protocol: protocol(check.protocol),
        port: check.port.filter(|port| *port != listener.port_mapping.port),
        interval: Millis(check.interval_millis),
        timeout: Millis(check.timeout_millis),
        healthy_threshold: check.healthy_threshold,
        unhealthy_threshold: check.unhealthy_threshold,
    })
}

#[cfg(test)]
mod tests;
