//! Where a gate acts.
//!
//! A rollout is at one [`Moment`] at a time, and a gate acts at those that its scopes name. Both are fixed before anything
//! is seen there, so a test that stakes nothing elsewhere keeps its bound.

use super::{Gate, GateRule, SignalQuery, SignalRule};
use crate::base::weight::Percent;
use serde::{Deserialize, Serialize};

/// A part of a rollout in which a gate acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Before any weight, while the policy's preview lasts.
    Preview,
    /// While the traffic is split: every weight below 100.
    Steps,
    /// At 100 %.
    Bake,
    /// At the step of this weight, 1 to 100.
    Weight(Percent),
}

/// Where a rollout stands, as gates see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// In its preview.
    Preview,
    /// At a step of this weight, 1 to 100.
    At(Percent),
}

impl Scope {
    /// Whether a moment belongs to it.
    #[must_use]
    pub fn covers(self, moment: Moment) -> bool {
        match (self, moment) {
            (Self::Preview, Moment::Preview) => true,
            (Self::Steps, Moment::At(weight)) => weight < Percent::FULL,
            (Self::Bake, Moment::At(weight)) => weight == Percent::FULL,
            (Self::Weight(own), Moment::At(weight)) => own == weight,
            (Self::Preview, Moment::At(_)) | (Self::Steps | Self::Bake | Self::Weight(_), Moment::Preview) => false,
        }
    }

    /// Whether requests that were drawn at a share (in millionths) belong to it.
    #[must_use]
    pub fn covers_share(self, share_ppm: u32) -> bool {
        match self {
            // No request of a preview is judged.
            Self::Preview => false,
            Self::Steps => (1..1_000_000).contains(&share_ppm),
            Self::Bake => share_ppm == 1_000_000,
            Self::Weight(weight) => share_ppm == u32::from(weight.get()) * 10_000,
        }
    }
}

/// In a sentence: `in the preview`, `at 10 %`.
impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Preview => f.write_str("in the preview"),
            Self::Steps => f.write_str("below 100 %"),
            Self::Bake => f.write_str("at 100 %"),
            Self::Weight(weight) => write!(f, "at {weight}"),
        }
    }
}

/// Scopes in a sentence: `at 10 %, at 50 % and at 100 %`.
#[must_use]
pub fn listed(scopes: &[Scope]) -> String {
    let all: Vec<String> = scopes.iter().map(Scope::to_string).collect();
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => all.concat(),
    }
}

impl GateRule {
    /// Whether it compares counts of judged requests: these gates share `max_false_rollback`.
    #[must_use]
    pub const fn is_covered(&self) -> bool {
        matches!(self, Self::ErrorRateAgainstStable { .. } | Self::LatencyAgainstStable { .. })
    }

    /// Whether it compares latencies with stable.
    #[must_use]
    pub const fn is_latency(&self) -> bool {
        matches!(self, Self::LatencyAgainstStable { .. })
    }

    /// Whether it compares with stable, which takes traffic on both.
    #[must_use]
    pub const fn compares(&self) -> bool {
        match self {
            Self::Signal(signal) => matches!(signal.rule, SignalRule::AgainstStable { .. }),
            _ => self.is_covered(),
        }
    }

    /// Whether it judges by requests, of which a preview has none.
    #[must_use]
    pub const fn is_of_requests(&self) -> bool {
        match self {
            Self::ErrorRateAgainstStable { .. }
            | Self::LatencyAgainstStable { .. }
            | Self::ErrorRateLimit { .. }
            | Self::LatencyLimit { .. } => true,
            Self::Health { .. } | Self::Signal(_) => false,
        }
    }

    /// Where such a gate acts when the policy does not say.
    #[must_use]
    pub const fn usual_scopes(&self) -> &'static [Scope] {
        match self {
            Self::Health { .. } => &[Scope::Preview, Scope::Steps, Scope::Bake],
            Self::Signal(signal) if matches!(signal.query, SignalQuery::Webhook(_)) => {
                &[Scope::Preview, Scope::Steps, Scope::Bake]
            }
            _ if self.compares() => &[Scope::Steps],
            _ => &[Scope::Steps, Scope::Bake],
        }
    }
}

impl Gate {
    /// A gate that decides, acts where such gates usually do, has no weight of its own, and fails as its policy says.
    #[must_use]
    pub fn new(name: &str, rule: GateRule) -> Self {
        Self { name: name.to_owned(), rule, dry_run: false, during: Vec::new(), weight: None, on_failure: None }
    }

    /// Where it acts.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        if self.during.is_empty() { self.rule.usual_scopes() } else { &self.during }
    }

    /// Whether it acts at a moment.
    #[must_use]
    pub fn acts(&self, moment: Moment) -> bool {
        self.scopes().iter().any(|scope| scope.covers(moment))
    }

    /// Whether requests that were drawn at a share (in millionths) count for it.
    #[must_use]
    pub fn counts_share(&self, share_ppm: u32) -> bool {
        self.during.is_empty() || self.during.iter().any(|scope| scope.covers_share(share_ppm))
    }
}
