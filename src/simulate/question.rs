//! `policy simulate`: one policy in one world, beside other systems' rules and beside what is possible.

use super::chance::Chance;
use super::engine::prepared;
use super::run::{Pace, Run, one, under};
use super::summary::Summary;
use super::world::{Scene, World};
use crate::judge::reference::{Peer, oracle};
use crate::policy::plan::{Plan, Step};
use serde::Serialize;

/// Courses of events of which the limits' means are taken: their standard error is then about a hundredth.
const ORACLE_RUNS: u64 = 4000;
/// Under other systems' rules go so many times fewer rollouts than under the policy, and at least [`PEER_RUNS_LEAST`]:
/// a rollout under Kayenta's takes an hour of simulated time.
const PEER_RUNS_FEWER: u64 = 5;
/// Their standard error is then about a seventh of a rollout's own spread.
const PEER_RUNS_LEAST: u64 = 50;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    plan: Plan,
    left_out: Vec<String>,
    healthy: Scene,
    /// `None` where the release is no worse than stable.
    bad: Option<Scene>,
    pace: Pace,
    seed: u64,
    runs: u64,
}

/// Who decides about a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// The policy.
    Policy,
    /// Another system.
    Peer(Peer),
}

/// A series of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Who decides.
    pub judge: Judge,
    /// Whether the release is the bad one.
    pub is_bad: bool,
    /// How many.
    pub runs: u64,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The policy's name.
    pub policy: String,
    /// The world, with the bad release.
    pub world: World,
    /// The seed that gives this answer again.
    pub seed: u64,
    /// What the policy has and the simulation has not, in sentences.
    pub left_out: Vec<String>,
    /// The policy first, then the others.
    pub rules: Vec<RuleAnswer>,
    /// What is possible; absent where errors do not tell the two versions apart.
    pub limits: Option<Limits>,
}

/// What one rule comes to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleAnswer {
    /// Its name.
    pub name: String,
    /// With a release that is no worse than stable: what it rolls back is a mistake.
    pub healthy: Summary,
    /// With the bad one; absent where none was asked for.
    pub bad: Option<Summary>,
    /// Failed requests of the bad release divided by the policy's.
    pub times_the_policy: Option<f64>,
}

/// Failures after which a test decides that is told both error rates (Wald).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// By every request of the canary: the limit for anyone.
    pub informed: f64,
    /// By which version errors fall on at the first step's weight: the limit for what an incident cannot mislead.
    pub of_labels: f64,
    /// The policy's failed requests divided by the first.
    pub times_informed: f64,
    /// And by the second.
    pub times_of_labels: f64,
}

impl Question {
    /// About a policy.
    ///
    /// # Errors
    /// Why there is nothing to simulate.
    pub fn new(plan: &Plan, world: World, pace: Pace, seed: u64, runs: u64) -> Result<Self, String> {
        let (prepared, left_out) = prepared(plan);
        if prepared.gates.iter().all(|gate| gate.dry_run) {
            return Err(format!(
                "no gate of policy `{}` decides by requests, so nothing can be simulated: add one such as \
                 {{ name: errors, metric: error_rate, compare: stable }}",
                plan.name
            ));
        }
        let bad = (world.canary != world.stable).then(|| Scene::new(world));
        Ok(Self {
            plan: prepared,
            left_out,
            healthy: Scene::new(world.with_healthy_canary()),
            bad,
            pace,
            seed,
            runs: runs.max(1),
        })
    }

    /// What has to be run, the policy first.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        let judges = std::iter::once(Judge::Policy).chain(Peer::ALL.map(Judge::Peer));
        let fewer = (self.runs / PEER_RUNS_FEWER).max(PEER_RUNS_LEAST.min(self.runs));
        let releases: &[bool] = if self.bad.is_some() { &[false, true] } else { &[false] };
        let each = judges.flat_map(|judge| releases.iter().map(move |is_bad| (judge, *is_bad)));
        each.map(|(judge, is_bad)| {
            let runs = if judge == Judge::Policy { self.runs } else { fewer };
            Part { judge, is_bad, runs }
        })
        .collect()
    }

    /// One run of a part; the same number gives the same run.
    #[must_use]
    pub fn run(&self, part: &Part, number: u64) -> Run {
        let scene = if part.is_bad { self.bad.as_ref().unwrap_or(&self.healthy) } else { &self.healthy };
        let chance = Chance::of_run(self.seed, number);
        match part.judge {
            Judge::Policy => one(&self.plan, scene, self.pace, chance),
            Judge::Peer(peer) => under(peer, scene, chance),
        }
    }

    /// The answer, from the runs of every part.
    #[must_use]
    pub fn answer(&self, parts: &[(Part, Vec<Run>)]) -> Answer {
        let summary = |judge: Judge, is_bad: bool| {
            let part = parts.iter().find(|(part, _)| part.judge == judge && part.is_bad == is_bad);
            part.map(|(_, runs)| Summary::of(runs))
        };
        let own = summary(Judge::Policy, true).map(|summary| summary.mean_failed());
        let rules = std::iter::once(Judge::Policy).chain(Peer::ALL.map(Judge::Peer)).filter_map(|judge| {
            let bad = summary(judge, true);
            let failed = bad.as_ref().map(Summary::mean_failed).zip(own.filter(|own| *own > 0.0));
            Some(RuleAnswer {
                name: match judge {
                    Judge::Policy => "this policy".to_owned(),
                    Judge::Peer(peer) => peer.name().to_owned(),
                },
                healthy: summary(judge, false)?,
                bad,
                times_the_policy: failed.map(|(failed, own)| failed / own),
            })
        });
        let world = *self.bad.as_ref().unwrap_or(&self.healthy).world();
        Answer {
            policy: self.plan.name.clone(),
            world,
            seed: self.seed,
            left_out: self.left_out.clone(),
            rules: rules.collect(),
            limits: own.and_then(|own| self.limits(own, &world)),
        }
    }

    fn limits(&self, own: f64, world: &World) -> Option<Limits> {
        let first = self.plan.steps.iter().find_map(|step| match step {
            Step::Weight(step) => Some(step.weight.share()),
            Step::Approval(_) => None,
        })?;
        let (p0, p1, alpha) = (world.stable.errors, world.canary.errors, self.plan.max_false_rollback);
        let (informed, of_labels) = limits(first, p0, p1, alpha, self.seed)?;
        Some(Limits { informed, of_labels, times_informed: own / informed, times_of_labels: own / of_labels })
    }
}

/// Mean failures of both limits at a weight (a share) and error rates; `None` where there is nothing to find.
#[must_use]
pub fn limits(weight: f64, p0: f64, p1: f64, alpha: f64, seed: u64) -> Option<(f64, f64)> {
    let mut chance = Chance::of_run(seed, u64::MAX);
    let mut draw = || chance.uniform();
    let (mut informed, mut of_labels) = (0, 0);
    for _ in 0..ORACLE_RUNS {
        informed += oracle::informed(p0, p1, alpha, &mut draw)?;
        of_labels += oracle::of_labels(weight, p0, p1, alpha, &mut draw)?;
    }
    Some((informed as f64 / ORACLE_RUNS as f64, of_labels as f64 / ORACLE_RUNS as f64))
}
