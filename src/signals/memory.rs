//! Keeps the minutes of all routes beyond a restart: an hour of one route is one note.

use super::minutes::{DAY, Minutes, NOTE};
use crate::base::fault::Fault;
use crate::base::ids::RouteRef;
use crate::base::tally::Report;
use crate::base::time::Timestamp;
use crate::clock::{Clock, Monotonic, SystemClock};
use crate::ports::Notes;
use crate::rollout::event::{EndpointMinute, Past};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Keys of the notes begin so.
const NOTES: &str = "minutes/";
/// They are written down so often; a process that is killed loses less than that.
const WRITE_EVERY: Duration = Duration::from_secs(300);

/// The minutes, and where they are kept.
pub(super) struct Memory {
    minutes: Mutex<Minutes>,
    notes: Option<Arc<dyn Notes>>,
    clock: Arc<dyn Clock>,
    written: Mutex<Option<Monotonic>>,
}

impl Default for Memory {
    /// Of this process alone.
    fn default() -> Self {
        Self { minutes: Mutex::default(), notes: None, clock: Arc::new(SystemClock), written: Mutex::default() }
    }
}

impl Memory {
    /// With a place to keep them.
    pub(super) fn kept(notes: Arc<dyn Notes>, clock: Arc<dyn Clock>) -> Self {
        Self { notes: Some(notes), clock, ..Self::default() }
    }

    fn minutes(&self) -> MutexGuard<'_, Minutes> {
        // After a panic in the middle of a sample a few requests are missing or there twice, which moves an estimate a little.
        self.minutes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes reports in.
    pub(super) fn sample(&self, reports: &[Report], now: Monotonic) {
        self.minutes().sample(reports, now, self.clock.now());
    }

    /// What a rollout should know of a route.
    pub(super) async fn past(&self, route: &RouteRef) -> Past {
        self.restore(route).await;
        self.minutes().past(route, self.clock.now())
    }

    /// Reads what was written down of routes that are new here, and writes down what is due.
    pub(super) async fn keep(&self, now: Monotonic) {
        let Some(notes) = &self.notes else { return };
        let unrestored = self.minutes().unrestored();
        for route in unrestored {
            // What is not answered for one is not for another; the next round asks again.
            if !self.restore(&route).await {
                return;
            }
        }
        {
            // Valid after any panic: it is one value.
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            if now.since(*written.get_or_insert(now)) < WRITE_EVERY {
                return;
            }
            *written = Some(now);
        }
        if let Err(fault) = self.write(notes.as_ref()).await {
            tracing::warn!(%fault, "what stable's endpoints did could not be written down; tried again in a while");
        }
    }

    /// Answers whether the store did.
    async fn restore(&self, route: &RouteRef) -> bool {
        let Some(notes) = &self.notes else { return true };
        if self.minutes().is_restored(route) {
            return true;
        }
        match notes.notes_under(&prefix(route)).await {
            Ok(written) => {
                // One that cannot be read is one less.
                let hours = written.iter().filter_map(|(_, value)| serde_json::from_str::<Vec<Kept>>(value).ok());
                let minutes = hours.flatten().map(|(at, minute)| (Timestamp(at), minute)).collect();
                self.minutes().restore(route, minutes, self.clock.now());
                true
            }
            Err(fault) => {
                tracing::warn!(%route, %fault, "what stable's endpoints did before could not be read");
                false
            }
        }
    }

    async fn write(&self, notes: &dyn Notes) -> Result<(), Fault> {
        let now = self.clock.now();
        let unwritten = self.minutes().unwritten();
        let mut failed = Ok(());
        for (route, hour, minutes) in unwritten {
            let kept: Vec<Kept> = minutes.into_iter().map(|(at, minute)| (at.0, minute)).collect();
            let Ok(value) = serde_json::to_string(&kept) else { continue };
            if let Err(fault) = notes.set_note(&format!("{}{hour}", prefix(&route)), &value, now).await {
                self.minutes().not_written(route, hour);
                failed = Err(fault);
            }
        }
        failed?;
        // An hour is written for the last time at its end.
        let before = Timestamp(now.0.saturating_sub(i64::try_from(DAY.0 + NOTE.0).unwrap_or(i64::MAX)));
        notes.forget_notes(NOTES, before).await
    }
}

/// A minute with its time in milliseconds since 1970.
type Kept = (i64, EndpointMinute);

fn prefix(route: &RouteRef) -> String {
    format!("{NOTES}{route}/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::histogram::Histogram;
    use crate::base::tally::{Outcomes, Series, SeriesKey};
    use async_trait::async_trait;
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

    /// Values and their times by key.
    type Shelved = BTreeMap<String, (String, Timestamp)>;

    /// Notes that can be out of reach.
    #[derive(Default)]
    struct Shelf {
        notes: Mutex<Shelved>,
        down: AtomicBool,
    }

    impl Shelf {
        fn reached(&self) -> Result<MutexGuard<'_, Shelved>, Fault> {
            match self.down.load(Ordering::SeqCst) {
                true => Err(Fault::transient("store", "down")),
                false => Ok(self.notes.lock().unwrap()),
            }
        }
    }

    #[async_trait]
    impl Notes for Shelf {
        async fn note(&self, key: &str) -> Result<Option<String>, Fault> {
            Ok(self.reached()?.get(key).map(|(value, _)| value.clone()))
        }

        async fn notes_under(&self, prefix: &str) -> Result<Vec<(String, String)>, Fault> {
            let notes = self.reached()?;
            let under = notes.iter().filter(|(key, _)| key.starts_with(prefix));
            Ok(under.map(|(key, (value, _))| (key.clone(), value.clone())).collect())
        }

        async fn set_note(&self, key: &str, value: &str, at: Timestamp) -> Result<(), Fault> {
            self.reached()?.insert(key.to_owned(), (value.to_owned(), at));
            Ok(())
        }

        async fn first_note(&self, key: &str, value: &str, at: Timestamp) -> Result<bool, Fault> {
            Ok(self.reached()?.insert(key.to_owned(), (value.to_owned(), at)).is_none())
        }

        async fn forget_notes(&self, prefix: &str, before: Timestamp) -> Result<(), Fault> {
            self.reached()?.retain(|key, (_, at)| !key.starts_with(prefix) || *at >= before);
            Ok(())
        }
    }

    #[derive(Default)]
    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::SeqCst))
        }
    }

    fn route() -> RouteRef {
        RouteRef { mesh: "shop".into(), router: "r".into(), route: "checkout".into() }
    }

    /// A process over a shelf and a clock that all of them have.
    struct Process {
        memory: Memory,
        clock: Arc<Hand>,
        began: Monotonic,
        minute: u64,
    }

    impl Process {
        fn new(shelf: &Arc<Shelf>, clock: &Arc<Hand>) -> Self {
            let notes: Arc<dyn Notes> = Arc::clone(shelf) as Arc<dyn Notes>;
            let memory = Memory::kept(notes, Arc::clone(clock) as Arc<dyn Clock>);
            Self { memory, clock: Arc::clone(clock), began: Monotonic::now(), minute: 0 }
        }

        /// A minute in which the first of two endpoints fails twice and the second once.
        async fn minute(&mut self) {
            let count = self.minute;
            let series = [("a", 2), ("b", 1)].map(|(endpoint, errors)| Series {
                key: SeriesKey { route: route(), version: 7, target: "v1".into(), endpoint: endpoint.into() },
                share: 1.0,
                outcomes: Outcomes { requests: 100 * count, status_5xx: errors * count, ..Outcomes::default() },
                latency: Histogram::default(),
            });
            let now = self.began.after(Duration::from_secs(60 * count));
            self.memory.sample(&[Report { proxy: "p".into(), series: series.into(), ..Report::default() }], now);
            self.memory.keep(now).await;
            self.minute += 1;
            self.clock.0.fetch_add(60_000, Ordering::SeqCst);
        }

        async fn minutes_known(&self) -> u32 {
            self.memory.past(&route()).await.noise.map_or(0, |noise| noise.minutes)
        }
    }

    #[tokio::test]
    async fn a_day_outlives_the_process_and_a_store_that_is_down() {
        let (shelf, clock) = (Arc::new(Shelf::default()), Arc::new(Hand(AtomicI64::new(1_700_000_000_000))));
        let mut first = Process::new(&shelf, &clock);
        for _ in 0..41 {
            first.minute().await;
        }
        assert_eq!(first.minutes_known().await, 40);
        // Written down every five minutes: what came since is lost with the process.
        let mut second = Process::new(&shelf, &clock);
        let kept = second.minutes_known().await;
        assert!((36..=40).contains(&kept), "{kept}");
        // While the store is down nothing is read or written, and what is new counts all the same.
        let mut third = Process::new(&shelf, &clock);
        shelf.down.store(true, Ordering::SeqCst);
        for _ in 0..8 {
            third.minute().await;
        }
        assert_eq!(third.minutes_known().await, 7);
        shelf.down.store(false, Ordering::SeqCst);
        assert_eq!(third.minutes_known().await, kept + 7);
        for _ in 0..6 {
            third.minute().await;
        }
        assert!(Process::new(&shelf, &clock).minutes_known().await >= kept + 8, "nothing was written down");
        // A day later nothing is left of it.
        clock.0.fetch_add(26 * 3_600_000, Ordering::SeqCst);
        for _ in 0..8 {
            second.minute().await;
        }
        assert_eq!(second.minutes_known().await, 7);
        assert!(shelf.notes.lock().unwrap().len() <= 2, "old hours are still on the shelf");
    }
}
