//! The words of App Mesh: kinds of resources, how they are named, and what is remembered about each.
//!
//! Values only. A [`Resource`] holds its spec twice: as it was sent, because the API echoes it (App Mesh API
//! 2019-01-25, appmesh "Spec echo"), and typed, because the compiler and the checks read it. The two are made together
//! by `ops` and never changed apart. Rules about what is allowed live in `validate` and `ops`, shapes on the wire in
//! `wire`.

mod index;
pub mod lease;
mod request;
pub mod spec;
mod state;

pub use lease::Extensions;
pub use request::{Page, Reply, Request, Status};
pub use spec::Spec;
pub use state::{Change, MeshState};

use self::lease::{Lapsed, Lease, Term};
use crate::base::fuse::Fuse;
use crate::base::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// The seven kinds of resources (App Mesh API 2019-01-25). Ordered as a dependency order for creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A service mesh: the space in which all the other names live.
    Mesh,
    /// A group of endpoints, for example one version of a service.
    VirtualNode,
    /// Holds the routes of a service.
    VirtualRouter,
    /// Distributes requests to virtual nodes; child of a virtual router.
    Route,
    /// The name that clients call; provided by a router or by a node.
    VirtualService,
    /// Lets traffic in from outside the mesh.
    VirtualGateway,
    /// Chooses the virtual service for requests at a gateway; child of a virtual gateway.
    GatewayRoute,
}

impl Kind {
    /// All kinds, parents before children.
    pub const ALL: [Self; 7] = [
        Self::Mesh,
        Self::VirtualNode,
        Self::VirtualRouter,
        Self::Route,
        Self::VirtualService,
        Self::VirtualGateway,
        Self::GatewayRoute,
    ];

    /// Member and path word of the API: `virtualNode`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::VirtualNode => "virtualNode",
            Self::VirtualRouter => "virtualRouter",
            Self::Route => "route",
            Self::VirtualService => "virtualService",
            Self::VirtualGateway => "virtualGateway",
            Self::GatewayRoute => "gatewayRoute",
        }
    }

    /// Member that holds a list of them, and the last word of their path: `virtualNodes`.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Mesh => "meshes",
            Self::VirtualNode => "virtualNodes",
            Self::VirtualRouter => "virtualRouters",
            Self::Route => "routes",
            Self::VirtualService => "virtualServices",
            Self::VirtualGateway => "virtualGateways",
            Self::GatewayRoute => "gatewayRoutes",
        }
    }

    /// Member that holds the name: `virtualNodeName`.
    #[must_use]
    pub const fn name_member(self) -> &'static str {
        match self {
            Self::Mesh => "meshName",
            Self::VirtualNode => "virtualNodeName",
            Self::VirtualRouter => "virtualRouterName",
            Self::Route => "routeName",
            Self::VirtualService => "virtualServiceName",
            Self::VirtualGateway => "virtualGatewayName",
            Self::GatewayRoute => "gatewayRouteName",
        }
    }

    /// Word of the API's messages: `VirtualNode`.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Mesh => "Mesh",
            Self::VirtualNode => "VirtualNode",
            Self::VirtualRouter => "VirtualRouter",
            Self::Route => "Route",
            Self::VirtualService => "VirtualService",
            Self::VirtualGateway => "VirtualGateway",
            Self::GatewayRoute => "GatewayRoute",
        }
    }

    /// The kind between it and the mesh, for the two kinds that have one.
    #[must_use]
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self::Route => Some(Self::VirtualRouter),
            Self::GatewayRoute => Some(Self::VirtualGateway),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Names one resource. Ordered by mesh, kind, parent and name, so that the children of one parent are neighbours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Name of the mesh; for a mesh the same as `name`.
    pub mesh: String,
    /// What it is.
    pub kind: Kind,
    /// Name of the router of a route or the gateway of a gateway route; empty for other kinds.
    pub parent: String,
    /// Its own name.
    pub name: String,
}

impl Key {
    /// Names a mesh.
    pub fn mesh(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { mesh: name.clone(), kind: Kind::Mesh, parent: String::new(), name }
    }

    /// Names a resource that hangs directly on a mesh.
    pub fn child(mesh: impl Into<String>, kind: Kind, name: impl Into<String>) -> Self {
        Self { mesh: mesh.into(), kind, parent: String::new(), name: name.into() }
    }

    /// Names a route of a router, or a gateway route of a gateway.
    pub fn grandchild(mesh: &str, kind: Kind, parent: &str, name: &str) -> Self {
        Self { mesh: mesh.into(), kind, parent: parent.into(), name: name.into() }
    }

    /// The resource that must exist before this one: the router, the gateway or the mesh; none for a mesh.
    #[must_use]
    pub fn owner(&self) -> Option<Self> {
        match (self.kind, self.kind.parent()) {
            (Kind::Mesh, _) => None,
            (_, Some(parent)) => Some(Self::child(&*self.mesh, parent, &*self.parent)),
            (_, None) => Some(Self::mesh(&*self.mesh)),
        }
    }

    /// The part of the ARN after the account (App Mesh API 2019-01-25): `mesh/m/virtualRouter/r/route/x`.
    #[must_use]
    pub fn path(&self) -> String {
        match (self.kind, self.kind.parent()) {
            (Kind::Mesh, _) => format!("mesh/{}", self.mesh),
            (kind, Some(parent)) => format!("mesh/{}/{parent}/{}/{kind}/{}", self.mesh, self.parent, self.name),
            (kind, None) => format!("mesh/{}/{kind}/{}", self.mesh, self.name),
        }
    }

    /// Reads what [`Key::path`] writes. A slash in the name of a virtual service is part of the name.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("mesh/")?;
        let Some((mesh, rest)) = rest.split_once('/') else { return Some(Self::mesh(rest)) };
        let (word, rest) = rest.split_once('/')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word && *kind != Kind::Mesh)?;
        for (parent, child) in [(Kind::VirtualRouter, Kind::Route), (Kind::VirtualGateway, Kind::GatewayRoute)] {
            if kind == parent
                && let Some((name, tail)) = rest.split_once('/')
            {
                let (word, child_name) = tail.split_once('/')?;
                return (word == child.word()).then(|| Self::grandchild(mesh, child, name, child_name));
            }
        }
        kind.parent().is_none().then(|| Self::child(mesh, kind, rest))
    }

    /// Names the virtual service that a node in `mesh` calls by this name; it may be an ARN (user guide, "Virtual nodes").
    #[must_use]
    pub fn of_backend(mesh: &str, name: &str) -> Self {
        let by_arn = name.starts_with("arn:").then(|| name.splitn(6, ':').nth(5).and_then(Self::from_path)).flatten();
        // One of another mesh is of somebody else: whoever may follow this mesh may not follow that one.
        by_arn.filter(|key| key.mesh == mesh).unwrap_or_else(|| Self::child(mesh, Kind::VirtualService, name))
    }

    /// As people name it: `route checkout-router/checkout`.
    #[must_use]
    pub fn describe(&self) -> String {
        if self.parent.is_empty() {
            format!("{} {}", self.kind, self.name)
        } else {
            format!("{} {}/{}", self.kind, self.parent, self.name)
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// A use of a client token, kept so that the same request repeated gets the same answer (App Mesh API 2019-01-25,
/// `clientToken`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenUse {
    /// The token.
    pub token: String,
    /// SHA-256 in hex of the request that carried it.
    pub fingerprint: String,
    /// Version that the request made.
    pub version: i64,
    /// When it made it.
    pub at: Timestamp,
}

/// How many client tokens a resource remembers. A client repeats its last request, or the one before when two of its
/// workers race; four leave room, and keep a row small.
pub const TOKENS_KEPT: usize = 4;

/// One resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Names it.
    pub key: Key,
    /// Amazon resource name, fixed at creation.
    pub arn: String,
    /// UUID, fixed at creation: a resource deleted and created anew gets another.
    pub uid: String,
    /// 1 at creation, one more with each update.
    pub version: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub last_updated_at: Timestamp,
    /// The spec as it was sent, with `healthCheck.port` filled in.
    pub raw: Value,
    /// The same spec, typed.
    pub spec: Spec,
    /// Tags by key.
    pub tags: BTreeMap<String, String>,
    /// Highest `x-tidegate-generation` seen on an update of a route; an update with a lower one is stale.
    pub generation: Option<u64>,
    /// The lease under which a route has its weights.
    pub lease: Option<Lease>,
    /// That its lease ran out, while it has the weights of the fallback.
    pub lapsed: Option<Lapsed>,
    /// `x-tidegate-fuse` of a route.
    pub fuse: Option<Fuse>,
    /// Latest client tokens, oldest first, at most [`TOKENS_KEPT`].
    pub tokens: Vec<TokenUse>,
}

/// What is stored of a resource: one row. The format carries its version, so that a later one can read it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    format: u32,
    key: Key,
    arn: String,
    uid: String,
    version: i64,
    created_at: Timestamp,
    last_updated_at: Timestamp,
    spec: Value,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<Lease>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lapsed: Option<Lapsed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fuse: Option<KeptFuse>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<TokenUse>,
}

/// A fuse in a row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum KeptFuse {
    Whole(Fuse),
    /// Of 0.1.0, which kept a number of failures and did nothing with it.
    Number(u32),
}

impl KeptFuse {
    fn whole(self) -> Option<Fuse> {
        match self {
            Self::Whole(fuse) => Some(fuse),
            Self::Number(_) => None,
        }
    }
}

/// The row format that this version writes and reads.
const RECORD_FORMAT: u32 = 1;

impl Resource {
    /// Names the lease that it has now; `None` where it has none.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        let lease = self.lease.as_ref()?;
        Some(Term { uid: self.uid.clone(), version: self.version, renewals: lease.renewals })
    }

    /// The row that stores it.
    #[must_use]
    pub fn to_row(&self) -> String {
        let record = Record {
            format: RECORD_FORMAT,
            key: self.key.clone(),
            arn: self.arn.clone(),
            uid: self.uid.clone(),
            version: self.version,
            created_at: self.created_at,
            last_updated_at: self.last_updated_at,
            spec: self.raw.clone(),
            tags: self.tags.clone(),
            generation: self.generation,
            lease: self.lease.clone(),
            lapsed: self.lapsed,
            fuse: self.fuse.clone().map(KeptFuse::Whole),
            tokens: self.tokens.clone(),
        };
        // Strings, numbers and maps with string keys: nothing in it can fail to become JSON.
        serde_json::to_string(&record).unwrap_or_default()
    }

    /// Reads a row back; the error says what is wrong with it.
    pub fn from_row(row: &str) -> Result<Self, String> {
        let record: Record = serde_json::from_str(row).map_err(|error| error.to_string())?;
        if record.format != RECORD_FORMAT {
            return Err(format!("row format {} is not known, only {RECORD_FORMAT}", record.format));
        }
        let spec = Spec::read(record.key.kind, &record.spec)?;
        Ok(Self {
            key: record.key,
            arn: record.arn,
            uid: record.uid,
            version: record.version,
            created_at: record.created_at,
            last_updated_at: record.last_updated_at,
            raw: record.spec,
            spec,
            tags: record.tags,
            generation: record.generation,
            lease: record.lease,
            lapsed: record.lapsed,
            fuse: record.fuse.and_then(KeptFuse::whole),
            tokens: record.tokens,
        })
    }
}

/// How many resources of each kind are allowed (App Mesh service quotas, as of 2022). The ten weighted targets of a
/// route are not here because the API's model fixes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Meshes in the account.
    pub meshes: usize,
    /// Virtual nodes, virtual routers and virtual services in a mesh, each.
    pub per_mesh: usize,
    /// Routes of a virtual router.
    pub routes_per_router: usize,
    /// Backends of a virtual node.
    pub backends_per_node: usize,
    /// Virtual gateways in a mesh.
    pub gateways_per_mesh: usize,
    /// Gateway routes of a virtual gateway.
    pub routes_per_gateway: usize,
}

impl Quotas {
    /// The defaults of AWS accounts.
    pub const AWS: Self = Self {
        meshes: 15,
        per_mesh: 200,
        routes_per_router: 50,
        backends_per_node: 50,
        gateways_per_mesh: 3,
        routes_per_gateway: 10,
    };

    /// Off, for whoever never had to ask AWS for more: only the bound that keeps a mesh in memory. Ten thousand of each
    /// kind are about 100 MB.
    pub const OFF: Self = Self {
        meshes: 10_000,
        per_mesh: 10_000,
        routes_per_router: 10_000,
        backends_per_node: 10_000,
        gateways_per_mesh: 10_000,
        routes_per_gateway: 10_000,
    };
}
