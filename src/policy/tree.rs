//! YAML as a tree in which everything knows where it stands.
//!
//! Built from the parser's events with a stack of its own, so that neither deep nesting nor a long file can exhaust
//! the stack, and so that every duplicate key is found rather than the first. What a policy has no use for is refused
//! here: several documents, tags, anchors and aliases (which also could blow a small file up), keys that are not text.
//! The tree keeps scalars as they were written; what they mean is for `source` to say.

use super::problem::{Place, Report, quote};
use saphyr::Scalar;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};
use std::collections::BTreeMap;

/// Deepest nesting: the schema needs 6 levels.
const MAX_DEPTH: usize = 32;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Of a scalar the whole, of a list or mapping its first character.
    pub(super) place: Place,
    /// What it is.
    pub(super) value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Refused already; whoever meets it has nothing to add.
    Refused,
    /// A scalar: its text, and whether it was quoted (quoted is always text).
    Scalar { text: String, quoted: bool },
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the file, without duplicates.
    Mapping(Vec<Entry>),
}

/// A key of a mapping with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Where the key stands.
    pub(super) place: Place,
    /// Its value.
    pub(super) value: Node,
}

impl Node {
    /// Value of a key, when this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Entry of a key, when this is a mapping that has it.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// Entries; none when this is no mapping.
    pub(super) fn entries(&self) -> &[Entry] {
        if let Value::Mapping(entries) = &self.value { entries } else { &[] }
    }

    /// Elements; none when this is no list.
    pub(super) fn elements(&self) -> &[Self] {
        if let Value::List(elements) = &self.value { elements } else { &[] }
    }

    /// Text as written, when this is a scalar.
    pub(super) fn written(&self) -> Option<&str> {
        if let Value::Scalar { text, .. } = &self.value { Some(text) } else { None }
    }

    /// Whether this is nothing at all: an empty value, `null` or `~`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, quoted: false } if is_null(text))
    }

    /// What a person would call this, for a message.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Refused => "something refused".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Scalar { text, quoted: false } => match resolve(text) {
                Scalar::Null => "nothing".to_owned(),
                Scalar::Boolean(_) => format!("the truth value {}", quote(text)),
                Scalar::Integer(_) | Scalar::FloatingPoint(_) => format!("the number {}", quote(text)),
                Scalar::String(_) => format!("the text {}", quote(text)),
            },
            Value::Scalar { text, quoted: true } => format!("the text {}", quote(text)),
        }
    }

    /// The text, when this is one: quoted, or not readable as a number, a truth value or nothing.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, quoted } if *quoted || matches!(resolve(text), Scalar::String(_)) => Some(text),
            _ => None,
        }
    }

    /// The truth value, when this is one.
    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.value {
            Value::Scalar { text, quoted: false } => match resolve(text) {
                Scalar::Boolean(value) => Some(value),
                _ => None,
            },
            _ => None,
        }
    }

    /// The whole number, when this is one in plain decimal digits.
    pub(super) fn whole(&self) -> Option<u64> {
        match &self.value {
            Value::Scalar { text, quoted: false } if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok()
            }
            _ => None,
        }
    }
}

/// Plain text by the core schema of YAML 1.2, in which an empty value is nothing.
fn resolve(text: &str) -> Scalar<'_> {
    if text.is_empty() { Scalar::Null } else { Scalar::parse_from_cow(text.into()) }
}

fn is_null(text: &str) -> bool {
    matches!(resolve(text), Scalar::Null)
}

/// Reads a file; `None` when it is not one YAML document, and the report says why.
pub(super) fn read(text: &str, report: &mut Report<'_>) -> Option<Node> {
    let mut builder = Builder { report, open: Vec::new(), root: None, documents: 0 };
    let mut parser = Parser::new_from_str(text);
    loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => break,
            Some(Ok((event, span))) => {
                if !builder.accept(event, span) {
                    return None;
                }
            }
            Some(Err(error)) => {
                builder.malformed(&error);
                return None;
            }
        }
    }
    builder.root
}

/// A list or mapping that is still open.
enum Open {
    List { place: Place, elements: Vec<Node> },
    Mapping { place: Place, entries: Vec<Entry>, lines: BTreeMap<String, usize>, key: Option<Key> },
}

/// A key that waits for its value; `name` is `None` when it was refused, and the value goes with it.
struct Key {
    name: Option<String>,
    place: Place,
}

struct Builder<'a, 'text> {
    report: &'a mut Report<'text>,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

// === impl Builder ===

impl Builder<'_, '_> {
    /// Takes an event; `false` when there is no use in reading on.
    fn accept(&mut self, event: Event<'_>, span: Span) -> bool {
        let place = place(span);
        match event {
            Event::DocumentStart(_) => return self.document(place),
            Event::Scalar(text, style, anchor, tag) => {
                let value = Value::Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain };
                let plain = self.plain(place, anchor, tag.as_deref());
                self.close(Node { place, value: if plain { value } else { Value::Refused } });
            }
            Event::Alias(_) => {
                self.refuse_alias(place);
                self.close(Node { place, value: Value::Refused });
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain(place, anchor, tag.as_deref());
                self.open.push(Open::List { place: place.point(), elements: Vec::new() });
            }
            Event::MappingStart(anchor, tag) => {
                self.plain(place, anchor, tag.as_deref());
                let (entries, lines) = (Vec::new(), BTreeMap::new());
                self.open.push(Open::Mapping { place: place.point(), entries, lines, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { place, elements }) => self.close(Node { place, value: Value::List(elements) }),
                Some(Open::Mapping { place, entries, .. }) => {
                    self.close(Node { place, value: Value::Mapping(entries) })
                }
                None => {}
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        if self.open.len() > MAX_DEPTH {
            self.report.error(place, too_deep(), None);
        }
        self.open.len() <= MAX_DEPTH
    }

    fn document(&mut self, place: Place) -> bool {
        self.documents += 1;
        if self.documents > 1 {
            let hint = "put each policy into a file of its own".to_owned();
            self.report.error(place, "a second document begins here, and a policy file is one document", Some(hint));
        }
        self.documents == 1
    }

    /// Refuses anchors and tags; `false` when it did.
    fn plain(&mut self, place: Place, anchor: usize, tag: Option<&Tag>) -> bool {
        if anchor > 0 {
            self.refuse_alias(place);
        }
        if let Some(tag) = tag {
            let message = format!("the tag {} is not part of the policy language", quote(&tag.to_string()));
            self.report.error(place, message, Some("leave the tag out; text is forced by quotes".to_owned()));
        }
        anchor == 0 && tag.is_none()
    }

    fn refuse_alias(&mut self, place: Place) {
        let hint = "write the value out; `step_defaults` holds what steps share".to_owned();
        self.report.error(place, "anchors (`&`) and aliases (`*`) are not part of the policy language", Some(hint));
    }

    /// Hands a finished node to what it stands in: as an element, as a key or as the value of one.
    fn close(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { elements, .. }) => elements.push(node),
            Some(Open::Mapping { key, entries, lines, .. }) => match key.take() {
                None => *key = Some(accept_key(self.report, &node, lines)),
                Some(Key { name: Some(name), place }) => entries.push(Entry { key: name, place, value: node }),
                Some(Key { name: None, .. }) => {}
            },
        }
    }

    fn malformed(&mut self, error: &ScanError) {
        let place = mark(error.marker());
        let indent = self.report.line(place.line).chars().take_while(|c| c.is_whitespace());
        let hint = if indent.into_iter().any(|c| c == '\t') {
            Some("this line is indented with a tab: YAML allows only spaces there".to_owned())
        } else if self.report.line(place.line).contains(['\t']) {
            Some("this line contains a tab: use spaces".to_owned())
        } else {
            None
        };
        // The scanner looks ahead in `[[[…` and meets its own bound before ours.
        let message = match error.info() {
            "recursion limit exceeded" => too_deep(),
            info => format!("not valid YAML: {info}"),
        };
        self.report.error(place, message, hint);
    }
}

/// Checks that a key is text and not yet there.
fn accept_key(report: &mut Report<'_>, node: &Node, lines: &mut BTreeMap<String, usize>) -> Key {
    let place = node.place;
    if matches!(node.value, Value::Refused) {
        return Key { name: None, place };
    }
    let Some(name) = node.text() else {
        let hint = node.written().filter(|text| !text.is_empty()).map(|text| format!("put it in quotes: `\"{text}\"`"));
        report.error(place, format!("a key must be text, found {}", node.describe()), hint);
        return Key { name: None, place };
    };
    if let Some(line) = lines.get(name) {
        report.error(
            place,
            format!("duplicate key {}", quote(name)),
            Some(format!("it is already given on line {line}")),
        );
        return Key { name: None, place };
    }
    lines.insert(name.to_owned(), place.line);
    Key { name: Some(name.to_owned()), place }
}

fn too_deep() -> String {
    format!("nested more than {MAX_DEPTH} levels deep")
}

fn mark(marker: &Marker) -> Place {
    Place { line: marker.line().max(1), column: marker.col() + 1, length: 0 }
}

/// Extent of a span on its first line; a scalar over several lines has its first character.
fn place(span: Span) -> Place {
    let length = if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { 1 };
    Place { length, ..mark(&span.start) }
}
