//! The rules of iptables that a task gets for its `proxyConfiguration`: what ECS's network plugin for App Mesh makes of the
//! properties. App Mesh's script for EC2 and its init container for Kubernetes make the same ones.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a `proxyConfiguration` of type APPMESH says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interception {
    ignored_uid: Option<u32>,
    ignored_gid: Option<u32>,
    pub(super) ingress_port: u16,
    pub(super) egress_port: u16,
    pub(super) app_ports: Vec<u16>,
    ignored_ips: Vec<String>,
    ignored_ports: Vec<u16>,
}

impl Interception {
    /// From the task definition; what is wrong with it where it says nothing that ECS would take.
    pub(super) fn of(task: &Value) -> Result<Self, String> {
        let configuration = &task["proxyConfiguration"];
        if configuration["type"] != "APPMESH" {
            return Err(format!("a proxyConfiguration of type {}", configuration["type"]));
        }
        let mut properties = BTreeMap::new();
        for property in configuration["properties"].as_array().into_iter().flatten() {
            let (Some(name), Some(value)) = (property["name"].as_str(), property["value"].as_str()) else {
                return Err(format!("no name and value: {property}"));
            };
            properties.insert(name, value);
        }
        let made = Self {
            ignored_uid: one(properties.remove("IgnoredUID"))?,
            ignored_gid: one(properties.remove("IgnoredGID"))?,
            ingress_port: one(properties.remove("ProxyIngressPort"))?.ok_or("no ProxyIngressPort")?,
            egress_port: one(properties.remove("ProxyEgressPort"))?.ok_or("no ProxyEgressPort")?,
            app_ports: list(properties.remove("AppPorts"))?,
            ignored_ips: list(properties.remove("EgressIgnoredIPs"))?,
            ignored_ports: list(properties.remove("EgressIgnoredPorts"))?,
        };
        match properties.first_key_value() {
            Some((name, _)) => Err(format!("no property is called {name}")),
            None if made.app_ports.is_empty() => Err("no AppPorts".to_owned()),
            None if made.ignored_uid.is_none() && made.ignored_gid.is_none() => Err("nobody is ignored".to_owned()),
            None => Ok(made),
        }
    }

    /// Arguments of one call of iptables each, in their order.
    pub(super) fn rules(&self) -> Vec<String> {
        let mut egress = Vec::new();
        egress.extend(self.ignored_uid.map(|id| format!("-m owner --uid-owner {id} -j RETURN")));
        egress.extend(self.ignored_gid.map(|id| format!("-m owner --gid-owner {id} -j RETURN")));
        if !self.ignored_ports.is_empty() {
            egress.push(format!("-p tcp -m multiport --dports {} -j RETURN", joined(&self.ignored_ports)));
        }
        egress.extend(self.ignored_ips.iter().map(|ip| format!("-p tcp -d {ip} -j RETURN")));
        egress.push(format!("-p tcp -j REDIRECT --to-ports {}", self.egress_port));
        let ingress = format!(
            "-p tcp -m multiport --dports {} -j REDIRECT --to-ports {}",
            joined(&self.app_ports),
            self.ingress_port
        );
        let mut all = vec!["-N APPMESH_INGRESS".to_owned(), "-N APPMESH_EGRESS".to_owned()];
        all.extend(egress.into_iter().map(|rule| format!("-A APPMESH_EGRESS {rule}")));
        all.push("-A OUTPUT -p tcp -m addrtype ! --dst-type LOCAL -j APPMESH_EGRESS".to_owned());
        all.push(format!("-A APPMESH_INGRESS {ingress}"));
        all.push("-A PREROUTING -p tcp -m addrtype ! --src-type LOCAL -j APPMESH_INGRESS".to_owned());
        all.into_iter().map(|rule| format!("-t nat {rule}")).collect()
    }
}

fn one<T: std::str::FromStr>(text: Option<&str>) -> Result<Option<T>, String> {
    text.map(|text| text.parse().map_err(|_| format!("{text} is none"))).transpose()
}

fn list<T: std::str::FromStr>(text: Option<&str>) -> Result<Vec<T>, String> {
    let words = text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|_| format!("{word} is none"))).collect()
}

fn joined(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

fn with(properties: &[(&str, &str)]) -> Value {
    let pairs = properties.iter().map(|(name, value)| json!({ "name": name, "value": value }));
    json!({ "proxyConfiguration": { "type": "APPMESH", "properties": pairs.collect::<Vec<_>>() } })
}

#[test]
fn the_guides_proxy_configuration_becomes_these_rules() {
    let interception = Interception::of(&super::task::guide()).unwrap();
    let rules = [
        "-N APPMESH_INGRESS",
        "-N APPMESH_EGRESS",
        "-A APPMESH_EGRESS -m owner --uid-owner 1337 -j RETURN",
        "-A APPMESH_EGRESS -p tcp -d 169.254.170.2 -j RETURN",
        "-A APPMESH_EGRESS -p tcp -d 169.254.169.254 -j RETURN",
        "-A APPMESH_EGRESS -p tcp -j REDIRECT --to-ports 15001",
        "-A OUTPUT -p tcp -m addrtype ! --dst-type LOCAL -j APPMESH_EGRESS",
        "-A APPMESH_INGRESS -p tcp -m multiport --dports 8080 -j REDIRECT --to-ports 15000",
        "-A PREROUTING -p tcp -m addrtype ! --src-type LOCAL -j APPMESH_INGRESS",
    ];
    assert_eq!(interception.rules(), rules.map(|rule| format!("-t nat {rule}")));
}

#[test]
fn every_property_has_its_rule_and_others_are_refused() {
    let all = [
        ("IgnoredGID", "99"),
        ("ProxyIngressPort", "7"),
        ("ProxyEgressPort", "8"),
        ("AppPorts", "80, 443"),
        ("EgressIgnoredPorts", "22,3306"),
    ];
    let rules = Interception::of(&with(&all)).unwrap().rules();
    let egress: Vec<&str> = rules.iter().filter_map(|rule| rule.strip_prefix("-t nat -A APPMESH_EGRESS ")).collect();
    assert_eq!(
        egress,
        [
            "-m owner --gid-owner 99 -j RETURN",
            "-p tcp -m multiport --dports 22,3306 -j RETURN",
            "-p tcp -j REDIRECT --to-ports 8"
        ]
    );
    assert!(rules.contains(
        &"-t nat -A APPMESH_INGRESS -p tcp -m multiport --dports 80,443 -j REDIRECT --to-ports 7".to_owned()
    ));
    let without = |name: &str| with(&all.into_iter().filter(|(own, _)| *own != name).collect::<Vec<_>>());
    for name in ["IgnoredGID", "ProxyIngressPort", "ProxyEgressPort", "AppPorts"] {
        assert!(Interception::of(&without(name)).is_err(), "it does without {name}");
    }
    for (name, value) in [("AppPorts", "http"), ("IgnoredUID", "envoy"), ("ProxyIngressPort", "70000"), ("Ports", "1")]
    {
        let mut wrong = all.to_vec();
        wrong.push((name, value));
        assert!(Interception::of(&with(&wrong)).is_err(), "it takes {name} {value}");
    }
    assert!(Interception::of(&json!({ "family": "plain" })).is_err());
}
