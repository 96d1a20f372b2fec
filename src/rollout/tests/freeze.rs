//! A freeze: no step while it lasts, whatever else happens; and every way down stays open.

use super::kit::*;
use crate::base::time::Millis;
use crate::policy::plan::{ApprovalStep, OnFailure, OnInconclusive, Step};
use crate::rollout::event::Standing;
use crate::rollout::state::Next;
use crate::rollout::view::RolloutView;

fn refusal(next: Next) -> String {
    match next {
        Next::Refused(refusal) => format!("{} ({})", refusal.message, refusal.hint),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn proof_of_a_good_release_waits_for_the_thaw() {
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    world.order("freeze");
    assert_eq!(RolloutView::of(&world.plan, &world.state).frozen.as_deref(), Some("frozen by ann: because"));
    world.run(30 * 60, true);
    assert_eq!(world.stand(), "judging 10");
    world.order("thaw");
    world.run(1, true);
    assert_eq!(world.stand(), "shifting 50");
    world.check_replay();
}

#[test]
fn time_alone_takes_no_step_either() {
    let mut world = World::at(inconclusive(plan(&[10, 50, 100]), OnInconclusive::Advance), "baking");
    world.order("freeze");
    world.traffic((3, 0), (27, 0));
    world.wait(30 * 60);
    world.read();
    assert_eq!(world.stand(), "judging 10");
    world.order("thaw");
    world.traffic((3, 0), (27, 0));
    world.read();
    assert_eq!(world.stand(), "shifting 50");
}

#[test]
fn a_step_whose_weights_are_being_written_is_written_to_its_end_and_no_further() {
    let mut world = World::at(plan(&[10, 50, 100]), "shifting");
    world.order("freeze");
    world.run(30 * 60, true);
    assert_eq!(world.stand(), "judging 10");
}

#[test]
fn every_way_down_stays_open() {
    for (what, expected) in [("abort", "rolling_back 0"), ("supersede", "rolling_back 0"), ("errors", "rolling_back 0")]
    {
        let mut world = World::at(plan(&[10, 50, 100]), "baking");
        world.order("freeze");
        if what == "errors" {
            world.traffic((1000, 500), (9000, 0));
            world.read();
        } else {
            world.order(what);
        }
        assert_eq!(world.stand(), expected, "{what}");
        assert_eq!(world.state.frozen, None, "it has nothing left to wait for");
    }
}

#[test]
fn silence_withdraws_and_its_end_raises_nothing() {
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    world.order("freeze");
    world.silent = true;
    world.wait(31);
    world.read();
    world.settle();
    assert_eq!(world.stand(), "paused 0");
    world.silent = false;
    world.run(60, true);
    assert_eq!(world.stand(), "paused 0");
    world.order("thaw");
    world.run(1, true);
    assert_eq!(world.stand(), "shifting 10");
    world.check_replay();
}

#[test]
fn people_are_told_what_is_in_the_way() {
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    world.order("freeze");
    for verb in ["promote", "promote full"] {
        let said = refusal(world.order(verb));
        assert!(said.contains("it is frozen by ann: because") && said.contains("--lift"), "{said}");
    }
    world.order("pause");
    assert!(refusal(world.order("resume")).contains("it is frozen by ann: because"));
    world.order("thaw");
    world.order("resume");
    assert_eq!(world.stand(), "shifting 10");
    assert!(refusal(world.order("thaw")).contains("it is not frozen"));
}

/// Frozen at 10 %, while it waits ten minutes at most for ann.
fn frozen_while_it_asks() -> World {
    let mut asking = plan(&[10, 100]);
    let (from, timeout) = (vec!["ann".to_owned()], Millis::from_seconds(600));
    let asked = ApprovalStep { slack: None, from, need: 1, timeout, on_timeout: OnFailure::Rollback };
    asking.steps.insert(1, Step::Approval(asked));
    let mut world = World::start(asking);
    world.run(60, true);
    world.order("freeze");
    assert_eq!(world.stand(), "awaiting_approval 10");
    world
}

#[test]
fn a_yes_is_kept_and_does_not_expire() {
    let mut world = frozen_while_it_asks();
    world.order("approve");
    world.run(601, true);
    assert_eq!(world.stand(), "awaiting_approval 10");
    // Nobody has looked for long: not before that.
    world.wait(3600);
    world.order("thaw");
    assert_eq!(world.stand(), "awaiting_approval 10");
    world.order("pause");
    world.read();
    assert_eq!(world.stand(), "paused 10");
    world.order("resume");
    assert_eq!(world.stand(), "shifting 100");
    world.check_replay();
}

#[test]
fn a_yes_that_was_kept_goes_on_with_the_first_look() {
    let mut world = frozen_while_it_asks();
    world.order("approve");
    world.order("thaw");
    world.run(1, true);
    assert_eq!(world.stand(), "shifting 100");
    world.check_replay();
}

#[test]
fn a_release_that_was_up_in_time_may_replace_an_instance_later() {
    let mut world = World::start(deploying(plan(&[10, 100])));
    world.order("freeze");
    world.work(None);
    world.look(Standing::Ready);
    world.wait(3600);
    world.look(Standing::Ready);
    world.look(Standing::Progressing);
    assert_eq!(world.stand(), "deploying 0");
    assert!(refusal(world.order("promote")).contains("it is frozen by ann: because"));
    world.order("thaw");
    world.look(Standing::Ready);
    assert_eq!(world.stand(), "shifting 10");
}

#[test]
fn a_missing_yes_still_expires() {
    let mut world = frozen_while_it_asks();
    world.run(601, true);
    assert_eq!(world.state.wanted, percent(0));
}

#[test]
fn a_release_that_is_up_gets_no_traffic() {
    let mut world = World::start(deploying(plan(&[10, 100])));
    world.order("freeze");
    world.work(None);
    world.look(Standing::Ready);
    assert_eq!(world.stand(), "deploying 0");
    world.order("thaw");
    world.look(Standing::Ready);
    assert_eq!(world.stand(), "shifting 10");
}

#[test]
fn a_release_with_all_the_traffic_comes_to_its_end() {
    let mut world = World::at(plan(&[100]), "baking");
    world.order("freeze");
    world.run(60, true);
    assert_eq!(world.phase(), "succeeded");
}
