//! `/v1/events` and `/v1/rollouts/{id}/events`: server-sent events, one for each change, resumable by Last-Event-ID.
//!
//! An event's id is its position in the journal, so a client that comes back (after its own restart, or the daemon's)
//! gets everything it missed. Without an id the stream begins with how things stand now.

use super::ApiState;
use super::error::ApiError;
use crate::clock::Monotonic;
use crate::rollout::view::RolloutView;
use crate::runner::handle::Runner;
use crate::runner::history::Change;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, KeepAliveStream, Sse};
use axum::routing::get;
use futures_util::Stream;
use futures_util::stream::unfold;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// A comment this often keeps proxies and browsers from taking a quiet stream for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a change that was told too early waits for the one before it: both were committed in the same moment.
const OUT_OF_ORDER: Duration = Duration::from_millis(250);
/// Changes that wait so at most: two groups of commits. Beyond it the journal is asked.
const EARLY: usize = 512;
/// Wait before asking the store again when it did not answer.
const STORE_RETRY: Duration = Duration::from_secs(1);

pub(super) fn router() -> Router<ApiState> {
    Router::new().route("/v1/events", get(all)).route("/v1/rollouts/{id}/events", get(one))
}

type Boxed = Pin<Box<dyn Stream<Item = Result<Event, Infallible>> + Send>>;
type Events = Sse<KeepAliveStream<Boxed>>;

async fn all(State(state): State<ApiState>, headers: HeaderMap) -> Result<Events, ApiError> {
    let (listener, resumed) = Listener::new(state.runner, &headers, None).await?;
    let now = listener.runner.list().await?;
    Ok(listener.stream(if resumed { &[] } else { &now }))
}

async fn one(State(state): State<ApiState>, Path(id): Path<String>, headers: HeaderMap) -> Result<Events, ApiError> {
    let view = state.runner.get(&id).await?.ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "no-such-rollout", format!("there is no rollout `{id}`"))
            .hint("`tidegate rollout list` shows them")
    })?;
    let (listener, resumed) = Listener::new(state.runner.clone(), &headers, Some(view.id.clone())).await?;
    // Read again, now that nothing can come in between unseen.
    let now = state.runner.get(&view.id).await?;
    let now: Vec<RolloutView> = now.into_iter().filter(|_| !resumed).collect();
    Ok(listener.stream(&now))
}

/// Where a client stopped.
fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    match value.to_str().ok().and_then(|text| text.trim().parse().ok()) {
        Some(position) => Ok(Some(position)),
        None => Err(ApiError::new(StatusCode::BAD_REQUEST, "bad-event-id", "Last-Event-ID is none of ours")
            .hint("send the id of an event of this stream, or no header to begin with how things stand now")),
    }
}

struct Listener {
    runner: Runner,
    changes: Receiver<Change>,
    only: Option<String>,
    /// Changes up to here were sent, or are part of how things stood at the beginning.
    sent: u64,
    /// Whether the journal has to be asked for what was missed.
    behind: bool,
    ready: VecDeque<Event>,
    /// Changes that were told before the one that comes first.
    early: BTreeMap<u64, Change>,
    early_since: Monotonic,
}

fn event(view: &RolloutView) -> Event {
    // A view always has a JSON form; an empty event would be the mildest outcome if it had not.
    Event::default().event("rollout").json_data(view).unwrap_or_default()
}

impl Listener {
    /// Listens from now on, or from where the client stopped: then it has to catch up.
    async fn new(runner: Runner, headers: &HeaderMap, only: Option<String>) -> Result<(Self, bool), ApiError> {
        let resumed = last_event_id(headers)?;
        let changes = runner.changes();
        let sent = match resumed {
            Some(position) => position,
            None => runner.position().await?,
        };
        let behind = resumed.is_some();
        let (ready, early, early_since) = (VecDeque::new(), BTreeMap::new(), Monotonic::now());
        Ok((Self { runner, changes, only, sent, behind, ready, early, early_since }, behind))
    }

    /// The stream, beginning with how things stand: oldest first, as everything after it.
    fn stream(mut self, now: &[RolloutView]) -> Events {
        let sent = self.sent.to_string();
        self.ready.extend(now.iter().rev().map(|view| event(view).id(sent.clone())));
        let events = unfold(self, |mut listener| async move {
            let event = listener.next().await?;
            Some((Ok(event), listener))
        });
        let events: Boxed = Box::pin(events);
        Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
    }

    /// The next event; `None` when the daemon stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.behind {
                self.catch_up().await;
                continue;
            }
            let stopped = self.runner.stopped();
            let changed = tokio::select! {
                biased;
                changed = tokio::time::timeout(self.patience(), self.changes.recv()) => changed,
                // The client comes back, and finds whoever drives then.
                () = stopped => return None,
            };
            match changed {
                Ok(Ok(change)) => self.take(change),
                // What is missing is not coming by itself.
                Err(_) | Ok(Err(RecvError::Lagged(_))) => self.fall_behind(),
                Ok(Err(RecvError::Closed)) => return None,
            }
        }
    }

    /// One change, when it is the next: rollouts commit side by side, so one may be told before the one before it.
    fn take(&mut self, change: Change) {
        if change.position <= self.sent {
            return;
        }
        if self.early.is_empty() {
            self.early_since = Monotonic::now();
        }
        self.early.insert(change.position, change);
        while let Some(next) = self.early.remove(&(self.sent + 1)) {
            self.send(&next);
        }
        if self.early.len() > EARLY {
            self.fall_behind();
        }
    }

    /// How long the next change may take: for ever, unless a later one is here already.
    fn patience(&self) -> Duration {
        let waited = self.early_since.elapsed();
        if self.early.is_empty() { Duration::MAX } else { OUT_OF_ORDER.saturating_sub(waited) }
    }

    fn fall_behind(&mut self) {
        self.early.clear();
        self.behind = true;
    }

    fn send(&mut self, change: &Change) {
        self.sent = change.position;
        if self.only.as_ref().is_none_or(|only| *only == change.view.id) {
            self.ready.push_back(event(&change.view).id(change.position.to_string()));
        }
    }

    async fn catch_up(&mut self) {
        match self.runner.changes_since(self.sent).await {
            Ok(changes) => {
                self.behind = !changes.is_empty();
                changes.iter().for_each(|change| self.send(change));
            }
            Err(_) => tokio::time::sleep(STORE_RETRY).await,
        }
    }
}
