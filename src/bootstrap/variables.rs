//! The environment variables that a bootstrap is made of: which there are, and how their values are read.

use super::Report;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Variables by their names.
pub type Variables = BTreeMap<String, String>;

/// A name that is off by so many letters is a slip; one that is further from all is somebody else's. Orchestrators set
/// variables such as `ENVOY_SERVICE_HOST` by themselves, so what is merely unknown is let pass.
const SLIP: usize = 2;

/// A variable that the App Mesh image knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it comes to here, for people; a sentence that begins small where it has no effect.
    pub meaning: &'static str,
    /// Whether it has an effect.
    pub has_effect: bool,
}

const fn used(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, meaning, has_effect: true }
}

const fn idle(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, meaning, has_effect: false }
}

/// Why the switches of the agent do nothing.
const AGENT: &str = "it is for the agent of the App Mesh image, and there is none around an Envoy of its own";
/// Why the switches of AWS's endpoints do nothing.
const AWS_ENDPOINT: &str = "it chooses among AWS's own control planes, and --control-plane names another one";
/// Why the switches of features do nothing.
const REMOVED: &str = "it switches a feature of Envoy that is gone, and 1.40 logs an error where it is set";

/// All of them, in the order of the document.
pub const KNOWN: &[Variable] = &[
    used("APPMESH_RESOURCE_ARN", "`--node` where that is not given: an ARN or `mesh/M/virtualNode/N`"),
    used("APPMESH_RESOURCE_NAME", "the same, if the one above is not set"),
    used("APPMESH_VIRTUAL_NODE_NAME", "the same, if neither of them is set"),
    used("APPMESH_RESOURCE_CLUSTER", "`node.cluster`; the node's id where nothing is set"),
    used("APPMESH_VIRTUAL_NODE_CLUSTER", "the same, if the one above is not set"),
    used(
        "APPMESH_XDS_ENDPOINT",
        "`--control-plane` where that is not given: `HOST:PORT` (TLS) or `unix:///PATH` (clear text)",
    ),
    used("APPMESH_SDS_SOCKET_PATH", "socket of a local SDS server: the cluster `static_cluster_sds_unix_socket`"),
    used("ENVOY_ADMIN_ACCESS_PORT", "port of the admin pages, 9901; they listen on every address then"),
    used("ENVOY_ADMIN_ACCESS_ENABLE_IPV6", "the admin pages listen on `::` instead of `0.0.0.0`"),
    used("ENVOY_ADMIN_ACCESS_LOG_FILE", "access log of the admin pages; none where it is not set"),
    used("ENVOY_ADMIN_MODE", "`tcp`, or `uds` for the socket `/tmp/envoy_admin.sock`"),
    used("ENVOY_INITIAL_FETCH_TIMEOUT", "seconds to wait for the first configuration; 0, the default, waits for ever"),
    used("ENVOY_LOG_LEVEL", "no bootstrap holds it: the remark on stderr has the argument of Envoy"),
    used("ENVOY_CONCURRENCY", "likewise"),
    used("ENVOY_OUTLIER_DETECTION_EVENT_LOG_PATH", "where ejected endpoints are logged, `/dev/stdout`"),
    used(
        "ENABLE_ENVOY_STATS_TAGS",
        "tags `appmesh.mesh` and `appmesh.virtual_node` or `appmesh.virtual_gateway` on every count",
    ),
    used("ENVOY_STATS_CONFIG_FILE", "file with `stats_config`; its tags, if it has some, replace those"),
    used("ENVOY_STATS_FLUSH_INTERVAL", "time between two reports to the sinks, such as `5000ms` or `10s`"),
    used("ENABLE_ENVOY_DOG_STATSD", "counts by DogStatsD, to 127.0.0.1:8125"),
    used("STATSD_ADDRESS", "its address"),
    used("STATSD_PORT", "its port"),
    used("STATSD_SOCKET_PATH", "its socket, instead of address and port"),
    used("ENVOY_STATS_SINKS_CFG_FILE", "file with `stats_sinks`; replaces DogStatsD"),
    used("ENABLE_ENVOY_XRAY_TRACING", "traces to the X-Ray daemon at 127.0.0.1:2000 (UDP)"),
    used("AWS_XRAY_DAEMON_ADDRESS", "its address, `IP` or `IP:PORT`"),
    used("XRAY_DAEMON_PORT", "its port, where the address says none"),
    used("XRAY_SAMPLING_RATE", "share of the requests that are traced beyond one in a second, 0.05"),
    used("XRAY_SAMPLING_RULE_MANIFEST", "file of sampling rules (version 2), where Envoy runs; replaces the rate"),
    used("XRAY_SEGMENT_NAME", "name of the segments, `MESH/NODE`"),
    used("ENABLE_ENVOY_DATADOG_TRACING", "traces to the Datadog agent at 127.0.0.1:8126"),
    used("DATADOG_TRACER_ADDRESS", "its address"),
    used("DATADOG_TRACER_PORT", "its port"),
    used("DD_SERVICE", "the service's name, `envoy-MESH/NODE`"),
    used("ENABLE_ENVOY_JAEGER_TRACING", "traces in Zipkin's format to 127.0.0.1:9411"),
    used("JAEGER_TRACER_ADDRESS", "its address"),
    used("JAEGER_TRACER_PORT", "its port"),
    used("JAEGER_TRACER_VERSION", "`PROTO` or `JSON`"),
    used("ENVOY_TRACING_CFG_FILE", "file with `tracing`, and `static_resources` for its clusters"),
    used("ENVOY_RESOURCES_CONFIG_FILE", "file with further `static_resources`"),
    used("ENVOY_CONFIG_FILE", "refused: it names a whole bootstrap, which makes this one pointless"),
    used("TIDEGATE_TOKEN", "Envoy sends it as a bearer token; the file names the variable and not its value"),
    used("TIDEGATE_INSECURE", "`1` lets Envoy send the token in clear text to another machine"),
    idle("APPMESH_METRIC_EXTENSION_VERSION", "it needs the image's Wasm extension, which other Envoys do not have"),
    idle("APPMESH_PREVIEW", AWS_ENDPOINT),
    idle("APPMESH_DUALSTACK_ENDPOINT", AWS_ENDPOINT),
    idle("APPMESH_FIPS_ENDPOINT", AWS_ENDPOINT),
    idle("APPMESH_SIGNING_NAME", AWS_ENDPOINT),
    idle("APPMESH_SET_TRACING_DECISION", REMOVED),
    idle("ENVOY_NO_EXTENSION_LOOKUP_BY_NAME", REMOVED),
    idle("ENVOY_ENABLE_TCP_POOL_IDLE_TIMEOUT", REMOVED),
    idle("ENVOY_SANITIZE_ORIGINAL_PATH", REMOVED),
    idle("ENVOY_ACTIVE_HEALTH_CHECK_UNEJECT_HOST", REMOVED),
    idle("APPMESH_SLEEP_DURATION", AGENT),
    idle("APPNET_ENVOY_RESTART_COUNT", AGENT),
    idle("APPNET_AGENT_ADMIN_MODE", AGENT),
    idle("APPNET_AGENT_HTTP_PORT", AGENT),
    idle("PID_POLL_INTERVAL_MS", AGENT),
    idle("LISTENER_DRAIN_WAIT_TIME_S", AGENT),
];

/// Reads values as the image's agent does: without blanks around them, and an empty one is one that is not set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    variables: &'a Variables,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(variables: &'a Variables) -> Self {
        Self { variables }
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        debug_assert!(KNOWN.iter().any(|known| known.name == name), "{name} is not in the table");
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The first one that is set.
    pub(super) fn first(&self, names: &[&str]) -> Option<&'a str> {
        names.iter().find_map(|name| self.text(name))
    }

    /// A switch; off where nothing is set.
    pub(super) fn flag(&self, name: &str, report: &mut Report) -> bool {
        match self.text(name) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            Some(other) => {
                report.problem(format!("{name} is `{other}`; it is `1` or `0`"));
                false
            }
        }
    }

    pub(super) fn number(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
        unit: &str,
        report: &mut Report,
    ) -> Option<u64> {
        let text = self.text(name)?;
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            report.problem(format!("{name} is `{text}`; it is a whole number from {least} to {most} ({unit})"));
        }
        number
    }

    pub(super) fn port(&self, name: &str, report: &mut Report) -> Option<u16> {
        let port = self.number(name, 1..=u64::from(u16::MAX), "a port", report)?;
        u16::try_from(port).ok()
    }

    /// What is set and does nothing, is refused, or looks like a slip of the pen.
    pub(super) fn look_around(&self, report: &mut Report) {
        for known in KNOWN.iter().filter(|known| !known.has_effect && self.text(known.name).is_some()) {
            report.remark(format!("{} has no effect: {}", known.name, known.meaning));
        }
        if let Some(path) = self.text("ENVOY_CONFIG_FILE") {
            report.problem(format!(
                "ENVOY_CONFIG_FILE names a whole bootstrap ({path}): start Envoy with it, or unset the variable to have one made"
            ));
        }
        for name in self.variables.keys() {
            let (distance, nearest) = nearest(name);
            if (1..=SLIP).contains(&distance) {
                report.problem(format!("{name} is not a variable of the App Mesh image; is {nearest} meant?"));
            }
        }
    }
}

fn nearest(name: &str) -> (usize, &'static str) {
    let distances = KNOWN.iter().map(|known| (strsim::levenshtein(known.name, name), known.name));
    distances.min_by_key(|(distance, _)| *distance).unwrap_or((usize::MAX, ""))
}
