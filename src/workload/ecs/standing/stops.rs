//! Why tasks stopped: which of them stopped by themselves, and of what.

use aws_sdk_ecs::types::{Container, Task, TaskStopCode};
use std::fmt;

/// Exit codes that say little: ended well, killed, asked to end. Containers that are stopped with the one that failed
/// have them.
const QUIET_EXITS: [i32; 3] = [0, 137, 143];

/// Stopped tasks, counted.
#[derive(Debug, Default)]
pub(super) struct Stops {
    /// Why tasks stopped by themselves, with how many each.
    reasons: Vec<(String, usize)>,
    /// Of them, those whose image could not be pulled.
    pulls: usize,
    /// What was said of one that found no room.
    capacity: Option<String>,
}

impl Stops {
    /// Looks at tasks; those that have not stopped, or were asked to, do not count.
    pub(super) fn among<'a>(tasks: impl Iterator<Item = &'a Task>) -> Self {
        let mut stops = Self::default();
        for task in tasks.filter(|task| task.last_status() == Some("STOPPED")) {
            let reason = task.stopped_reason().unwrap_or("no reason given");
            if is_of_capacity(reason) {
                stops.capacity.get_or_insert_with(|| reason.to_owned());
            } else if is_by_itself(task, reason) {
                stops.add(told(task, reason));
                stops.pulls += usize::from(reason.contains("CannotPull") || reason.contains("ImageNotFound"));
            }
        }
        stops.reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        stops
    }

    fn add(&mut self, text: String) {
        match self.reasons.iter_mut().find(|(reason, _)| *reason == text) {
            Some((_, count)) => *count += 1,
            None => self.reasons.push((text, 1)),
        }
    }

    /// How many stopped by themselves.
    pub(super) fn crashed(&self) -> usize {
        self.reasons.iter().map(|(_, count)| count).sum()
    }

    /// How many of these never got their image.
    pub(super) fn pulls(&self) -> usize {
        self.pulls
    }

    /// What was said of one that found no room.
    pub(super) fn capacity(&self) -> Option<String> {
        self.capacity.clone()
    }

    /// Whether none stopped by itself.
    pub(super) fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// For the end of a sentence: empty, or begins with `; `.
    pub(super) fn as_appendix(&self) -> String {
        if self.is_empty() { String::new() } else { format!("; {self}") }
    }
}

/// "3 tasks stopped: Essential container in task exited: app exit code 1".
impl fmt::Display for Stops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.crashed();
        let noun = if count == 1 { "task" } else { "tasks" };
        let most = self.reasons.first().map_or("no reason given", |(reason, _)| reason.as_str());
        write!(f, "{count} {noun} stopped: {most}")?;
        let others: usize = self.reasons.iter().skip(1).map(|(_, count)| count).sum();
        if others == 0 { Ok(()) } else { write!(f, " ({others} for other reasons)") }
    }
}

fn is_of_capacity(reason: &str) -> bool {
    reason.contains("Capacity is unavailable") || reason.starts_with("RESOURCE:")
}

/// Whether the task, and not somebody else, is why it ended. The scheduler ends tasks that fail their checks, and those
/// that are too many.
fn is_by_itself(task: &Task, reason: &str) -> bool {
    match task.stop_code() {
        Some(TaskStopCode::EssentialContainerExited | TaskStopCode::TaskFailedToStart) => true,
        Some(TaskStopCode::ServiceSchedulerInitiated) | None => reason.contains("health checks"),
        Some(_) => false,
    }
}

/// What ECS says of its end, and what the container that is most likely the cause said.
fn told(task: &Task, reason: &str) -> String {
    let reason = reason.trim_end_matches('.');
    let culprit = task.containers().iter().min_by_key(|container| quietness(container));
    let mut text = reason.to_owned();
    if let Some(container) = culprit {
        let name = container.name().unwrap_or("a container");
        // Of a task that was stopped, the codes only tell that its containers were stopped too.
        let ended_by_itself = task.stop_code() == Some(&TaskStopCode::EssentialContainerExited);
        if let Some(code) = container.exit_code().filter(|_| ended_by_itself) {
            text = format!("{text}: {name} exit code {code}");
        }
        if let Some(why) = container.reason().filter(|why| !reason.contains(why.trim_end_matches('.'))) {
            text = format!("{text} ({})", why.trim_end_matches('.'));
        }
    }
    text
}

/// Lowest for the container that is most likely why a task ended.
fn quietness(container: &Container) -> u8 {
    match (container.reason(), container.exit_code()) {
        (Some(_), _) => 0,
        (None, Some(code)) if !QUIET_EXITS.contains(&code) => 1,
        (None, Some(137)) => 2,
        (None, Some(0)) => 3,
        _ => 4,
    }
}
