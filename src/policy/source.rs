//! The file's shape: text in, a tree out in which every value is of the kind that its key asks for.
//!
//! One walk over the tree by the table of keys, which goes on after each problem so that all are reported at once.
//! What a value means together with others is for `compile`. A key that the schema knows and this version does not act
//! on is refused, never ignored: a gate that silently judges nothing would be worse than none. What stands under such a
//! key is checked all the same.

use super::keys::FILE;
use super::problem::{Place, Report, quote};
use super::table::{Built, Field, MAX_SCOPES, Record, Shape, Word};
use super::tree::{self, Node, Value};
use super::units::{self, UnitError};

/// Largest file. The longest sensible policy has a few kilobytes; this bounds what one request can make us parse.
pub const MAX_BYTES: usize = 256 * 1024;

/// Longest key for which a similar one is looked up.
const MAX_SIMILAR_CHARS: usize = 64;

/// Reads a file and checks its shape; `None` when there is no mapping to look into. The tree may still hold refused
/// values: whoever reads it takes what is well formed and checks the report at the end.
pub(super) fn read(text: &str, report: &mut Report<'_>) -> Option<Node> {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, more than the {MAX_BYTES} that are allowed", text.len());
        report.error(Place::START, message, None);
        return None;
    }
    if let Some(place) = control_character(text) {
        report.error(place, "a control character stands here", Some("save the file as plain UTF-8 text".to_owned()));
        return None;
    }
    let root = tree::read(text, report);
    match root {
        Some(root) if !root.is_null() => {
            let mut walk = Walk { report };
            walk.value(&root, &Shape::Record(&FILE), "", true);
            matches!(root.value, Value::Mapping(_)).then_some(root)
        }
        _ => {
            if report.is_clean() {
                let hint = "begin with `version: 1`; `policies/quick-start.yaml` is an example".to_owned();
                report.error(Place::START, "the file holds no policy", Some(hint));
            }
            None
        }
    }
}

/// The first character that is neither text nor white space: some would end the file early for the parser.
fn control_character(text: &str) -> Option<Place> {
    let index = text.find(|c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r'))?;
    let before = &text[..index];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    Some(Place { line, column, length: 1 })
}

struct Walk<'a, 'text> {
    report: &'a mut Report<'text>,
}

// === impl Walk ===

impl Walk<'_, '_> {
    /// Checks a value. `path` names it in messages. With `refuse` off, what is not built is not mentioned, because a
    /// key above was refused already. Recursion is bounded by the depth of the table.
    fn value(&mut self, node: &Node, shape: &Shape, path: &str, refuse: bool) {
        if matches!(node.value, Value::Refused) {
            return;
        }
        match shape {
            Shape::Record(record) if matches!(node.value, Value::Mapping(_)) => self.record(node, record, path, refuse),
            Shape::Dictionary(of) if matches!(node.value, Value::Mapping(_)) => {
                for entry in node.entries() {
                    self.value(&entry.value, of, &join(path, &entry.key), refuse);
                }
            }
            Shape::List { of, min, max } if matches!(node.value, Value::List(_)) => {
                self.list(node, of, (*min, *max), path, refuse);
            }
            Shape::Scopes(words) => self.scopes(node, shape, words, path),
            Shape::Short { record, record_built, .. } if matches!(node.value, Value::Mapping(_)) => {
                let refused = refuse && self.built(node.place, path, *record_built);
                self.record(node, record, path, refuse && !refused);
            }
            // What is none of the words may have been meant for the long form.
            Shape::Short { scalar: Shape::Word(words), record_built: Built::Yes, .. }
                if node.written().is_some() && words.iter().all(|word| node.text() != Some(word.word)) =>
            {
                self.wrong(node, shape, path);
            }
            Shape::Short { scalar, scalar_built, .. } if node.written().is_some() && !node.is_null() => {
                let refused = refuse && self.built(node.place, &shorthand(path, node), *scalar_built);
                self.value(node, scalar, path, refuse && !refused);
            }
            Shape::Word(words) => match words.iter().find(|word| node.text() == Some(word.word)) {
                Some(word) if refuse => {
                    self.built(node.place, &shorthand(path, node), word.built);
                }
                Some(_) => {}
                None => self.wrong(node, shape, path),
            },
            _ => self.scalar(node, shape, path),
        }
    }

    fn record(&mut self, node: &Node, record: &Record, path: &str, refuse: bool) {
        let mut refuse = refuse;
        for entry in node.entries() {
            let Some(field) = record.field(&entry.key) else {
                self.unknown(&entry.key, entry.place, record, path);
                continue;
            };
            let path = join(path, &entry.key);
            let refused = refuse && self.built(entry.place, &path, field.built);
            let before = self.report.refusals();
            self.value(&entry.value, &field.shape, &path, refuse && !refused);
            let refused = refused || self.report.refusals() > before;
            refuse &= !(refused && record.refused_once);
        }
        for field in record.fields.iter().filter(|field| field.required && node.entry(field.key).is_none()) {
            self.missing(node, field, path);
        }
        self.one_of(node, record, path);
    }

    fn list(&mut self, node: &Node, of: &Shape, (min, max): (usize, usize), path: &str, refuse: bool) {
        let count = node.elements().len();
        if !(min..=max).contains(&count) {
            let wanted = if min == max { format!("{min}") } else { format!("{min} to {max}") };
            self.report.error(node.place, format!("{} must have {wanted} entries, found {count}", name(path)), None);
        }
        for (index, element) in node.elements().iter().enumerate() {
            self.value(element, of, &format!("{path}[{index}]"), refuse);
        }
    }

    /// One word or weight, or a list of them.
    fn scopes(&mut self, node: &Node, shape: &Shape, words: &[Word], path: &str) {
        if let Value::List(elements) = &node.value {
            if !(1..=MAX_SCOPES).contains(&elements.len()) {
                let message = format!("{} must have 1 to {MAX_SCOPES} entries, found {}", name(path), elements.len());
                self.report.error(node.place, message, None);
            }
            for (index, element) in elements.iter().enumerate() {
                match element.value {
                    Value::List(_) => self.wrong(element, shape, &format!("{path}[{index}]")),
                    _ => self.scopes(element, shape, words, &format!("{path}[{index}]")),
                }
            }
            return;
        }
        let is_word = words.iter().any(|word| node.text() == Some(word.word));
        let is_weight = node.whole().is_some_and(|weight| (1..=100).contains(&weight));
        if !is_word && !is_weight && !matches!(node.value, Value::Refused) {
            self.wrong(node, shape, path);
        }
    }

    fn scalar(&mut self, node: &Node, shape: &Shape, path: &str) {
        let written = node.written().filter(|_| !node.is_null());
        let unit = match (shape, written) {
            (Shape::Text(rule), _) if node.text().is_some_and(rule.holds) => return,
            (Shape::Whole { min, max }, _) if node.whole().is_some_and(|n| (*min..=*max).contains(&n)) => return,
            (Shape::Boolean, _) if node.boolean().is_some() => return,
            (Shape::Duration, Some(text)) => units::duration(text).map(drop),
            (Shape::Share, Some(text)) => units::share(text).map(drop),
            (Shape::Difference, Some(text)) => units::difference(text).map(drop),
            (Shape::Ratio, Some(text)) => units::ratio(text).map(drop),
            (Shape::Amount, Some(text)) => amount(text),
            (Shape::Excess, Some(text)) => excess(text),
            _ => return self.wrong(node, shape, path),
        };
        if let Err(error) = unit {
            let text = written.unwrap_or_default();
            let message = format!("{} must be {}: {} {error}", name(path), shape.describe(), quote(text));
            self.report.error(node.place, message, unit_hint(shape, text, &error));
        }
    }

    /// Says that a value is of the wrong kind.
    fn wrong(&mut self, node: &Node, shape: &Shape, path: &str) {
        let hint = match (shape, node.written()) {
            (Shape::Text(_), Some(text)) if node.text().is_none() && !text.is_empty() => {
                Some(format!("put it in quotes to make it text: `\"{text}\"`"))
            }
            (Shape::Word(words) | Shape::Scopes(words), Some(text)) => {
                similar(text, words.iter().map(|word| word.word)).map(|word| format!("did you mean `{word}`?"))
            }
            (Shape::Whole { .. }, Some(text)) => text
                .trim_end_matches(['%', ' '])
                .parse::<u64>()
                .ok()
                .filter(|_| text.ends_with('%'))
                .map(|number| format!("write `{number}`: this key is in whole numbers, without a sign")),
            _ => None,
        };
        let message = format!("{} must be {}, found {}", name(path), shape.describe(), node.describe());
        self.report.error(node.place, message, hint);
    }

    fn unknown(&mut self, key: &str, place: Place, record: &Record, path: &str) {
        if self.report.is_full() {
            return;
        }
        let within = if path.is_empty() { String::new() } else { format!(" in {}", name(path)) };
        let hint = match similar(key, record.fields.iter().map(|field| field.key)) {
            Some(known) => format!("did you mean `{known}`?"),
            None => {
                let keys: Vec<String> = record.fields.iter().map(|field| format!("`{}`", field.key)).collect();
                format!("known keys here: {}", keys.join(", "))
            }
        };
        self.report.error(place, format!("unknown key {}{within}", quote(key)), Some(hint));
    }

    fn missing(&mut self, node: &Node, field: &Field, path: &str) {
        let within = if path.is_empty() { String::new() } else { format!(" in {}", name(path)) };
        let message = format!("missing key `{}`{within}", field.key);
        self.report.error(node.place.point(), message, Some(format!("add `{}: {}`", field.key, field.example)));
    }

    fn one_of(&mut self, node: &Node, record: &Record, path: &str) {
        let found: Vec<_> = node.entries().iter().filter(|entry| record.one_of.contains(&entry.key.as_str())).collect();
        let names: Vec<String> = record.one_of.iter().map(|key| format!("`{key}`")).collect();
        match found.as_slice() {
            _ if record.one_of.is_empty() => {}
            [] => {
                let message = format!("{} needs one of the keys {}", name(path), names.join(", "));
                self.report.error(node.place.point(), message, None);
            }
            [_] => {}
            [first, second, ..] => {
                let message = format!("`{}` and `{}` exclude each other in {}", first.key, second.key, name(path));
                self.report.error(second.place, message, Some(format!("keep one of {}", names.join(", "))));
            }
        }
    }

    /// Refuses what is not built; whether it did.
    fn built(&mut self, place: Place, what: &str, built: Built) -> bool {
        if let Built::NotYet(meanwhile) = built {
            self.report.refuse(place, format!("{} is not in this version", name(what)), meanwhile);
            return true;
        }
        false
    }
}

/// A limit of something measured, by whichever unit it has.
fn amount(text: &str) -> Result<(), UnitError> {
    if text.ends_with('%') {
        units::share(text).map(drop)
    } else if text.ends_with(|c: char| c.is_ascii_digit()) {
        units::ratio(text).map(drop)
    } else {
        units::duration(text).map(drop)
    }
}

/// What is accepted on top of something measured, by whichever unit it has.
fn excess(text: &str) -> Result<(), UnitError> {
    if text.ends_with("pp") {
        units::difference(text).map(drop)
    } else if text.ends_with(|c: char| c.is_ascii_digit()) {
        units::ratio(text).map(drop)
    } else {
        units::duration(text).map(drop)
    }
}

/// What the number would look like with a unit of the kind that is asked for.
fn unit_hint(shape: &Shape, text: &str, error: &UnitError) -> Option<String> {
    let number: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    match (shape, error) {
        (_, UnitError::NotANumber | UnitError::TooLarge(_)) => None,
        (Shape::Duration, UnitError::NoUnit) => Some(format!("for seconds write `{number}s`, for minutes `{number}m`")),
        (Shape::Duration, UnitError::Fraction) => Some("use the next smaller unit: `90m` instead of `1.5h`".to_owned()),
        (Shape::Duration, UnitError::WrongUnit(unit, _)) if matches!(unit.as_str(), "d" | "day" | "days") => {
            number.parse::<u64>().ok().and_then(|days| days.checked_mul(24)).map(|hours| format!("write `{hours}h`"))
        }
        (Shape::Share, _) => Some(format!("write `{number}%`")),
        (Shape::Difference, _) => Some(format!("write `{number}pp`: percentage points, the difference of two shares")),
        (Shape::Ratio, UnitError::UnexpectedUnit(_)) => Some(format!("write `{number}`")),
        _ => None,
    }
}

/// The known word nearest to what was written, when it is near enough to be meant.
pub(super) fn similar<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if written.chars().count() > MAX_SIMILAR_CHARS {
        return None;
    }
    let written = written.to_lowercase().replace('-', "_");
    known
        .map(|word| (strsim::damerau_levenshtein(&written, word), word))
        // A third of the letters may differ: `gate` finds `gates`, and `image` does not find `name`.
        .filter(|(distance, word)| *distance * 3 <= word.chars().count().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

fn join(path: &str, key: &str) -> String {
    let key: String = key.chars().take(MAX_SIMILAR_CHARS).collect();
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// `gates[0].metric: latency`, for a value that is refused where its key is not.
fn shorthand(path: &str, node: &Node) -> String {
    format!("{path}: {}", node.written().unwrap_or_default())
}

fn name(path: &str) -> String {
    if path.is_empty() { "the policy".to_owned() } else { quote(path) }
}
