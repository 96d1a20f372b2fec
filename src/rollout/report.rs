//! What each gate by itself says of a rollout, dry runs included. For people and programs that show it; what decides is
//! `gate::judge`, where the comparing gates have one bound together.

use super::gate::{Judgement, judge};
use super::state::State;
use crate::policy::plan::{Gate, GateRule, Plan};
use serde::{Deserialize, Serialize};

/// What one gate says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateView {
    /// Its name in the policy.
    pub name: String,
    /// Whether it only reports.
    pub dry_run: bool,
    /// What it comes to.
    pub verdict: GateVerdict,
    /// Evidence against the release for a gate that compares: 0 none, 1 would fail it if it were the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<f64>,
    /// In a sentence without a full stop.
    pub text: String,
}

/// What a gate comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateVerdict {
    /// Nothing against the release so far, which is no proof for it.
    Good,
    /// It fails the release, or would if it decided.
    Fails,
    /// Not known, or not known whose fault: the rollout stays where it is, or would.
    Holds,
}

/// Every gate of the plan, in its order.
#[must_use]
pub fn gate_views(plan: &Plan, state: &State) -> Vec<GateView> {
    plan.gates.iter().map(|gate| gate_view(plan, state, gate)).collect()
}

/// The gate as the only one of its plan, and deciding.
fn gate_view(plan: &Plan, state: &State, gate: &Gate) -> GateView {
    let alone = Plan { gates: vec![Gate { dry_run: false, ..gate.clone() }], ..plan.clone() };
    let Judgement { finding, thresholds, latency, limits, .. } = judge(&alone, state);
    let (verdict, against, text) = match (&gate.rule, limits.into_iter().next()) {
        (_, Some(limit)) => {
            let verdict = match limit.outcome {
                outcome if outcome.fails() => GateVerdict::Fails,
                outcome if outcome.holds() => GateVerdict::Holds,
                _ => GateVerdict::Good,
            };
            // The name stands beside it.
            let text = limit.sentence.strip_prefix(&format!("gate {}: ", gate.name)).map(str::to_owned);
            (verdict, None, text.unwrap_or(limit.sentence))
        }
        (rule, None) => {
            let against = (finding.worse_log_e / thresholds.rollback).clamp(0.0, 1.0);
            let fails = finding.worse_log_e >= thresholds.rollback;
            let text = match (rule, latency) {
                (GateRule::LatencyAgainstStable { .. }, Some(latency)) => latency.explain(fails),
                (GateRule::LatencyAgainstStable { .. }, None) => {
                    "stable's latencies are not known well enough yet".into()
                }
                _ => finding.seen(),
            };
            (if fails { GateVerdict::Fails } else { GateVerdict::Good }, Some(against), text)
        }
    };
    GateView { name: gate.name.clone(), dry_run: gate.dry_run, verdict, against, text }
}
