//! Approval steps: who may say yes, what waits meanwhile, and what a missing answer does.

use super::kit::*;
use crate::base::ids::Seq;
use crate::base::time::{Millis, Timestamp};
use crate::base::weight::Percent;
use crate::policy::plan::{ApprovalStep, Bound, Gate, GateRule, OnFailure, Plan, Step};
use crate::rollout::begin;
use crate::rollout::event::{Actor, Command, Event, Input, Start, Voice};
use crate::rollout::state::{EndingKind, Next, PauseCause};
use crate::rollout::view::RolloutView;

fn approval(need: u32, on_timeout: OnFailure) -> Step {
    let from = ["ann", "ben", "cleo"].map(str::to_owned).to_vec();
    Step::Approval(ApprovalStep { slack: None, from, need, timeout: Millis::from_seconds(600), on_timeout })
}

/// 10, an approval by `need` people, 100.
fn asking(need: u32, on_timeout: OnFailure) -> Plan {
    let mut plan = plan(&[10, 100]);
    plan.steps.insert(1, approval(need, on_timeout));
    plan
}

/// A world that waits for people, at 10 %.
fn waiting(plan: Plan) -> World {
    let mut world = World::start(plan);
    world.run(60, true);
    assert_eq!(world.stand(), "awaiting_approval 10");
    world
}

fn say(world: &mut World, name: &str, via: &str, yes: bool) -> Next {
    let command = match yes {
        true => Command::Approve { person: None, reason: because(), step: None, voice: Voice::default() },
        false => Command::Reject { person: None, reason: because(), step: None },
    };
    world.give(Event::Command { command, actor: Actor { name: name.into(), via: via.into() } })
}

fn refusal(next: Next) -> String {
    match next {
        Next::Refused(refusal) => refusal.message,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn enough_people_let_it_go_on_and_each_counts_once() {
    let mut world = waiting(asking(2, OnFailure::Rollback));
    assert!(
        refusal(say(&mut world, "dan", "token", true)).contains("`dan` is not among those who may: ann, ben, cleo")
    );
    say(&mut world, "ben", "token", true);
    assert_eq!(world.stand(), "awaiting_approval 10");
    assert!(refusal(say(&mut world, "ben", "token", true)).contains("`ben` has approved already"));
    let view = RolloutView::of(&world.plan, &world.state);
    assert_eq!(view.approval.map(|approval| approval.given), Some(vec!["ben".to_owned()]));
    say(&mut world, "cleo", "token", true);
    assert_eq!(world.stand(), "shifting 100");
    world.check_replay();
}

#[test]
fn the_author_does_not_approve_where_names_are_proven() {
    // The kit's author is ann, by a way that proves it; on loopback a name is a claim.
    let mut world = waiting(asking(1, OnFailure::Rollback));
    assert!(refusal(say(&mut world, "ann", "test", true)).contains("whoever started a release does not approve it"));
    say(&mut world, "ann", "os_user", true);
    assert_eq!(world.stand(), "shifting 100");
}

#[test]
fn a_no_and_a_missing_answer_end_it() {
    let mut world = waiting(asking(1, OnFailure::Rollback));
    say(&mut world, "ben", "token", false);
    assert_eq!(world.stand(), "rolling_back 0");
    assert!(world.state.ending.as_ref().is_some_and(|ending| ending.reason == "rejected by ben: because"));

    let mut world = waiting(asking(1, OnFailure::Rollback));
    world.run(601, true);
    assert_eq!(world.state.wanted, Percent::ZERO);
    assert!(world.state.ending.as_ref().is_some_and(|ending| ending.reason == "0 of 1 approvals within 10m"));

    let mut world = waiting(asking(1, OnFailure::Pause));
    world.run(601, true);
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::ApprovalTimeout)));
    world.order("resume");
    say(&mut world, "ben", "token", true);
    assert_eq!(world.stand(), "shifting 100");
    world.check_replay();
}

#[test]
fn the_gates_go_on_judging_while_people_think() {
    let mut world = waiting(asking(1, OnFailure::Rollback));
    world.run(5, false);
    assert!(world.state.ending.as_ref().is_some_and(|ending| ending.kind == EndingKind::RolledBack));
}

#[test]
fn a_pause_keeps_what_was_said_and_resume_goes_on_with_it() {
    let mut world = waiting(asking(1, OnFailure::Rollback));
    world.order("pause");
    say(&mut world, "ben", "token", true);
    assert_eq!(world.stand(), "paused 10");
    world.order("resume");
    assert_eq!(world.stand(), "shifting 100");
    world.check_replay();
}

#[test]
fn nothing_passes_over_an_approval() {
    let mut world = waiting(asking(1, OnFailure::Rollback));
    assert!(refusal(world.order("promote")).contains("it awaits approval"));
    assert!(refusal(world.order("promote full")).contains("it awaits approval"));
    let mut before = World::at(asking(1, OnFailure::Rollback), "baking");
    assert!(refusal(before.order("promote full")).contains("pass over the approval at step 2"));
    assert!(refusal(say(&mut before, "ben", "token", true)).contains("it awaits no approval now"));
    before.order("promote");
    assert_eq!(before.stand(), "awaiting_approval 10");
}

#[test]
fn drift_while_people_think_is_put_right_at_the_weight_before() {
    let mut raised = waiting(asking(1, OnFailure::Rollback));
    raised.meddle(50, 50);
    raised.wait(1);
    raised.read();
    assert_eq!(raised.stand(), "shifting 10");
    raised.run(60, true);
    assert_eq!(raised.stand(), "awaiting_approval 10");

    let mut lowered = waiting(asking(1, OnFailure::Rollback));
    lowered.meddle(100, 0);
    lowered.wait(1);
    lowered.read();
    assert_eq!(lowered.cause(), Some(PauseCause::Drift));
    lowered.order("resume");
    assert_eq!(lowered.stand(), "shifting 10");
    lowered.check_replay();
}

#[test]
fn silence_withdraws_and_the_answer_is_asked_for_again() {
    let mut world = waiting(asking(2, OnFailure::Rollback));
    say(&mut world, "ben", "token", true);
    world.silent = true;
    world.run(40, true);
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 0", Some(PauseCause::NoData)));
    world.silent = false;
    world.run(60, true);
    assert_eq!(world.stand(), "awaiting_approval 10");
    assert!(world.state.approvals.is_empty());
}

#[test]
fn an_approval_may_come_before_any_weight() {
    let mut plan = plan(&[10, 100]);
    plan.steps.insert(0, approval(1, OnFailure::Rollback));
    let route = route(7, 100, 0);
    let start = Start {
        to: None,
        revision: None,
        route,
        image: None,
        author: Vec::new(),
        first_step: 0,
        outside_windows: None,
        last_generation: 0,
        stable: None,
        baseline: None,
        past: Box::default(),
    };
    let event = Event::Command { command: Command::Start(start), actor: actor() };
    let input = Input { seq: Seq(1), at: Timestamp(START), event };
    let (state, effects) = begin(&plan, crate::base::ids::RolloutId("r-1".into()), &input).expect("it may");
    assert!(effects.is_empty() && !state.is_withdrawn());
    assert_eq!(state.wanted, Percent::ZERO);
}

/// Who says yes: way, name there, name in which they speak, names they are known by, whether as a member of a group.
type Who = (&'static str, &'static str, &'static str, &'static [&'static str], bool);

fn yes(world: &mut World, (via, name, person, known_as, member): Who) -> Next {
    let voice = Voice { known_as: known_as.iter().map(|name| (*name).to_owned()).collect(), member };
    let command = Command::Approve { person: Some(person.into()), reason: because(), step: Some(2), voice };
    world.give(Event::Command { command, actor: Actor { name: name.into(), via: via.into() } })
}

const BEN_BY_TOKEN: Who = ("token", "ben-laptop", "ben", &["ben"], false);
const BEN_BY_SLACK: Who = ("slack", "ben", "ben", &["ben"], false);
/// Ben again, as one of those who are called cleo.
const BEN_IN_GROUP: Who = ("slack", "ben", "cleo", &["ben"], true);
const EVE_IN_GROUP: Who = ("slack", "U5", "cleo", &[], true);
const FAY_IN_GROUP: Who = ("slack", "U6", "cleo", &[], true);
const CLEO_BY_TOKEN: Who = ("token", "cleo", "cleo", &["cleo"], false);
/// Who started it, known by another way than they did it by.
const AUTHOR_BY_SLACK: Who = ("slack", "ann", "ann", &["ann"], false);
const AUTHOR_IN_GROUP: Who = ("slack", "ann", "cleo", &["ann"], true);
const STRANGER: Who = ("slack", "U9", "mallory", &[], false);

/// How the rollout stands when somebody says yes.
fn at_the_time(time: &str) -> World {
    let mut plan = asking(2, OnFailure::Rollback);
    if time == "expired and paused" {
        plan = asking(2, OnFailure::Pause);
    }
    let mut world = if time == "before" { World::at(plan, "baking") } else { waiting(plan) };
    world.state.author = vec!["ann".to_owned()];
    match time {
        "before" | "asked" => {}
        "paused" => drop(world.order("pause")),
        "expired" | "expired and paused" => world.run(601, true),
        "aborted" => drop(world.order("abort")),
        other => panic!("{other}"),
    }
    world
}

/// Every rule, actor and time: of all who speak, in order, what comes of the last, and whether it goes on.
#[test]
fn every_rule_actor_and_time_has_one_answer() {
    let kept: Result<bool, &str> = Ok(false);
    let goes_on: Result<bool, &str> = Ok(true);
    let rows: &[(&str, &[Who], Result<bool, &str>)] = &[
        ("asked", &[BEN_BY_TOKEN], kept),
        ("asked", &[BEN_BY_TOKEN, BEN_BY_TOKEN], Err("`ben` has approved already")),
        ("asked", &[BEN_BY_TOKEN, BEN_BY_SLACK], Err("`ben` has approved already")),
        ("asked", &[BEN_BY_TOKEN, BEN_IN_GROUP], Err("`ben` has approved already")),
        ("asked", &[BEN_IN_GROUP, BEN_BY_SLACK], Err("`cleo` has approved already")),
        ("asked", &[BEN_BY_TOKEN, EVE_IN_GROUP], goes_on),
        ("asked", &[EVE_IN_GROUP, FAY_IN_GROUP], goes_on),
        ("asked", &[EVE_IN_GROUP, EVE_IN_GROUP], Err("`cleo` has approved already")),
        ("asked", &[EVE_IN_GROUP, CLEO_BY_TOKEN], Err("`cleo` has approved already")),
        ("asked", &[BEN_BY_SLACK, CLEO_BY_TOKEN], goes_on),
        ("asked", &[AUTHOR_BY_SLACK], Err("whoever started a release does not approve it")),
        ("asked", &[BEN_BY_SLACK, AUTHOR_IN_GROUP], Err("whoever started a release does not approve it")),
        ("asked", &[STRANGER], Err("`mallory` is not among those who may: ann, ben, cleo")),
        ("before", &[BEN_BY_SLACK], Err("it awaits no approval now")),
        ("paused", &[BEN_BY_SLACK, EVE_IN_GROUP], kept),
        ("paused", &[BEN_BY_SLACK, BEN_IN_GROUP], Err("`ben` has approved already")),
        ("expired", &[BEN_BY_SLACK], Err("it has ended (0 of 2 approvals within 10m)")),
        ("expired and paused", &[BEN_BY_SLACK, EVE_IN_GROUP], kept),
        ("aborted", &[BEN_BY_SLACK], Err("its end is decided (aborted by ann: because)")),
    ];
    for (time, speakers, expected) in rows {
        let mut world = at_the_time(time);
        let (last, before) = speakers.split_last().expect("somebody speaks");
        for who in before {
            assert!(!matches!(yes(&mut world, *who), Next::Refused(_)), "{time} {who:?}");
        }
        let weight = world.state.wanted;
        let result = match yes(&mut world, *last) {
            Next::Refused(refusal) => Err(refusal.message),
            _ => Ok(world.state.wanted > weight),
        };
        match (&result, expected) {
            (Ok(went_on), Ok(expected)) => assert_eq!(went_on, expected, "{time} {speakers:?}"),
            (Err(message), Err(says)) => assert!(message.contains(says), "{time} {speakers:?}: {message}"),
            _ => panic!("{time} {speakers:?}: {result:?}, and not {expected:?}"),
        }
    }
}

#[test]
fn a_yes_in_silence_is_kept_until_somebody_is_heard() {
    let mut world = waiting(asking(1, OnFailure::Rollback));
    world.silent = true;
    world.run(12, true);
    say(&mut world, "ben", "token", true);
    assert_eq!(world.stand(), "awaiting_approval 10", "more traffic while nobody watches");
    world.silent = false;
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "shifting 100");
    world.check_replay();
}

#[test]
fn a_yes_while_a_gate_holds_is_kept_and_a_person_may_overrule_the_gate() {
    let held = || {
        let mut plan = asking(1, OnFailure::Rollback);
        let rule = GateRule::ErrorRateLimit { share: 0.02, bound: Bound::Max };
        plan.gates.push(Gate::new("slo", rule));
        let mut world = waiting(plan);
        world.traffic((1000, 0), (9000, 9000));
        world.read();
        say(&mut world, "ben", "token", true);
        assert_eq!(world.stand(), "awaiting_approval 10", "stable is beyond its limit");
        world
    };
    let mut world = held();
    // What was said in time stays said, and ends nothing either.
    world.run(700, true);
    assert_eq!(world.stand(), "awaiting_approval 10");
    world.order("promote");
    assert_eq!(world.stand(), "shifting 100");
    world.check_replay();
    let mut world = held();
    world.wait(700);
    say(&mut world, "cleo", "token", false);
    assert_eq!(world.stand(), "rolling_back 0");
}

#[test]
fn a_resume_goes_on_with_what_was_said_once_somebody_is_heard() {
    let mut world = waiting(asking(1, OnFailure::Rollback));
    world.order("pause");
    say(&mut world, "ben", "token", true);
    world.silent = true;
    world.run(12, true);
    world.order("resume");
    assert_eq!(world.stand(), "awaiting_approval 10");
    world.silent = false;
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "shifting 100");
    world.check_replay();
}
