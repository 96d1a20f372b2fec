//! Gates on points: what each pair of arms comes to, and what is worth keeping of a reading.

use super::kit::{World, plan};
use crate::base::time::{Millis, Timestamp};
use crate::judge::absolute::Outcome;
use crate::judge::points::PointReading;
use crate::policy::plan::{Gate, GateRule, HealthProbe, Plan};
use crate::rollout::event::{ArmReading, Event, Observation, PointsReading};
use crate::rollout::gate::judge;

fn with_health(weights: &[u8]) -> Plan {
    let mut plan = plan(weights);
    let rule = GateRule::Health {
        probe: HealthProbe::Http { path: "/health".into() },
        interval: Millis::from_seconds(5),
        breaches: 3,
    };
    plan.gates.push(Gate::new("alive", rule));
    plan
}

/// `g` good, `b` bad, `m` missing, `f` failed.
fn arm(kind: char, at: Timestamp) -> ArmReading {
    let (point, note) = match kind {
        'g' => (PointReading::of(at, 0.0), None),
        'b' => (PointReading::of(at, 1.0), Some("1 of 2: 10.0.0.1:80 answered 503")),
        'm' => (PointReading::Missing, Some("v2 has no endpoint")),
        _ => (PointReading::Failed, Some("dns: no such name")),
    };
    ArmReading { point, note: note.map(str::to_owned) }
}

fn reading(canary: char, stable: char, at: Timestamp) -> PointsReading {
    PointsReading { gate: "alive".into(), canary: arm(canary, at), stable: arm(stable, at) }
}

/// A check of both arms, five seconds after the last one.
fn check(world: &mut World, canary: char, stable: char) {
    world.wait(5);
    let points = vec![reading(canary, stable, world.state.at)];
    world.give(Event::Observed(Observation { points, ..Observation::default() }));
}

#[test]
fn every_pair_of_arms_has_one_answer() {
    use Outcome::{BothBreach, CanaryBreaches, StableBreaches, Unattributed, Within};
    for (canary, stable, outcome, told) in [
        ("", "", Unattributed, "nothing known yet"),
        ("g", "g", Within, "good"),
        ("g", "b", Within, "good"),
        ("ggg", "bbb", StableBreaches, "stable 1 of 2"),
        ("b", "g", Unattributed, "1 of 3 times"),
        ("bb", "gg", Unattributed, "2 of 3 times"),
        ("bbg", "ggg", Within, "good"),
        ("bbb", "ggg", CanaryBreaches, "10.0.0.1:80 answered 503, 3 times in a row"),
        ("bbb", "mmm", CanaryBreaches, "3 times in a row"),
        ("bbb", "ggb", Unattributed, "stable began to as well"),
        ("bbb", "bbb", BothBreach, "canary and stable alike"),
        // What is missing or failed neither breaches nor clears.
        ("bmfb", "gggg", Unattributed, "2 of 3 times"),
        ("bmfbb", "ggggg", CanaryBreaches, "3 times in a row"),
        ("fff", "ggg", Unattributed, "nothing known yet"),
    ] {
        let mut plan = with_health(&[10, 100]);
        plan.on_failure = crate::policy::plan::OnFailure::Pause;
        let mut world = World::start(plan);
        for (canary, stable) in canary.chars().zip(stable.chars()) {
            check(&mut world, canary, stable);
        }
        let verdict = judge(&world.plan, &world.state).limits.remove(0);
        assert_eq!(verdict.outcome, outcome, "{canary} {stable}: {}", verdict.sentence);
        assert!(verdict.sentence.contains(told), "{canary} {stable}: {}", verdict.sentence);
    }
}

#[test]
fn it_fails_at_once_whatever_the_requests_say_and_also_at_all_the_traffic() {
    for weights in [&[10, 100][..], &[100][..]] {
        let mut world = World::start(with_health(weights));
        world.settle();
        let canary = 10 * u64::from(weights[0]);
        world.traffic((canary, 0), (1000 - canary, 0));
        world.read();
        for _ in 0..3 {
            check(&mut world, 'b', 'g');
        }
        assert_eq!(world.state.wanted.get(), 0, "{}", world.phase());
        let reason = &world.state.ending.as_ref().expect("decided").reason;
        assert!(reason.starts_with("gate alive: canary 1 of 2"), "{reason}");
        world.check_replay();
    }
}

#[test]
fn nothing_advances_before_the_first_answer_and_a_person_is_told_that_there_is_none() {
    let mut world = World::start(with_health(&[10, 100]));
    world.settle();
    for _ in 0..30 {
        world.traffic((1000, 0), (9000, 0));
        check(&mut world, 'f', 'f');
        world.read();
    }
    assert_eq!(world.stand(), "judging 10");
    let told = world.state.trouble.clone().expect("told");
    assert_eq!(told, "gate alive sees nothing of the canary: dns: no such name");
    check(&mut world, 'g', 'f');
    world.read();
    assert_eq!(world.state.wanted.get(), 100);
    world.check_replay();
}

#[test]
fn of_good_points_only_the_first_is_kept() {
    let mut world = World::start(with_health(&[10, 100]));
    let mut kept = String::new();
    for (canary, stable) in "ggbbgggmfgg".chars().zip("ggggggbgggg".chars()) {
        let at = world.state.at;
        let news = world.state.is_news(&world.plan, &reading(canary, stable, at));
        kept.push(if news { canary } else { '.' });
        check(&mut world, canary, stable);
    }
    assert_eq!(kept, "g.bbg.gmfg.");
    let foreign = PointsReading { gate: "no such gate".into(), ..reading('b', 'b', world.state.at) };
    assert!(!world.state.is_news(&world.plan, &foreign));
}

#[test]
fn at_all_the_traffic_an_ill_stable_does_not_hold_the_end() {
    let mut plan = with_health(&[100]);
    for gate in &mut plan.gates {
        if let GateRule::Health { breaches, .. } = &mut gate.rule {
            *breaches = 1;
        }
    }
    let mut world = World::start(plan);
    world.settle();
    world.read();
    for _ in 0..2 {
        assert_eq!(world.stand(), "baking 100");
        check(&mut world, 'g', 'b');
        world.traffic((1000, 0), (0, 0));
        world.read();
    }
    assert_eq!(world.stand(), "holding 100", "{:?}", world.state.trouble);
    world.check_replay();
}
