//! Answers for people.

use super::question::{Answer, RuleAnswer};
use super::recording::Recording;
use super::replay::{Moment, What};
use super::summary::{Portion, Spread, Summary};
use crate::judge::verdict::{percent, thousands};
use std::fmt::Write;

/// The whole answer as lines; the last ends with a line feed.
#[must_use]
pub fn answer(answer: &Answer) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", heading(answer));
    for left_out in &answer.left_out {
        let _ = writeln!(text, "  not simulated: {left_out}");
    }
    let _ = writeln!(
        text,
        "\nA release that is no worse: how often it is rolled back all the same, and when it has all the traffic\n"
    );
    let _ = writeln!(
        text,
        "  {:<30} {:>8}  {:<17} {:>9} {:>9} {:>9}",
        "", "mistakes", "95 % interval", "promoted", "median", "95 %"
    );
    for rule in &answer.rules {
        let _ = writeln!(text, "  {}", healthy_row(rule));
    }
    if answer.rules.iter().any(|rule| rule.bad.is_some()) {
        let _ = writeln!(
            text,
            "\nThe bad release: how often and how fast it is caught, and how many requests fail until then\n"
        );
        let _ = writeln!(
            text,
            "  {:<30} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}",
            "", "caught", "median", "95 %", "failed", "median", "95 %", "times"
        );
        for rule in &answer.rules {
            if let Some(bad) = &rule.bad {
                let _ = writeln!(text, "  {}", bad_row(rule, bad));
            }
        }
    }
    if let Some(limits) = &answer.limits {
        let _ = writeln!(
            text,
            "\nNo test can do with less than {:.1} failed requests, were it told both error rates; with less than {:.1}, were it\n\
             told the difference and proof against incidents. This policy takes {:.2} and {:.2} times as many.",
            limits.informed, limits.of_labels, limits.times_informed, limits.times_of_labels
        );
    }
    text
}

fn heading(answer: &Answer) -> String {
    let world = &answer.world;
    // All other systems' rules have equally many.
    let [runs, of_others] = [0, 1].map(|rule| answer.rules.get(rule).map_or(0, |rule| rule.healthy.runs));
    let bad = if world.canary == world.stable {
        String::new()
    } else {
        let latency = match (world.stable.latency, world.canary.latency) {
            (Some(stable), Some(canary)) if stable != canary => {
                format!(", {} times as slow", trimmed(canary.median_ms / stable.median_ms))
            }
            _ => String::new(),
        };
        format!("; the bad release fails {}{latency}", percent(world.canary.errors))
    };
    format!(
        "Policy {}: {} requests in a second, of which stable fails {}{bad}.\n\
         {} rollouts with each release, {} under each of the others' rules, seed {}.",
        answer.policy,
        trimmed(world.rate),
        percent(world.stable.errors),
        thousands(runs),
        thousands(of_others),
        answer.seed
    )
}

fn healthy_row(rule: &RuleAnswer) -> String {
    let Portion { low, high, .. } = rule.healthy.rolled_back;
    let interval = format!("{} to {}", percent(low), percent(high));
    let (median, p95) = times(rule.healthy.promote_s.as_ref());
    let mistakes = percent(rule.healthy.rolled_back.share);
    format!(
        "{:<30} {mistakes:>8}  {interval:<17} {:>9} {median:>9} {p95:>9}{}",
        rule.name,
        percent(rule.healthy.promoted.share),
        otherwise(&rule.healthy)
    )
}

fn bad_row(rule: &RuleAnswer, bad: &Summary) -> String {
    let (median, p95) = times(bad.rollback_s.as_ref());
    let failed = bad.failed.unwrap_or(Spread { mean: 0.0, median: 0.0, p95: 0.0 });
    let times = rule.times_the_policy.map_or(String::new(), |times| format!("{}x", trimmed(times)));
    format!(
        "{:<30} {:>8} {median:>9} {p95:>9} {:>9} {:>9} {:>9} {times:>8}{}",
        rule.name,
        percent(bad.rolled_back.share),
        number(failed.mean),
        number(failed.median),
        number(failed.p95),
        otherwise(bad)
    )
}

/// Ends that are neither; nothing where there are none.
fn otherwise(summary: &Summary) -> String {
    let ends = [
        (summary.gave_up, "ran out of time"),
        (summary.budget_spent, "spent the blast radius"),
        (summary.undecided, "undecided at the end"),
    ];
    let each = ends.iter().filter(|(portion, _)| portion.runs > 0);
    each.map(|(portion, words)| format!("  {} {words}", percent(portion.share))).collect()
}

fn times(spread: Option<&Spread>) -> (String, String) {
    spread.map_or_else(|| ("-".to_owned(), "-".to_owned()), |spread| (seconds(spread.median), seconds(spread.p95)))
}

/// `12 s`, `1,204 s`.
pub(super) fn seconds(s: f64) -> String {
    if s < 10.0 { format!("{} s", trimmed(s)) } else { format!("{} s", thousands(s.round() as u64)) }
}

/// Two digits that count and more where the number has them.
pub(super) fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { thousands(value.round() as u64) }
}

/// At most one decimal, and none that is 0.
fn trimmed(value: f64) -> String {
    if value >= 100.0 {
        return thousands(value.round() as u64);
    }
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// A replay as lines; the last ends with a line feed.
#[must_use]
pub fn moments(policy: &str, recording: &Recording, left_out: &[String], moments: &[Moment]) -> String {
    let readings = thousands(recording.samples.len() as u64);
    let mut text = format!("Policy {policy} over {readings} readings from {}.\n", recording.begin.rfc3339());
    for left_out in left_out {
        let _ = writeln!(text, "  not replayed: {left_out}");
    }
    for moment in moments {
        let what = match moment.what {
            What::Started => "would have begun",
            What::Stepped => "would have taken a step",
            What::Paused => "would have paused",
            What::Resumed => "would have gone on",
            What::RolledBack => "would have been rolled back",
            What::GaveUp => "would have run out of time",
            What::Promoted => "would have been promoted",
            What::Ended => "the recording ends",
        };
        let _ = writeln!(text, "{:>9.1} s {:>4} %  {what}: {}", moment.after_s, moment.weight, moment.why);
    }
    text
}
