//! Charts as SVG paths, drawn on the server: numbers to a picture of 1,000 by 200 units that the browser stretches.

use super::track::Point;
use super::words::{clock_time, figure};
use crate::base::time::Timestamp;
use crate::policy::plan::SignalUnit;
use crate::rollout::view::RolloutView;
use std::fmt::Write;

/// Units of the picture.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 200.0;
/// A share of failed requests is that of the last tenth of the time shown: short enough to show a fault that began late,
/// long enough to count something.
const WINDOW_PARTS: i64 = 10;
/// The window is at least so long: readings come about once a second.
const WINDOW_LEAST_MS: i64 = 5_000;
/// The scale of a share reaches at least so far, so that one failure in a thousand does not look like a cliff.
const SHARE_SCALE_LEAST: f64 = 0.01;

/// One chart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chart {
    /// What it shows.
    pub title: String,
    /// More about that, or nothing.
    pub note: String,
    /// The number at the upper end of the scale; the lower end is 0.
    pub top: String,
    /// Time at the left end.
    pub from: String,
    /// Time at the right end.
    pub to: String,
    /// Path of the canary's line.
    pub canary: String,
    /// Path of stable's line; empty where there is none.
    pub stable: String,
    /// Path of the area under the canary's line; empty where there is none.
    pub area: String,
    /// Path of a limit.
    pub limit: Option<String>,
    /// Words beside the lines, with their newest values.
    pub canary_legend: String,
    /// Likewise.
    pub stable_legend: String,
    /// Likewise.
    pub limit_legend: String,
    /// All of it in a sentence, for those who do not see it.
    pub summary: String,
}

/// Time, canary, stable.
type Value = (i64, Option<f64>, Option<f64>);
/// Takes one of both versions.
type Arm = fn(&Value) -> Option<f64>;

/// Two lines over time; a value may be missing.
struct Lines<'a> {
    title: &'a str,
    note: String,
    unit: SignalUnit,
    limit: Option<f64>,
    values: Vec<Value>,
}

/// Every chart of a rollout: the weight, failed requests, and each gate that measures something else.
#[must_use]
pub(super) fn charts(points: &[Point], view: &RolloutView, now_ms: i64) -> Vec<Chart> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    let until_ms = if view.finished { last.at_ms } else { now_ms.max(last.at_ms) };
    let span = Span { from_ms: first.at_ms, to_ms: until_ms.max(first.at_ms + 1) };
    let mut charts = vec![weight_chart(points, &span)];
    let failed = Lines {
        title: "Failed requests",
        note: format!("share of the last {}", super::words::span(span.window_ms())),
        unit: SignalUnit::Share,
        limit: None,
        values: failed_shares(points, span.window_ms()),
    };
    charts.extend(failed.chart(&span));
    for (index, gate) in view.gates.iter().enumerate() {
        let Some(figures) = gate.figures.as_ref().filter(|figures| figures.what != "failed requests") else { continue };
        let values = points.iter().map(|point| {
            let (canary, stable) = point.gates.get(index).copied().unwrap_or_default();
            (point.at_ms, canary, stable)
        });
        let note = figures.what.clone();
        let (title, unit, limit) = (gate.name.as_str(), figures.unit, figures.limit);
        charts.extend(Lines { title, note, unit, limit, values: values.collect() }.chart(&span));
    }
    charts
}

/// How the evidence grew: against the release, and for its being no worse, each as a part of what it takes to act.
#[must_use]
pub(super) fn evidence_chart(points: &[Point]) -> Option<Chart> {
    let (first, last) = (points.first()?, points.last()?);
    let span = Span { from_ms: first.at_ms, to_ms: last.at_ms.max(first.at_ms + 1) };
    let values = points.iter().map(|point| {
        let part = |value: f64| Some(value.clamp(0.0, 1.0));
        (point.at_ms, part(point.evidence.against), part(point.evidence.proof))
    });
    let lines = Lines {
        title: "Evidence",
        note: "as a part of what it takes to act".to_owned(),
        unit: SignalUnit::Share,
        limit: Some(1.0),
        values: values.collect(),
    };
    let chart = lines.chart(&span)?;
    let renamed = |legend: &str, from: &str, to: &str| legend.replacen(from, to, 1);
    Some(Chart {
        summary: renamed(&renamed(&chart.summary, "canary", "against it"), "stable", "that it is no worse"),
        canary_legend: renamed(&chart.canary_legend, "canary", "against it"),
        stable_legend: renamed(&chart.stable_legend, "stable", "that it is no worse"),
        ..chart
    })
}

struct Span {
    from_ms: i64,
    to_ms: i64,
}

impl Span {
    fn x(&self, at_ms: i64) -> f64 {
        (at_ms - self.from_ms) as f64 / (self.to_ms - self.from_ms) as f64 * WIDTH
    }

    fn window_ms(&self) -> i64 {
        ((self.to_ms - self.from_ms) / WINDOW_PARTS).max(WINDOW_LEAST_MS)
    }

    fn ends(&self) -> (String, String) {
        let time = |ms| clock_time(&Timestamp(ms).rfc3339());
        (time(self.from_ms), time(self.to_ms))
    }
}

fn weight_chart(points: &[Point], span: &Span) -> Chart {
    let y = |weight: u8| HEIGHT - 1.0 - f64::from(weight) / 100.0 * (HEIGHT - 2.0);
    let mut path = String::new();
    for (index, point) in points.iter().enumerate() {
        let (x, y) = (span.x(point.at_ms), y(point.weight));
        // Writing to a String cannot fail.
        let _ = match index {
            0 => write!(path, "M{x:.1} {y:.1}"),
            _ if points[index - 1].weight == point.weight => Ok(()),
            _ => write!(path, "H{x:.1}V{y:.1}"),
        };
    }
    let _ = write!(path, "H{WIDTH:.1}");
    let (from, to) = span.ends();
    let weight = points.last().map_or(0, |point| point.weight);
    let highest = points.iter().map(|point| point.weight).max().unwrap_or(0);
    Chart {
        title: "Weight".to_owned(),
        note: "the canary's share of the traffic".to_owned(),
        top: "100 %".to_owned(),
        summary: format!("Weight of the canary from {from} to {to}: now {weight} %, {highest} % at most."),
        area: format!("{path}V{HEIGHT:.1}H0Z"),
        canary: path,
        canary_legend: format!("canary {weight} %"),
        from,
        to,
        ..Chart::default()
    }
}

/// Shares of failed requests over a window that ends at each point.
fn failed_shares(points: &[Point], window_ms: i64) -> Vec<Value> {
    let mut begin = 0;
    let share = |failed: (u64, u64), requests: (u64, u64)| {
        let requests = requests.1.saturating_sub(requests.0);
        (requests > 0).then(|| failed.1.saturating_sub(failed.0) as f64 / requests as f64)
    };
    let each = points.iter().enumerate().map(|(index, point)| {
        while begin < index && points[begin + 1].at_ms <= point.at_ms - window_ms {
            begin += 1;
        }
        let (before, now) = (&points[begin].evidence, &point.evidence);
        let canary = share((before.canary_errors, now.canary_errors), (before.canary_requests, now.canary_requests));
        let stable = share((before.stable_errors, now.stable_errors), (before.stable_requests, now.stable_requests));
        (point.at_ms, canary, stable)
    });
    each.collect()
}

impl Lines<'_> {
    /// `None` where nothing was measured.
    fn chart(self, span: &Span) -> Option<Chart> {
        let both = || self.values.iter().flat_map(|(_, canary, stable)| [*canary, *stable]).flatten();
        let most = both()
            .filter(|value| value.is_finite())
            .fold(None, |most: Option<f64>, value| Some(most.map_or(value, |most| most.max(value))))?;
        // A limit far above everything would press the lines flat.
        let limit = self.limit.filter(|limit| *limit > 0.0 && *limit <= most * 4.0);
        let top = scale_top(most.max(limit.unwrap_or(0.0)), self.unit);
        let y = |value: f64| HEIGHT - 1.0 - (value / top).clamp(0.0, 1.0) * (HEIGHT - 2.0);
        let path = |which: Arm| {
            let mut path = String::new();
            let mut drawing = false;
            for value in &self.values {
                let Some(number) = which(value).filter(|number| number.is_finite()) else {
                    drawing = false;
                    continue;
                };
                let command = if drawing { 'L' } else { 'M' };
                let _ = write!(path, "{command}{:.1} {:.1}", span.x(value.0), y(number));
                if !drawing {
                    // A point alone has no length, and would not be seen.
                    path += "h0.5";
                }
                drawing = true;
            }
            path
        };
        let newest = |which: Arm| figure(self.unit, self.values.iter().rev().find_map(which));
        let (canary, stable) = (newest(|value| value.1), newest(|value| value.2));
        let (from, to) = span.ends();
        let limit_words =
            self.limit.map(|limit| format!("limit {}", figure(self.unit, Some(limit)))).unwrap_or_default();
        let within = if limit_words.is_empty() { String::new() } else { format!(", {limit_words}") };
        Some(Chart {
            title: self.title.to_owned(),
            summary: format!(
                "{}, {}, from {from} to {to}: canary {canary}, stable {stable}{within}.",
                self.title, self.note
            ),
            note: self.note.clone(),
            top: figure(self.unit, Some(top)),
            from,
            to,
            canary: path(|value| value.1),
            stable: path(|value| value.2),
            limit: limit.map(|limit| format!("M0 {:.1}H{WIDTH:.0}", y(limit))),
            canary_legend: format!("canary {canary}"),
            stable_legend: format!("stable {stable}"),
            limit_legend: limit_words,
            area: String::new(),
        })
    }
}

/// A round number at or above the highest value.
fn scale_top(most: f64, unit: SignalUnit) -> f64 {
    let (least, cap) = match unit {
        SignalUnit::Share => (SHARE_SCALE_LEAST, 1.0),
        SignalUnit::Percent => (SHARE_SCALE_LEAST * 100.0, f64::INFINITY),
        SignalUnit::Number => (1.0, f64::INFINITY),
        SignalUnit::Seconds => (0.001, f64::INFINITY),
    };
    if most <= least {
        return if most > 0.0 && unit == SignalUnit::Number { most } else { least };
    }
    let power = 10_f64.powf(most.log10().floor());
    let round = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|part| part * power).find(|round| *round >= most * 0.999);
    round.unwrap_or(most).min(cap.max(most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::examples::{points, view};

    #[test]
    fn a_step_is_a_step_and_the_lines_end_now() {
        let chart = &charts(&points(&[(0, 0), (1000, 10), (2000, 10), (3000, 50)]), &view("judging", 50), 4000)[0];
        assert_eq!(chart.canary, "M0.0 199.0H250.0V179.2H750.0V100.0H1000.0");
        assert_eq!((chart.from.as_str(), chart.to.as_str()), ("00:00:00", "00:00:04"));
        assert_eq!(chart.summary, "Weight of the canary from 00:00:00 to 00:00:04: now 50 %, 50 % at most.");
    }

    #[test]
    fn nothing_measured_is_no_chart_and_a_gap_is_a_gap() {
        let lines = |values: Vec<Value>| Lines {
            title: "errors",
            note: String::new(),
            unit: SignalUnit::Share,
            limit: None,
            values,
        };
        let span = Span { from_ms: 0, to_ms: 100 };
        assert_eq!(lines(vec![(0, None, None), (100, None, Some(f64::NAN))]).chart(&span), None);
        let chart =
            lines(vec![(0, Some(0.0), None), (50, None, None), (100, Some(0.01), Some(0.0))]).chart(&span).unwrap();
        assert_eq!((chart.canary.as_str(), chart.top.as_str()), ("M0.0 199.0h0.5M1000.0 1.0h0.5", "1 %"));
        assert_eq!(chart.stable, "M1000.0 199.0h0.5");
    }

    #[test]
    fn evidence_is_told_by_its_own_names() {
        let mut points = points(&[(0, 10), (1000, 10)]);
        (points[1].evidence.against, points[1].evidence.proof) = (2.0, 0.25);
        let chart = evidence_chart(&points).unwrap();
        assert_eq!(
            (chart.canary_legend.as_str(), chart.stable_legend.as_str()),
            ("against it 100 %", "that it is no worse 25 %")
        );
        assert!(chart.summary.contains("against it 100 %, that it is no worse 25 %"), "{}", chart.summary);
        assert_eq!(evidence_chart(&[]), None);
    }

    #[test]
    fn scales_end_at_round_numbers() {
        for (most, unit, top) in [
            (0.0, SignalUnit::Share, 0.01),
            (0.013, SignalUnit::Share, 0.02),
            (0.7, SignalUnit::Share, 1.0),
            (1.0, SignalUnit::Share, 1.0),
            (1234.0, SignalUnit::Number, 2000.0),
            (0.0, SignalUnit::Number, 1.0),
            (0.21, SignalUnit::Seconds, 0.25),
        ] {
            assert!((scale_top(most, unit) - top).abs() < 1e-9, "{most}: {}", scale_top(most, unit));
        }
    }

    #[test]
    fn shares_are_those_of_the_window_and_not_of_all_time() {
        let mut points = points(&[(0, 10), (10_000, 10), (20_000, 10)]);
        for (point, (requests, errors)) in points.iter_mut().zip([(0, 0), (100, 50), (200, 50)]) {
            (point.evidence.canary_requests, point.evidence.canary_errors) = (requests, errors);
        }
        let shares: Vec<Option<f64>> = failed_shares(&points, 10_000).iter().map(|value| value.1).collect();
        assert_eq!(shares, [None, Some(0.5), Some(0.0)]);
    }
}
