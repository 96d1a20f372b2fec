//! Tags as people write them, right and wrong.

use super::*;
use crate::base::time::Millis;
use crate::mesh::snapshot::{HeaderMatch, ValueMatch};
use proptest::prelude::*;

fn read(tag: &str, value: &str) -> (Option<Box<Extensions>>, Vec<String>) {
    let (found, flaws) = Extensions::read([(tag, value)], &["v1", "v2"]);
    (found, flaws.iter().map(ToString::to_string).collect())
}

fn good(tag: &str, value: &str) -> Extensions {
    let (found, flaws) = read(tag, value);
    assert_eq!(flaws, [""; 0], "{value}");
    *found.expect("something is said")
}

#[test]
fn faults_are_read() {
    let fault = |value| good("tidegate:fault", value).fault.expect("a fault");
    let whole =
        Fault { abort: Some(Abort { status: 503, share: Share::ALL }), delay: None, target: None, header: None };
    assert_eq!(fault("abort=503"), whole);
    let all = fault(" delay=200ms  target=v2 abort=429 header=X-Try:a:b delay-percent=0.5 abort-percent=12.3456 ");
    assert_eq!(all.abort.map(|abort| (abort.status, abort.share.millionths())), Some((429, 123_456)));
    assert_eq!(all.delay.map(|delay| (delay.time, delay.share.millionths())), Some((Millis(200), 5_000)));
    let header = HeaderMatch { name: "x-try".into(), value: ValueMatch::Exact("a:b".into()), invert: false };
    assert_eq!((all.target.as_deref(), all.header), (Some("v2"), Some(header)));
    let present = fault("delay=1s header=x-try").header.expect("a header");
    assert_eq!(present.value, ValueMatch::Present);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (tag, value, flaw) in [
        ("tidegate:falt", "abort=503", "tidegate:falt: is not known; tags of a route that begin with tidegate: are"),
        ("tidegate:fault", "", "tidegate:fault: has neither abort nor delay"),
        ("tidegate:fault", "target=v1", "tidegate:fault: has neither abort nor delay"),
        ("tidegate:fault", "abort=200", "tidegate:fault, character 7: abort must be a whole number from 400 to 599"),
        ("tidegate:fault", "abort=+503", "tidegate:fault, character 7: abort must be a whole number"),
        ("tidegate:fault", "delay=1s abrt=503", "tidegate:fault, character 10: \"abrt\" is not known here; there are"),
        ("tidegate:fault", "delay=1s abort", "tidegate:fault, character 10: abort has no value"),
        ("tidegate:fault", "delay=1s delay=2s", "tidegate:fault, character 10: delay is there twice"),
        ("tidegate:fault", "delay=61s", "tidegate:fault, character 7: delay must be from 1ms to 1m"),
        ("tidegate:fault", "delay=1s abort-percent=5", "tidegate:fault: has abort-percent and no abort"),
        ("tidegate:fault", "abort=503 delay-percent=5", "tidegate:fault: has delay-percent and no delay"),
        ("tidegate:fault", "abort=503 abort-percent=0", "tidegate:fault, character 25: abort-percent must be percents"),
        ("tidegate:fault", "abort=503 abort-percent=100.1", "character 25: abort-percent must be percents"),
        ("tidegate:fault", "abort=503 abort-percent=1.00001", "character 25: abort-percent must be percents"),
        ("tidegate:fault", "abort=503 abort-percent=-1", "character 25: abort-percent must be percents"),
        (
            "tidegate:fault",
            "abort=503 target=v3",
            "character 18: target \"v3\" is no target of this route; it has v1, v2",
        ),
        ("tidegate:fault", "abort=503 header=host:a", "character 18: header host is for HTTP itself"),
        ("tidegate:fault", "abort=503 header=:a", "character 18: header must be a name"),
    ] {
        let (found, flaws) = read(tag, value);
        assert!(found.is_none() && flaws.len() == 1 && flaws[0].contains(flaw), "{tag} {value}: {flaws:?}");
    }
}

#[test]
fn one_wrong_tag_leaves_the_others_and_other_tags_are_nobodys_business() {
    let tags = [("team", "x=y"), ("tidegate:fault", "delay=1s"), ("tidegate:x", "")];
    let (found, flaws) = Extensions::read(tags, &["v1"]);
    assert!(found.is_some_and(|found| found.fault.is_some()));
    assert_eq!(flaws.len(), 1);
    assert_eq!(Extensions::read([("team", "tidegate:fault")], &[]), (None, Vec::new()));
}

proptest! {
    /// Nobody's tag breaks anything, and a place is one of the text.
    #[test]
    fn any_text_is_read_or_refused(text in "([a-z-]{0,8}=?[0-9a-z.:é ]{0,6} ?){0,6}") {
        for tag in TAGS {
            let (found, flaws) = Extensions::read([(tag, &*text)], &["v1"]);
            prop_assert_eq!(found.is_none(), !flaws.is_empty());
            for at in flaws.iter().filter_map(|flaw| flaw.at) {
                prop_assert!((1..=text.chars().count() + 1).contains(&at), "{} {:?}", at, text);
            }
        }
    }

    #[test]
    fn a_share_takes_as_many_draws_as_it_says(millionths in 1_u32..=1_000_000) {
        let share = Share::read(&format!("{}.{:04}", millionths / 10_000, millionths % 10_000)).expect("percents");
        prop_assert_eq!(share.millionths(), millionths);
        let first_beyond = (u128::from(millionths) << 64).div_ceil(1_000_000);
        prop_assert!(share.takes(u64::try_from(first_beyond - 1).expect("below 2^64")));
        prop_assert!(u64::try_from(first_beyond).map_or(true, |draw| !share.takes(draw)));
    }
}
