//! Routes: the nodes that they send to must exist and listen, and ports must be named where there are several.

use super::Op;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::spec::{PortProtocol, RouteSpec, VirtualRouterSpec};
use crate::mesh::model::{Key, Kind};

pub(super) fn check(op: &Op<'_>, key: &Key, spec: &RouteSpec) -> Result<(), ApiError> {
    let router = Key::child(&*key.mesh, Kind::VirtualRouter, &*key.parent);
    let router = op.referenced(&router, "virtualRouterName")?;
    if let Some(router) = router.spec.virtual_router() {
        check_listeners(router, spec)?;
    }
    for (at, target) in spec.targets().iter().enumerate() {
        let path = format!("spec.{}.action.weightedTargets[{at}]", spec.member());
        let node = Key::child(&*key.mesh, Kind::VirtualNode, &*target.virtual_node);
        let node = op.referenced(&node, &format!("{path}.virtualNode"))?;
        let listeners = node.spec.virtual_node().map_or(&[][..], |node| &node.listeners);
        let path = format!("{path}.port");
        let message = match target.port {
            None if listeners.len() > 1 => {
                format!("is required, because virtualNode {} has several listeners", target.virtual_node)
            }
            // A node without listeners says nothing about ports yet.
            Some(port) if !listeners.is_empty() && listeners.iter().all(|l| l.port_mapping.port != port) => {
                format!("virtualNode {} has no listener on port {port}", target.virtual_node)
            }
            _ => continue,
        };
        return Err(ApiError::new(ErrorCode::BadRequest, format!("{path}: {message}")).at(path));
    }
    Ok(())
}

/// The port is named where the router has several, and a tcp route is on a tcp listener. Mixes of http, http2 and grpc
/// pass, because AWS's own getting-started text creates one (appmesh "Validation", rule 5).
fn check_listeners(router: &VirtualRouterSpec, spec: &RouteSpec) -> Result<(), ApiError> {
    let member = spec.member();
    let path = format!("spec.{member}.match.port");
    let port = spec.match_port();
    if router.listeners.len() > 1 && port.is_none() {
        let message = "Route must define a port match criteria if the Virtual Router has multiple listeners";
        return Err(ApiError::new(ErrorCode::BadRequest, message).at(path));
    }
    if router.listeners.is_empty() {
        return Ok(());
    }
    let mut heard = router.listeners.iter().map(|l| l.port_mapping).filter(|m| port.is_none_or(|port| m.port == port));
    let (path, message) = match heard.next() {
        None => (path, format!("the virtual router has no listener on port {}", port.unwrap_or_default())),
        Some(mapping) if (mapping.protocol == PortProtocol::Tcp) != spec.tcp_route.is_some() => {
            let word = mapping.protocol.word();
            (format!("spec.{member}"), format!("a listener of protocol {word} cannot have a {member}"))
        }
        Some(_) => return Ok(()),
    };
    Err(ApiError::new(ErrorCode::BadRequest, format!("{path}: {message}")).at(path))
}
