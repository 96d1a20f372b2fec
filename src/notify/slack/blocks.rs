//! What is said in Slack, in Block Kit (<https://docs.slack.dev/reference/block-kit>). Pure.

use crate::base::people::People;
use crate::ports::{Ask, Compared, News, NewsStanding};
use serde_json::{Value, json};

/// Longest text of a header, in characters (Block Kit: 150).
const HEADER_MAX: usize = 150;
/// Names that are shown of a list, and the characters of each: two lists fit into one section, escaped.
const NAMES_MAX: usize = 10;
const NAME_MAX: usize = 28;
/// Longest text of a section that is written here, in characters. Block Kit takes 3000; `&` becomes five of them.
const TEXT_MAX: usize = 550;

/// A message: what is shown, and the same in a line for notifications and readers of screens.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) blocks: Vec<Value>,
}

/// The message that follows a rollout.
pub(super) fn status(news: &News) -> Message {
    let title = format!("{} {}", sign(news), title(news));
    let mut blocks = vec![header(&title), section(&escaped(&news.text)), compared(news)];
    blocks.extend(links(news, Vec::new()));
    Message { text: line(&format!("{title}: {}", news.text)), blocks }
}

/// One change, for the thread under that message.
pub(super) fn change(news: &News) -> Message {
    let text = format!("{} {}", sign(news), news.text);
    let blocks = vec![section(&escaped(&text))];
    Message { text: line(&format!("{} {}", title(news), news.text)), blocks }
}

/// The question whether a rollout may go on, with buttons.
pub(super) fn question(news: &News, ask: &Ask, people: &People) -> Message {
    let Ask { need, given, .. } = ask;
    let title = format!("❔ {}: may it go on from {} %?", title(news), news.canary.weight);
    let said = match given.is_empty() {
        true => String::new(),
        false => format!(" Yes so far: {}.", listed(given, |name| format!("*{}*", escaped(&cut(name, NAME_MAX))))),
    };
    let who =
        format!("{}: {} of {need} approvals.{said}", listed(&ask.from, |name| mention(name, people)), given.len());
    let mut blocks = vec![header(&title), section(&who)];
    if let Some(held) = &ask.held {
        blocks.push(section(&format!("⏸ {}. An approval is kept until it goes on.", escaped(held))));
    }
    blocks.extend([section(&format!("*Verdict*: {}", escaped(&news.verdict))), compared(news)]);
    let time_left = ask.until.map(|until| {
        let seconds = until.0.div_euclid(1000);
        let minutes = (until.0 - news.at.0).max(0).div_euclid(60_000);
        let then = if ask.on_timeout == "pause" { "it is paused" } else { "it is rolled back" };
        format!("<!date^{seconds}^Until {{time}}|Until {}> ({minutes} min left), then {then}", until.rfc3339())
    });
    blocks.extend(links(news, time_left.into_iter().collect()));
    blocks.push(buttons(news, ask));
    Message { text: line(&format!("{title} {} of {need} approvals", given.len())), blocks }
}

/// What stands in the place of a question when nobody is asked any more.
pub(super) fn answered(news: &News) -> Message {
    let title = title(news);
    let approved = match news.approved.is_empty() || news.standing == NewsStanding::Failed {
        true => String::new(),
        false => {
            let names = listed(&news.approved, |name| format!("*{}*", escaped(&cut(name, NAME_MAX))));
            format!("Approved by {names}. ")
        }
    };
    let text = format!("{} *{}*: no longer asked. {approved}{}", sign(news), escaped(&title), escaped(&news.text));
    let mut blocks = vec![section(&text)];
    blocks.extend(links(news, Vec::new()));
    Message { text: line(&format!("{title}: no longer asked. {}", news.text)), blocks }
}

/// `&`, `<` and `>` as Slack wants them
/// (<https://docs.slack.dev/messaging/formatting-message-text#escaping>), and no longer than is read.
pub(super) fn escaped(text: &str) -> String {
    let text = cut(text, TEXT_MAX);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// How a person or group is called so that they are told.
fn mention(name: &str, people: &People) -> String {
    let person = people.0.get(name);
    let user = person.and_then(|person| person.slack_user.as_ref());
    let group = person.and_then(|person| person.slack_group.as_ref());
    match (user, group) {
        (Some(user), _) => format!("<@{}>", escaped(user)),
        (None, Some(group)) => format!("<!subteam^{}>", escaped(group)),
        (None, None) => escaped(&cut(name, NAME_MAX)),
    }
}

/// Names with an end.
fn listed(names: &[String], one: impl Fn(&String) -> String) -> String {
    let mut shown: Vec<String> = names.iter().take(NAMES_MAX).map(one).collect();
    if names.len() > NAMES_MAX {
        shown.push(format!("and {} more", names.len() - NAMES_MAX));
    }
    shown.join(", ")
}

fn title(news: &News) -> String {
    match &news.revision {
        Some(revision) => format!("{} {}", news.policy, cut(revision, 60)),
        None => news.policy.clone(),
    }
}

const fn sign(news: &News) -> &'static str {
    match news.standing {
        NewsStanding::UnderWay if news.urgent => "⏸",
        NewsStanding::UnderWay => "▶",
        NewsStanding::Succeeded => "✅",
        NewsStanding::Failed => "↩",
        NewsStanding::Stopped => "⏹",
    }
}

fn line(text: &str) -> String {
    escaped(&text.replace(['\r', '\n'], " "))
}

fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max - 1).chain("…".chars()).collect(),
    }
}

fn header(text: &str) -> Value {
    json!({ "type": "header", "text": { "type": "plain_text", "text": cut(&text.replace(['\r', '\n'], " "), HEADER_MAX) } })
}

/// Text with the marks that are written here and no others: `@channel` in somebody's reason tells nobody.
fn marked(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": marked(text) })
}

/// Canary against stable.
fn compared(news: &News) -> Value {
    let one = |called: &str, Compared { node, weight, requests, failed }: &Compared| {
        let text = format!("*{called}* {} at {weight} %\n{failed} of {requests} failed", escaped(node));
        marked(&text)
    };
    json!({ "type": "section", "fields": [one("Canary", &news.canary), one("Stable", &news.stable)] })
}

/// Small print: what is given, and where one reads more.
fn links(news: &News, mut parts: Vec<String>) -> Option<Value> {
    if let Some(url) = &news.url {
        parts.push(format!("<{}|Details>", escaped(url)));
    }
    parts.push(format!("Rollout `{}`", escaped(&news.rollout.0)));
    let elements: Vec<Value> = parts.iter().map(|text| marked(text)).collect();
    Some(json!({ "type": "context", "elements": elements }))
}

/// What a button asks for comes back with its value: the rollout, and the step that people were asked about.
fn buttons(news: &News, ask: &Ask) -> Value {
    let value = json!({ "rollout": news.rollout.0, "step": ask.step }).to_string();
    let sure = |title: &str, text: &str| {
        let plain = |text: &str| json!({ "type": "plain_text", "text": text });
        json!({
            "title": plain(title),
            "text": plain(text),
            "confirm": plain(title),
            "deny": plain("Not now"),
        })
    };
    let button = |verb: &str, text: &str, style: Option<&str>, confirm: Option<Value>| {
        let mut button = json!({
            "type": "button",
            "action_id": format!("tidegate-{verb}"),
            "text": { "type": "plain_text", "text": text },
            "value": value,
        });
        if let Some(style) = style {
            button["style"] = json!(style);
        }
        if let Some(confirm) = confirm {
            button["confirm"] = confirm;
        }
        button
    };
    let pause = match ask.held.as_deref() {
        Some(held) if held.starts_with("paused") => button("resume", "Resume", None, None),
        _ => button("pause", "Pause", None, None),
    };
    json!({
        "type": "actions",
        "elements": [
            button("approve", "Approve", Some("primary"), Some(sure("Approve", "The rollout goes on to the next step."))),
            button("reject", "Reject", Some("danger"), Some(sure("Reject", "The rollout is rolled back."))),
            pause,
            button("abort", "Abort", None, Some(sure("Abort", "The weight goes to 0 and the rollout ends."))),
        ],
    })
}
