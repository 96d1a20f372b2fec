//! The engine's promises, by table, by scenario and by property. Every input given through the kit is checked against
//! the rules that hold always, whatever the test is about.

mod approvals;
mod commands;
mod drift;
mod endings;
mod freeze;
mod fuse;
mod incident;
mod kit;
mod latency;
mod limits;
mod no_data;
mod noise;
mod points;
mod preview;
mod properties;
mod scopes;
mod signals;
mod silence;
mod sources;
mod starts;
mod unusable;
mod verified;
mod workload;
