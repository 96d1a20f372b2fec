//! What happened to one rollout, in a bounded space: points for charts and lines for the log.

use super::words::phase_label;
use crate::rollout::view::{EvidenceView, RolloutView, opened};
use std::collections::VecDeque;

/// Points kept: a chart is some hundred pixels wide, so more of them cannot be told apart.
pub(super) const POINTS_MAX: usize = 512;
/// Lines of the log kept, the newest: two hundred are more than a person reads, and the journal has them all.
pub(super) const LINES_MAX: usize = 200;
/// Gates whose figures are kept: charts beyond so many are read by nobody, and the table has every gate.
pub(super) const GATES_MAX: usize = 8;
/// Characters of a line: a reason may have a thousand, and a page of two hundred such lines is a book.
const LINE_MAX_CHARS: usize = 300;

/// How a rollout stood at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
    /// The canary's share as last asked for, in percent.
    pub weight: u8,
    /// Requests counted so far.
    pub evidence: EvidenceView,
    /// Canary's and stable's figure of each gate, in the policy's order.
    pub gates: Vec<(Option<f64>, Option<f64>)>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, RFC 3339.
    pub at: String,
    /// In a few words.
    pub text: String,
}

/// What happened to a rollout.
#[derive(Debug, Clone, Default)]
pub struct Track {
    points: Vec<Point>,
    lines: VecDeque<Line>,
    /// Points nearer to each other than this are one, where the weight is the same.
    gap_ms: i64,
    last: Option<RolloutView>,
    /// Whether it begins later than the rollout did.
    pub is_partial: bool,
    /// Whether lines were left out at its beginning.
    pub is_cut: bool,
}

impl Track {
    /// One that begins later than its rollout did.
    #[must_use]
    pub fn partial() -> Self {
        Self { is_partial: true, ..Self::default() }
    }

    /// Number of the last change taken in; 0 before the first.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.last.as_ref().map_or(0, |view| view.seq)
    }

    /// Points, oldest first.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Lines, newest first.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().rev()
    }

    /// Takes a change in. One that is not newer than the last is known already.
    pub fn take(&mut self, view: &RolloutView, asked: Option<&str>) {
        if self.last.as_ref().is_some_and(|last| last.seq >= view.seq) {
            return;
        }
        for text in asked.map(str::to_owned).into_iter().chain(happened(self.last.as_ref(), view, asked.is_some())) {
            if self.lines.len() == LINES_MAX {
                self.lines.pop_front();
                self.is_cut = true;
            }
            let text = shortened(&text);
            self.lines.push_back(Line { at: view.changed_at.clone(), text });
        }
        self.add(Point {
            at_ms: view.changed_at_ms,
            weight: weight_of(view),
            evidence: view.evidence.clone(),
            gates: view.gates.iter().take(GATES_MAX).map(figures).collect(),
        });
        self.last = Some(view.clone());
    }

    fn add(&mut self, point: Point) {
        if let [.., before, last] = self.points.as_slice()
            && before.weight == last.weight
            && last.weight == point.weight
            && last.at_ms - before.at_ms < self.gap_ms
        {
            self.points.pop();
        }
        self.points.push(point);
        if self.points.len() > POINTS_MAX {
            self.thin_out();
        }
    }

    /// Keeps every second point, the ends, and those around a change of weight.
    fn thin_out(&mut self) {
        let span_ms =
            self.points.last().map_or(0, |last| last.at_ms) - self.points.first().map_or(0, |first| first.at_ms);
        self.gap_ms = span_ms * 2 / POINTS_MAX as i64;
        let (all, count) = (std::mem::take(&mut self.points), POINTS_MAX + 1);
        let same = |a: Option<&Point>, b: &Point| a.is_none_or(|a| a.weight == b.weight);
        let keeps = |at: usize, point: &Point| {
            let around = at > 0 && !same(all.get(at - 1), point) || !same(all.get(at + 1), point);
            at.is_multiple_of(2) || at + 1 == count || around
        };
        let kept: Vec<Point> =
            all.iter().enumerate().filter(|(at, point)| keeps(*at, point)).map(|(_, p)| p.clone()).collect();
        // A weight that changes all the time has no neighbours to spare: then every second one of those goes too.
        self.points = if kept.len() > POINTS_MAX { kept.into_iter().step_by(2).collect() } else { kept };
    }
}

fn figures(gate: &crate::rollout::view::GateView) -> (Option<f64>, Option<f64>) {
    gate.figures.as_ref().map_or((None, None), |figures| (figures.canary, figures.stable))
}

/// The canary's share as last asked for, in percent.
#[must_use]
pub(super) fn weight_of(view: &RolloutView) -> u8 {
    view.weights.get(&view.canary).copied().unwrap_or(0)
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= LINE_MAX_CHARS {
        return text.to_owned();
    }
    text.chars().take(LINE_MAX_CHARS - 1).chain(['…']).collect()
}

/// What differs between two views in a row that a person wants to know. Where somebody asked for it, why was told with that.
fn happened(before: Option<&RolloutView>, now: &RolloutView, was_asked: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let weight = weight_of(now);
    if before.map_or(weight > 0, |before| weight_of(before) != weight) {
        lines.push(format!("weight of {} set to {weight} %", now.canary));
    }
    // These follow a new weight at once; one that lasts is seen on the page.
    let goes_without_saying = ["shifting", "verifying"].contains(&now.phase.as_str());
    if before.is_none_or(|before| before.phase != now.phase) && !goes_without_saying {
        let why = match now.phase.as_str() {
            "paused" | "rolling_back" if !was_asked => now.reason.as_deref(),
            _ => None,
        };
        let label = phase_label(&now.phase);
        lines.push(why.map_or_else(|| label.to_owned(), |why| format!("{label}: {why}")));
    }
    if let Some(before) = before {
        let again = before.phase == "paused" && now.phase == "paused" && before.reason != now.reason;
        lines.extend(now.reason.clone().filter(|_| again && !was_asked));
        match (&before.frozen, &now.frozen) {
            (None, Some(frozen)) if !was_asked => lines.push(frozen.clone()),
            (Some(_), None) if !was_asked && now.outcome.is_none() => lines.push("no longer frozen".to_owned()),
            _ => {}
        }
        if before.trouble != now.trouble {
            lines.extend(now.trouble.as_ref().map(|trouble| format!("trouble: {trouble}")));
        }
        if before.outcome.is_none()
            && let Some(outcome) = now.outcome.as_deref().filter(|_| now.phase != "rolling_back")
        {
            let why = now.reason.as_deref().unwrap_or_default();
            lines.push(format!("decided: {}: {why}", phase_label(outcome).to_lowercase()));
        }
    }
    lines.extend(opened(before.and_then(|before| before.fuse.as_ref()), now.fuse.as_ref()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::examples::view;

    #[test]
    fn however_long_it_lasts_it_stays_small_and_keeps_the_ends_and_each_weight() {
        let mut track = Track::default();
        for seq in 1..=20_000_u32 {
            let weight = u8::try_from(seq / 2_000 * 10).unwrap();
            let mut now = view("judging", weight);
            (now.seq, now.changed_at_ms) = (seq.into(), i64::from(seq) * 1000);
            track.take(&now, None);
            assert!(track.points().len() <= POINTS_MAX, "{seq}");
        }
        let points = track.points();
        assert!(points.len() > POINTS_MAX / 4, "{}", points.len());
        assert_eq!((points[0].at_ms, points[points.len() - 1].at_ms), (1000, 20_000_000));
        for step in 1..=9_i64 {
            // Where the weight changed, to the second.
            assert!(points.iter().any(|point| point.at_ms == step * 2_000_000), "{step}");
        }
        assert!(points.is_sorted_by_key(|point| point.at_ms));
    }

    #[test]
    fn a_weight_that_changes_all_the_time_is_bounded_as_well() {
        let mut track = Track::default();
        for seq in 1..=5_000_u32 {
            let mut now = view("judging", u8::try_from(seq % 100).unwrap());
            (now.seq, now.changed_at_ms) = (seq.into(), i64::from(seq));
            track.take(&now, Some(&"x".repeat(1000)));
            assert!(track.points().len() <= POINTS_MAX, "{seq}");
        }
        assert_eq!(track.lines().count(), LINES_MAX);
        assert!(track.is_cut && track.lines().all(|line| line.text.chars().count() <= LINE_MAX_CHARS));
    }

    #[test]
    fn what_is_known_already_is_not_told_twice() {
        let mut track = Track::default();
        let first = view("judging", 10);
        track.take(&first, Some("start by ann"));
        track.take(&first, Some("start by ann"));
        let texts: Vec<&str> = track.lines().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["Judging", "weight of checkout-v2 set to 10 %", "start by ann"]);
        assert_eq!(track.points().len(), 1);
    }
}
