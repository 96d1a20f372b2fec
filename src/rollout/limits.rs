//! Absolute gates of a rollout: each share of events against its fixed limit, all blocks anew as for the comparison.
//!
//! Each keeps `max_false_rollback` by itself; the bound of the comparing gates does not cover them.

use super::gate::share;
use super::scope::deciding;
use super::state::State;
use super::timing::of_bound;
use crate::base::time::Millis;
use crate::base::weight::Percent;
use crate::judge::Counts;
use crate::judge::absolute::{AbsoluteGate, Limit, Outcome, quantile_limit};
use crate::judge::bounds::{snapped_down_us, snapped_up_us};
use crate::judge::verdict::{AbsoluteFinding, duration};
use crate::policy::plan::{Bound, Gate, GateRule, OnFailure, Plan};

/// What one absolute gate says now.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitVerdict {
    /// The gate's name.
    pub gate: String,
    /// What it comes to.
    pub outcome: Outcome,
    /// In a sentence without a full stop.
    pub sentence: String,
    /// What a person should be told although nothing is decided by it. The same text as long as it is the same trouble.
    pub page: Option<String>,
    /// Whether it is held because its source could not be asked.
    pub error: bool,
    /// What its failure does, where the gate says so.
    pub on_failure: Option<OnFailure>,
}

/// A gate's limit as it is tested.
struct Tested {
    limit: Limit,
    /// Bucket bound in microseconds by which requests count as slow; `None` for failures.
    bound_us: Option<u64>,
}

/// The bucket bound in microseconds at which a limit on latency is tested: moved in the direction that keeps the test
/// valid, by less than an eighth. `u64::MAX` above all bounds, where nothing counts as slow.
#[must_use]
pub fn tested_us(limit: Millis, bound: Bound) -> u64 {
    let limit_us = limit.0.saturating_mul(1000);
    match bound {
        Bound::Max => snapped_up_us(limit_us).unwrap_or(u64::MAX),
        Bound::Min => snapped_down_us(limit_us),
    }
}

/// Every bound at which the plan's gates need counts, rising.
#[must_use]
pub(super) fn bounds_us(plan: &Plan) -> Vec<u64> {
    let mut bounds: Vec<u64> = plan.gates.iter().filter_map(|gate| tested(gate)?.bound_us).collect();
    bounds.sort_unstable();
    bounds.dedup();
    bounds
}

fn tested(gate: &Gate) -> Option<Tested> {
    match gate.rule {
        GateRule::ErrorRateLimit { share, bound: Bound::Max } => {
            Some(Tested { limit: Limit::AtMost(share), bound_us: None })
        }
        GateRule::ErrorRateLimit { share, bound: Bound::Min } => {
            Some(Tested { limit: Limit::AtLeast(share), bound_us: None })
        }
        GateRule::LatencyLimit { quantile, limit, bound } => Some(Tested {
            limit: quantile_limit(quantile, bound == Bound::Max),
            bound_us: Some(tested_us(limit, bound)),
        }),
        GateRule::ErrorRateAgainstStable { .. }
        | GateRule::LatencyAgainstStable { .. }
        | GateRule::Health { .. }
        | GateRule::Signal(_) => None,
    }
}

/// What the absolute gates that decide now say, in the plan's order. `threshold` is the evidence needed, in nats.
pub(super) fn judge_limits(plan: &Plan, state: &State, threshold: f64) -> Vec<LimitVerdict> {
    deciding(plan, state).filter_map(|gate| judge_limit(gate, state, threshold)).collect()
}

/// What one gate with a limit says; `None` for any other.
pub(super) fn judge_limit(gate: &Gate, state: &State, threshold: f64) -> Option<LimitVerdict> {
    Some(judge_one(gate, &tested(gate)?, state, threshold))
}

/// What a gate with a limit has counted, slow requests as errors where it is about latency; `None` for any other.
pub(super) fn counted(gate: &Gate, state: &State) -> Option<Counts> {
    let bound_us = tested(gate)?.bound_us;
    let mut sum = Counts::default();
    let mut add = |share_ppm: u32, counts: &Counts| {
        if gate.counts_share(share_ppm) {
            sum.add(counts);
        }
    };
    for block in &state.evidence.blocks {
        match bound_us {
            None => block.by_share.iter().for_each(|(share_ppm, counts)| add(*share_ppm, counts)),
            Some(bound_us) => block
                .slower_by_share
                .iter()
                .for_each(|(share_ppm, slower)| add(*share_ppm, &of_bound(slower, bound_us))),
        }
    }
    Some(sum)
}

fn judge_one(gate: &Gate, tested: &Tested, state: &State, threshold: f64) -> LimitVerdict {
    let mut process = AbsoluteGate::new(tested.limit);
    let mut sum = Counts::default();
    for (index, block) in state.evidence.blocks.iter().enumerate() {
        if index > 0 {
            process.epoch();
        }
        // Every share at which it acts, also none and all: each arm is held against the limit by itself.
        let mut take = |share_ppm: u32, counts: &Counts| {
            if gate.counts_share(share_ppm) {
                process.batch(share(share_ppm), counts);
                sum.add(counts);
            }
        };
        match tested.bound_us {
            None => block.by_share.iter().for_each(|(share_ppm, counts)| take(*share_ppm, counts)),
            Some(bound_us) => block
                .slower_by_share
                .iter()
                .for_each(|(share_ppm, slower)| take(*share_ppm, &of_bound(slower, bound_us))),
        }
    }
    // With all the traffic nothing is left to compare with, and the limit alone decides.
    let outcome = process.outcome(threshold, state.wanted < Percent::FULL);
    let events = tested.bound_us.map_or_else(|| "failed".to_owned(), |us| format!("slower than {}", duration(us)));
    let finding = AbsoluteFinding {
        counts: sum,
        limit: tested.limit,
        events: &events,
        outcome,
        canary_log_e: process.canary_log_e(),
    };
    let sentence = format!("gate {}: {}", gate.name, finding.explain());
    let page = stable_is_beyond(&gate.name, outcome);
    LimitVerdict { gate: gate.name.clone(), outcome, sentence, page, error: false, on_failure: gate.on_failure }
}

/// What is told where stable itself is in trouble.
pub(super) fn stable_is_beyond(gate: &str, outcome: Outcome) -> Option<String> {
    let text = || format!("stable itself is beyond the limit of gate {gate}: held, not blamed on the release");
    outcome.pages().then(text)
}
