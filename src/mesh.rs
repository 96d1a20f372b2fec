//! The App-Mesh-compatible control plane.
//!
//! ```text
//! http (shell) -> wire (JSON, paths) -> ops (pure: state + request -> changes + reply) -> store -> compile ->
//! NodeConfig                                        validate (all that is wrong at once)            document (files)
//! -> ops
//! ```
//!
//! `client` is the other end of that wire: it reads and changes a mesh at an endpoint.

pub mod access;
pub mod client;
pub mod compile;
pub mod document;
pub mod error;
pub mod http;
pub mod model;
pub mod ops;
pub mod problems;
pub mod sigv4;
pub mod snapshot;
pub mod validate;
pub mod wire;
