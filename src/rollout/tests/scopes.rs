//! Gates that act in some parts of a rollout only, what they weigh, and what their failure does.

use super::kit::{World, percent, plan};
use super::signals::{AT_MOST_10, gate as signal};
use crate::base::tally::FuseState;
use crate::base::time::{Millis, Timestamp};
use crate::judge::points::PointReading;
use crate::judge::verdict::Verdict;
use crate::judge::{Counts, rollback_threshold};
use crate::policy::plan::{Bound, Gate, GateRule, HealthProbe, OnFailure, Plan, Scope};
use crate::rollout::compare::parts;
use crate::rollout::event::{ArmReading, Event, FuseReading, Observation, PointsReading};
use crate::rollout::explain::explain;
use crate::rollout::fuse::armed;
use crate::rollout::gate::judge;
use crate::rollout::report::{GateVerdict, gate_views};
use crate::rollout::state::{Next, PauseCause};
use proptest::prelude::*;

fn at(weight: u8) -> Scope {
    Scope::Weight(percent(weight))
}

fn alive(during: &[Scope]) -> Gate {
    let (interval, breaches) = (Millis::from_seconds(5), 3);
    let rule = GateRule::Health { probe: HealthProbe::Tcp, interval, breaches };
    Gate { during: during.to_vec(), ..Gate::new("alive", rule) }
}

fn errors(name: &str) -> Gate {
    Gate::new(name, GateRule::ErrorRateAgainstStable { ratio: 1.0, add: 0.001 })
}

fn slow() -> Gate {
    Gate::new("slow", GateRule::LatencyAgainstStable { tolerate: 0.1 })
}

fn slo(during: &[Scope]) -> Gate {
    let rule = GateRule::ErrorRateLimit { share: 0.02, bound: Bound::Max };
    Gate { during: during.to_vec(), ..Gate::new("slo", rule) }
}

/// A plan with these gates, whose budget is no matter.
fn with(weights: &[u8], gates: &[Gate]) -> Plan {
    let mut plan = plan(weights);
    plan.gates = gates.to_vec();
    plan.blast_radius.failed_requests = 1_000_000;
    plan
}

fn points(gate: &str, is_good: bool, at: Timestamp) -> Event {
    let arm = |value: f64| ArmReading { point: PointReading::of(at, value), note: None };
    let canary = arm(if is_good { 0.0 } else { 100.0 });
    let points = vec![PointsReading { gate: gate.into(), canary, stable: arm(0.0) }];
    Event::Observed(Observation { points, ..Observation::default() })
}

/// A second, and then a point of both versions of which the canary's is as said.
fn point(world: &mut World, gate: &str, is_good: bool) -> Next {
    world.wait(1);
    let now = world.now;
    world.give(points(gate, is_good, now))
}

/// Good traffic until it stands so.
fn reach(world: &mut World, stand: &str) {
    for _ in 0..300 {
        if world.stand() == stand {
            return;
        }
        world.run(1, true);
    }
    panic!("stands at {} and not {stand}: {:?}", world.stand(), world.state.ending);
}

/// A hand takes the next step, which is then in force.
fn promote(world: &mut World) {
    world.order("promote");
    world.settle();
    world.read();
}

fn reason(world: &World) -> &str {
    &world.state.ending.as_ref().expect("ended").reason
}

// === during ===

#[test]
fn a_gate_that_does_not_act_neither_fails_nor_holds() {
    for during in [vec![at(50)], vec![at(50), Scope::Bake]] {
        let mut world = World::at(with(&[10, 50, 100], &[errors("errors"), alive(&during)]), "baking");
        for _ in 0..3 {
            assert_eq!(point(&mut world, "alive", false), Next::Ignored("nothing new"));
        }
        let view = &gate_views(&world.plan, &world.state)[1];
        let told = if during.len() == 1 { "at 50 %" } else { "at 50 % and at 100 %" };
        assert_eq!(
            (view.verdict, view.text.as_str()),
            (GateVerdict::Idle, &*format!("does not act now: it does {told}"))
        );
        // Nothing was ever answered, and still it is no reason to stay.
        reach(&mut world, "baking 50");
        world.run(60, true);
        assert_eq!(world.stand(), "judging 50", "without an answer it holds where it acts");
        assert_eq!(gate_views(&world.plan, &world.state)[1].verdict, GateVerdict::Holds);
        (0..3).for_each(|_| drop(point(&mut world, "alive", false)));
        assert_eq!(world.phase(), "rolling_back");
        assert!(reason(&world).starts_with("gate alive: "), "{}", reason(&world));
        world.check_replay();
    }
}

#[test]
fn a_reading_where_its_gate_does_not_act_is_no_news() {
    let mut world = World::at(with(&[10, 50, 100], &[errors("errors"), alive(&[at(50)])]), "baking");
    let reading = |world: &World| {
        let arm = ArmReading { point: PointReading::of(world.now, 1.0), note: None };
        PointsReading { gate: "alive".into(), canary: arm.clone(), stable: arm }
    };
    assert!(!world.state.is_news(&world.plan, &reading(&world)));
    promote(&mut world);
    assert!(world.state.is_news(&world.plan, &reading(&world)));
}

#[test]
fn bad_points_on_both_sides_of_a_gap_are_not_in_a_row() {
    let mut world = World::at(with(&[10, 50, 95, 100], &[errors("errors"), alive(&[at(10), at(95)])]), "baking");
    (0..2).for_each(|_| drop(point(&mut world, "alive", false)));
    promote(&mut world);
    promote(&mut world);
    assert_eq!(world.stand(), "baking 95");
    (0..2).for_each(|_| drop(point(&mut world, "alive", false)));
    assert_eq!(world.stand(), "baking 95", "two and two are not three in a row");
    point(&mut world, "alive", false);
    assert_eq!(world.phase(), "rolling_back");
    world.check_replay();
    // From one step where it acts to the next one there is no gap.
    let mut world = World::at(with(&[10, 50, 100], &[errors("errors"), alive(&[at(10), at(50)])]), "baking");
    (0..2).for_each(|_| drop(point(&mut world, "alive", false)));
    promote(&mut world);
    point(&mut world, "alive", false);
    assert_eq!(world.phase(), "rolling_back");
}

#[test]
fn points_of_a_time_when_it_did_not_act_do_not_count() {
    let queue = |during: &[Scope]| Gate { during: during.to_vec(), ..signal("depth", AT_MOST_10) };
    // A source that is late tells of the step before.
    let late = |during: &[Scope]| {
        let mut world = World::at(with(&[10, 50, 100], &[errors("errors"), queue(during)]), "baking");
        world.wait(2);
        let then = world.now;
        world.wait(5);
        promote(&mut world);
        world.wait(5);
        for n in 0..3 {
            world.give(points("queue", false, then.plus(Millis(n))));
        }
        world
    };
    assert_eq!(late(&[]).phase(), "rolling_back", "where it acts everywhere they do");
    assert_eq!(late(&[Scope::Steps, Scope::Bake]).phase(), "rolling_back", "and so where that is said");
    let mut world = late(&[at(50)]);
    assert_eq!(world.stand(), "baking 50");
    assert!(world.state.points.is_empty(), "{:?}", world.state.points);
    (0..3).for_each(|_| drop(point(&mut world, "queue", false)));
    assert_eq!(world.phase(), "rolling_back");
    world.check_replay();
}

#[test]
fn requests_drawn_where_a_gate_does_not_act_do_not_count() {
    let failing = |world: &mut World| {
        world.traffic((1000, 100), (9000, 0));
        world.wait(1);
        world.read();
    };
    let mut everywhere = World::at(with(&[10, 100], &[slo(&[])]), "baking");
    failing(&mut everywhere);
    assert_eq!(everywhere.phase(), "rolling_back");
    let mut world = World::at(with(&[10, 100], &[slo(&[Scope::Bake])]), "baking");
    failing(&mut world);
    assert_eq!(world.stand(), "baking 10");
    let view = |world: &World| gate_views(&world.plan, &world.state).remove(0);
    assert_eq!(view(&world).verdict, GateVerdict::Idle);
    promote(&mut world);
    world.run(5, true);
    assert_eq!(view(&world).verdict, GateVerdict::Good, "{:?}", view(&world));
    let canary = view(&world).figures.expect("has some").canary;
    assert_eq!(canary, Some(0.0), "the figures are those of where it acts");
    world.run(1, false);
    assert_eq!(world.phase(), "rolling_back");
    assert!(reason(&world).starts_with("gate slo: canary "), "{}", reason(&world));
    world.check_replay();
}

#[test]
fn a_comparison_is_by_the_weights_at_which_it_acts() {
    let scoped = |during: &[Scope]| {
        let gate = Gate { during: during.to_vec(), ..errors("errors") };
        let mut world = World::at(with(&[10, 50, 100], &[gate]), "baking");
        world.traffic((10, 10), (90, 0));
        world.wait(1);
        world.read();
        world
    };
    assert_eq!(scoped(&[]).phase(), "rolling_back");
    assert_eq!(scoped(&[at(10)]).phase(), "rolling_back");
    let mut world = scoped(&[at(50)]);
    assert_eq!(judge(&world.plan, &world.state).finding.worse_log_e, 0.0, "no gate acts, so there is no evidence");
    promote(&mut world);
    assert!(judge(&world.plan, &world.state).finding.worse_log_e < 0.1, "what was at 10 % does not count");
    world.traffic((40, 40), (40, 0));
    world.wait(1);
    world.read();
    assert_eq!(world.phase(), "rolling_back");
    assert!(reason(&world).starts_with("canary 40/40 failed"), "its own counts are told: {}", reason(&world));
    world.check_replay();
}

#[test]
fn what_was_counted_below_and_comes_late_speaks_at_100() {
    for (during, ends) in [(vec![], true), (vec![Scope::Steps], true), (vec![at(50)], true), (vec![at(10)], false)] {
        let gate = Gate { during: during.clone(), ..errors("errors") };
        let mut world = World::at(with(&[10, 50, 100], &[gate]), "baking");
        promote(&mut world);
        world.traffic((40, 40), (40, 0));
        world.order("promote");
        world.wait(1);
        world.read();
        assert_eq!(world.phase() == "rolling_back", ends, "{during:?}: {}", world.stand());
    }
}

// === weight ===

#[test]
fn parts_are_the_usual_ones_until_a_gate_has_a_weight() {
    let of = |gates: &[Gate]| {
        let plan = with(&[10, 100], gates);
        parts(&plan).iter().map(|(gate, part)| (gate.name.clone(), *part)).collect::<Vec<_>>()
    };
    let named =
        |parts: &[(&str, f64)]| parts.iter().map(|(name, part)| ((*name).to_owned(), *part)).collect::<Vec<_>>();
    assert_eq!(of(&[slow(), errors("errors")]), named(&[("errors", 0.65), ("slow", 1.0 - 0.65)]));
    assert_eq!(of(&[errors("a"), errors("b"), slo(&[])]), named(&[("a", 0.5), ("b", 0.5)]));
    assert_eq!(of(&[slow()]), named(&[("slow", 1.0)]));
    let weighing = |gate: Gate, weight| Gate { weight: Some(weight), ..gate };
    let three = weighing(errors("errors"), 3.0);
    assert_eq!(of(&[three.clone(), slow()]), named(&[("errors", 0.75), ("slow", 0.25)]));
    let both = [weighing(errors("a"), 1.0), weighing(slow(), 4.0)];
    assert_eq!(of(&both), named(&[("a", 0.2), ("slow", 0.8)]));
    let dry = Gate { dry_run: true, ..three };
    assert_eq!(of(&[dry, slow()]), named(&[("slow", 1.0)]), "what only reports has no part");
}

/// A world in which so many requests reached the canary at 10 % and all failed, and nine times as many reached stable.
fn failed(gates: &[Gate], requests: u64) -> World {
    let mut world = World::at(with(&[10, 100], gates), "baking");
    world.traffic((requests, requests), (9 * requests, 0));
    world.read();
    world
}

#[test]
fn a_larger_part_needs_fewer_failures() {
    let weighing = |weight| [Gate { weight: Some(weight), ..errors("errors") }, slow()];
    let needed = |gates: &[Gate]| (1..20).find(|requests| failed(gates, *requests).phase() == "rolling_back");
    assert_eq!(needed(&[errors("errors"), slow()]), Some(3), "as without weights");
    assert_eq!(needed(&weighing(2.0)), Some(3));
    assert_eq!(needed(&weighing(1.0)), Some(4));
    assert_eq!(needed(&weighing(0.01)), Some(5));
}

#[test]
fn a_part_is_not_lent_while_its_gate_does_not_act() {
    let alone = failed(&[errors("errors")], 2);
    let alone = judge(&alone.plan, &alone.state).finding.worse_log_e;
    let idle = Gate { during: vec![at(50)], ..errors("later") };
    let gates = [errors("errors"), idle];
    let mut world = World::at(with(&[10, 50, 100], &gates), "baking");
    world.traffic((2, 2), (18, 0));
    world.read();
    let beside = judge(&world.plan, &world.state).finding.worse_log_e;
    assert!((beside - (alone + 0.5_f64.ln())).abs() < 1e-12, "{beside} and {alone}");
}

// === on_failure ===

fn pausing(gate: Gate) -> Gate {
    Gate { on_failure: Some(OnFailure::Pause), ..gate }
}

#[test]
fn a_gate_of_pause_keeps_the_weight_and_asks_a_person() {
    let mut world = World::at(with(&[10, 100], &[errors("errors"), pausing(slo(&[]))]), "baking");
    // Both fail alike in what the comparison tolerates; the canary is beyond the limit, and stable is not by itself.
    world.plan.gates[0].rule = GateRule::ErrorRateAgainstStable { ratio: 1000.0, add: 0.5 };
    world.traffic((1000, 100), (9000, 0));
    world.wait(1);
    world.read();
    assert_eq!((world.stand().as_str(), world.cause()), ("paused 10", Some(PauseCause::GateFailed)));
    let said = &world.state.paused.as_ref().expect("is paused").reason;
    assert!(said.starts_with("gate slo: "), "{said}");
    assert!(matches!(world.order("resume"), Next::Refused(_)), "it still fails");
    // A critical gate that fails meanwhile rolls back.
    world.plan.gates[0] = errors("errors");
    world.wait(1);
    world.traffic((1000, 100), (9000, 0));
    world.read();
    assert_eq!(world.phase(), "rolling_back");
    assert!(reason(&world).starts_with("canary 200/2,000 failed"), "{}", reason(&world));
}

#[test]
fn a_gate_of_rollback_does_not_wait_where_the_policy_pauses() {
    let mut plan = with(&[10, 100], &[errors("errors"), Gate { on_failure: Some(OnFailure::Rollback), ..alive(&[]) }]);
    plan.on_failure = OnFailure::Pause;
    let mut world = World::at(plan, "baking");
    world.traffic((10, 10), (90, 0));
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "paused 10");
    (0..3).for_each(|_| drop(point(&mut world, "alive", false)));
    assert_eq!(world.phase(), "rolling_back");
    assert!(reason(&world).starts_with("gate alive: "), "{}", reason(&world));
    world.check_replay();
}

#[test]
fn what_only_all_have_shown_together_pauses() {
    // Both see the same; half of the bound is each one's.
    let gates = [errors("critical"), pausing(errors("asks"))];
    let stands: Vec<String> = (1..=4).map(|requests| failed(&gates, requests).stand()).collect();
    assert_eq!(stands, ["baking 10", "baking 10", "paused 10", "rolling_back 0"]);
    let world = failed(&gates, 3);
    let judgement = judge(&world.plan, &world.state);
    assert_eq!((judgement.verdict, judgement.action()), (Verdict::Fail, Some(OnFailure::Pause)));
    // Whoever says it alone has all of it.
    assert_eq!(failed(&[pausing(errors("asks"))], 3).stand(), "paused 10");
    assert_eq!(failed(&[errors("critical")], 3).stand(), "rolling_back 0");
    let mut twice = failed(&gates, 3);
    twice.traffic((1, 1), (9, 0));
    twice.wait(1);
    twice.read();
    assert_eq!(twice.phase(), "rolling_back", "a pause does not keep it");
    twice.check_replay();
}

#[test]
fn who_overrules_a_gate_of_pause_has_not_overruled_the_others() {
    let mut world = World::at(with(&[10, 100], &[errors("errors"), pausing(slo(&[])), alive(&[])]), "baking");
    world.plan.gates[0].rule = GateRule::ErrorRateAgainstStable { ratio: 1000.0, add: 0.5 };
    point(&mut world, "alive", true);
    world.traffic((1000, 100), (9000, 0));
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "paused 10");
    world.order("promote full");
    assert!(world.state.pauses_overruled && !world.state.overruled);
    world.settle();
    world.traffic((1000, 100), (0, 0));
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "baking 100", "the limit is overruled");
    (0..3).for_each(|_| drop(point(&mut world, "alive", false)));
    assert_eq!(world.phase(), "rolling_back");
    // Where none would roll back a person overrules all of them.
    let mut plan = with(&[10, 100], &[errors("errors")]);
    plan.on_failure = OnFailure::Pause;
    let mut world = World::at(plan, "baking");
    world.traffic((10, 10), (90, 0));
    world.read();
    world.order("promote full");
    assert!(world.state.overruled && !world.state.pauses_overruled);
}

// === fuses ===

fn threshold(world: &World) -> Option<f64> {
    armed(&world.plan, &world.state).map(|fuse| fuse.threshold.get())
}

#[test]
fn fuses_are_armed_with_the_part_of_the_gate_that_acts() {
    let alone = rollback_threshold(0.01 / 2.0);
    let arming = |gates: &[Gate]| World::at(with(&[10, 50, 100], gates), "baking");
    let near = |world: &World, part: f64| {
        let threshold = threshold(world).expect("is armed");
        assert!((threshold - (alone - part.ln())).abs() < 1e-8, "{threshold} for a part of {part}");
    };
    near(&arming(&[Gate { weight: Some(3.0), ..errors("errors") }, slow()]), 0.75);
    let later = Gate { during: vec![at(50)], ..errors("later") };
    let mut world = arming(std::slice::from_ref(&later));
    assert_eq!(threshold(&world), None, "it does not act at 10 %");
    promote(&mut world);
    near(&world, 1.0);
    near(&arming(&[later, errors("errors")]), 0.5);
    // Of two the one that rolls back: what a proxy does is nearer to that than to a pause.
    let lax = Gate::new("lax", GateRule::ErrorRateAgainstStable { ratio: 3.0, add: 0.2 });
    let world = arming(&[pausing(lax.clone()), errors("errors")]);
    assert_eq!(armed(&world.plan, &world.state).map(|fuse| fuse.ratio.get()), Some(1.0));
    let world = arming(&[pausing(lax)]);
    assert_eq!(armed(&world.plan, &world.state).map(|fuse| fuse.ratio.get()), Some(3.0));
}

#[test]
fn a_fuse_that_tripped_does_what_its_gate_does() {
    for (gate, stand) in [(errors("errors"), "rolling_back 0"), (pausing(errors("errors")), "paused 10")] {
        let mut world = World::at(with(&[10, 100], &[gate]), "baking");
        let mut live = world.live();
        live.proxies[0].fuse = Some(FuseReading {
            rollout: world.state.id.0.clone(),
            state: FuseState::Tripped,
            log_e_milli: 7_214,
            threshold_milli: 5_730,
            canary_requests: 41,
            canary_errors: 4,
            stable_errors: 0,
            errors_since_acknowledged: 4,
        });
        let live = Some(Ok(live));
        world.give(Event::Observed(Observation {
            route: Some(Ok(world.mesh.clone())),
            live,
            ..Observation::default()
        }));
        assert_eq!(world.stand(), stand);
    }
}

// === explained ===

#[test]
fn what_is_not_as_usual_is_explained() {
    let told = |gates: &[Gate], policy: OnFailure| {
        let mut plan = with(&[10, 50, 100], gates);
        plan.on_failure = policy;
        explain(&plan, None)
    };
    let plain = told(&[errors("errors"), slo(&[])], OnFailure::Rollback);
    for silent in ["Parts of that bound", " only; what happens elsewhere", "never rolls back", "together pauses"] {
        assert!(!plain.contains(silent), "{plain}");
    }
    let usual = told(&[errors("errors"), slow()], OnFailure::Rollback);
    assert!(usual.contains("  Parts of that bound: errors 65 %, slow 35 %.\n"), "{usual}");
    let three = Gate { weight: Some(3.0), ..errors("errors") };
    let asks = Gate { during: vec![at(10), at(50)], ..pausing(slow()) };
    let scoped = told(&[three, asks, slo(&[Scope::Bake])], OnFailure::Rollback);
    for line in [
        "Parts of that bound: errors 75 %, slow 25 %.",
        "Gate slow acts at 10 % and at 50 % only; what happens elsewhere does not count for it.",
        "Gate slo acts at 100 % only; what happens elsewhere does not count for it.",
        "Gate slow never rolls back: its failure keeps the weight and waits for a person. The others still may.",
        "What errors has shown without the others rolls back; what all that compare requests have shown only together \
         pauses.",
        "only gates with a limit and health checks act here",
    ] {
        assert!(scoped.contains(line), "`{line}` is not in\n{scoped}");
    }
    let at_once = Gate { on_failure: Some(OnFailure::Rollback), ..alive(&[at(10)]) };
    let paused = told(&[errors("errors"), at_once], OnFailure::Pause);
    assert!(paused.contains("Gate alive does not wait for a person: its failure rolls back at once."), "{paused}");
    assert!(paused.contains("comparing gates are silent here"), "no gate acts at 100 %: {paused}");
}

// === properties ===

fn gates() -> impl Strategy<Value = Vec<Gate>> {
    let scopes = [vec![], vec![Scope::Steps], vec![at(10)], vec![at(50)]];
    let one = (
        prop::sample::select(scopes.to_vec()),
        prop::option::of(0.01..1000.0_f64),
        prop::sample::select(vec![None, Some(OnFailure::Rollback), Some(OnFailure::Pause)]),
        any::<bool>(),
        1.0..3.0_f64,
    );
    prop::collection::vec(one, 1..5).prop_map(|all| {
        let all = all.into_iter().enumerate().map(|(n, (during, weight, on_failure, dry_run, ratio))| {
            let rule = GateRule::ErrorRateAgainstStable { ratio, add: 0.0 };
            Gate { during, weight, on_failure, dry_run, ..Gate::new(&format!("g{n}"), rule) }
        });
        all.collect()
    })
}

proptest! {
    #[test]
    fn no_scope_and_no_action_adds_to_the_bound(
        gates in gates(),
        policy in prop::sample::select(vec![OnFailure::Rollback, OnFailure::Pause]),
        requests in prop::collection::vec((0..40_u64, 0..40_u64), 1..8),
        at_50 in any::<bool>(),
    ) {
        let mut plan = with(&[10, 50, 100], &gates);
        plan.on_failure = policy;
        let sum: f64 = parts(&plan).iter().map(|(_, part)| part).sum();
        prop_assert!(parts(&plan).is_empty() || (sum - 1.0).abs() < 1e-12);
        let mut world = World::at(plan, "baking");
        if at_50 {
            promote(&mut world);
        }
        for (canary, stable) in requests {
            let (canary_errors, stable_errors) = (canary / 2, stable / 2);
            let counts = Counts { canary_requests: canary, canary_errors, stable_requests: stable, stable_errors };
            let share = if at_50 { 500_000 } else { 100_000 };
            world.state.evidence.blocks[0].by_share.entry(share).or_default().add(&counts);
        }
        let judgement = judge(&world.plan, &world.state);
        // Together: the average of what every gate that decides would say if it acted everywhere.
        let mut whole = world.plan.clone();
        for gate in &mut whole.gates {
            gate.during.clear();
        }
        let most = judge(&whole, &world.state).finding.worse_log_e.max(0.0);
        prop_assert!(judgement.finding.worse_log_e <= most + 1e-9, "{judgement:?} above {most}");
        prop_assert_eq!(judgement.action().is_some(), judgement.verdict == Verdict::Fail);
        // Roll back asks for no less than pause.
        let mut critical = world.plan.clone();
        critical.gates.iter_mut().for_each(|gate| gate.on_failure = Some(OnFailure::Rollback));
        critical.on_failure = OnFailure::Rollback;
        prop_assert_eq!(judge(&critical, &world.state).action().is_some(), judgement.action().is_some());
        let pauses = |gate: &Gate| gate.on_failure.unwrap_or(policy) == OnFailure::Pause;
        if world.plan.gates.iter().all(|gate| gate.dry_run || pauses(gate)) {
            prop_assert!(judgement.action() != Some(OnFailure::Rollback));
        }
    }
}
