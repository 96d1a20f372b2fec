//! What a virtual node has beyond App Mesh, said by tags of its resource as with routes. It is the caller's proxy that does it.

use super::{Balance, Flaw, PREFIX, RetryBudget};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The extensions of one virtual node; the default has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeExtensions {
    /// How requests are spread over its endpoints (`tidegate:balance`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<Balance>,
    /// Bound of retries (`tidegate:retry-budget`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
}

/// Names of the tags.
pub(super) const NODE_TAGS: [&str; 2] = [Balance::TAG, RetryBudget::TAG];

impl NodeExtensions {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the tags of a virtual node: what can be used, and what is wrong with the rest.
    pub fn read<'t>(tags: impl IntoIterator<Item = (&'t str, &'t str)>) -> (Self, Vec<Flaw>) {
        let (mut found, mut flaws) = (Self::default(), Vec::new());
        for (tag, value) in tags.into_iter().filter(|(tag, _)| tag.starts_with(PREFIX)) {
            let read = match tag {
                Balance::TAG => Balance::read(value).map(|balance| found.balance = Some(balance)),
                RetryBudget::TAG => RetryBudget::read(value).map(|budget| found.retry_budget = Some(budget)),
                _ => Err(unknown(tag)),
            };
            flaws.extend(read.err());
        }
        (found, flaws)
    }

    /// As [`Self::read`], of all tags of a resource.
    #[must_use]
    pub fn of(tags: &BTreeMap<String, String>) -> (Self, Vec<Flaw>) {
        Self::read(tags.iter().map(|(tag, value)| (&**tag, &**value)))
    }
}

fn unknown(tag: &str) -> Flaw {
    let message = format!("is not known; tags of a virtual node that begin with {PREFIX} are {}", NODE_TAGS.join(", "));
    Flaw { tag: tag.to_owned(), at: None, message }
}
