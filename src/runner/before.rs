//! What stable did before a rollout, asked for as it begins: it becomes part of the first input.

use super::handle::Runner;
use crate::base::histogram::Histogram;
use crate::policy::plan::{GateRule, NoiseRule, Plan};
use crate::rollout::event::{Past, RouteReading};
use std::time::Duration;

/// It is worth waiting for so long; without it the rollout's own first requests serve instead.
const TIMEOUT: Duration = Duration::from_secs(2);

impl Runner {
    /// Latencies of stable in the last minutes, for the gates that compare them. Stable is whichever version has the
    /// weight; where it is not clear, the start is refused anyhow.
    pub(super) async fn baseline(&self, plan: &Plan, route: &RouteReading) -> Option<Histogram> {
        plan.latency_tolerance()?;
        let stable = plan.versions.iter().max_by_key(|node| route.weight_of(node))?;
        let recent = self.parts().live.recent(&plan.route, stable);
        tokio::time::timeout(TIMEOUT, recent).await.ok().flatten()
    }

    /// Errors of stable in the last minutes and hours, for the gates that compare them.
    pub(super) async fn past(&self, plan: &Plan) -> Past {
        if !plan.gates.iter().any(|gate| matches!(gate.rule, GateRule::ErrorRateAgainstStable { .. })) {
            return Past::default();
        }
        let past = tokio::time::timeout(TIMEOUT, self.parts().live.past(&plan.route)).await;
        let mut past = past.unwrap_or_default();
        // Kept only where it is needed, so that the journal says what a verdict rests on and no more.
        past.noise = past.noise.filter(|_| plan.noise == NoiseRule::Auto);
        past
    }
}
