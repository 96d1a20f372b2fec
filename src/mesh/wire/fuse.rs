//! The fuse as a header: `5; canary=checkout-v2; rollout=r-0123456789abcdef; threshold=5.73; ratio=1; add=0.001`.

use super::extensions::PLAIN;
use crate::base::fuse::{ADD, Decimal, FAILURES, Fuse, NAME_MAX, RATIO, THRESHOLD};
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use std::ops::RangeInclusive;

/// The value of the header that asks for a fuse.
#[must_use]
pub fn written(fuse: &Fuse) -> String {
    let Fuse { failures, canary, rollout, threshold, ratio, add } = fuse;
    let [canary, rollout] = [canary, rollout].map(|name| utf8_percent_encode(name, PLAIN));
    format!("{failures}; canary={canary}; rollout={rollout}; threshold={threshold}; ratio={ratio}; add={add}")
}

/// The value of the header that gives the route's version of that number another fuse, and changes nothing else.
#[must_use]
pub fn renewing(fuse: &Fuse, version: u64) -> String {
    format!("{}; renews={version}", written(fuse))
}

/// A number of failures, then parameters in any order: `ratio` is 1 and `add` 0 where they are left out; and the version that
/// gets the fuse, where nothing else is to be changed.
pub(super) fn read(text: &str) -> Result<(Fuse, Option<i64>), String> {
    let mut parts = text.split(';').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let failures = first.parse().ok().filter(|failures| FAILURES.contains(failures)).ok_or_else(|| {
        let (least, most) = (FAILURES.start(), FAILURES.end());
        format!("must begin with a whole number of failures from {least} to {most}, not {first:?}")
    })?;
    let mut given: [(&str, Option<&str>); 6] =
        ["canary", "rollout", "threshold", "ratio", "add", "renews"].map(|name| (name, None));
    for part in parts {
        let pair = part.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        let slot = pair.and_then(|(name, value)| Some((given.iter_mut().find(|slot| slot.0 == name)?, value)));
        match slot {
            Some((slot, value)) if slot.1.is_none() => slot.1 = Some(value),
            Some((slot, _)) => return Err(format!("{} is given twice", slot.0)),
            None => {
                let known = "canary, rollout, threshold, ratio, add and renews";
                return Err(format!("{part:?} is not one of {known}, as NAME=VALUE"));
            }
        }
    }
    let [canary, rollout, threshold, ratio, add, renews] = given.map(|(_, value)| value);
    let canary = canary.ok_or("canary=NODE is missing: whose failures are counted")?;
    let rollout = rollout.ok_or("rollout=ID is missing: evidence of one rollout says nothing of another")?;
    let threshold = threshold.ok_or("threshold=NATS is missing: the evidence at which it trips")?;
    let renews = renews.map(|version| {
        let version = version.parse().ok().filter(|version: &i64| *version > 0);
        version.ok_or("renews must be a version of the route, a whole number from 1")
    });
    let fuse = Fuse {
        failures,
        canary: name("canary", canary)?,
        rollout: name("rollout", rollout)?,
        threshold: number("threshold", threshold, THRESHOLD)?,
        ratio: ratio.map_or(Ok(Decimal::whole(1)), |text| number("ratio", text, RATIO))?,
        add: add.map_or(Ok(Decimal::whole(0)), |text| number("add", text, ADD))?,
    };
    Ok((fuse, renews.transpose()?))
}

fn name(what: &str, text: &str) -> Result<String, String> {
    let plain = percent_decode_str(text).decode_utf8().ok();
    let fits = |name: &str| !name.is_empty() && name.len() <= NAME_MAX;
    let plain = plain.filter(|name| fits(name) && !name.chars().any(char::is_control));
    plain.map(Into::into).ok_or_else(|| format!("{what} must be a name, percent-encoded, not {text:?}"))
}

fn number(what: &str, text: &str, range: RangeInclusive<Decimal>) -> Result<Decimal, String> {
    Decimal::read(text).filter(|number| range.contains(number)).ok_or_else(|| {
        format!(
            "{what} must be a decimal number from {} to {} with at most 9 digits behind the point, not {text:?}",
            range.start(),
            range.end()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fuse_is_read_as_it_is_written() {
        let decimal = |text: &str| Decimal::read(text).expect(text);
        let fuse = Fuse {
            failures: 5,
            canary: "größe_2".into(),
            rollout: "r-01".into(),
            threshold: decimal("5.73"),
            ratio: decimal("1.2"),
            add: decimal("0.001"),
        };
        let text = "5; canary=gr%C3%B6%C3%9Fe_2; rollout=r-01; threshold=5.73; ratio=1.2; add=0.001";
        assert_eq!(written(&fuse), text);
        assert_eq!(read(text), Ok((fuse.clone(), None)));
        assert_eq!(read(&renewing(&fuse, 12)), Ok((fuse, Some(12))));
        let short = read("5;threshold=5.730 ; rollout = r;canary=c").expect("is one").0;
        assert_eq!(written(&short), "5; canary=c; rollout=r; threshold=5.73; ratio=1; add=0");
    }

    #[test]
    fn what_is_wrong_with_a_fuse_is_said() {
        let with = |more: &str| format!("5; canary=c; rollout=r; threshold=5{more}");
        for (text, why) in [
            ("", "must begin with a whole number of failures from 1 to 1000000, not \"\""),
            ("0", "must begin with"),
            ("1000001", "must begin with"),
            ("5.0", "must begin with"),
            ("5", "canary=NODE is missing"),
            ("5; canary=c", "rollout=ID is missing"),
            ("5; canary=c; rollout=r", "threshold=NATS is missing"),
            ("5; canary=; rollout=r; threshold=5", "canary must be a name"),
            ("5; canary=c; rollout=%ff; threshold=5", "rollout must be a name"),
            ("5; canary=c; rollout=%0a; threshold=5", "rollout must be a name"),
            (&with("e3"), "threshold must be a decimal number from 0 to 1000"),
            (&with("; ratio=0.9"), "ratio must be a decimal number from 1 to 1000000"),
            (&with("; add=1.1"), "add must be a decimal number from 0 to 1 with"),
            (&with("; add=0.1; add=0.1"), "add is given twice"),
            (&with("; renews=0"), "renews must be a version of the route"),
            (&with("; renews=x"), "renews must be a version of the route"),
            (&with("; colour=red"), "\"colour=red\" is not one of"),
            (&with(";"), "\"\" is not one of"),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
