//! Errors of live counts: neither silence nor evidence, with a limit and words of their own.

use super::kit::{World, inconclusive, plan};
use crate::base::time::Millis;
use crate::base::weight::Percent;
use crate::judge::Counts;
use crate::policy::plan::{Bound, Gate, GateRule, HealthProbe, OnInconclusive, OnVerifyTimeout};
use crate::rollout::event::{Event, LiveReading, Observation, ProxyCounts, VersionCounts};
use crate::rollout::report::GateVerdict;
use crate::rollout::state::PauseCause;
use crate::rollout::unusable::{TOLD_AFTER, Unusable};
use crate::rollout::view::RolloutView;

/// As the runner gives it: what contradicts itself is taken out first.
fn give(world: &mut World, live: LiveReading) {
    let live = Some(Ok(world.state.usable(live)));
    world.give(Event::Observed(Observation { route: Some(Ok(world.mesh.clone())), live, ..Observation::default() }));
}

/// The same reading with more failures than requests.
fn contradicting(world: &World) -> LiveReading {
    let mut live = world.live();
    for counts in &mut live.proxies[0].versions {
        counts.counts.canary_errors = counts.counts.canary_requests + 7;
    }
    live
}

fn view(world: &World) -> RolloutView {
    RolloutView::of(&world.plan, &world.state)
}

#[test]
fn counts_that_contradict_themselves_hold_and_are_no_evidence() {
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    world.traffic((10_000, 0), (90_000, 0));
    for reading in 1..=TOLD_AFTER {
        world.wait(4);
        let live = contradicting(&world);
        give(&mut world, live);
        let told = view(&world);
        assert_eq!(told.evidence.canary_requests, 0, "they were judged by");
        assert_eq!(told.evidence.verdict, "error");
        assert!(
            told.verdict.starts_with("error: proxy p1 counts more failures than requests under version"),
            "{told:?}"
        );
        assert!(told.verdict.contains("look at its log, or restart it"), "{}", told.verdict);
        assert_eq!(told.gates[0].verdict, GateVerdict::Error);
        assert_eq!(told.gates[0].text, told.verdict);
        // One reading is a moment; three in a row are worth a person's time.
        assert_eq!(told.trouble.as_deref(), (reading == TOLD_AFTER).then_some(told.verdict.as_str()));
    }
    assert_eq!(world.stand(), "judging 10", "advanced on an error, or was rolled back by one");
    let inputs = world.inputs.len();
    let live = contradicting(&world);
    give(&mut world, live);
    assert_eq!(world.inputs.len(), inputs, "more of the same is written down");
    world.read();
    assert_eq!((world.stand().as_str(), view(&world).evidence.verdict.as_str()), ("shifting 50", "pass"));
    world.check_replay();
}

#[test]
fn where_no_proxy_can_be_judged_by_the_canary_loses_its_weight_as_in_silence() {
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    world.traffic((100, 0), (900, 0));
    world.read();
    for _ in 0..29 {
        world.wait(1);
        let live = contradicting(&world);
        give(&mut world, live);
        assert_eq!(world.state.wanted.get(), 10);
    }
    world.wait(1);
    let live = contradicting(&world);
    give(&mut world, live);
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 0", Some(PauseCause::NoData)));
    let told = view(&world);
    let reason = told.reason.unwrap();
    assert!(
        reason.starts_with("error: no proxy has told counts for 30s that can be judged by (proxy p1 counts"),
        "{reason}"
    );
    assert!(told.verdict.starts_with("error: proxy p1"), "{}", told.verdict);
    assert!(told.outcome.is_none(), "no verdict on the release");
    world.settle();
    let live = contradicting(&world);
    give(&mut world, live);
    assert_eq!(world.stand(), "paused 0", "an error is not heard");
    world.read();
    assert_eq!(world.stand(), "shifting 10", "by itself, to that step's weight");
    world.check_replay();
}

/// What is there and cannot be read need not be a proxy of the route: it holds nothing, and a person is told.
#[test]
fn what_other_proxies_count_is_judged_all_the_same() {
    let unreadable = || vec![Unusable { proxy: "10.0.0.5:9901".into(), why: "answers with status 500".into() }];
    let read = |world: &mut World| {
        let live = LiveReading { unusable: unreadable(), ..world.live() };
        give(world, live);
    };
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    world.traffic((10, 0), (90, 0));
    for _ in 0..40 {
        world.wait(1);
        read(&mut world);
    }
    let told = view(&world);
    assert_eq!((world.stand().as_str(), told.evidence.verdict.as_str()), ("judging 10", "inconclusive"));
    let trouble = told.trouble.unwrap();
    assert!(trouble.contains("proxy 10.0.0.5:9901 answers with status 500: only what the others count"), "{trouble}");
    world.traffic((10_000, 0), (90_000, 0));
    read(&mut world);
    assert_eq!(world.stand(), "shifting 50");
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    world.traffic((400, 300), (3600, 1));
    read(&mut world);
    assert_eq!(world.stand(), "rolling_back 0");
    assert!(view(&world).verdict.contains("chance if no worse"), "{}", view(&world).verdict);
}

/// A good proxy, and others whose counts cannot be true.
fn beside_contradicting(world: &World, others: usize) -> LiveReading {
    let (mut live, odd) = (world.live(), contradicting(world));
    live.proxies
        .extend((0..others).map(|number| ProxyCounts { proxy: format!("odd{number}"), ..odd.proxies[0].clone() }));
    live
}

#[test]
fn an_error_neither_advances_nor_rolls_back_at_the_longest_stay() {
    for what in [OnInconclusive::Advance, OnInconclusive::Rollback] {
        let mut world = World::at(inconclusive(plan(&[10, 50, 100]), what), "baking");
        world.traffic((10, 0), (90, 0));
        for _ in 0..90 {
            world.wait(1);
            let live = beside_contradicting(&world, 1);
            give(&mut world, live);
        }
        assert_eq!(world.stand(), "judging 10", "{what:?}");
        world.wait(1);
        world.read();
        let expected = if what == OnInconclusive::Advance { "shifting 50" } else { "rolling_back 0" };
        assert_eq!(world.stand(), expected);
    }
}

#[test]
fn however_many_proxies_cannot_be_judged_by_none_of_them_is_heard() {
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    world.traffic((100, 0), (900, 0));
    world.read();
    for _ in 0..30 {
        world.wait(1);
        let mut live = beside_contradicting(&world, 12);
        live.proxies.remove(0);
        give(&mut world, live);
    }
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 0", Some(PauseCause::NoData)));
}

/// Proxies tell the truth about the weights of before while the step's cannot be written.
#[test]
fn counts_under_weights_that_could_not_be_replaced_are_judged() {
    let mut plan = plan(&[10, 50, 100]);
    plan.verify.on_timeout = OnVerifyTimeout::Pause;
    let mut world = World::at(plan, "baking");
    world.traffic((100, 2), (900, 3));
    world.read();
    let version = world.mesh.version;
    world.state.wanted = Percent::new(50).unwrap();
    let counted = world.live().proxies[0].versions[0].counts;
    let more = Counts { canary_requests: 200, canary_errors: 90, ..counted };
    let versions = vec![VersionCounts::new(version, 100_000, more)];
    let proxies = vec![ProxyCounts { versions: versions.clone(), ..world.live().proxies[0].clone() }];
    let usable = world.state.usable(LiveReading { proxies, ..LiveReading::default() });
    assert_eq!((&usable.proxies[0].versions, usable.unusable.as_slice()), (&versions, [].as_slice()));
}

#[test]
fn what_cannot_be_true_is_found_and_nothing_else() {
    let mut world = World::at(plan(&[10, 50, 100]), "baking");
    world.traffic((100, 2), (900, 3));
    world.read();
    let (version, counted) = (world.mesh.version, world.live().proxies[0].versions[0].counts);
    let of = |version, share_ppm, counts| VersionCounts::new(version, share_ppm, counts);
    let more = Counts { canary_requests: 101, stable_errors: 4, ..counted };
    let rows = [
        (vec![of(version, 100_000, more)], None),
        // What lies before the rollout is not judged, and another route may have been there.
        (vec![of(0, 0, Counts::default()), of(version, 100_000, counted)], None),
        (vec![], None),
        (vec![of(version, 100_000, Counts { stable_errors: 901, ..more })], Some("counts more failures than requests")),
        (vec![of(version, 100_000, Counts { canary_requests: 99, ..more })], Some("counts fewer requests or failures")),
        (vec![of(version, 100_000, Counts { stable_errors: 2, ..more })], Some("counts fewer requests or failures")),
        // Of weights of before a proxy forgets the oldest.
        (vec![of(version - 1, 100_000, Counts::default()), of(version, 100_000, more)], None),
        (vec![of(version + 1, 1_000_001, Counts::default())], Some("tells a weight above 100 %")),
    ];
    for (versions, expected) in rows {
        let proxy = |name: &str, versions| ProxyCounts {
            proxy: name.into(),
            applied: None,
            serving: false,
            versions,
            fuse: None,
        };
        let good = vec![of(version, 100_000, counted)];
        let proxies = vec![proxy("p1", versions.clone()), proxy("p9", good.clone())];
        let usable = world.state.usable(LiveReading { proxies, ..LiveReading::default() });
        assert_eq!(usable.proxies[1].versions, good, "the other one is believed");
        match (usable.unusable.as_slice(), expected) {
            ([], None) => assert_eq!(usable.proxies[0].versions, versions),
            ([Unusable { proxy, why }], Some(expected)) => {
                assert!(proxy == "p1" && why.starts_with(expected), "{why}");
                assert!(usable.proxies[0].versions.is_empty());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn gates_that_are_not_about_live_counts_are_not_in_error() {
    let mut plan = plan(&[10, 100]);
    let probe = HealthProbe::Tcp;
    let rule = GateRule::Health { probe, interval: Millis::from_seconds(5), breaches: 3 };
    plan.gates.push(Gate::new("alive", rule));
    let rule = GateRule::ErrorRateLimit { share: 0.01, bound: Bound::Max };
    plan.gates.push(Gate { dry_run: true, ..Gate::new("slo", rule) });
    let mut world = World::at(plan, "baking");
    world.traffic((10, 0), (90, 0));
    let live = contradicting(&world);
    give(&mut world, live);
    let verdicts = view(&world).gates.into_iter().map(|gate| gate.verdict);
    assert_eq!(verdicts.collect::<Vec<_>>(), [GateVerdict::Error, GateVerdict::Holds, GateVerdict::Error]);
}
