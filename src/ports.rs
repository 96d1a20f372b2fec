//! The seams: what the core needs from the world, as traits. Each adapter implements one; fakes implement them in tests.

use crate::base::fault::Fault;
use crate::base::tally::Report;
use crate::mesh::snapshot::Discovery;
use async_trait::async_trait;
use std::net::SocketAddr;

/// Live data-plane counts, at most a second or two old.
#[async_trait]
pub trait Telemetry: Send + Sync + 'static {
    /// The latest report of every proxy that is connected now. An empty list is silence, not "no requests".
    async fn reports(&self) -> Result<Vec<Report>, Fault>;
}

/// Rows that the mesh control plane keeps. One row is one resource (or its tombstone is its absence).
#[async_trait]
pub trait MeshStore: Send + Sync + 'static {
    /// Every stored resource as (key, JSON).
    async fn load(&self) -> Result<Vec<(String, String)>, Fault>;
    /// Writes all changes or none; `None` deletes the row.
    async fn save(&self, changes: Vec<(String, Option<String>)>) -> Result<(), Fault>;
}

/// Finds the endpoints of a virtual node.
#[async_trait]
pub trait EndpointSource: Send + Sync + 'static {
    /// Addresses now, in a stable order. An empty list means that the node has none; an error means that nobody knows,
    /// and the last known ones stay in use.
    async fn resolve(&self, discovery: &Discovery, default_port: u16) -> Result<Vec<SocketAddr>, Fault>;
}
