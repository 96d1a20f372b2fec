//! Recordings as tables and as journals, and what the engine makes of them.

use super::*;
use crate::base::ids::Seq;
use crate::judge::Counts;
use crate::policy::compile;
use crate::rollout::event::{
    Actor, Command, Event, Input, LiveReading, Observation, ProxyCounts, RouteReading, Start, VersionCounts,
};
use crate::simulate::engine::prepared;

fn plan() -> Plan {
    let text = "version: 1\nname: s\nroute: { mesh: m, router: r, route: t }\nversions: [a, b]\n\
                steps: [{ weight: 10, prove_no_worse_than: 2pp }, { weight: 50, prove_no_worse_than: 1pp }, 100]\n\
                step_defaults: { min: 10s, max: 5m }\n\
                gates: [{ name: errors, metric: error_rate, compare: stable, tolerate: { add: 0pp } }]\n";
    prepared(&compile("p.yaml", text).unwrap().plan).0
}

/// A row for each second; from `bad_from` on, half of the canary's requests fail.
fn table(seconds: u32, bad_from: u32) -> String {
    let row = |second: u32| {
        let errors = if second > bad_from { 5 } else { 0 };
        format!("{second},10,10,{errors},90,0\n")
    };
    let rows: String = (1..=seconds).map(row).collect();
    format!("at,weight,canary_requests,canary_errors,stable_requests,stable_errors\n{rows}")
}

fn whats(moments: &[Moment]) -> Vec<(What, f64, u8)> {
    moments.iter().map(|moment| (moment.what, moment.after_s, moment.weight)).collect()
}

#[test]
fn a_good_recording_steps_when_it_is_proven() {
    let moments = replay(&plan(), &Recording::of_csv(&table(120, 1000)).unwrap()).unwrap();
    let [started, first, last] = moments.as_slice() else { panic!("{moments:?}") };
    assert_eq!((started.what, first.what, last.what), (What::Started, What::Stepped, What::Promoted));
    // 2pp take about ln(20)/0.02 = 150 to 200 requests of the canary, ten in a second; 1pp twice as many.
    assert!((14.0..25.0).contains(&first.after_s) && first.weight == 50, "{first:?}");
    assert!((29.0..46.0).contains(&last.after_s) && last.weight == 100, "{last:?}");
    assert!(
        first.why.starts_with("step 2 of 3: canary 0/") && first.why.contains("proven no worse than +2pp"),
        "{first:?}"
    );
}

#[test]
fn a_bad_one_is_rolled_back_with_the_numbers() {
    let moments = replay(&plan(), &Recording::of_csv(&table(120, 12)).unwrap()).unwrap();
    let last = moments.last().unwrap();
    assert_eq!((last.what, last.after_s, last.weight), (What::RolledBack, 12.0, 0));
    assert!(last.why.contains("canary 5/") && last.why.contains("chance if no worse"), "{last:?}");
}

#[test]
fn one_that_is_too_short_says_what_is_missing() {
    let moments = replay(&plan(), &Recording::of_csv(&table(8, 1000)).unwrap()).unwrap();
    assert_eq!(whats(&moments), [(What::Started, 0.0, 10), (What::Ended, 7.0, 10)]);
    assert!(moments[1].why.contains("not proven yet"), "{moments:?}");
}

#[test]
fn times_are_seconds_or_dates_and_further_columns_are_left_alone() {
    let text = "weight, at, note, stable_errors, stable_requests, canary_errors, canary_requests\n\
                5, 2026-11-28T14:00:00Z, x, 0, 9, 1, 2\n5, 2026-11-28T14:00:01.500Z, y, 0, 9, 0, 2\n";
    let recording = Recording::of_csv(text).unwrap();
    assert_eq!(recording.samples[1].at.since(recording.begin).0, 1500);
    let counts = &recording.samples[1].live.as_ref().unwrap().proxies[0].versions[0];
    let sum = Counts { canary_requests: 4, canary_errors: 1, stable_requests: 18, stable_errors: 0 };
    assert_eq!((counts.share_ppm, counts.counts), (50_000, sum));
}

#[test]
fn another_weight_is_another_version_whose_counts_begin_at_zero() {
    let head = "at,weight,canary_requests,canary_errors,stable_requests,stable_errors\n";
    let recording = Recording::of_csv(&format!("{head}1,10,1,0,9,0\n2,10,1,0,9,0\n3,50,5,1,5,0\n")).unwrap();
    let told = |index: usize| {
        let counts = &recording.samples[index].live.as_ref().unwrap().proxies[0].versions[0];
        (counts.version, counts.share_ppm, counts.counts.canary_requests)
    };
    assert_eq!([told(1), told(2)], [(1, 100_000, 2), (2, 500_000, 5)]);
}

#[test]
fn what_is_no_table_is_refused_by_its_line() {
    let head = "at,weight,canary_requests,canary_errors,stable_requests,stable_errors\n";
    for (text, words) in [
        (String::new(), "line 1: there is no heading"),
        ("at,weight\n".to_owned(), "line 1: there is no column `canary_requests`"),
        (head.to_owned(), "there is no row"),
        (format!("{head}1,10,1,2,0,0\n"), "line 2: more errors than requests"),
        (format!("{head}1,101,1,0,0,0\n"), "line 2: a weight lies between"),
        (format!("{head}1,10,1,0,0\n"), "line 2: there is no field for `stable_errors`"),
        (format!("{head}\n1,10,1,x,0,0\n"), "line 3: `x` in column `canary_errors`"),
        (format!("{head}soon,10,1,0,0,0\n"), "line 2: column `at`: `soon`"),
        (format!("{head}2,10,1,0,0,0\n1,10,1,0,0,0\n"), "line 3: it is earlier"),
        (format!("{head}nan,10,1,0,0,0\n"), "line 2: column `at`: `nan`"),
    ] {
        let problem = Recording::of_csv(&text).expect_err(words);
        assert!(problem.contains(words), "{problem}");
    }
}

/// A journal whose proxies counted ten canary requests in each second, as the daemon writes it.
fn journal(errors_from: u64) -> Vec<Input> {
    let targets = vec![("a".to_owned(), 100), ("b".to_owned(), 0)];
    let start = Start {
        to: None,
        revision: None,
        image: None,
        route: RouteReading { version: 7, targets, lapsed: None },
        author: Vec::new(),
        first_step: 0,
        outside_windows: None,
        last_generation: 0,
        stable: None,
        baseline: None,
        past: Box::default(),
    };
    let actor = Actor { name: "ann".to_owned(), via: "token".to_owned() };
    let mut inputs = vec![Input {
        seq: Seq(1),
        at: Timestamp(5000),
        event: Event::Command { command: Command::Start(start), actor },
    }];
    for second in 1..=60_u64 {
        let counts = Counts {
            canary_requests: 5 * second,
            canary_errors: second.saturating_sub(errors_from),
            stable_requests: 45 * second,
            stable_errors: 0,
        };
        // Two proxies that count alike, of which one restarts half way.
        let name = if second <= 30 { "p2" } else { "p3" };
        let proxies = ["p1", name].map(|proxy| ProxyCounts {
            proxy: proxy.to_owned(),
            applied: Some(8),
            serving: true,
            versions: vec![VersionCounts::new(8, 100_000, counts)],
            fuse: None,
        });
        let live = Some(Ok(LiveReading { proxies: proxies.into(), ..LiveReading::default() }));
        let event = Event::Observed(Observation { live, ..Observation::default() });
        inputs.push(Input { seq: Seq(second + 1), at: Timestamp(5000 + second as i64 * 1000), event });
    }
    inputs
}

#[test]
fn a_journal_is_replayed_under_another_policy() {
    let recording = Recording::of_journal(&journal(1000)).unwrap();
    assert_eq!((recording.begin, recording.samples.len()), (Timestamp(5000), 60));
    let good = replay(&plan(), &recording).unwrap();
    assert_eq!(good.last().unwrap().what, What::Promoted);
    let bad = replay(&plan(), &Recording::of_journal(&journal(3)).unwrap()).unwrap();
    let last = bad.last().unwrap();
    // Two failures in each second from the fourth on: the third and fourth are enough.
    assert_eq!((last.what, last.after_s), (What::RolledBack, 5.0));
    assert!(Recording::of_journal(&journal(3)[1..]).is_err());
}
