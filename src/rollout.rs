//! The rollout engine: a pure, total function from a state and an input to a new state and the effects to carry out.
//!
//! It does no I/O, reads no clock and draws no chance: time arrives with each input, and whatever must happen in the
//! world leaves as an [`Effect`](crate::rollout::effect::Effect) that the runner commits before it acts on it. Replaying a journal therefore
//! gives the same states and the same effect identifiers again.

mod approval;
pub mod compare;
pub mod deadline;
pub mod effect;
pub mod event;
pub mod evidence;
pub mod explain;
mod failure;
mod figures;
mod freeze;
pub mod fuse;
pub mod fuse_view;
pub mod gate;
mod incident;
mod lease;
pub mod limits;
mod moves;
mod noise;
mod observe;
pub mod past;
pub mod points;
pub mod preview;
pub mod report;
pub mod scope;
pub mod signals;
mod silence;
pub mod start;
pub mod state;
pub mod step;
pub mod timing;
pub mod unusable;
pub mod view;
pub mod workload;

pub use deadline::{next_deadline, next_reading};
pub use lease::leased;
pub use start::begin;
pub use step::step;

#[cfg(test)]
mod tests;
