//! Virtual services: a provider that is named must exist.

use super::Op;
use crate::mesh::error::ApiError;
use crate::mesh::model::spec::{Provider, VirtualServiceSpec};
use crate::mesh::model::{Key, Kind};

pub(super) fn check(op: &Op<'_>, key: &Key, spec: &VirtualServiceSpec) -> Result<(), ApiError> {
    let (kind, name) = match &spec.provider {
        None => return Ok(()),
        Some(Provider::VirtualNode { virtual_node_name }) => (Kind::VirtualNode, virtual_node_name),
        Some(Provider::VirtualRouter { virtual_router_name }) => (Kind::VirtualRouter, virtual_router_name),
    };
    let path = format!("spec.provider.{kind}.{}", kind.name_member());
    op.referenced(&Key::child(&*key.mesh, kind, &**name), &path).map(|_| ())
}

/// Nothing keeps it: that nodes list it as a backend is no reason (appmesh "Referential rules"). Gateway routes will be
/// one once they are served.
#[expect(clippy::unnecessary_wraps, reason = "the same shape as for the other kinds, which gateway routes will need")]
pub(super) fn check_delete(_op: &Op<'_>, _key: &Key) -> Result<(), ApiError> {
    Ok(())
}
