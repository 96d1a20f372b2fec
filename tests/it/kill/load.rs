//! Load that remembers when each lost request was under way, so that what was lost while the daemon was down can be told
//! from what the proxy lost by itself.

use crate::program::world::HOST;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::clock::Monotonic;
use tokio::task::JoinHandle;

/// Enough for a verdict within seconds, and little for a busy machine.
const REQUESTS_PER_S: u32 = 150;
/// A request that takes longer is lost.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A stretch of time.
pub(super) type Span = (Monotonic, Monotonic);

#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    lost: Mutex<Vec<(Span, String)>>,
}

pub(super) struct Load {
    tally: Arc<Tally>,
    ticker: JoinHandle<()>,
}

impl Load {
    pub(super) fn start(proxy: SocketAddr) -> Self {
        let tally: Arc<Tally> = Arc::default();
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build().unwrap();
        let ticker = tokio::spawn(tick(client, format!("http://{proxy}/"), Arc::clone(&tally)));
        Self { tally, ticker }
    }

    /// Ends the load. Requests sent, those lost in all, and those lost while the daemon lived all the time that they were
    /// under way.
    pub(super) fn stop(self, down: &[Span]) -> (u64, usize, Vec<String>) {
        self.ticker.abort();
        let lost = self.tally.lost.lock().unwrap();
        let overlaps = |(from, to): &Span| down.iter().any(|(killed, up)| from <= up && to >= killed);
        let own: Vec<String> = lost.iter().filter(|(span, _)| !overlaps(span)).map(|(_, why)| why.clone()).collect();
        (self.tally.sent.load(Ordering::SeqCst), lost.len(), own)
    }
}

async fn tick(client: reqwest::Client, url: String, tally: Arc<Tally>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / REQUESTS_PER_S);
    loop {
        ticks.tick().await;
        let (request, tally) = (client.get(&url).header("host", HOST), Arc::clone(&tally));
        tally.sent.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            let began = Monotonic::now();
            if let Err(why) = ask(request).await {
                tally.lost.lock().unwrap().push(((began, Monotonic::now()), why));
            }
        });
    }
}

/// A failure of the service is an answer; one of the proxy, or none, is a loss.
async fn ask(request: reqwest::RequestBuilder) -> Result<(), String> {
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let (status, served) = (answer.status(), answer.headers().contains_key("x-demo-version"));
    let body = answer.text().await.map_err(|error| format!("{error:?}"))?;
    if served { Ok(()) } else { Err(format!("{status}: {body}")) }
}
