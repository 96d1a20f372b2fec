//! The only part of the controller that changes weights, and only for a committed effect.

pub mod appmesh;
pub mod edit;
