//! What tests need of the library and no user does: compiled with the feature `testing` alone.

pub mod fuzz;
