//! A plan in one line, and a small world: a mesh, a data plane and a clock around one rollout.

mod check;

use crate::base::fault::{Fault, FaultKind};
use crate::base::histogram::Histogram;
use crate::base::ids::{RolloutId, RouteRef, Seq};
use crate::base::time::{Millis, Timestamp};
use crate::base::weight::Percent;
use crate::judge::Counts;
use crate::judge::bounds::{requests_in, slower_than};
use crate::judge::points::PointReading;
use crate::policy::plan::{
    BlastRadius, EcsTarget, Gate, GateRule, HealthProbe, NoData, NoiseRule, OnFailure, OnInconclusive, OnVerifyTimeout,
    Plan, Preview, PreviewHeader, Scale, Step, Verify, WeightStep, Workload, WorkloadTarget,
};
use crate::rollout::effect::{Effect, EffectId, WeightsWrite};
use crate::rollout::event::{
    Actor, ArmReading, Command, ComparedBy, Deployed, Event, Input, Latency, LiveReading, Observation, Outcome,
    PointsReading, PreviewReading, ProxyCounts, RouteReading, SlowCounts, Standing, Start, TimingAsk, VersionCounts,
    Voice, WorkloadReading,
};
use crate::rollout::state::{Next, PauseCause, State};
use crate::rollout::view::phase_name;
use crate::rollout::workload::{Look, look};
use crate::rollout::{begin, preview, step};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const START: i64 = 1_700_000_000_000;

pub(super) fn percent(value: u8) -> Percent {
    Percent::new(value).expect("0 to 100")
}

/// Steps of these weights: 10 s to 60 s each, margin 2 pp, hold without proof; one error gate.
pub(super) fn plan(weights: &[u8]) -> Plan {
    let step = |weight: &u8| {
        Step::Weight(WeightStep {
            weight: percent(*weight),
            min: Millis::from_seconds(10),
            max: Millis::from_seconds(60),
            prove_no_worse_than: 0.02,
            on_inconclusive: OnInconclusive::Hold,
        })
    };
    Plan {
        workload: None,
        start: None,
        preview: None,
        format: 1,
        name: "checkout".into(),
        route: RouteRef { mesh: "shop".into(), router: "checkout-router".into(), route: "checkout".into() },
        versions: ["v1".into(), "v2".into()],
        steps: weights.iter().map(step).collect(),
        max_total: Millis::from_seconds(24 * 3600),
        gates: vec![Gate::new("errors", GateRule::ErrorRateAgainstStable { ratio: 1.0, add: 0.001 })],
        max_false_rollback: 0.01,
        confidence_to_advance: 0.95,
        blast_radius: BlastRadius { failed_requests: 50, per_proxy_between_acks: 5 },
        noise: NoiseRule::None,
        no_data: NoData { hold_after: Millis::from_seconds(10), withdraw_after: Millis::from_seconds(30) },
        verify: Verify { timeout: Millis::from_seconds(60), on_timeout: OnVerifyTimeout::Rollback },
        on_failure: OnFailure::Rollback,
        notify: vec![],
    }
}

/// The same plan with services that the release is deployed to.
pub(super) fn deploying(mut plan: Plan) -> Plan {
    let target = WorkloadTarget::Ecs(EcsTarget {
        cluster: "prod".into(),
        services: ["checkout-a".into(), "checkout-b".into()],
        container: "app".into(),
        scale: Scale::SameAsStable,
    });
    plan.workload =
        Some(Workload { target, ready_within: Millis::from_seconds(60), keep_for: Millis::from_seconds(100) });
    plan
}

/// The same plan with a number of instances that follows the share.
pub(super) fn growing(plan: Plan) -> Plan {
    let mut plan = deploying(plan);
    if let Some(Workload { target: WorkloadTarget::Ecs(target), .. }) = &mut plan.workload {
        target.scale = Scale::FollowShare { headroom_percent: 20 };
    }
    plan
}

/// The same plan with a preview of 20 s, a minute at most, and a gate on health that three checks fail.
pub(super) fn previewing(mut plan: Plan) -> Plan {
    let header = PreviewHeader { name: "x-preview".into(), value: "1".into() };
    let (lasts, max) = (Millis::from_seconds(20), Millis::from_seconds(60));
    plan.preview = Some(Preview { header, lasts, max, on_inconclusive: OnInconclusive::Hold });
    let probe = HealthProbe::Http { path: "/health".into() };
    let rule = GateRule::Health { probe, interval: Millis::from_seconds(5), breaches: 3 };
    plan.gates.push(Gate::new("alive", rule));
    plan
}

/// A preview's route as it should be.
pub(super) const fn opened() -> PreviewReading {
    PreviewReading { ours: true, fits: true, behind: Some(0) }
}

pub(super) fn deployed() -> Deployed {
    Deployed { what: "checkout:7".into(), instances: 2 }
}

/// The same plan with every step's `on_inconclusive` set.
pub(super) fn inconclusive(mut plan: Plan, what: OnInconclusive) -> Plan {
    for step in &mut plan.steps {
        let Step::Weight(step) = step else { continue };
        step.on_inconclusive = what;
    }
    plan
}

pub(super) fn actor() -> Actor {
    Actor { name: "ann".into(), via: "test".into() }
}

pub(super) fn because() -> String {
    "because".into()
}

pub(super) fn command(name: &str) -> Command {
    match name {
        "start" => Command::Start(Start {
            to: None,
            revision: None,
            route: route(7, 100, 0),
            image: None,
            author: Vec::new(),
            first_step: 0,
            outside_windows: None,
            last_generation: 0,
            stable: None,
            baseline: None,
            past: Box::default(),
        }),
        "pause" => Command::Pause { reason: because() },
        "resume" => Command::Resume,
        "promote" => Command::Promote { full: false, reason: because() },
        "promote full" => Command::Promote { full: true, reason: because() },
        "abort" => Command::Abort { reason: because() },
        "approve" => Command::Approve { person: None, reason: because(), step: None, voice: Voice::default() },
        "freeze" => Command::Freeze { reason: because() },
        "thaw" => Command::Thaw,
        "make way" => Command::MakeWay,
        "supersede" => Command::Supersede { by: "v3".into() },
        "reject" => Command::Reject { person: None, reason: because(), step: None },
        other => panic!("no command `{other}`"),
    }
}

pub(super) fn route(version: u64, first: u32, second: u32) -> RouteReading {
    RouteReading { version, targets: vec![("v1".into(), first), ("v2".into(), second)], lapsed: None }
}

pub(super) fn fault(kind: FaultKind) -> Fault {
    Fault { kind, source: "app mesh".into(), message: "no".into() }
}

/// One rollout with everything around it. The first version, `v1`, is stable.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) state: State,
    pub(super) now: Timestamp,
    /// The route as the mesh has it.
    pub(super) mesh: RouteReading,
    /// What the one proxy counted, by version.
    pub(super) counted: BTreeMap<u64, VersionCounts>,
    /// Latencies of their successful requests, of the canary and of stable.
    pub(super) timed: BTreeMap<u64, (Histogram, Histogram)>,
    /// Least latency of the canary and of stable in microseconds; requests are spread up to twice as much.
    pub(super) latency_us: (u64, u64),
    /// Whether the proxy answers.
    pub(super) silent: bool,
    /// The version by which the proxy routes, when it is behind the mesh.
    pub(super) applied: Option<u64>,
    /// The write under way.
    pub(super) under_way: Option<(EffectId, WeightsWrite)>,
    /// The effect on the release's instances that is under way.
    pub(super) working: Option<(EffectId, Effect)>,
    /// The effect on the preview's route that is under way.
    pub(super) previewing: Option<(EffectId, Effect)>,
    /// The route under the preview's name as the mesh has it.
    pub(super) preview: Option<PreviewReading>,
    pub(super) inputs: Vec<Input>,
    pub(super) ids: BTreeSet<EffectId>,
    /// When the data plane was last heard, or the exposure began.
    heard_at: Timestamp,
}

impl World {
    /// Started: the first step's write is under way.
    pub(super) fn start(plan: Plan) -> Self {
        Self::start_with(plan, None)
    }

    /// The same with what is known of stable's latency.
    pub(super) fn start_with(plan: Plan, baseline: Option<Histogram>) -> Self {
        let mesh = route(7, 100, 0);
        let start = Start {
            to: None,
            revision: Some("abc".into()),
            route: mesh.clone(),
            image: plan.workload.as_ref().map(|_| "shop/checkout:v2".into()),
            author: Vec::new(),
            first_step: 0,
            outside_windows: None,
            last_generation: 3,
            stable: None,
            baseline,
            past: Box::default(),
        };
        let event = Event::Command { command: Command::Start(start), actor: actor() };
        let input = Input { seq: Seq(1), at: Timestamp(START), event };
        let (state, effects) = begin(&plan, RolloutId("r-1".into()), &input).expect("a route that can take it");
        assert_eq!(effects.len(), 1);
        let (now, heard_at) = (state.at, state.at);
        let ids = effects.iter().map(|(id, _)| id.clone()).collect();
        let (under_way, working, previewing) = match effects.into_iter().next() {
            Some((id, Effect::SetWeights(write))) => (Some((id, write)), None, None),
            Some((id, effect @ Effect::OpenPreview(_))) => (None, None, Some((id, effect))),
            other => (None, other, None),
        };
        Self {
            plan,
            state,
            now,
            mesh,
            counted: BTreeMap::new(),
            timed: BTreeMap::new(),
            latency_us: (5000, 5000),
            silent: false,
            applied: None,
            under_way,
            working,
            previewing,
            preview: None,
            inputs: vec![input],
            ids,
            heard_at,
        }
    }

    /// A world at the first step in a named phase, by the shortest way there.
    pub(super) fn at(plan: Plan, phase: &str) -> Self {
        let mut world = Self::start(plan);
        match phase {
            "shifting" => {}
            "verifying" => world.settle(),
            "baking" => world.bake(),
            "judging" => {
                world.bake();
                world.wait(10);
                world.read();
            }
            "rolling_back" => {
                world.bake();
                world.order("abort");
            }
            "holding" => {
                world.bake();
                world.order("abort");
                world.settle();
            }
            other => panic!("no way to `{other}`"),
        }
        assert_eq!(world.phase(), phase);
        world
    }

    fn bake(&mut self) {
        self.settle();
        self.read();
        assert_eq!(self.phase(), "baking");
    }

    pub(super) fn phase(&self) -> &'static str {
        phase_name(&self.state)
    }

    /// Phase and share, `baking 10`.
    pub(super) fn stand(&self) -> String {
        format!("{} {}", self.phase(), self.state.wanted.get())
    }

    pub(super) fn cause(&self) -> Option<PauseCause> {
        self.state.paused.as_ref().map(|pause| pause.cause)
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.now = self.now.plus(Millis::from_seconds(seconds));
    }

    /// Gives one event to the engine, and checks what always holds.
    pub(super) fn give(&mut self, mut event: Event) -> Next {
        // As the runner does with what it reads.
        if let Event::Observed(Observation { live: Some(Ok(live)), .. }) = &mut event {
            *live = self.state.usable(std::mem::take(live));
        }
        let input = Input { seq: self.state.seq.next(), at: self.now, event };
        let next = step(&self.plan, &self.state, &input);
        assert_eq!(next, step(&self.plan, &self.state, &input), "not a function");
        assert_eq!(next, step(&self.plan, &self.state, &self.shortened(&input)), "the shorter form says less");
        self.check(&input, &next);
        if let Next::Step { state, effects } = &next {
            self.inputs.push(input);
            self.state = (**state).clone();
            for (id, effect) in effects {
                if self.state.wanted > Percent::ZERO {
                    // The silence clock starts with each exposure.
                    self.heard_at = self.heard_at.max(self.state.at);
                }
                assert!(self.ids.insert(id.clone()), "{id} twice");
                match effect {
                    Effect::SetWeights(write) => self.under_way = Some((id.clone(), write.clone())),
                    Effect::Deploy(_) | Effect::Retire(_) => self.working = Some((id.clone(), effect.clone())),
                    Effect::OpenPreview(_) | Effect::ClosePreview(_) => {
                        self.previewing = Some((id.clone(), effect.clone()));
                    }
                }
            }
            self.under_way = self.under_way.take().filter(|(id, _)| self.state.waits_for(id));
            self.working = self.working.take().filter(|(id, _)| self.state.waits_for(id));
            self.previewing = self.previewing.take().filter(|(id, _)| self.state.waits_for(id));
        }
        next
    }

    /// As the runner journals it.
    fn shortened(&self, input: &Input) -> Input {
        let mut input = input.clone();
        if let Event::Observed(Observation { live: Some(Ok(live)), .. }) = &mut input.event {
            *live = self.state.evidence.only_news(std::mem::take(live));
        }
        input
    }

    pub(super) fn order(&mut self, name: &str) -> Next {
        // As on a laptop: a claimed name, so that one person can play all parts.
        let actor = Actor { via: "os_user".into(), ..actor() };
        self.give(Event::Command { command: command(name), actor })
    }

    pub(super) fn tick(&mut self) -> Next {
        self.give(Event::Tick)
    }

    /// The write under way is carried out and answered.
    pub(super) fn settle(&mut self) {
        let version = self.carry_out().expect("a write under way");
        self.answer(version);
    }

    /// The write under way is carried out, and not answered yet. Answers the route's version.
    pub(super) fn carry_out(&mut self) -> Option<u64> {
        let (_, WeightsWrite { canary, stable, .. }) = self.under_way.as_ref()?;
        let version = self.mesh.version + 1;
        let mut weights = vec![(stable.0.clone(), u32::from(stable.1)), (canary.0.clone(), u32::from(canary.1))];
        let others = self.mesh.targets.iter().filter(|(node, _)| *node != stable.0 && *node != canary.0);
        weights.extend(others.cloned());
        self.mesh = RouteReading { version, targets: weights, lapsed: None };
        Some(version)
    }

    pub(super) fn answer(&mut self, version: u64) -> Next {
        let (effect, _) = self.under_way.take().expect("a write under way");
        self.give(Event::Settled { effect, outcome: Outcome::Applied { version } })
    }

    /// The write under way fails.
    pub(super) fn fail(&mut self, kind: FaultKind) -> Next {
        let (effect, _) = self.under_way.take().expect("a write under way");
        self.give(Event::Settled { effect, outcome: Outcome::Failed(fault(kind)) })
    }

    /// The effect on the release's instances that is under way ends so; well without a kind of fault.
    pub(super) fn work(&mut self, failed: Option<FaultKind>) -> Option<Next> {
        let (effect, what) = self.working.take()?;
        let outcome = match (failed, what) {
            (Some(kind), _) => Outcome::Failed(fault(kind)),
            (None, Effect::Retire(_)) => Outcome::Retired,
            (None, _) => Outcome::Deployed(deployed()),
        };
        Some(self.give(Event::Settled { effect, outcome }))
    }

    /// What is to be done about the preview's route is done, and not answered yet.
    pub(super) fn preview_lands(&mut self) {
        // Somebody else's route is left alone.
        let is_ours = self.preview.as_ref().is_none_or(|preview| preview.ours);
        match &self.previewing {
            Some((_, Effect::OpenPreview(_))) if is_ours => self.preview = Some(opened()),
            Some((_, Effect::ClosePreview(_))) if is_ours => self.preview = None,
            Some(_) | None => {}
        }
    }

    /// The effect on the preview's route that is under way ends so; well without a kind of fault.
    pub(super) fn preview_ends(&mut self, failed: Option<FaultKind>) -> Option<Next> {
        if failed.is_none() {
            self.preview_lands();
        }
        let (effect, what) = self.previewing.take()?;
        let outcome = match (failed, what) {
            (Some(kind), _) => Outcome::Failed(fault(kind)),
            (None, Effect::OpenPreview(_)) => Outcome::PreviewOpened,
            (None, _) => Outcome::PreviewClosed,
        };
        Some(self.give(Event::Settled { effect, outcome }))
    }

    /// A look at the release's instances.
    pub(super) fn look(&mut self, standing: Standing) -> Next {
        let reading = WorkloadReading { standing, note: format!("{standing:?}").to_lowercase() };
        self.give(Event::Observed(Observation { workload: Some(Ok(reading)), ..Observation::default() }))
    }

    /// Someone else writes the route.
    pub(super) fn meddle(&mut self, first: u32, second: u32) {
        self.mesh = route(self.mesh.version + 1, first, second);
    }

    /// Requests and errors at the weights in force, on the canary and on stable.
    pub(super) fn traffic(&mut self, canary: (u64, u64), stable: (u64, u64)) {
        let version = self.mesh.version;
        let share_ppm = u32::from(self.mesh.percent_of("v2")) * 10_000;
        let entry = self.counted.entry(version);
        let entry = entry.or_insert(VersionCounts::new(version, share_ppm, Counts::default()));
        entry.counts.add(&Counts {
            canary_requests: canary.0,
            canary_errors: canary.1,
            stable_requests: stable.0,
            stable_errors: stable.1,
        });
        if self.state.evidence.timing.ask(&self.plan) == TimingAsk::default() {
            return;
        }
        let timed = self.timed.entry(version).or_default();
        for (histogram, (requests, errors), least) in
            [(&mut timed.0, canary, self.latency_us.0), (&mut timed.1, stable, self.latency_us.1)]
        {
            let before = histogram.total();
            (before..before + (requests - errors)).for_each(|n| histogram.record(least + least * (n * 37 % 101) / 100));
        }
    }

    /// A proxy's counts of one version with latencies, as the signals tell them.
    fn told(&self, now: &VersionCounts, ask: &TimingAsk) -> VersionCounts {
        let (canary, stable) = self.timed.get(&now.version).cloned().unwrap_or_default();
        let latency = ask.compared.map(|by| match by {
            ComparedBy::Collecting => Latency::Baseline(stable.clone()),
            ComparedBy::Thresholds(thresholds) => Latency::Counts(thresholds.counts(&canary, &stable)),
        });
        let slower = ask.bounds_us.iter().map(|bound_us| SlowCounts {
            bound_us: *bound_us,
            counts: Counts {
                canary_requests: requests_in(&canary),
                canary_errors: slower_than(&canary, Some(*bound_us)),
                stable_requests: requests_in(&stable),
                stable_errors: slower_than(&stable, Some(*bound_us)),
            },
        });
        VersionCounts { latency, slower: slower.collect(), ..now.clone() }
    }

    pub(super) fn live(&self) -> LiveReading {
        let ask = self.state.evidence.timing.ask(&self.plan);
        let versions = self.counted.values().map(|now| self.told(now, &ask)).collect();
        let proxies = if self.silent {
            vec![]
        } else {
            vec![ProxyCounts {
                fuse: None,
                proxy: "p1".into(),
                applied: self.applied.or(Some(self.mesh.version)),
                serving: true,
                versions,
            }]
        };
        LiveReading { proxies, ..LiveReading::default() }
    }

    /// One round of readings, of everything as it is.
    pub(super) fn read(&mut self) -> Next {
        self.give(Event::Observed(Observation {
            route: Some(Ok(self.mesh.clone())),
            live: Some(Ok(self.live())),
            preview: preview::watched(&self.plan, &self.state).map(|_| Ok(self.preview.clone())),
            ..Observation::default()
        }))
    }

    /// A reading of a gate on points: what the canary's value is, now.
    pub(super) fn checked(&mut self, gate: &str, value: f64) -> Next {
        let arm = |value| ArmReading { point: PointReading::of(self.now, value), note: None };
        let points = vec![PointsReading { gate: gate.to_owned(), canary: arm(value), stable: arm(0.0) }];
        self.give(Event::Observed(Observation { points, ..Observation::default() }))
    }

    /// The route only, as given.
    pub(super) fn read_route(&mut self, reading: RouteReading) -> Next {
        self.give(Event::Observed(Observation { route: Some(Ok(reading)), live: None, ..Observation::default() }))
    }

    /// Second by second for so long, with traffic that is good or bad on the canary and good on stable; every write is
    /// carried out at once. Stops at the end.
    pub(super) fn run(&mut self, seconds: u64, good: bool) {
        for _ in 0..seconds {
            if self.state.is_finished() {
                return;
            }
            if self.under_way.is_some() {
                self.settle();
            }
            self.work(None);
            self.preview_ends(None);
            match look(&self.state) {
                Some(Look { wanted: Some(_), .. }) => drop(self.look(Standing::Ready)),
                Some(Look { wanted: None, .. }) => drop(self.look(Standing::Idle)),
                None => {}
            }
            let share = u64::from(self.mesh.percent_of("v2"));
            let errors = if good { 0 } else { share };
            self.traffic((share, errors), (100 - share, 0));
            self.wait(1);
            self.read();
        }
    }
}
