//! Access keys of the App Mesh API: who signs with one, and what it allows. An identifier is no secret, what signs is.

use super::secret::Redacted;
use std::fmt;

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Describe and list, and follow the mesh as a proxy does.
    Read,
    /// Change as well.
    Write,
}

impl Right {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// The right of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Read, Self::Write].into_iter().find(|right| right.name() == name)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Who signs with it, for messages: its name in the configuration.
    pub name: String,
    /// What AWS calls the access key id. Travels with every request.
    pub id: String,
    /// What requests may be signed with: one secret, or two while it is being changed.
    pub secrets: Vec<Redacted<String>>,
    /// What it allows.
    pub right: Right,
    /// The only mesh that it is for; `None` for all of them.
    pub mesh: Option<String>,
}
