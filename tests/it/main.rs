//! Integration tests, one binary for link time. README.md in `tests/` says which test is for what.

mod mesh;
mod mesh_store;
mod proxy;
