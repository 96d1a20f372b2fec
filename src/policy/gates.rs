//! The gates of a plan: what is judged, and how.

use super::compile::{difference, read};
use super::keys::{GATE, TOLERATE};
use super::plan::{Gate, GateRule, Step};
use super::problem::Report;
use super::steps::weights;
use super::tree::{Node, Value};
use super::units;
use crate::base::weight::Percent;
use std::collections::BTreeMap;

/// Largest tolerated multiple of stable's rate: beyond it a gate would pass anything.
const LARGEST_RATIO: f64 = 1000.0;

pub(super) fn gates(root: &Node, steps: &[Step], report: &mut Report<'_>) -> Vec<Gate> {
    let compared = weights(steps).find(|step| step.weight != Percent::FULL);
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
