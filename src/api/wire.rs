//! Requests and answers of the API. The command line and the demo speak these same types.

use crate::base::token::{Role, TokenId, TokenRecord};
use crate::ports::{Freeze, MeshProblem};
use crate::rollout::event::Actor;
use crate::rollout::view::RolloutView;
use serde::{Deserialize, Serialize};

/// Header in which a local client says who its user is; believed on loopback only.
pub const USER_HEADER: &str = "x-tidegate-user";

/// Kind of the problem that a policy file which is not valid is answered with.
pub const INVALID_POLICY: &str = "tidegate:invalid-policy";

/// Body of `POST /v1/rollouts`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartBody {
    /// Name of the policy.
    pub policy: String,
    /// Slot that takes the release; the one without weight when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Image to deploy; needs a workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What is released, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Why it must begin although no window of its policy is open, for the audit trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside_windows: Option<String>,
    /// When it is to begin (RFC 3339); at once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// Body of the verbs that need a reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerbBody {
    /// Why, for the audit trail.
    #[serde(default)]
    pub reason: String,
    /// `promote` only: straight to 100.
    #[serde(default)]
    pub full: bool,
    /// `approve` and `reject` only: the name among `from` in which the caller speaks; the caller's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// `retry` only: why it must begin although no window of its policy is open, for the audit trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside_windows: Option<String>,
    /// `approve` and `reject` only: number of the step that the caller was asked about, from 1; another is not meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
}

/// Answer of `GET /v1/rollouts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutList {
    /// Live ones first, then the newest.
    pub rollouts: Vec<RolloutView>,
}

/// Answer of `GET /v1/mesh/problems`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshProblemList {
    /// By resource.
    pub problems: Vec<MeshProblem>,
    /// How many there are beyond these.
    pub more: usize,
}

/// One policy in the answer of `GET /v1/policies`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PolicyEntry {
    /// Its name.
    pub name: String,
    /// Whether a rollout can be started by it.
    pub valid: bool,
    /// All that is wrong with it, each with its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problems: Option<String>,
    /// The checked plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<crate::policy::plan::Plan>,
    /// Of one that was pushed: how many times it has changed since the first push, which is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Who pushed this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<String>,
    /// Its text, as it was pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Answer of `GET /v1/policies`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyList {
    /// By name.
    pub policies: Vec<PolicyEntry>,
}

/// Body of `POST /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenBody {
    /// Who will speak with it.
    pub name: String,
    /// What it allows.
    pub role: Role,
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenEntry {
    /// Its identifier.
    pub id: TokenId,
    /// Who speaks with it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// By whom.
    pub created_by: String,
    /// When it was revoked, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<String>,
}

impl From<&TokenRecord> for TokenEntry {
    fn from(record: &TokenRecord) -> Self {
        let (revoked_at, revoked_by) = record.revoked.clone().map(|(at, by)| (at.rfc3339(), by)).unzip();
        Self {
            id: record.id.clone(),
            name: record.name.clone(),
            role: record.role,
            created_at: record.created_at.rfc3339(),
            created_by: record.created_by.clone(),
            revoked_at,
            revoked_by,
        }
    }
}

/// Answer of `POST /v1/tokens`. It has no `Debug`, so that the token is not printed by accident.
#[derive(Serialize, Deserialize)]
pub struct NewToken {
    /// The token: this once, and never again.
    pub token: String,
    /// What is known of it.
    #[serde(flatten)]
    pub entry: TokenEntry,
}

/// Answer of `GET /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    /// Those that are not revoked, then those that are; each newest first.
    pub tokens: Vec<TokenEntry>,
}

/// Body of `POST /v1/freezes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeBody {
    /// The policy; everything where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Why. Whoever is held up reads it.
    pub reason: String,
}

/// A freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeEntry {
    /// The policy; everything where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Why.
    pub reason: String,
    /// Who froze it.
    pub by: Actor,
    /// Since when, RFC 3339.
    pub since: String,
}

impl From<&Freeze> for FreezeEntry {
    fn from(freeze: &Freeze) -> Self {
        let Freeze { policy, reason, by, at } = freeze.clone();
        Self { policy, reason, by, since: at.rfc3339() }
    }
}

/// Answer of `POST` and `DELETE /v1/freezes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeDone {
    /// The freeze that was made or lifted.
    #[serde(flatten)]
    pub freeze: FreezeEntry,
    /// Live rollouts that it changed something for.
    pub rollouts: Vec<String>,
    /// Live rollouts that could not be told yet, each with the reason: they are as soon as they can be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<String>,
}

/// Answer of `GET /v1/freezes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeList {
    /// Those in force: the one about everything first, then by policy.
    pub freezes: Vec<FreezeEntry>,
}

/// Answer of `POST /v1/hooks/{source}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookAnswer {
    /// What began, or is to begin.
    pub rollouts: Vec<HookRollout>,
    /// Why nothing else did.
    pub nothing: Vec<String>,
    /// Whether the delivery was seen before; absent for no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
}

/// A rollout that an event has begun, or asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRollout {
    /// Its policy.
    pub policy: String,
    /// Its identifier.
    pub id: String,
    /// Where to look at it; phase `pending` until it has begun.
    pub url: String,
}

/// An error, as RFC 9457 has it, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Kind of problem: a name that does not change.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong this time.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether the same request may work later.
    pub retryable: bool,
}
