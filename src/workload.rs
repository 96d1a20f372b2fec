//! Runs the versions: one adapter for each system that a policy's `workload` can name. None of them decides anything.

pub mod ecs;
pub mod process;
