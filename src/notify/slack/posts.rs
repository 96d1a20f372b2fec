//! Messages that are posted once, whoever posts them and however often the answer is lost.
//!
//! Before a message is posted that is noted, and after it where it is. A note without a place says that somebody tried and
//! heard nothing: then the channel is searched for the message, which carries its key as metadata, and only when it is not
//! there it is posted again.

use super::api::{Api, NOT_A_MEMBER, Refusal, SOURCE};
use super::blocks::Message;
use crate::base::fault::Fault;
use crate::base::time::Timestamp;
use crate::clock::Clock;
use crate::ports::Notes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// Keys of notes begin so.
pub(super) const PREFIX: &str = "slack/";
/// Name of the metadata that carries a message's key.
const EVENT: &str = "tidegate_message";
/// A page of a channel: what Slack gives at most.
const PAGE: u32 = 200;
/// Pages that are searched: 2000 messages since the one that was lost are more than an outage of minutes brings.
const PAGES_MAX: usize = 10;
/// Pages of the list of channels, of 1000 each.
const CHANNEL_PAGES_MAX: usize = 20;
/// A message that was posted is found after so long, in milliseconds; before, it may still be on its way.
const SETTLED_MS: i64 = 5000;
/// Slack's clock and ours may differ by so much, in milliseconds.
const SKEW_MS: i64 = 120_000;

/// What is known of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Note {
    /// Somebody is posting it, or tried and heard nothing.
    Posting { since_ms: i64 },
    /// It was refused: it is not there.
    Refused,
    /// It is there.
    Posted(Posted),
}

/// Where a message is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Posted {
    /// Identifier of the channel.
    pub(super) channel: String,
    /// Identifier of the message in it.
    pub(super) ts: String,
    /// Whether it will not change any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) closed: bool,
}

/// How a message came where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// It was posted just now, as it is.
    Now,
    /// It was posted by somebody who heard nothing of it, maybe as something was before.
    Found,
    /// It was there, and it is known since.
    Before,
}

/// Where a message belongs.
pub(super) struct Spot<'a> {
    /// Key of its note, after [`PREFIX`].
    pub(super) key: &'a str,
    /// `#name` or identifier of the channel.
    pub(super) channel: &'a str,
    /// The message in whose thread it is; and whether the channel is shown it too.
    pub(super) thread: Option<(&'a str, bool)>,
}

/// Posts messages.
pub(super) struct Posts {
    pub(super) api: Api,
    notes: Arc<dyn Notes>,
    clock: Arc<dyn Clock>,
}

impl Posts {
    pub(super) fn new(api: Api, notes: Arc<dyn Notes>, clock: Arc<dyn Clock>) -> Self {
        Self { api, notes, clock }
    }

    /// Posts a message unless it is there; answers where it is, and how it came there.
    pub(super) async fn once(&self, spot: &Spot<'_>, message: &Message) -> Result<(Posted, How), Fault> {
        let since = match self.note(spot.key).await? {
            Some(Note::Posted(posted)) => return Ok((posted, How::Before)),
            Some(Note::Posting { since_ms }) => Some(since_ms),
            Some(Note::Refused) | None => None,
        };
        if let Some(since_ms) = since
            && let Some(posted) = self.find(spot, since_ms).await?
        {
            return Ok((posted, How::Found));
        }
        if since.is_none() {
            self.keep(spot.key, &Note::Posting { since_ms: self.now().0 }).await?;
        }
        let posted = match self.post(spot, message).await {
            Ok(posted) => posted,
            Err(Refusal { fault, nothing_done }) => {
                if nothing_done {
                    self.keep(spot.key, &Note::Refused).await?;
                }
                return Err(fault);
            }
        };
        self.keep(spot.key, &Note::Posted(posted.clone())).await?;
        self.keep_channel(spot.channel, &posted.channel).await?;
        Ok((posted, How::Now))
    }

    /// Notes that nothing is to be posted under a key, since the message at this place says it already.
    pub(super) async fn say_nothing(&self, key: &str, posted: &Posted) -> Result<(), Fault> {
        self.keep(key, &Note::Posted(posted.clone())).await
    }

    /// Messages under keys that begin so. One that somebody tried to post in this channel is looked for.
    pub(super) async fn under(&self, prefix: &str, channel: &str) -> Result<Vec<(String, Posted)>, Fault> {
        let mut posted = Vec::new();
        for (key, value) in self.notes.notes_under(&format!("{PREFIX}{prefix}")).await? {
            let Some(key) = key.strip_prefix(PREFIX) else { continue };
            match serde_json::from_str(&value) {
                Ok(Note::Posted(place)) => posted.push((key.to_owned(), place)),
                Ok(Note::Posting { since_ms }) => {
                    let found = self.find(&Spot { key, channel, thread: None }, since_ms).await?;
                    posted.extend(found.map(|place| (key.to_owned(), place)));
                }
                Ok(Note::Refused) | Err(_) => {}
            }
        }
        Ok(posted)
    }

    /// Looks for a message that somebody tried to post, and notes where it is.
    async fn find(&self, spot: &Spot<'_>, since_ms: i64) -> Result<Option<Posted>, Fault> {
        if self.now().0 - since_ms < SETTLED_MS {
            let text = format!("a message to {} is being posted, or was just now; looked for soon", spot.channel);
            return Err(Fault::transient(SOURCE, text));
        }
        let found = self.search(spot, since_ms).await?;
        if let Some(posted) = &found {
            self.keep(spot.key, &Note::Posted(posted.clone())).await?;
        }
        Ok(found)
    }

    /// Changes a message that is there.
    pub(super) async fn update(&self, posted: &Posted, message: &Message) -> Result<(), Fault> {
        let Posted { channel, ts, .. } = posted;
        let body = json!({ "channel": channel, "ts": ts, "text": message.text, "blocks": message.blocks });
        self.api.call("chat.update", body, &format!("the message {ts} in {channel}")).await?;
        Ok(())
    }

    /// Notes that a message will not change any more.
    pub(super) async fn set_closed(&self, key: &str, posted: &Posted) -> Result<(), Fault> {
        self.keep(key, &Note::Posted(Posted { closed: true, ..posted.clone() })).await
    }

    /// Forgets messages that are older.
    pub(super) async fn forget(&self, before: Timestamp) -> Result<(), Fault> {
        self.notes.forget_notes(PREFIX, before).await
    }

    async fn post(&self, spot: &Spot<'_>, message: &Message) -> Result<Posted, Refusal> {
        let mut body = json!({
            "channel": spot.channel,
            "text": message.text,
            "blocks": message.blocks,
            "unfurl_links": false,
            "metadata": { "event_type": EVENT, "event_payload": { "key": spot.key } },
        });
        if let Some((thread, broadcast)) = spot.thread {
            body["thread_ts"] = json!(thread);
            body["reply_broadcast"] = json!(broadcast);
        }
        let place = format!("a message to {}", spot.channel);
        let answer = self.api.call("chat.postMessage", body, &place).await?;
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        match (text("channel"), text("ts")) {
            (Some(channel), Some(ts)) => Ok(Posted { channel, ts, closed: false }),
            _ => Err(Fault::permanent(SOURCE, format!("{place}: the answer has no `channel` and `ts`")).into()),
        }
    }

    /// Looks for a message that somebody tried to post at or after a time.
    async fn search(&self, spot: &Spot<'_>, since_ms: i64) -> Result<Option<Posted>, Fault> {
        let Some(channel) = self.channel(spot.channel).await? else { return Ok(None) };
        let oldest = (since_ms - SKEW_MS).max(0);
        let mut body = json!({
            "channel": channel,
            "oldest": format!("{}.{:03}000", oldest / 1000, oldest % 1000),
            "limit": PAGE,
            "include_all_metadata": true,
        });
        let method = match spot.thread {
            Some((thread, _)) => {
                body["ts"] = json!(thread);
                "conversations.replies"
            }
            None => "conversations.history",
        };
        for _ in 0..PAGES_MAX {
            let page = self.read(method, &body, spot.channel).await?;
            let is_it = |message: &&Value| {
                let metadata = &message["metadata"];
                metadata["event_type"] == EVENT && metadata["event_payload"]["key"] == spot.key
            };
            let found = page["messages"].as_array().into_iter().flatten().find(is_it);
            if let Some(ts) = found.and_then(|message| message["ts"].as_str()) {
                return Ok(Some(Posted { channel, ts: ts.to_owned(), closed: false }));
            }
            match next_page(&page) {
                Some(cursor) => body["cursor"] = json!(cursor),
                None => break,
            }
        }
        Ok(None)
    }

    /// A page of a channel. Into a public one may be posted without being a member, but only members read it.
    async fn read(&self, method: &str, body: &Value, channel: &str) -> Result<Value, Fault> {
        let place = format!("messages of {channel}");
        match self.api.call(method, body.clone(), &place).await {
            Err(refusal) if refusal.fault.message.contains(NOT_A_MEMBER) => {
                let join = json!({ "channel": body["channel"] });
                self.api.call("conversations.join", join, &format!("joining {channel}")).await?;
                Ok(self.api.call(method, body.clone(), &place).await?)
            }
            other => Ok(other?),
        }
    }

    /// Identifier of a channel: only posting takes names. `None` when there is none of that name.
    async fn channel(&self, name: &str) -> Result<Option<String>, Fault> {
        let Some(bare) = name.strip_prefix('#') else { return Ok(Some(name.to_owned())) };
        if let Some(known) = self.notes.note(&format!("{PREFIX}channel/{name}")).await? {
            return Ok(Some(known));
        }
        let mut body = json!({
            "limit": 1000,
            "exclude_archived": true,
            "types": "public_channel,private_channel",
        });
        for _ in 0..CHANNEL_PAGES_MAX {
            let page = self.api.call("conversations.list", body.clone(), "the list of channels").await?;
            let found = page["channels"].as_array().into_iter().flatten().find(|channel| channel["name"] == bare);
            if let Some(id) = found.and_then(|channel| channel["id"].as_str()) {
                return Ok(Some(id.to_owned()));
            }
            match next_page(&page) {
                Some(cursor) => body["cursor"] = json!(cursor),
                None => break,
            }
        }
        Ok(None)
    }

    async fn keep_channel(&self, name: &str, id: &str) -> Result<(), Fault> {
        match name.starts_with('#') {
            true => self.notes.set_note(&format!("{PREFIX}channel/{name}"), id, self.now()).await,
            false => Ok(()),
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn note(&self, key: &str) -> Result<Option<Note>, Fault> {
        let note = self.notes.note(&format!("{PREFIX}{key}")).await?;
        // One that is not readable is of a later version: at worst the message is searched for.
        Ok(note.map(|text| serde_json::from_str(&text).unwrap_or(Note::Posting { since_ms: 0 })))
    }

    async fn keep(&self, key: &str, note: &Note) -> Result<(), Fault> {
        let text = serde_json::to_string(note).map_err(|error| Fault::permanent(SOURCE, error))?;
        self.notes.set_note(&format!("{PREFIX}{key}"), &text, self.now()).await
    }
}

fn next_page(page: &Value) -> Option<String> {
    let cursor = page["response_metadata"]["next_cursor"].as_str()?;
    (!cursor.is_empty()).then(|| cursor.to_owned())
}
