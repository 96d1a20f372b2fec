//! Pages of a list. The token holds the list and the last name of the page before, so that a page begins where the last
//! one ended even if something was created or deleted meanwhile; it is opaque to callers (hex).

use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::Page;
use crate::mesh::validate;
use std::ops::Bound;

/// Most items of a page (App Mesh API 2019-01-25, `ListMeshesLimit` and its twins); also the default.
pub(super) const LIST_MAX: usize = 100;

/// Most tags of a page (App Mesh API 2019-01-25, `TagsLimit`); also the default.
pub(super) const TAGS_MAX: usize = 50;

/// A page that was asked for.
pub(super) struct Cut {
    limit: usize,
    scope: String,
    after: Option<String>,
}

/// Reads which page of a list is asked for.
pub(super) fn asked(page: &Page, max: usize, scope: String) -> Result<Cut, ApiError> {
    let limit = validate::limit(page.limit.as_deref(), max).map_err(|violation| ApiError::invalid(vec![violation]))?;
    let after = page.next_token.as_deref().map(|token| read(token, &scope)).transpose()?;
    Ok(Cut { limit, scope, after })
}

impl Cut {
    /// Where the list goes on: names before are of no interest.
    pub(super) fn from(&self) -> Bound<&str> {
        self.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded)
    }

    /// The page of a list that begins at [`Cut::from`], in the order of names, and the token of the next page.
    pub(super) fn take<'n, T>(&self, mut rest: impl Iterator<Item = (&'n str, T)>) -> (Vec<T>, Option<String>) {
        let mut items = Vec::new();
        let mut last = "";
        for (name, item) in rest.by_ref().take(self.limit) {
            last = name;
            items.push(item);
        }
        let next_token = rest.next().map(|_| write(last, &self.scope));
        (items, next_token)
    }
}

/// A space cannot be in a kind or a name of a mesh, router or gateway, so it ends the scope.
fn write(last: &str, scope: &str) -> String {
    format!("{scope} {last}").bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn read(token: &str, scope: &str) -> Result<String, ApiError> {
    let refused =
        || ApiError::new(ErrorCode::BadRequest, "nextToken: is not a token that this list gave out").at("nextToken");
    if token.is_empty() || !token.len().is_multiple_of(2) || !token.is_ascii() {
        return Err(refused());
    }
    let bytes: Option<Vec<u8>> = (0..token.len())
        .step_by(2)
        .map(|at| token.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
        .collect();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(refused)?;
    let last = text.strip_prefix(scope).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(refused)?;
    Ok(last.to_owned())
}
