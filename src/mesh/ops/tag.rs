//! The three tag operations (App Mesh API 2019-01-25, TagResource, UntagResource, ListTagsForResource). Tags are no
//! part of the spec: changing them changes neither version nor lastUpdatedAt.

use super::{Op, Outcome, page};
use crate::mesh::error::{ApiError, ErrorCode, Violation};
use crate::mesh::model::{Key, Page, Reply, Resource};
use crate::mesh::validate;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

pub(super) fn tag(op: &Op<'_>, arn: Option<&str>, body: &Value) -> Result<Outcome, ApiError> {
    let found = find(op, arn);
    let tags = validate::tag_body(body, found.as_ref().ok().map(|found| &found.spec)).map_err(ApiError::invalid)?;
    let resource = found?;
    let mut merged = resource.tags.clone();
    merged.extend(tags);
    if merged.len() > validate::TAGS_MAX {
        let message = format!(
            "{} would have {} tags, and {} are allowed; none of the tags in this request were applied",
            resource.key.describe(),
            merged.len(),
            validate::TAGS_MAX
        );
        return Err(ApiError::new(ErrorCode::TooManyTags, message));
    }
    Ok(retagged(resource, merged))
}

pub(super) fn untag(op: &Op<'_>, arn: Option<&str>, body: &Value) -> Result<Outcome, ApiError> {
    let keys = validate::untag_body(body).map_err(ApiError::invalid)?;
    let resource = find(op, arn)?;
    let mut rest = resource.tags.clone();
    for key in &keys {
        rest.remove(key);
    }
    Ok(retagged(resource, rest))
}

pub(super) fn list(op: &Op<'_>, arn: Option<&str>, page: &Page) -> Result<Outcome, ApiError> {
    let resource = find(op, arn)?;
    let cut = page::asked(page, page::TAGS_MAX, format!("tags/{}", resource.uid))?;
    let all = resource.tags.range::<str, _>((cut.from(), Bound::Unbounded));
    let (tags, next_token) = cut.take(all.map(|(key, value)| (key.as_str(), (key.clone(), value.clone()))));
    Ok(Outcome { changes: Vec::new(), reply: Reply::Tags { tags, next_token } })
}

fn retagged(resource: &Resource, tags: BTreeMap<String, String>) -> Outcome {
    let changed = Resource { tags, ..resource.clone() };
    Outcome { changes: vec![(resource.key.clone(), Some(Arc::new(changed)))], reply: Reply::Empty }
}

/// The resource of an ARN. Partition and region are not looked at: there is one store, whatever region is named.
fn find<'s>(op: &Op<'s>, arn: Option<&str>) -> Result<&'s Arc<Resource>, ApiError> {
    let Some(arn) = arn else {
        let missing = Violation { path: "resourceArn".into(), message: "is required".into() };
        return Err(ApiError::invalid(vec![missing]));
    };
    let mut parts = arn.splitn(6, ':');
    let head = [parts.next(), parts.next(), parts.next()];
    let (_region, account, path) = (parts.next(), parts.next(), parts.next());
    let is_ours = head[0] == Some("arn") && head[2] == Some("appmesh");
    let Some(key) = path.filter(|_| is_ours).and_then(Key::from_path) else {
        let message = format!("is not the ARN of an App Mesh resource: {arn:?}");
        return Err(ApiError::invalid(vec![Violation { path: "resourceArn".into(), message }]));
    };
    let found = op.state.get(&key).filter(|_| account == Some(op.context.account.as_str()));
    found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("Resource with ARN {arn} is not present")))
}
