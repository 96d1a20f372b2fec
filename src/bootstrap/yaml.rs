//! YAML, both ways, for bootstraps.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Number, Value};
use std::fmt::Write;

/// Widest indentation, in characters. The parser's recursion is as deep as the nesting, and nesting needs a column a
/// level; brackets are bounded by the parser itself.
const INDENT_MAX: usize = 256;
/// Deepest nesting; Envoy's own examples have about twenty levels.
const DEPTH_MAX: usize = 64;

/// One document as JSON. Aliases and tags are refused by what they are to the parser.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let nests = |c: &char| matches!(c, ' ' | '\t' | '-' | '?' | ':');
    if let Some(at) = text.lines().position(|line| line.chars().take_while(nests).count() > INDENT_MAX) {
        return Err(format!("line {} is indented by more than {INDENT_MAX} columns", at + 1));
    }
    let documents = Yaml::load_from_str(text).map_err(|error| {
        let at = error.marker();
        format!("not YAML: {} (line {}, column {})", error.info(), at.line(), at.col() + 1)
    })?;
    match &documents[..] {
        [] => Ok(Value::Null),
        [document] => convert(document, 0),
        _ => Err("it has several documents".to_owned()),
    }
}

fn convert(node: &Yaml<'_>, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err(format!("it is nested deeper than {DEPTH_MAX} levels"));
    }
    match node {
        Yaml::Value(Scalar::Null) => Ok(Value::Null),
        Yaml::Value(Scalar::Boolean(truth)) => Ok((*truth).into()),
        Yaml::Value(Scalar::Integer(number)) => Ok((*number).into()),
        Yaml::Value(Scalar::FloatingPoint(number)) => {
            let number = Number::from_f64(number.into_inner()).ok_or("a number that JSON does not have")?;
            Ok(Value::Number(number))
        }
        Yaml::Value(Scalar::String(text)) => Ok(text.as_ref().into()),
        Yaml::Sequence(items) => items.iter().map(|item| convert(item, depth + 1)).collect(),
        Yaml::Mapping(map) => {
            let mut object = Map::new();
            for (key, value) in map {
                let Yaml::Value(Scalar::String(key)) = key else { return Err("a key that is no text".to_owned()) };
                object.insert(key.as_ref().to_owned(), convert(value, depth + 1)?);
            }
            Ok(Value::Object(object))
        }
        _ => Err("an alias, a tag or a value that no bootstrap has".to_owned()),
    }
}

/// A value as a YAML document that reads back to it.
#[must_use]
pub fn emit(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => object(map, 0, &mut text),
        Value::Array(items) if !items.is_empty() => array(items, 0, &mut text),
        other => {
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
    text
}

fn object(map: &Map<String, Value>, indent: usize, text: &mut String) {
    for (at, (key, value)) in map.iter().enumerate() {
        // The first key of an item of a list stands behind its dash.
        let lead = if at == 0 && text.ends_with("- ") { 0 } else { indent };
        let _ = write!(text, "{:lead$}{}:", "", plain(key));
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                text.push('\n');
                object(inner, indent + 2, text);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                array(items, indent, text);
            }
            other => {
                let _ = writeln!(text, " {}", scalar(other));
            }
        }
    }
}

fn array(items: &[Value], indent: usize, text: &mut String) {
    for item in items {
        let _ = write!(text, "{:indent$}- ", "");
        match item {
            Value::Object(map) if !map.is_empty() => object(map, indent + 2, text),
            other => {
                let _ = writeln!(text, "{}", scalar(other));
            }
        }
    }
}

/// Lists within lists have their brackets: bootstraps have none.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// Text without quotes where no reader of YAML could take it for anything else, else as JSON has it.
fn plain(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    let other_meaning = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if is_word && !other_meaning.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    let json = Value::String(text.to_owned()).to_string();
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // JSON takes these as they are; YAML does not, or takes them for the end of a line.
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}
