//! What is asked for and what is known already, on values.

use super::*;
use crate::policy::plan::CloudwatchMetric;

fn metric(name: &str, seconds: u64) -> CloudwatchQuery {
    let metric = CloudwatchMetric {
        namespace: "Shop".to_owned(),
        name: name.to_owned(),
        stat: "Sum".to_owned(),
        dimensions: BTreeMap::new(),
    };
    CloudwatchQuery::Metric { metric, period: Millis::from_seconds(seconds) }
}

const fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1000)
}

fn points(values: &[(i64, f64)]) -> Answer {
    Ok(values.iter().map(|(second, value)| SignalPoint::of(at(*second), *value)).collect())
}

fn asked(query: &CloudwatchQuery, after: i64, now: i64) -> Asked<'_, CloudwatchQuery> {
    Asked { query, after: at(after), since: at(after), now: at(now) }
}

/// Whoever asks, as the adapter does it: the answer, and the spans that had to be read for it.
fn ask(shared: &mut Shared, question: &Asked<'_, CloudwatchQuery>, says: &Answer) -> (Option<Answer>, Vec<(i64, i64)>) {
    shared.note(&[*question]);
    let mut read = Vec::new();
    if shared.answer(question).is_none() {
        for due in shared.due(question.now) {
            read.push((due.span.from.0 / 1000, due.span.to.0 / 1000));
            let says = says.clone().map(|points| {
                let span = due.span;
                points.into_iter().filter(|point| point.at >= span.from && point.at < span.to).collect()
            });
            shared.take(&due, says, question.now);
        }
    }
    (shared.answer(question), read)
}

#[test]
fn whoever_asks_first_reads_for_all_who_asked_before() {
    let queries = ["a", "b", "c"].map(|name| metric(name, 60));
    let mut shared = Shared::default();
    let says = points(&[(60, 1.0), (120, 2.0), (180, 3.0)]);
    for query in &queries {
        assert_eq!(ask(&mut shared, &asked(query, 0, 245), &says), (Some(points(&[(60, 1.0)])), vec![(60, 240)]));
    }
    // A minute later each of them has a new point, and the first one who asks brings it for all.
    let (answer, read) = ask(&mut shared, &asked(&queries[1], 60, 301), &says);
    assert_eq!(answer, Some(points(&[(120, 2.0)])));
    assert_eq!(read, vec![(60, 300); 3], "and what may have changed since");
    for (query, now) in [(&queries[0], 301), (&queries[2], 359), (&queries[1], 359)] {
        assert_eq!(ask(&mut shared, &asked(query, 60, now), &says), (Some(points(&[(120, 2.0)])), vec![]));
    }
    // Ten minutes after everybody else has gone, nobody asks for what was theirs.
    let (_, read) = ask(&mut shared, &asked(&queries[1], 120, 961), &says);
    assert_eq!(read.len(), 1);
}

#[test]
fn who_began_earlier_gets_what_is_missing_and_others_what_is_known() {
    let query = metric("a", 60);
    let mut shared = Shared::default();
    let says = points(&[(60, 1.0), (120, 2.0), (180, 3.0), (240, 4.0)]);
    let late = ask(&mut shared, &asked(&query, 100, 420), &says);
    assert_eq!(late, (Some(points(&[(120, 2.0), (180, 3.0), (240, 4.0)])), vec![(120, 420)]));
    let early = ask(&mut shared, &asked(&query, 0, 420), &says);
    assert_eq!(early, (Some(points(&[(60, 1.0), (120, 2.0), (180, 3.0), (240, 4.0)])), vec![(60, 420)]));
    assert_eq!(ask(&mut shared, &asked(&query, 200, 420), &says), (Some(points(&[(240, 4.0)])), vec![]));
    assert_eq!(ask(&mut shared, &asked(&query, 300, 420), &says), (Some(points(&[])), vec![]), "nothing can be new");
}

#[test]
fn what_failed_is_asked_again_after_a_while_and_not_by_everybody() {
    let query = metric("a", 60);
    let mut shared = Shared::default();
    let fault = Err(Fault::transient("cloudwatch", "busy"));
    assert_eq!(ask(&mut shared, &asked(&query, 0, 240), &fault), (Some(fault.clone()), vec![(60, 240)]));
    let well = points(&[(60, 1.0)]);
    assert_eq!(ask(&mut shared, &asked(&query, 0, 249), &well), (Some(fault), vec![]));
    assert_eq!(ask(&mut shared, &asked(&query, 0, 250), &well), (Some(well.clone()), vec![(60, 240)]));
}

#[test]
fn a_namespace_whose_values_change_late_is_read_later() {
    let (slow, other) = (metric("a", 60), metric("b", 60));
    let mut shared = Shared::default();
    let first = ask(&mut shared, &asked(&slow, 0, 265), &points(&[(60, 5.0), (120, 1.0)]));
    assert_eq!(first.0, Some(points(&[(60, 5.0)])));
    // The second minute had ended for 85 s when it was read as 1, and is 9 now; the third was not there after 25 s.
    let changed = points(&[(60, 5.0), (120, 9.0), (180, 7.0)]);
    let second = ask(&mut shared, &asked(&slow, 60, 325), &changed);
    assert_eq!(second.0, Some(points(&[(120, 9.0)])), "it has settled all the same: 145 s after its end");
    assert_eq!(shared.lags.of(&slow, Millis::from_seconds(60)), Millis::from_seconds(145));
    assert_eq!(ask(&mut shared, &asked(&slow, 120, 384), &changed), (Some(points(&[])), vec![]), "not yet");
    let third = ask(&mut shared, &asked(&slow, 120, 385), &changed);
    assert_eq!(third.0, Some(points(&[(180, 7.0)])));
    assert_eq!(ask(&mut shared, &asked(&other, 0, 324), &changed).0, Some(points(&[(60, 5.0)])), "of one namespace");
}

#[test]
fn a_namespace_whose_values_stay_is_read_sooner() {
    let query = metric("a", 60);
    let mut shared = Shared::default();
    let all: Vec<_> = (0..100).map(|minute| (minute * 60, minute as f64)).collect();
    // Each minute is first read 70 s after its end.
    let mut after = 0;
    for minute in 4..60 {
        let now = minute * 60 + 10;
        if let Some(Ok(found)) = ask(&mut shared, &asked(&query, after, now), &points(&all)).0 {
            after = found.last().map_or(after, |point| point.at.0 / 1000);
        }
    }
    let lag = shared.lags.of(&query, Millis::from_seconds(60));
    assert!((Millis::from_seconds(30)..=Millis::from_seconds(70)).contains(&lag), "{lag}");
    assert!(after >= 56 * 60, "read up to {after}");
}

#[test]
fn memory_is_bounded() {
    let query = metric("a", 1);
    let mut shared = Shared::default();
    let all: Vec<_> = (0..2000).map(|second| (second, 1.0)).collect();
    let (answer, _) = ask(&mut shared, &asked(&query, 0, 2000), &points(&all));
    let found = answer.expect("answered").expect("read");
    // A rollout takes in 120.
    assert!((120..=MOST_POINTS + 1).contains(&found.len()), "the newest: {}", found.len());
    assert_eq!(shared.known.values().next().expect("known").values.len(), MOST_POINTS + 1);
}
