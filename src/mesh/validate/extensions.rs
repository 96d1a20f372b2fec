//! Tags by which a route or a virtual node does more than App Mesh knows.

use crate::mesh::error::Violation;
use crate::mesh::model::Spec;
use crate::mesh::snapshot::NodeExtensions;
use crate::mesh::snapshot::extension::Flaw;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is wrong with those among `tags`. `list` is where they stand in the body.
pub(super) fn check(tags: &BTreeMap<String, String>, list: Option<&Value>, spec: &Spec) -> Vec<Violation> {
    let flaws = match (spec.route(), spec.virtual_node()) {
        (Some(route), _) => route.extensions(tags).1,
        (None, Some(_)) => NodeExtensions::of(tags).1,
        (None, None) => Vec::new(),
    };
    let at = |tag: &str| list?.as_array()?.iter().position(|entry| entry["key"] == tag);
    let violation = |flaw: Flaw| {
        let path = at(&flaw.tag).map_or("tags".into(), |at| format!("tags[{at}].value"));
        Violation { path, message: flaw.to_string() }
    };
    flaws.into_iter().map(violation).collect()
}
