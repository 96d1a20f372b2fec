//! Which noise a rollout allows for, and what is said of it.

use super::evidence::Evidence;
use super::gate::share;
use super::past::MeasuredNoise;
use super::state::State;
use crate::judge::Tolerance;
use crate::judge::evidence::ErrorEvidence;
use crate::judge::noise::{LEAST_BLOCKS, Noise};
use crate::judge::polya::PolyaEvidence;
use crate::judge::verdict::{percent, thousands};
use crate::policy::plan::{Gate, NoiseRule, Plan};

/// Ratio that is tolerated at least where noise was measured: the bound on false rollbacks was found to hold by it (gate.md
/// section 6).
const LEAST_RATIO: f64 = 1.2;

/// What the comparison of error rates allows for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Allowance {
    noise: Noise,
    least_ratio: f64,
}

impl Allowance {
    /// Of one rollout; the same from its first input to its last.
    pub(super) fn of(plan: &Plan, state: &State) -> Self {
        match (plan.noise, state.past.noise) {
            (NoiseRule::Auto, Some(measured)) if !measured.allowance().is_none() => {
                Self { noise: measured.allowance(), least_ratio: LEAST_RATIO }
            }
            (NoiseRule::Fixed { v, phi }, _) => Self { noise: Noise::new(v, phi), least_ratio: 1.0 },
            (NoiseRule::Auto | NoiseRule::None, _) => Self { noise: Noise::NONE, least_ratio: 1.0 },
        }
    }

    /// Whether it allows for none.
    pub(super) const fn is_none(&self) -> bool {
        self.noise.is_none()
    }

    /// What a gate tolerates, with what noise makes of it.
    pub(super) fn tolerance(&self, ratio: f64, add: f64) -> Tolerance {
        Tolerance::new(ratio.max(self.least_ratio), add)
    }

    /// One gate's ln e-value. Blocks are the rollout's own, and each of its shares is an urn by itself.
    pub(super) fn error_evidence(&self, tolerance: Tolerance, gate: &Gate, evidence: &Evidence) -> f64 {
        if self.noise.is_none() {
            let mut process = ErrorEvidence::new(tolerance);
            feed(evidence, gate, &mut process, ErrorEvidence::epoch, |process, share, counts| {
                process.batch(share, counts);
            });
            return process.log_e();
        }
        let mut process = PolyaEvidence::new(tolerance, self.noise);
        feed(evidence, gate, &mut process, PolyaEvidence::epoch, |process, share, counts| process.batch(share, counts));
        process.log_e()
    }
}

fn feed<P>(
    evidence: &Evidence,
    gate: &Gate,
    process: &mut P,
    epoch: fn(&mut P),
    batch: fn(&mut P, f64, &crate::judge::Counts),
) {
    for (index, block) in evidence.blocks.iter().enumerate() {
        if index > 0 {
            epoch(process);
        }
        for (share_ppm, counts) in block.by_share.iter().filter(|(share_ppm, _)| gate.counts_share(**share_ppm)) {
            batch(process, share(*share_ppm), counts);
        }
    }
}

/// What is said of noise, without a full stop; `None` where the policy allows for none.
#[must_use]
pub(super) fn told(plan: &Plan, state: &State) -> Option<String> {
    match plan.noise {
        NoiseRule::None => None,
        NoiseRule::Fixed { v, phi } => {
            Some(format!("noise: v = {v} and phi = {phi} are allowed for, as the policy says"))
        }
        NoiseRule::Auto => Some(match state.past.noise {
            None => "noise: none is allowed for, since nobody has watched stable's endpoints".to_owned(),
            Some(measured) => by_measure(&measured),
        }),
    }
}

fn by_measure(measured: &MeasuredNoise) -> String {
    let MeasuredNoise { v, phi, minutes, endpoints } = *measured;
    let seen = format!("{} minutes with errors on {endpoints} endpoints of stable", thousands(u64::from(minutes)));
    match measured.is_known() {
        _ if endpoints < 2 => {
            "noise: none is allowed for, since stable had one endpoint at a time and noise shows between two".to_owned()
        }
        false => {
            format!("noise: none is allowed for, since {seen} are too few to measure it by ({LEAST_BLOCKS} are needed)")
        }
        true if measured.allowance().is_none() => format!("noise: none was found in {seen}"),
        true => {
            let bursts = if phi > 1.0 { format!(", {phi:.2} errors have one cause") } else { String::new() };
            format!(
                "noise: a version's error rate may swing by {} of itself from minute to minute (v = {v:.3}{bursts}; measured in \
                 {seen}); that is allowed for, and {LEAST_RATIO} times stable's rate is tolerated",
                percent(v.sqrt())
            )
        }
    }
}
