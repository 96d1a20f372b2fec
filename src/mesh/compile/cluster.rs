//! A virtual node as those see it who call it.

use super::protocol;
use crate::base::time::Millis;
use crate::mesh::model::Resource;
use crate::mesh::model::spec::{
    Certificate, ClientTls, DnsResponseType, IpPreference, Listener, ListenerTls, ServiceDiscovery, SubjectNames,
    TlsMode, Trust, VirtualNodeSpec,
};
use crate::mesh::snapshot::extension::{Flaw, NodeExtensions};
use crate::mesh::snapshot::{self, Cluster, ClusterKey, ClusterPort, Discovery, HealthCheck, UpstreamTls};

/// The cluster of a node, with what a client's policy for TLS makes of it, and what is wrong with the node's tags. A node that does
/// not exist has no listeners.
pub(super) fn cluster(
    key: &ClusterKey,
    node: Option<&Resource>,
    mesh: Option<&Resource>,
    policy: Option<&ClientTls>,
) -> (Cluster, Vec<Flaw>) {
    let empty = VirtualNodeSpec::default();
    let spec = node.and_then(|node| node.spec.virtual_node()).unwrap_or(&empty);
    let discovery = discovery(spec, ip_preference(spec, mesh));
    let ports = spec.listeners.iter().map(|listener| ClusterPort {
        port: listener.port_mapping.port,
        protocol: protocol(listener.port_mapping.protocol),
        health_check: health_check(listener),
        outlier: outlier(listener),
        tls: upstream_tls(policy, listener, &discovery),
    });
    let (extensions, flaws) = node.map(|node| NodeExtensions::of(&node.tags)).unwrap_or_default();
    (Cluster { key: key.clone(), ports: ports.collect(), discovery, extensions }, flaws)
}

fn discovery(spec: &VirtualNodeSpec, preference: snapshot::IpPreference) -> Discovery {
    match &spec.service_discovery {
        None => Discovery::None,
        Some(ServiceDiscovery::Dns(dns)) => Discovery::Dns {
            hostname: dns.hostname.clone(),
            each_address: dns.response_type == Some(DnsResponseType::Endpoints),
            preference,
        },
        Some(ServiceDiscovery::AwsCloudMap(map)) => Discovery::CloudMap {
            namespace: map.namespace_name.clone(),
            service: map.service_name.clone(),
            attributes: map.attribute_map(),
            preference,
        },
    }
}

/// A node's own preference stands before that of its mesh (user guide, "IP preference").
pub(super) fn ip_preference(spec: &VirtualNodeSpec, mesh: Option<&Resource>) -> snapshot::IpPreference {
    let own = match &spec.service_discovery {
        Some(ServiceDiscovery::Dns(dns)) => dns.ip_preference,
        Some(ServiceDiscovery::AwsCloudMap(map)) => map.ip_preference,
        None => None,
    };
    preference(own).unwrap_or_else(|| mesh_preference(mesh))
}

/// Preference of a mesh, which holds for its gateways too.
pub(super) fn mesh_preference(mesh: Option<&Resource>) -> snapshot::IpPreference {
    let spec = mesh.and_then(|mesh| mesh.spec.mesh());
    let discovery = spec.and_then(|spec| spec.service_discovery);
    preference(discovery.and_then(|discovery| discovery.ip_preference)).unwrap_or_default()
}

fn preference(given: Option<IpPreference>) -> Option<snapshot::IpPreference> {
    Some(match given? {
        IpPreference::V4Only => snapshot::IpPreference::V4Only,
        IpPreference::V6Only => snapshot::IpPreference::V6Only,
        IpPreference::V4Preferred => snapshot::IpPreference::V4Preferred,
        IpPreference::V6Preferred => snapshot::IpPreference::V6Preferred,
    })
}

fn health_check(listener: &Listener) -> Option<HealthCheck> {
    let check = listener.health_check.as_ref()?;
    Some(HealthCheck {
        // Nothing says what is asked for without a path; every server has a root.
        path: check.path.clone().unwrap_or_else(|| "/".into()),
        protocol: protocol(check.protocol),
        port: check.port.filter(|port| *port != listener.port_mapping.port),
        interval: Millis(check.interval_millis),
        timeout: Millis(check.timeout_millis),
        healthy_threshold: check.healthy_threshold,
        unhealthy_threshold: check.unhealthy_threshold,
    })
}

fn outlier(listener: &Listener) -> Option<snapshot::OutlierDetection> {
    let detection = listener.outlier_detection.as_ref()?;
    Some(snapshot::OutlierDetection {
        max_server_errors: u32::try_from(detection.max_server_errors).unwrap_or(u32::MAX),
        interval: detection.interval.millis(),
        base_ejection: detection.base_ejection_duration.millis(),
        max_ejection_percent: detection.max_ejection_percent,
    })
}

/// What the client's policy and the server's listener come to (appmesh "TLS", client side).
fn upstream_tls(policy: Option<&ClientTls>, listener: &Listener, discovery: &Discovery) -> Option<UpstreamTls> {
    let server = listener.tls.as_ref().filter(|tls| tls.mode != TlsMode::Disabled);
    let policy = policy.filter(|policy| policy.ports.is_empty() || policy.ports.contains(&listener.port_mapping.port));
    let name = discovery_name(discovery);
    match (policy, server) {
        (None, None) => None,
        (Some(policy), None) if policy.enforce == Some(false) => None,
        (Some(policy), _) => Some(UpstreamTls {
            trust: Some(trust(&policy.validation.trust)),
            names: match subject_names(policy.validation.subject_alternative_names.as_ref()) {
                names if names.is_empty() => name.iter().cloned().collect(),
                names => names,
            },
            certificate: policy.certificate.as_ref().map(certificate),
            server_name: name,
        }),
        (None, Some(server)) => Some(unasked(server, name)),
    }
}

/// TLS without a policy follows the server: only a certificate of ACM is checked, against its authority.
fn unasked(server: &ListenerTls, name: Option<String>) -> UpstreamTls {
    let arn = match &server.certificate {
        Certificate::Acm { certificate_arn } => Some(certificate_arn.clone()),
        Certificate::File { .. } | Certificate::Sds { .. } => None,
    };
    UpstreamTls {
        names: if arn.is_some() { name.iter().cloned().collect() } else { Vec::new() },
        trust: arn.map(|arn| snapshot::Trust::Acm { arns: vec![arn] }),
        certificate: None,
        server_name: name,
    }
}

/// The name that a server's certificate should have when nobody says another one.
fn discovery_name(discovery: &Discovery) -> Option<String> {
    match discovery {
        Discovery::None => None,
        Discovery::Dns { hostname, .. } => Some(hostname.clone()),
        Discovery::CloudMap { namespace, service, .. } => Some(format!("{service}.{namespace}")),
    }
}

pub(super) fn subject_names(names: Option<&SubjectNames>) -> Vec<String> {
    names.map(|names| names.matches.exact.clone()).unwrap_or_default()
}

pub(super) fn trust(trust: &Trust) -> snapshot::Trust {
    match trust {
        Trust::Acm { certificate_authority_arns } => snapshot::Trust::Acm { arns: certificate_authority_arns.clone() },
        Trust::File { certificate_chain } => snapshot::Trust::File { chain: certificate_chain.clone() },
        Trust::Sds { secret_name } => snapshot::Trust::Sds { secret: secret_name.clone() },
    }
}

pub(super) fn certificate(certificate: &Certificate) -> snapshot::Certificate {
    match certificate {
        Certificate::Acm { certificate_arn } => snapshot::Certificate::Acm { arn: certificate_arn.clone() },
        Certificate::File { certificate_chain, private_key } => {
            snapshot::Certificate::File { chain: certificate_chain.clone(), key: private_key.clone() }
        }
        Certificate::Sds { secret_name } => snapshot::Certificate::Sds { secret: secret_name.clone() },
    }
}
