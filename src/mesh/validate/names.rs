//! The API's own spelling of members, for files that spell them otherwise: CloudFormation writes `DNS` and `Hostname`
//! where the API has `dns` and `hostname`, and not always by one rule.

use super::shape::Shape;
use super::table;
use crate::mesh::model::Kind;

/// A place in the shape of a resource. Where nothing is known of what stands there, nothing is said about it either:
/// checking is done later, on the names as they then are.
#[derive(Clone, Copy)]
pub struct Names {
    shape: Option<&'static Shape>,
}

/// What the API wants at a place, as far as a file's text and numbers may stand for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Text.
    Text,
    /// A whole number.
    Number,
    /// True or false.
    Bool,
    /// Something else, or something unknown.
    Other,
}

impl Names {
    /// Of a spec.
    #[must_use]
    pub fn of_spec(kind: Kind) -> Self {
        Self { shape: Some(table::spec(kind)) }
    }

    /// Of a list of tags.
    #[must_use]
    pub fn of_tags() -> Self {
        Self { shape: Some(table::tag_list()) }
    }

    /// A member whose name is this one, whatever the case of its letters, and what is inside it.
    #[must_use]
    pub fn member(self, name: &str) -> Option<(&'static str, Self)> {
        let (Some(Shape::Struct(members)) | Some(Shape::Union(members))) = self.shape else { return None };
        let member = members.iter().find(|member| member.name.eq_ignore_ascii_case(name))?;
        Some((member.name, Self { shape: Some(member.shape) }))
    }

    /// An item of a list.
    #[must_use]
    pub fn item(self) -> Self {
        let shape = if let Some(Shape::List { of, .. }) = self.shape { Some(*of) } else { None };
        Self { shape }
    }

    /// Beneath what is not known.
    #[must_use]
    pub const fn unknown() -> Self {
        Self { shape: None }
    }

    /// What is wanted here.
    #[must_use]
    pub fn wants(self) -> Wants {
        match self.shape {
            Some(Shape::Text { .. } | Shape::Choice(_)) => Wants::Text,
            Some(Shape::Int { .. }) => Wants::Number,
            Some(Shape::Bool) => Wants::Bool,
            _ => Wants::Other,
        }
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("wants", &self.wants()).finish_non_exhaustive()
    }
}
