//! What starts rollouts by itself and when: the rules of `start`, checked by the code that later compares events and
//! instants with them.

use super::compile::read;
use super::keys_outside::START;
use super::plan::{ImageRule, StartRules, Step, WhileLive, WorkflowImage};
use super::problem::Report;
use super::steps::weights;
use super::tree::Node;
use crate::base::time::Millis;
use crate::schedule::{Schedule, ScheduleError, check_departure, check_window};
use crate::trigger::filter::{ImageFilter, WorkflowRule};

/// `None` where the policy does not say, or not well, which is reported.
pub(super) fn start(root: &Node, steps: &[Step], report: &mut Report<'_>) -> Option<StartRules> {
    let start = root.get("start")?;
    let while_live = read(Some(start), &START, "while_live", |text| match text {
        "newest_wins" => Some(WhileLive::NewestWins),
        "queue" => Some(WhileLive::Queue),
        "refuse" => Some(WhileLive::Refuse),
        _ => None,
    });
    let on = start.get("on");
    if let Some(on) = on.filter(|on| on.entries().is_empty()) {
        let hint = "add `image` or `workflow`; a policy that is only started by name needs no `on`".to_owned();
        report.error(on.place, "`start.on` waits for nothing", Some(hint));
    }
    if let (Some(on), true) = (on, root.get("workload").is_none()) {
        let hint = "add `workload`; scripts start a policy without one by its name, which needs no `on`".to_owned();
        let message = "`start.on` waits for images, and no `workload` deploys them: it will start nothing";
        report.warning(on.place, message, Some(hint));
    }
    let image = on.and_then(|on| on.get("image")).and_then(|node| image(node, report));
    let workflow = on.and_then(|on| on.get("workflow")).and_then(|node| workflow(node, report));
    let windows = entries(start, "windows", check_window, report);
    let at = entries(start, "at", check_departure, report);
    if let (Some(windows), Some(at)) = (&windows, &at) {
        unmeant(start, steps, windows, at, report);
    }
    let (windows, at) = (windows.unwrap_or_default(), at.unwrap_or_default());
    Some(StartRules { image, workflow, windows, at, while_live: while_live.value })
}

/// The texts of a list, each checked; `None` where one of them is wrong, which is reported.
fn entries(
    start: &Node,
    key: &str,
    check: impl Fn(&str) -> Result<(), ScheduleError>,
    report: &mut Report<'_>,
) -> Option<Vec<String>> {
    let Some(list) = start.get(key) else { return Some(Vec::new()) };
    let (mut texts, mut good) = (Vec::new(), true);
    for node in list.elements() {
        // What is no text is told already.
        let Some(text) = node.text() else {
            good = false;
            continue;
        };
        if let Err(error) = check(text) {
            report.error(node.place, format!("`start.{key}`: {}", error.message), Some(error.hint));
            good = false;
        }
        texts.push(text.to_owned());
    }
    good.then_some(texts)
}

/// Warns of windows that are shorter than the rollout, and of departures outside of them.
fn unmeant(start: &Node, steps: &[Step], windows: &[String], at: &[String], report: &mut Report<'_>) {
    let (Some(node), Ok(schedule)) = (start.get("windows"), Schedule::read(windows, at)) else { return };
    let shortest = Millis(weights(steps).fold(0, |sum: u64, step| sum.saturating_add(step.min.0)));
    if let Some(longest) = schedule.longest_opening().filter(|longest| *longest < shortest) {
        let message = format!("the steps take {shortest} at least, and no window is open for longer than {longest}");
        let hint = "a rollout that has begun goes on when its window ends; for one that ends within it shorten the steps, or \
                    let the window be longer";
        report.warning(node.place, message, Some(hint.to_owned()));
    }
    if let Some((index, time)) = schedule.departure_outside()
        && let Some(entry) = start.get("at").and_then(|at| at.elements().get(index))
    {
        let message = format!("`start.at`: it departs when no window is open, for example on {time}");
        let hint = "what departs then waits for the next window; move the one or the other".to_owned();
        report.warning(entry.place, message, Some(hint));
    }
}

fn text(node: &Node, key: &str) -> Option<String> {
    node.get(key)?.text().map(str::to_owned)
}

fn image(node: &Node, report: &mut Report<'_>) -> Option<ImageRule> {
    let rule = ImageRule { repository: text(node, "repository")?, tag: text(node, "tag") };
    if let (Err(error), Some(at)) = (ImageFilter::new(&rule.repository, rule.tag.as_deref()), node.get("repository")) {
        let hint = "a repository such as `shop/checkout`, with or without its registry; the tag has its own key";
        report.error(at.place, format!("`start.on.image.repository`: {error}"), Some(hint.to_owned()));
    }
    Some(rule)
}

fn workflow(node: &Node, report: &mut Report<'_>) -> Option<WorkflowImage> {
    let rule = WorkflowImage {
        repository: text(node, "repository")?,
        branch: text(node, "branch")?,
        workflow: text(node, "workflow"),
        image: text(node, "image")?,
    };
    let checked = WorkflowRule::new(&rule.repository, &rule.branch, rule.workflow.as_deref(), &rule.image);
    if let (Err(error), Some(at)) = (checked, node.get("image")) {
        let hint = "for example `ghcr.io/shop/checkout:{sha}`".to_owned();
        report.error(at.place, format!("`start.on.workflow.image`: {error}"), Some(hint));
    }
    Some(rule)
}
