//! `[mesh.certificates."ARN"]`: files that stand in for certificates of AWS Certificate Manager.

use super::daemon::quoted;
use super::file::{self, ConfigError, Given, Values};
use crate::base::certificate::StandIn;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// As many as there may be: AWS itself keeps 2,500 for an account, and each is read again every 10 s.
const MOST: usize = 1_000;
/// A longer ARN is none (2,048 at AWS, for the longest of all kinds).
const ARN_MAX_BYTES: usize = 2_048;

/// Reads them of a file that may say more, for local mode, which has no configuration of its own.
///
/// # Errors
/// Everything that is wrong with the file, each with its place.
pub fn read(name: &str, text: &str) -> Result<Vec<StandIn>, Vec<ConfigError>> {
    let Values { certificates, mut errors, .. } = file::read(name, text);
    let (certificates, wrong) = checked(certificates);
    errors.extend(wrong);
    if errors.is_empty() { Ok(certificates) } else { Err(errors) }
}

/// What they say, and all that is wrong with it.
pub(super) fn checked(given: BTreeMap<String, BTreeMap<&'static str, Given>>) -> (Vec<StandIn>, Vec<ConfigError>) {
    let (mut certificates, mut errors) = (Vec::new(), Vec::new());
    for (number, (arn, mut keys)) in given.into_iter().enumerate() {
        let place = keys.values().min_by_key(|given| given.line).map(|given| (given.place.clone(), given.line));
        let empty = keys.iter().find(|(_, given)| given.values.iter().all(|value| value.trim().is_empty()));
        let empty = empty.map(|(key, _)| *key);
        let mut path = |key| keys.remove(key).and_then(|given| given.values.into_iter().next()).map(PathBuf::from);
        // What has no authorities was told when it was read, with its place.
        let (chain, key, Some(authorities)) = (path("chain"), path("key"), path("authorities")) else { continue };
        let kind = kind(&arn);
        let problem = match (kind, &chain, &key) {
            _ if number >= MOST => Some((format!("{MOST} certificates are the most"), "leave some of them out")),
            _ if empty.is_some() => {
                Some((format!("`{}` must be a path", empty.unwrap_or_default()), "name the file, in PEM"))
            }
            (None, ..) => Some((
                "it is no ARN of a certificate".to_owned(),
                "arn:aws:acm:REGION:ACCOUNT:certificate/ID, or arn:aws:acm-pca:REGION:ACCOUNT:certificate-authority/ID",
            )),
            (Some(Kind::Certificate), None, _) | (Some(Kind::Certificate), _, None) => {
                Some(("a certificate needs `chain` and `key`".to_owned(), "name the files of both, in PEM"))
            }
            (Some(Kind::Authority), None, None) | (Some(Kind::Certificate), Some(_), Some(_)) => None,
            (Some(Kind::Authority), ..) => {
                Some(("an authority has neither `chain` nor `key`".to_owned(), "leave them out: it is only believed"))
            }
        };
        if let Some((message, hint)) = problem {
            let (place, line) = place.unwrap_or_default();
            let shown: String = arn.chars().take(120).map(|c| if c.is_control() { '?' } else { c }).collect();
            let message = format!("`mesh.certificates.\"{shown}\"`: {message}");
            errors.push(ConfigError { place, line, message, hint: hint.to_owned() });
        }
        certificates.push(StandIn { arn, pair: chain.zip(key), authorities });
    }
    (certificates, errors)
}

/// What an ARN names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Certificate,
    Authority,
}

fn kind(arn: &str) -> Option<Kind> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, service, region, account, resource] = parts[..] else { return None };
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_account = account.bytes().all(|byte| byte.is_ascii_digit()) && !account.is_empty();
    let (kind, id) = match (service, resource.split_once('/')?) {
        ("acm", ("certificate", id)) => (Kind::Certificate, id),
        ("acm-pca", ("certificate-authority", id)) => (Kind::Authority, id),
        _ => return None,
    };
    let fits = arn.len() <= ARN_MAX_BYTES && is_account && [partition, region, id].into_iter().all(is_word);
    fits.then_some(kind)
}

/// One of them as the file would have it.
pub(super) fn effective(text: &mut String, stand_in: &StandIn) {
    let path = |path: &PathBuf| quoted(&path.display().to_string());
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n[mesh.certificates.{}]", quoted(&stand_in.arn));
    if let Some((chain, key)) = &stand_in.pair {
        let _ = writeln!(text, "chain = {}\nkey = {}", path(chain), path(key));
    }
    let _ = writeln!(text, "authorities = {}", path(&stand_in.authorities));
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACM: &str = "arn:aws:acm:eu-central-1:123456789012:certificate/c-1";

    #[test]
    fn arns_of_certificates_and_authorities_are_told_apart() {
        assert_eq!(kind(ACM), Some(Kind::Certificate));
        let authority = "arn:aws-cn:acm-pca:cn-north-1:1:certificate-authority/a";
        assert_eq!(kind(authority), Some(Kind::Authority));
        for wrong in ["", "arn:aws:acm:r:1", "arn:aws:acm:r:1:certificate/", "arn:aws:acm:r:x:certificate/c", "c"] {
            assert_eq!(kind(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let section = |arn: &str, keys: &str| format!("[mesh.certificates.\"{arn}\"]\n{keys}\n");
        let pca = "arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/a";
        let pair = "chain = \"c\"\nkey = \"k\"";
        for (text, said) in [
            (section(ACM, pair), "f.toml:1:20: `mesh.certificates.arn"),
            (section(ACM, "authorities = \"a\""), "f.toml:2:15: `mesh.certificates.\"arn"),
            (section("x", "authorities = \"a\""), "it is no ARN of a certificate"),
            (section(pca, &format!("authorities = \"a\"\n{pair}")), "neither `chain` nor `key`"),
            (section(ACM, &format!("{pair}\nauthorities = \"\"")), "`authorities` must be a path"),
            (section(ACM, "authorites = \"a\""), "f.toml:2:1: a certificate has no key `authorites`"),
            ("[mesh]\ncertificates = 1\n".to_owned(), "there is no key `certificates`"),
        ] {
            let errors = read("f.toml", &text).expect_err(&text);
            assert!(errors.iter().any(|error| error.to_string().contains(said)), "{text}: {errors:?}");
        }
        let right = section(ACM, &format!("{pair}\nauthorities = \"a\"")) + &section(pca, "authorities = \"a\"");
        let read = read("f.toml", &format!("[api]\nlisten = \"127.0.0.1:1\"\n{right}")).expect("right");
        assert_eq!(read.iter().filter(|stand_in| stand_in.pair.is_some()).count(), 1);
        let mut text = String::new();
        read.iter().for_each(|stand_in| effective(&mut text, stand_in));
        assert_eq!(super::read("f.toml", &text), Ok(read));
    }
}
