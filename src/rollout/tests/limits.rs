//! Absolute gates: a limit for the canary alone, both arms beyond it, and what goes on at 100 %.

use super::kit::{World, plan};
use crate::base::time::Millis;
use crate::judge::absolute::Outcome;
use crate::policy::plan::{Bound, Gate, GateRule, OnInconclusive, Plan};
use crate::rollout::gate::judge;
use crate::rollout::limits::tested_us;
use crate::rollout::report::GateVerdict;

fn limited(weights: &[u8], rule: GateRule) -> Plan {
    let mut plan = plan(weights);
    plan.gates.push(Gate::new("slo", rule));
    plan.blast_radius.failed_requests = 1_000_000;
    plan
}

fn errors(share: f64) -> GateRule {
    GateRule::ErrorRateLimit { share, bound: Bound::Max }
}

/// Seconds of a hundred requests at the weights in force, of which so many percent fail on each arm.
fn seconds(world: &mut World, seconds: u64, failing: (u64, u64)) {
    for _ in 0..seconds {
        if world.state.is_finished() {
            return;
        }
        if world.under_way.is_some() {
            world.settle();
        }
        let canary = 10 * u64::from(world.mesh.percent_of("v2"));
        let stable = 1000 - canary;
        world.traffic((canary, canary * failing.0 / 100), (stable, stable * failing.1 / 100));
        world.wait(1);
        world.read();
    }
}

fn outcome(world: &World) -> Outcome {
    judge(&world.plan, &world.state).limits[0].outcome
}

fn reason(world: &World) -> &str {
    &world.state.ending.as_ref().expect("ended").reason
}

#[test]
fn a_canary_beyond_the_limit_and_worse_than_stable_is_rolled_back() {
    let mut world = World::start(limited(&[10, 100], errors(0.02)));
    // Without the comparison it is the limit that does it.
    world.plan.gates.remove(0);
    seconds(&mut world, 30, (10, 0));
    assert_eq!(world.phase(), "rolled_back");
    assert!(reason(&world).starts_with("gate slo: canary "), "{}", reason(&world));
    assert!(reason(&world).contains("limit 2 %"), "{}", reason(&world));
    world.check_replay();
}

#[test]
fn when_both_are_beyond_it_nothing_advances_and_somebody_is_told() {
    let mut plan = limited(&[10, 100], errors(0.02));
    for step in &mut plan.steps {
        let crate::policy::plan::Step::Weight(step) = step else { continue };
        step.on_inconclusive = OnInconclusive::Rollback;
    }
    let mut world = World::start(plan);
    seconds(&mut world, 120, (10, 10));
    assert_eq!(world.stand(), "judging 10", "{:?}", world.state.ending);
    assert_eq!(outcome(&world), Outcome::BothBreach);
    let trouble = world.state.trouble.clone().expect("somebody is told");
    assert!(trouble.contains("gate slo"), "{trouble}");
    world.check_replay();
}

#[test]
fn within_the_limit_it_goes_through() {
    let mut world = World::start(limited(&[10, 50, 100], errors(0.05)));
    seconds(&mut world, 300, (0, 0));
    assert_eq!(world.phase(), "succeeded");
}

#[test]
fn at_100_the_limit_alone_decides() {
    let mut world = World::start(limited(&[10, 100], errors(0.02)));
    while world.stand() != "baking 100" {
        seconds(&mut world, 1, (0, 0));
    }
    seconds(&mut world, 8, (30, 0));
    assert!(["rolling_back", "holding", "rolled_back"].contains(&world.phase()), "{}", world.phase());
    assert!(reason(&world).starts_with("gate slo: canary "), "{}", reason(&world));
    world.check_replay();
}

#[test]
fn with_all_traffic_at_once_it_is_the_only_one_that_acts() {
    let mut plan = limited(&[100], errors(0.02));
    plan.gates.remove(0);
    let mut world = World::start(plan.clone());
    seconds(&mut world, 60, (0, 0));
    assert_eq!(world.phase(), "succeeded");
    let mut world = World::start(plan);
    seconds(&mut world, 30, (20, 0));
    assert_eq!(world.phase(), "rolled_back");
}

#[test]
fn a_quantile_is_a_share_of_slow_requests() {
    let limit = Millis(20);
    assert_eq!(tested_us(limit, Bound::Max), 20_480);
    assert_eq!(tested_us(limit, Bound::Min), 18_432);
    assert_eq!(tested_us(Millis(u64::MAX), Bound::Max), u64::MAX);
    let rule = GateRule::LatencyLimit { quantile: 0.95, limit, bound: Bound::Max };
    for (canary_us, phase) in [(30_000, "rolled_back"), (8000, "succeeded")] {
        let mut world = World::start(limited(&[10, 100], rule.clone()));
        world.latency_us = (canary_us, 5000);
        seconds(&mut world, 300, (0, 0));
        assert_eq!(world.phase(), phase);
        world.check_replay();
        if phase == "rolled_back" {
            assert!(reason(&world).contains("slower than 20.5 ms"), "{}", reason(&world));
        }
    }
}

#[test]
fn both_slow_is_held_and_a_dry_run_holds_nothing() {
    let rule = GateRule::LatencyLimit { quantile: 0.5, limit: Millis(20), bound: Bound::Max };
    let mut world = World::start(limited(&[10, 100], rule.clone()));
    world.latency_us = (30_000, 30_000);
    seconds(&mut world, 100, (0, 0));
    assert_eq!((world.stand().as_str(), outcome(&world)), ("judging 10", Outcome::BothBreach));
    let mut plan = limited(&[10, 100], rule);
    plan.gates[1].dry_run = true;
    let mut world = World::start(plan);
    world.latency_us = (30_000, 30_000);
    seconds(&mut world, 300, (0, 0));
    assert_eq!(world.phase(), "succeeded");
}

#[test]
fn each_gate_is_told_by_itself_and_a_dry_run_decides_nothing() {
    let mut plan = limited(&[10, 100], errors(0.02));
    plan.gates[0].dry_run = true;
    plan.gates[1].dry_run = true;
    let rule = GateRule::LatencyAgainstStable { tolerate: 0.1 };
    plan.gates.push(Gate::new("latency", rule));
    let mut world = World::start(plan);
    seconds(&mut world, 60, (10, 0));
    assert_eq!(world.stand(), "judging 10", "{:?}", world.state.ending);
    let views = crate::rollout::report::gate_views(&world.plan, &world.state);
    let told: Vec<(&str, bool, GateVerdict)> =
        views.iter().map(|view| (view.name.as_str(), view.dry_run, view.verdict)).collect();
    let expected = [
        ("errors", true, GateVerdict::Fails),
        ("slo", true, GateVerdict::Fails),
        ("latency", false, GateVerdict::Good),
    ];
    assert_eq!(told, expected, "{views:?}");
    assert_eq!((views[0].against, views[1].against), (Some(1.0), None));
    assert!(views[0].text.contains("chance if no worse"), "{}", views[0].text);
    assert!(views[1].text.contains("limit 2 %") && !views[1].text.starts_with("gate"), "{}", views[1].text);
}

/// A release that mends a failing stable: somebody gives it everything, and nothing is left that could show stable well.
#[test]
fn at_100_what_stable_did_before_holds_nothing() {
    let mut world = World::start(limited(&[10, 100], errors(0.02)));
    seconds(&mut world, 120, (0, 10));
    assert_eq!((world.stand().as_str(), outcome(&world)), ("judging 10", Outcome::StableBreaches));
    world.order("promote full");
    seconds(&mut world, 60, (0, 10));
    assert_eq!(world.phase(), "succeeded", "{:?}", world.state.trouble);
    world.check_replay();
}
