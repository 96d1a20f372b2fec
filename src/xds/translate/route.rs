//! Routes: conditions, targets, retries and timeouts, as Envoy's.

use super::pieces::{any, number, span_of, span_or_off, tagged};
use super::{Translation, Type, cluster, counted, extension};
use crate::mesh::snapshot::{
    HeaderMatch, Listener, Own, PORT_HEADER, PathMatch, Protocol, QueryMatch, RetryPolicy, Role, Route, RouteMatch,
    SERVICE_HEADER, Target, ValueMatch, VirtualService,
};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::envoy::r#type::v3::Int64Range;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How often another endpoint is looked for before one that failed is asked again (appmesh "Retries").
const HOST_SELECTION_ATTEMPTS: i64 = 5;

/// How requests of a listener find their service and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// By the port that they were sent to.
    Port(u16),
    /// By Host alone: an application that was told to send everything here.
    Host,
    /// As [`Door::Host`], with the headers of a gateway beside.
    Gateway,
}

/// Adds a route configuration.
pub(super) fn add(out: &mut Translation<'_>, name: &str, hosts: Vec<pb::VirtualHost>) {
    Arc::make_mut(&mut out.resources.counted).place(name, &hosts);
    let message = pb::RouteConfiguration { name: name.to_owned(), virtual_hosts: hosts, ..Default::default() };
    let needs = needs(&message);
    out.resources.add_pointing(Type::Route, name, any(&message), needs);
}

/// Clusters that some route names.
fn needs(message: &pb::RouteConfiguration) -> BTreeSet<String> {
    use pb::route_action::ClusterSpecifier;
    let routes = message.virtual_hosts.iter().flat_map(|host| &host.routes);
    let actions = routes.filter_map(|route| match &route.action {
        Some(pb::route::Action::Route(action)) => action.cluster_specifier.as_ref(),
        _ => None,
    });
    let mut names = BTreeSet::new();
    for action in actions {
        match action {
            ClusterSpecifier::Cluster(name) => {
                names.insert(name.clone());
            }
            ClusterSpecifier::WeightedClusters(all) => {
                names.extend(all.clusters.iter().map(|cluster| cluster.name.clone()));
            }
            _ => {}
        }
    }
    names
}

/// Everything that arrives for the own application.
pub(super) fn to_application(own: &Own, listener: &Listener) -> Vec<pb::VirtualHost> {
    let action = pb::RouteAction {
        cluster_specifier: Some(pb::route_action::ClusterSpecifier::Cluster(cluster::ingress_name(own, listener))),
        timeout: span_or_off(listener.request_timeout),
        idle_timeout: span_or_off(listener.idle_timeout),
        ..Default::default()
    };
    let route =
        pb::Route { r#match: Some(prefix("/")), action: Some(pb::route::Action::Route(action)), ..Default::default() };
    vec![host(&own.name, vec!["*".into()], vec![route])]
}

/// One virtual host for each service that is called through this door, and one for the rest where everything is let out.
pub(super) fn to_services(out: &mut Translation<'_>, door: Door, allow_all: Option<String>) -> Vec<pb::VirtualHost> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut hosts = Vec::new();
    let services: Vec<_> = out.config.services.values().cloned().collect();
    let by_header = if door == Door::Gateway { by_header(out, &services) } else { Vec::new() };
    for service in &services {
        if service.name.starts_with('*') || service.name.ends_with('*') {
            out.problem(format!(
                "mesh/{}/virtualService/{}: is not reached through Envoy, which reads the star as any text",
                service.mesh, service.name
            ));
        }
        let ports: Vec<u16> = match door {
            Door::Port(port) => service.ports.iter().map(|found| found.port).filter(|found| *found == port).collect(),
            Door::Host | Door::Gateway => {
                let spoken = service.ports.iter().filter(|port| port.protocol != Protocol::Tcp);
                spoken.map(|port| port.port).collect()
            }
        };
        // A service without a provider, or whose router has no listener, is known and answers 404.
        let several = service.ports.len() > 1;
        let first = ports.first().copied();
        // A service is called on its own ports only.
        if first.is_none() && !service.ports.is_empty() {
            continue;
        }
        for (number, port) in ports.iter().map(Some).chain((first.is_none()).then_some(None)).enumerate() {
            let mut domains = Vec::new();
            if number == 0 {
                domains.push(service.name.to_lowercase());
                // A client that is given this listener's port in the address says it in Host too.
                let own = (door == Door::Host).then(|| out.options.egress.port());
                domains.extend(own.map(|port| format!("{}:{port}", service.name.to_lowercase())));
            }
            domains.extend(port.map(|port| format!("{}:{port}", service.name.to_lowercase())));
            // Envoy refuses all where two hosts have one domain, and reads a star at an end as any text.
            domains.retain(|domain| !domain.starts_with('*') && !domain.ends_with('*') && taken.insert(domain.clone()));
            if domains.is_empty() {
                continue;
            }
            let name = if number == 0 { service.name.clone() } else { domains[0].clone() };
            // A gateway says the port by a header.
            let port = if door == Door::Gateway && several { None } else { port.copied() };
            let routes = routes_of(out, service, port, door);
            hosts.push(host(&name, domains, after(&by_header, routes)));
        }
    }
    if door == Door::Gateway {
        hosts.push(host("default_backend", vec!["*".into()], by_header));
    }
    if let Some(cluster) = allow_all {
        let action = pb::RouteAction {
            cluster_specifier: Some(pb::route_action::ClusterSpecifier::Cluster(cluster)),
            // What is no part of the mesh has no limits of the mesh.
            timeout: span_or_off(None),
            ..Default::default()
        };
        let route = pb::Route {
            r#match: Some(prefix("/")),
            action: Some(pb::route::Action::Route(action)),
            ..Default::default()
        };
        hosts.push(host("mesh-allow-all", vec!["*".into()], vec![route]));
    }
    hosts
}

/// Routes for requests that a gateway sends on with their Host as it came: of the services that it does so for.
fn by_header(out: &mut Translation<'_>, services: &[Arc<VirtualService>]) -> Vec<pb::Route> {
    let kept: BTreeSet<&str> = match out.config.own.as_ref().map(|own| &own.role) {
        Some(Role::Gateway(routes)) => {
            routes.iter().filter(|route| !route.rewrite_host).map(|route| &*route.target.service).collect()
        }
        _ => BTreeSet::new(),
    };
    let mut routes = Vec::new();
    for service in services.iter().filter(|service| kept.contains(&*service.name.to_lowercase())) {
        // Where there is one port it is meant, as it is by the service's name.
        let port = if let [only] = &service.ports[..] { Some(only.port) } else { None };
        for mut route in routes_of(out, service, port, Door::Gateway) {
            if let Some(matches) = &mut route.r#match {
                matches.headers.push(header_is(SERVICE_HEADER, &service.name));
            }
            routes.push(route);
        }
    }
    routes
}

/// The routes of a service after those by header: a Host that was kept may be the name of any service, and the gateway has
/// chosen another one.
fn after(by_header: &[pb::Route], mut own: Vec<pb::Route>) -> Vec<pb::Route> {
    if by_header.is_empty() {
        return own;
    }
    let absent = HeaderMatch { name: SERVICE_HEADER.to_owned(), value: ValueMatch::Present, invert: true };
    for matches in own.iter_mut().filter_map(|route| route.r#match.as_mut()) {
        matches.headers.push(header(&absent));
    }
    [by_header, &own].concat()
}

/// The routes of a service, for one of its ports or for any.
fn routes_of(out: &mut Translation<'_>, service: &VirtualService, port: Option<u16>, door: Door) -> Vec<pb::Route> {
    let several = service.ports.len() > 1;
    let mut routes = Vec::new();
    for route in &service.routes {
        let other_port = matches!((port, route.matches.port), (Some(asked), Some(own)) if asked != own);
        if route.protocol == Protocol::Tcp || route.matches.is_never() || other_port {
            continue;
        }
        let Some(mut message) = request_route(out, route) else { continue };
        if door == Door::Gateway {
            if several && let (Some(port), Some(matches)) = (route.matches.port, &mut message.r#match) {
                matches.headers.push(header_is(PORT_HEADER, &port.to_string()));
            }
            message.request_headers_to_remove = vec![SERVICE_HEADER.into(), PORT_HEADER.into()];
        }
        message.metadata = tagged("TargetVirtualService", &service.name);
        counted::mark(out, route, &mut message);
        routes.extend(extension::extended(out.config, route, message));
    }
    routes
}

fn request_route(out: &mut Translation<'_>, route: &Route) -> Option<pb::Route> {
    let clusters = weighted(out, &route.targets);
    if clusters.is_empty() {
        return None;
    }
    let action = pb::RouteAction {
        cluster_specifier: Some(pb::route_action::ClusterSpecifier::WeightedClusters(pb::WeightedCluster {
            clusters,
            ..Default::default()
        })),
        timeout: span_or_off(route.request_timeout),
        idle_timeout: span_or_off(route.idle_timeout),
        retry_policy: retry(&route.retry),
        ..Default::default()
    };
    Some(pb::Route {
        name: name(route),
        r#match: Some(conditions(&route.matches)),
        action: Some(pb::route::Action::Route(action)),
        ..Default::default()
    })
}

/// Says in logs and statistics which route it was, and under which weights.
pub(super) fn name(route: &Route) -> String {
    if route.id.router.is_empty() {
        return format!("{}@{}", route.id.route, route.version);
    }
    format!("{}/{}@{}", route.id.router, route.id.route, route.version)
}

/// Targets with their weights. Envoy refuses a total of 0, as `mesh::validate` does.
fn weighted(out: &Translation<'_>, targets: &[Target]) -> Vec<pb::weighted_cluster::ClusterWeight> {
    if targets.iter().all(|target| target.weight == 0) {
        return Vec::new();
    }
    let weight = |target: &Target| pb::weighted_cluster::ClusterWeight {
        name: cluster::egress_name(target, &out.config.clusters),
        weight: number(target.weight),
        ..Default::default()
    };
    targets.iter().map(weight).collect()
}

/// A virtual host.
pub(super) fn host(name: &str, domains: Vec<String>, routes: Vec<pb::Route>) -> pb::VirtualHost {
    pb::VirtualHost { name: name.to_owned(), domains, routes, ..Default::default() }
}

/// A plain prefix.
pub(super) fn prefix(prefix: &str) -> pb::RouteMatch {
    let path_specifier = Some(pb::route_match::PathSpecifier::Prefix(prefix.to_owned()));
    pb::RouteMatch { path_specifier, ..Default::default() }
}

/// All conditions of a request.
pub(super) fn conditions(matches: &RouteMatch) -> pb::RouteMatch {
    use pb::route_match::{GrpcRouteMatchOptions, PathSpecifier};
    let path = match &matches.path {
        PathMatch::Any => PathSpecifier::Prefix("/".into()),
        PathMatch::Prefix(prefix) => PathSpecifier::Prefix(prefix.clone()),
        PathMatch::Exact(path) => PathSpecifier::Path(path.clone()),
        PathMatch::Regex(pattern) => PathSpecifier::SafeRegex(regex(pattern.source())),
    };
    let mut headers: Vec<pb::HeaderMatcher> = matches.headers.iter().map(header).collect();
    headers.extend(matches.method.as_ref().map(|method| header_is(":method", method)));
    headers.extend(matches.scheme.as_ref().map(|scheme| header_is(":scheme", scheme)));
    pb::RouteMatch {
        path_specifier: Some(path),
        headers,
        query_parameters: matches.query.iter().map(query).collect(),
        grpc: matches.grpc.then(GrpcRouteMatchOptions::default),
        ..Default::default()
    }
}

fn regex(source: &str) -> matcher::RegexMatcher {
    matcher::RegexMatcher { regex: source.to_owned(), ..Default::default() }
}

fn text(pattern: matcher::string_matcher::MatchPattern) -> matcher::StringMatcher {
    matcher::StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

/// A header with exactly this value.
pub(super) fn header_is(name: &str, value: &str) -> pb::HeaderMatcher {
    header(&HeaderMatch { name: name.to_owned(), value: ValueMatch::Exact(value.to_owned()), invert: false })
}

pub(super) fn header(matches: &HeaderMatch) -> pb::HeaderMatcher {
    use matcher::string_matcher::MatchPattern;
    use pb::header_matcher::HeaderMatchSpecifier;
    let specifier = match &matches.value {
        ValueMatch::Present => HeaderMatchSpecifier::PresentMatch(true),
        ValueMatch::Exact(value) => HeaderMatchSpecifier::StringMatch(text(MatchPattern::Exact(value.clone()))),
        ValueMatch::Prefix(value) => HeaderMatchSpecifier::StringMatch(text(MatchPattern::Prefix(value.clone()))),
        ValueMatch::Suffix(value) => HeaderMatchSpecifier::StringMatch(text(MatchPattern::Suffix(value.clone()))),
        ValueMatch::Regex(pattern) => {
            HeaderMatchSpecifier::StringMatch(text(MatchPattern::SafeRegex(regex(pattern.source()))))
        }
        ValueMatch::Range { start, end } => HeaderMatchSpecifier::RangeMatch(Int64Range { start: *start, end: *end }),
    };
    pb::HeaderMatcher {
        name: matches.name.clone(),
        invert_match: matches.invert,
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

fn query(matches: &QueryMatch) -> pb::QueryParameterMatcher {
    use pb::query_parameter_matcher::QueryParameterMatchSpecifier;
    let specifier = match &matches.exact {
        None => QueryParameterMatchSpecifier::PresentMatch(true),
        Some(value) => {
            QueryParameterMatchSpecifier::StringMatch(text(matcher::string_matcher::MatchPattern::Exact(value.clone())))
        }
    };
    pb::QueryParameterMatcher { name: matches.name.clone(), query_parameter_match_specifier: Some(specifier) }
}

/// As App Mesh gave them to Envoy (appmesh "Retries").
fn retry(policy: &RetryPolicy) -> Option<pb::RetryPolicy> {
    if policy.max_retries == 0 {
        return None;
    }
    let mut events: Vec<&str> = policy.grpc.iter().map(String::as_str).collect();
    // A reset covers connections that failed.
    let named = [
        (policy.on_reset, "reset"),
        (policy.on_connect_failure && !policy.on_reset, "connect-failure"),
        (policy.on_refused_stream, "refused-stream"),
        (!policy.statuses.is_empty(), "retriable-status-codes"),
    ];
    events.extend(named.iter().filter(|(wanted, _)| *wanted).map(|(_, name)| *name));
    let previous = pb::retry_policy::RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".into(),
        config_type: Some(pb::retry_policy::retry_host_predicate::ConfigType::TypedConfig(any(
            &PreviousHostsPredicate::default(),
        ))),
    };
    Some(pb::RetryPolicy {
        retry_on: events.join(","),
        num_retries: number(policy.max_retries),
        per_try_timeout: policy.per_try_timeout.map(span_of),
        retry_host_predicate: vec![previous],
        host_selection_retry_max_attempts: HOST_SELECTION_ATTEMPTS,
        retriable_status_codes: policy.statuses.iter().map(|status| u32::from(*status)).collect(),
        ..Default::default()
    })
}

/// A header that is set on a request. In Envoy's values `%` begins a variable.
pub(super) fn set_header(key: &str, value: &str) -> core::HeaderValueOption {
    core::HeaderValueOption {
        header: Some(core::HeaderValue { key: key.to_owned(), value: value.replace('%', "%%"), ..Default::default() }),
        append_action: core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    }
}
