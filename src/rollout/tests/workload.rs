//! Releases that are deployed into their slot: the way in, and what is cleaned up behind them.

use super::kit::{World, deployed, deploying, growing, plan};
use crate::base::fault::{Fault, FaultKind};
use crate::base::ids::{RolloutId, Seq};
use crate::base::time::{Millis, Timestamp};
use crate::base::weight::{Percent, Slot};
use crate::policy::plan::{OnFailure, Plan};
use crate::rollout::effect::Effect;
use crate::rollout::event::{Command, Event, Input, Observation, Standing, Start};
use crate::rollout::state::{Next, PauseCause, State};
use crate::rollout::workload::look;
use crate::rollout::{begin, next_reading};

fn world() -> World {
    World::start(deploying(plan(&[10, 50, 100])))
}

/// A world whose release has come up and whose first step bakes.
fn up(plan: Plan) -> World {
    come_up(World::start(deploying(plan)))
}

fn come_up(mut world: World) -> World {
    world.work(None);
    world.look(Standing::Ready);
    world.settle();
    world.read();
    assert_eq!(world.stand(), "baking 10");
    world
}

/// The retirement that is under way, by slot.
fn retiring(world: &World) -> Option<Slot> {
    match &world.working {
        Some((_, Effect::Retire(retirement))) => Some(retirement.slot),
        _ => None,
    }
}

fn refused(next: &Next, text: &str) {
    let Next::Refused(refusal) = next else { panic!("{next:?}") };
    assert!(refusal.message.contains(text), "{}", refusal.message);
}

#[test]
fn no_weight_before_the_release_is_up() {
    let mut world = world();
    assert_eq!(world.stand(), "deploying 0");
    assert!(world.under_way.is_none() && matches!(&world.working, Some((_, Effect::Deploy(_)))));
    assert!(look(&world.state).is_none(), "nothing is deployed yet");
    world.work(None);
    assert_eq!(look(&world.state).and_then(|look| look.wanted), Some(deployed()));
    for standing in [Standing::Progressing, Standing::Idle] {
        world.wait(5);
        world.look(standing);
        world.read();
        assert_eq!(world.stand(), "deploying 0");
    }
    world.look(Standing::Ready);
    assert_eq!(world.stand(), "shifting 10");
    world.settle();
    world.read();
    assert_eq!(world.stand(), "baking 10");
}

#[test]
fn a_good_release_is_promoted_and_the_old_slot_kept_and_then_scaled_in() {
    let mut world = world();
    world.run(120, true);
    assert_eq!(world.stand(), "cleaning 100");
    assert!(retiring(&world).is_none());
    assert_eq!(next_reading(&world.state), Some(Millis::from_seconds(30)));
    world.wait(100);
    world.read();
    assert_eq!(retiring(&world), Some(Slot::First));
    // What was seen before it was asked for says nothing about it.
    world.look(Standing::Idle);
    assert_eq!(world.phase(), "cleaning");
    world.work(None);
    world.look(Standing::Progressing);
    assert_eq!(world.phase(), "cleaning");
    world.look(Standing::Idle);
    assert_eq!(world.stand(), "succeeded 100");
    assert!(next_reading(&world.state).is_none());
    world.check_replay();
}

#[test]
fn a_bad_release_loses_its_traffic_first_and_then_its_instances() {
    let mut world = up(plan(&[10, 50, 100]));
    world.traffic((1000, 1000), (9000, 0));
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "rolling_back 0");
    world.settle();
    world.wait(8);
    world.read();
    assert_eq!(world.stand(), "cleaning 0");
    assert_eq!(next_reading(&world.state), Some(Millis::from_seconds(10)), "not half a minute");
    world.read();
    assert!(retiring(&world).is_none(), "its last requests are drained first");
    world.wait(10);
    world.read();
    assert_eq!(retiring(&world), Some(Slot::Second));
    world.work(None);
    world.look(Standing::Idle);
    assert_eq!(world.stand(), "rolled_back 0");
}

/// A release at its first step of 10 %, whose instances were asked to bear that.
fn growing_world() -> World {
    let world = World::start(growing(plan(&[10, 50, 100])));
    assert_eq!(shares(&world), [10]);
    come_up(world)
}

/// The shares that instances are being asked to bear.
fn shares(world: &World) -> Vec<u8> {
    let working = world.working.iter().filter_map(|(_, effect)| match effect {
        Effect::Deploy(deployment) => deployment.share,
        _ => None,
    });
    working.map(Percent::get).collect()
}

/// Judged well until it waits for more instances.
fn until_it_grows(world: &mut World) {
    for _ in 0..60 {
        world.traffic((100, 0), (900, 0));
        world.wait(1);
        world.read();
        if world.phase() == "deploying" {
            return;
        }
    }
    panic!("{}", world.stand());
}

#[test]
fn more_instances_come_before_more_traffic() {
    let mut world = growing_world();
    until_it_grows(&mut world);
    assert_eq!((world.stand().as_str(), shares(&world)), ("deploying 10", vec![50]));
    // What is said of the instances of before says nothing of those that are asked for now.
    world.look(Standing::Ready);
    assert_eq!(world.stand(), "deploying 10");
    world.work(None);
    world.look(Standing::Progressing);
    world.read();
    assert_eq!(world.stand(), "deploying 10");
    world.look(Standing::Ready);
    assert_eq!(world.stand(), "shifting 50");
    world.settle();
    world.run(200, true);
    assert_eq!(world.stand(), "succeeded 100");
    world.check_replay();
}

#[test]
fn a_release_is_judged_while_more_instances_come() {
    let mut world = growing_world();
    until_it_grows(&mut world);
    world.work(None);
    world.traffic((1000, 1000), (9000, 0));
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "rolling_back 0");
}

#[test]
fn silence_while_more_instances_come_stops_the_rise() {
    let mut world = growing_world();
    until_it_grows(&mut world);
    world.work(None);
    world.silent = true;
    world.wait(11);
    world.look(Standing::Ready);
    assert_eq!(world.stand(), "deploying 10", "nothing advances in silence");
    world.wait(20);
    world.read();
    assert_eq!((world.phase(), world.state.wanted.get()), ("paused", 0));
    world.settle();
    world.silent = false;
    world.read();
    assert_eq!(world.stand(), "shifting 50", "as it had been decided");
}

#[test]
fn no_room_for_more_instances_keeps_the_weight_and_tells() {
    let mut world = growing_world();
    until_it_grows(&mut world);
    world.work(None);
    world.look(Standing::Progressing);
    for _ in 0..70 {
        world.traffic((100, 0), (900, 0));
        world.wait(1);
        world.read();
    }
    assert_eq!(world.stand(), "deploying 10");
    let trouble = world.state.trouble.clone().expect("told");
    assert_eq!(trouble, "no instances for step 2 within 1m: progressing; the weight stays");
    world.look(Standing::Ready);
    assert_eq!(world.stand(), "shifting 50");
}

#[test]
fn people_while_more_instances_come() {
    let mut world = growing_world();
    let next = world.order("promote full");
    assert!(matches!(next, Next::Step { .. }));
    assert_eq!((world.stand().as_str(), shares(&world)), ("deploying 10", vec![100]));
    refused(&world.order("promote"), "for which its instances are not up yet");
    world.order("pause");
    world.work(None);
    world.look(Standing::Ready);
    assert_eq!(world.stand(), "paused 10");
    world.order("resume");
    assert_eq!(world.stand(), "shifting 100");

    let mut world = growing_world();
    until_it_grows(&mut world);
    world.meddle(100, 0);
    world.read();
    assert_eq!(world.stand(), "paused 10", "a canary that somebody lowered is kept so");
    world.order("resume");
    assert_eq!(world.stand(), "deploying 10");
    world.settle();
    world.meddle(50, 50);
    world.read();
    assert!(world.state.trouble.as_deref().is_some_and(|text| text.contains("put back to 10 %")), "{:?}", world.state);
    world.order("abort");
    assert_eq!(world.stand(), "rolling_back 0");
}

#[test]
fn a_release_that_does_not_come_up_is_rolled_back() {
    let mut crashing = world();
    crashing.work(None);
    crashing.look(Standing::Failing);
    assert_eq!(crashing.stand(), "rolling_back 0");
    let reason = |world: &World| world.state.ending.as_ref().expect("decided").reason.clone();
    assert_eq!(reason(&crashing), "the release does not come up: failing");

    let mut refused = world();
    refused.work(Some(FaultKind::Permanent));
    assert_eq!(refused.stand(), "rolling_back 0");
    assert_eq!(reason(&refused), "the release could not be deployed: no");

    let mut late = world();
    late.work(None);
    late.look(Standing::Progressing);
    late.wait(60);
    late.tick();
    assert_eq!(late.stand(), "rolling_back 0");
    assert_eq!(reason(&late), "the release was not up within 1m: progressing");
}

#[test]
fn a_deployment_that_may_pass_is_asked_for_again_with_the_next_reading() {
    for kind in [FaultKind::Transient, FaultKind::Unknown] {
        let mut world = world();
        world.work(Some(kind));
        assert!(world.working.is_none());
        assert!(world.state.trouble.as_ref().is_some_and(|text| text.starts_with("deploying failed")));
        world.wait(5);
        world.read();
        assert!(matches!(&world.working, Some((_, Effect::Deploy(_)))));
        world.work(None);
        world.look(Standing::Ready);
        assert_eq!(world.stand(), "shifting 10");
    }
}

#[test]
fn looks_that_fail_decide_nothing() {
    let mut world = world();
    world.work(None);
    let error = Err(Fault { kind: FaultKind::Transient, source: "ecs".into(), message: "throttled".into() });
    let before = world.stand();
    world.give(Event::Observed(Observation { workload: Some(error), ..Observation::default() }));
    assert_eq!(world.stand(), before);
    assert_eq!(world.state.trouble.as_deref(), Some("how the instances stand is not known: throttled"));
    world.look(Standing::Ready);
    assert_eq!(world.stand(), "shifting 10");
}

#[test]
fn instances_that_fail_under_traffic_fail_the_release() {
    let mut rolled_back = up(plan(&[10, 50, 100]));
    rolled_back.look(Standing::Failing);
    assert_eq!(rolled_back.stand(), "rolling_back 0");
    let mut pausing = plan(&[10, 50, 100]);
    pausing.on_failure = OnFailure::Pause;
    let mut paused = up(pausing);
    paused.look(Standing::Failing);
    assert_eq!((paused.stand().as_str(), paused.cause()), ("paused 10", Some(PauseCause::GateFailed)));
}

#[test]
fn people_while_it_is_deployed() {
    let mut world = world();
    refused(&world.order("promote"), "its release is not up yet");
    refused(&world.order("promote full"), "its release is not up yet");
    world.order("pause");
    world.work(None);
    world.look(Standing::Ready);
    world.wait(120);
    world.tick();
    world.read();
    assert_eq!(world.stand(), "paused 0");
    world.order("resume");
    assert_eq!(world.stand(), "shifting 10");

    let mut aborted = self::world();
    aborted.order("abort");
    assert!(aborted.working.is_none(), "a deployment that nobody wants any more");
    assert_eq!(aborted.stand(), "rolling_back 0");
    aborted.run(60, true);
    assert_eq!(aborted.stand(), "aborted 0");
}

#[test]
fn a_pause_before_it_is_up_begins_the_wait_anew() {
    let mut world = world();
    world.work(None);
    world.order("pause");
    world.wait(120);
    world.order("resume");
    assert_eq!(world.stand(), "deploying 0");
    world.wait(59);
    world.tick();
    assert_eq!(world.stand(), "deploying 0");
    world.look(Standing::Ready);
    assert_eq!(world.stand(), "shifting 10");
}

#[test]
fn weight_that_comes_too_early_is_put_back() {
    let mut world = world();
    world.meddle(80, 20);
    world.read();
    assert_eq!(world.stand(), "deploying 0");
    world.settle();
    assert_eq!((world.mesh.percent_of("v2"), world.phase()), (0, "deploying"));
    world.work(None);
    world.look(Standing::Ready);
    assert_eq!(world.stand(), "shifting 10");
}

#[test]
fn while_the_old_version_is_kept_an_abort_goes_back_to_it() {
    let mut world = world();
    world.run(120, true);
    assert_eq!(world.stand(), "cleaning 100");
    world.order("abort");
    assert_eq!(world.stand(), "rolling_back 0");
    world.run(60, true);
    assert_eq!(world.stand(), "aborted 0");
}

#[test]
fn once_the_old_version_is_being_scaled_in_an_abort_is_refused() {
    let mut world = world();
    world.run(120, true);
    world.wait(100);
    world.read();
    refused(&world.order("abort"), "is being scaled in");
}

#[test]
fn a_slot_that_somebody_gave_weight_again_is_kept() {
    let mut world = world();
    world.run(120, true);
    world.wait(100);
    world.meddle(30, 70);
    world.read();
    assert!(retiring(&world).is_none());
    assert_eq!(world.phase(), "succeeded");
    assert_eq!(world.state.trouble.as_deref(), Some("someone gave v1 weight again, so its instances are kept"));
}

#[test]
fn the_next_release_takes_a_kept_slot_over_but_not_one_that_is_being_scaled_in() {
    let mut kept = world();
    refused(&kept.order("make way"), "it is live");
    kept.run(120, true);
    kept.order("make way");
    assert_eq!(kept.stand(), "succeeded 100");

    let mut retiring = world();
    retiring.run(120, true);
    retiring.wait(100);
    retiring.read();
    refused(&retiring.order("make way"), "v1 is being scaled in");
}

#[test]
fn a_retirement_is_asked_for_again_and_given_up_in_the_end() {
    let mut world = world();
    world.run(120, true);
    world.wait(100);
    for _ in 0..10 {
        world.read();
        assert_eq!(retiring(&world), Some(Slot::First));
        world.work(Some(FaultKind::Transient));
        world.look(Standing::Ready);
        world.wait(60);
    }
    world.read();
    assert_eq!(world.phase(), "succeeded");
    let told = world.state.trouble.as_deref();
    assert_eq!(told, Some("v1 could not be scaled in: ready; look after it yourself"));

    let mut refused = self::world();
    refused.run(120, true);
    refused.wait(100);
    refused.read();
    refused.work(Some(FaultKind::Permanent));
    assert_eq!(refused.phase(), "succeeded");
}

/// The first input with or without an image, on a plan with or without a workload.
fn started(plan: &Plan, image: Option<&str>) -> Result<State, String> {
    let start = Start {
        to: None,
        revision: None,
        image: image.map(str::to_owned),
        route: super::kit::route(7, 100, 0),
        author: Vec::new(),
        first_step: 0,
        outside_windows: None,
        last_generation: 0,
        stable: None,
        baseline: None,
        past: Box::default(),
    };
    let event = Event::Command { command: Command::Start(start), actor: super::kit::actor() };
    let input = Input { seq: Seq(1), at: Timestamp(super::kit::START), event };
    begin(plan, RolloutId("r-1".into()), &input).map(|(state, _)| state).map_err(|refusal| refusal.message)
}

#[test]
fn an_image_goes_with_a_workload() {
    let (runs, deploys) = (plan(&[100]), deploying(plan(&[100])));
    assert!(started(&runs, None).is_ok() && started(&deploys, Some("shop:v2")).is_ok());
    assert!(started(&deploys, None).unwrap_err().contains("no image was named"));
    assert!(started(&runs, Some("shop:v2")).unwrap_err().contains("has no `workload`"));
    let state = started(&deploys, Some("shop:v2")).expect("as above");
    assert_eq!(next_reading(&state), Some(Millis::from_seconds(5)));
}
