//! Open-loop load: a request at every tick, whatever became of the ones before, up to a bound in flight.

use super::service::VERSION_HEADER;
use crate::clock::{Clock, SystemClock};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Requests in flight: two seconds' worth. At the bound ticks are skipped, so a hung proxy cannot eat the memory.
const IN_FLIGHT: usize = 600;
/// A request that takes longer is lost.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the load saw of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Answers of this version.
    pub requests: u64,
    /// Of these, status 5xx.
    pub failed: u64,
    /// When the first failed one was answered, wall clock.
    pub first_failure_ms: Option<i64>,
    /// When the first one was sent, wall clock.
    pub first_sent_ms: Option<i64>,
    /// When the last one was sent, wall clock.
    pub last_sent_ms: Option<i64>,
}

#[derive(Debug, Default)]
struct Tally {
    versions: BTreeMap<String, Seen>,
    requests: u64,
    lost: u64,
    last_loss: String,
}

/// Load that runs until it is stopped.
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    permits: Arc<Semaphore>,
    ticker: JoinHandle<()>,
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    // Counts are valid after any panic: each update is a few additions.
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Starts sending GET requests for a virtual service to a proxy.
    #[must_use]
    pub fn start(proxy: SocketAddr, service: &'static str, per_second: u32) -> Self {
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let permits = Arc::new(Semaphore::new(IN_FLIGHT));
        let ticker = tokio::spawn(tick(proxy, service, per_second, Arc::clone(&tally), Arc::clone(&permits)));
        Self { tally, permits, ticker }
    }

    /// What was seen of a version so far.
    #[must_use]
    pub fn seen(&self, version: &str) -> Seen {
        lock(&self.tally).versions.get(version).copied().unwrap_or_default()
    }

    /// Requests sent and requests lost.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let tally = lock(&self.tally);
        (tally.requests, tally.lost)
    }

    /// Why the last lost request was lost.
    #[must_use]
    pub fn last_loss(&self) -> String {
        lock(&self.tally).last_loss.clone()
    }

    /// Counts losses from now on.
    pub fn forget_losses(&self) {
        let mut tally = lock(&self.tally);
        tally.lost = 0;
        tally.last_loss.clear();
    }

    /// Sends no more, and waits for what is in flight.
    pub async fn stop(self) {
        self.ticker.abort();
        let all = u32::try_from(IN_FLIGHT).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(Duration::from_secs(2), self.permits.acquire_many(all)).await;
    }
}

async fn tick(
    proxy: SocketAddr,
    service: &'static str,
    per_second: u32,
    tally: Arc<Mutex<Tally>>,
    permits: Arc<Semaphore>,
) {
    let builder = reqwest::Client::builder().timeout(TIMEOUT).no_proxy();
    // It speaks no TLS, and reading the system's roots takes milliseconds.
    let Ok(client) = builder.tls_built_in_root_certs(false).build() else { return };
    let url = format!("http://{proxy}/");
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    // Open loop: what a busy machine held up is sent at once, as real clients would.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let request = client.get(&url).header("host", service);
        let tally = Arc::clone(&tally);
        tokio::spawn(async move {
            let sent_ms = SystemClock.now().0;
            let answer = request.send().await;
            count(&tally, sent_ms, answer).await;
            drop(permit);
        });
    }
}

async fn count(tally: &Mutex<Tally>, sent_ms: i64, answer: reqwest::Result<reqwest::Response>) {
    let outcome = match answer {
        Ok(answer) => {
            let version = answer.headers().get(VERSION_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let status = answer.status();
            // An answer that breaks off is no answer.
            match answer.bytes().await {
                Ok(_) => {
                    version.map(|version| (version, status.is_server_error())).ok_or_else(|| format!("status {status}"))
                }
                Err(error) => Err(error.to_string()),
            }
        }
        Err(error) => Err(error.to_string()),
    };
    let now_ms = SystemClock.now().0;
    let mut tally = lock(tally);
    tally.requests += 1;
    match outcome {
        Ok((version, failed)) => {
            let seen = tally.versions.entry(version).or_default();
            seen.requests += 1;
            seen.first_sent_ms = Some(seen.first_sent_ms.map_or(sent_ms, |first| first.min(sent_ms)));
            seen.last_sent_ms = seen.last_sent_ms.max(Some(sent_ms));
            if failed {
                seen.failed += 1;
                seen.first_failure_ms.get_or_insert(now_ms);
            }
        }
        Err(why) => {
            tally.lost += 1;
            tally.last_loss = why;
        }
    }
}
