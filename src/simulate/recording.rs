//! What was recorded, as readings for the engine: from a table of counts, or from a rollout's journal.

use super::engine::Before;
use crate::base::time::Timestamp;
use crate::base::weight::Percent;
use crate::judge::Counts;
use crate::rollout::event::{Command, Event, Input, LiveReading, PointsReading, ProxyCounts, VersionCounts};

/// Rows of a table: a row for each second of ten days.
pub const ROWS_MAX: usize = 1_000_000;
/// Columns that a table must have; others are left alone.
const COLUMNS: [&str; 6] = ["at", "weight", "canary_requests", "canary_errors", "stable_requests", "stable_errors"];
/// The name of the proxy that a table is of.
const PROXY: &str = "recorded";

/// One round of readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Cumulative counts by proxy and version of the weights; absent where the data plane was not heard.
    pub live: Option<LiveReading>,
    /// Points of signals.
    pub points: Vec<PointsReading>,
}

/// Readings in the order of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recording {
    /// When a rollout is to begin.
    pub begin: Timestamp,
    /// What was known of stable then.
    pub before: Before,
    /// In order.
    pub samples: Vec<Sample>,
}

impl Recording {
    /// From a table with a heading: comma-separated, one row for a stretch of time that ends at `at` (seconds, or RFC 3339),
    /// with the canary's `weight` in percent and the requests and errors of that stretch. No quotes, no empty fields.
    ///
    /// # Errors
    /// What is wrong and in which line.
    pub fn of_csv(text: &str) -> Result<Self, String> {
        let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate().map(|(index, line)| (index + 1, line));
        let (_, heading) = lines
            .next()
            .filter(|(_, line)| !line.trim().is_empty())
            .ok_or_else(|| format!("line 1: there is no heading; it names the columns: {}", COLUMNS.join(",")))?;
        let columns = columns(heading)?;
        let mut table = Table::default();
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            if table.samples.len() == ROWS_MAX {
                return Err(format!("line {number}: more than {ROWS_MAX} rows; add rows up, or replay a part"));
            }
            table.add(&row(line, &columns).map_err(|problem| format!("line {number}: {problem}"))?, number)?;
        }
        let begin = table.samples.first().ok_or("there is no row below the heading")?.at;
        Ok(Self { begin, before: Before::default(), samples: table.samples })
    }

    /// From a rollout's inputs: every reading as it was journaled.
    ///
    /// # Errors
    /// When they do not begin with a start.
    pub fn of_journal(inputs: &[Input]) -> Result<Self, String> {
        let Some((Input { at, event: Event::Command { command: Command::Start(start), .. }, .. }, rest)) =
            inputs.split_first()
        else {
            return Err("its journal does not begin with a start".to_owned());
        };
        let samples = rest.iter().filter_map(|input| match &input.event {
            Event::Observed(observation) => Some(Sample {
                at: input.at,
                live: observation.live.clone().and_then(Result::ok),
                points: observation.points.clone(),
            }),
            Event::Command { .. } | Event::Settled { .. } | Event::Tick => None,
        });
        let before = Before { baseline: start.baseline.clone(), past: *start.past };
        Ok(Self { begin: *at, before, samples: samples.collect() })
    }
}

/// Where in a row each of [`COLUMNS`] stands.
fn columns(heading: &str) -> Result<[usize; COLUMNS.len()], String> {
    let names: Vec<String> = heading.split(',').map(|name| name.trim().to_lowercase()).collect();
    let mut places = [0; COLUMNS.len()];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        *place = names
            .iter()
            .position(|name| name == column)
            .ok_or_else(|| format!("line 1: there is no column `{column}`; columns are {}", COLUMNS.join(",")))?;
    }
    Ok(places)
}

struct Row {
    at: Timestamp,
    weight: Percent,
    counts: Counts,
}

fn row(line: &str, columns: &[usize; COLUMNS.len()]) -> Result<Row, String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let field = |index: usize| {
        fields.get(columns[index]).copied().ok_or_else(|| format!("there is no field for `{}`", COLUMNS[index]))
    };
    let count = |index: usize| {
        let text = field(index)?;
        text.parse::<u64>().map_err(|_| format!("`{text}` in column `{}` is no whole number", COLUMNS[index]))
    };
    let weight = count(1)?;
    let counts = Counts {
        canary_requests: count(2)?,
        canary_errors: count(3)?,
        stable_requests: count(4)?,
        stable_errors: count(5)?,
    };
    if counts.canary_errors > counts.canary_requests || counts.stable_errors > counts.stable_requests {
        return Err("more errors than requests".to_owned());
    }
    let weight = u8::try_from(weight).ok().and_then(Percent::new).ok_or("a weight lies between 0 and 100 percent")?;
    let at = instant(field(0)?).map_err(|problem| format!("column `at`: {problem}"))?;
    Ok(Row { at, weight, counts })
}

/// An instant in seconds since 1970, whole or not, or in RFC 3339.
///
/// # Errors
/// That it is neither.
pub fn instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.abs() < 1e11
    {
        return Ok(Timestamp((seconds * 1000.0).round() as i64));
    }
    let parsed = text.parse::<jiff::Timestamp>();
    parsed
        .map(|at| Timestamp(at.as_millisecond()))
        .map_err(|_| format!("`{text}` is neither seconds nor a time such as 2026-11-28T14:00:00Z"))
}

/// Rows on their way to samples: counts become cumulative, and each change of the weight a version.
#[derive(Default)]
struct Table {
    samples: Vec<Sample>,
    version: u64,
    weight: Option<Percent>,
    sum: Counts,
}

impl Table {
    fn add(&mut self, row: &Row, number: usize) -> Result<(), String> {
        if self.samples.last().is_some_and(|last| row.at < last.at) {
            return Err(format!("line {number}: it is earlier than the row before; rows rise in time"));
        }
        if self.weight != Some(row.weight) {
            self.weight = Some(row.weight);
            self.version += 1;
            self.sum = Counts::default();
        }
        self.sum.add(&row.counts);
        let counts = VersionCounts::new(self.version, u32::from(row.weight.get()) * 10_000, self.sum);
        let proxy =
            ProxyCounts { proxy: PROXY.to_owned(), applied: None, serving: false, versions: vec![counts], fuse: None };
        let live = Some(LiveReading { proxies: vec![proxy], ..LiveReading::default() });
        self.samples.push(Sample { at: row.at, live, points: Vec::new() });
        Ok(())
    }
}
