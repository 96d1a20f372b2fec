//! What is known of the metrics that all rollouts ask about, so that they are asked for together. Pure.
//!
//! Rollouts ask when it suits them, most of them about metrics of their own. Who asks first after a period has settled
//! has everything asked for that anybody asked about lately; the others find their answers here. So calls go by the
//! number of metrics and periods, and not by that of rollouts.

use super::lag::Lags;
use super::plan::{self, Entry, Span};
use crate::base::fault::Fault;
use crate::base::time::{Millis, Timestamp};
use crate::policy::plan::CloudwatchQuery;
use crate::ports::SignalPoint;
use crate::signals::{Answer, Asked};
use std::collections::BTreeMap;

/// Nobody asks about a metric any more when nobody did for so long, or for three of its periods: gates ask every five
/// minutes at least.
const KEPT: Millis = Millis::from_seconds(600);
/// Metrics that are kept: 1,000 rollouts with the most gates that a policy has, about both versions, at about 1 KB each and
/// 11 KB after five hours of minutes.
const MOST_KNOWN: usize = 64_000;
/// A metric that could not be read is not asked for again sooner, whoever asks: an outage is no reason for more calls.
const AGAIN: Millis = Millis::from_seconds(10);
/// So many periods that were read are read once more, to see whether they have changed since.
const REREAD: u64 = 2;
/// Points that are kept of a metric, the newest: as many as a rollout takes in at once (120), what the longest lag holds back
/// of periods of a second (150), and some that are read once more.
const MOST_POINTS: usize = 275;

/// Every metric and expression that somebody asks about. Alarms are none.
#[derive(Debug, Default)]
pub(super) struct Shared {
    known: BTreeMap<String, Known>,
    lags: Lags,
}

#[derive(Debug)]
struct Known {
    query: CloudwatchQuery,
    period: Millis,
    /// When somebody asked last.
    asked: Timestamp,
    /// Periods are wanted that began after this, and were read from that on.
    wanted: Timestamp,
    from: Option<Timestamp>,
    /// When it was read last.
    looked: Option<Timestamp>,
    /// Values by the beginning of their period, with the age of its end when they were read last.
    values: BTreeMap<i64, (f64, Millis)>,
    /// Why it could not be read, and when.
    failure: Option<(Fault, Timestamp)>,
    /// CloudWatch did not take the question the last time.
    was_refused: bool,
}

/// What is to be asked for.
#[derive(Debug)]
pub(super) struct Due {
    key: String,
    pub(super) query: CloudwatchQuery,
    span: Span,
    was_refused: bool,
}

impl Due {
    /// As a part of a call; `index` is its position among those that are due.
    pub(super) fn entry(&self, index: usize) -> Option<Entry<'_>> {
        Entry::of(&self.query, index, self.span, self.was_refused)
    }
}

/// The name under which a query is known: equal ones have equal texts.
fn key(query: &CloudwatchQuery) -> String {
    format!("{query:?}")
}

impl Known {
    fn new(query: &CloudwatchQuery, period: Millis, asked: Timestamp, wanted: Timestamp) -> Self {
        Self {
            query: query.clone(),
            period,
            asked,
            wanted,
            from: None,
            looked: None,
            values: BTreeMap::new(),
            failure: None,
            was_refused: false,
        }
    }

    /// Whether a span was read when all of it had settled.
    fn covers(&self, span: Span, lag: Millis) -> bool {
        let settled = self.looked.map(|looked| looked.0.saturating_sub_unsigned(lag.0));
        self.from.is_some_and(|from| from <= span.from) && settled.is_some_and(|settled| span.to.0 <= settled)
    }

    fn failed_at(&self, now: Timestamp) -> Option<&Fault> {
        let (fault, at) = self.failure.as_ref()?;
        (at.0 <= now.0 && now.since(*at) < AGAIN).then_some(fault)
    }

    fn is_asked(&self, now: Timestamp) -> bool {
        now.since(self.asked) <= KEPT.max(Millis(self.period.0.saturating_mul(3)))
    }

    /// What is asked for at `now`: from what has not settled in the last look or was not wanted then, with some periods of
    /// before, until the last one that has ended.
    fn due(&self, now: Timestamp, lag: Millis) -> Option<Span> {
        let settled = plan::span(self.wanted, now, self.period, lag)?;
        if self.covers(settled, lag) || self.failed_at(now).is_some() {
            return None;
        }
        let ended = plan::floor(now.0, self.period);
        let read = match (self.from, self.looked) {
            (Some(from), Some(looked)) if from <= settled.from => {
                let back = lag.0.saturating_add(self.period.0.saturating_mul(1 + REREAD));
                plan::floor(looked.0.saturating_sub_unsigned(back), self.period).max(from.0)
            }
            _ => settled.from.0,
        };
        Some(Span { from: Timestamp(read.min(settled.to.0)), to: Timestamp(ended.max(settled.to.0)) })
    }

    /// Takes in what was read at `now`; answers the ages at which values were read before, and whether they changed.
    fn take(&mut self, span: Span, points: &[SignalPoint], now: Timestamp) -> Vec<(Millis, bool)> {
        let mut compared = Vec::new();
        for point in points {
            let end = point.at.plus(self.period);
            // A span of several periods may bring what another one asked for.
            if point.at < span.from || end > span.to {
                continue;
            }
            let before = self.values.insert(point.at.0, (point.value, now.since(end)));
            match (before, self.looked) {
                (Some((value, age)), _) => compared.push((age, value != point.value)),
                // It was not there when its period had ended already.
                (None, Some(looked)) if looked >= end && self.from.is_some_and(|from| from <= point.at) => {
                    compared.push((looked.since(end), true));
                }
                (None, _) => {}
            }
        }
        let first = self.values.keys().rev().nth(MOST_POINTS).copied();
        if let Some(first) = first {
            self.values = self.values.split_off(&first);
        }
        self.from = Some(self.from.map_or(span.from, |from| from.min(span.from)));
        self.looked = Some(now);
        (self.failure, self.was_refused) = (None, false);
        compared
    }
}

impl Shared {
    /// Notes what is asked, so that the next look brings it.
    pub(super) fn note(&mut self, asked: &[Asked<'_, CloudwatchQuery>]) {
        for Asked { query, after, now, .. } in asked {
            let Some(period) = plan::period(query) else { continue };
            let Some(span) = plan::span(*after, *now, period, self.lags.of(query, period)) else { continue };
            let key = key(query);
            if self.known.len() >= MOST_KNOWN && !self.known.contains_key(&key) {
                continue;
            }
            // Spans begin with the first whole period after this.
            let after = Timestamp(span.from.0.saturating_sub_unsigned(period.0));
            let known = self.known.entry(key).or_insert_with(|| Known::new(query, period, *now, after));
            known.asked = known.asked.max(*now);
            // What was read once need not be wanted again.
            let was_read = known.from.is_some_and(|from| from <= span.from);
            known.wanted = if was_read { known.wanted.max(after) } else { known.wanted.min(after) };
        }
    }

    /// The answer to a question, where one is known; a question that can have no new point yet has none.
    pub(super) fn answer(&self, asked: &Asked<'_, CloudwatchQuery>) -> Option<Answer> {
        let period = plan::period(asked.query)?;
        let lag = self.lags.of(asked.query, period);
        let Some(span) = plan::span(asked.after, asked.now, period, lag) else { return Some(Ok(Vec::new())) };
        let Some(known) = self.known.get(&key(asked.query)) else {
            let full = self.known.len() >= MOST_KNOWN;
            let text = format!("more than {MOST_KNOWN} metrics are asked about; use fewer gates on CloudWatch");
            return full.then(|| Err(Fault::transient(super::fault::SOURCE, text)));
        };
        if known.covers(span, lag) {
            let wanted = known.values.range(span.from.0..span.to.0);
            return Some(Ok(wanted.map(|(at, (value, _))| SignalPoint::of(Timestamp(*at), *value)).collect()));
        }
        known.failed_at(asked.now).map(|fault| Err(fault.clone()))
    }

    /// Everything that somebody asks about and that has something new to tell; what nobody asks about is forgotten.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Due> {
        self.known.retain(|_, known| known.is_asked(now));
        let Self { known, lags } = self;
        let due = |(key, known): (&String, &Known)| {
            let span = known.due(now, lags.of(&known.query, known.period))?;
            Some(Due { key: key.clone(), query: known.query.clone(), span, was_refused: known.was_refused })
        };
        known.iter().filter_map(due).collect()
    }

    /// Takes in what came of it at `now`.
    pub(super) fn take(&mut self, due: &Due, answer: Answer, now: Timestamp) {
        let Some(known) = self.known.get_mut(&due.key) else { return };
        match answer {
            Ok(points) => {
                for (age, changed) in known.take(due.span, &points, now) {
                    self.lags.compared(&due.query, known.period, age, changed);
                }
            }
            Err(fault) => known.failure = Some((fault, now)),
        }
    }

    /// Takes in that CloudWatch refused a question that was in a call alone.
    pub(super) fn refuse(&mut self, due: &Due, fault: Fault, now: Timestamp) {
        if let Some(known) = self.known.get_mut(&due.key) {
            (known.failure, known.was_refused) = (Some((fault, now)), true);
        }
    }
}

#[cfg(test)]
mod tests;
