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
fn the_tag_of_a_preview_is_known_and_does_nothing() {
    assert_eq!(read(PREVIEW_TAG, "r-0123456789abcdef"), (None, Vec::new()));
}

#[test]
fn the_other_tags_are_read() {
    let forced = |value| good("tidegate:override", value).forced.map(|forced| (forced.header, forced.cookie));
    assert_eq!(forced("header=X-Version"), Some((Some("x-version".into()), None)));
    assert_eq!(forced("cookie=Version header=v"), Some((Some("v".into()), Some("Version".into()))));
    let affinity = |value| good("tidegate:affinity", value).affinity;
    let cookie = |ttl, path: &str| Some(Affinity::Cookie { name: "s".into(), ttl, path: path.into() });
    assert_eq!(affinity("cookie=s"), cookie(None, "/"));
    assert_eq!(affinity("cookie=s ttl=1h path=/shop"), cookie(Some(Millis::from_seconds(3600)), "/shop"));
    assert_eq!(affinity("header=X-User"), Some(Affinity::Header("x-user".into())));
    let limit = |value| good("tidegate:limit", value).limit;
    let bound = |requests, per, burst| Some(Limit { requests, per: Millis(per), burst });
    assert_eq!(limit("requests=10"), bound(10, 1000, 10));
    assert_eq!(limit("requests=10 per=50ms burst=200"), bound(10, 50, 200));
    let mirror = good("tidegate:mirror", "target=v2 percent=5").mirror.expect("copies");
    assert_eq!((&*mirror.target, mirror.share.millionths()), ("v2", 50_000));
    assert_eq!(good("tidegate:mirror", "target=v1").mirror.map(|mirror| mirror.share), Some(Share::ALL));
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
        ("tidegate:override", "", "tidegate:override: has neither header nor cookie"),
        ("tidegate:override", "header=a/b", "character 8: header must be a name"),
        ("tidegate:affinity", "", "tidegate:affinity: needs one of cookie and header"),
        ("tidegate:affinity", "cookie=a header=b", "tidegate:affinity: needs one of cookie and header"),
        ("tidegate:affinity", "header=b ttl=1h", "has ttl or path, which are a cookie's"),
        ("tidegate:affinity", "cookie=a ttl=721h", "character 14: ttl must be from 1s to"),
        ("tidegate:affinity", "cookie=a path=shop", "character 15: path must begin with /"),
        ("tidegate:limit", "per=1s", "tidegate:limit: has no requests"),
        ("tidegate:limit", "requests=0", "character 10: requests must be a whole number from 1 to 1000000"),
        ("tidegate:limit", "requests=1 per=49ms", "character 16: per must be from 50ms to 1h"),
        ("tidegate:mirror", "percent=5", "tidegate:mirror: has no target"),
        ("tidegate:mirror", "target=v3", "character 8: target \"v3\" is no target of this route; it has v1, v2"),
    ] {
        let (found, flaws) = read(tag, value);
        assert!(found.is_none() && flaws.len() == 1 && flaws[0].contains(flaw), "{tag} {value}: {flaws:?}");
    }
}

#[test]
fn tags_of_a_node_are_read() {
    let good = |tag, value| {
        let (found, flaws) = NodeExtensions::read([(tag, value)]);
        assert_eq!(flaws, [], "{value}");
        found
    };
    let balance = |value| good("tidegate:balance", value).balance.map(|balance| (balance.by, balance.slow_start));
    assert_eq!(balance("by=least-request"), Some((Choice::LeastRequest, None)));
    assert_eq!(balance("by=round-robin"), Some((Choice::RoundRobin, None)));
    assert_eq!(balance("slow-start=30s"), Some((Choice::RoundRobin, Some(Millis::from_seconds(30)))));
    let both = balance(" slow-start=1h  by=least-request ");
    assert_eq!(both, Some((Choice::LeastRequest, Some(Millis::from_seconds(3600)))));
    let budget = |value| {
        let budget = good("tidegate:retry-budget", value).retry_budget.expect("it is one");
        (budget.share.millionths(), budget.least)
    };
    assert_eq!(budget("percent=20"), (200_000, 3));
    assert_eq!(budget("least=0"), (200_000, 0));
    assert_eq!(budget("percent=0.5 least=10000"), (5_000, 10_000));
    assert!(NodeExtensions::read([("team", "x")]).0.is_empty());
}

#[test]
fn what_is_wrong_with_a_nodes_tag_is_said_with_its_place() {
    for (tag, value, flaw) in [
        (
            "tidegate:fault",
            "abort=503",
            "tidegate:fault: is not known; tags of a virtual node that begin with tidegate: are",
        ),
        ("tidegate:balance", "", "tidegate:balance: has neither by nor slow-start"),
        ("tidegate:balance", "by=fastest", "character 4: by must be round-robin or least-request, not \"fastest\""),
        ("tidegate:balance", "slow-start=0s", "character 12: slow-start must be from 1s to 1h"),
        ("tidegate:balance", "slow-start=61m", "character 12: slow-start must be from 1s to 1h"),
        ("tidegate:balance", "window=1s", "character 1: \"window\" is not known here; there are by, slow-start"),
        ("tidegate:retry-budget", " ", "tidegate:retry-budget: has neither percent nor least"),
        ("tidegate:retry-budget", "percent=0", "character 9: percent must be percents above 0"),
        ("tidegate:retry-budget", "least=10001", "character 7: least must be a whole number from 0 to 10000"),
    ] {
        let (found, flaws) = NodeExtensions::read([(tag, value)]);
        let said: Vec<String> = flaws.iter().map(ToString::to_string).collect();
        assert!(found.is_empty() && said.len() == 1 && said[0].contains(flaw), "{tag} {value}: {said:?}");
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
