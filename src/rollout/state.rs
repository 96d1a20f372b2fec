//! Where a rollout stands. Stored after every input as the truth to resume from; only `rollout::step` makes new ones.

use super::effect::EffectId;
use super::event::{Actor, Deployed, Past, ReleaseName, Voice, WorkloadReading};
use super::evidence::Evidence;
use super::fuse::Fuses;
use super::points::ArmPoints;
use super::preview::PreviewState;
use super::unusable::UnusableSince;
use crate::base::fault::Fault;
use crate::base::ids::{RolloutId, Seq};
use crate::base::time::Timestamp;
use crate::base::weight::{Percent, Slot, Weights};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the engine's decisions: `journal verify` compares states only where it matches.
pub const ENGINE_VERSION: u32 = 3;

/// Everything that a rollout is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Identifier.
    pub id: RolloutId,
    /// Number of the last input taken in.
    pub seq: Seq,
    /// Its time; never goes back.
    pub at: Timestamp,
    /// Where it stands.
    pub phase: Phase,
    /// When it came there.
    pub phase_since: Timestamp,
    /// Set while nobody advances it.
    pub paused: Option<Pause>,
    /// Set while a freeze covers it: beside `paused`, which ends by itself or by `resume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// The slot that takes the release.
    pub canary: Slot,
    /// What is released, for people.
    pub revision: Option<String>,
    /// Who started it.
    pub started_by: Actor,
    /// Names of people that they are known by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub author: Vec<String>,
    /// When.
    pub started_at: Timestamp,
    /// Why it began although no window of its policy was open; absent where one was, or none was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside_windows: Option<String>,
    /// The canary's share as last asked for.
    pub wanted: Percent,
    /// Number of the last write to the route.
    pub generation: u64,
    /// The same before its first write.
    #[serde(default)]
    pub first_generation: u64,
    /// Effects that were committed and not settled yet.
    pub pending: BTreeMap<EffectId, Percent>,
    /// The last write that was answered with a version: a reading from before it says nothing any more.
    pub written: Option<Written>,
    /// Counts to judge by.
    pub evidence: Evidence,
    /// How the proxies' fuses stand; absent until one is seen armed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuses: Option<Fuses>,
    /// What gates on points have seen, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub points: BTreeMap<String, ArmPoints>,
    /// Since when the canary has had weight, where the plan has gates on signals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed: Option<Exposed>,
    /// What stable runs, where a gate on a signal asks about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_release: Option<ReleaseName>,
    /// What stable did before the rollout began.
    #[serde(default, skip_serializing_if = "Past::is_unknown")]
    pub past: Past,
    /// Draws at the present weight when the split was last looked at.
    #[serde(default)]
    pub split_checked: u64,
    /// When the data plane was last heard.
    pub last_live_at: Timestamp,
    /// What it told lately and nobody can judge by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unusable: Option<UnusableSince>,
    /// Who has approved the present step, each person once.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// Set once its end is decided.
    pub ending: Option<Ending>,
    /// How often a person resumed after the blast-radius budget was spent: each time grants it once more.
    pub budget_grants: u64,
    /// Whether a person gave it all the traffic against gates that failed: they no longer end it.
    pub overruled: bool,
    /// The same where only such gates failed that pause, and others would roll back: those still do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pauses_overruled: bool,
    /// The release's way into its slot, where the plan has a workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// The route by a header, where the plan has a preview and it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewState>,
    /// The last thing worth telling a person that went wrong without ending it.
    pub trouble: Option<String>,
}

impl State {
    /// The weights last asked for.
    #[must_use]
    pub const fn weights(&self) -> Weights {
        Weights { canary: self.canary, share: self.wanted }
    }

    /// The step that it is in; `None` once its end is decided.
    #[must_use]
    pub const fn step_index(&self) -> Option<usize> {
        match self.phase {
            Phase::Deploying { step, .. }
            | Phase::Previewing { step, .. }
            | Phase::Shifting { step, .. }
            | Phase::Verifying { step, .. }
            | Phase::Baking { step, .. }
            | Phase::Judging { step, .. }
            | Phase::AwaitingApproval { step, .. } => Some(step),
            Phase::RollingBack { .. }
            | Phase::Holding { .. }
            | Phase::Cleaning { .. }
            | Phase::Succeeded
            | Phase::RolledBack
            | Phase::Aborted
            | Phase::Superseded
            | Phase::Stuck { .. } => None,
        }
    }

    /// Whether the canary is there to be judged: the rollout is at a step, and the release in its slot.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.step_index().is_some() && !self.is_first_deployed()
    }

    /// Whether the release is on its way into a slot without traffic. Later its instances may become more while it has some.
    #[must_use]
    pub fn is_first_deployed(&self) -> bool {
        matches!(self.phase, Phase::Deploying { .. }) && self.wanted == Percent::ZERO
    }

    /// Whether an effect is committed and not settled yet.
    #[must_use]
    pub fn waits_for(&self, effect: &EffectId) -> bool {
        self.pending.contains_key(effect) || self.single_effects().any(|pending| pending == effect)
    }

    /// Those beside the weights, each at most one: on the release's instances, and on the preview's route.
    fn single_effects(&self) -> impl Iterator<Item = &EffectId> {
        let of_release = self.release.as_ref().and_then(|release| release.pending.as_ref());
        of_release.into_iter().chain(self.preview.as_ref().and_then(|preview| preview.pending.as_ref()))
    }

    /// Every effect that is committed and not settled yet.
    #[must_use]
    pub fn open_effects(&self) -> Vec<EffectId> {
        self.pending.keys().chain(self.single_effects()).cloned().collect()
    }

    /// Whether it is at a step whose traffic was taken off the canary, to be taken up again: steps themselves are never 0.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        // Before the first weight there is nothing to withdraw.
        self.step_index().is_some() && self.wanted == Percent::ZERO && self.generation_began()
    }

    /// Whether it has written any weights yet.
    const fn generation_began(&self) -> bool {
        self.generation > self.first_generation
    }

    /// Whether nothing will happen to it any more. A stuck one is not finished: it is retried until it works.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::RolledBack | Phase::Aborted | Phase::Superseded)
    }
}

/// Where a rollout stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// The release is on its way into the canary's slot, which has no weight yet; or, where the number of its instances
    /// follows its share, more of them are, for the next step.
    Deploying {
        /// Index of the step that comes when they are there.
        step: usize,
        /// Rolled back when they are not there by then, unless the release has traffic: then it keeps what it has.
        until: Timestamp,
    },
    /// Requests with a header reach the canary, which has no weight yet: see [`State::preview`].
    Previewing {
        /// Index of the step that comes then.
        step: usize,
        /// End of whatever the preview is at.
        until: Timestamp,
    },
    /// The step's weights are being written.
    Shifting {
        /// Index into the plan's steps.
        step: usize,
        /// Rolled back when not written by then.
        until: Timestamp,
    },
    /// Written; waiting to see them in force.
    Verifying {
        /// Index into the plan's steps.
        step: usize,
        /// `verify.on_timeout` when not seen by then.
        until: Timestamp,
    },
    /// In force; the step's shortest stay.
    Baking {
        /// Index into the plan's steps.
        step: usize,
        /// End of `min`.
        until: Timestamp,
    },
    /// Waiting for the proof that lets it advance.
    Judging {
        /// Index into the plan's steps.
        step: usize,
        /// End of `max`; then `on_inconclusive`.
        until: Timestamp,
    },
    /// At an approval: the weight stays until people say yes.
    AwaitingApproval {
        /// Index into the plan's steps.
        step: usize,
        /// The approval's `on_timeout` when they did not by then.
        until: Timestamp,
    },
    /// Weight 0 is being written.
    RollingBack {
        /// Written anew, under a new generation, when not settled by then.
        until: Timestamp,
    },
    /// The end's weights are written; read back until no late write can undo them.
    Holding {
        /// Finished by the first reading from then on that matches. Time alone ends nothing.
        until: Timestamp,
    },
    /// The end's weights stay; the slot without traffic is kept for a while and then retired.
    Cleaning {
        /// Retired, or retired once more, by the first reading of the route from then on that shows it without weight.
        until: Timestamp,
        /// How often it was asked to run nothing; 0 while it is kept.
        tries: u32,
    },
    /// The release has all the traffic.
    Succeeded,
    /// The release has none, by a verdict.
    RolledBack,
    /// The release has none, by a person.
    Aborted,
    /// The release has none, since a newer one takes its place.
    Superseded,
    /// The end's weights were refused for good. Tried again for ever; a person is needed.
    Stuck {
        /// What the mesh says.
        fault: Fault,
        /// Next try.
        until: Timestamp,
    },
}

/// The release's way into its slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The image.
    pub image: String,
    /// The effect on its instances that was committed and not settled yet: at most one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<EffectId>,
    /// What the slot was made to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Deployed>,
    /// How the instances stood when they were last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<WorkloadReading>,
    /// The share of the traffic that they were last asked to bear, where their number depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
}

/// Since when the canary has had weight that was seen in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    /// Any, without a break.
    pub from: Timestamp,
    /// The present one; absent while it is not seen in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// A write that took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The route's version from then on.
    pub version: u64,
    /// When the answer came.
    pub at: Timestamp,
}

/// One person's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The name among `from`.
    pub person: String,
    /// Who said it.
    pub actor: Actor,
    /// Who that is, as far as it is known.
    #[serde(default, skip_serializing_if = "Voice::is_unknown")]
    pub voice: Voice,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// A freeze, as a rollout knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// For people.
    pub reason: String,
    /// Who froze it.
    pub by: Actor,
    /// Since when.
    pub at: Timestamp,
}

impl std::fmt::Display for Frozen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "frozen by {}: {}", self.by.name, self.reason)
    }
}

/// Why nobody advances it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What caused it.
    pub cause: PauseCause,
    /// For people.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
    /// The step to take up again.
    pub step: usize,
}

/// What caused a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseCause {
    /// A person said so.
    Person,
    /// Someone else changed the route.
    Drift,
    /// The data plane fell silent; resumes by itself.
    NoData,
    /// `blast_radius.failed_requests` is spent.
    Budget,
    /// A gate failed, and the policy says `on_failure: pause`.
    GateFailed,
    /// The weights were not seen in force, and the policy says `on_timeout: pause`.
    VerifyTimeout,
    /// Nobody approved in time, and the approval says `on_timeout: pause`.
    ApprovalTimeout,
    /// Canary and stable both fail far more than before the rollout.
    BothFail,
    /// They did, and recovered after the weight went back.
    BothRecovered,
}

/// How it ends, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Which end.
    pub kind: EndingKind,
    /// In a sentence.
    pub reason: String,
    /// When that was decided.
    pub decided_at: Timestamp,
    /// Index of the step that it was at, for a retry.
    #[serde(default)]
    pub at_step: Option<usize>,
}

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndingKind {
    /// All the traffic.
    Succeeded,
    /// None, by a verdict.
    RolledBack,
    /// None, by a person.
    Aborted,
    /// None, since a newer release takes its place.
    Superseded,
}

impl EndingKind {
    /// The phase that it leads to, in the words of the interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
        }
    }
}

/// What comes of an input.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// A new state, and what to do.
    Step {
        /// The new state.
        state: Box<State>,
        /// To be committed with it, then carried out.
        effects: Vec<(EffectId, super::effect::Effect)>,
    },
    /// Nothing changes; nothing is written.
    Ignored(&'static str),
    /// A command that cannot be followed now.
    Refused(Refusal),
}

/// Why a command is not followed, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What stands in the way.
    pub message: String,
    /// What to do about it; for a command line where there is one.
    pub hint: String,
}
