//! Endpoints by name, through the system's resolver. Addresses stand for themselves.

use super::choose::choose;
use crate::base::fault::Fault;
use crate::mesh::snapshot::Discovery;
use crate::ports::EndpointSource;
use async_trait::async_trait;
use std::net::{IpAddr, SocketAddr};

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct DnsSource;

#[async_trait]
impl EndpointSource for DnsSource {
    async fn resolve(&self, discovery: &Discovery, default_port: u16) -> Result<Vec<SocketAddr>, Fault> {
        match discovery {
            Discovery::None => Ok(Vec::new()),
            Discovery::Dns { hostname, preference, .. } => {
                let found = look_up(hostname, default_port).await?;
                let chosen = choose(&found, *preference);
                if chosen.is_empty() && !found.is_empty() {
                    let family = if found[0].is_ipv4() { "IPv4" } else { "IPv6" };
                    return Err(Fault::permanent(
                        "dns",
                        format!("{hostname} has {family} addresses only, which `ipPreference` forbids"),
                    ));
                }
                Ok(chosen)
            }
            Discovery::CloudMap { namespace, service, .. } => Err(Fault::permanent(
                "discovery",
                format!(
                    "{service}.{namespace} is in AWS Cloud Map, which is not asked here; --discovery FILE stands in for it"
                ),
            )),
        }
    }
}

/// Every address of a name, IPv4 first, in an order that does not change from one answer to the next.
async fn look_up(hostname: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
    let bare = hostname.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hostname);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = tokio::net::lookup_host((hostname, port))
        .await
        .map_err(|error| Fault::transient("dns", format!("{hostname}: {error}")))?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(|address| (address.is_ipv6(), *address));
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::snapshot::IpPreference;

    async fn resolve(hostname: &str) -> Result<Vec<SocketAddr>, Fault> {
        DnsSource.resolve(&Discovery::by_name(hostname, false), 80).await
    }

    #[tokio::test]
    async fn addresses_stand_for_themselves_and_names_give_ipv4_first() {
        assert_eq!(resolve("127.0.0.1").await.unwrap(), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(resolve("::1").await.unwrap(), ["[::1]:80".parse().unwrap()]);
        assert_eq!(resolve("[::1]").await.unwrap(), ["[::1]:80".parse().unwrap()]);
        assert_eq!(resolve("localhost").await.unwrap()[0], "127.0.0.1:80".parse().unwrap());
        assert!(resolve("").await.is_err());
        let preferring = |hostname: &str, preference| {
            let discovery = Discovery::Dns { hostname: hostname.to_owned(), each_address: true, preference };
            async move { DnsSource.resolve(&discovery, 80).await }
        };
        let four: Vec<SocketAddr> = vec!["127.0.0.1:80".parse().unwrap()];
        assert_eq!(preferring("localhost", IpPreference::V4Only).await.unwrap(), four);
        assert_eq!(preferring("127.0.0.1", IpPreference::V6Preferred).await.unwrap(), four);
        let forbidden = preferring("127.0.0.1", IpPreference::V6Only).await.unwrap_err();
        assert!(forbidden.message.contains("IPv4 addresses only"), "{forbidden}");
        assert_eq!(DnsSource.resolve(&Discovery::None, 80).await.unwrap(), []);
    }
}
