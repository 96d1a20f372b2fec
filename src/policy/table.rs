//! How the shape of a policy file is described: the language of `keys`.
//!
//! The check in `source`, the JSON Schema in `schema` and the page in `reference` are three readings of one table, so a
//! key cannot be in one and not in the others. Everything is `'static` data; what a shape cannot say (rules between keys)
//! is for `compile`.

/// Most entries of [`Shape::Scopes`]: each whole percent once, and the words.
pub(super) const MAX_SCOPES: usize = 103;

/// What a value may be.
#[derive(Debug)]
pub(super) enum Shape {
    /// Text by a rule.
    Text(&'static TextRule),
    /// A whole number within bounds, both included.
    Whole {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// `true` or `false`.
    Boolean,
    /// A span such as `90s`.
    Duration,
    /// A share such as `0.1%`.
    Share,
    /// A difference of shares such as `0.1pp`.
    Difference,
    /// A plain number such as `1.5`.
    Ratio,
    /// A limit of whatever is measured: a span, a share or a plain number.
    Amount,
    /// What is accepted on top of something measured: a difference of shares, a span or a plain number.
    Excess,
    /// One of a few words.
    Word(&'static [Word]),
    /// One of a few words or the weight of a step, or a list of such.
    Scopes(&'static [Word]),
    /// A list within bounds of length, both included.
    List {
        /// What its elements are.
        of: &'static Shape,
        /// Fewest elements.
        min: usize,
        /// Most elements.
        max: usize,
    },
    /// A mapping with known keys.
    Record(&'static Record),
    /// A mapping whose keys are names that the user chose.
    Dictionary(&'static Shape),
    /// A scalar as shorthand, or a record.
    Short {
        /// The scalar form.
        scalar: &'static Shape,
        /// Whether the scalar form is built.
        scalar_built: Built,
        /// The long form.
        record: &'static Record,
        /// Whether the long form is built.
        record_built: Built,
    },
}

/// Whether this version acts on something that the schema knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Built {
    /// It does.
    Yes,
    /// It does not and refuses it; the text says what to do meanwhile.
    NotYet(&'static str),
}

/// A rule that text follows, once for the check and once for editors; a test holds the two together.
#[derive(Debug)]
pub(super) struct TextRule {
    /// What such a text is called in a message, with its rule.
    pub(super) says: &'static str,
    /// The rule as a regular expression in the dialect of JSON Schema.
    pub(super) pattern: &'static str,
    /// The rule.
    pub(super) holds: fn(&str) -> bool,
}

/// A word and what it does.
#[derive(Debug)]
pub(super) struct Word {
    /// As written in the file.
    pub(super) word: &'static str,
    /// Whether this version acts on it.
    pub(super) built: Built,
}

/// A mapping with known keys.
#[derive(Debug)]
pub(super) struct Record {
    /// Its keys in the order in which people are shown them.
    pub(super) fields: &'static [Field],
    /// Keys of which exactly one must be there; empty for no such rule.
    pub(super) one_of: &'static [&'static str],
    /// Whether the first refused key speaks for all: set where one missing adapter makes several keys useless.
    pub(super) refused_once: bool,
}

/// A key of a record.
#[derive(Debug)]
pub(super) struct Field {
    /// As written in the file.
    pub(super) key: &'static str,
    /// What its value may be.
    pub(super) shape: Shape,
    /// Whether it must be there.
    pub(super) required: bool,
    /// Default as it would be written, for documentation: `compile` sets it, and a test compares.
    pub(super) default: Option<&'static str>,
    /// A value to imitate.
    pub(super) example: &'static str,
    /// What it means.
    pub(super) says: &'static str,
    /// Whether this version acts on it.
    pub(super) built: Built,
}

// === impl Field ===

impl Field {
    /// A key that must be there.
    pub(super) const fn required(key: &'static str, shape: Shape, example: &'static str, says: &'static str) -> Self {
        Self { key, shape, required: true, default: None, example, says, built: Built::Yes }
    }

    /// A key that may be left out.
    pub(super) const fn optional(key: &'static str, shape: Shape, example: &'static str, says: &'static str) -> Self {
        Self { key, shape, required: false, default: None, example, says, built: Built::Yes }
    }

    /// A key that may be left out and then has this value.
    pub(super) const fn defaulted(key: &'static str, shape: Shape, default: &'static str, says: &'static str) -> Self {
        Self { key, shape, required: false, default: Some(default), example: default, says, built: Built::Yes }
    }

    /// The same key, refused until it is built.
    pub(super) const fn not_yet(self, meanwhile: &'static str) -> Self {
        Self { built: Built::NotYet(meanwhile), ..self }
    }
}

// === impl Record ===

impl Record {
    /// Keys without a rule between them.
    pub(super) const fn of(fields: &'static [Field]) -> Self {
        Self { fields, one_of: &[], refused_once: false }
    }

    /// The description of a key.
    pub(super) fn field(&self, key: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.key == key)
    }
}

// === impl Shape ===

impl Shape {
    /// What such a value is called in a message, with an example where that helps.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text(rule) => rule.says.to_owned(),
            Self::Whole { min, max } if min == max => format!("the number {min}"),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Duration => "a duration such as `90s`, `5m` or `1h`".to_owned(),
            Self::Share => "a share such as `0.1%`".to_owned(),
            Self::Difference => "a difference of shares such as `0.1pp`".to_owned(),
            Self::Ratio => "a plain number such as `1.5`".to_owned(),
            Self::Amount => "a limit such as `800ms`, `1%` or `1000`".to_owned(),
            Self::Excess => "an amount such as `0.1pp`, `50ms` or `10`".to_owned(),
            Self::Word(words) => either(words),
            Self::Scopes(words) => format!("{}, the weight of a step such as `10`, or a list of these", either(words)),
            Self::List { .. } => "a list".to_owned(),
            Self::Record(record) => format!("a mapping with the keys {}", keys(record)),
            Self::Dictionary(_) => "a mapping".to_owned(),
            Self::Short { scalar, record, .. } => {
                format!("{} or a mapping with the keys {}", scalar.describe(), keys(record))
            }
        }
    }
}

fn either(words: &[Word]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{}`", word.word)).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

fn keys(record: &Record) -> String {
    let keys: Vec<String> = record.fields.iter().map(|field| format!("`{}`", field.key)).collect();
    keys.join(", ")
}
