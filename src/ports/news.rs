//! What is told of rollouts outside, and how far that was done.

use crate::base::fault::Fault;
use crate::base::ids::RolloutId;
use crate::base::time::Timestamp;
use crate::policy::plan::{Notice, NoticeKind};
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
    /// What has changed: the same for the same change, whoever tells it and however often.
    pub change: String,
    /// Whether it is worth interrupting somebody: it ended, or waits for a person.
    pub urgent: bool,
    /// When this was so.
    pub at: Timestamp,
    /// The version that takes the release.
    pub canary: Compared,
    /// The version that it replaces.
    pub stable: Compared,
    /// What the gates say, in a sentence.
    pub verdict: String,
    /// Set while people are asked for an approval.
    pub ask: Option<Ask>,
    /// Who approved last, where an approval has just been given.
    pub approved: Vec<String>,
}

/// One version in a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compared {
    /// Its node.
    pub node: String,
    /// Its share of the traffic, in percent.
    pub weight: u8,
    /// Requests that were judged.
    pub requests: u64,
    /// Of these, failed.
    pub failed: u64,
}

/// An approval that people are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Number of its step in the policy, from 1.
    pub step: usize,
    /// Channel in which they are asked.
    pub channel: Option<String>,
    /// Who may approve.
    pub from: Vec<String>,
    /// How many of them must.
    pub need: u32,
    /// Who has.
    pub given: Vec<String>,
    /// When it runs out; absent while it is paused.
    pub until: Option<Timestamp>,
    /// What happens then: `rollback` or `pause`.
    pub on_timeout: String,
    /// Why an approval would not take it on at once: it is paused or frozen.
    pub held: Option<String>,
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
    /// Position of the last input whose news were told to places of a kind; `None` before the first time.
    async fn told(&self, kind: NoticeKind) -> Result<Option<u64>, Fault>;
    /// Notes it. One that is lower than what is kept changes nothing.
    async fn set_told(&self, kind: NoticeKind, position: u64) -> Result<(), Fault>;
}
