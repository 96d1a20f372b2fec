//! Envoy's control plane: each virtual node's or gateway's configuration as Envoy's resources, handed out by xDS.
//!
//! `translate` (pure) turns a [`crate::mesh::snapshot::NodeConfig`] into resources under the names that App Mesh gave
//! them. `session` (pure) is the protocol of one stream: what is sent when, in which order, and what was acknowledged.
//! `source` keeps one translation for all proxies of a node, and their endpoints. `secrets` reads certificates
//! that stand in for those of ACM, again and again. `server` speaks gRPC, `door` says who may have what, and `registry` knows
//! which proxies are connected and what they took. `outcome` (pure) reads how a request of an Envoy ended, and `counts` adds
//! that up for the judge. `client` is a native proxy's way here, and `sds` its way to a server of
//! secrets beside it.

pub mod client;
pub mod counts;
pub mod door;
pub mod outcome;
pub mod registry;
pub mod sds;
pub mod secrets;
pub mod server;
pub mod session;
pub mod source;
pub mod translate;
