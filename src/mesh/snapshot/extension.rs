//! What a route or a virtual node does beyond App Mesh, said by tags of the resource, so that its spec stays one that AWS takes.
//!
//! Each tag holds words of the form `name=value`, apart by blanks, within what the tags of AWS may hold: letters, digits,
//! blanks and `_.:/=+-@`, up to 256 characters. A tag of such a resource that begins with `tidegate:` and is none of these is an error,
//! and so is each word that its tag does not know.

mod affinity;
mod balance;
mod fault;
mod forced;
mod limit;
mod mirror;
mod node;
mod retry_budget;
mod words;

pub use affinity::Affinity;
pub use balance::{Balance, Choice};
pub use fault::{Abort, Delay, Fault};
pub use forced::Override;
pub use limit::Limit;
pub use mirror::Mirror;
pub use node::NodeExtensions;
pub use retry_budget::RetryBudget;
pub use words::{Flaw, Share};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use words::Words;

/// What all of these tags begin with.
pub const PREFIX: &str = "tidegate:";

/// The tag by which a controller knows the route of a preview as its own; its value is the rollout. It changes nothing that
/// the route does.
pub const PREVIEW_TAG: &str = "tidegate:preview";

/// The extensions of one route; at least one is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Extensions {
    /// Failures on purpose (`tidegate:fault`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Versions chosen by hand (`tidegate:override`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<Override>,
    /// Sessions that stay with a version (`tidegate:affinity`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Bound of requests (`tidegate:limit`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Copies for another target (`tidegate:mirror`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
}

/// Names of the tags.
const TAGS: [&str; 5] = [Fault::TAG, Override::TAG, Affinity::TAG, Limit::TAG, Mirror::TAG];

impl Extensions {
    /// Reads the tags of a route with these targets: what can be used, `None` without any, and what is wrong with the rest.
    pub fn read<'t>(
        tags: impl IntoIterator<Item = (&'t str, &'t str)>,
        targets: &[&str],
    ) -> (Option<Box<Self>>, Vec<Flaw>) {
        let (mut found, mut flaws) = (Self::default(), Vec::new());
        for (tag, value) in tags.into_iter().filter(|(tag, _)| tag.starts_with(PREFIX)) {
            let read = match tag {
                Fault::TAG => Fault::read(value, targets).map(|fault| found.fault = Some(fault)),
                Override::TAG => Override::read(value).map(|forced| found.forced = Some(forced)),
                Affinity::TAG => Affinity::read(value).map(|affinity| found.affinity = Some(affinity)),
                Limit::TAG => Limit::read(value).map(|limit| found.limit = Some(limit)),
                Mirror::TAG => Mirror::read(value, targets).map(|mirror| found.mirror = Some(mirror)),
                PREVIEW_TAG => Ok(()),
                _ => Err(unknown(tag)),
            };
            flaws.extend(read.err());
        }
        ((found != Self::default()).then(|| Box::new(found)), flaws)
    }

    /// As [`Self::read`], of all tags of a resource.
    #[must_use]
    pub fn of(tags: &BTreeMap<String, String>, targets: &[&str]) -> (Option<Box<Self>>, Vec<Flaw>) {
        Self::read(tags.iter().map(|(tag, value)| (&**tag, &**value)), targets)
    }
}

fn unknown(tag: &str) -> Flaw {
    let message = format!("is not known; tags of a route that begin with {PREFIX} are {}", TAGS.join(", "));
    Flaw { tag: tag.to_owned(), at: None, message }
}

/// The place of a value that has to name a target of the route.
fn target(words: &mut Words<'_>, name: &'static str, targets: &[&str]) -> Result<Option<String>, Flaw> {
    words.take(name, |text| {
        if targets.contains(&text) {
            return Ok(text.to_owned());
        }
        Err(format!("{text:?} is no target of this route; it has {}", targets.join(", ")))
    })
}

#[cfg(test)]
mod tests;
