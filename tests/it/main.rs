//! Integration tests, one binary for link time. README.md in `tests/` says which test is for what.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on says so by panicking, like the test itself"
)]

mod access;
mod bad_input;
mod chatops;
mod cli;
mod conformance;
mod crash;
mod cuts;
mod demo;
mod deploy;
mod detect;
mod discovery;
mod disk;
mod documents;
mod ecs;
mod envoy;
mod examples;
mod extensions;
mod faults;
mod freeze;
mod fuse;
mod fuzz;
mod gates;
mod gateways;
mod github;
mod golden;
mod health;
mod hooks;
mod inbox;
mod intercept;
mod kill;
mod kit;
mod latency;
mod lease;
mod lossless;
mod many;
mod mesh;
mod mesh_cli;
mod mesh_store;
mod page;
mod people;
mod preview;
mod processes;
mod program;
mod proxy;
mod queue;
mod readme;
mod release;
mod runner;
mod serve;
mod shell;
mod sidecar;
mod signals;
mod slack;
mod soak;
mod stop;
mod store;
mod streams;
mod takeover;
mod verify;
mod webhook;
mod weights;
mod windows;
