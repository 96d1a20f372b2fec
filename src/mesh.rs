//! The App-Mesh-compatible control plane.

pub mod snapshot;
