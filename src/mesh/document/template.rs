//! CloudFormation templates: the `AWS::AppMesh::*` resources of one, as documents.
//!
//! Pure. Parameters, mappings, conditions and functions are worked out here, once, from the text and [`Settings`]; nothing
//! is asked of AWS. Resources of other services are told of and left alone. What a mesh resource needs of one of them, or
//! of what only CloudFormation knows, is asked for as `--parameter NAME=VALUE`.
//!
//! `DependsOn` is read and means nothing, since documents describe an end and not an order.
//!
//! Whatever a template says, working it out ends: references are followed to a depth, and what they make is bounded.

mod casing;
mod conditions;
mod functions;
mod parameters;
mod references;
mod tree;

use super::recognise::meant;
use super::yaml::{Mistake, Placed};
use super::{Document, Position, Problem};
use crate::mesh::model::{Key, Kind};
use crate::mesh::validate::Names;
use casing::Spoken;
use parameters::Given;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tree::Tree;

/// What a template cannot say by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `--parameter NAME=VALUE`: parameters of the template, its pseudo parameters (`AWS::StackName`), attributes of
    /// resources that nothing here knows (`Service.Name`), and exports of other stacks.
    pub parameters: BTreeMap<String, String>,
    /// `AWS::Region`.
    pub region: String,
    /// `AWS::AccountId`, unless a parameter says otherwise.
    pub account: String,
}

impl Default for Settings {
    /// Those of local mode in its default region.
    fn default() -> Self {
        Self { parameters: BTreeMap::new(), region: "us-east-1".into(), account: "000000000000".into() }
    }
}

/// What a template came to.
pub(super) struct Expanded {
    pub(super) documents: Vec<Document>,
    /// What was left out.
    pub(super) remarks: Vec<Problem>,
    pub(super) mistakes: Vec<Mistake>,
    /// Names of [`Settings::parameters`] that mean something here, used or not.
    pub(super) known: BTreeSet<String>,
}

/// Prefix of the types that are App Mesh's.
const APP_MESH: &str = "AWS::AppMesh::";

/// Sections of a template (CloudFormation user guide, "Template sections").
const SECTIONS: [&str; 11] = [
    "AWSTemplateFormatVersion",
    "Conditions",
    "Description",
    "Hooks",
    "Mappings",
    "Metadata",
    "Outputs",
    "Parameters",
    "Resources",
    "Rules",
    "Transform",
];

/// Attributes of a resource that are no properties (CloudFormation user guide, "Resource attributes").
const ATTRIBUTES: [&str; 9] = [
    "Type",
    "Properties",
    "Condition",
    "DependsOn",
    "Metadata",
    "CreationPolicy",
    "DeletionPolicy",
    "UpdatePolicy",
    "UpdateReplacePolicy",
];

/// Mistakes that are noted. Nobody reads as many, and a hostile file could make them by the million.
const MISTAKES_MAX: usize = 1_000;

/// Something was wrong, and stands among the mistakes.
pub(super) struct Refused;

/// Whether a document is a template.
pub(super) fn is_one(value: &serde_json::Value) -> bool {
    value.get("Resources").is_some() || value.get("AWSTemplateFormatVersion").is_some()
}

/// Works a template out.
pub(super) fn expand(file: &Arc<str>, placed: Placed, settings: &Settings) -> Expanded {
    let start = placed.start;
    let root = Tree::new(placed.value, start, &placed.places);
    let mut mistakes = Vec::new();
    for (name, value) in root.members().unwrap_or_default() {
        if !SECTIONS.contains(&name.as_str()) {
            let message = format!("{name}: is not a section of a CloudFormation template{}", meant(name, &SECTIONS));
            mistakes.push(Mistake::new(value.at, message));
        }
    }
    let parameters = parameters::read(root.member("Parameters"), settings, &mut mistakes);
    let resources = resources(&root, start, &mut mistakes);
    let mut expander = Expander {
        file: file.as_ref(),
        settings,
        parameters,
        mappings: root.member("Mappings"),
        conditions: root.member("Conditions"),
        resources: resources.iter().map(|resource| (resource.id, resource)).collect(),
        verdicts: BTreeMap::new(),
        keys: BTreeMap::new(),
        known: BTreeSet::new(),
        mistakes,
        depth: 0,
        made: 0,
    };
    let mut documents = Vec::new();
    let mut remarks = Vec::new();
    for resource in &resources {
        match expander.document(file, resource) {
            Ok(Fate::Document(document)) => documents.push(*document),
            Ok(Fate::Skipped(why)) => remarks.push(Problem {
                file: file.to_string(),
                position: Some(resource.at),
                message: format!("{} ({}): skipped, {why}", resource.id, resource.kind_text),
            }),
            // Told among the mistakes.
            Err(Refused) => {}
        }
    }
    if let Some(transform) = root.member("Transform") {
        let message = "Transform: is not applied; what it would make is not here".to_owned();
        remarks.push(Problem { file: file.to_string(), position: Some(transform.at), message });
    }
    let mut known = expander.known;
    known.extend(expander.parameters.into_keys());
    // An attribute that was given for a resource of this template is meant for it, needed or not.
    let ids: BTreeSet<&str> = resources.iter().map(|resource| resource.id).collect();
    let of_resource = |name: &&String| {
        ids.contains(name.split('.').next().unwrap_or_default()) || references::PSEUDO.contains(&name.as_str())
    };
    known.extend(settings.parameters.keys().filter(of_resource).cloned());
    let mut mistakes = expander.mistakes;
    mistakes.sort_by(|a, b| (a.position, &a.message).cmp(&(b.position, &b.message)));
    mistakes.dedup();
    Expanded { documents, remarks, mistakes, known }
}

/// A resource of the template.
struct Declared<'t> {
    id: &'t str,
    at: Position,
    /// `AWS::AppMesh::Route`.
    kind_text: &'t str,
    /// What it is in the API; `None` for those of other services.
    kind: Option<Kind>,
    condition: Option<&'t Tree>,
    properties: Option<&'t Tree>,
}

/// What becomes of a resource.
enum Fate {
    Document(Box<Document>),
    /// It has no part in the mesh: why.
    Skipped(String),
}

fn resources<'t>(root: &'t Tree, start: Position, mistakes: &mut Vec<Mistake>) -> Vec<Declared<'t>> {
    let Some(section) = root.member("Resources") else {
        mistakes.push(Mistake::new(start, "Resources: is required in a CloudFormation template"));
        return Vec::new();
    };
    let Some(members) = section.members() else {
        mistakes.push(Mistake::new(section.at, format!("Resources: must be an object, not {}", section.type_name())));
        return Vec::new();
    };
    let mut found = Vec::new();
    for (id, tree) in members {
        let Some(kind_text) = tree.member("Type").and_then(Tree::as_str) else {
            mistakes.push(Mistake::new(tree.at, format!("Resources.{id}.Type: is required")));
            continue;
        };
        let kind = kind_text.strip_prefix(APP_MESH).map(|title| {
            let kind = Kind::ALL.into_iter().find(|kind| kind.title() == title);
            if kind.is_none() {
                let known = Kind::ALL.map(Kind::title);
                let message = format!("Resources.{id}.Type: there is no {kind_text}{}", meant(title, &known));
                mistakes.push(Mistake::new(tree.at, message));
            }
            kind
        });
        if kind == Some(None) {
            continue;
        }
        if kind.is_some() {
            for (name, value) in tree.members().unwrap_or_default() {
                if !ATTRIBUTES.contains(&name.as_str()) {
                    let meant = meant(name, &ATTRIBUTES);
                    let message = format!("Resources.{id}.{name}: is not known in a resource{meant}");
                    mistakes.push(Mistake::new(value.at, message));
                }
            }
        }
        found.push(Declared {
            id,
            at: tree.at,
            kind_text,
            kind: kind.flatten(),
            condition: tree.member("Condition"),
            properties: tree.member("Properties"),
        });
    }
    found
}

/// What is known while one is worked out.
enum Work<T> {
    /// It is being worked out: whoever needs it now goes round in a circle.
    UnderWay,
    /// It came to this; `None` when it is wrong, which has been told.
    Done(Option<T>),
}

/// Works the values of one template out.
struct Expander<'t> {
    file: &'t str,
    settings: &'t Settings,
    parameters: BTreeMap<String, Given>,
    mappings: Option<&'t Tree>,
    conditions: Option<&'t Tree>,
    resources: BTreeMap<&'t str, &'t Declared<'t>>,
    /// Conditions by name.
    verdicts: BTreeMap<String, Work<bool>>,
    /// Names of the mesh's resources by logical id.
    keys: BTreeMap<String, Work<Key>>,
    known: BTreeSet<String>,
    mistakes: Vec<Mistake>,
    /// How far references and nesting are followed just now.
    depth: usize,
    /// Bytes that were made so far.
    made: usize,
}

impl<'t> Expander<'t> {
    /// Notes a mistake.
    fn wrong<T>(&mut self, at: Position, message: impl Into<String>) -> Result<T, Refused> {
        if self.mistakes.len() < MISTAKES_MAX {
            self.mistakes.push(Mistake::new(at, message));
        }
        Err(Refused)
    }

    fn document(&mut self, file: &Arc<str>, resource: &'t Declared<'t>) -> Result<Fate, Refused> {
        let Some(kind) = resource.kind else { return Ok(Fate::Skipped("not a resource of App Mesh".into())) };
        if let Some(condition) = resource.condition {
            let Some(name) = condition.as_str() else {
                return self.wrong(condition.at, "Condition: must be the name of a condition");
            };
            if !self.condition_named(name, condition.at)? {
                return Ok(Fate::Skipped(format!("its condition {name} is false")));
            }
        }
        let known = [
            Some("MeshName".to_owned()),
            Some("MeshOwner".to_owned()),
            kind.parent().map(|parent| format!("{}Name", parent.title())),
            Some(format!("{}Name", kind.title())),
            Some("Spec".to_owned()),
            Some("Tags".to_owned()),
        ];
        let known: Vec<&str> = known.iter().flatten().map(String::as_str).collect();
        let properties = resource.properties.and_then(Tree::members).unwrap_or_default();
        for (name, value) in properties {
            if !known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                let message = format!("{name}: is not a property of {}{}", resource.kind_text, meant(name, &known));
                // The rest is looked at all the same.
                self.mistakes.push(Mistake::new(value.at, message));
            }
        }
        let key = self.key_of(resource.id, resource.at);
        let spec = self.property(resource, "Spec");
        let tags = self.property(resource, "Tags");
        let (key, spec, tags) = (key?, spec?, tags?);
        let mut places = self.name_places(resource, kind);
        let mut mistakes = Vec::new();
        let mut spoken = Spoken { places: &mut places, mistakes: &mut mistakes };
        let spec = spec.map(|spec| spoken.value(&spec, Names::of_spec(kind), "spec"));
        let tags = tags.map(|tags| spoken.value(&tags, Names::of_tags(), "tags"));
        self.mistakes.append(&mut mistakes);
        let remarks = Vec::new();
        let (file, start) = (Arc::clone(file), resource.at);
        Ok(Fate::Document(Box::new(Document { file, start, key, spec, tags, places, remarks })))
    }

    /// A property, worked out; `None` when there is none.
    fn property(&mut self, resource: &'t Declared<'t>, name: &str) -> Result<Option<Tree>, Refused> {
        match resource.properties.and_then(|properties| properties.member(name)) {
            Some(tree) => self.value(tree),
            None => Ok(None),
        }
    }

    /// Where the names of a resource stand, by their members of the API.
    fn name_places(&self, resource: &Declared<'_>, kind: Kind) -> BTreeMap<String, Position> {
        let kinds = [Some(Kind::Mesh), kind.parent(), Some(kind)];
        let place = |member: &str| resource.properties.and_then(|all| all.member(member)).map(|tree| tree.at);
        let placed = kinds.into_iter().flatten().filter_map(|kind| {
            let member = kind.name_member();
            Some((member.to_owned(), place(member)?))
        });
        placed.collect()
    }
}

#[cfg(test)]
mod tests;
