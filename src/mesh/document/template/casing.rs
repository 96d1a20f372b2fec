//! From CloudFormation's way of writing a spec to the API's: the names of members, and text where the API wants a number.

use super::tree::{Node, Tree};
use crate::mesh::document::Position;
use crate::mesh::document::yaml::Mistake;
use crate::mesh::validate::{Names, Wants};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A part of a resource in the API's words, with the places of its members.
pub(super) struct Spoken<'a> {
    pub(super) places: &'a mut BTreeMap<String, Position>,
    pub(super) mistakes: &'a mut Vec<Mistake>,
}

impl Spoken<'_> {
    /// The value as the API has it; `path` is where it stands in the resource.
    pub(super) fn value(&mut self, tree: &Tree, names: Names, path: &str) -> Value {
        self.places.insert(path.to_owned(), tree.at);
        match &tree.node {
            Node::Scalar(value) => scalar(value, names.wants()),
            Node::List(items) => {
                let items = items.iter().enumerate();
                items.map(|(at, item)| self.value(item, names.item(), &format!("{path}[{at}]"))).collect()
            }
            Node::Map(members) => {
                let mut object = Map::new();
                for (name, value) in members {
                    // What the API does not know keeps its name, and is refused under it.
                    let (name, names) = names.member(name).unwrap_or((name, Names::unknown()));
                    let below = format!("{path}.{name}");
                    if object.contains_key(name) {
                        self.mistakes.push(Mistake::new(value.at, format!("{below}: is given twice")));
                    }
                    let spoken = self.value(value, names, &below);
                    object.insert(name.to_owned(), spoken);
                }
                Value::Object(object)
            }
        }
    }
}

/// CloudFormation takes text for a number and a number for text, and parameters are text. What cannot be read stays as it
/// is, and is refused with its place.
fn scalar(value: &Value, wants: Wants) -> Value {
    match (value, wants) {
        (Value::String(text), Wants::Number) => text.trim().parse::<i64>().map_or_else(|_| value.clone(), Value::from),
        (Value::String(text), Wants::Bool) => match text.to_lowercase().as_str() {
            "true" => true.into(),
            "false" => false.into(),
            _ => value.clone(),
        },
        (Value::Number(_) | Value::Bool(_), Wants::Text) => value.to_string().into(),
        _ => value.clone(),
    }
}
