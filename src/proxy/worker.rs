//! One worker: a thread's own view of the snapshot, its connection pools, its generator and its counts.
//!
//! Everything here stays on one thread, so nothing is locked and reference counts are plain integers.

use super::access_log::Lines;
use super::balance::{Among, Balanced};
use super::config::{Compiled, CompiledRoute, EndpointSet};
use super::connection::Connections;
use super::counters::{Counts, Outcome};
use super::extension::Extra;
use super::listener;
use super::shared::{Shared, WorkerView};
use super::split::{Draws, pick, take_turn};
use super::stats::{Http, Target};
use super::tls::{ClientSide, Towards};
use super::upstream::Pool;
use crate::base::tally::SeriesKey;
use crate::clock::{self, Monotonic};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio::runtime::LocalOptions;
use tokio::sync::oneshot;

/// A worker.
pub(super) struct Worker {
    /// The proxy it belongs to.
    pub(super) shared: Arc<Shared>,
    /// What it shows to others.
    pub(super) view: Arc<WorkerView>,
    /// Its client connections.
    pub(super) connections: Connections,
    /// Its lines of the access log.
    pub(super) lines: Lines,
    /// Whether answers carry `Connection: close`.
    pub(super) draining: Cell<bool>,
    /// Copies of requests under way.
    pub(super) shadows: Cell<usize>,
    local: RefCell<Rc<Local>>,
    pools: RefCell<HashMap<PoolKey, Rc<Pool>>>,
    draws: Cell<Draws>,
}

/// Connections of one pool are as good as each other: to one address, and begun alike. A pool holds what its connections begin
/// with, so nothing else can be where that is.
type PoolKey = (SocketAddr, *const ClientSide);

fn pool_key(address: SocketAddr, towards: &Towards) -> PoolKey {
    (address, towards.tls().map_or(std::ptr::null(), Arc::as_ptr))
}

/// The snapshot as one worker uses it: cells and pools are filled in as requests need them.
pub(super) struct Local {
    /// The shared part.
    pub(super) compiled: Arc<Compiled>,
    counts: Box<[OnceCell<Arc<Counts>>]>,
    apart: Box<[OnceCell<Arc<Counts>>]>,
    pools: Box<[OnceCell<Rc<Pool>>]>,
    turns: Box<[Cell<usize>]>,
    /// Whether what is counted is for a judge to see.
    is_judged: bool,
    /// Requests begun on the canary, by route with a fuse.
    pub(super) begun: Box<[OnceCell<Arc<AtomicU64>>]>,
    https: Box<[OnceCell<Arc<Http>>]>,
    targets: Box<[OnceCell<Arc<Target>>]>,
}

/// Starts a worker's thread, which has everything that it needs then. It accepts once it is told to; the receiver tells how many
/// connections it had to cut when it ended.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    index: usize,
    (egress, ingress): (std::net::TcpListener, Option<std::net::TcpListener>),
) -> io::Result<(oneshot::Sender<()>, oneshot::Receiver<usize>)> {
    let (shared, view) = (Arc::clone(shared), Arc::clone(&shared.workers[index]));
    let (tell, ended) = oneshot::channel();
    let (go, begins) = oneshot::channel();
    // A local runtime cannot leave its thread, so it is made there, and its failure is told from there.
    let (started, starts) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new().name(format!("proxy-{index}")).spawn(move || {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = match built {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        let cut = runtime.block_on(async {
            let made = TcpListener::from_std(egress)
                .and_then(|egress| Ok((egress, ingress.map(TcpListener::from_std).transpose()?)));
            let listeners = match made {
                Ok(listeners) => listeners,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return 0;
                }
            };
            let _ = started.send(Ok(()));
            if begins.await.is_err() {
                return 0;
            }
            let worker = Rc::new(Worker::new(shared, view));
            listener::run(worker, index, listeners).await
        });
        // Connections end with their tasks, before the end is told.
        drop(runtime);
        let _ = tell.send(cut);
    })?;
    starts.recv().map_err(io::Error::other)??;
    Ok((go, ended))
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, view: Arc<WorkerView>) -> Self {
        let mut draws = Draws::seeded(clock::seed());
        let local = Local::new(shared.current(), draws.draw());
        view.generation.store(local.compiled.generation, Ordering::Release);
        view.applied.store(local.compiled.config.version, Ordering::Release);
        Self {
            shared,
            view,
            connections: Connections::default(),
            lines: Lines::default(),
            draining: Cell::new(false),
            shadows: Cell::new(0),
            local: RefCell::new(Rc::new(local)),
            pools: RefCell::default(),
            draws: Cell::new(draws),
        }
    }

    /// The snapshot for a request that begins now: the newest published.
    pub(super) fn local(&self) -> Rc<Local> {
        if self.local.borrow().compiled.generation != self.shared.generation() {
            self.refresh();
        }
        Rc::clone(&self.local.borrow())
    }

    #[cold]
    fn refresh(&self) {
        let local = Local::new(self.shared.current(), self.draw());
        self.view.generation.store(local.compiled.generation, Ordering::Release);
        self.view.applied.store(local.compiled.config.version, Ordering::Release);
        self.local.replace(Rc::new(local));
    }

    /// The next number of this worker's generator.
    pub(super) fn draw(&self) -> u64 {
        let mut draws = self.draws.get();
        let number = draws.draw();
        self.draws.set(draws);
        number
    }

    fn pool(&self, address: SocketAddr, towards: &Towards) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        let pool = pools.entry(pool_key(address, towards));
        Rc::clone(pool.or_insert_with(|| Rc::new(Pool::new(address, towards.clone()))))
    }

    /// Closes connections that nobody used for a while, and those to addresses that no set has any more.
    pub(super) fn expire_idle(&self) {
        let local = Rc::clone(&self.local.borrow());
        let keys = |set: &EndpointSet| -> Vec<PoolKey> {
            set.addresses.iter().map(|address| pool_key(*address, &set.towards)).collect()
        };
        let in_use: HashSet<PoolKey> = local.compiled.sets.iter().flat_map(keys).collect();
        let mut pools = self.pools.borrow_mut();
        pools.retain(|key, _| in_use.contains(key));
        pools.values().for_each(|pool| pool.expire());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its connections are gone, and with them the last of their lines are here.
        self.lines.flush(&self.shared.logs);
    }
}

impl Local {
    fn new(compiled: Arc<Compiled>, start: u64) -> Self {
        // Turns begin at a random endpoint, so that workers and snapshots do not all start with the first.
        let start = usize::try_from(start >> 32).unwrap_or(0);
        Self {
            counts: (0..compiled.series).map(|_| OnceCell::new()).collect(),
            apart: (0..compiled.apart).map(|_| OnceCell::new()).collect(),
            pools: (0..compiled.endpoints).map(|_| OnceCell::new()).collect(),
            turns: compiled.sets.iter().map(|_| Cell::new(start)).collect(),
            is_judged: true,
            begun: (0..compiled.fused).map(|_| OnceCell::new()).collect(),
            https: compiled.prefixes.iter().map(|_| OnceCell::new()).collect(),
            targets: compiled.tallies.iter().map(|_| OnceCell::new()).collect(),
            compiled,
        }
    }

    /// A snapshot for requests that nobody is judged by.
    pub(super) fn unjudged(compiled: Arc<Compiled>, start: u64) -> Self {
        Self { is_judged: false, ..Self::new(compiled, start) }
    }

    /// The connections to an endpoint of a set.
    pub(super) fn pool(&self, worker: &Worker, set: &EndpointSet, endpoint: usize) -> &Rc<Pool> {
        self.pools[set.first_endpoint + endpoint].get_or_init(|| worker.pool(set.addresses[endpoint], &set.towards))
    }

    /// Counts of clients' requests by the index of their prefix.
    pub(super) fn http(&self, worker: &Worker, prefix: usize) -> &Arc<Http> {
        self.https[prefix].get_or_init(|| worker.view.names.http(&self.compiled.prefixes[prefix]))
    }

    /// Counts of what a target is sent.
    pub(super) fn target(&self, worker: &Worker, tally: usize) -> &Target {
        self.targets[tally].get_or_init(|| worker.view.names.target(&self.compiled.tallies[tally]))
    }

    /// The next endpoint of a set; `None` when it has none.
    pub(super) fn turn(&self, worker: &Worker, set: usize, tried: u64) -> Option<usize> {
        let (mut cursor, endpoints) = (self.turns[set].get(), &self.compiled.sets[set]);
        let endpoint = match &endpoints.balanced {
            None => take_turn(&mut cursor, &endpoints.usable, tried),
            Some(balanced) => self.balanced(worker, (endpoints, balanced), &mut cursor, tried),
        };
        self.turns[set].set(cursor);
        endpoint.and_then(|endpoint| usize::try_from(endpoint).ok())
    }

    /// The next endpoint of a set whose node says how it is chosen.
    fn balanced(
        &self,
        worker: &Worker,
        (set, balanced): (&EndpointSet, &Balanced),
        cursor: &mut usize,
        tried: u64,
    ) -> Option<u32> {
        let among = Among { usable: &set.usable, tried, now: Monotonic::now() };
        let cost = |endpoint: u32| {
            let endpoint = usize::try_from(endpoint).unwrap_or(0);
            self.pool(worker, set, endpoint).load.cost(among.now)
        };
        balanced.choose(&among, cursor, &mut || worker.draw(), cost)
    }
}

/// Where a request's outcome is counted: the target that was drawn, and the endpoint of the last try.
#[derive(Clone)]
pub(super) struct Placement {
    /// The snapshot that routed the request.
    pub(super) local: Rc<Local>,
    /// Index of the route in it.
    pub(super) route: usize,
    /// Index of the drawn target in the route.
    pub(super) target: usize,
    /// The endpoint within the target's set; `None` while none was chosen.
    pub(super) endpoint: Cell<Option<usize>>,
    /// What an extension of the route has to do with it; `None` for most requests.
    pub(super) extra: Option<Box<Extra>>,
}

impl Placement {
    /// A target of the route, drawn in proportion to the weights; `None` when all of them are 0.
    pub(super) fn drawn(worker: &Worker, local: Rc<Local>, index: usize) -> Option<Self> {
        let (route, draw) = (&local.compiled.routes[index], worker.draw());
        let target = pick(draw, &route.weights)?;
        let Some(fuse) = &route.fuse else { return Some(Self::at(local, index, target)) };
        let (target, is_unjudged) = fuse.place((worker, &local), route, target, draw);
        let extra = is_unjudged.then(|| Box::new(Extra::unjudged()));
        Some(Self { extra, ..Self::at(local, index, target) })
    }

    /// This target of the route.
    pub(super) const fn at(local: Rc<Local>, route: usize, target: usize) -> Self {
        Self { local, route, target, endpoint: Cell::new(None), extra: None }
    }

    /// The route.
    pub(super) fn route(&self) -> &CompiledRoute {
        &self.local.compiled.routes[self.route]
    }

    /// Index of the drawn target's endpoint set.
    pub(super) fn set_index(&self) -> usize {
        self.route().targets[self.target].set
    }

    /// The drawn target's endpoints.
    pub(super) fn set(&self) -> &EndpointSet {
        &self.local.compiled.sets[self.set_index()]
    }

    /// Index of the counts of what the drawn target is sent.
    pub(super) fn tally_index(&self) -> usize {
        self.route().targets[self.target].tally
    }

    /// Counts of what the drawn target is sent.
    pub(super) fn tally(&self, worker: &Worker) -> &Target {
        self.local.target(worker, self.tally_index())
    }

    /// The endpoint that was chosen last.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.endpoint.get().and_then(|endpoint| self.set().addresses.get(endpoint).copied())
    }

    /// Whether its requests are kept from the judge.
    pub(super) fn is_unjudged(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.is_unjudged)
    }

    /// Counts the request. Each request is counted at most once, by whoever learns its outcome.
    pub(super) fn count(&self, view: &WorkerView, outcome: Outcome) {
        if let Some(extra) = &self.extra {
            if self.is_kept_from_judge(extra, view, outcome) {
                return;
            }
            if extra.session.is_some() {
                self.route().note_judged((view, &self.local), self.target);
            }
        }
        if !matches!(outcome, Outcome::Good { .. }) {
            self.route().note_failed(self.target);
        }
        let first = self.route().targets[self.target].first_series;
        let series = first + self.endpoint.get().map_or(0, |endpoint| endpoint + 1);
        self.local.counts[series].get_or_init(|| self.cell(view)).record(outcome);
    }

    /// Counts a request where an extension wants it counted; whether that is all.
    fn is_kept_from_judge(&self, extra: &Extra, view: &WorkerView, outcome: Outcome) -> bool {
        let target = &self.route().targets[self.target];
        let (index, table) = match (extra.is_unjudged, extra.session) {
            (true, _) => (target.apart, &view.unjudged),
            (false, Some(_)) => (target.apart + 1, &view.raw),
            (false, None) => return false,
        };
        self.local.apart[index].get_or_init(|| table.cell(self.key(None), target.share)).record(outcome);
        extra.is_unjudged || !extra.session.is_some_and(|session| session.counts(&view.sessions, outcome))
    }

    /// Asks the worker's table for the cell: once for each series and snapshot.
    #[cold]
    fn cell(&self, view: &WorkerView) -> Arc<Counts> {
        if !self.local.is_judged {
            return Arc::new(Counts::new());
        }
        let endpoint = self.endpoint.get().and_then(|endpoint| self.set().addresses.get(endpoint));
        view.table.cell(self.key(endpoint), self.route().targets[self.target].share)
    }

    fn key(&self, endpoint: Option<&SocketAddr>) -> SeriesKey {
        let (route, target) = (&self.route().route, &self.route().targets[self.target]);
        SeriesKey {
            route: route.id.clone(),
            version: route.version,
            target: target.node.clone(),
            endpoint: endpoint.map(ToString::to_string).unwrap_or_default(),
        }
    }
}
