//! Tables of bad files with their messages, and whole renderings.

mod fuzz;
mod gates;
mod scopes;
mod signals;
mod start;
mod steps;

use super::plan::{
    BlastRadius, GateRule, NoData, NoiseRule, OnFailure, OnInconclusive, OnVerifyTimeout, Verify, WeightStep,
};
use super::problem::MAX_PROBLEMS;
use super::{Compiled, MAX_BYTES, Problem, compile};
use crate::base::time::Millis;
use serde_json::json;

pub(super) const EXAMPLES: [(&str, &str); 4] = [
    ("policies/quick-start.yaml", include_str!("../../policies/quick-start.yaml")),
    ("policies/payments-cautious.yaml", include_str!("../../policies/payments-cautious.yaml")),
    ("policies/blue-green.yaml", include_str!("../../policies/blue-green.yaml")),
    ("policies/smoke-tests.yaml", include_str!("../../policies/smoke-tests.yaml")),
];

/// Every key of the schema, with adapters of later versions.
pub(super) const EVERYTHING: &str = include_str!("everything.yaml");

pub(super) const HEAD: &str =
    "version: 1\nname: checkout\nroute: { mesh: shop, router: r, route: checkout }\nversions: [a, b]\n";

/// A file that is complete but for what is added to it.
pub(super) fn with(rest: &str) -> String {
    let steps = if rest.contains("steps:\n") || rest.contains("steps: ") { "" } else { "steps: [10, 100]\n" };
    format!("{HEAD}{steps}{rest}")
}

fn good(text: &str) -> Compiled {
    compile("p.yaml", text).unwrap_or_else(|problems| panic!("{}\n{text}", render(&problems)))
}

fn render(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn weight_steps(compiled: &Compiled) -> Vec<WeightStep> {
    super::steps::weights(&compiled.plan.steps).cloned().collect()
}

/// Compiles and expects exactly these problems, as `line:column message` or `line:column message | hint`.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let problems = compile("p.yaml", text).err().unwrap_or_default();
    let found: Vec<String> = problems
        .iter()
        .zip(expected.iter().map(Some).chain(std::iter::repeat(None)))
        .map(|(problem, expected)| {
            let told = format!("{}:{} {}", problem.line, problem.column, problem.message);
            match (&problem.hint, expected) {
                (Some(hint), Some(expected)) if expected.contains(" | ") => format!("{told} | {hint}"),
                _ => told,
            }
        })
        .collect();
    assert_eq!(found, expected, "\n{text}");
}

#[test]
fn a_short_file_has_the_documented_defaults() {
    let compiled = good(&with(""));
    let plan = &compiled.plan;
    assert_eq!(compiled.warnings, []);
    assert_eq!((plan.name.as_str(), plan.route.to_string().as_str()), ("checkout", "shop/r/checkout"));
    assert_eq!(plan.versions, ["a", "b"]);
    let steps = weight_steps(&compiled);
    assert_eq!(steps.iter().map(|step| step.weight.get()).collect::<Vec<_>>(), [10, 100]);
    for step in steps {
        assert_eq!((step.min, step.max), (Millis::from_seconds(10), Millis::from_seconds(300)));
        assert_eq!((step.prove_no_worse_than, step.on_inconclusive), (0.02, OnInconclusive::Hold));
    }
    assert_eq!(plan.max_total, Millis::from_seconds(86_400));
    assert_eq!((plan.max_false_rollback, plan.confidence_to_advance), (0.01, 0.95));
    assert_eq!(plan.noise, NoiseRule::Auto);
    assert_eq!(plan.blast_radius, BlastRadius { failed_requests: 50, per_proxy_between_acks: 5 });
    let seconds = Millis::from_seconds;
    assert_eq!(plan.no_data, NoData { hold_after: seconds(10), withdraw_after: seconds(30) });
    assert_eq!(plan.verify, Verify { timeout: seconds(60), on_timeout: OnVerifyTimeout::Rollback });
    assert_eq!(plan.on_failure, OnFailure::Rollback);
    let [gate] = plan.gates.as_slice() else { panic!("{:?}", plan.gates) };
    assert_eq!((gate.name.as_str(), gate.dry_run), ("errors", false));
    assert_eq!(gate.rule, GateRule::ErrorRateAgainstStable { ratio: 1.0, add: 0.001 });
}

#[test]
fn every_value_arrives_in_the_plan() {
    let compiled = good(&with(
        "steps:\n  - { weight: 1, min: 0s, max: 2m, prove_no_worse_than: 1.5pp, on_inconclusive: advance }\n  - 50\n  - 100\n\
         step_defaults: { min: 1s, max: 10m, prove_no_worse_than: 3pp, on_inconclusive: rollback }\n\
         max_total: 2h\nmax_false_rollback: 50%\nconfidence_to_advance: 50%\nnoise: none\n\
         gates:\n  - { name: mine, metric: error_rate, compare: stable, tolerate: { ratio: 2 }, dry_run: True }\n  \
           - { name: other, metric: error_rate, compare: stable, tolerate: { add: 0pp } }\n\
         blast_radius: { failed_requests: 7 }\nno_data: { withdraw_after: 11s }\n\
         verify: { timeout: 500ms, on_timeout: pause }\non_failure: pause\n",
    ));
    let plan = &compiled.plan;
    let steps = weight_steps(&compiled);
    assert_eq!((steps[0].min, steps[0].max, steps[0].prove_no_worse_than), (Millis(0), Millis(120_000), 0.015));
    assert_eq!(steps[0].on_inconclusive, OnInconclusive::Advance);
    assert_eq!((steps[2].min, steps[2].max, steps[2].prove_no_worse_than), (Millis(1000), Millis(600_000), 0.03));
    assert_eq!(steps[2].on_inconclusive, OnInconclusive::Rollback);
    assert_eq!((plan.max_total, plan.max_false_rollback, plan.confidence_to_advance), (Millis(7_200_000), 0.5, 0.5));
    assert_eq!(plan.gates[0].rule, GateRule::ErrorRateAgainstStable { ratio: 2.0, add: 0.001 });
    assert_eq!(plan.gates[1].rule, GateRule::ErrorRateAgainstStable { ratio: 1.0, add: 0.0 });
    assert_eq!((plan.gates[0].dry_run, plan.gates[1].dry_run), (true, false));
    assert_eq!(plan.blast_radius, BlastRadius { failed_requests: 7, per_proxy_between_acks: 5 });
    assert_eq!(plan.no_data, NoData { hold_after: Millis(10_000), withdraw_after: Millis(11_000) });
    assert_eq!(plan.verify, Verify { timeout: Millis(500), on_timeout: OnVerifyTimeout::Pause });
    assert_eq!((plan.on_failure, plan.noise), (OnFailure::Pause, NoiseRule::None));
    let noisy = good(&with("noise: { v: 0.25, phi: 3 }\n")).plan;
    assert_eq!(noisy.noise, NoiseRule::Fixed { v: 0.25, phi: 3.0 });
    assert_eq!(good(&with("noise: { v: 0 }\n")).plan.noise, NoiseRule::Fixed { v: 0.0, phi: 1.0 });
    let stored = serde_json::to_string(&noisy).unwrap();
    assert_eq!(serde_json::from_str::<super::plan::Plan>(&stored).unwrap(), noisy);
    // Stored plans are read back as they were written.
    let stored = serde_json::to_string(plan).unwrap();
    assert_eq!(&serde_json::from_str::<super::plan::Plan>(&stored).unwrap(), plan);
}

#[test]
fn examples_compile() {
    for (file, text) in EXAMPLES {
        let compiled = compile(file, text).unwrap_or_else(|problems| panic!("{}", render(&problems)));
        assert_eq!(
            compiled.warnings.len(),
            usize::from(file.contains("blue-green")),
            "{file}: {:?}",
            compiled.warnings
        );
    }
    let quick = good(EXAMPLES[0].1);
    assert_eq!(quick.plan.name, "checkout");
    let without_gates: String =
        EXAMPLES[0].1.lines().take_while(|line| !line.starts_with("gates:")).map(|line| format!("{line}\n")).collect();
    assert_eq!(good(&without_gates).plan.gates, quick.plan.gates, "the comment promises that this is the default");
    assert_eq!(good(EXAMPLES[2].1).plan.gates, []);
}

#[test]
fn a_preview_has_a_header_and_a_time() {
    let of = |text: &str| good(&with(text)).plan.preview.expect("it has one");
    let preview = of("preview: { header: { name: X-Preview, value: \"a b\" }, for: 2m }\n");
    assert_eq!(preview.header.to_string(), "X-Preview: a b");
    let minutes = |minutes: u64| Millis::from_seconds(60 * minutes);
    assert_eq!((preview.lasts, preview.max, preview.on_inconclusive), (minutes(2), minutes(5), OnInconclusive::Hold));
    let long =
        of("preview: { header: { name: a, value: b }, for: 1h }\nstep_defaults: { on_inconclusive: rollback }\n");
    assert_eq!((long.lasts, long.max, long.on_inconclusive), (minutes(60), minutes(60), OnInconclusive::Rollback));
    let warned = good(&with("preview: { header: { name: a, value: b }, for: 1m }\n")).warnings;
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].message.contains("nothing judges the preview"), "{warned:?}");
    let judged =
        with("preview: { header: { name: a, value: b }, for: 1m }\ngates: [{ name: alive, health: { tcp: true } }]\n");
    assert!(good(&judged).warnings.iter().all(|warning| !warning.message.contains("preview")));
    check(
        &with("preview: { header: { name: \":path\", value: \" 1\" }, for: 0s }\n"),
        &[
            "6:28 `preview.header.name` must be the name of a header such as `x-preview`, of up to 50 characters, found the text `:path`",
            "6:44 `preview.header.value` must be up to 255 printable characters without a space at either end, found the text ` 1`",
            "6:57 a preview `for` 0ms shows nothing | say how long tests may use it, such as `2m`; or leave `preview` out",
        ],
    );
}

#[test]
fn json_is_yaml() {
    let json = json!({
        "version": 1, "name": "checkout", "route": { "mesh": "shop", "router": "r", "route": "checkout" },
        "versions": ["a", "b"], "steps": [10, { "weight": 100, "min": "5s" }],
    });
    assert_eq!(good(&json.to_string()).plan, good(&serde_json::to_string_pretty(&json).unwrap()).plan);
}

#[test]
fn the_whole_schema_parses_and_what_is_not_built_is_refused_by_name() {
    let problems = compile("p.yaml", EVERYTHING).unwrap_err();
    let found: Vec<String> =
        problems.iter().map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.message)).collect();
    let refused = |line, column, what: &str| format!("{line}:{column} `{what}` is not in this version");
    assert_eq!(found, [refused(18, 1, "on_total")]);
    assert!(problems.iter().all(|problem| problem.hint.is_some()), "each says what to do meanwhile");
}

#[test]
fn files_that_are_no_policy() {
    let holds_none =
        ["1:1 the file holds no policy | begin with `version: 1`; `policies/quick-start.yaml` is an example"];
    for text in ["", "\n\n", "# nothing\n", "---\n", "~\n", "null", "\u{feff}"] {
        check(text, &holds_none);
    }
    check(
        "just words\n",
        &[
            "1:1 the policy must be a mapping with the keys `version`, `name`, `route`, `versions`, `workload`, `start`, `preview`, `steps`, `step_defaults`, `max_total`, `on_total`, `gates`, `max_false_rollback`, `confidence_to_advance`, `blast_radius`, `noise`, `no_data`, `verify`, `on_failure`, `notify`, found the text `just words`",
        ],
    );
    check(
        &with("---\nversion: 1\n"),
        &[
            "6:1 a second document begins here, and a policy file is one document | put each policy into a file of its own",
        ],
    );
    check(&" ".repeat(MAX_BYTES + 1), &["1:1 the file has 262145 bytes, more than the 262144 that are allowed"]);
    check(
        &with("on_failure: pa\0use\n"),
        &["6:15 a control character stands here | save the file as plain UTF-8 text"],
    );
    check("version: 1\nname: [a\n", &["3:1 not valid YAML: while parsing a flow sequence, expected ',' or ']'"]);
    check(&"[".repeat(5000), &["1:256 nested more than 32 levels deep"]);
    check(&"- ".repeat(50_000), &["1:65 nested more than 32 levels deep"]);
    check(
        "a:\n",
        &[
            "1:1 unknown key `a` | known keys here: `version`, `name`, `route`, `versions`, `workload`, `start`, `preview`, `steps`, `step_defaults`, `max_total`, `on_total`, `gates`, `max_false_rollback`, `confidence_to_advance`, `blast_radius`, `noise`, `no_data`, `verify`, `on_failure`, `notify`",
            "1:1 missing key `version` | add `version: 1`",
            "1:1 missing key `name` | add `name: checkout`",
            "1:1 missing key `route` | add `route: { mesh: shop, router: checkout-router, route: checkout }`",
            "1:1 missing key `versions` | add `versions: [checkout-v1, checkout-v2]`",
            "1:1 missing key `steps` | add `steps: [1, 10, 50, 100]`",
        ],
    );
}

#[test]
fn yaml_that_a_policy_has_no_use_for() {
    check(
        &with("verify:\n\ttimeout: 5s\n"),
        &[
            "7:2 not valid YAML: tabs disallowed within this context (block indentation) | this line is indented with a tab: YAML allows only spaces there",
        ],
    );
    check(&with("name: other\n"), &["6:1 duplicate key `name` | it is already given on line 2"]);
    check(
        &with("name: x\nname: y\nverify: { timeout: 5s, timeout: 6s }\n"),
        &[
            "6:1 duplicate key `name`",
            "7:1 duplicate key `name`",
            "8:24 duplicate key `timeout` | it is already given on line 8",
        ],
    );
    let anchors = "anchors (`&`) and aliases (`*`) are not part of the policy language";
    check(
        &with("step_defaults: &d { min: 1s }\nverify: *d\n"),
        &[&format!("6:16 {anchors}"), &format!("7:9 {anchors}")],
    );
    check(
        &with("on_failure: !word pause\n"),
        &["6:13 the tag `!word` is not part of the policy language | leave the tag out; text is forced by quotes"],
    );
    check(&with("7: x\n"), &["6:1 a key must be text, found the number `7` | put it in quotes: `\"7\"`"]);
    check(&with("true: x\n"), &["6:1 a key must be text, found the truth value `true`"]);
    check(&with("[a, b]: x\n"), &["6:1 a key must be text, found a list"]);
    check(&with("{a: b}: x\n"), &["6:1 a key must be text, found a mapping"]);
    check(&with("<<: { on_failure: pause }\n"), &["6:1 unknown key `<<`"]);
}

#[test]
fn unknown_keys_name_the_nearest() {
    check(&with("gate: []\n"), &["6:1 unknown key `gate` | did you mean `gates`?"]);
    check(&with("max-total: 1h\n"), &["6:1 unknown key `max-total` | did you mean `max_total`?"]);
    check(&with("Verify: {}\n"), &["6:1 unknown key `Verify` | did you mean `verify`?"]);
    check(&with("verify: { tiemout: 1s }\n"), &["6:11 unknown key `tiemout` in `verify` | did you mean `timeout`?"]);
    check(
        &with("steps:\n  - { wieght: 5 }\n  - 100\n"),
        &[
            "6:5 `steps[0]` needs one of the keys `weight`, `approval`",
            "6:7 unknown key `wieght` in `steps[0]` | did you mean `weight`?",
        ],
    );
    check(
        &with("verify: { zzz: 1s }\n"),
        &["6:11 unknown key `zzz` in `verify` | known keys here: `timeout`, `on_timeout`"],
    );
    check(
        &with("gates:\n  - { name: e, metric: error_rat, compare: stable }\n"),
        &[
            "7:24 `gates[0].metric` must be `error_rate`, `latency`, `latency_p50`, `latency_p75`, `latency_p90`, `latency_p95`, `latency_p99` or `latency_p999`, found the text `error_rat` | did you mean `error_rate`?",
        ],
    );
}

#[test]
fn values_of_the_wrong_kind() {
    check(
        &HEAD.replace("version: 1", "version: 2").replace("\nversions", "\nsteps: [100]\nversions"),
        &["1:10 `version` must be the number 1, found the number `2`"],
    );
    check(
        &HEAD.replace("checkout\nroute", "Check_Out\nroute").replace("\nversions", "\nsteps: [100]\nversions"),
        &[
            "2:7 `name` must be a name of up to 63 lower-case letters, digits and `-` that begins with a letter or digit, found the text `Check_Out`",
        ],
    );
    check(
        &HEAD.replace("[a, b]", "[a, 2]\nsteps: [100]"),
        &[
            "4:15 `versions[1]` must be an App Mesh name of up to 255 letters, digits, `-` and `_`, found the number `2` | put it in quotes to make it text: `\"2\"`",
        ],
    );
    check(&HEAD.replace("[a, b]", "[a]\nsteps: [100]"), &["4:11 `versions` must have 2 entries, found 1"]);
    check(
        &HEAD.replace("[a, b]", "[a, a]\nsteps: [100]"),
        &["4:15 both versions are `a` | name the two virtual nodes that releases use in turn"],
    );
    check(&HEAD.replace("[a, b]", "a\nsteps: [100]"), &["4:11 `versions` must be a list, found the text `a`"]);
    check(
        &HEAD.replace("mesh: shop, ", "").replace("\nversions", "\nsteps: [100]\nversions"),
        &["3:8 missing key `mesh` in `route` | add `mesh: shop`"],
    );
    check(
        &HEAD.replace("shop", "a/b").replace("\nversions", "\nsteps: [100]\nversions"),
        &["3:16 `route.mesh` must be an App Mesh name of up to 255 letters, digits, `-` and `_`, found the text `a/b`"],
    );
}

#[test]
fn quantities_without_their_unit_or_with_another() {
    check(
        &with("max_total: 10\n"),
        &[
            "6:12 `max_total` must be a duration such as `90s`, `5m` or `1h`: `10` has no unit | for seconds write `10s`, for minutes `10m`",
        ],
    );
    check(
        &with("max_total: 2d\n"),
        &[
            "6:12 `max_total` must be a duration such as `90s`, `5m` or `1h`: `2d` has the unit `d`, which is not one of `ms`, `s`, `m`, `h` | write `48h`",
        ],
    );
    check(
        &with("max_total: 1.5h\n"),
        &[
            "6:12 `max_total` must be a duration such as `90s`, `5m` or `1h`: `1.5h` is not a whole number of its unit | use the next smaller unit: `90m` instead of `1.5h`",
        ],
    );
    check(
        &with("max_total: 9999h\n"),
        &["6:12 `max_total` must be a duration such as `90s`, `5m` or `1h`: `9999h` is more than 2160h (90 days)"],
    );
    check(
        &with("max_total: soon\n"),
        &["6:12 `max_total` must be a duration such as `90s`, `5m` or `1h`: `soon` does not begin with a number"],
    );
    check(
        &with("max_total: -5m\n"),
        &["6:12 `max_total` must be a duration such as `90s`, `5m` or `1h`: `-5m` does not begin with a number"],
    );
    check(
        &with("max_total: [5m]\n"),
        &["6:12 `max_total` must be a duration such as `90s`, `5m` or `1h`, found a list"],
    );
    check(&with("max_total:\n"), &["6:10 `max_total` must be a duration such as `90s`, `5m` or `1h`, found nothing"]);
    check(
        &with("max_false_rollback: 0.01\n"),
        &["6:21 `max_false_rollback` must be a share such as `0.1%`: `0.01` has no unit | write `0.01%`"],
    );
    check(
        &with("step_defaults: { prove_no_worse_than: 1% }\n"),
        &[
            "6:39 `step_defaults.prove_no_worse_than` must be a difference of shares such as `0.1pp`: `1%` has the unit `%`, which is not one of `pp` (percentage points) | write `1pp`: percentage points, the difference of two shares",
        ],
    );
}

#[test]
fn words_and_counts_of_the_wrong_kind() {
    check(
        &with("blast_radius: { failed_requests: many }\n"),
        &["6:34 `blast_radius.failed_requests` must be a whole number from 1 to 1000000000, found the text `many`"],
    );
    check(
        &with("blast_radius: { failed_requests: 0 }\n"),
        &["6:34 `blast_radius.failed_requests` must be a whole number from 1 to 1000000000, found the number `0`"],
    );
    check(
        &with("blast_radius: 50\n"),
        &[
            "6:15 `blast_radius` must be a mapping with the keys `failed_requests`, `per_proxy_between_acks`, found the number `50`",
        ],
    );
    check(&with("on_failure: undo\n"), &["6:13 `on_failure` must be `rollback` or `pause`, found the text `undo`"]);
    check(
        &with("on_failure: Rolback\n"),
        &["6:13 `on_failure` must be `rollback` or `pause`, found the text `Rolback` | did you mean `rollback`?"],
    );
    check(
        &with("noise: loud\n"),
        &["6:8 `noise` must be `auto` or `none` or a mapping with the keys `v`, `phi`, found the text `loud`"],
    );
    check(&with("noise: { phi: 2 }\n"), &["6:8 missing key `v` in `noise` | add `v: 0.25`"]);
    check(
        &with("noise: { v: 4.5, phi: 0.5 }\n"),
        &[
            "6:13 `v` must be from 0 to 4 | 0.25 is a rate that swings by half of its mean from minute to minute",
            "6:23 `phi` must be from 1 to 1000 | 1 is one error for each cause",
        ],
    );
    check(
        &with("workload: { process: { command: ./server, prots: {} } }\n"),
        &[
            "6:22 missing key `ports` in `workload.process`",
            "6:33 `workload.process.command` must be a list, found the text `./server`",
            "6:43 unknown key `prots` in `workload.process` | did you mean `ports`?",
        ],
    );
    // What is refused is checked all the same.
    check(
        &with("on_total: later\n"),
        &[
            "6:1 `on_total` is not in this version | leave `on_total` out: at `max_total` a rollout is rolled back",
            "6:11 `on_total` must be `rollback` or `pause`, found the text `later`",
        ],
    );
    check(
        &with("preview: { header: now, fro: 2m }\n"),
        &[
            "6:10 missing key `for` in `preview`",
            "6:20 `preview.header` must be a mapping with the keys `name`, `value`, found the text `now`",
            "6:25 unknown key `fro` in `preview`",
        ],
    );
}

#[test]
fn all_problems_are_told_at_once() {
    check(
        "version: 1\nnam: checkout\nversions: [a, a]\nsteps: [5, 5]\nno_data: { hold_after: 40s }\nnoise: 3\n",
        &[
            "1:1 missing key `name`",
            "1:1 missing key `route`",
            "2:1 unknown key `nam` | did you mean `name`?",
            "3:15 both versions are `a`",
            "4:12 weight 5 does not rise: the step before it has 5",
            "4:12 the last step gives 5 and not 100",
            "5:24 `hold_after` of 40s must be shorter than `withdraw_after` of 30s",
            "6:8 `noise` must be `auto` or `none` or a mapping with the keys `v`, `phi`, found the number `3`",
        ],
    );
}

#[test]
fn warnings_are_for_plans_that_are_probably_not_meant() {
    let told = |text: &str| -> Vec<String> {
        let warnings = good(text).warnings;
        warnings.iter().map(|warning| format!("{}:{} {}", warning.line, warning.column, warning.message)).collect()
    };
    assert_eq!(
        told(&with("steps: [11, 100]\n")),
        ["5:9 the first step exposes 11 % of the requests before anything is known"]
    );
    assert_eq!(
        told(&with("steps: [10, 60, 95, 100]\n")),
        ["5:13 comparison is weak above 50 %: little is left on stable to compare with"]
    );
    assert_eq!(
        told(&with("steps: [100]\n")),
        ["5:8 all traffic moves in one step: nothing is left to compare with, and no gate can act"]
    );
    let slo = "gates:\n  - { name: slo, metric: error_rate, max: 1% }\n";
    assert_eq!(told(&with(&format!("steps: [10, 60, 95, 100]\n{slo}"))), [] as [&str; 0], "a limit watches it");
    assert_eq!(told(&with(&format!("steps: [100]\n{slo}"))), [] as [&str; 0], "a limit acts there");
    assert_eq!(
        told(&with("gates:\n  - { name: e, metric: error_rate, compare: stable, dry_run: true }\n")),
        ["7:3 every gate is a dry run: no verdict rolls this release back"]
    );
}

#[test]
fn problems_show_the_line_and_what_to_do() {
    let text = with("gate:\n  - x\nverify: { timeout: 60, on_timeout: undo }\n");
    let expected = "\
policies/checkout.yaml:6:1: unknown key `gate`
  6 | gate:
    | ^^^^
  hint: did you mean `gates`?
policies/checkout.yaml:8:20: `verify.timeout` must be a duration such as `90s`, `5m` or `1h`: `60` has no unit
  8 | verify: { timeout: 60, on_timeout: undo }
    |                    ^^
  hint: for seconds write `60s`, for minutes `60m`
policies/checkout.yaml:8:36: `verify.on_timeout` must be `rollback` or `pause`, found the text `undo`
  8 | verify: { timeout: 60, on_timeout: undo }
    |                                    ^^^^";
    let problems = compile("policies/checkout.yaml", &text).unwrap_err();
    assert_eq!(render(&problems), expected);
    assert_eq!((problems[0].offending.as_str(), problems[1].offending.as_str()), ("gate", "60"));
}

#[test]
fn long_lines_are_cut_and_escapes_are_disarmed() {
    let text = with(&format!("on_failure: {}\u{202e}rollback # {}\n", "x".repeat(80), "y".repeat(300)));
    let problems = compile("p.yaml", &text).unwrap_err();
    let [problem] = problems.as_slice() else { panic!("{}", render(&problems)) };
    assert_eq!(problem.excerpt.chars().count(), 100);
    assert!(problem.message.ends_with("xxx…`"), "{}", problem.message);
    assert!(!problem.to_string().contains('\u{202e}'));
    let lines: Vec<String> = problem.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines[2].find('^'), lines[1].find('x'));
}

#[test]
fn a_hopeless_file_is_answered_briefly() {
    let text: String = (0..20_000).map(|n| format!("k{n}: 1\n")).collect();
    assert_eq!(compile("p.yaml", &text).unwrap_err().len(), MAX_PROBLEMS);
}
