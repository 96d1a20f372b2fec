//! What a proxy needs to know, compiled: the immutable, versioned intermediate form between the mesh and a data plane.
//!
//! The native proxy routes by it directly; the xDS translator turns the same value into Envoy's resources, so the two
//! data planes cannot drift apart. Everything is resolved: routes are in match order, targets point into `clusters`.
//! It deliberately holds no endpoints: those come from discovery and change on another clock.

pub mod extension;
mod gateway;
mod log_format;
mod own;
mod pattern;
mod tls;

pub use extension::{Extensions, NodeExtensions};
pub use gateway::{GatewayHost, PORT_HEADER, SERVICE_HEADER, gateway_hosts};
pub use log_format::{FormatPiece, format_pieces};
pub use own::{
    AccessLog, AppAddress, GatewayRoute, GatewayTarget, HostMatch, Listener, LogFormat, Own, PathRewrite, Pool, Role,
};
pub use pattern::Pattern;
pub use tls::{Certificate, ServerTls, ServerTlsMode, Trust, UpstreamTls};

use crate::base::fuse::RouteFuse;
use crate::base::ids::{NodeName, RouteRef};
use crate::base::time::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Configuration of one proxy: what a virtual node sees of its mesh.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Rises with every change that this node can see.
    pub version: u64,
    /// Virtual services by name, which is the Host (without port, lower case) that chooses them.
    pub services: BTreeMap<String, Arc<VirtualService>>,
    /// Virtual nodes that a route of a visible service may choose, by [`ClusterKey`].
    #[serde(with = "by_key")]
    pub clusters: BTreeMap<ClusterKey, Arc<Cluster>>,
    /// What the proxy itself is: the virtual node beside which it runs, or a virtual gateway. `None` for the egress of
    /// local mode, which is nobody's sidecar, and for a node that does not exist (yet).
    pub own: Option<Arc<Own>>,
    /// Virtual gateways that the proxy is beside nobody's sidecar: all of local mode's. No two of them have a listener on the same
    /// port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<Arc<Own>>,
}

/// Names a cluster: a virtual node of a mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterKey {
    /// Name of the mesh.
    pub mesh: String,
    /// Name of the virtual node.
    pub node: NodeName,
}

/// A virtual service: its routes in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VirtualService {
    /// Name of the mesh.
    pub mesh: String,
    /// Name of the service.
    pub name: String,
    /// Ports that callers use, in the order of the router's listeners, or of the node's where a node provides it. Empty
    /// while nothing does.
    pub ports: Vec<ServicePort>,
    /// First match wins; none matching is a 404.
    pub routes: Vec<Arc<Route>>,
}

/// A port on which a virtual service is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServicePort {
    /// The port.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
}

/// A route: what it matches and where its requests go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Names the route. For a service whose provider is a node, the router is empty and the route is the service's name.
    pub id: RouteRef,
    /// The route's metadata version: every request is counted under it.
    pub version: u64,
    /// What it routes; connections for [`Protocol::Tcp`], else requests.
    pub protocol: Protocol,
    /// What it matches; all must hold.
    pub matches: RouteMatch,
    /// Where requests go, by independent draw in proportion to the weights. Total weight is above zero.
    pub targets: Vec<Target>,
    /// Time allowed for the whole request, retries included; `None` for no limit. App Mesh's default is 15 s.
    pub request_timeout: Option<Millis>,
    /// How long a request or connection may be silent; `None` for no limit. App Mesh's default is 300 s.
    pub idle_timeout: Option<Millis>,
    /// Retries allowed after the first try, by App Mesh's default policy or the route's own.
    pub retry: RetryPolicy,
    /// Weights of the targets for when nobody renews those that it has; `None` where they are for good.
    pub fallback: Option<Vec<u32>>,
    /// What it does beyond App Mesh; `None` for most routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Box<Extensions>>,
    /// What the proxy watches a release by; `None` where nobody asked for that. Envoys have nothing like it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuse: Option<Box<RouteFuse>>,
}

impl NodeConfig {
    /// The virtual gateways that the proxy is, with their routes: itself, or those of local mode.
    pub fn all_gateways(&self) -> impl Iterator<Item = (&Own, &[Arc<GatewayRoute>])> {
        self.own.iter().chain(&self.gateways).filter_map(|own| match &own.role {
            Role::Gateway(routes) => Some((&**own, &routes[..])),
            Role::Node => None,
        })
    }

    /// What is left of it for a proxy that kept it and cannot know how old it is: weights that somebody had to renew are
    /// those of their fallback. Requests are counted under version 0 then, which no route ever has, so that nobody takes
    /// this proxy for one that knows of a change.
    #[must_use]
    pub fn lapsed(mut self) -> Self {
        for service in self.services.values_mut() {
            if service.routes.iter().all(|route| route.fallback.is_none()) {
                continue;
            }
            for route in &mut Arc::make_mut(service).routes {
                let Some(fallback) = route.fallback.clone() else { continue };
                let route = Arc::make_mut(route);
                route.version = 0;
                for (target, weight) in route.targets.iter_mut().zip(fallback) {
                    target.weight = weight;
                }
            }
        }
        self
    }
}

/// Clusters as a list: each names its key.
mod by_key {
    use crate::mesh::snapshot::{Cluster, ClusterKey};
    use serde::{Deserialize, Deserializer, Serializer};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    pub(super) fn serialize<S: Serializer>(
        clusters: &BTreeMap<ClusterKey, Arc<Cluster>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(clusters.values())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<ClusterKey, Arc<Cluster>>, D::Error> {
        let clusters = Vec::<Arc<Cluster>>::deserialize(deserializer)?;
        Ok(clusters.into_iter().map(|cluster| (cluster.key.clone(), cluster)).collect())
    }
}

/// Conditions on a request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RouteMatch {
    /// On the path without its query.
    pub path: PathMatch,
    /// Method, upper case; `None` for any.
    pub method: Option<String>,
    /// On headers.
    pub headers: Vec<HeaderMatch>,
    /// On query parameters.
    pub query: Vec<QueryMatch>,
    /// Port of the service that the request was sent to; `None` for any.
    pub port: Option<u16>,
    /// `http` or `https`; `None` for any.
    pub scheme: Option<String>,
    /// Only gRPC (its content type).
    pub grpc: bool,
}

/// Condition on a header. Repeated headers are one, joined by commas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Name in lower case.
    pub name: String,
    /// On its value.
    pub value: ValueMatch,
    /// Turns it round: a value that is there and does not fit, or for [`ValueMatch::Present`] no header at all.
    pub invert: bool,
}

/// Condition on a query parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryMatch {
    /// Name, case-sensitive.
    pub name: String,
    /// The whole value of its first occurrence; `None` when it only has to be there.
    pub exact: Option<String>,
}

/// Condition on a text, case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueMatch {
    /// Any text.
    Present,
    /// The whole text.
    Exact(String),
    /// Its start.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// A decimal number in `[start, end)`.
    Range {
        /// First inside.
        start: i64,
        /// First after.
        end: i64,
    },
    /// The whole text, by a regular expression.
    Regex(Pattern),
}

impl RouteMatch {
    /// A match that no request fulfils, for routes whose conditions this version cannot check: matching too little is
    /// seen at once, matching too much sends requests where they must not go. No request has an empty method.
    #[must_use]
    pub fn never() -> Self {
        Self { path: PathMatch::Exact(String::new()), method: Some(String::new()), ..Self::default() }
    }

    /// Whether it is [`RouteMatch::never`].
    #[must_use]
    pub fn is_never(&self) -> bool {
        self.method.as_deref() == Some("")
    }
}

/// Condition on the path without its query, case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PathMatch {
    /// Any path.
    #[default]
    Any,
    /// Plain string prefix: `/foo` matches `/foobar` too, as App Mesh has it.
    Prefix(String),
    /// The whole path.
    Exact(String),
    /// The whole path, by a regular expression.
    Regex(Pattern),
}

/// One weighted target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The virtual node.
    pub cluster: ClusterKey,
    /// Port on its endpoints.
    pub port: u16,
    /// Relative weight; 0 gets nothing.
    pub weight: u32,
}

/// Which failures are tried again, on another endpoint where there is one. The default tries nothing again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Retries after the first try.
    pub max_retries: u32,
    /// Time allowed for each try.
    pub per_try_timeout: Option<Millis>,
    /// Connection refused or failed before any byte was sent.
    pub on_connect_failure: bool,
    /// Connection reset before an answer's head.
    pub on_reset: bool,
    /// HTTP/2 stream refused before it was looked at.
    pub on_refused_stream: bool,
    /// Statuses that are tried again.
    pub statuses: Vec<u16>,
    /// gRPC statuses that are tried again, by Envoy's and App Mesh's words: `unavailable`.
    pub grpc: Vec<String>,
}

/// A virtual node as a target: how its endpoints are found and watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Names it.
    pub key: ClusterKey,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// What it listens on, in the order of the spec; empty for a node without listeners, which is never connected to.
    pub ports: Vec<ClusterPort>,
    /// What it has beyond App Mesh.
    #[serde(default, skip_serializing_if = "NodeExtensions::is_empty")]
    pub extensions: NodeExtensions,
}

impl Cluster {
    /// The listener with this port.
    #[must_use]
    pub fn at(&self, port: u16) -> Option<&ClusterPort> {
        self.ports.iter().find(|listener| listener.port == port)
    }

    /// Port of the first listener; 0 without one.
    #[must_use]
    pub fn first_port(&self) -> u16 {
        self.ports.first().map_or(0, |listener| listener.port)
    }
}

/// A listener of a virtual node, as those see it who call the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterPort {
    /// The port.
    pub port: u16,
    /// Protocol spoken to it.
    pub protocol: Protocol,
    /// Active health check; `None` takes every endpoint as healthy.
    pub health_check: Option<HealthCheck>,
    /// Which endpoints are left out for a while, for what they answered; `None` for none.
    pub outlier: Option<OutlierDetection>,
    /// How connections to it are secured; `None` for plain ones.
    pub tls: Option<UpstreamTls>,
}

/// A plain listener, for tests and for nodes without anything special.
impl ClusterPort {
    /// One without checks and TLS.
    #[must_use]
    pub const fn plain(port: u16, protocol: Protocol) -> Self {
        Self { port, protocol, health_check: None, outlier: None, tls: None }
    }
}

/// When an endpoint is left out for what it answered (App Mesh API 2019-01-25, `OutlierDetection`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// Server errors (or failed connections) in a row that throw it out.
    pub max_server_errors: u32,
    /// Time between looks at who may come back.
    pub interval: Millis,
    /// Shortest time out; multiplied by how often it was thrown out.
    pub base_ejection: Millis,
    /// Share of a node's endpoints that may be out, in percent.
    pub max_ejection_percent: u8,
}

/// Which of a name's or an instance's addresses are used (App Mesh API 2019-01-25, `IpPreference`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum IpPreference {
    /// Nobody said: App Mesh's behaviour before there was a choice.
    #[default]
    Unset,
    /// IPv4 where there is one, else IPv6.
    V4Preferred,
    /// IPv6 where there is one, else IPv4.
    V6Preferred,
    /// IPv4 alone.
    V4Only,
    /// IPv6 alone.
    V6Only,
}

/// Where a virtual node's endpoints come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Discovery {
    /// None: the node cannot be a target that answers.
    None,
    /// A name to resolve (or an address).
    Dns {
        /// The name.
        hostname: String,
        /// Whether every address of it is an endpoint of its own (`ENDPOINTS`), or the name stands for a load balancer
        /// of which one address is as good as another (`LOADBALANCER`).
        each_address: bool,
        /// Which of its addresses are used.
        preference: IpPreference,
    },
    /// AWS Cloud Map, or the discovery file that stands in for it.
    CloudMap {
        /// Namespace name.
        namespace: String,
        /// Service name.
        service: String,
        /// Attributes that an instance must carry.
        attributes: BTreeMap<String, String>,
        /// Which address of an instance is used.
        preference: IpPreference,
    },
}

impl Discovery {
    /// By a name, without a preference; see [`Discovery::Dns`].
    #[must_use]
    pub fn by_name(hostname: impl Into<String>, each_address: bool) -> Self {
        Self::Dns { hostname: hostname.into(), each_address, preference: IpPreference::Unset }
    }

    /// In Cloud Map, without a preference; see [`Discovery::CloudMap`].
    #[must_use]
    pub fn in_cloud_map(
        namespace: impl Into<String>,
        service: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) -> Self {
        let (namespace, service) = (namespace.into(), service.into());
        Self::CloudMap { namespace, service, attributes, preference: IpPreference::Unset }
    }
}

/// Protocol of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// App Mesh's word for it, as in names of clusters: `http2`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

/// Active health check of a node's endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Path asked for over HTTP.
    pub path: String,
    /// Protocol of the check.
    pub protocol: Protocol,
    /// Port, when it differs from the listener's.
    pub port: Option<u16>,
    /// Time between checks.
    pub interval: Millis,
    /// Time allowed for one check.
    pub timeout: Millis,
    /// Consecutive good checks that make an endpoint healthy.
    pub healthy_threshold: u32,
    /// Consecutive bad checks that make it unhealthy.
    pub unhealthy_threshold: u32,
}
