//! Compares what happened with what is expected.

use super::backend::{Memory, Seen};
use super::case::{Defaults, Expect, Request};
use super::client::{self, Outcome};
use crate::program::until;
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many standard deviations a share may be off: less than once in a million runs by chance.
const DEVIATIONS: f64 = 5.0;
/// How often a request is repeated that has to be as expected eventually, at most; the pause is that of `until`.
const REPEATS: usize = 600;

/// What a request needs beside itself.
pub(super) struct Bench<'a> {
    pub(super) defaults: &'a Defaults,
    pub(super) memory: &'a Memory,
    pub(super) folder: &'a Path,
}

/// Sends what a request of a case says; the error says what was otherwise than expected.
pub(super) async fn request(bench: &Bench<'_>, request: &Request) -> Result<(), String> {
    if !request.eventually {
        return once(bench, request).await;
    }
    let mut repeats = 0;
    until("a request ends as expected", async || {
        let result = once(bench, request).await;
        repeats += 1;
        (result.is_ok() || repeats >= REPEATS).then_some(result)
    })
    .await
}

async fn once(bench: &Bench<'_>, request: &Request) -> Result<(), String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let send = || {
        client::send(request, bench.defaults, format!("request-{}", NEXT.fetch_add(1, Ordering::Relaxed)), bench.folder)
    };
    let mut outcomes = Vec::new();
    if request.together {
        outcomes = join_all((0..request.times).map(|_| send())).await;
    } else {
        for _ in 0..request.times {
            outcomes.push(send().await);
        }
    }
    let outcomes: Vec<(Outcome, Vec<Seen>)> = outcomes
        .into_iter()
        .map(|outcome| {
            let seen = bench.memory.of(&outcome.id);
            (outcome, seen)
        })
        .collect();
    for (outcome, seen) in &outcomes {
        one(&request.expect, outcome, seen).map_err(|found| format!("{found}; answer {outcome:?}, seen {seen:?}"))?;
    }
    all(&request.expect, &outcomes)?;
    if let Some([file, pattern]) = &request.expect.logged {
        logged(file, pattern).await?;
    }
    Ok(())
}

fn same<T: PartialEq + Debug>(what: &str, wanted: Option<&T>, found: &T) -> Result<(), String> {
    match wanted {
        Some(wanted) if wanted != found => Err(format!("{what} is {found:?} instead of {wanted:?}")),
        _ => Ok(()),
    }
}

fn one(expect: &Expect, outcome: &Outcome, seen: &[Seen]) -> Result<(), String> {
    if let Some([least, most]) = expect.within {
        let millis = outcome.elapsed.as_millis();
        if millis < u128::from(least) || millis > u128::from(most) {
            return Err(format!("it took {millis} ms instead of {least} to {most}"));
        }
    }
    same("number of attempts", expect.attempts.as_ref(), &seen.len())?;
    let Some(status) = outcome.status else {
        let may_end = expect.closed || expect.answered.is_some();
        return if may_end { Ok(()) } else { Err(format!("there is no answer: {}", outcome.failure)) };
    };
    if expect.closed {
        return Err("there is an answer instead of a closed connection".into());
    }
    if expect.statuses.is_empty() {
        same("status", Some(&expect.status.unwrap_or(200)), &status)?;
    }
    same("grpc-status", expect.grpc.map(Some).as_ref(), &outcome.grpc)?;
    same("body", expect.body.as_ref(), &outcome.body)?;
    if let Some(part) = &expect.contains
        && !outcome.body.contains(part.as_str())
    {
        return Err(format!("no {part:?} in the body"));
    }
    headers("answer", &expect.headers, &outcome.headers)?;
    let last = seen.last().cloned().unwrap_or_default();
    same("backend", expect.by.as_ref(), &last.by)?;
    same("path", expect.path.as_ref(), &last.path)?;
    same("host", expect.host.as_ref(), &last.host)?;
    same("method", expect.method.as_ref(), &last.method)?;
    same("received body", expect.received.as_ref(), &last.body)?;
    same("protocol", expect.over.as_deref().as_ref(), &last.over)?;
    headers("request", &expect.seen, &last.headers)
}

fn headers(
    place: &str,
    wanted: &BTreeMap<String, Option<String>>,
    found: &BTreeMap<String, String>,
) -> Result<(), String> {
    for (name, wanted) in wanted {
        let found = found.get(name);
        let fits = match wanted.as_deref() {
            Some("*") => found.is_some(),
            wanted => wanted == found.map(String::as_str),
        };
        if !fits {
            return Err(format!("{name} of the {place} is {found:?} instead of {wanted:?}"));
        }
    }
    Ok(())
}

/// What is said of all answers together.
fn all(expect: &Expect, outcomes: &[(Outcome, Vec<Seen>)]) -> Result<(), String> {
    if !expect.statuses.is_empty() {
        let found: BTreeSet<u16> = outcomes.iter().filter_map(|(outcome, _)| outcome.status).collect();
        same("set of statuses", Some(&expect.statuses.iter().copied().collect()), &found)?;
    }
    let answered = outcomes.iter().filter(|(outcome, _)| outcome.status.is_some()).count();
    same("number of answers", expect.answered.as_ref(), &answered)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, seen) in outcomes {
        if let Some(last) = seen.last() {
            *counts.entry(&last.by).or_default() += 1;
        }
    }
    if !expect.spread.is_empty() {
        let found: BTreeSet<String> = counts.keys().map(|name| (*name).to_owned()).collect();
        same("set of backends", Some(&expect.spread.iter().cloned().collect()), &found)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a few hundred requests")]
    let number = |count: usize| count as f64;
    for (name, percent) in &expect.shares {
        let (total, share) = (number(outcomes.len()), percent / 100.0);
        let found = number(counts.get(name.as_str()).copied().unwrap_or_default());
        let bound = DEVIATIONS * (total * share * (1.0 - share)).sqrt();
        if (found - total * share).abs() > bound + 1e-9 {
            return Err(format!(
                "{name} has {found} of {total} requests instead of {percent} % (give or take {bound:.0})"
            ));
        }
    }
    Ok(())
}

/// Waits for a line: logs are written with a delay.
async fn logged(file: &str, pattern: &str) -> Result<(), String> {
    let pattern = regex::Regex::new(pattern).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let mut looks = 0;
    until("a log is looked at", async || {
        text = std::fs::read_to_string(file).unwrap_or_default();
        looks += 1;
        (text.lines().any(|line| pattern.is_match(line)) || looks >= REPEATS).then_some(())
    })
    .await;
    if looks < REPEATS { Ok(()) } else { Err(format!("no line of {file} matches {pattern}: {text}")) }
}
