//! How a proxy is set up, and why it may not start.

use super::cloudwatch::CloudWatchSettings;
use super::emf::EmfSettings;
use super::tls;
use super::trace::TraceSettings;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// How a proxy is set up.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// Names the proxy process in its reports; a new name after each restart, since counts begin again at zero.
    pub name: String,
    /// Where applications send their requests. Port 0 takes a free one.
    pub egress: SocketAddr,
    /// Where it takes what is meant for the application beside it; `None` for nowhere.
    pub ingress: Option<SocketAddr>,
    /// Where a virtual gateway's listeners are bound, on the ports that its configuration says; `None` for what is no gateway.
    pub gateway: Option<IpAddr>,
    /// Whether it is nobody's, as in local mode: every gateway that its configuration has, without TLS, and a port that cannot be
    /// taken does not keep it from starting.
    pub stands_alone: bool,
    /// Where the admin interface listens; `None` for none.
    pub admin: Option<SocketAddr>,
    /// Worker threads; 0 for one to each core.
    pub workers: usize,
    /// Client connections in all; those beyond are answered 503 and closed. Each needs a file descriptor here and one
    /// upstream, and common limits are 65,536 descriptors to a process.
    pub max_connections: usize,
    /// Versions of each route whose counts stay readable. A rollout makes one for each step and the judge looks at the
    /// present one and the last; 32 leave room for reports that come late, at about 1.4 KB a series and worker.
    pub kept_versions: usize,
    /// Where certificates come from that are no files.
    pub secrets: tls::Secrets,
    /// Whether every count for Prometheus says mesh and node (`ENABLE_ENVOY_STATS_TAGS`).
    pub stats_tags: bool,
    /// How requests are traced; `None` for not at all.
    pub traces: Option<Arc<TraceSettings>>,
    /// How metrics go to CloudWatch by log lines; `None` for not at all.
    pub emf: Option<EmfSettings>,
    /// How they go to CloudWatch by its API; `None` for not at all.
    pub cloudwatch: Option<CloudWatchSettings>,
}

impl ProxySettings {
    /// Settings with the default limits, without an admin interface.
    #[must_use]
    pub fn new(name: impl Into<String>, egress: SocketAddr) -> Self {
        Self {
            name: name.into(),
            egress,
            ingress: None,
            gateway: None,
            stands_alone: false,
            admin: None,
            workers: 0,
            max_connections: 30_000,
            kept_versions: 32,
            secrets: tls::Secrets::default(),
            stats_tags: false,
            traces: None,
            emf: None,
            cloudwatch: None,
        }
    }
}

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {what}: {source}; {flag} ADDR moves it (port 0 takes a free one)")]
    Bind {
        /// What would have listened there.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The option that sets it.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A port of the virtual gateway cannot be listened on.
    #[error(
        "cannot listen on {address} for the virtual gateway: {source}; free the port, let the process have it (below 1024 it \
         needs CAP_NET_BIND_SERVICE), or give the gateway's listener another port in the mesh"
    )]
    Gateway {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody asked it to quit before it had anything to serve.
    #[error("asked to quit while it waited for its first configuration")]
    AskedToQuit,
    /// It would take the place of a process that serves, and has not what that one has.
    #[error(
        "the SDS server beside the proxy has not told {names} within 15 s, and the process whose place was to be taken serves \
         with it: see that the server runs and has an entry for this proxy, and start it again"
    )]
    Secrets {
        /// Names of the secrets.
        names: String,
    },
    /// A worker thread could not be made.
    #[error("cannot start worker {index} of the proxy: {source}")]
    Worker {
        /// Which one.
        index: usize,
        /// What the system said.
        source: io::Error,
    },
}
