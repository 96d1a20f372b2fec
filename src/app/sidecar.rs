//! A native proxy as a process of its own: its configuration from a control plane, its endpoints found by itself.

use super::redirect::Redirect;
pub use super::redirect::Redirecting;
use super::serve::aws_of;
use super::{DRAIN, StartupError, endpoints};
use crate::clock::new_uuid;
use crate::discovery::cloudmap::CloudMapSource;
use crate::discovery::everywhere::Everywhere;
pub use crate::proxy::emf::{EmfSettings, EmfTarget};
pub use crate::proxy::trace::{TraceSettings, sampling::Rules};
use crate::proxy::{self, ProxyHandle, ProxySettings, Reporter};
use crate::xds::client::follow;
pub use crate::xds::client::{ClientSettings, Origin};
use crate::xds::sds;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// What a proxy is started with.
#[derive(Debug)]
pub struct ProxyOptions {
    /// Where its configuration comes from.
    pub client: ClientSettings,
    /// Where applications send their requests.
    pub egress: SocketAddr,
    /// Where it takes what is meant for its application; for a virtual gateway, the address of its listeners, whose ports the
    /// mesh says.
    pub ingress: SocketAddr,
    /// Whether it is a virtual gateway.
    pub is_gateway: bool,
    /// Its admin pages.
    pub admin: SocketAddr,
    /// Worker threads; 0 for one to each core.
    pub workers: usize,
    /// Whether every count for Prometheus says mesh and node.
    pub stats_tags: bool,
    /// How requests are traced; `None` for not at all.
    pub traces: Option<TraceSettings>,
    /// How metrics go to CloudWatch; `None` for not at all.
    pub emf: Option<EmfSettings>,
    /// File that stands in for Cloud Map and DNS.
    pub discovery: Option<PathBuf>,
    /// Whether connections of the machine are redirected to it, and which are not.
    pub redirecting: Option<Redirecting>,
    /// Socket of the SDS server beside it.
    pub sds: Option<PathBuf>,
}

/// A running proxy.
pub struct Sidecar {
    /// Where it takes requests.
    pub egress: SocketAddr,
    /// Where it takes what is meant for its application, or as a virtual gateway what comes from outside: one address for each
    /// listener that it has now.
    pub ingress: Vec<SocketAddr>,
    /// Its admin pages.
    pub admin: SocketAddr,
    /// Where its first configuration came from.
    pub origin: Origin,
    proxy: ProxyHandle,
    redirect: Option<Redirect>,
}

/// Starts a proxy: takes its addresses, waits for its first configuration, then serves. To be called within a runtime.
///
/// # Errors
/// [`StartupError`]; whatever was opened before is closed again.
pub async fn start_proxy(options: ProxyOptions) -> Result<Sidecar, StartupError> {
    let sdk = aws_of(None).await;
    let otherwise = Everywhere::new(CloudMapSource::from_config(&sdk));
    let endpoints = endpoints(options.discovery.as_deref(), otherwise).await?;
    // A proxy is another one after each restart: its counts begin again.
    let name = format!("{} {}", options.client.node, new_uuid());
    let mut settings = ProxySettings::new(name, options.egress);
    settings.admin = Some(options.admin);
    if options.is_gateway {
        settings.gateway = Some(options.ingress.ip());
    } else {
        settings.ingress = Some(options.ingress);
    }
    settings.workers = options.workers;
    settings.stats_tags = options.stats_tags;
    settings.traces = options.traces.map(Arc::new);
    settings.emf = options.emf;
    let node = options.client.node.clone();
    let mut following = follow(options.client).map_err(|error| StartupError::Options(error.to_string()))?;
    settings.secrets.acm = Some(following.secrets());
    settings.secrets.sds = options.sds.map(|socket| sds::follow(socket, node, following.config()));
    let listening = proxy::bind(settings).await?;
    let config = following.config();
    let mut origin = Origin::Told;
    let proxy = listening.start_after(async { origin = following.first().await }, config, endpoints).await?;
    tokio::spawn(reopen_on_signal(proxy.reporter()));
    let (egress, first) = (proxy.egress_address(), proxy.ingress_address());
    let ingress = first.map_or_else(|| proxy.gateway_addresses(), |address| vec![address]);
    let redirect = match (options.redirecting, first) {
        // Not before it serves: what the machine sends meanwhile goes where it always went.
        (Some(wanted), Some(first)) => Some(Redirect::begin(wanted, [egress, first], following.config()).await?),
        (Some(_), None) | (None, _) => None,
    };
    Ok(Sidecar { egress, ingress, admin: proxy.admin_address().unwrap_or(options.admin), origin, proxy, redirect })
}

/// Opens the access log anew at each SIGUSR1, as Envoy does.
async fn reopen_on_signal(proxy: Reporter) {
    let Ok(mut asked) = signal(SignalKind::user_defined1()) else { return };
    while asked.recv().await.is_some() {
        proxy.reopen_logs();
    }
}

impl Sidecar {
    /// Stops in good order: no new requests, those under way finish.
    pub async fn drain(self) {
        if let Some(redirect) = self.redirect {
            redirect.end().await;
        }
        let drained = self.proxy.drain(DRAIN).await;
        if drained.cut > 0 {
            tracing::warn!(connections = drained.cut, "connections cut: still busy at the end of the drain");
        }
    }

    /// Resolves when someone asked the proxy to quit over its admin pages.
    pub fn quit_requested(&self) -> impl Future<Output = ()> + Send + use<> {
        self.proxy.quit_requested()
    }
}
