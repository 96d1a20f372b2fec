//! One spelling for a path, before it is matched and sent on. Pure.
//!
//! App Mesh's Envoys ran with `normalize_path` and `merge_slashes` and kept escaped slashes (appmesh "HTTP routes"), so that
//! `/public/../admin` cannot pass for `/public`. What is done, in this order:
//!
//! 1. escaped characters that need no escape (RFC 3986 section 2.3: letters, digits, `-._~`) are written plainly, all other
//!    escapes stay as they are, `%2F` too; `\` is `/`; characters that no URL may have are escaped;
//! 2. segments `.` and `..` are resolved (RFC 3986 section 5.2.4), never above the root;
//! 3. slashes in a row are one.
//!
//! The query is left alone. Tried byte for byte against Envoy 1.40 (`tests/conformance/routes.yaml`).

use std::borrow::Cow;

/// A path that no server should guess the meaning of: it has an escaped zero byte, or bytes outside of ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path has a zero byte, a control character or one that is not ASCII")]
pub struct BadPath;

/// What a character is in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands as it is, and an escape of it too.
    Kept,
    /// Stands as it is, and an escape of it is undone.
    Unreserved,
    /// `/`, `\`, `%`: need a look.
    Special,
    /// Has to be escaped.
    Escaped,
    /// May not be there.
    Bad,
}

const fn class(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => Class::Unreserved,
        b'/' | b'\\' | b'%' => Class::Special,
        b' ' | b'"' | b'#' | b'<' | b'>' | b'?' | b'^' | b'`' | b'{' | b'|' | b'}' => Class::Escaped,
        0..0x20 | 0x7f.. => Class::Bad,
        _ => Class::Kept,
    }
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Bad; 256];
    let mut byte = 0_u8;
    loop {
        classes[byte as usize] = class(byte);
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

/// The one spelling of a path; borrowed where it has that already, which one look at each byte shows. A path that does not
/// begin with a slash (`*`) has no other.
///
/// # Errors
/// [`BadPath`].
pub fn normal(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if is_normal(path) || !path.starts_with('/') {
        return Ok(Cow::Borrowed(path));
    }
    let resolved = resolve(path.as_bytes())?;
    let merged = if resolved.contains("//") { merge_slashes(&resolved) } else { resolved };
    Ok(if merged == path { Cow::Borrowed(path) } else { Cow::Owned(merged) })
}

/// Whether nothing can have to be done. A dot at the start of a segment may be a name's, and is looked at closely.
fn is_normal(path: &str) -> bool {
    let mut after_slash = false;
    for byte in path.bytes() {
        let plain = match CLASSES[usize::from(byte)] {
            Class::Kept => true,
            Class::Unreserved => !(after_slash && byte == b'.'),
            Class::Special => byte == b'/' && !after_slash,
            Class::Escaped | Class::Bad => false,
        };
        if !plain {
            return false;
        }
        after_slash = byte == b'/';
    }
    true
}

/// The first two steps.
fn resolve(path: &[u8]) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len() + 8);
    let mut segment = String::new();
    out.push('/');
    let mut slash = path[0];
    let mut rest = &path[1..];
    loop {
        segment.clear();
        let with_parameters = dots_with_parameters(rest).filter(|_| slash == b'/');
        let length = if let Some(dots) = with_parameters {
            segment.push_str(dots);
            rest.iter().position(|byte| *byte == b'/')
        } else {
            let length = rest.iter().position(|byte| matches!(byte, b'/' | b'\\'));
            spell(&rest[..length.unwrap_or(rest.len())], &mut segment)?;
            length
        };
        match segment.as_str() {
            "." => {}
            ".." => {
                // Back to the slash before the last segment; the root has none above it.
                out.pop();
                out.truncate(out.rfind('/').unwrap_or(0));
                out.push('/');
            }
            _ => {
                out.push_str(&segment);
                if length.is_some() {
                    out.push('/');
                }
            }
        }
        let Some(length) = length else { return Ok(out) };
        slash = rest[length];
        rest = &rest[length + 1..];
    }
}

/// The dots of a dot segment that has parameters (`..;a=1`): they go with it, up to the next slash and whatever they are.
fn dots_with_parameters(rest: &[u8]) -> Option<&'static str> {
    if rest.starts_with(b".;") {
        Some(".")
    } else if rest.starts_with(b"..;") {
        Some("..")
    } else {
        None
    }
}

/// One segment without needless escapes, and with those that are needed.
fn spell(raw: &[u8], out: &mut String) -> Result<(), BadPath> {
    let mut rest = raw;
    // Where a percent sign stands that begins no escape.
    let mut bare = None;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match CLASSES[usize::from(*byte)] {
            Class::Bad => return Err(BadPath),
            Class::Escaped => {
                out.push('%');
                out.push(digit(byte >> 4));
                out.push(digit(byte & 15));
            }
            Class::Special => match escaped(tail) {
                Some(0) => return Err(BadPath),
                Some(byte) if CLASSES[usize::from(byte)] == Class::Unreserved => {
                    out.push(char::from(byte));
                    rest = &tail[2..];
                }
                Some(_) => out.push('%'),
                None => {
                    bare = Some(out.len());
                    out.push('%');
                }
            },
            Class::Kept | Class::Unreserved => out.push(char::from(*byte)),
        }
        // What an undone escape wrote must not make another one, which the next proxy would undo.
        if let Some(at) = bare
            && escaped(&out.as_bytes()[at + 1..]).is_some()
        {
            out.insert_str(at + 1, "25");
            bare = None;
        }
    }
    Ok(())
}

/// The byte that two hexadecimal digits stand for.
fn escaped(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else { return None };
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(value(*high)? << 4 | value(*low)?)
}

fn digit(value: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(value & 15)])
}

/// The third step. Of nothing but slashes two are left, as Envoy leaves them.
fn merge_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    if path.ends_with('/') {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each as Envoy 1.40 has it.
    #[test]
    fn paths_are_spelled_as_envoy_spells_them() {
        for (path, spelled) in [
            ("/", "/"),
            ("/item/1", "/item/1"),
            ("//item", "/item"),
            ("/x/../item/./1", "/item/1"),
            ("/item%2Fone", "/item%2Fone"),
            ("/x/%2e%2e/item", "/item"),
            ("/%69tem", "/item"),
            ("/a%7Eb%2dc", "/a~b-c"),
            ("/a\\b", "/a/b"),
            ("/a\\..\\b", "/b"),
            ("/a%5Cb", "/a%5Cb"),
            ("/a|b^c\"d", "/a%7Cb%5Ec%22d"),
            ("/<{`}>", "/%3C%7B%60%7D%3E"),
            ("/a%", "/a%"),
            ("/a%2", "/a%2"),
            ("/a%zz", "/a%zz"),
            ("/a%2f%2F", "/a%2f%2F"),
            ("/..", "/"),
            ("/../..", "/"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/%2E", "/a/"),
            ("/a/%2e./b", "/b"),
            ("/a//..//b", "/a/b"),
            ("/a///", "/a/"),
            ("//", "//"),
            ("/.//a", "/a"),
            ("/a/b/../", "/a/"),
            ("/a/b//../c", "/a/b/c"),
            ("/a;b/../c", "/c"),
            ("/%c3%A9", "/%c3%A9"),
            ("/a%20b", "/a%20b"),
            ("/a[b]", "/a[b]"),
            ("/a/...", "/a/..."),
            ("/a/.b", "/a/.b"),
            ("/%25%2541", "/%25%2541"),
            ("/%2%41/%%341/%%34z/%2%2e", "/%252A/%2541/%4z/%2."),
            ("/%%%34%31/%4/%31", "/%%2541/%4/1"),
            ("/a/..;x=1/b;c/.;/d", "/b;c/d"),
            ("/a/.%2e;x/%2e;y/.%3b/a;../...;", "/a/..;x/.;y/.%3b/a;../...;"),
            ("/a\\..;x/b", "/a/..;x/b"),
            ("/a/.;x\\%00/b", "/a/b"),
            ("*", "*"),
        ] {
            assert_eq!(normal(path).unwrap(), spelled, "{path}");
        }
        for path in ["/%00", "/a/é", "/\u{7f}", "/a\tb"] {
            assert_eq!(normal(path), Err(BadPath), "{path:?}");
        }
    }

    #[test]
    fn what_is_normal_is_not_copied() {
        for path in ["/", "/item/1", "/a.b/c~d/%41".trim_end_matches("%41"), "/a/.b", "/a%20b"] {
            assert!(matches!(normal(path), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    proptest! {
        /// Nothing is left to be done, and nothing leads up.
        #[test]
        fn once_is_enough(path in "/([a-c%./\\\\|]|%2[eEfF]|%4[01]|//|\\.\\.){0,20}") {
            let once = normal(&path).unwrap().into_owned();
            prop_assert!(once.starts_with('/'));
            prop_assert!(once.split('/').all(|segment| segment != ".." && segment != "."), "{once}");
            prop_assert!(once == "//" || !once.contains("//"), "{once}");
        }

        #[test]
        fn any_text_has_a_spelling_or_none(path in ".*") {
            let _ = normal(&path);
        }
    }
}
