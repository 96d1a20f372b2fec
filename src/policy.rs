//! Policies: the file that people write, and the plan that a rollout runs by. Pure: text in, plan or errors out.
//!
//! `text -> tree (positions) -> source (shape, by the table of keys) -> compile (meaning) -> plan`

/// Source to plan: the rules between keys, and the defaults.
mod compile;
/// Gates of a plan.
mod gates;
/// Every key of the file: the one description that `source`, `schema` and `reference` share.
mod keys;
/// The part of `keys` that reaches outside the mesh.
mod keys_outside;
/// The part of `keys` about signals from outside.
mod keys_signals;
/// Noise that a plan allows for.
mod noise;
/// Who is told of a plan's rollouts.
mod notify;
pub mod plan;
/// Metrics of CloudWatch that many services have.
mod presets;
/// Reaching the canary before it has any weight.
mod preview;
/// Errors with positions, excerpts and hints.
mod problem;
pub mod reference;
pub mod schema;
/// Where gates of a plan act, what they weigh, and what their failure does.
mod scopes;
/// Gates on signals from outside the mesh.
mod signals;
/// The file's shape, checked against the table of keys.
mod source;
/// What starts rollouts of a plan by itself.
mod start;
/// What CloudWatch makes of the values of a period.
mod statistic;
/// Steps of a plan.
mod steps;
/// The language in which `keys` is written.
mod table;
/// YAML with positions, bounded.
mod tree;
pub mod units;
/// What runs the versions of a plan.
mod workload;

#[cfg(test)]
mod tests;

pub use compile::{Compiled, compile};
pub use presets::{balancer_counts, request_counts};
pub use problem::Problem;
pub use source::MAX_BYTES;
