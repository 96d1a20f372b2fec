//! When those report who tell of counts: again and again, and once more when the last connection is gone.

use super::cloudwatch::{self, CloudWatchSettings};
use super::emf::{self, EmfSettings};
use super::metrics::Period;
use super::shared::Shared;
use super::{stats, trace};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// How long the end waits for what is still to be told: a service that takes nothing must not hold it up.
const MAX_END: Duration = Duration::from_secs(2);

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

/// Starts those that tell others of requests.
pub(super) fn tell(
    shared: &Arc<Shared>,
    emf: Option<EmfSettings>,
    cloudwatch: Option<CloudWatchSettings>,
) -> Vec<JoinHandle<()>> {
    let mut tellers = Vec::new();
    if shared.tracer.is_some() {
        tellers.push(tokio::spawn(trace::run(Arc::clone(shared))));
    }
    tellers.extend(emf.map(|settings| tokio::spawn(emf::run(Arc::clone(shared), settings))));
    tellers.extend(cloudwatch.map(|settings| tokio::spawn(cloudwatch::run(Arc::clone(shared), settings))));
    tellers
}

/// Waits until these have told what there is, for two seconds at most.
pub(super) async fn finish(mut tellers: Vec<JoinHandle<()>>) {
    if timeout(MAX_END, join_all(&mut tellers)).await.is_err() {
        tellers.iter().for_each(JoinHandle::abort);
    }
}
