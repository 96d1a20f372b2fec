//! What the control side and the workers of one proxy share: the snapshot, the phase, and the counts to read.
//!
//! Requests touch one word of it (the generation), which changes only when a snapshot is published.

use super::access_log::Logs;
use super::cloudwatch::Sent;
use super::config::{Compiled, SetKey};
use super::control::Event;
use super::counters::{Table, Totals};
use super::doors::{Door, Doors, Inherited};
use super::fused::Fuses;
use super::held::keep_counts;
use super::session::Sessions;
use super::sockets::Sockets;
use super::stats::Names;
use super::trace::Tracer;
use crate::clock::Monotonic;
use crate::mesh::snapshot::Role;
use arc_swap::ArcSwap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What a proxy is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepting and serving.
    Serving,
    /// Not accepting any more; answers carry `Connection: close`.
    Draining,
    /// As draining, and the workers end: idle connections are closed after `grace`, all others at `deadline`.
    Ending { grace: Duration, deadline: Duration },
}

/// What one worker shows to others.
pub(super) struct WorkerView {
    /// Version of the configuration that it routes by.
    pub(super) applied: AtomicU64,
    /// Number of the snapshot that it routes by, which unlike the version never falls.
    pub(super) generation: AtomicU64,
    /// Its counts.
    pub(super) table: Table,
    /// Its counts of requests that went to a target and are not judged.
    pub(super) unjudged: Table,
    /// Its counts of all requests of routes with sessions.
    pub(super) raw: Table,
    /// Which requests of sessions were counted lately, by all workers.
    pub(super) sessions: Arc<Sessions>,
    /// Its counts outside of series.
    pub(super) totals: Totals,
    /// Its counts by Envoy's names.
    pub(super) names: Names,
}

/// Shared by all parts of one proxy.
pub(super) struct Shared {
    /// Names the proxy in its report.
    pub(super) name: String,
    /// Port that applications send their requests to.
    pub(super) port: u16,
    /// Port that takes what is meant for the application; `None` where nothing does.
    pub(super) ingress: Option<u16>,
    /// Where a virtual gateway's listeners are; `None` for what is none.
    pub(super) gateway: Option<IpAddr>,
    /// Whether it is nobody's, as in local mode, where it is every gateway at once.
    pub(super) stands_alone: bool,
    /// Their sockets.
    pub(super) doors: watch::Sender<Arc<Doors>>,
    /// Since when it runs.
    pub(super) started: Monotonic,
    generation: AtomicU64,
    current: ArcSwap<Compiled>,
    /// Wakes workers that no request wakes, so that they too apply a new snapshot.
    pub(super) published: watch::Sender<u64>,
    /// Version of the configuration that requests are routed by; 0 before the first one.
    pub(super) routes_by: watch::Sender<u64>,
    /// Whether it has begun to serve.
    pub(super) is_live: AtomicBool,
    /// What the proxy is doing.
    pub(super) phase: watch::Sender<Phase>,
    /// Whether somebody asked it to quit.
    pub(super) quit: watch::Sender<bool>,
    /// Whether its workers have ended: nothing more is counted, and what is still to be told is told now.
    pub(super) ended: watch::Sender<bool>,
    /// Takes notes for the control side; set once it runs.
    pub(super) control: OnceLock<mpsc::Sender<Event>>,
    /// Client connections open now, of all workers.
    pub(super) connections: AtomicUsize,
    /// Most client connections.
    pub(super) max_connections: usize,
    /// The fuses of its routes.
    pub(super) fuses: Fuses,
    /// Whether Prometheus is told mesh and node with each count (`ENABLE_ENVOY_STATS_TAGS`).
    pub(super) has_tags: bool,
    /// Traces requests, where that is on.
    pub(super) tracer: Option<Tracer>,
    /// Lines of metrics that were sent, and those that could not be.
    pub(super) emf_lines: [AtomicU64; 2],
    /// Metrics that CloudWatch was sent by its API.
    pub(super) cloudwatch: Sent,
    /// The way to the access log.
    pub(super) logs: Logs,
    /// One for each worker.
    pub(super) workers: Vec<Arc<WorkerView>>,
    /// Whether another process accepts from the same sockets.
    pub(super) has_successor: watch::Sender<bool>,
    /// Whether another process has the same sockets and serves until this one does.
    beside: AtomicBool,
    /// What that process had for a virtual gateway, until the ports are known.
    inherited: Mutex<Inherited>,
    /// Second descriptors of the listening sockets, for a successor. No request looks at them.
    spare: Mutex<Option<Sockets>>,
}

impl Shared {
    pub(super) fn new(
        (name, egress, ingress, gateway): (String, SocketAddr, Option<SocketAddr>, Option<IpAddr>),
        max_connections: usize,
        kept_versions: usize,
        workers: usize,
        first: Compiled,
    ) -> Self {
        let sessions = Arc::new(Sessions::new());
        let view = || WorkerView {
            applied: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            table: Table::new(kept_versions),
            unjudged: Table::new(kept_versions),
            raw: Table::new(kept_versions),
            sessions: Arc::clone(&sessions),
            totals: Totals::default(),
            names: Names::default(),
        };
        Self {
            name,
            port: egress.port(),
            ingress: ingress.map(|ingress| ingress.port()),
            gateway,
            stands_alone: false,
            doors: watch::Sender::default(),
            started: Monotonic::now(),
            generation: AtomicU64::new(first.generation),
            published: watch::Sender::new(first.generation),
            routes_by: watch::Sender::new(first.config.version),
            current: ArcSwap::from_pointee(first),
            is_live: AtomicBool::new(false),
            phase: watch::Sender::new(Phase::Serving),
            quit: watch::Sender::new(false),
            ended: watch::Sender::new(false),
            control: OnceLock::new(),
            connections: AtomicUsize::new(0),
            max_connections,
            fuses: Fuses::default(),
            has_tags: false,
            tracer: None,
            emf_lines: Default::default(),
            cloudwatch: Sent::default(),
            logs: Logs::default(),
            workers: (0..workers).map(|_| Arc::new(view())).collect(),
            has_successor: watch::Sender::new(false),
            beside: AtomicBool::new(false),
            inherited: Mutex::default(),
            spare: Mutex::new(None),
        }
    }

    /// Makes a snapshot the one that every request from now on is routed by.
    pub(super) fn publish(&self, mut compiled: Compiled) {
        let before = self.current.load();
        compiled.share_buckets(before.buckets());
        keep_counts(&mut compiled, &before);
        self.logs.tell(compiled.log.as_deref());
        self.fuses.wire(&mut compiled, self.started.elapsed());
        let (generation, version) = (compiled.generation, compiled.config.version);
        self.current.store(Arc::new(compiled));
        // Released after the snapshot: a worker that sees the new generation finds a snapshot at least as new.
        self.generation.store(generation, Ordering::Release);
        self.published.send_replace(generation);
        self.routes_by.send_replace(version);
    }

    /// Labels of every count, where they are wanted: those of the App Mesh image.
    pub(super) fn tags(&self) -> Vec<(String, String)> {
        let current = self.current();
        let own = current.config.own.as_ref().filter(|_| self.has_tags);
        own.map_or_else(Vec::new, |own| {
            let kind = if own.role == Role::Node { "appmesh_virtual_node" } else { "appmesh_virtual_gateway" };
            vec![("appmesh_mesh".to_owned(), own.mesh.clone()), (kind.to_owned(), own.name.clone())]
        })
    }

    /// Number of the newest snapshot.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The newest snapshot.
    pub(super) fn current(&self) -> Arc<Compiled> {
        self.current.load_full()
    }

    /// Number of the snapshot that every worker routes by, or by a later one.
    pub(super) fn applied_generation(&self) -> u64 {
        self.workers.iter().map(|worker| worker.generation.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    /// The configuration version that every worker routes by.
    pub(super) fn applied_version(&self) -> u64 {
        self.workers.iter().map(|worker| worker.applied.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    /// Whether it stands for a node or gateway of the mesh, and not for nobody as in local mode.
    pub(super) const fn is_own(&self) -> bool {
        !self.stands_alone && (self.ingress.is_some() || self.gateway.is_some())
    }

    /// An endpoint failed as often in a row as it may. A note that finds no room is lost: the next failure makes another.
    #[cold]
    pub(super) fn tell_failing(&self, set: &SetKey, address: SocketAddr) {
        if let Some(control) = self.control.get() {
            let _ = control.try_send(Event::Failing(set.clone(), address));
        }
    }

    /// Whether another process serves by the same sockets, which this one is to take the place of.
    pub(super) fn is_beside(&self) -> bool {
        self.beside.load(Ordering::Acquire)
    }

    pub(super) fn set_beside(&self, is_beside: bool) {
        self.beside.store(is_beside, Ordering::Release);
    }

    /// What another process had for a virtual gateway. Nothing of it is held for long.
    pub(super) fn inherit(&self) -> MutexGuard<'_, Inherited> {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what a successor would be given, except for a gateway's; `None` where there can be none.
    pub(super) fn spare<T>(&self, read: impl FnOnce(&Sockets) -> T) -> Option<T> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(read)
    }

    /// Whether there may be a successor.
    pub(super) fn has_spare(&self) -> bool {
        self.spare(|_| ()).is_some()
    }

    pub(super) fn keep_spare(&self, sockets: Sockets) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(sockets);
    }

    /// There will be no successor: what the workers close from now on is closed.
    pub(super) fn forget_spare(&self) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.doors.borrow().values().for_each(|door| Door::forget_spare(door));
    }

    /// Stops accepting, if it has not stopped yet.
    pub(super) fn start_draining(&self) {
        // First: what the workers close must be closed.
        self.forget_spare();
        self.phase.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Draining;
            }
            serving
        });
    }
}
