//! Placeholders of a signal's query, such as `{node}`: which there are, and a query with them filled in for one version.
//!
//! A placeholder is a name in braces: letters, `_` and `-`, and nothing else between them. Whatever else stands in braces
//! belongs to the query language, such as `{job="x"}` of PromQL.

use super::{CloudwatchMetric, CloudwatchQuery, SignalQuery, XrayQuery};

/// Longest value that is filled in, in characters: tags have up to 128 and digests up to 135.
const MAX_VALUE_CHARS: usize = 256;

/// What a version is called, one way or another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placeholder {
    /// Its virtual node.
    Node,
    /// The service that runs it, by the policy's `workload`.
    Service,
    /// Tag of its image.
    ImageTag,
    /// Digest of its image.
    Digest,
    /// Its revision.
    Revision,
}

/// Every placeholder by its name in policies; `{version}` is `{revision}`.
pub const PLACEHOLDERS: [(&str, Placeholder); 6] = [
    ("node", Placeholder::Node),
    ("service", Placeholder::Service),
    ("image_tag", Placeholder::ImageTag),
    ("digest", Placeholder::Digest),
    ("revision", Placeholder::Revision),
    ("version", Placeholder::Revision),
];

impl Placeholder {
    /// By its name in policies.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        PLACEHOLDERS.into_iter().find(|(known, _)| *known == name).map(|(_, placeholder)| placeholder)
    }

    /// Its name in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Service => "service",
            Self::ImageTag => "image_tag",
            Self::Digest => "digest",
            Self::Revision => "revision",
        }
    }
}

/// What is known of one version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Its virtual node.
    pub node: String,
    /// The service that runs it.
    pub service: Option<String>,
    /// Its image, with a tag, a digest or both.
    pub image: Option<String>,
    /// Its revision.
    pub revision: Option<String>,
}

impl Names {
    /// The value of a placeholder, where it is known.
    #[must_use]
    pub fn value(&self, placeholder: Placeholder) -> Option<&str> {
        match placeholder {
            Placeholder::Node => Some(&self.node),
            Placeholder::Service => self.service.as_deref(),
            Placeholder::ImageTag => {
                let named = self.image.as_deref()?.split('@').next()?;
                // What stands behind a colon before the last slash is a port.
                named.rsplit('/').next()?.split_once(':').map(|(_, tag)| tag)
            }
            Placeholder::Digest => self.image.as_deref()?.split_once('@').map(|(_, digest)| digest),
            Placeholder::Revision => self.revision.as_deref(),
        }
    }
}

/// Why a query cannot be asked about a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfilled {
    /// The value is not known.
    Unknown(Placeholder),
    /// It could end the text that it is put into, and mean something else.
    Unfit(Placeholder, String),
}

/// A part of a text.
enum Piece<'a> {
    Text(&'a str),
    /// The name in the braces.
    Name(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((start, length)) = first(rest) {
        let (before, from) = rest.split_at(start);
        pieces.push(Piece::Text(before));
        pieces.push(Piece::Name(&from[1..=length]));
        rest = &from[length + 2..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// Where the first name in braces begins (at its brace), and the name's length; in bytes.
fn first(text: &str) -> Option<(usize, usize)> {
    text.match_indices('{').find_map(|(start, _)| {
        let inner = &text[start + 1..];
        let length = inner.find('}')?;
        let named = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '-';
        (length > 0 && inner[..length].chars().all(named)).then_some((start, length))
    })
}

/// The names in braces of a text, known or not, each with the characters before its brace.
#[must_use]
pub fn names_in(text: &str) -> Vec<(usize, &str)> {
    let mut at = 0;
    let mut found = Vec::new();
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => at += text.chars().count(),
            Piece::Name(name) => {
                found.push((at, name));
                at += name.chars().count() + 2;
            }
        }
    }
    found
}

/// How a value is written into a text.
#[derive(Clone, Copy)]
enum Written {
    AsIs,
    /// What has a meaning in an address is percent-encoded.
    InAddress,
}

fn filled(text: &str, names: &Names, written: Written) -> Result<String, Unfilled> {
    let mut whole = String::new();
    for piece in pieces(text) {
        let name = match piece {
            Piece::Text(text) => {
                whole.push_str(text);
                continue;
            }
            Piece::Name(name) => name,
        };
        let Some(placeholder) = Placeholder::named(name) else {
            // A policy with an unknown one does not compile; whatever this is, it stays what it is.
            whole.push_str(&format!("{{{name}}}"));
            continue;
        };
        let value = names.value(placeholder).ok_or(Unfilled::Unknown(placeholder))?;
        if !is_fit(value) {
            return Err(Unfilled::Unfit(placeholder, value.chars().take(MAX_VALUE_CHARS).collect()));
        }
        match written {
            Written::AsIs => whole.push_str(value),
            Written::InAddress => value.chars().for_each(|c| match c {
                ':' | '/' | '@' | '+' => whole.push_str(&format!("%{:02X}", u32::from(c))),
                c => whole.push(c),
            }),
        }
    }
    Ok(whole)
}

/// Whether a value means itself inside the quotes of every query language there is here.
fn is_fit(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/@+~".contains(&byte);
    (1..=MAX_VALUE_CHARS).contains(&value.len()) && value.bytes().all(plain)
}

impl SignalQuery {
    /// Every placeholder that is used, each once, in order.
    #[must_use]
    pub fn placeholders(&self) -> Vec<Placeholder> {
        let mut found = Vec::new();
        // The visitor changes nothing here, and cannot fail.
        let _ = self.clone().visit(&mut |text, _| {
            found.extend(names_in(text).into_iter().filter_map(|(_, name)| Placeholder::named(name)));
            Ok(())
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether it asks about one version, so that it differs between the two.
    #[must_use]
    pub fn is_per_version(&self) -> bool {
        !self.placeholders().is_empty()
    }

    /// The query about one version.
    ///
    /// # Errors
    /// The first placeholder that cannot be filled in.
    pub fn about(&self, names: &Names) -> Result<Self, Unfilled> {
        let mut query = self.clone();
        query.visit(&mut |text, written| {
            *text = filled(text, names, written)?;
            Ok(())
        })?;
        Ok(query)
    }

    /// A query about both versions that is filled in for the canary, filled in for stable as well; any other one as it is.
    ///
    /// # Errors
    /// The first placeholder that cannot be filled in.
    pub fn beside(mut self, stable: &Names) -> Result<Self, Unfilled> {
        if let Self::Xray(XrayQuery { beside: Some(beside), .. }) = &mut self {
            for text in [&mut beside.filter, &mut beside.stable] {
                *text = filled(text, stable, Written::AsIs)?;
            }
        }
        Ok(self)
    }

    /// Every text in which placeholders are looked for, but for what is stable's part of a query about both versions.
    fn visit(&mut self, see: &mut impl FnMut(&mut String, Written) -> Result<(), Unfilled>) -> Result<(), Unfilled> {
        match self {
            Self::Cloudwatch(CloudwatchQuery::Metric { metric, .. }) => metric.visit(see),
            Self::Cloudwatch(CloudwatchQuery::Expression { expression, metrics, .. }) => {
                see(expression, Written::AsIs)?;
                metrics.values_mut().try_for_each(|metric| metric.visit(see))
            }
            Self::Cloudwatch(CloudwatchQuery::Alarm { name }) => see(name, Written::AsIs),
            Self::Xray(query) => {
                see(&mut query.filter, Written::AsIs)?;
                query.beside.iter_mut().try_for_each(|beside| see(&mut beside.canary, Written::AsIs))
            }
            Self::Webhook(query) => see(&mut query.url, Written::InAddress),
            Self::Prometheus { query, url, .. } => {
                see(query, Written::AsIs)?;
                url.iter_mut().try_for_each(|url| see(url, Written::InAddress))
            }
            Self::Http { url, .. } => see(url, Written::InAddress),
        }
    }
}

impl CloudwatchMetric {
    fn visit(&mut self, see: &mut impl FnMut(&mut String, Written) -> Result<(), Unfilled>) -> Result<(), Unfilled> {
        see(&mut self.namespace, Written::AsIs)?;
        see(&mut self.name, Written::AsIs)?;
        self.dimensions.values_mut().try_for_each(|value| see(value, Written::AsIs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(image: Option<&str>, revision: Option<&str>) -> Names {
        Names { node: "v2".into(), service: None, image: image.map(Into::into), revision: revision.map(Into::into) }
    }

    fn prometheus(query: &str) -> SignalQuery {
        SignalQuery::Prometheus { query: query.into(), url: None, step: None }
    }

    #[test]
    fn a_name_in_braces_is_a_placeholder_and_nothing_else_is() {
        for (text, expected) in [
            ("up", vec![]),
            (r#"sum(rate(e{node="{node}"}[1m]))"#, vec![(17, "node")]),
            (r#"a{b=~"x{2}"} {} { fault } {a b}"#, vec![]),
            ("{node}{version}", vec![(0, "node"), (6, "version")]),
            ("ä{nod}", vec![(1, "nod")]),
            ("{{node}}", vec![(1, "node")]),
            ("{node", vec![]),
        ] {
            assert_eq!(names_in(text), expected, "{text}");
        }
        assert_eq!(
            prometheus("{version} {revision} {node}").placeholders(),
            [Placeholder::Node, Placeholder::Revision]
        );
        assert!(!prometheus(r#"up{job="a"}"#).is_per_version());
    }

    #[test]
    fn each_value_is_filled_in_or_named() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let image = format!("localhost:5000/shop/checkout:v2@{digest}");
        let all = names(Some(&image), Some("abc/1"));
        for (query, expected) in [
            (r#"a{b="{node}"}"#, Ok(r#"a{b="v2"}"#.to_owned())),
            ("{image_tag} {version}", Ok("v2 abc/1".to_owned())),
            ("{digest}", Ok(digest.clone())),
            ("{service}", Err(Unfilled::Unknown(Placeholder::Service))),
        ] {
            assert_eq!(prometheus(query).about(&all), expected.map(|text| prometheus(&text)), "{query}");
        }
        for image in [None, Some("localhost:5000/shop/checkout"), Some("shop@sha256:00")] {
            let unknown = Err(Unfilled::Unknown(Placeholder::ImageTag));
            assert_eq!(prometheus("{image_tag}").about(&names(image, None)), unknown, "{image:?}");
        }
        let http = |url: &str| SignalQuery::Http { url: url.into(), value: "/{node}".into() };
        assert_eq!(http("http://h/{revision}?a={node}").about(&all), Ok(http("http://h/abc%2F1?a=v2")));
    }

    #[test]
    fn a_value_never_ends_the_text_that_it_stands_in() {
        for revision in ["a\"b", "a b", "a}", "a\\", "a'", "", "a\nb", "ä", &"x".repeat(257)] {
            let refused = prometheus("{revision}").about(&names(None, Some(revision))).unwrap_err();
            assert!(matches!(refused, Unfilled::Unfit(Placeholder::Revision, _)), "{revision}: {refused:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[{}a-z_ é-]{0,40}") {
            let whole: usize = names_in(&text).iter().map(|(_, name)| name.chars().count() + 2).sum();
            prop_assert!(whole <= text.chars().count());
            let _ = prometheus(&text).about(&names(None, None));
        }
    }
}
