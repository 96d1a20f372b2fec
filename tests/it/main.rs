//! Integration tests, one binary.

mod proxy;
