//! Readings for the judge, one source to a file.

mod backoff;
pub mod cloudwatch;
pub mod comparison;
mod fetch;
pub mod health;
pub mod http;
pub mod live;
mod memory;
mod minutes;
pub mod outside;
pub mod prometheus;
pub mod proxies;
mod recent;
pub mod tasks;
pub mod together;
pub mod webhook;
pub mod xray;

use crate::base::fault::Fault;
use crate::base::time::Timestamp;
use crate::ports::SignalPoint;
use futures_util::StreamExt;
use std::future::Future;

/// What one source is asked; see [`crate::ports::SignalQuestion`].
#[derive(Debug)]
pub struct Asked<'a, Q> {
    /// What is asked, in the source's words.
    pub query: &'a Q,
    /// Only what is newer is wanted.
    pub after: Timestamp,
    /// When the release got its first traffic.
    pub since: Timestamp,
    /// The time now.
    pub now: Timestamp,
}

// Not derived: a copy of a question needs none of its query.
impl<Q> Clone for Asked<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q> Copy for Asked<'_, Q> {}

/// Points in rising order, or why there are none; no point and no fault is silence.
pub type Answer = Result<Vec<SignalPoint>, Fault>;

/// Carries out a source's calls, so many at a time, with the results in their order.
async fn at_a_time<T>(most: usize, calls: Vec<impl Future<Output = T>>) -> Vec<T> {
    futures_util::stream::iter(calls).buffered(most).collect().await
}
