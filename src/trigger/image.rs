//! Names of images: registry, repository, tag and digest, each checked once, and references made of them.
//!
//! The grammar is that of the OCI distribution specification
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>), digests that of the image
//! specification (<https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests>) with the two algorithms
//! that registries use. Where a reference names a registry is decided as Docker does
//! (<https://github.com/distribution/reference/blob/main/normalize.go>). Nothing is filled in: no `docker.io`, no `latest`.

use std::fmt;

/// The specification's own limit for a tag, in characters (all ASCII).
pub const TAG_MAX: usize = 128;
/// Many registries refuse names above it, the specification says, and so do we. In characters (all ASCII).
pub const REPOSITORY_MAX: usize = 255;
/// Longest host name of DNS with a port behind it, in characters.
const HOST_MAX: usize = 253 + 6;
/// Registry, repository, tag and the longest digest with what stands between them.
const REFERENCE_MAX: usize = HOST_MAX + REPOSITORY_MAX + TAG_MAX + 200;
/// So much of a text that is refused is shown, in characters.
const SHOWN_MAX: usize = 64;

/// Why a text names no image, or an image cannot be deployed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The text breaks the grammar.
    #[error("`{shown}` is no {what}: {rule}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// The beginning of the text.
        shown: String,
        /// The grammar in words.
        rule: &'static str,
    },
    /// A digest is needed and none is known.
    #[error(
        "`{image}` comes without its digest, and a tag may name another image tomorrow: send the digest with it \
         (`repository:tag@sha256:...`), or let the registry itself send the event"
    )]
    NoDigest {
        /// The reference as far as it is known.
        image: String,
    },
    /// Neither tag nor digest says which image of the repository is meant.
    #[error("`{image}` has neither a tag nor a digest, so nobody can tell which image of the repository is meant")]
    NoVersion {
        /// The reference as far as it is known.
        image: String,
    },
}

/// The beginning of a text of a stranger, on one line, for an error.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown += "...";
    }
    shown
}

/// A text that keeps to one rule.
macro_rules! checked {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $holds:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks a text.
            ///
            /// # Errors
            /// It breaks the grammar; the error says it in words.
            pub fn parse(text: &str) -> Result<Self, ImageError> {
                let holds: fn(&str) -> bool = $holds;
                if holds(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(ImageError::Malformed { what: $what, shown: shown(text), rule: $rule })
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked!(
    /// Host of a registry with its port, in lower case, such as `ghcr.io` or `registry.local:5000`.
    Host,
    "registry",
    "a host name or address, with a port where it has one",
    is_host
);
checked!(
    /// Repository without its registry, such as `shop/checkout`.
    Repository,
    "repository",
    "lower-case letters and digits, with `.`, `_`, `__` or `-` between them, in parts divided by `/`, 255 characters at most",
    is_repository
);
checked!(
    /// Tag, such as `v1.2.3`.
    Tag,
    "tag",
    "a letter, digit or `_`, then up to 127 letters, digits, `.`, `_` and `-`",
    is_tag
);
checked!(
    /// Digest of a manifest or index, such as `sha256:` and 64 hexadecimal digits.
    Digest,
    "digest",
    "`sha256:` and 64, or `sha512:` and 128 lower-case hexadecimal digits",
    is_digest
);

fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (Err(address), None),
        Some((address, rest)) => match rest.strip_prefix(':') {
            Some(port) => (Err(address), Some(port)),
            None => return false,
        },
        None => match text.split_once(':') {
            Some((name, port)) => (Ok(name), Some(port)),
            None => (Ok(text), None),
        },
    };
    let named = match name {
        Ok(name) => name.split('.').all(is_label),
        Err(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
    };
    let port_holds = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    text.len() <= HOST_MAX && !text.bytes().any(|b| b.is_ascii_uppercase()) && named && port.is_none_or(port_holds)
}

/// One label of a host name.
fn is_label(label: &str) -> bool {
    let inside = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (1..=63).contains(&label.len()) && inside && !label.starts_with('-') && !label.ends_with('-')
}

fn is_repository(text: &str) -> bool {
    let alphanumeric = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let is_part = |part: &str| {
        let between = |gap: &str| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|byte| byte == b'-');
        part.starts_with(alphanumeric) && part.ends_with(alphanumeric) && part.split(alphanumeric).all(between)
    };
    text.len() <= REPOSITORY_MAX && text.split('/').all(is_part)
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn is_digest(text: &str) -> bool {
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    text.split_once(':').is_some_and(|(algorithm, encoded)| match algorithm {
        "sha256" => hex(encoded, 64),
        "sha512" => hex(encoded, 128),
        _ => false,
    })
}

impl Tag {
    /// Whether it is one under which a registry without the referrers API keeps signatures and attestations of another
    /// image (`sha256-<digest>`, with cosign's `.sig`, `.att` or `.sbom` behind it), and so never a release
    /// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema>).
    #[must_use]
    pub fn is_of_a_referrer(&self) -> bool {
        let Some((algorithm, rest)) = self.0.split_once('-') else { return false };
        let encoded = rest.split_once('.').map_or(rest, |(encoded, _)| encoded);
        is_digest(&format!("{algorithm}:{encoded}"))
    }
}

/// Whether a deployment has to name the image by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// What was judged is what stays deployed, wherever its tag moves.
    Digest,
    /// A tag will do.
    TagOrDigest,
}

/// A reference to an image: `registry/repository:tag@digest`, of which all but the repository may be unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef {
    /// Registry, where it is known.
    pub registry: Option<Host>,
    /// Repository within the registry.
    pub repository: Repository,
    /// Tag, where it was named.
    pub tag: Option<Tag>,
    /// Digest, where it is known.
    pub digest: Option<Digest>,
}

impl ImageRef {
    /// Reads a reference as `docker pull` takes it, without filling anything in.
    ///
    /// # Errors
    /// The first part that breaks its grammar.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        if text.len() > REFERENCE_MAX {
            let rule = "`registry/repository:tag@digest`, shorter than this";
            return Err(ImageError::Malformed { what: "image", shown: shown(text), rule });
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        // A colon before the last slash is that of a port.
        let path = name.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match name[path..].find(':') {
            Some(colon) => (&name[..path + colon], Some(Tag::parse(&name[path + colon + 1..])?)),
            None => (name, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if names_a_registry(first) => (Some(Host::parse(&first.to_ascii_lowercase())?), rest),
            _ => (None, name),
        };
        Ok(Self { registry, repository: Repository::parse(repository)?, tag, digest })
    }

    /// Registry and repository, without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.registry {
            Some(registry) => format!("{registry}/{}", self.repository),
            None => self.repository.to_string(),
        }
    }

    /// The reference to deploy, pinned by its digest where that is known.
    ///
    /// # Errors
    /// `pin` asks for a digest and none is known, or there is neither tag nor digest.
    pub fn to_deploy(&self, pin: Pin) -> Result<String, ImageError> {
        match (&self.tag, &self.digest) {
            (None, None) => Err(ImageError::NoVersion { image: self.to_string() }),
            (Some(_), None) if pin == Pin::Digest => Err(ImageError::NoDigest { image: self.to_string() }),
            // Without the tag: it may name another image by now, and not every runtime takes both.
            (_, Some(digest)) => Ok(format!("{}@{digest}", self.name())),
            (Some(_), None) => Ok(self.to_string()),
        }
    }
}

/// Whether the first part of a reference is a registry: what could be no part of a name on Docker Hub.
fn names_a_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;

    const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn references_are_read_and_written() {
        for (text, registry, repository, tag, digest) in [
            ("checkout", None, "checkout", None, None),
            ("shop/checkout:v1.2", None, "shop/checkout", Some("v1.2"), None),
            ("localhost/checkout", Some("localhost"), "checkout", None, None),
            ("localhost:5000/shop/checkout:1", Some("localhost:5000"), "shop/checkout", Some("1"), None),
            ("[::1]:5000/checkout:1", Some("[::1]:5000"), "checkout", Some("1"), None),
            ("ghcr.io/shop/checkout@DIGEST", Some("ghcr.io"), "shop/checkout", None, Some(DIGEST)),
            ("ghcr.io/shop/a__b.c--d:_x@DIGEST", Some("ghcr.io"), "shop/a__b.c--d", Some("_x"), Some(DIGEST)),
        ] {
            let text = text.replace("DIGEST", DIGEST);
            let image = ImageRef::parse(&text).unwrap();
            assert_eq!(image.registry.as_ref().map(Host::as_str), registry, "{text}");
            assert_eq!(image.repository.as_str(), repository, "{text}");
            assert_eq!(image.tag.as_ref().map(Tag::as_str), tag, "{text}");
            assert_eq!(image.digest.as_ref().map(Digest::as_str), digest, "{text}");
            assert_eq!(image.to_string(), text);
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused_in_words() {
        for (text, what) in [
            ("", "repository"),
            ("Shop/", "repository"),
            ("shop/Checkout", "repository"),
            ("shop//checkout", "repository"),
            ("shop/checkout-", "repository"),
            ("shop/a___b", "repository"),
            ("shop/a..b", "repository"),
            ("shop/checkout:", "tag"),
            ("shop/checkout:.v1", "tag"),
            ("shop/checkout@sha256:abc", "digest"),
            ("shop/checkout@md5:9f86d081884c7d659a2feaa0c55ad015", "digest"),
            ("ghcr..io/checkout", "registry"),
            ("ghcr.io:99999/checkout", "registry"),
            ("ghcr.io:+5/checkout", "registry"),
        ] {
            let error = ImageRef::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("is no {what}: ")), "{text}: {error}");
        }
        assert!(ImageRef::parse(&format!("a/{}", "b".repeat(254))).is_err());
        assert!(ImageRef::parse(&format!("a:{}", "b".repeat(129))).is_err());
        assert!(ImageRef::parse(&"a".repeat(10_000)).unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn what_is_deployed_is_pinned_where_it_can_be() {
        let deploy = |text: &str, pin| ImageRef::parse(text).unwrap().to_deploy(pin);
        let pinned = format!("shop/checkout:v1@{DIGEST}");
        assert_eq!(deploy(&pinned, Pin::Digest).unwrap(), format!("shop/checkout@{DIGEST}"));
        assert_eq!(deploy("shop/checkout:v1", Pin::TagOrDigest).unwrap(), "shop/checkout:v1");
        let error = deploy("shop/checkout:v1", Pin::Digest).unwrap_err().to_string();
        assert!(error.starts_with("`shop/checkout:v1` comes without its digest, and a tag may name another image"));
        let error = deploy("shop/checkout", Pin::TagOrDigest).unwrap_err().to_string();
        assert!(error.contains("neither a tag nor a digest"), "{error}");
    }

    #[test]
    fn tags_of_signatures_are_known() {
        let of_a_referrer = |tag: &str| Tag::parse(tag).unwrap().is_of_a_referrer();
        let schema = DIGEST.replace(':', "-");
        assert!(of_a_referrer(&schema) && of_a_referrer(&format!("{schema}.sig")));
        assert!(!of_a_referrer("sha256-abc") && !of_a_referrer("v1-2"));
    }

    proptest! {
        /// The specification gives its grammar as patterns.
        #[test]
        fn grammars_are_those_of_the_specification(text in "[a-zB0_./:-]{0,12}|[a-z]{250,260}|[a-z._-]{120,135}") {
            let part = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*";
            let repository = Regex::new(&format!("^{part}(/{part})*$")).unwrap();
            prop_assert_eq!(Repository::parse(&text).is_ok(), repository.is_match(&text) && text.len() <= 255);
            let tag = Regex::new("^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$").unwrap();
            prop_assert_eq!(Tag::parse(&text).is_ok(), tag.is_match(&text));
        }

        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_written_again(text in ".{0,80}|[a-z.:/@_-]{0,40}") {
            if let Ok(image) = ImageRef::parse(&text) {
                prop_assert_eq!(ImageRef::parse(&image.to_string()).unwrap(), image);
            }
        }
    }
}
