//! A preview in words, for people and for programs that show it.

use super::{GateOutcome, PreviewState, Stage, is_on, judge, route};
use crate::policy::plan::{OnInconclusive, Plan, Preview};
use crate::rollout::effect::PreviewRoute;
use crate::rollout::state::State;
use serde::{Deserialize, Serialize};

/// A preview, as the API answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewView {
    /// What reaches the canary, as a line of a request: `x-preview: 1`.
    pub header: String,
    /// Name of its route, beside the policy's.
    pub route: String,
    /// When its time is over (RFC 3339); absent while it is not in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl PreviewView {
    pub(in crate::rollout) fn of(plan: &Plan, state: &State) -> Option<Self> {
        let route = route(plan, state).filter(|_| is_on(state))?;
        let since = state.preview.as_ref()?.since;
        let until = since.zip(plan.preview.as_ref()).map(|(since, preview)| since.plus(preview.lasts).rfc3339());
        Some(Self { header: route.header.to_string(), route: route.name, until })
    }
}

/// The stage in the words that phases have.
pub(in crate::rollout) const fn phase_name(state: &State) -> &'static str {
    match &state.preview {
        Some(PreviewState { stage: Stage::Verifying, .. }) => "verifying",
        Some(PreviewState { stage: Stage::Open, .. }) => "baking",
        Some(PreviewState { stage: Stage::Waiting, .. }) => "judging",
        Some(PreviewState { stage: Stage::Opening | Stage::Closing | Stage::Closed, .. }) | None => "shifting",
    }
}

/// How it stands, in a sentence without a full stop; `None` while it is not on.
pub(in crate::rollout) fn told(plan: &Plan, state: &State) -> Option<String> {
    let (preview, PreviewRoute { header, canary, .. }) = (state.preview.as_ref(), route(plan, state)?);
    let preview = preview.filter(|_| is_on(state))?;
    let reach = format!("requests with `{header}` reach {canary}");
    Some(match preview.stage {
        Stage::Opening => format!("preview: its route is being made, so that {reach}"),
        Stage::Verifying => format!("preview: its route is made and not seen in force yet; {reach} then"),
        Stage::Open | Stage::Waiting => {
            let judgement = judge(plan, state);
            let open = judgement.limits.iter().find(|limit| limit.outcome != GateOutcome::Within);
            let gates = open.map_or_else(String::new, |limit| format!("; {}", limit.sentence));
            format!("preview: {reach}, and it has no weight{gates}")
        }
        Stage::Closing | Stage::Closed => "preview: over; its route goes before the first step comes".to_owned(),
    })
}

/// What a plan's preview will do, with an empty line behind it; nothing where it has none.
pub(in crate::rollout) fn explained(plan: &Plan) -> String {
    let Some(Preview { header, lasts, max, on_inconclusive }) = &plan.preview else { return String::new() };
    let gates: Vec<&str> = plan.preview_gates().map(|gate| gate.name.as_str()).collect();
    let judged = match (gates.is_empty(), on_inconclusive) {
        (true, _) => "No gate judges meanwhile: whoever tests ends it with `abort` where it is bad.".to_owned(),
        (false, OnInconclusive::Rollback) => format!(
            "Gates that judge meanwhile: {}. Each must be content before the first step comes; after {max} without that it is \
             rolled back.",
            gates.join(", ")
        ),
        (false, OnInconclusive::Hold | OnInconclusive::Advance) => format!(
            "Gates that judge meanwhile: {}. Each must be content before the first step comes, however long that takes: \
             `promote` goes on without them.",
            gates.join(", ")
        ),
    };
    format!(
        "Preview\n  For {lasts} before the first step requests with `{header}` reach the release, and no others do; a route \
         beside {} leads there, and is gone before the release gets any weight.\n  {judged}\n\n",
        plan.route.route
    )
}
