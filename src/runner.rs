//! Drives rollouts: numbers and times what happens, asks the engine, commits, and only then acts.
//!
//! One task drives one rollout, so its inputs are in order and one at a time; commands, settled effects and readings
//! reach it through one bounded queue. A restart is no second path: the driver of a stored rollout begins with its
//! state and its unsettled effects, exactly where a running one stands between two inputs.

mod before;
mod checks;
pub mod driver;
mod errors;
mod executor;
pub mod freezes;
pub mod handle;
pub mod history;
mod keeper;
pub mod lease;
mod looks;
pub mod news;
mod people;
mod preview;
mod reading;
mod renewals;
mod reserved;
mod signals;
pub mod verify;
mod windows;

pub use handle::{CommandError, Runner, RunnerParts, StartError, StartRequest};
