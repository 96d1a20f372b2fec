//! Ctrl-C, SIGTERM, and a terminal that is closed (SIGHUP): the first asks for an end in good order, the next one for an
//! end at once.

use super::{Ended, FAILED, Failure, Output};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Counts how often this process was asked to stop.
pub(super) struct Stops {
    count: watch::Receiver<u32>,
}

impl Stops {
    /// Listens from now on. Must be called within a runtime.
    pub(super) fn listen() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("cannot listen for signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
        let (counter, count) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => {}
                }
                counter.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { count })
    }

    /// How often it was asked so far.
    pub(super) fn count(&self) -> u32 {
        *self.count.borrow()
    }

    /// Resolves once it was asked more than `before` times.
    pub(super) async fn more_than(&self, before: u32) {
        // An error would mean that the task above is gone, and with it the runtime.
        let _ = self.count.clone().wait_for(|count| *count > before).await;
    }

    /// Ends in good order, unless it is asked to stop once more; then `left` says what that left behind.
    pub(super) async fn unless_once_more(&self, drain: impl Future<Output = ()>, left: &str, output: Output) -> Ended {
        let asked = self.count();
        tokio::select! {
            () = drain => Ok(0),
            () = self.more_than(asked) => {
                output.remark(&format!("stopped at once: {left}"));
                Ok(FAILED)
            }
        }
    }
}
