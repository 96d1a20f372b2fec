//! Texts that no person would write.

use super::{EVERYTHING, EXAMPLES};
use crate::policy::compile;
use crate::policy::problem::MAX_PROBLEMS;
use proptest::prelude::*;

/// Compiles, and holds that an answer is a plan or at least one problem with a place in the file.
fn answered(text: &str) {
    if let Err(problems) = compile("p.yaml", text) {
        assert!(!problems.is_empty() && problems.len() <= MAX_PROBLEMS, "{text:?}");
        for problem in problems {
            assert!(problem.line >= 1 && problem.column >= 1);
            assert!(problem.to_string().lines().next().is_some_and(|line| line.starts_with("p.yaml:")));
        }
    }
}

/// Pieces from which wrong YAML is made.
const PIECES: [&str; 24] = [
    "\n",
    "  ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "!t ",
    "|",
    ">",
    "\"",
    "'",
    "#",
    "---\n",
    "...\n",
    "\t",
    "? ",
    "<<: ",
    "%YAML 1.2\n",
    "\r",
    "🦀",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        answered(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn arbitrary_text_is_answered(text in any::<String>()) {
        answered(&text);
    }

    #[test]
    fn heaps_of_yaml_signs_are_answered(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
        answered(&pieces.concat());
    }

    #[test]
    fn mutated_files_are_answered(
        which in 0..4_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, prop::sample::select(&PIECES[..])), 1..6),
    ) {
        let valid = EXAMPLES.iter().map(|(_, text)| *text).chain([EVERYTHING]).nth(which).unwrap_or_default();
        let mut text: Vec<char> = valid.chars().collect();
        for (at, removed, inserted) in edits {
            let at = at.index(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, inserted.chars());
        }
        answered(&text.into_iter().collect::<String>());
    }
}
