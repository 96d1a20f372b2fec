//! Whether a delivery comes from whom it says: a signature or a shared secret, compared in constant time.
//!
//! | source | proof | also protected against a repetition |
//! |---|---|---|
//! | `generic` | `X-Tidegate-Signature` over time and body | yes, by its time |
//! | `github` | `X-Hub-Signature-256` over the body | no: by the delivery's id and hash |
//! | `gitlab` | `webhook-signature` over id, time and body, or the secret in `X-Gitlab-Token` | yes; no |
//! | `ecr`, `registry` | the secret as bearer token | no: by the event's id |
//!
//! Two secrets may hold at once, so that they can be changed without losing a delivery. All of them are always tried, and
//! no error says which, or how far a wrong one was right. A time counts only after the signature over it.

use super::event::Source;
use crate::base::mac::{from_hex, hmac_sha256 as hmac, to_hex};
use crate::base::secret::Redacted;
use crate::base::time::{Millis, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// How far the time in a signature may lie from ours, in both directions: what Standard Webhooks and others allow, and
/// enough for a clock without NTP for a while. Repetitions within it are told by the delivery's id.
pub const REPLAY_WINDOW: Millis = Millis::from_seconds(300);
/// Shortest secret, in bytes: 128 bits when it is random.
pub const SECRET_MIN: usize = 16;
/// Longest secret, in bytes: EventBridge sends headers of 512, and nobody needs more.
pub const SECRET_MAX: usize = 512;
/// Signatures that are looked at in one header of Standard Webhooks: a sender has one for each of its secrets.
const SIGNATURES_MAX: usize = 8;
/// How a signing token of Standard Webhooks begins.
const SIGNING_TOKEN: &str = "whsec_";

const GENERIC_SIGNATURE: &str = "x-tidegate-signature";
const GENERIC_TIME: &str = "x-tidegate-timestamp";
const GITHUB_SIGNATURE: &str = "x-hub-signature-256";
const GITLAB_TOKEN: &str = "x-gitlab-token";
const STANDARD_ID: &str = "webhook-id";
const STANDARD_TIME: &str = "webhook-timestamp";
const STANDARD_SIGNATURE: &str = "webhook-signature";
const AUTHORIZATION: &str = "authorization";

/// Why a delivery is not believed. None of the texts has a part of a secret or of a signature in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header with the proof is missing.
    #[error("the header `{header}` is missing: the sender has no secret set, or it was lost on the way")]
    Missing {
        /// Name of the header.
        header: &'static str,
    },
    /// The header is there and is not what it should be.
    #[error("the header `{header}` is not {expected}")]
    Malformed {
        /// Name of the header.
        header: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The proof is of another secret or another body.
    #[error("the header `{header}` does not fit: another secret, or a body that was changed on the way")]
    Wrong {
        /// Name of the header.
        header: &'static str,
    },
    /// Signed too long ago.
    #[error("signed {age} ago, and {REPLAY_WINDOW} is the most: sent again, or the sender's clock is behind")]
    TooOld {
        /// How long ago.
        age: Millis,
    },
    /// Signed in the future.
    #[error("signed {ahead} from now, and {REPLAY_WINDOW} is the most: the sender's clock, or the one here, is wrong")]
    TooFarAhead {
        /// How far from now.
        ahead: Millis,
    },
}

/// Why a text is no secret to configure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It can be guessed, or is no secret at all.
    #[error("a secret has {SECRET_MIN} to {SECRET_MAX} bytes, such as those of `openssl rand -hex 32`")]
    Length,
    /// Usually the end of the line of the file that it was read from.
    #[error("a secret has no space or line break at its ends, and no control character inside")]
    Space,
    /// A signing token that decodes to nothing.
    #[error(
        "a secret that begins with `whsec_` is a signing token, and goes on in base64 of {SECRET_MIN} bytes or more"
    )]
    SigningToken,
}

/// The secret of a hook, and while it is being changed the one before it.
#[derive(Debug, Clone)]
pub struct Secrets {
    current: Redacted<String>,
    previous: Option<Redacted<String>>,
}

impl Secrets {
    /// Secrets of which either holds.
    ///
    /// # Errors
    /// One of them cannot be meant, see [`SecretError`].
    pub fn new(current: Redacted<String>, previous: Option<Redacted<String>>) -> Result<Self, SecretError> {
        for secret in std::iter::once(&current).chain(&previous) {
            let text = secret.reveal();
            if !(SECRET_MIN..=SECRET_MAX).contains(&text.len()) {
                return Err(SecretError::Length);
            }
            if text.trim() != text || text.contains(char::is_control) {
                return Err(SecretError::Space);
            }
            if is_signing_token(text) && signing_key(text).is_none_or(|key| key.len() < SECRET_MIN) {
                return Err(SecretError::SigningToken);
            }
        }
        Ok(Self { current, previous })
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.current).chain(&self.previous).map(|secret| secret.reveal().as_str())
    }

    /// Whether the check holds for one of them; all are tried, whatever the first says.
    fn any(&self, check: impl Fn(&str) -> Choice) -> bool {
        self.all().fold(Choice::from(0), |seen, secret| seen | check(secret)).into()
    }
}

/// Checks the proof that the source's deliveries carry. `body` is what came over the wire, byte by byte.
///
/// # Errors
/// The delivery is not to be believed: answer 401 with the text, and do nothing.
pub fn verify(
    source: Source,
    headers: &HeaderMap,
    body: &[u8],
    secrets: &Secrets,
    now: Timestamp,
) -> Result<(), SignatureError> {
    match source {
        Source::Generic => generic(headers, body, secrets, now),
        Source::Github => github(headers, body, secrets),
        Source::Gitlab => gitlab(headers, body, secrets, now),
        Source::Ecr | Source::Registry => bearer(headers, secrets),
    }
}

/// The value of `X-Tidegate-Signature` for a body sent at a time, in seconds since 1970: what a sender computes.
#[must_use]
pub fn sign(secret: &Redacted<String>, unix_seconds: i64, body: &[u8]) -> String {
    let mac = hmac(secret.reveal().as_bytes(), &[b"v1:", unix_seconds.to_string().as_bytes(), b":", body]);
    format!("v1={}", to_hex(&mac))
}

/// Ours: `v1=` and the HMAC of `v1:{timestamp}:{body}`, so that neither the time nor the form can be exchanged.
fn generic(headers: &HeaderMap, body: &[u8], secrets: &Secrets, now: Timestamp) -> Result<(), SignatureError> {
    let signature = only(headers, GENERIC_SIGNATURE)?;
    let stamp = only(headers, GENERIC_TIME)?;
    let signed_at = seconds(GENERIC_TIME, stamp)?;
    let expected = "`v1=` and 64 hexadecimal digits";
    let signature = signature.strip_prefix("v1=").and_then(from_hex);
    let signature = signature.ok_or(SignatureError::Malformed { header: GENERIC_SIGNATURE, expected })?;
    let fits = |secret: &str| hmac(secret.as_bytes(), &[b"v1:", stamp.as_bytes(), b":", body]).ct_eq(&signature);
    if !secrets.any(fits) {
        return Err(SignatureError::Wrong { header: GENERIC_SIGNATURE });
    }
    in_time(signed_at, now)
}

/// `sha256=` and the HMAC of the body
/// (<https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>).
fn github(headers: &HeaderMap, body: &[u8], secrets: &Secrets) -> Result<(), SignatureError> {
    let expected = "`sha256=` and 64 hexadecimal digits";
    let signature = only(headers, GITHUB_SIGNATURE)?.strip_prefix("sha256=").and_then(from_hex);
    let signature = signature.ok_or(SignatureError::Malformed { header: GITHUB_SIGNATURE, expected })?;
    let fits = |secret: &str| hmac(secret.as_bytes(), &[body]).ct_eq(&signature);
    if secrets.any(fits) { Ok(()) } else { Err(SignatureError::Wrong { header: GITHUB_SIGNATURE }) }
}

/// A secret token, sent as it is (<https://docs.gitlab.com/user/project/integrations/webhooks/>), or a signing token
/// (<https://gitlab.com/gitlab-org/gitlab/-/merge_requests/230944>). Which of them is configured decides: a signing token
/// is never accepted in the clear, or whoever saw one could leave the signature out.
fn gitlab(headers: &HeaderMap, body: &[u8], secrets: &Secrets, now: Timestamp) -> Result<(), SignatureError> {
    let signs = secrets.all().any(is_signing_token);
    let tells = !secrets.all().all(is_signing_token);
    if signs && (headers.contains_key(STANDARD_SIGNATURE) || !tells) {
        return standard(headers, body, secrets, now);
    }
    let token = only(headers, GITLAB_TOKEN)?;
    let fits = |secret: &str| Choice::from(u8::from(!is_signing_token(secret))) & same(secret, token);
    if secrets.any(fits) { Ok(()) } else { Err(SignatureError::Wrong { header: GITLAB_TOKEN }) }
}

/// Standard Webhooks with a symmetric key: `v1,` and base64 of the HMAC of `{id}.{timestamp}.{body}`, several of them
/// divided by spaces (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
fn standard(headers: &HeaderMap, body: &[u8], secrets: &Secrets, now: Timestamp) -> Result<(), SignatureError> {
    let listed = only(headers, STANDARD_SIGNATURE)?;
    let id = only(headers, STANDARD_ID)?;
    let stamp = only(headers, STANDARD_TIME)?;
    let signed_at = seconds(STANDARD_TIME, stamp)?;
    let versions = listed.split(' ').take(SIGNATURES_MAX).filter_map(|signature| signature.strip_prefix("v1,"));
    let signatures: Vec<Vec<u8>> = versions.filter_map(|signature| BASE64.decode(signature).ok()).collect();
    if signatures.is_empty() {
        let expected = "`v1,` and base64, for each secret of the sender";
        return Err(SignatureError::Malformed { header: STANDARD_SIGNATURE, expected });
    }
    let fits = |secret: &str| {
        let Some(key) = signing_key(secret) else { return Choice::from(0) };
        let mac = hmac(&key, &[id.as_bytes(), b".", stamp.as_bytes(), b".", body]);
        signatures.iter().fold(Choice::from(0), |seen, signature| seen | mac.as_slice().ct_eq(signature))
    };
    if !secrets.any(fits) {
        return Err(SignatureError::Wrong { header: STANDARD_SIGNATURE });
    }
    in_time(signed_at, now)
}

/// `Authorization: Bearer` (<https://www.rfc-editor.org/rfc/rfc6750#section-2.1>): what a connection of EventBridge sends
/// with an API key named `Authorization`
/// (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-target-connection-auth.html>), and a registry among the
/// headers of its endpoint (<https://distribution.github.io/distribution/about/notifications/>).
fn bearer(headers: &HeaderMap, secrets: &Secrets) -> Result<(), SignatureError> {
    let value = only(headers, AUTHORIZATION)?;
    let token = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let expected = "`Bearer` and the secret";
    let (_, token) = token.ok_or(SignatureError::Malformed { header: AUTHORIZATION, expected })?;
    let fits = |secret: &str| same(secret, token.trim_start_matches(' '));
    if secrets.any(fits) { Ok(()) } else { Err(SignatureError::Wrong { header: AUTHORIZATION }) }
}

/// The value of a header that must be there once: of two, different readers could believe different ones.
fn only<'h>(headers: &'h HeaderMap, header: &'static str) -> Result<&'h str, SignatureError> {
    let mut values = headers.get_all(header).iter();
    let value = values.next().ok_or(SignatureError::Missing { header })?;
    if values.next().is_some() {
        return Err(SignatureError::Malformed { header, expected: "there once" });
    }
    value.to_str().map_err(|_| SignatureError::Malformed { header, expected: "plain text" })
}

fn seconds(header: &'static str, text: &str) -> Result<Timestamp, SignatureError> {
    // Twelve digits reach to the year 33658, and a thousand times that still fits.
    let digits = (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse::<i64>().ok().filter(|_| digits);
    let seconds = seconds.ok_or(SignatureError::Malformed { header, expected: "a time in seconds since 1970" })?;
    Ok(Timestamp(seconds * 1000))
}

fn in_time(signed_at: Timestamp, now: Timestamp) -> Result<(), SignatureError> {
    let (age, ahead) = (now.since(signed_at), signed_at.since(now));
    if age > REPLAY_WINDOW {
        return Err(SignatureError::TooOld { age: Millis(age.0 / 1000 * 1000) });
    }
    if ahead > REPLAY_WINDOW {
        return Err(SignatureError::TooFarAhead { ahead: Millis(ahead.0 / 1000 * 1000) });
    }
    Ok(())
}

/// Whether two texts are the same. Comparing their hashes takes as long for texts of different lengths.
fn same(one: &str, other: &str) -> Choice {
    Sha256::digest(one.as_bytes()).as_slice().ct_eq(Sha256::digest(other.as_bytes()).as_slice())
}

fn is_signing_token(secret: &str) -> bool {
    secret.starts_with(SIGNING_TOKEN)
}

fn signing_key(secret: &str) -> Option<Vec<u8>> {
    BASE64.decode(secret.strip_prefix(SIGNING_TOKEN)?).ok()
}

#[cfg(test)]
mod tests;
