//! The preview of a plan: a header that reaches the canary before it has any weight.

use super::compile::{At, duration, given, on_inconclusive, read};
use super::keys::STEP_DEFAULTS;
use super::plan::{Gate, Preview, PreviewHeader};
use super::problem::Report;
use super::tree::Node;
use crate::base::time::Millis;

/// Shortest preview: a gate asks once a second at most, and less says nothing.
const SHORTEST: Millis = Millis::from_seconds(1);

/// `None` where the policy has none, or none that is well, which is reported.
pub(super) fn preview(root: &Node, gates: &[Gate], report: &mut Report<'_>) -> Option<Preview> {
    let node = root.get("preview")?;
    let defaults = root.get("step_defaults");
    let max = read(defaults, &STEP_DEFAULTS, "max", duration);
    let what = read(defaults, &STEP_DEFAULTS, "on_inconclusive", on_inconclusive);
    let lasts = given(Some(node), "for", duration).ok();
    if let Some(At { value, place: Some(place), .. }) = lasts.filter(|lasts| lasts.value < SHORTEST) {
        let hint = "say how long tests may use it, such as `2m`; or leave `preview` out".to_owned();
        report.error(place, format!("a preview `for` {value} shows nothing"), Some(hint));
    }
    if !gates.iter().any(|gate| !gate.dry_run && gate.acts_in_preview()) {
        let message = "nothing judges the preview: when its time is over the first step comes, whatever it showed";
        let hint = "add a gate that asks the release itself, such as `{ name: alive, health: { http: /health } }`, or a \
                    `webhook` that answers for the tests";
        report.warning(node.place, message, Some(hint.to_owned()));
    }
    let text = |key| Some(node.get("header")?.get(key)?.text()?.to_owned());
    let lasts = lasts?.value;
    let header = PreviewHeader { name: text("name")?, value: text("value")? };
    Some(Preview { header, lasts, max: max.value.max(lasts), on_inconclusive: what.value })
}
