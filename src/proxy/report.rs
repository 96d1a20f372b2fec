//! When those report who tell of counts: again and again, and once more when the last connection is gone.

use super::metrics::Period;
use super::shared::Shared;
use super::stats;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How long the end waits for what is still to be told: a service that takes nothing must not hold it up.
pub(super) const MAX_END: Duration = Duration::from_secs(2);

/// Moments to report at.
pub(super) struct Ticks {
    every: Interval,
    ended: watch::Receiver<bool>,
}

impl Ticks {
    /// From now on, this often.
    pub(super) fn new(shared: &Shared, every: Duration) -> Self {
        let mut every = interval(every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { every, ended: shared.ended.subscribe() }
    }

    /// Waits for the next one; whether it is the last.
    pub(super) async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.every.tick() => false,
            // An error would mean that the proxy is gone, which is the end too.
            _ = self.ended.wait_for(|ended| *ended) => true,
        }
    }
}

/// Everything counted up to now.
pub(super) fn period(shared: &Shared) -> Period {
    let names = || shared.workers.iter().map(|worker| &worker.names);
    Period { https: stats::https(names()), targets: stats::targets(names()) }
}
