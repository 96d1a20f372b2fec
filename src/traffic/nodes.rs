//! Endpoints of a virtual node: what the App Mesh API says of its discovery, resolved by whoever knows names.

use super::appmesh::{AppMesh, SOURCE, fault};
use crate::base::fault::Fault;
use crate::mesh::snapshot::{Discovery, IpPreference};
use crate::ports::{EndpointSource, NodeEndpoints};
use async_trait::async_trait;
use aws_sdk_appmesh::types::{DnsResponseType, IpPreference as Given, ServiceDiscovery, VirtualNodeSpec};
use std::net::SocketAddr;
use std::sync::Arc;

/// Nodes of a mesh, and a source of addresses.
pub struct Nodes {
    mesh: AppMesh,
    source: Arc<dyn EndpointSource>,
}

impl Nodes {
    /// Over a mesh and a source of addresses.
    #[must_use]
    pub fn new(mesh: AppMesh, source: Arc<dyn EndpointSource>) -> Self {
        Self { mesh, source }
    }
}

/// What to resolve, and the port of the node's first listener; `None` when it has no listener.
fn discovery(spec: &VirtualNodeSpec) -> Option<(Discovery, u16)> {
    let listener = spec.listeners.as_ref()?.first()?;
    let port = u16::try_from(listener.port_mapping.as_ref()?.port).ok()?;
    let discovery = match spec.service_discovery.as_ref()? {
        ServiceDiscovery::Dns(dns) => Discovery::Dns {
            hostname: dns.hostname.clone(),
            each_address: dns.response_type == Some(DnsResponseType::Endpoints),
            preference: preference(dns.ip_preference.as_ref()),
        },
        ServiceDiscovery::AwsCloudMap(map) => Discovery::CloudMap {
            namespace: map.namespace_name.clone(),
            service: map.service_name.clone(),
            attributes: map.attributes().iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect(),
            preference: preference(map.ip_preference.as_ref()),
        },
        _ => Discovery::None,
    };
    Some((discovery, port))
}

/// A node's own preference; one of its mesh alone is not looked for, so that checking a version stays one call.
fn preference(given: Option<&Given>) -> IpPreference {
    match given {
        Some(Given::IPv4Only) => IpPreference::V4Only,
        Some(Given::IPv6Only) => IpPreference::V6Only,
        Some(Given::IPv4Preferred) => IpPreference::V4Preferred,
        Some(Given::IPv6Preferred) => IpPreference::V6Preferred,
        _ => IpPreference::Unset,
    }
}

/// Addresses by endpoint. A name with addresses of both families is one server twice, as for the proxy: its IPv6
/// addresses are tried where an IPv4 one refuses.
fn grouped(addresses: Vec<SocketAddr>, discovery: &Discovery) -> Vec<Vec<SocketAddr>> {
    let by_name = matches!(discovery, Discovery::Dns { .. });
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| !by_name || address.is_ipv4());
    if first.is_empty() {
        return second.into_iter().map(|address| vec![address]).collect();
    }
    first.into_iter().map(|address| [vec![address], second.clone()].concat()).collect()
}

#[async_trait]
impl NodeEndpoints for Nodes {
    async fn endpoints(&self, mesh: &str, node: &str) -> Result<Vec<Vec<SocketAddr>>, Fault> {
        let call = self.mesh.client().describe_virtual_node().mesh_name(mesh).virtual_node_name(node).send();
        let place = format!("{mesh}/{node}");
        let output = call.await.map_err(|error| fault(&error, "DescribeVirtualNode", &place))?;
        let data = output.virtual_node;
        let data =
            data.ok_or_else(|| Fault::unknown(SOURCE, format!("DescribeVirtualNode of {place} answered none")))?;
        match data.spec.as_ref().and_then(discovery) {
            Some((discovery, port)) => Ok(grouped(self.source.resolve(&discovery, port).await?, &discovery)),
            None => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_of_a_name_are_one_endpoint_and_instances_are_their_own() {
        let (four, other, six) = ("10.0.0.1:80", "10.0.0.2:80", "[::1]:80");
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let name = Discovery::by_name("a", false);
        let map = Discovery::in_cloud_map("n", "s", [].into());
        for (discovery, all, expected) in [
            (&name, &[four, other, six][..], vec![addresses(&[four, six]), addresses(&[other, six])]),
            (&name, &[six][..], vec![addresses(&[six])]),
            (&map, &[four, six][..], vec![addresses(&[four]), addresses(&[six])]),
            (&name, &[][..], vec![]),
        ] {
            assert_eq!(grouped(addresses(all), discovery), expected, "{all:?}");
        }
    }
}
