//! Tidegate: progressive delivery over App Mesh.
//!
//! ```text
//! trigger -> policy -> rollout + judge (pure) -> runner (journal, effects) -> traffic | workload | signals | notify
//!                                                   ^------------- back as inputs ---------------------|
//! mesh -> xds -> proxy/Envoy -> telemetry -> signals
//! ```
#![forbid(unsafe_code)]

/// The HTTP API.
pub mod api;
/// Identifiers, time, weights, counts, faults, secrets.
pub mod base;
/// The only place that reads clocks and draws chance.
pub mod clock;
/// The judge: evidence against a release and for it, from counts alone.
pub mod judge;
/// The App-Mesh-compatible control plane.
pub mod mesh;
/// Policy files and the plans compiled from them.
pub mod policy;
/// What the core needs from the world.
pub mod ports;
/// The rollout engine: a state and an input give a new state and effects.
pub mod rollout;
/// Drives rollouts: commits inputs, carries out effects, keeps time.
pub mod runner;
/// Reads what the data plane and others measured.
pub mod signals;
/// Keeps rollouts, the mesh and policies on disk.
pub mod store;
/// Writes weights through the App Mesh API.
pub mod traffic;
