//! Where gates act, what they weigh, and what their failure does: mistakes, and what arrives in the plan.

use super::{check, good, with};
use crate::base::weight::Percent;
use crate::policy::plan::{Gate, Moment, OnFailure, Plan, Scope};

const ERRORS: &str = "metric: error_rate, compare: stable";
const SLO: &str = "metric: error_rate, max: 1%";
const COMPARED: &str = "prometheus: { query: 'up{node=\"{node}\"}' }, compare: stable, tolerate: { ratio: 2 }";
const ALIVE: &str = "health: { tcp: true }";
const JUDGE: &str = "webhook: { url: 'https://h/judge' }";

/// A file with one gate beside one that acts everywhere.
fn file(gate: &str) -> String {
    let first = "{ name: first, metric: error_rate, compare: stable }";
    with(&format!("steps: [10, 50, 100]\ngates:\n  - {first}\n  - {{ name: g, {gate} }}\n"))
}

fn at(weight: u8) -> Moment {
    Moment::At(Percent::new(weight).unwrap())
}

fn gate(text: &str) -> Gate {
    good(&file(text)).plan.gates.remove(1)
}

#[test]
fn gates_act_where_they_usually_do_unless_they_say() {
    let moments = [Moment::Preview, at(10), at(50), at(100)];
    for (text, acts) in [
        (ERRORS, [false, true, true, false]),
        ("metric: latency, compare: stable", [false, true, true, false]),
        (COMPARED, [false, true, true, false]),
        (SLO, [false, true, true, true]),
        ("metric: latency_p99, max: 1s", [false, true, true, true]),
        ("http: { url: 'https://h/' }, max: 1", [false, true, true, true]),
        (ALIVE, [true, true, true, true]),
        (JUDGE, [true, true, true, true]),
    ] {
        let gate = gate(text);
        assert_eq!((gate.during.as_slice(), moments.map(|moment| gate.acts(moment))), (&[][..], acts), "{text}");
    }
    let fifty = Scope::Weight(Percent::new(50).unwrap());
    for (during, scopes, acts) in [
        ("steps", vec![Scope::Steps], [false, true, true, false]),
        ("bake", vec![Scope::Bake], [false, false, false, true]),
        ("50", vec![fifty], [false, false, true, false]),
        ("[50, bake]", vec![fifty, Scope::Bake], [false, false, true, true]),
        ("[10, 100]", [10, 100].map(|w| Scope::Weight(Percent::new(w).unwrap())).to_vec(), [false, true, false, true]),
        ("[steps, bake]", vec![Scope::Steps, Scope::Bake], [false, true, true, true]),
    ] {
        let gate = gate(&format!("{ALIVE}, during: {during}"));
        assert_eq!((gate.during.clone(), moments.map(|moment| gate.acts(moment))), (scopes, acts), "{during}");
    }
}

#[test]
fn requests_count_where_the_gate_acts() {
    let shares = [0, 100_000, 123_456, 500_000, 1_000_000];
    let counted = |text: &str| {
        let gate = gate(text);
        shares.map(|share| gate.counts_share(share))
    };
    assert_eq!(counted(SLO), [true; 5], "what no policy scoped counts as before");
    assert_eq!(counted(&format!("{SLO}, during: steps")), [false, true, true, true, false]);
    assert_eq!(counted(&format!("{SLO}, during: [10, bake]")), [false, true, false, false, true]);
}

#[test]
fn scopes_that_make_no_sense() {
    let told = |gate: &str, expected: &str| check(&file(gate), &[expected]);
    told(&format!("{ALIVE}, during: 20"), "8:47 no step has the weight 20 | the weights of `steps` are 10, 50, 100");
    told(
        &format!("{ALIVE}, during: [10, 20]"),
        "8:52 no step has the weight 20 | the weights of `steps` are 10, 50, 100",
    );
    let limit = "write a second gate with a limit, such as `max: 1%`, for 100 %";
    for (scope, column) in [("bake", 61), ("100", 61), ("[steps, bake]", 69)] {
        told(
            &format!("{ERRORS}, during: {scope}"),
            &format!("8:{column} at 100 % nothing is left to compare with | {limit}"),
        );
    }
    told(
        &format!("{ALIVE}, during: preview"),
        "8:47 the policy has no `preview` in which this gate could act | give the policy a `preview`, or leave `preview` out here",
    );
    let once =
        "this says again what stands before it | name each part once: `steps` is every weight below 100, `bake` is 100";
    told(&format!("{ALIVE}, during: [10, 10]"), &format!("8:52 {once}"));
    told(&format!("{ALIVE}, during: [10, steps]"), &format!("8:52 {once}"));
    told(&format!("{ALIVE}, during: [bake, 100]"), &format!("8:54 {once}"));
    let shape = "must be `preview`, `steps` or `bake`, the weight of a step such as `10`, or a list of these";
    told(
        &format!("{ALIVE}, during: step"),
        &format!("8:47 `gates[1].during` {shape}, found the text `step` | did you mean `steps`?"),
    );
    told(&format!("{ALIVE}, during: [0]"), &format!("8:48 `gates[1].during[0]` {shape}, found the number `0`"));
    told(&format!("{ALIVE}, during: [[10]]"), &format!("8:48 `gates[1].during[0]` {shape}, found a list"));
    told(&format!("{ALIVE}, during: []"), "8:47 `gates[1].during` must have 1 to 103 entries, found 0");
    check(
        &with(&format!("steps: [100]\ngates:\n  - {{ name: g, {ALIVE}, during: steps }}\n")),
        &["7:47 no step is below 100 | put a smaller step before 100, or write `during: bake`"],
    );
}

#[test]
fn a_preview_has_no_judged_requests() {
    let file = |gate: &str| {
        with(&format!(
            "preview: {{ header: {{ name: x, value: y }}, for: 2m }}\ngates:\n  - {{ name: g, {gate}, during: [preview, 10] }}\n"
        ))
    };
    let hint = "leave `preview` out here; gates on `health` and `webhook` act there";
    let problems = |gate: &str| -> Vec<String> {
        let problems = crate::policy::compile("p.yaml", &file(gate)).err().unwrap_or_default();
        let of_gate = problems.iter().filter(|problem| problem.line == 8);
        of_gate.map(|problem| format!("{} | {}", problem.message, problem.hint.clone().unwrap_or_default())).collect()
    };
    let compared = format!("this gate cannot act in a preview: there is nothing to compare | {hint}");
    assert_eq!(problems(ERRORS), [compared]);
    assert_eq!(problems(SLO), [format!("this gate cannot act in a preview: no request of it is judged | {hint}")]);
    for gate in [ALIVE, JUDGE, "http: { url: 'https://h/' }, max: 1"] {
        assert_eq!(problems(gate), [""; 0], "{gate}");
    }
}

#[test]
fn weights_are_for_what_shares_the_bound() {
    let message = "`weight` splits `max_false_rollback`, and that bound does not cover this gate";
    let hint = "leave it out: it is for `metric: error_rate` and `metric: latency` with `compare: stable`";
    check(&file(&format!("{ALIVE}, weight: 2")), &[&format!("8:47 {message} | {hint}")]);
    check(&file(&format!("{SLO}, weight: 2")), &[&format!("8:53 {message} | {hint}")]);
    let range =
        "`weight` must be above 0 and at most 1000 | gates without one weigh 1; `dry_run: true` takes a gate out";
    check(&file(&format!("{ERRORS}, weight: 0")), &[&format!("8:61 {range}")]);
    check(&file(&format!("{ERRORS}, weight: 1000.5")), &[&format!("8:61 {range}")]);
    check(
        &file(&format!("{ERRORS}, weight: 50%")),
        &[
            "8:61 `gates[1].weight` must be a plain number such as `1.5`: `50%` is followed by `%`, and no unit is expected | write `50`",
        ],
    );
    assert_eq!(gate(&format!("{ERRORS}, weight: 2.5")).weight, Some(2.5));
    assert_eq!(gate(ERRORS).weight, None);
}

#[test]
fn what_a_failure_does_arrives_and_is_stored() {
    let gate = gate(&format!("{ALIVE}, on_failure: pause, during: [10, bake]"));
    assert_eq!(gate.on_failure, Some(OnFailure::Pause));
    check(
        &file(&format!("{ALIVE}, on_failure: ignore")),
        &["8:51 `gates[1].on_failure` must be `rollback` or `pause`, found the text `ignore`"],
    );
    let plan = good(&file(&format!("{ERRORS}, weight: 3, during: [10, 50], on_failure: pause"))).plan;
    let stored = serde_json::to_value(&plan).unwrap();
    assert_eq!(stored["gates"][1]["during"], serde_json::json!([{ "weight": 10 }, { "weight": 50 }]));
    assert_eq!(serde_json::from_value::<Plan>(stored.clone()).unwrap(), plan);
    // A gate that says nothing of this is stored as it was before there was any.
    let mut keys: Vec<&String> = stored["gates"][0].as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["dry_run", "name", "rule"]);
}

#[test]
fn a_step_where_nothing_acts_is_told() {
    let warnings = |gates: &str| -> Vec<String> {
        let compiled = good(&with(&format!("steps: [10, 50, 100]\ngates:\n{gates}")));
        compiled
            .warnings
            .iter()
            .map(|warning| format!("{}:{} {}", warning.line, warning.column, warning.message))
            .collect()
    };
    let told = "7:3 no gate acts at the step of 10 %: nothing rolls the release back there";
    assert_eq!(warnings("  - { name: g, metric: error_rate, compare: stable, during: 50 }\n"), [told]);
    let dry = "  - { name: a, metric: error_rate, compare: stable, dry_run: true }\n  - { name: b, health: { tcp: true }, during: [50, bake] }\n";
    assert_eq!(warnings(dry), [told]);
    assert_eq!(warnings("  - { name: g, metric: error_rate, compare: stable }\n"), [""; 0]);
    assert_eq!(warnings("  - { name: g, health: { tcp: true }, during: [10, 50] }\n"), [""; 0]);
}

#[test]
fn weak_comparison_is_told_where_no_limit_acts() {
    let first = |during: &str| {
        let gates = format!(
            "gates:\n  - {{ name: e, metric: error_rate, compare: stable }}\n  - {{ name: slo, metric: error_rate, max: 1%{during} }}\n"
        );
        good(&with(&format!("steps: [10, 60, 100]\n{gates}"))).warnings.first().map(|warning| warning.message.clone())
    };
    assert_eq!(first(""), None);
    let weak = "comparison is weak above 50 %: little is left on stable to compare with";
    assert_eq!(first(", during: [10, bake]").as_deref(), Some(weak));
}
