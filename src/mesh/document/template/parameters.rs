//! `Parameters` of a template: what was given for them, else their defaults, held against what they allow.

use super::Settings;
use super::tree::{Node, Tree};
use crate::mesh::document::Position;
use crate::mesh::document::yaml::Mistake;
use std::collections::BTreeMap;

/// Largest compiled size of an `AllowedPattern`, in bytes; that of the API's own patterns.
const PATTERN_SIZE_MAX: usize = 256 * 1024;

/// What a parameter is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Given {
    /// This: text, or a list of texts.
    Value(Tree),
    /// Nothing, and it has no default.
    Missing,
    /// Something that it does not allow, which has been told.
    Wrong,
}

/// All parameters by name. One that is missing is told of where it is needed: a template's other resources may have
/// parameters that no mesh needs.
pub(super) fn read(
    section: Option<&Tree>,
    settings: &Settings,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<String, Given> {
    let mut all = BTreeMap::new();
    let Some(section) = section else { return all };
    let Some(members) = section.members() else {
        mistakes.push(Mistake::new(section.at, format!("Parameters: must be an object, not {}", section.type_name())));
        return all;
    };
    for (name, declared) in members {
        let given = match given(name, declared, settings) {
            Ok(given) => given,
            Err(message) => {
                mistakes.push(Mistake::new(declared.at, format!("Parameters.{name}: {message}")));
                Given::Wrong
            }
        };
        all.insert(name.clone(), given);
    }
    all
}

fn given(name: &str, declared: &Tree, settings: &Settings) -> Result<Given, String> {
    let kind = declared.member("Type").and_then(Tree::as_str).ok_or("Type: is required, for example String")?;
    let default = declared.member("Default");
    let (at, text) = match (settings.parameters.get(name), default) {
        (Some(text), _) => (declared.at, text.clone()),
        // The value of such a parameter is the name of another, in AWS.
        (None, _) if kind.starts_with("AWS::SSM::") => return Ok(Given::Missing),
        (None, Some(default)) => (default.at, default.as_text().ok_or("Default: must be text or a number")?),
        (None, None) => return Ok(Given::Missing),
    };
    let is_list = kind == "CommaDelimitedList" || kind.contains("List<");
    let values: Vec<&str> = if is_list { text.split(',').map(str::trim).collect() } else { vec![&text] };
    for value in &values {
        allowed(value, kind, declared)?;
    }
    let value = if is_list { list(at, &values) } else { Tree::text(at, text) };
    Ok(Given::Value(value))
}

fn list(at: Position, values: &[&str]) -> Tree {
    Tree { at, node: Node::List(values.iter().map(|value| Tree::text(at, *value)).collect()) }
}

/// Whether a parameter allows a value; the error says what it allows.
fn allowed(value: &str, kind: &str, declared: &Tree) -> Result<(), String> {
    let told: String = value.chars().take(100).collect();
    let number = |name: &str| declared.member(name).and_then(Tree::as_text).and_then(|text| text.parse::<f64>().ok());
    if kind == "Number" || kind == "List<Number>" {
        let read: f64 = value.parse().map_err(|_| format!("must be a number, not {told:?}"))?;
        if number("MinValue").is_some_and(|min| read < min) || number("MaxValue").is_some_and(|max| read > max) {
            return Err(format!("{told} is not between its MinValue and MaxValue"));
        }
    } else {
        // Lengths of text that a file may hold: exact as doubles.
        #[expect(clippy::cast_precision_loss, reason = "a text of 2^53 characters does not exist")]
        let length = value.chars().count() as f64;
        if number("MinLength").is_some_and(|min| length < min) || number("MaxLength").is_some_and(|max| length > max) {
            return Err(format!("{told:?} is shorter or longer than its MinLength and MaxLength allow"));
        }
    }
    if let Some(values) = declared.member("AllowedValues").and_then(Tree::items) {
        let values: Vec<String> = values.iter().filter_map(Tree::as_text).collect();
        if !values.iter().any(|allowed| allowed == value) {
            return Err(format!("must be one of {}, not {told:?}", values.join(", ")));
        }
    }
    if let Some(pattern) = declared.member("AllowedPattern").and_then(Tree::as_str) {
        let whole = format!("^(?:{pattern})$");
        let compiled = regex::RegexBuilder::new(&whole).size_limit(PATTERN_SIZE_MAX).build();
        let compiled = compiled.map_err(|_| "AllowedPattern: cannot be read; take it out".to_owned())?;
        if !compiled.is_match(value) {
            return Err(format!("{told:?} does not match its AllowedPattern {pattern}"));
        }
    }
    Ok(())
}
