//! Virtual routers: what their routes ask of an update, and what keeps one from being deleted.

use super::Op;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::spec::{PortProtocol, VirtualRouterSpec};
use crate::mesh::model::{Key, Kind};

/// Names that the message about missing ports tells; five, as AWS has it.
const NAMES_TOLD: usize = 5;

pub(super) fn check(op: &Op<'_>, key: &Key, spec: &VirtualRouterSpec) -> Result<(), ApiError> {
    let routes = || op.state.children(&key.mesh, Kind::Route, &key.name);
    if spec.listeners.len() > 1 {
        let without = routes().filter(|route| route.spec.route().is_some_and(|route| route.match_port().is_none()));
        let names: Vec<&str> = without.map(|route| route.key.name.as_str()).collect();
        if !names.is_empty() {
            let told = names.iter().take(NAMES_TOLD).copied().collect::<Vec<_>>().join(", ");
            let message = format!(
                "All Routes for this Virtual Router must define a port match before adding multiple listeners to this \
                 Virtual Router. {} Route(s) are missing port. Listing up to 5 route names: [{told}]",
                names.len()
            );
            return Err(ApiError::new(ErrorCode::BadRequest, message).at("spec.listeners"));
        }
    }
    if spec.listeners.is_empty() {
        return Ok(());
    }
    for route in routes() {
        let Some(route_spec) = route.spec.route() else { continue };
        let tcp_route = route_spec.tcp_route.is_some();
        let fits = |port: PortProtocol| (port == PortProtocol::Tcp) == tcp_route;
        let port = route_spec.match_port();
        let mut heard =
            spec.listeners.iter().map(|l| l.port_mapping).filter(|m| port.is_none_or(|port| m.port == port));
        let reason = match heard.next() {
            None => "matches a port that no listener would have",
            Some(mapping) if !fits(mapping.protocol) => "is of another type than the listener's protocol",
            Some(_) => continue,
        };
        let message = format!("spec.listeners: {} {reason}", route.key.describe());
        return Err(ApiError::new(ErrorCode::BadRequest, message).at("spec.listeners"));
    }
    Ok(())
}

pub(super) fn check_delete(op: &Op<'_>, key: &Key) -> Result<(), ApiError> {
    let provides = op.state.naming(key, Kind::VirtualService).next().is_some();
    let reason = if provides {
        "it is a VirtualService provider"
    } else if op.state.children(&key.mesh, Kind::Route, &key.name).next().is_some() {
        "it has one or more routes."
    } else {
        return Ok(());
    };
    let message = format!("VirtualRouter with name {} cannot be deleted because {reason}", key.name);
    Err(ApiError::new(ErrorCode::ResourceInUse, message))
}
