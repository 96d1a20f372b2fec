//! A template's values, each with its place: values are moved and put together, and every part keeps the place of the
//! text that it came from.

use crate::mesh::document::Position;
use serde_json::Value;
use std::collections::BTreeMap;

/// A value and where it stood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tree {
    pub(super) at: Position,
    pub(super) node: Node,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Text, a number, a truth value or nothing.
    Scalar(Value),
    /// A list.
    List(Vec<Tree>),
    /// An object in the order of the file.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// A document as it was read.
    pub(super) fn new(value: Value, start: Position, places: &BTreeMap<String, Position>) -> Self {
        Self::at_path(value, start, "", places)
    }

    fn at_path(value: Value, around: Position, path: &str, places: &BTreeMap<String, Position>) -> Self {
        let at = places.get(path).copied().unwrap_or(around);
        let node = match value {
            Value::Array(items) => Node::List(
                items
                    .into_iter()
                    .enumerate()
                    .map(|(index, item)| Self::at_path(item, at, &format!("{path}[{index}]"), places))
                    .collect(),
            ),
            Value::Object(object) => Node::Map(
                object
                    .into_iter()
                    .map(|(name, value)| {
                        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                        let value = Self::at_path(value, at, &below, places);
                        (name, value)
                    })
                    .collect(),
            ),
            scalar => Node::Scalar(scalar),
        };
        Self { at, node }
    }

    /// Text that stands for something at `at`.
    pub(super) fn text(at: Position, text: impl Into<String>) -> Self {
        Self { at, node: Node::Scalar(Value::String(text.into())) }
    }

    /// Members, when it is an object.
    pub(super) fn members(&self) -> Option<&[(String, Self)]> {
        if let Node::Map(members) = &self.node { Some(members) } else { None }
    }

    /// The member of that name, whatever the case of its letters.
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        let mut members = self.members()?.iter();
        members.find(|(member, _)| member.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Items, when it is a list.
    pub(super) fn items(&self) -> Option<&[Self]> {
        if let Node::List(items) = &self.node { Some(items) } else { None }
    }

    /// Text, when it is text.
    pub(super) fn as_str(&self) -> Option<&str> {
        if let Node::Scalar(Value::String(text)) = &self.node { Some(text) } else { None }
    }

    /// A scalar as CloudFormation writes it into text.
    pub(super) fn as_text(&self) -> Option<String> {
        match &self.node {
            Node::Scalar(Value::String(text)) => Some(text.clone()),
            Node::Scalar(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match &self.node {
            Node::Scalar(Value::Null) => "nothing",
            Node::Scalar(Value::Bool(_)) => "true or false",
            Node::Scalar(Value::Number(_)) => "a number",
            Node::Scalar(_) => "a string",
            Node::List(_) => "a list",
            Node::Map(_) => "an object",
        }
    }

    /// Without places.
    pub(super) fn value(&self) -> Value {
        match &self.node {
            Node::Scalar(value) => value.clone(),
            Node::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Node::Map(members) => {
                Value::Object(members.iter().map(|(name, value)| (name.clone(), value.value())).collect())
            }
        }
    }
}
