//! Where a gate acts, what it weighs, and what its failure does.

use super::compile::{given, on_failure};
use super::plan::{Gate, GateRule, Moment, Scope, Step};
use super::problem::{Place, Report};
use super::steps::weights;
use super::tree::{Node, Value};
use super::units;
use crate::base::weight::Percent;

/// Largest relative weight of a gate: beyond it the others would have nothing to speak with.
const LARGEST_WEIGHT: f64 = 1000.0;

/// A gate with the keys that say how it takes part. `root` is the file, `element` the gate's mapping.
pub(super) fn scoped(gate: Gate, root: &Node, element: &Node, steps: &[Step], report: &mut Report<'_>) -> Gate {
    let during = during(&gate.rule, root, element, steps, report);
    let weight = weight(&gate.rule, element, report);
    Gate { during, weight, on_failure: given(Some(element), "on_failure", on_failure).ok().map(|at| at.value), ..gate }
}

/// Warns at the first weight at which no gate that decides acts, where some gate decides at all. `list` is the gates.
pub(super) fn unjudged(list: &Node, gates: &[Gate], steps: &[Step], report: &mut Report<'_>) {
    let deciding = || gates.iter().filter(|gate| !gate.dry_run);
    let is_judged = |weight: Percent| deciding().any(|gate| gate.acts(Moment::At(weight)));
    let mut below = weights(steps).map(|step| step.weight).filter(|weight| *weight < Percent::FULL);
    if let (Some(weight), true) = (below.find(|weight| !is_judged(*weight)), deciding().next().is_some()) {
        let message = format!("no gate acts at the step of {weight}: nothing rolls the release back there");
        let hint = "leave `during` out of one gate, such as the one on errors".to_owned();
        report.warning(list.place, message, Some(hint));
    }
}

fn during(rule: &GateRule, root: &Node, element: &Node, steps: &[Step], report: &mut Report<'_>) -> Vec<Scope> {
    let Some(node) = element.get("during") else { return Vec::new() };
    let elements =
        if let Value::List(elements) = &node.value { elements.as_slice() } else { std::slice::from_ref(node) };
    let mut scopes: Vec<Scope> = Vec::new();
    for element in elements {
        // Its shape was told before.
        let Some(scope) = scope(element) else { continue };
        if let Some((message, hint)) = stray(rule, scope, root, steps).or_else(|| repeated(scope, &scopes)) {
            report.error(element.place, message, Some(hint));
        }
        scopes.push(scope);
    }
    scopes
}

fn scope(node: &Node) -> Option<Scope> {
    if let Some(weight) = node.whole() {
        return Percent::new(u8::try_from(weight).ok()?).filter(|weight| *weight > Percent::ZERO).map(Scope::Weight);
    }
    match node.text()? {
        "preview" => Some(Scope::Preview),
        "steps" => Some(Scope::Steps),
        "bake" => Some(Scope::Bake),
        _ => None,
    }
}

/// Why a gate cannot act there, and what to do.
fn stray(rule: &GateRule, scope: Scope, root: &Node, steps: &[Step]) -> Option<(String, String)> {
    let limit = "write a second gate with a limit, such as `max: 1%`, for 100 %".to_owned();
    match scope {
        Scope::Preview if root.get("preview").is_none() => {
            let hint = "give the policy a `preview`, or leave `preview` out here".to_owned();
            Some(("the policy has no `preview` in which this gate could act".to_owned(), hint))
        }
        Scope::Preview if rule.is_of_requests() || rule.compares() => {
            let what = if rule.compares() { "there is nothing to compare" } else { "no request of it is judged" };
            let hint = "leave `preview` out here; gates on `health` and `webhook` act there".to_owned();
            Some((format!("this gate cannot act in a preview: {what}"), hint))
        }
        Scope::Bake | Scope::Weight(Percent::FULL) if rule.compares() => {
            Some(("at 100 % nothing is left to compare with".to_owned(), limit))
        }
        Scope::Steps if weights(steps).all(|step| step.weight == Percent::FULL) => {
            let hint = "put a smaller step before 100, or write `during: bake`".to_owned();
            Some(("no step is below 100".to_owned(), hint))
        }
        Scope::Weight(weight) if !steps.is_empty() && weights(steps).all(|step| step.weight != weight) => {
            let all: Vec<String> = weights(steps).map(|step| step.weight.get().to_string()).collect();
            let hint = format!("the weights of `steps` are {}", all.join(", "));
            Some((format!("no step has the weight {}", weight.get()), hint))
        }
        Scope::Preview | Scope::Steps | Scope::Bake | Scope::Weight(_) => None,
    }
}

/// Why a scope adds nothing to those before it, and what to do.
fn repeated(scope: Scope, before: &[Scope]) -> Option<(String, String)> {
    let within = |outer: &Scope, inner: &Scope| match inner {
        Scope::Weight(weight) => outer.covers(Moment::At(*weight)),
        Scope::Preview | Scope::Steps | Scope::Bake => outer == inner,
    };
    let repeats = before.iter().any(|earlier| within(earlier, &scope) || within(&scope, earlier));
    repeats.then(|| {
        let hint = "name each part once: `steps` is every weight below 100, `bake` is 100".to_owned();
        ("this says again what stands before it".to_owned(), hint)
    })
}

fn weight(rule: &GateRule, element: &Node, report: &mut Report<'_>) -> Option<f64> {
    let place = |at: Option<Place>| at.unwrap_or(element.place);
    let at = given(Some(element), "weight", |text| units::ratio(text).ok()).ok()?;
    if !rule.is_covered() {
        let hint =
            "leave it out: it is for `metric: error_rate` and `metric: latency` with `compare: stable`".to_owned();
        let message = "`weight` splits `max_false_rollback`, and that bound does not cover this gate";
        report.error(place(at.place), message, Some(hint));
        return None;
    }
    if !(at.value > 0.0 && at.value <= LARGEST_WEIGHT) {
        let hint = "gates without one weigh 1; `dry_run: true` takes a gate out".to_owned();
        report.error(place(at.place), format!("`weight` must be above 0 and at most {LARGEST_WEIGHT}"), Some(hint));
    }
    Some(at.value)
}
