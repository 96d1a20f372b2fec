//! How Envoy reaches the control plane: a cluster that needs no configuration from elsewhere.

use super::variables::Reader;
use super::{CONTROL_PLANE, Options, Report, assignment, http2, socket_address};
use serde_json::{Value, json};
use std::net::IpAddr;

/// Time to make the connection, TLS included.
const CONNECT_TIMEOUT: &str = "5s";
/// After so much silence Envoy asks whether the other side is there, as the agent has it: connections through load
/// balancers die without a word.
const KEEPALIVE_INTERVAL: &str = "10s";
/// It gets so long to answer.
const KEEPALIVE_TIMEOUT: &str = "20s";
/// The system's roots on Debian and its kin, Envoy's own image among them. Envoy knows no other way to say "the system's".
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The same on Amazon Linux, for the remark.
const AMAZON_ROOTS: &str = "/etc/pki/tls/cert.pem";
/// Longest URL that is taken, in bytes: a name of 253 and its surroundings.
const URL_MAX: usize = 1024;

/// Where it is, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ControlPlane {
    place: Place,
    tls: Option<Tls>,
    sends_token: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Address { host: String, port: u16 },
    Socket { path: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tls {
    ca: String,
    own: Option<(String, String)>,
}

/// A URL, read.
struct Url {
    place: Place,
    is_tls: bool,
}

pub(super) fn read(options: &Options, reader: &Reader<'_>, report: &mut Report) -> Option<ControlPlane> {
    let Url { place, is_tls } = match &options.control_plane {
        Some(url) => parse(url).map_err(|why| report.problem(format!("--control-plane is `{url}`: {why}"))).ok()?,
        None => from_variable(reader, report)?,
    };
    let own = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        _ => {
            report.problem("--certificate and --key go together: a certificate proves nothing without its key");
            None
        }
    };
    let tls = is_tls.then(|| Tls { ca: options.ca.clone().unwrap_or_else(|| SYSTEM_ROOTS.to_owned()), own });
    if tls.is_none() && (options.ca.is_some() || options.certificate.is_some()) {
        report.problem("--ca and --certificate are for TLS: use a --control-plane with https://");
    }
    if is_tls && options.ca.is_none() {
        report.remark(format!(
            "the roots are read from {SYSTEM_ROOTS} where Envoy runs; on Amazon Linux it is --ca {AMAZON_ROOTS}"
        ));
    }
    let sends_token = reader.text("TIDEGATE_TOKEN").is_some();
    let control_plane = ControlPlane { place, tls, sends_token };
    if sends_token {
        control_plane.look_at_token(reader, report);
    }
    Some(control_plane)
}

/// As the image reads it: TLS unless it is a socket.
fn from_variable(reader: &Reader<'_>, report: &mut Report) -> Option<Url> {
    let Some(endpoint) = reader.text("APPMESH_XDS_ENDPOINT") else {
        report.problem("it is not said where the control plane is: --control-plane https://HOST:PORT");
        return None;
    };
    let url = if endpoint.contains("://") { endpoint.to_owned() } else { format!("https://{endpoint}") };
    parse(&url).map_err(|why| report.problem(format!("APPMESH_XDS_ENDPOINT is `{endpoint}`: {why}"))).ok()
}

fn parse(url: &str) -> Result<Url, String> {
    let forms = "it is http://HOST:PORT, https://HOST:PORT or unix:///PATH";
    if url.len() > URL_MAX {
        return Err(format!("it is longer than {URL_MAX} bytes"));
    }
    if let Some(path) = url.strip_prefix("unix://") {
        // A socket's name has 108 bytes in Linux, its end included.
        let is_path = path.starts_with('/') && (2..108).contains(&path.len()) && !path.contains('\0');
        let place = Place::Socket { path: path.to_owned() };
        return if is_path { Ok(Url { place, is_tls: false }) } else { Err(format!("no path of a socket; {forms}")) };
    }
    let (is_tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(format!("no address; {forms}")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => return Err(format!("it says no port; {forms}")),
    };
    let port = port.parse::<u16>().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| format!("that is no port (1 to 65535); {forms}"))?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    if !is_host {
        return Err(format!("`{host}` is neither a name nor an address; {forms}"));
    }
    let host = bare.unwrap_or(host).to_owned();
    Ok(Url { place: Place::Address { host, port }, is_tls })
}

fn is_name(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

impl ControlPlane {
    /// What the server, or a balancer before it, sees as the host.
    pub(super) fn authority(&self) -> String {
        match &self.place {
            Place::Address { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Place::Address { host, port } => format!("{host}:{port}"),
            Place::Socket { .. } => "localhost".to_owned(),
        }
    }

    /// A token in clear text belongs to whoever listens.
    fn look_at_token(&self, reader: &Reader<'_>, report: &mut Report) {
        let stays_here = match &self.place {
            Place::Socket { .. } => true,
            Place::Address { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        };
        let is_allowed = reader.flag("TIDEGATE_INSECURE", report);
        if self.tls.is_none() && !stays_here && !is_allowed {
            report.problem(
                "TIDEGATE_TOKEN would go to another machine in clear text: use https://, unset it if the control plane asks \
                 for none, or set TIDEGATE_INSECURE=1 where the network may know it",
            );
        }
        report.remark(
            "Envoy sends $TIDEGATE_TOKEN to the control plane: start it with that variable. The token is not in this file",
        );
    }

    pub(super) fn cluster(&self) -> Value {
        let keepalive =
            json!({ "connection_keepalive": { "interval": KEEPALIVE_INTERVAL, "timeout": KEEPALIVE_TIMEOUT } });
        let filters = if self.sends_token { vec![token_filter()] } else { Vec::new() };
        let (kind, address) = match &self.place {
            Place::Socket { path } => ("STATIC", json!({ "pipe": { "path": path } })),
            Place::Address { host, port } => {
                let kind = if host.parse::<IpAddr>().is_ok() { "STATIC" } else { "STRICT_DNS" };
                (kind, socket_address(host, *port))
            }
        };
        let mut cluster = json!({ "name": CONTROL_PLANE, "type": kind, "connect_timeout": CONNECT_TIMEOUT });
        if kind == "STRICT_DNS" {
            // Envoy's own choice tries no IPv4 where a name has IPv6, such as `localhost`.
            cluster["dns_lookup_family"] = "V4_PREFERRED".into();
        }
        cluster["typed_extension_protocol_options"] = http2(&keepalive, &filters);
        cluster["load_assignment"] = assignment(CONTROL_PLANE, &address);
        if let (Some(tls), Place::Address { host, .. }) = (&self.tls, &self.place) {
            cluster["transport_socket"] = tls.transport_socket(host);
        }
        cluster
    }
}

impl Tls {
    fn transport_socket(&self, host: &str) -> Value {
        let is_address = host.parse::<IpAddr>().is_ok();
        let kind = if is_address { "IP_ADDRESS" } else { "DNS" };
        let mut common = json!({
            "alpn_protocols": ["h2"],
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_2" },
            // Without the names Envoy would take any certificate of these roots.
            "validation_context": {
                "trusted_ca": { "filename": self.ca },
                "match_typed_subject_alt_names": [{ "san_type": kind, "matcher": { "exact": host } }],
            },
        });
        if let Some((certificate, key)) = &self.own {
            common["tls_certificates"] =
                json!([{ "certificate_chain": { "filename": certificate }, "private_key": { "filename": key } }]);
        }
        let kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
        let mut context = json!({ "@type": kind, "common_tls_context": common });
        if !is_address {
            context["sni"] = host.into();
        }
        json!({ "name": "envoy.transport_sockets.tls", "typed_config": context })
    }
}

/// Puts the token on every request. `initial_metadata` of the gRPC service would put the variable's name there, literally.
fn token_filter() -> Value {
    let header = json!({ "key": "authorization", "value": "Bearer %ENVIRONMENT(TIDEGATE_TOKEN)%" });
    let mutation = json!({ "append": { "header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" } });
    json!({
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": { "request_mutations": [mutation] },
        },
    })
}
