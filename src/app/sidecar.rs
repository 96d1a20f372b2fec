//! A native proxy as a process of its own: its configuration from a control plane, its endpoints found by itself.

use super::redirect::Redirect;
pub use super::redirect::Redirecting;
use super::serve::aws_of;
use super::{DRAIN, StartupError, endpoints};
use crate::clock::new_uuid;
use crate::discovery::cloudmap::CloudMapSource;
use crate::discovery::everywhere::Everywhere;
use crate::proxy::cloudwatch::CloudWatchSettings;
pub use crate::proxy::emf::{EmfSettings, EmfTarget};
use crate::proxy::handover::{self, Handover, HandoverError, Predecessor, Released, Successor};
pub use crate::proxy::trace::{TraceSettings, otlp::OtlpSettings, sampling::Rules, xray::XraySettings};
use crate::proxy::{self, ProxyHandle, ProxySettings, Reporter};
use crate::xds::client::follow;
pub use crate::xds::client::{ClientSettings, Origin};
use crate::xds::sds;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the connections of a process that was replaced may go on. Nothing waits for its end, and the longest silence of a
/// WebSocket or a carried connection is as long.
const LEAVE: Duration = Duration::from_secs(300);
/// How long idle ones among them are kept, for clients that send seldom and should be told by an answer.
const LEAVE_IDLE: Duration = Duration::from_secs(10);

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
    /// How metrics go to CloudWatch by log lines; `None` for not at all.
    pub emf: Option<EmfSettings>,
    /// Namespace and time between reports of those that go to CloudWatch by its API; `None` for not at all.
    pub cloudwatch: Option<(String, Duration)>,
    /// File that stands in for Cloud Map and DNS.
    pub discovery: Option<PathBuf>,
    /// Whether connections of the machine are redirected to it, and which are not.
    pub redirecting: Option<Redirecting>,
    /// Socket of the SDS server beside it.
    pub sds: Option<PathBuf>,
    /// Socket at which one process takes over from another.
    pub hot_restart: Option<PathBuf>,
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
    /// The process whose place it took.
    pub predecessor: Option<u32>,
    proxy: ProxyHandle,
    redirect: Option<Redirect>,
    handover: Option<Handover>,
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
    settings.gateway = options.is_gateway.then(|| options.ingress.ip());
    settings.ingress = (!options.is_gateway).then_some(options.ingress);
    settings.workers = options.workers;
    settings.stats_tags = options.stats_tags;
    settings.traces = options.traces.map(Arc::new);
    settings.emf = options.emf;
    settings.cloudwatch = options.cloudwatch.map(|wanted| cloudwatch(wanted, &sdk)).transpose()?;
    // From here on a signal that is meant for its log does not end it.
    let reopen = signal(SignalKind::user_defined1()).ok();
    let node = options.client.node.clone();
    let mut before = match &options.hot_restart {
        Some(path) => handover::find(path).await?,
        None => None,
    };
    let mut following = follow(options.client).map_err(|error| StartupError::Options(error.to_string()))?;
    settings.secrets.acm = Some(following.secrets());
    settings.secrets.sds = options.sds.map(|socket| sds::follow(socket, node, following.config()));
    let mut listening = match &mut before {
        Some(before) => proxy::adopt(settings, before.take_sockets()).await?,
        None => proxy::bind(settings).await?,
    };
    let place = match &options.hot_restart {
        Some(path) => Some(place(path, before, &mut listening)?),
        None => None,
    };
    let config = following.config();
    let mut origin = Origin::Told;
    let first = async { origin = following.first().await };
    let (mut handover, mut predecessor) = (None, None);
    let proxy = match place {
        None => listening.start_after(first, config, endpoints).await?,
        Some(Place::Free(place)) => {
            handover = Some(place);
            listening.start_after(first, config, endpoints).await?
        }
        Some(Place::Taken(before)) => {
            predecessor = Some(before.pid);
            let mut outcome = Ok((Released::Gone, None));
            let released = async { outcome = before.release().await.map(|(released, place)| (released, Some(place))) };
            let proxy = listening.take_over(first, released, config, endpoints).await?;
            match outcome? {
                (Released::GoesOn, _) => {
                    proxy.drain(DRAIN).await;
                    return Err(HandoverError::GivenUp { pid: predecessor.unwrap_or(0) }.into());
                }
                (Released::SteppedBack | Released::Gone, place) => handover = place,
            }
            proxy
        }
    };
    tokio::spawn(reopen_on_signal(reopen, proxy.reporter()));
    let (egress, own) = (proxy.egress_address(), proxy.ingress_address());
    let ingress = own.map_or_else(|| proxy.gateway_addresses(), |address| vec![address]);
    let redirect = match (options.redirecting, own) {
        // Not before it serves: what the machine sends meanwhile goes where it always went.
        (Some(wanted), Some(own)) => Some(Redirect::begin(wanted, [egress, own], following.config()).await?),
        (Some(_), None) | (None, _) => None,
    };
    let admin = proxy.admin_address().unwrap_or(options.admin);
    Ok(Sidecar { egress, ingress, admin, origin, predecessor, proxy, handover, redirect })
}

/// Metrics by CloudWatch's API, with the region and credentials of everything else of AWS.
fn cloudwatch(
    (namespace, every): (String, Duration),
    sdk: &aws_types::SdkConfig,
) -> Result<CloudWatchSettings, StartupError> {
    if sdk.region().is_none() {
        let text = "metrics for CloudWatch (TIDEGATE_CLOUDWATCH): there is no region; set AWS_REGION";
        return Err(StartupError::Options(text.to_owned()));
    }
    Ok(CloudWatchSettings { sdk: sdk.clone(), namespace, every })
}

/// Where a process stands at the path of hot restarts.
enum Place {
    /// Nobody was there.
    Free(Handover),
    /// In place of another.
    Taken(Predecessor),
}

fn place(path: &Path, before: Option<Predecessor>, listening: &mut proxy::Listening) -> Result<Place, StartupError> {
    let kept = listening.keep_for_successor();
    kept.map_err(|source| HandoverError::Path { path: path.to_owned(), source })?;
    match before {
        Some(before) => Ok(Place::Taken(before)),
        None => Ok(Place::Free(Handover::claim(path)?)),
    }
}

/// Opens the access log anew at each SIGUSR1, as Envoy does.
async fn reopen_on_signal(asked: Option<Signal>, proxy: Reporter) {
    let Some(mut asked) = asked else { return };
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

    /// Waits until another process serves in this one's place; for ever where it was not started so. Then it is for
    /// [`Sidecar::leave`].
    pub async fn superseded(&mut self) -> i32 {
        let Some(handover) = &self.handover else { return std::future::pending().await };
        let successor: Successor = handover.successor(|| self.proxy.sockets()).await;
        let pid = successor.pid;
        self.handover = None;
        self.proxy.step_back();
        successor.release().await;
        pid
    }

    /// Lets what is under way end after another process took over. Clients are told by their next answer.
    pub async fn leave(self) {
        let drained = self.proxy.drain_gently(LEAVE_IDLE, LEAVE).await;
        if drained.cut > 0 {
            tracing::warn!(
                connections = drained.cut,
                "connections cut: still open long after another process took over"
            );
        }
    }

    /// Resolves when someone asked the proxy to quit over its admin pages.
    pub fn quit_requested(&self) -> impl Future<Output = ()> + Send + use<> {
        self.proxy.quit_requested()
    }
}
