//! Tells what a document describes by its members: `aws appmesh create-* --cli-input-json` inputs and `describe-*`
//! outputs, the latter with or without their wrapper.

use super::yaml::{Mistake, Placed};
use super::{Document, Position};
use crate::mesh::model::{Key, Kind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Kinds by how telling their name's member is: a route also names its router, and everything names its mesh.
const BY_NAME: [Kind; 7] = [
    Kind::Route,
    Kind::GatewayRoute,
    Kind::VirtualNode,
    Kind::VirtualRouter,
    Kind::VirtualService,
    Kind::VirtualGateway,
    Kind::Mesh,
];

/// What describe outputs add and a client may say, but a resource does not keep.
const DROPPED: [&str; 4] = ["metadata", "status", "clientToken", "meshOwner"];

/// Longest member, in characters, that is compared with known ones.
const LIKENESS_MAX: usize = 40;

/// Recognises one document.
pub(super) fn document(file: &Arc<str>, placed: Placed) -> Result<Document, Vec<Mistake>> {
    let start = placed.start;
    let wrong = |message: &str| vec![Mistake::new(start, message)];
    if let Some((at, tag)) = placed.tags.first() {
        return Err(vec![Mistake::new(
            *at,
            format!("the YAML tag {tag} has no meaning outside a CloudFormation template"),
        )]);
    }
    let Value::Object(object) = placed.value else {
        return Err(wrong("a document must be an object that describes one App Mesh resource"));
    };
    let (object, places) = unwrap(object, placed.places);
    let Some(kind) = BY_NAME.into_iter().find(|kind| object.contains_key(kind.name_member())) else {
        return Err(vec![no_resource(&object, &places, start)]);
    };
    let mut mistakes = Vec::new();
    let place = |name: &str| places.get(name).copied().unwrap_or(start);
    let mut name = |member: &str| match object.get(member) {
        Some(Value::String(name)) => name.clone(),
        Some(_) => {
            mistakes.push(Mistake::new(place(member), format!("{member}: must be a string")));
            String::new()
        }
        None => {
            mistakes.push(Mistake::new(start, format!("{member}: is required for a {kind}")));
            String::new()
        }
    };
    let key = Key {
        mesh: name(Kind::Mesh.name_member()),
        kind,
        parent: kind.parent().map(|parent| name(parent.name_member())).unwrap_or_default(),
        name: if kind == Kind::Mesh { name_of(&object, kind) } else { name(kind.name_member()) },
    };
    let mut known = vec![Kind::Mesh.name_member(), kind.name_member(), "spec", "tags"];
    known.extend(kind.parent().map(Kind::name_member));
    for member in object.keys().filter(|member| !known.contains(&&***member) && !DROPPED.contains(&&***member)) {
        let meant = meant(member, &known);
        let message = format!("{member}: is not known in a document of a {kind}{meant}");
        mistakes.push(Mistake::new(place(member), message));
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let member = |name: &str| object.get(name).filter(|value| !value.is_null()).cloned();
    let (spec, tags) = (member("spec"), member("tags"));
    Ok(Document { file: Arc::clone(file), start, key, spec, tags, places, remarks: Vec::new() })
}

/// Says what is missing, or where a name's member is written wrongly.
fn no_resource(object: &Map<String, Value>, places: &BTreeMap<String, Position>, start: Position) -> Mistake {
    let known = BY_NAME.map(Kind::name_member);
    let mistyped = object.keys().map(|member| (member, meant(member, &known))).find(|(_, meant)| !meant.is_empty());
    if let Some((member, meant)) = mistyped {
        let place = places.get(member).copied().unwrap_or(start);
        return Mistake::new(place, format!("{member}: is not known in an App Mesh resource{meant}"));
    }
    Mistake::new(
        start,
        "is not an App Mesh resource: no meshName, virtualNodeName, virtualRouterName, routeName, virtualServiceName, \
         virtualGatewayName or gatewayRouteName",
    )
}

/// `; did you mean spec?`, or nothing when no known name is a slip or two away. Other measures of likeness would take
/// `route` for `routeName`.
pub(super) fn meant(member: &str, known: &[&str]) -> String {
    let length = member.chars().count();
    // Far longer than any known name: the distance would only cost time and memory.
    if length > LIKENESS_MAX {
        return String::new();
    }
    let (member, slips) = (member.to_lowercase(), (length / 4).clamp(1, 2));
    let distances = known.iter().map(|known| (strsim::damerau_levenshtein(&member, &known.to_lowercase()), known));
    let nearest = distances.filter(|(distance, _)| *distance <= slips).min_by_key(|(distance, _)| *distance);
    nearest.map(|(_, near)| format!("; did you mean {near}?")).unwrap_or_default()
}

fn name_of(object: &Map<String, Value>, kind: Kind) -> String {
    object.get(kind.name_member()).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The CLI shows what it describes as `{"route": {…}}`; the resource is inside.
fn unwrap(
    mut object: Map<String, Value>,
    places: BTreeMap<String, Position>,
) -> (Map<String, Value>, BTreeMap<String, Position>) {
    let wrapper = Kind::ALL.into_iter().map(Kind::word).find(|word| object.len() == 1 && object.contains_key(*word));
    let Some(word) = wrapper else { return (object, places) };
    match object.remove(word) {
        Some(Value::Object(inner)) => {
            let prefix = format!("{word}.");
            let inside = places.into_iter().filter_map(|(path, at)| Some((path.strip_prefix(&prefix)?.to_owned(), at)));
            (inner, inside.collect())
        }
        other => {
            object.extend(other.map(|value| (word.to_owned(), value)));
            (object, places)
        }
    }
}
