//! The only part of the controller that changes weights, and only for a committed effect; and what else it reads of the
//! mesh through the same API.

pub mod appmesh;
pub mod edit;
pub mod nodes;
pub mod preview;
