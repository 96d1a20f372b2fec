//! Writes resources as the documents that [`super::parse`] reads back to the same resources.
//!
//! JSON is YAML, so a file of JSON documents with `---` between them needs no rules of quoting of its own.

use crate::mesh::model::{Kind, Resource};
use serde_json::{Map, Value, json};

/// The input of `aws appmesh create-… --cli-input-json` that creates this resource.
#[must_use]
pub fn document(resource: &Resource) -> Value {
    let key = &resource.key;
    let mut document = Map::new();
    document.insert(Kind::Mesh.name_member().into(), key.mesh.clone().into());
    if let Some(parent) = key.kind.parent() {
        document.insert(parent.name_member().into(), key.parent.clone().into());
    }
    document.insert(key.kind.name_member().into(), key.name.clone().into());
    document.insert("spec".into(), resource.raw.clone());
    if !resource.tags.is_empty() {
        let tags = resource.tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        document.insert("tags".into(), tags);
    }
    Value::Object(document)
}

/// Documents as the text of one file.
#[must_use]
pub fn render(documents: &[Value]) -> String {
    let texts: Vec<String> = documents.iter().map(|document| escaped(&format!("{document:#}\n"))).collect();
    texts.join("---\n")
}

/// JSON allows some characters as they are that YAML does not, or takes for a line's end in its older version. They can
/// only stand within strings.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}
