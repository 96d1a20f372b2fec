//! Signature Version 4 of AWS, checked: what a request claims about itself, and whether a secret says the same.
//!
//! Only the form in which the header `authorization` carries the signature, since all SDKs sign App Mesh so. A request is
//! judged in two steps: [`Claim::read`] needs no secret and no body, so that what cannot be right is refused before a body
//! is waited for; [`Claim::verify`] computes the signature again. Paths are signed as they were sent, once more encoded, as
//! every service of AWS has it but S3. After "Authenticating Requests (AWS Signature Version 4)" of the IAM user guide.

use crate::base::mac::{from_hex, hmac_sha256, to_hex};
use crate::base::secret::Redacted;
use crate::base::time::{Millis, Timestamp};
use crate::mesh::error::{ApiError, ErrorCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use subtle::ConstantTimeEq;

pub mod sign;

/// The name that requests are signed for, to the API and to Envoy's management service alike.
pub const SERVICE: &str = "appmesh";
/// A signature counts so long before and after its time, as at AWS: what clocks of different machines may differ by.
pub const SKEW: Millis = Millis::from_seconds(300);

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
const DATE_HEADER: &str = "x-amz-date";
const HASH_HEADER: &str = "x-amz-content-sha256";
/// What stands in for the hash of a body that is not signed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// Headers whose signatures are insisted on: nobody on the way may add one of them or change its meaning.
const MUST_BE_SIGNED: [&str; 2] = ["x-amz-", "x-tidegate-"];
/// An SDK signs some ten headers; each is looked for among all, so their number bounds the work.
const SIGNED_MAX: usize = 64;
/// All but what RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// In paths the slashes stay.
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// The signed parts of an HTTP request, without its body.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Method, upper case.
    pub method: &'a str,
    /// Path as sent, undecoded.
    pub path: &'a str,
    /// Query as sent, without the question mark.
    pub query: &'a str,
    /// Names in lower case, and values. A name may occur several times. `host` is among them.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl<'a> Head<'a> {
    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(found, _)| *found == name).map(|(_, value)| *value)
    }

    /// A header that must not be there twice. One that is no text is as good as none.
    fn one(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        let mut values = self.values(name);
        let first = values.next().map(|value| std::str::from_utf8(value).unwrap_or_default().trim());
        match values.next() {
            Some(_) => Err(incomplete(&format!("the header `{name}` is there twice"))),
            None => Ok(first),
        }
    }
}

/// What is known of a body.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// All of it. It must be signed.
    Body(&'a [u8]),
    /// Nothing, since it is a stream that goes on: the call alone is signed.
    Stream,
}

/// What a request says about who signed it, when and how. Nothing of it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    key_id: String,
    /// `20150830T123600Z`.
    time: String,
    region: String,
    signed: Vec<String>,
    signature: [u8; 32],
}

impl Claim {
    /// Reads the claim, and refuses what no secret could make right: no signature, another form, another service, a time that
    /// is not now, headers that have to be signed and are not.
    ///
    /// # Errors
    /// 403 with what to do: `MissingAuthenticationToken`, `IncompleteSignature` or `InvalidSignature`.
    pub fn read(head: &Head<'_>, now: Timestamp) -> Result<Self, ApiError> {
        let Some(authorization) = head.one("authorization")? else { return Err(missing(head)) };
        let [credential, signed, signature] = parts(authorization)?;
        let time = head.one(DATE_HEADER)?.ok_or_else(|| incomplete("the header `x-amz-date` is missing"))?;
        let (key_id, region) = scope(credential, time)?;
        in_time(time, now)?;
        let signed: Vec<String> = signed.split(';').map(str::to_owned).collect();
        all_signed(head, &signed)?;
        let signature = from_hex(signature).ok_or_else(|| incomplete("`Signature` is not 64 hexadecimal digits"))?;
        Ok(Self { key_id, time: time.to_owned(), region, signed, signature })
    }

    /// Who is said to have signed: the access key id.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Whether one of `secrets` makes this signature for this request. Takes as long whatever differs.
    ///
    /// # Errors
    /// 403 `InvalidSignature`, with what to look for.
    pub fn verify(&self, head: &Head<'_>, payload: Payload<'_>, secrets: &[Redacted<String>]) -> Result<(), ApiError> {
        let hash = payload_hash(head, payload)?;
        let canonical = canonical(head, &self.signed, &hash)?;
        let text = self.string_to_sign(&canonical);
        let mut holds = subtle::Choice::from(0);
        for secret in secrets {
            let signature = hmac_sha256(&self.signing_key(secret), &[text.as_bytes()]);
            holds |= signature.ct_eq(&self.signature);
        }
        if holds.into() { Ok(()) } else { Err(self.differs(&canonical)) }
    }

    fn date(&self) -> &str {
        &self.time[..DATE_LEN]
    }

    fn string_to_sign(&self, canonical: &[u8]) -> String {
        let (date, region) = (self.date(), &self.region);
        let hash = to_hex(&Sha256::digest(canonical));
        format!("{ALGORITHM}\n{}\n{date}/{region}/{SERVICE}/{TERMINATOR}\n{hash}", self.time)
    }

    fn signing_key(&self, secret: &Redacted<String>) -> [u8; 32] {
        let first = hmac_sha256(format!("AWS4{}", secret.reveal()).as_bytes(), &[self.date().as_bytes()]);
        let rest = [self.region.as_str(), SERVICE, TERMINATOR];
        rest.iter().fold(first, |key, part| hmac_sha256(&key, &[part.as_bytes()]))
    }

    /// The hash helps to find what differs: SDKs log the string that they sign, and its last line is this hash.
    fn differs(&self, canonical: &[u8]) -> ApiError {
        let hash = to_hex(&Sha256::digest(canonical));
        invalid(&format!(
            "The request signature we calculated does not match the signature you provided. Check the secret of the access key \
             {}, and that nothing on the way changes the path, the query, the body or one of the signed headers ({}). The \
             canonical request as it arrived has the SHA-256 {hash}; the string to sign in the client's log ends with the one \
             that was signed. Trying again without a change does not help",
            self.key_id,
            self.signed.join(";")
        ))
    }
}

/// Characters of the date in a time.
const DATE_LEN: usize = 8;
/// Characters of a time: `20150830T123600Z`.
const TIME_LEN: usize = 16;

/// Credential, signed headers and signature of an `authorization` header.
fn parts(authorization: &str) -> Result<[&str; 3], ApiError> {
    let rest = authorization.strip_prefix(ALGORITHM).filter(|rest| rest.starts_with(' '));
    let rest = rest.ok_or_else(|| {
        incomplete(&format!("`Authorization` does not begin with `{ALGORITHM} `: sign with Signature Version 4"))
    })?;
    let mut found = [None; 3];
    for part in rest.split(',') {
        let (name, value) = part.trim().split_once('=').unwrap_or((part.trim(), ""));
        let Some(place) = ["Credential", "SignedHeaders", "Signature"].iter().position(|known| *known == name) else {
            let name: String = name.chars().take(40).collect();
            return Err(incomplete(&format!("`Authorization` has a part `{name}`, which is not known")));
        };
        if found[place].replace(value).is_some() {
            return Err(incomplete(&format!("`Authorization` has `{name}` twice")));
        }
    }
    let [Some(credential), Some(signed), Some(signature)] = found else {
        return Err(incomplete("`Authorization` needs `Credential`, `SignedHeaders` and `Signature`"));
    };
    Ok([credential, signed, signature])
}

/// The access key id and the region of a credential `ID/20150830/eu-central-1/appmesh/aws4_request`.
///
/// Any region will do. It is that of the client's environment, while a daemon has one store whatever region is named; the
/// signature covers it all the same.
fn scope(credential: &str, time: &str) -> Result<(String, String), ApiError> {
    let is_word = |text: &str, most: usize| {
        (1..=most).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let segments: Vec<&str> = credential.split('/').collect();
    let [id, date, region, service, TERMINATOR] = segments[..] else {
        return Err(incomplete(&format!("`Credential` is not KEY-ID/DATE/REGION/{SERVICE}/{TERMINATOR}")));
    };
    if !is_word(id, 128) || !is_word(region, 64) {
        return Err(incomplete("`Credential` has a key id or a region that is none"));
    }
    if service != SERVICE {
        let service: String = service.chars().take(40).collect();
        return Err(invalid(&format!(
            "Credential should be scoped to the service {SERVICE}, not {service}: set the service (signing) name to {SERVICE}"
        )));
    }
    if !time.starts_with(date) || date.len() != DATE_LEN {
        return Err(invalid("Date in Credential scope does not match the date of `x-amz-date`"));
    }
    Ok((id.to_owned(), region.to_owned()))
}

fn in_time(time: &str, now: Timestamp) -> Result<(), ApiError> {
    let malformed = || incomplete("`x-amz-date` is not a time such as 20150830T123600Z");
    let is_form = time.len() == TIME_LEN
        && time.bytes().enumerate().all(|(place, byte)| match place {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok().filter(|_| is_form).ok_or_else(malformed)?;
    let at = jiff::tz::TimeZone::UTC.to_timestamp(at).map_err(|_| malformed())?;
    let at = Timestamp(at.as_millisecond());
    // One of the two is zero.
    let (age, ahead) = (now.since(at), at.since(now));
    if age <= SKEW && ahead <= SKEW {
        return Ok(());
    }
    let (what, off) = if age > SKEW { ("Signature expired", age) } else { ("Signature not yet current", ahead) };
    Err(invalid(&format!(
        "{what}: it was made at {}, and it is {} here; {} s apart, and {} s is the most. Set the clock of the machine that \
         signs, or of this one, and sign again",
        at.rfc3339(),
        now.rfc3339(),
        off.0 / 1000,
        SKEW.0 / 1000
    )))
}

/// What must be signed is, and nothing is named that could mean two things.
fn all_signed(head: &Head<'_>, signed: &[String]) -> Result<(), ApiError> {
    if signed.len() > SIGNED_MAX {
        return Err(incomplete(&format!("{} headers are signed, and {SIGNED_MAX} is the most", signed.len())));
    }
    // In order, as they have to be, so none is there twice either.
    if signed.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(incomplete("`SignedHeaders` is not in alphabetical order"));
    }
    let must = |name: &str| name == "host" || MUST_BE_SIGNED.iter().any(|prefix| name.starts_with(prefix));
    let names = head.headers.iter().map(|(name, _)| *name).chain(["host"]);
    for name in names.filter(|name| must(name)) {
        if !signed.iter().any(|other| other == name) {
            return Err(invalid(&format!("The header `{name}` must be signed: it is not in `SignedHeaders`")));
        }
    }
    if let Some(absent) = signed.iter().find(|name| head.values(name).next().is_none()) {
        let absent: String = absent.chars().take(64).collect();
        return Err(invalid(&format!(
            "The signed header `{absent}` did not arrive: something on the way took it out, or renamed it"
        )));
    }
    Ok(())
}

/// The hash that was signed: the body's, and if `x-amz-content-sha256` says one, that one.
fn payload_hash(head: &Head<'_>, payload: Payload<'_>) -> Result<String, ApiError> {
    let said = head.one(HASH_HEADER)?;
    match payload {
        Payload::Body(body) => {
            let hash = to_hex(&Sha256::digest(body));
            match said {
                Some(UNSIGNED) => Err(invalid("The body must be signed: `x-amz-content-sha256` must be its SHA-256")),
                Some(said) if said != hash => {
                    Err(invalid("The body is not the one that was signed: its SHA-256 is not `x-amz-content-sha256`"))
                }
                _ => Ok(hash),
            }
        }
        // Envoy's plugin for gRPC signs the hash of an empty body instead of saying that there is none.
        Payload::Stream => {
            let empty = to_hex(&Sha256::digest(b""));
            match said {
                None => Ok(empty),
                Some(said) if said == empty || said == UNSIGNED => Ok(said.to_owned()),
                Some(_) => Err(invalid(&format!("`x-amz-content-sha256` of a stream must be {UNSIGNED}"))),
            }
        }
    }
}

/// The request as it is signed. Bytes, since the values of headers need be no text.
fn canonical(head: &Head<'_>, signed: &[String], hash: &str) -> Result<Vec<u8>, ApiError> {
    let mut request = format!("{}\n{}\n{}\n", head.method, path(head.path)?, query(head.query)).into_bytes();
    for name in signed {
        request.extend_from_slice(name.as_bytes());
        request.push(b':');
        for (number, value) in head.values(name).enumerate() {
            if number > 0 {
                request.push(b',');
            }
            request.extend(trimmed(value));
        }
        request.push(b'\n');
    }
    let mut end = String::new();
    // Writing to a string cannot fail.
    let _ = write!(end, "\n{}\n{hash}", signed.join(";"));
    request.extend_from_slice(end.as_bytes());
    Ok(request)
}

/// SDKs sign a path without its empty segments and those of dots, so that one signature would be good for several paths. Ours
/// have no such segments, so a request that has one is refused.
fn path(path: &str) -> Result<String, ApiError> {
    let inside = path.strip_prefix('/').unwrap_or(path);
    let inside = inside.strip_suffix('/').unwrap_or(inside);
    if !inside.is_empty() && inside.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(invalid("A path with an empty segment, or one of dots, is not signed as it is sent"));
    }
    Ok(percent_encode(path.as_bytes(), ENCODED_IN_PATH).to_string())
}

/// In order of their encoded names, then of their values.
fn query(query: &str) -> String {
    let encoded = |text: &str| {
        let bytes: Vec<u8> = percent_decode_str(text).collect();
        percent_encode(&bytes, ENCODED).to_string()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Without blanks around it, and with one for several in a row.
fn trimmed(value: &[u8]) -> Vec<u8> {
    let words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

fn missing(head: &Head<'_>) -> ApiError {
    let by_query =
        if head.query.contains("X-Amz-Signature") { ", and a signature in the query is not taken" } else { "" };
    let message = format!(
        "Missing Authentication Token: the request is not signed{by_query}. Sign it with an access key of [mesh.keys] of this \
         daemon's configuration (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), service {SERVICE}"
    );
    ApiError::new(ErrorCode::MissingAuthenticationToken, message)
}

fn incomplete(what: &str) -> ApiError {
    ApiError::new(ErrorCode::IncompleteSignature, format!("The signature is incomplete: {what}"))
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidSignature, message)
}

#[cfg(test)]
mod tests;
