//! The composition root: turns options into adapters, wires them to the core, and returns what is bound.
//!
//! Start order: every address (so that one which is taken leaves nothing behind), store (its lock says who owns the
//! data), mesh API, proxy, resumed rollouts, API. Stop order: rollouts stop where they stand (their intents are on
//! disk), because a mesh that is going away must not look to them like one that refuses their writes; then nobody can
//! ask for more, and the proxy drains.

mod doctor;
pub mod history;
mod host;
mod measured;
mod proxies;
mod redirect;
pub mod report;
mod serve;
mod sidecar;
mod told;
mod triggers;

pub use doctor::{Finding, examine};
pub use serve::{Serving, start_serve};
pub use sidecar::{
    ClientSettings, EmfSettings, EmfTarget, Origin, OtlpSettings, ProxyOptions, Redirecting, Rules, Sidecar, TlsFiles,
    TraceSettings, XraySettings, start_proxy,
};
pub use triggers::HookSecrets;

use self::proxies::MeshListeners;
use self::triggers::Triggers;
use crate::api::auth::Access;
use crate::api::listen::{self, Limits};
use crate::api::{self, status::Status};
use crate::base::certificate::StandIn;
use crate::base::fault::Fault;
use crate::base::secret::Redacted;
use crate::base::weight::Slot;
use crate::clock::{Clock, SteadyClock, new_uuid};
use crate::config::secret_variables;
use crate::discovery::dns::DnsSource;
use crate::discovery::file::FileSource;
use crate::intercept::InterceptError;
use crate::mesh::compile::View;
use crate::mesh::document;
use crate::mesh::http::{LoadReport, MeshControl};
use crate::mesh::model::{Key, Kind, Request};
use crate::policy::plan::{Workload, WorkloadTarget};
use crate::ports::{EndpointSource, Journal, Notes, Policies, Tokens, Traffic};
pub use crate::proxy::ProxyError;
use crate::proxy::handover::HandoverError;
use crate::proxy::{self, ProxyHandle, ProxySettings};
use crate::runner::{Runner, RunnerParts};
use crate::signals::comparison::Comparison;
use crate::signals::health::EndpointHealth;
use crate::signals::http::HttpNumber;
use crate::signals::live::LocalTelemetry;
use crate::signals::outside::Outside;
use crate::signals::prometheus::{Prometheus, PrometheusSettings};
use crate::signals::together::Together;
use crate::signals::webhook::Webhook;
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::{OpenError, SqliteStore};
use crate::tls::TlsError;
use crate::traffic::appmesh::AppMesh;
use crate::traffic::nodes::Nodes;
use crate::workload::process::Processes;
use crate::xds::counts::Counts;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Requests under way get so long to finish when the process stops.
const DRAIN: Duration = Duration::from_secs(10);

/// What local mode is started with.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Mesh documents to load.
    pub mesh: Vec<PathBuf>,
    /// Parameters of CloudFormation templates among them.
    pub parameters: BTreeMap<String, String>,
    /// Whether they may overwrite the weights of routes that exist.
    pub overwrite_weights: bool,
    /// Directory of policies.
    pub policies: PathBuf,
    /// Directory of the database.
    pub data_dir: PathBuf,
    /// File that stands in for Cloud Map and DNS.
    pub discovery: Option<PathBuf>,
    /// Files that stand in for certificates of ACM.
    pub certificates: Vec<StandIn>,
    /// Mesh and virtual node whose view of the mesh the proxy has; all services without it.
    pub as_node: Option<(String, String)>,
    /// Worker threads of the proxy; 0 for one to each core.
    pub workers: usize,
    /// Region of the local mesh.
    pub region: String,
    /// Secrets of the hooks; a hook without one takes nothing.
    pub hooks: HookSecrets,
    /// Where to listen; port 0 picks a free one.
    pub listen: Addresses,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The database.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// A port is taken, or an address is not ours.
    #[error("cannot listen on {address} for {what}: {error}")]
    Bind {
        /// What would listen there.
        what: &'static str,
        /// Option that moves it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The certificate of a listener, its key, or whom it believes.
    #[error("{error}")]
    Tls {
        /// Keys of the configuration that name the files.
        keys: &'static str,
        /// What is wrong.
        error: TlsError,
    },
    /// Connections of the machine cannot be redirected.
    #[error(transparent)]
    Intercept(#[from] InterceptError),
    /// Something stored cannot be used.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Files given are wrong: every problem on a line, with its place.
    #[error("{0}")]
    Files(String),
    /// Options given are wrong.
    #[error("{0}")]
    Options(String),
    /// The process whose place is to be taken.
    #[error(transparent)]
    Handover(#[from] HandoverError),
}

impl StartupError {
    /// What to do about it, where that is not in the message.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bind { flag, error, .. } if error.kind() == std::io::ErrorKind::AddrInUse => Some(format!(
                "something else listens there (another tidegate?); stop it, or move this one with {flag} ADDRESS (port 0 picks a free one)"
            )),
            Self::Bind { flag, .. } => Some(format!("{flag} ADDRESS moves it")),
            Self::Files(_) => Some("correct the file; nothing was loaded".to_owned()),
            Self::Store(OpenError::Failed { .. }) => {
                Some("mend or move what is there, or give another directory with --data-dir".to_owned())
            }
            Self::Tls { keys, .. } => Some(format!("{keys} of the configuration name these files")),
            Self::Intercept(_) => {
                Some("leave --transparent out where somebody else makes the rules, as ECS does".to_owned())
            }
            Self::Store(_)
            | Self::Postgres(_)
            | Self::Proxy(_)
            | Self::Fault(_)
            | Self::Options(_)
            | Self::Handover(_) => None,
        }
    }

    /// Whether it lies in what was given on the command line.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Files(_) | Self::Options(_) | Self::Tls { .. })
    }
}

/// Addresses that a process listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The API.
    pub api: SocketAddr,
    /// The App Mesh API.
    pub appmesh: SocketAddr,
    /// The control plane of Envoys.
    pub xds: SocketAddr,
    /// The proxy.
    pub egress: SocketAddr,
    /// The proxy's admin pages.
    pub admin: SocketAddr,
}

impl Addresses {
    /// By name, in the order in which people meet them.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, SocketAddr); 5] {
        [
            ("api", self.api),
            ("appmesh", self.appmesh),
            ("xds", self.xds),
            ("egress", self.egress),
            ("admin", self.admin),
        ]
    }
}

/// A process of local mode that is running.
pub struct Bound {
    /// Where it listens.
    pub addresses: Addresses,
    /// Where the virtual gateways of the mesh listen.
    pub gateways: Vec<SocketAddr>,
    /// What loading the mesh files did.
    pub loaded: LoadReport,
    /// What the mesh asks for that this version cannot do.
    pub mesh_problems: Vec<String>,
    /// The node that was given to see the mesh as, when there is none: it sees nothing until it is created.
    pub unknown_node: Option<String>,
    /// Policies that are not valid, each with its problems: they are refused when a rollout of theirs is started.
    pub invalid_policies: Vec<String>,
    /// Rollouts taken up from before.
    pub resumed: usize,
    status: Arc<Status>,
    runner: Runner,
    proxy: ProxyHandle,
    processes: Processes,
    store: SqliteStore,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
}

impl Bound {
    /// Stops in good order: rollouts first, then no new requests, those under way finish, processes of the versions end,
    /// the database is closed.
    pub async fn drain(self) {
        self.status.set_ready(false);
        self.runner.stop().await;
        let _ = self.stop.send(true);
        let drained = self.proxy.drain(DRAIN).await;
        if drained.cut > 0 {
            tracing::warn!(connections = drained.cut, "connections cut: still busy at the end of the drain");
        }
        // After the last request.
        self.processes.stop().await;
        for server in self.servers {
            // A client that holds a connection open must not hold up the end.
            let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
        }
        self.store.close().await;
    }

    /// Resolves when someone asked the proxy to quit over its admin pages.
    pub fn quit_requested(&self) -> impl Future<Output = ()> + Send + use<> {
        self.proxy.quit_requested()
    }
}

/// Opens the journal in a data directory for reading, whether a daemon runs on it or not.
///
/// # Errors
/// [`OpenError::Failed`] when there is none or it cannot be read.
pub async fn read_journal(data_dir: &Path) -> Result<Arc<dyn Journal>, OpenError> {
    Ok(Arc::new(SqliteStore::open_read_only(data_dir).await?))
}

/// Opens the tokens in a data directory, whether a daemon runs on it or not; makes the database where there is none.
///
/// # Errors
/// [`OpenError`]: what is there cannot be used.
pub async fn open_tokens(data_dir: &Path) -> Result<Arc<dyn Tokens>, OpenError> {
    Ok(Arc::new(SqliteStore::open_beside(data_dir).await?))
}

/// Opens the tokens in a PostgreSQL database, beside daemons that may run on it; makes its tables where there are none.
///
/// # Errors
/// It is not reached or not let into, or is of a newer release.
pub async fn open_shared_tokens(url: &Redacted<String>) -> Result<Arc<dyn Tokens>, postgres::OpenError> {
    Ok(Arc::new(PostgresStore::open_beside(url).await?))
}

/// Opens the journal in a PostgreSQL database for reading, beside daemons that may run on it.
///
/// # Errors
/// It is not reached, not let into, or has no schema of this version.
pub async fn read_shared_journal(url: &Redacted<String>) -> Result<Arc<dyn Journal>, postgres::OpenError> {
    Ok(Arc::new(PostgresStore::open_read_only(url).await?))
}

async fn bind(what: &'static str, flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartupError> {
    TcpListener::bind(address).await.map_err(|error| StartupError::Bind { what, flag, address, error })
}

fn bound_address(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// Reads every mesh file; all problems of all files are reported at once.
fn read_documents(options: &LocalOptions) -> Result<document::Loaded, StartupError> {
    let text = |path: &PathBuf| document::Text {
        file: path.display().to_string(),
        text: std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}")),
    };
    let texts: Vec<document::Text> = options.mesh.iter().map(text).collect();
    let (parameters, region) = (options.parameters.clone(), options.region.clone());
    let settings = document::Settings { parameters, region, ..document::Settings::default() };
    document::parse_all(&texts, &settings).map_err(|problems| not_valid(&problems))
}

fn not_valid(problems: &[document::Problem]) -> StartupError {
    StartupError::Files(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// The node that the proxy should see the mesh as, when the mesh has none of that name.
async fn unknown_node(mesh: &MeshControl, as_node: Option<&(String, String)>) -> Option<String> {
    let (mesh_name, node) = as_node?;
    let key = Key::child(mesh_name, Kind::VirtualNode, node);
    let described = mesh.execute(Request::Describe { key, owner: None }).await;
    described.err().map(|_| format!("{mesh_name}/{node}"))
}

/// Counts of this process's proxy and of Envoys, with what stable did lately, until `stopped`.
fn follow(
    proxy: &ProxyHandle,
    envoys: Counts,
    notes: Arc<dyn Notes>,
    clock: Arc<dyn Clock>,
    mut stopped: watch::Receiver<bool>,
) -> Comparison {
    let reporter = proxy.reporter();
    let own = LocalTelemetry::new(move |judged| reporter.read(judged));
    let comparison = Comparison::new(Arc::new(Together::new(vec![Arc::new(own), Arc::new(envoys)])));
    let comparison = comparison.keeping(notes, clock);
    let following = comparison.clone().follow();
    tokio::spawn(async move {
        tokio::select! {
            () = following => {}
            _ = stopped.changed() => {}
        }
    });
    comparison
}

/// Policies that are not valid, each with its problems. A directory that is not there yet has none.
async fn invalid_policies(policies: &dyn Policies) -> Vec<String> {
    let policies = policies.all().await.unwrap_or_default();
    let invalid = policies.into_iter().filter_map(|(name, plan)| Some((name, plan.err()?)));
    invalid.map(|(name, problems)| format!("{name} is not valid:\n{problems}")).collect()
}

/// Runs the versions of policies that have processes: those of before go on, and stable's is started where it never was.
async fn processes(options: &LocalOptions, policies: &dyn Policies, traffic: &AppMesh) -> Result<Processes, Fault> {
    let processes = Processes::open(&options.data_dir.join("processes"), secret_variables())?;
    let plans = policies.all().await.unwrap_or_default().into_iter().filter_map(|(_, plan)| plan.ok());
    for plan in plans {
        let Some(Workload { target: WorkloadTarget::Process(target), .. }) = &plan.workload else { continue };
        let stable = match traffic.read(&plan.route).await {
            Ok((route, _)) => {
                [Slot::First, Slot::Second].into_iter().find(|slot| route.percent_of(plan.node(*slot)) == 100)
            }
            Err(fault) => {
                tracing::warn!(policy = plan.name, %fault, "stable's process is not started: the route cannot be read");
                continue;
            }
        };
        match stable {
            Some(stable) => processes.begin(target, stable)?,
            // In the middle of a rollout: both ran before, and go on.
            None => tracing::info!(policy = plan.name, "no version has all the weight, so none is started"),
        }
    }
    Ok(processes)
}

/// What needs no account; gates on AWS are for `serve`.
fn outside() -> Result<Outside, Fault> {
    let prometheus = Some(Prometheus::new(&PrometheusSettings::default())?);
    let (http, webhook) = (Some(HttpNumber::new()?), Some(Webhook::new()?));
    Ok(Outside { prometheus, http, webhook, ..Outside::default() })
}

/// Whose view of the mesh the proxy has.
fn view(options: &LocalOptions) -> View {
    options.as_node.clone().map_or(View::AllServices, |(mesh, node)| View::Node { mesh, node })
}

fn proxy_settings(options: &LocalOptions) -> ProxySettings {
    let mut settings = ProxySettings::new(format!("local-{}", new_uuid()), options.listen.egress);
    settings.admin = Some(options.listen.admin);
    // As somebody's sidecar it is no gateway.
    settings.gateway = options.as_node.is_none().then(|| options.listen.egress.ip());
    settings.stands_alone = true;
    settings.workers = options.workers;
    settings
}

/// Who knows where virtual nodes are: a file where one is named, else somebody else.
async fn endpoints(
    file: Option<&Path>,
    otherwise: impl EndpointSource,
) -> Result<Arc<dyn EndpointSource>, StartupError> {
    match file {
        Some(path) => {
            let opened = FileSource::open(path).await;
            Ok(Arc::new(opened.map_err(|error| StartupError::Files(error.to_string()))?))
        }
        None => Ok(Arc::new(otherwise)),
    }
}

/// Starts local mode: controller, mesh, proxy and API in this process. To be called within a runtime.
///
/// # Errors
/// [`StartupError`]; whatever was opened before is closed again.
pub async fn start_local(options: LocalOptions) -> Result<Bound, StartupError> {
    let document::Loaded { documents, remarks } = read_documents(&options)?;
    let hooks = triggers::hooks(&options.hooks, None)?;
    let endpoints = endpoints(options.discovery.as_deref(), DnsSource).await?;
    let api_listener = bind("the API", "--api", options.listen.api).await?;
    let mesh_listeners = MeshListeners::bind(&options.listen, &options.certificates).await?;
    let proxy_listeners = proxy::bind(proxy_settings(&options)).await?;
    let store = SqliteStore::open(&options.data_dir).await?;
    let clock: Arc<dyn Clock> = Arc::new(SteadyClock::default());
    let mesh = MeshControl::open(Arc::new(store.clone()), Arc::clone(&clock), options.region.clone()).await?;
    let loaded = mesh.load_documents(&documents, options.overwrite_weights).await;
    let mut loaded = loaded.map_err(|problems| not_valid(&problems))?;
    loaded.lines.extend(remarks.iter().map(|remark| format!("remark: {remark}")));
    let (stop, stopped) = watch::channel(false);
    let (appmesh_address, xds_address) = mesh_listeners.addresses(&options.listen);
    let (named, envoys) = ((Arc::clone(&endpoints), options.discovery.is_some()), mesh_listeners.counts.clone());
    let (overview, mut servers) = mesh_listeners.serve(&mesh, named, Arc::clone(&clock), &stopped);
    let unknown_node = unknown_node(&mesh, options.as_node.as_ref()).await;
    let proxy = proxy_listeners.start(mesh.subscribe(view(&options)), Arc::clone(&endpoints)).await?;
    mesh.wait_for_proxy(view(&options), proxy.routes_by());

    let traffic = AppMesh::local(&format!("http://{appmesh_address}"), &options.region);
    let triggers = Triggers::new(Arc::new(store.clone()), &options.policies, hooks, Arc::clone(&clock));
    let processes = processes(&options, triggers.policies().as_ref(), &traffic).await?;
    let runner = Runner::new(RunnerParts {
        live: Arc::new(follow(&proxy, envoys, Arc::new(store.clone()), Arc::clone(&clock), stopped.clone())),
        clock,
        journal: Arc::new(store.clone()),
        freezes: Arc::new(store.clone()),
        health: Arc::new(EndpointHealth::new(Arc::new(Nodes::new(traffic.clone(), endpoints)))?),
        traffic: Arc::new(traffic),
        workloads: Some(Arc::new(processes.clone())),
        signals: Some(Arc::new(outside()?)),
        policies: triggers.policies(),
        // Names are only claimed here.
        people: Arc::default(),
    });
    let invalid_policies = invalid_policies(triggers.policies().as_ref()).await;
    let resumed = runner.resume().await?;
    let status = Arc::new(Status::default());
    let addresses = Addresses {
        api: bound_address(&api_listener, options.listen.api),
        appmesh: appmesh_address,
        xds: xds_address,
        egress: proxy.egress_address(),
        admin: proxy.admin_address().unwrap_or(options.listen.admin),
    };
    let mut state = triggers.state(&runner, Access::Loopback, Arc::clone(&status), Arc::default()).await?;
    state.mesh = Some(Arc::new(overview));
    servers.push(listen::serve(api_listener, api::router(state), None, Limits::default(), stopped));
    status.set_ready(true);
    // Last, since nothing stops what a start leaves behind that breaks off.
    processes.start();
    Ok(Bound {
        addresses,
        gateways: proxy.gateway_addresses(),
        loaded,
        mesh_problems: mesh.problems().iter().map(ToString::to_string).collect(),
        unknown_node,
        invalid_policies,
        resumed,
        status,
        runner,
        proxy,
        processes,
        store,
        stop,
        servers,
    })
}
