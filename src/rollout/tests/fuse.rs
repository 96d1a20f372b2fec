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
use crate::rollout::fuse::armed;
use crate::rollout::fuse_view::{FuseView, opened, told};
use crate::rollout::gate::judge;
use crate::rollout::leased;
use crate::rollout::report::{GateVerdict, gate_views};
use crate::rollout::state::Phase;
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
        errors_since_acknowledged: 3,
    }
}

fn said(world: &World) -> String {
    told(&world.plan, &world.state).expect("is told")
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
    // So do three that served the route when it began, before any of them has judged one; then it is the most of the two.
    world.state.past.proxies = 3;
    assert!((threshold(&world) - (alone + 3.0_f64.ln() - 0.65_f64.ln())).abs() < 1e-8);
    world.state.evidence.seen.clear();
    assert!((threshold(&world) - (alone + 3.0_f64.ln() - 0.65_f64.ln())).abs() < 1e-8);
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
    let threshold = armed(&world.plan, &world.state).expect("is armed").threshold.get();
    assert_eq!(said(&world), format!("armed in one proxy, trips at evidence {threshold:.2}"));
    assert_eq!(FuseView::of(&world.plan, &world.state).and_then(|fuse| fuse.threshold), Some(threshold));
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
    assert!(said(&world).starts_with("the fuse of proxy p1 tripped"));
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
    let at = world.state.at.rfc3339();
    let threshold = armed(&world.plan, &world.state).expect("is armed").threshold.get();
    assert_eq!(
        view.fuses.as_deref(),
        Some(&*format!(
            "armed in 3 proxies, each trips at evidence {threshold:.2}; held the canary back once in proxy p1 after 3 failures between \
                 two readings, at {at}; 1 of 3 proxies held it back after a silence of this daemon"
        ))
    );
    assert!(!judge(&world.plan, &world.state).fails());
    let before = view.fuse.expect("is told");
    assert_eq!((before.armed, before.most, before.held, before.lapsed, before.holds), (3, 3, 1, 1, 1));
    assert_eq!(opened(None, Some(&before)), ["proxy p1 held the canary back after 3 failures between two readings"]);
    read_one(&mut world, FuseState::Held);
    let now = FuseView::of(&world.plan, &world.state).expect("is told");
    assert_eq!((now.armed, now.most, now.held, now.lapsed, now.holds), (1, 3, 1, 0, 2));
    assert_eq!(opened(Some(&before), Some(&now)).len(), 1);
    read_one(&mut world, FuseState::Armed);
    assert!(
        said(&world).contains("; held the canary back 2 times, last in proxy p1 after 3 failures"),
        "{}",
        said(&world)
    );
    assert_eq!(opened(Some(&now), FuseView::of(&world.plan, &world.state).as_ref()), Vec::<String>::new());
}

#[test]
fn what_fuses_did_is_told_after_the_end() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    read_one(&mut world, FuseState::Armed);
    let mut quiet = world.state.clone();
    let tripped =
        |n: usize, world: &World| (0..n).map(|_| Some(reading(world, FuseState::Tripped))).collect::<Vec<_>>();
    let fuses = tripped(20, &world);
    read(&mut world, &fuses);
    read(&mut world, &fuses);
    let view = FuseView::of(&world.plan, &world.state).expect("is told");
    assert_eq!((view.trips.len(), view.trips[0].proxy.as_str(), view.trips[16].proxy.as_str()), (17, "p1", "p17"));
    assert!(view.trips.iter().all(|trip| (trip.failures_charged, trip.canary_errors) == (3, 4) && trip.at.is_some()));
    assert_eq!(opened(None, Some(&view)).len(), 17);
    assert!(said(&world).contains("; the fuse of proxy p17 tripped: "), "{}", said(&world));
    // The same once it is over, where nothing is armed any more.
    let said_before = said(&world);
    world.state.phase = Phase::RolledBack;
    assert_eq!(said(&world), said_before);
    quiet.phase = Phase::Succeeded;
    assert_eq!(told(&world.plan, &quiet).as_deref(), Some("was armed in one proxy; none tripped or held"));
    assert_eq!(FuseView::of(&world.plan, &quiet).expect("is told").threshold, None);
}

#[test]
fn that_no_proxy_has_one_is_told_where_one_is_wanted() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    assert_eq!(told(&world.plan, &world.state), None, "nobody is read yet");
    world.state.evidence.seen.insert("p1".into(), std::collections::BTreeMap::default());
    assert!(said(&world).starts_with("armed in no proxy"), "{}", said(&world));
    world.plan.gates.iter_mut().for_each(|gate| gate.dry_run = true);
    assert_eq!(told(&world.plan, &world.state), None);
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
