//! What a rollout wants done in the world. Committed before it is carried out, and safe to carry out twice.

use crate::base::fuse::Fuse;
use crate::base::ids::{NodeName, RolloutId, RouteRef, Seq};
use crate::base::weight::{Percent, Slot, Weights};
use crate::policy::plan::{Plan, PreviewHeader, WorkloadTarget};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Names an effect: derived from the input that caused it, so a replay mints the same one. It is also the idempotency
/// key that is sent out. In JSON it is the text `ROLLOUT/SEQ/N`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId {
    /// The rollout.
    pub rollout: RolloutId,
    /// The input that caused it.
    pub seq: Seq,
    /// Its number among that input's effects.
    pub n: u8,
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.rollout, self.seq.0, self.n)
    }
}

impl std::str::FromStr for EffectId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.rsplitn(3, '/');
        let (n, seq, rollout) = (parts.next(), parts.next(), parts.next());
        match (rollout, seq.and_then(|s| s.parse().ok()), n.and_then(|n| n.parse().ok())) {
            (Some(rollout), Some(seq), Some(n)) => {
                Ok(Self { rollout: RolloutId(rollout.to_owned()), seq: Seq(seq), n })
            }
            _ => Err(format!("`{text}` is not an effect id: ROLLOUT/SEQ/N")),
        }
    }
}

impl Serialize for EffectId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EffectId {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        String::deserialize(source)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Effect {
    /// Write the weights of the two slots, and nothing else, to the route.
    SetWeights(WeightsWrite),
    /// Make the canary's slot run the release.
    Deploy(Deployment),
    /// Let a slot without traffic run nothing any more.
    Retire(Retirement),
    /// Have requests with a header reach the canary, by a route beside the plan's.
    OpenPreview(PreviewRoute),
    /// Remove that route.
    ClosePreview(PreviewRoute),
}

/// The route of a preview, as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewRoute {
    /// The plan's route: what it matches, and how its requests are repeated and bounded, is taken over.
    pub beside: RouteRef,
    /// Its own name in the same router.
    pub name: String,
    /// The node that all its requests go to.
    pub canary: NodeName,
    /// What its requests have.
    pub header: PreviewHeader,
    /// Whose it is: kept beside it, so that one that is left over is known.
    pub rollout: RolloutId,
}

impl PreviewRoute {
    /// The route itself.
    #[must_use]
    pub fn route(&self) -> RouteRef {
        RouteRef { route: self.name.clone(), ..self.beside.clone() }
    }
}

/// The weights of the two slots, to be written to the route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsWrite {
    /// The route.
    pub route: RouteRef,
    /// Node that takes the release, and its whole percents.
    pub canary: (String, u8),
    /// The other node and the rest.
    pub stable: (String, u8),
    /// Rises with every write to the route; a stale one is refused by endpoints that know it.
    pub generation: u64,
    /// Whether it takes traffic off the canary: it jumps every queue.
    pub urgent: bool,
    /// What proxies are to watch the canary by, where the endpoint can tell them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuse: Option<Fuse>,
}

/// What a slot should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The rollout that wants it: the same image twice for one rollout is one deployment.
    pub rollout: RolloutId,
    /// Where.
    pub target: WorkloadTarget,
    /// The slot that takes it; the other one is stable.
    pub slot: Slot,
    /// The image, as a container runtime takes it: with a tag, a digest or both.
    pub image: String,
    /// What is released, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The share of the traffic that its instances must bear; absent where their number does not depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Percent>,
}

/// A slot that should run nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retirement {
    /// Where.
    pub target: WorkloadTarget,
    /// The slot.
    pub slot: Slot,
}

impl Effect {
    /// A write of `weights` to the plan's route.
    #[must_use]
    pub fn set_weights(plan: &Plan, weights: Weights, (generation, urgent): (u64, bool), fuse: Option<Fuse>) -> Self {
        let stable = weights.canary.other();
        Self::SetWeights(WeightsWrite {
            route: plan.route.clone(),
            canary: (plan.node(weights.canary).to_owned(), weights.of(weights.canary).get()),
            stable: (plan.node(stable).to_owned(), weights.of(stable).get()),
            generation,
            urgent,
            fuse,
        })
    }
}
