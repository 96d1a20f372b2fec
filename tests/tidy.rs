//! House rules as a test: what may import what, what has no place in a pure module, and how long things may get.
//!
//! Reads source text only, so it needs nothing of the crate and says `file:line` for each finding. Every rule has a
//! test of its own on a small text that breaks it, so that a rule which finds nothing is known to be able to.

#[path = "tidy/matrix.rs"]
mod matrix;
#[path = "tidy/source.rs"]
mod source;

use matrix::{ANYTHING, BANNED_IN_PURE, PURE, lies_in, row_of};
use source::{Source, crate_paths, functions, line_of, rust_files, token_positions};
use std::fs;
use std::path::Path;

/// A function fits on a screen.
const MOST_FUNCTION_LINES: usize = 70;
/// A file has one subject. Tests do not count.
const MOST_FILE_LINES: usize = 500;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Fails with one line for each finding.
fn expect_none(findings: &[String], why: &str) {
    assert!(findings.is_empty(), "{why}:\n{}\n", findings.join("\n"));
}

fn findings_in(folders: &[&str], rule: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    folders.iter().flat_map(|folder| rust_files(package(), folder)).flat_map(|source| rule(&source)).collect()
}

// === Rules ===

fn forbidden_imports(source: &Source) -> Vec<String> {
    let module = source.module();
    if module.is_empty() || source.product.is_empty() {
        return Vec::new();
    }
    let Some((row, entry)) = row_of(&module) else {
        return vec![format!("{}:1: module `{}` is not in the matrix", source.path, module.join("::"))];
    };
    let allowed = |path: &[String]| {
        lies_in(path, entry) || row.may_import.iter().any(|other| *other == ANYTHING || lies_in(path, other))
    };
    crate_paths(&source.product, &module)
        .into_iter()
        .filter(|(_, path)| !allowed(path))
        .map(|(line, path)| format!("{}:{line}: `{entry}` may not import `{}`", source.path, path.join("::")))
        .collect()
}

fn impurities(source: &Source) -> Vec<String> {
    if !PURE.iter().any(|pure| lies_in(&source.module(), pure)) {
        return Vec::new();
    }
    let code = &source.product;
    let positions = BANNED_IN_PURE.iter().flat_map(|token| token_positions(code, token).map(move |at| (at, token)));
    positions.map(|(at, token)| format!("{}:{}: `{token}`", source.path, line_of(code, at))).collect()
}

fn oversize(source: &Source) -> Vec<String> {
    let mut findings: Vec<String> = functions(&source.product)
        .into_iter()
        .filter(|(_, _, lines)| *lines > MOST_FUNCTION_LINES)
        .map(|(line, name, lines)| format!("{}:{line}: function `{name}` has {lines} lines", source.path))
        .collect();
    // Tests stand last, so everything up to the last line of the product counts.
    let lines = source.product.trim_end().lines().count();
    if lines > MOST_FILE_LINES {
        findings.push(format!("{}:{MOST_FILE_LINES}: file has {lines} lines before its tests", source.path));
    }
    findings
}

fn missing_contract(source: &Source) -> Vec<String> {
    let begins = source.text.starts_with("//! ");
    if begins { Vec::new() } else { vec![format!("{}:1: does not begin with `//!` and its purpose", source.path)] }
}

fn leftovers(source: &Source) -> Vec<String> {
    let positions = ["todo!", "unimplemented!", "dbg!", "#[ignore"]
        .into_iter()
        .flat_map(|token| token_positions(&source.code, token).map(move |at| (at, token)));
    positions.map(|(at, token)| format!("{}:{}: `{token}`", source.path, line_of(&source.code, at))).collect()
}

/// Assignments to a field `phase` outside the engine.
fn phase_assignments(source: &Source) -> Vec<String> {
    if lies_in(&source.module(), "rollout") {
        return Vec::new();
    }
    let code = &source.product;
    let is_assigned = |at: &usize| {
        let rest = code[at + ".phase".len()..].trim_start();
        rest.starts_with('=') && !rest.starts_with("==") && !rest.starts_with("=>")
    };
    let positions = code.match_indices(".phase").map(|(at, _)| at).filter(is_assigned);
    positions.map(|at| format!("{}:{}: assigns a phase", source.path, line_of(code, at))).collect()
}

fn mod_rs(source: &Source) -> Vec<String> {
    let is_one = source.path.ends_with("/mod.rs");
    if is_one { vec![format!("{}:1: name it after its folder and put it beside", source.path)] } else { Vec::new() }
}

fn unmentioned_policies(names: &[String], documents: &str) -> Vec<String> {
    let unmentioned = names.iter().filter(|name| !documents.contains(name.as_str()));
    unmentioned.map(|name| format!("policies/{name}:1: no document mentions it")).collect()
}

/// Tests that a document names as guards (`…::tests::…`, `tidy::…`, `it::…`) and that are not there.
fn missing_guards(document: &str, sources: &[Source]) -> Vec<String> {
    let is_guard = |name: &&str| name.contains("::tests::") || name.starts_with("tidy::") || name.starts_with("it::");
    let is_there = |name: &str| {
        let test = format!("fn {}(", name.rsplit("::").next().unwrap_or(name));
        sources.iter().any(|source| token_positions(&source.code, &test).next().is_some())
    };
    // Every second piece between back ticks is quoted.
    let missing = document.split('`').skip(1).step_by(2).filter(is_guard).filter(|name| !is_there(name));
    missing.map(|name| format!("docs/ARCHITECTURE.md: there is no test `{name}`")).collect()
}

/// Whether a changelog has a heading for what comes or for a version: `## [Unreleased]`, `## [1.2.3] - 2026-01-31`.
fn has_release_heading(changelog: &str) -> bool {
    changelog
        .lines()
        .filter_map(|line| line.strip_prefix("## ["))
        .any(|heading| heading.starts_with("Unreleased]") || heading.starts_with(|first: char| first.is_ascii_digit()))
}

// === The rules on this package ===

#[test]
fn modules_import_only_what_lies_below_them() {
    expect_none(&findings_in(&["src"], forbidden_imports), "imports against the matrix in tests/tidy/matrix.rs");
}

#[test]
fn pure_modules_are_pure() {
    expect_none(&findings_in(&["src"], impurities), "a pure module is a function of values: hand these in");
}

#[test]
fn only_the_engine_assigns_a_phase() {
    expect_none(&findings_in(&["src"], phase_assignments), "phases follow from inputs, in `rollout`");
}

#[test]
fn functions_and_files_are_short() {
    expect_none(&findings_in(&["src"], oversize), "over 70 lines for a function or 500 for a file");
}

#[test]
fn every_file_says_what_it_is_for() {
    expect_none(&findings_in(&["src", "tests"], missing_contract), "no contract at the top");
}

#[test]
fn nothing_is_left_undone_or_ignored() {
    expect_none(&findings_in(&["src", "tests"], leftovers), "left over");
}

#[test]
fn modules_are_named_after_their_files() {
    expect_none(&findings_in(&["src", "tests"], mod_rs), "`foo.rs` beside `foo/`, never `foo/mod.rs`");
}

#[test]
fn every_policy_is_explained() {
    let list = |folder: &str, ending: &str| -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(package().join(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
    };
    let names = |path: &std::path::PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let policies: Vec<String> = list("policies", ".yaml").iter().filter_map(names).collect();
    let mut documents = list("docs", ".md");
    documents.push(package().join("README.md"));
    let text: String = documents.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    expect_none(&unmentioned_policies(&policies, &text), "policies without a word in docs/ or README.md");
}

#[test]
fn the_changelog_has_a_place_for_changes() {
    let changelog = fs::read_to_string(package().join("CHANGELOG.md")).expect("CHANGELOG.md is there");
    assert!(has_release_heading(&changelog), "CHANGELOG.md: no `## [Unreleased]` and no `## [version]`");
}

#[test]
fn the_document_shows_the_matrix_that_is_enforced() {
    let document = fs::read_to_string(package().join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md is there");
    let table = matrix::markdown();
    assert!(document.contains(&table), "docs/ARCHITECTURE.md must show this table:\n{table}");
}

#[test]
fn every_guard_of_an_invariant_exists() {
    let document = fs::read_to_string(package().join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md is there");
    let sources: Vec<Source> = ["src", "tests"].iter().flat_map(|folder| rust_files(package(), folder)).collect();
    expect_none(&missing_guards(&document, &sources), "invariants guarded by nothing");
}

// === The rules can fail ===

/// Findings of a rule on a text at a path.
fn found(rule: impl Fn(&Source) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
    rule(&Source::new(path, text))
}

#[test]
fn a_forbidden_import_is_found_in_every_form() {
    let wrong = |path: &str, text: &str| found(forbidden_imports, path, text);
    assert_eq!(
        wrong("src/rollout/step.rs", "//! x\nuse crate::runner::handle::Handle;\n"),
        ["src/rollout/step.rs:2: `rollout` may not import `runner::handle::Handle`"]
    );
    for (path, text) in [
        ("src/judge.rs", "use crate::{base::time::Millis, policy::plan::Plan};"),
        ("src/judge/budget.rs", "fn f() -> crate::clock::Monotonic { x }"),
        ("src/judge/budget.rs", "use super::super::store::record;"),
        ("src/mesh/ops/route.rs", "use super::super::http::{Server as S};"),
        ("src/rollout/gate.rs", "use crate::policy::{plan::Plan, compile};"),
        ("src/rollout/gate.rs", "use crate::policy;"),
        ("src/traffic/appmesh.rs", "use crate::store::*;"),
        ("src/traffic/appmesh.rs", "use crate::rollout::state::State;"),
        ("src/proxy/serve.rs", "use crate::{\n    base::ids,\n    rollout::{self},\n};"),
        ("src/proxy/split.rs", "use crate::proxy::upstream::Pool;"),
        ("src/api/wire.rs", "use crate::app::App;"),
        ("src/runner/commit.rs", "use crate::testing::World;"),
        ("src/main.rs", "fn main() { tidegate::app::run() }"),
        ("src/newcomer.rs", "fn f() {}"),
    ] {
        assert_eq!(wrong(path, text).len(), 1, "{path}: {text}");
    }
}

#[test]
fn permitted_imports_comments_strings_and_tests_are_not_findings() {
    for (path, text) in [
        ("src/judge/verdict.rs", "use super::{Counts, evidence::ErrorEvidence}; use crate::judge::Tolerance;"),
        ("src/rollout/gate.rs", "use crate::{base::time::{Millis, Window}, policy::plan::{self, Plan}};"),
        ("src/mesh/http.rs", "use super::ops; use crate::xds::server::Server; pub(crate) fn f() {}"),
        (
            "src/policy.rs",
            "// use crate::app;\n/* crate::app::x /* nested */ crate::app::y */\n/// [`crate::app`]\nmod x;",
        ),
        ("src/policy.rs", "const A: &str = \"crate::app::x \\\" crate::app\"; const B: &str = r#\"crate::app::\"x\"#;"),
        ("src/policy.rs", "const Q: char = '\"'; fn f<'a>(x: &'a str) {} const R: char = '\\'';"),
        ("src/policy.rs", "mod x;\n#[cfg(test)]\nmod tests { use crate::app::App; }\n"),
        ("src/policy/tests.rs", "use crate::testing::World;"),
        ("src/app.rs", "use crate::{store, runner, mesh::http};"),
        ("src/lib.rs", "pub mod app;"),
    ] {
        assert_eq!(found(forbidden_imports, path, text), Vec::<String>::new(), "{path}: {text}");
    }
    // Code behind a test item counts again.
    let text = "#[cfg(test)]\nuse std::fmt;\nuse crate::app::App;\n";
    assert_eq!(found(forbidden_imports, "src/policy.rs", text).len(), 1);
}

#[test]
fn an_impurity_is_found() {
    for (text, count) in [
        ("async fn f() {}", 1),
        ("fn f() { tokio::spawn(x) }", 1),
        ("use std::collections::{BTreeMap, HashMap};", 1),
        ("use std::time::{Duration, Instant};", 1),
        ("fn f() { std::time::SystemTime::now(); rand::random::<u8>(); }", 2),
        ("fn f(operand: u8) { operand::x(); Instantly::f() }", 0),
        ("/// Not `tokio::` nor HashMap.\nfn f() {}", 0),
        ("fn f() {}\n#[cfg(test)]\nmod tests { use std::collections::HashMap; }", 0),
    ] {
        assert_eq!(found(impurities, "src/judge/evidence.rs", text).len(), count, "{text}");
    }
    assert_eq!(
        found(impurities, "src/proxy/split.rs", "use std::collections::HashMap;"),
        ["src/proxy/split.rs:1: `HashMap`"]
    );
    assert!(found(impurities, "src/proxy/serve.rs", "use std::collections::HashMap;").is_empty());
}

#[test]
fn an_assigned_phase_is_found() {
    for text in ["fn f() { state.phase = Phase::Judging; }", "fn f() {\n    self.state.phase\n        = x;\n}"] {
        assert_eq!(found(phase_assignments, "src/runner/driver.rs", text).len(), 1, "{text}");
        assert!(found(phase_assignments, "src/rollout/moves.rs", text).is_empty());
    }
    for text in ["fn f() { if state.phase == x {} }", "fn f() { g(view.phase); view.phased = 1; }"] {
        assert!(found(phase_assignments, "src/runner/driver.rs", text).is_empty(), "{text}");
    }
}

#[test]
fn a_long_function_and_a_long_file_are_found() {
    let function =
        |lines: usize| format!("impl X {{\nfn long<T: Fn() -> u8>(\n) {{\n{}}}\n}}\n", "x;\n".repeat(lines - 3));
    assert!(found(oversize, "src/app.rs", &function(70)).is_empty());
    assert_eq!(found(oversize, "src/app.rs", &function(71)), ["src/app.rs:2: function `long` has 71 lines"]);
    let file =
        |lines: usize| format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "mod x;\n".repeat(lines), "\n".repeat(300));
    assert!(found(oversize, "src/app.rs", &file(500)).is_empty());
    assert!(found(oversize, "src/app.rs", &format!("#[cfg(test)]\nuse x;\n{}", file(499))).len() == 1);
    assert_eq!(found(oversize, "src/app.rs", &file(501)), ["src/app.rs:500: file has 501 lines before its tests"]);
    assert!(found(oversize, "src/app/tests.rs", &"mod x;\n".repeat(900)).is_empty());
}

#[test]
fn a_missing_contract_a_leftover_and_a_mod_rs_are_found() {
    assert_eq!(found(missing_contract, "src/app.rs", "use std::fmt;\n//! Late.").len(), 1);
    assert!(found(missing_contract, "src/app.rs", "//! Purpose.").is_empty());
    for text in
        ["fn f() { todo!() }", "fn f() { unimplemented!(\"x\") }", "fn f() { dbg!(1); }", "#[ignore]\nfn f() {}"]
    {
        assert_eq!(found(leftovers, "tests/it/api.rs", text).len(), 1, "{text}");
    }
    assert!(found(leftovers, "src/app.rs", "// todo!\nfn f() { g(\"dbg!\") }").is_empty());
    assert_eq!(found(mod_rs, "src/mesh/mod.rs", "").len(), 1);
    assert!(found(mod_rs, "src/mesh.rs", "").is_empty());
}

#[test]
fn an_unmentioned_policy_a_missing_guard_and_an_empty_changelog_are_found() {
    let names = ["checkout.yaml".to_owned(), "cart.yaml".to_owned()];
    assert_eq!(
        unmentioned_policies(&names, "see policies/checkout.yaml"),
        ["policies/cart.yaml:1: no document mentions it"]
    );
    let source = Source::new("src/app/tests.rs", "#[test]\nfn there() {}\n// fn commented_out() {}\n");
    let document = "`app::tests::there`, `app::tests::commented_out`, `tidy::gone`, `rollout::step`";
    assert_eq!(missing_guards(document, &[source]).len(), 2);
    assert!(has_release_heading("# Changelog\n\n## [Unreleased]\n"));
    assert!(has_release_heading("## [0.1.0] - 2026-11-23\n"));
    assert!(!has_release_heading("# Changelog\n\nNothing yet. ## [Unreleased]\n"));
}
