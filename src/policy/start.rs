//! What starts rollouts by itself: the rules of `start`, checked by the code that later compares events with them.

use super::compile::read;
use super::keys_outside::START;
use super::plan::{ImageRule, StartRules, WhileLive, WorkflowImage};
use super::problem::Report;
use super::tree::Node;
use crate::trigger::filter::{ImageFilter, WorkflowRule};

/// `None` where the policy does not say, or not well, which is reported.
pub(super) fn start(root: &Node, report: &mut Report<'_>) -> Option<StartRules> {
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
    Some(StartRules { image, workflow, while_live: while_live.value })
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
