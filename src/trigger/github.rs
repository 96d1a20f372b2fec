//! Webhooks of GitHub: pushed container images and finished workflows.
//!
//! Kinds and members are those of <https://docs.github.com/en/webhooks/webhook-events-and-payloads>; examples are in
//! <https://github.com/octokit/webhooks>. `registry_package` and `package` say the same of a package under two keys.
//!
//! GitHub signs the body and none of the headers, so the kind of event is believed only as far as the body has its shape:
//! whoever sends a heard body under another kind finds other members missing.

use super::event::{Delivery, Event, ImagePushed, Source, WorkflowSucceeded};
use super::image::{Digest, ImageRef, Tag, shown};
use super::payload::{self, NAME_MAX, PayloadError, checked, deciding, required, text, word};
use http::HeaderMap;
use serde_json::Value;

/// The header that names the kind of event.
const KIND: &str = "x-github-event";
/// The header that names the delivery; a redelivery has the same.
const DELIVERY: &str = "x-github-delivery";
/// What is known of a container, within its package.
const METADATA: &str = "package_version/container_metadata";

/// What a delivery says.
///
/// # Errors
/// The body is not what GitHub sends for the kind in `X-GitHub-Event`.
pub fn delivery(headers: &HeaderMap, body: &[u8]) -> Result<Delivery, PayloadError> {
    let kind = headers.get(KIND).and_then(|kind| kind.to_str().ok());
    let kind = kind.ok_or_else(|| PayloadError::Missing { at: KIND.to_owned() })?;
    let value = payload::read(body)?;
    let event = match kind {
        "ping" => Event::Ping,
        "registry_package" => package(&value, "registry_package")?,
        "package" => package(&value, "package")?,
        "workflow_run" => workflow(&value)?,
        other => Event::nothing(format!("`{}` starts nothing: `registry_package` and `workflow_run` do", shown(other))),
    };
    let named = payload::id_in(Source::Github.name(), headers, DELIVERY);
    Ok(Delivery { ids: named.into_iter().chain([payload::id_of(body)]).collect(), event })
}

/// A version of a package was published, or gained a tag.
fn package(value: &Value, key: &str) -> Result<Event, PayloadError> {
    let action = required(value, "/action")?;
    if !matches!(action, "published" | "updated") {
        return Ok(Event::nothing(format!("the action is `{}`, not `published` or `updated`", shown(action))));
    }
    if !value.get(key).is_some_and(Value::is_object) {
        return Err(PayloadError::Missing { at: key.to_owned() });
    }
    // `CONTAINER` for ghcr.io; the case and the place differ between the examples.
    let kinds = ["package_type", "ecosystem", "registry/type"].map(|path| word(value, &format!("/{key}/{path}")));
    if !kinds.iter().any(|kind| kind.eq_ignore_ascii_case("container")) {
        return Ok(Event::nothing(format!("a package of type `{}` is no container image", shown(kinds[0]))));
    }
    let (version, tag) = (format!("/{key}/package_version/version"), format!("/{key}/{METADATA}/tag/name"));
    let image = ImageRef {
        tag: checked(&tag, text(value, &tag)?.map(Tag::parse).transpose())?,
        // The version of a container is its digest. The tag's own digest is the same, and empty where there is no tag.
        digest: Some(checked(&version, Digest::parse(required(value, &version)?))?),
        ..name(value, key)?
    };
    let pushed_by = payload::name(value, "/sender/login");
    Ok(Event::Image(ImagePushed { image, pushed_by, revision: revision(value, key), source: Source::Github }))
}

/// Registry and repository, from the address to pull from; without one, as ghcr.io makes it.
fn name(value: &Value, key: &str) -> Result<ImageRef, PayloadError> {
    let at = format!("/{key}/package_version/package_url");
    let address = match text(value, &at)? {
        // `ghcr.io/owner/name:tag`; nothing stands behind the colon where there is no tag.
        Some(address) => address.to_owned(),
        None => {
            let part = |path| required(value, &format!("/{key}/{path}")).map(str::to_owned);
            format!("ghcr.io/{}/{}", part("namespace")?, part("name")?)
        }
    };
    // Owners may have capitals, names of images may not; GitHub's own registry takes them in lower case.
    let path = address.rfind('/').map_or(0, |slash| slash + 1);
    let end = address[path..].find([':', '@']).map_or(address.len(), |end| path + end);
    checked(&at, ImageRef::parse(&address[..end].to_ascii_lowercase()))
}

/// The commit that the builder wrote into the image. The payload's `target_oid` is the newest commit of the default branch
/// at that time, which need not be the one that was built.
fn revision(value: &Value, key: &str) -> Option<String> {
    let label = |path: &str| word(value, &format!("/{key}/{METADATA}/labels/{path}"));
    let revision = match label("revision") {
        "" => label("all_labels/org.opencontainers.image.revision"),
        named => named,
    };
    let holds = (7..=64).contains(&revision.len()) && payload::is_hex(revision);
    holds.then(|| revision.to_owned())
}

/// A workflow came to its end.
fn workflow(value: &Value) -> Result<Event, PayloadError> {
    let action = required(value, "/action")?;
    if action != "completed" {
        return Ok(Event::nothing(format!("the workflow is not completed but `{}`", shown(action))));
    }
    let conclusion = required(value, "/workflow_run/conclusion")?;
    if conclusion != "success" {
        return Ok(Event::nothing(format!("the workflow ended with `{}`", shown(conclusion))));
    }
    let cause = required(value, "/workflow_run/event")?;
    if cause.starts_with("pull_request") || cause == "merge_group" {
        return Ok(Event::nothing(format!("a run for `{}` is of changes that are not merged", shown(cause))));
    }
    let repository = deciding(value, "/repository/full_name")?;
    // A branch `main` of a fork is not the branch `main`.
    if deciding(value, "/workflow_run/head_repository/full_name")? != repository {
        return Ok(Event::nothing("the commit is that of a fork"));
    }
    if text(value, "/workflow_run/head_branch")?.is_none() {
        return Ok(Event::nothing("the workflow ran for no branch and no tag"));
    }
    let workflow = text(value, "/workflow_run/name")?.or(text(value, "/workflow_run/path")?).unwrap_or("workflow");
    Ok(Event::Workflow(WorkflowSucceeded {
        repository,
        branch: deciding(value, "/workflow_run/head_branch")?,
        sha: payload::commit(value, "/workflow_run/head_sha")?,
        workflow: workflow.chars().take(NAME_MAX).collect(),
        actor: payload::name(value, "/workflow_run/actor/login"),
        source: Source::Github,
    }))
}
