//! The gates that compare requests, together: one bound on false rollbacks, of which each has a part.
//!
//! Each gate's evidence is an e-process (the wealth of a gambler whose games are not in his favour while the release is no
//! worse), and so is their average by parts that are fixed beforehand, whatever their dependence. A gate that does not act now
//! is left out of the sum, and its part is not lent to the others: the sum is then less than the whole average, which keeps
//! the bound. Parts that were shared out anew at each step would be several averages, each with a chance of its own.
//!
//! `on_failure: pause` splits what follows and not the bound. The part of the sum that belongs to gates of `rollback` reaches
//! it: roll back. Only all of them together do: pause. Both are within "the whole average reached it", so a release that
//! is no worse is rolled back *or* paused by them in at most `max_false_rollback` of rollouts.

use super::evidence::Evidence;
use super::gate::{latency_evidence, latency_finding};
use super::noise::Allowance;
use super::scope::acts;
use super::state::State;
use crate::judge::Counts;
use crate::judge::combine::{combine, usual_parts};
use crate::judge::latency::LatencyEvidence;
use crate::judge::verdict::LatencyFinding;
use crate::policy::plan::{Gate, GateRule, OnFailure, Plan};

/// What the comparing gates say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Evidence against the release, in nats; 0 where no gate acts.
    pub log_e: f64,
    /// What their failure does; `None` while they do not fail.
    pub action: Option<OnFailure>,
    /// The gate with the largest part in it; `None` where none acts.
    pub loudest: Option<String>,
    /// What that gate has counted of errors; absent where all counts are its own.
    pub counts: Option<Counts>,
    /// What is known of latencies, where those have the larger part.
    pub latency: Option<LatencyFinding>,
}

/// Gates that compare and decide, those on errors first, each with its part of the bound. The parts sum to 1.
#[must_use]
pub fn parts(plan: &Plan) -> Vec<(&Gate, f64)> {
    let deciding = || plan.gates.iter().filter(|gate| !gate.dry_run);
    let errors: Vec<&Gate> =
        deciding().filter(|gate| matches!(gate.rule, GateRule::ErrorRateAgainstStable { .. })).collect();
    let latencies: Vec<&Gate> =
        deciding().filter(|gate| matches!(gate.rule, GateRule::LatencyAgainstStable { .. })).collect();
    let all = errors.iter().chain(&latencies).copied();
    if all.clone().all(|gate| gate.weight.is_none()) {
        let (of_errors, of_latencies) = usual_parts(errors.len(), latencies.len());
        let part = |gate: &Gate| if gate.rule.is_latency() { of_latencies } else { of_errors };
        return all.map(|gate| (gate, part(gate))).collect();
    }
    let weight = |gate: &Gate| gate.weight.unwrap_or(1.0);
    let sum: f64 = all.clone().map(weight).sum();
    all.map(|gate| (gate, weight(gate) / sum)).collect()
}

/// The gate on errors that proxies are armed for.
pub(super) struct Channel<'a> {
    pub(super) gate: &'a Gate,
    pub(super) ratio: f64,
    pub(super) add: f64,
    /// Its part of the bound.
    pub(super) part: f64,
}

/// Of the deciding gates that compare error rates and act: the first that rolls back, else the first. What a proxy does by
/// itself takes the release's traffic away, which is nearer to a rollback than to a pause.
pub(super) fn error_channel(plan: &Plan, acts: impl Fn(&Gate) -> bool) -> Option<Channel<'_>> {
    let mut all = Vec::new();
    for (gate, part) in parts(plan) {
        if let GateRule::ErrorRateAgainstStable { ratio, add } = gate.rule
            && acts(gate)
        {
            all.push(Channel { gate, ratio, add, part });
        }
    }
    let first_critical = all.iter().position(|one| is_critical(plan, one.gate)).unwrap_or(0);
    all.into_iter().nth(first_critical)
}

/// Whether a gate's failure rolls back.
fn is_critical(plan: &Plan, gate: &Gate) -> bool {
    gate.on_failure.unwrap_or(plan.on_failure) == OnFailure::Rollback
}

/// A gate that compares, with its part and what it says now: -infinity where it does not act.
struct Voice<'a> {
    gate: &'a Gate,
    part: f64,
    log_e: f64,
}

impl Voice<'_> {
    fn loudness(&self) -> f64 {
        self.part.ln() + self.log_e
    }
}

/// What they say of all that was counted. `threshold` is the evidence that fails the release, in nats.
pub(super) fn compare(plan: &Plan, state: &State, allowance: &Allowance, threshold: f64) -> Compared {
    let mut processes = Processes { evidence: &state.evidence, known: Vec::new() };
    let voices: Vec<Voice<'_>> = parts(plan)
        .into_iter()
        .map(|(gate, part)| {
            let log_e = if acts(plan, state, gate) { processes.log_e(gate, allowance) } else { f64::NEG_INFINITY };
            Voice { gate, part, log_e }
        })
        .collect();
    let is_critical = |voice: &Voice<'_>| is_critical(plan, voice.gate);
    let sum = |counted: &dyn Fn(&Voice<'_>) -> bool| {
        let said = |voice: &Voice<'_>| if counted(voice) { voice.log_e } else { f64::NEG_INFINITY };
        combine(&voices.iter().map(|voice| (voice.part, said(voice))).collect::<Vec<_>>())
    };
    let all = sum(&|_| true);
    let log_e = if voices.iter().all(|voice| voice.log_e == f64::NEG_INFINITY) { 0.0 } else { all };
    let action = (log_e >= threshold).then(|| match sum(&is_critical) >= threshold {
        true => OnFailure::Rollback,
        false => OnFailure::Pause,
    });
    // Whoever rolls back is named for it, and not one who would only have paused.
    let told: Vec<&Voice<'_>> =
        voices.iter().filter(|voice| action != Some(OnFailure::Rollback) || is_critical(voice)).collect();
    let loudest = loudest(&told);
    let counts = loudest
        .filter(|voice| !voice.gate.during.is_empty())
        .map(|voice| state.evidence.totals_at(|share_ppm| voice.gate.counts_share(share_ppm)));
    let latency = loudest
        .filter(|voice| voice.gate.rule.is_latency())
        .and_then(|voice| latency_finding(&state.evidence, voice.gate, processes.of(voice.gate), log_e));
    Compared { log_e, action, loudest: loudest.map(|voice| voice.gate.name.clone()), counts, latency }
}

/// The loudest of the louder kind: gates on errors speak together, and so do those on latencies.
fn loudest<'a, 'b>(voices: &[&'a Voice<'b>]) -> Option<&'a Voice<'b>> {
    let of = |is_latency: bool| voices.iter().copied().filter(move |voice| voice.gate.rule.is_latency() == is_latency);
    let loud = |is_latency: bool| {
        let terms: Vec<(f64, f64)> = of(is_latency).map(|voice| (voice.part, voice.log_e)).collect();
        let whole: f64 = terms.iter().map(|(part, _)| part).sum();
        if terms.is_empty() { f64::NEG_INFINITY } else { whole.ln() + combine(&terms) }
    };
    let first_of_equals = |best: Option<&'a Voice<'b>>, next: &'a Voice<'b>| match best {
        Some(best) if best.loudness() >= next.loudness() => Some(best),
        Some(_) | None => (next.log_e > f64::NEG_INFINITY).then_some(next),
    };
    of(loud(true) > loud(false)).fold(None, first_of_equals)
}

/// Evidence on latencies by what counts for it: one process serves all gates that count alike, since all of a plan tolerate
/// the same.
struct Processes<'a> {
    evidence: &'a Evidence,
    known: Vec<(&'a Gate, LatencyEvidence)>,
}

impl<'a> Processes<'a> {
    fn log_e(&mut self, gate: &'a Gate, allowance: &Allowance) -> f64 {
        match gate.rule {
            GateRule::ErrorRateAgainstStable { ratio, add } => {
                allowance.error_evidence(allowance.tolerance(ratio, add), gate, self.evidence)
            }
            // While thresholds are being chosen it has no evidence.
            _ => self.of(gate).log_e(),
        }
    }

    fn of(&mut self, gate: &'a Gate) -> &LatencyEvidence {
        let known = self.known.iter().position(|(known, _)| known.during == gate.during);
        let index = known.unwrap_or_else(|| {
            self.known.push((gate, latency_evidence(self.evidence, gate)));
            self.known.len() - 1
        });
        &self.known[index].1
    }
}
