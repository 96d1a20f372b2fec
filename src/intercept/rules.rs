//! What is redirected, and the rules for it as `iptables-restore` reads them. Pure.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::str::FromStr;

/// Ports of one rule (`multiport` takes no more).
const PORTS_OF_A_RULE: usize = 15;
/// What leaves, and what comes. Named apart from the chains of ECS and of App Mesh's own script.
const EGRESS: &str = "TIDEGATE_EGRESS";
const INGRESS: &str = "TIDEGATE_INGRESS";
/// The links to both.
pub(super) const LINKS: [&str; 2] = [
    "OUTPUT -p tcp -m addrtype ! --dst-type LOCAL -j TIDEGATE_EGRESS",
    "PREROUTING -p tcp -m addrtype ! --src-type LOCAL -j TIDEGATE_INGRESS",
];

/// What is redirected where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interception {
    /// Port of the proxy that takes what is meant for the application.
    pub ingress_port: u16,
    /// Port of the proxy that takes what is sent.
    pub egress_port: u16,
    /// Ports of the application.
    pub app_ports: BTreeSet<u16>,
    /// Whose connections go where they are sent to: the proxy's user.
    pub ignored_uid: u32,
    /// Connections to these go where they are sent to.
    pub ignored_addresses: Vec<Address>,
    /// As do those to these ports.
    pub ignored_ports: BTreeSet<u16>,
    /// Whether connections over IPv6 are redirected as well: where the proxy listens for them.
    pub both_families: bool,
}

/// An address or a network (`10.0.0.0/8`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    address: IpAddr,
    prefix: u8,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address and no network; write 10.1.2.3 or 10.0.0.0/8");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| wrong())?;
        if prefix <= longest { Ok(Self { address, prefix }) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// IPv4 or IPv6, which have rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// What makes its rules, of a variant such as `iptables-nft`.
    pub(super) fn program(self, variant: &str) -> String {
        match self {
            Self::V4 => variant.to_owned(),
            Self::V6 => variant.replacen("ip", "ip6", 1),
        }
    }
}

impl Interception {
    /// Fills both chains, and makes these links to them.
    pub(super) fn table(&self, family: Family, links: &[&str]) -> String {
        // A chain that is declared is emptied.
        let mut text = format!("*nat\n:{EGRESS} - [0:0]\n:{INGRESS} - [0:0]\n");
        let mut add = |rule: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "-A {rule}");
        };
        add(format_args!("{}", own_rule(self.ignored_uid)));
        for ports in rows(&self.ignored_ports) {
            add(format_args!("{EGRESS} -p tcp -m multiport --dports {ports} -j RETURN"));
        }
        for address in &self.ignored_addresses {
            if address.address.is_ipv4() == (family == Family::V4) {
                add(format_args!("{EGRESS} -p tcp -d {address} -j RETURN"));
            }
        }
        add(format_args!("{EGRESS} -p tcp -j REDIRECT --to-ports {}", self.egress_port));
        for ports in rows(&self.app_ports) {
            let to = self.ingress_port;
            add(format_args!("{INGRESS} -p tcp -m multiport --dports {ports} -j REDIRECT --to-ports {to}"));
        }
        for link in links {
            add(format_args!("{link}"));
        }
        text.push_str("COMMIT\n");
        text
    }

    /// Removes both chains, once nothing links to them.
    pub(super) fn removal() -> String {
        format!("*nat\n-F {EGRESS}\n-F {INGRESS}\n-X {EGRESS}\n-X {INGRESS}\nCOMMIT\n")
    }
}

/// Where connections of the proxy's user go: where they are sent to.
pub(super) fn own_rule(uid: u32) -> String {
    format!("{EGRESS} -m owner --uid-owner {uid} -j RETURN")
}

/// Ports as `multiport` takes them.
fn rows(ports: &BTreeSet<u16>) -> Vec<String> {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    ports.chunks(PORTS_OF_A_RULE).map(|row| row.join(",")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_those_of_app_mesh() {
        let interception = Interception {
            ingress_port: 15000,
            egress_port: 15001,
            app_ports: (8080..8096).collect(),
            ignored_uid: 1337,
            ignored_addresses: vec!["169.254.170.2".parse().unwrap(), "fd00::/8".parse().unwrap()],
            ignored_ports: BTreeSet::from([22]),
            both_families: true,
        };
        let expected = "*nat\n:TIDEGATE_EGRESS - [0:0]\n:TIDEGATE_INGRESS - [0:0]\n\
            -A TIDEGATE_EGRESS -m owner --uid-owner 1337 -j RETURN\n\
            -A TIDEGATE_EGRESS -p tcp -m multiport --dports 22 -j RETURN\n\
            -A TIDEGATE_EGRESS -p tcp -d 169.254.170.2/32 -j RETURN\n\
            -A TIDEGATE_EGRESS -p tcp -j REDIRECT --to-ports 15001\n\
            -A TIDEGATE_INGRESS -p tcp -m multiport --dports \
            8080,8081,8082,8083,8084,8085,8086,8087,8088,8089,8090,8091,8092,8093,8094 -j REDIRECT --to-ports 15000\n\
            -A TIDEGATE_INGRESS -p tcp -m multiport --dports 8095 -j REDIRECT --to-ports 15000\n\
            -A OUTPUT -p tcp -m addrtype ! --dst-type LOCAL -j TIDEGATE_EGRESS\n\
            -A PREROUTING -p tcp -m addrtype ! --src-type LOCAL -j TIDEGATE_INGRESS\nCOMMIT\n";
        assert_eq!(interception.table(Family::V4, &LINKS), expected);
        let v6 = interception.table(Family::V6, &[]);
        assert!(v6.contains("-d fd00::/8 -j RETURN") && !v6.contains("169.254") && !v6.contains("OUTPUT"), "{v6}");
        assert_eq!(Family::V6.program("iptables-nft"), "ip6tables-nft");
    }

    #[test]
    fn addresses_are_addresses_or_networks() {
        for (text, read) in [("10.1.2.3", "10.1.2.3/32"), ("10.0.0.0/8", "10.0.0.0/8"), ("::1", "::1/128")] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), read);
        }
        for wrong in ["", "host", "10.0.0.0/33", "10.0.0.0/", "::1/129", "10.0.0.1 -j ACCEPT"] {
            assert!(wrong.parse::<Address>().unwrap_err().contains("write 10.1.2.3"), "{wrong}");
        }
    }
}
