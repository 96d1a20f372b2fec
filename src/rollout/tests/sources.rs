//! Silence of every source outside, in every phase in which the canary has weight, for any time: the weight stays, nothing
//! advances, nothing is rolled back, a person is told once, and it goes on by itself when the source is back.

use super::kit::{World, plan};
use crate::base::time::Millis;
use crate::judge::points::PointReading;
use crate::policy::plan::{
    ApprovalStep, Bound, CloudwatchMetric, CloudwatchQuery, Gate, GateRule, OnFailure, OnInconclusive, Plan,
    SignalGate, SignalQuery, SignalRule, SignalUnit, Step, WebhookQuery, XrayBeside, XrayMeasure, XrayQuery,
};
use crate::rollout::event::{ArmReading, Event, Observation, PointsReading};
use std::collections::BTreeMap;

/// Rounds of the gate's 10 s: half an hour, several times what a source may be late.
const ROUNDS: u32 = 180;

/// Every kind of question, with whether it is judged beside stable.
fn sources() -> Vec<(SignalQuery, bool)> {
    let metric = |dimension: &str| CloudwatchMetric {
        namespace: "Shop".into(),
        name: "Depth".into(),
        stat: "tm90".into(),
        dimensions: [("Node".to_owned(), dimension.to_owned())].into(),
    };
    let period = Millis::from_seconds(60);
    let xray =
        |measure, beside| SignalQuery::Xray(XrayQuery { filter: "{node}".into(), measure, min_traces: 1, beside });
    let beside = XrayBeside { filter: "{node}".into(), canary: "{node}".into(), stable: "{node}".into() };
    let metrics: BTreeMap<_, _> = [("m".to_owned(), metric("{node}"))].into();
    let prometheus = |step| SignalQuery::Prometheus { query: "{node}".into(), url: None, step };
    let (url, timeout) = ("http://h/".to_owned(), Millis::from_seconds(5));
    let expression = CloudwatchQuery::Expression { expression: "m / 2".into(), metrics, period };
    vec![
        (SignalQuery::Cloudwatch(CloudwatchQuery::Metric { metric: metric("checkout"), period }), false),
        (SignalQuery::Cloudwatch(expression), true),
        (SignalQuery::Cloudwatch(CloudwatchQuery::Alarm { name: "slo".into() }), false),
        (xray(XrayMeasure::FaultRate, None), true),
        (xray(XrayMeasure::NewExceptions, Some(beside)), false),
        (prometheus(None), true),
        (prometheus(Some(Millis::from_seconds(15))), false),
        (SignalQuery::Http { url: url.clone(), value: String::new() }, false),
        (SignalQuery::Webhook(WebhookQuery { url, timeout, facts: Box::default() }), false),
    ]
}

fn with(query: SignalQuery, compared: bool, what: OnInconclusive) -> Plan {
    let mut plan = super::kit::inconclusive(plan(&[10, 100]), what);
    let from = ["ann"].map(str::to_owned).to_vec();
    let (need, timeout) = (1, Millis::from_seconds(12 * 3600));
    plan.steps
        .insert(1, Step::Approval(ApprovalStep { slack: None, from, need, timeout, on_timeout: OnFailure::Rollback }));
    let rule = match compared {
        true => SignalRule::AgainstStable { ratio: 2.0, add: 1.0 },
        false => SignalRule::Limit { value: 0.0, bound: Bound::Max },
    };
    let interval = Millis::from_seconds(10);
    let signal = SignalGate { query, interval, unit: SignalUnit::Number, rule, breaches: 3 };
    plan.gates.push(Gate::new("outside", GateRule::Signal(signal)));
    plan
}

/// What a source says, or does not.
fn says(world: &mut World, point: PointReading) {
    let note = matches!(point, PointReading::Failed).then(|| "no answer (may pass, retried)".to_owned());
    let arm = ArmReading { point, note };
    let points = vec![PointsReading { gate: "outside".into(), canary: arm.clone(), stable: arm }];
    world.give(Event::Observed(Observation { points, ..Observation::default() }));
}

fn good(world: &mut World) {
    let now = world.now;
    says(world, PointReading::of(now, 0.0));
}

/// At 10 % with its requests proven, in a phase; the gate had a good point where the way there needs one.
fn at(plan: Plan, phase: &str) -> World {
    let mut world = World::start(plan);
    world.settle();
    world.read();
    world.traffic((10_000, 0), (90_000, 0));
    world.wait(11);
    world.read();
    match phase {
        "judging" => {}
        "paused" => drop(world.order("pause")),
        "awaiting_approval" => {
            good(&mut world);
            world.read();
        }
        other => panic!("no way to `{other}`"),
    }
    assert_eq!(world.stand(), format!("{phase} 10"));
    world
}

#[test]
fn silence_of_any_source_in_any_phase_for_any_time_keeps_the_weight_and_tells_once() {
    for ((query, compared), what) in
        sources().into_iter().zip([OnInconclusive::Rollback, OnInconclusive::Advance].into_iter().cycle())
    {
        for phase in ["judging", "paused", "awaiting_approval"] {
            for silence in [PointReading::Missing, PointReading::Failed] {
                let told = format!("{query:?} {phase} {silence:?}");
                let mut world = at(with(query.clone(), compared, what), phase);
                let mut troubles = Vec::new();
                // The live telemetry is well all the time.
                for round in 0..ROUNDS {
                    world.wait(10);
                    world.read();
                    says(&mut world, silence);
                    assert_eq!(world.stand(), format!("{phase} 10"), "{told} after {round}");
                    if world.state.trouble.is_some() && troubles.last() != Some(&world.state.trouble) {
                        troubles.push(world.state.trouble.clone());
                    }
                }
                let [Some(trouble)] = troubles.as_slice() else { panic!("{told}: {troubles:?}") };
                assert!(trouble.contains("gate outside sees nothing, so nothing advances: "), "{told}: {trouble}");
                world.check_replay();
            }
        }
    }
}

#[test]
fn at_all_the_traffic_silence_of_a_limit_keeps_it_from_succeeding() {
    for (query, _) in sources().into_iter().filter(|(_, compared)| !compared) {
        for silence in [PointReading::Missing, PointReading::Failed] {
            let told = format!("{query:?} {silence:?}");
            let mut plan = with(query.clone(), false, OnInconclusive::Hold);
            plan.steps.remove(1);
            let mut world = at(plan, "judging");
            good(&mut world);
            world.read();
            world.wait(1);
            world.settle();
            world.read();
            for _ in 0..ROUNDS {
                world.wait(10);
                world.read();
                says(&mut world, silence);
                assert_eq!(world.stand(), "baking 100", "{told}");
            }
            assert!(world.state.trouble.as_ref().is_some_and(|trouble| trouble.contains("gate outside")), "{told}");
            good(&mut world);
            world.read();
            assert!(world.state.ending.is_some(), "{told}: it goes on by itself");
            world.check_replay();
        }
    }
}

#[test]
fn a_source_that_is_back_lets_it_go_on() {
    for (query, compared) in sources() {
        let told = format!("{query:?}");
        let mut plan = with(query, compared, OnInconclusive::Hold);
        plan.steps.remove(1);
        let mut world = at(plan, "judging");
        for _ in 0..100 {
            world.wait(20);
            world.read();
            says(&mut world, PointReading::Failed);
        }
        assert_eq!(world.stand(), "judging 10", "{told}");
        good(&mut world);
        world.read();
        assert_eq!(world.state.wanted.get(), 100, "{told}: {}", world.stand());
    }
}
