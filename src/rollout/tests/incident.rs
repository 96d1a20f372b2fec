//! Both versions fail at once: held, one weight back, and reported.

use super::kit::{World, plan};
use crate::judge::Counts;
use crate::rollout::event::PastErrors;
use crate::rollout::state::{Next, PauseCause};

/// At 50 %, after a step at 10 %; stable failed once in a thousand before.
fn at_half() -> World {
    let mut world = World::start(plan(&[10, 50, 100]));
    world.state.past.stable = Some(PastErrors { requests: 60_000, errors: 63 });
    for _ in 0..60 {
        world.run(1, true);
        if world.stand() == "baking 50" {
            return world;
        }
    }
    panic!("never at 50 %: {}", world.stand());
}

fn both_fail(world: &mut World, canary: u64) {
    let stable = 1000 - canary;
    world.traffic((canary, canary / 10), (stable, stable / 10));
    world.wait(1);
    world.read();
}

fn both_are_well(world: &mut World, seconds: u64) {
    for _ in 0..seconds {
        let canary = u64::from(world.mesh.percent_of("v2"));
        world.traffic((canary, 0), (100 - canary, 0));
        world.wait(1);
        world.read();
    }
}

fn reason(world: &World) -> String {
    world.state.paused.as_ref().map(|pause| pause.reason.clone()).unwrap_or_default()
}

#[test]
fn both_failing_is_no_verdict_and_takes_one_weight_back() {
    let mut world = at_half();
    both_fail(&mut world, 500);
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::BothFail)));
    let reason = reason(&world);
    assert!(reason.starts_with("canary and stable both fail ("), "{reason}");
    assert!(reason.ends_with("may hurt what both depend on; weight back from 50 % to 10 %"), "{reason}");
    assert!(reason.contains(" of their requests lately, 0.1"), "{reason}");
    world.settle();
    for _ in 0..100 {
        both_fail(&mut world, 100);
        assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::BothFail)), "stays");
    }
    // Going on is refused while they fail; a person may still end it.
    assert!(matches!(world.order("resume"), Next::Refused(refusal) if refusal.message.contains("still fail")));
    assert!(matches!(world.order("promote"), Next::Refused(_)));
    world.order("abort");
    assert_eq!(world.stand(), "rolling_back 0");
}

#[test]
fn both_recovering_is_told_and_waits_for_a_person() {
    let mut world = at_half();
    both_fail(&mut world, 500);
    world.settle();
    both_are_well(&mut world, 25);
    assert_eq!(world.cause(), Some(PauseCause::BothFail), "too soon to tell");
    both_are_well(&mut world, 20);
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::BothRecovered)));
    assert_eq!(
        reason(&world),
        "both versions recovered after the weight went back to 10 %: the release may hurt what both depend on; `resume` takes step \
         2 up again, `abort` ends it"
    );
    both_are_well(&mut world, 600);
    assert_eq!(world.stand(), "paused 10", "went on by itself");
    world.order("resume");
    assert_eq!(world.stand(), "shifting 50");
    world.settle();
    world.run(120, true);
    assert_eq!(world.phase(), "succeeded");
}

#[test]
fn at_the_first_weight_it_goes_back_to_none() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.state.past.stable = Some(PastErrors { requests: 60_000, errors: 63 });
    both_fail(&mut world, 100);
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 0", Some(PauseCause::BothFail)));
    world.settle();
    both_are_well(&mut world, 45);
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 0", Some(PauseCause::BothRecovered)));
    world.order("resume");
    assert_eq!(world.stand(), "shifting 10");
}

#[test]
fn a_canary_that_is_worse_is_still_rolled_back_and_one_that_is_better_goes_on() {
    let mut world = at_half();
    world.traffic((500, 200), (500, 50));
    world.read();
    assert_eq!(world.stand(), "rolling_back 0");
    let mut world = at_half();
    world.traffic((500, 0), (500, 50));
    world.read();
    assert_eq!(world.cause(), None);
    // Nothing is known of before: nothing is unusual.
    let mut world = at_half();
    world.state.past.stable = None;
    both_fail(&mut world, 500);
    assert_eq!(world.cause(), None);
}

#[test]
fn what_comes_late_and_what_does_not_come_tell_of_no_recovery() {
    let mut world = at_half();
    let before = world.mesh.version;
    both_fail(&mut world, 500);
    world.settle();
    // Nobody sends anything: that is not well.
    for _ in 0..60 {
        world.wait(1);
        world.read();
    }
    assert_eq!(world.cause(), Some(PauseCause::BothFail));
    // Failures under the weights of before, reported late, are no failures of now.
    let late = Counts { canary_requests: 500, canary_errors: 50, stable_requests: 500, stable_errors: 50 };
    world.counted.get_mut(&before).expect("traffic at 50 %").counts.add(&late);
    both_are_well(&mut world, 45);
    assert_eq!(world.cause(), Some(PauseCause::BothRecovered));
}
