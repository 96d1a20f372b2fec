//! The seam to where freezes are kept.

use crate::base::fault::Fault;
use crate::base::time::Timestamp;
use crate::rollout::event::Actor;
use async_trait::async_trait;
use std::fmt;

/// No start and no step, of one policy or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// The policy; all of them where there is none.
    pub policy: Option<String>,
    /// Why, for people.
    pub reason: String,
    /// Who froze it.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

impl Freeze {
    /// Whether it is about a policy.
    #[must_use]
    pub fn covers(&self, policy: &str) -> bool {
        self.policy.as_deref().is_none_or(|frozen| frozen == policy)
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.policy.as_deref().map_or_else(|| "everything is".to_owned(), |name| format!("`{name}` is"));
        write!(f, "{what} frozen since {} by {}: {}", self.at.rfc3339(), self.by.name, self.reason)
    }
}

/// Keeps freezes.
///
/// Not under the driver's lease: whoever holds everything up must not be held up by who drives. Whoever drives looks
/// for them before each start, and every few seconds.
#[async_trait]
pub trait Freezes: Send + Sync + 'static {
    /// Those in force: the one about everything first, then by policy.
    async fn in_force(&self) -> Result<Vec<Freeze>, Fault>;
    /// Keeps one. `false` where the same is frozen already: that freeze stays as it is.
    async fn freeze(&self, freeze: &Freeze) -> Result<bool, Fault>;
    /// Lifts the freeze of a policy, or the one about everything, and answers it; `None` where there is none. It stays
    /// on record with who lifted it.
    async fn lift(&self, policy: Option<&str>, at: Timestamp, by: &Actor) -> Result<Option<Freeze>, Fault>;
}
