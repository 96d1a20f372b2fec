//! Gates on signals from outside through the runner: who is asked what and when, and what becomes of the answers.

use super::{PausedClock, Setting, runner, setting_of};
use crate::kit::memory::MemoryJournal;
use crate::kit::world::{Ways, World};
use crate::kit::{BEGINNING, ann, deploying, plan};
use std::sync::Arc;
use std::time::Duration;
use tidegate::base::fault::Fault;
use tidegate::base::time::{Millis, Timestamp};
use tidegate::policy::plan::{
    Bound, CloudwatchMetric, CloudwatchQuery, Gate, GateRule, Plan, SignalGate, SignalQuery, SignalRule, SignalUnit,
};
use tidegate::ports::{SignalPoint, SignalQuestion};
use tidegate::rollout::view::GateVerdict;
use tidegate::runner::{Runner, RunnerParts, StartError, StartRequest};

const AT_MOST_10: SignalRule = SignalRule::Limit { value: 10.0, bound: Bound::Max };
const TWICE_STABLE: SignalRule = SignalRule::AgainstStable { ratio: 2.0, add: 0.0 };

/// A gate that is asked every `seconds`.
fn gate(name: &str, query: SignalQuery, rule: SignalRule, seconds: u64) -> Gate {
    let interval = Millis::from_seconds(seconds);
    let rule = GateRule::Signal(SignalGate { query, interval, unit: SignalUnit::Number, rule, breaches: 3 });
    Gate::new(name, rule)
}

fn prometheus(query: &str) -> SignalQuery {
    SignalQuery::Prometheus { query: query.into(), url: None, step: None }
}

/// A metric of minutes.
fn minutes(version: &str) -> SignalQuery {
    let dimensions = [("Version".to_owned(), version.to_owned())].into();
    let metric = CloudwatchMetric { namespace: "Shop".into(), name: "Errors".into(), stat: "Sum".into(), dimensions };
    SignalQuery::Cloudwatch(CloudwatchQuery::Metric { metric, period: Millis::from_seconds(60) })
}

fn with(gates: impl IntoIterator<Item = Gate>) -> Plan {
    let mut plan = plan(&[10, 100]);
    plan.gates.extend(gates);
    plan
}

fn depth() -> Gate {
    gate("depth", prometheus("depth"), AT_MOST_10, 10)
}

/// One point of now.
fn now(question: &SignalQuestion, value: f64) -> Result<Vec<SignalPoint>, Fault> {
    Ok(vec![SignalPoint::of(question.now, value)])
}

/// Points of whole minutes that have ended, as CloudWatch gives them.
fn ended(question: &SignalQuestion, value: f64) -> Result<Vec<SignalPoint>, Fault> {
    let first = question.after.0.div_euclid(60_000) + 1;
    let minutes = (first..).map(|minute| Timestamp(minute * 60_000));
    Ok(minutes.take_while(|at| at.0 + 60_000 <= question.now.0).map(|at| SignalPoint::of(at, value)).collect())
}

fn about(question: &SignalQuestion, node: &str) -> bool {
    format!("{:?}", question.query).contains(node)
}

fn signals(says: impl Fn(i64, &SignalQuestion) -> Result<Vec<SignalPoint>, Fault> + Send + Sync + 'static) -> Ways {
    Ways { signals: Box::new(says), ..Ways::default() }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_fails_a_release_whose_requests_are_all_answered() {
    let setting = setting_of(with([depth()]), signals(|_, question| now(question, 42.0)));
    setting.start().await;
    let (view, _) = setting.end().await;
    assert_eq!((view.phase.as_str(), setting.world.canary()), ("rolled_back", 0));
    assert_eq!(view.reason.as_deref(), Some("gate depth: 42, limit 10: 3 points in a row beyond it"));
    assert!(setting.world.seconds() < 45, "{} s", setting.world.seconds());
}

#[tokio::test(start_paused = true)]
async fn a_comparison_pairs_points_of_the_same_minute_and_fails_the_worse_version() {
    // Stable's points come a minute later than the canary's.
    let worse = |_, question: &SignalQuestion| {
        let late = if about(question, "v1") { 60_000 } else { 0 };
        let question = SignalQuestion { now: Timestamp(question.now.0 - late), ..question.clone() };
        ended(&question, if about(&question, "v2") { 30.0 } else { 10.0 })
    };
    let setting = setting_of(with([gate("errors-each", minutes("{node}"), TWICE_STABLE, 60)]), signals(worse));
    setting.start().await;
    let (view, _) = setting.end().await;
    let told = "gate errors-each: canary 30, stable 10, tolerated 20: 3 points in a row beyond it";
    assert_eq!((view.phase.as_str(), view.reason.as_deref()), ("rolled_back", Some(told)));
    // Both were always asked for the same time.
    for round in &setting.world.inside().asked {
        let [canary, stable] = round.as_slice() else { panic!("{round:?}") };
        assert_eq!((canary.after, canary.now), (stable.after, stable.now));
    }
}

#[tokio::test(start_paused = true)]
async fn no_worse_than_stable_succeeds_when_each_step_had_its_point() {
    let setting = setting_of(
        with([gate("errors-each", minutes("{node}"), TWICE_STABLE, 60)]),
        signals(|_, question| ended(question, 30.0)),
    );
    setting.start().await;
    let (view, _) = setting.end().await;
    assert_eq!(view.phase, "succeeded", "{:?}", view.reason);
    // The first whole minute after the weights were in force.
    assert!(setting.world.seconds() > 60, "{} s", setting.world.seconds());
}

#[tokio::test(start_paused = true)]
async fn gates_of_one_interval_ask_in_one_call_and_a_shared_question_once() {
    let gates = [
        depth(),
        gate("each", prometheus("depth{n=\"{node}\"}"), AT_MOST_10, 10),
        gate("slow", prometheus("slow"), AT_MOST_10, 30),
    ];
    let setting = setting_of(with(gates), signals(|_, question| now(question, 1.0)));
    setting.start().await;
    setting.end().await;
    let asked = setting.world.inside().asked.clone();
    let query = |text: &str| prometheus(text);
    for round in &asked {
        let queries: Vec<SignalQuery> = round.iter().map(|question| question.query.clone()).collect();
        assert!(
            queries == [query("slow")]
                || queries == [query("depth"), query("depth{n=\"v2\"}"), query("depth{n=\"v1\"}")],
            "{queries:?}"
        );
    }
    assert!(asked.iter().any(|round| round.len() == 1) && asked.iter().any(|round| round.len() == 3));
    // Not before the first weight is in force, and never again for what was read.
    let afters: Vec<Timestamp> = asked.iter().filter(|round| round.len() == 3).map(|round| round[0].after).collect();
    assert!(afters[0] > BEGINNING && afters[1..].windows(2).all(|two| two[0] < two[1]), "{afters:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_keeps_the_weight_and_tells_a_person() {
    type Says = fn(i64, &SignalQuestion) -> Result<Vec<SignalPoint>, Fault>;
    let broken: [(Says, Duration, &str); 5] = [
        (|_, _| Ok(Vec::new()), Duration::ZERO, "no point for 1m"),
        (|_, _| Err(Fault::permanent("prometheus", "no such series")), Duration::ZERO, "no such series"),
        (|_, _| panic!("a defect of the adapter"), Duration::ZERO, "the question broke off"),
        (|_, question| now(question, 1.0), Duration::from_secs(40), "no answer in time"),
        (|_, question| now(question, f64::NAN), Duration::ZERO, "no point for 1m"),
    ];
    for (signals, slow_signals, told) in broken {
        let setting = setting_of(with([depth()]), Ways { signals: Box::new(signals), slow_signals, ..Ways::default() });
        let id = setting.start().await.id;
        tokio::time::sleep(Duration::from_secs(300)).await;
        let view = setting.runner.get(&id).await.expect("readable").expect("stored");
        assert_eq!((view.phase.as_str(), setting.world.canary()), ("judging", 10), "{told}");
        let trouble = view.trouble.expect("told");
        assert!(trouble.starts_with("gate depth sees nothing, so nothing advances: "), "{trouble}");
        assert!(trouble.contains(told), "{trouble}");
        assert!(matches!(view.gates[1].verdict, GateVerdict::Holds | GateVerdict::Error), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_comes_back_lets_it_go_on() {
    let says = |second, question: &SignalQuestion| match second {
        ..100 if second % 20 < 10 => Err(Fault::transient("prometheus", "busy")),
        ..100 => Ok(Vec::new()),
        _ => now(question, 1.0),
    };
    let setting = setting_of(with([depth()]), signals(says));
    setting.start().await;
    assert_eq!(setting.end().await.0.phase, "succeeded");
    assert!(setting.world.seconds() > 100, "advanced blindly");
}

#[tokio::test(start_paused = true)]
async fn an_alarm_is_asked_how_it_is_now() {
    let alarm = SignalQuery::Cloudwatch(CloudwatchQuery::Alarm { name: "slo".into() });
    for (value, phase) in [(0.0, "succeeded"), (1.0, "rolled_back")] {
        // In this state for a day.
        let says = move |_, question: &SignalQuestion| {
            let at = Timestamp(BEGINNING.0 - 86_400_000);
            Ok(if at > question.after { vec![SignalPoint::of(at, value)] } else { vec![] })
        };
        let rule = SignalRule::Limit { value: 0.0, bound: Bound::Max };
        let setting = setting_of(with([gate("slo", alarm.clone(), rule, 60)]), signals(says));
        setting.start().await;
        let (view, _) = setting.end().await;
        assert_eq!(view.phase, phase, "{:?}", view.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_asks_no_signals_refuses_the_start() {
    let clock = PausedClock::new(BEGINNING);
    let world = World::new(clock.clone(), with([depth()]), Ways::default());
    let (traffic, live, health, policies) = (world.clone(), world.clone(), world.clone(), world.clone());
    let journal = Arc::new(MemoryJournal::default());
    let freezes = journal.clone();
    let parts = RunnerParts {
        clock,
        journal,
        freezes,
        traffic,
        workloads: None,
        live,
        health,
        signals: None,
        policies,
        people: Arc::default(),
    };
    let request = StartRequest { policy: "checkout".into(), ..StartRequest::default() };
    let refused = Runner::new(parts).start(&request, ann()).await.expect_err("it has no sources");
    let StartError::Refused(refusal) = refused else { panic!("{refused}") };
    assert_eq!(refusal.message, "gate depth cannot be asked: this daemon asks no signals from outside");
    assert!(!refusal.hint.is_empty());
}

impl Setting {
    async fn release_revision(&self, revision: &str) -> Result<String, StartError> {
        let (policy, image) = ("checkout".into(), Some(format!("shop:{revision}")));
        let request = StartRequest { policy, image, revision: Some(revision.into()), ..StartRequest::default() };
        self.runner.start(&request, ann()).await.map(|view| view.id)
    }
}

#[tokio::test(start_paused = true)]
async fn what_stable_runs_is_known_from_the_rollout_that_made_it_stable() {
    let plain = deploying(plan(&[10, 100]));
    let mut asking = deploying(with([gate("each", prometheus("{version}/{image_tag}"), AT_MOST_10, 10)]));
    asking.max_total = plain.max_total;
    let clock = PausedClock::new(BEGINNING);
    let journal = Arc::new(MemoryJournal::default());
    // By the other slot: the mesh of the kit has `v1` stable, as after a promotion of it.
    let mut before = plain.clone();
    before.versions.reverse();
    let world = World::new(clock.clone(), asking.clone(), signals(|_, question| now(question, 1.0)));
    let setting = Setting { runner: runner(clock, journal.clone(), &world), journal: journal.clone(), world };
    let refused = setting.release_revision("r2").await.expect_err("nothing is known of stable");
    assert!(
        refused.to_string().contains("gate each cannot ask about v1: `{revision}` of v1 is not known"),
        "{refused}"
    );

    journal.succeeded(&before, "r-0", "r1", "shop:r1");
    setting.release_revision("r2").await.expect("both are known");
    let (view, _) = setting.end().await;
    assert_eq!(view.phase, "succeeded", "{:?}", view.reason);
    let first = setting.world.inside().asked[0].clone();
    let queries: Vec<SignalQuery> = first.into_iter().map(|question| question.query).collect();
    assert_eq!(queries, [prometheus("r2/r2"), prometheus("r1/r1")]);
}

#[test]
fn a_restart_asks_on_where_it_stood() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().expect("a runtime")
    };
    let says = |second, question: &SignalQuestion| if second < 25 { now(question, 42.0) } else { Ok(Vec::new()) };
    let journal = Arc::new(MemoryJournal::default());
    let first = runtime();
    let world = first.block_on(async {
        let clock = PausedClock::new(BEGINNING);
        let world = World::new(clock.clone(), with([depth()]), signals(says));
        let setting = Setting { runner: runner(clock, journal.clone(), &world), journal: journal.clone(), world };
        setting.start().await;
        // Two bad points of three.
        tokio::time::sleep(Duration::from_secs(15)).await;
        setting.world
    });
    drop(first);
    let before = world.inside().asked.len();
    runtime().block_on(async {
        let clock = PausedClock::new(Timestamp(BEGINNING.0 + 20_000));
        let setting = Setting { runner: runner(clock, journal.clone(), &world), journal: journal.clone(), world };
        assert_eq!(setting.runner.resume().await.expect("readable"), 1);
        let (view, _) = setting.end().await;
        // The third comes after the restart.
        assert_eq!((view.phase.as_str(), before), ("rolled_back", 2), "{:?}", view.reason);
        let inside = setting.world.inside();
        assert!(inside.asked[2][0].after > inside.asked[1][0].after, "asked anew for what was read");
    });
}
