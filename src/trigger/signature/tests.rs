//! Proofs that hold, and each way in which one does not.

use super::*;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const SECRET: &str = "It's a Secret to Everybody";
const OTHER: &str = "quite another secret, as long";

fn secrets(current: &str, previous: Option<&str>) -> Secrets {
    let redacted = |text: &str| Redacted::new(text.to_owned());
    Secrets::new(redacted(current), previous.map(redacted)).unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

/// What is said of a delivery, empty when it is believed.
fn says(source: Source, pairs: &[(&'static str, &str)], body: &[u8], secrets: &Secrets) -> String {
    verify(source, &headers(pairs), body, secrets, NOW).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn githubs_own_example_verifies() {
    // Secret, body and signature of "Testing the webhook payload validation" in GitHub's documentation.
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let header = [("x-hub-signature-256", signature)];
    assert_eq!(says(Source::Github, &header, b"Hello, World!", &secrets(SECRET, None)), "");
    assert_eq!(says(Source::Github, &header, b"Hello, World!", &secrets(OTHER, Some(SECRET))), "");
    let wrong = "the header `x-hub-signature-256` does not fit: another secret, or a body that was changed on the way";
    assert_eq!(says(Source::Github, &header, b"Hello, World?", &secrets(SECRET, None)), wrong);
    assert_eq!(says(Source::Github, &header, b"Hello, World!", &secrets(OTHER, None)), wrong);
}

#[test]
fn a_proof_in_the_wrong_form_is_told_apart_from_a_wrong_one() {
    let one = secrets(SECRET, None);
    let says = |pairs: &[(&'static str, &str)]| says(Source::Github, pairs, b"", &one);
    let missing =
        "the header `x-hub-signature-256` is missing: the sender has no secret set, or it was lost on the way";
    assert_eq!(says(&[]), missing);
    // SHA-1, which GitHub still sends beside it, proves nothing.
    assert_eq!(says(&[("x-hub-signature", "sha1=aa")]), missing);
    let form = "the header `x-hub-signature-256` is not `sha256=` and 64 hexadecimal digits";
    for value in
        ["", "sha256=", "sha256=+f", &format!("sha256={}", "g".repeat(64)), &format!("sha1={}", "a".repeat(64))]
    {
        assert_eq!(says(&[("x-hub-signature-256", value)]), form, "{value}");
    }
    let zeros = format!("sha256={}", "0".repeat(64));
    let twice = [("x-hub-signature-256", zeros.as_str()), ("x-hub-signature-256", &zeros)];
    assert_eq!(says(&twice), "the header `x-hub-signature-256` is not there once");
}

#[test]
fn ours_holds_for_five_minutes_either_way() {
    let one = secrets(SECRET, None);
    let at = |offset: i64| {
        let seconds = NOW.0 / 1000 + offset;
        let signature = sign(&Redacted::new(SECRET.to_owned()), seconds, b"{}");
        let stamp = seconds.to_string();
        let pairs = [("x-tidegate-timestamp", stamp.as_str()), ("x-tidegate-signature", &signature)];
        says(Source::Generic, &pairs, b"{}", &one)
    };
    for offset in [-300, 0, 300] {
        assert_eq!(at(offset), "");
    }
    assert_eq!(at(-301), "signed 301s ago, and 5m is the most: sent again, or the sender's clock is behind");
    assert_eq!(at(420), "signed 7m from now, and 5m is the most: the sender's clock, or the one here, is wrong");
}

#[test]
fn ours_covers_the_time_and_every_byte() {
    let one = secrets(SECRET, None);
    let stamp = (NOW.0 / 1000).to_string();
    let signature = sign(&Redacted::new(SECRET.to_owned()), NOW.0 / 1000, b"{\"a\":1}");
    let says = |stamp: &str, body: &[u8], signature: &str| {
        let pairs = [("x-tidegate-timestamp", stamp), ("x-tidegate-signature", signature)];
        says(Source::Generic, &pairs, body, &one)
    };
    assert_eq!(says(&stamp, b"{\"a\":1}", &signature), "");
    assert_eq!(says(&stamp, b"{\"a\":1}", &signature.to_uppercase().replace("V1", "v1")), "");
    let later = (NOW.0 / 1000 + 1).to_string();
    for (stamp, body) in
        [(later.as_str(), &b"{\"a\":1}"[..]), (&stamp, b"{\"a\":2}"), (&format!("0{stamp}"), b"{\"a\":1}")]
    {
        assert!(says(stamp, body, &signature).contains("does not fit"), "{stamp}");
    }
    // A wrong signature is wrong, however old it is: only who knows the secret is told about clocks.
    assert!(says("1", b"{\"a\":1}", &signature).contains("does not fit"));
    for stamp in ["", "-1", "1.5", "now", "9999999999999"] {
        let form = "the header `x-tidegate-timestamp` is not a time in seconds since 1970";
        assert_eq!(says(stamp, b"{\"a\":1}", &signature), form, "{stamp}");
    }
}

#[test]
fn the_example_of_standard_webhooks_verifies() {
    // Vector of the specification's libraries.
    let signing = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let body = br#"{"test": 2432232314}"#;
    let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let verify_at = |pairs: &[(&'static str, &str)], secrets: &Secrets, seconds: i64| {
        verify(Source::Gitlab, &headers(pairs), body, secrets, Timestamp(seconds * 1000))
    };
    let pairs = |signature| {
        [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", signature),
        ]
    };
    let signs = secrets(signing, None);
    assert_eq!(verify_at(&pairs(signature), &signs, 1_614_265_330), Ok(()));
    let several = format!("v2,AAAA v1,AAAA {signature}");
    assert_eq!(verify_at(&pairs(&several), &signs, 1_614_265_330), Ok(()));
    assert_eq!(verify_at(&pairs(signature), &secrets(OTHER, Some(signing)), 1_614_265_330), Ok(()));
    let error = verify_at(&pairs(signature), &signs, 1_614_265_631).unwrap_err();
    assert_eq!(error, SignatureError::TooOld { age: Millis(301_000) });
    let error = verify_at(&pairs("v1,AAAA"), &signs, 1_614_265_330).unwrap_err();
    assert_eq!(error, SignatureError::Wrong { header: "webhook-signature" });
    for value in ["", "v1", "v1a,AAAA", "v1,="] {
        let error = verify_at(&pairs(value), &signs, 1_614_265_330).unwrap_err();
        assert!(matches!(error, SignatureError::Malformed { header: "webhook-signature", .. }), "{value}: {error}");
    }
}

#[test]
fn a_signing_token_in_the_clear_proves_nothing() {
    let signing = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let token = [("x-gitlab-token", signing)];
    assert!(says(Source::Gitlab, &token, b"", &secrets(signing, None)).contains("`webhook-signature` is missing"));
    assert!(
        says(Source::Gitlab, &token, b"", &secrets(signing, Some(OTHER))).contains("`x-gitlab-token` does not fit")
    );
    assert_eq!(says(Source::Gitlab, &[("x-gitlab-token", OTHER)], b"", &secrets(signing, Some(OTHER))), "");
    assert_eq!(says(Source::Gitlab, &[("x-gitlab-token", SECRET)], b"", &secrets(SECRET, None)), "");
    assert!(says(Source::Gitlab, &[("x-gitlab-token", "")], b"", &secrets(SECRET, None)).contains("does not fit"));
}

#[test]
fn bearer_tokens() {
    for source in [Source::Ecr, Source::Registry] {
        let says = |value: &str| says(source, &[("authorization", value)], b"", &secrets(SECRET, Some(OTHER)));
        assert_eq!(says(&format!("Bearer {SECRET}")), "");
        assert_eq!(says(&format!("bearer  {OTHER}")), "");
        assert!(says(&format!("Bearer {SECRET}x")).contains("`authorization` does not fit"));
        assert_eq!(says(&format!("Basic {SECRET}")), "the header `authorization` is not `Bearer` and the secret");
        assert!(says(SECRET).contains("not `Bearer`"));
    }
}

#[test]
fn what_is_no_secret_is_refused_when_it_is_configured() {
    let refused = |text: &str| Secrets::new(Redacted::new(text.to_owned()), None).unwrap_err();
    assert_eq!(refused(""), SecretError::Length);
    assert_eq!(refused("short"), SecretError::Length);
    assert_eq!(refused(&"x".repeat(513)), SecretError::Length);
    assert_eq!(refused("0123456789abcdef0123456789abcdef\n"), SecretError::Space);
    assert_eq!(refused("whsec_not base64 at all"), SecretError::SigningToken);
    let shown = format!("{:?}", secrets(SECRET, Some(OTHER)));
    assert!(!shown.contains("ecret to") && !shown.contains("another"), "{shown}");
}

proptest! {
    /// Whatever comes is believed or refused, and no refusal has a piece of the secret in it.
    #[test]
    fn any_headers_are_answered(value in "[ -~]{0,80}", stamp in "[0-9]{0,14}", body in any::<Vec<u8>>()) {
        let one = secrets("0123456789abcdef-secret", Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        let mut names = vec![(GENERIC_TIME, stamp.as_str()), (STANDARD_TIME, &stamp), (STANDARD_ID, "x")];
        for name in [GENERIC_SIGNATURE, GITHUB_SIGNATURE, GITLAB_TOKEN, STANDARD_SIGNATURE, AUTHORIZATION] {
            names.push((name, &value));
        }
        for source in Source::ALL {
            let text = says(source, &names, &body, &one);
            prop_assert!(!text.is_empty() && !text.contains("0123456789abcdef") && !text.contains("MfKQ"), "{}", text);
        }
    }

    #[test]
    fn what_is_signed_verifies(body in any::<Vec<u8>>(), seconds in 0i64..4_000_000_000) {
        let signature = sign(&Redacted::new(SECRET.to_owned()), seconds, &body);
        let stamp = seconds.to_string();
        let pairs = [("x-tidegate-timestamp", stamp.as_str()), ("x-tidegate-signature", &signature)];
        let verified = verify(Source::Generic, &headers(&pairs), &body, &secrets(SECRET, None), Timestamp(seconds * 1000));
        prop_assert_eq!(verified, Ok(()));
    }
}
