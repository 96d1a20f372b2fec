//! A step's clock starts when the mesh, the proxies and the traffic agree that its weights are in force.

use super::kit::*;
use crate::policy::plan::OnVerifyTimeout;
use crate::rollout::event::{Event, Observation};
use crate::rollout::state::PauseCause;

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
    world.give(Event::Observed(Observation { route: Some(Ok(route)), live: None }));
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

#[test]
fn a_split_that_luck_explains_passes() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.traffic((30, 0), (170, 0));
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "baking 10");
}
