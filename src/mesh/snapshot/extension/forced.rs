//! Choosing a version by hand.

use super::Flaw;
use super::words::{Words, header_name, token};
use serde::{Deserialize, Serialize};

/// A request that names a target of the route, by a header or a cookie, goes there, whatever the weights are. A name that is
/// none of a target changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// The header, in lower case. It goes before the cookie.
    pub header: Option<String>,
    /// The cookie.
    pub cookie: Option<String>,
}

impl Override {
    /// Name of the tag.
    pub(super) const TAG: &'static str = "tidegate:override";

    /// Reads the tag's value.
    pub(super) fn read(value: &str) -> Result<Self, Flaw> {
        let mut words = Words::of(Self::TAG, &["header", "cookie"], value)?;
        let (header, cookie) = (words.take("header", header_name)?, words.take("cookie", token)?);
        if header.is_none() && cookie.is_none() {
            return Err(words.flaw("has neither header nor cookie"));
        }
        Ok(Self { header, cookie })
    }
}
