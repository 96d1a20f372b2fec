//! How a plan looks: a line for each resource and, under an update, what changes in it.

use super::{Output, Planned, count, tell};
use crate::mesh::document::{Deed, Entry, Plan};
use crate::mesh::model::{Key, Resource};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Characters of a value that people are shown.
const VALUE_MAX: usize = 120;

/// One member that differs.
#[derive(Debug, PartialEq)]
struct Difference {
    /// `spec.httpRoute.match.prefix`.
    path: String,
    /// `None` when it was not there.
    old: Option<Value>,
    /// `None` when it goes.
    new: Option<Value>,
}

/// What the plan would do, for people or as one JSON object.
pub(super) fn plan(planned: &Planned, output: Output) {
    let Planned { state, plan, .. } = planned;
    let after: BTreeMap<&Key, &Resource> =
        plan.changes.iter().filter_map(|(key, resource)| Some((key, resource.as_deref()?))).collect();
    let differences = |entry: &Entry| match (state.get(&entry.key), after.get(&entry.key)) {
        (Some(old), Some(new)) => resource_differences(old, new),
        _ => Vec::new(),
    };
    if output.is_json() {
        let resources: Vec<Value> = plan.entries.iter().map(|entry| entry_json(entry, &differences(entry))).collect();
        let remarks: Vec<Value> = plan.remarks.iter().map(ToString::to_string).map(Value::from).collect();
        let changes = plan.changes.len();
        output.json(&json!({ "event": "plan", "changes": changes, "resources": resources, "remarks": remarks }));
        return;
    }
    let several = plan.entries.iter().map(|entry| &entry.key.mesh).collect::<BTreeSet<_>>().len() > 1;
    for entry in &plan.entries {
        output.line(&format!("{:<9} {}", word(entry.deed), name(&entry.key, several)));
        for difference in differences(entry) {
            output.line(&format!("            {}", difference_line(&difference)));
        }
        if let Some(kept) = &entry.kept {
            output.line(&format!("            weights stay {kept}"));
        }
    }
    tell(&plan.remarks, output);
    output.line(&summary(plan));
}

pub(super) const fn word(deed: Deed) -> &'static str {
    match deed {
        Deed::Created => "create",
        Deed::Updated => "update",
        Deed::Unchanged => "unchanged",
        Deed::Deleted => "delete",
    }
}

/// As people name it; with its mesh where there are several.
pub(super) fn name(key: &Key, several_meshes: bool) -> String {
    if several_meshes { format!("{} in mesh {}", key.describe(), key.mesh) } else { key.describe() }
}

fn summary(plan: &Plan) -> String {
    let of = |deed: Deed| plan.entries.iter().filter(|entry| entry.deed == deed).count();
    let unchanged = of(Deed::Unchanged);
    if plan.changes.is_empty() {
        return format!("nothing to change: {} as described", count(unchanged, "resource"));
    }
    let deleted = of(Deed::Deleted);
    let deleted = if deleted == 0 { String::new() } else { format!("{deleted} to delete, ") };
    format!("{} to create, {} to update, {deleted}{unchanged} unchanged", of(Deed::Created), of(Deed::Updated))
}

fn entry_json(entry: &Entry, differences: &[Difference]) -> Value {
    let mut object = json!({ "resource": entry.key.path(), "action": word(entry.deed) });
    if !differences.is_empty() {
        let changed =
            differences.iter().map(|Difference { path, old, new }| json!({ "path": path, "old": old, "new": new }));
        object["changed"] = changed.collect();
    }
    if let Some(kept) = &entry.kept {
        object["kept_weights"] = json!({ "now": kept.kept, "file": kept.said });
    }
    object
}

fn difference_line(difference: &Difference) -> String {
    let shown = |value: &Option<Value>| match value {
        None => "(none)".to_owned(),
        Some(value) => {
            let text = value.to_string();
            if text.chars().count() <= VALUE_MAX {
                text
            } else {
                text.chars().take(VALUE_MAX - 1).chain(['…']).collect()
            }
        }
    };
    format!("{}: {} -> {}", difference.path, shown(&difference.old), shown(&difference.new))
}

fn resource_differences(old: &Resource, new: &Resource) -> Vec<Difference> {
    let mut out = Vec::new();
    compare(Some(&old.raw), Some(&new.raw), "spec", &mut out);
    for (name, value) in &new.tags {
        let was = old.tags.get(name);
        if was != Some(value) {
            let (path, old) = (format!("tags.{name}"), was.map(|was| was.clone().into()));
            out.push(Difference { path, old, new: Some(value.clone().into()) });
        }
    }
    out
}

/// Walks both values as far as they have the same shape; deeper than a spec's shape they cannot be.
fn compare(old: Option<&Value>, new: Option<&Value>, path: &str, out: &mut Vec<Difference>) {
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|name| !old.contains_key(*name));
            for name in old.keys().chain(added) {
                compare(old.get(name), new.get(name), &format!("{path}.{name}"), out);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for at in 0..old.len().max(new.len()) {
                compare(old.get(at), new.get(at), &format!("{path}[{at}]"), out);
            }
        }
        // An endpoint may show an absent list as an empty one.
        (Some(Value::Array(items)), None) | (None, Some(Value::Array(items))) if items.is_empty() => {}
        (old, new) if old == new => {}
        (old, new) => out.push(Difference { path: path.to_owned(), old: old.cloned(), new: new.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_smallest_thing_that_differs() {
        let old = json!({ "a": { "b": 1, "c": [1, { "d": 2 }], "gone": true }, "same": [1], "empty": [] });
        let new = json!({ "same": [1], "a": { "c": [1, { "d": 3 }, "new"], "b": "1" } });
        let mut out = Vec::new();
        compare(Some(&old), Some(&new), "spec", &mut out);
        let lines: Vec<String> = out.iter().map(difference_line).collect();
        assert_eq!(
            lines,
            [
                "spec.a.b: 1 -> \"1\"",
                "spec.a.c[1].d: 2 -> 3",
                "spec.a.c[2]: (none) -> \"new\"",
                "spec.a.gone: true -> (none)"
            ]
        );
    }

    #[test]
    fn long_values_are_cut() {
        let long = Some(Value::String("é".repeat(1000)));
        let line = difference_line(&Difference { path: "p".into(), old: None, new: long });
        assert!(line.ends_with("é…") && line.chars().count() < 150, "{line}");
    }
}
