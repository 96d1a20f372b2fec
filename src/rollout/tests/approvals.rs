//! Approval steps: who may say yes, what waits meanwhile, and what a missing answer does.

use super::kit::*;
use crate::base::ids::Seq;
use crate::base::time::{Millis, Timestamp};
use crate::base::weight::Percent;
use crate::policy::plan::{ApprovalStep, OnFailure, Plan, Step};
use crate::rollout::begin;
use crate::rollout::event::{Actor, Command, Event, Input, Start};
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
        true => Command::Approve { person: None, reason: because() },
        false => Command::Reject { person: None, reason: because() },
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
        first_step: 0,
        outside_windows: None,
        last_generation: 0,
        stable: None,
        baseline: None,
    };
    let event = Event::Command { command: Command::Start(start), actor: actor() };
    let input = Input { seq: Seq(1), at: Timestamp(START), event };
    let (state, effects) = begin(&plan, crate::base::ids::RolloutId("r-1".into()), &input).expect("it may");
    assert!(effects.is_empty() && !state.is_withdrawn());
    assert_eq!(state.wanted, Percent::ZERO);
}
