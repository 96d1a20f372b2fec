//! Silence, budgets, and steps without a proof: none of them is a verdict.

use super::kit::{World, inconclusive, plan};
use crate::base::fault::{Fault, FaultKind};
use crate::policy::plan::{OnFailure, OnInconclusive, Plan, Step};
use crate::rollout::event::{Event, LiveReading, Observation, ProxyCounts};
use crate::rollout::state::{Next, PauseCause};
use crate::rollout::view::RolloutView;

/// Good traffic that proves the step, then silence.
fn proven_then_silent(plan: Plan, silence: u64) -> World {
    let mut world = World::at(plan, "baking");
    world.traffic((10_000, 0), (90_000, 0));
    world.read();
    world.silent = true;
    world.wait(silence);
    world.read();
    world
}

#[test]
fn silence_holds_then_withdraws_then_resumes_by_itself() {
    let mut world = proven_then_silent(plan(&[10, 50, 100]), 10);
    assert_eq!(world.stand(), "judging 10", "advanced in silence");
    world.wait(19);
    world.tick();
    assert_eq!(world.stand(), "judging 10");
    world.wait(1);
    world.tick();
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 0", Some(PauseCause::NoData)));
    world.settle();
    world.wait(600);
    world.read();
    assert_eq!(world.stand(), "paused 0");
    world.silent = false;
    world.read();
    assert_eq!(world.stand(), "shifting 10", "back to that step's weight");
    world.run(30, true);
    assert_eq!(world.state.step_index(), Some(2), "it goes on from there");
    world.check_replay();
}

#[test]
fn data_that_come_back_in_time_advance() {
    let mut world = proven_then_silent(plan(&[10, 50, 100]), 29);
    world.silent = false;
    world.read();
    assert_eq!(world.stand(), "shifting 50");
}

#[test]
fn an_error_is_as_good_as_silence_and_no_more() {
    let mut world = proven_then_silent(plan(&[10, 50, 100]), 9);
    world.wait(5);
    let failed = || Some(Err(Fault::transient("live telemetry", "gone")));
    for _ in 0..3 {
        world.give(Event::Observed(Observation { route: None, live: failed(), ..Observation::default() }));
        assert_eq!(world.stand(), "judging 10");
    }
    world.wait(16);
    world.give(Event::Observed(Observation { route: None, live: failed(), ..Observation::default() }));
    assert_eq!(world.stand(), "paused 0");
}

#[test]
fn zero_requests_are_data_and_hold() {
    for what in [OnInconclusive::Hold, OnInconclusive::Advance] {
        let mut world = World::at(inconclusive(plan(&[10, 50, 100]), what), "baking");
        for _ in 0..100 {
            world.wait(5);
            world.read();
        }
        assert_eq!(world.stand(), "judging 10", "{what:?}");
    }
}

#[test]
fn silence_withdraws_under_a_persons_pause_which_stays() {
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    world.order("pause");
    world.silent = true;
    world.wait(30);
    world.tick();
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 0", Some(PauseCause::Person)));
    world.settle();
    world.silent = false;
    world.read();
    assert_eq!(world.stand(), "paused 0", "a person's pause ended by itself");
    world.order("resume");
    assert_eq!(world.stand(), "shifting 10");
}

#[test]
fn a_person_can_take_over_a_pause_for_silence() {
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    world.silent = true;
    world.wait(30);
    world.tick();
    world.settle();
    world.order("pause");
    world.silent = false;
    world.read();
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 0", Some(PauseCause::Person)));
}

#[test]
fn a_withdrawal_that_cannot_be_written_is_never_a_verdict() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.silent = true;
    world.wait(30);
    world.tick();
    for _ in 0..5 {
        let before = world.state.generation;
        world.fail(FaultKind::Unknown);
        assert_eq!((world.stand().as_str(), world.state.generation), ("paused 0", before + 1));
        // Not even answered.
        world.wait(20);
        world.tick();
        assert_eq!((world.stand().as_str(), world.state.generation), ("paused 0", before + 2));
    }
    world.silent = false;
    world.read();
    assert_eq!(world.stand(), "paused 0", "resumed before the weight was 0");
    world.settle();
    world.read();
    assert_eq!(world.stand(), "shifting 10");
}

#[test]
fn evidence_that_comes_back_with_the_data_rolls_back() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.traffic((100, 80), (900, 0));
    world.silent = true;
    world.wait(30);
    world.tick();
    world.settle();
    world.silent = false;
    let Next::Step { effects, .. } = world.read() else { panic!("nothing seen") };
    assert_eq!(world.stand(), "rolling_back 0");
    assert_eq!(effects.len(), 1, "the weight that was not wanted any more is written all the same");
}

#[test]
fn silence_neither_rolls_back_nor_advances_at_the_longest_stay() {
    for what in [OnInconclusive::Advance, OnInconclusive::Rollback] {
        let mut world = World::at(inconclusive(plan(&[10, 50, 100]), what), "baking");
        world.traffic((10, 0), (90, 0));
        world.wait(45);
        world.read();
        world.silent = true;
        world.wait(29);
        world.read();
        assert_eq!(world.stand(), "judging 10", "{what:?}");
        world.silent = false;
        world.read();
        let expected = if what == OnInconclusive::Advance { "shifting 50" } else { "rolling_back 0" };
        assert_eq!(world.stand(), expected);
    }
}

#[test]
fn without_a_proof_the_policy_decides_at_the_longest_stay() {
    for (what, expected) in [
        (OnInconclusive::Hold, "judging 10"),
        (OnInconclusive::Advance, "shifting 50"),
        (OnInconclusive::Rollback, "rolling_back 0"),
    ] {
        let mut world = World::at(inconclusive(plan(&[10, 50, 100]), what), "baking");
        world.traffic((10, 0), (90, 0));
        for _ in 0..59 {
            world.wait(1);
            world.read();
            assert_eq!(world.state.wanted.get(), 10);
        }
        assert_eq!(world.stand(), "judging 10");
        world.wait(1);
        world.read();
        assert_eq!(world.stand(), expected);
    }
}

#[test]
fn a_proof_does_not_shorten_the_shortest_stay() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.traffic((10_000, 0), (90_000, 0));
    world.wait(9);
    world.read();
    assert_eq!(world.stand(), "baking 10");
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "shifting 100");
}

/// One failed request may be charged, and the gates are too slow to see anything.
fn tight() -> Plan {
    let mut plan = plan(&[10, 50, 100]);
    plan.blast_radius.failed_requests = 1;
    plan.max_false_rollback = 1e-300;
    plan
}

#[test]
fn a_spent_budget_pauses_at_zero_and_resume_grants_it_anew() {
    let mut world = World::at(tight(), "baking");
    world.traffic((1000, 14), (9000, 0));
    world.read();
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 0", Some(PauseCause::Budget)));
    assert!(world.state.paused.as_ref().is_some_and(|pause| pause.reason.contains("budget spent")));
    world.settle();
    world.read();
    assert_eq!(world.stand(), "paused 0", "resumed by itself");
    world.order("resume");
    assert_eq!((world.stand().as_str(), world.state.budget_grants), ("shifting 10", 1));
    world.settle();
    world.read();
    assert_eq!(world.stand(), "baking 10", "the grant was not counted");
    world.traffic((100, 15), (900, 0));
    world.read();
    assert_eq!(world.stand(), "paused 0", "the second budget is bounded too");
    world.check_replay();
}

#[test]
fn a_budget_binds_while_gates_are_failing_and_resume_stays_barred() {
    let mut plan = plan(&[10, 50, 100]);
    plan.on_failure = OnFailure::Pause;
    let mut world = World::at(plan, "baking");
    world.traffic((100, 20), (900, 0));
    world.read();
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::GateFailed)));
    world.traffic((400, 100), (3600, 0));
    world.read();
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 0", Some(PauseCause::GateFailed)));
    world.settle();
    world.read();
    for _ in 0..2 {
        world.wait(1);
        assert!(matches!(world.read(), Next::Ignored(_)), "written again and again");
    }
    assert!(matches!(world.order("resume"), Next::Refused(_)));
}

#[test]
fn failing_gates_pause_keeps_the_weight_until_a_person_decides() {
    let mut world = World::at(Plan { on_failure: OnFailure::Pause, ..plan(&[10, 50, 100]) }, "baking");
    world.traffic((100, 20), (900, 0));
    world.read();
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::GateFailed)));
    // Against the gates, by name: then they no longer stand in the way.
    world.order("promote full");
    world.settle();
    world.read();
    assert_eq!(world.stand(), "baking 100");
    assert!(world.state.overruled);
    world.run(30, true);
    assert_eq!(world.phase(), "succeeded");
    world.check_replay();
}

#[test]
fn gates_that_fail_no_more_let_a_person_resume() {
    let mut world = World::at(Plan { on_failure: OnFailure::Pause, ..plan(&[10, 50, 100]) }, "baking");
    world.traffic((30, 3), (270, 0));
    world.read();
    assert_eq!(world.cause(), Some(PauseCause::GateFailed));
    assert!(matches!(world.order("resume"), Next::Refused(_)));
    // A common incident: it was not the release.
    world.traffic((100_000, 100), (900_000, 900));
    world.read();
    assert_eq!(world.cause(), Some(PauseCause::GateFailed), "ended by itself");
    world.order("resume");
    assert_eq!(world.stand(), "shifting 10");
}

#[test]
fn a_verdict_that_needs_more_traffic_says_how_long_that_takes() {
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    // A margin that takes some two thousand requests.
    if let Some(Step::Weight(step)) = world.plan.steps.first_mut() {
        step.prove_no_worse_than = 0.002;
    }
    let seconds = |world: &mut World, seconds: u64, canary: u64| {
        for _ in 0..seconds {
            world.traffic((canary, 0), (9 * canary, 0));
            world.wait(1);
            world.read();
        }
        RolloutView::of(&world.plan, &world.state)
    };
    let view = seconds(&mut world, 4, 2);
    assert_eq!((view.evidence.verdict.as_str(), view.evidence.eta_s), ("inconclusive", None), "too young to tell");
    let view = seconds(&mut world, 16, 2);
    let missing = view.evidence.missing_requests.expect("something is missing");
    assert!((1400..2500).contains(&missing), "{missing}");
    assert_eq!(view.evidence.eta_s, Some(missing.div_ceil(2)));
    assert!(view.verdict.ends_with("min at the present traffic"), "{}", view.verdict);
    // A new block is young: the one before it counts as well.
    seconds(&mut world, 40, 2);
    let view = seconds(&mut world, 10, 10);
    let missing = view.evidence.missing_requests.expect("something is missing");
    let (least, most) = (missing / 5, missing / 2);
    assert!(
        view.evidence.eta_s.is_some_and(|eta| (least..most).contains(&eta)),
        "{:?} for {missing}",
        view.evidence.eta_s
    );
    let view = seconds(&mut world, 45, 10);
    let missing = view.evidence.missing_requests.expect("something is missing");
    assert_eq!(view.evidence.eta_s, Some(missing.div_ceil(10)));
}

/// In a mesh of many services others go on telling of themselves while all that place this route's requests are silent.
#[test]
fn who_does_not_have_the_route_breaks_no_silence() {
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    for _ in 0..30 {
        world.wait(1);
        let proxies = vec![ProxyCounts {
            proxy: "of another service".into(),
            applied: None,
            serving: false,
            versions: Vec::new(),
            fuse: None,
        }];
        let live = Some(Ok(LiveReading { proxies, ..LiveReading::default() }));
        world.give(Event::Observed(Observation {
            route: Some(Ok(world.mesh.clone())),
            live,
            ..Observation::default()
        }));
    }
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 0", Some(PauseCause::NoData)));
    world.check_replay();
}
