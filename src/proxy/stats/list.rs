//! Every count of a proxy by Envoy's name, and what it is now.

use super::show::{Stat, Value};
use super::{HttpSum, TargetSum};
use crate::proxy::config::EndpointSet;
use crate::proxy::shared::{Phase, Shared};
use crate::proxy::trace::Tracer;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// All of them, in the order of their names.
pub(in crate::proxy) fn list(shared: &Shared) -> Vec<Stat> {
    let mut stats = server(shared);
    let workers = || shared.workers.iter().map(|worker| &worker.names);
    for (prefix, sum) in super::https(workers()) {
        http(&mut stats, &prefix, &sum);
    }
    let mut clusters: BTreeMap<String, TargetSum> = BTreeMap::new();
    for (key, sum) in super::targets(workers()) {
        clusters.entry(key.cluster).or_default().merge(&sum);
    }
    let current = shared.current();
    for (name, members) in members(&current.sets) {
        // Those that nothing was sent to are there too, by their endpoints.
        clusters.entry(name.to_owned()).or_default();
        for (what, count) in MEMBERS.into_iter().zip(members) {
            stats.push(of_cluster(name, what, Value::Gauge(count)));
        }
    }
    for (name, sum) in &clusters {
        cluster(&mut stats, name, sum);
    }
    stats.sort_by(|one, other| one.name.cmp(&other.name));
    stats
}

/// What is said of endpoints.
const MEMBERS: [&str; 3] = ["membership_total", "membership_healthy", "outlier_detection.ejections_active"];

/// The same of each cluster. Two sets of endpoints may have one name, since `_` joins its parts and stands in them too; a name that
/// came twice would spoil the whole page for Prometheus.
fn members(sets: &[EndpointSet]) -> BTreeMap<&str, [u64; 3]> {
    let mut all: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for set in sets {
        let healthy = set.healthy.iter().zip(&set.ejected).filter(|(healthy, out)| **healthy && !**out).count();
        let counts = [set.addresses.len(), healthy, set.ejected.iter().filter(|out| **out).count()];
        for (sum, count) in all.entry(&set.name).or_default().iter_mut().zip(counts) {
            *sum += u64::try_from(count).unwrap_or(u64::MAX);
        }
    }
    all
}

/// Envoy's numbers for what `/server_info` says in words.
fn state(shared: &Shared) -> u64 {
    match *shared.phase.borrow() {
        Phase::Serving if shared.is_live.load(Ordering::Acquire) => 0,
        Phase::Serving => 3,
        Phase::Draining | Phase::Ending { .. } => 1,
    }
}

fn server(shared: &Shared) -> Vec<Stat> {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let (state, current) = (state(shared), shared.current());
    let gauges = [
        ("server.live", u64::from(state == 0)),
        ("server.uptime", shared.started.elapsed().as_secs()),
        ("server.concurrency", number(shared.workers.len())),
        ("server.total_connections", number(shared.connections.load(Ordering::Relaxed))),
        ("cluster_manager.active_clusters", number(current.sets.len())),
        ("control_plane.config_version", current.config.version),
    ];
    let plain = |name: &str, value| Stat { name: name.into(), family: name.into(), labels: Vec::new(), value };
    let gauges = gauges.into_iter().map(|(name, count)| plain(name, Value::Gauge(count)));
    let told = shared.logs.read().into_iter().chain(shared.cloudwatch.read());
    let told = told.map(|(name, count)| plain(name, Value::Counter(count)));
    let [sent, failed] = &shared.emf_lines;
    let emf = [("emf.lines_sent", sent), ("emf.lines_failed", failed)];
    let emf = emf.map(|(name, count)| plain(name, Value::Counter(count.load(Ordering::Relaxed))));
    let spans = shared.tracer.iter().flat_map(Tracer::stats);
    gauges.chain(told).chain(emf).chain(spans).collect()
}

fn http(stats: &mut Vec<Stat>, prefix: &str, sum: &HttpSum) {
    // With several listeners the prefix names one; the App Mesh image makes labels of that.
    let mut parts = prefix.splitn(3, '.');
    let names = ["envoy_http_conn_manager_prefix", "appmesh_listener_protocol", "appmesh_listener_port"];
    let labels: Vec<(&'static str, String)> =
        names.into_iter().zip(parts.by_ref()).map(|(name, value)| (name, value.to_owned())).collect();
    let stat = |what: &str, family: &str, more: Option<(&'static str, String)>, value| Stat {
        name: format!("http.{prefix}.{what}"),
        family: format!("http.{family}"),
        labels: more.into_iter().chain(labels.clone()).collect(),
        value,
    };
    for (what, count) in [
        ("downstream_cx_total", sum.connections),
        ("downstream_cx_destroy", sum.connections_ended),
        ("downstream_rq_total", sum.requests),
        ("downstream_rq_http1_total", sum.requests.saturating_sub(sum.http2_requests)),
        ("downstream_rq_http2_total", sum.http2_requests),
        ("downstream_rq_completed", sum.classes.iter().sum()),
    ] {
        stats.push(stat(what, what, None, Value::Counter(count)));
    }
    for (what, count) in [
        ("downstream_cx_active", sum.connections.saturating_sub(sum.connections_ended)),
        ("downstream_rq_active", sum.requests.saturating_sub(sum.requests_ended)),
    ] {
        stats.push(stat(what, what, None, Value::Gauge(count)));
    }
    for (class, count) in (1..).zip(sum.classes) {
        let label = ("envoy_response_code_class", format!("{class}"));
        let what = format!("downstream_rq_{class}xx");
        stats.push(stat(&what, "downstream_rq_xx", Some(label), Value::Counter(count)));
    }
    stats.push(stat("downstream_rq_time", "downstream_rq_time", None, Value::Times(Box::new(sum.times.clone()))));
}

fn of_cluster(name: &str, what: &str, value: Value) -> Stat {
    let labels = vec![("envoy_cluster_name", name.to_owned())];
    Stat { name: format!("cluster.{name}.{what}"), family: format!("cluster.{what}"), labels, value }
}

fn cluster(stats: &mut Vec<Stat>, name: &str, sum: &TargetSum) {
    for (what, count) in [
        ("upstream_rq_total", sum.requests),
        ("upstream_rq_completed", sum.statuses.values().sum()),
        ("upstream_rq_retry", sum.retries),
        ("upstream_rq_retry_limit_exceeded", sum.retries_spent),
        ("upstream_rq_retry_overflow", sum.retries_over_budget),
        ("upstream_rq_timeout", sum.timeouts),
        ("upstream_rq_per_try_timeout", sum.try_timeouts),
        ("upstream_rq_pending_overflow", sum.overflows),
        ("upstream_cx_none_healthy", sum.no_endpoint),
        ("upstream_cx_total", sum.connections),
        ("upstream_cx_connect_fail", sum.connections_failed),
    ] {
        stats.push(of_cluster(name, what, Value::Counter(count)));
    }
    stats.push(of_cluster(name, "upstream_rq_active", Value::Gauge(sum.begun.saturating_sub(sum.ended))));
    stats.push(of_cluster(name, "upstream_rq_time", Value::Times(Box::new(sum.times.clone()))));
    let with = |what: String, family: &str, label: (&'static str, String), count: u64| {
        let mut stat = of_cluster(name, &what, Value::Counter(count));
        stat.family = format!("cluster.{family}");
        stat.labels.insert(0, label);
        stat
    };
    for class in 1..=5 {
        let count = sum.statuses.range(class * 100..class * 100 + 100).map(|(_, count)| count).sum();
        let label = ("envoy_response_code_class", class.to_string());
        stats.push(with(format!("upstream_rq_{class}xx"), "upstream_rq_xx", label, count));
    }
    for (status, count) in &sum.statuses {
        let label = ("envoy_response_code", status.to_string());
        stats.push(with(format!("upstream_rq_{status}"), "upstream_rq", label, *count));
    }
}
