//! What a policy would do, before it does it: simulated and recorded traffic through the real engine.
//!
//! ```text
//! World -> Traffic (seeded chance) -> counts, second by second -> rollout::step with the policy's plan -> Run -> Summary
//! recording (CSV, journal, history) -> counts as they were     -> the same                            -> moments
//! ```
//!
//! Nothing here decides about a rollout: `run::one` is a runner without a world, in which weights are in force at once
//! and time is a number. Chance comes from a seed, so the same seed gives the same answer on every machine. The rules of
//! other systems ([`judge::reference`](crate::judge::reference)) are run over the same traffic.
//!
//! What a simulation cannot know: real traffic is not Poisson, failures are not independent, a canary that is new is slow.
//! `world::World` has a knob for each of these, and none of them is set by itself.

pub mod chance;
pub mod engine;
pub mod goals;
pub mod history;
pub mod latency;
pub mod plot;
pub mod question;
pub mod recording;
pub mod replay;
pub mod run;
pub mod summary;
pub mod text;
pub mod world;

#[cfg(test)]
mod tests;
