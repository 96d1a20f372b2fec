//! Gateway routes: the service that one sends to must exist, and ports must be named where there are several.

use super::Op;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::spec::{GatewayRouteSpec, GatewayTarget, Provider};
use crate::mesh::model::{Key, Kind};

pub(super) fn check(op: &Op<'_>, key: &Key, spec: &GatewayRouteSpec) -> Result<(), ApiError> {
    let gateway = op.referenced(&Key::child(&*key.mesh, Kind::VirtualGateway, &*key.parent), "virtualGatewayName")?;
    let listeners = gateway.spec.virtual_gateway().map_or(&[][..], |gateway| &gateway.listeners);
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.port_mapping.port).collect();
    let path = format!("spec.{}", spec.member());
    check_port(spec.match_port(), &ports, &format!("{path}.match.port"), "the virtual gateway")?;
    match spec.target() {
        Some(target) => check_target(op, key, target, &format!("{path}.action.target")),
        None => Ok(()),
    }
}

fn check_target(op: &Op<'_>, key: &Key, target: &GatewayTarget, path: &str) -> Result<(), ApiError> {
    let name = &*target.virtual_service.virtual_service_name;
    let service = Key::child(&*key.mesh, Kind::VirtualService, name);
    let service = op.referenced(&service, &format!("{path}.virtualService.virtualServiceName"))?;
    let ports = match service.spec.virtual_service().and_then(|service| service.provider.as_ref()) {
        // A service without a provider says nothing about ports yet.
        None => return Ok(()),
        Some(Provider::VirtualNode { virtual_node_name: name }) => {
            let node = op.state.get(&Key::child(&*key.mesh, Kind::VirtualNode, &**name));
            let listeners = node.and_then(|node| node.spec.virtual_node()).map_or(&[][..], |node| &node.listeners);
            listeners.iter().map(|listener| listener.port_mapping.port).collect::<Vec<u16>>()
        }
        Some(Provider::VirtualRouter { virtual_router_name: name }) => {
            let router = op.state.get(&Key::child(&*key.mesh, Kind::VirtualRouter, &**name));
            let listeners = router.and_then(|router| router.spec.virtual_router()).map_or(&[][..], |r| &r.listeners);
            listeners.iter().map(|listener| listener.port_mapping.port).collect()
        }
    };
    check_port(target.port, &ports, &format!("{path}.port"), "the provider of the virtual service")
}

/// One of several ports must be named, and a port that is named must be there.
fn check_port(port: Option<u16>, ports: &[u16], path: &str, whose: &str) -> Result<(), ApiError> {
    let message = match port {
        None if ports.len() > 1 => format!("{path}: is required, because {whose} has several listeners"),
        Some(port) if !ports.is_empty() && !ports.contains(&port) => {
            format!("{path}: {whose} has no listener on port {port}")
        }
        _ => return Ok(()),
    };
    Err(ApiError::new(ErrorCode::BadRequest, message).at(path))
}
