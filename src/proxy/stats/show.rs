//! Counts in Envoy's text, its JSON and Prometheus' text (Envoy 1.40, page "Administration interface", `/stats`). Pure.

use crate::base::histogram::{Histogram, upper_bound_us};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One number, or one distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct Stat {
    /// Envoy's name.
    pub name: String,
    /// Its name without what are labels for Prometheus.
    pub family: String,
    /// Those labels.
    pub labels: Vec<(&'static str, String)>,
    /// How much it is.
    pub value: Value,
}

/// How much something is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Only rises.
    Counter(u64),
    /// Rises and falls.
    Gauge(u64),
    /// Times, and their sum in microseconds.
    Times(Box<(Histogram, u64)>),
    /// Words.
    Text(String),
}

impl Stat {
    /// Whether anything was ever counted.
    #[must_use]
    pub fn is_used(&self) -> bool {
        match &self.value {
            Value::Counter(count) | Value::Gauge(count) => *count > 0,
            Value::Times(times) => times.0.total() > 0,
            Value::Text(text) => !text.is_empty(),
        }
    }
}

/// Quantiles that Envoy shows, in percent.
const QUANTILES: [f64; 11] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99, 100.0];

/// Bounds of Envoy's buckets, in milliseconds.
const BOUNDS_MS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

fn quantile_ms(times: &Histogram, percent: f64) -> Option<f64> {
    times.quantile_us(percent / 100.0).map(|us| us as f64 / 1000.0)
}

/// One line each, `name: value`.
#[must_use]
pub fn text(stats: &[Stat]) -> String {
    let mut out = String::new();
    for Stat { name, value, .. } in stats {
        // Writing to a string cannot fail.
        let _ = match value {
            Value::Counter(count) | Value::Gauge(count) => writeln!(out, "{name}: {count}"),
            Value::Text(text) => writeln!(out, "{name}: {text}"),
            Value::Times(times) if times.0.total() == 0 => writeln!(out, "{name}: No recorded values"),
            Value::Times(times) => {
                let quantiles = QUANTILES.iter().map(|percent| {
                    let ms = quantile_ms(&times.0, *percent).unwrap_or_default();
                    format!("P{percent}(nan,{ms})")
                });
                writeln!(out, "{name}: {}", quantiles.collect::<Vec<_>>().join(" "))
            }
        };
    }
    out
}

/// Envoy's object.
#[must_use]
pub fn object(stats: &[Stat]) -> Json {
    let (mut all, mut times) = (Vec::new(), Vec::new());
    for Stat { name, value, .. } in stats {
        match value {
            Value::Counter(count) | Value::Gauge(count) => all.push(json!({ "name": name, "value": count })),
            Value::Text(text) => all.push(json!({ "name": name, "value": text })),
            Value::Times(value) => {
                let of = |percent: &f64| json!({ "interval": null, "cumulative": quantile_ms(&value.0, *percent) });
                times.push(json!({ "name": name, "values": QUANTILES.iter().map(of).collect::<Vec<_>>() }));
            }
        }
    }
    if !times.is_empty() {
        all.push(json!({ "histograms": { "supported_quantiles": QUANTILES, "computed_quantiles": times } }));
    }
    json!({ "stats": all })
}

/// A label's value: backslash, quote and line end are escaped, as the text format has it.
#[must_use]
pub fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Names that are not Envoy's.
const OWN: &str = "tidegate_";

/// What Envoy makes of a name for Prometheus; our own are taken as they are.
fn metric_name(family: &str) -> String {
    if family.starts_with(OWN) {
        return family.to_owned();
    }
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    format!("envoy_{}", family.chars().map(plain).collect::<String>())
}

/// The text that Prometheus reads, with these labels on everything. Words are left out.
#[must_use]
pub fn prometheus(stats: &[Stat], tags: &[(String, String)]) -> String {
    let mut families: BTreeMap<String, (&str, String)> = BTreeMap::new();
    for stat in stats {
        let kind = match &stat.value {
            Value::Counter(_) => "counter",
            Value::Gauge(_) => "gauge",
            Value::Times(_) => "histogram",
            Value::Text(_) => continue,
        };
        let tags = tags.iter().map(|(name, value)| (name.as_str(), value));
        let labels = stat.labels.iter().map(|(name, value)| (*name, value)).chain(tags);
        let labels: Vec<String> = labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let name = metric_name(&stat.family);
        let (_, lines) = families.entry(name.clone()).or_insert_with(|| (kind, String::new()));
        write_family(lines, &name, &labels.join(","), &stat.value);
    }
    let mut out = String::new();
    for (name, (kind, lines)) in families {
        let _ = write!(out, "# TYPE {name} {kind}\n{lines}\n");
    }
    out
}

fn write_family(lines: &mut String, name: &str, labels: &str, value: &Value) {
    match value {
        Value::Counter(count) | Value::Gauge(count) => {
            let _ = writeln!(lines, "{name}{{{labels}}} {count}");
        }
        Value::Text(_) => {}
        Value::Times(times) => {
            let comma = if labels.is_empty() { "" } else { "," };
            for bound in BOUNDS_MS {
                let below = below(&times.0, bound);
                let _ = writeln!(lines, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
            }
            let total = times.0.total();
            let _ = writeln!(lines, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}");
            let _ = writeln!(lines, "{name}_sum{{{labels}}} {}", times.1 as f64 / 1000.0);
            let _ = writeln!(lines, "{name}_count{{{labels}}} {total}");
        }
    }
}

/// How many took no longer, as far as our own buckets tell: those that end at the bound or before. Ours are an eighth of a
/// doubling wide, so what lies within 12 % below the bound may be missing.
fn below(times: &Histogram, bound_ms: f64) -> u64 {
    let counted = times.counts().iter().enumerate();
    let within = counted.filter(|(bucket, _)| upper_bound_us(*bucket).is_some_and(|us| us as f64 <= bound_ms * 1000.0));
    within.map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Stat> {
        let mut times = Histogram::default();
        [900, 900, 4000].into_iter().for_each(|us| times.record(us));
        let labels = vec![("envoy_cluster_name", "a\"b".to_owned())];
        let stat = |name: &str, family: &str, value| Stat {
            name: name.into(),
            family: family.into(),
            labels: labels.clone(),
            value,
        };
        vec![
            stat("cluster.a.upstream_rq_total", "cluster.upstream_rq_total", Value::Counter(3)),
            stat("cluster.a.upstream_rq_active", "cluster.upstream_rq_active", Value::Gauge(0)),
            stat("cluster.a.upstream_rq_time", "cluster.upstream_rq_time", Value::Times(Box::new((times, 5800)))),
            stat("server.version", "server.version", Value::Text("x".into())),
        ]
    }

    #[test]
    fn text_has_a_line_for_each() {
        let text = text(&all());
        assert!(text.starts_with("cluster.a.upstream_rq_total: 3\ncluster.a.upstream_rq_active: 0\n"), "{text}");
        assert!(text.contains("cluster.a.upstream_rq_time: P0(nan,0.96) P25(nan,0.96) P50(nan,0.96)"), "{text}");
        assert!(text.ends_with("server.version: x\n"), "{text}");
    }

    #[test]
    fn an_object_has_distributions_at_its_end() {
        let object = object(&all());
        assert_eq!(object["stats"][0], json!({ "name": "cluster.a.upstream_rq_total", "value": 3 }));
        let times = &object["stats"][3]["histograms"]["computed_quantiles"][0];
        assert_eq!(
            (&times["name"], times["values"].as_array().map(Vec::len)),
            (&json!("cluster.a.upstream_rq_time"), Some(11))
        );
    }

    #[test]
    fn prometheus_reads_labels_and_buckets_in_milliseconds() {
        let text = prometheus(&all(), &[("appmesh_mesh".into(), "m".into())]);
        let labels = "envoy_cluster_name=\"a\\\"b\",appmesh_mesh=\"m\"";
        for line in [
            "# TYPE envoy_cluster_upstream_rq_total counter".to_owned(),
            format!("envoy_cluster_upstream_rq_total{{{labels}}} 3"),
            format!("envoy_cluster_upstream_rq_active{{{labels}}} 0"),
            format!("envoy_cluster_upstream_rq_time_bucket{{{labels},le=\"1\"}} 2"),
            format!("envoy_cluster_upstream_rq_time_bucket{{{labels},le=\"5\"}} 3"),
            format!("envoy_cluster_upstream_rq_time_sum{{{labels}}} 5.8"),
            format!("envoy_cluster_upstream_rq_time_count{{{labels}}} 3"),
        ] {
            assert!(text.lines().any(|each| each == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("server_version"), "{text}");
    }

    #[test]
    fn what_was_never_counted_is_not_used() {
        assert_eq!(all().iter().map(Stat::is_used).collect::<Vec<_>>(), [true, false, true, true]);
    }
}
