//! Who is told of a rollout: `notify`.

use super::plan::{GithubNotice, Notice, SlackNotice, WebhookNotice};
use super::tree::Node;

/// Places in the order of the file; those of a wrong shape, which was reported, are left out.
pub(super) fn notify(root: &Node) -> Vec<Notice> {
    let places = root.get("notify").map(Node::elements).unwrap_or_default();
    places.iter().filter_map(|place| one(root, place)).collect()
}

fn one(root: &Node, place: &Node) -> Option<Notice> {
    if let Some(github) = place.get("github") {
        return self::github(root, github);
    }
    if let Some(channel) = place.get("slack") {
        let channel = channel.text()?.to_owned();
        return Some(Notice::Slack(SlackNotice { channel, asks: false }));
    }
    let url = place.get("webhook")?.text()?.to_owned();
    Some(Notice::Webhook(WebhookNotice { url }))
}

/// Without an `environment` it is called as the policy is.
fn github(root: &Node, github: &Node) -> Option<Notice> {
    let repository = github.get("repository")?.text()?.to_owned();
    let environment = github.get("environment").or_else(|| root.get("name"))?.text()?.to_owned();
    Some(Notice::Github(GithubNotice { repository, environment }))
}
