//! Virtual services: a provider that is named must exist where AWS's rules are asked for, and what keeps one from being
//! deleted.

use super::Op;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::spec::VirtualServiceSpec;
use crate::mesh::model::{Key, Kind};

/// Gateway routes that a message names; five, as in the message of AWS about routers.
const NAMES_TOLD: usize = 5;

/// Guides create services before the routers that provide them, so only `strict` insists on the order.
pub(super) fn check(op: &Op<'_>, key: &Key, spec: &VirtualServiceSpec) -> Result<(), ApiError> {
    match provider(key, spec) {
        Some((provider, path)) if op.context.strict => op.referenced(&provider, &path).map(|_| ()),
        _ => Ok(()),
    }
}

/// What provides a service, and the member that names it.
pub(super) fn provider(key: &Key, spec: &VirtualServiceSpec) -> Option<(Key, String)> {
    let provider = spec.provider.as_ref()?.key(&key.mesh);
    let path = format!("spec.provider.{}.{}", provider.kind, provider.kind.name_member());
    Some((provider, path))
}

/// Gateway routes keep it; nodes that list it as a backend do not (appmesh "Referential rules").
pub(super) fn check_delete(op: &Op<'_>, key: &Key) -> Result<(), ApiError> {
    let routes = op.state.naming(key, Kind::GatewayRoute);
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
