//! Fuses: what weights are armed with, and what becomes of a rollout when a proxy's opens.

use super::kit::{World, plan};
use crate::base::fuse::THRESHOLD;
use crate::base::tally::FuseState;
use crate::judge::Counts;
use crate::judge::evidence::ErrorEvidence;
use crate::judge::verdict::Verdict;
use crate::judge::{Tolerance, rollback_threshold};
use crate::policy::plan::{Gate, GateRule, NoiseRule, OnFailure};
use crate::rollout::event::{Event, FuseReading, LiveReading, Observation};
use crate::rollout::fuse::{armed, told};
use crate::rollout::gate::judge;
use crate::rollout::leased;
use crate::rollout::report::{GateVerdict, gate_views};
use crate::rollout::view::RolloutView;

fn reading(world: &World, state: FuseState) -> FuseReading {
    FuseReading {
        rollout: world.state.id.0.clone(),
        state,
        log_e_milli: 7_214,
        threshold_milli: 5_730,
        canary_requests: 41,
        canary_errors: 4,
        stable_errors: 0,
    }
}

/// One round of readings in which the proxies have these fuses.
fn read(world: &mut World, fuses: &[Option<FuseReading>]) {
    let LiveReading { mut proxies, .. } = world.live();
    let first = proxies.remove(0);
    let proxies = fuses.iter().enumerate().map(|(n, fuse)| {
        let mut proxy = first.clone();
        proxy.proxy = format!("p{}", n + 1);
        proxy.fuse.clone_from(fuse);
        proxy
    });
    let reading = LiveReading { proxies: proxies.collect(), ..LiveReading::default() };
    world.give(Event::Observed(Observation {
        route: Some(Ok(world.mesh.clone())),
        live: Some(Ok(reading)),
        ..Observation::default()
    }));
}

fn read_one(world: &mut World, state: FuseState) {
    let fuse = reading(world, state);
    read(world, &[Some(fuse)]);
}

#[test]
fn split_weights_are_armed_by_the_gate_on_errors() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    let fuse = armed(&world.plan, &world.state).expect("is armed");
    let leased = leased(&world.plan, &world.state).expect("is split");
    assert_eq!((leased.fuse.as_ref(), fuse.failures), (Some(&fuse), 5));
    assert_eq!((fuse.canary.as_str(), fuse.rollout.as_str()), ("v2", world.state.id.0.as_str()));
    let alone = rollback_threshold(world.plan.max_false_rollback / 2.0);
    assert!((fuse.threshold.get() - alone).abs() < 1e-8, "{fuse:?}");
    // Beside a gate on latency errors are 0.65 of the whole; a second gate on errors halves that.
    let timed = Gate::new("slow", GateRule::LatencyAgainstStable { tolerate: 0.1 });
    world.plan.gates.push(timed);
    let threshold = |world: &World| armed(&world.plan, &world.state).expect("is armed").threshold.get();
    assert!((threshold(&world) - (alone - 0.65_f64.ln())).abs() < 1e-8);
    // A second proxy that judged requests needs a higher one of each.
    let first = world.state.evidence.seen.values().next().cloned().unwrap_or_default();
    world.state.evidence.seen.insert("p1".into(), first.clone());
    world.state.evidence.seen.insert("p9".into(), first);
    assert!((threshold(&world) - (alone + 2.0_f64.ln() - 0.65_f64.ln())).abs() < 1e-8);
    // A gate that only reports arms nothing.
    world.plan.gates.iter_mut().for_each(|gate| gate.dry_run = true);
    assert_eq!(armed(&world.plan, &world.state), None);
}

#[test]
fn where_noise_is_allowed_for_a_fuse_holds_and_never_trips() {
    let mut plan = plan(&[10, 100]);
    plan.noise = NoiseRule::Fixed { v: 0.25, phi: 1.0 };
    let mut world = World::at(plan, "baking");
    assert_eq!(armed(&world.plan, &world.state).expect("is armed").threshold, *THRESHOLD.end());
    read_one(&mut world, FuseState::Armed);
    assert_eq!(judge(&world.plan, &world.state).thresholds.rollback, rollback_threshold(world.plan.max_false_rollback));
}

#[test]
fn whole_weights_are_not_armed() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.order("abort");
    assert_eq!(armed(&world.plan, &world.state), None);
    assert!(matches!(world.under_way, Some((_, ref write)) if write.fuse.is_none()), "weight 0 is armed");
    let world = World::start(plan(&[100]));
    assert_eq!(armed(&world.plan, &world.state), None);
}

#[test]
fn a_tripped_fuse_rolls_back_and_tells_its_numbers() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    read_one(&mut world, FuseState::Armed);
    assert_eq!(world.phase(), "baking");
    assert_eq!(told(&world.state).as_deref(), Some("armed in one proxy"));
    read_one(&mut world, FuseState::Tripped);
    assert_eq!(world.phase(), "rolling_back");
    let reason = &world.state.ending.as_ref().expect("ends").reason;
    assert_eq!(
        reason,
        "the fuse of proxy p1 tripped: there the canary failed 4 of 41 requests while stable failed 0 (evidence 7.21, trips at \
         5.73)"
    );
    world.check_replay();
}

#[test]
fn a_false_alarm_is_not_armed_again_in_silence() {
    let mut plan = plan(&[10, 50, 100]);
    plan.on_failure = OnFailure::Pause;
    let mut world = World::at(plan, "baking");
    read_one(&mut world, FuseState::Tripped);
    assert_eq!(world.phase(), "paused");
    // The proxy was restarted and knows nothing of it any more.
    read_one(&mut world, FuseState::Armed);
    assert!(told(&world.state).expect("is told").starts_with("the fuse of proxy p1 tripped"));
    let refused = |world: &mut World, order: &str| {
        let before = world.state.clone();
        world.order(order);
        before == world.state
    };
    assert!(refused(&mut world, "promote"), "a step further");
    world.order("resume");
    read_one(&mut world, FuseState::Armed);
    assert_eq!(world.phase(), "paused");
}

#[test]
fn what_is_held_or_lapsed_is_shown_and_no_verdict() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    let of = |world: &World, state| Some(reading(world, state));
    let fuses = [
        of(&world, FuseState::Held),
        of(&world, FuseState::Lapsed),
        of(&world, FuseState::Armed),
        Some(FuseReading { rollout: "another".into(), ..reading(&world, FuseState::Tripped) }),
        None,
    ];
    read(&mut world, &fuses);
    assert_eq!(world.phase(), "baking");
    let view = RolloutView::of(&world.plan, &world.state);
    assert_eq!(
        view.fuses.as_deref(),
        Some(
            "armed in 3 proxies; 1 of 3 proxies held the canary back after too many failures, until they were read; 1 of 3 proxies \
             held it back after a silence of this daemon"
        )
    );
    assert!(!judge(&world.plan, &world.state).fails());
    read_one(&mut world, FuseState::Armed);
    assert_eq!(told(&world.state).as_deref(), Some("armed in one proxy"));
}

#[test]
fn where_one_was_armed_the_gates_here_keep_half_of_the_bound() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    let alpha = world.plan.max_false_rollback;
    assert_eq!(judge(&world.plan, &world.state).thresholds.rollback, rollback_threshold(alpha));
    read_one(&mut world, FuseState::Armed);
    assert_eq!(judge(&world.plan, &world.state).thresholds.rollback, rollback_threshold(alpha / 2.0));
    assert_ne!(judge(&world.plan, &world.state).verdict, Verdict::Fail);
    // A gate by itself is shown by the bound that it is judged by.
    world.plan.gates[0].rule = GateRule::ErrorRateAgainstStable { ratio: 1.0, add: 0.0 };
    world.traffic((30, 3), (270, 0));
    read_one(&mut world, FuseState::Armed);
    assert_eq!(world.phase(), "baking");
    let view = &gate_views(&world.plan, &world.state)[0];
    assert_eq!(view.verdict, GateVerdict::Good, "{view:?}");
    assert!(view.against.is_some_and(|against| (0.9..1.0).contains(&against)), "{view:?}");
    // Two halves are the whole: what the pure test needs for either.
    let mut evidence = ErrorEvidence::new(Tolerance::NONE);
    evidence.batch(0.1, &Counts { canary_requests: 4, canary_errors: 4, stable_requests: 0, stable_errors: 0 });
    assert!(evidence.log_e() > rollback_threshold(alpha / 2.0));
}
