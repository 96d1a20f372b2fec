//! Finds the endpoints of virtual nodes: adapters of [`crate::ports::EndpointSource`].

pub mod choose;
pub mod cloudmap;
pub mod dns;
pub mod everywhere;
pub mod file;
