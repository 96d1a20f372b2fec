//! The measured goals as tables of docs/JUDGE.md, and as a picture.

use super::{Bad, Goals, Healthy};
use crate::judge::reference::Peer;
use crate::judge::verdict::{percent, thousands};
use crate::simulate::plot::{Bar, Kind, bars_svg};
use crate::simulate::summary::Summary;
use crate::simulate::text::{number, seconds};
use std::fmt::Write;

/// All tables, in the order of the page.
#[must_use]
pub fn markdown(goals: &Goals) -> String {
    let mut text = String::from("| goal | target | measured | met |\n|---|---|---|---|\n");
    for goal in goals.table() {
        let met = if goal.met { "yes" } else { "**no**" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {} | {} | {met} |", goal.goal, goal.target, goal.measured);
    }
    let _ = writeln!(
        text,
        "\n### Releases that are no worse\n\n{} rollouts in each row, at the default confidence.\n\n\
         | world | policy | rolled back | 95 % interval | promoted after |\n|---|---|---|---|---|",
        thousands(goals.scale.healthy)
    );
    goals.healthy.iter().for_each(|row| text += &healthy_row(row));
    let _ = writeln!(
        text,
        "\n### Failed requests until a bad release is rolled back or promoted\n\nMeans of {} rollouts, of {} under other systems' \
         rules; in brackets how many times those of the first column, and how many were caught where not all were.\n",
        thousands(goals.scale.bad),
        thousands(goals.scale.peers)
    );
    text += &bad_table(&goals.bad);
    let _ = writeln!(
        text,
        "\n### Beside the least possible\n\nMean failures of the canary at rollback, stable at 0.1 %, looked at after every error, over \
         {} courses of events. Wald's test is told both error rates; the test of labels is told how much worse the canary is.\n\n\
         | weight | canary fails | Wald | labels | the judge | by Wald | by labels |\n|---|---|---|---|---|---|---|",
        thousands(goals.scale.courses)
    );
    for cell in &goals.efficiency {
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} |",
            percent(cell.weight),
            percent(cell.p1),
            cell.informed,
            cell.of_labels,
            cell.failed,
            cell.times_informed(),
            cell.times_of_labels()
        );
    }
    text + &paced_table(goals) + &super::tables::tables(&goals.more)
}

fn healthy_row(row: &Healthy) -> String {
    let rolled_back = row.summary.rolled_back;
    let interval = format!("{:.2} to {:.2} %", rolled_back.low * 100.0, rolled_back.high * 100.0);
    let after = row.summary.promote_s.map_or("-".to_owned(), |spread| seconds(spread.median));
    format!("| {} | {} | {:.2} % | {interval} | {after} |\n", row.world, row.policy, rolled_back.share * 100.0)
}

fn bad_table(rows: &[Bad]) -> String {
    let mut text = "| traffic | canary fails | from 10 % | from 1 % |".to_owned();
    Peer::ALL.iter().for_each(|peer| text += &format!(" {} |", peer.name()));
    text += &format!("\n|{}\n", "---|".repeat(4 + Peer::ALL.len()));
    for row in rows {
        let own = row.from_ten.mean_failed();
        let caught = |summary: &Summary| match summary.rolled_back {
            all if all.runs == summary.runs => String::new(),
            some => format!(", {} caught", percent(some.share)),
        };
        let _ = write!(
            text,
            "| {}/s | {} | {}{} | {}{} |",
            row.rate,
            percent(row.p1),
            number(own),
            caught(&row.from_ten),
            number(row.from_one.mean_failed()),
            caught(&row.from_one)
        );
        for (_, summary) in &row.peers {
            let failed = summary.mean_failed();
            let _ = write!(text, " {} ({:.0}x{}) |", number(failed), failed / own, caught(summary));
        }
        text.push('\n');
    }
    text
}

fn paced_table(goals: &Goals) -> String {
    let mut text = format!(
        "\n### Steps as fast as the proof allows\n\nWeights 5, 10, 25, 50 and 100, each proven no worse than 2, 1, 0.5 and 0.5 points at \
         95 %, from 10 s to 5m; {} rollouts of each kind. The bad release fails 5 points more than stable.\n\n\
         | traffic | stable fails | all the traffic after, mean | 95 % | rolled back | bad: failed requests | bad: promoted |\n\
         |---|---|---|---|---|---|---|\n",
        thousands(goals.scale.bad)
    );
    for row in &goals.paced {
        let time =
            row.healthy.promote_s.map_or(("-".to_owned(), "-".to_owned()), |s| (seconds(s.mean), seconds(s.p95)));
        let _ = writeln!(
            text,
            "| {}/s | {} | {} | {} | {:.2} % | {} | {} |",
            row.rate,
            percent(row.p0),
            time.0,
            time.1,
            row.healthy.rolled_back.share * 100.0,
            number(row.bad.mean_failed()),
            row.bad.promoted.runs
        );
    }
    text
}

/// Failed requests of a 5 % canary at 50 requests in a second, beside other systems.
#[must_use]
pub fn picture(goals: &Goals) -> String {
    let Some(row) = goals.bad.iter().find(|row| row.p1 == 0.05) else { return String::new() };
    let bar = |name: &str, value: f64, kind| Bar { name: name.to_owned(), value, label: number(value), kind };
    let least = goals.efficiency.iter().find(|cell| cell.p1 == row.p1);
    let limit = least.map(|cell| bar("least possible (Wald)", cell.informed, Kind::Limit));
    let own = [
        bar("Tidegate, from 1 %", row.from_one.mean_failed(), Kind::Own),
        bar("Tidegate, from 10 %", row.from_ten.mean_failed(), Kind::Own),
    ];
    let peers = row.peers.iter().map(|(peer, summary)| bar(peer.name(), summary.mean_failed(), Kind::Other));
    let bars: Vec<Bar> = limit.into_iter().chain(own).chain(peers).collect();
    let title =
        format!("Failed requests of a release that fails {}, at {} requests in a second", percent(row.p1), row.rate);
    bars_svg(&title, &bars)
}
