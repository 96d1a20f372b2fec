//! The data plane: a native proxy for HTTP/1.1, HTTP/2, gRPC and TCP that routes by a [`NodeConfig`] and counts what the judge reads.
//!
//! Thread per core: each worker is one OS thread with its own runtime, listening socket, connection pools, generator
//! and counts; a request never leaves its worker and takes no lock. The control side (discovery, health checks, admin)
//! runs on the caller's runtime and publishes immutable snapshots. When the control plane goes away, the last snapshot
//! goes on serving. `docs/PROXY.md` tells the request's path and every limit with its reason.

/// The log of requests.
pub mod access_log;
/// The admin interface.
mod admin;
/// A client connection's timer.
mod alarm;
/// What arrives for the application (pure).
pub mod application;
/// Which endpoint a request goes to, by tags of its node (pure).
pub mod balance;
/// Bodies on their way through.
mod body;
/// How many retries a target takes.
pub mod budget;
/// Connections without requests.
mod carried;
/// Metrics for CloudWatch by its API.
pub mod cloudwatch;
/// The compiled snapshot.
mod config;
/// One client connection.
mod connection;
/// Discovery, health and publication.
mod control;
/// What workers count.
mod counters;
/// Listening sockets of a virtual gateway.
mod doors;
/// Metrics for CloudWatch by log lines.
pub mod emf;
/// Why there is no answer.
mod ended;
/// A request's way into a virtual gateway.
mod entrance;
/// What a route does beyond App Mesh.
mod extension;
/// When a release is taken out of the traffic (pure).
pub mod fuse;
/// Fuses on a request's way.
mod fused;
/// Bounds towards the application.
mod gate;
/// Routes and rewrites of a virtual gateway (pure).
pub mod gateway;
/// From one process to the next.
pub mod handover;
/// Hop-by-hop headers (pure).
pub mod headers;
/// Active health checks.
mod health;
/// When an endpoint is healthy (pure).
pub mod health_state;
/// What a try counts as while it is under way.
mod held;
/// The first words of a connection of TLS.
mod hello;
/// A request's head, before anything is sent.
mod intake;
/// Ports that a virtual gateway has lost.
mod leaving;
/// How many requests a route takes (pure).
mod limit;
/// Accepting and ending client connections.
mod listener;
/// App Mesh's metrics (pure).
mod metrics;
/// Copies of requests.
mod mirror;
/// What Envoy calls things (pure).
pub mod names;
/// Who is left out for its answers (pure).
pub mod outlier;
/// One spelling for a path (pure).
pub mod path;
/// What a request leaves behind.
mod record;
/// Its own answers.
mod reply;
/// When counts are reported.
mod report;
/// Reading counts.
mod reporter;
/// When a try is made again (pure).
pub mod retry;
/// Which route a request meets (pure).
pub mod route;
/// One request.
mod serve;
/// Which requests of a session count.
mod session;
/// How a proxy is set up, and why it may not start.
mod settings;
/// State shared by the workers and the control side.
mod shared;
/// Sockets as hyper wants them.
mod socket;
/// Listening sockets that can be handed over.
mod sockets;
/// Which target and endpoint a request goes to (pure).
pub mod split;
/// Counts by Envoy's names.
pub mod stats;
/// Requests to what is no part of the mesh.
mod stranger;
/// A connection's bytes.
mod stream;
/// TLS of both sides.
pub mod tls;
/// Traces of requests.
pub mod trace;
/// Fuses that tripped, for the next process.
pub mod tripped;
/// Connections that are no HTTP any more.
mod tunnel;
/// Bodies of requests.
mod upload;
/// Connections to endpoints.
mod upstream;
/// Whom a connection is for.
mod whom;
/// One worker's state.
mod worker;

use crate::base::tally::Report;
use crate::mesh::snapshot::NodeConfig;
use crate::ports::EndpointSource;
use config::Compiled;
use doors::Inherited;
pub use reporter::Reporter;
pub use settings::{ProxyError, ProxySettings};
use shared::{Phase, Shared};
pub use sockets::{Sockets, adopt};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::sleep;
use trace::Tracer;
#[cfg(any(test, feature = "testing"))]
pub use upstream::fuzz;

/// A process that was replaced stays for so long after its last client: a page of its admin interface that was asked for before
/// takes milliseconds, on a busy machine some more.
const LAST_PAGES: Duration = Duration::from_secs(2);

/// How long the admin interface has for the answer to who asks for the end before anything else runs.
const ANSWER: Duration = Duration::from_millis(100);

/// What became of a drained proxy's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Client connections that were still open at the deadline and were cut.
    pub cut: usize,
}

/// A running proxy. Dropping it stops it at once; [`ProxyHandle::drain`] stops it in good order.
pub struct ProxyHandle {
    egress: SocketAddr,
    ingress: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    shared: Arc<Shared>,
    workers: Vec<oneshot::Receiver<usize>>,
    tasks: Vec<JoinHandle<()>>,
    /// Those that tell others of requests, once more when the workers have ended.
    tellers: Vec<JoinHandle<()>>,
    /// The one of the admin interface among them.
    admin_task: Option<AbortHandle>,
}

/// A proxy that has its addresses and serves nobody yet: clients that connect wait. Dropping it gives them back.
pub struct Listening {
    settings: ProxySettings,
    egress: SocketAddr,
    ingress: Option<SocketAddr>,
    /// Of each worker: for the egress, and for the ingress.
    listeners: Vec<(std::net::TcpListener, Option<std::net::TcpListener>)>,
    admin: Option<TcpListener>,
    /// Second descriptors of all of them, for a successor.
    spare: Option<Sockets>,
    /// What a virtual gateway had before this process.
    gateway: Inherited,
}

/// Takes the addresses of a proxy. Must be called within a tokio runtime.
///
/// # Errors
/// [`ProxyError::Bind`]; no address is held then.
pub async fn bind(settings: ProxySettings) -> Result<Listening, ProxyError> {
    take(settings, Taken::default()).await
}

/// Takes the addresses that it does not have already.
async fn take(settings: ProxySettings, taken: Taken) -> Result<Listening, ProxyError> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let count = if settings.workers == 0 { cores } else { settings.workers };
    let Taken { egress, ingress, admin, gateway, beside } = taken;
    let bind = |what, flag, address, taken| bind_all((what, flag), address, count, taken, &beside);
    let (egress, outwards) = bind("the proxy's egress", "--egress", settings.egress, egress)?;
    let (ingress, inwards) = match settings.ingress {
        Some(address) => {
            let (ingress, listeners) = bind("the proxy's ingress", "--ingress", address, ingress)?;
            (Some(ingress), listeners.into_iter().map(Some).collect())
        }
        None => (None, std::iter::repeat_with(|| None).take(count).collect::<Vec<_>>()),
    };
    let listeners = outwards.into_iter().zip(inwards).collect();
    let admin = match (admin, settings.admin) {
        (Some(admin), _) => Some(admin),
        (None, Some(address)) => Some(admin::bind(address).await?),
        (None, None) => None,
    };
    Ok(Listening { settings, egress, ingress, listeners, admin, spare: None, gateway })
}

/// Sockets that a proxy has already.
#[derive(Default)]
struct Taken {
    egress: Vec<std::net::TcpListener>,
    ingress: Vec<std::net::TcpListener>,
    admin: Option<TcpListener>,
    gateway: Inherited,
    /// Ports of the process that had them, which go on being its own for a while.
    beside: BTreeSet<u16>,
}

/// Takes an address for all workers, also where a process has its port of which they were taken.
fn bind_all(
    (what, flag): (&'static str, &'static str),
    address: SocketAddr,
    count: usize,
    taken: Vec<std::net::TcpListener>,
    beside: &BTreeSet<u16>,
) -> Result<(SocketAddr, Vec<std::net::TcpListener>), ProxyError> {
    let failed = |source| ProxyError::Bind { what, address, flag, source };
    let bind = if beside.contains(&address.port()) { listener::bind_beside } else { listener::bind };
    let listeners = if taken.len() == count { taken } else { bind(address, count).map_err(failed)? };
    let bound = listeners.first().map_or(Ok(address), |first| first.local_addr()).map_err(failed)?;
    Ok((bound, listeners))
}

/// Takes the addresses of a proxy and starts it: [`bind`] and [`Listening::start`].
///
/// # Errors
/// [`ProxyError`]; no address is held then.
pub async fn start(
    settings: ProxySettings,
    config: watch::Receiver<Arc<NodeConfig>>,
    endpoints: Arc<dyn EndpointSource>,
) -> Result<ProxyHandle, ProxyError> {
    bind(settings).await?.start(config, endpoints).await
}

impl Listening {
    /// Starts to serve. Must be called within a tokio runtime, which then runs the control side.
    ///
    /// Returns once the endpoints of every weighted target are known or could not be found out within a second or two,
    /// and all workers listen.
    ///
    /// # Errors
    /// [`ProxyError::Worker`], [`ProxyError::Gateway`] or [`ProxyError::AskedToQuit`]; nothing runs then.
    pub async fn start(
        self,
        config: watch::Receiver<Arc<NodeConfig>>,
        endpoints: Arc<dyn EndpointSource>,
    ) -> Result<ProxyHandle, ProxyError> {
        self.start_after(std::future::ready(()), config, endpoints).await
    }

    /// As [`Listening::start`], but only after something has happened, such as the arrival of a first configuration. Until
    /// then the admin interface says that it is not live.
    ///
    /// # Errors
    /// As [`Listening::start`].
    pub async fn start_after(
        self,
        happened: impl Future<Output = ()>,
        config: watch::Receiver<Arc<NodeConfig>>,
        endpoints: Arc<dyn EndpointSource>,
    ) -> Result<ProxyHandle, ProxyError> {
        self.begin(happened, None::<std::future::Ready<()>>, config, endpoints).await
    }

    async fn begin(
        self,
        happened: impl Future<Output = ()>,
        released: Option<impl Future<Output = ()>>,
        config: watch::Receiver<Arc<NodeConfig>>,
        endpoints: Arc<dyn EndpointSource>,
    ) -> Result<ProxyHandle, ProxyError> {
        let Self { settings, egress, ingress, listeners, admin: mut admin_listener, spare, gateway } = self;
        let admin = admin_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let count = listeners.len();
        let first = Compiled::new(0, Arc::new(NodeConfig::default()), &config::Endpoints::new(), Arc::default());
        let (connections, versions) = (settings.max_connections, settings.kept_versions.max(1));
        let names = (settings.name, egress, ingress, settings.gateway);
        let mut shared = Shared::new(names, connections, versions, count, first);
        shared.has_tags = settings.stats_tags;
        shared.stands_alone = settings.stands_alone;
        shared.tracer = settings.traces.map(Tracer::new);
        let shared = Arc::new(shared);
        let (ready, published) = oneshot::channel();
        spare.into_iter().for_each(|spare| shared.keep_spare(spare));
        shared.set_beside(released.is_some());
        shared.inherit().extend(gateway);
        let mut handle = ProxyHandle::new((egress, ingress, admin), &shared);
        handle.tellers = report::tell(&shared, settings.emf, settings.cloudwatch);
        if released.is_none() {
            handle.serve_admin(admin_listener.take());
        }
        let mut quit = shared.quit.subscribe();
        tokio::select! {
            () = happened => {}
            _ = quit.wait_for(|asked| *asked) => {
                // Whoever asked gets an answer.
                sleep(ANSWER).await;
                return Err(ProxyError::AskedToQuit);
            }
        }
        handle.tasks.push(tokio::spawn(control::run(Arc::clone(&shared), config, endpoints, settings.secrets, ready)));
        // The control side always publishes; were it to end first, the empty snapshot would answer 404.
        published.await.unwrap_or(Ok(()))?;
        let mut begin = Vec::with_capacity(count);
        for (index, listeners) in listeners.into_iter().enumerate() {
            let (go, ended) =
                worker::spawn(&shared, index, listeners).map_err(|source| ProxyError::Worker { index, source })?;
            begin.push(go);
            handle.workers.push(ended);
        }
        // Nothing fails from here on: were one of them missing, those that accept already would have to drop their clients.
        for go in begin {
            let _ = go.send(());
        }
        if let Some(released) = released {
            released.await;
        }
        shared.set_beside(false);
        shared.is_live.store(true, Ordering::Release);
        // In place of another process it says from its first answer on that it is live.
        handle.serve_admin(admin_listener.take());
        Ok(handle)
    }
}

impl ProxyHandle {
    /// Of a proxy that nothing runs of yet.
    fn new(
        (egress, ingress, admin): (SocketAddr, Option<SocketAddr>, Option<SocketAddr>),
        shared: &Arc<Shared>,
    ) -> Self {
        let (shared, workers, tasks, admin_task) = (Arc::clone(shared), Vec::new(), Vec::new(), None);
        Self { egress, ingress, admin, shared, workers, tasks, tellers: Vec::new(), admin_task }
    }

    /// Answers at the admin address from now on, if there is one.
    fn serve_admin(&mut self, listener: Option<TcpListener>) {
        let Some(listener) = listener else { return };
        let task = tokio::spawn(admin::serve(listener, Arc::clone(&self.shared)));
        self.admin_task = Some(task.abort_handle());
        self.tasks.push(task);
    }

    /// Where it listens for requests.
    #[must_use]
    pub const fn egress_address(&self) -> SocketAddr {
        self.egress
    }

    /// Where it takes what is meant for the application.
    #[must_use]
    pub const fn ingress_address(&self) -> Option<SocketAddr> {
        self.ingress
    }

    /// Where the listeners of its virtual gateway are now; none for what is no gateway.
    #[must_use]
    pub fn gateway_addresses(&self) -> Vec<SocketAddr> {
        self.shared.doors.borrow().values().map(|door| door.address).collect()
    }

    /// Version of the configuration that every request is routed by from now on.
    #[must_use]
    pub fn routes_by(&self) -> watch::Receiver<u64> {
        self.shared.routes_by.subscribe()
    }

    /// Where its admin interface listens.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Everything counted up to now, by all workers together.
    #[must_use]
    pub fn report(&self) -> Report {
        self.reporter().report()
    }

    /// What reads the counts without the handle.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        Reporter::new(Arc::clone(&self.shared))
    }

    /// The configuration version that every worker routes by now: no request begins under an older one any more.
    #[must_use]
    pub fn applied_version(&self) -> u64 {
        self.shared.applied_version()
    }

    /// Resolves when somebody asked the proxy to quit over its admin interface. The caller then drains it.
    pub fn quit_requested(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut quit = self.shared.quit.subscribe();
        async move {
            // An error would mean that the proxy is gone, which is quit enough.
            let _ = quit.wait_for(|asked| *asked).await;
        }
    }

    /// Stops in good order: accepts nothing more, lets requests under way finish, tells clients on their next answer
    /// to close, closes idle connections after a grace period, and cuts what is left at the deadline.
    pub async fn drain(self, deadline: Duration) -> Drained {
        // Long enough for a client that keeps its connection busy to be told on an answer; short enough to be no wait.
        let grace = (deadline / 4).min(Duration::from_millis(500));
        self.drain_gently(grace, deadline).await
    }

    /// As [`ProxyHandle::drain`], with as long a grace period for idle connections as is said.
    pub async fn drain_gently(mut self, grace: Duration, deadline: Duration) -> Drained {
        self.shared.forget_spare();
        self.shared.phase.send_replace(Phase::Ending { grace, deadline });
        let mut cut = 0;
        for ended in std::mem::take(&mut self.workers) {
            cut += ended.await.unwrap_or(0);
        }
        if *self.shared.has_successor.borrow() {
            // Who reached the admin pages just before is answered, however soon the clients are gone.
            sleep(LAST_PAGES).await;
        }
        self.shared.ended.send_replace(true);
        tokio::join!(self.shared.logs.finish(), report::finish(std::mem::take(&mut self.tellers)));
        Drained { cut }
    }
}

impl Drop for ProxyHandle {
    fn drop(&mut self) {
        self.shared.forget_spare();
        let now = Phase::Ending { grace: Duration::ZERO, deadline: Duration::ZERO };
        self.shared.phase.send_if_modified(|phase| {
            let running = !matches!(phase, Phase::Ending { .. });
            if running {
                *phase = now;
            }
            running
        });
        self.tasks.iter().chain(&self.tellers).for_each(JoinHandle::abort);
    }
}
