//! What tags of a route add, where Envoy has something for it: filters of its own, and members of routes.
//!
//! Each map of a message has one entry at most (`pieces::tagged` says why): bounds are at routes, faults at their targets.

use super::pieces::{any, number, span_of, truth};
use super::route::{header, header_is, set_header};
use super::{cluster, counted};
use crate::mesh::snapshot::extension::{Affinity, Fault, Limit, Mirror, Override, Share};
use crate::mesh::snapshot::{Extensions, HeaderMatch, NodeConfig, Pattern, Route, Target, ValueMatch};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType};
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, TokenBucket, fractional_percent::DenominatorType};
use envoy_types::pb::google::protobuf::Any;

const FAULT: &str = "envoy.filters.http.fault";
const LIMIT: &str = "envoy.filters.http.local_ratelimit";

/// Filters that requests for services pass, in their order: only those that some route has a use for.
pub(super) fn filters(config: &NodeConfig) -> Vec<hcm::HttpFilter> {
    let routes = config.services.values().flat_map(|service| &service.routes);
    let all: Vec<&Extensions> = routes.filter_map(|route| route.extensions.as_deref()).collect();
    let filter = |name: &str, config: Any| hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    let mut filters = Vec::new();
    if all.iter().any(|extensions| extensions.limit.is_some()) {
        let nothing = LocalRateLimit { stat_prefix: "limit".into(), ..Default::default() };
        filters.push(filter(LIMIT, any(&nothing)));
    }
    if all.iter().any(|extensions| extensions.fault.is_some()) {
        filters.push(filter(FAULT, any(&HttpFault::default())));
    }
    filters
}

/// Adds to a route what its extensions say, and before it those for requests that choose a version.
pub(super) fn extended(config: &NodeConfig, route: &Route, mut message: pb::Route) -> Vec<pb::Route> {
    let Some(extensions) = &route.extensions else { return vec![message] };
    if let Some(limit) = &extensions.limit {
        message.typed_per_filter_config.insert(LIMIT.to_owned(), any(&bucket(limit)));
    }
    if let Some(pb::route::Action::Route(action)) = &mut message.action {
        if let Some(pb::route_action::ClusterSpecifier::WeightedClusters(clusters)) = &mut action.cluster_specifier {
            weigh(extensions, route, clusters);
        }
        action.hash_policy.extend(extensions.affinity.as_ref().map(hash_policy));
        let mirror = extensions.mirror.as_ref().and_then(|mirror| mirrored(config, route, mirror));
        action.request_mirror_policies.extend(mirror);
    }
    let mut routes = extensions.forced.as_ref().map(|forced| chosen(forced, route, &message)).unwrap_or_default();
    routes.push(message);
    routes
}

/// What holds for each target: its faults, and that the session chooses.
fn weigh(extensions: &Extensions, route: &Route, clusters: &mut pb::WeightedCluster) {
    if let Some(fault) = &extensions.fault {
        let config = any(&http_fault(fault));
        for (cluster, target) in clusters.clusters.iter_mut().zip(&route.targets) {
            if fault.target.as_ref().is_none_or(|node| *node == target.cluster.node) {
                cluster.typed_per_filter_config.insert(FAULT.to_owned(), config.clone());
            }
        }
    }
    if extensions.affinity.is_some() {
        let specifier = pb::weighted_cluster::RandomValueSpecifier::UseHashPolicy;
        clusters.random_value_specifier = truth(true).map(specifier);
    }
}

/// One route for each target and each way to ask for it, the header's before the cookie's.
fn chosen(forced: &Override, route: &Route, message: &pb::Route) -> Vec<pb::Route> {
    let by_header = |node: &str| forced.header.as_ref().map(|name| header_is(name, node));
    let by_cookie = |node: &str| forced.cookie.as_ref().and_then(|name| cookie_is(name, node));
    let mut routes = for_each_target(route, message, by_header);
    routes.extend(for_each_target(route, message, by_cookie));
    routes
}

/// A route to each target alone, for requests that meet one more condition.
fn for_each_target(
    route: &Route,
    message: &pb::Route,
    condition: impl Fn(&str) -> Option<pb::HeaderMatcher>,
) -> Vec<pb::Route> {
    let mut routes: Vec<pb::Route> = Vec::new();
    for (index, target) in route.targets.iter().enumerate() {
        let node = &*target.cluster.node;
        let is_known = route.targets[..index].iter().any(|earlier| earlier.cluster.node == node);
        let Some(condition) = condition(node).filter(|_| !is_known) else { continue };
        let mut chosen = message.clone();
        chosen.name = format!("{}/{node}", message.name);
        if let Some(matches) = &mut chosen.r#match {
            matches.headers.push(condition);
        }
        only(&mut chosen, index);
        counted::unmark(&mut chosen);
        routes.push(chosen);
    }
    routes
}

/// Leaves one target to a route.
fn only(message: &mut pb::Route, index: usize) {
    let Some(pb::route::Action::Route(action)) = &mut message.action else { return };
    if let Some(pb::route_action::ClusterSpecifier::WeightedClusters(clusters)) = &mut action.cluster_specifier {
        clusters.clusters = clusters.clusters.get(index).cloned().into_iter().collect();
        clusters.clusters.iter_mut().for_each(|cluster| cluster.weight = number(1));
        clusters.random_value_specifier = None;
    }
    action.hash_policy.clear();
}

/// A cookie with exactly this value, among others. Envoy has no condition on cookies, so it is one on their header.
fn cookie_is(name: &str, value: &str) -> Option<pb::HeaderMatcher> {
    let (name, value) = (literal(name), literal(value));
    let pattern = Pattern::new(&format!("(.*;)?[ ]*{name}=\"?{value}\"?[ ]*(;.*)?")).ok()?;
    Some(header(&HeaderMatch { name: "cookie".into(), value: ValueMatch::Regex(pattern), invert: false }))
}

/// A text as a regular expression. RE2 takes a backslash before what is no letter, digit or underscore.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if !char.is_alphanumeric() && char != '_' {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

fn percent(share: Share) -> Option<FractionalPercent> {
    Some(FractionalPercent { numerator: share.millionths(), denominator: DenominatorType::Million.into() })
}

fn at_run_time(share: Share) -> Option<core::RuntimeFractionalPercent> {
    Some(core::RuntimeFractionalPercent { default_value: percent(share), ..Default::default() })
}

fn http_fault(fault: &Fault) -> HttpFault {
    HttpFault {
        abort: fault.abort.map(|abort| FaultAbort {
            percentage: percent(abort.share),
            error_type: Some(ErrorType::HttpStatus(abort.status.into())),
            ..Default::default()
        }),
        delay: fault.delay.map(|delay| FaultDelay {
            percentage: percent(delay.share),
            fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(span_of(delay.time))),
        }),
        headers: fault.header.iter().map(header).collect(),
        ..Default::default()
    }
}

fn bucket(limit: &Limit) -> LocalRateLimit {
    LocalRateLimit {
        stat_prefix: "limit".into(),
        token_bucket: Some(TokenBucket {
            max_tokens: limit.burst,
            tokens_per_fill: number(limit.requests),
            fill_interval: Some(span_of(limit.per)),
        }),
        filter_enabled: at_run_time(Share::ALL),
        filter_enforced: at_run_time(Share::ALL),
        response_headers_to_add: vec![set_header("x-envoy-ratelimited", "true")],
        ..Default::default()
    }
}

/// Envoy chooses the version before it would make a cookie, so it takes one that is there and makes none.
fn hash_policy(affinity: &Affinity) -> pb::route_action::HashPolicy {
    use pb::route_action::hash_policy::{Cookie, Header, PolicySpecifier};
    let specifier = match affinity {
        Affinity::Header(name) => PolicySpecifier::Header(Header { header_name: name.clone(), ..Default::default() }),
        Affinity::Cookie { name, .. } => PolicySpecifier::Cookie(Cookie { name: name.clone(), ..Default::default() }),
    };
    pb::route_action::HashPolicy { policy_specifier: Some(specifier), ..Default::default() }
}

fn mirrored(config: &NodeConfig, route: &Route, mirror: &Mirror) -> Option<pb::route_action::RequestMirrorPolicy> {
    let target: &Target = route.targets.iter().find(|target| target.cluster.node == mirror.target)?;
    Some(pb::route_action::RequestMirrorPolicy {
        cluster: cluster::egress_name(target, &config.clusters),
        runtime_fraction: at_run_time(mirror.share),
        trace_sampled: truth(false),
        ..Default::default()
    })
}
