//! Spans and batches, on values.

use super::*;

fn metric(name: &str, seconds: u64) -> CloudwatchQuery {
    CloudwatchQuery::Metric { metric: of(name), period: Millis::from_seconds(seconds) }
}

fn of(name: &str) -> CloudwatchMetric {
    CloudwatchMetric {
        namespace: "Shop".to_owned(),
        name: name.to_owned(),
        stat: "p99".to_owned(),
        dimensions: BTreeMap::from([("Service".to_owned(), "checkout".to_owned())]),
    }
}

fn expression(text: &str, names: &[&str]) -> CloudwatchQuery {
    let metrics = names.iter().map(|name| ((*name).to_owned(), of(name))).collect();
    CloudwatchQuery::Expression { expression: text.to_owned(), metrics, period: Millis::from_seconds(60) }
}

/// Since 1000 s, at 2000 s.
fn batched(queries: &[CloudwatchQuery]) -> Vec<Batch<'_>> {
    let (after, now) = (Timestamp(1_000_000), Timestamp(2_000_000));
    let entry = |(index, query): (usize, &'_ CloudwatchQuery)| {
        let period = period(query)?;
        Some((index, span(after, now, period, lag(period))?))
    };
    let spans: Vec<_> = queries.iter().enumerate().filter_map(entry).collect();
    batches(spans.into_iter().filter_map(|(index, span)| Entry::of(&queries[index], index, span, false)))
}

#[test]
fn a_period_counts_when_it_began_after_and_has_settled() {
    let rows = [
        // Nothing has settled: 120 s after its end a minute is read.
        (60, 0, 239_999, None),
        (60, 0, 240_000, Some((60_000, 120_000))),
        (60, 60_000, 240_000, None),
        (60, 60_000, 300_000, Some((120_000, 180_000))),
        // The minute in which the release got its first traffic is half the old version's.
        (60, 59_999, 240_000, Some((60_000, 120_000))),
        (60, 60_001, 300_000, Some((120_000, 180_000))),
        (10, 0, 49_999, None),
        (10, 0, 50_000, Some((10_000, 20_000))),
        // Not more than three hours, or two periods.
        (60, 0, 36_120_000, Some((25_200_000, 36_000_000))),
        (21_600, 0, 216_120_000, Some((172_800_000, 216_000_000))),
        (0, i64::MIN, i64::MIN, None),
        (60, i64::MAX, i64::MAX, None),
    ];
    for (seconds, after, now, expected) in rows {
        let expected = expected.map(|(from, to)| Span { from: Timestamp(from), to: Timestamp(to) });
        let period = Millis::from_seconds(seconds);
        let found = span(Timestamp(after), Timestamp(now), period, lag(period));
        assert_eq!(found, expected, "{seconds} s, after {after}, at {now}");
    }
}

#[test]
fn a_call_begins_at_a_multiple_of_all_its_periods() {
    let queries = [metric("a", 60), metric("b", 300), metric("c", 10), metric("d", 420), metric("e", 420)];
    let batches = batched(&queries);
    let periods: Vec<Vec<u64>> =
        batches.iter().map(|batch| batch.entries.iter().map(|entry| entry.period.0 / 1000).collect()).collect();
    assert_eq!(periods, [vec![60, 300, 10], vec![420, 420]], "seven minutes do not divide an hour");
    for batch in &batches {
        assert_eq!(batch.start.0.rem_euclid(i64::try_from(batch.step).unwrap()), 0);
        assert!(batch.entries.iter().all(|entry| batch.start <= entry.span.from && entry.span.to <= batch.end));
    }
    assert_eq!((batches[0].start, batches[0].end), (Timestamp(900_000), Timestamp(1_970_000)));
}

#[test]
fn one_call_holds_five_hundred_queries_and_no_more() {
    let mut queries: Vec<_> = (0..495).map(|number| metric(&format!("m{number}"), 60)).collect();
    queries.push(expression("a / b + c", &["a", "b", "c"]));
    queries.push(expression("d", &["d"]));
    let batches = batched(&queries);
    assert_eq!(batches.iter().map(|batch| batch.queries().len()).collect::<Vec<_>>(), [499, 2]);
}

#[test]
fn names_of_metrics_are_kept_apart() {
    let queries = [
        expression("100 * errors / requests", &["errors", "requests"]),
        expression("FILL(errors, 0)/MAX([errors,requests])", &["errors", "requests"]),
    ];
    let batches = batched(&queries);
    let sent = batches[0].queries();
    let texts: Vec<_> = sent.iter().filter_map(MetricDataQuery::expression).collect();
    assert_eq!(texts, ["100 * t0_0 / t0_1", "FILL(t1_0, 0)/MAX([t1_0,t1_1])"]);
    let mut ids: Vec<_> = sent.iter().map(|query| query.id().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    assert!(sent.iter().all(|query| query.metric_stat().is_some() == (query.return_data() == Some(false))));
}

#[test]
fn text_in_quotes_and_parts_of_words_stay() {
    let names = BTreeMap::from([("e", "x".to_owned()), ("m1", "y".to_owned())]);
    for (text, expected) in [
        ("e+1e3*m1e-m1", "x+1e3*m1e-y"),
        ("SEARCH(' {Shop} m1 \"e\" ', 'Sum')+e", "SEARCH(' {Shop} m1 \"e\" ', 'Sum')+x"),
        ("IF(e>m1,e,m1)", "IF(x>y,x,y)"),
        ("", ""),
        ("'e", "'e"),
        ("é e", "é x"),
    ] {
        assert_eq!(renamed(text, &names), expected);
    }
}

#[test]
fn what_is_about_the_whole_call_has_one_of_its_own_and_keeps_its_names() {
    let queries = [
        metric("a", 60),
        expression("SUM(METRICS(\"errors\"))", &["errors_a", "errors_b", "t0"]),
        expression("SELECT AVG(CPU) FROM \"AWS/ECS\"", &[]),
        metric("b", 60),
    ];
    let batches = batched(&queries);
    assert_eq!(batches.iter().map(|batch| batch.entries.len()).collect::<Vec<_>>(), [2, 1, 1]);
    let sent = batches[1].queries();
    assert_eq!(sent.iter().filter_map(MetricDataQuery::id).collect::<Vec<_>>(), ["errors_a", "errors_b", "t0", "t0_"]);
    assert_eq!(batches[2].queries()[0].period(), Some(60), "nothing else says it");
}

#[test]
fn what_was_refused_alone_spoils_no_other_call_again() {
    let queries = [metric("a", 60), metric("b", 60), metric("c", 60)];
    let span = Span { from: Timestamp(0), to: Timestamp(60_000) };
    let entries = queries.iter().enumerate().filter_map(|(index, query)| Entry::of(query, index, span, index == 1));
    let together: Vec<Vec<usize>> =
        batches(entries).iter().map(|batch| batch.entries.iter().map(|entry| entry.index).collect()).collect();
    assert_eq!(together, [vec![0, 2], vec![1]]);
}

#[test]
fn halves_have_the_span_of_the_whole() {
    let queries = [metric("a", 60), metric("b", 60), metric("c", 300)];
    let [first, second] = batched(&queries).remove(0).halves();
    assert_eq!((first.entries.len(), second.entries.len()), (1, 2));
    assert_eq!((first.start, first.end), (second.start, second.end));
}

#[test]
fn a_long_span_is_asked_for_in_parts_that_lie_side_by_side() {
    let query = metric("a", 60);
    let hour = 3_600_000;
    let of = |from: i64, to: i64| {
        let span = Span { from: Timestamp(from), to: Timestamp(to) };
        let entries = (0..2).filter_map(|index| Entry::of(&query, index, span, false));
        batches(entries).remove(0)
    };
    // Two queries of 60 points an hour.
    let parts = of(0, 5 * hour).parts(240);
    let spans: Vec<_> = parts.iter().map(|part| (part.start.0 / hour, part.end.0 / hour)).collect();
    assert_eq!(spans, [(0, 2), (2, 4), (4, 5)]);
    assert!(parts.iter().all(|part| part.entries.len() == 2));
    assert_eq!(of(0, hour).parts(1).len(), 60, "a minute at least");
    assert_eq!(of(hour, hour).parts(100).len(), 0);
}
