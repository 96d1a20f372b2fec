//! Printing: data to stdout, everything else to stderr.

use super::args::Format;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// How to print.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
}

impl Output {
    pub(crate) const fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Whether a person looks at stdout and it can be redrawn.
    pub(crate) fn is_terminal(self) -> bool {
        !self.is_json() && std::io::stdout().is_terminal()
    }

    /// A line of data.
    pub(crate) fn line(self, text: &str) {
        // A reader that went away (a closed pipe) is no failure of the command.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// Text as it is, for redrawing.
    pub(crate) fn raw(self, text: &str) {
        let mut out = std::io::stdout();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// One JSON document on one line.
    pub(crate) fn json<T: Serialize>(self, value: &T) {
        match serde_json::to_string(value) {
            Ok(text) => self.line(&text),
            Err(error) => self.failure(&format!("cannot be written as JSON: {error}"), None),
        }
    }

    /// A remark for people, beside the data.
    pub(crate) fn remark(self, text: &str) {
        let _ = if self.is_json() {
            writeln!(std::io::stderr(), "{}", serde_json::json!({"remark": text}))
        } else {
            writeln!(std::io::stderr(), "{text}")
        };
    }

    /// What went wrong and what to do.
    pub(crate) fn failure(self, message: &str, hint: Option<&str>) {
        if self.is_json() {
            let mut object = serde_json::json!({"error": message});
            if let Some(hint) = hint {
                object["hint"] = hint.into();
            }
            let _ = writeln!(std::io::stderr(), "{object}");
            return;
        }
        let _ = writeln!(std::io::stderr(), "error: {}", obeyed_by_no_terminal(message));
        if let Some(hint) = hint {
            let _ = writeln!(std::io::stderr(), " hint: {}", obeyed_by_no_terminal(hint));
        }
    }
}

/// What a daemon answers may quote what somebody wrote there. Lines stay: problems of a file are several.
fn obeyed_by_no_terminal(text: &str) -> String {
    text.split('\n').map(super::screen::plain).collect::<Vec<_>>().join("\n")
}
