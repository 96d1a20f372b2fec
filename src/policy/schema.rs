//! JSON Schema (draft 2020-12) of a policy file, for completion and checks in editors.
//!
//! A reading of the same table that the check in `source` reads, so that the two cannot differ in a key, a word or a
//! pattern. It says less than `compile`: rules between keys are not in it. Keys that this version refuses are in it
//! with a remark, as in the file.

use super::keys::FILE;
use super::table::{Built, Field, MAX_SCOPES, Record, Shape};
use serde_json::{Map, Value, json};

#[cfg(test)]
mod tests;

/// Patterns of the units, once for editors; a test compares them with `units`.
const DURATION: &str = "^[0-9]+(ms|s|m|h)$";
const SHARE: &str = r"^[0-9]+(\.[0-9]+)?%$";
const DIFFERENCE: &str = r"^[0-9]+(\.[0-9]+)?pp$";

/// The schema of the whole file.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = record(&FILE);
    let mut whole = Map::new();
    whole.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    whole.insert("title".to_owned(), json!("Tidegate policy"));
    whole.insert("description".to_owned(), json!("How a release goes out over one App Mesh route."));
    if let Some(object) = schema.as_object_mut() {
        whole.append(object);
    }
    Value::Object(whole)
}

fn record(record: &Record) -> Value {
    let properties: Map<String, Value> =
        record.fields.iter().map(|described| (described.key.to_owned(), field(described))).collect();
    let required: Vec<&str> = record.fields.iter().filter(|field| field.required).map(|field| field.key).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !record.one_of.is_empty() {
        schema["oneOf"] = record.one_of.iter().map(|key| json!({ "required": [key] })).collect();
    }
    schema
}

fn field(field: &Field) -> Value {
    let mut schema = shape(&field.shape);
    schema["description"] = json!(remark(field.says, field.built));
    if let Some(default) = field.default {
        schema["default"] = scalar(default);
    }
    schema
}

fn remark(says: &str, built: Built) -> String {
    match built {
        Built::Yes => says.to_owned(),
        Built::NotYet(meanwhile) => format!("{says} Not in this version: {meanwhile}."),
    }
}

fn shape(shape: &Shape) -> Value {
    match shape {
        Shape::Text(rule) => json!({ "type": "string", "pattern": rule.pattern }),
        Shape::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Duration => json!({ "type": "string", "pattern": DURATION, "examples": ["250ms", "90s", "5m", "1h"] }),
        Shape::Share => json!({ "type": "string", "pattern": SHARE, "examples": ["0.1%"] }),
        Shape::Difference => json!({ "type": "string", "pattern": DIFFERENCE, "examples": ["0.1pp"] }),
        Shape::Ratio => json!({ "type": "number", "minimum": 0 }),
        Shape::Amount => json!({ "anyOf": [
            { "type": "number", "minimum": 0 },
            { "type": "string", "pattern": DURATION },
            { "type": "string", "pattern": SHARE },
        ]}),
        Shape::Excess => json!({ "anyOf": [
            { "type": "number", "minimum": 0 },
            { "type": "string", "pattern": DURATION },
            { "type": "string", "pattern": DIFFERENCE },
        ]}),
        Shape::Word(words) => json!({ "enum": words.iter().map(|word| word.word).collect::<Vec<_>>() }),
        Shape::Scopes(words) => {
            let words = self::shape(&Shape::Word(words));
            let one = [words, json!({ "type": "integer", "minimum": 1, "maximum": 100 })];
            let list = json!({ "type": "array", "items": { "anyOf": one }, "minItems": 1, "maxItems": MAX_SCOPES });
            json!({ "anyOf": [one[0], one[1], list] })
        }
        Shape::List { of, min, max } => {
            json!({ "type": "array", "items": self::shape(of), "minItems": min, "maxItems": max })
        }
        Shape::Record(inner) => record(inner),
        Shape::Dictionary(of) => json!({ "type": "object", "additionalProperties": self::shape(of) }),
        Shape::Short { scalar, record: long, .. } => json!({ "anyOf": [self::shape(scalar), record(long)] }),
    }
}

/// A default as JSON: numbers and truth values as themselves, all else as text.
fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => json!(text),
    }
}
