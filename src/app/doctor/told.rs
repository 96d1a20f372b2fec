//! Whether those who are to be told of rollouts can be, and those who are to be asked can answer.

use super::{Finding, in_time};
use crate::config::daemon::DaemonConfig;
use crate::notify::slack;
use crate::policy::plan::{Notice, NoticeKind, Plan, Step};
use std::collections::BTreeSet;

/// What the policies ask for, against the configuration and Slack itself.
pub(super) async fn told(plans: &[Plan], config: &DaemonConfig) -> Vec<Finding> {
    let mut found: Vec<Finding> = plans.iter().flat_map(|plan| places(plan, config)).collect();
    let at_slack = |plan: &Plan| plan.told().iter().any(|notice| notice.kind() == NoticeKind::Slack);
    if let (true, Some(token)) = (plans.iter().any(at_slack), &config.slack.token) {
        found.push(match in_time("slack", slack::examine(&config.slack.api_url, token)).await {
            Ok(text) => Finding::good("slack", text),
            Err(fault) => Finding::bad("slack", fault.message, "docs/chatops.md makes an app with its token"),
        });
    }
    found.extend(plans.iter().filter_map(|plan| people(plan, config)));
    found
}

/// Kinds of places of a policy, each with whether it can be told.
fn places(plan: &Plan, config: &DaemonConfig) -> Vec<Finding> {
    let told = plan.told();
    let of_kind = |kind: NoticeKind| {
        let places: BTreeSet<String> = told.iter().filter(|notice| notice.kind() == kind).map(named).collect();
        if places.is_empty() {
            return None;
        }
        let places = places.into_iter().collect::<Vec<_>>().join(", ");
        let about = format!("notices of {} by {}", plan.name, kind.name());
        let (key, is_set) = match kind {
            NoticeKind::Github => (
                "github.token or TIDEGATE_GITHUB_TOKEN (docs/TRIGGERS.md, What GitHub shows)",
                config.github.token.is_some(),
            ),
            NoticeKind::Slack => {
                ("slack.token or TIDEGATE_SLACK_TOKEN (docs/chatops.md)", config.slack.token.is_some())
            }
            NoticeKind::Webhook => {
                ("webhook.secret or TIDEGATE_WEBHOOK_SECRET (docs/chatops.md)", config.webhook_secret.is_some())
            }
        };
        Some(match is_set {
            true => Finding::good(about, format!("{places} can be told")),
            false => {
                let what = if kind == NoticeKind::Webhook { "secret" } else { "token" };
                let text = format!("{places} is to be told, and there is no {what} for it");
                Finding::bad(about, text, format!("set {key}"))
            }
        })
    };
    NoticeKind::ALL.into_iter().filter_map(of_kind).collect()
}

fn named(notice: &Notice) -> String {
    match notice {
        Notice::Github(github) => github.repository.clone(),
        Notice::Slack(slack) => slack.channel.clone(),
        Notice::Webhook(webhook) => webhook.url.clone(),
    }
}

/// Whether whoever is asked in Slack is known there. `None` where nobody is.
fn people(plan: &Plan, config: &DaemonConfig) -> Option<Finding> {
    let asked = plan.steps.iter().filter_map(|step| match step {
        Step::Approval(approval) if approval.slack.is_some() => Some(&approval.from),
        Step::Approval(_) | Step::Weight(_) => None,
    });
    let names: BTreeSet<&String> = asked.flatten().collect();
    if names.is_empty() {
        return None;
    }
    let about = format!("approvals of {}", plan.name);
    let known = |name: &&&String| {
        let person = config.people.0.get(**name);
        person.is_some_and(|person| person.slack_user.is_some() || person.slack_group.is_some())
    };
    let unknown: Vec<String> = names.iter().filter(|name| !known(name)).map(|name| format!("`{name}`")).collect();
    if config.slack.signing_secret.is_none() {
        let text = "people are asked in Slack, and there is no secret by which their answers are believed";
        return Some(Finding::bad(
            about,
            text,
            "set slack.signing_secret or TIDEGATE_SLACK_SIGNING_SECRET (docs/chatops.md)",
        ));
    }
    Some(match unknown.is_empty() {
        true => Finding::good(about, "everybody who is asked in Slack is known there"),
        false => {
            let text = format!("nobody at Slack can answer as {}", unknown.join(", "));
            let remedy = "give each `slack_user` or `slack_group` under [people.NAME] of the configuration";
            Finding::bad(about, text, remedy)
        }
    })
}
