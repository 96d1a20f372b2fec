//! Sessions that stay with a version.

use super::Flaw;
use super::words::{Words, header_name, span, token};
use crate::base::time::Millis;
use serde::{Deserialize, Serialize};

/// Longest life of a session's cookie: browsers cut longer ones (RFC 6265bis allows 400 days), and no rollout takes a month.
const TTL_MAX: Millis = Millis::from_seconds(30 * 24 * 3600);

/// What tells sessions apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Affinity {
    /// The value of a cookie, which is given to whoever has none.
    Cookie {
        /// Its name.
        name: String,
        /// How long clients keep it, 1 s to 30 days; `None` for as long as they run.
        ttl: Option<Millis>,
        /// Paths that it is for; begins with a slash.
        path: String,
    },
    /// The value of a header, in lower case. Requests without it are drawn one by one.
    Header(String),
}

impl Affinity {
    /// Name of the tag.
    pub(super) const TAG: &'static str = "tidegate:affinity";

    /// Reads the tag's value.
    pub(super) fn read(value: &str) -> Result<Self, Flaw> {
        let mut words = Words::of(Self::TAG, &["cookie", "ttl", "path", "header"], value)?;
        let (cookie, header) = (words.take("cookie", token)?, words.take("header", header_name)?);
        let ttl = words.take("ttl", |text| span(text, Millis::from_seconds(1)..=TTL_MAX))?;
        let path = words.take("path", path)?;
        match (cookie, header) {
            (Some(name), None) => Ok(Self::Cookie { name, ttl, path: path.unwrap_or_else(|| "/".into()) }),
            (None, Some(_)) if ttl.is_some() || path.is_some() => {
                Err(words.flaw("has ttl or path, which are a cookie's"))
            }
            (None, Some(header)) => Ok(Self::Header(header)),
            (None, None) | (Some(_), Some(_)) => Err(words.flaw("needs one of cookie and header")),
        }
    }
}

/// A cookie's path, of characters that end no attribute (RFC 6265 section 4.1.1).
fn path(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b';';
    if text.starts_with('/') && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err(format!("must begin with / and have no ; in it, not {text:?}"))
}
