//! Holds JSON against a shape and says all that does not fit, with its path.
//!
//! Recursion is as deep as the shape, never as deep as the JSON: what no shape asks for is not walked.

use crate::mesh::error::Violation;
use serde_json::{Map, Value};

/// What happens to members that the shape does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// They are dropped, as AWS does with what its model does not hold.
    Drop,
    /// They are violations; for files, where they are typing errors.
    Refuse,
}

/// What some JSON must look like.
pub(super) enum Shape {
    /// An object with these members.
    Struct(&'static [Member]),
    /// An object with exactly one of these members.
    Union(&'static [Member]),
    /// A list.
    List {
        /// Fewest items.
        min: usize,
        /// Most items; `usize::MAX` where the API says nothing and the body limit bounds it.
        max: usize,
        /// What each is.
        of: &'static Shape,
    },
    /// Text of so many characters.
    Text {
        /// Fewest characters.
        min: usize,
        /// Most characters; `usize::MAX` where the API says nothing and the body limit bounds it.
        max: usize,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number in this range, ends included.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// True or false.
    Bool,
}

/// A member of an object.
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) shape: &'static Shape,
}

/// A member that must be there.
pub(super) const fn req(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, required: true, shape }
}

/// A member that may be there.
pub(super) const fn opt(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, required: false, shape }
}

/// Where the check is and what it does there.
struct Walk<'a> {
    unknown: Unknown,
    out: &'a mut Vec<Violation>,
}

/// Checks a whole body. What it answers holds only known members; it is complete only if nothing was pushed to `out`.
pub(super) fn members(
    body: &Value,
    shape: &'static [Member],
    unknown: Unknown,
    out: &mut Vec<Violation>,
) -> Map<String, Value> {
    let Some(object) = body.as_object() else {
        out.push(Violation { path: "body".into(), message: format!("must be an object, not {}", type_name(body)) });
        return Map::new();
    };
    Walk { unknown, out }.object(object, shape, "")
}

/// Checks one value; `None` when it does not fit at all.
pub(super) fn check(
    value: &Value,
    shape: &'static Shape,
    path: &str,
    unknown: Unknown,
    out: &mut Vec<Violation>,
) -> Option<Value> {
    Walk { unknown, out }.value(value, shape, path)
}

impl Walk<'_> {
    fn wrong(&mut self, path: &str, message: impl Into<String>) {
        self.out.push(Violation { path: path.into(), message: message.into() });
    }

    fn value(&mut self, value: &Value, shape: &'static Shape, path: &str) -> Option<Value> {
        match (shape, value) {
            (Shape::Struct(members), Value::Object(object)) => Some(Value::Object(self.object(object, members, path))),
            (Shape::Union(members), Value::Object(object)) => self.union(object, members, path).map(Value::Object),
            (Shape::List { min, max, of }, Value::Array(items)) => {
                if !(*min..=*max).contains(&items.len()) {
                    self.wrong(path, format!("must have {} items, not {}", range(*min, *max), items.len()));
                }
                // Items after the allowed ones are not looked at: one violation says enough.
                let looked_at = items.iter().take(*max).enumerate();
                Some(looked_at.filter_map(|(at, item)| self.value(item, of, &format!("{path}[{at}]"))).collect())
            }
            (Shape::Text { min, max }, Value::String(text)) => {
                let count = text.chars().count();
                if !(*min..=*max).contains(&count) {
                    self.wrong(path, format!("must have {} characters, not {count}", range(*min, *max)));
                }
                Some(value.clone())
            }
            (Shape::Choice(words), Value::String(text)) => {
                if !words.contains(&text.as_str()) {
                    self.wrong(path, format!("must be one of {}, not {text:?}", words.join(", ")));
                }
                Some(value.clone())
            }
            (Shape::Int { min, max }, Value::Number(number)) => {
                match number.as_i64() {
                    Some(number) if (*min..=*max).contains(&number) => {}
                    _ => self.wrong(path, format!("must be {}, not {number}", whole_number(*min, *max))),
                }
                Some(value.clone())
            }
            (Shape::Bool, Value::Bool(_)) => Some(value.clone()),
            _ => {
                self.wrong(path, format!("must be {}, not {}", shape.name(), type_name(value)));
                None
            }
        }
    }

    fn object(&mut self, object: &Map<String, Value>, members: &'static [Member], path: &str) -> Map<String, Value> {
        let mut kept = Map::new();
        for (name, value) in object {
            let below = join(path, name);
            match members.iter().find(|member| member.name == name) {
                // A null is an absent member, in AWS's JSON as in its SDKs.
                Some(_) if value.is_null() => {}
                Some(member) => {
                    if let Some(value) = self.value(value, member.shape, &below) {
                        kept.insert(name.clone(), value);
                    }
                }
                None if self.unknown == Unknown::Refuse => self.wrong(&below, unknown_member(name, members)),
                None => {}
            }
        }
        for member in members.iter().filter(|member| member.required) {
            if object.get(member.name).is_none_or(Value::is_null) {
                self.wrong(&join(path, member.name), "is required");
            }
        }
        kept
    }

    fn union(
        &mut self,
        object: &Map<String, Value>,
        members: &'static [Member],
        path: &str,
    ) -> Option<Map<String, Value>> {
        let kept = self.object(object, members, path);
        let given = members.iter().filter(|member| object.get(member.name).is_some_and(|value| !value.is_null()));
        let given: Vec<&str> = given.map(|member| member.name).collect();
        if given.len() == 1 {
            return Some(kept);
        }
        let names: Vec<&str> = members.iter().map(|member| member.name).collect();
        let found =
            if given.is_empty() { "none is given".to_owned() } else { format!("{} are given", given.join(", ")) };
        self.wrong(path, format!("must have exactly one of {}; {found}", names.join(", ")));
        None
    }
}

impl Shape {
    fn name(&self) -> &'static str {
        match self {
            Self::Struct(_) | Self::Union(_) => "an object",
            Self::List { .. } => "a list",
            Self::Text { .. } | Self::Choice(_) => "a string",
            Self::Int { .. } => "a whole number",
            Self::Bool => "true or false",
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn range(min: usize, max: usize) -> String {
    match (min, max) {
        (min, usize::MAX) => format!("at least {min}"),
        (min, max) if min == max => format!("exactly {min}"),
        (min, max) => format!("{min} to {max}"),
    }
}

fn whole_number(min: i64, max: i64) -> String {
    match (min, max) {
        (i64::MIN, i64::MAX) => "a whole number of 64 bits".into(),
        (min, max) if max >= i64::from(i32::MAX) => format!("a whole number of at least {min}"),
        (min, max) => format!("a whole number from {min} to {max}"),
    }
}

/// How alike two names must be (Jaro-Winkler, 0 to 1) for one to be offered in place of the other.
const ALIKE: f64 = 0.8;

fn unknown_member(name: &str, members: &'static [Member]) -> String {
    let alike = members.iter().map(|member| (strsim::jaro_winkler(name, member.name), member.name));
    match alike.filter(|(alike, _)| *alike >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((_, near)) => format!("is not known here; did you mean {near}?"),
        None => {
            let names: Vec<&str> = members.iter().map(|member| member.name).collect();
            format!("is not known here; known are {}", names.join(", "))
        }
    }
}
