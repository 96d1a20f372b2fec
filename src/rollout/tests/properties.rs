//! Whatever happens, in whatever order: the kit's rules hold, nothing panics, and the journal leads to the state.

use super::kit::{World, deploying, fault, growing, inconclusive, percent, plan, previewing};
use super::signals::{AT_MOST_10, TWICE_STABLE, gate};
use crate::base::fault::FaultKind;
use crate::base::time::{Millis, Timestamp};
use crate::judge::Counts;
use crate::judge::points::PointReading;
use crate::policy::plan::{Gate, OnFailure, OnInconclusive, OnVerifyTimeout, Plan, Scope};
use crate::rollout::event::{
    ArmReading, Event, LiveReading, Observation, Outcome, PointsReading, PreviewReading, ProxyCounts, RouteReading,
    Standing, VersionCounts,
};
use crate::rollout::next_deadline;
use crate::rollout::state::Next;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Move {
    Order(&'static str),
    /// The write under way is done and answered.
    Applied,
    /// Done, and the answer comes later or never.
    Landed,
    Failed(FaultKind),
    /// The effect on the release's instances ends so.
    Worked(Option<FaultKind>),
    /// A look at them.
    Look(Standing),
    /// The effect on the preview's route ends so.
    Previewed(Option<FaultKind>),
    /// It is done, and the answer comes later or never.
    PreviewLanded,
    /// Somebody else removes the preview's route, changes it, or puts another one in its place.
    PreviewMeddled(Option<(bool, bool)>),
    /// A health check: how many endpoints of the canary fail.
    Checked(f64),
    /// Readings of the gate on a signal: values of the canary and of stable, and how many seconds ago they began.
    Point {
        canary: Option<f64>,
        stable: Option<f64>,
        failed: bool,
        ago: i64,
    },
    /// An effect that settled or was superseded long ago settles again.
    SettledAgain(prop::sample::Index),
    Traffic {
        canary: (u16, u16),
        stable: (u16, u16),
    },
    Read,
    ReadErrors,
    /// Readings that nothing explains.
    ReadNonsense {
        version: u64,
        weights: [u32; 3],
        share_ppm: u32,
        counts: [u64; 4],
        proxies: u8,
    },
    Meddle(u8),
    Silence(bool),
    Tick,
    Wait(u32),
    Back(u32),
    /// To the deadline that the engine asked for.
    Deadline,
}

fn moves() -> impl Strategy<Value = Move> {
    let kind = prop_oneof![Just(FaultKind::Transient), Just(FaultKind::Unknown), Just(FaultKind::Permanent)];
    let orders = prop::sample::select(vec![
        "start",
        "pause",
        "resume",
        "promote",
        "promote full",
        "abort",
        "make way",
        "freeze",
        "thaw",
        "supersede",
    ]);
    let value =
        prop_oneof![6 => Just(Some(1.0)), 1 => Just(Some(50.0)), 1 => Just(None), 1 => any::<f64>().prop_map(Some)];
    let arm = || (0..2000_u16, prop_oneof![6 => Just(0_u16), 1 => 0..50_u16]);
    prop_oneof![
        2 => orders.prop_map(Move::Order),
        12 => Just(Move::Applied),
        1 => Just(Move::Landed),
        1 => kind.clone().prop_map(Move::Failed),
        4 => prop_oneof![4 => Just(None), 1 => kind.clone().prop_map(Some)].prop_map(Move::Worked),
        6 => prop_oneof![6 => Just(None), 1 => kind.prop_map(Some)].prop_map(Move::Previewed),
        1 => Just(Move::PreviewLanded),
        1 => any::<Option<(bool, bool)>>().prop_map(Move::PreviewMeddled),
        4 => prop_oneof![6 => Just(0.0), 1 => Just(1.0)].prop_map(Move::Checked),
        6 => prop::sample::select(vec![
            Standing::Ready, Standing::Ready, Standing::Ready, Standing::Idle, Standing::Progressing, Standing::Failing,
        ]).prop_map(Move::Look),
        8 => (value.clone(), value, prop::bool::weighted(0.1), prop_oneof![4 => 0..20_i64, 1 => -100_000..100_000_i64])
            .prop_map(|(canary, stable, failed, ago)| Move::Point { canary, stable, failed, ago }),
        1 => any::<prop::sample::Index>().prop_map(Move::SettledAgain),
        8 => (arm(), arm()).prop_map(|(canary, stable)| Move::Traffic { canary, stable }),
        16 => Just(Move::Read),
        1 => Just(Move::ReadErrors),
        1 => (0..40_u64, any::<[u32; 3]>(), 0..=1_000_000_u32, any::<[u64; 4]>(), 0..3_u8).prop_map(
            |(version, weights, share_ppm, counts, proxies)| Move::ReadNonsense { version, weights, share_ppm, counts, proxies }
        ),
        1 => (0..=100_u8).prop_map(Move::Meddle),
        1 => any::<bool>().prop_map(Move::Silence),
        2 => Just(Move::Tick),
        10 => (0..12_000_u32).prop_map(Move::Wait),
        1 => (0..100_000_000_u32).prop_map(Move::Wait),
        1 => (0..100_000_000_u32).prop_map(Move::Back),
        2 => Just(Move::Deadline),
    ]
}

fn plans() -> impl Strategy<Value = Plan> {
    let steps = prop::sample::subsequence(vec![1_u8, 5, 10, 50, 95], 0..=4);
    let what = prop::sample::select(vec![OnInconclusive::Hold, OnInconclusive::Advance, OnInconclusive::Rollback]);
    let signals = prop::sample::select(vec![
        None,
        None,
        Some((false, AT_MOST_10)),
        Some((true, AT_MOST_10)),
        Some((true, TWICE_STABLE)),
    ]);
    let ten = Scope::Weight(percent(10));
    let scopes = [vec![], vec![Scope::Steps], vec![Scope::Bake], vec![ten], vec![ten, Scope::Bake]];
    let on_failure = [None, Some(OnFailure::Rollback), Some(OnFailure::Pause)];
    let scoped = (prop::sample::select(scopes.to_vec()), prop::sample::select(on_failure.to_vec()));
    (steps, what, any::<[bool; 6]>(), (signals, scoped), 0..60_u64, prop::sample::select(vec![1, 50, 1_000_000_u64]))
        .prop_map(
            |(
                mut steps,
                what,
                [pauses, verify_pauses, gates, deploys, dry_run, previews],
                signals,
                total_minutes,
                budget,
            )| {
                let (signals, (during, on_failure)) = signals;
                let no_gates = steps.is_empty() && gates;
                steps.push(100);
                let mut plan = inconclusive(plan(&steps), what);
                if no_gates {
                    plan.gates.clear();
                }
                if let Some((per_version, rule)) = signals {
                    let query = if per_version { "depth{node=\"{node}\"}" } else { "depth" };
                    plan.gates.push(Gate { dry_run: dry_run && pauses, during, on_failure, ..gate(query, rule) });
                }
                plan.on_failure = if pauses { OnFailure::Pause } else { OnFailure::Rollback };
                plan.verify.on_timeout = if verify_pauses { OnVerifyTimeout::Pause } else { OnVerifyTimeout::Rollback };
                plan.max_total = Millis::from_seconds(60 * (total_minutes + 1));
                plan.blast_radius.failed_requests = budget;
                if previews {
                    plan = previewing(plan);
                    plan.preview.iter_mut().for_each(|preview| preview.on_inconclusive = what);
                }
                match (deploys, total_minutes % 2) {
                    (true, 0) => growing(plan),
                    (true, _) => deploying(plan),
                    (false, _) => plan,
                }
            },
        )
}

fn nonsense(version: u64, weights: [u32; 3], share_ppm: u32, counts: [u64; 4], proxies: u8) -> Observation {
    let targets = ["v1", "v2", "v0"].into_iter().zip(weights).map(|(node, weight)| (node.to_owned(), weight));
    let [canary_requests, canary_errors, stable_requests, stable_errors] = counts;
    let counts = Counts { canary_requests, canary_errors, stable_requests, stable_errors };
    let versions = vec![VersionCounts::new(version, share_ppm, counts)];
    let proxies = (0..proxies)
        .map(|n| ProxyCounts {
            fuse: None,
            proxy: format!("x{n}"),
            applied: Some(u64::MAX),
            serving: true,
            versions: versions.clone(),
        })
        .collect();
    Observation {
        route: Some(Ok(RouteReading { version, targets: targets.collect(), lapsed: None })),
        live: Some(Ok(LiveReading { proxies, ..LiveReading::default() })),
        ..Observation::default()
    }
}

fn carry(world: &mut World, what: &Move) {
    match what.clone() {
        Move::Order(name) => drop(world.order(name)),
        Move::Applied => {
            if let Some(version) = world.carry_out() {
                world.answer(version);
            }
        }
        Move::Landed => drop(world.carry_out()),
        Move::Failed(kind) => {
            if world.under_way.is_some() {
                world.fail(kind);
            }
        }
        Move::Worked(failed) => drop(world.work(failed)),
        Move::Look(standing) => drop(world.look(standing)),
        Move::Previewed(failed) => drop(world.preview_ends(failed)),
        Move::PreviewLanded => world.preview_lands(),
        Move::PreviewMeddled(to) => {
            world.preview = to.map(|(ours, fits)| PreviewReading { ours, fits, behind: Some(0) });
        }
        Move::Checked(failing) => drop(world.checked("alive", failing)),
        Move::Point { canary, stable, failed, ago } => {
            let at = Timestamp(world.now.0 - ago * 1000);
            let arm = |value: Option<f64>| {
                let point = match (failed, value) {
                    (true, _) => PointReading::Failed,
                    (false, Some(value)) => PointReading::of(at, value),
                    (false, None) => PointReading::Missing,
                };
                ArmReading { point, note: None }
            };
            let points = vec![PointsReading { gate: "queue".into(), canary: arm(canary), stable: arm(stable) }];
            world.give(Event::Observed(Observation { points, ..Observation::default() }));
        }
        Move::SettledAgain(index) => {
            let ids: Vec<_> = world.ids.iter().filter(|id| !world.state.waits_for(id)).cloned().collect();
            if !ids.is_empty() {
                let outcome = Outcome::Applied { version: 1 };
                let next = world.give(Event::Settled { effect: index.get(&ids).clone(), outcome });
                assert!(matches!(next, Next::Ignored(_)), "settled twice");
            }
        }
        Move::Traffic { canary, stable } => {
            let arm = |(requests, errors): (u16, u16)| (u64::from(requests.max(errors)), u64::from(errors));
            world.traffic(arm(canary), arm(stable));
        }
        Move::Read => drop(world.read()),
        Move::ReadErrors => {
            let (route, live) = (Some(Err(fault(FaultKind::Unknown))), Some(Err(fault(FaultKind::Transient))));
            world.give(Event::Observed(Observation { route, live, ..Observation::default() }));
        }
        Move::ReadNonsense { version, weights, share_ppm, counts, proxies } => {
            let observation = nonsense(version, weights, share_ppm, counts, proxies);
            world.give(Event::Observed(observation));
        }
        Move::Meddle(share) => world.meddle(u32::from(100 - share), u32::from(share)),
        Move::Silence(silent) => world.silent = silent,
        Move::Tick => drop(world.tick()),
        Move::Wait(ms) => world.now = world.now.plus(Millis(u64::from(ms))),
        Move::Back(ms) => world.now = Timestamp(world.now.0 - i64::from(ms)),
        Move::Deadline => {
            if let Some(at) = next_deadline(&world.plan, &world.state) {
                world.now = world.now.max(at);
                world.tick();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_whatever_happens(plan in plans(), moves in prop::collection::vec(moves(), 1..120)) {
        let mut world = World::start(plan);
        for what in &moves {
            carry(&mut world, what);
        }
        world.check_replay();
        // And from wherever that led, a good world leads to an end.
        let late = world.state.at.max(world.now);
        world.now = late;
        world.silent = false;
        if world.state.step_index().is_some() {
            world.order("abort");
        }
        world.run(200, true);
        prop_assert!(world.state.is_finished(), "{:?}", world.state.phase);
        world.check_replay();
    }

    /// However a healthy release is read, it is never rolled back by anything but its numbers, and a dead one never
    /// gets everything.
    #[test]
    fn a_dead_release_never_succeeds(steps in prop::sample::subsequence(vec![1_u8, 5, 10, 50, 95], 1..=5), gaps in prop::collection::vec(1..9_u64, 10..60)) {
        let mut steps = steps;
        steps.push(100);
        let mut world = World::start(plan(&steps));
        for gap in gaps {
            world.wait(gap);
            world.run(1, false);
        }
        prop_assert!(world.mesh.percent_of("v2") <= steps[0], "{}", world.stand());
    }

    /// Requests prove the release at every step; whatever a gate on a signal is told and when, the kit holds that each
    /// advance had a good point of the weights that it left.
    #[test]
    fn however_good_the_requests_are_nothing_advances_without_a_signals_point(
        steps in prop::sample::subsequence(vec![1_u8, 5, 10, 50, 95], 1..=4),
        (query, rule) in prop::sample::select(vec![("depth", AT_MOST_10), ("depth{node=\"{node}\"}", AT_MOST_10), ("depth{node=\"{node}\"}", TWICE_STABLE)]),
        rounds in prop::collection::vec((1..15_u64, prop_oneof![4 => Just(Some(1.0)), 2 => Just(None), 1 => Just(Some(50.0))], 0..40_i64), 5..25),
    ) {
        let mut plan = plan(&steps.iter().copied().chain([100]).collect::<Vec<_>>());
        plan.gates.push(gate(query, rule));
        let mut world = World::start(plan);
        for (seconds, canary, ago) in rounds {
            world.run(seconds, true);
            if !world.state.is_finished() {
                carry(&mut world, &Move::Point { canary, stable: Some(1.0), failed: false, ago });
            }
        }
        world.check_replay();
    }
}
