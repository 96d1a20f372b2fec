//! Where traces go: one tracer at most.
//!
//! It stands at the bootstrap's own `tracing`, as the agent has it: listeners that ask for traces without naming a tracer
//! use that one. Envoy 1.40 warns at its start that this place is deprecated.

use super::node::Node;
use super::variables::Reader;
use super::{Report, assignment, socket_address};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};

/// What asks for a tracer.
const SWITCHES: [&str; 3] =
    ["ENABLE_ENVOY_XRAY_TRACING", "ENABLE_ENVOY_DATADOG_TRACING", "ENABLE_ENVOY_JAEGER_TRACING"];
/// Port of the X-Ray daemon.
const XRAY_PORT: u16 = 2000;
/// Port of the Datadog agent.
const DATADOG_PORT: u16 = 8126;
/// Port of a collector that takes Zipkin's spans.
const ZIPKIN_PORT: u16 = 9411;

/// The bootstrap's `tracing`; clusters that it needs are added.
pub(super) fn read(
    reader: &Reader<'_>,
    node: Option<&Node>,
    clusters: &mut Vec<Value>,
    report: &mut Report,
) -> Option<Value> {
    let mut asked: Vec<&str> = SWITCHES.into_iter().filter(|name| reader.flag(name, report)).collect();
    asked.extend(reader.text("ENVOY_TRACING_CFG_FILE").map(|_| "ENVOY_TRACING_CFG_FILE"));
    if asked.len() > 1 {
        report.problem(format!("Envoy has one tracer at most, and {} ask for one each", asked.join(" and ")));
        return None;
    }
    match *asked.first()? {
        "ENABLE_ENVOY_XRAY_TRACING" => xray(reader, node?, report),
        "ENABLE_ENVOY_DATADOG_TRACING" => {
            clusters.push(collector(
                "datadog_agent",
                reader,
                ["DATADOG_TRACER_ADDRESS", "DATADOG_TRACER_PORT"],
                DATADOG_PORT,
                report,
            ));
            Some(datadog(reader, node?))
        }
        "ENABLE_ENVOY_JAEGER_TRACING" => {
            let variables = ["JAEGER_TRACER_ADDRESS", "JAEGER_TRACER_PORT"];
            clusters.push(collector("jaeger", reader, variables, ZIPKIN_PORT, report));
            zipkin(reader, report)
        }
        // The file brings its own.
        _ => None,
    }
}

fn tracer(name: &str, mut config: Value, kind: &str) -> Value {
    config["@type"] = format!("type.googleapis.com/envoy.config.trace.v3.{kind}").into();
    json!({ "http": { "name": name, "typed_config": config } })
}

fn xray(reader: &Reader<'_>, node: &Node, report: &mut Report) -> Option<Value> {
    let (host, port) = xray_daemon(reader, report)?;
    let own = format!("{}/{}", node.mesh, node.name);
    let name = reader.text("XRAY_SEGMENT_NAME").unwrap_or(&own);
    let mut config = json!({
        "daemon_endpoint": { "protocol": "UDP", "address": host.to_string(), "port_value": port },
        "segment_name": name,
        "segment_fields": {
            "origin": "AWS::AppMesh::Proxy",
            // Gateways too: X-Ray knows no other name.
            "aws": { "app_mesh": { "mesh_name": node.mesh, "virtual_node_name": node.name } },
        },
    });
    if let Some(manifest) = sampling(reader, report) {
        config["sampling_rule_manifest"] = manifest;
    }
    Some(tracer("envoy.tracers.xray", config, "XRayConfig"))
}

/// Envoy's X-Ray tracer sends to an address and looks no name up.
fn xray_daemon(reader: &Reader<'_>, report: &mut Report) -> Option<(IpAddr, u16)> {
    let port = reader.port("XRAY_DAEMON_PORT", report).unwrap_or(XRAY_PORT);
    let Some(text) = reader.text("AWS_XRAY_DAEMON_ADDRESS") else { return Some((IpAddr::from([127, 0, 0, 1]), port)) };
    let both = text.parse::<SocketAddr>().map(|both| (both.ip(), both.port()));
    let found = both.or_else(|_| text.parse::<IpAddr>().map(|ip| (ip, port)));
    if found.is_err() {
        report.problem(format!(
            "AWS_XRAY_DAEMON_ADDRESS is `{text}`; Envoy takes an address and no name: 127.0.0.1 or 127.0.0.1:2000"
        ));
    }
    found.ok()
}

fn sampling(reader: &Reader<'_>, report: &mut Report) -> Option<Value> {
    let rate = reader.text("XRAY_SAMPLING_RATE");
    if let Some(path) = reader.text("XRAY_SAMPLING_RULE_MANIFEST") {
        if rate.is_some() {
            report.remark("XRAY_SAMPLING_RATE has no effect beside XRAY_SAMPLING_RULE_MANIFEST");
        }
        return Some(json!({ "filename": path }));
    }
    let text = rate?;
    let Some(rate) = text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate)) else {
        report.problem(format!("XRAY_SAMPLING_RATE is `{text}`; it is a share from 0 to 1, such as 0.05"));
        return None;
    };
    let rules = json!({ "version": 2, "rules": [], "default": { "fixed_target": 1, "rate": rate } });
    Some(json!({ "inline_string": rules.to_string() }))
}

fn datadog(reader: &Reader<'_>, node: &Node) -> Value {
    let own = format!("envoy-{}/{}", node.mesh, node.name);
    let service = reader.text("DD_SERVICE").unwrap_or(&own);
    let config = json!({ "collector_cluster": "datadog_agent", "service_name": service });
    tracer("envoy.tracers.datadog", config, "DatadogConfig")
}

fn zipkin(reader: &Reader<'_>, report: &mut Report) -> Option<Value> {
    let version = match reader.text("JAEGER_TRACER_VERSION").map(str::to_ascii_uppercase).as_deref() {
        None | Some("PROTO") => "HTTP_PROTO",
        Some("JSON") => "HTTP_JSON",
        Some(other) => {
            report.problem(format!("JAEGER_TRACER_VERSION is `{other}`; it is PROTO or JSON"));
            return None;
        }
    };
    let config = json!({
        "collector_cluster": "jaeger",
        "collector_endpoint": "/api/v2/spans",
        "collector_endpoint_version": version,
        "shared_span_context": false,
    });
    Some(tracer("envoy.tracers.zipkin", config, "ZipkinConfig"))
}

/// The cluster of a collector that is spoken to by HTTP.
fn collector(
    name: &str,
    reader: &Reader<'_>,
    [address, port]: [&str; 2],
    default_port: u16,
    report: &mut Report,
) -> Value {
    let host = reader.text(address).unwrap_or("127.0.0.1");
    let port = reader.port(port, report).unwrap_or(default_port);
    json!({
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": assignment(name, &socket_address(host, port)),
    })
}
