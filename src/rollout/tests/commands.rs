//! Every command and every event that the world can send, in every phase.

use super::kit::{World, deploying, plan};
use crate::base::fault::FaultKind;
use crate::base::time::Millis;
use crate::policy::plan::{ApprovalStep, OnFailure, OnVerifyTimeout, Plan, Step};
use crate::rollout::event::Standing;
use crate::rollout::state::Next;
use crate::rollout::view::phase_name;

const COMMANDS: [&str; 6] = ["start", "pause", "resume", "promote", "promote full", "abort"];
const EVENTS: [&str; 5] = ["applied", "failed", "refused", "reading", "late tick"];

/// The first step of three, unless the name says otherwise.
fn world(name: &str) -> World {
    let three = || plan(&[10, 50, 100]);
    match name {
        "paused" => {
            let mut world = World::at(three(), "baking");
            world.order("pause");
            world
        }
        "no data" => {
            let mut world = World::at(three(), "baking");
            world.silent = true;
            world.wait(31);
            world.read();
            world.settle();
            world
        }
        "budget" => {
            // All that can be lost on one request: spent before the gates have seen enough.
            let mut world = World::at(tight(three()), "baking");
            world.traffic((1000, 15), (9000, 0));
            world.read();
            world.settle();
            world
        }
        "gate failed" => {
            let mut world = World::at(Plan { on_failure: OnFailure::Pause, ..three() }, "baking");
            world.traffic((100, 50), (900, 0));
            world.read();
            world
        }
        "drift" => {
            let mut world = World::at(three(), "baking");
            world.meddle(100, 0);
            world.read();
            world
        }
        "full" => {
            let mut world = World::at(three(), "baking");
            world.order("promote full");
            world.settle();
            world.read();
            world
        }
        "promoted" => {
            let mut world = World::at(plan(&[100]), "baking");
            world.wait(10);
            world.read();
            world
        }
        "stuck" => {
            let mut world = World::at(three(), "rolling_back");
            world.fail(FaultKind::Permanent);
            world
        }
        "succeeded" => {
            let mut world = World::start(plan(&[100]));
            world.run(60, true);
            world
        }
        "rolled_back" => {
            let mut world = World::start(three());
            world.run(60, false);
            world
        }
        "aborted" => {
            let mut world = World::at(three(), "holding");
            world.wait(8);
            world.read();
            world
        }
        "deploying" => World::start(deploying(three())),
        "cleaning" => {
            let mut world = World::start(deploying(plan(&[100])));
            world.work(None);
            world.look(Standing::Ready);
            while world.phase() != "cleaning" {
                world.run(1, true);
            }
            world
        }
        "superseded" => {
            let mut world = World::at(three(), "baking");
            world.order("supersede");
            world.run(60, true);
            world
        }
        "awaiting_approval" => {
            let mut asking = plan(&[10, 100]);
            asking.steps.insert(1, Step::Approval(asked()));
            let mut world = World::at(asking, "baking");
            world.order("promote");
            world
        }
        phase => World::at(three(), phase),
    }
}

/// An approval that the kit's actor may give, asked for for ten minutes.
fn asked() -> ApprovalStep {
    let from = vec!["ann".to_owned()];
    let timeout = Millis::from_seconds(600);
    ApprovalStep { slack: None, from, need: 1, timeout, on_timeout: OnFailure::Rollback }
}

/// A budget that one error in a thousand does not spend and fifteen do, with gates too slow to see it first.
fn tight(mut plan: Plan) -> Plan {
    plan.blast_radius.failed_requests = 1;
    plan.max_false_rollback = 1e-300;
    plan
}

fn happen(world: &mut World, what: &str) -> Next {
    match what {
        "applied" => match world.carry_out() {
            Some(version) => world.answer(version),
            None => Next::Ignored("nothing under way"),
        },
        "failed" | "refused" if world.under_way.is_none() => Next::Ignored("nothing under way"),
        "failed" => world.fail(FaultKind::Unknown),
        "refused" => world.fail(FaultKind::Permanent),
        "reading" => world.read(),
        // Past every deadline but the total one.
        "late tick" => {
            world.wait(25 * 60);
            world.tick()
        }
        command => world.order(command),
    }
}

/// What comes of it: phase and share, and `!` when something is written; or the reason of a refusal; or nothing.
fn check(phase: &str, event: &str, expected: &str) {
    let mut world = world(phase);
    let next = happen(&mut world, event);
    let came = match &next {
        Next::Step { state, effects } => {
            format!("{} {}{}", phase_name(state), state.wanted.get(), if effects.is_empty() { "" } else { " !" })
        }
        Next::Ignored(_) => "-".to_owned(),
        Next::Refused(refusal) if refusal.message.contains(expected) && !expected.is_empty() => expected.to_owned(),
        Next::Refused(refusal) => refusal.message.clone(),
    };
    assert_eq!(came, expected, "{phase} x {event}");
    world.check_replay();
}

#[test]
fn people_are_heard_only_where_they_were_asked() {
    for (phase, expected) in [
        ("shifting", "awaits no approval now"),
        ("verifying", "awaits no approval now"),
        ("baking", "awaits no approval now"),
        ("judging", "awaits no approval now"),
        ("full", "awaits no approval now"),
        ("paused", "awaits no approval now"),
        ("drift", "awaits no approval now"),
        ("no data", "awaits no approval now"),
        ("budget", "awaits no approval now"),
        ("gate failed", "awaits no approval now"),
        ("rolling_back", "end is decided"),
        ("holding", "end is decided"),
        ("promoted", "end is decided"),
        ("stuck", "end is decided"),
        ("succeeded", "has ended"),
        ("rolled_back", "has ended"),
        ("aborted", "has ended"),
    ] {
        check(phase, "approve", expected);
        check(phase, "reject", expected);
    }
    for (event, expected) in [
        ("start", "started already"),
        ("pause", "paused 10"),
        ("resume", "not paused"),
        ("promote", "it awaits approval"),
        ("promote full", "it awaits approval"),
        ("approve", "shifting 100 !"),
        ("reject", "rolling_back 0 !"),
        ("abort", "rolling_back 0 !"),
        ("reading", "-"),
        ("applied", "-"),
        // Nobody was heard for so long: silence acts before the approval's own time is looked at.
        ("late tick", "paused 0 !"),
    ] {
        check("awaiting_approval", event, expected);
    }
}

#[test]
fn commands_in_every_phase() {
    for (phase, expected) in [
        //               start, pause, resume, promote, promote full, abort
        (
            "shifting",
            ["started already", "paused 10", "not paused", "shifting 50 !", "shifting 100 !", "rolling_back 0 !"],
        ),
        (
            "verifying",
            ["started already", "paused 10", "not paused", "shifting 50 !", "shifting 100 !", "rolling_back 0 !"],
        ),
        (
            "baking",
            ["started already", "paused 10", "not paused", "shifting 50 !", "shifting 100 !", "rolling_back 0 !"],
        ),
        (
            "judging",
            ["started already", "paused 10", "not paused", "shifting 50 !", "shifting 100 !", "rolling_back 0 !"],
        ),
        ("full", ["started already", "paused 100", "not paused", "holding 100", "shifting 100 !", "rolling_back 0 !"]),
        (
            "paused",
            [
                "started already",
                "paused already",
                "shifting 10 !",
                "shifting 50 !",
                "shifting 100 !",
                "rolling_back 0 !",
            ],
        ),
        (
            "drift",
            [
                "started already",
                "paused already",
                "shifting 10 !",
                "shifting 50 !",
                "shifting 100 !",
                "rolling_back 0 !",
            ],
        ),
        (
            "no data",
            ["started already", "paused 0", "shifting 10 !", "shifting 50 !", "shifting 100 !", "rolling_back 0 !"],
        ),
        (
            "budget",
            [
                "started already",
                "paused already",
                "shifting 10 !",
                "shifting 50 !",
                "shifting 100 !",
                "rolling_back 0 !",
            ],
        ),
        (
            "gate failed",
            [
                "started already",
                "paused already",
                "gates still fail",
                "its gates fail",
                "shifting 100 !",
                "rolling_back 0 !",
            ],
        ),
        (
            "rolling_back",
            [
                "started already",
                "end is decided",
                "end is decided",
                "end is decided",
                "end is decided",
                "is being set to 0",
            ],
        ),
        (
            "holding",
            [
                "started already",
                "end is decided",
                "end is decided",
                "end is decided",
                "end is decided",
                "is being set to 0",
            ],
        ),
        (
            "promoted",
            [
                "started already",
                "end is decided",
                "end is decided",
                "end is decided",
                "end is decided",
                "rolling_back 0 !",
            ],
        ),
        (
            "stuck",
            [
                "started already",
                "end is decided",
                "end is decided",
                "end is decided",
                "end is decided",
                "rolling_back 0 !",
            ],
        ),
        ("succeeded", ["started already", "has ended", "has ended", "has ended", "has ended", "has ended"]),
        ("rolled_back", ["started already", "has ended", "has ended", "has ended", "has ended", "has ended"]),
        ("aborted", ["started already", "has ended", "has ended", "has ended", "has ended", "has ended"]),
    ] {
        for (command, expected) in COMMANDS.into_iter().zip(expected) {
            check(phase, command, expected);
        }
    }
}

#[test]
fn a_newer_release_takes_the_place_of_one_that_is_not_past_that() {
    for (phase, expected) in [
        ("deploying", "rolling_back 0 !"),
        ("shifting", "rolling_back 0 !"),
        ("verifying", "rolling_back 0 !"),
        ("baking", "rolling_back 0 !"),
        ("judging", "rolling_back 0 !"),
        ("paused", "rolling_back 0 !"),
        ("drift", "rolling_back 0 !"),
        ("no data", "rolling_back 0 !"),
        ("budget", "rolling_back 0 !"),
        ("gate failed", "rolling_back 0 !"),
        ("awaiting_approval", "rolling_back 0 !"),
        ("full", "has all the traffic"),
        ("promoted", "end is decided"),
        ("rolling_back", "end is decided"),
        ("holding", "end is decided"),
        ("cleaning", "end is decided"),
        ("stuck", "end is decided"),
        ("succeeded", "has ended"),
        ("rolled_back", "has ended"),
        ("aborted", "has ended"),
        ("superseded", "has ended"),
    ] {
        check(phase, "supersede", expected);
    }
    let mut world = world("baking");
    world.order("supersede");
    world.run(60, true);
    let ending = world.state.ending.clone().map(|ending| ending.reason);
    assert_eq!((phase_name(&world.state), ending.as_deref()), ("superseded", Some("superseded by v3")));
    assert_eq!(world.mesh.percent_of("v2"), 0);
}

#[test]
fn the_world_in_every_phase() {
    for (phase, expected) in [
        //               applied, failed, refused, reading, late tick: silence for so long withdraws first
        // A write that failed in passing is written again, for as long as the step may take to be in force.
        ("shifting", ["verifying 10", "shifting 10 !", "rolling_back 0 !", "-", "paused 0 !"]),
        ("verifying", ["-", "-", "-", "baking 10", "paused 0 !"]),
        ("baking", ["-", "-", "-", "-", "paused 0 !"]),
        ("judging", ["-", "-", "-", "-", "paused 0 !"]),
        ("full", ["-", "-", "-", "-", "-"]),
        ("paused", ["-", "-", "-", "-", "paused 0 !"]),
        ("drift", ["-", "-", "-", "-", "paused 0 !"]),
        ("no data", ["-", "-", "-", "-", "-"]),
        ("budget", ["-", "-", "-", "-", "-"]),
        ("gate failed", ["-", "-", "-", "-", "paused 0 !"]),
        ("rolling_back", ["holding 0", "rolling_back 0 !", "stuck 0", "-", "rolling_back 0 !"]),
        ("holding", ["-", "-", "-", "-", "-"]),
        ("promoted", ["-", "-", "-", "-", "-"]),
        ("stuck", ["-", "-", "-", "-", "rolling_back 0 !"]),
        ("succeeded", ["-", "-", "-", "-", "-"]),
        ("rolled_back", ["-", "-", "-", "-", "-"]),
        ("aborted", ["-", "-", "-", "-", "-"]),
    ] {
        for (event, expected) in EVENTS.into_iter().zip(expected) {
            check(phase, event, expected);
        }
    }
}

#[test]
fn a_refusal_of_a_finished_one_shows_how_to_start_another() {
    let Next::Refused(refusal) = world("aborted").order("abort") else { panic!("not refused") };
    assert!(refusal.hint.contains("tidegate rollout start checkout"), "{refusal:?}");
    let Next::Refused(refusal) = world("baking").order("resume") else { panic!("not refused") };
    assert!(refusal.hint.contains("tidegate rollout get r-1"), "{refusal:?}");
}

#[test]
fn taking_a_step_by_hand_needs_a_reason() {
    use crate::rollout::event::{Command, Event};
    let mut world = world("baking");
    let event =
        |full| Event::Command { command: Command::Promote { full, reason: "  ".into() }, actor: super::kit::actor() };
    for full in [false, true] {
        let Next::Refused(refusal) = world.give(event(full)) else { panic!("not refused") };
        assert!(refusal.message.contains("needs a reason"), "{refusal:?}");
    }
}

#[test]
fn settling_twice_or_something_else_is_ignored() {
    use crate::rollout::event::{Event, Outcome};
    let mut world = World::at(plan(&[10, 100]), "shifting");
    let (effect, _) = world.under_way.clone().expect("the first write");
    world.settle();
    let settled = |effect| Event::Settled { effect, outcome: Outcome::Applied { version: 9 } };
    assert!(matches!(world.give(settled(effect.clone())), Next::Ignored(_)), "twice");
    let strange = crate::rollout::effect::EffectId { n: 9, ..effect };
    assert!(matches!(world.give(settled(strange)), Next::Ignored(_)), "never asked for");
}

#[test]
fn a_pause_keeps_the_weight_and_the_gates_go_on() {
    let mut world = world("paused");
    world.run(600, true);
    assert_eq!(world.stand(), "paused 10");
    world.run(30, false);
    assert_eq!(world.phase(), "rolled_back");
}

#[test]
fn resume_starts_the_steps_clock_anew() {
    let mut world = World::at(plan(&[10, 100]), "baking");
    world.traffic((1000, 0), (9000, 0));
    world.wait(9);
    world.read();
    world.order("pause");
    world.order("resume");
    world.settle();
    world.read();
    world.wait(9);
    world.read();
    assert_eq!(world.stand(), "baking 10");
    world.wait(1);
    world.read();
    assert_eq!(world.stand(), "shifting 100");
}

#[test]
fn verify_timeout_does_what_the_policy_says() {
    for (policy, expected) in [(OnVerifyTimeout::Rollback, "rolling_back 0"), (OnVerifyTimeout::Pause, "paused 10")] {
        let mut plan = plan(&[10, 100]);
        plan.verify.on_timeout = policy;
        plan.no_data.withdraw_after = Millis::from_seconds(3600);
        let mut world = World::at(plan, "verifying");
        world.wait(59);
        world.tick();
        assert_eq!(world.stand(), "verifying 10");
        world.wait(1);
        world.tick();
        assert_eq!(world.stand(), expected);
        world.check_replay();
    }
}

#[test]
fn max_total_ends_every_wait_even_a_pause() {
    for name in ["shifting", "verifying", "baking", "judging", "full", "paused", "drift", "no data", "budget"] {
        let mut world = world(name);
        world.wait(24 * 3600);
        world.read();
        assert_eq!(world.stand(), "rolling_back 0", "{name}");
        assert!(world.state.ending.as_ref().is_some_and(|end| end.reason.contains("max_total 24h")));
    }
}
