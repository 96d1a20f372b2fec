//! Windows: outside of those of its policy no rollout begins, unless a person says why it must.
//!
//! A start looks there first, so that it is refused before anything is asked, and once more at the very instant that its
//! journal has as its beginning. What has begun is not looked at again: it goes on when its window ends.

use super::errors::StartError;
use super::handle::Runner;
use super::handle::StartRequest;
use crate::base::time::{Millis, Timestamp};
use crate::policy::plan::Plan;
use crate::rollout::start::released;
use crate::rollout::state::Refusal;
use crate::schedule::Opening;
use std::fmt;

/// A start may be asked for so long ahead: further away is a slip of the fingers.
const AHEAD: Millis = Millis::from_seconds(366 * 86_400);
/// So many starts that were asked for ahead of their time may wait: each is looked at every few seconds.
const ASKED_MOST: usize = 100;

/// No window of a policy is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The policy.
    pub policy: String,
    /// Its windows, as they were written.
    pub windows: Vec<String>,
    /// The time that was asked about; `None` for now.
    pub at: Option<Timestamp>,
    /// When the next one opens; `None` where that cannot be told.
    pub next: Option<Timestamp>,
    /// Why they cannot be read, where they cannot: the plan was stored by another version.
    pub unreadable: Option<String>,
}

/// A sentence without its full stop.
impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, windows, at, next, unreadable } = self;
        let windows = windows.join(", ");
        let at = at.map(|at| format!(" at {}", at.rfc3339())).unwrap_or_default();
        match unreadable {
            Some(why) => write!(f, "the windows of policy `{policy}` ({windows}) cannot be read: {why}"),
            None => write!(f, "no window of policy `{policy}` is open{at} ({windows})"),
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

    /// Whether a start may be asked for ahead of its time, with so many waiting already: it could begin then, by all that is
    /// known now.
    ///
    /// # Errors
    /// [`StartError`] where it could not: its time is past or a year away, no window is open then, or it names nothing to
    /// release.
    pub async fn may_be_asked(&self, request: &StartRequest, at: Timestamp, waiting: usize) -> Result<(), StartError> {
        let plan = self.plan(&request.policy).await?;
        let now = self.parts().clock.now();
        let refused = |message: String, hint: &str| StartError::Refused(Refusal { message, hint: hint.to_owned() });
        if at <= now {
            return Err(refused(format!("{} is past", at.rfc3339()), "leave the time out to begin now"));
        }
        if at.since(now) > AHEAD {
            return Err(refused(format!("{} is more than a year away", at.rfc3339()), "name a time within a year"));
        }
        if waiting >= ASKED_MOST {
            let hint = "`tidegate rollout list` shows them, and `tidegate rollout abort ID` gives one up";
            return Err(refused(format!("{waiting} starts wait for their time already"), hint));
        }
        if request.to.is_some() {
            let hint = "leave `to` out: the version without weight takes the release";
            return Err(refused("which version has no weight at that time is not known yet".to_owned(), hint));
        }
        released(&plan, request.image.as_deref(), request.revision.as_deref()).map_err(StartError::Refused)?;
        match (closed(&plan, at), &request.outside_windows) {
            (Some(closed), None) => Err(StartError::OutsideWindows(Box::new(Closed { at: Some(at), ..closed }))),
            (Some(_), Some(_)) | (None, _) => Ok(()),
        }
    }
}

fn closed(plan: &Plan, now: Timestamp) -> Option<Closed> {
    let (next, unreadable) = match plan.schedule().map(|schedule| schedule.opening(now)) {
        Ok(Opening::Open { .. }) => return None,
        Ok(Opening::Closed { next }) => (next, None),
        // Not to know is no leave to start.
        Err(error) => (None, Some(error.to_string())),
    };
    Some(Closed { policy: plan.name.clone(), windows: plan.windows().to_vec(), at: None, next, unreadable })
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
