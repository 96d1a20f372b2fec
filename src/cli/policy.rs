//! `tidegate policy lint|schema|explain|push`; the rest of it is in `simulate` and `replay`.

use super::args::PolicyCommand;
use super::rollout::client;
use super::{Ended, Failure, Output, WRONG_USAGE, counted};
use crate::api::client::{Client, segment};
use crate::api::wire::PolicyEntry;
use crate::config::Environment;
use crate::policy;
use crate::rollout::explain::explain;
use serde_json::json;
use std::path::{Path, PathBuf};

pub(super) async fn run(command: &PolicyCommand, output: Output, environment: &dyn Environment) -> Ended {
    match command {
        PolicyCommand::Lint { files } => lint(files, output),
        PolicyCommand::Schema { markdown: true } => {
            output.line(policy::reference::markdown().trim_end());
            Ok(0)
        }
        PolicyCommand::Schema { markdown: false } => {
            let schema = policy::schema::json_schema();
            let text = serde_json::to_string_pretty(&schema).map_err(|error| Failure::new(error.to_string()))?;
            output.line(&text);
            Ok(0)
        }
        PolicyCommand::Explain { file, rate } => explain_file(file, *rate, output),
        PolicyCommand::Simulate(arguments) => super::simulate::simulate(arguments, output),
        PolicyCommand::Replay(arguments) => super::replay::replay(arguments, output, environment).await,
        PolicyCommand::Push { files, server } => push(files, &client(server, environment)?, output).await,
    }
}

fn explain_file(path: &Path, rate: Option<f64>, output: Output) -> Ended {
    if rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err(Failure::new("--rate must be a number above 0").hint("for example --rate 200").usage());
    }
    let name = path.display().to_string();
    let text = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    match policy::compile(&name, &String::from_utf8_lossy(&text)) {
        Ok(compiled) => {
            let prose = explain(&compiled.plan, rate);
            if output.is_json() {
                output.json(&json!({"policy": compiled.plan.name, "text": prose, "plan": compiled.plan}));
            } else {
                output.line(prose.trim_end());
            }
            Ok(0)
        }
        Err(problems) => {
            for problem in &problems {
                output.remark(&format!("error: {problem}"));
            }
            Err(Failure::new(format!("{name} is not valid")).usage())
        }
    }
}

/// Files as given; a directory stands for its `*.yaml` files.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.retain(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
        if found.is_empty() {
            return Err(Failure::new(format!("{}: no policy files (*.yaml) here", path.display())).usage());
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: cannot be read: {error}", path.display())).usage()
}

/// What there is to say of one file.
struct Checked {
    problems: Vec<String>,
    warnings: Vec<String>,
    steps: usize,
}

/// One file that cannot be read does not keep the others from being checked.
fn check(path: &Path, name: &str) -> Checked {
    let texts = |list: &[policy::Problem]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    // As the daemon reads it: bytes that are no text make a file invalid wherever they stand.
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let problems = vec![format!("{name}: cannot be read: {error}")];
            return Checked { problems, warnings: Vec::new(), steps: 0 };
        }
    };
    match policy::compile(name, &text) {
        Ok(compiled) => {
            Checked { problems: Vec::new(), warnings: texts(&compiled.warnings), steps: compiled.plan.steps.len() }
        }
        Err(problems) => Checked { problems: texts(&problems), warnings: Vec::new(), steps: 0 },
    }
}

fn lint(paths: &[PathBuf], output: Output) -> Ended {
    let mut code = 0;
    for path in expand(paths)? {
        let name = path.display().to_string();
        let Checked { problems, warnings, steps } = check(&path, &name);
        if !problems.is_empty() {
            code = WRONG_USAGE;
        }
        if output.is_json() {
            output
                .json(&json!({"file": name, "valid": problems.is_empty(), "problems": problems, "warnings": warnings}));
            continue;
        }
        for problem in &problems {
            output.remark(&format!("error: {problem}"));
        }
        for warning in &warnings {
            output.remark(&format!("warning: {warning}"));
        }
        if problems.is_empty() {
            output.line(&format!("{name}: valid, {}", counted(steps, "step")));
        } else {
            output.line(&format!("{name}: not valid, {}", counted(problems.len(), "problem")));
        }
    }
    Ok(code)
}

/// Nothing is pushed unless all files are valid. A daemon that refuses one keeps those before it.
async fn push(paths: &[PathBuf], client: &Client, output: Output) -> Ended {
    let mut texts = Vec::new();
    for path in expand(paths)? {
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        texts.push((path.display().to_string(), text));
    }
    let (mut valid, mut problems) = (Vec::new(), 0);
    for (file, text) in &texts {
        match policy::compile(file, text) {
            Ok(compiled) => valid.push((compiled.plan.name, file, text)),
            Err(found) => {
                problems += found.len();
                found.iter().for_each(|problem| output.remark(&format!("error: {problem}")));
            }
        }
    }
    if problems > 0 {
        return Err(Failure::new(format!("{}, so nothing was pushed", counted(problems, "problem"))).usage());
    }
    for (name, file, text) in valid {
        let pushed: PolicyEntry = client.put(&format!("/v1/policies/{}", segment(&name)), text.clone()).await?;
        if output.is_json() {
            output.json(&json!({"file": file, "policy": pushed.name, "version": pushed.version}));
        } else {
            output.line(&format!("{file}: version {} of policy {name}", pushed.version.unwrap_or_default()));
        }
    }
    Ok(0)
}
