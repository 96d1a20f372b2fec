//! A double of the part of Slack's Web API by which messages are posted and changed, and of the requests by which Slack tells
//! of buttons and commands. There is no server of it to test against. It refuses what Slack's documentation says that it
//! refuses: a token it does not know, a channel it is not in, blocks beyond the limits of Block Kit.

use super::text;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tidegate::base::mac::{hmac_sha256, to_hex};
use tidegate::clock::{Clock, SystemClock};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The token that it believes.
pub(crate) const TOKEN: &str = "xoxb-of-the-tests";
/// By which its requests are signed.
pub(crate) const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
/// The channel that it has, by name and identifier.
pub(crate) const CHANNEL: (&str, &str) = ("deploys", "C0123456789");

/// A workspace.
pub(crate) struct Slack {
    pub(crate) url: String,
    inside: Arc<Mutex<Inside>>,
    serving: JoinHandle<()>,
}

/// What it does with calls instead of the usual.
#[derive(Debug, Clone)]
pub(crate) enum Instead {
    /// It answers with a status and these headers.
    Status(u16, Vec<(&'static str, &'static str)>),
    /// It refuses with this error.
    Error(&'static str),
    /// It does what was asked, and its answer is lost.
    Loses,
}

/// A message as people see it.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub(crate) ts: String,
    pub(crate) thread: Option<String>,
    pub(crate) broadcast: bool,
    pub(crate) body: Value,
    /// How often it was changed.
    pub(crate) changes: usize,
}

#[derive(Default)]
struct Inside {
    messages: Vec<Posted>,
    whispers: Vec<(String, String)>,
    groups: BTreeMap<String, Vec<String>>,
    calls: Vec<String>,
    instead: Vec<(&'static str, Instead)>,
    down: Option<Instead>,
    next: u64,
    is_member: bool,
}

impl Drop for Slack {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Slack {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap());
        let inside = Arc::<Mutex<Inside>>::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&inside));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, inside, serving }
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    /// It has a group of these users.
    pub(crate) fn group(&self, id: &str, users: &[&str]) {
        self.inside().groups.insert(id.to_owned(), users.iter().map(|user| (*user).to_owned()).collect());
    }

    /// The next call of a method is answered so.
    pub(crate) fn instead(&self, method: &'static str, what: Instead) {
        self.inside().instead.push((method, what));
    }

    /// Every call is answered so, or as usual again.
    pub(crate) fn always(&self, what: Option<Instead>) {
        self.inside().down = what;
    }

    /// Messages of the channel, without those of threads.
    pub(crate) fn messages(&self) -> Vec<Posted> {
        self.inside().messages.iter().filter(|message| message.thread.is_none()).cloned().collect()
    }

    /// Messages in the thread of one.
    pub(crate) fn thread(&self, of: &Posted) -> Vec<Posted> {
        let inside = self.inside();
        inside.messages.iter().filter(|message| message.thread.as_ref() == Some(&of.ts)).cloned().collect()
    }

    /// What single users were told: user and text.
    pub(crate) fn whispers(&self) -> Vec<(String, String)> {
        self.inside().whispers.clone()
    }

    /// Methods that were called.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.inside().calls.clone()
    }
}

impl Posted {
    /// All its text.
    pub(crate) fn text(&self) -> String {
        self.body["blocks"].to_string()
    }

    /// The value that a button brings back; `None` without such a button.
    pub(crate) fn button(&self, verb: &str) -> Option<String> {
        let id = format!("tidegate-{verb}");
        let blocks = self.body["blocks"].as_array().unwrap();
        let elements = blocks.iter().filter(|block| block["type"] == "actions");
        let mut elements = elements.flat_map(|block| block["elements"].as_array().unwrap());
        elements.find(|element| element["action_id"] == id).map(|element| text(&element["value"]))
    }
}

/// A request as Slack signs it: body, timestamp, signature.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) body: String,
    pub(crate) timestamp: String,
    pub(crate) signature: String,
}

impl Signed {
    /// Of this form, so many seconds from now.
    pub(crate) fn new(fields: &[(&str, &str)], from_now_s: i64) -> Self {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let timestamp = (SystemClock.now().0 / 1000 + from_now_s).to_string();
        let mac = hmac_sha256(SECRET.as_bytes(), &[b"v0:", timestamp.as_bytes(), b":", body.as_bytes()]);
        Self { body, timestamp, signature: format!("v0={}", to_hex(&mac)) }
    }

    /// A press of a button by a user.
    pub(crate) fn press(verb: &str, value: &str, user: &str) -> Self {
        let payload = json!({
            "type": "block_actions",
            "user": { "id": user, "username": "somebody", "team_id": "T1" },
            "channel": { "id": CHANNEL.1, "name": CHANNEL.0 },
            "container": { "type": "message", "channel_id": CHANNEL.1 },
            "actions": [{ "type": "button", "action_id": format!("tidegate-{verb}"), "block_id": "b", "value": value }],
            // Presses of one button in one second differ.
            "trigger_id": format!("{}.{}", tidegate::clock::seed(), tidegate::clock::seed()),
        });
        Self::new(&[("payload", &payload.to_string())], 0)
    }

    /// A command that a user typed.
    pub(crate) fn command(text: &str, user: &str) -> Self {
        let trigger = tidegate::clock::seed().to_string();
        let fields = [
            ("command", "/tidegate"),
            ("text", text),
            ("user_id", user),
            ("channel_id", CHANNEL.1),
            ("trigger_id", trigger.as_str()),
        ];
        Self::new(&fields, 0)
    }

    /// Sends it to a daemon's API; status and body.
    pub(crate) async fn send(&self, api: &str, what: &str) -> (u16, String) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let sent = client
            .post(format!("{api}/v1/slack/{what}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-slack-request-timestamp", &self.timestamp)
            .header("x-slack-signature", &self.signature)
            .body(self.body.clone())
            .send();
        match sent.await {
            Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
            Err(error) => (0, error.to_string()),
        }
    }
}

async fn answer(State(inside): State<Arc<Mutex<Inside>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1024 * 1024).await.unwrap();
    let method = parts.uri.path().trim_start_matches("/api/").to_owned();
    let instead = {
        let mut inside = inside.lock().unwrap();
        inside.calls.push(method.clone());
        let found = inside.instead.iter().position(|(of, _)| *of == method);
        found.map(|at| inside.instead.remove(at).1).or_else(|| inside.down.clone())
    };
    match &instead {
        Some(Instead::Status(status, headers)) => {
            let mut response = StatusCode::from_u16(*status).unwrap().into_response();
            for (name, value) in headers {
                response.headers_mut().insert(*name, value.parse().unwrap());
            }
            return response;
        }
        Some(Instead::Error(error)) => return refused(error),
        Some(Instead::Loses) | None => {}
    }
    if parts.headers.get("authorization").is_none_or(|value| *value != format!("Bearer {TOKEN}")) {
        return refused("invalid_auth");
    }
    let is_json =
        parts.headers.get("content-type").is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    // Methods that read take forms only.
    let body = match (is_json, method.starts_with("chat.")) {
        (true, true) => serde_json::from_slice(&body).unwrap_or_default(),
        (true, false) => json!({}),
        (false, _) => json!(form_urlencoded::parse(&body).into_owned().collect::<BTreeMap<String, String>>()),
    };
    let done = inside.lock().unwrap().take(&method, body);
    if instead.is_some() {
        // Whoever waits for it sees the connection end.
        return Response::new(axum::body::Body::from_stream(futures_util::stream::once(async {
            Err::<Bytes, _>(std::io::Error::other("lost"))
        })));
    }
    match done {
        Ok(mut answer) => {
            answer["ok"] = json!(true);
            axum::Json(answer).into_response()
        }
        Err(error) => refused(error),
    }
}

fn refused(error: &str) -> Response {
    axum::Json(json!({ "ok": false, "error": error })).into_response()
}

fn is_channel(value: &Value) -> bool {
    *value == CHANNEL.1 || *value == format!("#{}", CHANNEL.0)
}

impl Inside {
    fn take(&mut self, method: &str, body: Value) -> Result<Value, &'static str> {
        match method {
            "chat.postMessage" => self.post(body),
            "chat.update" => self.update(&body),
            "chat.postEphemeral" => {
                if !is_channel(&body["channel"]) {
                    return Err("channel_not_found");
                }
                self.whispers.push((text(&body["user"]), text(&body["text"])));
                Ok(json!({ "message_ts": "1.0" }))
            }
            "conversations.join" => {
                if body["channel"] != CHANNEL.1 {
                    return Err("channel_not_found");
                }
                self.is_member = true;
                Ok(json!({}))
            }
            "conversations.list" => Ok(
                json!({ "channels": [{ "id": "C0OTHER", "name": "other" }, { "id": CHANNEL.1, "name": CHANNEL.0 }] }),
            ),
            "conversations.history" | "conversations.replies" => self.history(&body),
            "usergroups.users.list" => {
                let users = self.groups.get(body["usergroup"].as_str().unwrap_or_default());
                users.map(|users| json!({ "users": users })).ok_or("no_such_subteam")
            }
            "auth.test" => Ok(json!({ "user": "tidegate", "team": "Shop" })),
            _ => Err("unknown_method"),
        }
    }

    fn post(&mut self, body: Value) -> Result<Value, &'static str> {
        if !is_channel(&body["channel"]) {
            return Err("channel_not_found");
        }
        check(&body)?;
        let thread = body["thread_ts"].as_str().map(str::to_owned);
        if thread.as_ref().is_some_and(|thread| self.messages.iter().all(|message| message.ts != *thread)) {
            return Err("thread_not_found");
        }
        self.next += 1;
        let ts = format!("{}.{:06}", SystemClock.now().0 / 1000, self.next);
        let broadcast = body["reply_broadcast"] == true;
        self.messages.push(Posted { ts: ts.clone(), thread, broadcast, body, changes: 0 });
        Ok(json!({ "channel": CHANNEL.1, "ts": ts }))
    }

    fn update(&mut self, body: &Value) -> Result<Value, &'static str> {
        // Changing a message takes no name.
        if body["channel"] != CHANNEL.1 {
            return Err("channel_not_found");
        }
        check(body)?;
        let message = self.messages.iter_mut().find(|message| body["ts"] == message.ts).ok_or("message_not_found")?;
        message.body["blocks"] = body["blocks"].clone();
        message.body["text"] = body["text"].clone();
        message.changes += 1;
        Ok(json!({ "channel": CHANNEL.1, "ts": message.ts }))
    }

    /// Newest first, two to a page, with metadata where it is asked for.
    fn history(&self, body: &Value) -> Result<Value, &'static str> {
        if body["channel"] != CHANNEL.1 {
            return Err("channel_not_found");
        }
        // Writing into a public channel needs no membership, and reading it does.
        if !self.is_member {
            return Err("not_in_channel");
        }
        let oldest: f64 = body["oldest"].as_str().unwrap_or("0").parse().map_err(|_| "invalid_arguments")?;
        let thread = body["ts"].as_str();
        let of = |message: &&Posted| {
            message.ts.parse::<f64>().unwrap() >= oldest
                && (message.thread.as_deref() == thread || thread == Some(message.ts.as_str()))
        };
        let shown = |message: &Posted| {
            let metadata = (body["include_all_metadata"] == "true").then(|| message.body["metadata"].clone());
            json!({ "ts": message.ts, "text": message.body["text"], "metadata": metadata })
        };
        let found: Vec<Value> = self.messages.iter().rev().filter(of).map(shown).collect();
        let from: usize = body["cursor"].as_str().unwrap_or("0").parse().map_err(|_| "invalid_cursor")?;
        let next = if from + 2 < found.len() { (from + 2).to_string() } else { String::new() };
        let page: Vec<&Value> = found.iter().skip(from).take(2).collect();
        Ok(json!({ "messages": page, "response_metadata": { "next_cursor": next } }))
    }
}

/// The limits of Block Kit: <https://docs.slack.dev/reference/block-kit/blocks>.
fn check(body: &Value) -> Result<(), &'static str> {
    if body["text"].as_str().is_none_or(|text| text.is_empty() || text.chars().count() > 4000) {
        return Err("no_text");
    }
    let blocks = body["blocks"].as_array().ok_or("invalid_blocks")?;
    let mut actions = BTreeSet::new();
    let fits = !blocks.is_empty() && blocks.len() <= 50 && blocks.iter().all(|block| fits(block, &mut actions));
    if fits { Ok(()) } else { Err("invalid_blocks") }
}

fn fits(block: &Value, actions: &mut BTreeSet<String>) -> bool {
    let within = |value: &Value, kinds: &[&str], max: usize| {
        let length = value["text"].as_str().map_or(0, |text| text.chars().count());
        kinds.iter().any(|kind| value["type"] == *kind) && (1..=max).contains(&length)
    };
    let list = |name: &str| block[name].as_array().cloned().unwrap_or_default();
    match block["type"].as_str() {
        Some("header") => within(&block["text"], &["plain_text"], 150),
        Some("section") => {
            let fields = list("fields");
            let has_text = block["text"].is_object();
            (has_text || !fields.is_empty())
                && (!has_text || within(&block["text"], &["mrkdwn", "plain_text"], 3000))
                && fields.len() <= 10
                && fields.iter().all(|field| within(field, &["mrkdwn", "plain_text"], 2000))
        }
        Some("context") => {
            let elements = list("elements");
            (1..=10).contains(&elements.len())
                && elements.iter().all(|one| within(one, &["mrkdwn", "plain_text"], 3000))
        }
        Some("actions") => {
            let elements = list("elements");
            (1..=25).contains(&elements.len())
                && elements.iter().all(|button| {
                    let id = button["action_id"].as_str().unwrap_or_default();
                    let value = button["value"].as_str().unwrap_or_default();
                    let style = &button["style"];
                    let confirm = &button["confirm"];
                    let confirmed = confirm.is_null()
                        || within(&confirm["title"], &["plain_text"], 100)
                            && within(&confirm["text"], &["plain_text", "mrkdwn"], 300)
                            && within(&confirm["confirm"], &["plain_text"], 30)
                            && within(&confirm["deny"], &["plain_text"], 30);
                    button["type"] == "button"
                        && within(&button["text"], &["plain_text"], 75)
                        && (1..=255).contains(&id.len())
                        && actions.insert(id.to_owned())
                        && value.chars().count() <= 2000
                        && (style.is_null() || *style == "primary" || *style == "danger")
                        && confirmed
                })
        }
        _ => false,
    }
}
