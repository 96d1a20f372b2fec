//! Meshes: what keeps one from being deleted (DeleteMesh, "You must delete all resources (virtual services, routes,
//! virtual routers, and virtual nodes) in the service mesh before you can delete the mesh itself").

use super::Op;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::{Key, Kind};

pub(super) fn check_delete(op: &Op<'_>, key: &Key) -> Result<(), ApiError> {
    // The order in which AWS would have them deleted, so that following the messages works.
    let kinds = [Kind::VirtualGateway, Kind::VirtualService, Kind::VirtualRouter, Kind::VirtualNode];
    let Some(kind) = kinds.into_iter().find(|kind| op.state.count(&Key::child(&*key.name, *kind, "")) > 0) else {
        return Ok(());
    };
    let message = format!(
        "Mesh {} for account {} has active {}s, please delete {}s before deleting the Mesh",
        key.name,
        op.context.account,
        kind.title(),
        kind.title()
    );
    Err(ApiError::new(ErrorCode::ResourceInUse, message))
}
