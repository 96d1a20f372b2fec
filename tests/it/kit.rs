//! Helpers of the integration tests: plans, a mesh and a journal in memory, a PostgreSQL server, an Envoy, certificates,
//! network namespaces, steady load and a service that answers it, and a rollout's life in one thread.

pub(crate) mod certificates;
pub(crate) mod echo;
pub(crate) mod envoy;
pub(crate) mod life;
pub(crate) mod memory;
pub(crate) mod netns;
pub(crate) mod ports;
pub(crate) mod postgres;
pub(crate) mod sds;
pub(crate) mod steady;
pub(crate) mod world;

use tidegate::base::ids::{RolloutId, RouteRef, Seq};
use tidegate::base::time::{Millis, Timestamp};
use tidegate::base::weight::Percent;
use tidegate::policy::plan::{
    BlastRadius, EcsTarget, Gate, GateRule, NoData, NoiseRule, OnFailure, OnInconclusive, OnVerifyTimeout, Plan,
    Preview, PreviewHeader, Scale, Step, Verify, WeightStep, Workload, WorkloadTarget,
};
use tidegate::ports::{Commit, Compared, News, NewsStanding};
use tidegate::rollout::event::{Actor, Command, Event, Input, RouteReading, Start};
use tidegate::rollout::{begin, next_deadline};

/// A second of the tests' time.
pub(crate) const SECOND: i64 = 1000;
/// When the tests' time begins.
pub(crate) const BEGINNING: Timestamp = Timestamp(1_700_000_000_000);

/// Steps of these weights, each 2 s to 20 s; silence counts after 3 s and withdraws after 6 s.
pub(crate) fn plan(weights: &[u8]) -> Plan {
    let step = |weight: &u8| {
        Step::Weight(WeightStep {
            weight: Percent::new(*weight).expect("0 to 100"),
            min: Millis::from_seconds(2),
            max: Millis::from_seconds(20),
            prove_no_worse_than: 0.02,
            on_inconclusive: OnInconclusive::Hold,
        })
    };
    Plan {
        format: 1,
        name: "checkout".into(),
        route: RouteRef { mesh: "shop".into(), router: "checkout-router".into(), route: "checkout".into() },
        workload: None,
        start: None,
        preview: None,
        versions: ["v1".into(), "v2".into()],
        steps: weights.iter().map(step).collect(),
        max_total: Millis::from_seconds(3600),
        gates: vec![Gate::new("errors", GateRule::ErrorRateAgainstStable { ratio: 1.0, add: 0.001 })],
        max_false_rollback: 0.01,
        confidence_to_advance: 0.95,
        blast_radius: BlastRadius { failed_requests: 50, per_proxy_between_acks: 5 },
        noise: NoiseRule::None,
        no_data: NoData { hold_after: Millis::from_seconds(3), withdraw_after: Millis::from_seconds(6) },
        verify: Verify { timeout: Millis::from_seconds(20), on_timeout: OnVerifyTimeout::Rollback },
        on_failure: OnFailure::Rollback,
        notify: vec![],
    }
}

/// The same plan with services that the release is deployed to; up within 30 s, the old one kept for 15 s.
pub(crate) fn deploying(mut plan: Plan) -> Plan {
    let target = WorkloadTarget::Ecs(EcsTarget {
        cluster: "prod".into(),
        services: ["checkout-a".into(), "checkout-b".into()],
        container: "app".into(),
        scale: Scale::SameAsStable,
    });
    plan.workload =
        Some(Workload { target, ready_within: Millis::from_seconds(30), keep_for: Millis::from_seconds(15) });
    plan
}

/// A plan that deploys, with as many instances as the share asks for.
pub(crate) fn growing(mut plan: Plan) -> Plan {
    if let Some(Workload { target: WorkloadTarget::Ecs(target), .. }) = &mut plan.workload {
        target.scale = Scale::FollowShare { headroom_percent: 20 };
    }
    plan
}

/// The same plan with a preview of 4 s, which no gate judges.
pub(crate) fn previewing(mut plan: Plan) -> Plan {
    let header = PreviewHeader { name: "x-preview".into(), value: "1".into() };
    let (lasts, max) = (Millis::from_seconds(4), Millis::from_seconds(20));
    plan.preview = Some(Preview { header, lasts, max, on_inconclusive: OnInconclusive::Hold });
    plan
}

/// The same plan for another route.
pub(crate) fn on_route(mut plan: Plan, name: &str) -> Plan {
    plan.route.route = name.into();
    plan.name = name.into();
    plan
}

pub(crate) fn ann() -> Actor {
    Actor { name: "ann".into(), via: "test".into() }
}

/// A route whose first version has everything.
pub(crate) fn fresh_route(version: u64) -> RouteReading {
    RouteReading { version, targets: vec![("v1".into(), 100), ("v2".into(), 0)], lapsed: None }
}

/// The commit that begins a rollout.
pub(crate) fn beginning(plan: &Plan, id: &str, at: Timestamp, route: RouteReading, last_generation: u64) -> Commit {
    let start = Start {
        to: None,
        revision: Some("abc".into()),
        route,
        image: plan.workload.as_ref().map(|_| "shop/checkout:v2".into()),
        author: Vec::new(),
        first_step: 0,
        outside_windows: None,
        last_generation,
        stable: None,
        baseline: None,
        past: Box::default(),
    };
    let event = Event::Command { command: Command::Start(start), actor: ann() };
    let input = Input { seq: Seq(1), at, event };
    let (state, effects) = begin(plan, RolloutId(id.into()), &input).expect("a route that can take it");
    let next_deadline = next_deadline(plan, &state);
    Commit { state, input, effects, settles: None, next_deadline }
}

/// A directory for a database. In memory where the system has such a place: thousands of databases are written, each
/// commit waits for the disk, and what a lost disk cache does is not what is tested.
pub(crate) fn directory() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir())
    } else {
        tempfile::tempdir()
    };
    made.expect("a directory")
}

/// What is told of a rollout at 10 %.
pub(crate) fn news_of(standing: NewsStanding, text: &str) -> News {
    let version = |node: &str, weight: u8, requests: u64| {
        let node = node.to_owned();
        Compared { node, weight, requests, failed: 2 }
    };
    News {
        rollout: RolloutId("r-1".to_owned()),
        policy: "checkout".to_owned(),
        revision: Some("v2".to_owned()),
        standing,
        text: text.to_owned(),
        url: Some("https://tidegate.example.com/rollouts/r-1".to_owned()),
        change: text.to_owned(),
        urgent: standing != NewsStanding::UnderWay,
        at: BEGINNING,
        canary: version("checkout-v2", 10, 1000),
        stable: version("checkout-v1", 90, 9000),
        verdict: "no worse so far".to_owned(),
        ask: None,
        approved: Vec::new(),
    }
}
