//! Slack: a message in a channel follows each rollout, and whoever may approve is asked there.
//!
//! A message is posted once and then changed in place, whoever drives (see `posts`). Each change that matters is said once
//! more in its thread; an end or a pause is shown to the channel too. A question for an approval is a message of its own,
//! since it has to be heard.

mod api;
mod blocks;
mod posts;

use self::api::Api;
use self::posts::{How, Posts, Spot};
use crate::aws::bounded;
use crate::base::fault::{Fault, FaultKind};
use crate::base::people::People;
use crate::base::secret::Redacted;
use crate::base::time::Timestamp;
use crate::clock::{Clock, Monotonic};
use crate::policy::plan::{Notice, SlackNotice};
use crate::ports::{Chat, News, Notes, Notices};
use async_trait::async_trait;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Who is in a group counts so long: people change groups seldom, and an approval must not wait for Slack twice.
const MEMBERS_FRESH: Duration = Duration::from_secs(60);
/// Groups that are remembered; a configuration has a handful.
const GROUPS_MAX: usize = 100;
/// Notes of messages are forgotten after so long: no rollout lives that long.
const FORGOTTEN_AFTER_MS: i64 = 90 * 24 * 3600 * 1000;

/// Asks Slack whose token this is, and answers it for people.
///
/// # Errors
/// An address that is none, or a token that is no good.
pub async fn examine(api_url: &str, token: &Redacted<String>) -> Result<String, Fault> {
    let api = Api::new(api_url, token.clone())?;
    let answer = api.call("auth.test", json!({}), "the token").await.map_err(Fault::from)?;
    let text = |name: &str| bounded(answer[name].as_str().unwrap_or("?"));
    Ok(format!("the token is {}'s in workspace {}", text("user"), text("team")))
}

/// Members of groups, each with when they were asked for.
type Members = BTreeMap<String, (Monotonic, Vec<String>)>;

/// A workspace of Slack, by a bot's token.
pub struct Slack {
    posts: Posts,
    people: Arc<People>,
    members: Mutex<Members>,
}

impl Slack {
    /// At this address (`https://slack.com/api`), with a bot's token. `notes` keep what was posted.
    ///
    /// # Errors
    /// An address that is none; no HTTP client can be made on this system.
    pub fn new(
        api_url: &str,
        token: Redacted<String>,
        notes: Arc<dyn Notes>,
        people: Arc<People>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Fault> {
        let posts = Posts::new(Api::new(api_url, token)?, notes, clock);
        Ok(Self { posts, people, members: Mutex::default() })
    }

    /// Keeps the message that follows a rollout as it stands, and says what has changed in its thread.
    async fn follow(&self, channel: &str, news: &News) -> Result<(), Fault> {
        let (message, key) = (blocks::status(news), format!("{}/{channel}/status", news.rollout));
        let (posted, how) = self.posts.once(&Spot { key: &key, channel, thread: None }, &message).await?;
        if how == How::Now {
            self.posts.forget(Timestamp(news.at.0 - FORGOTTEN_AFTER_MS)).await?;
        } else {
            gone_is_fine(self.posts.update(&posted, &message).await)?;
        }
        let said = format!("{}/{channel}/said/{}", news.rollout, news.change);
        if how != How::Before {
            // It says so itself.
            return self.posts.say_nothing(&said, &posted).await;
        }
        let spot = Spot { key: &said, channel: &posted.channel, thread: Some((&posted.ts, news.urgent)) };
        self.posts.once(&spot, &blocks::change(news)).await.map(|_| ())
    }

    /// Keeps the question for an approval as it stands, and ends those that are asked no more. A question that is asked
    /// again, since the weight had been taken away meanwhile, is a message of its own: a change of the old one tells nobody.
    async fn ask(&self, channel: &str, news: &News) -> Result<(), Fault> {
        let asked = format!("{}/{channel}/ask/", news.rollout);
        let ask = news.ask.as_ref().filter(|ask| ask.channel.as_deref() == Some(channel));
        let of_step = ask.map(|ask| format!("{asked}{:03}/", ask.step));
        let mut times = 0;
        for (key, posted) in self.posts.under(&asked, channel).await? {
            let is_asked = of_step.as_ref().is_some_and(|of_step| key.starts_with(of_step));
            if is_asked && posted.closed {
                times += 1;
            } else if !is_asked && !posted.closed {
                gone_is_fine(self.posts.update(&posted, &blocks::answered(news)).await)?;
                self.posts.set_closed(&key, &posted).await?;
            }
        }
        let (Some(ask), Some(of_step)) = (ask, of_step) else { return Ok(()) };
        let (message, key) = (blocks::question(news, ask, &self.people), format!("{of_step}{times:03}"));
        let (posted, how) = self.posts.once(&Spot { key: &key, channel, thread: None }, &message).await?;
        match how {
            How::Now => Ok(()),
            How::Found | How::Before => gone_is_fine(self.posts.update(&posted, &message).await),
        }
    }

    fn members(&self) -> std::sync::MutexGuard<'_, Members> {
        // Valid after any panic: every change is one insert.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message that somebody deleted need not be changed.
fn gone_is_fine(outcome: Result<(), Fault>) -> Result<(), Fault> {
    match outcome {
        Err(fault) if fault.kind == FaultKind::Permanent => {
            tracing::warn!(%fault, "a message at Slack stays as it is");
            Ok(())
        }
        other => other,
    }
}

#[async_trait]
impl Notices for Slack {
    async fn tell(&self, place: &Notice, news: &News) -> Result<(), Fault> {
        match place {
            Notice::Slack(SlackNotice { channel, asks: false }) => self.follow(channel, news).await,
            Notice::Slack(SlackNotice { channel, asks: true }) => self.ask(channel, news).await,
            Notice::Github(_) | Notice::Webhook(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Chat for Slack {
    async fn is_member(&self, group: &str, user: &str) -> Result<bool, Fault> {
        let is_in = |members: &[String]| members.iter().any(|member| member == user);
        let known = self.members().get(group).cloned();
        if let Some((at, members)) = &known
            && at.elapsed() < MEMBERS_FRESH
        {
            return Ok(is_in(members));
        }
        let place = format!("members of group {group}");
        let answer = self.posts.api.call("usergroups.users.list", json!({ "usergroup": group }), &place).await;
        let answer = answer.map_err(Fault::from)?;
        let members = answer["users"].as_array().into_iter().flatten();
        let members: Vec<String> = members.filter_map(|member| member.as_str().map(str::to_owned)).collect();
        let found = is_in(&members);
        let mut groups = self.members();
        if groups.len() >= GROUPS_MAX && !groups.contains_key(group) {
            groups.clear();
        }
        groups.insert(group.to_owned(), (Monotonic::now(), members));
        Ok(found)
    }

    async fn whisper(&self, channel: &str, user: &str, text: &str) -> Result<(), Fault> {
        let body = json!({ "channel": channel, "user": user, "text": blocks::escaped(text) });
        let place = format!("a word to {user} in {channel}");
        self.posts.api.call("chat.postEphemeral", body, &place).await.map(|_| ()).map_err(Fault::from)
    }
}
