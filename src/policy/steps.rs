//! The steps of a plan: weights that rise to 100, and approvals between them.

use super::compile::{At, difference, duration, given, on_failure, on_inconclusive, read, whole};
use super::keys::STEP_DEFAULTS;
use super::keys_outside::APPROVAL;
use super::plan::{ApprovalStep, Gate, Moment, OnInconclusive, Step, WeightStep};
use super::problem::{Place, Report};
use super::tree::{Node, Value};
use crate::base::time::Millis;
use crate::base::weight::Percent;

/// Above this share the canary is large and stable small: comparing them takes long.
const WEAK_COMPARISON_ABOVE: u8 = 50;
/// A first step above this exposes many before anything is known.
const LARGE_FIRST_STEP_ABOVE: u8 = 10;

/// What a step has that does not say otherwise.
struct Defaults {
    min: At<Millis>,
    max: At<Millis>,
    prove_no_worse_than: At<f64>,
    on_inconclusive: At<OnInconclusive>,
}

fn step_defaults(root: &Node, report: &mut Report<'_>) -> Defaults {
    let parent = root.get("step_defaults");
    let defaults = Defaults {
        min: read(parent, &STEP_DEFAULTS, "min", duration),
        max: read(parent, &STEP_DEFAULTS, "max", duration),
        prove_no_worse_than: read(parent, &STEP_DEFAULTS, "prove_no_worse_than", difference),
        on_inconclusive: read(parent, &STEP_DEFAULTS, "on_inconclusive", on_inconclusive),
    };
    margin(&defaults.prove_no_worse_than, report);
    stay(&defaults.min, &defaults.max, report);
    defaults
}

/// Weight steps of a list.
pub(super) fn weights(steps: &[Step]) -> impl DoubleEndedIterator<Item = &WeightStep> {
    steps.iter().filter_map(|step| match step {
        Step::Weight(step) => Some(step),
        Step::Approval(_) => None,
    })
}

pub(super) fn steps(root: &Node, report: &mut Report<'_>) -> Vec<Step> {
    let defaults = step_defaults(root, report);
    let list = root.get("steps");
    let elements = list.map(Node::elements).unwrap_or_default();
    let mut steps: Vec<Step> = Vec::new();
    let mut last_is_readable = false;
    for element in elements {
        last_is_readable = true;
        match one(element, &steps, &defaults, report) {
            Some(step) => steps.push(step),
            None => last_is_readable = false,
        }
    }
    if let (true, Some(element)) = (last_is_readable, elements.last()) {
        ends_with_everything(element, &steps, report);
    }
    steps
}

/// One step; `None` when its shape is wrong, which was told before.
fn one(element: &Node, before: &[Step], defaults: &Defaults, report: &mut Report<'_>) -> Option<Step> {
    if let Some(node) = element.get("approval") {
        return Some(Step::Approval(approval(element, node, report)));
    }
    let weight = weight(element)?;
    let percent = Percent::new(weight.value).filter(|percent| *percent > Percent::ZERO)?;
    let place = weight.place?;
    match weights(before).next_back().map(|step| step.weight) {
        Some(before) if percent <= before => {
            let message = format!("weight {} does not rise: the step before it has {}", percent.get(), before.get());
            report.error(place, message, Some("give the steps rising weights".to_owned()));
        }
        Some(_) => {}
        None => first_step(percent, place, report),
    }
    Some(Step::Weight(step(element, percent, defaults, report)))
}

fn ends_with_everything(last: &Node, steps: &[Step], report: &mut Report<'_>) {
    match steps.last() {
        Some(Step::Weight(step)) if step.weight == Percent::FULL => {}
        Some(Step::Weight(step)) => {
            let hint = "add a last step of 100; to stay below it, pause the rollout there".to_owned();
            report.error(last.place, format!("the last step gives {} and not 100", step.weight.get()), Some(hint));
        }
        Some(Step::Approval(_)) => {
            let hint = "put it before the step that it is about, and 100 last".to_owned();
            report.error(last.place, "an approval at the end approves nothing", Some(hint));
        }
        None => {}
    }
}

fn approval(element: &Node, node: &Node, report: &mut Report<'_>) -> ApprovalStep {
    for key in ["min", "max", "prove_no_worse_than", "on_inconclusive"] {
        if let Some(stray) = element.get(key) {
            let hint = "an approval keeps the weight of the step before it; give that one the time".to_owned();
            report.error(stray.place, format!("`{key}` belongs to a weight, and this step is an approval"), Some(hint));
        }
    }
    let from: Vec<String> = node
        .get("from")
        .map(Node::elements)
        .unwrap_or_default()
        .iter()
        .filter_map(|name| name.text().map(str::to_owned))
        .collect();
    let need = read(Some(node), &APPROVAL, "need", whole);
    if let (true, Some(place)) = (need.known && need.value > from.len() as u64, need.place) {
        let message = format!("`need` is {} and `from` names {}", need.value, from.len());
        let hint = "right where a name is a group of Slack; else name more people in `from`, or need fewer".to_owned();
        report.warning(place, message, Some(hint));
    }
    let timeout = read(Some(node), &APPROVAL, "timeout", duration);
    if let (true, Some(place)) = (timeout.known && timeout.value == Millis(0), timeout.place) {
        report.error(place, "a `timeout` of 0 lets nobody answer", Some("the default is `1h`".to_owned()));
    }
    ApprovalStep {
        slack: node.get("slack").and_then(Node::text).map(str::to_owned),
        from,
        need: u32::try_from(need.value).unwrap_or(u32::MAX),
        timeout: timeout.value,
        on_timeout: read(Some(node), &APPROVAL, "on_timeout", on_failure).value,
    }
}

/// The weight of a step, when it has a readable one.
fn weight(element: &Node) -> Option<At<u8>> {
    let parse = |text: &str| whole(text).and_then(|weight| u8::try_from(weight).ok());
    match &element.value {
        Value::Mapping(_) => given(Some(element), "weight", parse).ok(),
        _ => {
            let value = element.whole().and_then(|weight| u8::try_from(weight).ok())?;
            Some(At { value, place: Some(element.place), known: true })
        }
    }
}

fn step(element: &Node, weight: Percent, defaults: &Defaults, report: &mut Report<'_>) -> WeightStep {
    let own = Some(element);
    let min = inherit(given(own, "min", duration), defaults.min);
    let max = inherit(given(own, "max", duration), defaults.max);
    let prove_no_worse_than = inherit(given(own, "prove_no_worse_than", difference), defaults.prove_no_worse_than);
    // What a step has from the defaults was checked there, and is told there.
    if element.get("prove_no_worse_than").is_some() {
        margin(&prove_no_worse_than, report);
    }
    match (element.get("min").is_some(), element.get("max").is_some()) {
        (false, false) => {}
        (false, true) => stay(&At { place: max.place, ..min }, &max, report),
        (true, _) => stay(&min, &max, report),
    }
    WeightStep {
        weight,
        min: min.value,
        max: max.value,
        prove_no_worse_than: prove_no_worse_than.value,
        on_inconclusive: inherit(given(own, "on_inconclusive", on_inconclusive), defaults.on_inconclusive).value,
    }
}

fn inherit<T>(own: Result<At<T>, bool>, default: At<T>) -> At<T> {
    own.unwrap_or_else(|absent| At { known: default.known && absent, ..default })
}

fn stay(min: &At<Millis>, max: &At<Millis>, report: &mut Report<'_>) {
    if !min.known || !max.known {
        return;
    }
    if let (true, Some(place)) = (max.value == Millis(0), max.place) {
        report.error(place, "a `max` of 0 leaves no time to judge", Some("the default is `5m`".to_owned()));
    } else if let (true, Some(place)) = (min.value > max.value, min.place.or(max.place)) {
        let message = format!("`min` of {} is longer than `max` of {}", min.value, max.value);
        report.error(place, message, Some(format!("give a `max` of at least {}", min.value)));
    }
}

fn margin(margin: &At<f64>, report: &mut Report<'_>) {
    if let (true, Some(place)) = (margin.known && !(margin.value > 0.0 && margin.value < 1.0), margin.place) {
        let hint = "smaller takes more requests to show; `1pp` is usual".to_owned();
        report.error(place, "`prove_no_worse_than` must be above 0pp and below 100pp", Some(hint));
    }
}

fn first_step(weight: Percent, place: Place, report: &mut Report<'_>) {
    if weight.get() > LARGE_FIRST_STEP_ABOVE && weight != Percent::FULL {
        let message = format!("the first step exposes {} % of the requests before anything is known", weight.get());
        report.warning(place, message, Some(format!("begin with {LARGE_FIRST_STEP_ABOVE} or less")));
    }
}

/// Warns at the first step between half and all where no absolute gate watches it, and where nothing can act at all.
pub(super) fn unwatched(root: &Node, steps: &[Step], gates: &[Gate], report: &mut Report<'_>) {
    let watches = |gate: &Gate, weight| gate.rule.is_absolute() && !gate.dry_run && gate.acts(Moment::At(weight));
    let is_watched = |weight: Percent| gates.iter().any(|gate| watches(gate, weight));
    let Some(list) = root.get("steps") else { return };
    let all: Vec<&WeightStep> = weights(steps).collect();
    if let [only] = all.as_slice()
        && only.weight == Percent::FULL
        && !is_watched(Percent::FULL)
    {
        let message = "all traffic moves in one step: nothing is left to compare with, and no gate can act";
        let hint = "put a small step before 100, such as `[5, 100]`, or add a gate with a limit".to_owned();
        report.warning(list.place, message, Some(hint));
    }
    let weak = |weight: Percent| weight.get() > WEAK_COMPARISON_ABOVE && weight < Percent::FULL;
    let is_left = |weight: &At<u8>| Percent::new(weight.value).is_some_and(|of| weak(of) && !is_watched(of));
    let first = list.elements().iter().filter_map(weight).find(is_left);
    if let Some(place) = first.and_then(|weight| weight.place) {
        let message =
            format!("comparison is weak above {WEAK_COMPARISON_ABOVE} %: little is left on stable to compare with");
        let hint = "no absolute gate watches this step; add one, such as \
                    `{ name: slo, metric: error_rate, max: 1% }`"
            .to_owned();
        report.warning(place, message, Some(hint));
    }
}
