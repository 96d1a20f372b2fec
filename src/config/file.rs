//! The configuration file as text to values with their places, and all that is wrong with it.

use super::keys::{ACCESS_KEYS, CERTIFICATE_KEYS, KEYS, Key, PERSON_KEYS, Shape};
use std::collections::BTreeMap;
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file that is larger is not one of ours: every key together, with comments, is a twentieth of it.
pub(super) const FILE_MAX_BYTES: usize = 256 * 1024;
/// A name farther off than this was meant to be something else.
const NEAR: f64 = 0.75;

/// Something to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// `file:line:column`, or `$VARIABLE`.
    pub place: String,
    /// Its line in the file, from 1.
    pub line: Option<usize>,
    /// What is wrong. Holds no secret.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\n  hint: {}", self.hint) }
    }
}

impl std::error::Error for ConfigError {}

/// A value as the file or the environment has it, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// One entry but for lists.
    pub(super) values: Vec<String>,
    /// For messages about it.
    pub(super) place: String,
    /// Its line, from 1, where it stands in the file.
    pub(super) line: Option<usize>,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) keys: BTreeMap<&'static str, Given>,
    /// By name, then by key.
    pub(super) people: BTreeMap<String, BTreeMap<&'static str, Given>>,
    /// Likewise.
    pub(super) access_keys: BTreeMap<String, BTreeMap<&'static str, Given>>,
    /// By ARN, then by key.
    pub(super) certificates: BTreeMap<String, BTreeMap<&'static str, Given>>,
    pub(super) errors: Vec<ConfigError>,
}

/// Reads a file.
pub(super) fn read(name: &str, text: &str) -> Values {
    let reader = Reader { name, text };
    let mut values = Values::default();
    if text.len() > FILE_MAX_BYTES {
        let message = format!("the file has {} bytes, and {FILE_MAX_BYTES} is the most", text.len());
        values.errors.push(reader.error(0, message, "is it the configuration?"));
        return values;
    }
    match DeTable::parse(text) {
        Ok(table) => reader.sections(table.get_ref(), &mut values),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            values.errors.push(reader.error(
                at,
                error.message().to_owned(),
                "the file is TOML: `[section]`, then `name = value`",
            ));
        }
    }
    values
}

/// What sections of one kind have, each under a name of its own.
struct Named {
    section: &'static str,
    /// What one of them is called.
    one: &'static str,
    keys: Vec<(&'static str, Shape)>,
    /// The key that each has to have.
    needs: Option<&'static str>,
    example: &'static str,
}

impl Named {
    fn people() -> Self {
        Self {
            section: "people",
            one: "a person",
            keys: PERSON_KEYS.iter().map(|(key, _)| (*key, Shape::Text)).collect(),
            needs: None,
            example: "for example [people.ada] and below it token = \"ada\"",
        }
    }

    fn access_keys() -> Self {
        Self {
            section: "mesh.keys",
            one: "an access key",
            keys: ACCESS_KEYS.iter().map(|(key, shape, ..)| (*key, *shape)).collect(),
            needs: Some("id"),
            example: "for example [mesh.keys.ci] and below it id = \"AKIDEXAMPLE\", allow = \"write\"",
        }
    }

    fn certificates() -> Self {
        Self {
            section: "mesh.certificates",
            one: "a certificate",
            keys: CERTIFICATE_KEYS.iter().map(|(key, ..)| (*key, Shape::Path)).collect(),
            needs: Some("authorities"),
            example: "for example [mesh.certificates.\"arn:aws:acm:…\"] and below it chain, key and authorities",
        }
    }
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
}

impl Reader<'_> {
    fn place(&self, at: usize) -> (String, Option<usize>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (format!("{}:{line}:{column}", self.name), Some(line))
    }

    fn error(&self, at: usize, message: String, hint: &str) -> ConfigError {
        let (place, line) = self.place(at);
        ConfigError { place, line, message, hint: hint.to_owned() }
    }

    fn sections(&self, table: &DeTable<'_>, values: &mut Values) {
        for (name, value) in table {
            let (section, at) = (name.get_ref().as_ref(), name.span().start);
            match value.get_ref() {
                DeValue::Table(people) if section == "people" => {
                    self.named(&Named::people(), people, &mut values.people, &mut values.errors);
                }
                DeValue::Table(keys) if KEYS.iter().any(|key| of_section(key, section)) => {
                    self.keys(section, keys, values);
                }
                _ if section == "people" || KEYS.iter().any(|key| of_section(key, section)) => {
                    let message = format!("`{section}` is a section");
                    values.errors.push(self.error(
                        at,
                        message,
                        &format!("write `[{section}]` on a line, and its keys below"),
                    ));
                }
                _ => {
                    let known = KEYS.iter().filter_map(|key| key.path.split_once('.')).map(|(section, _)| section);
                    let hint = nearest(section, known.chain(["people"]));
                    values.errors.push(self.error(at, format!("there is no section `{}`", shown(section)), &hint));
                }
            }
        }
    }

    fn keys(&self, section: &str, table: &DeTable<'_>, values: &mut Values) {
        for (name, value) in table {
            let (found, at) = (name.get_ref().as_ref(), name.span().start);
            let path = format!("{section}.{found}");
            match (value.get_ref(), path.as_str()) {
                (DeValue::Table(keys), "mesh.keys") => {
                    self.named(&Named::access_keys(), keys, &mut values.access_keys, &mut values.errors);
                    continue;
                }
                (DeValue::Table(keys), "mesh.certificates") => {
                    self.named(&Named::certificates(), keys, &mut values.certificates, &mut values.errors);
                    continue;
                }
                _ => {}
            }
            let Some(key) = KEYS.iter().find(|key| key.path == path) else {
                let known =
                    KEYS.iter().filter(|key| of_section(key, section)).filter_map(|key| key.path.split('.').nth(1));
                let hint = nearest(found, known);
                values.errors.push(self.error(at, format!("there is no key `{}` in [{section}]", shown(found)), &hint));
                continue;
            };
            match self.value(key.shape, value) {
                Some(given) => drop(values.keys.insert(key.path, given)),
                None => {
                    let message = format!("`{path}` must be {}", key.shape.says());
                    values.errors.push(self.error(
                        value.span().start,
                        message,
                        &format!("for example {}", key.quoted()),
                    ));
                }
            }
        }
    }

    /// Sections `[of.NAME]`, which have the same keys each.
    fn named(
        &self,
        of: &Named,
        table: &DeTable<'_>,
        into: &mut BTreeMap<String, BTreeMap<&'static str, Given>>,
        errors: &mut Vec<ConfigError>,
    ) {
        for (name, value) in table {
            let (called, at) = (name.get_ref().as_ref().to_owned(), name.span().start);
            let DeValue::Table(table) = value.get_ref() else {
                let message = format!("`{}.{}` is a section", of.section, shown(&called));
                errors.push(self.error(at, message, of.example));
                continue;
            };
            let mut keys = BTreeMap::new();
            for (name, value) in table {
                let (found, at) = (name.get_ref().as_ref(), name.span().start);
                let Some((key, shape)) = of.keys.iter().find(|(key, _)| *key == found) else {
                    let hint = nearest(found, of.keys.iter().map(|(key, _)| *key));
                    errors.push(self.error(at, format!("{} has no key `{}`", of.one, shown(found)), &hint));
                    continue;
                };
                match self.value(*shape, value) {
                    Some(given) => drop(keys.insert(*key, given)),
                    None => {
                        let message = format!("`{}.{}.{key}` must be {}", of.section, shown(&called), shape.says());
                        errors.push(self.error(value.span().start, message, ""));
                    }
                }
            }
            if let Some((missing, _)) = of.keys.iter().find(|(key, _)| of.needs == Some(key) && !keys.contains_key(key))
            {
                let message = format!("`{}.{}` has no `{missing}`", of.section, shown(&called));
                errors.push(self.error(at, message, of.example));
            }
            into.insert(called, keys);
        }
    }

    /// The text of a value, or the texts of a list where the key may have one. Whether they are right is seen later, as
    /// for those of the environment.
    fn value(&self, shape: Shape, value: &Spanned<DeValue<'_>>) -> Option<Given> {
        let (place, line) = self.place(value.span().start);
        match (shape, value.get_ref()) {
            (Shape::Urls | Shape::Secrets, DeValue::Array(entries)) => {
                let texts = entries.iter().map(|entry| entry.get_ref().as_str().map(str::to_owned));
                Some(Given { values: texts.collect::<Option<_>>()?, place, line })
            }
            (Shape::Urls, _) => None,
            (Shape::Flag, DeValue::Boolean(flag)) => Some(Given { values: vec![flag.to_string()], place, line }),
            (Shape::Flag, _) => None,
            (_, DeValue::String(text)) => Some(Given { values: vec![text.to_string()], place, line }),
            _ => None,
        }
    }
}

fn of_section(key: &Key, section: &str) -> bool {
    key.path.split_once('.').is_some_and(|(of, _)| of == section)
}

/// `did you mean …?`, or what there is.
fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let best = known.clone().map(|name| (strsim::jaro_winkler(found, name), name));
    match best.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, name)) if likeness >= NEAR => format!("did you mean `{name}`?"),
        _ => {
            let mut names: Vec<&str> = known.collect();
            names.dedup();
            format!("there are {}", names.join(", "))
        }
    }
}

/// A name as it is safe to print.
fn shown(name: &str) -> String {
    name.chars().take(60).map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
