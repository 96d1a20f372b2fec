//! The control side of a proxy: keeps endpoints and health current and publishes a snapshot whenever one of them or the
//! configuration changes.
//!
//! A weight change is published at once. Only a configuration that gives weight to a node whose endpoints nobody has
//! looked up yet waits for them, for a second at most: published sooner, it would answer 503. A node that cannot be
//! looked up keeps its last endpoints.

use super::ProxyError;
use super::application::with_application;
use super::config::{Compiled, Endpoints, Known, SetKey, sets_of, weighted_sets_of};
use super::doors;
use super::entrance::{Gates, keep_gates};
use super::health::{self, Checked};
use super::health_state::{Health, Thresholds};
use super::leaving::Leaving;
use super::outlier::may_eject;
use super::shared::Shared;
use super::tls::{Keeper, Secrets, Secured, Towards, read_files};
use crate::base::fault::Fault;
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::mesh::snapshot::{Discovery, HealthCheck, NodeConfig};
use crate::ports::EndpointSource;
use crate::tls::RELOAD;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Time between look-ups of the same endpoints: App Mesh's Envoys looked names up every 5 s or so.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);
/// How long a new configuration waits for endpoints that were never looked up.
const WAIT_FOR_ENDPOINTS: Duration = Duration::from_secs(1);
/// How long the first one waits for secrets of the SDS server, as Envoy does (`ConfigSource.initial_fetch_timeout`); and for
/// endpoints too where another process serves meanwhile.
const WAIT_AT_FIRST: Duration = Duration::from_secs(15);
/// Look-ups at a time. Each takes a thread of the runtime's blocking pool while it lasts.
const LOOKUPS: usize = 16;
/// Results that may wait to be taken in; senders then wait, which only delays the next look-up or check.
const QUEUE: usize = 1024;

/// What happens to the control side.
pub(super) enum Event {
    /// A look-up ended.
    Resolved(SetKey, Result<Vec<SocketAddr>, Fault>),
    /// A health check ended.
    Checked(Checked),
    /// An endpoint failed as often in a row as it may.
    Failing(SetKey, SocketAddr),
    /// Files of certificates were read.
    Read(Vec<(String, Result<Vec<u8>, String>)>),
}

struct Control {
    shared: Arc<Shared>,
    source: Arc<dyn EndpointSource>,
    events: mpsc::Sender<Event>,
    lookups: Arc<Semaphore>,
    /// The newest configuration.
    wanted: Arc<NodeConfig>,
    wanted_since: Monotonic,
    /// The one that is published; the newest may still wait for endpoints.
    published: Option<Arc<NodeConfig>>,
    generation: u64,
    endpoints: Endpoints,
    /// Sets whose look-up has ended at least once.
    looked_up: BTreeSet<SetKey>,
    looking_up: BTreeSet<SetKey>,
    checks: BTreeMap<(SetKey, SocketAddr), Check>,
    tls: Keeper,
    /// What was made of it last.
    secured: Arc<Secured>,
    /// Whether files are being read.
    reading: bool,
    /// Who is under way through a gateway.
    gates: Gates,
    /// Ports that it has lost.
    leaving: Leaving,
    /// Whether all of a gateway's ports could be taken.
    doors: Result<(), ProxyError>,
    /// Why it takes nobody's place, where it does not.
    refusal: Option<ProxyError>,
}

struct Check {
    wanted: HealthCheck,
    towards: Towards,
    task: JoinHandle<()>,
}

impl Drop for Check {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs until its configuration's sender is gone and for ever after: the last snapshot goes on being kept current.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut config: watch::Receiver<Arc<NodeConfig>>,
    source: Arc<dyn EndpointSource>,
    secrets: Secrets,
    ready: oneshot::Sender<Result<(), ProxyError>>,
) {
    let (events, mut inbox) = mpsc::channel(QUEUE);
    // Whoever took it before would be another control side.
    let _ = shared.control.set(events.clone());
    let wanted = Arc::clone(&config.borrow_and_update());
    let mut control = Control::new(shared, source, events, secrets, wanted);
    let mut ready = Some(ready);
    let mut resolve = interval(RESOLVE_EVERY);
    resolve.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reload = interval(RELOAD);
    reload.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut secret = Box::pin(control.tls.secrets_changed());
    let mut connected = true;
    loop {
        tokio::select! {
            changed = config.changed(), if connected => match changed {
                Ok(()) => {
                    let wanted = Arc::clone(&config.borrow_and_update());
                    control.want(wanted);
                }
                Err(_) => connected = false,
            },
            Some(event) = inbox.recv() => control.take(event),
            _ = resolve.tick() => {
                control.look_up_all();
                control.open_doors();
                if control.leaving.has_ended(control.shared.started.elapsed()) {
                    control.publish_if_ready();
                }
            }
            _ = reload.tick() => {
                control.read(control.tls.files(&control.wanted));
                if control.tls.waits() {
                    control.publish_if_ready();
                }
            }
            () = &mut secret => {
                control.tls.take_secrets();
                secret = Box::pin(control.tls.secrets_changed());
                control.publish_if_ready();
            }
            () = sleep(control.patience().saturating_sub(control.wanted_since.elapsed())), if control.is_waiting() => control.publish_if_ready(),
            () = sleep(control.shortest_ejection().unwrap_or_default()), if control.shortest_ejection().is_some() => {
                control.let_back();
            }
        }
        if let Some(outcome) = control.first_outcome()
            && let Some(ready) = ready.take()
        {
            let _ = ready.send(outcome);
        }
    }
}

impl Control {
    fn new(
        shared: Arc<Shared>,
        source: Arc<dyn EndpointSource>,
        events: mpsc::Sender<Event>,
        secrets: Secrets,
        wanted: Arc<NodeConfig>,
    ) -> Self {
        let tls = Keeper::new(secrets, !shared.is_own());
        let mut control = Self {
            shared,
            source,
            events,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            wanted: Arc::default(),
            wanted_since: Monotonic::now(),
            published: None,
            generation: 0,
            endpoints: Endpoints::new(),
            looked_up: BTreeSet::new(),
            looking_up: BTreeSet::new(),
            checks: BTreeMap::new(),
            tls,
            secured: Arc::default(),
            reading: false,
            gates: Gates::new(),
            leaving: Leaving::default(),
            doors: Ok(()),
            refusal: None,
        };
        control.want(wanted);
        control
    }

    /// Takes a new configuration in.
    fn want(&mut self, wanted: Arc<NodeConfig>) {
        // Those that came with it: it may name new ones.
        self.tls.take_secrets();
        if !self.is_waiting() {
            self.wanted_since = Monotonic::now();
        }
        self.wanted = if self.shared.ingress.is_some() { with_application(&wanted) } else { wanted };
        for key in sets_of(&self.wanted) {
            if !self.looked_up.contains(&key) {
                self.look_up(key);
            }
        }
        self.read(self.tls.unread(&self.wanted));
        self.publish_if_ready();
    }

    /// Reads files of certificates, which may take a while.
    fn read(&mut self, paths: Vec<String>) {
        if self.reading || paths.is_empty() {
            return;
        }
        self.reading = true;
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || events.blocking_send(Event::Read(read_files(paths))));
    }

    /// Whether anything is new in what was read.
    fn take_files(&mut self, read: Vec<(String, Result<Vec<u8>, String>)>) -> bool {
        self.reading = false;
        let changed = self.tls.take_files(read);
        // A configuration that came meanwhile may name others.
        self.read(self.tls.unread(&self.wanted));
        changed
    }

    fn take(&mut self, event: Event) {
        let changed = match event {
            Event::Resolved(key, result) => self.resolved(&key, result),
            Event::Checked(checked) => self.checked(&checked),
            Event::Failing(key, address) => self.failing(&key, address),
            Event::Read(read) => self.take_files(read),
        };
        if changed {
            self.publish_if_ready();
        }
    }

    /// Whether the newest configuration is not published yet.
    fn is_waiting(&self) -> bool {
        !self.published.as_ref().is_some_and(|published| Arc::ptr_eq(published, &self.wanted))
    }

    /// How long the newest configuration may wait for endpoints and secrets.
    fn patience(&self) -> Duration {
        let is_first = self.published.is_none();
        if is_first && (self.shared.is_beside() || !self.tls.has_secrets(&self.wanted)) {
            WAIT_AT_FIRST
        } else {
            WAIT_FOR_ENDPOINTS
        }
    }

    /// What became of the first configuration, once that is known.
    fn first_outcome(&mut self) -> Option<Result<(), ProxyError>> {
        match self.refusal.take() {
            Some(refusal) => Some(Err(refusal)),
            None if self.shared.stands_alone => self.published.as_ref().map(|_| Ok(())),
            None => self.published.as_ref().map(|_| std::mem::replace(&mut self.doors, Ok(()))),
        }
    }

    fn publish_if_ready(&mut self) {
        self.publish_after(self.wanted_since.elapsed());
    }

    /// Publishes what is to be published when the newest configuration has waited so long.
    fn publish_after(&mut self, waited: Duration) {
        let is_late = waited >= self.patience();
        if is_late && self.published.is_none() && self.shared.is_beside() {
            let missing = self.tls.missing_secrets(&self.wanted);
            if !missing.is_empty() {
                // Who has them goes on serving.
                self.refusal = Some(ProxyError::Secrets { names: missing.join(", ") });
                return;
            }
        }
        let known = || weighted_sets_of(&self.wanted).iter().all(|key| self.looked_up.contains(key));
        let can_secure = || self.tls.unread(&self.wanted).is_empty() && self.tls.has_secrets(&self.wanted);
        let news = self.is_waiting() && ((known() && can_secure()) || is_late);
        if news {
            self.published = Some(Arc::clone(&self.wanted));
        }
        let Some(config) = self.published.clone() else { return };
        let secured = Arc::new(self.tls.secure(&config, SystemClock.now()));
        if news || !secured.is_as(&self.secured) {
            self.secured = Arc::clone(&secured);
            self.forget_unused();
        }
        self.generation += 1;
        let mut compiled = Compiled::new(self.generation, config, &self.endpoints, secured);
        keep_gates(&mut compiled.gateway, &mut self.gates);
        let now = self.shared.started.elapsed();
        compiled.leaving = self.leaving.follow(&self.shared.current().gateway, &compiled.gateway, now);
        self.shared.publish(compiled);
        // Whoever comes in finds the routes.
        self.open_doors();
    }

    /// Has a gateway listen on the ports that it should, as far as they can be had.
    fn open_doors(&mut self) {
        let Some(config) = &self.published else { return };
        let doors = doors::open(&self.shared, config);
        match (&self.doors, &doors) {
            // Said once; at the start it is its end, but for local mode.
            (Ok(()), Err(error)) if self.generation > 1 || self.shared.stands_alone => {
                tracing::error!(%error, "the gateway serves its other ports and tries this one again")
            }
            (Err(_), Ok(())) => tracing::info!("all ports of the gateway are served now"),
            _ => {}
        }
        self.doors = doors;
    }

    /// Drops endpoints and checks of nodes that the published configuration no longer names.
    fn forget_unused(&mut self) {
        let used = sets_of(&self.wanted);
        let published = self.published.as_deref().unwrap_or(&self.wanted);
        self.tls.forget_files([&self.wanted, published]);
        self.endpoints.retain(|key, _| used.contains(key));
        self.looked_up.retain(|key| used.contains(key));
        for key in &used {
            self.watch_health(key);
        }
        self.checks.retain(|(key, _), _| used.contains(key));
    }

    fn look_up_all(&mut self) {
        for key in sets_of(&self.wanted) {
            self.look_up(key);
        }
    }

    fn look_up(&mut self, key: SetKey) {
        let Some(cluster) = self.wanted.clusters.get(&key.0) else {
            self.looked_up.insert(key);
            return;
        };
        if !self.looking_up.insert(key.clone()) {
            return;
        }
        let discovery = cluster.discovery.clone();
        let (source, events, lookups) = (Arc::clone(&self.source), self.events.clone(), Arc::clone(&self.lookups));
        tokio::spawn(async move {
            // The semaphore is never closed.
            let _turn = lookups.acquire().await;
            let result = match discovery {
                Discovery::None => Ok(Vec::new()),
                discovery => source.resolve(&discovery, key.1).await,
            };
            let _ = events.send(Event::Resolved(key, result)).await;
        });
    }

    /// Whether anything changed.
    fn resolved(&mut self, key: &SetKey, result: Result<Vec<SocketAddr>, Fault>) -> bool {
        self.looking_up.remove(key);
        let first = self.looked_up.insert(key.clone());
        let addresses = match result {
            Ok(addresses) => addresses,
            Err(fault) => {
                tracing::warn!(node = %key.0.node, mesh = %key.0.mesh, %fault, "endpoints not found out; the last known stay");
                return first;
            }
        };
        let known = self.endpoints.entry(key.clone()).or_default();
        if known.iter().map(|known| &known.address).eq(&addresses) {
            return first;
        }
        let before = |address: &SocketAddr| known.iter().find(|known| known.address == *address).cloned();
        *known = addresses.iter().map(|address| before(address).unwrap_or_else(|| Known::new(*address))).collect();
        self.watch_health(key);
        true
    }

    /// Whether the endpoint turned healthy or unhealthy.
    fn checked(&mut self, checked: &Checked) -> bool {
        let Some(wanted) = self.checks.get(&(checked.set.clone(), checked.address)).map(|check| &check.wanted) else {
            return false;
        };
        let thresholds = Thresholds { healthy: wanted.healthy_threshold, unhealthy: wanted.unhealthy_threshold };
        let known = self.endpoints.get_mut(&checked.set).into_iter().flatten();
        let Some(Known { health, since, .. }) = known.into_iter().find(|known| known.address == checked.address) else {
            return false;
        };
        let before = health.is_healthy();
        *health = health.after(checked.passed, thresholds);
        if health.is_healthy() != before {
            let (node, address, healthy) = (&checked.set.0.node, checked.address, health.is_healthy());
            tracing::info!(%node, %address, healthy, "endpoint's health changed");
            if healthy {
                *since = Monotonic::now();
            }
        }
        health.is_healthy() != before
    }

    /// Leaves an endpoint out for a while; whether that changed anything.
    fn failing(&mut self, key: &SetKey, address: SocketAddr) -> bool {
        let listener = self.wanted.clusters.get(&key.0).and_then(|cluster| cluster.at(key.1));
        let Some(detection) = listener.and_then(|listener| listener.outlier) else { return false };
        let Some(known) = self.endpoints.get_mut(key) else { return false };
        let (all, out) = (known.len(), known.iter().filter(|known| known.is_ejected).count());
        let Some(found) = known.iter_mut().find(|known| known.address == address) else { return false };
        found.failures.clear();
        if found.is_ejected || !may_eject(all, out, detection.max_ejection_percent) {
            return false;
        }
        let now = self.shared.started.elapsed();
        found.ejection.begin(now, &detection);
        found.is_ejected = true;
        let seconds = found.ejection.left(now).as_secs_f64();
        tracing::info!(node = %key.0.node, %address, seconds, "endpoint left out: it failed too often in a row");
        true
    }

    /// How long until the first of those that are left out comes back.
    fn shortest_ejection(&self) -> Option<Duration> {
        let now = self.shared.started.elapsed();
        let ejected = self.endpoints.values().flatten().filter(|known| known.is_ejected);
        ejected.map(|known| known.ejection.left(now)).min()
    }

    /// Takes those back whose time is over.
    fn let_back(&mut self) {
        let now = self.shared.started.elapsed();
        let mut changed = false;
        for (key, known) in
            self.endpoints.iter_mut().flat_map(|(key, all)| all.iter_mut().map(move |known| (key, known)))
        {
            if known.is_ejected && known.ejection.left(now).is_zero() {
                known.is_ejected = false;
                known.failures.clear();
                changed = true;
                tracing::info!(node = %key.0.node, address = %known.address, "endpoint taken back");
            }
        }
        if changed {
            self.publish_if_ready();
        }
    }

    /// Makes the set of running checks what the configuration and the known endpoints ask for.
    fn watch_health(&mut self, key: &SetKey) {
        let cluster = self.wanted.clusters.get(&key.0);
        let listener = cluster.and_then(|cluster| cluster.at(key.1));
        let wanted = listener.and_then(|listener| listener.health_check.clone());
        let towards = self.secured.towards(key, listener.is_some_and(|listener| listener.tls.is_some()));
        let addresses: Vec<SocketAddr> =
            self.endpoints.get(key).into_iter().flatten().map(|known| known.address).collect();
        self.checks.retain(|(set, address), check| {
            let is_same = wanted.as_ref() == Some(&check.wanted) && towards.is_as(&check.towards);
            set != key || (addresses.contains(address) && is_same)
        });
        let (Some(wanted), Some(cluster)) = (wanted, cluster) else {
            // Without a check nothing could ever make an endpoint healthy again.
            self.endpoints
                .entry(key.clone())
                .or_default()
                .iter_mut()
                .for_each(|known| known.health = Health::default());
            return;
        };
        let host = match &cluster.discovery {
            Discovery::Dns { hostname, .. } => hostname.clone(),
            Discovery::None | Discovery::CloudMap { .. } => key.0.node.clone(),
        };
        for address in addresses {
            self.checks.entry((key.clone(), address)).or_insert_with(|| Check {
                wanted: wanted.clone(),
                towards: towards.clone(),
                task: tokio::spawn(health::watch(
                    wanted.clone(),
                    host.clone(),
                    key.clone(),
                    address,
                    towards.clone(),
                    self.events.clone(),
                )),
            });
        }
    }
}

#[cfg(test)]
mod tests;
