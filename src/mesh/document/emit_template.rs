//! Writes a mesh as one CloudFormation template, which [`super::parse_all`] reads back to the same mesh and which AWS takes.
//!
//! CloudFormation makes resources side by side unless one refers to another, and App Mesh refuses what it does not find. So
//! a mesh and a parent are named by `Fn::GetAtt`, and everything else that has to be there first stands in `DependsOn`.

use crate::mesh::model::spec::Spec;
use crate::mesh::model::{Key, Kind, MeshState, Resource};
use crate::mesh::ops;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Members that CloudFormation writes with more capitals than their first letter (CloudFormation reference, AWS::AppMesh).
const ACRONYMS: [(&str, &str); 9] = [
    ("dns", "DNS"),
    ("awsCloudMap", "AWSCloudMap"),
    ("tls", "TLS"),
    ("acm", "ACM"),
    ("sds", "SDS"),
    ("http", "HTTP"),
    ("http2", "HTTP2"),
    ("grpc", "GRPC"),
    ("tcp", "TCP"),
];

/// Longest logical id (CloudFormation user guide, "Resources"), less what keeps two of them apart.
const ID_MAX: usize = 245;

/// The template of all resources of a state.
#[must_use]
pub fn template(state: &MeshState) -> Value {
    let ids = ids(state);
    let mut resources = Map::new();
    for resource in state.iter() {
        if let Some(id) = ids.get(&resource.key) {
            resources.insert(id.clone(), declared(state, resource, &ids));
        }
    }
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Written by tidegate mesh export",
        "Resources": resources,
    })
}

/// A logical id for each resource: its name's letters and digits after its kind, with a number where two are alike.
fn ids(state: &MeshState) -> BTreeMap<Key, String> {
    let mut taken = BTreeSet::new();
    // The number that was given last, by what is alike.
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut ids = BTreeMap::new();
    for resource in state.iter() {
        let key = &resource.key;
        let words = [key.kind.title(), &key.parent, &key.name];
        let alike: String = words.iter().flat_map(|word| capitalised(word)).take(ID_MAX).collect();
        let mut id = alike.clone();
        // Each taken id rules out one number, and each number is tried once.
        while !taken.insert(id.clone()) {
            let number = numbers.entry(alike.clone()).or_insert(1);
            *number += 1;
            id = format!("{alike}N{number}");
        }
        ids.insert(key.clone(), id);
    }
    ids
}

/// The ASCII letters and digits of a name, each word with a capital.
fn capitalised(name: &str) -> Vec<char> {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let capitals =
        words.flat_map(|word| word.chars().enumerate().map(|(at, c)| if at == 0 { c.to_ascii_uppercase() } else { c }));
    capitals.collect()
}

fn declared(state: &MeshState, resource: &Resource, ids: &BTreeMap<Key, String>) -> Value {
    let key = &resource.key;
    let own = format!("{}Name", key.kind.title());
    let mut properties = Map::new();
    properties.insert(own, key.name.clone().into());
    if key.kind != Kind::Mesh {
        properties.insert("MeshName".into(), named(&Key::mesh(&*key.mesh), ids));
    }
    if let (Some(parent), Some(owner)) = (key.kind.parent(), key.owner()) {
        properties.insert(format!("{}Name", parent.title()), named(&owner, ids));
    }
    properties.insert("Spec".into(), pascal(&resource.raw));
    if !resource.tags.is_empty() {
        let tags = resource.tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
        properties.insert("Tags".into(), tags);
    }
    let mut declared = Map::new();
    declared.insert("Type".into(), format!("AWS::AppMesh::{}", key.kind.title()).into());
    let before: Vec<&String> =
        needed(resource).iter().filter(|key| state.get(key).is_some()).filter_map(|key| ids.get(key)).collect();
    if !before.is_empty() {
        declared.insert("DependsOn".into(), json!(before));
    }
    declared.insert("Properties".into(), properties.into());
    Value::Object(declared)
}

/// The name of a resource by reference, so that it is made first; the name itself where it is not in the template.
fn named(key: &Key, ids: &BTreeMap<Key, String>) -> Value {
    match ids.get(key) {
        Some(id) => json!({ "Fn::GetAtt": [id, format!("{}Name", key.kind.title())] }),
        None => key.name.clone().into(),
    }
}

/// What App Mesh looks for when a resource is made, beside what it is in.
fn needed(resource: &Resource) -> BTreeSet<Key> {
    let mesh = &*resource.key.mesh;
    match &resource.spec {
        Spec::Route(route) => {
            route.targets().iter().map(|target| Key::child(mesh, Kind::VirtualNode, &*target.virtual_node)).collect()
        }
        Spec::VirtualService(service) => ops::provider(&resource.key, service).into_iter().collect(),
        Spec::GatewayRoute(route) => route
            .target()
            .map(|target| Key::child(mesh, Kind::VirtualService, &*target.virtual_service.virtual_service_name))
            .into_iter()
            .collect(),
        Spec::Mesh(_) | Spec::VirtualNode(_) | Spec::VirtualRouter(_) | Spec::VirtualGateway(_) => BTreeSet::new(),
    }
}

/// As deep as a spec's shape.
fn pascal(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            Value::Object(object.iter().map(|(name, value)| (pascal_name(name), pascal(value))).collect())
        }
        Value::Array(items) => items.iter().map(pascal).collect(),
        other => other.clone(),
    }
}

fn pascal_name(name: &str) -> String {
    if let Some((_, acronym)) = ACRONYMS.iter().find(|(member, _)| *member == name) {
        return (*acronym).to_owned();
    }
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
