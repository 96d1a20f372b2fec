//! Virtual services: a provider that is named must exist, and what keeps one from being deleted.

use super::Op;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::spec::{Provider, VirtualServiceSpec};
use crate::mesh::model::{Key, Kind};

/// Gateway routes that a message names; five, as in the message of AWS about routers.
const NAMES_TOLD: usize = 5;

pub(super) fn check(op: &Op<'_>, key: &Key, spec: &VirtualServiceSpec) -> Result<(), ApiError> {
    let (kind, name) = match &spec.provider {
        None => return Ok(()),
        Some(Provider::VirtualNode { virtual_node_name }) => (Kind::VirtualNode, virtual_node_name),
        Some(Provider::VirtualRouter { virtual_router_name }) => (Kind::VirtualRouter, virtual_router_name),
    };
    let path = format!("spec.provider.{kind}.{}", kind.name_member());
    op.referenced(&Key::child(&*key.mesh, kind, &**name), &path).map(|_| ())
}

/// Gateway routes keep it; nodes that list it as a backend do not (appmesh "Referential rules").
pub(super) fn check_delete(op: &Op<'_>, key: &Key) -> Result<(), ApiError> {
    let routes = op.state.of_kind(&key.mesh, Kind::GatewayRoute).filter(|route| {
        let target = route.spec.gateway_route().and_then(|route| route.target());
        target.is_some_and(|target| target.virtual_service.virtual_service_name == key.name)
    });
    let names: Vec<String> = routes.take(NAMES_TOLD).map(|route| route.key.path()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let message = format!(
        "VirtualService {} is being referenced in the following: GATEWAY_ROUTE: [{}]",
        key.name,
        names.join(", ")
    );
    Err(ApiError::new(ErrorCode::ResourceInUse, message))
}
