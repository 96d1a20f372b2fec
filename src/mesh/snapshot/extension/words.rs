//! Words of a tag, and the values that they may have.

use crate::base::time::Millis;
use crate::mesh::snapshot::{HeaderMatch, ValueMatch};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;

/// What is wrong with a tag, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Name of the tag.
    pub tag: String,
    /// Character of its value, from 1; `None` where it is the tag as a whole.
    pub at: Option<usize>,
    /// What, and what would be right.
    pub message: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "{}, character {at}: {}", self.tag, self.message),
            None => write!(f, "{}: {}", self.tag, self.message),
        }
    }
}

/// A share of requests, in millionths: above 0, up to 1,000,000. Envoy's finest (`FractionalPercent`, `MILLION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(u32);

impl Share {
    /// All of them.
    pub const ALL: Self = Self(1_000_000);

    /// So many percent: 1 to 100.
    pub(super) const fn of_percent(percent: u32) -> Self {
        Self(percent * 10_000)
    }

    /// In millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// Whether a uniform draw falls into it.
    #[must_use]
    pub fn takes(self, draw: u64) -> bool {
        (u128::from(draw) * 1_000_000) >> 64 < u128::from(self.0)
    }

    /// Reads percents with up to four decimals: above 0, up to 100.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("must be percents above 0 and up to 100, with up to 4 decimals, not {text:?}");
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) {
            return Err(wrong());
        }
        let number = |part: &str| part.parse::<u32>().map_err(|_| wrong());
        let millionths = number(whole)? * 10_000 + number(&format!("{decimals:0<4}"))?;
        (1..=1_000_000).contains(&millionths).then_some(Self(millionths)).ok_or_else(wrong)
    }
}

struct Word<'t> {
    /// Character of its first one, from 1.
    at: usize,
    name: &'t str,
    value: &'t str,
}

/// The words of one tag that were not taken yet.
pub(super) struct Words<'t> {
    tag: &'static str,
    words: Vec<Word<'t>>,
}

impl<'t> Words<'t> {
    /// Takes a tag's value apart. Each word has to be one of the `known`, and there once.
    pub(super) fn of(tag: &'static str, known: &[&str], text: &'t str) -> Result<Self, Flaw> {
        let mut words: Vec<Word<'t>> = Vec::new();
        let mut rest = text;
        loop {
            rest = rest.trim_start_matches(' ');
            if rest.is_empty() {
                return Ok(Self { tag, words });
            }
            let at = text[..text.len() - rest.len()].chars().count() + 1;
            let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
            let flaw = |message| Err(Flaw { tag: tag.to_owned(), at: Some(at), message });
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if !known.contains(&name) {
                return flaw(format!("{name:?} is not known here; there are {}", known.join(", ")));
            }
            if value.is_empty() {
                return flaw(format!("{name} has no value; it is written {name}=…"));
            }
            if words.iter().any(|earlier| earlier.name == name) {
                return flaw(format!("{name} is there twice"));
            }
            words.push(Word { at, name, value });
            rest = tail;
        }
    }

    /// What is wrong with the tag as a whole.
    pub(super) fn flaw(&self, message: impl Into<String>) -> Flaw {
        Flaw { tag: self.tag.to_owned(), at: None, message: message.into() }
    }

    /// Takes a word's value.
    pub(super) fn take<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'t str) -> Result<T, String>,
    ) -> Result<Option<T>, Flaw> {
        let Some(index) = self.words.iter().position(|word| word.name == name) else { return Ok(None) };
        let Word { at, name, value } = self.words.swap_remove(index);
        let at = Some(at + name.len() + 1);
        read(value).map(Some).map_err(|message| Flaw {
            tag: self.tag.to_owned(),
            at,
            message: format!("{name} {message}"),
        })
    }
}

/// A whole number in a range.
pub(super) fn number<T>(text: &str, range: RangeInclusive<T>) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + fmt::Display,
{
    let (least, most) = (range.start(), range.end());
    let wrong = || format!("must be a whole number from {least} to {most}, not {text:?}");
    let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.filter(|number| range.contains(number)).ok_or_else(wrong)
}

/// A span of time in a range.
pub(super) fn span(text: &str, range: RangeInclusive<Millis>) -> Result<Millis, String> {
    let (least, most) = (range.start(), range.end());
    let wrong = || format!("must be from {least} to {most}, as 200ms, 5s, 3m or 1h, not {text:?}");
    Millis::read(text).filter(|span| range.contains(span)).ok_or_else(wrong)
}

/// A token of HTTP (RFC 9110 section 5.6.2), which names of headers and of cookies are, of up to 50 characters: as long as
/// App Mesh lets names of headers be.
pub(super) fn token(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if (1..=50).contains(&text.len()) && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err(format!("must be a name of 1 to 50 letters, digits and characters as - and _, not {text:?}"))
}

/// The name of a header, in lower case. Those of the connection and of HTTP itself say nothing about who asks.
pub(super) fn header_name(text: &str) -> Result<String, String> {
    let name = token(text)?.to_ascii_lowercase();
    if matches!(&*name, "host" | "connection" | "content-length" | "transfer-encoding" | "te" | "upgrade") {
        return Err(format!("{name} is for HTTP itself; take another header"));
    }
    Ok(name)
}

/// A header that has to be there, as `name`, or with this very value, as `name:value`.
pub(super) fn header(text: &str) -> Result<HeaderMatch, String> {
    let (name, value) = match text.split_once(':') {
        Some((name, value)) => (name, ValueMatch::Exact(value.to_owned())),
        None => (text, ValueMatch::Present),
    };
    Ok(HeaderMatch { name: header_name(name)?, value, invert: false })
}
