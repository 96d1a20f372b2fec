//! What a delivery says, whoever sent it: the one vocabulary between the senders' formats and the policies.

use super::image::ImageRef;

/// Who sends, and so in which form and with which proof. The name is the last part of the hook's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A script, in Tidegate's own form.
    Generic,
    /// Webhooks of GitHub.
    Github,
    /// Webhooks of GitLab.
    Gitlab,
    /// Events of Amazon ECR by way of EventBridge.
    Ecr,
    /// Notifications of a Docker registry.
    Registry,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Generic, Self::Github, Self::Gitlab, Self::Ecr, Self::Registry];

    /// Its name in `/v1/hooks/{name}`, in configuration and in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Ecr => "ecr",
            Self::Registry => "registry",
        }
    }

    /// The source of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }
}

/// An image was pushed to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePushed {
    /// Which one. The registry is known from every source but a generic one that leaves it out; tag and digest may each
    /// be absent, not both.
    pub image: ImageRef,
    /// Who pushed, as the sender calls them: one line of up to 128 characters. A claim for people to read; no right
    /// follows from it.
    pub pushed_by: Option<String>,
    /// Commit that it was built from, where the event says so: 7 to 64 hexadecimal digits (from `generic`, any word of up
    /// to 128 characters).
    pub revision: Option<String>,
    /// Who told.
    pub source: Source,
}

/// A workflow or pipeline came to a good end. It names a commit and no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowSucceeded {
    /// Repository of the source code, such as `shop/checkout`; up to 255 characters.
    pub repository: String,
    /// Branch or tag that it ran for; up to 255 characters.
    pub branch: String,
    /// Commit: 40 or 64 lower-case hexadecimal digits.
    pub sha: String,
    /// Name of the workflow, pipeline or job; up to 128 characters.
    pub workflow: String,
    /// Who caused it, as for [`ImagePushed::pushed_by`].
    pub actor: Option<String>,
    /// Who told.
    pub source: Source,
}

/// A script asks for a rollout of one policy by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartAsked {
    /// Name of the policy, well formed; whether there is one is for the caller to find out.
    pub policy: String,
    /// What to release; absent where the slots run without Tidegate's doing.
    pub image: Option<ImageRef>,
    /// Revision to show: a word of up to 128 characters.
    pub revision: Option<String>,
    /// Who asks, as for [`ImagePushed::pushed_by`].
    pub actor: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An image was pushed: for [`super::filter::ImageFilter`].
    Image(ImagePushed),
    /// A workflow succeeded: for [`super::filter::WorkflowRule`].
    Workflow(WorkflowSucceeded),
    /// A policy was named.
    Start(StartAsked),
    /// The sender tries whether somebody is there.
    Ping,
    /// In order, and no reason to start anything; why, for the answer and the log.
    Nothing(String),
}

impl Event {
    /// An event that starts nothing.
    pub(super) fn nothing(why: impl Into<String>) -> Self {
        Self::Nothing(why.into())
    }
}

/// One event as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Ids to tell a repetition by, never empty, up to 200 characters each: who has seen one of them has seen the delivery.
    /// Where the sender's id comes in a header that no signature covers, the hash of the body stands beside it, so that a
    /// delivery which was listened to cannot be sent again under another id.
    pub ids: Vec<String>,
    /// What it says.
    pub event: Event,
}
