//! Failures on purpose, for rehearsing a rollback.

use super::words::{Share, Words, header, number, span};
use super::{Flaw, target};
use crate::base::ids::NodeName;
use crate::base::time::Millis;
use crate::mesh::snapshot::HeaderMatch;
use serde::{Deserialize, Serialize};

/// Longest delay. A delayed request holds its client's connection and a place in the proxy; the timeout of its route, 15 s
/// unless told otherwise, ends it sooner.
const DELAY_MAX: Millis = Millis::from_seconds(60);

/// What is done to requests instead of, or before, sending them on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Answered without asking anybody.
    pub abort: Option<Abort>,
    /// Held back; before the abort, where both meet.
    pub delay: Option<Delay>,
    /// Only requests that go to this target, whose failures they are. `None` for all of the route, which are not judged.
    pub target: Option<NodeName>,
    /// Only requests with this header.
    pub header: Option<HeaderMatch>,
}

/// An answer in a service's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// Its status, 400 to 599.
    pub status: u16,
    /// How many requests get it.
    pub share: Share,
}

/// A pause before a request is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// How long, 1 ms to 60 s.
    pub time: Millis,
    /// How many requests are held back.
    pub share: Share,
}

impl Fault {
    /// Name of the tag.
    pub(super) const TAG: &'static str = "tidegate:fault";

    /// Reads the tag's value.
    pub(super) fn read(value: &str, targets: &[&str]) -> Result<Self, Flaw> {
        let known = ["abort", "abort-percent", "delay", "delay-percent", "target", "header"];
        let mut words = Words::of(Self::TAG, &known, value)?;
        let status = words.take("abort", |text| number(text, 400..=599))?;
        let time = words.take("delay", |text| span(text, Millis(1)..=DELAY_MAX))?;
        let shares = [words.take("abort-percent", Share::read)?, words.take("delay-percent", Share::read)?];
        let (target, header) = (target(&mut words, "target", targets)?, words.take("header", header)?);
        match (status, time, shares) {
            (None, None, _) => Err(words.flaw("has neither abort nor delay")),
            (None, _, [Some(_), _]) => Err(words.flaw("has abort-percent and no abort")),
            (_, None, [_, Some(_)]) => Err(words.flaw("has delay-percent and no delay")),
            (_, _, [abort, delay]) => Ok(Self {
                abort: status.map(|status| Abort { status, share: abort.unwrap_or(Share::ALL) }),
                delay: time.map(|time| Delay { time, share: delay.unwrap_or(Share::ALL) }),
                target,
                header,
            }),
        }
    }
}
