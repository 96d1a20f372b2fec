//! Routes whose requests are counted by version, and the log by which an Envoy tells of them.
//!
//! A rollout needs a route with two versions, so no other route is told of: a mark in the metadata of the route decides that
//! at each request, and a route that gets its second version, or loses it, changes no listener. Of a request the name of its
//! route says under which weights it was placed, and the name of its cluster which version was drawn.

use super::pieces::{any, number, span_of};
use super::{Translation, access_log, cluster, route};
use crate::base::ids::{NodeName, RouteRef};
use crate::base::time::Millis;
use crate::mesh::snapshot::{Own, Route};
use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3 as grpc;
use envoy_types::pb::envoy::r#type::tracing as tags;
use envoy_types::pb::google::protobuf::BoolValue;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The log's own name in what is sent.
pub const LOG_NAME: &str = "tidegate";
/// The tag of an entry that has the name of the cluster. Envoy's own member for it is empty where no endpoint was chosen.
pub const CLUSTER_TAG: &str = "cluster";
/// Key of the mark, in the typed metadata of a route: `filter_metadata` has one member already (see `pieces::tagged`).
const MARK: &str = "tidegate.counted";
/// Whether a request went by a marked route (Envoy, "Attributes": `xds.route_metadata`). What has no route has no metadata,
/// and an expression that cannot be told logs nothing.
const IS_MARKED: &str = "'tidegate.counted' in xds.route_metadata.typed_filter_metadata";
/// Envoy keeps what it has to tell for so long. With a reading each second, a request is judged within 2 s of its end.
const FLUSH_INTERVAL: Millis = Millis(250);
/// It tells earlier when it has so much (some 100 requests), and drops what is more while nobody takes it.
const BUFFER_BYTES: u32 = 64 * 1024;
/// Versions of a route that are known: what is told of late was placed by the last one, or the one before.
const VERSIONS_KEPT: usize = 8;
/// What an answer of gRPC failed with stands in one of the two.
const GRPC_STATUS: &str = "grpc-status";

/// A route whose requests are counted, under one version of its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct CountedRoute {
    /// Names the route.
    pub id: RouteRef,
    /// Version of its weights.
    pub version: u64,
    /// Node and share of the total weight (0.0 to 1.0) of each cluster that it may choose, by the cluster's name.
    pub targets: BTreeMap<String, (NodeName, f64)>,
    /// Whether sessions are placed and not requests.
    pub in_sessions: bool,
    /// Whether requests may meet a fault on purpose that says nothing about either version.
    pub has_common_fault: bool,
}

/// The counted routes of a configuration, and those of before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CountedRoutes {
    /// By the name that Envoy knows it by, which has its version.
    by_name: BTreeMap<String, Arc<CountedRoute>>,
    /// Names of the counted routes in each route configuration.
    placed: BTreeMap<String, BTreeSet<String>>,
}

impl CountedRoutes {
    /// The route that Envoy calls so.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<CountedRoute>> {
        self.by_name.get(name)
    }

    /// Route and version of each counted route in a route configuration.
    pub fn within(&self, configuration: &str) -> impl Iterator<Item = (&RouteRef, u64)> {
        let names = self.placed.get(configuration).into_iter().flatten();
        names.filter_map(|name| self.by_name.get(name)).map(|route| (&route.id, route.version))
    }

    /// Notes which of its counted routes a configuration has.
    pub(super) fn place(&mut self, configuration: &str, hosts: &[pb::VirtualHost]) {
        let routes = hosts.iter().flat_map(|host| &host.routes).filter(|route| is_marked(route));
        let names: BTreeSet<String> = routes.map(|route| route.name.clone()).collect();
        if !names.is_empty() {
            self.placed.insert(configuration.to_owned(), names);
        }
    }

    /// Takes over what was known before of routes that are still there: an Envoy tells of requests that end after a change.
    pub(super) fn remember(&mut self, last: &Self) {
        let mut versions: BTreeMap<RouteRef, BTreeMap<u64, (String, Arc<CountedRoute>)>> = BTreeMap::new();
        for (name, route) in &self.by_name {
            let known = versions.entry(route.id.clone()).or_default();
            known.insert(route.version, (name.clone(), Arc::clone(route)));
        }
        for (name, route) in &last.by_name {
            if let Some(known) = versions.get_mut(&route.id) {
                known.entry(route.version).or_insert_with(|| (name.clone(), Arc::clone(route)));
            }
        }
        // A route that was made anew begins with version 1 again, and has the word over a higher one of before.
        let newest_first = |known: BTreeMap<u64, (String, Arc<CountedRoute>)>| known.into_values().rev();
        let kept = versions.into_values().flat_map(|known| newest_first(known).take(VERSIONS_KEPT));
        let current = std::mem::take(&mut self.by_name);
        self.by_name = kept.chain(current).collect();
    }
}

/// Marks a message of a route whose requests are counted.
pub(super) fn mark(out: &mut Translation<'_>, route: &Route, message: &mut pb::Route) {
    let nodes: BTreeSet<&str> = route.targets.iter().map(|target| &*target.cluster.node).collect();
    if out.options.reports_to.is_none() || nodes.len() < 2 {
        return;
    }
    let metadata = message.metadata.get_or_insert_default();
    metadata.typed_filter_metadata.insert(MARK.to_owned(), any(&BoolValue { value: true }));
    let total: u64 = route.targets.iter().map(|target| u64::from(target.weight)).sum();
    let mut targets: BTreeMap<String, (NodeName, f64)> = BTreeMap::new();
    for target in &route.targets {
        let share = if total == 0 { 0.0 } else { f64::from(target.weight) / total as f64 };
        let name = cluster::egress_name(target, &out.config.clusters);
        targets.entry(name).or_insert_with(|| (target.cluster.node.clone(), 0.0)).1 += share;
    }
    let extensions = route.extensions.as_deref();
    let fault = extensions.and_then(|extensions| extensions.fault.as_ref());
    let counted = CountedRoute {
        id: route.id.clone(),
        version: route.version,
        targets,
        in_sessions: extensions.is_some_and(|extensions| extensions.affinity.is_some()),
        has_common_fault: fault.is_some_and(|fault| fault.target.is_none()),
    };
    let counted_routes = Arc::make_mut(&mut out.resources.counted);
    counted_routes.by_name.insert(route::name(route), Arc::new(counted));
}

/// For requests that no weights placed.
pub(super) fn unmark(message: &mut pb::Route) {
    if let Some(metadata) = &mut message.metadata {
        metadata.typed_filter_metadata.remove(MARK);
    }
}

fn is_marked(message: &pb::Route) -> bool {
    message.metadata.as_ref().is_some_and(|metadata| metadata.typed_filter_metadata.contains_key(MARK))
}

/// Logs of requests for services: what the mesh asks for, and ours.
pub(super) fn logs(out: &Translation<'_>, own: &Own) -> Vec<accesslog::AccessLog> {
    let mut logs = access_log::of(own);
    logs.extend(out.options.reports_to.as_deref().map(own_log));
    logs
}

fn own_log(cluster: &str) -> accesslog::AccessLog {
    use accesslog::access_log::ConfigType;
    use accesslog::access_log_filter::FilterSpecifier;
    let expression = any(&ExpressionFilter { expression: IS_MARKED.to_owned(), ..Default::default() });
    let extension = accesslog::ExtensionFilter {
        name: "envoy.access_loggers.extension_filters.cel".into(),
        config_type: Some(accesslog::extension_filter::ConfigType::TypedConfig(expression)),
    };
    let filter = accesslog::AccessLogFilter { filter_specifier: Some(FilterSpecifier::ExtensionFilter(extension)) };
    let service = core::grpc_service::EnvoyGrpc { cluster_name: cluster.to_owned(), ..Default::default() };
    let service = core::grpc_service::TargetSpecifier::EnvoyGrpc(service);
    let common = grpc::CommonGrpcAccessLogConfig {
        log_name: LOG_NAME.to_owned(),
        grpc_service: Some(core::GrpcService { target_specifier: Some(service), ..Default::default() }),
        transport_api_version: core::ApiVersion::V3.into(),
        buffer_flush_interval: Some(span_of(FLUSH_INTERVAL)),
        buffer_size_bytes: number(BUFFER_BYTES),
        custom_tags: vec![tags::v3::CustomTag {
            tag: CLUSTER_TAG.to_owned(),
            r#type: Some(tags::v3::custom_tag::Type::Value("%UPSTREAM_CLUSTER%".to_owned())),
        }],
        ..Default::default()
    };
    let config = grpc::HttpGrpcAccessLogConfig {
        common_config: Some(common),
        additional_response_headers_to_log: vec![GRPC_STATUS.to_owned()],
        additional_response_trailers_to_log: vec![GRPC_STATUS.to_owned()],
        ..Default::default()
    };
    accesslog::AccessLog {
        name: "envoy.access_loggers.http_grpc".into(),
        filter: Some(filter),
        config_type: Some(ConfigType::TypedConfig(any(&config))),
    }
}
