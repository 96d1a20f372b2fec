//! One timer for each client connection, for all deadlines of all its requests one after the other.
//!
//! Nearly every request ends long before its deadline, so a timer for each would be set and cleared for nothing. This
//! one stays set from one request to the next and is only moved when it rings (then it was set for an earlier request)
//! or when a deadline is nearer. A ring too early costs one wake-up; a deadline is never missed.

use crate::clock::Monotonic;
use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Sleep, sleep};

/// A connection's timer.
#[derive(Default)]
pub(super) struct Alarm(RefCell<Option<Set>>);

struct Set {
    /// When it rings, or rang.
    at: Monotonic,
    rang: bool,
    timer: Pin<Box<Sleep>>,
}

impl Alarm {
    /// Forgets the timer; for a connection that waits for nothing.
    pub(super) fn clear(&self) {
        self.0.replace(None);
    }

    /// Ready when `due` has passed; until then the task is woken at `due` at the latest.
    pub(super) fn poll_until(&self, cx: &mut Context<'_>, due: Monotonic) -> Poll<()> {
        let mut alarm = self.0.borrow_mut();
        loop {
            if let Some(set) = &mut *alarm
                && !set.rang
                && set.at <= due
            {
                ready!(set.timer.as_mut().poll(cx));
                set.rang = true;
            }
            let now = Monotonic::now();
            let left = due.since(now);
            if left.is_zero() {
                return Poll::Ready(());
            }
            match &mut *alarm {
                Some(set) => {
                    (set.at, set.rang) = (due, false);
                    set.timer.set(sleep(left));
                }
                None => *alarm = Some(Set { at: due, rang: false, timer: Box::pin(sleep(left)) }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    async fn until(alarm: &Alarm, due: Monotonic) {
        poll_fn(|cx| alarm.poll_until(cx, due)).await;
    }

    #[tokio::test]
    async fn rings_at_each_deadline_whichever_comes_first() {
        let (alarm, began) = (Alarm::default(), Monotonic::now());
        let after = |ms| began.plus(Duration::from_millis(ms));
        // Set for a late one, moved to a near one, then rung for one that is over: each in turn is waited for.
        let late = async {
            until(&alarm, after(120)).await;
            assert!(began.elapsed() >= Duration::from_millis(120));
        };
        let near = async {
            until(&alarm, after(20)).await;
            assert!((20..120).contains(&began.elapsed().as_millis()));
            until(&alarm, after(40)).await;
            assert!((40..120).contains(&began.elapsed().as_millis()));
        };
        tokio::join!(late, near);
        until(&alarm, began).await;
        until(&alarm, after(140)).await;
        assert!(began.elapsed() >= Duration::from_millis(140));
    }
}
