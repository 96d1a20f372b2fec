//! What GitHub's rules make of names and texts; the calls are in `it::github`.

use super::*;

#[test]
fn what_names_a_commit() {
    for (text, reference, full) in [
        ("4f2a9c0e1b7d", true, false),
        ("0123456789abcdef0123456789ABCDEF01234567", true, true),
        ("v1.4.0", true, false),
        ("release/2026-11", true, false),
        ("", false, false),
        ("v2 (commit 4f2a)", false, false),
        ("../../user", false, false),
        ("-x", false, false),
        ("a?b#c", false, false),
    ] {
        assert_eq!((is_reference(text), is_full_name(text)), (reference, full), "{text}");
    }
}

#[test]
fn a_description_fits() {
    assert_eq!(description("10 %: fine"), "10 %: fine");
    assert_eq!(description("two\nlines"), "two lines");
    assert_eq!(description(&"ä".repeat(140)), "ä".repeat(140));
    let long = description(&"ä".repeat(141));
    assert_eq!((long.chars().count(), long.ends_with("ä…")), (140, true));
}
