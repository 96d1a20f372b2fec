//! The next revision of a task definition: an old one as ECS describes it becomes the request that registers the new one.
//!
//! Works on the JSON of the two calls and not on the SDK's types. Those are closed: a member that ECS has learnt since
//! the SDK was made would be lost between reading and writing, and the release would run without it. As JSON, every
//! member is carried over, known or not, but for the few that only an answer has.

use crate::base::ids::RolloutId;
use serde_json::{Value, json};

/// Tag that says which rollout made a revision.
pub(super) const ROLLOUT_TAG: &str = "tidegate:rollout";
/// Tag that says what it releases, for people.
pub(super) const REVISION_TAG: &str = "tidegate:revision";
/// Members of a described task definition that a registration does not take: ECS gives them. `tests/it/ecs` compares
/// this list with the service model.
pub(super) const GIVEN_BY_ECS: [&str; 9] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "deregisteredAt",
    "deleteRequestedAt",
    "registeredBy",
];
/// Tags that AWS puts on resources itself, such as those of CloudFormation, and refuses to be given.
const RESERVED_TAGS: &str = "aws:";
/// So many tags may a task definition have.
const MOST_TAGS: usize = 50;
/// So long may the value of a tag be, in characters.
const LONGEST_TAG: usize = 256;

/// What a revision is to be made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Release<'a> {
    /// Goes into its tag.
    pub(super) rollout: &'a RolloutId,
    /// The container that gets the image.
    pub(super) container: &'a str,
    /// The image.
    pub(super) image: &'a str,
    /// Goes into its tag, as far as tags can hold it.
    pub(super) revision: Option<&'a str>,
}

/// Why there is no next revision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// The answer does not look like one of DescribeTaskDefinition.
    #[error("ECS described no task definition")]
    NoDefinition,
    /// The container that the policy names is not in it.
    #[error("no container `{name}` (there are: {known}); correct `workload.ecs.container`")]
    NoContainer {
        /// The name in the policy.
        name: String,
        /// Names of those in the task definition.
        known: String,
    },
    /// Its tags and the rollout's are more than ECS takes.
    #[error("{0} tags with those of the rollout, and ECS takes 50: remove some from the task definition")]
    TooManyTags(usize),
}

/// The request for RegisterTaskDefinition: what was described, with another image in one container and the rollout's
/// tags.
pub(super) fn next(described: &Value, release: &Release<'_>) -> Result<Value, Unfit> {
    let mut request = described.get("taskDefinition").and_then(Value::as_object).ok_or(Unfit::NoDefinition)?.clone();
    for member in GIVEN_BY_ECS {
        // Order is kept, so that the two revisions can be compared as text.
        request.shift_remove(member);
    }
    let containers = request.get_mut("containerDefinitions").and_then(Value::as_array_mut);
    let containers = containers.ok_or(Unfit::NoDefinition)?;
    let found = containers.iter_mut().find(|container| container["name"] == release.container);
    match found {
        Some(container) => container["image"] = json!(release.image),
        None => {
            let known: Vec<&str> = containers.iter().filter_map(|container| container["name"].as_str()).collect();
            return Err(Unfit::NoContainer { name: release.container.to_owned(), known: known.join(", ") });
        }
    }
    request.insert("tags".to_owned(), Value::Array(tags(described, release)?));
    Ok(Value::Object(request))
}

/// The tags that it had, without those of AWS and of rollouts before, and those of this rollout.
fn tags(described: &Value, release: &Release<'_>) -> Result<Vec<Value>, Unfit> {
    let is_kept = |tag: &&Value| {
        let key = tag["key"].as_str().unwrap_or_default();
        ![ROLLOUT_TAG, REVISION_TAG].contains(&key) && !key.to_lowercase().starts_with(RESERVED_TAGS)
    };
    let mut tags: Vec<Value> = described_tags(described).iter().filter(is_kept).cloned().collect();
    tags.push(json!({ "key": ROLLOUT_TAG, "value": tag_value(&release.rollout.0) }));
    if let Some(revision) = release.revision {
        tags.push(json!({ "key": REVISION_TAG, "value": tag_value(revision) }));
    }
    if tags.len() > MOST_TAGS { Err(Unfit::TooManyTags(tags.len())) } else { Ok(tags) }
}

fn described_tags(described: &Value) -> &[Value] {
    described.get("tags").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Text as a tag can hold it: what AWS refuses becomes `_`, what is too long is cut.
fn tag_value(text: &str) -> String {
    let may_stand = |character: char| character.is_alphanumeric() || " _.:/=+-@".contains(character);
    text.chars().take(LONGEST_TAG).map(|character| if may_stand(character) { character } else { '_' }).collect()
}

/// Whether a described revision was made by this rollout for this image.
pub(super) fn is_of(described: &Value, release: &Release<'_>) -> bool {
    let tag = described_tags(described).iter().find(|tag| tag["key"] == ROLLOUT_TAG);
    let runs_image = |container: &Value| container["name"] == release.container && container["image"] == release.image;
    tag.is_some_and(|tag| tag["value"] == tag_value(&release.rollout.0).as_str())
        && containers(described).iter().any(runs_image)
}

fn containers(described: &Value) -> &[Value] {
    described["taskDefinition"]["containerDefinitions"].as_array().map_or(&[], Vec::as_slice)
}

/// Whether ECS checks the health of its tasks: it does by the checks of essential containers.
pub(super) fn has_health_check(described: &Value) -> bool {
    let is_checked =
        |container: &Value| container["healthCheck"].is_object() && container["essential"].as_bool().unwrap_or(true);
    containers(described).iter().any(is_checked)
}

/// ARN of a described revision.
pub(super) fn arn(described: &Value) -> Option<&str> {
    described["taskDefinition"]["taskDefinitionArn"].as_str()
}

/// Family of a revision by its ARN, or by `family:revision`.
pub(super) fn family(arn: &str) -> &str {
    short(arn).split(':').next().unwrap_or_default()
}

/// Number of a revision by its ARN, or by `family:revision`.
pub(super) fn number(arn: &str) -> Option<u64> {
    short(arn).split(':').nth(1)?.parse().ok()
}

/// What people and moto call a revision: `family:revision`. Also the last part of any other ARN of ECS.
pub(super) fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

#[cfg(test)]
mod tests;
