//! Regular expressions of a mesh.
//!
//! They are RE2's, since Envoy matches by it, and are compiled here by `regex`, which descends from it and knows more. What
//! only one of the two knows, or reads another way, is no pattern of a mesh: Envoy would refuse all routes of its port, or
//! the two data planes would route the same request differently.

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassSet, ClassSetBinaryOp, ClassSetItem, ClassUnicode, ClassUnicodeKind, Flag, Flags,
    FlagsItemKind, GroupKind, HexLiteralKind, Literal, LiteralKind, RepetitionKind, RepetitionRange,
};

/// Compiled size of a pattern, in bytes: Envoy bounds its programs too, and a larger one costs every request.
const PATTERN_SIZE_MAX: usize = 1 << 20;

/// How often RE2 repeats something at most, counted through what is nested (`re2.h`, "maximum repeat").
const REPEAT_MAX: u64 = 1000;

/// A regular expression that must match a whole text, in the dialect of RE2.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: String,
    whole: regex::Regex,
}

impl Pattern {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it, or that it is too large, or not RE2's.
    pub fn new(source: &str) -> Result<Self, String> {
        let whole = regex::RegexBuilder::new(&format!(r"\A(?:{source})\z")).size_limit(PATTERN_SIZE_MAX).build();
        let whole = whole.map_err(|error| error.to_string())?;
        re2(source)?;
        Ok(Self { source: source.to_owned(), whole })
    }

    /// As written in the mesh.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it matches the whole text. Time is linear in the text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }
}

impl serde::Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> serde::Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::new(&source).map_err(serde::de::Error::custom)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

/// Whether RE2 reads it as it is meant here.
fn re2(source: &str) -> Result<(), String> {
    let ast = Parser::new().parse(source).map_err(|error| error.to_string())?;
    ast::visit(&ast, Re2 { repeats: Vec::new() })
        .map_err(|what| format!("RE2, by which Envoy matches, does not know {what}; write it another way"))
}

/// Looks for what RE2 does not have (its page "Syntax").
struct Re2 {
    /// Counts of the repetitions around.
    repeats: Vec<u64>,
}

impl ast::Visitor for Re2 {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        match ast {
            Ast::Flags(set) => flags(&set.flags),
            Ast::Literal(one) => literal(one),
            Ast::Assertion(one) => assertion(&one.kind),
            Ast::ClassUnicode(class) => unicode(class),
            Ast::ClassBracketed(class) => match &class.kind {
                ClassSet::BinaryOp(_) => Err("operators between classes".to_owned()),
                ClassSet::Item(_) => Ok(()),
            },
            Ast::Repetition(repetition) => {
                if matches!(&*repetition.ast, Ast::Repetition(_)) {
                    return Err("a repetition of a repetition".to_owned());
                }
                self.repeats.push(times(&repetition.op.kind));
                let all = self.repeats.iter().fold(1_u64, |all, times| all.saturating_mul(*times));
                if all > REPEAT_MAX { Err(format!("more than {REPEAT_MAX} repetitions")) } else { Ok(()) }
            }
            Ast::Group(group) => match &group.kind {
                GroupKind::NonCapturing(set) => flags(set),
                GroupKind::CaptureName { name, .. } => {
                    let plain = |character: char| character.is_ascii_alphanumeric() || character == '_';
                    if name.name.chars().all(plain) { Ok(()) } else { Err(format!("the group name {}", name.name)) }
                }
                GroupKind::CaptureIndex(_) => Ok(()),
            },
            Ast::Empty(_) | Ast::Dot(_) | Ast::ClassPerl(_) | Ast::Alternation(_) | Ast::Concat(_) => Ok(()),
        }
    }

    fn visit_post(&mut self, ast: &Ast) -> Result<(), String> {
        if matches!(ast, Ast::Repetition(_)) {
            self.repeats.pop();
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), String> {
        match item {
            ClassSetItem::Literal(one) => literal(one),
            ClassSetItem::Range(range) => literal(&range.start).and_then(|()| literal(&range.end)),
            ClassSetItem::Unicode(class) => unicode(class),
            ClassSetItem::Bracketed(_) => Err("a class within a class".to_owned()),
            ClassSetItem::Empty(_) | ClassSetItem::Ascii(_) | ClassSetItem::Perl(_) | ClassSetItem::Union(_) => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ClassSetBinaryOp) -> Result<(), String> {
        Err("operators between classes".to_owned())
    }
}

/// The largest count that a repetition names; without one it makes no copies.
fn times(kind: &RepetitionKind) -> u64 {
    match kind {
        RepetitionKind::Range(
            RepetitionRange::Exactly(times) | RepetitionRange::AtLeast(times) | RepetitionRange::Bounded(_, times),
        ) => u64::from((*times).max(1)),
        _ => 1,
    }
}

fn flags(flags: &Flags) -> Result<(), String> {
    for item in &flags.items {
        if let FlagsItemKind::Flag(flag @ (Flag::Unicode | Flag::CRLF | Flag::IgnoreWhitespace)) = &item.kind {
            return Err(format!("the flag {flag:?}"));
        }
    }
    Ok(())
}

fn literal(literal: &Literal) -> Result<(), String> {
    match &literal.kind {
        LiteralKind::HexFixed(HexLiteralKind::UnicodeShort | HexLiteralKind::UnicodeLong)
        | LiteralKind::HexBrace(HexLiteralKind::UnicodeShort | HexLiteralKind::UnicodeLong) => {
            Err(r"\u and \U; say \x{…}".to_owned())
        }
        _ => Ok(()),
    }
}

fn assertion(kind: &AssertionKind) -> Result<(), String> {
    match kind {
        AssertionKind::StartLine
        | AssertionKind::EndLine
        | AssertionKind::StartText
        | AssertionKind::EndText
        | AssertionKind::WordBoundary
        | AssertionKind::NotWordBoundary => Ok(()),
        _ => Err(r"the start or end of a word, but only \b".to_owned()),
    }
}

/// Categories by their one or two letters, and scripts by their names, as both read them.
fn unicode(class: &ClassUnicode) -> Result<(), String> {
    const CATEGORIES: &str =
        "C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs";
    const SCRIPTS: &str = "Arabic Armenian Bengali Cyrillic Devanagari Georgian Greek Han Hangul Hebrew Hiragana Katakana Latin Tamil Thai";
    let known = |name: &str| CATEGORIES.split(' ').chain(SCRIPTS.split(' ')).any(|known| known == name);
    match &class.kind {
        ClassUnicodeKind::OneLetter(letter) if known(letter.encode_utf8(&mut [0; 4])) => Ok(()),
        ClassUnicodeKind::Named(name) if known(name) => Ok(()),
        kind => Err(format!("this class of Unicode ({kind:?}), or not by this name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_re2_reads_the_same_way_is_taken() {
        let good = [
            "",
            "/v[0-9]+",
            r"(?i)a|b",
            r"(?P<name>x)(?<other>y)",
            r"\d{1,3}(\.\d{1,3}){3}",
            r"[[:alpha:]_-]+",
            r"\pL\p{Lu}",
            r"\x{263a}\x41",
            "a{1000}",
            "(a{2,30}){3,30}",
            r"\bword\b",
            "a*?b+?c??",
            r"[\]\[&]",
            r"\p{Greek}",
            "(?s:.)",
            "a{0}",
        ];
        for source in good {
            assert_eq!(Pattern::new(source).err(), None, "{source}");
        }
    }

    #[test]
    fn what_only_one_of_both_knows_is_refused_with_what_it_is() {
        let bad = [
            (r"[a-z&&[^aeiou]]", "operators between classes"),
            (r"[a[b]]", "a class within a class"),
            (r"(?x) a b", "the flag IgnoreWhitespace"),
            (r"(?R)^a$", "the flag CRLF"),
            (r"\u0041", r"\u and \U"),
            (r"[\u{41}-z]", r"\u and \U"),
            (r"\b{start}a", "the start or end of a word"),
            (r"\<a\>", "the start or end of a word"),
            ("a{1001}", "more than 1000 repetitions"),
            ("(a{40}){40}", "more than 1000 repetitions"),
            ("a**", "a repetition of a repetition"),
            (r"\p{Letter}", "this class of Unicode"),
            (r"\p{sc=Greek}", "this class of Unicode"),
            (r"(?<a.b>x)", "the group name a.b"),
        ];
        for (source, what) in bad {
            let error = Pattern::new(source).expect_err(source);
            assert!(
                error.starts_with(&format!("RE2, by which Envoy matches, does not know {what}")),
                "{source}: {error}"
            );
        }
    }

    #[test]
    fn a_pattern_matches_all_of_a_text_or_nothing() {
        let pattern = Pattern::new("a|ab").unwrap();
        assert!(pattern.matches("ab") && pattern.matches("a") && !pattern.matches("abc"));
        assert!(Pattern::new("(").is_err() && Pattern::new("a)(b").is_err());
    }
}
