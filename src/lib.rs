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
/// The only reader of the environment, and the defaults.
pub mod config;
/// The only place that reads clocks and draws chance.
pub mod clock;
/// Policy files and the plans compiled from them.
pub mod policy;
/// The judge: evidence against a release and for it, from counts alone.
pub mod judge;
/// The rollout engine: a state and an input give a new state and effects.
pub mod rollout;
/// What the core needs from the world.
pub mod ports;
/// Drives rollouts: commits inputs, carries out effects, keeps time.
pub mod runner;
/// Keeps rollouts, the mesh and policies on disk.
pub mod store;
/// Writes weights through the App Mesh API.
pub mod traffic;
/// Reads what the data plane measured.
pub mod signals;
/// Finds endpoints of virtual nodes.
pub mod discovery;
/// The App-Mesh-compatible control plane.
pub mod mesh;
/// The native data plane.
pub mod proxy;
/// The HTTP API.
pub mod api;
/// Logs.
pub mod telemetry;
/// The composition root: one process of everything.
pub mod app;
/// The two scenarios of `tidegate demo`.
pub mod demo;
/// The command line.
pub mod cli;
