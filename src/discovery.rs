//! Finds the endpoints of virtual nodes: adapters of [`crate::ports::EndpointSource`].

pub mod dns;
pub mod file;
