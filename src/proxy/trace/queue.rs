//! From the workers to who sends: a bounded queue. Where that one is behind, what comes is dropped and counted.

use crate::proxy::stats::show::{Stat, Value};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Spans on their way out.
pub(super) struct Queue<T> {
    sender: mpsc::Sender<T>,
    /// Until the task that sends takes it.
    inbox: Mutex<Option<mpsc::Receiver<T>>>,
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl<T> Queue<T> {
    pub(super) fn new(most: usize) -> Self {
        let (sender, inbox) = mpsc::channel(most);
        let (sent, dropped, failed) = Default::default();
        Self { sender, inbox: Mutex::new(Some(inbox)), sent, dropped, failed }
    }

    /// Hands one over.
    pub(super) fn add(&self, one: T) {
        if self.sender.try_send(one).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where they arrive; whoever takes it first is the one.
    pub(super) fn take_inbox(&self) -> Option<mpsc::Receiver<T>> {
        self.inbox.lock().ok()?.take()
    }

    /// So many reached their reader.
    pub(super) fn sent(&self, count: u64) {
        self.sent.fetch_add(count, Ordering::Relaxed);
    }

    /// So many did not.
    pub(super) fn failed(&self, count: u64) {
        self.failed.fetch_add(count, Ordering::Relaxed);
    }

    /// What became of them, by Envoy's name for the like (`tracing.*`).
    pub(super) fn stats(&self, kind: &str) -> Vec<Stat> {
        let counts = [("spans_sent", &self.sent), ("spans_dropped", &self.dropped), ("spans_failed", &self.failed)];
        let stat = |(what, count): (&str, &AtomicU64)| {
            let name = format!("tracing.{kind}.{what}");
            let value = Value::Counter(count.load(Ordering::Relaxed));
            Stat { family: name.clone(), name, labels: Vec::new(), value }
        };
        counts.into_iter().map(stat).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let queue = Queue::new(4);
        (0..7).for_each(|number| queue.add(number));
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 3);
        let mut inbox = queue.take_inbox().expect("the first one");
        assert!(queue.take_inbox().is_none());
        assert_eq!(inbox.try_recv(), Ok(0));
    }
}
