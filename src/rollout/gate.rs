//! From counts to a verdict: derives the evidence of every gate anew from the integer counts.
//!
//! Cost is proportional to the number of blocks (bounded, see `evidence`), whatever the traffic was.

use super::compare::{Compared, compare};
use super::evidence::Evidence;
use super::fuse;
use super::limits::{LimitVerdict, judge_limits};
use super::noise::Allowance;
use super::points::judge_points;
use super::state::State;
use super::unusable::{self, UnusableSince};
use crate::base::weight::Percent;
use crate::judge::baseline::Baseline;
use crate::judge::budget::Exposure;
use crate::judge::evidence::SafetyEvidence;
use crate::judge::latency::LatencyEvidence;
use crate::judge::verdict::{Finding, LatencyFinding, Thresholds, Verdict};
use crate::judge::{Tolerance, advance_threshold, rollback_threshold};
use crate::policy::plan::{Gate, GateRule, OnFailure, OnInconclusive, Plan, Step, WeightStep};

/// What the gates say about a rollout now.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The comparing gates together.
    pub finding: Finding,
    /// What they need to act.
    pub thresholds: Thresholds,
    /// What follows.
    pub verdict: Verdict,
    /// Whether the blast-radius budget is spent.
    pub budget_spent: bool,
    /// Who of them speaks loudest, and what follows from it.
    pub compared: Compared,
    /// What the other gates say that act now.
    pub limits: Vec<LimitVerdict>,
    /// What the policy says of gates that do not say themselves what their failure does.
    pub on_failure: OnFailure,
    /// What the data plane tells and nobody can judge by: neither evidence nor silence.
    pub error: Option<UnusableSince>,
    /// What a person is told of such counts.
    pub told_of_counts: Option<String>,
}

impl Judgement {
    /// The release is worse, or beyond a limit, with the confidence that the policy asks for.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.action().is_some()
    }

    /// What the gates that fail ask for: to roll back if any of them does; `None` where none fails.
    #[must_use]
    pub fn action(&self) -> Option<OnFailure> {
        let failing = self.limits.iter().filter(|limit| limit.outcome.fails());
        let all = self.compared.action.into_iter().chain(failing.map(|limit| self.action_of(limit)));
        all.fold(None, |asked, action| if asked == Some(OnFailure::Rollback) { asked } else { Some(action) })
    }

    fn action_of(&self, limit: &LimitVerdict) -> OnFailure {
        limit.on_failure.unwrap_or(self.on_failure)
    }

    /// No worse than the margin, with the confidence that the policy asks for, and not worse by any gate.
    #[must_use]
    pub fn proven(&self) -> bool {
        self.verdict == Verdict::Pass && !self.fails() && !self.holds()
    }

    /// An absolute gate is breached by no fault of the release that is known, or counts cannot be used: stay where it is.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.error.is_some() || self.limits.iter().any(|limit| limit.outcome.holds())
    }

    /// What a person should be told although nothing is decided: stable itself is beyond a limit, or a gate sees nothing.
    #[must_use]
    pub fn page(&self) -> Option<String> {
        let of_limits = self.limits.iter().find_map(|limit| limit.page.clone());
        of_limits.or_else(|| self.told_of_counts.clone())
    }

    /// In a sentence: of a gate that asks for what is done, where some fail.
    #[must_use]
    pub fn sentence(&self) -> String {
        let action = self.action();
        if self.compared.action.is_some() && self.compared.action == action {
            return match &self.compared.latency {
                Some(latency) => latency.explain(true),
                None => {
                    let counts = self.compared.counts.unwrap_or(self.finding.counts);
                    Finding { counts, ..self.finding }.explain(Verdict::Fail)
                }
            };
        }
        let failing = |limit: &&LimitVerdict| limit.outcome.fails() && Some(self.action_of(limit)) == action;
        let holding = |limit: &&LimitVerdict| limit.outcome.holds();
        match (self.limits.iter().find(failing), &self.error, self.limits.iter().find(holding)) {
            (Some(limit), ..) | (None, None, Some(limit)) => limit.sentence.clone(),
            (None, Some(error), _) => error.sentence(),
            (None, None, None) => self.finding.explain(self.verdict),
        }
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
    let step =
        state.step_index().and_then(|index| weight_index(plan, index)).and_then(|index| weight_step(plan, index));
    let margin = step
        .or_else(|| weight_step(plan, plan.steps.len().saturating_sub(1)))
        .map_or(1.0, |step| step.prove_no_worse_than);
    let thresholds = Thresholds {
        rollback: rollback_threshold(fuse::max_false_rollback(plan, state)),
        advance: advance_threshold(plan.confidence_to_advance),
    };
    let allowance = Allowance::of(plan, state);
    let tolerances = error_tolerances(plan, &allowance);
    let mut safety = SafetyEvidence::new(margin, 1.0);
    let mut exposure = Exposure::new(tolerances.first().copied().unwrap_or(Tolerance::NONE));
    for (share_ppm, counts) in state.evidence.judged() {
        safety.batch(share(share_ppm), counts);
        exposure.batch(share(share_ppm), counts);
    }
    let budget = plan.blast_radius.failed_requests.saturating_mul(1 + state.budget_grants);
    let compared = compare(plan, state, &allowance, thresholds.rollback);
    let finding = Finding {
        counts: state.evidence.totals(),
        worse_log_e: compared.log_e,
        safe_log_e: safety.log_e(),
        margin,
        missing_requests: safety.requests_to_proof(state.wanted.share(), thresholds.advance),
        canary_requests_per_s: state.evidence.canary_requests_per_s(state.wanted, state.at),
    };
    let error = unusable::in_the_way(plan, state);
    let verdict = match finding.verdict(&thresholds) {
        // What the others counted is evidence all the same.
        Verdict::Fail => Verdict::Fail,
        _ if error.is_some() => Verdict::Error,
        verdict => verdict,
    };
    Judgement {
        finding,
        thresholds,
        verdict,
        error,
        told_of_counts: unusable::page(plan, state),
        budget_spent: exposure.is_spent(budget),
        compared,
        limits: limits(plan, state),
        on_failure: plan.on_failure,
    }
}

/// What the absolute gates say, each of which keeps the bound by itself, and a fuse that tripped.
fn limits(plan: &Plan, state: &State) -> Vec<LimitVerdict> {
    let counted = judge_limits(plan, state, rollback_threshold(plan.max_false_rollback));
    counted.into_iter().chain(judge_points(plan, state)).chain(fuse::verdict(plan, state)).collect()
}

/// What is known of latencies; `None` while thresholds are being chosen.
pub(super) fn latency_finding(
    evidence: &Evidence,
    gate: &Gate,
    process: &LatencyEvidence,
    log_e: f64,
) -> Option<LatencyFinding> {
    let thresholds = *evidence.timing.baseline.as_ref().and_then(Baseline::thresholds)?;
    let counts = evidence.latency_totals_at(|share_ppm| gate.counts_share(share_ppm));
    Some(LatencyFinding { counts, thresholds, log_e, quantile: process.strongest() })
}

/// Failures count in to the canary's advantage, so that arms that fail unequally are not mistaken for slow ones.
/// Failures from before the thresholds are among them in the block in which these were fixed; that costs power only.
pub(super) fn latency_evidence(evidence: &Evidence, gate: &Gate) -> LatencyEvidence {
    let mut process = LatencyEvidence::new();
    for (index, block) in evidence.blocks.iter().enumerate() {
        if index > 0 {
            process.epoch();
        }
        for (share_ppm, counts) in block.latency_by_share.iter().filter(|(share, _)| gate.counts_share(**share)) {
            let failures = block.by_share.get(share_ppm).copied().unwrap_or_default();
            process.batch(share(*share_ppm), &counts.with_failures(&failures));
        }
    }
    process
}

/// Tolerances of the gates that compare error rates and decide.
fn error_tolerances(plan: &Plan, allowance: &Allowance) -> Vec<Tolerance> {
    let deciding = plan.gates.iter().filter(|gate| !gate.dry_run);
    let each = deciding.filter_map(|gate| match gate.rule {
        GateRule::ErrorRateAgainstStable { ratio, add } => Some(allowance.tolerance(ratio, add)),
        GateRule::LatencyAgainstStable { .. }
        | GateRule::ErrorRateLimit { .. }
        | GateRule::LatencyLimit { .. }
        | GateRule::Health { .. }
        | GateRule::Signal(_) => None,
    });
    each.collect()
}

pub(super) fn share(share_ppm: u32) -> f64 {
    f64::from(share_ppm) / 1e6
}

/// What a step does when its longest stay is over without a proof.
#[must_use]
pub fn on_inconclusive(plan: &Plan, index: usize) -> OnInconclusive {
    weight_step(plan, index).map_or(OnInconclusive::Hold, |step| step.on_inconclusive)
}
