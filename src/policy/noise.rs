//! Noise in a policy: a word, or measured numbers.

use super::compile::read;
use super::keys::{FILE, NOISE};
use super::plan::NoiseRule;
use super::problem::Report;
use super::tree::Node;
use super::units;

/// Largest v, as `judge::noise` has it.
const MOST_V: f64 = 4.0;
/// Largest phi: a cause with more errors than this is an incident and no noise.
const MOST_PHI: f64 = 1000.0;

/// What the file says, else the default. A value of the wrong shape was told before.
pub(super) fn noise(root: &Node, report: &mut Report<'_>) -> NoiseRule {
    if let Some(long) = root.get("noise").filter(|noise| noise.get("v").is_some() || noise.get("phi").is_some()) {
        let number = |text: &str| units::ratio(text).ok();
        let Some(v) = long.get("v").and_then(Node::written).and_then(number) else { return NoiseRule::None };
        let phi = read(Some(long), &NOISE, "phi", number);
        if let (false, Some(node)) = ((0.0..=MOST_V).contains(&v), long.get("v")) {
            let hint = "0.25 is a rate that swings by half of its mean from minute to minute".to_owned();
            report.error(node.place, format!("`v` must be from 0 to {MOST_V}"), Some(hint));
        }
        if let (false, Some(place)) = ((1.0..=MOST_PHI).contains(&phi.value), phi.place) {
            let hint = "1 is one error for each cause".to_owned();
            report.error(place, format!("`phi` must be from 1 to {MOST_PHI}"), Some(hint));
        }
        return NoiseRule::Fixed { v, phi: phi.value };
    }
    let word = read(Some(root), &FILE, "noise", |text| match text {
        "auto" => Some(NoiseRule::Auto),
        "none" => Some(NoiseRule::None),
        _ => None,
    });
    word.value
}
