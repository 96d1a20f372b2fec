//! Fuses on a request's way. A route without one costs a look at an `Option`; with one a draw costs one relaxed load, and one
//! of the canary an addition to a counter that no other thread writes. Only a request that failed takes the fuse's lock.
//!
//! A fuse is one for all workers, and outlives snapshots and versions of weights: a route keeps it for as long as its rollout
//! is the same, also while nothing is split.

use super::config::{Compiled, CompiledRoute};
use super::fuse::Watch;
use super::session::mixed;
use super::split::pick;
use super::worker::{Local, Worker};
use crate::base::fuse::RouteFuse;
use crate::base::ids::RouteRef;
use crate::base::tally::{FUSES_MAX, FuseReport, FuseState};
use crate::judge::Counts;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Versions of weights of which requests may still be under way. Those of an older one that fail late are counted as
/// failures all the same.
const VERSIONS_KEPT: usize = 8;

/// The fuses of a proxy, by route. Only the control side and reports take the lock.
#[derive(Default)]
pub(super) struct Fuses(Mutex<BTreeMap<RouteRef, Arc<Fused>>>);

/// One fuse.
pub(super) struct Fused {
    is_open: AtomicBool,
    seen: Mutex<Seen>,
}

struct Seen {
    watch: Watch,
    /// How long the controller may be silent.
    lapses_after: Option<Duration>,
    /// By version, the newest last.
    weights: Vec<Begun>,
}

/// Requests that were begun on the canary under one version of the weights.
struct Begun {
    version: u64,
    share: f64,
    /// Of each worker, by what tells it from others.
    counters: Vec<(usize, Arc<AtomicU64>)>,
    /// How many of them the watch knows of.
    known: u64,
}

/// A fuse as a route of a snapshot has it.
pub(super) struct Wired {
    fuse: Arc<Fused>,
    /// Index of the canary among the targets.
    canary: usize,
    /// Weights without the canary.
    others: Vec<u32>,
    /// Index of the worker's counter.
    cell: usize,
}

impl Begun {
    /// Those that the watch does not know of.
    fn news(&mut self) -> u64 {
        let sum = self.counters.iter().map(|(_, counter)| counter.load(Ordering::Relaxed)).sum::<u64>();
        sum.saturating_sub(std::mem::replace(&mut self.known, sum))
    }
}

impl Fused {
    fn new(spec: &RouteFuse, now: Duration) -> Self {
        let seen = Seen { watch: Watch::new(&spec.fuse, now), lapses_after: None, weights: Vec::new() };
        Self { is_open: AtomicBool::new(false), seen: Mutex::new(seen) }
    }

    // No code can panic while it holds the lock halfway through a change.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to what was seen, and opens or closes by it.
    fn with<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        let mut seen = self.lock();
        let before = seen.watch.state();
        let done = act(&mut seen);
        let after = seen.watch.state();
        self.is_open.store(after != FuseState::Armed, Ordering::Relaxed);
        if before != after {
            let (fuse, log_e, counts) = (seen.watch.fuse(), seen.watch.log_e(), seen.watch.counts());
            tracing::warn!(rollout = %fuse.rollout, canary = %fuse.canary, ?before, ?after, log_e, ?counts, "fuse");
        }
        done
    }

    /// Whether the canary gets nothing.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// A request of this version of the weights failed.
    #[cold]
    fn failed(&self, version: u64, share: f64, is_canary: bool) {
        self.with(|seen| {
            let (canary_errors, stable_errors) = if is_canary { (1, 0) } else { (0, 1) };
            let begun = seen.weights.iter_mut().find(|begun| begun.version == version);
            let canary_requests = begun.map_or(0, Begun::news);
            seen.watch.take(share, &Counts { canary_requests, canary_errors, stable_requests: 0, stable_errors });
        });
    }

    /// The counter of one worker under one version.
    #[cold]
    fn counter(&self, version: u64, worker: usize) -> Arc<AtomicU64> {
        let mut seen = self.lock();
        // A worker may be at a snapshot that is forgotten here: what it begins there is charged to nobody.
        let Some(begun) = seen.weights.iter_mut().find(|begun| begun.version == version) else { return Arc::default() };
        if let Some((_, counter)) = begun.counters.iter().find(|(known, _)| *known == worker) {
            return Arc::clone(counter);
        }
        let counter = Arc::<AtomicU64>::default();
        begun.counters.push((worker, Arc::clone(&counter)));
        counter
    }

    /// The weights of a new snapshot, which may be those of the one before.
    fn arm(&self, spec: &RouteFuse, version: u64, share: f64, now: Duration) {
        self.with(|seen| {
            seen.watch.rearm(&spec.fuse, now);
            seen.lapses_after = spec.lapses_after.map(crate::base::time::Millis::duration);
            if seen.weights.iter().any(|begun| begun.version == version) {
                return;
            }
            seen.watch.new_weights(now);
            if seen.weights.len() >= VERSIONS_KEPT {
                let mut oldest = seen.weights.remove(0);
                let canary_requests = oldest.news();
                seen.watch.take(oldest.share, &Counts { canary_requests, ..Counts::default() });
            }
            seen.weights.push(Begun { version, share, counters: Vec::new(), known: 0 });
        });
    }

    fn report(&self, route: &RouteRef, version: u64, acknowledged: Option<Duration>) -> FuseReport {
        self.with(|seen| {
            let watch = &mut seen.watch;
            let counts = *watch.counts();
            let report = FuseReport {
                route: route.clone(),
                version,
                rollout: watch.fuse().rollout.clone(),
                state: watch.state(),
                log_e: watch.log_e(),
                threshold: watch.fuse().threshold.get(),
                canary_requests: counts.canary_requests,
                canary_errors: counts.canary_errors,
                stable_errors: counts.stable_errors,
                errors_since_acknowledged: watch.errors_since_heard(),
            };
            if let Some(now) = acknowledged {
                watch.acknowledge(now);
            }
            report
        })
    }
}

impl Fuses {
    /// Gives each route that splits its traffic under a fuse that fuse: the one that it had, unless it is of another rollout.
    pub(super) fn wire(&self, compiled: &mut Compiled, now: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|id, _| compiled.routes.iter().any(|route| route.route.id == *id));
        for route in &mut compiled.routes {
            let Some(spec) = &route.route.fuse else { continue };
            let id = route.route.id.clone();
            let fuse = known.entry(id).or_insert_with(|| Arc::new(Fused::new(spec, now)));
            if fuse.lock().watch.fuse().rollout != spec.fuse.rollout {
                *fuse = Arc::new(Fused::new(spec, now));
            }
            let Some(canary) = route.targets.iter().position(|target| *target.node == spec.fuse.canary) else {
                continue;
            };
            let share = route.targets[canary].share;
            // At 0 there is nothing to take out, and at 100 nothing that could take its place.
            if share <= 0.0 || share >= 1.0 {
                continue;
            }
            fuse.arm(spec, route.route.version, share, now);
            let mut others = route.weights.clone();
            others[canary] = 0;
            route.fuse = Some(Box::new(Wired { fuse: Arc::clone(fuse), canary, others, cell: compiled.fused }));
            compiled.fused += 1;
        }
    }
}

/// How the fuses of a snapshot stand; with a time they are acknowledged.
pub(super) fn reports(compiled: &Compiled, acknowledged: Option<Duration>) -> Vec<FuseReport> {
    let mut all: BTreeMap<&RouteRef, FuseReport> = BTreeMap::new();
    // A route of several services is one.
    for (route, wired) in compiled.routes.iter().filter_map(|route| Some((&route.route, route.fuse.as_ref()?))) {
        all.entry(&route.id).or_insert_with(|| wired.fuse.report(&route.id, route.version, acknowledged));
    }
    all.into_values().take(FUSES_MAX).collect()
}

/// Lets time pass for the fuses of a snapshot.
pub(super) fn sweep(compiled: &Compiled, now: Duration) {
    for wired in compiled.routes.iter().filter_map(|route| route.fuse.as_ref()) {
        wired.fuse.with(|seen| seen.watch.pass_time(now, seen.lapses_after));
    }
}

impl CompiledRoute {
    /// A judged request to this target failed.
    pub(super) fn note_failed(&self, target: usize) {
        if let Some(wired) = &self.fuse {
            wired.fuse.failed(self.route.version, self.targets[wired.canary].share, target == wired.canary);
        }
    }
}

impl Wired {
    /// The target that a draw leads to past the fuse, and whether the request is kept from the judge: while the fuse is open no
    /// coin is tossed, so every request of the route is.
    pub(super) fn place(
        &self,
        (worker, local): (&Worker, &Local),
        route: &CompiledRoute,
        target: usize,
        draw: u64,
    ) -> (usize, bool) {
        if self.fuse.is_open() {
            // The draw is one of those that fall on the canary: spread anew.
            let instead = || pick(mixed(draw), &self.others).unwrap_or(target);
            return (if target == self.canary { instead() } else { target }, true);
        }
        if target == self.canary {
            let counter = || self.fuse.counter(route.route.version, std::ptr::from_ref(&*worker.view).addr());
            let counter = local.begun[self.cell].get_or_init(counter);
            // Its only writer: no locked instruction.
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        (target, false)
    }
}
