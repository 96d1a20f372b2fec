//! What can take a rollout, and what the refusals say.

use super::kit::{actor, plan, route};
use crate::base::ids::{RolloutId, Seq};
use crate::base::time::Timestamp;
use crate::rollout::begin;
use crate::rollout::effect::{Effect, WeightsWrite};
use crate::rollout::event::{Command, Event, Input, RouteReading, Start};
use crate::rollout::state::Refusal;

fn try_start(route: RouteReading, to: Option<&str>) -> Result<Effect, Refusal> {
    let start = Start {
        to: to.map(str::to_owned),
        revision: None,
        route,
        image: None,
        author: Vec::new(),
        first_step: 0,
        outside_windows: None,
        last_generation: 41,
        stable: None,
        baseline: None,
        past: Box::default(),
    };
    let event = Event::Command { command: Command::Start(start), actor: actor() };
    let input = Input { seq: Seq(1), at: Timestamp(5), event };
    let (state, mut effects) = begin(&plan(&[10, 100]), RolloutId("r-1".into()), &input)?;
    assert_eq!((state.seq, state.at, state.started_at, effects.len()), (Seq(1), Timestamp(5), Timestamp(5), 1));
    Ok(effects.remove(0).1)
}

#[test]
fn whichever_slot_holds_everything_is_stable() {
    for (first, second, canary, stable) in [(100, 0, "v2", "v1"), (0, 100, "v1", "v2"), (1, 0, "v2", "v1")] {
        let Effect::SetWeights(WeightsWrite { canary: took, stable: left, generation, urgent, .. }) =
            try_start(route(7, first, second), None).expect("one slot holds all")
        else {
            panic!("no write of weights")
        };
        assert_eq!((took, left), ((canary.to_owned(), 10), (stable.to_owned(), 90)));
        assert_eq!((generation, urgent), (42, false));
    }
    assert!(try_start(route(7, 100, 0), Some("v2")).is_ok());
}

#[test]
fn refusals_say_why_and_what_to_run() {
    let with = |extra: (&str, u32)| {
        let mut route = route(7, 100, 0);
        route.targets.push((extra.0.into(), extra.1));
        route
    };
    for (route, to, why, what) in [
        (route(7, 50, 50), None, "no version holds all the weight", "aws appmesh update-route"),
        (route(7, 0, 0), None, "no version holds all the weight", "`v1` at 100"),
        (route(7, 1, 99), None, "v1 has 1, v2 has 99", "`v2` at 100"),
        (with(("v0", 5)), None, "a third target, `v0`, has weight 5", "give the third target weight 0 first"),
        (with(("v1", 0)), None, "`v1` is a target of the route shop/checkout-router/checkout more than once", "v1 100"),
        (route(7, 100, 0), Some("v1"), "`v1` is stable", "--to v2"),
        (route(7, 100, 0), Some("v9"), "`v9` is no version", "v1 and v2"),
        (
            RouteReading { version: 7, targets: vec![("v1".into(), 1)], lapsed: None },
            None,
            "`v2` is no target",
            "the route has: v1 1",
        ),
        (
            RouteReading { version: 7, targets: vec![], lapsed: None },
            None,
            "`v1` is no target",
            "the route has: no targets",
        ),
    ] {
        let refusal = try_start(route, to).expect_err(why);
        assert!(refusal.message.contains(why) && refusal.hint.contains(what), "{refusal:?}, not {why:?}, {what:?}");
    }
    // A third target without weight stands in nobody's way.
    assert!(try_start(with(("v0", 0)), None).is_ok());
}

#[test]
fn only_a_start_begins() {
    let input = Input { seq: Seq(1), at: Timestamp(5), event: Event::Tick };
    assert!(begin(&plan(&[100]), RolloutId("r-1".into()), &input).is_err());
}

#[test]
fn a_remembered_generation_of_any_size_does_not_stop_a_start() {
    let start = Start {
        to: None,
        revision: None,
        route: route(7, 100, 0),
        image: None,
        author: Vec::new(),
        first_step: 0,
        outside_windows: None,
        last_generation: u64::MAX,
        stable: None,
        baseline: None,
        past: Box::default(),
    };
    let event = Event::Command { command: Command::Start(start), actor: actor() };
    let input = Input { seq: Seq(1), at: Timestamp(5), event };
    assert!(begin(&plan(&[100]), RolloutId("r-1".into()), &input).is_ok());
}

#[test]
fn shares_are_rounded_and_a_trickle_is_neither_end() {
    for (first, second, percent) in
        [(90, 10, 10), (2, 1, 33), (300, 1, 1), (1, 300, 99), (0, 3, 100), (5, 0, 0), (0, 0, 0)]
    {
        assert_eq!(route(1, first, second).percent_of("v2"), percent, "{first}:{second}");
    }
    // Nobody's mesh holds these, but they must not stop a daemon.
    let _ = route(1, u32::MAX, u32::MAX).percent_of("v2");
}
