//! Fuses on a request's way. A route without one costs a look at an `Option`; with one a draw costs one relaxed load, and one
//! of the canary an addition to a counter that no other thread writes. Only a request that failed takes the fuse's lock.
//!
//! A fuse is one for all workers, and outlives snapshots and versions of weights: a route keeps it for as long as its rollout
//! is the same, also while nothing is split.

use super::config::{Compiled, CompiledRoute};
use super::fuse::Watch;
use super::session::mixed;
use super::shared::WorkerView;
use super::split::pick;
use super::tripped::Tripped;
use super::worker::{Local, Worker};
use crate::base::fuse::RouteFuse;
use crate::base::ids::RouteRef;
use crate::base::tally::{Acknowledges, FUSES_MAX, FuseReport, FuseState};
use crate::judge::Counts;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Versions of weights of which requests may still be begun, by workers that are at an older snapshot.
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

impl Seen {
    /// Charges what was begun since: requests that do not fail pay as they come. Were they charged with the next failure, a
    /// good hour would be held against the controller's last look and against the evidence that begins with the failure.
    fn settle(&mut self) {
        for begun in &mut self.weights {
            let canary_requests = begun.news();
            if canary_requests > 0 {
                self.watch.take(begun.share, &Counts { canary_requests, ..Counts::default() });
            }
        }
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
    fn failed(&self, share: f64, is_canary: bool) {
        self.with(|seen| {
            seen.settle();
            let (canary_errors, stable_errors) = if is_canary { (1, 0) } else { (0, 1) };
            seen.watch.take(share, &Counts { canary_errors, stable_errors, ..Counts::default() });
        });
    }

    /// Lets time pass.
    fn pass_time(&self, now: Duration) {
        self.with(|seen| {
            seen.settle();
            seen.watch.pass_time(now, seen.lapses_after);
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
            seen.settle();
            seen.watch.rearm(&spec.fuse, now);
            seen.lapses_after = spec.lapses_after.map(crate::base::time::Millis::duration);
            if seen.weights.iter().any(|begun| begun.version == version) {
                return;
            }
            seen.watch.new_weights(now);
            if seen.weights.len() >= VERSIONS_KEPT {
                seen.weights.remove(0);
            }
            seen.weights.push(Begun { version, share, counters: Vec::new(), known: 0 });
        });
    }

    fn report(&self, route: &RouteRef, version: u64, acknowledged: Option<Duration>) -> FuseReport {
        self.with(|seen| {
            seen.settle();
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
    /// Those that tripped.
    pub(super) fn tripped(&self) -> Vec<Tripped> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(route, fuse): (&RouteRef, &Arc<Fused>)| {
            let seen = fuse.lock();
            let watch = &seen.watch;
            (watch.state() == FuseState::Tripped).then(|| Tripped {
                route: route.clone(),
                fuse: watch.fuse().clone(),
                log_e: watch.log_e(),
                counts: *watch.counts(),
                errors_since_heard: watch.errors_since_heard(),
            })
        };
        known.iter().filter_map(of).collect()
    }

    /// Takes over those that tripped in the process before this one. A route that is under another rollout by now, or under none
    /// of which this process knows, keeps what it has: the weights that a fuse belongs to come with the configuration.
    pub(super) fn inherit(&self, tripped: Vec<Tripped>, now: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Tripped { route, fuse, log_e, counts, errors_since_heard } in tripped {
            let spec = RouteFuse { fuse, lapses_after: None };
            let fused = known.entry(route).or_insert_with(|| Arc::new(Fused::new(&spec, now)));
            fused.with(|seen| {
                if seen.watch.fuse().rollout == spec.fuse.rollout {
                    seen.watch.inherit_trip(log_e, counts, errors_since_heard);
                }
            });
        }
    }

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

/// How the fuses of a snapshot stand; these are acknowledged.
pub(super) fn reports(compiled: &Compiled, acknowledges: Acknowledges<'_>, now: Duration) -> Vec<FuseReport> {
    let mut all: BTreeMap<&RouteRef, FuseReport> = BTreeMap::new();
    // A route of several services is one.
    for (route, wired) in compiled.routes.iter().filter_map(|route| Some((&route.route, route.fuse.as_ref()?))) {
        let acknowledged = || acknowledges.is_for(&route.id).then_some(now);
        all.entry(&route.id).or_insert_with(|| wired.fuse.report(&route.id, route.version, acknowledged()));
    }
    all.into_values().take(FUSES_MAX).collect()
}

/// Lets time pass for the fuses of a snapshot.
pub(super) fn sweep(compiled: &Compiled, now: Duration) {
    for wired in compiled.routes.iter().filter_map(|route| route.fuse.as_ref()) {
        wired.fuse.pass_time(now);
    }
}

impl CompiledRoute {
    /// A request of a session is judged by its outcome. The fuse is told of no other: neither that it failed nor that it was.
    pub(super) fn note_judged(&self, (view, local): (&WorkerView, &Local), target: usize) {
        if let Some(wired) = self.fuse.as_ref().filter(|wired| wired.canary == target) {
            wired.charge(view, local, self.route.version);
        }
    }

    /// A judged request to this target failed.
    pub(super) fn note_failed(&self, target: usize) {
        if let Some(wired) = &self.fuse {
            wired.fuse.failed(self.targets[wired.canary].share, target == wired.canary);
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
        let placed = self.place_session(target, draw);
        if placed == (self.canary, false) {
            self.charge(&worker.view, local, route.route.version);
        }
        placed
    }

    /// The same for a request of a session, which is charged with its outcome where that is one that is judged.
    pub(super) fn place_session(&self, target: usize, draw: u64) -> (usize, bool) {
        if !self.fuse.is_open() {
            return (target, false);
        }
        // The draw is one of those that fall on the canary: spread anew.
        let instead = || pick(mixed(draw), &self.others).unwrap_or(target);
        (if target == self.canary { instead() } else { target }, true)
    }

    /// One more request of the canary.
    fn charge(&self, view: &WorkerView, local: &Local, version: u64) {
        let counter = || self.fuse.counter(version, std::ptr::from_ref(view).addr());
        let counter = local.begun[self.cell].get_or_init(counter);
        // Its only writer: no locked instruction.
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fuse::{Decimal, Fuse};
    use crate::base::time::Millis;

    const SECOND: Duration = Duration::from_secs(1);

    fn armed(failures: u32, threshold: f64) -> Fused {
        let fuse = Fuse {
            failures,
            canary: "v2".into(),
            rollout: "r".into(),
            threshold: Decimal::at_least(threshold),
            ratio: Decimal::whole(1),
            add: Decimal::at_least(0.001),
        };
        let spec = RouteFuse { fuse, lapses_after: Some(Millis::from_seconds(60)) };
        let fused = Fused::new(&spec, Duration::ZERO);
        fused.arm(&spec, 1, 0.1, Duration::ZERO);
        fused
    }

    fn begin(counter: &AtomicU64, requests: u64) {
        counter.store(counter.load(Ordering::Relaxed) + requests, Ordering::Relaxed);
    }

    /// Failures of a canary that turns dead after ten good minutes of 50 requests a second, until the fuse opens.
    fn dead_after_a_good_while(fused: &Fused, id: &RouteRef) -> (u64, FuseState) {
        let counter = fused.counter(1, 0);
        for second in 1..=600 {
            begin(&counter, 50);
            fused.pass_time(SECOND * second);
            fused.report(id, 1, Some(SECOND * second));
        }
        let failed = (1..=1000).find(|_| {
            begin(&counter, 1);
            fused.failed(0.1, true);
            fused.is_open()
        });
        (failed.expect("it opens"), fused.report(id, 1, None).state)
    }

    #[test]
    fn a_good_while_is_not_held_against_what_fails_after_it() {
        let id = RouteRef { mesh: "m".into(), router: "r".into(), route: "all".into() };
        assert_eq!(dead_after_a_good_while(&armed(5, 1000.0), &id), (6, FuseState::Held));
        let (failed, state) = dead_after_a_good_while(&armed(1000, 5.73), &id);
        assert_eq!(state, FuseState::Tripped);
        assert!(failed <= 10, "{failed}");
    }

    #[test]
    fn what_tripped_stays_so_in_the_next_process() {
        let id = RouteRef { mesh: "m".into(), router: "r".into(), route: "all".into() };
        let own = |fused| Fuses(Mutex::new([(id.clone(), Arc::new(fused))].into()));
        let before = own(armed(1000, 5.73));
        let fused = |fuses: &Fuses| Arc::clone(&fuses.0.lock().unwrap()[&id]);
        assert_eq!(before.tripped(), []);
        dead_after_a_good_while(&fused(&before), &id);
        let tripped = before.tripped();
        assert_eq!(tripped.len(), 1);
        let told = fused(&before).report(&id, 1, None);
        // It has the configuration already, or gets it later, or has a newer rollout's.
        let (serving, empty) = (own(armed(1000, 5.73)), Fuses::default());
        let newer = armed(1000, 5.73);
        newer.lock().watch =
            Watch::new(&crate::base::fuse::Fuse { rollout: "r2".into(), ..tripped[0].fuse.clone() }, SECOND);
        let newer = own(newer);
        for after in [&serving, &empty, &newer] {
            after.inherit(tripped.clone(), SECOND);
        }
        for after in [&serving, &empty] {
            assert_eq!(after.tripped(), tripped);
            assert!(fused(after).is_open());
            // What fails on is charged to nobody.
            fused(after).failed(0.1, true);
            assert_eq!(fused(after).report(&id, 1, Some(SECOND)), told);
            assert!(fused(after).is_open());
        }
        assert!(!fused(&newer).is_open());
    }

    #[test]
    fn every_request_is_charged_once_under_its_own_weights() {
        let id = RouteRef { mesh: "m".into(), router: "r".into(), route: "all".into() };
        let fused = armed(5, 1000.0);
        let [first, second] = [fused.counter(1, 0), fused.counter(1, 1)];
        begin(&first, 3);
        begin(&second, 4);
        let report = fused.report(&id, 1, None);
        assert_eq!((report.canary_requests, report.canary_errors), (7, 0));
        begin(&second, 1);
        fused.failed(0.1, false);
        let report = fused.report(&id, 1, None);
        assert_eq!((report.canary_requests, report.canary_errors, report.stable_errors), (8, 0, 1));
    }
}
