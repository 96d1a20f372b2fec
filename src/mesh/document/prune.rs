//! What files do not describe any more, in the meshes that they name.

use super::{Document, Problem};
use crate::mesh::model::{Key, Kind, MeshState};
use crate::mesh::ops;
use std::collections::BTreeSet;

/// Resources of the named meshes that no document describes, children before what they are in. A mesh itself is never
/// among them: whoever describes something in it wants it.
pub(super) fn left_over(state: &MeshState, documents: &[Document]) -> Vec<Key> {
    let described: BTreeSet<&Key> = documents.iter().map(|document| &document.key).collect();
    let meshes: BTreeSet<&str> = documents.iter().map(|document| document.key.mesh.as_str()).collect();
    let all = state.iter().map(|resource| &resource.key);
    let mut left: Vec<Key> = all
        .filter(|key| key.kind != Kind::Mesh && meshes.contains(key.mesh.as_str()) && !described.contains(key))
        .cloned()
        .collect();
    // Gateway routes, gateways, services, routes, routers, nodes: AWS's own order (appmesh "Referential rules").
    left.sort_by(|a, b| b.kind.cmp(&a.kind).then_with(|| a.cmp(b)));
    left
}

/// What documents name and pruning would take away, although nothing refuses to leave it open.
pub(super) fn taken_away(before: &MeshState, after: &MeshState, documents: &[Document]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for document in documents {
        let Some(resource) = after.get(&document.key) else { continue };
        let was_open = ops::unresolved_of(before, resource);
        for open in ops::unresolved_of(after, resource) {
            if !was_open.contains(&open) {
                let message = format!(
                    "{}: what this names is not in the files and --prune would delete it: describe it too, or leave \
                     --prune out",
                    open.path
                );
                problems.push(document.problem(&open.path, message));
            }
        }
    }
    problems
}
