//! Virtual nodes wherever they are: those of Cloud Map there, the others by their names.

use super::cloudmap::CloudMapSource;
use super::dns::DnsSource;
use crate::base::fault::Fault;
use crate::mesh::snapshot::Discovery;
use crate::ports::EndpointSource;
use async_trait::async_trait;
use std::net::SocketAddr;

/// Cloud Map and names together.
#[derive(Debug)]
pub struct Everywhere {
    cloud_map: CloudMapSource,
    dns: DnsSource,
}

impl Everywhere {
    /// With this Cloud Map.
    #[must_use]
    pub const fn new(cloud_map: CloudMapSource) -> Self {
        Self { cloud_map, dns: DnsSource }
    }
}

#[async_trait]
impl EndpointSource for Everywhere {
    async fn resolve(&self, discovery: &Discovery, default_port: u16) -> Result<Vec<SocketAddr>, Fault> {
        match discovery {
            Discovery::CloudMap { .. } => self.cloud_map.resolve(discovery, default_port).await,
            Discovery::None | Discovery::Dns { .. } => self.dns.resolve(discovery, default_port).await,
        }
    }
}
