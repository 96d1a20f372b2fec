//! What starts rollouts by itself, and when rollouts may begin.

use super::Plan;
use crate::schedule::{Schedule, ScheduleError};
use serde::{Deserialize, Serialize};

/// What starts rollouts by itself, when rollouts may begin, and what a start does while one is live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRules {
    /// Pushed images that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRule>,
    /// Workflows that count, and which image each has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowImage>,
    /// Within which rollouts may begin, as they were written; at any time without one. `schedule` has checked them. Kept as
    /// text, since a zone that a later database of zones does not know must not make a stored plan unreadable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<String>,
    /// When what events ask for departs, likewise; as soon as it is asked for without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<String>,
    /// What a start does while a rollout of the policy is live.
    pub while_live: WhileLive,
}

impl Plan {
    /// When rollouts of this plan may begin.
    ///
    /// # Errors
    /// [`ScheduleError`] where the plan was stored by a version that knew a zone which this one does not.
    pub fn schedule(&self) -> Result<Schedule, ScheduleError> {
        self.start.as_ref().map_or_else(|| Ok(Schedule::default()), |start| Schedule::read(&start.windows, &start.at))
    }

    /// Within which rollouts may begin, as they were written; none for at any time.
    #[must_use]
    pub fn windows(&self) -> &[String] {
        self.start.as_ref().map_or(&[], |start| &start.windows)
    }
}

/// Pushed images that start a rollout; `trigger::filter` has checked it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRule {
    /// Repository, with or without its registry.
    pub repository: String,
    /// Tags that count, in which `*` stands for any text; all of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// Workflows that start a rollout, and which image each has made; `trigger::filter` has checked it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowImage {
    /// Repository of the source code.
    pub repository: String,
    /// Branches and tags that count, in which `*` stands for any text.
    pub branch: String,
    /// Name of the workflow, pipeline or job; any without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The image, with `{sha}`, `{short_sha}` and `{branch}` in it.
    pub image: String,
}

/// What a start by an event does while a rollout of the policy is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhileLive {
    /// Ends the live one, unless it has all the traffic already, and begins after its end.
    #[default]
    NewestWins,
    /// Begins after the live one's end; of those that wait, only the newest.
    Queue,
    /// Does not begin.
    Refuse,
}
