//! A native proxy as a process of its own: its configuration from a control plane, its endpoints found by itself.

use super::redirect::Redirect;
pub use super::redirect::Redirecting;
use super::serve::aws_of;
use super::{DRAIN, StartupError, endpoints};
use crate::clock::{Monotonic, new_uuid};
use crate::discovery::cloudmap::CloudMapSource;
use crate::discovery::everywhere::Everywhere;
use crate::mesh::snapshot::NodeConfig;
use crate::ports::EndpointSource;
use crate::proxy::cloudwatch::CloudWatchSettings;
pub use crate::proxy::emf::{EmfSettings, EmfTarget};
use crate::proxy::handover::{self, Found, Handover, HandoverError, Predecessor, Released, Successor};
pub use crate::proxy::trace::{TraceSettings, otlp::OtlpSettings, sampling::Rules, xray::XraySettings};
use crate::proxy::{self, ProxyError, ProxyHandle, ProxySettings, Reporter};
use crate::xds::client::follow;
pub use crate::xds::client::{ClientSettings, Origin, TlsFiles};
use crate::xds::sds;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

/// How long the connections of a process that was replaced may go on. Nothing waits for its end, and the longest silence of a
/// WebSocket or a carried connection is as long.
const LEAVE: Duration = Duration::from_secs(300);
/// How long idle ones among them are kept, for clients that send seldom and should be told by an answer.
const LEAVE_IDLE: Duration = Duration::from_secs(10);
/// A process that ends has its addresses for so long: requests under way finish, and a moment is left for the rest.
const ENDS_WITHIN: Duration = Duration::from_secs(DRAIN.as_secs() + 5);
/// Whether they are free is looked at so often.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

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
    if options.redirecting.is_some() {
        Redirect::prepare().await;
    }
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
    let mut following = follow(options.client).map_err(|error| StartupError::Options(error.to_string()))?;
    settings.secrets.acm = Some(following.secrets());
    settings.secrets.sds = options.sds.map(|socket| sds::follow(socket, node, following.config()));
    let (listening, place) = take_addresses(settings, options.hot_restart.as_deref()).await?;
    let config = following.config();
    let mut origin = Origin::Told;
    let (mut handover, mut predecessor) = (None, None);
    let proxy = match place {
        Place::Taken(mut before) => {
            predecessor = Some(before.pid);
            tokio::select! {
                first = following.first() => origin = first,
                given_up = before.gives_up() => return Err(given_up.into()),
            }
            let (proxy, place) = replace(listening, *before, config, endpoints).await?;
            handover = Some(place);
            proxy
        }
        Place::None => listening.start_after(async { origin = following.first().await }, config, endpoints).await?,
        Place::Free(place) => {
            handover = Some(place);
            listening.start_after(async { origin = following.first().await }, config, endpoints).await?
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

/// Where a process stands as to hot restarts.
enum Place {
    /// It takes no part in them.
    None,
    /// Nobody was there.
    Free(Handover),
    /// In place of another.
    Taken(Box<Predecessor>),
}

/// Takes the addresses: those of the process that is at the path, or, once one that ends gives them back, anew.
async fn take_addresses(
    settings: ProxySettings,
    path: Option<&Path>,
) -> Result<(proxy::Listening, Place), StartupError> {
    let Some(path) = path else { return Ok((proxy::bind(settings).await?, Place::None)) };
    let since = Monotonic::now();
    let (mut listening, before) = loop {
        match handover::find(path).await? {
            Found::Running(mut before) => {
                let sockets = before.take_sockets();
                break (proxy::adopt(settings, sockets).await?, Some(before));
            }
            Found::Nobody => break (proxy::bind(settings).await?, None),
            Found::Ending => match proxy::bind(settings.clone()).await {
                Err(ProxyError::Bind { source, .. })
                    if source.kind() == io::ErrorKind::AddrInUse && since.elapsed() < ENDS_WITHIN =>
                {
                    sleep(LOOK_AGAIN).await;
                }
                bound => break (bound?, None),
            },
        }
    };
    let kept = listening.keep_for_successor();
    kept.map_err(|source| HandoverError::Path { path: path.to_owned(), source })?;
    let place = match before {
        Some(before) => Place::Taken(before),
        None => Place::Free(Handover::claim(path)?),
    };
    Ok((listening, place))
}

/// Starts in the place of another process. Where that fails, the other one goes on.
async fn replace(
    listening: proxy::Listening,
    before: Predecessor,
    config: watch::Receiver<Arc<NodeConfig>>,
    endpoints: Arc<dyn EndpointSource>,
) -> Result<(ProxyHandle, Handover), StartupError> {
    let pid = before.pid;
    let mut outcome = Err(HandoverError::GivenUp { pid });
    let released = async { outcome = before.release().await };
    let proxy = listening.take_over(released, config, endpoints).await?;
    let why = match outcome {
        Ok((Released::SteppedBack(tripped), place)) => {
            proxy.take_over_tripped(tripped);
            return Ok((proxy, place));
        }
        Ok((Released::Gone, place)) => return Ok((proxy, place)),
        Ok((Released::GoesOn, _)) => HandoverError::GivenUp { pid },
        Err(error) => error,
    };
    // Both accept by now.
    proxy.drain(DRAIN).await;
    Err(why.into())
}

/// Opens the access log anew at each SIGUSR1, as Envoy does.
async fn reopen_on_signal(asked: Option<Signal>, proxy: Reporter) {
    let Some(mut asked) = asked else { return };
    while asked.recv().await.is_some() {
        proxy.reopen_logs();
    }
}

/// Tells newcomers that this process ends, and gives them its last address. Never comes to an end.
async fn send_away<T>(place: Option<Handover>, close_admin: impl Fn()) -> T {
    let Some(place) = place else { return std::future::pending().await };
    loop {
        let ends = || {
            close_admin();
            Ok(None)
        };
        // Without sockets nobody succeeds.
        drop(place.successor(ends).await);
    }
}

impl Sidecar {
    /// Stops in good order: no new requests, those under way finish.
    pub async fn drain(self) {
        if let Some(redirect) = self.redirect {
            redirect.end().await;
        }
        let close_admin = self.proxy.admin_closer();
        let drained = tokio::select! {
            drained = self.proxy.drain(DRAIN) => drained,
            never = send_away(self.handover, close_admin) => never,
        };
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
        // Of what it serves now: nobody can read of them here any more.
        successor.release(&self.proxy.tripped()).await;
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
