//! Copies of requests.

use super::words::{Share, Words};
use super::{Flaw, target};
use crate::base::ids::NodeName;
use serde::{Deserialize, Serialize};

/// A part of the requests is sent to one more target, whose answers nobody waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// The target, which may have weight 0.
    pub target: NodeName,
    /// How many requests are copied.
    pub share: Share,
}

impl Mirror {
    /// Name of the tag.
    pub(super) const TAG: &'static str = "tidegate:mirror";

    /// Reads the tag's value.
    pub(super) fn read(value: &str, targets: &[&str]) -> Result<Self, Flaw> {
        let mut words = Words::of(Self::TAG, &["target", "percent"], value)?;
        let (target, share) = (target(&mut words, "target", targets)?, words.take("percent", Share::read)?);
        let target = target.ok_or_else(|| words.flaw("has no target"))?;
        Ok(Self { target, share: share.unwrap_or(Share::ALL) })
    }
}
