//! The two numbers that a gate compares, for people who look at it and for charts. What decides is the evidence.

use super::gate::latency_evidence;
use super::limits::counted;
use super::state::State;
use crate::judge::baseline::Baseline;
use crate::judge::latency::QUANTILE_NAMES;
use crate::judge::{Counts, verdict::duration};
use crate::policy::plan::{Bound, Gate, GateRule, SignalRule, SignalUnit};
use serde::{Deserialize, Serialize};

/// What one gate has seen of both versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateFigures {
    /// What is measured, in a few words.
    pub what: String,
    /// The canary's; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<f64>,
    /// Stable's, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<f64>,
    /// The limit, where the policy has a fixed one for this very number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// Whether values above the limit are the bad ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_is_max: Option<bool>,
    /// What the numbers are.
    pub unit: SignalUnit,
}

impl GateFigures {
    /// Of one gate; `None` where nothing can be measured yet.
    #[must_use]
    pub fn of(gate: &Gate, state: &State) -> Option<Self> {
        let is_max = |bound: Bound| bound == Bound::Max;
        match &gate.rule {
            GateRule::ErrorRateAgainstStable { .. } => {
                let counts = state.evidence.totals_at(|share_ppm| gate.counts_share(share_ppm));
                Some(Self::shares("failed requests", &counts, None))
            }
            GateRule::LatencyAgainstStable { .. } => Self::slower(gate, state),
            GateRule::ErrorRateLimit { share, bound } => {
                Some(Self::shares("failed requests", &counted(gate, state)?, Some((*share, is_max(*bound)))))
            }
            GateRule::LatencyLimit { quantile, limit, bound } => {
                let what = format!("slower than {limit}");
                // Of a p99 one in a hundred may be slower.
                Some(Self::shares(&what, &counted(gate, state)?, Some((rest_of(*quantile), is_max(*bound)))))
            }
            GateRule::Health { .. } => {
                let what = "endpoints that fail".to_owned();
                let (canary, stable) = last_points(gate, state);
                let (limit, limit_is_max) = (Some(0.0), Some(true));
                Some(Self { what, canary, stable, limit, limit_is_max, unit: SignalUnit::Number })
            }
            GateRule::Signal(signal) => {
                let (canary, stable) = last_points(gate, state);
                let (limit, limit_is_max) = match signal.rule {
                    SignalRule::Limit { value, bound } => (Some(value), Some(is_max(bound))),
                    SignalRule::AgainstStable { .. } => (None, None),
                };
                let what = "newest value".to_owned();
                Some(Self { what, canary, stable, limit, limit_is_max, unit: signal.unit })
            }
        }
    }

    fn shares(what: &str, counts: &Counts, limit: Option<(f64, bool)>) -> Self {
        let (limit, limit_is_max) = limit.unzip();
        Self {
            what: what.to_owned(),
            canary: share(counts.canary_errors, counts.canary_requests),
            stable: share(counts.stable_errors, counts.stable_requests),
            limit,
            limit_is_max,
            unit: SignalUnit::Share,
        }
    }

    /// By the quantile that speaks loudest.
    fn slower(gate: &Gate, state: &State) -> Option<Self> {
        let thresholds = *state.evidence.timing.baseline.as_ref().and_then(Baseline::thresholds)?;
        let quantile = latency_evidence(&state.evidence, gate).strongest().min(QUANTILE_NAMES.len() - 1);
        let counts = state.evidence.latency_totals_at(|share_ppm| gate.counts_share(share_ppm));
        let bound = duration(thresholds.stable_us()[quantile]);
        Some(Self {
            what: format!("slower than stable's {} of {bound}", QUANTILE_NAMES[quantile]),
            canary: share(counts.canary_slower[quantile], counts.canary_requests),
            stable: share(counts.stable_slower[quantile], counts.stable_requests),
            limit: None,
            limit_is_max: None,
            unit: SignalUnit::Share,
        })
    }
}

/// What a quantile leaves, without the dust of the subtraction.
fn rest_of(quantile: f64) -> f64 {
    ((1.0 - quantile) * 1e9).round() / 1e9
}

fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

fn last_points(gate: &Gate, state: &State) -> (Option<f64>, Option<f64>) {
    let Some(seen) = state.points.get(&gate.name) else { return (None, None) };
    (seen.canary.trail.last.map(|(_, value)| value), seen.stable.trail.last.map(|(_, value)| value))
}
