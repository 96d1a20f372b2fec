//! How rollouts end: seen, not supposed.

use super::kit::{World, plan};
use crate::base::fault::FaultKind;
use crate::base::weight::Percent;
use crate::rollout::state::{Next, Phase};

#[test]
fn a_good_release_gets_everything_in_order() {
    let mut world = World::start(plan(&[1, 10, 50, 100]));
    let mut weights = vec![0];
    for _ in 0..600 {
        world.run(1, true);
        let now = world.mesh.percent_of("v2");
        if weights.last() != Some(&now) {
            weights.push(now);
        }
    }
    assert_eq!((world.phase(), weights), ("succeeded", vec![0, 1, 10, 50, 100]));
    world.check_replay();
}

#[test]
fn a_bad_release_is_taken_back() {
    let mut world = World::start(plan(&[1, 10, 50, 100]));
    world.run(60, false);
    assert_eq!((world.phase(), world.mesh.percent_of("v2")), ("rolled_back", 0));
    world.check_replay();
}

#[test]
fn the_last_step_ends_without_comparison() {
    let mut world = World::at(plan(&[100]), "baking");
    world.traffic((100, 100), (0, 0));
    world.wait(9);
    world.read();
    assert_eq!(world.stand(), "baking 100");
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "holding 100");
}

#[test]
fn the_last_step_does_not_end_in_silence() {
    let mut world = World::at(plan(&[100]), "baking");
    world.silent = true;
    world.wait(3600);
    world.read();
    assert_eq!(world.stand(), "baking 100");
    world.silent = false;
    world.read();
    assert_eq!(world.stand(), "holding 100");
    // Where nothing judges, nobody listens.
    let mut world = World::at(crate::policy::plan::Plan { gates: vec![], ..plan(&[100]) }, "baking");
    world.silent = true;
    world.wait(10);
    world.read();
    assert_eq!(world.stand(), "holding 100");
}

#[test]
fn what_was_counted_below_100_and_comes_late_still_rolls_back() {
    let mut world = World::at(plan(&[50, 100]), "baking");
    world.traffic((1000, 0), (1000, 0));
    world.wait(10);
    world.read();
    // Breaks in the last second before all the traffic is moved; the counts arrive after it.
    world.traffic((50, 50), (50, 0));
    world.settle();
    assert_eq!(world.stand(), "verifying 100");
    world.read();
    assert_eq!(world.stand(), "rolling_back 0");
}

#[test]
fn holding_does_not_end_unconfirmed() {
    for promoted in [true, false] {
        let mut world = if promoted { World::at(plan(&[100]), "baking") } else { World::at(plan(&[10]), "holding") };
        if promoted {
            world.wait(10);
            world.read();
        }
        assert_eq!(world.phase(), "holding");
        // No reading of the route, however long.
        for _ in 0..10 {
            world.wait(60);
            world.tick();
            let live = world.live();
            world.give(crate::rollout::event::Event::Observed(crate::rollout::event::Observation {
                route: Some(Err(super::kit::fault(FaultKind::Transient))),
                live: Some(Ok(live)),
                ..crate::rollout::event::Observation::default()
            }));
        }
        assert_eq!(world.phase(), "holding");
        world.read();
        assert_eq!(world.phase(), if promoted { "succeeded" } else { "aborted" });
    }
}

#[test]
fn one_early_match_is_not_enough() {
    let mut world = World::at(plan(&[10]), "holding");
    world.read();
    world.wait(7);
    world.read();
    assert_eq!(world.phase(), "holding", "a late write could still land");
    world.wait(1);
    world.tick();
    assert_eq!(world.phase(), "holding", "ended by time alone");
    world.read();
    assert_eq!(world.phase(), "aborted");
}

#[test]
fn holding_puts_late_writes_right() {
    let mut world = World::at(plan(&[10]), "holding");
    let before = world.state.generation;
    // A write of 10 that had timed out lands now.
    world.meddle(90, 10);
    world.read();
    assert_eq!((world.stand().as_str(), world.state.generation), ("rolling_back 0", before + 1));
    world.settle();
    world.wait(8);
    world.read();
    assert_eq!((world.phase(), world.mesh.percent_of("v2")), ("aborted", 0));

    let mut world = World::at(plan(&[100]), "baking");
    world.wait(10);
    world.read();
    world.meddle(50, 50);
    world.read();
    assert_eq!(world.stand(), "holding 100");
    world.settle();
    world.wait(7);
    world.read();
    assert_eq!(world.phase(), "holding", "the wait begins anew");
    world.wait(1);
    world.read();
    assert_eq!((world.phase(), world.mesh.percent_of("v2")), ("succeeded", 100));
    world.check_replay();
}

#[test]
fn a_trickle_is_not_weight_zero() {
    let mut world = World::at(plan(&[10]), "holding");
    world.meddle(1000, 1);
    world.wait(8);
    world.read();
    assert_eq!(world.stand(), "rolling_back 0");
}

#[test]
fn a_re_assertion_that_hangs_is_written_anew() {
    let mut world = World::at(plan(&[100]), "baking");
    world.wait(10);
    world.read();
    world.meddle(50, 50);
    world.read();
    let before = world.state.generation;
    world.wait(19);
    world.read();
    assert_eq!(world.state.generation, before);
    world.wait(1);
    world.read();
    assert_eq!((world.stand().as_str(), world.state.generation), ("holding 100", before + 1));
}

#[test]
fn stuck_is_retried_until_it_works() {
    let mut world = World::at(plan(&[10, 100]), "rolling_back");
    for _ in 0..20 {
        world.fail(FaultKind::Permanent);
        assert_eq!(world.phase(), "stuck");
        world.wait(9);
        assert!(matches!(world.tick(), Next::Ignored(_)), "hammered");
        world.wait(1);
        world.tick();
        assert_eq!(world.stand(), "rolling_back 0");
    }
    world.fail(FaultKind::Permanent);
    world.order("abort");
    assert_eq!(world.stand(), "rolling_back 0", "a person may have mended it just now");
    world.settle();
    world.wait(8);
    world.read();
    assert_eq!(world.phase(), "aborted");
    world.check_replay();
}

#[test]
fn an_end_that_is_refused_gets_stuck_in_either_direction() {
    let mut world = World::at(plan(&[100]), "baking");
    world.wait(10);
    world.read();
    world.meddle(50, 50);
    world.read();
    world.fail(FaultKind::Permanent);
    assert_eq!(world.stand(), "stuck 100");
    world.wait(10);
    world.tick();
    assert_eq!(world.stand(), "holding 100", "towards the release again");
    world.fail(FaultKind::Permanent);
    world.order("abort");
    assert_eq!(world.stand(), "rolling_back 0");
    assert!(matches!(world.state.phase, Phase::RollingBack { .. }));
}

#[test]
fn a_rollback_that_passes_or_hangs_is_written_again() {
    let mut world = World::at(plan(&[10, 100]), "rolling_back");
    for kind in [FaultKind::Transient, FaultKind::Unknown] {
        let before = world.state.generation;
        world.fail(kind);
        assert_eq!((world.stand().as_str(), world.state.generation), ("rolling_back 0", before + 1));
    }
    let before = world.state.generation;
    world.wait(19);
    assert!(matches!(world.tick(), Next::Ignored(_)));
    world.wait(1);
    world.tick();
    assert_eq!(world.state.generation, before + 1);
    assert_eq!(world.state.wanted, Percent::ZERO);
}

#[test]
fn an_abort_after_promotion_is_one_write() {
    let mut world = World::at(plan(&[100]), "baking");
    world.wait(10);
    world.read();
    assert_eq!(world.phase(), "holding");
    world.order("abort");
    world.settle();
    world.wait(8);
    world.read();
    assert_eq!((world.phase(), world.mesh.percent_of("v2")), ("aborted", 0));
}

#[test]
fn time_that_goes_back_changes_nothing_and_ends_nothing() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    let at = world.state.at;
    world.now = crate::base::time::Timestamp(5);
    world.traffic((10, 0), (90, 0));
    world.read();
    assert_eq!((world.state.at, world.stand().as_str()), (at, "baking 10"));
    world.now = at;
    world.run(60, false);
    assert_eq!(world.phase(), "rolled_back");
}
