//! Virtual gateways: what their routes ask of an update, and what keeps one from being deleted.

use super::Op;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::spec::VirtualGatewaySpec;
use crate::mesh::model::{Key, Kind};

pub(super) fn check(op: &Op<'_>, key: &Key, spec: &VirtualGatewaySpec) -> Result<(), ApiError> {
    for route in op.state.children(&key.mesh, Kind::GatewayRoute, &key.name) {
        let Some(route_spec) = route.spec.gateway_route() else { continue };
        let port = route_spec.match_port();
        let reason = match port {
            None if spec.listeners.len() > 1 => "has no match.port, which several listeners need",
            Some(port) if spec.listeners.iter().all(|l| l.port_mapping.port != port) => {
                "matches a port that no listener would have"
            }
            _ => continue,
        };
        let message = format!("spec.listeners: {} {reason}", route.key.describe());
        return Err(ApiError::new(ErrorCode::BadRequest, message).at("spec.listeners"));
    }
    Ok(())
}

pub(super) fn check_delete(op: &Op<'_>, key: &Key) -> Result<(), ApiError> {
    if op.state.children(&key.mesh, Kind::GatewayRoute, &key.name).next().is_none() {
        return Ok(());
    }
    let message =
        format!("VirtualGateway with name {} cannot be deleted because it has one or more gateway routes.", key.name);
    Err(ApiError::new(ErrorCode::ResourceInUse, message))
}
