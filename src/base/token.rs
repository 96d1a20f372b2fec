//! Tokens of the API: what they look like, what they allow, and what is known of one. The secret itself is held by whoever
//! was given it and by nobody else; here its SHA-256 stands for it.

use super::secret::Redacted;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// What every token begins with, so that people and scanners of secrets know one when they see it.
const PREFIX: &str = "tg_";
/// Hexadecimal digits of the identifier.
const ID_DIGITS: usize = 12;
/// Hexadecimal digits of the secret: 256 bits, so that nobody guesses one and a plain hash is enough to store.
const SECRET_DIGITS: usize = 64;
/// Hexadecimal digits of the check, at the end.
const CHECK_DIGITS: usize = 8;
/// Names longer than this are sentences.
const NAME_MAX_CHARS: usize = 64;

/// What a token allows. Each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks at everything.
    Viewer,
    /// Starts rollouts and gives them orders.
    Operator,
    /// Changes policies and tokens.
    Admin,
}

impl Role {
    /// All of them, weakest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| format!("`{text}` is no role; there are viewer, operator and admin"))
    }
}

/// A token's identifier: 12 hexadecimal digits, and nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub String);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of a whole token, by which it is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash(String);

impl TokenHash {
    /// As 64 hexadecimal digits.
    #[must_use]
    pub fn as_hex(&self) -> &str {
        &self.0
    }
}

/// A token as it is shown once and sent ever after: `tg_<id>_<secret><check>`.
///
/// The check is the beginning of the SHA-256 of all before it. It tells a token from text that looks like one, so a scanner
/// can report a leaked one without asking anybody, and a mistyped one is refused without a look into the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    id: TokenId,
    text: Redacted<String>,
}

impl Token {
    /// From chance: 48 bits that identify it and 256 that prove it.
    #[must_use]
    pub fn new(id: [u8; 6], secret: [u8; 32]) -> Self {
        let id = hex(&id);
        let bare = format!("{PREFIX}{id}_{}", hex(&secret));
        let text = Redacted::new(format!("{bare}{}", check(&bare)));
        Self { id: TokenId(id), text }
    }

    /// Reads one; `None` for anything that cannot be a token, whatever a database holds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, rest) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if id.len() != ID_DIGITS || rest.len() != SECRET_DIGITS + CHECK_DIGITS || !is_hex(id) || !is_hex(rest) {
            return None;
        }
        // All of it is ASCII by now.
        let (bare, given) = text.split_at(text.len() - CHECK_DIGITS);
        (check(bare) == given).then(|| Self { id: TokenId(id.to_owned()), text: Redacted::new(text.to_owned()) })
    }

    /// What it is called where it must not be shown.
    #[must_use]
    pub const fn id(&self) -> &TokenId {
        &self.id
    }

    /// What it is found by.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(hex(&Sha256::digest(self.text.reveal())))
    }

    /// The token itself, for the one answer that shows it.
    #[must_use]
    pub const fn reveal(&self) -> &String {
        self.text.reveal()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(bare: &str) -> String {
    hex(&Sha256::digest(bare)[..CHECK_DIGITS / 2])
}

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its identifier.
    pub id: TokenId,
    /// Who speaks with it, for the audit trail. Several tokens may have one name: that is how they are renewed.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it was revoked, and by whom; it allows nothing since.
    pub revoked: Option<(Timestamp, String)>,
}

/// What is wrong with a name for a token; `None` when nothing is.
#[must_use]
pub fn problem_with_name(name: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    if name.is_empty() {
        return Some("a token needs a name: who speaks with it".to_owned());
    }
    let is_short = name.chars().count() <= NAME_MAX_CHARS;
    let wrong = || {
        format!(
            "a token's name has up to {NAME_MAX_CHARS} letters, digits and . _ - @ +, such as ci or anna@example.com"
        )
    };
    (!is_short || !name.chars().all(fits)).then(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token::new([0xab, 1, 2, 3, 4, 5], [7; 32])
    }

    #[test]
    fn a_token_is_read_back_and_shows_its_form_to_scanners() {
        let token = token();
        let text = token.reveal().clone();
        assert_eq!(token.id().0, "ab0102030405");
        assert!(text.starts_with("tg_ab0102030405_0707") && text.len() == 88, "{text}");
        assert_eq!(Token::parse(&text), Some(token.clone()));
        assert_eq!(token.hash(), Token::parse(&text).expect("one").hash());
        assert_ne!(token.hash(), Token::new([0xab, 1, 2, 3, 4, 5], [8; 32]).hash());
        // The form that docs/operations.md gives to scanners, and its check.
        let form = regex::Regex::new("^tg_[0-9a-f]{12}_[0-9a-f]{72}$").expect("a pattern");
        assert!(form.is_match(&text));
        assert_eq!(hex(&Sha256::digest(&text[..80]))[..8], text[80..]);
    }

    #[test]
    fn what_is_no_token_is_not_taken_for_one() {
        let text = token().reveal().clone();
        let altered = |at: usize, with: &str| format!("{}{with}{}", &text[..at], &text[at + 1..]);
        for wrong in [
            String::new(),
            "tg_".into(),
            "hunter2".into(),
            text.to_uppercase(),
            format!("{text} "),
            format!(" {text}"),
            text[..87].to_owned(),
            altered(20, "8"),
            altered(5, "9"),
            altered(87, if text.ends_with('0') { "1" } else { "0" }),
            altered(20, "g"),
            altered(15, "-"),
            "tg_ab0102030405_ä".repeat(5),
        ] {
            assert_eq!(Token::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_token_is_not_printed_by_accident() {
        let token = token();
        let shown = format!("{token:?}");
        assert!(shown.contains("[redacted]") && !shown.contains("0707"), "{shown}");
    }

    #[test]
    fn roles_include_those_before_them() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert_eq!("root".parse::<Role>(), Err("`root` is no role; there are viewer, operator and admin".to_owned()));
    }

    #[test]
    fn names_are_words_that_fit_into_a_line() {
        for name in ["ci", "anna@example.com", "a.b_c-d+e", &"x".repeat(64)] {
            assert_eq!(problem_with_name(name), None, "{name}");
        }
        for name in ["", "two words", "a\nb", "ä", "a\"b", &"x".repeat(65)] {
            assert!(problem_with_name(name).is_some(), "{name}");
        }
    }
}
