//! The further measurements as tables of docs/JUDGE.md, each below a paragraph that says what it shows.

use super::more::{BOTH_SUFFER, HURRY_WORLDS, More, TICKS_S};
use crate::judge::verdict::{percent, thousands};
use crate::simulate::summary::{Portion, Summary};
use crate::simulate::text::{number, seconds};
use std::fmt::Write;

/// All of them, in the order of the page.
pub(super) fn tables(more: &More) -> String {
    [peeking(more), hurry(more), ticks(more), suffering(more), slow(more), dependent(more), prices(more)].concat()
}

/// A heading, a paragraph, and the head of a table.
fn begin(title: &str, text: &str, columns: &[String]) -> String {
    format!("\n### {title}\n\n{text}\n\n| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()))
}

fn words(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| (*column).to_owned()).collect()
}

/// A row; writing to a String cannot fail.
fn row(table: &mut String, cells: &[String]) {
    let _ = writeln!(table, "| {} |", cells.join(" | "));
}

/// In percent, exact enough to be held against 1 %.
fn portion(portion: &Portion) -> String {
    let decimals = if portion.share >= 0.0995 { 0 } else { 2 };
    format!("{:.decimals$} %", portion.share * 100.0)
}

/// Failed requests, and how many were caught where not all were.
fn failed(summary: &Summary) -> String {
    let caught = summary.rolled_back;
    let some = if caught.runs == summary.runs { String::new() } else { format!(" ({} caught)", percent(caught.share)) };
    format!("{}{some}", number(summary.mean_failed()))
}

fn peeking(more: &More) -> String {
    let text = format!(
        "A release that is no worse, at 10 % of 50 requests in a second for 2,000 seconds, looked at every second by tests whose \
         level is 1 %: how often each of them ever blames it in {} courses of events. The z-test is for one look, and whoever repeats \
         it is wrong many times as often. The mixture test (mSPRT, mixture of one point) is made for many looks, but takes sums to be \
         normal, which few errors are not.",
        thousands(more.courses)
    );
    let columns = ["both fail", "the judge's evidence", "z-test", "mSPRT"];
    let mut table = begin("Looking often", &text, &words(&columns));
    for line in &more.peeking {
        let rejected = line.rejected.iter().map(portion);
        row(&mut table, &std::iter::once(percent(line.p0)).chain(rejected).collect::<Vec<_>>());
    }
    table
}

fn hurry(more: &More) -> String {
    let text = format!(
        "Other systems' threshold of 99 % on the canary alone, looked at as often as in the first column, on the same weights as \
         ours (10, 25, 50 and 75 %, a minute each): how many releases that are no worse are rolled back, and the failed requests of one \
         that fails 5 % and of one that fails altogether. {} rollouts in each figure. A threshold that is fast is wrong wherever stable \
         is near it, so it has to be set for each service and its traffic.",
        thousands(more.runs)
    );
    let worlds = HURRY_WORLDS.map(|(rate, p0)| format!("{rate}/s, stable fails {}", percent(p0)));
    let columns: Vec<String> = std::iter::once("rule".to_owned()).chain(worlds).collect();
    let mut table = begin("Other systems in a hurry", &text, &columns);
    for line in &more.hurry {
        let world = |[healthy, bad, dead]: &[Summary; 3]| {
            format!("{}; {}; {}", portion(&healthy.rolled_back), failed(bad), failed(dead))
        };
        row(
            &mut table,
            &std::iter::once(line.rule.to_owned()).chain(line.worlds.iter().map(world)).collect::<Vec<_>>(),
        );
    }
    table
}

fn ticks(more: &More) -> String {
    let text = format!(
        "Failed requests at rollback by the time between two looks, at one weight, stable at 0.1 %; {} rollouts in each figure. What a \
         dead release fails between two looks cannot be taken back: requests in a second times weight times that time. The daemon looks \
         every second, a native proxy's fuse at every failure, counts of CloudWatch come each minute.",
        thousands((more.runs / 5).max(1))
    );
    let times =
        TICKS_S.map(|tick_s| if tick_s < 1.0 { format!("{:.0} ms", tick_s * 1e3) } else { format!("{tick_s} s") });
    let columns: Vec<String> = words(&["traffic", "weight", "canary fails"]).into_iter().chain(times).collect();
    let mut table = begin("How often one has to look", &text, &columns);
    for line in &more.ticks {
        let head = [format!("{}/s", line.rate), format!("{} %", line.weight), percent(line.p1)];
        row(&mut table, &head.into_iter().chain(line.by_tick.iter().map(failed)).collect::<Vec<_>>());
    }
    table
}

fn suffering(more: &More) -> String {
    let mut text = format!(
        "A release that is no worse while both versions fail more: rolled back in how many of {} rollouts. Rules that look at the \
         canary alone blame it for the incident; Kayenta's compares with stable, and the slowest of Argo's does not see it in time.",
        thousands(more.runs)
    );
    if let Some(bad) = &more.bad_in_incident {
        let _ = write!(
            text,
            " A release that fails 5 % by itself is rolled back in {} of rollouts in the world of the first column, before the \
             incident or within it, after {} failed requests of the canary.",
            percent(bad.rolled_back.share),
            number(bad.mean_failed())
        );
    }
    let columns: Vec<String> =
        std::iter::once("rule").chain(BOTH_SUFFER.iter().map(|(name, _)| *name)).map(str::to_owned).collect();
    let mut table = begin("When both suffer", &text, &columns);
    for line in &more.suffering {
        let shares = line.rolled_back.iter().map(portion);
        row(&mut table, &std::iter::once(line.rule.to_owned()).chain(shares).collect::<Vec<_>>());
    }
    table
}

fn slow(more: &More) -> String {
    let text = format!(
        "Latencies are lognormal with a median of 50 ms and a p99 of 202 ms, both versions fail 0.1 %: how many of {} releases are \
         rolled back, after how long and how many requests they had by then. What is tolerated is not blamed; limits lie on bounds of the \
         histogram, so up to 12.5 % more is tolerated too. Flagger's documented limit of 500 ms on the p99 sees none of this.",
        thousands((more.runs / 4).max(1))
    );
    let columns = ["traffic", "the canary is", "nothing tolerated", "10 % tolerated", "flagger 1m, p99 at most 500 ms"];
    let mut table = begin("Slow releases", &text, &words(&columns));
    for line in &more.slow {
        let told = |summary: &Summary| match (summary.rollback_s, summary.requests) {
            (Some(time), Some(requests)) => {
                format!("{}, {}, {}", portion(&summary.rolled_back), seconds(time.mean), number(requests.mean))
            }
            _ => portion(&summary.rolled_back),
        };
        let head = [format!("{}/s", line.rate), line.canary.to_owned()];
        let rules = line.ours.iter().chain([&line.flagger]).map(told);
        row(&mut table, &head.into_iter().chain(rules).collect::<Vec<_>>());
    }
    table
}

fn dependent(more: &More) -> String {
    let text = format!(
        "The proof needs failures that are drawn one by one. Here they are not, and both versions fail 1 % on average: releases that \
         are no worse and are rolled back, of {} in each figure. Watching two endpoints of stable for a day is what `noise: auto` does by \
         itself; sessions are best judged once (`tidegate:affinity`).",
        thousands(more.runs)
    );
    let columns = ["world", "no noise allowed for", "noise measured"];
    let mut table = begin("When failures hang together", &text, &words(&columns));
    for line in &more.dependent {
        let shares = line.rolled_back.iter().map(portion);
        row(&mut table, &std::iter::once(line.world.clone()).chain(shares).collect::<Vec<_>>());
    }
    table
}

fn prices(more: &More) -> String {
    let text = format!(
        "What that costs: failed requests of a bad release at 50 requests in a second, stable at 1 %, until it is rolled back or \
         promoted; {} rollouts in each figure. A dead release costs little more, one that is a few times as bad a multiple.",
        thousands(more.runs)
    );
    let columns = ["canary fails", "no noise", "swings of CV 0.3, measured", "swings of CV 0.5, measured"];
    let mut table = begin("What allowing for noise costs", &text, &words(&columns));
    for line in &more.prices {
        row(&mut table, &std::iter::once(percent(line.p1)).chain(line.by_noise.iter().map(failed)).collect::<Vec<_>>());
    }
    table
}
