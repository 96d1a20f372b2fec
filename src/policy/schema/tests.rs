//! The schema against the check, the documentation and the examples.

use super::super::keys::{FILE, NAME};
use super::super::table::{Field, Record, Shape, TextRule};
use super::super::tests::{EVERYTHING, EXAMPLES, HEAD, with};
use super::super::units::{self, UnitError};
use super::{DIFFERENCE, DURATION, SHARE, json_schema};
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;

fn visit(record: &'static Record, path: &str, see: &mut impl FnMut(String, &'static Field)) {
    for field in record.fields {
        let path = if path.is_empty() { field.key.to_owned() } else { format!("{path}.{}", field.key) };
        inner(&field.shape, &path, see);
        see(path, field);
    }
}

fn inner(shape: &'static Shape, path: &str, see: &mut impl FnMut(String, &'static Field)) {
    match shape {
        Shape::Record(record) | Shape::Short { record, .. } => visit(record, path, see),
        Shape::List { of, .. } | Shape::Dictionary(of) => inner(of, path, see),
        _ => {}
    }
}

fn schema_keys(schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        assert!(property["description"].as_str().is_some_and(|says| says.ends_with('.')), "{path} has no description");
        schema_keys(property, &path, keys);
        keys.insert(path);
    }
    for alternative in schema["anyOf"].as_array().into_iter().flatten() {
        schema_keys(alternative, path, keys);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            schema_keys(&schema[inner], path, keys);
        }
    }
}

#[test]
fn schema_check_and_documentation_know_the_same_keys() {
    let mut known = BTreeSet::new();
    visit(&FILE, "", &mut |path, _| assert!(known.insert(path)));
    let mut described = BTreeSet::new();
    schema_keys(&json_schema(), "", &mut described);
    assert_eq!(known, described);
    let document = include_str!("../../../docs/POLICY.md");
    visit(&FILE, "", &mut |path, field| {
        assert!(document.contains(&format!("`{}`", field.key)), "docs/POLICY.md does not name `{path}`");
        let row = |line: &&str| line.starts_with(&format!("| `{}` ", field.key));
        if let Some(default) = field.default {
            let told = document.lines().filter(row).any(|line| line.contains(&format!("`{default}`")));
            assert!(told, "docs/POLICY.md does not say that `{path}` is {default} by default");
        }
    });
}

#[test]
fn defaults_and_examples_of_the_table_are_of_their_own_shape() {
    visit(&FILE, "", &mut |path, field| {
        for text in field.default.into_iter().chain([field.example]) {
            let value = json(text);
            let schema = property(&json_schema(), &path);
            assert_eq!(conforms(&schema, &value), Ok(()), "{path}: {text}");
        }
    });
}

/// Schema of a key by its path.
fn property(schema: &Value, path: &str) -> Value {
    path.split('.').fold(schema.clone(), |schema, key| {
        let mut at = &schema;
        loop {
            if at["properties"][key].is_object() {
                return at["properties"][key].clone();
            }
            at = match ["items", "additionalProperties"].into_iter().find(|inner| at[inner].is_object()) {
                Some(inner) => &at[inner],
                None => &at["anyOf"][1],
            };
            assert!(at.is_object(), "{path}");
        }
    })
}

#[test]
fn examples_conform_to_the_schema() {
    let schema = json_schema();
    for (file, text) in EXAMPLES.into_iter().chain([("everything", EVERYTHING)]) {
        assert_eq!(conforms(&schema, &json(text)), Ok(()), "{file}");
    }
    for (text, at) in [
        (with("gate: []\n"), "gate"),
        (with("max_total: 10\n"), "max_total"),
        (with("steps: [0, 100]\n"), "steps"),
        (with("gates: [{ metric: error_rate }]\n"), "gates"),
        (HEAD.to_owned(), "steps"),
    ] {
        let refused = conforms(&schema, &json(&text)).unwrap_err();
        assert!(refused.contains(at), "{refused}");
    }
}

/// A file as the JSON that an editor's validator sees.
fn json(text: &str) -> Value {
    use saphyr::{LoadableYamlNode, Scalar, Yaml};
    fn convert(node: &Yaml<'_>) -> Value {
        match node {
            Yaml::Value(Scalar::Null) => Value::Null,
            Yaml::Value(Scalar::Boolean(value)) => json!(value),
            Yaml::Value(Scalar::Integer(value)) => json!(value),
            Yaml::Value(Scalar::FloatingPoint(value)) => json!(value.into_inner()),
            Yaml::Value(Scalar::String(value)) => json!(value),
            Yaml::Sequence(list) => list.iter().map(convert).collect(),
            Yaml::Mapping(map) => {
                map.iter().map(|(key, value)| (key.as_str().unwrap().to_owned(), convert(value))).collect()
            }
            other => panic!("{other:?}"),
        }
    }
    convert(&Yaml::load_from_str(text).unwrap()[0])
}

/// The part of JSON Schema that ours uses, so that the schema is read by something other than its writer.
fn conforms(schema: &Value, value: &Value) -> Result<(), String> {
    for (keyword, rule) in schema.as_object().unwrap() {
        let fine = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "examples" => true,
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_u64(),
                "number" => value.is_number(),
                other => panic!("{other}"),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "pattern" => value.as_str().is_none_or(|text| Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)),
            "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
            "minItems" => value.as_array().is_none_or(|list| list.len() as u64 >= rule.as_u64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|list| list.len() as u64 <= rule.as_u64().unwrap()),
            "anyOf" => rule.as_array().unwrap().iter().any(|schema| conforms(schema, value).is_ok()),
            "oneOf" => rule.as_array().unwrap().iter().filter(|schema| conforms(schema, value).is_ok()).count() == 1,
            "required" => rule.as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some()),
            "properties" => {
                for (key, schema) in rule.as_object().unwrap() {
                    if let Some(inner) = value.get(key) {
                        conforms(schema, inner).map_err(|error| format!("{key}: {error}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    match rule {
                        Value::Bool(false) if schema["properties"][key].is_null() => {
                            return Err(format!("unknown {key}"));
                        }
                        Value::Bool(_) => {}
                        schema => conforms(schema, inner).map_err(|error| format!("{key}: {error}"))?,
                    }
                }
                true
            }
            "items" => {
                for inner in value.as_array().into_iter().flatten() {
                    conforms(rule, inner)?;
                }
                true
            }
            other => panic!("unexpected keyword {other}"),
        };
        if !fine {
            return Err(format!("{keyword} {rule} against {value}"));
        }
    }
    Ok(())
}

/// Every rule of text once, with its pattern compiled: compiling takes longer than a thousand matches.
static RULES: LazyLock<Vec<(&TextRule, Regex)>> = LazyLock::new(|| {
    let mut rules: Vec<&'static TextRule> = vec![&NAME];
    let mut see = |shape: &'static Shape| {
        if let Shape::Text(rule) = shape
            && !rules.iter().any(|known| known.pattern == rule.pattern)
        {
            rules.push(rule);
        }
    };
    visit(&FILE, "", &mut |_, field| match &field.shape {
        Shape::List { of, .. } | Shape::Dictionary(of) => see(of),
        shape => see(shape),
    });
    assert!(rules.len() >= 5);
    rules.into_iter().map(|rule| (rule, Regex::new(rule.pattern).unwrap())).collect()
});

type Parse = fn(&str) -> Result<(), UnitError>;

/// Patterns of the units with their parsers.
static UNITS: LazyLock<Vec<(Regex, Parse)>> = LazyLock::new(|| {
    vec![
        (Regex::new(DURATION).unwrap(), |text| units::duration(text).map(drop)),
        (Regex::new(SHARE).unwrap(), |text| units::share(text).map(drop)),
        (Regex::new(DIFFERENCE).unwrap(), |text| units::difference(text).map(drop)),
    ]
});

proptest! {
    #[test]
    fn rules_and_patterns_of_text_agree(text in "[a-zA-Z0-9_/:. \n-]{0,70}|https?://.{0,5}|/.{0,5}") {
        for (rule, pattern) in RULES.iter() {
            assert_eq!((rule.holds)(&text), pattern.is_match(&text), "{}: {text:?}", rule.says);
        }
    }

    #[test]
    fn units_and_patterns_agree(text in "[0-9]{0,5}(\\.[0-9]{0,3})?(ms|s|m|h|%|pp|d| )?.?") {
        for (pattern, parse) in UNITS.iter() {
            // The bound of a number is not in its pattern.
            let read = matches!(parse(&text), Ok(()) | Err(UnitError::TooLarge(_)));
            assert_eq!(read, pattern.is_match(&text), "{pattern}: {text:?}");
        }
    }
}
