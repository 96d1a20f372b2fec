//! Which questions go into which call of `GetMetricData`, and over which span.
//!
//! CloudWatch begins its periods at the start of the span that is asked for. So that a point is the same one in each
//! round, every span begins at a multiple of all periods in its call; periods that would need a beginning far back for
//! that get a call of their own.

use crate::base::time::{Millis, Timestamp};
use crate::policy::plan::{CloudwatchMetric, CloudwatchQuery};
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat};
use std::collections::BTreeMap;

/// A period of whole minutes is read so long after its end: senders such as the CloudWatch agent collect for up to a
/// minute before they send, and services of AWS publish a minute's values within the next one. Before that a sum is too
/// small, and an average is that of the quick senders.
const LAG: Millis = Millis::from_seconds(120);
/// The same for periods of seconds. Only metrics that somebody sends as high-resolution ones have them, and whoever does
/// sends at least every 30 s, which is the longest such period.
const LAG_OF_SECONDS: Millis = Millis::from_seconds(30);
/// Nothing older is asked for, but for two periods where they are longer: it would say nothing about a release now, and
/// CloudWatch keeps points of seconds for three hours.
const LONGEST_SPAN: Millis = Millis::from_seconds(3 * 3600);
/// Periods share a call while all of them divide this.
const COMMON_MULTIPLE: u64 = 3_600_000;
/// So many queries CloudWatch takes in one call; metrics that an expression names are queries too.
const MOST_QUERIES: usize = 500;

/// How long one point of a query is about; `None` of an alarm, which has no points.
pub(super) const fn period(query: &CloudwatchQuery) -> Option<Millis> {
    match query {
        CloudwatchQuery::Metric { period, .. } | CloudwatchQuery::Expression { period, .. } => Some(*period),
        CloudwatchQuery::Alarm { .. } => None,
    }
}

/// How long after its end a period is taken for settled, before anything was learned of its namespace.
pub(super) const fn lag(period: Millis) -> Millis {
    if period.0 < 60_000 { LAG_OF_SECONDS } else { LAG }
}

/// Half-open, both ends multiples of the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// The beginning of the period in which a moment is.
pub(super) fn floor(at: i64, period: Millis) -> i64 {
    at.saturating_sub(at.rem_euclid(i64::try_from(period.0.max(1)).unwrap_or(i64::MAX)))
}

/// Periods that began after `after` and have settled by `now`, so long after their end; `None` where there is none.
pub(super) fn span(after: Timestamp, now: Timestamp, period: Millis, lag: Millis) -> Option<Span> {
    let length = i64::try_from(period.0.max(1)).unwrap_or(i64::MAX);
    let floor = |at: i64| floor(at, period);
    let back = |at: i64, span: Millis| at.saturating_sub_unsigned(span.0);
    let to = floor(back(now.0, lag));
    let longest = LONGEST_SPAN.max(Millis(period.0.saturating_mul(2)));
    let from = floor(after.0).saturating_add(length).max(floor(back(to, longest)));
    (from < to).then_some(Span { from: Timestamp(from), to: Timestamp(to) })
}

/// One query of a call.
#[derive(Debug, Clone)]
pub(super) struct Entry<'a> {
    pub(super) query: &'a CloudwatchQuery,
    pub(super) period: Millis,
    /// Its position among those that are due.
    pub(super) index: usize,
    span: Span,
    /// No other query may be in its call.
    is_alone: bool,
}

impl<'a> Entry<'a> {
    /// `None` of an alarm, which is asked about by another call. A query that was refused before spoils only its own.
    pub(super) fn of(query: &'a CloudwatchQuery, index: usize, span: Span, was_refused: bool) -> Option<Self> {
        let is_alone = was_refused || is_alone(query);
        Some(Self { query, period: period(query)?, index, span, is_alone })
    }
}

/// What one call asks for.
#[derive(Debug, Clone)]
pub(super) struct Batch<'a> {
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    /// A multiple of all periods, in milliseconds.
    step: u64,
    /// Queries that the entries take.
    size: usize,
    /// No other query may be in the call.
    is_alone: bool,
}

/// The calls that ask for all entries.
pub(super) fn batches<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Vec<Batch<'a>> {
    let mut batches: Vec<Batch<'a>> = Vec::new();
    for entry in entries {
        match batches.iter_mut().find(|batch| batch.takes(&entry)) {
            Some(batch) => batch.add(entry),
            None => batches.push(Batch::of(entry)),
        }
    }
    batches
}

impl<'a> Batch<'a> {
    /// The same in parts of so many points at most, one after the other; each has a step of every query at least.
    pub(super) fn parts(self, most_points: u64) -> Vec<Self> {
        let step = i64::try_from(self.step).unwrap_or(i64::MAX);
        let shortest = self.entries.iter().map(|entry| entry.period.0).min().unwrap_or(self.step).max(1);
        let points_of_a_step = (self.step / shortest).max(1).saturating_mul(self.entries.len() as u64).max(1);
        let length = step.saturating_mul(i64::try_from((most_points / points_of_a_step).max(1)).unwrap_or(i64::MAX));
        let (mut parts, mut start) = (Vec::new(), self.start);
        while start < self.end {
            let end = Timestamp(start.0.saturating_add(length)).min(self.end);
            parts.push(Self { start, end, ..self.clone() });
            start = end;
        }
        parts
    }

    fn of(entry: Entry<'a>) -> Self {
        let (start, end, step) = (entry.span.from, entry.span.to, entry.period.0.max(1));
        let (size, is_alone) = (size(entry.query), entry.is_alone);
        Self { entries: vec![entry], start, end, step, size, is_alone }
    }

    fn takes(&self, entry: &Entry<'_>) -> bool {
        let queries = self.size + size(entry.query);
        let period = entry.period.0.max(1);
        let fits = period == self.step || COMMON_MULTIPLE.is_multiple_of(least_common_multiple(self.step, period));
        !self.is_alone && !entry.is_alone && queries <= MOST_QUERIES && fits
    }

    fn add(&mut self, entry: Entry<'a>) {
        self.step = least_common_multiple(self.step, entry.period.0.max(1));
        let start = self.start.min(entry.span.from).0;
        self.start = Timestamp(start.saturating_sub(start.rem_euclid(i64::try_from(self.step).unwrap_or(i64::MAX))));
        self.end = self.end.max(entry.span.to);
        self.size += size(entry.query);
        self.entries.push(entry);
    }

    /// Both halves of it, over its span.
    pub(super) fn halves(self) -> [Self; 2] {
        let Self { mut entries, start, end, step, is_alone, .. } = self;
        let second = entries.split_off(entries.len() / 2);
        let size = |entries: &[Entry<'_>]| entries.iter().map(|entry| size(entry.query)).sum();
        [entries, second].map(|entries| Self { size: size(&entries), entries, start, end, step, is_alone })
    }

    /// The name by which an entry's answer is found.
    pub(super) fn id(&self, number: usize) -> String {
        let mut id = format!("t{number}");
        if let (true, Some(CloudwatchQuery::Expression { metrics, .. })) =
            (self.is_alone, self.entries.first().map(|entry| entry.query))
        {
            while metrics.contains_key(&id) {
                id.push('_');
            }
        }
        id
    }

    /// The queries of the call.
    pub(super) fn queries(&self) -> Vec<MetricDataQuery> {
        self.entries.iter().enumerate().flat_map(|(number, entry)| self.of_entry(&self.id(number), entry)).collect()
    }

    fn of_entry(&self, id: &str, entry: &Entry<'_>) -> Vec<MetricDataQuery> {
        let query = MetricDataQuery::builder().id(id);
        let seconds = i32::try_from(entry.period.0 / 1000).unwrap_or(i32::MAX);
        match entry.query {
            CloudwatchQuery::Metric { metric, .. } => vec![query.metric_stat(statistic(metric, seconds)).build()],
            CloudwatchQuery::Expression { expression, metrics, .. } => {
                let names: BTreeMap<&str, String> = metrics
                    .keys()
                    .enumerate()
                    .map(|(index, name)| {
                        (name.as_str(), if self.is_alone { name.clone() } else { format!("{id}_{index}") })
                    })
                    .collect();
                let inputs = metrics.iter().map(|(name, metric)| {
                    let input = MetricDataQuery::builder().id(&names[name.as_str()]).return_data(false);
                    input.metric_stat(statistic(metric, seconds)).build()
                });
                let query = query.expression(renamed(expression, &names));
                // The period is that of the metrics; without any (Metrics Insights) the query has to name it.
                let query = if metrics.is_empty() { query.period(seconds) } else { query };
                inputs.chain([query.build()]).collect()
            }
            CloudwatchQuery::Alarm { .. } => Vec::new(),
        }
    }
}

fn statistic(metric: &CloudwatchMetric, seconds: i32) -> MetricStat {
    let dimensions = metric.dimensions.iter().map(|(name, value)| Dimension::builder().name(name).value(value).build());
    let of = Metric::builder().namespace(&metric.namespace).metric_name(&metric.name);
    let of = of.set_dimensions(Some(dimensions.collect())).build();
    MetricStat::builder().metric(of).period(seconds).stat(&metric.stat).build()
}

/// How many queries of a call a question takes.
fn size(query: &CloudwatchQuery) -> usize {
    match query {
        CloudwatchQuery::Metric { .. } | CloudwatchQuery::Alarm { .. } => 1,
        CloudwatchQuery::Expression { metrics, .. } => 1 + metrics.len(),
    }
}

/// Whether a query must not share its call: `METRICS()` is about every metric in it, and a call takes one `SELECT`.
fn is_alone(query: &CloudwatchQuery) -> bool {
    let CloudwatchQuery::Expression { expression, .. } = query else { return false };
    let text = expression.to_ascii_uppercase();
    text.contains("METRICS(") || text.trim_start().starts_with("SELECT")
}

/// An expression with other names for its metrics, since names are one space for all questions of a call. What stands in
/// quotes is text (a search) and stays.
fn renamed(expression: &str, names: &BTreeMap<&str, String>) -> String {
    let (mut text, mut word, mut quote) = (String::new(), String::new(), None);
    for letter in expression.chars().map(Some).chain([None]) {
        let is_word = letter.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        if let (Some(letter), None, true) = (letter, quote, is_word) {
            word.push(letter);
            continue;
        }
        text += names.get(word.as_str()).unwrap_or(&word);
        word.clear();
        let Some(letter) = letter else { break };
        text.push(letter);
        quote = match quote {
            None if letter == '\'' || letter == '"' => Some(letter),
            Some(open) if open == letter => None,
            same => same,
        };
    }
    text
}

fn least_common_multiple(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b)
}

#[cfg(test)]
mod tests;
