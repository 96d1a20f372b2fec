//! What is wrong with a policy file, where, and what to do about it.
//!
//! A `Report` collects every problem of one file, so that a person mends it in one go. Texts of the file are shown
//! with control characters replaced: a policy may come from a request, and its errors end up on terminals.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Most problems that one file is answered with: beyond that the file is not a policy, and the list helps nobody.
pub(super) const MAX_PROBLEMS: usize = 100;

/// Widest excerpt of a line.
const EXCERPT_CHARS: usize = 100;

/// Longest quotation of the file's text inside a message.
const QUOTE_CHARS: usize = 60;

/// One thing to mend in a policy file, or to think about (a warning).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Problem {
    /// The file as the caller named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The text that is wrong; empty where something is missing.
    pub offending: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line, or the part of a long one around `column`; empty when the file has no such line.
    pub excerpt: String,
    /// Characters of `excerpt` before the marked ones.
    pub excerpt_offset: usize,
}

/// `file:line:column: message`, the line with a caret, the hint.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        if !self.excerpt.is_empty() {
            let number = self.line.to_string();
            let room = self.excerpt.chars().count().saturating_sub(self.excerpt_offset);
            let width = self.offending.chars().count().min(room).max(1);
            write!(f, "\n  {number} | {}", self.excerpt)?;
            write!(
                f,
                "\n  {:number_width$} | {:offset$}",
                "",
                "",
                number_width = number.len(),
                offset = self.excerpt_offset
            )?;
            write!(f, "{}", "^".repeat(width))?;
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}

impl std::error::Error for Problem {}

/// Where something stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    /// Characters that it covers on that line; 0 for what has no extent of its own.
    pub(super) length: usize,
}

impl Place {
    /// The file's first character: for what concerns the whole file.
    pub(super) const START: Self = Self { line: 1, column: 1, length: 0 };

    /// The same position without extent: for what is missing there.
    pub(super) const fn point(self) -> Self {
        Self { length: 0, ..self }
    }
}

/// Problems and warnings of one file, in the making.
#[derive(Debug)]
pub(super) struct Report<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    refusals: usize,
}

// === impl Report ===

impl<'a> Report<'a> {
    /// Of a file's name and text.
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, lines: lines(text), errors: Vec::new(), warnings: Vec::new(), refusals: 0 }
    }

    /// Notes an error; ignored once the list is full.
    pub(super) fn error(&mut self, place: Place, message: impl Into<String>, hint: Option<String>) {
        if !self.is_full() {
            let problem = self.problem(place, message.into(), hint);
            self.errors.push(problem);
        }
    }

    /// Notes that something is not in this version, and what to do meanwhile.
    pub(super) fn refuse(&mut self, place: Place, message: impl Into<String>, meanwhile: &str) {
        self.refusals += 1;
        self.error(place, message, Some(meanwhile.to_owned()));
    }

    /// How often [`Self::refuse`] was called.
    pub(super) const fn refusals(&self) -> usize {
        self.refusals
    }

    /// Notes a warning; ignored once the list is full.
    pub(super) fn warning(&mut self, place: Place, message: impl Into<String>, hint: Option<String>) {
        if self.warnings.len() < MAX_PROBLEMS {
            let problem = self.problem(place, message.into(), hint);
            self.warnings.push(problem);
        }
    }

    /// Whether further errors would be dropped.
    pub(super) const fn is_full(&self) -> bool {
        self.errors.len() >= MAX_PROBLEMS
    }

    /// Whether there is an error.
    pub(super) const fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// Text of a line, from 1.
    pub(super) fn line(&self, line: usize) -> &'a str {
        line.checked_sub(1).and_then(|index| self.lines.get(index)).copied().unwrap_or_default()
    }

    /// Errors and warnings, each in the order of the file.
    pub(super) fn finish(mut self) -> (Vec<Problem>, Vec<Problem>) {
        // Stable: two problems of one place stay in the order in which they were found.
        self.errors.sort_by_key(|problem| (problem.line, problem.column));
        self.warnings.sort_by_key(|problem| (problem.line, problem.column));
        (self.errors, self.warnings)
    }

    fn problem(&self, place: Place, message: String, hint: Option<String>) -> Problem {
        let line: Vec<char> = self.line(place.line).chars().map(printable).collect();
        let at = place.column.saturating_sub(1);
        let offending = line.iter().skip(at).take(place.length).collect();
        // A long line is cut so that the place is in the first half of what is shown.
        let from = if line.len() <= EXCERPT_CHARS { 0 } else { at.saturating_sub(EXCERPT_CHARS / 2).min(line.len()) };
        let excerpt: String = line.iter().skip(from).take(EXCERPT_CHARS).collect();
        Problem {
            file: self.file.to_owned(),
            line: place.line,
            column: place.column,
            offending,
            message,
            hint,
            excerpt: excerpt.trim_end().to_owned(),
            excerpt_offset: at - from,
        }
    }
}

/// Lines as YAML breaks them: at `\n`, `\r\n` and a lone `\r`.
fn lines(text: &str) -> Vec<&str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r')).collect()
}

/// A character that neither moves the cursor nor starts an escape sequence; tabs count as one column here.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        // Direction marks reorder what a person sees.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Text of the file for a message: in back-quotes, harmless, and cut when long.
pub(super) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTE_CHARS).map(printable).collect();
    if text.chars().nth(QUOTE_CHARS).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}
