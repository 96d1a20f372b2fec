//! What people see of a mesh that this process hosts.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The hosted mesh, for people.
pub trait MeshOverview: Send + Sync + 'static {
    /// Proxies that are connected, in the order in which they came.
    fn proxies(&self) -> Vec<ConnectedProxy>;
    /// What is wrong with the mesh as a whole, beyond what its API refuses; by resource.
    fn problems(&self) -> Vec<MeshProblem>;
}

/// Something that a mesh leaves open, or asks for in vain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MeshProblem {
    /// Path of the resource, as in an ARN: `mesh/shop/virtualRouter/r/route/x`.
    pub resource: String,
    /// What it is, and what happens instead.
    pub message: String,
}

/// A proxy that is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectedProxy {
    /// As it calls itself: an ARN or `mesh/M/virtualNode/N`.
    pub node: String,
    /// The resource that it is configured by: `mesh/M/virtualNode/N`.
    pub resource: String,
    /// Whether the mesh has that resource. One that is not there (yet) sends nothing, and a proxy keeps what it has.
    pub known: bool,
    /// Address that it calls from.
    pub peer: String,
    /// What it says it is: `envoy 1.40.0`.
    pub build: String,
    /// `state-of-the-world` or `delta`.
    pub form: &'static str,
    /// Since when.
    pub connected_at: String,
    /// Whether it tells how its requests end, so that rollouts are judged by them. Native proxies are asked instead.
    pub counted: bool,
    /// By type: `CDS`, `EDS`, `SDS`, `LDS`, `RDS`.
    pub types: BTreeMap<&'static str, TypeStanding>,
    /// What the mesh says and could not be put into its configuration.
    pub problems: Vec<String>,
}

/// Where a proxy stands with one type of resources.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TypeStanding {
    /// Version that was sent last.
    pub version: Option<String>,
    /// Version that it took last; equal to `version` when it is up to date.
    pub acknowledged: Option<String>,
    /// What it did not take, until it takes a later version. It goes on with what it took before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejection>,
}

/// A configuration that a proxy did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// The version.
    pub version: String,
    /// Why, in the proxy's words.
    pub reason: String,
}
