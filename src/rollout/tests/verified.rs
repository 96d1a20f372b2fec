//! A step's clock starts when the mesh, the proxies and the traffic agree that its weights are in force.

use super::kit::*;
use crate::base::fault::FaultKind;
use crate::base::time::Millis;
use crate::policy::plan::{OnFailure, OnVerifyTimeout, Plan, Verify};
use crate::rollout::event::{Event, Observation};
use crate::rollout::state::{Next, PauseCause};

#[test]
fn a_proxy_that_is_behind_holds_the_step_back() {
    let mut world = World::at(plan(&[10, 100]), "verifying");
    world.applied = Some(world.mesh.version - 1);
    world.traffic((1, 0), (9, 0));
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "verifying 10");
    world.applied = None;
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "baking 10");
    world.check_replay();
}

#[test]
fn a_proxy_that_stays_behind_is_rolled_back() {
    let mut world = World::at(plan(&[10, 100]), "verifying");
    world.applied = Some(world.mesh.version - 1);
    for _ in 0..61 {
        world.traffic((1, 0), (9, 0));
        world.wait(1);
        world.read();
    }
    assert_eq!(world.phase(), "rolling_back");
}

#[test]
fn where_no_proxy_reports_reading_back_is_enough() {
    let mut world = World::at(plan(&[10, 100]), "verifying");
    let route = world.mesh.clone();
    world.give(Event::Observed(Observation { route: Some(Ok(route)), live: None, ..Observation::default() }));
    assert_eq!(world.stand(), "baking 10");
}

#[test]
fn a_split_that_luck_does_not_explain_is_not_in_force() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.traffic((60, 0), (140, 0));
    world.wait(1);
    world.read();
    assert_eq!(world.phase(), "rolling_back");
    let reason = world.state.ending.as_ref().map(|ending| ending.reason.clone());
    assert_eq!(reason.as_deref(), Some("30 % of 200 requests went to the canary and not 10 %"));

    let mut pausing = plan(&[10, 100]);
    pausing.verify.on_timeout = OnVerifyTimeout::Pause;
    let mut world = World::at(pausing, "baking");
    world.traffic((60, 0), (140, 0));
    world.wait(1);
    world.read();
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::VerifyTimeout)));
    world.check_replay();
}

/// A session that lasts looks like many draws: where sessions are placed, their requests say nothing about the coin.
#[test]
fn requests_of_sessions_say_nothing_about_the_split() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.traffic((60, 0), (140, 0));
    world.counted.values_mut().for_each(|counts| counts.in_sessions = true);
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "baking 10");
    // Nor does what was heard before, when nothing new is heard.
    let route = world.mesh.clone();
    world.give(Event::Observed(Observation { route: Some(Ok(route)), live: None, ..Observation::default() }));
    assert_eq!(world.stand(), "baking 10");
    world.check_replay();
}

/// A reading need not tell of all: what was placed by sessions before stays so, whoever is heard when enough was drawn.
#[test]
fn sessions_of_an_earlier_reading_count_as_well() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.traffic((45, 0), (105, 0));
    world.counted.values_mut().for_each(|counts| counts.in_sessions = true);
    world.wait(1);
    world.read();
    world.traffic((15, 0), (35, 0));
    world.counted.values_mut().for_each(|counts| counts.in_sessions = false);
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "baking 10");
    world.check_replay();
}

/// Draws are counted by versions of the weights: those of before say nothing about when the next ones are enough.
#[test]
fn weights_that_were_put_back_are_looked_at_from_the_first_draws_on() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.traffic((1000, 0), (9000, 0));
    world.read();
    assert_eq!(world.stand(), "baking 10");
    world.meddle(50, 50);
    world.wait(1);
    world.read();
    world.settle();
    world.read();
    assert_eq!(world.stand(), "baking 10");
    world.traffic((60, 0), (140, 0));
    world.wait(1);
    world.read();
    assert_eq!(world.phase(), "rolling_back");
    world.check_replay();
}

#[test]
fn a_split_that_luck_explains_passes() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.traffic((30, 0), (170, 0));
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "baking 10");
}

/// A policy whose steps may take 20 s to be in force.
fn within_20_s(on_timeout: OnVerifyTimeout) -> Plan {
    let mut plan = plan(&[10, 100]);
    plan.verify = Verify { timeout: Millis::from_seconds(20), on_timeout };
    plan
}

#[test]
fn a_write_that_fails_in_passing_is_written_again_and_blames_nobody() {
    let mut world = World::start(within_20_s(OnVerifyTimeout::Rollback));
    for kind in [FaultKind::Transient, FaultKind::Unknown, FaultKind::Transient] {
        world.wait(6);
        world.fail(kind);
        assert_eq!(world.stand(), "shifting 10");
        assert!(world.state.trouble.as_ref().expect("told").contains("is tried again"), "{:?}", world.state.trouble);
    }
    world.settle();
    world.run(60, true);
    assert_eq!(world.phase(), "succeeded");
    world.check_replay();
}

#[test]
fn a_write_that_goes_on_failing_ends_as_a_step_that_is_not_in_force() {
    for (on_timeout, expected) in [(OnVerifyTimeout::Rollback, "rolling_back 0"), (OnVerifyTimeout::Pause, "paused 10")]
    {
        let mut world = World::start(within_20_s(on_timeout));
        while world.stand() == "shifting 10" {
            assert!(world.state.at.since(world.state.started_at) <= Millis::from_seconds(20), "never ends");
            world.wait(1);
            world.fail(FaultKind::Transient);
            world.silent = true;
            world.read();
        }
        assert_eq!(world.stand(), expected);
        world.wait(1);
        // Not looked at again and again; a person goes on with it.
        assert_eq!(world.tick(), Next::Ignored("nothing new"));
        if on_timeout == OnVerifyTimeout::Pause {
            // What was still under way fails too: it waits for a person and is not written again.
            world.wait(1);
            if world.under_way.is_some() {
                world.fail(FaultKind::Transient);
            }
            assert!(world.under_way.is_none() && world.stand() == "paused 10", "{}", world.stand());
            world.silent = false;
            world.order("resume");
            world.settle();
            world.read();
            assert_eq!(world.stand(), "baking 10");
        }
        world.check_replay();
    }
}

#[test]
fn a_pause_for_failing_gates_is_not_replaced_by_one_for_weights_that_are_not_in_force() {
    let mut plan = within_20_s(OnVerifyTimeout::Pause);
    plan.on_failure = OnFailure::Pause;
    let mut world = World::at(plan, "baking");
    world.order("promote");
    assert_eq!(world.stand(), "shifting 100");
    // Failures that were under way come in late, while the next weights cannot be written.
    world.fail(FaultKind::Transient);
    world.traffic((50, 25), (450, 0));
    world.read();
    assert_eq!(world.cause(), Some(PauseCause::GateFailed));
    for _ in 0..5 {
        world.wait(10);
        world.tick();
        if world.under_way.is_some() {
            world.fail(FaultKind::Transient);
        }
    }
    assert_eq!(world.cause(), Some(PauseCause::GateFailed));
    assert!(matches!(world.order("resume"), Next::Refused(refusal) if refusal.message.contains("gates still fail")));
    world.check_replay();
}
