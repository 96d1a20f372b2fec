//! What Envoy's counts are called and where they are sent.

use super::Report;
use super::node::Node;
use super::variables::Reader;
use serde_json::{Value, json};
use std::net::IpAddr;

/// Port of a statsd daemon.
const STATSD_PORT: u16 = 8125;
/// Shortest and longest time between two reports, in milliseconds: what Envoy takes (1 ms to 5 min).
const FLUSH_MS: std::ops::RangeInclusive<u64> = 1..=300_000;

/// The bootstrap's `stats_config` and `stats_sinks`, where the variables ask for them. What the image's files say of tags and
/// sinks replaces them.
pub(super) fn read(
    reader: &Reader<'_>,
    node: Option<&Node>,
    report: &mut Report,
) -> [(&'static str, Option<Value>); 2] {
    let has_tags = reader.flag("ENABLE_ENVOY_STATS_TAGS", report);
    let sinks = reader.text("ENVOY_STATS_SINKS_CFG_FILE").is_some();
    let has_statsd = reader.flag("ENABLE_ENVOY_DOG_STATSD", report);
    if has_statsd && sinks {
        report.remark("ENABLE_ENVOY_DOG_STATSD has no effect beside ENVOY_STATS_SINKS_CFG_FILE".to_owned());
    }
    let tags = node.filter(|_| has_tags).map(tags);
    let sink = if has_statsd && !sinks { dog_statsd(reader, report) } else { None };
    [("stats_config", tags), ("stats_sinks", sink)]
}

fn tags(node: &Node) -> Value {
    let own = if node.is_gateway { "appmesh.virtual_gateway" } else { "appmesh.virtual_node" };
    json!({ "stats_tags": [
        { "tag_name": "appmesh.mesh", "fixed_value": node.mesh },
        { "tag_name": own, "fixed_value": node.name },
    ] })
}

fn dog_statsd(reader: &Reader<'_>, report: &mut Report) -> Option<Value> {
    let address = match reader.text("STATSD_SOCKET_PATH") {
        Some(path) => {
            if reader.first(&["STATSD_ADDRESS", "STATSD_PORT"]).is_some() {
                report.remark("STATSD_ADDRESS and STATSD_PORT have no effect beside STATSD_SOCKET_PATH");
            }
            json!({ "pipe": { "path": path } })
        }
        None => {
            let host = reader.text("STATSD_ADDRESS").unwrap_or("127.0.0.1");
            let port = reader.port("STATSD_PORT", report).unwrap_or(STATSD_PORT);
            if host.parse::<IpAddr>().is_err() {
                report.problem(format!("STATSD_ADDRESS is `{host}`; Envoy takes an address and no name"));
                return None;
            }
            json!({ "socket_address": { "protocol": "UDP", "address": host, "port_value": port } })
        }
    };
    Some(json!([{
        "name": "envoy.stat_sinks.dog_statsd",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.metrics.v3.DogStatsdSink",
            "address": address,
        },
    }]))
}

/// The bootstrap's `stats_flush_interval`.
pub(super) fn flush_interval(reader: &Reader<'_>, report: &mut Report) -> Option<Value> {
    let text = reader.text("ENVOY_STATS_FLUSH_INTERVAL")?;
    let Some(ms) = milliseconds(text).filter(|ms| FLUSH_MS.contains(ms)) else {
        report.problem(format!(
            "ENVOY_STATS_FLUSH_INTERVAL is `{text}`; it is a time from 1ms to 5m, such as 5000ms or 10s"
        ));
        return None;
    };
    let text =
        if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{}.{:03}s", ms / 1000, ms % 1000) };
    Some(text.into())
}

/// A whole number and its unit.
fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}
