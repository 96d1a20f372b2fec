//! Rollouts for the tests of the page.

use super::track::Point;
use crate::base::ids::RolloutId;
use crate::base::time::Timestamp;
use crate::rollout::event::Actor;
use crate::rollout::view::{EvidenceView, RolloutView};

/// A live rollout in a phase, with a weight of the canary.
pub(super) fn view(phase: &str, weight: u8) -> RolloutView {
    let actor = Actor { name: "anna".into(), via: "os_user".into() };
    let id = RolloutId("r-0123456789abcdef".into());
    let at = Timestamp(1_795_418_000_000);
    let pending = RolloutView::pending(&id, "checkout", None, Some("v2".into()), actor, at, String::new());
    RolloutView {
        route: "shop/checkout-router/checkout".into(),
        phase: phase.into(),
        finished: ["succeeded", "rolled_back", "aborted", "superseded"].contains(&phase),
        step: Some(1),
        steps: vec![10, 50, 100],
        canary: "checkout-v2".into(),
        stable: "checkout-v1".into(),
        weights: [("checkout-v1".to_owned(), 100 - weight), ("checkout-v2".to_owned(), weight)].into(),
        verdict: "canary 0/56 failed (0 %), stable 0/526 (0 %): no worse than +5pp not proven yet".into(),
        reason: None,
        seq: 1,
        ..pending
    }
}

/// Points of these times and weights.
pub(super) fn points(of: &[(i64, u8)]) -> Vec<Point> {
    let point = |(at_ms, weight): &(i64, u8)| Point {
        at_ms: *at_ms,
        weight: *weight,
        evidence: EvidenceView::default(),
        gates: Vec::new(),
    };
    of.iter().map(point).collect()
}
