//! `tidegate serve`: the controller as a daemon. It drives while it has the database's lease, and stands by otherwise.
//!
//! What does not depend on driving (the listener, the adapters, the readings of proxies) is made once. What does (the
//! runner and the API behind the door) is made for each turn, from what is stored then: whatever a daemon knew of
//! rollouts before a turn may be out of date in it.

use super::host::{Hosted, telemetry};
use super::measured::{health, outside};
use super::told::Told;
use super::triggers::{self, Triggers};
use super::{StartupError, bind, bound_address, invalid_policies};
use crate::api;
use crate::api::ApiState;
use crate::api::auth::Access;
use crate::api::front::{self, Front};
use crate::api::hooks::Hooks;
use crate::api::listen::{self, Limits};
use crate::api::status::Status;
use crate::base::fault::Fault;
use crate::base::people::People;
use crate::clock::{Clock, SteadyClock, new_uuid};
use crate::config::daemon::{DaemonConfig, DatabaseConfig};
use crate::discovery::cloudmap::CloudMapSource;
use crate::discovery::everywhere::Everywhere;
use crate::ports::{
    DriverLease, EndpointSource, Freezes, Journal, MeshOverview, MeshStore, NewsCursor, Notes, Policies, Tokens,
};
use crate::runner::lease::{Turn, take_turns};
use crate::runner::{Runner, RunnerParts};
use crate::signals::comparison::Comparison;
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::tls::Tls;
use crate::traffic::appmesh::AppMesh;
use crate::trigger::queue::Queue;
use crate::workload::ecs::Ecs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Stored rollouts that could not be read are read again so soon.
const RESUME_RETRY: Duration = Duration::from_secs(1);
/// The end of a turn takes no longer than drivers need to finish a commit, and the way to the database.
const TURN_END: Duration = Duration::from_secs(8);

/// A daemon that is running.
pub struct Serving {
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where the App Mesh API of this daemon's own mesh listens, if it has one.
    pub appmesh: Option<SocketAddr>,
    /// Where Envoys are configured, if this daemon hosts a mesh.
    pub xds: Option<SocketAddr>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The same of the App Mesh API; Envoys are configured by TLS where it is `https`.
    pub mesh_scheme: &'static str,
    /// Policies that are not valid, each with its problems.
    pub invalid_policies: Vec<String>,
    /// Whether it drives, as it changes.
    pub turn: watch::Receiver<Turn>,
    store: Store,
    ready: watch::Sender<bool>,
    stopping: watch::Sender<bool>,
    servers_stop: watch::Sender<bool>,
    turns: JoinHandle<()>,
    /// Told once, where there is no lease to tell of.
    _always: Option<watch::Sender<Turn>>,
    lease: Option<JoinHandle<()>>,
    servers: Vec<JoinHandle<()>>,
}

/// The database, whichever it is.
#[derive(Clone)]
enum Store {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Store {
    async fn open(config: &DaemonConfig, api: SocketAddr) -> Result<Self, StartupError> {
        match &config.database {
            DatabaseConfig::Sqlite(directory) => Ok(Self::Sqlite(SqliteStore::open(directory).await?)),
            DatabaseConfig::Postgres(url) => {
                let address = advertised(config, api, url.reveal())?;
                let holder = format!("tidegate-{}", new_uuid());
                Ok(Self::Postgres(PostgresStore::open(url, &holder, &address).await?))
            }
        }
    }

    fn journal(&self) -> Arc<dyn Journal> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    fn tokens(&self) -> Arc<dyn Tokens> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    fn triggers(&self, policies: &Path, hooks: Hooks, clock: Arc<dyn Clock>) -> Triggers {
        match self {
            Self::Sqlite(store) => Triggers::new(Arc::new(store.clone()), policies, hooks, clock),
            Self::Postgres(store) => Triggers::new(Arc::new(store.clone()), policies, hooks, clock),
        }
    }

    fn freezes(&self) -> Arc<dyn Freezes> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    fn cursor(&self) -> Arc<dyn NewsCursor> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    fn notes(&self) -> Arc<dyn Notes> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    fn mesh(&self) -> Arc<dyn MeshStore> {
        match self {
            Self::Sqlite(store) => Arc::new(store.clone()),
            Self::Postgres(store) => Arc::new(store.clone()),
        }
    }

    fn lease(&self) -> Option<Arc<dyn DriverLease>> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(store) => Some(Arc::new(store.clone())),
        }
    }

    async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}

/// The URL at which other daemons reach this one; empty where none is configured. A port of 0 becomes the one that was
/// picked, and `{host}` this machine's address on the way to the database, which on Fargate nobody knows beforehand.
fn advertised(config: &DaemonConfig, api: SocketAddr, database: &str) -> Result<String, StartupError> {
    let Some(url) = &config.api.advertise_url else { return Ok(String::new()) };
    let url = url.strip_suffix(":0").map_or_else(|| url.clone(), |bare| format!("{bare}:{}", api.port()));
    if !url.contains("{host}") {
        return Ok(url);
    }
    let failed = |why: String| {
        StartupError::Files(format!(
            "api.advertise_url has {{host}}, and this machine's address was not found out: {why}"
        ))
    };
    let parsed = reqwest::Url::parse(database).map_err(|_| failed("database.url names no host".to_owned()))?;
    let host = parsed.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| failed("database.url names no host".to_owned()))?;
    // Connecting a UDP socket sends nothing: it has the system choose the way, and with it the address.
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).or_else(|_| std::net::UdpSocket::bind(("::", 0)));
    let found = socket.and_then(|socket| {
        socket.connect((host.trim_matches(['[', ']']), parsed.port().unwrap_or(5432)))?;
        socket.local_addr()
    });
    match found.map_err(|error| failed(error.to_string()))?.ip() {
        std::net::IpAddr::V4(address) => Ok(url.replace("{host}", &address.to_string())),
        std::net::IpAddr::V6(address) => Ok(url.replace("{host}", &format!("[{address}]"))),
    }
}

/// Who may call the API.
fn access(config: &DaemonConfig, store: &Store) -> Access {
    if !config.api.needs_token {
        return Access::Loopback;
    }
    let people = config.people.0.iter().filter_map(|(name, person)| Some((name.clone(), vec![person.token.clone()?])));
    let by_tls = |url: &String| url.starts_with("https://");
    let is_reached_by_tls = config.api.tls.is_some() || config.api.public_url.as_ref().is_some_and(by_tls);
    Access::tokens(store.tokens(), people.collect(), is_reached_by_tls)
}

/// Credentials, region and HTTP client for everything of AWS. Credentials are looked for when they are first needed.
pub(super) async fn aws(config: &DaemonConfig) -> aws_types::SdkConfig {
    aws_of(config.aws_region.clone()).await
}

/// The same for a region, or for that of the environment.
pub(super) async fn aws_of(region: Option<String>) -> aws_types::SdkConfig {
    use aws_config::environment::region::EnvironmentVariableRegionProvider;
    use aws_config::meta::region::RegionProviderChain;
    use aws_config::profile::region::ProfileFileRegionProvider;
    // Without asking the instance: a machine that is none would wait for it for seconds.
    let region = RegionProviderChain::first_try(region.map(aws_types::region::Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new());
    // A variable that is set to nothing names none.
    let region = region.region().await.filter(|region| !region.as_ref().is_empty());
    let loader = aws_config::defaults(aws_config::BehaviorVersion::latest()).http_client(crate::aws::https());
    match region {
        Some(region) => loader.region(region).load().await,
        // Nothing of AWS can be asked then, and the chain of credentials would ask the instance for a region.
        None => {
            loader
                .region(RegionProviderChain::first_try(None::<aws_types::region::Region>))
                .no_credentials()
                .load()
                .await
        }
    }
}

pub(super) fn mesh(config: &DaemonConfig, sdk: &aws_types::SdkConfig) -> AppMesh {
    let mesh = match (&config.mesh.endpoint_url, config.mesh.signed) {
        (Some(endpoint), false) => {
            let region = sdk.region().map_or_else(|| "us-east-1".to_owned(), ToString::to_string);
            AppMesh::local(endpoint, &region)
        }
        (endpoint, _) => AppMesh::from_config(sdk, endpoint.as_deref()),
    };
    mesh.with_lease(config.mesh.lease)
}

/// What a runner works with, whose ever turn it is.
async fn parts(
    config: &DaemonConfig,
    (journal, freezes, notes): (Arc<dyn Journal>, Arc<dyn Freezes>, Arc<dyn Notes>),
    policies: Arc<dyn Policies>,
    (clock, people): (Arc<dyn Clock>, Arc<People>),
    (hosted, endpoints): (Option<&Hosted>, Arc<dyn EndpointSource>),
) -> Result<RunnerParts, StartupError> {
    let sdk = aws(config).await;
    let traffic = hosted.map_or_else(|| mesh(config, &sdk), |hosted| hosted.traffic(config.mesh.lease));
    let comparison = Comparison::new(telemetry(config, hosted)?).keeping(notes, Arc::clone(&clock));
    // Ends with the process: it only reads.
    tokio::spawn(comparison.clone().follow());
    Ok(RunnerParts {
        clock,
        journal,
        freezes,
        health: Arc::new(health(traffic.clone(), endpoints, &sdk)?),
        traffic: Arc::new(traffic),
        workloads: Some(Arc::new(Ecs::from_config(&sdk))),
        signals: Some(Arc::new(outside(config, &sdk)?)),
        live: Arc::new(comparison),
        policies,
        people,
    })
}

/// Begins and ends what belongs to a turn, until `stopping`.
struct Turns {
    /// The mesh that this daemon hosts.
    mesh: Option<Arc<dyn MeshOverview>>,
    parts: RunnerParts,
    /// The same for all turns, with what is known of tokens.
    access: Access,
    triggers: Triggers,
    told: Told,
    queue: Option<Queue>,
    front: Arc<Front>,
    turn: watch::Receiver<Turn>,
    stopping: watch::Receiver<bool>,
}

/// What goes on in a turn.
struct Driven {
    runner: Runner,
    /// What reads and tells beside it.
    beside: Vec<JoinHandle<()>>,
}

impl Turns {
    async fn run(mut self) {
        loop {
            let now = self.turn.borrow_and_update().clone();
            let driving = match now {
                Turn::Driving { .. } => self.begin().await,
                Turn::StandingBy { .. } => None,
            };
            let stop = self.next().await;
            if let Some(Driven { runner, beside }) = driving {
                // What was not told yet is told by whoever drives next; a message that was being taken comes again, and is
                // known then.
                beside.iter().for_each(JoinHandle::abort);
                self.front.set(None);
                // The lease may be another's already, so nothing is waited for beyond what this process is at.
                let _ = tokio::time::timeout(TURN_END, runner.stop()).await;
            }
            if stop {
                return;
            }
        }
    }

    /// Waits for the next turn, or the end (true).
    async fn next(&mut self) -> bool {
        tokio::select! {
            changed = self.turn.changed() => changed.is_err(),
            _ = self.stopping.wait_for(|stopping| *stopping) => true,
        }
    }

    /// Drives from now on; `None` when the turn was over before the store told what there is to drive.
    async fn begin(&mut self) -> Option<Driven> {
        let runner = Runner::new(self.parts.clone());
        let status = Arc::new(Status::default());
        let mut resumed = None;
        let state = loop {
            match self.take_up(&runner, &mut resumed, &status).await {
                Ok(state) => break state,
                Err(fault) => tracing::error!(%fault, "the store does not say what there is to drive"),
            }
            tokio::select! {
                () = tokio::time::sleep(RESUME_RETRY) => {}
                _ = self.turn.changed() => return None,
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            }
        };
        status.set_ready(true);
        let queue = self.queue.clone().map(|queue| tokio::spawn(queue.follow(state.inbox.clone())));
        let beside = queue.into_iter().chain(self.told.follow(&runner)).collect();
        self.front.set(Some(api::router(state)));
        Some(Driven { runner, beside })
    }

    /// Takes up the live rollouts, once, and then the starts that events had asked for.
    async fn take_up(
        &self,
        runner: &Runner,
        resumed: &mut Option<usize>,
        status: &Arc<Status>,
    ) -> Result<ApiState, Fault> {
        if resumed.is_none() {
            let count = runner.resume().await?;
            tracing::info!(resumed = count, "live rollouts taken up");
            *resumed = Some(count);
        }
        let (access, door) = (self.access.clone(), Arc::clone(&self.told.door));
        let state = self.triggers.state(runner, access, Arc::clone(status), door).await?;
        Ok(ApiState { mesh: self.mesh.clone(), ..state })
    }
}

/// Who knows where virtual nodes are: a file where one is named, else DNS and Cloud Map.
async fn endpoints(config: &DaemonConfig) -> Result<Arc<dyn EndpointSource>, StartupError> {
    let otherwise = Everywhere::new(CloudMapSource::from_config(&aws(config).await));
    super::endpoints(config.discovery.as_deref(), otherwise).await
}

/// Takes turns where the database is shared; else what is opened is one's own, and every turn is this daemon's.
fn turns_of(
    store: &Store,
    turned: watch::Sender<Turn>,
    stops: &watch::Receiver<bool>,
) -> (Option<JoinHandle<()>>, Option<watch::Sender<Turn>>) {
    match store.lease() {
        Some(lease) => (Some(tokio::spawn(take_turns(lease, turned, stops.clone()))), None),
        None => {
            // A SQLite database belongs to whoever opened it.
            turned.send_replace(Turn::Driving { epoch: 1 });
            (None, Some(turned))
        }
    }
}

/// Starts the daemon. To be called within a runtime.
///
/// # Errors
/// [`StartupError`]; whatever was opened before is closed again.
pub async fn start_serve(config: DaemonConfig) -> Result<Serving, StartupError> {
    let tls = config.api.tls.as_ref().map(|(certificate, key)| Tls::load(certificate, key)).transpose();
    let tls = tls.map_err(|error| StartupError::Tls { keys: "api.certificate and api.key", error })?.map(Arc::new);
    let hooks = triggers::hooks(&config.hooks, config.api.public_url.as_deref())?;
    let listener = bind("the API", "api.listen", config.api.listen).await?;
    let address = bound_address(&listener, config.api.listen);
    let mesh_listener = match &config.mesh.host {
        Some(host) => Some((host, Hosted::bind(host).await?)),
        None => None,
    };
    let store = Store::open(&config, address).await?;
    let clock: Arc<dyn Clock> = Arc::new(SteadyClock::default());
    let hosted = match mesh_listener {
        Some((host, listener)) => Some(Hosted::open(host, listener, store.mesh(), Arc::clone(&clock)).await?),
        None => None,
    };
    let triggers = store.triggers(&config.policies, hooks, Arc::clone(&clock));
    let people = Arc::new(config.people.clone());
    let kept = (store.journal(), store.freezes(), store.notes());
    let endpoints = endpoints(&config).await?;
    let hosting = (hosted.as_ref(), Arc::clone(&endpoints));
    let parts = parts(&config, kept, triggers.policies(), (clock, Arc::clone(&people)), hosting).await?;
    let invalid_policies = invalid_policies(parts.policies.as_ref()).await;
    let (stopping, stops) = watch::channel(false);
    let (turned, turn) = watch::channel(Turn::default());
    let (lease, always) = turns_of(&store, turned, &stops);
    let (ready, is_ready) = watch::channel(true);
    let front = Front::new(turn.clone(), is_ready, config.api.ca.as_deref());
    let front = front.map_err(|error| Fault::permanent("api", error))?;
    let front = Arc::new(front);
    let access = access(&config, &store);
    let told = Told::new(&config, store.cursor(), store.notes(), people, Arc::clone(&parts.clock))?;
    let queue = match &config.queue {
        Some(url) => Some(Queue::from_config(&aws(&config).await, url)),
        None => None,
    };
    let (servers_stop, servers_stopped) = watch::channel(false);
    let (appmesh, xds) = hosted.as_ref().map(|hosted| (hosted.address, hosted.xds)).unzip();
    let mesh_scheme = hosted.as_ref().map_or("http", Hosted::scheme);
    let named = (endpoints, config.discovery.is_some());
    let served = hosted.map(|hosted| hosted.serve(named, Arc::clone(&parts.clock), servers_stopped.clone()));
    let (mesh, servers) = served.unzip();
    let (mesh, mut servers) = (mesh.map(|mesh| Arc::new(mesh) as Arc<dyn MeshOverview>), servers.unwrap_or_default());
    let (front_door, turn_of_turns) = (Arc::clone(&front), turn.clone());
    let turns =
        Turns { mesh, parts, access, triggers, told, queue, front: front_door, turn: turn_of_turns, stopping: stops };
    let turns = tokio::spawn(turns.run());
    let scheme = if tls.is_some() { "https" } else { "http" };
    servers.push(listen::serve(listener, front::router(front), tls, Limits::default(), servers_stopped));
    Ok(Serving {
        api: address,
        appmesh,
        xds,
        scheme,
        mesh_scheme,
        invalid_policies,
        turn,
        store,
        ready,
        stopping,
        servers_stop,
        turns,
        _always: always,
        lease,
        servers,
    })
}

impl Serving {
    /// Stops in good order: rollouts stop where they stand and wait in the database, the lease is given back so that
    /// another daemon begins at once, requests under way finish.
    pub async fn drain(self) {
        self.ready.send_replace(false);
        self.stopping.send_replace(true);
        let _ = self.turns.await;
        if let Some(lease) = self.lease {
            let _ = lease.await;
        }
        if let Some(lease) = self.store.lease()
            && let Err(fault) = lease.release().await
        {
            tracing::warn!(%fault, "the lease was not given back; it runs out by itself");
        }
        self.servers_stop.send_replace(true);
        for server in self.servers {
            // A client that holds a connection open must not hold up the end.
            let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
        }
        self.store.close().await;
    }
}
