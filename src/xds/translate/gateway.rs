//! A virtual gateway: its own listeners, which choose the virtual service and send requests on to an egress listener of the
//! same proxy, which routes them as a node's would (appmesh "Virtual gateway and gateway routes").

use super::listener::{chain, http_filter, name as listener_name, secured, tls_inspector, to_services_filter};
use super::pieces::{any, listening, socket, span_or_off, tagged};
use super::route::{Door, add, conditions, host, set_header, to_services};
use super::{Translation, Type, access_log, cluster};
use crate::mesh::snapshot::{
    AppAddress, GatewayRoute, Listener, Own, PORT_HEADER, PathMatch, PathRewrite, SERVICE_HEADER, gateway_hosts,
};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// All listeners and routes of a gateway.
pub(super) fn all(out: &mut Translation<'_>, own: &Own, routes: &[Arc<GatewayRoute>]) {
    for listener in &own.listeners {
        ingress(out, own, listener, routes);
    }
    let egress = out.options.egress;
    let name = format!("rds_egress_http_{}", egress.port());
    let hosts = to_services(out, Door::Gateway, None);
    add(out, &name, hosts);
    // Nobody but the proxy itself speaks to it: behind it the gateway's own rules are passed.
    let local = match own.ip_preference.app_address() {
        AppAddress::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        AppAddress::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let message = pb::Listener {
        name: listener_name("egress", egress),
        address: socket(SocketAddr::new(local, egress.port())),
        stat_prefix: egress.to_string().replace(':', "_"),
        traffic_direction: core::TrafficDirection::Outbound.into(),
        filter_chains: vec![chain(egress.port(), vec![to_services_filter(out, own, "egress", &name)])],
        ..Default::default()
    };
    out.resources.add(Type::Listener, &message.name, any(&message));
}

fn ingress(out: &mut Translation<'_>, own: &Own, listener: &Listener, routes: &[Arc<GatewayRoute>]) {
    let address = SocketAddr::new(out.options.ingress.ip(), listener.port);
    let name = format!("rds_ingress_{}_{}", listener.protocol.word(), listener.port);
    let several = own.listeners.len() > 1;
    let hosts = hosts(out, own, listener, routes);
    add(out, &name, hosts);
    let prefix =
        if several { format!("ingress.{}.{}", listener.protocol.word(), listener.port) } else { "ingress".to_owned() };
    let filters = [http_filter(&prefix, &name, Vec::new(), access_log::of(own))];
    let filter_chains = secured(out, own, listener, listener.port, &filters);
    // Envoy takes no listener without a chain; why there is none was said.
    if filter_chains.is_empty() {
        return;
    }
    let message = pb::Listener {
        name: listener_name("ingress", address),
        address: listening(address, own.ip_preference.binds_both()),
        traffic_direction: core::TrafficDirection::Inbound.into(),
        filter_chains,
        listener_filters: listener.tls.iter().map(|_| tls_inspector(None)).collect(),
        ..Default::default()
    };
    out.resources.add(Type::Listener, &message.name, any(&message));
}

/// One virtual host for each name that some route asks for, and one for the rest.
fn hosts(
    out: &Translation<'_>,
    own: &Own,
    listener: &Listener,
    routes: &[Arc<GatewayRoute>],
) -> Vec<route::VirtualHost> {
    let hosts = gateway_hosts(routes, listener.port).into_iter().map(|found| {
        let routes = found.routes.into_iter().flat_map(|route| messages(out, own, listener, route)).collect();
        host(&found.label, found.domains, routes)
    });
    hosts.collect()
}

/// A gateway route as Envoy's: two where a prefix without a slash at its end is replaced, so that `/p` and `/p/x` become
/// `/` and `/x`.
fn messages(out: &Translation<'_>, own: &Own, listener: &Listener, wanted: &GatewayRoute) -> Vec<route::Route> {
    let message =
        |matches: route::RouteMatch, rewrite: Rewrite<'_>| route_message(out, own, listener, wanted, matches, rewrite);
    let matches = conditions(&wanted.matches);
    match (&wanted.path, &wanted.matches.path) {
        (PathRewrite::Prefix(to), PathMatch::Prefix(from)) if from != to => {
            let mut found = Vec::new();
            if !from.ends_with('/') {
                let mut below = matches.clone();
                below.path_specifier = Some(route::route_match::PathSpecifier::Prefix(format!("{from}/")));
                let to = if to.ends_with('/') { to.clone() } else { format!("{to}/") };
                found.push(message(below, Rewrite::Matched(&to)));
            }
            found.push(message(matches, Rewrite::Matched(to)));
            found
        }
        (PathRewrite::Whole(to), PathMatch::Regex(_)) => vec![message(matches, Rewrite::Whole(to))],
        // An exact path is matched as a whole.
        (PathRewrite::Whole(to), _) => vec![message(matches, Rewrite::Matched(to))],
        _ => vec![message(matches, Rewrite::None)],
    }
}

#[derive(Clone, Copy)]
enum Rewrite<'t> {
    None,
    /// What matched becomes this.
    Matched(&'t str),
    /// Whatever matched, the path becomes this.
    Whole(&'t str),
}

fn route_message(
    out: &Translation<'_>,
    own: &Own,
    listener: &Listener,
    wanted: &GatewayRoute,
    matches: route::RouteMatch,
    rewrite: Rewrite<'_>,
) -> route::Route {
    let service = out.config.services.get(&wanted.target.service);
    let name = service.map_or(&*wanted.target.service, |service| &*service.name);
    let mut action = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(cluster::redirect_name(
            own,
            listener,
            out.options.egress.port(),
        ))),
        timeout: span_or_off(wanted.request_timeout),
        ..Default::default()
    };
    match rewrite {
        Rewrite::None => {}
        Rewrite::Matched(to) => action.prefix_rewrite = to.to_owned(),
        Rewrite::Whole(to) => {
            action.regex_rewrite = Some(matcher::RegexMatchAndSubstitute {
                pattern: Some(matcher::RegexMatcher { regex: "^.*$".into(), ..Default::default() }),
                // A backslash would name a group.
                substitution: to.replace('\\', "\\\\"),
            });
        }
    }
    let mut headers = Vec::new();
    if wanted.rewrite_host {
        action.host_rewrite_specifier =
            Some(route::route_action::HostRewriteSpecifier::HostRewriteLiteral(name.to_lowercase()));
    } else {
        headers.push(set_header(SERVICE_HEADER, name));
    }
    if service.is_some_and(|service| service.ports.len() > 1)
        && let Some(port) = wanted.target.port
    {
        headers.push(set_header(PORT_HEADER, &port.to_string()));
    }
    route::Route {
        name: format!("{}@{}", wanted.name, wanted.version),
        r#match: Some(matches),
        action: Some(route::route::Action::Route(action)),
        request_headers_to_add: headers,
        // Removed before others are added: whoever sends them from outside would choose the service.
        request_headers_to_remove: vec![SERVICE_HEADER.into(), PORT_HEADER.into()],
        metadata: tagged("TargetVirtualService", name),
        ..Default::default()
    }
}
