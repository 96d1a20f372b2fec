//! Tidegate: progressive delivery over App Mesh.
//!
//! ```text
//! trigger -> policy -> rollout + judge (pure) -> runner (journal, effects) -> traffic -> mesh -> proxy -> signals
//!                                                  ^------------- back as inputs ------------------------------'
//! ```
#![forbid(unsafe_code)]

/// The HTTP API.
pub mod api;
/// The composition root: one process of everything.
pub mod app;
/// What clients of AWS share: bounds, and what its errors mean.
pub mod aws;
/// Identifiers, time, weights, counts, faults, secrets.
pub mod base;
/// What an Envoy starts with.
pub mod bootstrap;
/// The command line.
pub mod cli;
/// The only place that reads clocks and draws chance.
pub mod clock;
/// The only reader of the environment, and the defaults.
pub mod config;
/// The page for people.
pub mod dashboard;
/// The two scenarios of `tidegate demo`.
pub mod demo;
/// Finds endpoints of virtual nodes.
pub mod discovery;
/// Redirects connections of the machine to a proxy.
pub mod intercept;
/// The judge: evidence against a release and for it, from counts alone.
pub mod judge;
/// The App-Mesh-compatible control plane.
pub mod mesh;
/// Tells places outside how rollouts go.
pub mod notify;
/// Policy files and the plans compiled from them.
pub mod policy;
/// What the core needs from the world.
pub mod ports;
/// The native data plane.
pub mod probe;
pub mod proxy;
/// The rollout engine: a state and an input give a new state and effects.
pub mod rollout;
/// Drives rollouts: commits inputs, carries out effects, keeps time.
pub mod runner;
/// When rollouts may begin: windows and departures.
pub mod schedule;
/// Reads what the data plane measured.
pub mod signals;
/// What a policy would do: simulated and recorded traffic through the engine.
pub mod simulate;
/// Keeps rollouts, the mesh and policies on disk.
pub mod store;
/// Logs.
pub mod telemetry;
/// What only tests need.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
/// Certificates of listeners, and those that stand in for others.
pub mod tls;
/// Writes weights through the App Mesh API.
pub mod traffic;
/// What starts rollouts from outside: deliveries of webhooks, verified and read.
pub mod trigger;
/// Runs the versions: services of Amazon ECS.
pub mod workload;
pub mod xds;
