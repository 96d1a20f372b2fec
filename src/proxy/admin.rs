//! The admin interface, on Envoy's paths, so that health checks and scripts written for the App Mesh image work.
//!
//! It reads what the workers show and never stands in a request's way.

/// What is configured and where it leads.
mod dump;

use super::counters::{self, Merged};
use super::shared::{Phase, Shared};
use super::stats::show::{self, Stat, Value, escaped};
use super::{ProxyError, Reporter};
use crate::base::histogram::upper_bound_us;
use crate::base::loopback::is_origin_of_this_machine;
use crate::base::tally::{Report, Series, SeriesKey};
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use regex::{Regex, RegexBuilder};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

type Proxy = State<Arc<Shared>>;

/// Not one of Envoy's, which has nothing like it.
const REPORT: &str = "/tidegate/report";

/// Binds the admin address.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, ProxyError> {
    let (what, flag) = ("the proxy's admin interface", "--admin");
    TcpListener::bind(address).await.map_err(|source| ProxyError::Bind { what, address, flag, source })
}

/// Serves until its task is aborted, or another process takes over: then who is connected is answered once more.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/server_info", get(server_info))
        .route("/ready", get(ready))
        .route("/stats", get(stats))
        .route("/stats/prometheus", get(prometheus))
        .route("/clusters", get(clusters))
        .route(REPORT, get(report))
        .route("/config_dump", get(config_dump))
        .route("/drain_listeners", post(drain_listeners))
        .route("/logging", post(logging))
        .route("/reopen_logs", post(reopen_logs))
        .route("/quitquitquit", post(quit))
        .layer(middleware::from_fn(no_foreign_pages))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), to_the_successor))
        .with_state(Arc::clone(&shared));
    let listener = Alone { successor: shared.has_successor.subscribe(), listener: Some(listener) };
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the proxy's admin interface ended");
    }
}

/// Accepts until another process does. axum's own graceful end, and dropping its future too, close connections that have come
/// and not asked yet.
struct Alone {
    listener: Option<TcpListener>,
    successor: watch::Receiver<bool>,
}

impl axum::serve::Listener for Alone {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            tokio::select! {
                accepted = axum::serve::Listener::accept(listener) => return accepted,
                _ = self.successor.wait_for(|there| *there) => {}
            }
        }
        self.listener = None;
        std::future::pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.as_ref().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }
}

/// Browsers send an Origin with every POST: a page of another site may not stop the proxy.
async fn no_foreign_pages(request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN);
    if origin.is_some_and(|origin| !origin.to_str().is_ok_and(is_origin_of_this_machine)) {
        return (StatusCode::FORBIDDEN, "a page of another site may not use the admin interface\n").into_response();
    }
    next.run(request).await
}

/// Sends whoever keeps a connection to the process that took over.
async fn to_the_successor(State(shared): Proxy, request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    if *shared.has_successor.borrow() {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

fn state_of(shared: &Shared) -> &'static str {
    match *shared.phase.borrow() {
        Phase::Serving if shared.is_live.load(Ordering::Acquire) => "LIVE",
        // Envoy's word for a proxy that waits for its first configuration.
        Phase::Serving => "INITIALIZING",
        // Whoever asked a moment ago means the place, and that is served.
        _ if *shared.has_successor.borrow() => "LIVE",
        _ => "DRAINING",
    }
}

async fn server_info(State(shared): Proxy) -> axum::Json<Json> {
    let uptime = format!("{}s", shared.started.elapsed().as_secs());
    axum::Json(json!({
        "version": concat!("tidegate/", env!("CARGO_PKG_VERSION")),
        "state": state_of(&shared),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "name": shared.name,
        "config_version": shared.current().config.version,
        "applied_version": shared.applied_version(),
    }))
}

async fn ready(State(shared): Proxy) -> (StatusCode, String) {
    let state = state_of(&shared);
    let status = if state == "LIVE" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{state}\n"))
}

async fn drain_listeners(State(shared): Proxy) -> &'static str {
    shared.start_draining();
    "OK\n"
}

/// Sets what is logged from now on, by Envoy's words: `?level=debug`.
async fn logging(query: Query<HashMap<String, String>>) -> Response {
    let level = query.get("level").map_or("", String::as_str);
    match crate::telemetry::set_level(level) {
        Ok(filter) => format!("level: {filter}\n").into_response(),
        Err(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
    }
}

async fn reopen_logs(State(shared): Proxy) -> &'static str {
    shared.logs.reopen();
    "OK\n"
}

async fn quit(State(shared): Proxy) -> &'static str {
    shared.quit.send_replace(true);
    "OK\n"
}

fn merged(shared: &Shared) -> Vec<Merged> {
    counters::merge(shared.workers.iter().map(|worker| &worker.table))
}

/// What went to targets without being judged.
fn unjudged(shared: &Shared) -> Vec<Merged> {
    counters::merge(shared.workers.iter().map(|worker| &worker.unjudged))
}

/// The workers' totals, added up.
fn totals(shared: &Shared) -> Vec<(&'static str, u64)> {
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for (index, (name, value)) in shared.workers.iter().flat_map(|w| w.totals.read().into_iter().enumerate()) {
        match sums.get_mut(index) {
            Some(sum) => sum.1 += value,
            None => sums.push((name, value)),
        }
    }
    sums
}

/// Counts by Envoy's names behind our own: `?filter=` keeps names that an expression meets, `?usedonly` those that counted
/// anything, `?format=json` gives Envoy's object.
async fn stats(State(shared): Proxy, query: Query<HashMap<String, String>>) -> Response {
    let filter = match query.get("filter").map(|text| pattern(text)).transpose() {
        Ok(filter) => filter,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("filter: {error}\n")).into_response(),
    };
    let mut all = own_stats(&shared);
    all.extend(super::stats::list(&shared));
    all.retain(|stat| filter.as_ref().is_none_or(|filter| filter.is_match(&stat.name)));
    all.retain(|stat| !query.contains_key("usedonly") || stat.is_used());
    match query.get("format").map(String::as_str) {
        Some("json") => axum::Json(show::object(&all)).into_response(),
        Some("prometheus") => prometheus_response(show::prometheus(&all, &shared.tags())),
        _ => show::text(&all).into_response(),
    }
}

fn pattern(text: &str) -> Result<Regex, regex::Error> {
    // Who may ask this may also stop the proxy; the bound is for slips.
    RegexBuilder::new(text).size_limit(1 << 20).build()
}

/// What Envoy has no name for: for Prometheus under the names of `/stats/prometheus`.
fn own_stats(shared: &Shared) -> Vec<Stat> {
    let own = |name: String, family: &str, labels: Vec<(&'static str, String)>, value| {
        let family = format!("tidegate_proxy_{family}");
        Stat { name, family, labels, value }
    };
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let mut all = vec![own("server.state".into(), "state", Vec::new(), Value::Text(state_of(shared).into()))];
    for (name, family, value) in [
        ("server.config_version", "config_version", shared.current().config.version),
        ("server.applied_version", "applied_version", shared.applied_version()),
        ("downstream.connections_active", "connections_active", number(shared.connections.load(Ordering::Relaxed))),
    ] {
        all.push(own(name.into(), family, Vec::new(), Value::Gauge(value)));
    }
    for (name, value) in totals(shared) {
        all.push(own(format!("proxy.{name}"), &format!("{name}_total"), Vec::new(), Value::Counter(value)));
    }
    for merged in merged(shared) {
        let (key, counts) = (&merged.series.key, &merged.series.outcomes);
        let name = format!("route.{}.v{}.{}.{}", key.route, key.version, key.target, key.endpoint);
        let requests = Value::Counter(counts.requests);
        all.push(own(format!("{name}.requests"), "requests_total", labels(key), requests));
        for (class, value) in [("status_5xx", counts.status_5xx), ("reset", counts.reset), ("timeout", counts.timeout)]
        {
            let labels = labels(key).into_iter().chain([("class", class.to_owned())]).collect();
            all.push(own(format!("{name}.{class}"), "request_errors_total", labels, Value::Counter(value)));
        }
    }
    for Merged { series: Series { key, outcomes, .. }, .. } in unjudged(shared) {
        let name = format!("route.{}.v{}.{}.unjudged", key.route, key.version, key.target);
        let (requests, errors) = (Value::Counter(outcomes.requests), Value::Counter(outcomes.errors()));
        all.push(own(format!("{name}.requests"), "unjudged_requests_total", labels(&key), requests));
        all.push(own(format!("{name}.errors"), "unjudged_request_errors_total", labels(&key), errors));
    }
    all
}

/// Labels of a series for Prometheus.
fn labels(key: &SeriesKey) -> Vec<(&'static str, String)> {
    vec![
        ("mesh", key.route.mesh.to_string()),
        ("router", key.route.router.to_string()),
        ("route", key.route.route.to_string()),
        ("version", key.version.to_string()),
        ("target", key.target.to_string()),
        ("endpoint", key.endpoint.clone()),
    ]
}

async fn prometheus(State(shared): Proxy) -> Response {
    let mut text = prometheus_text(&merged(&shared), &totals(&shared), shared.connections.load(Ordering::Relaxed));
    text.push_str(&unjudged_text(&unjudged(&shared)));
    prometheus_response(text + &show::prometheus(&super::stats::list(&shared), &shared.tags()))
}

fn prometheus_response(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn label_text(series: &Merged) -> String {
    let labels = labels(&series.series.key);
    labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect::<Vec<_>>().join(",")
}

fn prometheus_text(all: &[Merged], totals: &[(&str, u64)], connections: usize) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: String| {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
    };
    let (mut requests, mut errors, mut latency) = (String::new(), String::new(), String::new());
    for merged in all {
        let (labels, outcomes) = (label_text(merged), &merged.series.outcomes);
        let _ = writeln!(requests, "tidegate_proxy_requests_total{{{labels}}} {}", outcomes.requests);
        for (class, count) in
            [("status_5xx", outcomes.status_5xx), ("reset", outcomes.reset), ("timeout", outcomes.timeout)]
        {
            let _ = writeln!(errors, "tidegate_proxy_request_errors_total{{{labels},class=\"{class}\"}} {count}");
        }
        histogram(&mut latency, &labels, merged);
    }
    let name = "tidegate_proxy_requests_total";
    family(name, "counter", "Judged requests by final outcome, errors included.", requests);
    let name = "tidegate_proxy_request_errors_total";
    family(name, "counter", "Judged requests that failed, by class.", errors);
    let name = "tidegate_proxy_request_duration_seconds";
    family(name, "histogram", "Time to the head of the answer, of requests that did not fail.", latency);
    for (name, value) in totals {
        let name = format!("tidegate_proxy_{name}_total");
        family(&name, "counter", "Outside of any weighted draw.", format!("{name} {value}\n"));
    }
    let name = "tidegate_proxy_connections_active";
    family(name, "gauge", "Client connections open now.", format!("{name} {connections}\n"));
    text
}

/// Requests that went to a target without being judged.
fn unjudged_text(all: &[Merged]) -> String {
    let mut text = String::new();
    for (name, help, count) in [
        ("tidegate_proxy_unjudged_requests_total", "Requests kept from the judge by a tag of their route.", 0),
        ("tidegate_proxy_unjudged_request_errors_total", "Those of them that failed.", 1),
    ] {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for merged in all {
            let outcomes = &merged.series.outcomes;
            let value = [outcomes.requests, outcomes.errors()][count];
            let _ = writeln!(text, "{name}{{{}}} {value}", label_text(merged));
        }
    }
    text
}

/// One bucket to each doubling: the counts in between are in the report for the judge, and too much for a scrape.
fn histogram(text: &mut String, labels: &str, merged: &Merged) {
    let name = "tidegate_proxy_request_duration_seconds";
    let mut below = 0_u64;
    for (bucket, count) in merged.series.latency.counts().iter().enumerate() {
        below += count;
        match upper_bound_us(bucket) {
            Some(bound) if bound.is_power_of_two() => {
                let seconds = bound as f64 / 1e6;
                let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{seconds}\"}} {below}");
            }
            Some(_) => {}
            None => {
                let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {below}");
            }
        }
    }
    let _ = writeln!(text, "{name}_sum{{{labels}}} {}", merged.latency_sum_us as f64 / 1e6);
    let _ = writeln!(text, "{name}_count{{{labels}}} {below}");
}

/// What releases are judged by: every count and acknowledgement, for a controller in another process. One that judges by it
/// says so with `?acknowledge=MESH/ROUTER/ROUTE`, which that route's fuse waits for; people's looks are none of their business.
async fn report(State(shared): Proxy, query: Query<Vec<(String, String)>>) -> axum::Json<Report> {
    axum::Json(Reporter::new(shared).asked(&query))
}

/// Endpoints by cluster, as text, or as an object with `?format=json`.
async fn clusters(State(shared): Proxy, query: Query<HashMap<String, String>>) -> Response {
    let (current, all) = (shared.current(), merged(&shared));
    match query.get("format").map(String::as_str) {
        Some("json") => axum::Json(dump::clusters_object(&current)).into_response(),
        _ => dump::clusters(&current, &all).into_response(),
    }
}

async fn config_dump(State(shared): Proxy) -> axum::Json<Json> {
    axum::Json(dump::config(&shared.current()))
}
