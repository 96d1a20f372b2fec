//! From the file's shape to a plan that is valid by construction.
//!
//! Here stand the rules between keys: what rises, what is longer than what, what must be there for something else to
//! make sense. Defaults are read from the table of keys, so documentation and behaviour are one text. All problems are
//! reported at once; a value whose shape is wrong takes part in no further rule, so that one mistake is told once.
//! Warnings are for plans that are allowed and probably not meant; they come only with a plan.

use super::gates::gates;
use super::keys::{BLAST_RADIUS, FILE, NO_DATA, VERIFY};
use super::noise::noise;
use super::notify::notify;
use super::plan::{BlastRadius, NoData, OnFailure, OnInconclusive, OnVerifyTimeout, PLAN_FORMAT, Plan, Step, Verify};
use super::preview::preview;
use super::problem::{Place, Problem, Report};
use super::source;
use super::start::start;
use super::steps::{steps, unwatched, weights};
use super::table::Record;
use super::tree::Node;
use super::units;
use super::workload::workload;
use crate::base::ids::RouteRef;
use crate::base::time::Millis;

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
pub(super) struct At<T> {
    pub(super) value: T,
    /// `None` for a default.
    pub(super) place: Option<Place>,
    /// False when the file has a value that is not readable: the default stands in, and no rule may judge it.
    pub(super) known: bool,
}

/// Reads a key of a record: what the file says, else the table's default.
pub(super) fn read<T>(parent: Option<&Node>, record: &Record, key: &str, parse: impl Fn(&str) -> Option<T>) -> At<T> {
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
pub(super) fn given<T>(parent: Option<&Node>, key: &str, parse: impl Fn(&str) -> Option<T>) -> Result<At<T>, bool> {
    match parent.and_then(|parent| parent.get(key)) {
        None => Err(true),
        Some(node) => match node.written().and_then(parse) {
            Some(value) => Ok(At { value, place: Some(node.place), known: true }),
            None => Err(false),
        },
    }
}

fn plan(root: &Node, report: &mut Report<'_>) -> Option<Plan> {
    let steps = steps(root, report);
    let verify = verify(root, report);
    let max_total = max_total(root, &steps, report);
    let gates = gates(root, &steps, report);
    unwatched(root, &steps, &gates, report);
    let max_false_rollback =
        within(root, "max_false_rollback", "above 0% and at most 50%", |a| a > 0.0 && a <= 0.5, report);
    let confidence_to_advance =
        within(root, "confidence_to_advance", "at least 50% and below 100%", |c| (0.5..1.0).contains(&c), report);
    let noise = noise(root, report);
    let no_data = no_data(root, report);
    let versions = versions(root, report);
    let workload = workload(root, versions.as_ref(), report);
    let start = start(root, &steps, report);
    let preview = preview(root, &gates, report);
    let notify = notify(root);
    let blast_radius = root.get("blast_radius");
    // Only now may something missing end it: all rules have had their say.
    Some(Plan {
        format: PLAN_FORMAT,
        name: root.get("name")?.text()?.to_owned(),
        route: route(root)?,
        versions: versions?,
        workload,
        start,
        preview,
        steps,
        max_total,
        gates,
        max_false_rollback,
        confidence_to_advance,
        blast_radius: BlastRadius {
            failed_requests: read(blast_radius, &BLAST_RADIUS, "failed_requests", whole).value,
            per_proxy_between_acks: read(blast_radius, &BLAST_RADIUS, "per_proxy_between_acks", whole).value,
        },
        noise,
        no_data,
        verify,
        on_failure: read(Some(root), &FILE, "on_failure", on_failure).value,
        notify,
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

// === bounds ===

fn max_total(root: &Node, steps: &[Step], report: &mut Report<'_>) -> Millis {
    let max_total = read(Some(root), &FILE, "max_total", duration);
    let shown = root.get("preview").and_then(|preview| given(Some(preview), "for", duration).ok());
    let shown = shown.map_or(0, |lasts| lasts.value.0);
    let shortest = Millis(weights(steps).fold(shown, |sum: u64, step| sum.saturating_add(step.min.0)));
    let place = max_total.place.or_else(|| root.get("steps").map(|steps| steps.place)).unwrap_or(Place::START);
    if max_total.known && max_total.value <= shortest {
        let what = if shown == 0 { "all `min`" } else { "`preview` and all `min`" };
        let message =
            format!("`max_total` of {} is not longer than the {shortest} of {what} together", max_total.value);
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

pub(super) fn duration(text: &str) -> Option<Millis> {
    units::duration(text).ok()
}

pub(super) fn difference(text: &str) -> Option<f64> {
    units::difference(text).ok()
}

pub(super) fn whole(text: &str) -> Option<u64> {
    text.parse().ok()
}

pub(super) fn on_failure(text: &str) -> Option<OnFailure> {
    match text {
        "rollback" => Some(OnFailure::Rollback),
        "pause" => Some(OnFailure::Pause),
        _ => None,
    }
}

pub(super) fn on_inconclusive(text: &str) -> Option<OnInconclusive> {
    match text {
        "hold" => Some(OnInconclusive::Hold),
        "advance" => Some(OnInconclusive::Advance),
        "rollback" => Some(OnInconclusive::Rollback),
        _ => None,
    }
}
