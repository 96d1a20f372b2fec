//! The page as it is made: golden files, hostile text, and orders compared with the engine.

use super::examples::view;
use super::*;
use crate::base::time::Timestamp;
use crate::policy::plan::SignalUnit;
use crate::rollout::event::Actor;
use crate::rollout::view::{ApprovalView, GateFigures, GateVerdict, GateView};

/// What nobody's name should be.
const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>{{7*7}}&amp;";

fn rights(may_act: bool, speaks_for: &[&str]) -> Rights {
    Rights { may_act, speaks_for: speaks_for.iter().map(|name| (*name).to_owned()).collect() }
}

fn track_of(views: &[RolloutView]) -> Track {
    let mut track = Track::default();
    for view in views {
        track.take(view, (view.seq == 1).then_some("start by anna"));
    }
    track
}

/// A rollout that has gone a step and asks people, with a gate of each kind.
fn story() -> Vec<RolloutView> {
    let gate = |name: &str, verdict, canary, stable, unit, what: &str| GateView {
        name: name.to_owned(),
        dry_run: name == "queue",
        verdict,
        against: None,
        text: format!("what {name} says"),
        figures: Some(GateFigures {
            what: what.to_owned(),
            canary,
            stable,
            limit: (name == "queue").then_some(1000.0),
            limit_is_max: (name == "queue").then_some(true),
            unit,
        }),
    };
    let mut views: Vec<RolloutView> = Vec::new();
    for seq in 1..=20_u32 {
        let mut now = view(if seq < 12 { "judging" } else { "awaiting_approval" }, if seq < 6 { 10 } else { 50 });
        let at = Timestamp(1_795_418_000_000 + i64::from(seq) * 1000);
        (now.seq, now.changed_at_ms, now.changed_at) = (seq.into(), at.0, at.rfc3339());
        let requests = u64::from(seq) * 30;
        (now.evidence.canary_requests, now.evidence.canary_errors) = (requests, u64::from(seq) / 7);
        (now.evidence.stable_requests, now.evidence.stable_errors) = (requests * 9, u64::from(seq) / 2);
        (now.evidence.proof, now.evidence.against) = (0.05 * f64::from(seq), 0.01 * f64::from(seq));
        let share = |part: u64, of: u64| Some(part as f64 / of as f64);
        now.gates = vec![
            gate("errors", GateVerdict::Good, share(1, 60), share(2, 540), SignalUnit::Share, "failed requests"),
            gate(
                "queue",
                GateVerdict::Holds,
                Some(700.0 + f64::from(seq)),
                Some(650.0),
                SignalUnit::Number,
                "newest value",
            ),
            gate("alive", GateVerdict::Error, None, None, SignalUnit::Number, "endpoints that fail"),
        ];
        if seq >= 12 {
            now.step = Some(3);
            now.until_ms = Some(at.0 + 3_600_000);
            now.approval = Some(ApprovalView {
                from: vec!["oncall".into(), "anna".into()],
                need: 2,
                given: vec!["anna".into()],
                slack: None,
                on_timeout: "rollback".into(),
            });
        }
        if seq >= 15 {
            now.frozen = Some("frozen by bob: payday".into());
        }
        views.push(now);
    }
    views
}

/// Compares with a golden file; `UPDATE_GOLDEN=1` writes it anew.
fn golden(name: &str, html: &str) {
    let path = std::path::Path::new("tests/golden/page").join(name);
    #[expect(clippy::disallowed_methods, reason = "the switch of whoever runs the tests")]
    if std::env::var("UPDATE_GOLDEN").is_ok() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, html).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    // One line of it, since a page is long.
    let both = html.lines().zip(golden.lines()).find(|(now, then)| now != then);
    assert!(html == golden, "{name}: run with UPDATE_GOLDEN=1 if this is meant; {both:#?}");
}

/// Without what changes with each version of the files.
fn without_hashes(html: &str) -> String {
    let Assets { script, style, mark } = assets::get();
    html.replace(script.as_str(), "page.js").replace(style.as_str(), "page.css").replace(mark.as_str(), "mark.svg")
}

#[test]
fn the_pages_keep_their_form() {
    let views = story();
    let now = views.last().unwrap();
    let now_ms = now.changed_at_ms + 500;
    let freeze = Freeze {
        policy: None,
        reason: "payday".into(),
        by: Actor { name: "bob".into(), via: "token".into() },
        at: Timestamp(1_795_418_015_000),
    };
    let ended = RolloutView { id: "r-2".into(), ..view("rolled_back", 0) };
    let list = list_part(&[now.clone(), ended], &[freeze], now_ms).unwrap();
    golden("list.html", &without_hashes(&list_page(&list, None).unwrap()));
    let part = rollout_part(now, &track_of(&views), &rights(true, &["oncall", "anna"]), now_ms).unwrap();
    golden("rollout.html", &without_hashes(&rollout_page(&part, now, Some("anna-laptop")).unwrap()));
    golden("sign-in.html", &without_hashes(&sign_in_page("/rollouts/r-1", Some("That is no token."), true).unwrap()));
}

/// Tags and attributes that make a browser run or load something: none of them may come from text.
fn expect_harmless(html: &str) {
    for part in ["<script>", "<img", "onerror='", "onerror=\"", "alert(1)</script"] {
        assert!(!html.contains(part), "`{part}` in {html}");
    }
    // The page's own script is the only one, and nothing is inline.
    assert!(
        html.matches("<script").count() <= 1 && !html.contains(" style=") && !html.contains("javascript:"),
        "{html}"
    );
}

#[test]
fn text_from_outside_is_text() {
    let mut views = story();
    for view in &mut views {
        for text in
            [&mut view.id, &mut view.policy, &mut view.route, &mut view.canary, &mut view.verdict, &mut view.stable]
        {
            *text = HOSTILE.to_owned();
        }
        view.started_by.name = HOSTILE.to_owned();
        view.phase = HOSTILE.to_owned();
        view.changed_at = HOSTILE.to_owned();
        for text in [
            &mut view.revision,
            &mut view.image,
            &mut view.instances,
            &mut view.frozen,
            &mut view.reason,
            &mut view.trouble,
        ] {
            *text = Some(HOSTILE.to_owned());
        }
        view.weights = [(HOSTILE.to_owned(), 10)].into();
        let people = vec![HOSTILE.to_owned()];
        view.approval = Some(ApprovalView {
            from: people.clone(),
            need: 2,
            given: people,
            slack: None,
            on_timeout: "rollback".into(),
        });
        for gate in &mut view.gates {
            (gate.name, gate.text) = (HOSTILE.to_owned(), HOSTILE.to_owned());
            gate.figures.as_mut().unwrap().what = HOSTILE.to_owned();
        }
    }
    let now = views.last().unwrap();
    let mut track = Track::default();
    views.iter().for_each(|view| track.take(view, Some(HOSTILE)));
    let by = Actor { name: HOSTILE.into(), via: HOSTILE.into() };
    let freeze = Freeze { policy: Some(HOSTILE.into()), reason: HOSTILE.into(), by, at: Timestamp(0) };
    let list = list_part(&views, &[freeze], 0).unwrap();
    let part = rollout_part(now, &track, &rights(true, &[HOSTILE]), 0).unwrap();
    for html in [
        list_page(&list, Some(HOSTILE)).unwrap(),
        rollout_page(&part, now, Some(HOSTILE)).unwrap(),
        sign_in_page(HOSTILE, Some(HOSTILE), true).unwrap(),
        problem_page(HOSTILE, HOSTILE, Some(HOSTILE)).unwrap(),
    ] {
        expect_harmless(&html);
        assert!(html.contains("&#60;script&#62;"), "it is shown: {html}");
    }
}

#[test]
fn who_may_not_act_has_no_buttons() {
    let views = story();
    let now = views.last().unwrap();
    let made = |rights: &Rights| rollout_part(now, &track_of(&views), rights, 0).unwrap();
    assert!(!made(&rights(false, &["oncall"])).contains("data-verb"));
    let without_people = made(&rights(true, &[]));
    assert!(without_people.contains("data-verb=\"abort\"") && !without_people.contains("data-verb=\"approve\""));
}

/// The buttons of a state, compared with what the engine says of each order.
mod orders {
    use super::super::verbs::{Rights, buttons};
    use crate::base::ids::{RolloutId, Seq};
    use crate::base::time::Timestamp;
    use crate::policy;
    use crate::policy::plan::Plan;
    use crate::rollout::event::{Actor, Command, Event, Input, Observation, Outcome, RouteReading, Start};
    use crate::rollout::state::{Next, State};
    use crate::rollout::view::RolloutView;
    use crate::rollout::{begin, step};

    fn orders() -> [(&'static str, Command); 6] {
        let reason = || "why".to_owned();
        [
            ("pause", Command::Pause { reason: reason() }),
            ("resume", Command::Resume),
            ("promote", Command::Promote { full: false, reason: reason() }),
            (
                "approve",
                Command::Approve {
                    person: Some("oncall".into()),
                    reason: reason(),
                    step: None,
                    voice: crate::rollout::event::Voice::default(),
                },
            ),
            ("reject", Command::Reject { person: Some("oncall".into()), reason: reason(), step: None }),
            ("abort", Command::Abort { reason: reason() }),
        ]
    }

    fn moved(plan: &Plan, state: &State, event: Event) -> Option<State> {
        let input = Input { seq: state.seq.next(), at: Timestamp(state.at.0 + 1000), event };
        match step(plan, state, &input) {
            Next::Step { state, .. } => Some(*state),
            Next::Ignored(_) | Next::Refused(_) => None,
        }
    }

    fn by(command: Command) -> Event {
        Event::Command { command, actor: Actor { name: "anna".into(), via: "os_user".into() } }
    }

    fn compare(plan: &Plan, state: &State) {
        let view = RolloutView::of(plan, state);
        let people = view.approval.as_ref().map(|approval| approval.from.clone()).unwrap_or_default();
        let shown = buttons(&view, &Rights { may_act: true, speaks_for: people });
        for (verb, command) in orders() {
            let is_shown = shown.iter().any(|button| button.verb == verb);
            let input = Input { seq: state.seq.next(), at: state.at, event: by(command) };
            let is_taken = !matches!(step(plan, state, &input), Next::Refused(_));
            assert_eq!(is_shown, is_taken, "{verb} in {} (step {:?})", view.phase, view.step);
        }
    }

    #[test]
    fn are_those_that_the_engine_takes() {
        let text = "version: 1\nname: checkout\nroute: { mesh: shop, router: r, route: checkout }\n\
                    versions: [v1, v2]\nsteps:\n  - 10\n  - approval: { from: [oncall], need: 1, timeout: 1h }\n  - 100\n";
        let plan = policy::compile("checkout.yaml", text).unwrap().plan;
        let route = RouteReading { version: 3, targets: vec![("v1".into(), 100), ("v2".into(), 0)], lapsed: None };
        let start = Start {
            to: None,
            revision: None,
            image: None,
            route,
            author: Vec::new(),
            outside_windows: None,
            first_step: 0,
            last_generation: 0,
            stable: None,
            baseline: None,
            past: Box::default(),
        };
        let input = Input { seq: Seq(1), at: Timestamp(1_000), event: by(Command::Start(start)) };
        let (begun, effects) = begin(&plan, RolloutId("r-1".into()), &input).unwrap();
        let applied = Event::Settled { effect: effects[0].0.clone(), outcome: Outcome::Applied { version: 4 } };
        let mut states = vec![begun.clone(), moved(&plan, &begun, applied).unwrap()];
        let approval = moved(&plan, &begun, by(orders()[2].1.clone())).unwrap();
        states.push(approval);
        // Each order in each state, four deep: pauses over everything, approvals, ends.
        let mut at = 0;
        while at < states.len() && states.len() < 400 {
            let state = states[at].clone();
            let more = orders().into_iter().map(|(_, command)| by(command));
            let freeze = [by(Command::Freeze { reason: "payday".into() }), by(Command::Thaw)];
            let seen = Event::Observed(Observation::default());
            let next: Vec<State> =
                more.chain(freeze).chain([Event::Tick, seen]).filter_map(|event| moved(&plan, &state, event)).collect();
            states.extend(next);
            at += 1;
        }
        assert!(states.len() > 100, "{}", states.len());
        let phases: std::collections::BTreeSet<String> =
            states.iter().map(|state| RolloutView::of(&plan, state).phase).collect();
        for phase in ["shifting", "verifying", "paused", "awaiting_approval", "rolling_back"] {
            assert!(phases.contains(phase), "{phases:?}");
        }
        states.iter().for_each(|state| compare(&plan, state));
    }
}
