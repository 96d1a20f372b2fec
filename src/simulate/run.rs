//! One rollout through simulated traffic, under our engine or under the rule of another system.

use super::chance::Chance;
use super::engine::{Before, Engine, Standing};
use super::world::{Passed, Scene, Traffic};
use crate::base::histogram::Histogram;
use crate::base::time::Timestamp;
use crate::base::weight::Percent;
use crate::judge::Counts;
use crate::judge::bounds::slower_than;
use crate::judge::reference::{Decision, Peer, SLICE_S, Slice};
use crate::policy::plan::{GateRule, Moment, Plan};
use crate::rollout::event::{ComparedBy, Latency, SlowCounts, TimingAsk, VersionCounts};
use std::collections::{BTreeMap, VecDeque};

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The release got all the traffic and kept it.
    Promoted,
    /// A verdict took all traffic off it.
    RolledBack,
    /// It ran out of time: a step's longest stay with `on_inconclusive: rollback`, or `max_total`.
    GaveUp,
    /// The blast radius was spent: weight 0, and a person decides.
    BudgetSpent,
    /// Still at a step when the simulation ended.
    Undecided,
}

/// What one rollout came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// When, in seconds after its start; of a promoted one when it got all the traffic.
    pub at_s: f64,
    /// Requests of users that failed on the canary until then.
    pub failed: u64,
    /// Requests that the canary got until then.
    pub requests: u64,
}

/// How a simulation goes through time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Seconds between two readings. The daemon reads once a second.
    pub tick_s: f64,
    /// Given up after so many seconds.
    pub horizon_s: f64,
}

impl Default for Pace {
    /// As the daemon reads, and six hours: longer than a working day's patience.
    fn default() -> Self {
        Self { tick_s: 1.0, horizon_s: 6.0 * 3600.0 }
    }
}

/// Counts of one version of the weights since it was written.
#[derive(Debug, Clone)]
struct Cumulative {
    version: u64,
    weight: u8,
    counts: Counts,
    canary: Histogram,
    stable: Histogram,
}

impl Cumulative {
    fn new(version: u64, weight: u8) -> Self {
        let (counts, canary, stable) = Default::default();
        Self { version, weight, counts, canary, stable }
    }

    fn add(&mut self, passed: &Passed) {
        self.counts.add(&passed.counts);
        passed.canary_latency.iter().for_each(|latency| self.canary.merge(latency));
        passed.stable_latency.iter().for_each(|latency| self.stable.merge(latency));
    }

    /// As a proxy would tell it.
    fn told(&self, ask: &TimingAsk, in_sessions: bool) -> VersionCounts {
        let mut told = VersionCounts::new(self.version, u32::from(self.weight) * 10_000, self.counts);
        told.in_sessions = in_sessions;
        let is_timed = self.canary.counts().iter().chain(self.stable.counts()).any(|count| *count > 0);
        if !is_timed {
            return told;
        }
        told.latency = ask.compared.map(|compared| match compared {
            ComparedBy::Collecting => Latency::Baseline(self.stable.clone()),
            ComparedBy::Thresholds(thresholds) => Latency::Counts(thresholds.counts(&self.canary, &self.stable)),
        });
        let slower = |bound_us: &u64| SlowCounts {
            bound_us: *bound_us,
            counts: Counts {
                canary_requests: self.canary.total(),
                canary_errors: slower_than(&self.canary, Some(*bound_us)),
                stable_requests: self.stable.total(),
                stable_errors: slower_than(&self.stable, Some(*bound_us)),
            },
        };
        told.slower = ask.bounds_us.iter().map(slower).collect();
        told
    }
}

/// Counts on their way to the controller.
struct Wire {
    period_s: f64,
    lag_s: f64,
    /// What changed in the present period, by version.
    open: BTreeMap<u64, Cumulative>,
    period_ends_s: f64,
    /// When, and what.
    sent: VecDeque<(f64, Vec<Cumulative>)>,
}

impl Wire {
    fn new(scene: &Scene) -> Self {
        let reporting = scene.world().reporting;
        let (open, sent) = Default::default();
        Self { period_s: reporting.period_s, lag_s: reporting.lag_s, open, period_ends_s: reporting.period_s, sent }
    }

    fn put(&mut self, now_s: f64, cumulative: &Cumulative) {
        self.open.insert(cumulative.version, cumulative.clone());
        if now_s + 1e-9 >= self.period_ends_s {
            self.period_ends_s = now_s + self.period_s;
            self.sent.push_back((now_s + self.lag_s, std::mem::take(&mut self.open).into_values().collect()));
        }
    }

    fn arrived(&mut self, now_s: f64) -> Vec<Cumulative> {
        let mut all = Vec::new();
        while self.sent.front().is_some_and(|(at_s, _)| *at_s <= now_s + 1e-9) {
            all.extend(self.sent.pop_front().into_iter().flat_map(|(_, counts)| counts));
        }
        all
    }
}

/// One rollout of a plan that [`super::engine::prepared`] made. The same chance gives the same run.
#[must_use]
pub fn one(plan: &Plan, scene: &Scene, pace: Pace, mut chance: Chance) -> Run {
    let at = |now_s: f64| Timestamp((now_s * 1000.0).round() as i64);
    let mut run = Run { end: End::Undecided, at_s: 0.0, failed: 0, requests: 0 };
    let before = Before { baseline: scene.baseline(&mut chance), past: scene.past(&mut chance) };
    let Ok(mut engine) = Engine::begin(plan, at(0.0), 1, before) else { return run };
    engine.observe(at(0.0), Vec::new(), Vec::new());
    let acts_when_full = plan.gates.iter().any(|gate| {
        let is_limit = matches!(gate.rule, GateRule::ErrorRateLimit { .. } | GateRule::LatencyLimit { .. });
        is_limit && !gate.dry_run && gate.acts(Moment::At(Percent::FULL))
    });
    let in_sessions = scene.world().sessions.is_some();
    let (mut traffic, mut wire) = (Traffic::new(scene, chance), Wire::new(scene));
    let mut current = Cumulative::new(engine.version(), engine.weight());
    let mut promoted: Option<Run> = None;
    for tick in 1.. {
        let now_s = f64::from(tick) * pace.tick_s;
        let passed = traffic.pass(f64::from(current.weight) / 100.0, pace.tick_s);
        current.add(&passed);
        run.at_s = now_s;
        run.failed += passed.canary_failed;
        run.requests += passed.counts.canary_requests;
        wire.put(now_s, &current);
        let ask = engine.state().evidence.timing.ask(plan);
        let told = wire.arrived(now_s).iter().map(|counts| counts.told(&ask, in_sessions)).collect();
        engine.observe(at(now_s), told, Vec::new());
        engine.resume_when_recovered(at(now_s));
        if engine.version() != current.version {
            current = Cumulative::new(engine.version(), engine.weight());
        }
        let end = match engine.standing() {
            Standing::Failed => End::RolledBack,
            Standing::GaveUp => End::GaveUp,
            Standing::BudgetSpent => End::BudgetSpent,
            Standing::Full => {
                promoted.get_or_insert(Run { end: End::Promoted, ..run });
                if acts_when_full && !engine.is_settled() {
                    continue;
                }
                return promoted.unwrap_or(run);
            }
            Standing::Going | Standing::BothFailed if now_s >= pace.horizon_s => End::Undecided,
            Standing::Going | Standing::BothFailed => continue,
        };
        return Run { end, ..run };
    }
    run
}

/// One rollout under another system's rule.
#[must_use]
pub fn under(peer: Peer, scene: &Scene, chance: Chance) -> Run {
    let mut rule = peer.rule();
    let mut traffic = Traffic::new(scene, chance);
    let mut run = Run { end: End::Undecided, at_s: 0.0, failed: 0, requests: 0 };
    loop {
        let passed = traffic.pass(f64::from(rule.weight()) / 100.0, f64::from(SLICE_S));
        run.at_s += f64::from(SLICE_S);
        run.failed += passed.canary_failed;
        run.requests += passed.counts.canary_requests;
        let slice = Slice { counts: passed.counts, canary_latency: passed.canary_latency };
        match rule.take(&slice) {
            Some(Decision::Promoted) => return Run { end: End::Promoted, ..run },
            Some(Decision::RolledBack) => return Run { end: End::RolledBack, ..run },
            None => {}
        }
    }
}
