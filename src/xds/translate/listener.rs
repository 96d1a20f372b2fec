//! Listeners of a virtual node: one for what is meant for its application, one for what that sends.
//!
//! Connections are told apart by the port that they were sent to, which interception keeps (`original_dst`). Without
//! interception they were sent to the listener itself: then the application's first listener is meant on the one side, and
//! Host tells the service on the other.

use super::pieces::{any, by_ads, listening, number, span_or_off, truth};
use super::route::{Door, add, to_application, to_services};
use super::{Translation, Type, access_log, cluster, counted, extension, tls};
use crate::base::time::Millis;
use crate::mesh::snapshot::{Listener, Own, Protocol, Role, Route, ServerTlsMode, VirtualService};
use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::envoy::r#type::v3::Int32Range;
use envoy_types::pb::google::protobuf::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// How long a connection to what is no part of the mesh may be silent: Envoy's own default for connections.
const IDLE_TIMEOUT: Millis = Millis::from_seconds(3600);

/// Both listeners of a node.
pub(super) fn node(out: &mut Translation<'_>, own: &Own) {
    if !own.listeners.is_empty() {
        ingress(out, own);
    }
    egress(out, own);
}

/// Name of a listener: with the address that it had under App Mesh, whatever it binds.
pub(super) fn name(direction: &str, address: SocketAddr) -> String {
    format!("lds_{direction}_{}_{}", address.ip(), address.port())
}

/// Prefix of the statistics of a filter.
fn stat_prefix(direction: &str, own: &Own, protocol: Protocol, port: u16) -> String {
    if own.listeners.len() > 1 { format!("{direction}.{}.{port}", protocol.word()) } else { direction.to_owned() }
}

fn ingress(out: &mut Translation<'_>, own: &Own) {
    let address = out.options.ingress;
    let direct = !own.listeners.iter().any(|listener| listener.port == address.port());
    let mut chains = Vec::new();
    let mut needs = BTreeSet::new();
    for (number, listener) in own.listeners.iter().enumerate() {
        let mut filters = Vec::new();
        let prefix = stat_prefix("ingress", own, listener.protocol, listener.port);
        if listener.protocol == Protocol::Tcp {
            let target = tcp::tcp_proxy::ClusterSpecifier::Cluster(cluster::ingress_name(own, listener));
            needs.extend(cluster_names(&target));
            filters.push(tcp_filter(own, &prefix, target, listener.idle_timeout));
        } else {
            let routes = format!("rds_ingress_{}_{}", listener.protocol.word(), listener.port);
            let hosts = to_application(own, listener);
            add(out, &routes, hosts);
            filters.push(http_filter(&prefix, &routes, Vec::new(), access_log::of(own)));
        }
        chains.extend(secured(out, own, listener, listener.port, &filters));
        if number == 0 && direct {
            chains.extend(secured(out, own, listener, address.port(), &filters));
        }
    }
    let tls = own.listeners.iter().any(|listener| listener.tls.is_some());
    let inspect = tls.then(|| tls_inspector(None));
    // Envoy takes no listener without a chain; why there is none was said.
    if chains.is_empty() {
        return;
    }
    let message = pb::Listener {
        name: name("ingress", address),
        address: listening(address, own.ip_preference.binds_both()),
        traffic_direction: core::TrafficDirection::Inbound.into(),
        listener_filters: std::iter::once(original_dst()).chain(inspect).collect(),
        filter_chains: chains,
        ..Default::default()
    };
    out.resources.add_pointing(Type::Listener, &message.name, any(&message), needs);
}

/// The chains of an own listener: plain, secured, or both.
pub(super) fn secured(
    out: &mut Translation<'_>,
    own: &Own,
    listener: &Listener,
    port: u16,
    filters: &[pb::Filter],
) -> Vec<pb::FilterChain> {
    let chain = |transport: &str, socket: Option<core::TransportSocket>| pb::FilterChain {
        filter_chain_match: Some(pb::FilterChainMatch {
            destination_port: number(port.into()),
            transport_protocol: transport.to_owned(),
            ..Default::default()
        }),
        filters: filters.to_vec(),
        transport_socket: socket,
        ..Default::default()
    };
    let Some(tls) = &listener.tls else { return vec![chain("", None)] };
    let mut chains = Vec::new();
    match tls::downstream(out, tls, listener.protocol) {
        Ok(socket) => chains.push(chain("tls", Some(socket))),
        Err(reason) => {
            let kind = if matches!(own.role, Role::Node) { "virtualNode" } else { "virtualGateway" };
            let path = format!("mesh/{}/{kind}/{}", own.mesh, own.name);
            out.problem(format!("{path}: takes no TLS on port {}: {reason}", listener.port));
        }
    }
    if tls.mode == ServerTlsMode::Permissive {
        chains.push(chain("raw_buffer", None));
    }
    chains
}

/// For the application beside it: whoever else comes here would call with this node's identity.
fn from_here(mut direct: pb::FilterChain) -> pb::FilterChain {
    if let Some(matches) = &mut direct.filter_chain_match {
        matches.source_type = pb::filter_chain_match::ConnectionSourceType::SameIpOrLoopback.into();
    }
    direct
}

fn egress(out: &mut Translation<'_>, own: &Own) {
    let address = out.options.egress;
    let allow_all = own.allow_all.then(|| cluster::allow_all_name(own));
    let mut chains = Vec::new();
    let mut needs = BTreeSet::from([allow_all.clone().unwrap_or_else(|| cluster::amazonaws_name(own))]);
    for (port, (protocol, service)) in ports(out) {
        let filter = if protocol == Protocol::Tcp {
            match tcp_route(&service, port).and_then(|route| tcp_target(out, route)) {
                Some((target, idle)) => {
                    needs.extend(cluster_names(&target));
                    tcp_filter(own, "egress", target, idle)
                }
                None => continue,
            }
        } else {
            let routes = format!("rds_egress_{}_{port}", protocol.word());
            let hosts = to_services(out, Door::Port(port), allow_all.clone());
            add(out, &routes, hosts);
            to_services_filter(out, own, &stat_prefix("egress", own, protocol, port), &routes)
        };
        chains.push(chain(port, vec![filter]));
    }
    if !chains.iter().any(|chain| destination(chain) == Some(u32::from(address.port()))) {
        let routes = format!("rds_egress_http_{}", address.port());
        let hosts = to_services(out, Door::Host, None);
        add(out, &routes, hosts);
        let filter = to_services_filter(out, own, "egress", &routes);
        chains.push(from_here(chain(address.port(), vec![filter])));
        if allow_all.is_some() {
            // Where it was going is this port itself: let out, it would come back as a call of the machine's own. Envoy
            // closes what has no filters.
            let mut strangers = chain(address.port(), Vec::new());
            if let Some(matches) = &mut strangers.filter_chain_match {
                matches.source_type = pb::filter_chain_match::ConnectionSourceType::External.into();
            }
            chains.push(strangers);
        }
    }
    let rest = |name: String| {
        let target = tcp::tcp_proxy::ClusterSpecifier::Cluster(name);
        tcp_filter(own, "egress", target, Some(IDLE_TIMEOUT))
    };
    let mut default_filter_chain = None;
    match allow_all {
        Some(name) => {
            default_filter_chain = Some(pb::FilterChain { filters: vec![rest(name)], ..Default::default() });
        }
        None => chains.push(pb::FilterChain {
            filter_chain_match: Some(pb::FilterChainMatch {
                destination_port: number(443),
                transport_protocol: "tls".into(),
                server_names: vec!["*.amazonaws.com".into()],
                ..Default::default()
            }),
            filters: vec![rest(cluster::amazonaws_name(own))],
            ..Default::default()
        }),
    }
    let message = pb::Listener {
        name: name("egress", address),
        address: listening(address, own.ip_preference.binds_both()),
        traffic_direction: core::TrafficDirection::Outbound.into(),
        // Only where a name is asked for: who waits for the server's first words would wait for ever.
        listener_filters: vec![original_dst(), tls_inspector(Some(443))],
        filter_chains: chains,
        default_filter_chain,
        ..Default::default()
    };
    out.resources.add_pointing(Type::Listener, &message.name, any(&message), needs);
}

/// Ports that services are called on, each with what is spoken there. Where they disagree, the first by name has the port
/// (App Mesh made a configuration of it that Envoy refused).
fn ports(out: &mut Translation<'_>) -> BTreeMap<u16, (Protocol, Arc<VirtualService>)> {
    let mut ports: BTreeMap<u16, (Protocol, Arc<VirtualService>)> = BTreeMap::new();
    let mut problems = Vec::new();
    for service in out.config.services.values() {
        for port in &service.ports {
            let Some((protocol, first)) = ports.get(&port.port) else {
                ports.insert(port.port, (port.protocol, Arc::clone(service)));
                continue;
            };
            let both_http = *protocol != Protocol::Tcp && port.protocol != Protocol::Tcp;
            if !both_http {
                problems.push(format!(
                    "mesh/{}/virtualService/{}: not reached on port {}, which {} has for {}; give one of them another port",
                    service.mesh,
                    service.name,
                    port.port,
                    first.name,
                    protocol.word()
                ));
            }
        }
    }
    out.resources.problems.extend(problems);
    ports
}

fn tcp_route(service: &VirtualService, port: u16) -> Option<&Route> {
    service
        .routes
        .iter()
        .find(|route| route.protocol == Protocol::Tcp && route.matches.port.is_none_or(|own| own == port))
        .map(|route| &**route)
}

/// Targets of connections. Envoy knows no weight 0 here, so such a target is left out.
fn tcp_target(out: &Translation<'_>, route: &Route) -> Option<(tcp::tcp_proxy::ClusterSpecifier, Option<Millis>)> {
    use tcp::tcp_proxy::{ClusterSpecifier, WeightedCluster, weighted_cluster::ClusterWeight};
    let weighted = route.targets.iter().filter(|target| target.weight > 0);
    let clusters: Vec<ClusterWeight> = weighted
        .map(|target| ClusterWeight {
            name: cluster::egress_name(target, &out.config.clusters),
            weight: target.weight,
            ..Default::default()
        })
        .collect();
    let target = ClusterSpecifier::WeightedClusters(WeightedCluster { clusters });
    (!route.targets.iter().all(|target| target.weight == 0)).then_some((target, route.idle_timeout))
}

/// Clusters that connections go to.
fn cluster_names(target: &tcp::tcp_proxy::ClusterSpecifier) -> Vec<String> {
    use tcp::tcp_proxy::ClusterSpecifier;
    match target {
        ClusterSpecifier::Cluster(name) => vec![name.clone()],
        ClusterSpecifier::WeightedClusters(all) => all.clusters.iter().map(|cluster| cluster.name.clone()).collect(),
    }
}

pub(super) fn chain(port: u16, filters: Vec<pb::Filter>) -> pb::FilterChain {
    pb::FilterChain {
        filter_chain_match: Some(pb::FilterChainMatch { destination_port: number(port.into()), ..Default::default() }),
        filters,
        ..Default::default()
    }
}

fn destination(chain: &pb::FilterChain) -> Option<u32> {
    chain.filter_chain_match.as_ref()?.destination_port.map(|port| port.value)
}

/// Requests, by routes that come over the stream, through these filters before they are routed, and into these logs.
pub(super) fn http_filter(
    stat_prefix: &str,
    routes: &str,
    mut filters: Vec<hcm::HttpFilter>,
    logs: Vec<AccessLog>,
) -> pb::Filter {
    use hcm::http_connection_manager::{PathWithEscapedSlashesAction, RouteSpecifier, UpgradeConfig};
    let router = hcm::HttpFilter {
        name: "envoy.filters.http.router".into(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(&Router::default()))),
        ..Default::default()
    };
    filters.push(router);
    let manager = hcm::HttpConnectionManager {
        stat_prefix: stat_prefix.to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(hcm::Rds {
            config_source: by_ads(),
            route_config_name: routes.to_owned(),
        })),
        http_filters: filters,
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".into(), ..Default::default() }],
        normalize_path: truth(true),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::KeepUnchanged.into(),
        tracing: Some(hcm::http_connection_manager::Tracing::default()),
        access_log: logs,
        ..Default::default()
    };
    filter("envoy.filters.network.http_connection_manager", any(&manager))
}

/// Requests for services.
pub(super) fn to_services_filter(out: &Translation<'_>, own: &Own, stat_prefix: &str, routes: &str) -> pb::Filter {
    http_filter(stat_prefix, routes, extension::filters(out.config), counted::logs(out, own))
}

fn tcp_filter(
    own: &Own,
    stat_prefix: &str,
    target: tcp::tcp_proxy::ClusterSpecifier,
    idle_timeout: Option<Millis>,
) -> pb::Filter {
    let proxy = tcp::TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(target),
        idle_timeout: span_or_off(idle_timeout),
        access_log: access_log::of(own),
        ..Default::default()
    };
    filter("envoy.filters.network.tcp_proxy", any(&proxy))
}

fn filter(name: &str, config: Any) -> pb::Filter {
    pb::Filter { name: name.to_owned(), config_type: Some(pb::filter::ConfigType::TypedConfig(config)) }
}

fn listener_filter(name: &str, config: Any) -> pb::ListenerFilter {
    pb::ListenerFilter {
        name: name.to_owned(),
        config_type: Some(pb::listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

fn original_dst() -> pb::ListenerFilter {
    listener_filter("envoy.filters.listener.original_dst", any(&OriginalDst::default()))
}

/// Looks for a TLS handshake; on connections to one port alone, where one is given.
pub(super) fn tls_inspector(only: Option<u16>) -> pb::ListenerFilter {
    use pb::listener_filter_chain_match_predicate::Rule;
    let mut filter = listener_filter("envoy.filters.listener.tls_inspector", any(&TlsInspector::default()));
    filter.filter_disabled = only.map(|port| {
        let range = Int32Range { start: port.into(), end: i32::from(port) + 1 };
        let that = pb::ListenerFilterChainMatchPredicate { rule: Some(Rule::DestinationPortRange(range)) };
        pb::ListenerFilterChainMatchPredicate { rule: Some(Rule::NotMatch(Box::new(that))) }
    });
    filter
}
