//! Notifications of a Docker registry (CNCF Distribution): an envelope with one or more events
//! (<https://distribution.github.io/distribution/about/notifications/>).
//!
//! A push is many events: one for each layer and configuration, and one for the manifest. Only manifests and indexes count;
//! an index comes with its manifests before it, which have no tag. What an image's manifest describes cannot be told from
//! the event: a chart or a signature that is kept as an image looks like one, so a policy should have a tag filter.

use super::event::{Delivery, Event, ImagePushed, Source};
use super::image::{Digest, Host, ImageRef, Repository, Tag, shown};
use super::payload::{self, PayloadError, checked, required, text, word};
use serde_json::Value;

/// The registry sends one event a request today; what is in front of it may gather them.
pub const EVENTS_MAX: usize = 100;
/// Media types of what can be run. That of schema 1 is not among them: its digest names no bytes that are stored.
const MANIFESTS: [&str; 4] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
];

/// What each event of an envelope says. A push with a name that breaks its grammar starts nothing, with the error as the
/// reason: a registry repeats what is refused until it is taken, and everything behind it waits.
///
/// # Errors
/// The body is no envelope, or has too many events.
pub fn deliveries(body: &[u8]) -> Result<Vec<Delivery>, PayloadError> {
    let envelope = payload::read(body)?;
    let Some(events) = envelope.get("events").and_then(Value::as_array) else {
        return Err(PayloadError::NotAnEvent { what: "envelope of a registry", why: "it has no list `events`" });
    };
    if events.len() > EVENTS_MAX {
        return Err(PayloadError::TooMany { what: "events", count: events.len(), max: EVENTS_MAX });
    }
    let hash = payload::id_of(body);
    let delivery = |(index, event): (usize, &Value)| {
        let id = payload::id_at(Source::Registry.name(), event, "/id").unwrap_or_else(|| format!("{hash}:{index}"));
        let event = read(event).unwrap_or_else(|error| Event::nothing(error.to_string()));
        Delivery { ids: vec![id], event }
    };
    Ok(events.iter().enumerate().map(delivery).collect())
}

fn read(event: &Value) -> Result<Event, PayloadError> {
    let action = word(event, "/action");
    if action != "push" {
        return Ok(Event::nothing(format!("the action is `{}`, not `push`", shown(action))));
    }
    let media_type = word(event, "/target/mediaType");
    if !MANIFESTS.contains(&media_type) {
        return Ok(Event::nothing(format!("`{}` is no manifest of an image", shown(media_type))));
    }
    let repository = Repository::parse(required(event, "/target/repository")?);
    let tag = text(event, "/target/tag")?.map(Tag::parse).transpose();
    let image = ImageRef {
        // As the client called it that pushed. What is no host name there (a name of Docker Compose with `_`) is left out.
        registry: Host::parse(&word(event, "/request/host").to_ascii_lowercase()).ok(),
        repository: checked("/target/repository", repository)?,
        tag: checked("/target/tag", tag)?,
        digest: Some(checked("/target/digest", Digest::parse(required(event, "/target/digest")?))?),
    };
    let pushed_by = payload::name(event, "/actor/name");
    Ok(Event::Image(ImagePushed { image, pushed_by, revision: None, source: Source::Registry }))
}
