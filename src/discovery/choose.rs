//! Which of the addresses that were found are endpoints: `ipPreference` of App Mesh, as functions.
//!
//! Where nothing is preferred, names give both families, IPv4 first: a program on `localhost` often listens on one of them
//! only. (App Mesh took IPv6 where a name had it.) An instance of Cloud Map gives IPv4, or else IPv6.

use crate::mesh::snapshot::IpPreference;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The endpoints among a name's addresses: those of the family that counts, in the order given; of both families, IPv4
/// first, where nothing is preferred.
#[must_use]
pub fn choose(addresses: &[SocketAddr], preference: IpPreference) -> Vec<SocketAddr> {
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| address.is_ipv4());
    match preference {
        IpPreference::Unset => [v4, v6].concat(),
        IpPreference::V4Only => v4,
        IpPreference::V6Only => v6,
        IpPreference::V4Preferred => either(v4, v6),
        IpPreference::V6Preferred => either(v6, v4),
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
        IpPreference::Unset | IpPreference::V4Preferred => v4.or(v6),
        IpPreference::V6Preferred => v6.or(v4),
        IpPreference::V4Only => v4,
        IpPreference::V6Only => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use IpPreference::{Unset, V4Only, V4Preferred, V6Only, V6Preferred};

    #[test]
    fn names_give_what_is_preferred() {
        let both = ["10.0.0.2:80", "[fd00::1]:80", "10.0.0.1:80", "[fd00::2]:80"];
        let (v4, v6) = (["10.0.0.2:80", "10.0.0.1:80"], ["[fd00::1]:80", "[fd00::2]:80"]);
        for (found, preference, wanted) in [
            (&both[..], Unset, &[v4[0], v4[1], v6[0], v6[1]][..]),
            (&both, V4Preferred, &v4),
            (&both, V6Preferred, &v6),
            (&both, V4Only, &v4),
            (&both, V6Only, &v6),
            (&v4, Unset, &v4),
            (&v4, V4Preferred, &v4),
            (&v4, V6Preferred, &v4),
            (&v4, V6Only, &[]),
            (&v6, Unset, &v6),
            (&v6, V4Preferred, &v6),
            (&v6, V4Only, &[]),
            (&[], Unset, &[]),
            (&[], V6Preferred, &[]),
        ] {
            let found: Vec<SocketAddr> = found.iter().map(|text| text.parse().unwrap()).collect();
            let chosen: Vec<String> = choose(&found, preference).iter().map(ToString::to_string).collect();
            assert_eq!(chosen, wanted, "{found:?} {preference:?}");
        }
    }

    #[test]
    fn an_instance_gives_one_address() {
        let (v4, v6) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        let (four, six) = (Some(IpAddr::V4(v4)), Some(IpAddr::V6(v6)));
        for (preference, of_both, of_v4, of_v6) in [
            (Unset, four, four, six),
            (V4Preferred, four, four, six),
            (V6Preferred, six, four, six),
            (V4Only, four, four, None),
            (V6Only, six, None, six),
        ] {
            let picked = [(Some(v4), Some(v6)), (Some(v4), None), (None, Some(v6)), (None, None)]
                .map(|(v4, v6)| pick(v4, v6, preference));
            assert_eq!(picked, [of_both, of_v4, of_v6, None], "{preference:?}");
        }
    }
}
