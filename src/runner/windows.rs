//! Windows: outside of those of its policy no rollout begins, unless a person says why it must.
//!
//! A start looks there first, so that it is refused before anything is asked, and once more at the very instant that its
//! journal has as its beginning. What has begun is not looked at again: it goes on when its window ends.

use super::handle::Runner;
use crate::base::time::Timestamp;
use crate::policy::plan::Plan;
use crate::schedule::Opening;
use std::fmt;

/// No window of a policy is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The policy.
    pub policy: String,
    /// Its windows, as they were written.
    pub windows: Vec<String>,
    /// When the next one opens; `None` where that cannot be told.
    pub next: Option<Timestamp>,
    /// Why they cannot be read, where they cannot: the plan was stored by another version.
    pub unreadable: Option<String>,
}

/// A sentence without its full stop.
impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, windows, next, unreadable } = self;
        let windows = windows.join(", ");
        match unreadable {
            Some(why) => write!(f, "the windows of policy `{policy}` ({windows}) cannot be read: {why}"),
            None => write!(f, "no window of policy `{policy}` is open ({windows})"),
        }?;
        next.map_or(Ok(()), |next| write!(f, "; the next one opens at {}", next.rfc3339()))
    }
}

impl Runner {
    /// What is in the way of a rollout that would begin now: no window of its plan is open. `None` where one is.
    #[must_use]
    pub fn closed(&self, plan: &Plan) -> Option<Closed> {
        closed(plan, self.parts().clock.now())
    }
}

fn closed(plan: &Plan, now: Timestamp) -> Option<Closed> {
    let (next, unreadable) = match plan.schedule().map(|schedule| schedule.opening(now)) {
        Ok(Opening::Open { .. }) => return None,
        Ok(Opening::Closed { next }) => (next, None),
        // Not to know is no leave to start.
        Err(error) => (None, Some(error.to_string())),
    };
    Some(Closed { policy: plan.name.clone(), windows: plan.windows().to_vec(), next, unreadable })
}

/// Lets a start pass where a window is open, or where it has a reason to begin outside of them: answers that reason where
/// it was needed.
pub(super) fn pass(plan: &Plan, reason: Option<&str>, now: Timestamp) -> Result<Option<String>, Box<Closed>> {
    match (closed(plan, now), reason) {
        (None, _) => Ok(None),
        (Some(_), Some(reason)) => Ok(Some(reason.to_owned())),
        (Some(closed), None) => Err(Box::new(closed)),
    }
}
