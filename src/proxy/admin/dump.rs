//! What a proxy is configured with and which endpoints it has, as Envoy shows it (Envoy 1.40, page "Administration interface",
//! `/clusters` and `/config_dump`).

use crate::base::tally::Outcomes;
use crate::mesh::snapshot::{Discovery, PathMatch};
use crate::proxy::config::{Compiled, EndpointSet};
use crate::proxy::counters::Merged;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Endpoints with their health and what they answered, a line for each.
pub(super) fn clusters(compiled: &Compiled, all: &[Merged]) -> String {
    // Counts are by node and endpoint: two ports of one node are two endpoints.
    let mut outcomes: BTreeMap<(&str, &str), Outcomes> = BTreeMap::new();
    for Merged { series, .. } in all {
        outcomes.entry((series.key.target.as_str(), series.key.endpoint.as_str())).or_default().add(&series.outcomes);
    }
    let mut text = String::new();
    for set in &compiled.sets {
        let name = &set.name;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}::observability_name::{name}");
        for ((address, healthy), ejected) in set.addresses.iter().zip(&set.healthy).zip(&set.ejected) {
            let health = match (healthy, ejected) {
                (true, false) => "healthy",
                (false, false) => "/failed_active_hc",
                (true, true) => "/failed_outlier_check",
                (false, true) => "/failed_active_hc/failed_outlier_check",
            };
            let endpoint = address.to_string();
            let counts = outcomes.get(&(set.key.0.node.as_str(), endpoint.as_str())).copied().unwrap_or_default();
            for (what, count) in [
                ("rq_total", counts.requests),
                ("rq_error", counts.errors()),
                ("rq_success", counts.requests - counts.errors()),
                ("rq_timeout", counts.timeout),
            ] {
                let _ = writeln!(text, "{name}::{address}::{what}::{count}");
            }
            let _ = writeln!(text, "{name}::{address}::health_flags::{health}");
        }
        if set.addresses.is_empty() {
            let _ = writeln!(text, "{name}::no endpoints");
        }
    }
    text
}

/// The same as an object.
pub(super) fn clusters_object(compiled: &Compiled) -> Json {
    let status = |set: &EndpointSet| {
        let endpoints = set.addresses.iter().zip(&set.healthy).zip(&set.ejected);
        let endpoints = endpoints.map(|((address, healthy), ejected)| {
            json!({
                "address": { "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } },
                "health_status": {
                    "failed_active_health_check": !healthy,
                    "failed_outlier_check": ejected,
                    "eds_health_status": "HEALTHY",
                },
            })
        });
        json!({ "name": set.name, "added_via_api": true, "host_statuses": endpoints.collect::<Vec<_>>() })
    };
    json!({ "cluster_statuses": compiled.sets.iter().map(status).collect::<Vec<_>>() })
}

/// All of it: what this proxy routes by in short, the configuration as it came, and the endpoints now. Secrets are of a type that
/// cannot be written out, so none can be in here.
pub(super) fn config(compiled: &Compiled) -> Json {
    let route = |route: &crate::mesh::snapshot::Route| {
        let path = match &route.matches.path {
            PathMatch::Any => json!("any"),
            PathMatch::Prefix(prefix) => json!({ "prefix": prefix }),
            PathMatch::Exact(path) => json!({ "exact": path }),
            PathMatch::Regex(pattern) => json!({ "regex": pattern.source() }),
        };
        let target = |target: &crate::mesh::snapshot::Target| json!({ "node": target.cluster.node, "port": target.port, "weight": target.weight });
        json!({
            "route": route.id.to_string(),
            "version": route.version,
            "match": {
                "path": path,
                "method": route.matches.method,
                "headers": route.matches.headers.iter().map(|header| &header.name).collect::<Vec<_>>(),
                "query": route.matches.query.iter().map(|query| &query.name).collect::<Vec<_>>(),
            },
            "targets": route.targets.iter().map(target).collect::<Vec<_>>(),
            "request_timeout_ms": route.request_timeout.map(|timeout| timeout.0),
            "retry": {
                "max_retries": route.retry.max_retries,
                "per_try_timeout_ms": route.retry.per_try_timeout.map(|timeout| timeout.0),
                "on_connect_failure": route.retry.on_connect_failure,
                "on_reset": route.retry.on_reset,
                "statuses": route.retry.statuses,
            },
            "extensions": route.extensions,
        })
    };
    let service = |service: &crate::mesh::snapshot::VirtualService| json!({ "name": service.name, "mesh": service.mesh, "routes": service.routes.iter().map(|each| route(each)).collect::<Vec<_>>() });
    let set = |set: &EndpointSet| {
        let discovery = set.cluster.as_ref().map(|cluster| match &cluster.discovery {
            Discovery::None => json!(null),
            Discovery::Dns { hostname, .. } => json!({ "dns": hostname }),
            Discovery::CloudMap { namespace, service, attributes, .. } => {
                json!({ "namespace": namespace, "service": service, "attributes": attributes })
            }
        });
        let endpoints: Vec<Json> = set
            .addresses
            .iter()
            .zip(&set.healthy)
            .zip(&set.ejected)
            .map(|((address, healthy), ejected)| {
                json!({ "address": address.to_string(), "healthy": healthy, "ejected": ejected })
            })
            .collect();
        json!({ "name": set.name, "mesh": set.key.0.mesh, "node": set.key.0.node, "port": set.key.1, "discovery": discovery, "endpoints": endpoints })
    };
    json!({
        "version": compiled.config.version,
        "services": compiled.config.services.values().map(|each| service(each)).collect::<Vec<_>>(),
        "clusters": compiled.sets.iter().map(set).collect::<Vec<_>>(),
        "node_config": serde_json::to_value(&*compiled.config).unwrap_or_default(),
    })
}
