//! Which of the addresses that were found are endpoints: `responseType` and `ipPreference` of App Mesh, as functions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the addresses of a name are: `serviceDiscovery.dns.responseType`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResponseType {
    /// Ways to one balancer, of which one is enough.
    #[default]
    LoadBalancer,
    /// An endpoint each.
    Endpoints,
}

/// Which family of addresses is taken: `ipPreference` of the node, else of the mesh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IpPreference {
    /// Nothing is said. Names give both families, IPv4 first: a program on `localhost` often listens on one of them only.
    /// (App Mesh took IPv6 where a name had it.) An instance of Cloud Map gives IPv4, or else IPv6.
    #[default]
    Unset,
    /// IPv4, or else IPv6.
    Ipv4Preferred,
    /// IPv6, or else IPv4.
    Ipv6Preferred,
    /// IPv4 and nothing else.
    Ipv4Only,
    /// IPv6 and nothing else.
    Ipv6Only,
}

/// The endpoints among a name's addresses, in the order given. For a balancer that is the first address of the family that
/// counts; of each family where nothing is preferred, so that the other one is there when the first refuses.
#[must_use]
pub fn choose(addresses: &[SocketAddr], response: ResponseType, preference: IpPreference) -> Vec<SocketAddr> {
    let family = |is_ipv6: bool| {
        let of_family = addresses.iter().copied().filter(move |address| address.is_ipv6() == is_ipv6);
        let most = if response == ResponseType::LoadBalancer { 1 } else { usize::MAX };
        of_family.take(most).collect::<Vec<_>>()
    };
    let (v4, v6) = (family(false), family(true));
    match preference {
        IpPreference::Unset => [v4, v6].concat(),
        IpPreference::Ipv4Only => v4,
        IpPreference::Ipv6Only => v6,
        IpPreference::Ipv4Preferred => either(v4, v6),
        IpPreference::Ipv6Preferred => either(v6, v4),
    }
}

fn either(first: Vec<SocketAddr>, second: Vec<SocketAddr>) -> Vec<SocketAddr> {
    if first.is_empty() { second } else { first }
}

/// The address of one instance that may have one of each family; `None` where it has none that may be taken.
#[must_use]
pub fn pick(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>, preference: IpPreference) -> Option<IpAddr> {
    let (v4, v6) = (v4.map(IpAddr::V4), v6.map(IpAddr::V6));
    match preference {
        IpPreference::Unset | IpPreference::Ipv4Preferred => v4.or(v6),
        IpPreference::Ipv6Preferred => v6.or(v4),
        IpPreference::Ipv4Only => v4,
        IpPreference::Ipv6Only => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use IpPreference::{Ipv4Only, Ipv4Preferred, Ipv6Only, Ipv6Preferred, Unset};
    use ResponseType::{Endpoints, LoadBalancer};

    #[test]
    fn names_give_what_is_preferred() {
        let both = ["10.0.0.2:80", "[fd00::1]:80", "10.0.0.1:80", "[fd00::2]:80"];
        let (v4, v6) = (["10.0.0.2:80", "10.0.0.1:80"], ["[fd00::1]:80", "[fd00::2]:80"]);
        for (found, preference, all, first) in [
            (&both[..], Unset, &[v4[0], v4[1], v6[0], v6[1]][..], &[v4[0], v6[0]][..]),
            (&both, Ipv4Preferred, &v4, &v4[..1]),
            (&both, Ipv6Preferred, &v6, &v6[..1]),
            (&both, Ipv4Only, &v4, &v4[..1]),
            (&both, Ipv6Only, &v6, &v6[..1]),
            (&v4, Unset, &v4, &v4[..1]),
            (&v4, Ipv4Preferred, &v4, &v4[..1]),
            (&v4, Ipv6Preferred, &v4, &v4[..1]),
            (&v4, Ipv6Only, &[], &[]),
            (&v6, Unset, &v6, &v6[..1]),
            (&v6, Ipv4Preferred, &v6, &v6[..1]),
            (&v6, Ipv4Only, &[], &[]),
            (&[], Unset, &[], &[]),
            (&[], Ipv6Preferred, &[], &[]),
        ] {
            let found: Vec<SocketAddr> = found.iter().map(|text| text.parse().unwrap()).collect();
            for (response, wanted) in [(Endpoints, all), (LoadBalancer, first)] {
                let chosen: Vec<String> =
                    choose(&found, response, preference).iter().map(ToString::to_string).collect();
                assert_eq!(chosen, wanted, "{found:?} {response:?} {preference:?}");
            }
        }
    }

    #[test]
    fn an_instance_gives_one_address() {
        let (v4, v6) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        let (four, six) = (Some(IpAddr::V4(v4)), Some(IpAddr::V6(v6)));
        for (preference, of_both, of_v4, of_v6) in [
            (Unset, four, four, six),
            (Ipv4Preferred, four, four, six),
            (Ipv6Preferred, six, four, six),
            (Ipv4Only, four, four, None),
            (Ipv6Only, six, None, six),
        ] {
            let picked = [(Some(v4), Some(v6)), (Some(v4), None), (None, Some(v6)), (None, None)]
                .map(|(v4, v6)| pick(v4, v6, preference));
            assert_eq!(picked, [of_both, of_v4, of_v6, None], "{preference:?}");
        }
    }
}
