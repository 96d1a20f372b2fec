//! Whether an event is one that a policy waits for, and which image it then means.
//!
//! [`ImageFilter`] is `start.on.image` of a policy. [`WorkflowRule`] makes an image of a commit, for pipelines that tag
//! images by it; nothing in the policy format leads to one yet.

use super::event::{ImagePushed, WorkflowSucceeded};
use super::image::{Host, ImageError, ImageRef, Repository, shown};

/// Why an event is not one that a policy waits for. No fault of anybody: most events are for other policies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Of another repository, or the same name in another registry.
    #[error("it is of `{got}`, and the policy waits for `{wanted}`")]
    OtherRepository {
        /// What the policy names.
        wanted: String,
        /// What the event names, with its registry where it says it.
        got: String,
    },
    /// The tag is none that counts.
    #[error("the tag `{got}` does not fit `{wanted}`")]
    OtherTag {
        /// The policy's pattern.
        wanted: String,
        /// The event's tag.
        got: String,
    },
    /// The policy looks at tags and there is none.
    #[error("it was pushed without a tag, and the policy waits for tags that fit `{wanted}`")]
    NoTag {
        /// The policy's pattern.
        wanted: String,
    },
    /// A signature or attestation that is kept as an image.
    #[error("the tag `{got}` is that of a signature or attestation of another image")]
    OfAReferrer {
        /// The event's tag.
        got: String,
    },
    /// Another branch or tag of the source code.
    #[error("it ran for `{got}`, and `{wanted}` counts")]
    OtherBranch {
        /// The pattern.
        wanted: String,
        /// The event's branch.
        got: String,
    },
    /// Another workflow, pipeline or job.
    #[error("it is the workflow `{got}`, and `{wanted}` counts")]
    OtherWorkflow {
        /// The name that counts.
        wanted: String,
        /// The event's.
        got: String,
    },
    /// The template and this event make no reference.
    #[error("no image can be named after it: {0}")]
    NoImage(ImageError),
}

/// A pattern in which `*` stands for any text, none included, and everything else for itself.
///
/// The time is linear in pattern and text: between two stars the first fit is as good as any later one, so nothing is
/// ever tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    pattern: String,
}

impl Glob {
    /// Takes a pattern; every text is one.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self { pattern: pattern.to_owned() }
    }

    /// Whether all of a text fits.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        let Some((first, rest)) = self.pattern.split_once('*') else { return self.pattern == text };
        let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(mut text) = text.strip_prefix(first).and_then(|text| text.strip_suffix(last)) else { return false };
        for piece in between.split('*') {
            match text.find(piece) {
                Some(at) => text = &text[at + piece.len()..],
                None => return false,
            }
        }
        true
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}

/// `start.on.image` of a policy, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFilter {
    repository: String,
    tag: Option<Glob>,
}

impl ImageFilter {
    /// A filter for a repository, with or without its registry (`ghcr.io/shop/checkout`, `shop/checkout`: then in any
    /// registry), and a pattern for tags; without one every tag counts, and no tag as well.
    ///
    /// # Errors
    /// The repository breaks its grammar, or has a tag or digest behind it.
    pub fn new(repository: &str, tag: Option<&str>) -> Result<Self, ImageError> {
        // A repository may begin with a part that looks like a host (`team.a/checkout`), so nothing is cut off: it is
        // compared with both forms of the event's name.
        let whole = Repository::parse(repository).map(|_| ());
        let parted = || {
            let (host, rest) = repository.split_once('/')?;
            Host::parse(&host.to_ascii_lowercase()).ok()?;
            Repository::parse(rest).ok()
        };
        if let (Err(error), None) = (whole, parted()) {
            return Err(error);
        }
        Ok(Self { repository: repository.to_ascii_lowercase(), tag: tag.map(Glob::new) })
    }

    /// Whether the policy waits for it.
    ///
    /// # Errors
    /// It does not, and why.
    pub fn admits(&self, image: &ImageRef) -> Result<(), Mismatch> {
        let full = image.name();
        if self.repository != full && self.repository != image.repository.as_str() {
            return Err(Mismatch::OtherRepository { wanted: self.repository.clone(), got: full });
        }
        if let Some(tag) = image.tag.as_ref().filter(|tag| tag.is_of_a_referrer()) {
            return Err(Mismatch::OfAReferrer { got: tag.to_string() });
        }
        match (&self.tag, &image.tag) {
            (None, _) => Ok(()),
            (Some(wanted), Some(tag)) if wanted.fits(tag.as_str()) => Ok(()),
            (Some(wanted), Some(tag)) => {
                Err(Mismatch::OtherTag { wanted: wanted.as_str().to_owned(), got: tag.to_string() })
            }
            (Some(wanted), None) => Err(Mismatch::NoTag { wanted: wanted.as_str().to_owned() }),
        }
    }
}

/// Which workflow makes an image, and what it calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowRule {
    /// Repository of the source code; GitHub takes names in any case, so the case does not count.
    repository: String,
    branch: Glob,
    workflow: Option<String>,
    image: String,
}

/// What a template may say of a workflow.
const PLACEHOLDERS: [&str; 3] = ["{sha}", "{short_sha}", "{branch}"];

/// Why a template is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder that is not known.
    #[error("`{{{name}}}` is no placeholder of an image: `{{sha}}`, `{{short_sha}}` and `{{branch}}` are")]
    Unknown {
        /// The beginning of its name.
        name: String,
    },
    /// With every placeholder filled in it is no image.
    #[error("the template names no image: {0}")]
    NoImage(ImageError),
    /// All commits would have the same image.
    #[error("the template has neither `{{sha}}` nor `{{short_sha}}`, so every commit would have the same image")]
    SameForAll,
}

impl WorkflowRule {
    /// A rule for the workflow of a name (any without one) on branches or tags that fit, with a template of its image
    /// such as `ghcr.io/shop/checkout:{sha}`. `{short_sha}` has 7 digits; in `{branch}` what cannot stand in a tag is `-`.
    ///
    /// # Errors
    /// The template has an unknown placeholder, none for the commit, or makes no reference with a tag.
    pub fn new(repository: &str, branch: &str, workflow: Option<&str>, image: &str) -> Result<Self, TemplateError> {
        let rest = PLACEHOLDERS.iter().fold(image.to_owned(), |text, placeholder| text.replace(placeholder, ""));
        if let Some((_, unknown)) = rest.split_once('{') {
            let name = unknown.split_once('}').map_or(unknown, |(name, _)| name);
            return Err(TemplateError::Unknown { name: shown(name) });
        }
        if !image.contains("{sha}") && !image.contains("{short_sha}") {
            return Err(TemplateError::SameForAll);
        }
        let sample = fill(image, &"0".repeat(40), "main").map_err(TemplateError::NoImage)?;
        sample.to_deploy(super::image::Pin::TagOrDigest).map_err(TemplateError::NoImage)?;
        Ok(Self {
            repository: repository.to_owned(),
            branch: Glob::new(branch),
            workflow: workflow.map(str::to_owned),
            image: image.to_owned(),
        })
    }

    /// The image of a workflow's commit. Its digest is not known.
    ///
    /// # Errors
    /// The rule is not for this workflow, or its branch makes no tag.
    pub fn image(&self, run: &WorkflowSucceeded) -> Result<ImagePushed, Mismatch> {
        if !self.repository.eq_ignore_ascii_case(&run.repository) {
            let (wanted, got) = (self.repository.clone(), run.repository.clone());
            return Err(Mismatch::OtherRepository { wanted, got });
        }
        if !self.branch.fits(&run.branch) {
            return Err(Mismatch::OtherBranch { wanted: self.branch.as_str().to_owned(), got: run.branch.clone() });
        }
        if let Some(wanted) = self.workflow.as_ref().filter(|wanted| **wanted != run.workflow) {
            return Err(Mismatch::OtherWorkflow { wanted: wanted.clone(), got: run.workflow.clone() });
        }
        Ok(ImagePushed {
            image: fill(&self.image, &run.sha, &run.branch).map_err(Mismatch::NoImage)?,
            pushed_by: run.actor.clone(),
            revision: Some(run.sha.clone()),
            source: run.source,
        })
    }
}

fn fill(template: &str, sha: &str, branch: &str) -> Result<ImageRef, ImageError> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-');
    let branch: String = branch.chars().map(|letter| if fits(letter) { letter } else { '-' }).collect();
    let short = sha.get(..7).unwrap_or(sha);
    // No value has a brace in it, so the order does not matter.
    ImageRef::parse(&template.replace("{short_sha}", short).replace("{sha}", sha).replace("{branch}", &branch))
}

#[cfg(test)]
mod tests {
    use super::super::event::Source;
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    /// What is said of an image, empty when it is admitted.
    fn says(repository: &str, tag: Option<&str>, image: &str) -> String {
        let filter = ImageFilter::new(repository, tag).unwrap();
        let image = ImageRef::parse(&image.replace("DIGEST", DIGEST)).unwrap();
        filter.admits(&image).err().map(|mismatch| mismatch.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_repository_counts_with_or_without_its_registry() {
        for wanted in ["shop/checkout", "ghcr.io/shop/checkout", "GHCR.io/shop/checkout"] {
            assert_eq!(says(wanted, None, "ghcr.io/shop/checkout:v1"), "", "{wanted}");
        }
        assert_eq!(says("team.a/checkout", None, "localhost:5000/team.a/checkout:v1"), "");
        assert_eq!(
            says("quay.io/shop/checkout", None, "ghcr.io/shop/checkout:v1"),
            "it is of `ghcr.io/shop/checkout`, and the policy waits for `quay.io/shop/checkout`"
        );
        for wanted in ["checkout", "shop/check", "ghcr.io/shop", "ghcr.io"] {
            assert!(says(wanted, None, "ghcr.io/shop/checkout:v1").contains("the policy waits for"), "{wanted}");
        }
        // A sender that does not tell the registry does not tell that it is the right one.
        assert!(says("ghcr.io/shop/checkout", None, "shop/checkout:v1").contains("it is of `shop/checkout`"));
    }

    #[test]
    fn tags_count_by_pattern() {
        assert_eq!(says("checkout", Some("v*"), "checkout:v1@DIGEST"), "");
        assert_eq!(says("checkout", None, "checkout@DIGEST"), "");
        assert_eq!(says("checkout", Some("v*"), "checkout:latest"), "the tag `latest` does not fit `v*`");
        let without = "it was pushed without a tag, and the policy waits for tags that fit `*`";
        assert_eq!(says("checkout", Some("*"), "checkout@DIGEST"), without);
        let signature = format!("checkout:{}.sig", DIGEST.replace(':', "-"));
        assert!(says("checkout", None, &signature).contains("is that of a signature or attestation"));
    }

    #[test]
    fn what_can_be_no_repository_is_no_filter() {
        for repository in ["", "shop/checkout:v1", "Shop/Checkout", "ghcr.io/Shop", "shop/*", "https://ghcr.io/shop"] {
            assert!(ImageFilter::new(repository, None).is_err(), "{repository}");
        }
    }

    fn run(branch: &str) -> WorkflowSucceeded {
        WorkflowSucceeded {
            repository: "Shop/checkout".to_owned(),
            branch: branch.to_owned(),
            sha: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            workflow: "release".to_owned(),
            actor: Some("ada".to_owned()),
            source: Source::Github,
        }
    }

    #[test]
    fn a_workflow_names_an_image_by_its_commit() {
        let image = |branch: &str, workflow, template: &str, run: &WorkflowSucceeded| {
            let rule = WorkflowRule::new("shop/checkout", branch, workflow, template).unwrap();
            rule.image(run).map(|pushed| pushed.image.to_string()).map_err(|mismatch| mismatch.to_string())
        };
        let main = run("main");
        let whole = "ghcr.io/shop/checkout:0123456789abcdef0123456789abcdef01234567";
        assert_eq!(image("main", None, "ghcr.io/shop/checkout:{sha}", &main).unwrap(), whole);
        let feature = image("*", Some("release"), "shop/checkout:{branch}-{short_sha}", &run("fix/ü")).unwrap();
        assert_eq!(feature, "shop/checkout:fix---0123456");
        let error = image("main", None, "shop/checkout:{sha}", &run("other")).unwrap_err();
        assert_eq!(error, "it ran for `other`, and `main` counts");
        let error = image("main", Some("build"), "shop/checkout:{sha}", &main).unwrap_err();
        assert_eq!(error, "it is the workflow `release`, and `build` counts");
        let error = image("*", None, "shop/checkout:{branch}{sha}", &run(&"b".repeat(100))).unwrap_err();
        assert!(error.starts_with("no image can be named after it: `bbb"), "{error}");
        let other = WorkflowRule::new("shop/cart", "*", None, "shop/cart:{sha}").unwrap();
        assert!(other.image(&main).unwrap_err().to_string().contains("it is of `Shop/checkout`"));
    }

    #[test]
    fn templates_are_checked_when_they_are_configured() {
        let error = |template| WorkflowRule::new("a/b", "main", None, template).unwrap_err().to_string();
        assert!(error("shop/checkout:{commit}").contains("`{commit}` is no placeholder"));
        assert!(error("shop/checkout:{branch}").contains("every commit would have the same image"));
        assert!(error("shop/{sha}").contains("neither a tag nor a digest"));
        assert!(error("Shop:{sha}").contains("is no repository"));
        assert!(error("shop:{sha").contains("`{sha}` is no placeholder of an image"));
    }

    /// The plainest matcher there is; slow on purpose.
    fn fits(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skipped| fits(rest, &text[skipped..])),
            Some((byte, rest)) => text.first() == Some(byte) && fits(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn patterns_fit_as_the_plain_matcher_says(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(Glob::new(&pattern).fits(&text), fits(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_pattern_and_text_are_compared(pattern in ".{0,20}", text in ".{0,20}") {
            let all: String = text.chars().map(|_| '*').collect();
            let fits = Glob::new(&format!("*{all}")).fits(&text);
            prop_assert!(fits);
            let _ = Glob::new(&pattern).fits(&text);
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer() {
        // Backtracking would need more steps than the universe has had seconds.
        let glob = Glob::new(&"a*".repeat(500));
        assert!(!glob.fits(&"b".repeat(100_000)) && glob.fits(&"a".repeat(100_000)));
        assert!(!Glob::new(&format!("{}b", "*a".repeat(500))).fits(&"a".repeat(100_000)));
    }
}
