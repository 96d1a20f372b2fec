//! What a caller asks of the control plane and what it answers, free of HTTP.
//!
//! A request carries its body as JSON and its query members as text: that both are well-formed is `validate`'s
//! business, so that all that is wrong with a request is said at once.

use super::{Extensions, Key, Kind, Resource};
use serde_json::Value;
use std::sync::Arc;

/// One of the 38 operations (App Mesh API 2019-01-25), as its path and method tell them apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// `CreateX`. The name is in the body.
    Create {
        /// What to create.
        kind: Kind,
        /// Mesh that it goes into; `None` for a mesh.
        mesh: Option<String>,
        /// Router or gateway that it goes into.
        parent: Option<String>,
        /// `meshOwner` of the query.
        owner: Option<String>,
        /// Body: `clientToken`, the name, `spec`, `tags`.
        body: Value,
    },
    /// `UpdateX`: replaces the spec.
    Update {
        /// What to update.
        key: Key,
        /// `meshOwner` of the query.
        owner: Option<String>,
        /// Body: `clientToken`, `spec`.
        body: Value,
        /// Tidegate's extensions, on UpdateRoute.
        extensions: Extensions,
    },
    /// `DescribeX`.
    Describe {
        /// What to describe.
        key: Key,
        /// `meshOwner` of the query.
        owner: Option<String>,
    },
    /// `DeleteX`.
    Delete {
        /// What to delete.
        key: Key,
        /// `meshOwner` of the query.
        owner: Option<String>,
    },
    /// `ListX`.
    List {
        /// What to list.
        kind: Kind,
        /// Mesh to list it of; `None` for meshes.
        mesh: Option<String>,
        /// Router or gateway to list it of.
        parent: Option<String>,
        /// `meshOwner` of the query.
        owner: Option<String>,
        /// Where and how far to go on.
        page: Page,
    },
    /// `TagResource`: adds tags, overwriting equal keys.
    Tag {
        /// What to tag.
        arn: Option<String>,
        /// Body: `tags`.
        body: Value,
    },
    /// `UntagResource`: removes tags.
    Untag {
        /// What to untag.
        arn: Option<String>,
        /// Body: `tagKeys`.
        body: Value,
    },
    /// `ListTagsForResource`.
    ListTags {
        /// Whose tags.
        arn: Option<String>,
        /// Where and how far to go on.
        page: Page,
    },
}

impl Request {
    /// Whether it can change anything.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(
            self,
            Self::Create { .. } | Self::Update { .. } | Self::Delete { .. } | Self::Tag { .. } | Self::Untag { .. }
        )
    }
}

/// Query members of the list operations, as sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// `limit`.
    pub limit: Option<String>,
    /// `nextToken`.
    pub next_token: Option<String>,
}

/// Status of a described resource (App Mesh API 2019-01-25, `MeshStatusCode` and its twins). INACTIVE never appears
/// here: no cause for it was ever documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is there.
    Active,
    /// It was, until this reply.
    Deleted,
}

/// What an operation answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The resource after (for a delete: at) the operation.
    Resource {
        /// The resource.
        resource: Arc<Resource>,
        /// Its status.
        status: Status,
        /// Account that owns it and its mesh.
        account: String,
    },
    /// One page of a list.
    List {
        /// What is listed.
        kind: Kind,
        /// The page.
        items: Vec<Arc<Resource>>,
        /// Account that owns them and their mesh.
        account: String,
        /// Where the next page begins; `None` on the last.
        next_token: Option<String>,
    },
    /// One page of tags, by key.
    Tags {
        /// The page.
        tags: Vec<(String, String)>,
        /// Where the next page begins; `None` on the last.
        next_token: Option<String>,
    },
    /// Nothing to say but that it is done.
    Empty,
}

impl Reply {
    /// The answered resource; `None` for lists.
    #[must_use]
    pub fn resource(&self) -> Option<&Resource> {
        match self {
            Self::Resource { resource, .. } => Some(resource),
            Self::List { .. } | Self::Tags { .. } | Self::Empty => None,
        }
    }
}
