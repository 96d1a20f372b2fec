//! The JSON form of everything that is journaled or stored. A change here is a change of the database's format: raise
//! `record::FORMAT` with an up-converter, or do not make it. `UPDATE_GOLDEN=1` writes the files anew.

use crate::kit::{BEGINNING, ann, beginning, deploying, fresh_route, plan, previewing};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use tidegate::base::fault::{Fault, FaultKind};
use tidegate::base::histogram::Histogram;
use tidegate::base::ids::RolloutId;
use tidegate::base::ids::Seq;
use tidegate::base::time::{Millis, Timestamp};
use tidegate::base::weight::{Percent, Slot, Weights};
use tidegate::judge::Counts;
use tidegate::judge::baseline::Baseline;
use tidegate::judge::latency::LatencyCounts;
use tidegate::judge::points::{PointReading, PointTrail};
use tidegate::policy::plan::{
    ApprovalStep, Bound, CloudwatchMetric, CloudwatchQuery, Gate, GateRule, HealthProbe, ImageRule, NoiseRule,
    OnFailure, OnInconclusive, OnVerifyTimeout, Plan, SignalGate, SignalQuery, SignalRule, SignalUnit, StartRules,
    Step, WebhookQuery, WhileLive, WorkflowImage, XrayBeside, XrayMeasure, XrayQuery,
};
use tidegate::rollout::effect::{Deployment, Effect, EffectId, Retirement};
use tidegate::rollout::event::{
    ArmReading, Command, Deployed, Event, Input, Latency, LiveReading, MeasuredNoise, Observation, Outcome, Past,
    PastErrors, PointsReading, PreviewReading, ProxyCounts, ReleaseName, SlowCounts, Standing, Start, Unusable,
    VersionCounts, Voice, WorkloadReading,
};
use tidegate::rollout::evidence::Block;
use tidegate::rollout::points::{ArmPoints, ArmTrail};
use tidegate::rollout::preview;
use tidegate::rollout::state::{Approval, Ending, EndingKind, Exposed, Pause, PauseCause, Phase, State, Written};
use tidegate::rollout::timing::{SeenLatency, SeenTiming};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/journal")
}

/// Compares a value's JSON with its file, and reads the file back.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let file = directory().join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(value).expect("has a JSON form") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(directory()).and_then(|()| std::fs::write(&file, &text)).expect("writable");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(kept, text, "{name}: the stored form changed; databases out there hold the old one");
    let read: T = serde_json::from_str(&kept).expect("readable");
    assert_eq!(read, *value, "{name}: the stored form is read as something else");
}

fn effect_id() -> EffectId {
    EffectId { rollout: RolloutId("r-1".into()), seq: Seq(4), n: 0 }
}

fn counts() -> Counts {
    Counts { canary_requests: 100, canary_errors: 1, stable_requests: 900, stable_errors: 2 }
}

fn histogram() -> Histogram {
    let mut histogram = Histogram::default();
    [900, 1000, 200_000_000].into_iter().for_each(|latency| histogram.record(latency));
    histogram
}

fn latency_counts() -> LatencyCounts {
    LatencyCounts {
        canary_requests: 99,
        canary_slower: [50, 25, 10, 5, 1, 0],
        stable_requests: 898,
        stable_slower: [449, 225, 90, 45, 9, 1],
    }
}

/// The same counts with latencies, in both forms.
fn timed_versions() -> Vec<VersionCounts> {
    let slower = vec![SlowCounts { bound_us: 851_968, counts: counts() }];
    vec![
        VersionCounts { latency: Some(Latency::Baseline(histogram())), ..VersionCounts::new(8, 100_000, counts()) },
        VersionCounts {
            latency: Some(Latency::Counts(latency_counts())),
            slower,
            ..VersionCounts::new(9, 500_000, counts())
        },
    ]
}

fn start_of(to: Option<String>, revision: Option<String>) -> Start {
    Start {
        to,
        revision,
        route: fresh_route(7),
        image: None,
        author: Vec::new(),
        first_step: 0,
        outside_windows: None,
        last_generation: 3,
        stable: None,
        baseline: None,
        past: Box::default(),
    }
}

fn commands() -> Vec<Command> {
    let start = |to, revision| Start {
        to,
        revision,
        route: fresh_route(7),
        image: None,
        author: Vec::new(),
        first_step: 0,
        outside_windows: None,
        last_generation: 3,
        stable: None,
        baseline: None,
        past: Box::default(),
    };
    vec![
        Command::Start(start(Some("v2".into()), Some("abc".into()))),
        Command::Start(start(None, None)),
        Command::Pause { reason: "lunch".into() },
        Command::Resume,
        Command::Promote { full: false, reason: "sure".into() },
        Command::Promote { full: true, reason: "sure".into() },
        Command::Abort { reason: "no".into() },
        Command::Approve {
            person: Some("payments-oncall".into()),
            reason: "seen".into(),
            step: None,
            voice: Voice::default(),
        },
        Command::Reject { person: None, reason: "no".into(), step: None },
        Command::Start(Start { baseline: Some(histogram()), ..start_of(None, None) }),
        Command::Start(Start { image: Some("shop/checkout:v2".into()), ..start_of(None, None) }),
        Command::Start(Start { stable: Some(released()), ..start_of(None, Some("def".into())) }),
        Command::Start(Start { outside_windows: Some("the site is down".into()), ..start_of(None, None) }),
    ]
}

fn released() -> ReleaseName {
    ReleaseName { revision: Some("abc".into()), image: Some("shop/checkout:v1".into()) }
}

fn faults() -> [Fault; 3] {
    [FaultKind::Transient, FaultKind::Permanent, FaultKind::Unknown].map(|kind| Fault {
        kind,
        source: "app mesh".into(),
        message: "no".into(),
    })
}

fn deployed() -> Deployed {
    Deployed { what: "arn:aws:ecs:eu-central-1:000000000000:task-definition/checkout-b:7".into(), instances: 2 }
}

fn events() -> Vec<(String, Event)> {
    let mut all = Vec::new();
    for (n, command) in commands().into_iter().enumerate() {
        all.push((format!("event-command-{}-{n}", command.verb()), Event::Command { command, actor: ann() }));
    }
    let settled = |outcome| Event::Settled { effect: effect_id(), outcome };
    all.push(("event-settled-applied".into(), settled(Outcome::Applied { version: 8 })));
    for fault in faults() {
        let kind = format!("{:?}", fault.kind).to_lowercase();
        all.push((format!("event-settled-failed-{kind}"), settled(Outcome::Failed(fault))));
    }
    let versions = vec![VersionCounts::new(8, 100_000, counts())];
    let live = LiveReading {
        proxies: vec![ProxyCounts { proxy: "p1".into(), applied: Some(8), serving: true, versions, fuse: None }],
        unusable: Vec::new(),
    };
    let mut timed = live.clone();
    timed.proxies[0].versions = timed_versions();
    let [fault, ..] = faults();
    let why = "answers with status 500, and not as a proxy does".to_owned();
    let unusable = vec![Unusable { proxy: "10.0.0.5:9901".into(), why }];
    for (name, route, live) in [
        ("both", Some(Ok(fresh_route(8))), Some(Ok(live.clone()))),
        ("timed", None, Some(Ok(timed))),
        ("silence", None, Some(Ok(LiveReading::default()))),
        ("unusable", None, Some(Ok(LiveReading { unusable, ..LiveReading::default() }))),
        ("errors", Some(Err(fault.clone())), Some(Err(fault))),
        ("nothing", None, None),
    ] {
        all.push((
            format!("event-observed-{name}"),
            Event::Observed(Observation { route, live, ..Observation::default() }),
        ));
    }
    let past = Past {
        noise: Some(MeasuredNoise { v: 0.041_25, phi: 1.02, minutes: 412, endpoints: 4 }),
        stable: Some(PastErrors { requests: 60_000, errors: 31 }),
        ..Past::default()
    };
    let start = Command::Start(Start { past: Box::new(past), ..start_of(None, None) });
    all.push(("event-command-start-past".into(), Event::Command { command: start, actor: ann() }));
    all.push(("event-command-make-way".into(), Event::Command { command: Command::MakeWay, actor: ann() }));
    for command in [Command::Freeze { reason: "payday".into() }, Command::Thaw] {
        all.push((format!("event-command-{}", command.verb()), Event::Command { command, actor: ann() }));
    }
    let supersede = Command::Supersede { by: "shop/checkout:v3".into() };
    all.push(("event-command-supersede".into(), Event::Command { command: supersede, actor: ann() }));
    all.push(("event-settled-deployed".into(), settled(Outcome::Deployed(deployed()))));
    all.push(("event-settled-retired".into(), settled(Outcome::Retired)));
    all.push(("event-settled-preview-opened".into(), settled(Outcome::PreviewOpened)));
    all.push(("event-settled-preview-closed".into(), settled(Outcome::PreviewClosed)));
    let seen = PreviewReading { ours: true, fits: true, behind: Some(1) };
    for (name, seen) in [("preview", Some(seen)), ("no-preview", None)] {
        let observed = Observation { preview: Some(Ok(seen)), ..Observation::default() };
        all.push((format!("event-observed-{name}"), Event::Observed(observed)));
    }
    let looked = WorkloadReading { standing: Standing::Progressing, note: "1 of 2 tasks running".into() };
    let workload = Some(Ok(looked));
    all.push(("event-observed-workload".into(), Event::Observed(Observation { workload, ..Observation::default() })));
    let observed = Observation { points: points(), ..Observation::default() };
    all.push(("event-observed-points".into(), Event::Observed(observed)));
    all.push(("event-tick".into(), Event::Tick));
    all
}

fn points() -> Vec<PointsReading> {
    let bad =
        ArmReading { point: PointReading::of(BEGINNING, 1.0), note: Some("1 of 2: 10.0.0.1:80 answered 503".into()) };
    let [missing, failed] = [PointReading::Missing, PointReading::Failed].map(|point| ArmReading { point, note: None });
    let reading =
        |canary: &ArmReading| PointsReading { gate: "alive".into(), canary: canary.clone(), stable: missing.clone() };
    vec![reading(&bad), reading(&failed)]
}

/// Names every variant: one that is added does not compile until it has a file.
const fn kind_of(event: &Event) -> &'static str {
    match event {
        Event::Command { command, .. } => match command {
            Command::Start(_) => "start",
            Command::Pause { .. } => "pause",
            Command::Resume => "resume",
            Command::Promote { .. } => "promote",
            Command::Abort { .. } => "abort",
            Command::Approve { .. } => "approve",
            Command::Reject { .. } => "reject",
            Command::MakeWay => "make way",
            Command::Freeze { .. } => "freeze",
            Command::Thaw => "thaw",
            Command::Supersede { .. } => "supersede",
        },
        Event::Settled { outcome: Outcome::Applied { .. }, .. } => "applied",
        Event::Settled { outcome: Outcome::Failed(_), .. } => "failed",
        Event::Settled { outcome: Outcome::Deployed(_), .. } => "deployed",
        Event::Settled { outcome: Outcome::Retired, .. } => "retired",
        Event::Settled { outcome: Outcome::PreviewOpened, .. } => "preview opened",
        Event::Settled { outcome: Outcome::PreviewClosed, .. } => "preview closed",
        Event::Observed(_) => "observed",
        Event::Tick => "tick",
    }
}

#[test]
fn events_keep_their_form() {
    let mut kinds = BTreeSet::new();
    for (name, event) in events() {
        kinds.insert(kind_of(&event));
        check(&name, &event);
    }
    assert_eq!(kinds.len(), 19, "{kinds:?}");
    check("input", &Input { seq: Seq(4), at: BEGINNING, event: Event::Tick });
}

#[test]
fn effects_keep_their_form() {
    let weights = Weights { canary: Slot::Second, share: percent(10) };
    let effect = Effect::set_weights(&plan(&[10, 100]), weights, (4, false), None);
    check("effect-set-weights", &effect);
    let plan = deploying(plan(&[10, 100]));
    let target = plan.workload.expect("as made").target;
    let deployment = Deployment {
        rollout: RolloutId("r-1".into()),
        target: target.clone(),
        slot: Slot::Second,
        image: "shop/checkout:v2".into(),
        revision: Some("abc".into()),
        share: None,
    };
    check("effect-deploy", &Effect::Deploy(deployment.clone()));
    check("effect-deploy-share", &Effect::Deploy(Deployment { share: Some(percent(10)), ..deployment }));
    check("effect-retire", &Effect::Retire(Retirement { target, slot: Slot::First }));
    let previewing = previewing(self::plan(&[10, 100]));
    let route = preview::route(&previewing, &state()).expect("it has one");
    check("effect-open-preview", &Effect::OpenPreview(route.clone()));
    check("effect-close-preview", &Effect::ClosePreview(route));
    check("effect-id", &effect_id());
}

fn percent(value: u8) -> Percent {
    Percent::new(value).expect("0 to 100")
}

fn phases() -> Vec<Phase> {
    let until = Timestamp(BEGINNING.0 + 1000);
    let [_, fault, _] = faults();
    vec![
        Phase::Deploying { step: 0, until },
        Phase::Previewing { step: 0, until },
        Phase::Cleaning { until, tries: 1 },
        Phase::Shifting { step: 0, until },
        Phase::Verifying { step: 0, until },
        Phase::Baking { step: 0, until },
        Phase::Judging { step: 0, until },
        Phase::AwaitingApproval { step: 1, until },
        Phase::RollingBack { until },
        Phase::Holding { until },
        Phase::Succeeded,
        Phase::RolledBack,
        Phase::Aborted,
        Phase::Superseded,
        Phase::Stuck { fault, until },
    ]
}

const fn name_of(phase: &Phase) -> &'static str {
    match phase {
        Phase::Deploying { .. } => "deploying",
        Phase::Previewing { .. } => "previewing",
        Phase::Cleaning { .. } => "cleaning",
        Phase::Shifting { .. } => "shifting",
        Phase::Verifying { .. } => "verifying",
        Phase::Baking { .. } => "baking",
        Phase::Judging { .. } => "judging",
        Phase::AwaitingApproval { .. } => "awaiting_approval",
        Phase::RollingBack { .. } => "rolling_back",
        Phase::Holding { .. } => "holding",
        Phase::Succeeded => "succeeded",
        Phase::RolledBack => "rolled_back",
        Phase::Aborted => "aborted",
        Phase::Superseded => "superseded",
        Phase::Stuck { .. } => "stuck",
    }
}

fn state() -> State {
    beginning(&plan(&[10, 100]), "r-1", BEGINNING, fresh_route(7), 3).state
}

#[test]
fn states_keep_their_form() {
    check("state-begun", &state());
    check("state-preview", &beginning(&previewing(plan(&[10, 100])), "r-1", BEGINNING, fresh_route(7), 3).state);
    let mut names = BTreeSet::new();
    for phase in phases() {
        names.insert(name_of(&phase));
        check(&format!("phase-{}", name_of(&phase)), &phase);
    }
    assert_eq!(names.len(), 15, "{names:?}");
    let mut full = state();
    full.written = Some(Written { version: 8, at: BEGINNING });
    full.overruled = true;
    full.budget_grants = 2;
    full.trouble = Some("someone raised the canary".into());
    full.evidence.seen.entry("p1".into()).or_default().insert(8, counts());
    full.evidence.blocks =
        vec![Block { opened_at: BEGINNING, by_share: [(100_000, counts())].into(), ..Block::default() }];
    full.approvals = vec![Approval {
        person: "ann".into(),
        actor: ann(),
        voice: Voice::default(),
        at: BEGINNING,
        reason: "seen".into(),
    }];
    full.paused = Some(Pause { cause: PauseCause::Person, reason: "lunch".into(), at: BEGINNING, step: 0 });
    check("state-full", &full);
    let mut pointed = full.clone();
    let trail = PointTrail { last: Some((BEGINNING, 1.0)), breaches: 2, missing: 1, failures: 3 };
    let arm = ArmTrail { trail, note: Some("no answer".into()) };
    pointed.points = [("alive".into(), ArmPoints { canary: arm, stable: ArmTrail::default() })].into();
    check("state-points", &pointed);
    let mut exposed = state();
    exposed.exposed = Some(Exposed { from: BEGINNING, since: Some(Timestamp(BEGINNING.0 + 1000)) });
    exposed.stable_release = Some(released());
    check("state-signals", &exposed);
    check("state-outside-windows", &State { outside_windows: Some("the site is down".into()), ..state() });
    let noise = Some(MeasuredNoise { v: 0.0, phi: 1.0, minutes: 3, endpoints: 1 });
    check("state-past", &State { past: Past { noise, ..Past::default() }, ..state() });
    check("state-timed", &timed(full));
    let mut releasing = beginning(&deploying(plan(&[10, 100])), "r-1", BEGINNING, fresh_route(7), 3).state;
    check("state-deploying", &releasing);
    if let Some(release) = &mut releasing.release {
        release.deployed = Some(deployed());
        release.reading = Some(WorkloadReading { standing: Standing::Ready, note: "2 of 2 tasks running".into() });
    }
    check("state-deployed", &releasing);
}

fn timed(mut state: State) -> State {
    let slower = vec![SlowCounts { bound_us: 851_968, counts: counts() }];
    state.evidence.blocks[0].latency_by_share = [(100_000, latency_counts())].into();
    state.evidence.blocks[0].slower_by_share = [(100_000, slower.clone())].into();
    let mut many = Histogram::default();
    (0..1000).for_each(|_| many.record(5000));
    state.evidence.timing.baseline = Some(Baseline::begin(Some(&many), 0.1));
    let latencies = [SeenLatency::Collecting(histogram()), SeenLatency::Early, SeenLatency::Counts(latency_counts())];
    let seen = latencies.into_iter().map(|latency| SeenTiming { latency: Some(latency), slower: slower.clone() });
    state.evidence.timing.seen = [("p1".into(), (8..).zip(seen).collect())].into();
    state
}

#[test]
fn causes_and_ends_keep_their_names() {
    let causes = [
        PauseCause::Person,
        PauseCause::Drift,
        PauseCause::NoData,
        PauseCause::Budget,
        PauseCause::GateFailed,
        PauseCause::VerifyTimeout,
        PauseCause::ApprovalTimeout,
        PauseCause::BothFail,
        PauseCause::BothRecovered,
    ];
    check("pause-causes", &causes.to_vec());
    let ends = [EndingKind::Succeeded, EndingKind::RolledBack, EndingKind::Aborted, EndingKind::Superseded];
    let ends = ends.map(|kind| Ending { kind, reason: "because".into(), decided_at: BEGINNING, at_step: Some(1) });
    check("endings", &ends.to_vec());
}

fn asking() -> ApprovalStep {
    ApprovalStep {
        slack: Some("#deploys".into()),
        from: vec!["ann".into()],
        need: 1,
        timeout: Millis::from_seconds(3600),
        on_timeout: OnFailure::Rollback,
    }
}

/// Every form of a question, of a unit and of a rule.
fn signals() -> Vec<(&'static str, SignalGate)> {
    let limit = SignalRule::Limit { value: 0.5, bound: Bound::Max };
    let compared = SignalRule::AgainstStable { ratio: 1.5, add: 0.002 };
    let signal = |query, unit, rule| SignalGate { query, interval: Millis::from_seconds(30), unit, rule, breaches: 3 };
    let metric = CloudwatchMetric {
        namespace: "Shop".into(),
        name: "QueueDepth".into(),
        stat: "Average".into(),
        dimensions: [("Service".to_owned(), "checkout".to_owned())].into(),
    };
    let period = Millis::from_seconds(60);
    let expression = CloudwatchQuery::Expression {
        expression: "m / 2".into(),
        metrics: [("m".to_owned(), metric.clone())].into(),
        period,
    };
    let traces = |measure| {
        SignalQuery::Xray(XrayQuery {
            filter: "annotation.version = \"{version}\"".into(),
            measure,
            min_traces: 1,
            beside: None,
        })
    };
    let cloudwatch = SignalQuery::Cloudwatch;
    vec![
        ("queue", signal(cloudwatch(CloudwatchQuery::Metric { metric, period }), SignalUnit::Number, limit)),
        ("half", signal(cloudwatch(expression), SignalUnit::Percent, limit)),
        ("alarm", signal(cloudwatch(CloudwatchQuery::Alarm { name: "slo".into() }), SignalUnit::Number, limit)),
        ("faults", signal(traces(XrayMeasure::FaultRate), SignalUnit::Share, compared)),
        ("errors", signal(traces(XrayMeasure::ErrorRate), SignalUnit::Share, compared)),
        ("throttles", signal(traces(XrayMeasure::ThrottleRate), SignalUnit::Share, compared)),
        ("times", signal(traces(XrayMeasure::ResponseTime { quantile: 0.95 }), SignalUnit::Seconds, limit)),
        (
            "series",
            signal(SignalQuery::Prometheus { query: "up".into(), url: None, step: None }, SignalUnit::Number, limit),
        ),
        (
            "number",
            signal(SignalQuery::Http { url: "http://h/".into(), value: "/a".into() }, SignalUnit::Number, limit),
        ),
        (
            "series-range",
            signal(
                SignalQuery::Prometheus { query: "up".into(), url: None, step: Some(Millis::from_seconds(15)) },
                SignalUnit::Number,
                limit,
            ),
        ),
        (
            "exceptions",
            signal(
                SignalQuery::Xray(XrayQuery {
                    filter: "annotation.version = \"{version}\"".into(),
                    measure: XrayMeasure::NewExceptions,
                    min_traces: 20,
                    beside: Some(XrayBeside {
                        filter: "annotation.version = \"{version}\"".into(),
                        canary: "{node}".into(),
                        stable: "{node}".into(),
                    }),
                }),
                SignalUnit::Number,
                limit,
            ),
        ),
        (
            "judge",
            signal(
                SignalQuery::Webhook(WebhookQuery {
                    url: "http://h/".into(),
                    timeout: Millis::from_seconds(5),
                    facts: Box::default(),
                }),
                SignalUnit::Number,
                limit,
            ),
        ),
    ]
}

#[test]
fn plans_keep_their_form() {
    let mut plan = plan(&[10, 100]);
    check("plan", &plan);
    check("plan-workload", &deploying(plan.clone()));
    let image = ImageRule { repository: "shop/checkout".into(), tag: Some("v*".into()) };
    let workflow = WorkflowImage {
        repository: "shop/checkout".into(),
        branch: "main".into(),
        workflow: Some("release".into()),
        image: "shop/checkout:{sha}".into(),
    };
    let start = |while_live| StartRules {
        image: Some(image.clone()),
        workflow: Some(workflow.clone()),
        windows: vec![],
        at: vec![],
        while_live,
    };
    for (name, while_live) in
        [("newest-wins", WhileLive::NewestWins), ("queue", WhileLive::Queue), ("refuse", WhileLive::Refuse)]
    {
        check(&format!("start-rules-{name}"), &start(while_live));
    }
    let (windows, at) = ("Mon-Thu 09:00-16:00 Europe/Berlin".into(), "0 9,14 * * Mon-Thu Europe/Berlin".into());
    let scheduled = StartRules { windows: vec![windows], at: vec![at], ..start(WhileLive::NewestWins) };
    check("start-rules-windows", &scheduled);
    check("plan-preview", &previewing(plan.clone()));
    check("plan-start", &Plan { start: Some(start(WhileLive::Queue)), ..plan.clone() });
    check("plan-noise-auto", &Plan { noise: NoiseRule::Auto, ..plan.clone() });
    check("plan-noise-fixed", &Plan { noise: NoiseRule::Fixed { v: 0.25, phi: 1.0 }, ..plan.clone() });
    plan.on_failure = OnFailure::Pause;
    plan.verify.on_timeout = OnVerifyTimeout::Pause;
    for (step, what) in plan.steps.iter_mut().zip([OnInconclusive::Advance, OnInconclusive::Rollback]) {
        let Step::Weight(step) = step else { continue };
        step.on_inconclusive = what;
    }
    plan.steps.insert(1, Step::Approval(asking()));
    check("plan-other", &plan);
    let gate = |name: &str, rule| Gate::new(name, rule);
    let limit = Millis(800);
    plan.gates = vec![
        gate("latency", GateRule::LatencyAgainstStable { tolerate: 0.1 }),
        gate("slo", GateRule::ErrorRateLimit { share: 0.01, bound: Bound::Max }),
        gate("p99", GateRule::LatencyLimit { quantile: 0.99, limit, bound: Bound::Min }),
        gate(
            "alive",
            GateRule::Health { probe: HealthProbe::Http { path: "/health".into() }, interval: limit, breaches: 3 },
        ),
    ];
    check("plan-gates", &plan);
    plan.gates = signals().into_iter().map(|(name, signal)| gate(name, GateRule::Signal(signal))).collect();
    check("plan-signals", &plan);
}

#[test]
fn a_plan_is_read_back_to_the_last_bit() {
    let mut plan = plan(&[10, 100]);
    for n in 0..20_000 {
        // As percents and points are written in policies.
        plan.max_false_rollback = f64::from(n) / 100.0 / 100.0;
        plan.confidence_to_advance = f64::from(n) * 0.01 / 3.0;
        let text = serde_json::to_string(&plan).expect("has a JSON form");
        assert_eq!(serde_json::from_str::<tidegate::policy::plan::Plan>(&text).expect("readable"), plan, "{text}");
    }
}
