//! Against requests that botocore signed (`tests/peers/sigv4_vectors.py`), against themselves with one thing changed, and
//! against what AWS publishes. The SDK for Rust signs in `tests/it/mesh/signed.rs`.

use super::*;
use crate::base::access_key::{AccessKey, Right};
use crate::mesh::access::Keys;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Deserialize)]
struct Signed {
    secret: String,
    now_ms: i64,
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Signed {
    fn by_botocore() -> Vec<Self> {
        let text = include_str!("../../../tests/golden/sigv4/botocore.jsonl");
        text.lines().map(|line| serde_json::from_str(line).expect("one of ours")).collect()
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.now_ms)
    }

    fn check_at(&self, now: Timestamp) -> Result<(), ApiError> {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let head = Head { method: &self.method, path: &self.path, query: &self.query, headers: &headers };
        let secrets = [Redacted::new(self.secret.clone())];
        Claim::read(&head, now)?.verify(&head, Payload::Body(self.body.as_bytes()), &secrets)
    }

    fn check(&self) -> Result<(), ApiError> {
        self.check_at(self.now())
    }

    fn code(&self) -> Option<ErrorCode> {
        self.check().err().map(|error| error.code)
    }

    fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.insert(name.to_owned(), value.to_owned());
        other
    }

    fn without(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.headers.remove(name);
        other
    }

    fn rewritten(&self, from: &str, to: &str) -> Self {
        let authorization = &self.headers["authorization"];
        assert!(authorization.contains(from), "{authorization}");
        self.with("authorization", &authorization.replacen(from, to, 1))
    }
}

#[test]
fn what_botocore_signs_holds() {
    let all = Signed::by_botocore();
    for signed in &all {
        assert_eq!(signed.check(), Ok(()), "{signed:?}");
    }
    let has = |what: &dyn Fn(&Signed) -> bool| all.iter().filter(|signed| what(signed)).count();
    for (what, count) in [
        ("an encoded slash", has(&|signed| signed.path.contains("%2F"))),
        ("a blank", has(&|signed| signed.path.contains("%20"))),
        ("a plus in the query", has(&|signed| signed.query.contains("%2B"))),
        ("several members", has(&|signed| signed.query.matches('&').count() > 1)),
        ("a body", has(&|signed| !signed.body.is_empty())),
        ("a session's token", has(&|signed| signed.headers.contains_key("x-amz-security-token"))),
    ] {
        assert!(count > 3, "{what}: {count} requests");
    }
}

#[test]
fn whatever_is_changed_is_noticed() {
    for signed in Signed::by_botocore() {
        let time = &signed.headers["x-amz-date"];
        let second = if time.ends_with("0Z") { "1Z" } else { "0Z" };
        let changed = [
            ("method", Signed { method: "POST".into(), ..signed.clone() }),
            ("path", Signed { path: format!("{}x", signed.path), ..signed.clone() }),
            ("query", Signed { query: format!("{}&limit=7", signed.query), ..signed.clone() }),
            ("body", Signed { body: format!("{} ", signed.body), ..signed.clone() }),
            ("secret", Signed { secret: format!("{}x", signed.secret), ..signed.clone() }),
            ("host", signed.with("host", "elsewhere")),
            ("unsigned extension", signed.with("x-tidegate-generation", "1")),
            ("unsigned header of AWS", signed.with("x-amz-security-tokens", "x")),
            ("time", signed.with("x-amz-date", &format!("{}{second}", &time[..14]))),
            ("hash of another body", signed.with(HASH_HEADER, &to_hex(&Sha256::digest(b"other")))),
        ];
        for (what, other) in changed {
            assert_eq!(other.code(), Some(ErrorCode::InvalidSignature), "{what}: {other:?}");
        }
        // What a proxy adds is nobody's business, and blanks around a value are none of its own.
        assert_eq!(signed.with("x-forwarded-for", "10.0.0.9").check(), Ok(()));
        assert_eq!(signed.with("host", &format!(" {} ", signed.headers["host"])).check(), Ok(()));
    }
}

#[test]
fn a_signature_counts_for_five_minutes_before_and_after() {
    let signed = &Signed::by_botocore()[0];
    let at = |seconds: i64| signed.check_at(Timestamp(signed.now_ms + seconds * 1000));
    for seconds in [-300, -1, 0, 299, 300] {
        assert_eq!(at(seconds), Ok(()), "{seconds}");
    }
    for (seconds, what) in [(-301, "not yet current"), (301, "expired"), (1 << 40, "expired"), (-(1 << 40), "current")]
    {
        let refused = at(seconds).expect_err("too far off");
        assert_eq!(refused.code, ErrorCode::InvalidSignature);
        assert!(refused.message.contains(what), "{refused}");
    }
    assert_eq!(
        at(301).expect_err("too late").message,
        "Signature expired: it was made at 2028-09-17T21:55:30.000Z, and it is 2028-09-17T22:00:31.000Z here; 301 s apart, \
         and 300 s is the most. Set the clock of the machine that signs, or of this one, and sign again"
    );
}

#[test]
fn what_is_no_signature_is_said_to_lack_something() {
    use ErrorCode::{IncompleteSignature, InvalidSignature, MissingAuthenticationToken};
    let signed = &Signed::by_botocore()[0];
    let by_query = Signed { query: "X-Amz-Algorithm=x&X-Amz-Signature=y".into(), ..signed.without("authorization") };
    let long = format!("SignedHeaders=host{}", ";x-amz-date".repeat(SIGNED_MAX));
    for (other, code, says) in [
        (signed.without("authorization"), MissingAuthenticationToken, "the request is not signed. Sign it"),
        (by_query, MissingAuthenticationToken, "in the query is not taken"),
        (signed.with("authorization", "Bearer tg_1"), IncompleteSignature, "AWS4-HMAC-SHA256"),
        (signed.with("authorization", ""), IncompleteSignature, "AWS4-HMAC-SHA256"),
        (signed.with("authorization", ALGORITHM), IncompleteSignature, "AWS4-HMAC-SHA256"),
        (signed.with("authorization", "AWS4-HMAC-SHA256 x"), IncompleteSignature, "has a part `x`"),
        (signed.rewritten("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256X"), IncompleteSignature, "does not begin"),
        (signed.rewritten("Signature=", "Sgnature="), IncompleteSignature, "`Sgnature`"),
        (signed.rewritten(", Signature=", ", Signature=0, Signature="), IncompleteSignature, "twice"),
        (signed.rewritten("Signature=e1", "Signature=g1"), IncompleteSignature, "hexadecimal"),
        (signed.rewritten("/aws4_request", "/aws5_request"), IncompleteSignature, "KEY-ID/DATE/REGION"),
        (signed.rewritten("/aws4_request", ""), IncompleteSignature, "KEY-ID/DATE/REGION"),
        (signed.rewritten("=AKID0", "="), IncompleteSignature, "key id"),
        (signed.rewritten("/local/", "/lo cal/"), IncompleteSignature, "region"),
        (signed.rewritten("/appmesh/", "/execute-api/"), InvalidSignature, "service appmesh, not execute-api"),
        (signed.rewritten("/20280917/", "/20280918/"), InvalidSignature, "Date in Credential scope"),
        (signed.rewritten("/20280917/", "/2028091/"), InvalidSignature, "Date in Credential scope"),
        (signed.rewritten("host;x-amz-date", "x-amz-date;host"), IncompleteSignature, "alphabetical order"),
        (signed.rewritten("host;x-amz-date", "host;host;x-amz-date"), IncompleteSignature, "alphabetical order"),
        (signed.rewritten("SignedHeaders=host", &long), IncompleteSignature, "64 is the most"),
        (signed.rewritten("host;x-amz-date", "host"), InvalidSignature, "`x-amz-date` must be signed"),
        (signed.rewritten("host;x-amz-date", "x-amz-date"), InvalidSignature, "`host` must be signed"),
        (signed.rewritten("host;", "accept;host;"), InvalidSignature, "`accept` did not arrive"),
        (signed.without("x-amz-date"), IncompleteSignature, "`x-amz-date` is missing"),
        (signed.with("x-amz-date", "20280917"), IncompleteSignature, "is not a time"),
        (signed.with("x-amz-date", "20280917T995530Z"), IncompleteSignature, "is not a time"),
        (signed.with("x-amz-date", "20280917T2155 0Z"), IncompleteSignature, "is not a time"),
        (signed.with("x-amz-date", "20280917T21553äZ"), IncompleteSignature, "is not a time"),
    ] {
        let refused = other.check().expect_err(says);
        assert_eq!(refused.code, code, "{says}: {refused}");
        assert!(refused.message.contains(says), "{refused} does not say {says}");
        assert_eq!(refused.code.status(), 403);
    }
}

/// What is sent as `/a/../b` is signed as `/b`: a signature must not be good for what it was not made for.
#[test]
fn a_path_that_would_be_signed_as_another_is_refused() {
    let signed = &Signed::by_botocore()[0];
    for inserted in ["/v20190125/./", "/v20190125//", "/v20190125/../v20190125/", "/v20190125/x/../"] {
        let other = Signed { path: signed.path.replacen("/v20190125/", inserted, 1), ..signed.clone() };
        let refused = other.check().expect_err(inserted);
        assert!(refused.message.contains("empty segment"), "{refused}");
    }
    for fine in ["/", "", "/a/", "/a.b/..c"] {
        assert!(path(fine).is_ok(), "{fine}");
    }
}

#[test]
fn secrets_are_changed_one_after_the_other() {
    let signed = &Signed::by_botocore()[0];
    let headers: Vec<(&str, &[u8])> =
        signed.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let head = Head { method: &signed.method, path: &signed.path, query: &signed.query, headers: &headers };
    let claim = Claim::read(&head, signed.now()).expect("read");
    let secret = |text: &str| Redacted::new(text.to_owned());
    let check = |secrets: &[Redacted<String>]| claim.verify(&head, Payload::Body(b""), secrets).is_ok();
    assert!(check(&[secret("new"), secret(&signed.secret)]) && check(&[secret(&signed.secret), secret("new")]));
    assert!(!check(&[secret("new")]) && !check(&[]));
}

/// "Examples of how to derive a signing key for Signature Version 4" of AWS, whose service is not ours, step by step.
#[test]
fn keys_are_derived_as_published() {
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let first = hmac_sha256(format!("AWS4{secret}").as_bytes(), &[b"20120215"]);
    let last =
        ["us-east-1", "iam", "aws4_request"].iter().fold(first, |key, part| hmac_sha256(&key, &[part.as_bytes()]));
    assert_eq!(to_hex(&last), "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
    let claim = Claim {
        key_id: "x".into(),
        time: "20120215T000000Z".into(),
        region: "us-east-1".into(),
        signed: Vec::new(),
        signature: [0; 32],
    };
    let ours =
        ["us-east-1", "appmesh", "aws4_request"].iter().fold(first, |key, part| hmac_sha256(&key, &[part.as_bytes()]));
    assert_eq!(claim.signing_key(&Redacted::new(secret.into())), ours);
}

const STREAM: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// Headers of a call, signed for `host` with `hash` as what is said of the payload.
fn call(host: &str, hash: &str, secret: &str) -> Vec<(String, String)> {
    let claim = Claim {
        key_id: "AKIDENVOY".into(),
        time: "20280917T215530Z".into(),
        region: "eu-central-1".into(),
        signed: ["host", "x-amz-content-sha256", "x-amz-date"].map(str::to_owned).to_vec(),
        signature: [0; 32],
    };
    let headers =
        [("host", host.as_bytes()), ("x-amz-content-sha256", hash.as_bytes()), ("x-amz-date", claim.time.as_bytes())];
    let head = Head { method: "POST", path: STREAM, query: "", headers: &headers };
    let canonical = canonical(&head, &claim.signed, hash).expect("made");
    let text = claim.string_to_sign(&canonical);
    let signature = to_hex(&hmac_sha256(&claim.signing_key(&Redacted::new(secret.to_owned())), &[text.as_bytes()]));
    let authorization = format!(
        "{ALGORITHM} Credential=AKIDENVOY/20280917/eu-central-1/appmesh/aws4_request, SignedHeaders={}, Signature={signature}",
        claim.signed.join(";")
    );
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![own("authorization", &authorization), own("x-amz-content-sha256", hash), own("x-amz-date", &claim.time)]
}

#[test]
fn a_call_is_signed_without_its_messages() {
    let keys = Keys::new(vec![AccessKey {
        name: "envoy".into(),
        id: "AKIDENVOY".into(),
        secrets: vec![Redacted::new("secret".into())],
        right: Right::Read,
        mesh: None,
    }]);
    let now = Timestamp(1_852_840_530_000);
    let empty = to_hex(&Sha256::digest(b""));
    let caller = |authority: &str, path: &str, signed: &[(String, String)]| {
        let mut headers: Vec<(&str, &[u8])> =
            signed.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        headers.push(("host", authority.as_bytes()));
        let head = Head { method: "POST", path, query: "", headers: &headers };
        keys.caller(&head, now).map(|key| key.name.clone()).map_err(|error| error.code)
    };
    for hash in [UNSIGNED, empty.as_str()] {
        let signed = call("mesh.internal:7072", hash, "secret");
        assert_eq!(caller("mesh.internal:7072", STREAM, &signed), Ok("envoy".into()));
        assert_eq!(caller("other.internal:7072", STREAM, &signed), Err(ErrorCode::InvalidSignature));
        assert_eq!(caller("mesh.internal:7072", "/other", &signed), Err(ErrorCode::InvalidSignature));
        // As gRPC gives it to what signs: without the port of https.
        let signed = call("mesh.internal", hash, "secret");
        assert_eq!(caller("mesh.internal:443", STREAM, &signed), Ok("envoy".into()));
        assert_eq!(caller("mesh.internal:7072", STREAM, &signed), Err(ErrorCode::InvalidSignature));
    }
    let signed = call("mesh.internal", UNSIGNED, "wrong");
    assert_eq!(caller("mesh.internal", STREAM, &signed), Err(ErrorCode::InvalidSignature));
    let signed = call("mesh.internal", &to_hex(&Sha256::digest(b"x")), "secret");
    assert_eq!(caller("mesh.internal", STREAM, &signed), Err(ErrorCode::InvalidSignature));
    // The messages of the API are signed, whatever is said of them.
    let mut unsigned = Signed::by_botocore()[0].with(HASH_HEADER, UNSIGNED);
    unsigned = unsigned.rewritten("host;x-amz-date", "host;x-amz-content-sha256;x-amz-date");
    let refused = unsigned.check().expect_err("unsigned");
    assert!(refused.message.contains("The body must be signed"), "{refused}");
}
