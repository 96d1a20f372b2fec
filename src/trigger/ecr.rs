//! Events of Amazon ECR by way of EventBridge.
//!
//! The whole event is the body that an API destination sends and the message that a queue gets, when the rule has no input
//! transformer (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html>). An API destination gets one
//! event a request: EventBridge has no batches for it
//! (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-batching-concurrency.html>), so a list is refused.
//! EventBridge delivers at least once; the event's `id` tells a repetition.

use super::event::{Delivery, Event, ImagePushed, Source};
use super::image::{Digest, Host, ImageRef, Repository, Tag, shown};
use super::payload::{self, PayloadError, checked, required, text, word};
use serde_json::Value;

/// What EventBridge puts around every event.
const WHAT: &str = "event of EventBridge";
/// DNS suffixes of AWS's partitions by the beginning of their regions' names, as botocore's `partitions.json` has them.
const SUFFIXES: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("us-isof-", "csp.hci.ic.gov"),
];
/// Media types of an image's configuration, by which ECR tells images from charts, signatures and the like.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json"];

/// What an event says: the body of a request, or of a message in a queue.
///
/// # Errors
/// The body is no event of EventBridge, or one of ECR with a name that breaks its grammar.
pub fn delivery(body: &[u8]) -> Result<Delivery, PayloadError> {
    let event = payload::read(body)?;
    if event.is_array() {
        return Err(PayloadError::NotAnEvent { what: WHAT, why: "it is a list, and one event a request is taken" });
    }
    if word(&event, "/detail-type").is_empty() || word(&event, "/source").is_empty() {
        let why =
            "`source` and `detail-type` are missing; send the matched event as it is, without an input transformer";
        return Err(PayloadError::NotAnEvent { what: WHAT, why });
    }
    let id = payload::id_at(Source::Ecr.name(), &event, "/id").unwrap_or_else(|| payload::id_of(body));
    Ok(Delivery { ids: vec![id], event: read(&event)? })
}

fn read(event: &Value) -> Result<Event, PayloadError> {
    let (source, kind) = (word(event, "/source"), word(event, "/detail-type"));
    if source != "aws.ecr" || kind != "ECR Image Action" {
        return Ok(Event::nothing(format!("`{}` of `{}` is no push of an image", shown(kind), shown(source))));
    }
    let action = required(event, "/detail/action-type")?;
    if action != "PUSH" {
        return Ok(Event::nothing(format!("the action is `{}`, not `PUSH`", shown(action))));
    }
    let result = required(event, "/detail/result")?;
    if result != "SUCCESS" {
        return Ok(Event::nothing(format!("the push ended with `{}`", shown(result))));
    }
    // Left out for an index, and by older events.
    let artifact = word(event, "/detail/artifact-media-type");
    if !artifact.is_empty() && !IMAGE_CONFIGS.contains(&artifact) {
        return Ok(Event::nothing(format!("`{}` is no image to run", shown(artifact))));
    }
    let tag = text(event, "/detail/image-tag")?.map(Tag::parse).transpose();
    let image = ImageRef {
        registry: Some(registry(event)?),
        repository: repository(event)?,
        tag: checked("/detail/image-tag", tag)?,
        digest: Some(checked("/detail/image-digest", Digest::parse(required(event, "/detail/image-digest")?))?),
    };
    Ok(Event::Image(ImagePushed { image, pushed_by: None, revision: None, source: Source::Ecr }))
}

fn repository(event: &Value) -> Result<Repository, PayloadError> {
    checked("/detail/repository-name", Repository::parse(required(event, "/detail/repository-name")?))
}

/// The private registry of the event's account and region.
fn registry(event: &Value) -> Result<Host, PayloadError> {
    let (account, region) = (required(event, "/account")?, required(event, "/region")?);
    let wrong = |at: &str, text: &str, rule| PayloadError::Text { at: at.to_owned(), shown: shown(text), rule };
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong("account", account, "an account of AWS: 12 digits"));
    }
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if region.len() > 32 || !region.bytes().all(letters) || !region.contains('-') {
        return Err(wrong("region", region, "a region of AWS, such as `eu-central-1`"));
    }
    let partition = SUFFIXES.iter().find(|(prefix, _)| region.starts_with(prefix));
    let suffix = partition.map_or("amazonaws.com", |(_, suffix)| suffix);
    checked("/region", Host::parse(&format!("{account}.dkr.ecr.{region}.{suffix}")))
}
