//! What is told of rollouts outside, and how far that was done.

use crate::base::fault::Fault;
use crate::base::ids::RolloutId;
use crate::policy::plan::Notice;
use async_trait::async_trait;

/// Tells places outside how a rollout goes, for people. Nothing waits for it, and the same may be told twice.
#[async_trait]
pub trait Notices: Send + Sync + 'static {
    /// Tells one place; what it was told before of the same rollout is no longer true.
    async fn tell(&self, place: &Notice, news: &News) -> Result<(), Fault>;
}

/// How a rollout goes, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The rollout.
    pub rollout: RolloutId,
    /// Its policy.
    pub policy: String,
    /// What is released.
    pub revision: Option<String>,
    /// How it stands.
    pub standing: NewsStanding,
    /// The same in a sentence.
    pub text: String,
    /// Where one reads more.
    pub url: Option<String>,
}

/// How a rollout stands, as far as everybody distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewsStanding {
    /// It goes on.
    UnderWay,
    /// The release has all the traffic.
    Succeeded,
    /// The release has none, or should have, by a verdict.
    Failed,
    /// The release has none, by a person or by a newer one.
    Stopped,
}

/// Keeps how far news were told, so that a restart neither forgets one nor begins from the start.
#[async_trait]
pub trait NewsCursor: Send + Sync + 'static {
    /// Position of the last input whose news were told; `None` before the first time.
    async fn told(&self) -> Result<Option<u64>, Fault>;
    /// Notes it. One that is lower than what is kept changes nothing.
    async fn set_told(&self, position: u64) -> Result<(), Fault>;
}
