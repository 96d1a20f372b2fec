//! The App-Mesh-compatible control plane.
//!
//! ```text
//! http (shell) -> wire (JSON, paths) -> ops (pure: state + request -> changes + reply) -> store -> compile ->
//! NodeConfig                                        validate (all that is wrong at once)            document (files)
//! -> ops
//! ```

pub mod compile;
pub mod document;
pub mod error;
pub mod http;
pub mod model;
pub mod ops;
pub mod snapshot;
pub mod validate;
pub mod wire;
