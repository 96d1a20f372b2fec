//! Simulations against the tables of the study that the judge was chosen by, with fixed seeds.

use super::chance::Chance;
use super::engine::prepared;
use super::run::{End, Pace, Run, one, under};
use super::summary::Summary;
use super::world::{Incident, Reporting, Scene, Sessions, World};
use crate::judge::reference::Peer;
use crate::policy::compile;
use crate::policy::plan::Plan;

const HEAD: &str = "version: 1\nname: s\nroute: { mesh: m, router: r, route: t }\nversions: [a, b]\n";
/// The study's ramp: 60 s at each weight, errors with 0.65 of the evidence, and nothing else that ends it.
const RAMP: &str = "steps: [10, 25, 50, 75, 100]
step_defaults: { min: 60s, max: 60s, on_inconclusive: advance }
blast_radius: { failed_requests: 1000000 }
gates:
  - { name: errors, metric: error_rate, compare: stable, tolerate: { ratio: 1.0, add: 0pp } }
  - { name: latency, metric: latency, compare: stable, tolerate: 10% }
";

fn plan(text: &str) -> Plan {
    let compiled = compile("p.yaml", &format!("{HEAD}{text}"));
    prepared(&compiled.unwrap_or_else(|problems| panic!("{problems:?}")).plan).0
}

fn runs(plan: &Plan, world: World, number: u64) -> Vec<Run> {
    let scene = Scene::new(world);
    (0..number).map(|run| one(plan, &scene, Pace::default(), Chance::of_run(1, run))).collect()
}

fn summary(plan: &Plan, world: World, number: u64) -> Summary {
    Summary::of(&runs(plan, world, number))
}

#[test]
fn bad_releases_cost_what_the_study_measured() {
    // Table T4 at 50 requests in a second and 0.1 %; means of 60 runs, whose standard error is a twentieth or so.
    for (p1, failed) in [(0.02, 5.4), (0.05, 4.0), (0.2, 3.8), (1.0, 5.8)] {
        let summary = summary(&plan(RAMP), World::healthy(50.0, 0.001).with_canary_errors(p1), 60);
        assert_eq!(summary.rolled_back.runs, 60, "{p1}");
        assert!((summary.mean_failed() / failed - 1.0).abs() < 0.25, "{p1}: {}", summary.mean_failed());
    }
}

#[test]
fn healthy_releases_are_promoted_when_their_steps_are_over() {
    let summary = summary(&plan(RAMP), World::healthy(50.0, 0.001), 40);
    // The bound is 1 %; four of forty would be far beyond what it explains.
    assert!(summary.rolled_back.runs <= 3 && summary.promoted.runs >= 37, "{summary:?}");
    assert_eq!(summary.promote_s.unwrap().median, 240.0);
}

#[test]
fn an_incident_of_both_blames_nobody_and_other_rules_do() {
    let incident = Incident { errors: 0.05, from_s: 60.0, to_s: 240.0 };
    let world = World { incident: Some(incident), ..World::healthy(50.0, 0.001) };
    assert!(summary(&plan(RAMP), world, 30).rolled_back.runs <= 2);
    let scene = Scene::new(World { incident: Some(Incident { to_s: 480.0, ..incident }), ..world });
    assert_eq!(under(Peer::Flagger5, &scene, Chance::of_run(1, 1)).end, End::RolledBack);
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let scene = Scene::new(World::healthy(50.0, 0.001).with_canary_errors(0.02));
    let run = |seed| one(&plan(RAMP), &scene, Pace::default(), Chance::of_run(seed, 7));
    assert_eq!(run(1), run(1));
    assert!((2..10).any(|seed| run(seed) != run(1)));
}

#[test]
fn counts_that_come_late_cost_what_fails_meanwhile() {
    let dead = World::healthy(50.0, 0.001).with_canary_errors(1.0);
    let late = World { reporting: Reporting { period_s: 60.0, lag_s: 60.0 }, ..dead };
    // Two minutes at 5 in a second: without a single count it does not advance, which the study's ramp did.
    let (at_once, late) = (summary(&plan(RAMP), dead, 20), summary(&plan(RAMP), late, 20));
    assert!(at_once.mean_failed() < 10.0 && (540.0..660.0).contains(&late.mean_failed()), "{late:?}");
    assert_eq!(late.rollback_s.unwrap().median, 120.0);
}

#[test]
fn slow_releases_are_found_by_the_latency_gate() {
    use super::latency::LatencyShape;
    let mut world = World::healthy(50.0, 0.0);
    world.stable.latency = Some(LatencyShape::of_median_ms(50.0, 0.6));
    world.canary.latency = Some(LatencyShape::of_median_ms(100.0, 0.6));
    let slow = summary(&plan(RAMP), world, 10);
    // Table T9: after 6 s and 31 requests.
    assert_eq!(slow.rolled_back.runs, 10);
    assert!(slow.rollback_s.unwrap().mean < 12.0, "{slow:?}");
    assert_eq!(summary(&plan(RAMP), world.with_healthy_canary(), 10).promoted.runs, 10);
}

#[test]
fn errors_in_clusters_are_judged_once_where_sessions_are_known() {
    let sessions = |judged_once| Some(Sessions { requests: 10, judged_once });
    let world = World { sessions: sessions(true), ..World::healthy(500.0, 0.01) };
    let known = summary(&plan(RAMP), world, 20).rolled_back.runs;
    let unknown = summary(&plan(RAMP), World { sessions: sessions(false), ..world }, 20).rolled_back.runs;
    assert!(known <= 1 && unknown >= 5, "{known} {unknown}");
}

#[test]
fn budgets_time_and_patience_end_a_rollout_too() {
    let spent = plan(&RAMP.replace("1000000", "2").replace("add: 0pp }", "add: 0pp }, dry_run: true"));
    let run = |plan: &Plan, world| runs(plan, world, 1)[0];
    let bad = World::healthy(50.0, 0.0).with_canary_errors(0.5);
    assert_eq!(run(&spent, bad).end, End::BudgetSpent);
    let strict = plan("steps: [{ weight: 1, min: 10s, max: 30s, on_inconclusive: rollback }, 100]\n");
    let gave_up = run(&strict, World::healthy(5.0, 0.0));
    assert_eq!((gave_up.end, gave_up.at_s), (End::GaveUp, 30.0));
    let patient = plan("steps: [{ weight: 1, prove_no_worse_than: 0.1pp }, 100]\n");
    let scene = Scene::new(World::healthy(0.5, 0.0));
    let pace = Pace { horizon_s: 600.0, ..Pace::default() };
    let undecided = one(&patient, &scene, pace, Chance::of_run(1, 1));
    assert_eq!((undecided.end, undecided.at_s), (End::Undecided, 600.0));
}

#[test]
fn at_all_the_traffic_a_limit_still_ends_it() {
    let limit = plan(
        "steps: [{ weight: 1, min: 1s, max: 1s, on_inconclusive: advance }, { weight: 100, min: 60s, max: 60s }]\n\
         gates: [{ name: slo, metric: error_rate, max: 1% }]\n",
    );
    let world = World { onset_s: 5.0, ..World::healthy(100.0, 0.0).with_canary_errors(0.3) };
    let run = runs(&limit, world, 1)[0];
    assert!(run.end == End::RolledBack && run.at_s > 5.0, "{run:?}");
    assert_eq!(runs(&limit, world.with_healthy_canary(), 1)[0].end, End::Promoted);
}

#[test]
fn what_is_left_out_is_said() {
    let text = "steps: [10, { approval: { from: [ann] } }, 100]\n\
                gates: [{ name: errors, metric: error_rate, compare: stable }, { name: alive, health: { http: /health } }]\n";
    let compiled = compile("p.yaml", &format!("{HEAD}{text}")).unwrap();
    let (plan, left_out) = prepared(&compiled.plan);
    assert_eq!((plan.steps.len(), plan.gates.len()), (2, 1));
    assert_eq!(left_out, ["people approve at once", "gate `alive` always passes: it is not about requests"]);
}
