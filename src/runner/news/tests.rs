//! What is told of a rollout, by how it is shown.

use super::*;
use crate::base::time::Timestamp;
use crate::rollout::event::Actor;

fn view(phase: &str, outcome: Option<&str>, weight: u8) -> RolloutView {
    let actor = Actor { name: "ada".into(), via: "test".into() };
    let id = RolloutId("r-1".into());
    let pending = RolloutView::pending(&id, "checkout", None, Some("v2".into()), actor, Timestamp(0), "x".into());
    RolloutView {
        phase: phase.into(),
        outcome: outcome.map(str::to_owned),
        canary: "b".into(),
        weights: [("a".to_owned(), 100 - weight), ("b".to_owned(), weight)].into(),
        verdict: "no worse so far".into(),
        reason: outcome.map(|_| "why".to_owned()),
        finished: ["succeeded", "rolled_back", "aborted", "superseded"].contains(&phase),
        ..pending
    }
}

fn told(phase: &str, outcome: Option<&str>, weight: u8) -> (NewsStanding, String) {
    let item = item(&RolloutId("r-1".into()), &view(phase, outcome, weight), Some("https://tidegate/"), Timestamp(0));
    assert_eq!(item.news.url.as_deref(), Some("https://tidegate/rollouts/r-1"));
    (item.news.standing, item.news.text)
}

#[test]
fn every_phase_has_its_news() {
    use NewsStanding::{Failed, Stopped, Succeeded, UnderWay};
    for (phase, outcome, weight, standing, text) in [
        ("deploying", None, 0, UnderWay, "no worse so far"),
        ("judging", None, 10, UnderWay, "10 %: no worse so far"),
        ("awaiting_approval", None, 10, UnderWay, "10 %, waits for an approval"),
        ("holding", Some("succeeded"), 100, UnderWay, "100 %: being settled"),
        ("cleaning", Some("succeeded"), 100, Succeeded, "100 %: why"),
        ("succeeded", Some("succeeded"), 100, Succeeded, "100 %: why"),
        ("rolling_back", Some("rolled_back"), 0, Failed, "rolled back: why"),
        ("rolled_back", Some("rolled_back"), 0, Failed, "rolled back: why"),
        ("stuck", Some("rolled_back"), 0, Failed, "stuck, look at it: no worse so far"),
        ("rolling_back", Some("aborted"), 0, Stopped, "why"),
        ("superseded", Some("superseded"), 0, Stopped, "why"),
    ] {
        assert_eq!(told(phase, outcome, weight), (standing, text.to_owned()), "{phase} {outcome:?}");
    }
}

#[test]
fn only_what_matters_is_told_again() {
    let key =
        |phase, outcome, weight| item(&RolloutId("r-1".into()), &view(phase, outcome, weight), None, Timestamp(0)).key;
    let same = [("shifting", 10), ("verifying", 10), ("baking", 10), ("judging", 10)];
    assert!(same.windows(2).all(|two| key(two[0].0, None, two[0].1) == key(two[1].0, None, two[1].1)));
    assert_ne!(key("judging", None, 10), key("judging", None, 50));
    assert_ne!(key("judging", None, 10), key("paused", None, 10));
    assert_eq!(key("rolling_back", Some("rolled_back"), 0), key("rolled_back", Some("rolled_back"), 0));
    assert_ne!(key("cleaning", Some("succeeded"), 100), key("rolling_back", Some("aborted"), 0));
}
