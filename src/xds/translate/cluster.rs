//! Clusters: the nodes that a proxy sends to, its own application, and what is let out beside.

use super::pieces::{any, by_ads, host, number, socket, span_of, tagged};
use super::{Endpoints, Translation, Type, balance, tls};
use crate::base::time::Millis;
use crate::mesh::snapshot::{
    AppAddress, Cluster, ClusterKey, ClusterPort, Discovery, HealthCheck, IpPreference, Listener, OutlierDetection,
    Own, Pool, Protocol, Role, Target,
};
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;
use envoy_types::pb::google::protobuf::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Time to connect to another node (appmesh "How an Envoy was configured").
const CONNECT_TIMEOUT: Millis = Millis(1000);
/// Time to connect to the application beside the proxy (likewise).
const LOCAL_CONNECT_TIMEOUT: Millis = Millis(250);
/// No limit (appmesh "Circuit breaking"): Envoy's own default of 1024 is none that App Mesh had.
const UNLIMITED: u32 = 2_147_483_647;

/// Name of the cluster of a node's port, as callers see it.
pub(super) fn egress_name(target: &Target, clusters: &BTreeMap<ClusterKey, std::sync::Arc<Cluster>>) -> String {
    let port = clusters.get(&target.cluster).and_then(|cluster| cluster.at(target.port));
    name("egress", &target.cluster, port.map_or(Protocol::Http, |port| port.protocol), target.port)
}

fn name(direction: &str, key: &ClusterKey, protocol: Protocol, port: u16) -> String {
    format!("cds_{direction}_{}_{}_{}_{port}", key.mesh, key.node, protocol.word())
}

/// Name of the cluster of the own application.
pub(super) fn ingress_name(own: &Own, listener: &Listener) -> String {
    format!("cds_ingress_{}_{}_{}_{}", own.mesh, own.name, listener.protocol.word(), listener.port)
}

/// Name of the cluster by which a gateway hands requests to its own egress listener.
pub(super) fn redirect_name(own: &Own, listener: &Listener, egress: u16) -> String {
    let protocol = listener.protocol.word();
    let port = if own.listeners.len() > 1 { format!("{}_", listener.port) } else { String::new() };
    format!("cds_ingress_{}_{}_self_redirect_{port}{protocol}_{egress}", own.mesh, own.name)
}

/// Name of the cluster of everything that is no backend.
pub(super) fn allow_all_name(own: &Own) -> String {
    format!("cds_egress_{}_mesh-allow-all", own.mesh)
}

/// Name of the cluster of AWS's own services.
pub(super) fn amazonaws_name(own: &Own) -> String {
    format!("cds_egress_{}_amazonaws", own.mesh)
}

/// All clusters of a proxy, and the endpoints of those that get them by EDS.
pub(super) fn all(out: &mut Translation<'_>, own: &Own, endpoints: &Endpoints) {
    let routes = out.config.services.values().flat_map(|service| &service.routes);
    let targets: BTreeSet<(&ClusterKey, u16)> =
        routes.flat_map(|route| &route.targets).map(|target| (&target.cluster, target.port)).collect();
    for (key, port) in targets {
        let Some(cluster) = out.config.clusters.get(key) else { continue };
        let plain = ClusterPort::plain(port, Protocol::Http);
        egress(out, cluster, cluster.at(port).unwrap_or(&plain), endpoints);
    }
    for listener in &own.listeners {
        let (name, address, options) = match &own.role {
            Role::Node => (ingress_name(own, listener), local(own, listener.port), listener.protocol),
            Role::Gateway(_) => {
                let port = out.options.egress.port();
                (redirect_name(own, listener, port), local(own, port), listener.protocol)
            }
        };
        let taken = [out.options.ingress.port(), out.options.egress.port()].contains(&listener.port);
        let is_itself = taken && matches!(own.role, Role::Node);
        if is_itself {
            out.problem(format!(
                "mesh/{}/virtualNode/{}: port {} is the proxy's own, and its application is not reached on it: give one of \
                 them another port",
                own.mesh, own.name, listener.port
            ));
        }
        // It would send to itself for ever.
        let address = (!is_itself).then_some(address);
        let mut cluster = fixed(&name, address, LOCAL_CONNECT_TIMEOUT, options);
        cluster.circuit_breakers = Some(thresholds(listener.pool.unwrap_or_default()));
        add(out, &cluster);
    }
    if matches!(own.role, Role::Node) {
        let name = if own.allow_all { allow_all_name(own) } else { amazonaws_name(own) };
        add(out, &original_destination(&name));
    }
}

fn add(out: &mut Translation<'_>, cluster: &pb::Cluster) {
    out.resources.add(Type::Cluster, &cluster.name, any(cluster));
}

/// A port of this machine: of the application, which listens where callers of its node connect to, or of the proxy itself.
fn local(own: &Own, port: u16) -> SocketAddr {
    match own.ip_preference.app_address() {
        AppAddress::V4 => SocketAddr::new([127, 0, 0, 1].into(), port),
        AppAddress::V6 => SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), port),
    }
}

/// A node's port, as its callers see it.
fn egress(out: &mut Translation<'_>, cluster: &Cluster, port: &ClusterPort, endpoints: &Endpoints) {
    let name = name("egress", &cluster.key, port.protocol, port.port);
    let mut message = fixed(&name, None, CONNECT_TIMEOUT, port.protocol);
    let mut socket_of_tls = None;
    if let Some(wanted) = &port.tls {
        match tls::upstream(out, wanted, port.protocol) {
            Ok(socket) => socket_of_tls = Some(socket),
            Err(reason) => {
                // Neither in the clear nor unchecked: it has no endpoints, and answers 503.
                let node = format!("mesh/{}/virtualNode/{}", cluster.key.mesh, cluster.key.node);
                out.problem(format!("{node}: is not reached: {reason}"));
                add(out, &message);
                return;
            }
        }
    }
    message.transport_socket = socket_of_tls;
    discovered(out, &mut message, cluster, port, endpoints);
    let named = match &cluster.discovery {
        Discovery::Dns { hostname, .. } => hostname.as_str(),
        Discovery::None | Discovery::CloudMap { .. } => cluster.key.node.as_str(),
    };
    message.health_checks = port.health_check.iter().map(|check| health_check(check, named)).collect();
    message.outlier_detection = port.outlier.map(outlier);
    message.circuit_breakers = Some(thresholds(Pool::default()));
    balance::extend(&mut message, cluster.extensions);
    message.metadata = tagged("TargetVirtualNode", &cluster.key.node);
    add(out, &message);
}

/// Where its endpoints come from.
fn discovered(
    out: &mut Translation<'_>,
    message: &mut pb::Cluster,
    cluster: &Cluster,
    port: &ClusterPort,
    endpoints: &Endpoints,
) {
    let check_port = port.health_check.as_ref().and_then(|check| check.port);
    let by_name = match &cluster.discovery {
        Discovery::None => return,
        Discovery::Dns { hostname, each_address, preference } if !out.options.names_by_control_plane => {
            Some((hostname, each_address, preference))
        }
        Discovery::Dns { .. } | Discovery::CloudMap { .. } => None,
    };
    match by_name {
        Some((hostname, each_address, preference)) => {
            let kind = if *each_address { DiscoveryType::StrictDns } else { DiscoveryType::LogicalDns };
            message.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
            message.dns_lookup_family = lookup_family(*preference).into();
            message.load_assignment = Some(assignment(&message.name, [host(hostname, port.port)], check_port));
        }
        None => {
            message.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()));
            message.eds_cluster_config =
                Some(pb::cluster::EdsClusterConfig { eds_config: by_ads(), service_name: String::new() });
            let known = endpoints.get(&(cluster.key.clone(), port.port)).map_or(&[][..], Vec::as_slice);
            // A name of a load balancer stands for one address, whoever looks it up (appmesh "Service discovery").
            let one = matches!(&cluster.discovery, Discovery::Dns { each_address: false, .. });
            let known = known.iter().take(if one { 1 } else { usize::MAX });
            let assignment = assignment(&message.name, known.copied().map(socket), check_port);
            out.resources.add(Type::Endpoint, &message.name, any(&assignment));
        }
    }
}

/// A cluster with one address, or with none.
fn fixed(name: &str, address: Option<SocketAddr>, connect_timeout: Millis, protocol: Protocol) -> pb::Cluster {
    pb::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        connect_timeout: Some(span_of(connect_timeout)),
        load_assignment: Some(assignment(name, address.map(socket), None)),
        typed_extension_protocol_options: protocol_options(protocol)
            .map(|options| ("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), options))
            .into_iter()
            .collect(),
        ..Default::default()
    }
}

/// HTTP/2 has to be said; HTTP/1.1 and bytes are what is spoken otherwise.
fn protocol_options(protocol: Protocol) -> Option<Any> {
    use upstream::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config};
    if !matches!(protocol, Protocol::Http2 | Protocol::Grpc) {
        return None;
    }
    let http2 = explicit_http_config::ProtocolConfig::Http2ProtocolOptions(core::Http2ProtocolOptions::default());
    Some(any(&upstream::HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(http2),
        })),
        ..Default::default()
    }))
}

fn assignment(
    cluster: &str,
    addresses: impl IntoIterator<Item = Option<core::Address>>,
    check_port: Option<u16>,
) -> endpoint::ClusterLoadAssignment {
    let check =
        check_port.map(|port| endpoint::endpoint::HealthCheckConfig { port_value: port.into(), ..Default::default() });
    let lb_endpoints = addresses.into_iter().map(|address| endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
            address,
            health_check_config: check.clone(),
            ..Default::default()
        })),
        ..Default::default()
    });
    let lb_endpoints: Vec<_> = lb_endpoints.collect();
    let endpoints = if lb_endpoints.is_empty() {
        Vec::new()
    } else {
        vec![endpoint::LocalityLbEndpoints { lb_endpoints, ..Default::default() }]
    };
    endpoint::ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints, ..Default::default() }
}

/// Where a connection was going before it was redirected.
fn original_destination(name: &str) -> pb::Cluster {
    pb::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())),
        connect_timeout: Some(span_of(CONNECT_TIMEOUT)),
        lb_policy: pb::cluster::LbPolicy::ClusterProvided.into(),
        ..Default::default()
    }
}

/// appmesh "Service discovery", table of preferences. A load balancer's name is looked up by the same families.
fn lookup_family(preference: IpPreference) -> DnsLookupFamily {
    match preference {
        IpPreference::Unset | IpPreference::V6Preferred => DnsLookupFamily::Auto,
        IpPreference::V4Preferred => DnsLookupFamily::V4Preferred,
        IpPreference::V4Only => DnsLookupFamily::V4Only,
        IpPreference::V6Only => DnsLookupFamily::V6Only,
    }
}

fn thresholds(pool: Pool) -> pb::CircuitBreakers {
    let limit = |limit: Option<u32>| number(limit.unwrap_or(UNLIMITED));
    let thresholds = pb::circuit_breakers::Thresholds {
        max_connections: limit(pool.connections),
        max_pending_requests: limit(pool.pending),
        max_requests: limit(pool.requests),
        max_retries: limit(None),
        ..Default::default()
    };
    pb::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

fn health_check(check: &HealthCheck, host: &str) -> core::HealthCheck {
    use core::health_check::{GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck};
    use envoy_types::pb::envoy::r#type::v3::CodecClientType;
    let http = |codec: CodecClientType| {
        HealthChecker::HttpHealthCheck(HttpHealthCheck {
            host: host.to_owned(),
            path: check.path.clone(),
            codec_client_type: codec.into(),
            ..Default::default()
        })
    };
    let checker = match check.protocol {
        Protocol::Http => http(CodecClientType::Http1),
        Protocol::Http2 => http(CodecClientType::Http2),
        Protocol::Grpc => HealthChecker::GrpcHealthCheck(GrpcHealthCheck::default()),
        Protocol::Tcp => HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
    };
    core::HealthCheck {
        timeout: Some(span_of(check.timeout)),
        interval: Some(span_of(check.interval)),
        // Nothing says what App Mesh did without traffic; Envoy's own minute would make new endpoints wait.
        no_traffic_interval: Some(span_of(check.interval)),
        healthy_threshold: number(check.healthy_threshold),
        unhealthy_threshold: number(check.unhealthy_threshold),
        health_checker: Some(checker),
        ..Default::default()
    }
}

fn outlier(detection: OutlierDetection) -> pb::OutlierDetection {
    pb::OutlierDetection {
        consecutive_5xx: number(detection.max_server_errors),
        // Envoy refuses 0, which App Mesh allows.
        interval: Some(span_of(detection.interval.max(Millis(1)))),
        base_ejection_time: Some(span_of(detection.base_ejection.max(Millis(1)))),
        max_ejection_percent: number(detection.max_ejection_percent.into()),
        // What nobody asked for ejects nobody.
        enforcing_success_rate: number(0),
        enforcing_consecutive_gateway_failure: number(0),
        ..Default::default()
    }
}
