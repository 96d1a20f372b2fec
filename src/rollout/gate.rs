//! From counts to a verdict: derives the evidence of every gate anew from the integer counts.
//!
//! Cost is proportional to the number of blocks (bounded, see `evidence`), whatever the traffic was.

use super::evidence::Evidence;
use super::state::State;
use crate::base::weight::Percent;
use crate::judge::budget::Exposure;
use crate::judge::evidence::{ErrorEvidence, SafetyEvidence};
use crate::judge::verdict::{Finding, Thresholds, Verdict};
use crate::judge::{Tolerance, advance_threshold, rollback_threshold};
use crate::policy::plan::{Gate, GateRule, OnInconclusive, Plan, Step, WeightStep};

/// What the gates say about a rollout now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// The gates together.
    pub finding: Finding,
    /// What they need to act.
    pub thresholds: Thresholds,
    /// What follows.
    pub verdict: Verdict,
    /// Whether the blast-radius budget is spent.
    pub budget_spent: bool,
}

impl Judgement {
    /// The release is worse, with the confidence that the policy asks for.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.verdict == Verdict::Fail
    }

    /// No worse than the margin, with the confidence that the policy asks for, and not worse by any gate.
    #[must_use]
    pub fn proven(&self) -> bool {
        self.verdict == Verdict::Pass
    }

    /// In a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        self.finding.explain(self.verdict)
    }
}

/// The step at an index, when it is one of weight.
#[must_use]
pub fn weight_step(plan: &Plan, index: usize) -> Option<&WeightStep> {
    match plan.steps.get(index)? {
        Step::Weight(step) => Some(step),
        Step::Approval(_) => None,
    }
}

/// Index of the step whose weight is in force at a step: its own, or for an approval the last one before it. `None` at
/// an approval before any weight.
#[must_use]
pub fn weight_index(plan: &Plan, index: usize) -> Option<usize> {
    (0..plan.steps.len().min(index + 1)).rev().find(|index| weight_step(plan, *index).is_some())
}

/// Whether the weight in force at a step is everything: then nothing is left to compare with.
#[must_use]
pub fn is_full(plan: &Plan, index: usize) -> bool {
    let step = weight_index(plan, index).and_then(|index| weight_step(plan, index));
    step.is_some_and(|step| step.weight == Percent::FULL)
}

/// Judges everything counted so far, with the margin of the present step (of the last one when there is none).
#[must_use]
pub fn judge(plan: &Plan, state: &State) -> Judgement {
    let deciding: Vec<Tolerance> = plan.gates.iter().filter(|gate| !gate.dry_run).map(tolerance).collect();
    let step =
        state.step_index().and_then(|index| weight_index(plan, index)).and_then(|index| weight_step(plan, index));
    let margin = step
        .or_else(|| weight_step(plan, plan.steps.len().saturating_sub(1)))
        .map_or(1.0, |step| step.prove_no_worse_than);
    let thresholds = Thresholds {
        rollback: rollback_threshold(plan.max_false_rollback),
        advance: advance_threshold(plan.confidence_to_advance),
    };
    let mut safety = SafetyEvidence::new(margin, 1.0);
    let mut exposure = Exposure::new(deciding.first().copied().unwrap_or(Tolerance::NONE));
    for (share_ppm, counts) in state.evidence.judged() {
        safety.batch(share(share_ppm), counts);
        exposure.batch(share(share_ppm), counts);
    }
    let budget = plan.blast_radius.failed_requests.saturating_mul(1 + state.budget_grants);
    let finding = Finding {
        counts: state.evidence.totals(),
        worse_log_e: combined(&deciding, &state.evidence),
        safe_log_e: safety.log_e(),
        margin,
        missing_requests: safety.requests_to_proof(state.wanted.share(), thresholds.advance),
    };
    Judgement { finding, thresholds, verdict: finding.verdict(&thresholds), budget_spent: exposure.is_spent(budget) }
}

/// Average of the gates' e-values: valid whatever their dependence. No gate, no evidence.
fn combined(gates: &[Tolerance], evidence: &Evidence) -> f64 {
    let each: Vec<f64> = gates.iter().map(|tolerance| error_evidence(*tolerance, evidence)).collect();
    let Some(most) = each.iter().copied().reduce(f64::max) else { return 0.0 };
    most + (each.iter().map(|log_e| (log_e - most).exp()).sum::<f64>() / each.len() as f64).ln()
}

/// One gate's ln e-value.
fn error_evidence(tolerance: Tolerance, evidence: &Evidence) -> f64 {
    let mut process = ErrorEvidence::new(tolerance);
    for (index, block) in evidence.blocks.iter().enumerate() {
        if index > 0 {
            process.epoch();
        }
        for (share_ppm, counts) in &block.by_share {
            process.batch(share(*share_ppm), counts);
        }
    }
    process.log_e()
}

fn tolerance(gate: &Gate) -> Tolerance {
    let GateRule::ErrorRateAgainstStable { ratio, add } = &gate.rule;
    Tolerance::new(*ratio, *add)
}

fn share(share_ppm: u32) -> f64 {
    f64::from(share_ppm) / 1e6
}

/// What a step does when its longest stay is over without a proof.
#[must_use]
pub fn on_inconclusive(plan: &Plan, index: usize) -> OnInconclusive {
    weight_step(plan, index).map_or(OnInconclusive::Hold, |step| step.on_inconclusive)
}
