//! What starts rollouts from outside: deliveries of webhooks, verified, read and compared with a policy's `start`. All of
//! that is pure: headers, bytes, secrets and the time come in, a value or a reason goes out. `inbox` and `clerk` are not:
//! they keep what was asked for and see to it that it starts once; `ahead` keeps what people ask for a later time.
//!
//! ```text
//! request -> signature (is it from whom it says?) -> deliveries (github, gitlab, ecr, registry, generic) -> matching (by filter) -> inbox -> clerk
//! ```
//!
//! A delivery comes from a stranger until `signature` has spoken, so nothing here panics, recurses without end or keeps
//! text without a bound. What an event *decides* on (repository, tag, digest, commit) is refused when it breaks its
//! grammar; what only people read (who pushed) is left out when it does. Not here: the limit of a body's size, which the
//! caller keeps before it has one.

mod ahead;
mod clerk;
pub mod ecr;
pub mod event;
pub mod filter;
pub mod generic;
pub mod github;
pub mod gitlab;
pub mod image;
pub mod inbox;
pub mod matching;
pub mod payload;
pub mod queue;
pub mod registry;
pub mod signature;

#[cfg(test)]
mod tests;

use event::{Delivery, Source};
use http::HeaderMap;
use payload::PayloadError;

/// What a request delivers, in its order; one entry but for a registry, which may send several events at once.
///
/// Call it after [`signature::verify`]. Headers matter where they name the kind of event or the delivery.
///
/// # Errors
/// The body is not what this sender sends: a fault of the request, which trying again does not mend.
pub fn deliveries(source: Source, headers: &HeaderMap, body: &[u8]) -> Result<Vec<Delivery>, PayloadError> {
    match source {
        Source::Generic => Ok(vec![generic::delivery(body)?]),
        Source::Github => Ok(vec![github::delivery(headers, body)?]),
        Source::Gitlab => Ok(vec![gitlab::delivery(headers, body)?]),
        Source::Ecr => Ok(vec![ecr::delivery(body)?]),
        Source::Registry => registry::deliveries(body),
    }
}
