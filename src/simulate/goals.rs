//! What the judge is held to, measured: targets and figures side by side (`make bench-judge`, docs/JUDGE.md).
//!
//! Everything but the efficiency table goes through the real engine with compiled policies. The efficiency table feeds
//! the judge's evidence error by error, since it is about the test and not about how often anybody looks.

mod efficiency;
mod markdown;
mod more;
mod policies;
mod tables;

pub use markdown::{markdown, picture};
pub use more::More;

use super::chance::Chance;
use super::run::{Pace, Run, one, under};
use super::summary::Summary;
use super::world::{Incident, Scene, Sessions, Swings, World};
use crate::judge::reference::Peer;
use crate::policy::plan::Plan;
use efficiency::{Cell, cells};

/// How many runs are made of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Rollouts of a release that is no worse, in each world.
    pub healthy: u64,
    /// Rollouts of each bad release.
    pub bad: u64,
    /// The same under other systems' rules.
    pub peers: u64,
    /// Courses of events in each cell of the efficiency table.
    pub courses: u64,
    /// Rollouts of each figure of the further tables, the costly ones a part of them.
    pub more: u64,
}

impl Scale {
    /// What the documented figures are of.
    pub const FULL: Self = Self { healthy: 20_000, bad: 1000, peers: 200, courses: 4000, more: 1000 };
    /// What every test run can afford.
    pub const SMALL: Self = Self { healthy: 24, bad: 12, peers: 3, courses: 200, more: 3 };
}

/// Runs a function for each number below the first argument, on as many threads as there are, and keeps the order.
pub type Spread<'a> = &'a dyn Fn(u64, &(dyn Fn(u64) -> Run + Sync)) -> Vec<Run>;

/// A row of healthy rollouts.
#[derive(Debug, Clone, PartialEq)]
pub struct Healthy {
    /// The world in words.
    pub world: String,
    /// The policy in words.
    pub policy: &'static str,
    /// What they came to.
    pub summary: Summary,
}

/// A row of bad releases.
#[derive(Debug, Clone, PartialEq)]
pub struct Bad {
    /// Requests in a second.
    pub rate: f64,
    /// Stable's error rate.
    pub p0: f64,
    /// The canary's.
    pub p1: f64,
    /// From 10 %.
    pub from_ten: Summary,
    /// From 1 %.
    pub from_one: Summary,
    /// Under other systems' rules.
    pub peers: Vec<(Peer, Summary)>,
}

/// A row of evidence-paced rollouts.
#[derive(Debug, Clone, PartialEq)]
pub struct Paced {
    /// Requests in a second.
    pub rate: f64,
    /// Stable's error rate.
    pub p0: f64,
    /// Of a release that is no worse.
    pub healthy: Summary,
    /// Of one that fails five percentage points more.
    pub bad: Summary,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Goals {
    /// How many runs.
    pub scale: Scale,
    /// Against the limits.
    pub efficiency: Vec<Cell>,
    /// Against mistakes.
    pub healthy: Vec<Healthy>,
    /// Against other systems.
    pub bad: Vec<Bad>,
    /// Against the clock.
    pub paced: Vec<Paced>,
    /// A dead canary at 1 % of 500 requests in a second, looked at once a second and a hundred times a second.
    pub dead: [Summary; 2],
    /// What else may be asked.
    pub more: More,
}

/// Measures everything. The same scale gives the same figures.
#[must_use]
pub fn measure(scale: Scale, spread: Spread<'_>) -> Goals {
    Goals {
        scale,
        efficiency: cells(scale.courses),
        healthy: healthy(scale, spread),
        bad: bad(scale, spread),
        paced: paced(scale, spread),
        dead: dead(scale, spread),
        more: more::more(scale, spread),
    }
}

/// Summary of so many rollouts of a plan in a world.
fn summary(plan: &Plan, world: World, pace: Pace, runs: u64, spread: Spread<'_>) -> Summary {
    let scene = Scene::new(world);
    Summary::of(&spread(runs, &|run| one(plan, &scene, pace, Chance::of_run(1, run))))
}

/// Says that what the daemon measured on two of stable's endpoints was allowed for.
const MEASURED: &str = "from 10 %, noise measured";

/// Worlds in which a release that is no worse must not be blamed.
fn healthy(scale: Scale, spread: Spread<'_>) -> Vec<Healthy> {
    let [ramp, from_one] = [policies::ramp(), policies::ramp_from_one()];
    let alone = |rate, errors| World::healthy(rate, errors);
    let incident = Some(Incident { errors: 0.05, from_s: 60.0, to_s: 240.0 });
    let swings = |cv, private| Some(Swings { cv, private });
    let once = Some(Sessions { requests: 10, judged_once: true });
    let worlds: [(&str, World, (&'static str, &Plan)); 9] = [
        ("independent, 50/s, 0.1 %", alone(50.0, 0.001), ("from 10 %", &ramp)),
        ("independent, 50/s, 1 %", alone(50.0, 0.01), ("from 10 %", &ramp)),
        ("independent, 50/s, 1 %", alone(50.0, 0.01), ("from 1 %", &from_one)),
        ("independent, 500/s, 1 %", alone(500.0, 0.01), ("from 10 %", &ramp)),
        ("incident of both, 5 % for 3m, 500/s, 0.1 %", World { incident, ..alone(500.0, 0.001) }, ("from 10 %", &ramp)),
        (
            "swings of both, CV 1.5, 50/s, 1 %",
            World { swings: swings(1.5, false), ..alone(50.0, 0.01) },
            ("from 10 %", &ramp),
        ),
        (
            "sessions of 10 judged once, 500/s, 1 %",
            World { sessions: once, ..alone(500.0, 0.01) },
            ("from 10 %", &ramp),
        ),
        (
            "swings of each, CV 0.5, 50/s, 1 %",
            World { swings: swings(0.5, true), endpoints: 2, ..alone(50.0, 0.01) },
            (MEASURED, &ramp),
        ),
        (
            "swings of each, CV 0.5, 500/s, 1 %",
            World { swings: swings(0.5, true), endpoints: 2, ..alone(500.0, 0.01) },
            (MEASURED, &ramp),
        ),
    ];
    let rows = worlds.into_iter().map(|(name, world, (policy, plan))| Healthy {
        world: name.to_owned(),
        policy,
        summary: summary(plan, world, Pace::default(), scale.healthy, spread),
    });
    rows.collect()
}

/// Bad releases beside other systems' rules.
fn bad(scale: Scale, spread: Spread<'_>) -> Vec<Bad> {
    let (ramp, from_one) = (policies::ramp(), policies::ramp_from_one());
    let worlds = [50.0, 500.0].into_iter().flat_map(|rate| [0.02, 0.05, 0.2, 1.0].map(move |p1| (rate, 0.001, p1)));
    worlds
        .map(|(rate, p0, p1)| {
            let world = World::healthy(rate, p0).with_canary_errors(p1);
            let scene = Scene::new(world);
            let of = |peer: Peer| Summary::of(&spread(scale.peers, &|run| under(peer, &scene, Chance::of_run(1, run))));
            Bad {
                rate,
                p0,
                p1,
                from_ten: summary(&ramp, world, Pace::default(), scale.bad, spread),
                from_one: summary(&from_one, world, Pace::default(), scale.bad, spread),
                peers: Peer::ALL.map(|peer| (peer, of(peer))).into(),
            }
        })
        .collect()
}

/// Steps as fast as the proof allows.
fn paced(scale: Scale, spread: Spread<'_>) -> Vec<Paced> {
    let plan = policies::paced();
    let worlds = [5.0, 50.0, 500.0].into_iter().flat_map(|rate| [0.000_1, 0.001, 0.01].map(move |p0| (rate, p0)));
    worlds
        .map(|(rate, p0)| {
            let world = World::healthy(rate, p0);
            let of = |world| summary(&plan, world, Pace::default(), scale.bad, spread);
            Paced { rate, p0, healthy: of(world), bad: of(world.with_canary_errors(p0 + 0.05)) }
        })
        .collect()
}

fn dead(scale: Scale, spread: Spread<'_>) -> [Summary; 2] {
    let plan = policies::ramp_from_one();
    let world = World::healthy(500.0, 0.001).with_canary_errors(1.0);
    [1.0, 0.01].map(|tick_s| summary(&plan, world, Pace { tick_s, horizon_s: 60.0 }, scale.bad, spread))
}

/// One line of the table of goals.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// What.
    pub goal: &'static str,
    /// How much at most or at least.
    pub target: &'static str,
    /// What it is.
    pub measured: String,
    /// Whether that is enough.
    pub met: bool,
}

impl Goals {
    /// The table of goals.
    #[must_use]
    pub fn table(&self) -> Vec<Goal> {
        let [dead_second, dead_fast] = self.dead.map(|summary| summary.mean_failed());
        let worst = |rows: &[&Healthy]| {
            rows.iter()
                .map(|row| row.summary.rolled_back)
                .fold((0.0_f64, 0.0_f64), |(share, high), portion| (share.max(portion.share), high.max(portion.high)))
        };
        let (noisy, quiet): (Vec<&Healthy>, Vec<&Healthy>) =
            self.healthy.iter().partition(|row| row.policy == MEASURED);
        let mistakes = |goal, (share, high): (f64, f64)| Goal {
            goal,
            target: "<= 1 %",
            measured: format!("{:.2} % at worst, {:.2} % with its interval", share * 100.0, high * 100.0),
            met: share <= 0.01,
        };
        let mut table: Vec<Goal> = self.efficiency_goals().into();
        table.extend([
            at_most(
                "failed requests of a dead canary at 1 % of 500/s, looked at once a second",
                "<= 6",
                dead_second,
                6.0,
            ),
            at_most("the same, looked at a hundred times a second", "<= 3", dead_fast, 3.0),
            self.peers_goal(),
            mistakes(
                "false rollbacks of rollouts, independent errors, incidents, swings of both, sessions",
                worst(&quiet),
            ),
            mistakes(
                "false rollbacks with swings of each up to CV 0.5, v measured on two endpoints and ratio 1.2",
                worst(&noisy),
            ),
            self.time_goal("seconds to all the traffic at 500/s and up to 0.1 %", "< 60", 500.0, 60.0),
            self.time_goal("the same at 50/s", "< 300", 50.0, 300.0),
        ]);
        let escaped: u64 = self.paced.iter().map(|row| row.bad.promoted.runs).sum();
        let runs: u64 = self.paced.iter().map(|row| row.bad.runs).sum();
        table.push(Goal {
            goal: "releases that fail 5 points more and are promoted, steps paced by evidence",
            target: "0",
            measured: format!("{escaped} of {runs}"),
            met: escaped == 0,
        });
        table
    }

    fn efficiency_goals(&self) -> [Goal; 3] {
        let most = |weight: Option<f64>, ratio: fn(&Cell) -> f64| {
            let cells = self.efficiency.iter().filter(|cell| match weight {
                // Effects from twice to fifty times as bad.
                Some(weight) => cell.weight == weight && cell.p1 <= 0.05,
                None => true,
            });
            cells.map(ratio).fold(0.0, f64::max)
        };
        [
            at_most(
                "failed requests at rollback by Wald's, twice to 50 times as bad, at 1 %",
                "<= 1.5",
                most(Some(0.01), Cell::times_informed),
                1.5,
            ),
            at_most("the same at 10 %", "<= 1.8", most(Some(0.1), Cell::times_informed), 1.8),
            at_most(
                "failed requests at rollback by those of the best test of labels, all weights and effects",
                "<= 1.4",
                most(None, Cell::times_of_labels),
                1.4,
            ),
        ]
    }

    /// Flagger, Argo Rollouts and CodeDeploy by their documentation's settings; Kayenta's are worse in every row.
    fn peers_goal(&self) -> Goal {
        let named = [Peer::Flagger5, Peer::Argo1m95, Peer::CodeDeployCanary1];
        let rows = self.bad.iter().filter(|row| row.p1 >= 0.05);
        let least = rows.flat_map(|row| {
            let peers = row.peers.iter().filter(|(peer, _)| named.contains(peer));
            peers.map(|(_, summary)| summary.mean_failed() / row.from_ten.mean_failed())
        });
        let least = least.fold(f64::INFINITY, f64::min);
        Goal {
            goal: "times fewer failed requests than Flagger, Argo Rollouts and CodeDeploy, from 50/s and 5 %, starting at 10 %",
            target: ">= 10",
            measured: format!("{least:.1} at worst"),
            met: least >= 10.0,
        }
    }

    fn time_goal(&self, goal: &'static str, target: &'static str, rate: f64, most_s: f64) -> Goal {
        let rows = self.paced.iter().filter(|row| row.rate == rate && row.p0 <= 0.001);
        let slowest = rows.filter_map(|row| row.healthy.promote_s).map(|spread| spread.mean).fold(0.0, f64::max);
        Goal { goal, target, measured: format!("{slowest:.0}"), met: slowest > 0.0 && slowest < most_s }
    }
}

fn at_most(goal: &'static str, target: &'static str, measured: f64, most: f64) -> Goal {
    Goal { goal, target, measured: format!("{measured:.2}"), met: measured <= most }
}

#[cfg(test)]
mod tests;
