//! YAML (and so JSON) to JSON values that remember where they stood.

use super::{Position, Problem};
use saphyr::{LoadableYamlNode, MarkedYaml, Marker, Scalar, YamlData};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;

/// Largest file, in bytes. A mesh at every quota of App Mesh is below a tenth of it.
pub const FILE_MAX: usize = 16 * 1024 * 1024;

/// Widest indentation, in characters. Nesting in YAML needs a column per level, and the parser's recursion is as deep
/// as the nesting: this bounds it. Brackets are bounded by the parser itself.
const INDENT_MAX: usize = 256;

/// Deepest nesting. App Mesh's deepest spec has ten levels, a template four more around it, and each function in it two.
const DEPTH_MAX: usize = 64;

/// A value and where everything in it stood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) value: Value,
    pub(super) start: Position,
    /// By path: `spec.listeners[0].portMapping`.
    pub(super) places: BTreeMap<String, Position>,
    /// Tags, such as `!Ref`, in the order of the file. They are in the value as their long forms (`{"Ref": …}`); what has
    /// no functions has to refuse them.
    pub(super) tags: Vec<(Position, String)>,
}

/// A problem before the file is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) position: Position,
    pub(super) message: String,
}

impl Mistake {
    pub(super) fn new(position: Position, message: impl Into<String>) -> Self {
        Self { position, message: message.into() }
    }

    pub(super) fn in_file(self, file: &str) -> Problem {
        Problem { file: file.into(), position: Some(self.position), message: self.message }
    }
}

/// Reads all documents of a file; a document that is a list counts as its items, an empty one as none.
pub(super) fn read(text: &str) -> Result<Vec<Placed>, Vec<Mistake>> {
    bound(text).map_err(|mistake| vec![mistake])?;
    let nodes = MarkedYaml::load_from_str(text)
        .map_err(|error| vec![Mistake::new(position(error.marker()), format!("not YAML: {}", error.info()))])?;
    let mut placed = Vec::new();
    let mut mistakes = Vec::new();
    for node in &nodes {
        let roots = match &node.data {
            YamlData::Sequence(items) => items.iter().collect(),
            YamlData::BadValue | YamlData::Value(Scalar::Null) => Vec::new(),
            _ => vec![node],
        };
        for root in roots {
            let mut reader = Reader::default();
            match reader.convert(root, position(&root.span.start), "", 0) {
                Ok(value) => {
                    let Reader { places, tags } = reader;
                    placed.push(Placed { value, start: position(&root.span.start), places, tags });
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
    }
    if mistakes.is_empty() { Ok(placed) } else { Err(mistakes) }
}

fn bound(text: &str) -> Result<(), Mistake> {
    if text.len() > FILE_MAX {
        let start = Position { line: 1, column: 1 };
        return Err(Mistake::new(start, format!("the file is larger than {FILE_MAX} bytes")));
    }
    // Only these characters can stand before the first word of a line that nests deeper.
    let nests = |c: &char| matches!(c, ' ' | '\t' | '-' | '?' | ':');
    for (at, line) in text.lines().enumerate() {
        if line.chars().take_while(nests).count() > INDENT_MAX {
            let position = Position { line: at + 1, column: INDENT_MAX + 1 };
            return Err(Mistake::new(position, format!("is indented by more than {INDENT_MAX} columns")));
        }
    }
    Ok(())
}

/// Saphyr counts lines from 1 and columns from 0.
fn position(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

/// What is noted while a root is read.
#[derive(Default)]
struct Reader {
    places: BTreeMap<String, Position>,
    tags: Vec<(Position, String)>,
}

impl Reader {
    fn convert(&mut self, node: &MarkedYaml<'_>, here: Position, path: &str, depth: usize) -> Result<Value, Mistake> {
        if depth > DEPTH_MAX {
            return Err(Mistake::new(here, format!("is nested deeper than {DEPTH_MAX} levels")));
        }
        match &node.data {
            YamlData::Value(scalar) => {
                scalar_value(scalar).ok_or_else(|| Mistake::new(here, "is not a number of JSON"))
            }
            YamlData::Sequence(items) => {
                let mut list = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    let (below, there) = (format!("{path}[{at}]"), position(&item.span.start));
                    self.places.insert(below.clone(), there);
                    list.push(self.convert(item, there, &below, depth + 1)?);
                }
                Ok(Value::Array(list))
            }
            YamlData::Mapping(mapping) => {
                let mut object = Map::new();
                for (key, value) in mapping {
                    let at = position(&key.span.start);
                    let YamlData::Value(Scalar::String(name)) = &key.data else {
                        return Err(Mistake::new(at, "a key must be text"));
                    };
                    let below = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
                    // A scalar is shown where it stands, anything larger at its key, where reading starts.
                    let there = position(&value.span.start);
                    self.places.insert(below.clone(), if is_scalar(value) { there } else { at });
                    object.insert(name.to_string(), self.convert(value, there, &below, depth + 1)?);
                }
                Ok(Value::Object(object))
            }
            YamlData::Tagged(tag, inner) => {
                let name = match (tag.handle.as_str(), tag.suffix.as_str()) {
                    ("!", name @ ("Ref" | "Condition")) => name.to_owned(),
                    ("!", name) if !name.is_empty() => format!("Fn::{name}"),
                    _ => return Err(Mistake::new(here, format!("the YAML tag {tag} has no meaning here"))),
                };
                self.tags.push((here, tag.to_string()));
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                self.places.insert(below.clone(), here);
                // Saphyr notes where a tagged scalar is with the tag alone.
                let value = self.convert(inner, here, &below, depth + 1)?;
                Ok(Value::Object(Map::from_iter([(name, value)])))
            }
            YamlData::Representation(..) | YamlData::Alias(_) | YamlData::BadValue => {
                Err(Mistake::new(here, "is not a value"))
            }
        }
    }
}

fn is_scalar(node: &MarkedYaml<'_>) -> bool {
    match &node.data {
        YamlData::Value(_) => true,
        YamlData::Tagged(_, inner) => is_scalar(inner),
        _ => false,
    }
}

fn scalar_value(scalar: &Scalar<'_>) -> Option<Value> {
    Some(match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(yes) => Value::Bool(*yes),
        Scalar::Integer(number) => Value::from(*number),
        Scalar::FloatingPoint(number) => Value::Number(Number::from_f64(number.into_inner())?),
        Scalar::String(text) => Value::String(text.to_string()),
    })
}
