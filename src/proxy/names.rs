//! What Envoy calls things (appmesh "Resource names"), in logs and in counts. Pure.

use crate::mesh::snapshot::{Cluster, ClusterKey, Own, Protocol, Role, Route};

/// Name of the cluster of a node's port, as its callers see it (`egress`) or as it sees its application (`ingress`).
#[must_use]
pub fn cluster(direction: &str, key: &ClusterKey, known: Option<&Cluster>, port: u16) -> String {
    let protocol = known.and_then(|cluster| cluster.at(port)).map_or(Protocol::Http, |port| port.protocol);
    format!("cds_{direction}_{}_{}_{}_{port}", key.mesh, key.node, protocol.word())
}

/// Name of the cluster of everything that is no part of the mesh.
#[must_use]
pub fn outside_cluster(own: &Own) -> String {
    format!("cds_egress_{}_mesh-allow-all", own.mesh)
}

/// Name of the cluster of AWS's own services.
#[must_use]
pub fn aws_cluster(own: &Own) -> String {
    format!("cds_egress_{}_amazonaws", own.mesh)
}

/// Name of the cluster of the own application, of connections to its first port of them.
#[must_use]
pub fn own_connections(own: &Own) -> String {
    let port =
        own.listeners.iter().find(|listener| listener.protocol == Protocol::Tcp).map_or(0, |listener| listener.port);
    format!("cds_ingress_{}_{}_tcp_{port}", own.mesh, own.name)
}

/// Name of a route, with the version of its weights.
#[must_use]
pub fn route(route: &Route) -> String {
    if route.id.router.is_empty() {
        format!("{}@{}", route.id.route, route.version)
    } else {
        format!("{}/{}@{}", route.id.router, route.id.route, route.version)
    }
}

/// What counts of requests begin with behind `http.`, or of connections behind `tcp.`: with several listeners each has its own.
#[must_use]
pub fn prefix(direction: &str, own: &Own, protocol: Protocol, port: u16) -> String {
    if own.listeners.len() > 1 { format!("{direction}.{}.{port}", protocol.word()) } else { direction.to_owned() }
}

/// Path of the own node or gateway.
#[must_use]
pub fn resource(own: &Own) -> String {
    let kind = if matches!(own.role, Role::Node) { "virtualNode" } else { "virtualGateway" };
    format!("mesh/{}/{kind}/{}", own.mesh, own.name)
}
