//! From the file's shape to a plan that is valid by construction.
//!
//! Here stand the rules between keys: what rises, what is longer than what, what must be there for something else to
//! make sense. Defaults are read from the table of keys, so documentation and behaviour are one text. All problems are
//! reported at once; a value whose shape is wrong takes part in no further rule, so that one mistake is told once.
//! Warnings are for plans that are allowed and probably not meant; they come only with a plan.

use super::keys::{BLAST_RADIUS, FILE, GATE, NO_DATA, STEP_DEFAULTS, TOLERATE, VERIFY};
use super::plan::{
    BlastRadius, Gate, GateRule, NoData, OnFailure, OnInconclusive, OnVerifyTimeout, PLAN_FORMAT, Plan, Step, Verify,
    WeightStep,
};
use super::problem::{Place, Problem, Report};
use super::source;
use super::table::Record;
use super::tree::{Node, Value};
use super::units;
use crate::base::ids::RouteRef;
use crate::base::time::Millis;
use crate::base::weight::Percent;
use std::collections::BTreeMap;

/// Above this share the canary is large and stable small: comparing them takes long.
const WEAK_COMPARISON_ABOVE: u8 = 50;
/// A first step above this exposes many before anything is known.
const LARGE_FIRST_STEP_ABOVE: u8 = 10;
/// Largest tolerated multiple of stable's rate: beyond it a gate would pass anything.
const LARGEST_RATIO: f64 = 1000.0;

/// A plan, and what to think about before it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// Valid by construction.
    pub plan: Plan,
    /// In the order of the file.
    pub warnings: Vec<Problem>,
}

/// Compiles the text of a policy file (YAML, of which JSON is a part). `file_name` is what positions are given in.
///
/// # Errors
/// Every problem of the file in the order of the file, at least one and at most a hundred.
pub fn compile(file_name: &str, text: &str) -> Result<Compiled, Vec<Problem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report::new(file_name, text);
    let plan = source::read(text, &mut report).and_then(|root| plan(&root, &mut report));
    let (errors, warnings) = report.finish();
    match plan {
        Some(plan) if errors.is_empty() => Ok(Compiled { plan, warnings }),
        _ => Err(errors),
    }
}

/// A value with where it stands.
#[derive(Debug, Clone, Copy)]
struct At<T> {
    value: T,
    /// `None` for a default.
    place: Option<Place>,
    /// False when the file has a value that is not readable: the default stands in, and no rule may judge it.
    known: bool,
}

/// Reads a key of a record: what the file says, else the table's default.
fn read<T>(parent: Option<&Node>, record: &Record, key: &str, parse: impl Fn(&str) -> Option<T>) -> At<T> {
    let default = || {
        record
            .field(key)
            .and_then(|field| field.default)
            .and_then(&parse)
            .expect("the table's defaults are readable: a test compiles a file that has only defaults")
    };
    given(parent, key, &parse).unwrap_or_else(|known| At { value: default(), place: None, known })
}

/// What the file says; else whether its absence is certain.
fn given<T>(parent: Option<&Node>, key: &str, parse: impl Fn(&str) -> Option<T>) -> Result<At<T>, bool> {
    match parent.and_then(|parent| parent.get(key)) {
        None => Err(true),
        Some(node) => match node.written().and_then(parse) {
            Some(value) => Ok(At { value, place: Some(node.place), known: true }),
            None => Err(false),
        },
    }
}

fn plan(root: &Node, report: &mut Report<'_>) -> Option<Plan> {
    let failure = |text: &str| match text {
        "rollback" => Some(OnFailure::Rollback),
        "pause" => Some(OnFailure::Pause),
        _ => None,
    };
    let steps = steps(root, report);
    let verify = verify(root, report);
    let max_total = max_total(root, &steps, report);
    let gates = gates(root, &steps, report);
    let max_false_rollback =
        within(root, "max_false_rollback", "above 0% and at most 50%", |a| a > 0.0 && a <= 0.5, report);
    let confidence_to_advance =
        within(root, "confidence_to_advance", "at least 50% and below 100%", |c| (0.5..1.0).contains(&c), report);
    let no_data = no_data(root, report);
    let versions = versions(root, report);
    let blast_radius = root.get("blast_radius");
    // Only now may something missing end it: all rules have had their say.
    Some(Plan {
        format: PLAN_FORMAT,
        name: root.get("name")?.text()?.to_owned(),
        route: route(root)?,
        versions: versions?,
        steps: steps.into_iter().map(Step::Weight).collect(),
        max_total,
        gates,
        max_false_rollback,
        confidence_to_advance,
        blast_radius: BlastRadius {
            failed_requests: read(blast_radius, &BLAST_RADIUS, "failed_requests", whole).value,
            per_proxy_between_acks: read(blast_radius, &BLAST_RADIUS, "per_proxy_between_acks", whole).value,
        },
        no_data,
        verify,
        on_failure: read(Some(root), &FILE, "on_failure", failure).value,
    })
}

fn route(root: &Node) -> Option<RouteRef> {
    let part = |key| Some(root.get("route")?.get(key)?.text()?.to_owned());
    Some(RouteRef { mesh: part("mesh")?, router: part("router")?, route: part("route")? })
}

fn versions(root: &Node, report: &mut Report<'_>) -> Option<[String; 2]> {
    let [first, second] = root.get("versions")?.elements() else { return None };
    let (first_name, second_name) = (first.text()?, second.text()?);
    if first_name == second_name {
        let hint = "name the two virtual nodes that releases use in turn".to_owned();
        report.error(second.place, format!("both versions are `{second_name}`"), Some(hint));
    }
    Some([first_name.to_owned(), second_name.to_owned()])
}

// === steps ===

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

fn steps(root: &Node, report: &mut Report<'_>) -> Vec<WeightStep> {
    let defaults = step_defaults(root, report);
    let list = root.get("steps");
    let elements = list.map(Node::elements).unwrap_or_default();
    let mut steps: Vec<WeightStep> = Vec::new();
    let mut last_is_readable = false;
    for element in elements {
        last_is_readable = false;
        let Some(weight) = weight(element) else { continue };
        let percent = Percent::new(weight.value).filter(|percent| *percent > Percent::ZERO);
        let (Some(percent), Some(place)) = (percent, weight.place) else { continue };
        match steps.last().map(|step| step.weight) {
            Some(before) if percent <= before => {
                let message =
                    format!("weight {} does not rise: the step before it has {}", percent.get(), before.get());
                report.error(place, message, Some("give the steps rising weights".to_owned()));
            }
            Some(_) => {}
            None => first_step(percent, place, report),
        }
        weak_comparison(&steps, percent, place, report);
        steps.push(step(element, percent, &defaults, report));
        last_is_readable = true;
    }
    if let (true, Some(element), Some(step)) = (last_is_readable, elements.last(), steps.last())
        && step.weight != Percent::FULL
    {
        let hint = "add a last step of 100; to stay below it, pause the rollout there".to_owned();
        report.error(element.place, format!("the last step gives {} and not 100", step.weight.get()), Some(hint));
    }
    if let (Some(list), [only]) = (list, steps.as_slice())
        && only.weight == Percent::FULL
    {
        let message = "all traffic moves in one step: nothing is left to compare with, and no gate can act";
        report.warning(list.place, message, Some("put a small step before 100, such as `[5, 100]`".to_owned()));
    }
    steps
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

/// Warns at the first step between half and all: this version has no absolute gates that would watch it.
fn weak_comparison(before: &[WeightStep], weight: Percent, place: Place, report: &mut Report<'_>) {
    let weak = |weight: Percent| weight.get() > WEAK_COMPARISON_ABOVE && weight != Percent::FULL;
    if weak(weight) && !before.iter().any(|step| weak(step.weight)) {
        let message =
            format!("comparison is weak above {WEAK_COMPARISON_ABOVE} %: little is left on stable to compare with");
        let hint = format!("no absolute gate watches this step; consider going from {WEAK_COMPARISON_ABOVE} to 100");
        report.warning(place, message, Some(hint));
    }
}

// === gates ===

fn gates(root: &Node, steps: &[WeightStep], report: &mut Report<'_>) -> Vec<Gate> {
    let compared = steps.iter().find(|step| step.weight != Percent::FULL);
    let Some(list) = root.get("gates") else {
        // Where nothing is compared, a gate that never sees evidence would only look like protection.
        return compared.map(|_| default_gate()).into_iter().collect();
    };
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut gates = Vec::new();
    for element in list.elements() {
        if let Some(node) = element.get("name")
            && let Some(name) = node.text()
        {
            if let Some(line) = names.get(name) {
                let hint = Some(format!("it is already used on line {line}"));
                report.error(node.place, format!("duplicate gate name `{name}`"), hint);
            }
            names.entry(name).or_insert(node.place.line);
        }
        gates.extend(gate(element, report));
    }
    let is_list = matches!(list.value, Value::List(_));
    if let (Some(step), true, true) = (compared, is_list, list.elements().is_empty()) {
        let message = format!("no gate judges the step of {} %", step.weight.get());
        report.error(list.place, message, Some("leave `gates` out to compare error rates with stable".to_owned()));
    }
    if !gates.is_empty() && gates.iter().all(|gate| gate.dry_run) {
        let message = "every gate is a dry run: no verdict rolls this release back";
        report.warning(list.place, message, None);
    }
    gates
}

fn gate(element: &Node, report: &mut Report<'_>) -> Option<Gate> {
    let metric = element.get("metric")?;
    let tolerate = element.get("tolerate");
    let ratio = read(tolerate, &TOLERATE, "ratio", |text| units::ratio(text).ok());
    let add = read(tolerate, &TOLERATE, "add", difference);
    if let (true, Some(place)) = (!(1.0..=LARGEST_RATIO).contains(&ratio.value), ratio.place) {
        let hint = "1.0 accepts the same rate as stable's".to_owned();
        report.error(place, format!("`ratio` must be from 1 to {LARGEST_RATIO}"), Some(hint));
    }
    if let (true, Some(place)) = (add.value >= 1.0, add.place) {
        report.error(place, "`add` must be below 100pp", Some("the default is `0.1pp`".to_owned()));
    }
    // Another metric or a limit was refused already.
    let limited = element.get("max").is_some() || element.get("min").is_some();
    if metric.text() != Some("error_rate") || limited {
        return None;
    }
    if element.get("compare").is_none() {
        let hint = "add `compare: stable`".to_owned();
        report.error(element.place, "this gate says what to measure and not how to judge it", Some(hint));
    }
    Some(Gate {
        name: element.get("name")?.text()?.to_owned(),
        rule: GateRule::ErrorRateAgainstStable { ratio: ratio.value, add: add.value },
        dry_run: read(Some(element), &GATE, "dry_run", |text| text.to_ascii_lowercase().parse().ok()).value,
    })
}

fn default_gate() -> Gate {
    let ratio = read(None, &TOLERATE, "ratio", |text| units::ratio(text).ok()).value;
    let add = read(None, &TOLERATE, "add", difference).value;
    Gate { name: "errors".to_owned(), rule: GateRule::ErrorRateAgainstStable { ratio, add }, dry_run: false }
}

// === bounds ===

fn max_total(root: &Node, steps: &[WeightStep], report: &mut Report<'_>) -> Millis {
    let max_total = read(Some(root), &FILE, "max_total", duration);
    let shortest = Millis(steps.iter().fold(0, |sum: u64, step| sum.saturating_add(step.min.0)));
    let place = max_total.place.or_else(|| root.get("steps").map(|steps| steps.place)).unwrap_or(Place::START);
    if max_total.known && max_total.value <= shortest {
        let message =
            format!("`max_total` of {} is not longer than the {shortest} of all `min` together", max_total.value);
        report.error(place, message, Some("raise `max_total`, or shorten the steps".to_owned()));
    }
    max_total.value
}

fn within(root: &Node, key: &str, range: &str, holds: impl Fn(f64) -> bool, report: &mut Report<'_>) -> f64 {
    let share = read(Some(root), &FILE, key, |text| units::share(text).ok());
    if let (false, Some(place)) = (holds(share.value), share.place) {
        report.error(place, format!("`{key}` must be {range}"), None);
    }
    share.value
}

fn no_data(root: &Node, report: &mut Report<'_>) -> NoData {
    let parent = root.get("no_data");
    let hold = read(parent, &NO_DATA, "hold_after", duration);
    let withdraw = read(parent, &NO_DATA, "withdraw_after", duration);
    if let (true, Some(place)) = (hold.value == Millis(0), hold.place) {
        report.error(place, "`hold_after` must be above 0: reports arrive once a second", None);
    }
    if let (true, Some(place)) = (hold.known && withdraw.known, withdraw.place.or(hold.place))
        && hold.value >= withdraw.value
    {
        let message =
            format!("`hold_after` of {} must be shorter than `withdraw_after` of {}", hold.value, withdraw.value);
        report.error(place, message, Some("silence first holds, and only then takes the weight away".to_owned()));
    }
    NoData { hold_after: hold.value, withdraw_after: withdraw.value }
}

fn verify(root: &Node, report: &mut Report<'_>) -> Verify {
    let parent = root.get("verify");
    let timeout = read(parent, &VERIFY, "timeout", duration);
    if let (true, Some(place)) = (timeout.value == Millis(0), timeout.place) {
        report.error(place, "a `timeout` of 0 fails every step", Some("the default is `60s`".to_owned()));
    }
    let on_timeout = read(parent, &VERIFY, "on_timeout", |text| match text {
        "rollback" => Some(OnVerifyTimeout::Rollback),
        "pause" => Some(OnVerifyTimeout::Pause),
        _ => None,
    });
    Verify { timeout: timeout.value, on_timeout: on_timeout.value }
}

// === parsers, by which a text of the wrong shape is absent ===

fn duration(text: &str) -> Option<Millis> {
    units::duration(text).ok()
}

fn difference(text: &str) -> Option<f64> {
    units::difference(text).ok()
}

fn whole(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn on_inconclusive(text: &str) -> Option<OnInconclusive> {
    match text {
        "hold" => Some(OnInconclusive::Hold),
        "advance" => Some(OnInconclusive::Advance),
        "rollback" => Some(OnInconclusive::Rollback),
        _ => None,
    }
}
