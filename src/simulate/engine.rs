//! The real engine without a world: every write of weights is in force at once, and readings are handed in.

use crate::base::histogram::Histogram;
use crate::base::ids::{RolloutId, Seq};
use crate::base::time::Timestamp;
use crate::base::weight::Percent;
use crate::policy::plan::{Gate, GateRule, Plan, Step};
use crate::rollout::effect::{Effect, EffectId};
use crate::rollout::event::{
    Actor, Command, Event, Input, LiveReading, Observation, Outcome, Past, PointsReading, ProxyCounts, RouteReading,
    Start, VersionCounts,
};
use crate::rollout::gate::judge;
use crate::rollout::state::{EndingKind, Next, PauseCause, Refusal, State};
use crate::rollout::{begin, step};

/// The name of the only proxy.
const PROXY: &str = "simulated";
/// Version of the route before the rollout.
const BEFORE: u64 = 0;

/// A plan without what no simulation has, and what was left out of it, in sentences.
#[must_use]
pub fn prepared(plan: &Plan) -> (Plan, Vec<String>) {
    prepared_for(plan, |gate| match gate.rule {
        GateRule::Health { .. } | GateRule::Signal(_) => Err("it is not about requests".to_owned()),
        GateRule::ErrorRateAgainstStable { .. }
        | GateRule::LatencyAgainstStable { .. }
        | GateRule::ErrorRateLimit { .. }
        | GateRule::LatencyLimit { .. } => Ok(()),
    })
}

/// The same, where `stays` says of each gate whether it has anything to go by, and why not.
#[must_use]
pub fn prepared_for(plan: &Plan, stays: impl Fn(&Gate) -> Result<(), String>) -> (Plan, Vec<String>) {
    let mut left_out = Vec::new();
    let mut plan = plan.clone();
    if plan.workload.take().is_some() {
        left_out.push("the deployment before the first step takes no time".to_owned());
    }
    if plan.preview.take().is_some() {
        left_out.push("the preview before the first step takes no time and shows nothing".to_owned());
    }
    plan.start = None;
    plan.notify.clear();
    let steps = plan.steps.len();
    plan.steps.retain(|step| matches!(step, Step::Weight(_)));
    if plan.steps.len() < steps {
        left_out.push("people approve at once".to_owned());
    }
    plan.gates.retain(|gate| match stays(gate) {
        Ok(()) => true,
        Err(why) => {
            left_out.push(format!("gate `{}` always passes: {why}", gate.name));
            false
        }
    });
    (plan, left_out)
}

/// How a rollout stands, as far as traffic is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// At a step.
    Going,
    /// All the traffic was given to the release.
    Full,
    /// A gate ended it, or paused it where the policy says so.
    Failed,
    /// Time ended it: a step's longest stay, or `max_total`.
    GaveUp,
    /// The blast radius is spent.
    BudgetSpent,
    /// Both versions fail, or failed and recovered: a person is waited for.
    BothFailed,
}

/// What is known of stable when a rollout begins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Before {
    /// Its latencies of the last minutes.
    pub baseline: Option<Histogram>,
    /// Its errors, and how they scatter.
    pub past: Past,
}

/// A rollout under the engine.
#[derive(Debug)]
pub struct Engine<'a> {
    plan: &'a Plan,
    state: State,
    version: u64,
    /// The last weight of the canary that was any.
    exposed: Percent,
}

impl<'a> Engine<'a> {
    /// Starts a rollout. Versions that it writes are numbered from `first_version` on.
    ///
    /// # Errors
    /// The engine's refusal; a plan that [`prepared`] made is not refused.
    pub fn begin(plan: &'a Plan, at: Timestamp, first_version: u64, before: Before) -> Result<Self, Refusal> {
        let targets = vec![(plan.versions[0].clone(), 100), (plan.versions[1].clone(), 0)];
        let start = Start {
            to: None,
            revision: None,
            image: None,
            route: RouteReading { version: BEFORE, targets, lapsed: None },
            author: Vec::new(),
            first_step: 0,
            outside_windows: None,
            last_generation: 0,
            stable: None,
            baseline: before.baseline,
            past: Box::new(before.past),
        };
        let actor = Actor { name: "simulation".to_owned(), via: "simulate".to_owned() };
        let event = Event::Command { command: Command::Start(start), actor };
        let input = Input { seq: Seq(1), at, event };
        let (state, effects) = begin(plan, RolloutId("r-simulated".to_owned()), &input)?;
        let mut engine = Self { plan, state, version: first_version.saturating_sub(1), exposed: Percent::ZERO };
        engine.settle(at, effects);
        Ok(engine)
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The canary's share in percent.
    #[must_use]
    pub const fn weight(&self) -> u8 {
        self.state.wanted.get()
    }

    /// Version of the route's weights.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Whether all that can be asked of a rollout is known, and what.
    #[must_use]
    pub fn standing(&self) -> Standing {
        // As it stood: limits look at what is in force.
        let failed = || judge(self.plan, &State { wanted: self.exposed, ..self.state.clone() }).fails();
        if self.state.ending.as_ref().is_some_and(|ending| ending.kind == EndingKind::RolledBack) {
            return if failed() { Standing::Failed } else { Standing::GaveUp };
        }
        match self.state.paused.as_ref().map(|pause| pause.cause) {
            Some(PauseCause::Budget) => Standing::BudgetSpent,
            Some(PauseCause::GateFailed) => Standing::Failed,
            Some(PauseCause::BothFail | PauseCause::BothRecovered) => Standing::BothFailed,
            _ if self.weight() == 100 => Standing::Full,
            _ => Standing::Going,
        }
    }

    /// Whether nothing can end it badly any more.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.state.step_index().is_none()
    }

    /// A person who says go on as soon as both versions have recovered from what befell both.
    pub fn resume_when_recovered(&mut self, at: Timestamp) {
        let has_recovered = |state: &State| state.paused.as_ref().is_some_and(|p| p.cause == PauseCause::BothRecovered);
        if has_recovered(&self.state) {
            let actor = Actor { name: "simulation".to_owned(), via: "simulate".to_owned() };
            self.take(at, Event::Command { command: Command::Resume, actor });
            self.take(at, self.observation(Some(LiveReading::default()), Vec::new()));
        }
    }

    /// Hands a reading in: counts by version, and points of signals.
    pub fn observe(&mut self, at: Timestamp, versions: Vec<VersionCounts>, points: Vec<PointsReading>) {
        let proxy = ProxyCounts { proxy: PROXY.to_owned(), applied: None, serving: true, versions, fuse: None };
        self.observe_reading(at, LiveReading { proxies: vec![proxy], ..LiveReading::default() }, points);
    }

    /// The same with counts by proxy. Whatever these say, they route by the newest weights.
    pub fn observe_reading(&mut self, at: Timestamp, live: LiveReading, points: Vec<PointsReading>) {
        let before = self.version;
        self.take(at, self.observation(Some(live), points));
        if self.version != before {
            // New weights are in force at once.
            self.take(at, self.observation(Some(LiveReading::default()), Vec::new()));
        }
    }

    /// Hands points of signals in, without a word of the data plane.
    pub fn observe_points(&mut self, at: Timestamp, points: Vec<PointsReading>) {
        self.take(at, self.observation(None, points));
    }

    fn observation(&self, live: Option<LiveReading>, points: Vec<PointsReading>) -> Event {
        let weight = u32::from(self.weight());
        let (canary, stable) = (self.state.canary, self.state.canary.other());
        let targets =
            vec![(self.plan.node(canary).to_owned(), weight), (self.plan.node(stable).to_owned(), 100 - weight)];
        let applied = |mut live: LiveReading| {
            live.proxies.iter_mut().for_each(|proxy| proxy.applied = Some(self.version));
            Ok(live)
        };
        Event::Observed(Observation {
            route: Some(Ok(RouteReading { version: self.version, targets, lapsed: None })),
            live: live.map(applied),
            workload: None,
            points,
            preview: None,
        })
    }

    fn take(&mut self, at: Timestamp, event: Event) {
        let input = Input { seq: self.state.seq.next(), at, event };
        if let Next::Step { state, effects } = step(self.plan, &self.state, &input) {
            self.state = *state;
            if self.state.wanted != Percent::ZERO {
                self.exposed = self.state.wanted;
            }
            self.settle(at, effects);
        }
    }

    fn settle(&mut self, at: Timestamp, effects: Vec<(EffectId, Effect)>) {
        for (effect, what) in effects {
            if matches!(what, Effect::SetWeights(_)) {
                self.version += 1;
                let outcome = Outcome::Applied { version: self.version };
                self.take(at, Event::Settled { effect, outcome });
            }
        }
    }
}
