//! Integration tests, one binary.

mod mesh;
mod mesh_store;
