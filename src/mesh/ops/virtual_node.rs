//! Virtual nodes: what routes that send to one ask of it, and what keeps it from being deleted.
//!
//! Backends are not looked up: nodes may be created before the services that they call, and cycles are fine (appmesh
//! "Referential rules").

use super::Op;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::spec::VirtualNodeSpec;
use crate::mesh::model::{Key, Kind};

/// The member that says where a node is.
pub(super) const DISCOVERY: &str = "spec.serviceDiscovery";

/// Whether it listens, but nothing says where.
pub(super) fn lacks_discovery(spec: &VirtualNodeSpec) -> bool {
    spec.service_discovery.is_none() && !spec.listeners.is_empty()
}

pub(super) fn check(op: &Op<'_>, key: &Key, spec: &VirtualNodeSpec) -> Result<(), ApiError> {
    if op.context.strict && lacks_discovery(spec) {
        let message = format!("{DISCOVERY}: is required when there is a listener");
        return Err(ApiError::new(ErrorCode::BadRequest, message).at(DISCOVERY));
    }
    let limit = op.context.quotas.backends_per_node;
    if spec.backends.len() > limit {
        let message = format!("spec.backends: {} backends, and {limit} are allowed", spec.backends.len());
        return Err(ApiError::new(ErrorCode::LimitExceeded, message).at("spec.backends"));
    }
    // A node that was just named has no routes yet; this is about updates.
    for route in op.state.naming(key, Kind::Route) {
        let targets = route.spec.route().map_or(&[][..], |route| route.targets());
        for target in targets.iter().filter(|target| target.virtual_node == key.name) {
            let known = target.port.is_none_or(|port| spec.listeners.iter().any(|l| l.port_mapping.port == port));
            let message = if spec.listeners.len() > 1 && target.port.is_none() {
                "sends here without a port, which a node with several listeners needs"
            } else if !known {
                "sends here to a port that the node would no longer listen on"
            } else {
                continue;
            };
            let message = format!("spec.listeners: {} {message}", route.key.describe());
            return Err(ApiError::new(ErrorCode::BadRequest, message).at("spec.listeners"));
        }
    }
    Ok(())
}

pub(super) fn check_delete(op: &Op<'_>, key: &Key) -> Result<(), ApiError> {
    let targeted = op.state.naming(key, Kind::Route).next().is_some();
    let provides = op.state.naming(key, Kind::VirtualService).next().is_some();
    let reason = match (targeted, provides) {
        (true, _) => "it is the target of one or more routes.",
        (false, true) => "it is a VirtualService provider",
        (false, false) => return Ok(()),
    };
    let message = format!("VirtualNode with name {} cannot be deleted because {reason}", key.name);
    Err(ApiError::new(ErrorCode::ResourceInUse, message))
}
