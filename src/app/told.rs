//! Who is told how rollouts go, and by whom people answer: put together once, whose ever turn it is.

use crate::api::slack::Door;
use crate::base::fault::Fault;
use crate::base::people::People;
use crate::clock::Clock;
use crate::config::daemon::DaemonConfig;
use crate::notify::github::Github;
use crate::notify::slack::Slack;
use crate::notify::webhook::Webhook;
use crate::policy::plan::NoticeKind;
use crate::ports::{Chat, NewsCursor, Notes, Notices};
use crate::runner::Runner;
use crate::runner::news::NewsFollower;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The parts that outlive turns.
pub(super) struct Told {
    cursor: Arc<dyn NewsCursor>,
    kinds: Vec<(NoticeKind, Option<Arc<dyn Notices>>)>,
    public_url: Option<String>,
    /// What comes back from Slack.
    pub(super) door: Arc<Door>,
}

impl Told {
    /// By what the configuration says; kinds without a token or secret tell nobody.
    ///
    /// # Errors
    /// An address of the configuration that is none.
    pub(super) fn new(
        config: &DaemonConfig,
        cursor: Arc<dyn NewsCursor>,
        notes: Arc<dyn Notes>,
        people: Arc<People>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Fault> {
        let github = match config.github.token.clone() {
            Some(token) => Some(Arc::new(Github::new(&config.github.api_url, token)?) as Arc<dyn Notices>),
            None => None,
        };
        let slack = match config.slack.token.clone() {
            Some(token) => {
                let api_url = &config.slack.api_url;
                Some(Arc::new(Slack::new(api_url, token, Arc::clone(&notes), Arc::clone(&people), clock)?))
            }
            None => None,
        };
        let webhook = match config.webhook_secret.clone() {
            Some(secret) => Some(Arc::new(Webhook::new(secret)?) as Arc<dyn Notices>),
            None => None,
        };
        let chat = slack.clone().map(|slack| slack as Arc<dyn Chat>);
        let door = Door { secret: config.slack.signing_secret.clone(), chat, people, notes: Some(notes) };
        let kinds = vec![
            (NoticeKind::Github, github),
            (NoticeKind::Slack, slack.map(|slack| slack as Arc<dyn Notices>)),
            (NoticeKind::Webhook, webhook),
        ];
        Ok(Self { cursor, kinds, public_url: config.api.public_url.clone(), door: Arc::new(door) })
    }

    /// Follows a runner, until it ends or these are aborted.
    pub(super) fn follow(&self, runner: &Runner) -> Vec<JoinHandle<()>> {
        let followers = self.kinds.iter().map(|(kind, notices)| {
            let (cursor, to, url) = (Arc::clone(&self.cursor), (*kind, notices.clone()), self.public_url.clone());
            tokio::spawn(NewsFollower::new(runner.clone(), cursor, to, url).follow())
        });
        followers.collect()
    }
}
