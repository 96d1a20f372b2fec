//! Tidegate: progressive delivery over App Mesh.
//!
//! ```text
//! trigger -> policy -> rollout + judge (pure) -> runner (journal, effects) -> traffic | workload | signals | notify
//!                                                   ^------------- back as inputs ---------------------|
//! mesh -> xds -> proxy/Envoy -> telemetry -> signals
//! ```
#![forbid(unsafe_code)]

/// Identifiers, time, weights, counts, faults, secrets.
pub mod base;
/// The only place that reads clocks and draws chance.
pub mod clock;
/// Finds the endpoints of virtual nodes.
pub mod discovery;
/// The App-Mesh-compatible control plane.
pub mod mesh;
/// Policy files and the plans compiled from them.
pub mod policy;
/// What the core needs from the world.
pub mod ports;
/// The data plane: a native HTTP proxy.
pub mod proxy;
/// Measurements that gates judge.
pub mod signals;
