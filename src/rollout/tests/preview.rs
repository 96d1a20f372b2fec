//! Previews: a route by a header before the first step, in force for a while, gone before any weight and at every end.

use super::kit::{World, deploying, inconclusive, opened, plan, previewing};
use crate::base::fault::{Fault, FaultKind};
use crate::base::weight::Percent;
use crate::policy::plan::{OnFailure, OnInconclusive, OnVerifyTimeout, Plan};
use crate::rollout::effect::Effect;
use crate::rollout::event::{Event, Observation, PreviewReading, Standing};
use crate::rollout::preview::{route, watched};
use crate::rollout::state::{Next, PauseCause};
use crate::rollout::view::RolloutView;

fn world() -> World {
    World::start(previewing(plan(&[10, 50, 100])))
}

/// In force, and its time has begun.
fn open(plan: Plan) -> World {
    let mut world = World::start(plan);
    world.preview_ends(None);
    world.read();
    assert_eq!(stand(&world), "baking 0 preview");
    world
}

fn opened_world() -> World {
    open(previewing(plan(&[10, 50, 100])))
}

/// Phase, share, and whether it is at its preview.
fn stand(world: &World) -> String {
    let view = RolloutView::of(&world.plan, &world.state);
    let preview = view.preview.map(|_| " preview").unwrap_or_default();
    format!("{}{preview}", world.stand())
}

/// Second by second, with a check that fails on so many of the canary's endpoints.
fn pass(world: &mut World, seconds: u64, failing: f64) {
    for _ in 0..seconds {
        world.wait(1);
        world.checked("alive", failing);
        world.read();
    }
}

fn closing(world: &World) -> bool {
    matches!(&world.previewing, Some((_, Effect::ClosePreview(_))))
}

fn refused(next: &Next, text: &str) {
    let Next::Refused(refusal) = next else { panic!("{next:?}") };
    assert!(refusal.message.contains(text), "{}", refusal.message);
}

#[test]
fn the_route_is_named_after_the_plans_and_leads_to_the_canary() {
    let world = world();
    let made = route(&world.plan, &world.state).unwrap();
    assert_eq!((made.name.as_str(), made.canary.as_str()), ("checkout-preview", "v2"));
    assert_eq!((made.header.to_string().as_str(), made.rollout.0.as_str()), ("x-preview: 1", "r-1"));
    assert!(matches!(&world.previewing, Some((_, Effect::OpenPreview(route))) if *route == made));
    let mut long = world.plan.clone();
    long.route.route = "x".repeat(255);
    let name = route(&long, &world.state).unwrap().name;
    assert_eq!((name.len(), name.ends_with("xx-preview")), (255, true));
}

#[test]
fn a_release_that_shows_itself_well_takes_its_first_step_when_the_route_is_gone() {
    let mut world = world();
    assert_eq!((stand(&world).as_str(), world.under_way.is_none()), ("shifting 0 preview", true));
    world.read();
    assert_eq!(stand(&world), "shifting 0 preview", "nothing is there yet");
    world.preview_ends(None);
    assert_eq!(stand(&world), "verifying 0 preview");
    world.preview = Some(PreviewReading { behind: Some(1), ..opened() });
    world.read();
    assert_eq!(stand(&world), "verifying 0 preview", "a proxy does not have it yet");
    world.preview = Some(opened());
    world.read();
    assert_eq!(stand(&world), "baking 0 preview");
    pass(&mut world, 19, 0.0);
    assert_eq!(stand(&world), "baking 0 preview");
    pass(&mut world, 1, 0.0);
    assert_eq!((stand(&world).as_str(), closing(&world)), ("shifting 0 preview", true));
    world.read();
    assert!(world.under_way.is_none(), "the route goes first");
    world.preview_ends(None);
    assert_eq!((stand(&world).as_str(), world.preview.clone()), ("shifting 10", None));
    world.settle();
    world.run(200, true);
    assert_eq!(stand(&world), "succeeded 100");
    world.check_replay();
}

#[test]
fn it_comes_when_the_release_is_up() {
    let mut world = World::start(deploying(previewing(plan(&[10, 100]))));
    assert_eq!((stand(&world).as_str(), world.previewing.is_none()), ("deploying 0", true));
    world.work(None);
    world.look(Standing::Progressing);
    assert!(world.previewing.is_none());
    world.look(Standing::Ready);
    assert_eq!(stand(&world), "shifting 0 preview");
    world.preview_ends(None);
    world.read();
    world.look(Standing::Failing);
    assert_eq!(stand(&world), "rolling_back 0", "instances that fail are nothing to go on with");
    world.run(60, true);
    assert_eq!(stand(&world), "rolled_back 0");
}

#[test]
fn a_gate_that_fails_ends_it_before_any_weight() {
    let mut world = opened_world();
    pass(&mut world, 5, 0.0);
    pass(&mut world, 2, 1.0);
    assert_eq!(stand(&world), "baking 0 preview", "twice is not three times");
    pass(&mut world, 1, 1.0);
    assert_eq!((stand(&world).as_str(), closing(&world)), ("rolling_back 0", true));
    assert_eq!(world.mesh.percent_of("v2"), 0);
    world.preview_ends(None);
    world.run(20, true);
    assert_eq!((stand(&world).as_str(), world.preview.clone()), ("rolled_back 0", None));
    let reason = world.state.ending.as_ref().unwrap().reason.clone();
    assert!(reason.contains("gate alive"), "{reason}");
}

#[test]
fn where_gates_pause_a_person_has_the_say() {
    let mut world = open(Plan { on_failure: OnFailure::Pause, ..previewing(plan(&[10, 100])) });
    pass(&mut world, 3, 1.0);
    assert_eq!((stand(&world).as_str(), world.cause()), ("paused 0 preview", Some(PauseCause::GateFailed)));
    refused(&world.order("resume"), "its gates still fail");
    refused(&world.order("promote"), "its gates fail");
    pass(&mut world, 1, 0.0);
    world.order("resume");
    assert_eq!(stand(&world), "shifting 0 preview", "its time begins anew");
    assert!(matches!(&world.previewing, Some((_, Effect::OpenPreview(_)))), "put right whatever became of it");
}

#[test]
fn what_was_seen_before_it_is_in_force_says_nothing() {
    let mut world = world();
    pass(&mut world, 2, 1.0);
    world.preview_ends(None);
    world.read();
    assert_eq!(stand(&world), "baking 0 preview");
    pass(&mut world, 2, 1.0);
    assert_eq!(stand(&world), "baking 0 preview", "four in a row, two of them in the preview");
    pass(&mut world, 1, 1.0);
    assert_eq!(stand(&world), "rolling_back 0");
}

#[test]
fn silence_of_a_gate_holds_it_and_at_last_does_what_the_plan_says() {
    for (what, expected) in [
        (OnInconclusive::Hold, "judging 0 preview"),
        (OnInconclusive::Advance, "judging 0 preview"),
        (OnInconclusive::Rollback, "rolling_back 0"),
    ] {
        let mut plan = inconclusive(previewing(plan(&[10, 100])), what);
        plan.preview.iter_mut().for_each(|preview| preview.on_inconclusive = what);
        let mut world = open(plan);
        for _ in 0..59 {
            world.wait(1);
            world.read();
        }
        assert_eq!(stand(&world), "judging 0 preview");
        world.wait(1);
        world.read();
        assert_eq!(stand(&world), expected, "{what:?}");
    }
}

#[test]
fn a_late_answer_is_good_enough() {
    let mut world = opened_world();
    for _ in 0..40 {
        world.wait(1);
        world.read();
    }
    assert_eq!(stand(&world), "judging 0 preview");
    pass(&mut world, 1, 0.0);
    assert!(closing(&world));
}

#[test]
fn silence_of_the_data_plane_ends_nothing() {
    let mut world = opened_world();
    world.silent = true;
    pass(&mut world, 20, 0.0);
    assert!(closing(&world), "nothing is exposed by weight, and a preview compares nothing");
    world.preview_ends(None);
    assert_eq!(stand(&world), "shifting 10");
}

#[test]
fn promote_ends_it_early() {
    let mut world = opened_world();
    world.order("promote");
    assert!(closing(&world));
    refused(&world.order("promote"), "on its way to its first step");
    world.preview_ends(None);
    assert_eq!(stand(&world), "shifting 10");
    let mut world = opened_world();
    world.order("promote full");
    world.preview_ends(None);
    assert_eq!(stand(&world), "shifting 100");
    // Even while the route is not made yet, which may be made late then.
    let mut world = self::world();
    world.order("promote");
    world.preview_ends(None);
    assert_eq!(stand(&world), "shifting 10");
}

#[test]
fn a_pause_keeps_it_and_resume_begins_its_time_anew() {
    let mut world = opened_world();
    pass(&mut world, 15, 0.0);
    world.order("pause");
    pass(&mut world, 30, 0.0);
    assert_eq!((stand(&world).as_str(), world.preview.clone()), ("paused 0 preview", Some(opened())));
    world.order("resume");
    world.preview_ends(None);
    world.read();
    pass(&mut world, 19, 0.0);
    assert_eq!(stand(&world), "baking 0 preview");
    pass(&mut world, 1, 0.0);
    assert!(closing(&world));
    world.order("pause");
    world.preview_ends(None);
    assert_eq!(world.phase(), "paused", "no weight while it is paused");
    world.order("resume");
    assert_eq!(stand(&world), "shifting 10");
}

#[test]
fn a_freeze_keeps_it_where_it_is() {
    let mut world = opened_world();
    world.order("freeze");
    pass(&mut world, 30, 0.0);
    assert_eq!((stand(&world).as_str(), closing(&world)), ("baking 0 preview", false));
    refused(&world.order("promote"), "frozen");
    world.order("thaw");
    pass(&mut world, 1, 0.0);
    assert!(closing(&world));
    world.order("freeze");
    world.preview_ends(None);
    assert_eq!(stand(&world), "shifting 0 preview", "no step");
    world.order("thaw");
    world.read();
    assert_eq!(stand(&world), "shifting 10");
}

#[test]
fn whatever_ends_it_takes_the_route_away() {
    for verb in ["abort", "supersede"] {
        for stage in 0..5 {
            let mut world = world();
            if stage > 0 {
                world.preview_ends(None);
            }
            if stage > 1 {
                world.read();
            }
            if stage > 2 {
                pass(&mut world, 20, 0.0);
            }
            if stage > 3 {
                world.preview_ends(None);
                assert_eq!(stand(&world), "shifting 10");
            }
            world.order(verb);
            assert_eq!(stand(&world), "rolling_back 0", "{verb} at {stage}");
            assert_eq!(closing(&world), stage < 4);
            world.run(20, true);
            assert!(world.state.is_finished() && world.preview.is_none());
            world.check_replay();
        }
    }
}

#[test]
fn the_end_waits_for_the_route_to_go() {
    let mut world = opened_world();
    world.order("abort");
    world.settle();
    for _ in 0..3 {
        // The removal fails; a reading shows the route, and it is removed anew.
        world.preview_ends(Some(FaultKind::Unknown));
        world.wait(8);
        world.read();
        assert_eq!((stand(&world).as_str(), closing(&world)), ("holding 0", true));
    }
    world.read();
    assert_eq!(stand(&world), "holding 0", "its removal is under way");
    world.preview_ends(None);
    world.read();
    assert_eq!(stand(&world), "aborted 0");
}

#[test]
fn a_removal_that_is_refused_is_a_persons_to_mend() {
    let mut world = opened_world();
    world.order("abort");
    world.settle();
    world.preview_ends(Some(FaultKind::Permanent));
    world.wait(8);
    world.read();
    assert_eq!(stand(&world), "stuck 0");
    let trouble = world.state.trouble.clone().unwrap();
    assert!(trouble.contains("removing the route of the preview was refused"), "{trouble}");
    // Tried again for as long as it takes.
    world.run(60, true);
    assert_eq!((stand(&world).as_str(), world.preview.clone()), ("aborted 0", None));
}

#[test]
fn a_late_write_that_makes_the_route_anew_is_found_at_the_end() {
    let mut world = opened_world();
    pass(&mut world, 1, 0.0);
    world.order("promote");
    world.preview_ends(None);
    // The create of before lands now.
    world.preview = Some(opened());
    world.run(300, true);
    assert_eq!((stand(&world).as_str(), world.preview.clone()), ("succeeded 100", None));
    world.check_replay();
}

#[test]
fn somebody_elses_route_is_left_alone() {
    let mut world = opened_world();
    let theirs = PreviewReading { ours: false, fits: false, behind: None };
    world.preview = Some(theirs.clone());
    world.read();
    assert!(
        world.state.trouble.as_deref().unwrap().contains("put another route in place"),
        "{:?}",
        world.state.trouble
    );
    world.preview_ends(Some(FaultKind::Permanent));
    assert_eq!(stand(&world), "rolling_back 0", "there is no place for it");
    world.preview_ends(None);
    world.settle();
    world.wait(8);
    world.read();
    assert_eq!((stand(&world).as_str(), world.preview.clone()), ("rolled_back 0", Some(theirs)));
}

#[test]
fn a_route_that_somebody_removes_is_put_back_three_times_and_then_asked_about() {
    let mut world = opened_world();
    for _ in 0..3 {
        pass(&mut world, 5, 0.0);
        world.preview = None;
        world.read();
        assert_eq!(stand(&world), "shifting 0 preview");
        world.preview_ends(None);
        world.read();
        assert_eq!(stand(&world), "baking 0 preview", "its time begins anew");
    }
    world.preview = Some(PreviewReading { fits: false, ..opened() });
    world.read();
    assert_eq!((stand(&world).as_str(), world.cause()), ("paused 0 preview", Some(PauseCause::Drift)));
    assert!(world.state.paused.as_ref().unwrap().reason.contains("changed the route of the preview again"));
    world.order("resume");
    world.preview_ends(None);
    world.read();
    world.preview = None;
    world.read();
    assert_eq!(stand(&world), "shifting 0 preview", "a person's word counts as the first time");
}

#[test]
fn a_route_that_cannot_be_made_or_seen_ends_it_by_the_plans_word() {
    let mut world = world();
    world.preview_ends(Some(FaultKind::Permanent));
    assert_eq!(stand(&world), "rolling_back 0");
    for (says, expected) in
        [(OnVerifyTimeout::Rollback, "rolling_back 0"), (OnVerifyTimeout::Pause, "paused 0 preview")]
    {
        let mut plan = previewing(plan(&[10, 100]));
        plan.verify.on_timeout = says;
        let mut world = World::start(plan.clone());
        world.preview_ends(Some(FaultKind::Transient));
        assert_eq!(stand(&world), "shifting 0 preview", "tried again");
        world.wait(60);
        world.preview_ends(Some(FaultKind::Unknown));
        assert_eq!(stand(&world), expected, "made");
        let mut world = World::start(plan.clone());
        world.preview_ends(None);
        world.preview = None;
        world.wait(60);
        world.read();
        assert_eq!(stand(&world), expected, "seen");
        let mut world = open(plan);
        pass(&mut world, 20, 0.0);
        world.wait(60);
        world.tick();
        assert_eq!(stand(&world), expected, "removed");
    }
}

#[test]
fn weight_that_somebody_gives_meanwhile_is_taken_back() {
    let mut world = opened_world();
    world.meddle(70, 30);
    world.read();
    assert_eq!(world.under_way.as_ref().map(|(_, write)| write.canary.1), Some(0));
    world.settle();
    assert_eq!(stand(&world), "baking 0 preview");
    pass(&mut world, 20, 0.0);
    world.preview_ends(None);
    assert_eq!(stand(&world), "shifting 10");
}

#[test]
fn no_answer_about_the_route_is_not_a_bad_answer() {
    let mut world = opened_world();
    for kind in [FaultKind::Transient, FaultKind::Unknown, FaultKind::Permanent] {
        let preview = Some(Err(Fault { kind, source: "app mesh".into(), message: "no".into() }));
        world.give(Event::Observed(Observation {
            route: Some(Ok(world.mesh.clone())),
            live: Some(Ok(world.live())),
            preview,
            ..Observation::default()
        }));
        assert_eq!(stand(&world), "baking 0 preview");
    }
}

#[test]
fn without_a_gate_its_time_is_all() {
    let mut plan = previewing(plan(&[10, 100]));
    plan.gates.retain(|gate| !gate.acts_in_preview());
    let mut world = open(plan);
    world.wait(20);
    world.tick();
    assert!(closing(&world));
}

#[test]
fn it_is_looked_for_while_it_should_be_there_and_where_it_must_be_gone() {
    let mut world = opened_world();
    assert!(watched(&world.plan, &world.state).is_some());
    pass(&mut world, 20, 0.0);
    world.preview_ends(None);
    assert!(watched(&world.plan, &world.state).is_none(), "at a step");
    world.order("abort");
    world.settle();
    assert!(watched(&world.plan, &world.state).is_some(), "at the end");
    assert_eq!(world.state.wanted, Percent::ZERO);
}
