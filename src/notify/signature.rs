//! Signatures of what goes to chat and services, and comes back from there. Pure.
//!
//! Slack signs with `v0=` and the HMAC of `v0:{timestamp}:{body}`
//! (<https://docs.slack.dev/authentication/verifying-requests-from-slack>). Outgoing webhooks are signed as Standard Webhooks
//! has it: `v1,` and base64 of the HMAC of `{id}.{timestamp}.{body}`
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use crate::base::mac::{from_hex, hmac_sha256};
use crate::base::secret::Redacted;
use crate::base::time::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq as _;

/// How far the time of a request from Slack may lie from ours, in seconds: what Slack's documentation says.
pub const WINDOW_S: i64 = 300;
/// Shortest key, in bytes: 128 bits when it is random.
const SECRET_MIN: usize = 16;
/// How a signing token of Standard Webhooks begins.
const SIGNING_TOKEN: &str = "whsec_";

/// Why a request is not believed to be Slack's. None of the texts has a part of a secret or of a signature in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSlack {
    /// A header is missing, or there twice.
    #[error("the header `{0}` is missing or there twice: Slack sends it once")]
    Missing(&'static str),
    /// A header is not what Slack sends.
    #[error("the header `{0}` is not what Slack sends")]
    Malformed(&'static str),
    /// Another secret, or another body.
    #[error("the signature does not fit: another app's signing secret, or a body that was changed on the way")]
    Wrong,
    /// Signed too long ago, or in the future.
    #[error("signed {0} s from now, and {WINDOW_S} s is the most: sent again, or a clock is wrong")]
    NotNow(i64),
}

/// Whether a request was signed by Slack with this app's secret, just now. `signature` and `timestamp` are the values of
/// `X-Slack-Signature` and `X-Slack-Request-Timestamp`, `body` what came over the wire.
///
/// # Errors
/// It is not to be believed: answer 401, and do nothing.
pub fn verify_slack(
    secret: &Redacted<String>,
    signature: &str,
    timestamp: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<(), NotSlack> {
    let given = signature.strip_prefix("v0=").and_then(from_hex);
    let given = given.ok_or(NotSlack::Malformed("x-slack-signature"))?;
    let digits = (1..=12).contains(&timestamp.len()) && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let signed_at: i64 =
        timestamp.parse().ok().filter(|_| digits).ok_or(NotSlack::Malformed("x-slack-request-timestamp"))?;
    let expected = hmac_sha256(secret.reveal().as_bytes(), &[b"v0:", timestamp.as_bytes(), b":", body]);
    if !bool::from(expected.ct_eq(&given)) {
        return Err(NotSlack::Wrong);
    }
    // A time counts only after the signature over it.
    let off = signed_at - now.0.div_euclid(1000);
    if off.abs() > WINDOW_S { Err(NotSlack::NotNow(off)) } else { Ok(()) }
}

/// Whether a text can be meant as a secret of [`sign_webhook`].
#[must_use]
pub fn is_webhook_secret(secret: &Redacted<String>) -> bool {
    let text = secret.reveal();
    match text.strip_prefix(SIGNING_TOKEN) {
        Some(token) => BASE64.decode(token).is_ok_and(|key| key.len() >= SECRET_MIN),
        None => text.len() >= SECRET_MIN && text.trim() == text,
    }
}

/// The value of `webhook-signature` for a body that is sent under an id at a time, in seconds since 1970. A secret that
/// begins with `whsec_` is base64 of the key, any other is the key itself.
#[must_use]
pub fn sign_webhook(secret: &Redacted<String>, id: &str, unix_seconds: i64, body: &[u8]) -> String {
    let text = secret.reveal();
    let key = text.strip_prefix(SIGNING_TOKEN).and_then(|token| BASE64.decode(token).ok());
    let key = key.unwrap_or_else(|| text.as_bytes().to_vec());
    let mac = hmac_sha256(&key, &[id.as_bytes(), b".", unix_seconds.to_string().as_bytes(), b".", body]);
    format!("v1,{}", BASE64.encode(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Slack's documentation, whole.
    const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
                        &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
                        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
                        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    const TIME: i64 = 1_531_420_618;

    fn secret() -> Redacted<String> {
        Redacted::new("8f742231b10e8888abcd99yyyzzz85a5".to_owned())
    }

    #[test]
    fn the_vector_of_slacks_documentation_is_believed_for_five_minutes() {
        let time = TIME.to_string();
        for (after_s, expected) in [
            (0, Ok(())),
            (300, Ok(())),
            (-300, Ok(())),
            (301, Err(NotSlack::NotNow(-301))),
            (-301, Err(NotSlack::NotNow(301))),
        ] {
            let now = Timestamp((TIME + after_s) * 1000);
            assert_eq!(verify_slack(&secret(), SIGNATURE, &time, BODY.as_bytes(), now), expected, "{after_s}");
        }
    }

    #[test]
    fn what_is_not_slacks_is_not_believed() {
        let now = Timestamp(TIME * 1000);
        let (time, later) = (TIME.to_string(), (TIME + 1).to_string());
        let zeros = format!("v0={}", "0".repeat(64));
        let other = Redacted::new("another".to_owned());
        let changed = BODY.replace("roadrunner", "coyote");
        for (secret, signature, time, body, expected) in [
            (&secret(), SIGNATURE, &time, changed.as_str(), NotSlack::Wrong),
            (&secret(), SIGNATURE, &later, BODY, NotSlack::Wrong),
            (&secret(), &zeros, &time, BODY, NotSlack::Wrong),
            (&other, SIGNATURE, &time, BODY, NotSlack::Wrong),
            (&secret(), "", &time, BODY, NotSlack::Malformed("x-slack-signature")),
            (&secret(), &SIGNATURE.replace("v0", "v1"), &time, BODY, NotSlack::Malformed("x-slack-signature")),
            (&secret(), SIGNATURE, &"-5".to_owned(), BODY, NotSlack::Malformed("x-slack-request-timestamp")),
            (&secret(), SIGNATURE, &"9".repeat(13), BODY, NotSlack::Malformed("x-slack-request-timestamp")),
        ] {
            assert_eq!(
                verify_slack(secret, signature, time, body.as_bytes(), now),
                Err(expected),
                "{signature} {time}"
            );
        }
    }

    #[test]
    fn what_is_no_secret_of_a_webhook() {
        for (text, is_one) in [
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true),
            ("0123456789abcdef", true),
            ("0123456789abcde", false),
            ("whsec_", false),
            ("whsec_MfKQ", false),
            ("whsec_no base64 at all, though it is long", false),
            ("0123456789abcdef\n", false),
        ] {
            assert_eq!(is_webhook_secret(&Redacted::new(text.to_owned())), is_one, "{text:?}");
        }
    }

    /// The example of the Standard Webhooks libraries.
    #[test]
    fn the_vector_of_standard_webhooks() {
        let secret = Redacted::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned());
        let signature =
            sign_webhook(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
