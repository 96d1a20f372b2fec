//! A node's configuration as Envoy's resources (xDS v3).
//!
//! Pure: the same values make the same bytes, and a resource's version is a digest of them. So a control plane that was
//! restarted sends nothing to a proxy which has everything already, and a change of one route's weights changes one
//! resource.
//!
//! Names of listeners, clusters and routes, and their shape, are those that App Mesh gave to its Envoys (appmesh "How an
//! Envoy was configured"), so that dashboards built on Envoy's statistics go on working.

mod access_log;
mod balance;
mod cluster;
pub mod counted;
mod extension;
mod gateway;
mod listener;
pub mod native;
mod pieces;
mod route;
mod tls;

use self::counted::CountedRoutes;
use crate::base::certificate::SecretFiles;
use crate::mesh::snapshot::{ClusterKey, NodeConfig, Role};
use envoy_types::pb::google::protobuf::Any;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

/// The types of resources that are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoint,
    /// SDS.
    Secret,
    /// LDS.
    Listener,
    /// RDS.
    Route,
    /// All of a native proxy's configuration.
    Native,
}

impl Type {
    /// All, in the order in which a proxy has to learn of them (xDS protocol, "Eventual consistency considerations"):
    /// whatever is pointed at comes before what points at it.
    pub const ALL: [Self; 6] = [Self::Cluster, Self::Endpoint, Self::Secret, Self::Listener, Self::Route, Self::Native];

    /// Its URL on the wire.
    #[must_use]
    pub const fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Native => native::URL,
        }
    }

    /// Reads a URL.
    #[must_use]
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// The short name that people use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cluster => "CDS",
            Self::Endpoint => "EDS",
            Self::Secret => "SDS",
            Self::Listener => "LDS",
            Self::Route => "RDS",
            Self::Native => "native",
        }
    }

    /// Whether a client that names nothing gets all of it, and what is missing from a full list is gone.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::Native)
    }
}

/// One resource, encoded.
#[derive(Clone, PartialEq)]
pub struct Encoded {
    /// Digest of the bytes.
    pub version: String,
    /// The message with its type.
    pub any: Any,
    /// Clusters that it points at.
    pub needs: BTreeSet<String>,
}

impl std::fmt::Debug for Encoded {
    /// Without the bytes, which may be a key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoded").field("version", &self.version).field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// The resources of one type, by name.
pub type Set = BTreeMap<String, Arc<Encoded>>;

/// Everything that a proxy is given.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resources {
    sets: BTreeMap<Type, Arc<Set>>,
    /// What the mesh says and could not be translated; sorted.
    pub problems: Vec<String>,
    /// Routes that the proxy tells of, request by request; none for one that cannot.
    pub counted: Arc<CountedRoutes>,
}

impl Resources {
    /// The resources of a type.
    #[must_use]
    pub fn of(&self, kind: Type) -> &Arc<Set> {
        static NONE: LazyLock<Arc<Set>> = LazyLock::new(Arc::default);
        self.sets.get(&kind).unwrap_or(&NONE)
    }

    fn add(&mut self, kind: Type, name: &str, any: Any) {
        self.add_pointing(kind, name, any, BTreeSet::new());
    }

    fn add_pointing(&mut self, kind: Type, name: &str, any: Any, needs: BTreeSet<String>) {
        self.put(kind, name, Encoded { version: digest(&[&any.value]), any, needs });
    }

    pub(super) fn put(&mut self, kind: Type, name: &str, encoded: Encoded) {
        Arc::make_mut(self.sets.entry(kind).or_default()).insert(name.to_owned(), Arc::new(encoded));
    }

    /// Takes over values that are equal, so that what did not change is one value in memory, and is known at a glance.
    pub fn share_with(&mut self, last: &Self) {
        Arc::make_mut(&mut self.counted).remember(&last.counted);
        for (kind, set) in &mut self.sets {
            let old = last.of(*kind);
            if **set == **old {
                *set = Arc::clone(old);
                continue;
            }
            for (name, encoded) in Arc::make_mut(set) {
                if let Some(same) = old.get(name).filter(|same| same.version == encoded.version) {
                    *encoded = Arc::clone(same);
                }
            }
        }
    }
}

/// Version of a set of resources, given by name and version in the order of names: the digest of what is in it.
pub fn version_of<'a>(set: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let parts: Vec<&[u8]> = set.flat_map(|(name, version)| [name.as_bytes(), version.as_bytes()]).collect();
    digest(&parts)
}

/// 128 bits of SHA-256 in hex: no two configurations of a mesh's life have the same.
fn digest(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut text = String::with_capacity(32);
    for byte in &hasher.finalize()[..16] {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// What a translation depends on beside the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Options {
    /// Where the proxy takes what is meant for its application; interception redirects to this port.
    pub ingress: SocketAddr,
    /// Where it takes what its application sends.
    pub egress: SocketAddr,
    /// Whether names are looked up by the control plane (from its discovery file) and not by the proxy.
    pub names_by_control_plane: bool,
    /// Whether the proxy is a native one, which routes by the configuration itself.
    pub is_native: bool,
    /// The cluster of its bootstrap by which it tells of its requests; `None` where it cannot, since Envoy takes no listener
    /// whose log goes to a cluster that it does not know.
    pub reports_to: Option<String>,
}

impl Default for Options {
    /// As App Mesh had it: ports 15000 and 15001 on every address.
    fn default() -> Self {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            ingress: SocketAddr::new(any, 15000),
            egress: SocketAddr::new(any, 15001),
            names_by_control_plane: false,
            is_native: false,
            reports_to: None,
        }
    }
}

/// Known endpoints of a node's ports.
pub type Endpoints = BTreeMap<(ClusterKey, u16), Vec<SocketAddr>>;

/// Translates a configuration. Without an own node there is nothing to say: the proxy gets no listener.
#[must_use]
pub fn translate(config: &NodeConfig, options: &Options, endpoints: &Endpoints, secrets: &SecretFiles) -> Resources {
    let mut out = Translation { config, options, secrets, resources: Resources::default() };
    let Some(own) = &config.own else { return out.resources };
    out.resources.problems.extend(access_log::problem(own));
    cluster::all(&mut out, own, endpoints);
    match &own.role {
        Role::Node => listener::node(&mut out, own),
        Role::Gateway(routes) => gateway::all(&mut out, own, routes),
    }
    out.resources.problems.sort();
    out.resources.problems.dedup();
    out.resources
}

/// A translation on its way.
struct Translation<'a> {
    config: &'a NodeConfig,
    options: &'a Options,
    secrets: &'a SecretFiles,
    resources: Resources,
}

impl Translation<'_> {
    fn problem(&mut self, message: String) {
        self.resources.problems.push(message);
    }
}

#[cfg(test)]
mod tests;
