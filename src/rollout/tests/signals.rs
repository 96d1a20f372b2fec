//! Gates on signals from outside: which points count, what they come to, and what silence does.

use super::kit::{World, actor, command, plan, route};
use crate::base::ids::{RolloutId, Seq};
use crate::base::time::{Millis, Timestamp};
use crate::judge::absolute::Outcome;
use crate::judge::points::PointReading;
use crate::policy::plan::{
    Bound, CloudwatchMetric, CloudwatchQuery, Gate, GateRule, OnFailure, OnInconclusive, Plan, SignalGate, SignalQuery,
    SignalRule, SignalUnit, XrayMeasure, XrayQuery,
};
use crate::rollout::begin;
use crate::rollout::event::{ArmReading, Command, Event, Input, Observation, PointsReading, ReleaseName, Start};
use crate::rollout::gate::judge;
use crate::rollout::limits::LimitVerdict;
use crate::rollout::report::GateVerdict;
use crate::rollout::signals::{amount, asked, counts_from, patience};
use crate::rollout::state::{EndingKind, State};
use crate::rollout::view::RolloutView;
use std::collections::BTreeMap;

/// A gate that is asked every 10 s, at most 10 allowed.
pub(super) fn gate(query: &str, rule: SignalRule) -> Gate {
    let query = SignalQuery::Prometheus { query: query.into(), url: None, step: None };
    let interval = Millis::from_seconds(10);
    let rule = GateRule::Signal(SignalGate { query, interval, unit: SignalUnit::Number, rule, breaches: 3 });
    Gate::new("queue", rule)
}

pub(super) const AT_MOST_10: SignalRule = SignalRule::Limit { value: 10.0, bound: Bound::Max };
pub(super) const TWICE_STABLE: SignalRule = SignalRule::AgainstStable { ratio: 2.0, add: 1.0 };
const SHARED: &str = "depth";
const EACH: &str = "depth{node=\"{node}\"}";

fn with(query: &str, rule: SignalRule, weights: &[u8]) -> Plan {
    let mut plan = plan(weights);
    plan.gates.push(gate(query, rule));
    plan
}

/// `.` missing, `f` failed, else a value: digits, or `x` for a hundred.
fn arm(kind: char, at: Timestamp) -> ArmReading {
    let (point, note) = match kind {
        '.' => (PointReading::Missing, None),
        'f' => (PointReading::Failed, Some("prometheus: no answer (may pass, retried)".to_owned())),
        'x' => (PointReading::of(at, 100.0), None),
        digit => (PointReading::of(at, f64::from(digit.to_digit(10).expect("a digit"))), None),
    };
    ArmReading { point, note }
}

fn reading(canary: char, stable: char, at: Timestamp) -> PointsReading {
    PointsReading { gate: "queue".into(), canary: arm(canary, at), stable: arm(stable, at) }
}

impl World {
    /// A round of questions ten seconds after the last one.
    fn round(&mut self, canary: char, stable: char) {
        self.wait(10);
        // The data plane is heard as well.
        self.read();
        self.point(canary, stable, self.now);
    }

    fn point(&mut self, canary: char, stable: char, at: Timestamp) {
        let points = vec![reading(canary, stable, at)];
        self.give(Event::Observed(Observation { points, ..Observation::default() }));
    }

    /// The first step is in force.
    fn in_force(plan: Plan) -> Self {
        let mut world = Self::start(plan);
        world.settle();
        world.read();
        world
    }

    /// The write under way is answered a second later, and seen in force.
    fn next_in_force(&mut self) {
        self.wait(1);
        self.settle();
        self.read();
    }

    /// The first step is in force, and proven by its requests.
    fn proven(plan: Plan) -> Self {
        let mut world = Self::in_force(plan);
        world.traffic((10_000, 0), (90_000, 0));
        world.read();
        world
    }

    fn says(&self) -> LimitVerdict {
        judge(&self.plan, &self.state).limits.remove(0)
    }
}

fn since(world: &World) -> Option<Timestamp> {
    counts_from(&world.state).map(|counting| counting.from)
}

#[test]
fn every_pair_of_arms_has_one_answer() {
    use Outcome::{BothBreach, CanaryBreaches, StableBreaches, Unattributed, Within};
    for (query, rule, canary, stable, outcome, told) in [
        (SHARED, AT_MOST_10, "", "", Unattributed, "no point yet"),
        (SHARED, AT_MOST_10, "5", ".", Within, "queue: 5, limit 10"),
        (SHARED, AT_MOST_10, "xx", "..", Unattributed, "100, limit 10: 2 of 3 points beyond it"),
        (SHARED, AT_MOST_10, "xxx", "...", CanaryBreaches, "100, limit 10: 3 points in a row beyond it"),
        // Nothing is asked about stable, so whatever is said of it says nothing.
        (SHARED, AT_MOST_10, "xxx", "xxx", CanaryBreaches, "3 points in a row"),
        (SHARED, AT_MOST_10, "x.xfx", ".....", CanaryBreaches, "3 points in a row"),
        (SHARED, AT_MOST_10, "xx5", "...", Within, "5, limit 10"),
        (EACH, AT_MOST_10, "xxx", "555", CanaryBreaches, "canary 100, stable 5, limit 10: 3 points"),
        (EACH, AT_MOST_10, "xxx", "55x", Unattributed, "stable began to be as well"),
        (EACH, AT_MOST_10, "xxx", "xxx", BothBreach, "canary and stable alike"),
        (EACH, AT_MOST_10, "555", "xxx", StableBreaches, "stable is beyond it"),
        (EACH, AT_MOST_10, "xxx", "...", CanaryBreaches, "3 points in a row"),
        (EACH, TWICE_STABLE, "333", "111", Within, "canary 3, stable 1, tolerated 3"),
        (EACH, TWICE_STABLE, "44", "11", Unattributed, "canary 4, stable 1, tolerated 3: 2 of 3 points"),
        (EACH, TWICE_STABLE, "444", "111", CanaryBreaches, "3 points in a row"),
        // What both have is no difference, and a point without its fellow is no comparison.
        (EACH, TWICE_STABLE, "xxx", "xxx", Within, "tolerated 201"),
        (EACH, TWICE_STABLE, "4444", "1.11", CanaryBreaches, "3 points in a row"),
        (EACH, TWICE_STABLE, "444", "1f1", Unattributed, "2 of 3 points"),
    ] {
        let mut plan = with(query, rule, &[10, 100]);
        plan.on_failure = OnFailure::Pause;
        let mut world = World::in_force(plan);
        for (canary, stable) in canary.chars().zip(stable.chars()) {
            world.round(canary, stable);
        }
        let says = world.says();
        assert_eq!(says.outcome, outcome, "{canary} {stable}: {}", says.sentence);
        assert!(says.sentence.contains(told), "{canary} {stable}: {}", says.sentence);
        world.check_replay();
    }
}

#[test]
fn a_failing_signal_ends_it_and_the_view_tells_value_and_limit() {
    let mut world = World::proven(with(SHARED, AT_MOST_10, &[10, 100]));
    (0..3).for_each(|_| world.round('x', '.'));
    assert_eq!(world.state.wanted.get(), 0, "{}", world.stand());
    let reason = &world.state.ending.as_ref().expect("decided").reason;
    assert_eq!(reason, "gate queue: 100, limit 10: 3 points in a row beyond it");
    let view = RolloutView::of(&world.plan, &world.state);
    assert_eq!(
        (view.gates[1].verdict, view.gates[1].text.as_str()),
        (GateVerdict::Fails, &reason["gate queue: ".len()..])
    );
    world.check_replay();
}

#[test]
fn nothing_advances_before_the_first_point_of_the_present_weights() {
    for what in [OnInconclusive::Hold, OnInconclusive::Advance, OnInconclusive::Rollback] {
        let mut world = World::proven(super::kit::inconclusive(with(SHARED, AT_MOST_10, &[10, 50, 100]), what));
        let in_force = world.now;
        // Far beyond `max`; silence is no verdict.
        for _ in 0..20 {
            world.round('.', '.');
            world.read();
        }
        assert_eq!(world.stand(), "judging 10", "{what:?}");
        assert_eq!(world.says().outcome, Outcome::Unattributed);
        // One that began before the weights were in force is none.
        world.point('5', '.', Timestamp(in_force.0 - 1));
        world.read();
        assert_eq!(world.stand(), "judging 10");
        world.round('5', '.');
        world.read();
        assert_eq!(world.state.wanted.get(), 50, "{what:?}: {}", world.stand());
        // And at the next weight the same anew, though the last point was good.
        world.next_in_force();
        world.traffic((50_000, 0), (50_000, 0));
        world.wait(11);
        world.read();
        assert_eq!(world.stand(), "judging 50", "{what:?}");
        world.round('5', '.');
        world.read();
        assert_eq!(world.state.wanted.get(), 100, "{what:?}: {}", world.stand());
        world.check_replay();
    }
}

#[test]
fn all_the_traffic_waits_for_a_point_as_well() {
    let mut world = World::proven(with(SHARED, AT_MOST_10, &[10, 100]));
    world.round('5', '.');
    world.read();
    world.next_in_force();
    for _ in 0..10 {
        world.wait(5);
        world.read();
    }
    assert_eq!(world.stand(), "baking 100");
    world.round('5', '.');
    world.read();
    assert!(world.state.ending.as_ref().is_some_and(|end| end.kind == EndingKind::Succeeded), "{}", world.stand());
    world.check_replay();
}

#[test]
fn at_all_the_traffic_a_comparison_is_silent_and_a_limit_acts_alone() {
    for (rule, fails) in [(TWICE_STABLE, false), (AT_MOST_10, true)] {
        let mut world = World::proven(with(EACH, rule, &[10, 100]));
        world.round('5', '5');
        world.read();
        world.next_in_force();
        // Stable has no traffic, and whatever it measures is no excuse.
        (0..3).for_each(|_| world.round('x', if fails { 'x' } else { '1' }));
        assert_eq!(world.state.wanted.get() == 0, fails, "{rule:?}: {}", world.stand());
        world.check_replay();
    }
}

#[test]
fn points_that_began_before_count_only_where_they_say_something() {
    // A limit: whatever began since the first weight. A comparison: since the present one.
    for (rule, counted) in [(AT_MOST_10, 1), (TWICE_STABLE, 0)] {
        let mut world = World::proven(with(EACH, rule, &[10, 50, 100]));
        let first = world.now;
        world.point('x', '1', Timestamp(first.0 - 5000));
        assert_eq!(world.state.points.get("queue"), None, "of before the release had any traffic");
        world.round('5', '5');
        world.read();
        assert_eq!(world.state.wanted.get(), 50);
        world.settle();
        world.wait(30);
        world.read();
        let late = Timestamp(world.now.0 - 20_000);
        world.point('x', '1', late);
        assert_eq!(world.state.points["queue"].canary.trail.breaches, counted, "{rule:?}");
        world.point('x', '1', world.now);
        assert_eq!(world.state.points["queue"].canary.trail.breaches, counted + 1, "{rule:?}");
        world.check_replay();
    }
}

#[test]
fn without_weight_nothing_is_asked_and_no_point_counts() {
    let mut world = World::start(with(SHARED, AT_MOST_10, &[10, 100]));
    assert_eq!(since(&world), None);
    world.settle();
    world.point('x', '.', world.now);
    assert_eq!((since(&world), world.state.points.len()), (None, 0));
    world.read();
    assert_eq!(since(&world), Some(world.now));
    // Withdrawn for silence of the data plane: a queue that is full now is not the release's.
    world.silent = true;
    world.wait(31);
    world.read();
    assert_eq!((world.stand().as_str(), since(&world)), ("paused 0", None));
    world.settle();
    (0..5).for_each(|_| world.round('x', '.'));
    world.silent = false;
    world.read();
    world.settle();
    world.wait(3);
    world.read();
    assert_eq!((world.stand().as_str(), since(&world)), ("baking 10", Some(world.now)));
    assert_eq!(world.state.points.get("queue"), None);
    world.check_replay();
}

#[test]
fn a_person_is_told_once_of_a_silent_source() {
    let mut world = World::in_force(with(SHARED, AT_MOST_10, &[10, 100]));
    world.round('5', '.');
    let GateRule::Signal(signal) = world.plan.gates[1].rule.clone() else { panic!() };
    assert_eq!(patience(&signal), Millis::from_seconds(60));
    world.order("pause");
    let mut told = Vec::new();
    for _ in 0..30 {
        world.round('.', '.');
        world.read();
        if told.last() != Some(&world.state.trouble) {
            told.push(world.state.trouble.clone());
        }
    }
    let silent = "gate queue sees nothing, so nothing advances: no point for 60s"
        .replace("60s", &Millis::from_seconds(60).to_string());
    assert_eq!(told, [None, Some(silent)]);
    // What was good long ago is not good now: the weight stays.
    world.order("resume");
    world.settle();
    world.traffic((10_000, 0), (90_000, 0));
    for _ in 0..10 {
        world.round('.', '.');
        world.read();
    }
    assert_eq!(world.stand(), "judging 10");
    world.check_replay();
}

/// A minute of CloudWatch is told by its beginning, and comes when it is over: just before the next one comes, the last
/// is more than two minutes old and the source is well. The same of an hour, of a trace, and however often one asks.
#[test]
fn a_source_that_is_as_late_as_it_always_is_is_not_silent() {
    let metric = || CloudwatchMetric {
        namespace: "Shop".into(),
        name: "Depth".into(),
        stat: "Sum".into(),
        dimensions: BTreeMap::new(),
    };
    let minutes = |seconds| {
        let period = Millis::from_seconds(seconds);
        SignalQuery::Cloudwatch(CloudwatchQuery::Metric { metric: metric(), period })
    };
    let traces = || {
        SignalQuery::Xray(XrayQuery {
            filter: "f".into(),
            measure: XrayMeasure::FaultRate,
            min_traces: 1,
            beside: None,
        })
    };
    for (query, interval, age) in [
        // A period that has ended, one that is under way, two minutes until CloudWatch tells, and the next question.
        (minutes(60), 10, 60 + 60 + 120 + 10),
        (minutes(60), 60, 60 + 60 + 120 + 60),
        (minutes(300), 30, 300 + 300 + 120 + 30),
        (minutes(3600), 300, 3600 + 3600 + 120 + 300),
        // The end of the last span, the minute that traces are let ripen, and two questions.
        (traces(), 10, 60 + 2 * 10),
        (traces(), 30, 60 + 2 * 30),
    ] {
        let mut plan = with(SHARED, AT_MOST_10, &[10, 100]);
        let GateRule::Signal(signal) = &mut plan.gates[1].rule else { panic!() };
        (signal.query, signal.interval) = (query, Millis::from_seconds(interval));
        let told = format!("{:?} every {interval}s", signal.query);
        let allowed = patience(signal);
        let mut world = World::in_force(plan);
        world.point('5', '.', world.now);
        world.wait(age);
        world.read();
        assert_eq!(world.says().outcome, Outcome::Within, "{told}: held while its source is well");
        assert_eq!(world.state.trouble, None, "{told}: a person is called while its source is well");
        // Yet it is noticed.
        world.wait(allowed.0 / 1000);
        world.read();
        assert_eq!(world.says().outcome, Outcome::Unattributed, "{told}");
        assert!(world.state.trouble.is_some(), "{told}");
        world.check_replay();
    }
}

#[test]
fn a_source_that_cannot_be_asked_is_an_error_and_neither_good_nor_bad() {
    let mut world = World::in_force(with(SHARED, AT_MOST_10, &[10, 100]));
    let verdict = |world: &World| RolloutView::of(&world.plan, &world.state).gates[1].verdict;
    assert_eq!(verdict(&world), GateVerdict::Holds);
    (0..3).for_each(|_| world.round('f', 'f'));
    assert_eq!(verdict(&world), GateVerdict::Error);
    let told = "gate queue sees nothing, so nothing advances: prometheus: no answer (may pass, retried)";
    assert_eq!(world.state.trouble.as_deref(), Some(told));
    world.read();
    assert_eq!(world.stand(), "judging 10");
    world.round('5', '.');
    assert_eq!(verdict(&world), GateVerdict::Good);
    world.check_replay();
}

#[test]
fn a_point_from_the_future_is_one_of_now() {
    let mut world = World::proven(with(SHARED, AT_MOST_10, &[10, 100]));
    world.point('5', '.', Timestamp(i64::MAX));
    assert_eq!(world.state.points["queue"].canary.trail.last, Some((world.now, 5.0)));
    (0..3).for_each(|_| world.round('x', '.'));
    assert_eq!(world.state.wanted.get(), 0);
    world.check_replay();
}

#[test]
fn every_new_point_is_kept_and_repeated_silence_is_not() {
    let mut world = World::in_force(with(EACH, AT_MOST_10, &[10, 100]));
    let mut kept = String::new();
    for (canary, stable) in "55..........5ffffx".chars().zip("555555555555555555".chars()) {
        world.wait(10);
        world.read();
        let reading = reading(canary, if canary == '5' { stable } else { '.' }, world.now);
        kept.push(if world.state.is_news(&world.plan, &reading) { canary } else { '_' });
        world.give(Event::Observed(Observation { points: vec![reading], ..Observation::default() }));
    }
    assert_eq!(kept, "55..._______5fff_x");
    let again = reading('x', '.', world.now);
    assert!(!world.state.is_news(&world.plan, &again), "the same point");
}

// === placeholders ===

fn started(plan: &Plan, start: Start) -> Result<State, String> {
    let event = Event::Command { command: Command::Start(start), actor: actor() };
    let input = Input { seq: Seq(1), at: Timestamp(0), event };
    begin(plan, RolloutId("r-1".into()), &input)
        .map(|(state, _)| state)
        .map_err(|refusal| format!("{refusal} | {}", refusal.hint))
}

fn start(revision: Option<&str>, stable: Option<ReleaseName>) -> Start {
    let Command::Start(start) = command("start") else { panic!() };
    Start { revision: revision.map(Into::into), stable, route: route(7, 100, 0), ..start }
}

#[test]
fn each_version_is_asked_about_by_its_own_name() {
    let plan = with("a{n=\"{node}\", v=\"{version}\"}", AT_MOST_10, &[10, 100]);
    let stable = Some(ReleaseName { revision: Some("abc".into()), image: None });
    let state = started(&plan, start(Some("def"), stable)).expect("both are known");
    let [asks] = asked(&plan, &state).try_into().expect("one gate");
    let query = |node: &str, version: &str| {
        let query = format!("a{{n=\"{node}\", v=\"{version}\"}}");
        Ok::<_, String>(SignalQuery::Prometheus { query, url: None, step: None })
    };
    assert_eq!((asks.canary, asks.stable), (query("v2", "def"), Some(query("v1", "abc"))));
    let shared = with(SHARED, AT_MOST_10, &[10, 100]);
    let [asks] =
        asked(&shared, &started(&shared, start(None, None)).expect("nothing is needed")).try_into().expect("one");
    assert_eq!(asks.stable, None, "asked once");
}

#[test]
fn a_start_is_refused_when_a_placeholder_is_not_known_of_either_version() {
    let known = || Some(ReleaseName { revision: Some("abc".into()), image: Some("shop:v1".into()) });
    for (query, revision, stable, expected) in [
        (
            "{version}",
            None,
            known(),
            "gate queue cannot ask about v2: `{revision}` of v2 is not known | name it: `tidegate rollout start checkout --revision TEXT`",
        ),
        (
            "{revision}",
            Some("def"),
            None,
            "gate queue cannot ask about v1: `{revision}` of v1 is not known | it is known once a rollout over this route has made v1 stable: release once without this gate, and name the release with `--revision` or `--image` as it will be asked for",
        ),
        (
            "{image_tag}",
            Some("def"),
            known(),
            "gate queue cannot ask about v2: `{image_tag}` of v2 is not known | name it, with its tag: `tidegate rollout start checkout --image REPOSITORY:TAG`",
        ),
        (
            "{version}",
            Some("a\"} or vector(0"),
            known(),
            "gate queue cannot ask about v2: `{revision}` of v2 is `a\\\"} or vector(0`, which cannot stand in a question | letters, digits and `._-:/@+~` can stand in a question, 256 at most",
        ),
    ] {
        let refused = started(&with(query, AT_MOST_10, &[10, 100]), start(revision, stable)).unwrap_err();
        assert_eq!(refused, expected);
    }
}

#[test]
fn values_are_told_as_exactly_as_it_is_useful() {
    for (unit, value, text) in [
        (SignalUnit::Number, 1000.0, "1000"),
        (SignalUnit::Number, 812.345_678, "812.346"),
        (SignalUnit::Number, 0.012_3, "0.0123"),
        (SignalUnit::Number, -3.5, "-3.5"),
        (SignalUnit::Number, 0.0, "0"),
        (SignalUnit::Number, f64::MAX, "1.798e308"),
        (SignalUnit::Share, 0.002, "0.2 %"),
        (SignalUnit::Percent, 83.333_33, "83.333 %"),
        (SignalUnit::Seconds, 0.8, "800 ms"),
        (SignalUnit::Seconds, 600.0, "600 s"),
    ] {
        assert_eq!(amount(unit, value), text);
    }
}

#[test]
fn a_policy_is_explained_with_what_is_asked_and_what_silence_does() {
    let mut plan = super::kit::deploying(with(SHARED, AT_MOST_10, &[10, 100]));
    plan.gates.push(Gate { name: "each".into(), ..gate(EACH, TWICE_STABLE) });
    let text = crate::rollout::explain::explain(&plan, None);
    for told in [
        "not up within 1m is rolled back",
        "the version before stays up for 100s",
        "by the gates errors, together",
        "Gate queue (`depth` from Prometheus; one question for both versions, every 10s) is not covered by that bound",
        "3 points in a row above 10, whoever is to blame",
        "Gate each (`depth{node=\"{node}\"}` from Prometheus; asked about each version, every 10s)",
        "above 2 times stable's of the same time plus 1; at 100 % it is silent",
        "While it is silent the weight stays and nothing advances; after 1m a person is told",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}
