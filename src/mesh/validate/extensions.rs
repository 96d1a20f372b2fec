//! Tags by which a route does more than App Mesh knows.

use crate::mesh::error::Violation;
use crate::mesh::model::spec::RouteSpec;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is wrong with those among `tags`. `list` is where they stand in the body.
pub(super) fn check(tags: &BTreeMap<String, String>, list: Option<&Value>, route: &RouteSpec) -> Vec<Violation> {
    let (_, flaws) = route.extensions(tags);
    let at = |tag: &str| list?.as_array()?.iter().position(|entry| entry["key"] == tag);
    let violation = |flaw: crate::mesh::snapshot::extension::Flaw| {
        let path = at(&flaw.tag).map_or("tags".into(), |at| format!("tags[{at}].value"));
        Violation { path, message: flaw.to_string() }
    };
    flaws.into_iter().map(violation).collect()
}
