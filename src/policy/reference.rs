//! The reference of a policy file as Markdown, `docs/policies.md`: a section for each mapping, a row for each key.
//!
//! A reading of the same table that the check in `source` and the schema in `schema` read, so that the three cannot
//! differ in a key, a default or a word. Like the schema it says less than `compile`: most rules between keys are not
//! in it. Pure: the same text every time.

use super::keys::FILE;
use super::table::{Built, Field, Record, Shape, Word};
use std::fmt::Write as _;

#[cfg(test)]
mod tests;

const OPENING: &str = "\
# Every key of a policy file

Written by `tidegate policy schema --markdown` from the table by which files are checked; not edited by hand. What the keys do
together, and why, is told by [the guide](POLICY.md). `tidegate policy lint` checks a file, `tidegate policy explain` says in
prose what it will do, and `tidegate policy schema` prints the same as this page as a JSON Schema, for editors.

Each mapping of the file has a section, called by its path: `gates[].cloudwatch` is the mapping `cloudwatch` in an entry of the
list `gates`, `NAME` stands for a name of your choice. A default is what holds when the key is left out; a key with neither
*required* nor a default may be left out. An unknown key is an error, and so is one marked *not in this version*.
";

/// The whole page.
#[must_use]
pub fn markdown() -> String {
    let mut page = OPENING.to_owned();
    page.push_str("\n## The whole file\n");
    let smallest = FILE.fields.iter().filter(|field| field.required).map(pair).collect::<Vec<_>>().join("\n");
    block(&mut page, "The smallest one:", &smallest);
    table(&mut page, &FILE, "");
    sections(&mut page, &FILE, "");
    page
}

/// A mapping below a key, by the way there.
struct Below<'a> {
    path: String,
    record: &'static Record,
    /// The key that leads there.
    field: &'a Field,
    /// Whether the mapping is an entry of the key's list.
    listed: bool,
    /// What to do while this version does not have it.
    meanwhile: Option<&'static str>,
}

/// Sections for all mappings below a record, each followed by its own.
fn sections(page: &mut String, record: &'static Record, path: &str) {
    for below in record.fields.iter().filter_map(|field| below(field, path)) {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## `{}`\n\n{}\n", below.path, below.field.says);
        if let Some(meanwhile) = below.meanwhile {
            let _ = write!(page, "\n*Not in this version*: {meanwhile}.\n");
        }
        if !below.record.one_of.is_empty() {
            let _ = write!(page, "\nExactly one of {} must be there.\n", either(below.record.one_of.iter().copied()));
        }
        block(page, "For example:", &example(&below));
        table(page, below.record, &below.path);
        sections(page, below.record, &below.path);
    }
}

fn below<'a>(field: &'a Field, path: &str) -> Option<Below<'a>> {
    let mut shape = &field.shape;
    let mut whole = join(path, field.key);
    let (mut listed, mut built) = (false, field.built);
    let record = loop {
        match shape {
            Shape::Record(record) => break record,
            Shape::Short { record, record_built, .. } => {
                if built == Built::Yes {
                    built = *record_built;
                }
                break record;
            }
            Shape::List { of, .. } => {
                whole.push_str("[]");
                listed = true;
                shape = of;
            }
            Shape::Dictionary(of) => {
                whole.push_str(".NAME");
                shape = of;
            }
            _ => return None,
        }
    };
    let meanwhile = match built {
        Built::Yes => None,
        Built::NotYet(meanwhile) => Some(meanwhile),
    };
    Some(Below { path: whole, record, field, listed, meanwhile })
}

/// The key as in a file: by the example of the key itself, or with the long form where that is shorthand.
fn example(below: &Below<'_>) -> String {
    if below.field.example.contains('{') {
        return pair(below.field);
    }
    let chosen = below.record.one_of.first();
    let shown = |field: &&Field| !below.record.one_of.contains(&field.key) || chosen == Some(&field.key);
    let pairs: Vec<String> = below.record.fields.iter().filter(shown).map(pair).collect();
    let entry = format!("{{ {} }}", pairs.join(", "));
    if below.listed { format!("{}:\n  - {entry}", below.field.key) } else { format!("{}: {entry}", below.field.key) }
}

fn pair(field: &Field) -> String {
    format!("{}: {}", field.key, field.example)
}

fn block(page: &mut String, title: &str, yaml: &str) {
    let _ = write!(page, "\n{title}\n\n```yaml\n{yaml}\n```\n");
}

fn table(page: &mut String, record: &'static Record, path: &str) {
    page.push_str("\n| key | value | default | meaning |\n|---|---|---|---|\n");
    for field in record.fields {
        let default = match field.default {
            Some(default) => format!("`{default}`"),
            None if field.required => "**required**".to_owned(),
            None if record.one_of.contains(&field.key) => "one of them".to_owned(),
            None => String::new(),
        };
        let cells = [format!("`{}`", field.key), value(field, path), default, meaning(field)];
        // A bar would end the cell, in code as well.
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(page, "| {} |", cells.join(" | "));
    }
}

fn meaning(field: &Field) -> String {
    let mut says = field.says.to_owned();
    // A mapping has its example in its own section, a default is an example, and words are all told.
    let said = matches!(field.shape, Shape::Word(_) | Shape::Boolean)
        || matches!(field.shape, Shape::Whole { min, max } if min == max);
    let told = field.default.is_some() || said;
    if !told && below(field, "").is_none() {
        let _ = write!(says, " Such as `{}`.", field.example);
    }
    if let Built::NotYet(meanwhile) = field.built {
        let _ = write!(says, " *Not in this version*: {meanwhile}.");
    }
    says
}

/// What the value of a key may be, with a link where it is a mapping.
fn value(field: &Field, path: &str) -> String {
    let link = below(field, path).map(|below| format!("[`{}`](#{})", below.path, anchor(&below.path)));
    shape(&field.shape, link.as_deref().unwrap_or_default())
}

fn shape(shape: &Shape, link: &str) -> String {
    match shape {
        Shape::Text(rule) => rule.says.to_owned(),
        Shape::Whole { min, max } if min == max => min.to_string(),
        Shape::Whole { min, max } => format!("whole number, {min} to {max}"),
        Shape::Boolean => "`true` or `false`".to_owned(),
        Shape::Duration => "duration (`90s`)".to_owned(),
        Shape::Share => "share (`0.1%`)".to_owned(),
        Shape::Difference => "difference of shares (`0.1pp`)".to_owned(),
        Shape::Ratio => "plain number (`1.5`)".to_owned(),
        Shape::Amount => "duration, share or plain number".to_owned(),
        Shape::Excess => "difference of shares, duration or plain number".to_owned(),
        Shape::Word(words) => self::words(words),
        Shape::Scopes(words) => format!("{}, weight of a step (`10`), or list of these", self::words(words)),
        Shape::List { of, min, max } if min == max => format!("list of exactly {min}: {}", self::shape(of, link)),
        Shape::List { of, min: 0, max } => format!("list of up to {max}: {}", self::shape(of, link)),
        Shape::List { of, min, max } => format!("list of {min} to {max}: {}", self::shape(of, link)),
        Shape::Record(_) => format!("mapping {link}"),
        Shape::Dictionary(of) => format!("mapping from names to: {}", self::shape(of, link)),
        Shape::Short { scalar, .. } => format!("{}, or mapping {link}", self::shape(scalar, link)),
    }
}

fn words(words: &[Word]) -> String {
    let all = either(words.iter().map(|word| word.word));
    let not_yet = words.iter().filter(|word| word.built != Built::Yes).map(|word| word.word).collect::<Vec<_>>();
    if not_yet.is_empty() { all } else { format!("{all}; not in this version: {}", either(not_yet.into_iter())) }
}

fn either<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// What renderers such as GitHub's make of a heading: letters, digits, `_` and `-` stay.
fn anchor(path: &str) -> String {
    path.to_lowercase().chars().filter(|character| character.is_alphanumeric() || "_-".contains(*character)).collect()
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
