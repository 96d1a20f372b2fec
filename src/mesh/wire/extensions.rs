//! Tidegate's extensions on the wire: headers of UpdateRoute, and of the answers to DescribeRoute.
//!
//! ```text
//! x-tidegate-generation: 7
//! x-tidegate-lease: 2m; fallback=checkout-v1=100,checkout-v2=0
//! x-tidegate-lease: 2m; fallback=checkout-v1=100; renews=12
//! x-tidegate-fuse: 5; canary=checkout-v2; rollout=r-0123456789abcdef; threshold=5.73; ratio=1; add=0.001
//! ```
//!
//! Names are percent-encoded where they are not plain ASCII: a header holds nothing else.

use super::fuse;
use crate::base::time::Millis;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::lease::{LEASE_SPAN, LeaseAsk};
use crate::mesh::model::{Extensions, Key, Kind, Resource};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Header of the weight generation.
pub const GENERATION_HEADER: &str = "x-tidegate-generation";
/// Header of the weight lease.
pub const LEASE_HEADER: &str = "x-tidegate-lease";
/// Header of the fuse.
pub const FUSE_HEADER: &str = "x-tidegate-fuse";
/// Response header that announces extensions, on DescribeRoute.
pub const FEATURES_HEADER: &str = "x-tidegate-features";
/// What [`FEATURES_HEADER`] says: a list of words.
pub const FEATURES: &str = "generation, lease, fuse";

/// Most targets of a route (App Mesh API 2019-01-25, `WeightedTargets`).
const TARGETS_MAX: usize = 10;
/// Largest weight of a target (App Mesh API 2019-01-25, `PercentInt`).
const WEIGHT_MAX: u32 = 100;
/// What [`LEASE_HEADER`] begins with in the answer for a route whose lease ran out.
const EXPIRED: &str = "expired; at=";
/// Names are letters, digits, `-` and `_`.
pub(super) const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Values of the headers; one that is no text is an empty one, which is refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Of [`GENERATION_HEADER`].
    pub generation: Option<&'a str>,
    /// Of [`LEASE_HEADER`].
    pub lease: Option<&'a str>,
    /// Of [`FUSE_HEADER`].
    pub fuse: Option<&'a str>,
}

impl Asked<'_> {
    /// Reads them. They exist for routes only; elsewhere they are like any other header that nobody reads.
    pub(super) fn read(self, key: &Key) -> Result<Extensions, ApiError> {
        if key.kind != Kind::Route {
            return Ok(Extensions::default());
        }
        let wrong = |header: &str, why: &str| ApiError::new(ErrorCode::BadRequest, format!("{header}: {why}"));
        let generation = self.generation.map(|text| {
            let why = || wrong(GENERATION_HEADER, &format!("must be a whole number from 0, not {text:?}"));
            text.parse().map_err(|_| why())
        });
        let lease = self.lease.map(|text| read_lease(text).map_err(|why| wrong(LEASE_HEADER, &why)));
        let fuse = self.fuse.map(|text| fuse::read(text).map_err(|why| wrong(FUSE_HEADER, &why)));
        let (fuse, fuse_renews) = fuse.transpose()?.map_or((None, None), |(fuse, renews)| (Some(fuse), renews));
        Ok(Extensions { generation: generation.transpose()?, lease: lease.transpose()?, fuse, fuse_renews })
    }
}

/// A lease: a span, then parameters in any order.
fn read_lease(text: &str) -> Result<LeaseAsk, String> {
    let mut parts = text.split(';').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let span = Millis::read(first).filter(|span| LEASE_SPAN.contains(span)).ok_or_else(|| {
        format!("must begin with a span from {} to {} such as 2m, not {first:?}", LEASE_SPAN.start(), LEASE_SPAN.end())
    })?;
    let (mut fallback, mut renews) = (None, None);
    for part in parts {
        match part.split_once('=') {
            Some(("fallback", list)) if fallback.is_none() => fallback = Some(read_weights(list)?),
            Some(("renews", version)) if renews.is_none() => {
                let version = version.parse().ok().filter(|version: &i64| *version > 0);
                renews = Some(version.ok_or("renews must be a version of the route, a whole number from 1")?);
            }
            Some((name @ ("fallback" | "renews"), _)) => return Err(format!("{name} is given twice")),
            _ => return Err(format!("{part:?} is not one of fallback=NODE=WEIGHT,… and renews=VERSION")),
        }
    }
    let fallback = fallback.ok_or("fallback=NODE=WEIGHT,… is missing: the weights when nobody renews the lease")?;
    Ok(LeaseAsk { span, fallback, renews })
}

fn read_weights(list: &str) -> Result<BTreeMap<String, u32>, String> {
    let mut weights = BTreeMap::new();
    for entry in list.split(',') {
        let (node, weight) = entry.rsplit_once('=').ok_or_else(|| format!("fallback: {entry:?} is not NODE=WEIGHT"))?;
        let node = percent_decode_str(node.trim()).decode_utf8().ok().filter(|node| !node.is_empty());
        let node = node.ok_or_else(|| format!("fallback: {entry:?} does not begin with the name of a node"))?;
        let weight: u32 =
            weight.trim().parse().ok().filter(|weight| *weight <= WEIGHT_MAX).ok_or_else(|| {
                format!("fallback: the weight of {node} must be a whole number from 0 to {WEIGHT_MAX}")
            })?;
        if weights.insert(node.to_string(), weight).is_some() {
            return Err(format!("fallback: {node} is given twice"));
        }
    }
    let total: u32 = weights.values().sum();
    if weights.len() > TARGETS_MAX {
        return Err(format!("fallback: has {} nodes, and {TARGETS_MAX} is the most", weights.len()));
    }
    if !(1..=WEIGHT_MAX).contains(&total) {
        return Err(format!("fallback: the weights must sum to 1 to {WEIGHT_MAX}, not {total}"));
    }
    Ok(weights)
}

/// The value of [`LEASE_HEADER`] that asks for a lease.
#[must_use]
pub fn lease<'a>(span: Millis, fallback: impl IntoIterator<Item = (&'a str, u32)>, renews: Option<u64>) -> String {
    let mut text = format!("{span}; fallback=");
    for (at, (node, weight)) in fallback.into_iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{}={weight}", utf8_percent_encode(node, PLAIN));
    }
    if let Some(version) = renews {
        let _ = write!(text, "; renews={version}");
    }
    text
}

/// Headers that tell of a route what it has beyond App Mesh, for the answer to DescribeRoute.
#[must_use]
pub fn announced(route: &Resource) -> Vec<(&'static str, String)> {
    let mut headers = vec![(FEATURES_HEADER, FEATURES.to_owned())];
    // So that a controller which lost its own memory begins above what was used before.
    headers.extend(route.generation.map(|generation| (GENERATION_HEADER, generation.to_string())));
    if let Some(kept) = &route.lease {
        let fallback = kept.fallback.iter().map(|(node, weight)| (node.as_str(), *weight));
        let text = format!("{}; renewals={}", lease(kept.span, fallback, None), kept.renewals);
        headers.push((LEASE_HEADER, text));
    }
    if let Some(lapsed) = &route.lapsed {
        headers.push((LEASE_HEADER, format!("{EXPIRED}{}; lease={}", lapsed.at.rfc3339(), lapsed.span)));
    }
    headers.extend(route.fuse.as_ref().map(|fuse| (FUSE_HEADER, fuse::written(fuse))));
    headers
}

/// When the lease of a route ran out, as [`LEASE_HEADER`] of an answer has it; `None` where it did not.
#[must_use]
pub fn lapsed_at(header: &str) -> Option<&str> {
    let at = header.strip_prefix(EXPIRED)?.split(';').next()?.trim();
    // Another endpoint may answer anything, and this is shown to people.
    let is_time =
        (1..=40).contains(&at.len()) && at.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-:.+".contains(&byte));
    is_time.then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LeaseAsk, String> {
        let key = Key::grandchild("m", Kind::Route, "r", "x");
        let asked = Asked { lease: Some(text), ..Asked::default() };
        match asked.read(&key) {
            Ok(read) => Ok(read.lease.expect("was given")),
            Err(error) => Err(error.message),
        }
    }

    #[test]
    fn a_lease_is_read_as_it_is_written() {
        let fallback = [("checkout-v1", 100), ("größe_2", 0)];
        let text = lease(Millis::from_seconds(120), fallback, Some(12));
        assert_eq!(text, "2m; fallback=checkout-v1=100,gr%C3%B6%C3%9Fe_2=0; renews=12");
        let ask = LeaseAsk {
            span: Millis::from_seconds(120),
            fallback: fallback.map(|(node, weight)| (node.to_owned(), weight)).into(),
            renews: Some(12),
        };
        assert_eq!(read(&text), Ok(ask.clone()));
        assert_eq!(read("120s;renews=12 ; fallback= checkout-v1 = 100,gr%c3%b6%C3%9Fe_2=0"), Ok(ask));
        let elsewhere = Asked { lease: Some("nonsense"), generation: Some(""), fuse: Some("-") };
        assert_eq!(elsewhere.read(&Key::mesh("m")), Ok(Extensions::default()));
    }

    #[test]
    fn what_is_wrong_with_a_lease_is_said() {
        let many: Vec<String> = (0..11).map(|n| format!("n{n}=1")).collect();
        for (text, why) in [
            ("", "must begin with a span from 1s to 24h such as 2m, not \"\""),
            ("999ms; fallback=a=1", "must begin with a span"),
            ("25h; fallback=a=1", "must begin with a span"),
            ("2m", "fallback=NODE=WEIGHT,… is missing"),
            ("2m; fallback=a", "fallback: \"a\" is not NODE=WEIGHT"),
            ("2m; fallback==1", "does not begin with the name of a node"),
            ("2m; fallback=%ff=1", "does not begin with the name of a node"),
            ("2m; fallback=a=101", "the weight of a must be a whole number from 0 to 100"),
            ("2m; fallback=a=-1", "the weight of a must be"),
            ("2m; fallback=a=1,a=2", "fallback: a is given twice"),
            ("2m; fallback=a=60,b=60", "must sum to 1 to 100, not 120"),
            ("2m; fallback=a=0", "must sum to 1 to 100, not 0"),
            (&format!("2m; fallback={}", many.join(",")), "has 11 nodes, and 10 is the most"),
            ("2m; fallback=a=1; fallback=a=1", "fallback is given twice"),
            ("2m; fallback=a=1; renews=0", "renews must be a version"),
            ("2m; fallback=a=1; colour=red", "\"colour=red\" is not one of"),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.starts_with("x-tidegate-lease: ") && said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_lapse_is_known_by_its_time() {
        let header = format!("{EXPIRED}2026-11-23T06:13:26.120Z; lease=2m");
        assert_eq!(lapsed_at(&header), Some("2026-11-23T06:13:26.120Z"));
        for other in ["2m; fallback=a=1; renewals=0", "expired; at=", "expired; at=<b>now</b>", "expired"] {
            assert_eq!(lapsed_at(other), None, "{other}");
        }
    }
}
