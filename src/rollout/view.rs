//! What people and programs are shown of a rollout. Derived from plan and state; names are those that clients hold on to.

use super::deadline::due_at;
use super::event::Actor;
use super::fuse_view;
pub use super::fuse_view::{FuseView, OpeningView, opened};
use super::gate::{Judgement, judge, weight_step};
use super::noise;
use super::preview;
pub use super::preview::PreviewView;
use super::report::gate_views;
pub use super::report::{GateFigures, GateVerdict, GateView};
pub use super::signals::amount;
use super::state::{PauseCause, Phase, State};
use crate::base::ids::RolloutId;
use crate::base::time::Timestamp;
use crate::base::weight::Percent;
use crate::judge::verdict::Verdict;
use crate::policy::plan::{OnFailure, Plan, Step};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A rollout as the API answers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// Identifier.
    pub id: String,
    /// Name of the policy.
    pub policy: String,
    /// `mesh/router/route`.
    pub route: String,
    /// Phase, in the words of the interface: `paused` stands over the step's own phase.
    pub phase: String,
    /// Whether nothing will happen any more.
    pub finished: bool,
    /// Number of the step, from 1; absent once the end is decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// Weights of all weight steps.
    pub steps: Vec<u8>,
    /// Node that takes the release.
    pub canary: String,
    /// Node that it replaces.
    pub stable: String,
    /// Weights as last asked for, by node, in percent.
    pub weights: BTreeMap<String, u8>,
    /// What is released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The image that is released, where the policy has a workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How the instances that are deployed or scaled in stand, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<String>,
    /// How it ends or has ended, once that is decided: `succeeded`, `rolled_back`, `aborted` or `superseded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Who started it.
    pub started_by: Actor,
    /// When, RFC 3339.
    pub started_at: String,
    /// Since when it is in this phase, RFC 3339.
    pub phase_since: String,
    /// When this phase comes to its end at the latest (RFC 3339), where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The same in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// The verdict in a sentence.
    pub verdict: String,
    /// The numbers behind it.
    pub evidence: EvidenceView,
    /// What each gate says by itself, in the policy's order.
    #[serde(default)]
    pub gates: Vec<GateView>,
    /// Which noise the comparison of error rates allows for, and why; absent where the policy allows for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<String>,
    /// Whom it waits for, while it awaits approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalView>,
    /// That it is frozen, by whom and why, while it is: it takes no step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<String>,
    /// Since when it is paused, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<String>,
    /// Within which windows its policy lets rollouts begin, and why this one began outside of them if it did; absent where
    /// there are none, and once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<String>,
    /// That it is at its preview, before its first step: `step` is the one that comes then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewView>,
    /// Why it is paused, or how it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the end was decided, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<String>,
    /// The same in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at_ms: Option<i64>,
    /// The last thing that went wrong without ending it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How the fuses of its proxies stand, or once it has ended what they did, in a sentence; absent where there is nothing to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuses: Option<String>,
    /// The same in numbers, and what opened; absent where no proxy has had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuse: Option<FuseView>,
    /// When the last change was, RFC 3339.
    #[serde(default)]
    pub changed_at: String,
    /// The same in milliseconds since the epoch.
    #[serde(default)]
    pub changed_at_ms: i64,
    /// Number of the last input: rises with every change.
    pub seq: u64,
}

/// An approval that is awaited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Who may approve.
    pub from: Vec<String>,
    /// How many of them must.
    pub need: u32,
    /// Who has, by the name in which they did.
    pub given: Vec<String>,
    /// Channel of Slack in which they are asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<String>,
    /// What happens when nobody answers in time: `rollback` or `pause`.
    #[serde(default)]
    pub on_timeout: String,
}

impl ApprovalView {
    fn of(plan: &Plan, state: &State) -> Option<Self> {
        let Phase::AwaitingApproval { step, .. } = state.phase else { return None };
        let Some(Step::Approval(approval)) = plan.steps.get(step) else { return None };
        let given = state.approvals.iter().map(|approval| approval.person.clone()).collect();
        let on_timeout = match approval.on_timeout {
            OnFailure::Rollback => "rollback",
            OnFailure::Pause => "pause",
        };
        let (from, slack) = (approval.from.clone(), approval.slack.clone());
        Some(Self { from, need: approval.need, given, slack, on_timeout: on_timeout.to_owned() })
    }
}

/// Numbers behind a verdict.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EvidenceView {
    /// Requests that the canary answered or failed while there was a comparison to make.
    pub canary_requests: u64,
    /// Of these, failed.
    pub canary_errors: u64,
    /// The same of stable.
    pub stable_requests: u64,
    /// Of these, failed.
    pub stable_errors: u64,
    /// Evidence against the release: 0 none, 1 rolls it back. ln(e-value) over ln(1/alpha), held within 0 and 1.
    pub against: f64,
    /// Proof that it is no worse than the step's margin: 1 lets it advance.
    pub proof: f64,
    /// What the comparing gates come to: `pass`, `fail`, `inconclusive`, `error` or `no_data`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub verdict: String,
    /// While inconclusive: canary requests without an error that would prove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_requests: Option<u64>,
    /// Seconds in which they come at the traffic seen lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<u64>,
}

impl RolloutView {
    /// A rollout that is asked for and has not begun: its identifier is known, and what it waits for.
    #[must_use]
    pub fn pending(
        id: &RolloutId,
        policy: &str,
        image: Option<String>,
        revision: Option<String>,
        started_by: Actor,
        at: Timestamp,
        why: String,
    ) -> Self {
        Self {
            id: id.0.clone(),
            policy: policy.to_owned(),
            route: String::new(),
            phase: "pending".to_owned(),
            finished: false,
            step: None,
            steps: Vec::new(),
            canary: String::new(),
            stable: String::new(),
            weights: BTreeMap::new(),
            revision,
            image,
            instances: None,
            outcome: None,
            started_by,
            started_at: at.rfc3339(),
            phase_since: at.rfc3339(),
            until: None,
            until_ms: None,
            verdict: why.clone(),
            evidence: EvidenceView::default(),
            gates: Vec::new(),
            noise: None,
            approval: None,
            frozen: None,
            paused_since: None,
            windows: None,
            preview: None,
            reason: Some(why),
            decided_at: None,
            decided_at_ms: None,
            trouble: None,
            fuses: None,
            fuse: None,
            changed_at: at.rfc3339(),
            changed_at_ms: at.0,
            seq: 0,
        }
    }

    /// The view of a state.
    #[must_use]
    pub fn of(plan: &Plan, state: &State) -> Self {
        let judgement = judge(plan, state);
        let until = due_at(&state.phase).filter(|_| state.paused.is_none());
        let (canary, stable) = (plan.node(state.canary), plan.node(state.canary.other()));
        Self {
            id: state.id.0.clone(),
            policy: plan.name.clone(),
            route: plan.route.to_string(),
            phase: phase_name(state).to_owned(),
            finished: state.is_finished(),
            step: state.step_index().map(|index| index + 1),
            steps: (0..plan.steps.len()).filter_map(|i| weight_step(plan, i)).map(|step| step.weight.get()).collect(),
            canary: canary.to_owned(),
            stable: stable.to_owned(),
            weights: BTreeMap::from([
                (canary.to_owned(), state.wanted.get()),
                (stable.to_owned(), state.wanted.rest().get()),
            ]),
            revision: state.revision.clone(),
            image: state.release.as_ref().map(|release| release.image.clone()),
            instances: instances(state),
            outcome: state.ending.as_ref().map(|ending| ending.kind.name().to_owned()),
            started_by: state.started_by.clone(),
            started_at: state.started_at.rfc3339(),
            phase_since: state.phase_since.rfc3339(),
            until: until.map(Timestamp::rfc3339),
            until_ms: until.map(|until| until.0),
            verdict: verdict_sentence(plan, state, &judgement),
            evidence: EvidenceView::of(&judgement),
            gates: gate_views(plan, state),
            noise: noise::told(plan, state),
            approval: ApprovalView::of(plan, state),
            frozen: state.frozen.as_ref().map(ToString::to_string),
            paused_since: state.paused.as_ref().map(|pause| pause.at.rfc3339()),
            windows: windows(plan, state),
            preview: PreviewView::of(plan, state),
            reason: reason(state),
            decided_at: state.ending.as_ref().map(|ending| ending.decided_at.rfc3339()),
            decided_at_ms: state.ending.as_ref().map(|ending| ending.decided_at.0),
            trouble: state.trouble.clone(),
            fuses: fuse_view::told(plan, state),
            fuse: FuseView::of(plan, state),
            changed_at: state.at.rfc3339(),
            changed_at_ms: state.at.0,
            seq: state.seq.0,
        }
    }
}

impl RolloutView {
    /// Whether it has ended well, or has decided to.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.outcome.as_deref() == Some("succeeded")
    }
}

impl EvidenceView {
    fn of(judgement: &Judgement) -> Self {
        let Judgement { finding, thresholds, verdict, .. } = judgement;
        let (name, missing_requests, eta_s) = match verdict {
            Verdict::Pass => ("pass", None, None),
            Verdict::Fail => ("fail", None, None),
            Verdict::Inconclusive { missing_requests, eta_s } => ("inconclusive", *missing_requests, *eta_s),
            Verdict::NoData => ("no_data", None, None),
            Verdict::Error => ("error", None, None),
        };
        Self {
            verdict: name.to_owned(),
            missing_requests,
            eta_s,
            canary_requests: finding.counts.canary_requests,
            canary_errors: finding.counts.canary_errors,
            stable_requests: finding.counts.stable_requests,
            stable_errors: finding.counts.stable_errors,
            against: (finding.worse_log_e / thresholds.rollback).clamp(0.0, 1.0),
            proof: (finding.safe_log_e / thresholds.advance).clamp(0.0, 1.0),
        }
    }
}

/// The phase in the words of the interface.
#[must_use]
pub const fn phase_name(state: &State) -> &'static str {
    match &state.phase {
        Phase::Deploying { .. }
        | Phase::Previewing { .. }
        | Phase::Shifting { .. }
        | Phase::Verifying { .. }
        | Phase::Baking { .. }
        | Phase::Judging { .. }
        | Phase::AwaitingApproval { .. }
            if state.paused.is_some() =>
        {
            "paused"
        }
        Phase::Deploying { .. } => "deploying",
        Phase::Previewing { .. } => preview::phase_name(state),
        Phase::Shifting { .. } => "shifting",
        Phase::Verifying { .. } => "verifying",
        Phase::Baking { .. } => "baking",
        Phase::Judging { .. } => "judging",
        Phase::AwaitingApproval { .. } => "awaiting_approval",
        Phase::RollingBack { .. } => "rolling_back",
        Phase::Holding { .. } => "holding",
        Phase::Cleaning { .. } => "cleaning",
        Phase::Succeeded => "succeeded",
        Phase::RolledBack => "rolled_back",
        Phase::Aborted => "aborted",
        Phase::Superseded => "superseded",
        Phase::Stuck { .. } => "stuck",
    }
}

fn instances(state: &State) -> Option<String> {
    let release = state.release.as_ref().filter(|_| !state.is_finished())?;
    release.reading.as_ref().map(|reading| reading.note.clone())
}

fn windows(plan: &Plan, state: &State) -> Option<String> {
    let windows = Some(plan.windows()).filter(|windows| !windows.is_empty() && !state.is_finished())?.join(", ");
    Some(match &state.outside_windows {
        Some(reason) => format!("began outside of its windows ({windows}): {reason}"),
        None => format!("began within its windows ({windows}), and goes on when they end"),
    })
}

fn reason(state: &State) -> Option<String> {
    let paused = state.paused.as_ref().map(|pause| pause.reason.clone());
    paused.or_else(|| state.ending.as_ref().map(|ending| ending.reason.clone()))
}

fn verdict_sentence(plan: &Plan, state: &State, judgement: &Judgement) -> String {
    if let Some(ending) = &state.ending {
        return ending.reason.clone();
    }
    match &state.paused {
        Some(pause) if pause.cause == PauseCause::NoData && judgement.error.is_none() => {
            return "no data: the data plane is silent".to_owned();
        }
        Some(pause) if pause.cause == PauseCause::Budget => return pause.reason.clone(),
        Some(_) | None => {}
    }
    if let (Phase::Deploying { .. }, Some(release)) = (&state.phase, &state.release) {
        let note = release.reading.as_ref().map_or_else(|| "asked for".to_owned(), |reading| reading.note.clone());
        return format!("deploying {}: {note}", release.image);
    }
    if let Some(told) = preview::told(plan, state) {
        return told;
    }
    if state.wanted == Percent::FULL && !judgement.fails() && !judgement.holds() {
        return "all traffic is on the canary: nothing is left to compare it with".to_owned();
    }
    judgement.sentence()
}
