//! One rollout: everything that is known of it.

use super::chart::{Chart, charts};
use super::list::{Card, announcement};
use super::track::{Track, weight_of};
use super::verbs::{Button, Rights, buttons};
use super::words::{Badge, clock_time, figure, gate_badge, moment, percent};
use crate::rollout::view::{GateView, RolloutView};
use askama::Template;

/// The part of a rollout's page that is renewed.
#[derive(Template)]
#[template(path = "rollout.html")]
pub(super) struct Rollout<'a> {
    now_ms: i64,
    at_ms: i64,
    seq: u64,
    phase: &'a str,
    announcement: String,
    card: Card<'a>,
    route: &'a str,
    started_by: &'a str,
    started_at: &'a str,
    started_moment: String,
    steps: Vec<StepMark>,
    reason: Option<&'a str>,
    trouble: Option<&'a str>,
    fuses: Option<&'a str>,
    instances: Option<&'a str>,
    gauges: Option<Gauges>,
    buttons: Vec<Button>,
    gates: Vec<Gate<'a>>,
    charts: Vec<Chart>,
    is_partial: bool,
    lines: Vec<LogLine<'a>>,
    is_cut: bool,
}

struct StepMark {
    weight: u8,
    /// `done`, `now` or `next`.
    class: &'static str,
}

struct Gauges {
    proof: u8,
    against: u8,
}

struct Gate<'a> {
    name: &'a str,
    dry_run: bool,
    badge: Badge,
    text: &'a str,
    figures: Option<Figures<'a>>,
}

struct Figures<'a> {
    what: &'a str,
    canary: String,
    stable: String,
    limit: Option<String>,
}

struct LogLine<'a> {
    at: &'a str,
    time: String,
    text: &'a str,
}

impl<'a> Rollout<'a> {
    pub(super) fn of(view: &'a RolloutView, track: &'a Track, rights: &Rights, now_ms: i64) -> Self {
        let is_judged = view.step.is_some() && view.phase != "deploying" && view.preview.is_none();
        let evidence = &view.evidence;
        Self {
            now_ms,
            at_ms: view.changed_at_ms,
            seq: view.seq,
            phase: &view.phase,
            announcement: announcement(view),
            card: Card::of(view, now_ms),
            route: &view.route,
            started_by: &view.started_by.name,
            started_at: &view.started_at,
            started_moment: moment(&view.started_at),
            steps: steps(view),
            // A pending start and an end say it as the verdict.
            reason: view.reason.as_deref().filter(|reason| *reason != view.verdict),
            trouble: view.trouble.as_deref(),
            fuses: view.fuses.as_deref(),
            instances: view.instances.as_deref(),
            gauges: is_judged.then(|| Gauges { proof: percent(evidence.proof), against: percent(evidence.against) }),
            buttons: buttons(view, rights),
            gates: view.gates.iter().map(Gate::of).collect(),
            charts: charts(track.points(), view, now_ms),
            is_partial: track.is_partial,
            lines: track
                .lines()
                .map(|line| LogLine { at: &line.at, time: clock_time(&line.at), text: &line.text })
                .collect(),
            is_cut: track.is_cut,
        }
    }
}

impl Rollout<'_> {
    /// With the evidence drawn as well, behind the weight.
    pub(super) fn with_evidence(mut self, chart: Option<Chart>) -> Self {
        let behind_the_weight = self.charts.len().min(1);
        self.charts.splice(behind_the_weight..behind_the_weight, chart);
        self
    }
}

/// By the weight, since the number of the step counts approvals as well.
fn steps(view: &RolloutView) -> Vec<StepMark> {
    let weight = weight_of(view);
    let succeeded = view.outcome.as_deref() == Some("succeeded");
    let mark = |step: &u8| {
        let class = match (view.step, *step) {
            (Some(_), step) if step == weight => "now",
            (Some(_), step) if step < weight => "done",
            (None, _) if succeeded => "done",
            _ => "next",
        };
        StepMark { weight: *step, class }
    };
    view.steps.iter().map(mark).collect()
}

impl<'a> Gate<'a> {
    fn of(view: &'a GateView) -> Self {
        let figures = view.figures.as_ref().map(|figures| Figures {
            what: &figures.what,
            canary: figure(figures.unit, figures.canary),
            stable: figure(figures.unit, figures.stable),
            limit: figures.limit.map(|limit| {
                let side = if figures.limit_is_max == Some(false) { "at least " } else { "" };
                format!("{side}{}", figure(figures.unit, Some(limit)))
            }),
        });
        let badge = gate_badge(view.verdict, view.dry_run);
        Self { name: &view.name, dry_run: view.dry_run, badge, text: &view.text, figures }
    }
}
