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
    pub(super) fn sample(&self, reports: &[Report]) {
        self.minutes().sample(reports, Monotonic::now(), self.clock.now());
    }

    /// What a rollout should know of a route.
    pub(super) async fn past(&self, route: &RouteRef) -> Past {
        self.restore(route).await;
        self.minutes().past(route, self.clock.now())
    }

    /// Reads what was written down of routes that are new here, and writes down what is due.
    pub(super) async fn keep(&self) {
        let Some(notes) = &self.notes else { return };
        let unrestored = self.minutes().unrestored();
        for route in unrestored {
            self.restore(&route).await;
        }
        let now = Monotonic::now();
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

    async fn restore(&self, route: &RouteRef) {
        let Some(notes) = &self.notes else { return };
        if self.minutes().is_restored(route) {
            return;
        }
        match notes.notes_under(&prefix(route)).await {
            Ok(written) => {
                // One that cannot be read is one less.
                let hours = written.iter().filter_map(|(_, value)| serde_json::from_str::<Vec<Kept>>(value).ok());
                let minutes = hours.flatten().map(|(at, minute)| (Timestamp(at), minute)).collect();
                self.minutes().restore(route, minutes, self.clock.now());
            }
            Err(fault) => tracing::warn!(%route, %fault, "what stable's endpoints did before could not be read"),
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
