//! Webhooks of GitLab: finished pipelines and jobs (<https://docs.gitlab.com/user/project/integrations/webhook_events/>).
//!
//! GitLab has no webhook for a pushed image (<https://gitlab.com/gitlab-org/gitlab/-/work_items/15385>). Its registry is a
//! Docker registry whose notifications an administrator can turn on (`registry`); everybody else posts from the pipeline
//! (`deploy/ci/gitlab.yml`), or has a rule that makes an image of a commit.
//!
//! Repetitions: `Idempotency-Key` is the same for each attempt. `X-Gitlab-Event-UUID` is not used: webhooks that caused
//! each other share it (<https://docs.gitlab.com/user/project/integrations/webhooks/#delivery-headers>), and an event must
//! not pass for a repetition of another. The hash of the body covers versions without the key.

use super::event::{Delivery, Event, Source, WorkflowSucceeded};
use super::image::shown;
use super::payload::{self, NAME_MAX, PayloadError, deciding, required, text, word};
use http::HeaderMap;
use serde_json::Value;

/// The header that is the same for each attempt of a delivery.
const IDEMPOTENCY: &str = "idempotency-key";

/// What a delivery says.
///
/// # Errors
/// The body is not what GitLab sends for the kind in its `object_kind`.
pub fn delivery(headers: &HeaderMap, body: &[u8]) -> Result<Delivery, PayloadError> {
    let value = payload::read(body)?;
    let event = match word(&value, "/object_kind") {
        "" => {
            let why = "`object_kind` is missing; send the event as it is, without a custom template";
            return Err(PayloadError::NotAnEvent { what: "event of GitLab", why });
        }
        "pipeline" => pipeline(&value)?,
        "build" => job(&value)?,
        other => Event::nothing(format!("`{}` starts nothing: pipeline and job events do", shown(other))),
    };
    let named = payload::id_in(Source::Gitlab.name(), headers, IDEMPOTENCY);
    Ok(Delivery { ids: named.into_iter().chain([payload::id_of(body)]).collect(), event })
}

fn pipeline(value: &Value) -> Result<Event, PayloadError> {
    let status = required(value, "/object_attributes/status")?;
    if status != "success" {
        return Ok(Event::nothing(format!("the pipeline is `{}`", shown(status))));
    }
    // `merge_request_event`, `external_pull_request_event`.
    let cause = word(value, "/object_attributes/source");
    if cause.contains("merge_request") || cause.contains("pull_request") {
        return Ok(Event::nothing("a pipeline of a merge request is of changes that are not merged"));
    }
    let name = text(value, "/object_attributes/name")?.unwrap_or("pipeline");
    succeeded(value, "/object_attributes/ref", "/object_attributes/sha", name)
}

/// A job says less than a pipeline: not what caused it, but for the name of its ref.
fn job(value: &Value) -> Result<Event, PayloadError> {
    let status = required(value, "/build_status")?;
    if status != "success" {
        return Ok(Event::nothing(format!("the job is `{}`", shown(status))));
    }
    succeeded(value, "/ref", "/sha", required(value, "/build_name")?)
}

fn succeeded(value: &Value, branch: &str, sha: &str, name: &str) -> Result<Event, PayloadError> {
    let branch = deciding(value, branch)?;
    if branch.starts_with("refs/merge-requests/") {
        return Ok(Event::nothing("a pipeline of a merge request is of changes that are not merged"));
    }
    // Job events had no `project` before GitLab 16, and the name in its place is no path.
    let repository = deciding(value, "/project/path_with_namespace")?;
    let actor = payload::name(value, "/user/username").or_else(|| payload::name(value, "/user/name"));
    Ok(Event::Workflow(WorkflowSucceeded {
        repository,
        branch,
        sha: payload::commit(value, sha)?,
        workflow: name.chars().take(NAME_MAX).collect(),
        actor,
        source: Source::Gitlab,
    }))
}
