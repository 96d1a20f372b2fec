//! Tells places outside how a rollout goes: one adapter for each kind of place, behind `ports::Notices`.

pub mod github;
mod http;
pub mod signature;
pub mod slack;
pub mod webhook;
