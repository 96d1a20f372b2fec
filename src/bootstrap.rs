//! Envoy's bootstrap: from options and environment variables to the file that an Envoy of 1.40 or later starts with.
//!
//! The variables are those of the App Mesh image, whose agent makes such a file too, so that the environment of a task
//! definition keeps its meaning. What the agent does beside Envoy has none here, and that is said. The file holds no
//! secret: the token is named by its variable, which Envoy reads itself.
//!
//! Sources: the App Mesh user guide (environment variables of the image); Envoy's API v3. What Envoy 1.40 makes of it is
//! tested by `it::envoy`.

mod control_plane;
mod files;
mod node;
mod stats;
mod traces;
mod variables;
mod yaml;

pub use files::{FILE_MAX, Texts, wanted};
pub use node::Node;
pub use variables::{KNOWN, Variable, Variables};
pub use yaml::emit;

use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use variables::Reader;

/// The cluster through which Envoy reaches the control plane.
pub const CONTROL_PLANE: &str = "tidegate_control_plane";
/// The cluster of the SDS socket, by the name that App Mesh's resources refer to it.
const SDS_CLUSTER: &str = "static_cluster_sds_unix_socket";
/// Where the agent has Envoy's admin pages when they are on a socket.
const ADMIN_SOCKET: &str = "/tmp/envoy_admin.sock";
/// Its permissions, 0600: whoever may connect may end Envoy.
const ADMIN_SOCKET_MODE: u32 = 0o600;
/// Longest program of a regular expression, in RE2's instructions: App Mesh allows 1,000 where Envoy's own limit is 100, and
/// a longer one in a route would have the whole configuration refused.
const REGEX_MAX: u32 = 1000;
/// Port of the admin pages unless something says otherwise.
const ADMIN_PORT: u16 = 9901;
/// Longest wait for the first configuration that is taken, in seconds: an hour. 0 waits for ever.
const FETCH_TIMEOUT_MAX_S: u64 = 3600;
/// Most threads that are taken for meant.
const CONCURRENCY_MAX: u64 = 1024;
/// Levels that Envoy's `--log-level` takes.
const LOG_LEVELS: [&str; 8] = ["trace", "debug", "info", "warning", "warn", "error", "critical", "off"];

/// What the command line says; where it says nothing, the variables do.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The virtual node or gateway that the Envoy is: `mesh/M/virtualNode/N`, `mesh/M/virtualGateway/G`, or a full ARN.
    pub node: Option<String>,
    /// `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`.
    pub control_plane: Option<String>,
    /// Where Envoy's admin pages listen.
    pub admin: Option<SocketAddr>,
    /// Where it takes what its application sends; told to the control plane, which makes the listener.
    pub egress: Option<SocketAddr>,
    /// Where it takes what is meant for its application; likewise.
    pub ingress: Option<SocketAddr>,
    /// File of the roots (PEM) that the control plane's certificate is judged by, where Envoy runs.
    pub ca: Option<String>,
    /// File of the certificate (PEM) that Envoy shows, where Envoy runs.
    pub certificate: Option<String>,
    /// File of its private key (PEM), where Envoy runs.
    pub key: Option<String>,
}

/// A bootstrap, and what a person should know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// The file.
    pub config: Value,
    /// Arguments of Envoy that the variables ask for, since no bootstrap can hold them.
    pub arguments: Vec<String>,
    /// What has no effect, and what has to be so where Envoy runs.
    pub remarks: Vec<String>,
}

/// What is found on the way: all problems at once, and remarks.
#[derive(Debug, Default)]
struct Report {
    problems: Vec<String>,
    remarks: Vec<String>,
}

impl Report {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }
}

/// Makes the bootstrap. `texts` are the files that [`wanted`] names, by their variables.
///
/// # Errors
/// Everything that is wrong with options, variables and files, each with its place and what to do; never half of it.
pub fn build(options: &Options, variables: &Variables, texts: &Texts) -> Result<Bootstrap, Vec<String>> {
    let mut report = Report::default();
    let reader = Reader::new(variables);
    reader.look_around(&mut report);
    let node = node::read(options, &reader, &mut report);
    let control_plane = control_plane::read(options, &reader, &mut report);
    let admin = admin(options, &reader, &mut report);
    let arguments = arguments(&reader, &mut report);
    let fetch = fetch_timeout(&reader, &mut report);
    let parts = files::read(texts, &mut report);
    let mut clusters = Vec::new();
    let tracing = traces::read(&reader, node.as_ref(), &mut clusters, &mut report);
    let stats = stats::read(&reader, node.as_ref(), &mut report);
    let flush = stats::flush_interval(&reader, &mut report);
    let (Some(node), Some(control_plane)) = (node, control_plane) else { return Err(report.problems) };
    clusters.insert(0, control_plane.cluster());
    if let Some(path) = reader.text("APPMESH_SDS_SOCKET_PATH") {
        clusters.push(sds_cluster(path));
    }
    let event_log = reader.text("ENVOY_OUTLIER_DETECTION_EVENT_LOG_PATH").unwrap_or("/dev/stdout");
    let cluster = reader.first(&["APPMESH_RESOURCE_CLUSTER", "APPMESH_VIRTUAL_NODE_CLUSTER"]).unwrap_or(&node.id);
    let mut config = Map::new();
    let mut described = json!({ "id": node.id, "cluster": cluster });
    let places = [("egress", options.egress), ("ingress", options.ingress)];
    let mut ours: Map<String, Value> = places
        .iter()
        .filter_map(|(name, address)| Some(((*name).to_owned(), json!((*address)?.to_string()))))
        .collect();
    // Its control plane may ask for a log of requests by that cluster: a listener that names another is refused as a whole.
    ours.insert("reports_to".into(), CONTROL_PLANE.into());
    described["metadata"] = json!({ "tidegate": ours });
    config.insert("node".into(), described);
    config.insert("admin".into(), admin);
    config.insert("dynamic_resources".into(), dynamic_resources(&control_plane, fetch));
    config.insert("static_resources".into(), json!({ "clusters": clusters }));
    let outliers = json!({ "outlier_detection": { "event_log_path": event_log } });
    config.insert("cluster_manager".into(), outliers);
    config.insert("layered_runtime".into(), layered_runtime());
    let made = [("tracing", tracing), ("stats_flush_interval", flush)];
    let made = made.into_iter().chain(stats).filter_map(|(key, value)| Some((key, value?)));
    config.extend(made.map(|(key, value)| (key.to_owned(), value)));
    files::merge(&mut config, parts, &mut report);
    if !report.problems.is_empty() {
        return Err(report.problems);
    }
    Ok(Bootstrap { config: Value::Object(config), arguments, remarks: report.remarks })
}

/// One stream for everything. Listeners come by it too, so the file is the same for a sidecar that gets its traffic by
/// redirection, for one whose listeners are addressed, and for a gateway.
fn dynamic_resources(control_plane: &control_plane::ControlPlane, fetch_timeout_s: u64) -> Value {
    let by_ads = json!({
        "ads": {},
        "resource_api_version": "V3",
        "initial_fetch_timeout": format!("{fetch_timeout_s}s"),
    });
    json!({
        "ads_config": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{
                "envoy_grpc": { "cluster_name": CONTROL_PLANE, "authority": control_plane.authority() },
            }],
        },
        "cds_config": by_ads,
        "lds_config": by_ads,
    })
}

/// The agent also switches features off that later Envoys have removed; Envoy 1.40 calls them a bug of its own, with a stack
/// trace in the log, so they are left out.
fn layered_runtime() -> Value {
    json!({ "layers": [
        { "name": "static_layer_0", "static_layer": {
            "re2.max_program_size.error_level": REGEX_MAX,
            // Since 1.39 each of several headers of one name is matched by itself; App Mesh's Envoys joined them by commas.
            "envoy.reloadable_features.match_headers_individually": false,
        } },
        { "name": "admin_layer", "admin_layer": {} },
    ] })
}

/// Off the machine only where the image's variables ask for it, as they always did: whoever reaches these pages may end
/// Envoy.
fn admin(options: &Options, reader: &Reader<'_>, report: &mut Report) -> Value {
    let is_socket = match reader.text("ENVOY_ADMIN_MODE") {
        None | Some("tcp") => false,
        Some("uds") => true,
        Some(other) => {
            report.problem(format!("ENVOY_ADMIN_MODE is `{other}`; it is `tcp` or `uds`"));
            false
        }
    };
    let is_ipv6 = reader.flag("ENVOY_ADMIN_ACCESS_ENABLE_IPV6", report);
    let port = reader.port("ENVOY_ADMIN_ACCESS_PORT", report);
    let address = match options.admin {
        Some(_) if is_socket => {
            report.problem("--admin is an address and ENVOY_ADMIN_MODE=uds asks for a socket: leave one of them out");
            Value::Null
        }
        None if is_socket => {
            if port.is_some() || is_ipv6 {
                report.remark(format!("the admin pages are on {ADMIN_SOCKET}: ENVOY_ADMIN_ACCESS_* have no effect"));
            }
            json!({ "pipe": { "path": ADMIN_SOCKET, "mode": ADMIN_SOCKET_MODE } })
        }
        Some(address) => socket_address(&address.ip().to_string(), address.port()),
        None => {
            let is_image = port.is_some() || is_ipv6 || reader.first(&node::VARIABLES).is_some();
            let host = match (is_image, is_ipv6) {
                (false, _) => "127.0.0.1",
                (true, false) => "0.0.0.0",
                (true, true) => "::",
            };
            if is_image {
                report.remark(
                    "the admin pages listen on every address, as those of the App Mesh image do, and whoever reaches them \
                     can end Envoy; --admin 127.0.0.1:9901 keeps them to this machine or task",
                );
            }
            let mut address = socket_address(host, port.unwrap_or(ADMIN_PORT));
            if is_image && is_ipv6 {
                address["socket_address"]["ipv4_compat"] = true.into();
            }
            address
        }
    };
    let mut admin = json!({ "address": address });
    // The agent's default is a file in /tmp that grows by every health check; here one has to be asked for.
    if let Some(path) = reader.text("ENVOY_ADMIN_ACCESS_LOG_FILE") {
        admin["access_log"] = json!([{
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": path,
            },
        }]);
    }
    admin
}

fn fetch_timeout(reader: &Reader<'_>, report: &mut Report) -> u64 {
    reader.number("ENVOY_INITIAL_FETCH_TIMEOUT", 0..=FETCH_TIMEOUT_MAX_S, "seconds", report).unwrap_or(0)
}

/// What Envoy takes on its command line only.
fn arguments(reader: &Reader<'_>, report: &mut Report) -> Vec<String> {
    let mut arguments = Vec::new();
    if let Some(level) = reader.text("ENVOY_LOG_LEVEL") {
        if LOG_LEVELS.contains(&level) {
            arguments.extend(["--log-level".to_owned(), level.to_owned()]);
        } else {
            report.problem(format!("ENVOY_LOG_LEVEL is `{level}`; it is one of {}", LOG_LEVELS.join(", ")));
        }
    }
    if let Some(threads) = reader.number("ENVOY_CONCURRENCY", 1..=CONCURRENCY_MAX, "threads", report) {
        arguments.extend(["--concurrency".to_owned(), threads.to_string()]);
    }
    arguments
}

fn sds_cluster(path: &str) -> Value {
    json!({
        "name": SDS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": http2(&json!({}), &[]),
        "load_assignment": assignment(SDS_CLUSTER, &json!({ "pipe": { "path": path } })),
    })
}

/// A cluster's options that make it speak HTTP/2; filters that change each request on its way.
fn http2(options: &Value, filters: &[Value]) -> Value {
    let kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let mut typed = json!({
        "@type": format!("type.googleapis.com/{kind}"),
        "explicit_http_config": { "http2_protocol_options": options },
    });
    if !filters.is_empty() {
        let codec = json!({
            "name": "envoy.filters.http.upstream_codec",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
            },
        });
        typed["http_filters"] = filters.iter().cloned().chain([codec]).collect();
    }
    json!({ kind: typed })
}

/// A cluster's only endpoint.
fn assignment(cluster: &str, address: &Value) -> Value {
    json!({ "cluster_name": cluster, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }] })
}

fn socket_address(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}

#[cfg(test)]
mod tests;
