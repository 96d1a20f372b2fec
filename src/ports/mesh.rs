//! What people are told of the mesh that this process keeps.

use serde::{Deserialize, Serialize};

/// Something that a mesh leaves open, or asks for in vain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MeshProblem {
    /// Path of the resource, as in an ARN: `mesh/shop/virtualRouter/r/route/x`.
    pub resource: String,
    /// What it is, and what happens instead.
    pub message: String,
}

/// Tells what is wrong with a mesh as a whole, beyond what its API refuses.
pub trait MeshProblems: Send + Sync + 'static {
    /// All of it, by resource.
    fn problems(&self) -> Vec<MeshProblem>;
}
