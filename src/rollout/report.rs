//! What each gate by itself says of a rollout, dry runs included. For people and programs that show it; what decides is
//! `gate::judge`, where the comparing gates have one bound together.

pub use super::figures::GateFigures;
use super::fuse;
use super::gate::{latency_evidence, latency_finding};
use super::limits::judge_limit;
use super::noise::Allowance;
use super::points::judge_point;
use super::scope::acts;
use super::state::State;
use super::unusable;
use crate::judge::rollback_threshold;
use crate::judge::verdict::seen;
use crate::policy::plan::{Gate, GateRule, Plan, listed};
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
    /// The numbers of both versions, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<GateFigures>,
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
    /// Its source could not be asked when it was last tried, or what it told cannot be judged by: the same, and a person may
    /// have to look.
    Error,
    /// It does not act where the rollout stands: it neither fails the release nor holds it.
    Idle,
}

/// Every gate of the plan, in its order.
#[must_use]
pub fn gate_views(plan: &Plan, state: &State) -> Vec<GateView> {
    plan.gates.iter().map(|gate| gate_view(plan, gate, state)).collect()
}

fn gate_view(plan: &Plan, gate: &Gate, state: &State) -> GateView {
    // Evidence that fails a gate, in nats. Those that compare share the bound with the proxies' fuses.
    let threshold = rollback_threshold(plan.max_false_rollback);
    let shared = rollback_threshold(fuse::max_false_rollback(plan, state));
    let figures = GateFigures::of(gate, state);
    let error = unusable::of_gate(plan, gate, state);
    let view = |verdict, against, text| {
        let (verdict, text) = match error {
            Some(error) if !matches!(verdict, GateVerdict::Fails | GateVerdict::Idle) => (GateVerdict::Error, error),
            Some(_) | None => (verdict, text),
        };
        GateView { name: gate.name.clone(), dry_run: gate.dry_run, verdict, against, text, figures }
    };
    if !acts(plan, state, gate) {
        return view(GateVerdict::Idle, None, format!("does not act now: it does {}", listed(gate.scopes())));
    }
    if let Some(limit) = judge_limit(gate, state, threshold).or_else(|| judge_point(gate, state)) {
        let verdict = match limit.outcome {
            outcome if outcome.fails() => GateVerdict::Fails,
            outcome if outcome.holds() && limit.error => GateVerdict::Error,
            outcome if outcome.holds() => GateVerdict::Holds,
            _ => GateVerdict::Good,
        };
        // The name stands beside it.
        let text = limit.sentence.strip_prefix(&format!("gate {}: ", gate.name)).map(str::to_owned);
        return view(verdict, None, text.unwrap_or(limit.sentence));
    }
    let (log_e, text) = compared(plan, gate, state, shared);
    let verdict = if log_e >= shared { GateVerdict::Fails } else { GateVerdict::Good };
    view(verdict, Some((log_e / shared).clamp(0.0, 1.0)), text)
}

/// Evidence of a comparing gate, in nats, and what was seen.
fn compared(plan: &Plan, gate: &Gate, state: &State, threshold: f64) -> (f64, String) {
    let GateRule::ErrorRateAgainstStable { ratio, add } = gate.rule else {
        let process = latency_evidence(&state.evidence, gate);
        let log_e = process.log_e();
        let text = match latency_finding(&state.evidence, gate, &process, log_e) {
            Some(finding) => finding.explain(log_e >= threshold),
            None => "stable's latencies are not known well enough yet".to_owned(),
        };
        return (log_e, text);
    };
    let allowance = Allowance::of(plan, state);
    let log_e = allowance.error_evidence(allowance.tolerance(ratio, add), gate, &state.evidence);
    (log_e, seen(&state.evidence.totals_at(|share_ppm| gate.counts_share(share_ppm)), log_e))
}
