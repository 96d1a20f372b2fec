//! JSON of strangers: read once, looked into by pointer, with errors that name the place and show little of the text.
//!
//! Nesting is bounded by serde_json (128 levels), size by the caller, what is kept by the lengths below.

use super::image::{ImageError, shown};
use http::HeaderMap;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Names of people and workflows: longer ones are no names. In characters.
pub(super) const NAME_MAX: usize = 128;
/// Ids of deliveries; those of all senders are UUIDs. In characters.
const ID_MAX: usize = 128;

/// Why a body is not what its sender sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// No JSON at all.
    #[error("the body is no JSON: {detail}{hint}")]
    NotJson {
        /// What the reader of JSON says.
        detail: String,
        /// What is probably wrong at the sender; empty, or a clause with its own punctuation.
        hint: &'static str,
    },
    /// JSON, but not an event of this sender.
    #[error("the body is no {what}: {why}")]
    NotAnEvent {
        /// What it should be.
        what: &'static str,
        /// How one sees that it is none, and what to do.
        why: &'static str,
    },
    /// Something is missing.
    #[error("`{at}` is missing")]
    Missing {
        /// Where, as `a.b.c`, or the name of a header.
        at: String,
    },
    /// Something has the wrong type.
    #[error("`{at}` must be {expected}")]
    WrongType {
        /// Where.
        at: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// A name of an image breaks its grammar.
    #[error("`{at}`: {error}")]
    Image {
        /// Where.
        at: String,
        /// How.
        error: ImageError,
    },
    /// Another text breaks its rule.
    #[error("`{at}`: `{shown}` is not {rule}")]
    Text {
        /// Where.
        at: String,
        /// The beginning of the text.
        shown: String,
        /// What it should be.
        rule: &'static str,
    },
    /// A key that nobody knows, in Tidegate's own form.
    #[error("unknown key `{key}`{}", nearest.map(|known| format!(": did you mean `{known}`?")).unwrap_or_default())]
    UnknownKey {
        /// The key, or its beginning.
        key: String,
        /// The known one that was probably meant.
        nearest: Option<&'static str>,
    },
    /// Keys that do not go together, or one of several that is needed.
    #[error("{0}")]
    Keys(&'static str),
    /// More than one request may bring.
    #[error("{count} {what} in one request, and {max} are the most")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many came.
        count: usize,
        /// How many may.
        max: usize,
    },
}

/// Reads a body.
pub(super) fn read(body: &[u8]) -> Result<Value, PayloadError> {
    serde_json::from_slice(body).map_err(|error| {
        let hint = if body.starts_with(b"payload=") {
            " (it is a form: choose the content type application/json where the webhook is set up)"
        } else if body.is_empty() {
            " (it is empty)"
        } else {
            ""
        };
        PayloadError::NotJson { detail: error.to_string(), hint }
    })
}

/// A JSON pointer (`/a/b`) as people write it (`a.b`).
pub(super) fn place(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// The text at a pointer. Absent, `null` and empty are the same: senders use all three for what they do not know.
pub(super) fn text<'v>(value: &'v Value, pointer: &str) -> Result<Option<&'v str>, PayloadError> {
    match value.pointer(pointer) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(PayloadError::WrongType { at: place(pointer), expected: "text" }),
    }
}

/// The text at a pointer, which must be there.
pub(super) fn required<'v>(value: &'v Value, pointer: &str) -> Result<&'v str, PayloadError> {
    text(value, pointer)?.ok_or_else(|| PayloadError::Missing { at: place(pointer) })
}

/// The text at a pointer when it is text: for what may have other types in events that do not count.
pub(super) fn word<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Says where a name of an image is wrong.
pub(super) fn checked<T>(pointer: &str, result: Result<T, ImageError>) -> Result<T, PayloadError> {
    result.map_err(|error| PayloadError::Image { at: place(pointer), error })
}

/// A name for people to read: kept when it is one line of a sane length, else left out.
pub(super) fn name(value: &Value, pointer: &str) -> Option<String> {
    let name = word(value, pointer);
    is_line(name, NAME_MAX).then(|| name.to_owned())
}

/// Whether a text has up to so many characters, at least one, and all of them can be seen or are spaces.
pub(super) fn is_line(text: &str, max: usize) -> bool {
    // Marks that turn the direction of writing or hide would let a name pass for another.
    let hidden = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    !text.is_empty() && text.chars().take(max + 1).count() <= max && !text.contains(hidden)
}

/// A full commit of Git: SHA-1 or SHA-256, in lower case.
pub(super) fn commit(value: &Value, pointer: &str) -> Result<String, PayloadError> {
    let sha = required(value, pointer)?;
    if matches!(sha.len(), 40 | 64) && is_hex(sha) {
        return Ok(sha.to_owned());
    }
    Err(PayloadError::Text {
        at: place(pointer),
        shown: shown(sha),
        rule: "a commit: 40 or 64 lower-case hexadecimal digits",
    })
}

/// Whether a text has lower-case hexadecimal digits alone.
pub(super) fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A name of up to 255 characters that decides, such as that of a repository of source code or a branch.
pub(super) fn deciding(value: &Value, pointer: &str) -> Result<String, PayloadError> {
    let text = required(value, pointer)?;
    if is_line(text, 255) {
        return Ok(text.to_owned());
    }
    Err(PayloadError::Text { at: place(pointer), shown: shown(text), rule: "one line of up to 255 characters" })
}

/// An id of a delivery, when it can be one.
fn id(source: &str, id: &str) -> Option<String> {
    let holds = (1..=ID_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    holds.then(|| format!("{source}:{id}"))
}

/// The id at a pointer, when it can be one.
pub(super) fn id_at(source: &str, value: &Value, pointer: &str) -> Option<String> {
    id(source, word(value, pointer))
}

/// The id in a header, when there is one and it can be one.
pub(super) fn id_in(source: &str, headers: &HeaderMap, header: &str) -> Option<String> {
    id(source, headers.get(header)?.to_str().ok()?)
}

/// The hash of a body as an id: the same bytes are the same delivery.
pub(super) fn id_of(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}
