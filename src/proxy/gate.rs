//! Bounds of what goes to the application at a time (`connectionPool` of a listener), for all workers together. One word is
//! counted up and down; only who has to wait waits by more than that.

use crate::mesh::snapshot::Pool;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

/// The way to the application.
#[derive(Debug, Default)]
pub(super) struct Gate {
    inside: AtomicU32,
    waiting: AtomicU32,
    left: Notify,
}

/// The way to something of which only so much may be under way.
pub(super) type Bound = (Pool, Arc<Gate>);

/// A request that is inside.
#[derive(Debug)]
pub(super) struct Inside(Arc<Gate>);

/// A request that waits.
struct Waiting<'a>(&'a Gate);

impl Gate {
    /// Lets a request in, at once or when another one leaves; `None` where too many wait already.
    ///
    /// Connections of HTTP/1.1 carry one request each, so `connections` bounds requests; those beyond wait, up to `pending`.
    /// Requests of HTTP/2 (`requests`) never wait (Envoy's circuit breakers, by which App Mesh did it).
    pub(super) async fn enter(self: &Arc<Self>, pool: Pool) -> Option<Inside> {
        let most = pool.connections.or(pool.requests).unwrap_or(u32::MAX);
        if let Some(inside) = self.try_enter(most) {
            return Some(inside);
        }
        pool.connections?;
        let pending = pool.pending.unwrap_or(u32::MAX);
        let waits = |waiting: u32| (waiting < pending).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, waits).ok()?;
        let _waiting = Waiting(self);
        loop {
            let mut left = pin!(self.left.notified());
            // From here on nobody leaves unnoticed.
            left.as_mut().enable();
            if let Some(inside) = self.try_enter(most) {
                return Some(inside);
            }
            left.await;
        }
    }

    /// Lets one in at once, where fewer than so many are inside.
    pub(super) fn try_enter(self: &Arc<Self>, most: u32) -> Option<Inside> {
        let enters = |inside: u32| (inside < most).then_some(inside + 1);
        let entered = self.inside.fetch_update(Ordering::AcqRel, Ordering::Acquire, enters);
        entered.is_ok().then(|| Inside(Arc::clone(self)))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::AcqRel);
        self.0.left.notify_one();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(connections: Option<u32>, pending: Option<u32>, requests: Option<u32>) -> Pool {
        Pool { connections, pending, requests }
    }

    #[tokio::test]
    async fn so_many_are_inside_so_many_wait_and_the_rest_is_sent_away() {
        let (gate, narrow) = (Arc::new(Gate::default()), pool(Some(1), Some(1), None));
        let first = gate.enter(narrow).await.unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter(narrow).await }
        });
        while gate.waiting.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(gate.enter(narrow).await.is_none(), "one waits already");
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        assert_eq!((gate.inside.load(Ordering::Acquire), gate.waiting.load(Ordering::Acquire)), (1, 0));
        drop(second);
        // Whoever gives up waiting leaves its place.
        let held = gate.enter(narrow).await.unwrap();
        let gives_up = tokio::time::timeout(std::time::Duration::from_millis(5), gate.enter(narrow)).await;
        assert!(gives_up.is_err());
        assert_eq!(gate.waiting.load(Ordering::Acquire), 0);
        drop(held);
        assert_eq!(gate.inside.load(Ordering::Acquire), 0);
    }

    #[tokio::test]
    async fn requests_of_http2_never_wait_and_without_bounds_all_enter() {
        let (gate, two) = (Arc::new(Gate::default()), pool(None, None, Some(2)));
        let inside = [gate.enter(two).await, gate.enter(two).await];
        assert!(inside.iter().all(Option::is_some));
        assert!(gate.enter(two).await.is_none());
        assert!(gate.enter(Pool::default()).await.is_some());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nobody_is_forgotten() {
        let (gate, narrow) = (Arc::new(Gate::default()), pool(Some(3), None, None));
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let gate = Arc::clone(&gate);
            all.spawn(async move {
                for _ in 0..50 {
                    let inside = gate.enter(narrow).await.unwrap();
                    assert!(gate.inside.load(Ordering::Acquire) <= 3);
                    tokio::task::yield_now().await;
                    drop(inside);
                }
            });
        }
        all.join_all().await;
        assert_eq!(gate.inside.load(Ordering::Acquire), 0);
    }
}
