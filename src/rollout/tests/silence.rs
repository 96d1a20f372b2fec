//! Silence of every signal in every phase, of any length: one table of what it does.

use super::kit::{World, inconclusive, plan};
use super::signals::{AT_MOST_10, gate};
use crate::base::time::{Millis, Timestamp};
use crate::judge::points::PointReading;
use crate::policy::plan::{ApprovalStep, Gate, GateRule, HealthProbe, OnFailure, OnInconclusive, Plan, Step};
use crate::rollout::event::{ArmReading, Event, Observation, PointsReading};
use crate::rollout::state::PauseCause;

/// What falls silent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Silent {
    /// No proxy answers.
    Live,
    /// They answer, and count nothing.
    Idle,
    /// Health checks end without an answer.
    Health,
    /// The source of a signal answers and has no point.
    Missing,
    /// It cannot be asked.
    Failed,
    /// Nobody asks it.
    Unasked,
}

const ALL: [Silent; 6] = [Silent::Live, Silent::Idle, Silent::Health, Silent::Missing, Silent::Failed, Silent::Unasked];

/// Lengths in seconds: before the hold, after it, after the withdrawal, past the longest stay, and for long.
const LENGTHS: [u64; 5] = [5, 15, 45, 90, LONG];
const LONG: u64 = 600;

/// 10, an approval, 50 and all the traffic; gates on errors, on health and on a signal.
fn watched(what: OnInconclusive) -> Plan {
    let mut plan = inconclusive(plan(&[10, 50, 100]), what);
    let from = vec!["ann".to_owned()];
    let timeout = Millis::from_seconds(12 * 3600);
    let asked = ApprovalStep { slack: None, from, need: 1, timeout, on_timeout: OnFailure::Rollback };
    plan.steps.insert(1, Step::Approval(asked));
    let probe = HealthProbe::Http { path: "/health".into() };
    let rule = GateRule::Health { probe, interval: Millis::from_seconds(5), breaches: 3 };
    plan.gates.push(Gate::new("alive", rule));
    plan.gates.push(gate("depth", AT_MOST_10));
    plan
}

impl World {
    /// A second in which everything speaks but what is silent. `proving` is traffic that proves every step.
    fn second(&mut self, silent: Option<Silent>, proving: bool) {
        self.wait(1);
        if self.under_way.is_some() {
            self.settle();
        }
        let canary = u64::from(self.mesh.percent_of("v2"));
        if silent != Some(Silent::Idle) && silent != Some(Silent::Live) && proving {
            self.traffic((canary * 50, 0), ((100 - canary) * 50, 0));
        }
        self.silent = silent == Some(Silent::Live);
        let none = |failed: bool| ArmReading {
            point: if failed { PointReading::Failed } else { PointReading::Missing },
            note: None,
        };
        // Of a moment before what is read next: of no step that is in force only then.
        let before = Timestamp(self.now.0 - 1);
        let good = || ArmReading { point: PointReading::of(before, 0.0), note: None };
        let health = if silent == Some(Silent::Health) { none(true) } else { good() };
        let signal = match silent {
            Some(Silent::Missing) => Some(none(false)),
            Some(Silent::Failed) => Some(none(true)),
            Some(Silent::Unasked) => None,
            _ => Some(good()),
        };
        let reading = |gate: &str, arm: ArmReading| PointsReading { gate: gate.into(), canary: arm, stable: good() };
        let mut points = vec![reading("alive", health)];
        points.extend(signal.map(|arm| reading("queue", arm)));
        self.give(Event::Observed(Observation { points, ..Observation::default() }));
        self.read();
    }

    /// Silence of one signal for so long, second by second at first and then in strides that nothing else takes for silence.
    fn silence(&mut self, silent: Silent, seconds: u64) {
        for second in 0..seconds {
            if second > 120 && second % 5 != 0 {
                self.wait(1);
            } else {
                self.second(Some(silent), true);
            }
        }
        self.tick();
    }
}

/// At a phase by the shortest way, with every signal heard.
fn at(phase: &str, what: OnInconclusive) -> World {
    let mut world = World::start(watched(what));
    for _ in 0..200 {
        if world.phase() == "awaiting_approval" && phase != "awaiting_approval" && phase != "judging 10" {
            world.order("approve");
        }
        let there = match phase {
            "baking 10" | "baking 50" | "baking 100" => world.stand() == phase,
            "judging 10" => world.stand() == "judging 10",
            _ => world.phase() == phase,
        };
        if there {
            return world;
        }
        // Without traffic no step is proven, so that it stays for its longest stay.
        world.second(None, phase != "judging 10");
    }
    panic!("never came to {phase}: {}", world.stand());
}

/// What a silence that long has led to, at a weight below 100.
fn expected(silent: Silent, seconds: u64, weight: u8) -> (u8, Option<PauseCause>) {
    match silent {
        Silent::Live if seconds >= 30 && weight < 100 => (0, Some(PauseCause::NoData)),
        _ => (weight, None),
    }
}

#[test]
fn silence_of_every_signal_in_every_phase_is_never_a_verdict_and_never_advances() {
    for what in [OnInconclusive::Hold, OnInconclusive::Advance, OnInconclusive::Rollback] {
        for (phase, weight) in
            [("baking 10", 10), ("judging 10", 10), ("awaiting_approval", 10), ("baking 50", 50), ("baking 100", 100)]
        {
            for silent in ALL {
                // What is decided at the longest stay is decided by then.
                for seconds in LENGTHS.into_iter().filter(|seconds| *seconds < LONG || what == OnInconclusive::Advance)
                {
                    // Requests that were counted before say enough, and none are data: time may then do what it does.
                    if silent == Silent::Idle && (seconds > 10 || phase == "judging 10") {
                        continue;
                    }
                    let mut world = at(phase, what);
                    world.silence(silent, seconds);
                    let name = format!("{silent:?} for {seconds} s at {phase}, {what:?}");
                    assert!(world.state.ending.is_none(), "{name}: ended, {:?}", world.state.ending);
                    let stood = (world.state.wanted.get(), world.cause());
                    assert_eq!(stood, expected(silent, seconds, weight), "{name}: {}", world.stand());
                    world.check_replay();
                }
            }
        }
    }
}

#[test]
fn whoever_is_silent_for_long_is_told_once() {
    for (silent, told) in [
        (Silent::Health, Some("gate alive sees nothing of the canary")),
        (Silent::Missing, Some("gate queue sees nothing, so nothing advances")),
        (Silent::Failed, Some("gate queue sees nothing, so nothing advances")),
        (Silent::Unasked, Some("gate queue sees nothing, so nothing advances")),
        (Silent::Idle, None),
    ] {
        let mut world = at("baking 10", OnInconclusive::Hold);
        world.silence(silent, 90);
        let trouble = world.state.trouble.clone();
        match told {
            Some(told) => {
                assert!(trouble.as_deref().is_some_and(|text| text.starts_with(told)), "{silent:?}: {trouble:?}")
            }
            None => assert_eq!(trouble, None, "{silent:?}"),
        }
        world.silence(silent, 600);
        assert_eq!(world.state.trouble, trouble, "{silent:?}: told again in other words");
    }
}
