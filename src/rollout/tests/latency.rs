//! Latencies compared with stable: the baseline, what is judged and what is not, and what a slow release comes to.

use super::kit::{World, plan};
use crate::base::histogram::Histogram;
use crate::judge::baseline::Baseline;
use crate::judge::verdict::Verdict;
use crate::policy::plan::{Gate, GateRule, Plan};
use crate::rollout::gate::judge;
use crate::rollout::timing::SeenLatency;
use crate::rollout::view::RolloutView;

/// Error rates and latencies compared.
fn timed(weights: &[u8]) -> Plan {
    let mut plan = plan(weights);
    plan.gates.push(Gate::new("latency", GateRule::LatencyAgainstStable { tolerate: 0.1 }));
    plan
}

/// A second's traffic of so many requests, none of which fails.
fn second(world: &mut World, requests: u64) {
    let canary = requests * u64::from(world.mesh.percent_of("v2")) / 100;
    world.traffic((canary, 0), (requests - canary, 0));
    world.wait(1);
    world.read();
}

fn recent(requests: u64) -> Histogram {
    let mut histogram = Histogram::default();
    (0..requests).for_each(|n| histogram.record(5000 + 5000 * (n * 37 % 101) / 100));
    histogram
}

fn is_fixed(world: &World) -> bool {
    matches!(world.state.evidence.timing.baseline, Some(Baseline::Fixed(_)))
}

#[test]
fn a_release_that_is_twice_as_slow_is_rolled_back() {
    let mut world = World::start_with(timed(&[10, 50, 100]), Some(recent(1000)));
    assert!(is_fixed(&world));
    world.latency_us = (10_000, 5000);
    world.run(60, true);
    assert_eq!(world.phase(), "rolled_back");
    let reason = &world.state.ending.as_ref().expect("ended").reason;
    assert!(reason.starts_with("canary p") && reason.contains(" slower: "), "{reason}");
    assert!(reason.contains("chance if at most 1"), "{reason}");
    let view = RolloutView::of(&world.plan, &world.state);
    assert_eq!((view.verdict.as_str(), view.evidence.canary_errors), (reason.as_str(), 0));
    world.check_replay();
}

#[test]
fn one_that_is_as_fast_is_promoted() {
    for baseline in [None, Some(recent(1000))] {
        let mut world = World::start_with(timed(&[10, 50, 100]), baseline);
        world.run(400, true);
        assert_eq!(world.phase(), "succeeded");
        world.check_replay();
    }
}

#[test]
fn a_slowdown_of_both_is_nobodys_fault() {
    let mut world = World::start_with(timed(&[10, 50, 100]), Some(recent(1000)));
    world.latency_us = (20_000, 20_000);
    world.run(400, true);
    assert_eq!(world.phase(), "succeeded");
}

#[test]
fn without_a_known_past_the_first_requests_are_not_judged() {
    let mut world = World::at(timed(&[10, 100]), "baking");
    world.latency_us = (50_000, 5000);
    assert!(!is_fixed(&world));
    for _ in 0..11 {
        second(&mut world, 100);
        assert!(world.state.evidence.blocks.iter().all(|block| block.latency_by_share.is_empty()));
        assert_eq!(judge(&world.plan, &world.state).compared.latency, None);
    }
    // 99 seconds of 90 requests would be 990; the twelfth second brings the thousandth.
    assert!(!is_fixed(&world));
    second(&mut world, 100);
    assert!(is_fixed(&world), "{:?}", world.state.evidence.timing.baseline);
    assert!(world.state.evidence.blocks.iter().all(|block| block.latency_by_share.is_empty()));
    let seen = |world: &World| world.state.evidence.timing.seen["p1"][&world.mesh.version].latency.clone();
    assert_eq!(seen(&world), Some(SeenLatency::Early));
    // The first counts by the thresholds hold requests by which they were chosen.
    second(&mut world, 100);
    assert!(matches!(seen(&world), Some(SeenLatency::Counts(counts)) if counts.canary_requests == 130));
    assert!(world.state.evidence.latency_totals().is_empty());
    second(&mut world, 100);
    let totals = world.state.evidence.latency_totals();
    assert_eq!((totals.canary_requests, totals.stable_requests), (10, 90));
    assert_eq!(totals.canary_slower, [10; 6]);
    second(&mut world, 100);
    assert_eq!(world.state.evidence.latency_totals().canary_requests, 20);
    world.run(30, true);
    assert_eq!(world.phase(), "rolled_back");
    world.check_replay();
}

#[test]
fn a_version_that_is_new_after_the_thresholds_counts_from_its_first_request() {
    let mut world = World::at(timed(&[10, 50, 100]), "baking");
    (0..12).for_each(|_| second(&mut world, 100));
    assert!(is_fixed(&world));
    second(&mut world, 100);
    world.order("promote");
    world.settle();
    second(&mut world, 100);
    let last = world.state.evidence.blocks.last().expect("never empty");
    assert_eq!(last.latency_by_share.keys().copied().collect::<Vec<_>>(), [500_000]);
    assert_eq!(last.latency_by_share[&500_000].canary_requests, 50);
    world.check_replay();
}

#[test]
fn answers_to_what_is_not_asked_count_nothing() {
    let mut world = World::at(timed(&[10, 100]), "baking");
    world.traffic((100, 0), (900, 0));
    let early = world.live();
    let mut other = World::start_with(timed(&[10, 100]), Some(recent(1000)));
    other.settle();
    other.read();
    other.traffic((100, 0), (900, 0));
    let counts = other.live();
    // Histograms where counts are asked for, and the other way round.
    other.state.evidence.absorb(&early, other.now, Some(0.1));
    world.state.evidence.absorb(&counts, world.now, Some(0.1));
    for world in [&other, &world] {
        assert!(world.state.evidence.latency_totals().is_empty());
        assert_eq!(world.state.evidence.totals().canary_requests, 100, "errors count all the same");
    }
    assert!(!is_fixed(&world));
}

#[test]
fn a_dry_run_decides_nothing() {
    let mut plan = timed(&[10, 100]);
    plan.gates[1].dry_run = true;
    let mut world = World::start_with(plan, Some(recent(1000)));
    world.latency_us = (50_000, 5000);
    world.run(400, true);
    assert_eq!(world.phase(), "succeeded");
}

#[test]
fn errors_are_told_where_they_speak_louder() {
    let mut world = World::start_with(timed(&[10, 50, 100]), Some(recent(1000)));
    world.run(60, false);
    assert_eq!(world.phase(), "rolled_back");
    let reason = &world.state.ending.as_ref().expect("ended").reason;
    assert!(reason.contains(" failed ("), "{reason}");
}

#[test]
fn a_gate_on_latency_alone_proves_by_errors_all_the_same() {
    let mut plan = timed(&[10, 100]);
    plan.gates.remove(0);
    let mut world = World::start_with(plan.clone(), Some(recent(1000)));
    world.run(400, true);
    assert_eq!(world.phase(), "succeeded");
    let mut world = World::start_with(plan, Some(recent(1000)));
    world.latency_us = (12_000, 5000);
    world.run(60, true);
    assert_eq!(world.phase(), "rolled_back");
    assert_eq!(judge(&world.plan, &world.state).verdict, Verdict::Fail);
}
