//! What Slack sends, as a deed: forms with fields of a command
//! (<https://docs.slack.dev/interactivity/implementing-slash-commands>), or with a button's payload
//! (<https://docs.slack.dev/reference/interaction-payloads/block_actions-payload>).

use super::deed::Deed;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a command may say.
const USAGE: &str = "What there is:\n\
    `/tidegate status [ROLLOUT or POLICY]`\n\
    `/tidegate pause POLICY [REASON]`\n\
    `/tidegate resume POLICY`\n\
    `/tidegate promote POLICY [--full] REASON`\n\
    `/tidegate abort POLICY [REASON]`\n\
    `/tidegate approve POLICY [REASON]`\n\
    `/tidegate reject POLICY [REASON]`";
/// Verbs of a command, and those of buttons.
const VERBS: [&str; 7] = ["status", "pause", "resume", "promote", "abort", "approve", "reject"];

/// Why nothing is done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// There is nothing to do.
    Nothing,
    /// Whoever asked is told this.
    Usage(String),
    /// It is not what Slack sends.
    Malformed(String),
}

/// A button's payload, as far as it matters.
#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    user: Named,
    #[serde(default)]
    channel: Option<Named>,
    #[serde(default)]
    actions: Vec<Action>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct Action {
    action_id: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct ButtonValue {
    rollout: String,
    step: usize,
}

/// A pressed button.
pub(super) fn interaction(body: &[u8]) -> Result<Deed, Unreadable> {
    let fields = fields(body);
    let payload = fields.get("payload").ok_or_else(|| malformed("it has no `payload`"))?;
    let payload: Payload =
        serde_json::from_str(payload).map_err(|error| malformed(&format!("its payload: {error}")))?;
    let action = payload.actions.into_iter().next().filter(|_| payload.kind == "block_actions");
    let action = action.ok_or(Unreadable::Nothing)?;
    let Some(verb) = action.action_id.strip_prefix("tidegate-") else { return Err(Unreadable::Nothing) };
    let verb = VERBS.into_iter().find(|known| *known == verb).ok_or(Unreadable::Nothing)?;
    let value: ButtonValue =
        serde_json::from_str(&action.value).map_err(|error| malformed(&format!("its button's value: {error}")))?;
    Ok(Deed {
        verb,
        which: value.rollout,
        step: Some(value.step),
        reason: String::new(),
        full: false,
        user: payload.user.id,
        channel: payload.channel.map(|channel| channel.id).unwrap_or_default(),
        is_button: true,
    })
}

/// A command that was typed.
pub(super) fn command(body: &[u8]) -> Result<Deed, Unreadable> {
    let fields = fields(body);
    let field = |name: &str| fields.get(name).cloned().ok_or_else(|| malformed(&format!("it has no `{name}`")));
    let (user, channel, text) = (field("user_id")?, field("channel_id")?, field("text")?);
    let mut words = text.split_whitespace().peekable();
    let usage = || Unreadable::Usage(USAGE.to_owned());
    let verb = words.next().unwrap_or("status");
    let verb = VERBS.into_iter().find(|known| *known == verb).ok_or_else(usage)?;
    let which = words.next().map(|name| name.trim_matches('`').to_owned());
    let which = match (which, verb) {
        (Some(which), _) => which,
        (None, "status") => String::new(),
        (None, _) => return Err(usage()),
    };
    let full = verb == "promote" && words.next_if_eq(&"--full").is_some();
    let reason = words.collect::<Vec<_>>().join(" ");
    if verb == "promote" && reason.is_empty() {
        return Err(Unreadable::Usage(
            "`promote` needs a reason: `/tidegate promote POLICY [--full] REASON`".to_owned(),
        ));
    }
    Ok(Deed { verb, which, step: None, reason, full, user, channel, is_button: false })
}

fn malformed(why: &str) -> Unreadable {
    Unreadable::Malformed(why.to_owned())
}

/// Fields of a form; of two with one name the first counts.
fn fields(body: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        fields.entry(name.into_owned()).or_insert_with(|| value.into_owned());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Result<Deed, Unreadable> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs([("user_id", "U1"), ("channel_id", "C1"), ("command", "/tidegate"), ("text", text)]);
        command(form.finish().as_bytes())
    }

    #[test]
    fn commands_are_read_as_they_are_typed() {
        let of = |text: &str| typed(text).map(|deed| (deed.verb, deed.which, deed.full, deed.reason));
        let read = |verb, which: &str, full, reason: &str| Ok((verb, which.to_owned(), full, reason.to_owned()));
        assert_eq!(of(""), read("status", "", false, ""));
        assert_eq!(of("status"), read("status", "", false, ""));
        assert_eq!(of(" pause   `checkout`  too  slow "), read("pause", "checkout", false, "too slow"));
        assert_eq!(of("promote checkout --full we know"), read("promote", "checkout", true, "we know"));
        assert_eq!(of("abort checkout --full"), read("abort", "checkout", false, "--full"));
        for text in ["help", "pause", "Pause checkout", "retry checkout", "promote checkout", "promote checkout --full"]
        {
            assert!(matches!(of(text), Err(Unreadable::Usage(_))), "{text}");
        }
    }

    #[test]
    fn what_is_no_button_of_ours_does_nothing() {
        let sent = |payload: &str| {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("payload", payload);
            interaction(form.finish().as_bytes())
        };
        let button = |id: &str, value: &str| {
            let action = serde_json::json!({ "action_id": id, "value": value });
            let payload = serde_json::json!({
                "type": "block_actions", "user": { "id": "U1" }, "channel": { "id": "C1" }, "actions": [action],
            });
            sent(&payload.to_string())
        };
        let deed = button("tidegate-approve", r#"{"rollout":"r-1","step":2}"#).expect("it is one");
        assert_eq!((deed.verb, deed.which.as_str(), deed.step, deed.user.as_str()), ("approve", "r-1", Some(2), "U1"));
        for id in ["approve", "tidegate-", "tidegate-start", "other-app"] {
            assert_eq!(button(id, "{}"), Err(Unreadable::Nothing), "{id}");
        }
        assert_eq!(sent(r#"{"type":"view_submission","user":{"id":"U1"}}"#), Err(Unreadable::Nothing));
        for payload in ["", "{}", "[]", r#"{"type":"block_actions"}"#] {
            assert!(matches!(sent(payload), Err(Unreadable::Malformed(_))), "{payload}");
        }
        for value in ["", "r-1", r#"{"rollout":"r-1"}"#, r#"{"rollout":"r-1","step":-1}"#] {
            assert!(matches!(button("tidegate-approve", value), Err(Unreadable::Malformed(_))), "{value}");
        }
        assert!(matches!(interaction(b"\xff&&=%"), Err(Unreadable::Malformed(_))));
    }
}
