//! Who is told of a rollout.

use super::{Plan, Step};
use serde::{Deserialize, Serialize};

/// A place outside that is told how a rollout goes. No decision waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The repository at GitHub whose commit is released.
    Github(GithubNotice),
    /// A channel of Slack.
    Slack(SlackNotice),
    /// A service of one's own.
    Webhook(WebhookNotice),
}

/// Kinds of places. Each is told by itself, so that none waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// [`Notice::Github`].
    Github,
    /// [`Notice::Slack`].
    Slack,
    /// [`Notice::Webhook`].
    Webhook,
}

/// A status of the commit that is released, and a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GithubNotice {
    /// `OWNER/NAME`.
    pub repository: String,
    /// What GitHub calls the deployment's environment.
    pub environment: String,
}

/// A message for each rollout, which follows it, and one in its thread for each change that matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlackNotice {
    /// `#name`, or the channel's identifier.
    pub channel: String,
    /// Whether people are asked for approvals there, and nothing else is said. Not in `notify`: it stands for the `slack` of
    /// an approval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks: bool,
}

/// A signed request for each change that matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookNotice {
    /// Where to.
    pub url: String,
}

impl Notice {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> NoticeKind {
        match self {
            Self::Github(_) => NoticeKind::Github,
            Self::Slack(_) => NoticeKind::Slack,
            Self::Webhook(_) => NoticeKind::Webhook,
        }
    }
}

impl NoticeKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Github, Self::Slack, Self::Webhook];

    /// As people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Github => "GitHub",
            Self::Slack => "Slack",
            Self::Webhook => "webhook",
        }
    }

    /// The key of the configuration without which nobody is told.
    #[must_use]
    pub const fn needs(self) -> &'static str {
        match self {
            Self::Github => "github.token",
            Self::Slack => "slack.token",
            Self::Webhook => "webhook.secret",
        }
    }
}

impl Plan {
    /// Everybody who is told, and the channels in which people are asked, each once.
    #[must_use]
    pub fn told(&self) -> Vec<Notice> {
        let asked = self.steps.iter().filter_map(|step| match step {
            Step::Approval(approval) => approval.slack.clone(),
            Step::Weight(_) => None,
        });
        let asked = asked.map(|channel| Notice::Slack(SlackNotice { channel, asks: true }));
        let mut told: Vec<Notice> = Vec::new();
        for notice in self.notify.iter().cloned().chain(asked) {
            if !told.contains(&notice) {
                told.push(notice);
            }
        }
        told
    }
}
