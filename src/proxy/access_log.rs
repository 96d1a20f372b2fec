//! The log of requests and connections (`logging.accessLog` of the own node or gateway), off the requests' path.
//!
//! A worker writes lines into memory of its own and hands them over a piece at a time; one thread for the whole proxy puts
//! them into the file. Where that thread cannot keep up, lines are dropped and counted: a log never holds a request up.

/// What is known of a request when it is over (pure).
pub mod facts;
/// What a line holds (pure).
pub mod format;
/// Instants in lines (pure).
pub mod stamp;
/// The thread that writes.
mod writer;

use crate::mesh::snapshot::{self, LogFormat};
use facts::Facts;
use format::Format;
use stamp::Instants;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use writer::Message;

/// A worker's lines are handed over once they are so many bytes, or a second old: one write of the file for dozens of them.
const PIECE: usize = 16 * 1024;
/// Lines that may wait in a worker while the writer is behind: a file that hangs for a moment loses none of them.
const MOST_WAITING: usize = 256 * 1024;
/// Pieces that may wait for the writer, 4 MiB.
const PIECES: usize = 256;
/// How long the end waits for what is still to be written: a reader that takes nothing must not hold it up.
const MAX_END: Duration = Duration::from_secs(2);

/// A log as it is configured.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Log {
    path: String,
    /// What a line holds.
    pub(super) format: Format,
    /// What is wrong with the format that was asked for.
    wrong: Option<String>,
}

impl Log {
    /// Compiles what the mesh says. For a format that is wrong Envoy's own is taken, as for Envoys.
    pub(super) fn new(wanted: &snapshot::AccessLog) -> Self {
        static HOSTNAME: OnceLock<String> = OnceLock::new();
        let read = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let hostname = HOSTNAME.get_or_init(read);
        let mut wrong = None;
        let format = Format::read(&wanted.format, hostname).or_else(|reason| {
            wrong = Some(reason);
            Format::read(&LogFormat::Default, hostname)
        });
        // Envoy's own is good, as a test shows.
        let format = format.unwrap_or_else(|reason| unreachable!("{reason}"));
        Self { path: wanted.path.clone(), format, wrong }
    }
}

/// All workers' way to the one writer.
#[derive(Default)]
pub(super) struct Logs {
    writer: OnceLock<Option<SyncSender<Message>>>,
    counts: std::sync::Arc<LogCounts>,
    /// What was last said to be wrong with a format.
    told: Mutex<Option<String>>,
}

/// What became of lines.
#[derive(Debug, Default)]
pub(super) struct LogCounts {
    /// Written.
    pub(super) written: AtomicU64,
    /// Dropped since the writer was behind.
    pub(super) dropped: AtomicU64,
    /// Lost since the file could not be opened or written.
    pub(super) failed: AtomicU64,
}

impl Logs {
    /// Every count by Envoy's name for the like (`filesystem.*`), or ours.
    pub(super) fn read(&self) -> [(&'static str, u64); 3] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let LogCounts { written, dropped, failed } = &*self.counts;
        [
            ("access_log.lines_written", get(written)),
            ("access_log.lines_dropped", get(dropped)),
            ("access_log.lines_failed", get(failed)),
        ]
    }

    /// Says what is wrong with the format, once until that changes: each endpoint that comes or goes publishes it anew. Whether it
    /// was said.
    pub(super) fn tell(&self, log: Option<&Log>) -> bool {
        let wrong = log.and_then(|log| log.wrong.as_ref());
        // No code can panic while it holds the lock.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = told.as_ref() != wrong;
        if is_new {
            *told = wrong.cloned();
        }
        if let (true, Some(reason)) = (is_new, wrong) {
            tracing::warn!(reason, "the access log's format is wrong; Envoy's default format is used");
        }
        is_new && wrong.is_some()
    }

    /// The writer, which is started by the first who has something for it.
    fn writer(&self) -> Option<&SyncSender<Message>> {
        let start = || {
            let (sender, inbox) = sync_channel(PIECES);
            let counts = std::sync::Arc::clone(&self.counts);
            let thread = std::thread::Builder::new().name("access-log".into());
            match thread.spawn(move || writer::run(&inbox, &counts)) {
                Ok(_) => Some(sender),
                Err(error) => {
                    tracing::error!(%error, "no access log: its thread cannot be started");
                    None
                }
            }
        };
        self.writer.get_or_init(start).as_ref()
    }

    /// Opens the file anew, by its name.
    pub(super) fn reopen(&self) {
        if let Some(Some(writer)) = self.writer.get() {
            // A writer that is so far behind looks after moved files by itself.
            let _ = writer.try_send(Message::Reopen);
        }
    }

    /// Waits until everything that was handed over is written, for two seconds at most.
    pub(super) async fn finish(&self) {
        let Some(Some(writer)) = self.writer.get() else { return };
        let (done, finished) = oneshot::channel();
        if writer.try_send(Message::Finish(done)).is_ok() {
            let _ = tokio::time::timeout(MAX_END, finished).await;
        }
    }
}

/// Lines of one worker.
#[derive(Default)]
pub(super) struct Lines(RefCell<Waiting>);

#[derive(Default)]
struct Waiting {
    path: String,
    text: Vec<u8>,
    lines: u64,
    instants: Instants,
}

impl Lines {
    /// Adds a line.
    pub(super) fn add(&self, logs: &Logs, log: &Log, facts: &Facts) {
        let waiting = &mut *self.0.borrow_mut();
        if waiting.path != log.path {
            waiting.hand_over(logs);
            waiting.drop_all(logs);
            waiting.path.clone_from(&log.path);
        }
        if waiting.text.len() >= MOST_WAITING {
            logs.counts.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            log.format.write(facts, &mut waiting.instants, &mut waiting.text);
            waiting.lines += 1;
        }
        if waiting.text.len() >= PIECE {
            waiting.hand_over(logs);
        }
    }

    /// Hands over what there is.
    pub(super) fn flush(&self, logs: &Logs) {
        self.0.borrow_mut().hand_over(logs);
    }
}

impl Waiting {
    /// What finds no room stays here.
    fn hand_over(&mut self, logs: &Logs) {
        if self.lines == 0 {
            return;
        }
        let Some(writer) = logs.writer() else { return self.drop_all(logs) };
        let text = std::mem::take(&mut self.text);
        match writer.try_send(Message::Lines { path: self.path.clone(), text, lines: self.lines }) {
            Ok(()) => self.lines = 0,
            Err(error) => {
                let (std::sync::mpsc::TrySendError::Full(message)
                | std::sync::mpsc::TrySendError::Disconnected(message)) = error;
                if let Message::Lines { text, .. } = message {
                    self.text = text;
                }
            }
        }
    }

    fn drop_all(&mut self, logs: &Logs) {
        logs.counts.dropped.fetch_add(std::mem::take(&mut self.lines), Ordering::Relaxed);
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoys_own_format_stands_in_for_a_wrong_one() {
        let wrong = snapshot::AccessLog { path: "p".into(), format: LogFormat::Text("%NO_SUCH%".into()) };
        let right = snapshot::AccessLog { path: "p".into(), format: LogFormat::Default };
        assert_eq!(Log::new(&wrong).format, Log::new(&right).format);
    }

    #[test]
    fn a_wrong_format_is_told_once() {
        let log =
            |text: &str| Log::new(&snapshot::AccessLog { path: "p".into(), format: LogFormat::Text(text.into()) });
        let logs = Logs::default();
        let told = [Some(log("%A%")), Some(log("%A%")), Some(log("%B%")), None, Some(log("%B%")), Some(log("good"))];
        assert_eq!(told.each_ref().map(|log| logs.tell(log.as_ref())), [true, false, true, false, true, false]);
    }

    /// A writer that never takes anything: its channel is full.
    #[test]
    fn a_writer_that_is_behind_costs_lines_and_no_memory() {
        let logs = Logs::default();
        let (sender, inbox) = sync_channel(1);
        assert!(logs.writer.set(Some(sender)).is_ok());
        let text = LogFormat::Text(format!("{}\n", "x".repeat(1023)));
        let log = Log::new(&snapshot::AccessLog { path: "p".into(), format: text });
        let lines = Lines::default();
        for _ in 0..400 {
            lines.add(&logs, &log, &Facts::default());
        }
        // One piece of 16 lines waits in the channel and 256 in the worker.
        assert_eq!(logs.counts.dropped.load(Ordering::Relaxed), 400 - 16 - 256);
        let Ok(Message::Lines { lines: first, .. }) = inbox.try_recv() else { panic!("a piece was handed over") };
        lines.flush(&logs);
        let Ok(Message::Lines { lines: second, text, .. }) = inbox.try_recv() else { panic!("so is the rest") };
        assert_eq!((first, second, text.len()), (16, 256, 256 * 1024));
        lines.flush(&logs);
        assert!(inbox.try_recv().is_err(), "nothing is handed over twice");
    }
}
