//! Signature Version 4, made: the command line signs like every other client, so that it may call what it may call.

use super::{ALGORITHM, Claim, DATE_HEADER, HASH_HEADER, Head, SERVICE, TERMINATOR, canonical};
use crate::base::mac::{hmac_sha256, to_hex};
use crate::base::secret::Redacted;
use crate::base::time::Timestamp;
use sha2::{Digest, Sha256};

const SESSION_HEADER: &str = "x-amz-security-token";

/// An access key to sign with.
#[derive(Debug, Clone)]
pub struct Signer {
    /// Its identifier.
    pub id: String,
    /// Its secret.
    pub secret: Redacted<String>,
    /// Token of a session, which keys of AWS may come with.
    pub session: Option<Redacted<String>>,
    /// Region that is signed for.
    pub region: String,
}

impl Signer {
    /// The headers that make a request a signed one. `head.headers` has `host`, and whatever else is to be signed.
    #[must_use]
    pub fn headers(&self, head: &Head<'_>, body: &[u8], now: Timestamp) -> Option<Vec<(&'static str, String)>> {
        let (time, hash) = (compact(now)?, to_hex(&Sha256::digest(body)));
        let mut made = vec![(HASH_HEADER, hash.clone()), (DATE_HEADER, time.clone())];
        made.extend(self.session.iter().map(|token| (SESSION_HEADER, token.reveal().clone())));
        let mut headers: Vec<(&str, &[u8])> = head.headers.to_vec();
        headers.extend(made.iter().map(|(name, value)| (*name, value.as_bytes())));
        let mut signed: Vec<String> = headers.iter().map(|(name, _)| (*name).to_owned()).collect();
        signed.sort_unstable();
        let region = self.region.clone();
        let claim = Claim { key_id: self.id.clone(), time, region, signed, signature: [0; 32] };
        // A path that does not stay as it is on the way is refused here as it is there.
        let canonical = canonical(&Head { headers: &headers, ..*head }, &claim.signed, &hash).ok()?;
        let text = claim.string_to_sign(&canonical);
        let signature = to_hex(&hmac_sha256(&claim.signing_key(&self.secret), &[text.as_bytes()]));
        let scope = format!("{}/{}/{SERVICE}/{TERMINATOR}", claim.date(), self.region);
        let names = claim.signed.join(";");
        let value = format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", self.id);
        made.push(("authorization", value));
        Some(made)
    }
}

/// `20150830T123600Z`.
fn compact(at: Timestamp) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(at.0).ok()?;
    Some(at.strftime("%Y%m%dT%H%M%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::sigv4::Payload;

    fn signer() -> Signer {
        let secret = Redacted::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned());
        Signer { id: "AKIDEXAMPLE".into(), secret, session: None, region: "us-east-1".into() }
    }

    #[test]
    fn what_is_signed_holds_and_covers_everything() {
        let now = Timestamp(1_440_938_160_000);
        let with_session = Signer { session: Some(Redacted::new("token".into())), ..signer() };
        for (signer, body) in [(signer(), ""), (with_session, "{\"spec\":{}}")] {
            let own: [(&str, &[u8]); 2] = [("host", b"mesh.internal:7071"), ("x-tidegate-generation", b"7")];
            let path = "/v20190125/meshes/a%2Fb";
            let head = Head { method: "PUT", path, query: "nextToken=a%2Bb", headers: &own };
            let made = signer.headers(&head, body.as_bytes(), now).expect("a path like others");
            let mut all = own.to_vec();
            all.extend(made.iter().map(|(name, value)| (*name, value.as_bytes())));
            let head = Head { headers: &all, ..head };
            let claim = Claim::read(&head, now).expect("a signature");
            let secrets = [signer.secret.clone()];
            assert_eq!(claim.verify(&head, Payload::Body(body.as_bytes()), &secrets), Ok(()));
            assert!(claim.verify(&head, Payload::Body(b"other"), &secrets).is_err());
            let other = Head { query: "nextToken=other", ..head };
            assert!(claim.verify(&other, Payload::Body(body.as_bytes()), &secrets).is_err());
        }
    }
}
