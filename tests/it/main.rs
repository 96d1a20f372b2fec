//! Integration tests, one binary.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on says so by panicking, like the test itself"
)]

mod mesh;
mod mesh_store;
