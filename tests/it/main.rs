//! Integration tests, one binary for link time. README.md in `tests/` says which test is for what.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on says so by panicking, like the test itself"
)]

mod mesh;
mod mesh_store;
mod proxy;
mod weights;
