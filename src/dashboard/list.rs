//! The list: live rollouts as cards, finished ones as lines.

use super::RECENT_MAX;
use super::track::weight_of;
use super::words::{Badge, countdown_label, moment, phase_badge, segment, span};
use crate::ports::Freeze;
use crate::rollout::view::RolloutView;
use askama::Template;

/// The part of the list's page that is renewed.
#[derive(Template)]
#[template(path = "list.html")]
pub(super) struct List<'a> {
    now_ms: i64,
    at_ms: i64,
    announcement: String,
    freezes: Vec<String>,
    live: Vec<Card<'a>>,
    recent: Vec<Row<'a>>,
}

/// How a rollout stands, in short.
pub(super) struct Card<'a> {
    pub(super) id: &'a str,
    pub(super) address: String,
    pub(super) policy: &'a str,
    /// What is released.
    pub(super) release: &'a str,
    pub(super) badge: Badge,
    pub(super) weights: Option<Weights<'a>>,
    pub(super) verdict: &'a str,
    pub(super) frozen: Option<&'a str>,
    pub(super) awaited: Option<String>,
    pub(super) countdown: Option<Countdown>,
}

/// The weights of both versions.
pub(super) struct Weights<'a> {
    pub(super) stable: &'a str,
    pub(super) canary: &'a str,
    pub(super) stable_weight: u8,
    pub(super) canary_weight: u8,
    /// Where the line between both begins.
    pub(super) seam: String,
}

/// Time that is left.
pub(super) struct Countdown {
    pub(super) label: &'static str,
    pub(super) until_ms: i64,
    pub(super) left: String,
}

struct Row<'a> {
    id: &'a str,
    address: String,
    policy: &'a str,
    release: &'a str,
    badge: Badge,
    verdict: &'a str,
    at: &'a str,
    moment: String,
}

impl<'a> List<'a> {
    pub(super) fn of(views: &'a [RolloutView], freezes: &'a [Freeze], now_ms: i64) -> Self {
        let live: Vec<&RolloutView> = views.iter().filter(|view| !view.finished).collect();
        let recent = views.iter().filter(|view| view.finished).take(RECENT_MAX);
        let told = live.iter().map(|view| announcement(view));
        Self {
            now_ms,
            at_ms: views.iter().map(|view| view.changed_at_ms).max().unwrap_or(0),
            announcement: told.collect::<Vec<_>>().join(" "),
            freezes: freezes.iter().map(frozen_line).collect(),
            live: live.into_iter().map(|view| Card::of(view, now_ms)).collect(),
            recent: recent.map(Row::of).collect(),
        }
    }
}

/// What screen readers say when it changes: not the verdict, whose counts change each second.
pub(super) fn announcement(view: &RolloutView) -> String {
    let badge = phase_badge(&view.phase);
    format!("{}: {}, {} %.", view.policy, badge.label, weight_of(view))
}

fn frozen_line(freeze: &Freeze) -> String {
    let what = freeze.policy.as_deref().map_or("Everything".to_owned(), |policy| format!("Policy {policy}"));
    let since = moment(&freeze.at.rfc3339());
    format!("{what} is frozen since {since} by {}: {}", freeze.by.name, freeze.reason)
}

impl<'a> Card<'a> {
    pub(super) fn of(view: &'a RolloutView, now_ms: i64) -> Self {
        let canary_weight = weight_of(view);
        let stable_weight = 100_u8.saturating_sub(canary_weight);
        let weights = (!view.canary.is_empty()).then(|| Weights {
            stable: &view.stable,
            canary: &view.canary,
            stable_weight,
            canary_weight,
            seam: format!("{:.1}", f64::from(stable_weight) - 0.3),
        });
        let countdown = view.until_ms.map(|until_ms| Countdown {
            label: countdown_label(view),
            until_ms,
            left: span(until_ms.saturating_sub(now_ms)),
        });
        Self {
            id: &view.id,
            address: address(view),
            policy: &view.policy,
            release: release(view),
            badge: phase_badge(&view.phase),
            weights,
            verdict: &view.verdict,
            frozen: view.frozen.as_deref(),
            awaited: view.approval.as_ref().map(awaited),
            countdown,
        }
    }
}

impl<'a> Row<'a> {
    fn of(view: &'a RolloutView) -> Self {
        Self {
            id: &view.id,
            address: address(view),
            policy: &view.policy,
            release: release(view),
            badge: phase_badge(&view.phase),
            verdict: &view.verdict,
            at: &view.changed_at,
            moment: moment(&view.changed_at),
        }
    }
}

fn awaited(approval: &crate::rollout::view::ApprovalView) -> String {
    let given = match approval.given.as_slice() {
        [] => String::new(),
        given => format!("; {} said yes", given.join(", ")),
    };
    let (have, need, from) = (approval.given.len(), approval.need, approval.from.join(", "));
    format!("{have} of {need} approvals. Asked: {from}{given}")
}

fn address(view: &RolloutView) -> String {
    format!("/rollouts/{}", segment(&view.id))
}

fn release(view: &RolloutView) -> &str {
    view.revision.as_deref().or(view.image.as_deref()).unwrap_or_default()
}
