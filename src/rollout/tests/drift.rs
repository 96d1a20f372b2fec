//! Someone else writes the route.

use super::kit::{World, plan, route};
use crate::base::fault::FaultKind;
use crate::rollout::leased;
use crate::rollout::state::{Next, PauseCause, Phase};

#[test]
fn a_lowered_canary_is_kept_and_pauses() {
    for phase in ["verifying", "baking", "judging"] {
        let mut world = World::at(plan(&[10, 100]), phase);
        world.meddle(95, 5);
        let Next::Step { effects, .. } = world.read() else { panic!("unseen in {phase}") };
        assert!(effects.is_empty(), "put back");
        assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::Drift)));
        let reason = world.state.paused.clone().expect("paused").reason;
        assert!(reason.contains("5 %") && reason.contains("update-route") && reason.contains("resume"), "{reason}");
        // The same again is no news, and neither is its undoing: a person must say that all is well.
        assert!(matches!(world.read(), Next::Ignored(_)));
        world.meddle(90, 10);
        world.wait(100);
        world.traffic((10_000, 0), (90_000, 0));
        world.read();
        assert_eq!(world.stand(), "paused 10");
        world.order("resume");
        assert_eq!(world.stand(), "shifting 10");
        world.check_replay();
    }
}

#[test]
fn a_lease_that_ran_out_is_told_as_that_and_nobody_is_looked_for() {
    for phase in ["verifying", "baking", "judging"] {
        let mut world = World::at(plan(&[10, 100]), phase);
        world.meddle(100, 0);
        world.mesh.lapsed = Some("2026-11-23T06:13:26.120Z".into());
        world.read();
        assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::Drift)));
        let reason = world.state.paused.clone().expect("paused").reason;
        assert!(reason.starts_with("the lease of the weights ran out at 2026-11-23T06:13:26.120Z"), "{reason}");
        assert!(reason.contains("`resume`") && !reason.contains("someone"), "{reason}");
        assert!(matches!(world.read(), Next::Ignored(_)));
        world.order("resume");
        assert_eq!(world.stand(), "shifting 10");
        world.check_replay();
    }
}

#[test]
fn what_is_renewed_is_what_was_written_and_splits_the_traffic() {
    let mut world = World::at(plan(&[10, 50, 100]), "shifting");
    assert_eq!(leased(&world.plan, &world.state), None, "on its way");
    world.settle();
    let held = leased(&world.plan, &world.state).expect("is in force");
    assert_eq!((held.canary, held.stable), (("v2".into(), 10), ("v1".into(), 90)));
    world.order("pause");
    assert!(leased(&world.plan, &world.state).is_some(), "a pause goes on being somebody's");
    world.order("abort");
    world.settle();
    assert_eq!(leased(&world.plan, &world.state), None, "nothing is half out");
}

#[test]
fn a_raised_canary_is_put_back_at_once_under_a_new_generation() {
    for phase in ["verifying", "baking", "judging"] {
        let mut world = World::at(plan(&[10, 100]), phase);
        let before = world.state.generation;
        world.meddle(40, 60);
        world.read();
        assert_eq!((world.stand().as_str(), world.state.generation), ("shifting 10", before + 1));
        assert!(world.state.trouble.as_ref().is_some_and(|text| text.contains("60 %")), "{:?}", world.state.trouble);
        world.settle();
        assert_eq!(world.mesh.percent_of("v2"), 10);
        world.read();
        assert_eq!(world.stand(), "baking 10");
    }
}

#[test]
fn a_put_back_that_never_settles_is_given_up() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.meddle(40, 60);
    world.read();
    world.wait(60);
    world.read();
    assert_eq!(world.stand(), "rolling_back 0");
}

#[test]
fn a_raise_while_paused_is_put_back_and_the_pause_stays() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.order("pause");
    world.meddle(0, 100);
    world.read();
    world.settle();
    world.read();
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::Person)));
    assert_eq!(world.mesh.percent_of("v2"), 10);
}

#[test]
fn a_third_target_with_weight_pauses() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.mesh.targets.push(("v0".into(), 1));
    world.read();
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::Drift)));
    assert!(world.state.paused.as_ref().is_some_and(|pause| pause.reason.contains("another target")));
    // Without weight it stands in nobody's way.
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.mesh.targets.push(("v0".into(), 0));
    assert!(matches!(world.read(), Next::Ignored(_)));
}

#[test]
fn drift_does_not_soften_another_pause() {
    use crate::policy::plan::{OnFailure, Plan};
    let mut world = World::at(Plan { on_failure: OnFailure::Pause, ..plan(&[10, 100]) }, "baking");
    world.traffic((100, 50), (900, 0));
    world.read();
    assert_eq!(world.cause(), Some(PauseCause::GateFailed));
    world.meddle(95, 5);
    world.read();
    assert_eq!(world.cause(), Some(PauseCause::GateFailed), "resume would be possible");
    assert!(world.state.trouble.as_ref().is_some_and(|text| text.contains("lowered")));
    // Told once: readings that say the same write nothing.
    for _ in 0..2 {
        world.wait(1);
        assert!(matches!(world.read(), Next::Ignored(_)));
    }
}

#[test]
fn a_reading_from_before_the_write_is_no_drift() {
    // Read, then written and settled, then told.
    for phase in ["baking", "judging"] {
        let mut world = World::at(plan(&[10, 50, 100]), phase);
        let early = world.mesh.clone();
        world.order("promote");
        world.settle();
        assert!(matches!(world.read_route(early.clone()), Next::Ignored(_)), "taken for a lowered canary");
        world.read();
        assert_eq!(world.stand(), "baking 50");
        assert!(matches!(world.read_route(early), Next::Ignored(_)));
    }
    // The other direction: weight 0 is written, and the reading still shows the canary's share.
    let mut world = World::at(plan(&[10, 100]), "baking");
    let early = world.mesh.clone();
    world.order("abort");
    world.settle();
    let generation = world.state.generation;
    assert!(matches!(world.read_route(early), Next::Ignored(_)));
    assert_eq!((world.phase(), world.state.generation), ("holding", generation));
}

#[test]
fn a_route_made_anew_counts_again_after_a_while() {
    // Deleted and created: its versions begin at 1.
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.mesh = route(1, 100, 0);
    world.wait(9);
    world.read();
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::Drift)));
}

#[test]
fn while_a_write_is_under_way_either_answer_is_right() {
    let mut world = World::start(plan(&[10, 100]));
    assert!(matches!(world.read(), Next::Ignored(_)));
    world.carry_out();
    assert!(matches!(world.read(), Next::Ignored(_)));
    assert!(matches!(world.state.phase, Phase::Shifting { .. }));
}

#[test]
fn a_raise_after_a_withdrawal_is_put_back_to_nothing() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.silent = true;
    world.wait(30);
    world.read();
    world.settle();
    world.meddle(90, 10);
    world.read();
    assert_eq!(world.stand(), "paused 0");
    world.fail(FaultKind::Transient);
    assert_eq!(world.stand(), "paused 0", "a mesh that does not answer is no verdict");
    world.settle();
    assert_eq!(world.mesh.percent_of("v2"), 0);
}
