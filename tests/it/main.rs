//! Integration tests, one binary.

mod crash;
mod golden;
mod kit;
mod runner;
mod store;
