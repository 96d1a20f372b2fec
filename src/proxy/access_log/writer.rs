//! The thread that puts lines into the file. It may wait for a disk or a pipe; nobody waits for it.
//!
//! A file that was moved away (logrotate) is noticed within a second, before the next lines are written: its name then
//! leads elsewhere or nowhere, and a new one is made.

use super::LogCounts;
use crate::clock::Monotonic;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often it is looked whether the file was moved.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the writer is told.
pub(super) enum Message {
    /// Whole lines for a file.
    Lines {
        path: String,
        text: Vec<u8>,
        /// How many they are.
        lines: u64,
    },
    /// Open the file anew.
    Reopen,
    /// Tell when everything before is written.
    Finish(oneshot::Sender<()>),
}

/// The file that is written to.
struct Open {
    path: String,
    file: File,
    /// Which file it is, where a name may come to lead to another one.
    identity: Option<(u64, u64)>,
    looked: Monotonic,
}

/// Writes until nobody can send any more.
pub(super) fn run(inbox: &Receiver<Message>, counts: &LogCounts) {
    let (mut open, mut was_told) = (None, false);
    while let Ok(message) = inbox.recv() {
        match message {
            Message::Reopen => open = None,
            // Who has stopped waiting needs to know nothing.
            Message::Finish(done) => drop(done.send(())),
            Message::Lines { path, text, lines } => match write(&mut open, &path, &text) {
                Ok(()) => {
                    counts.written.fetch_add(lines, Ordering::Relaxed);
                    was_told = false;
                }
                Err(error) => {
                    // The next piece tries to open it once more.
                    open = None;
                    counts.failed.fetch_add(lines, Ordering::Relaxed);
                    if !was_told {
                        tracing::error!(path, %error, "the access log cannot be written, and its lines are lost until it can");
                    }
                    was_told = true;
                }
            },
        }
    }
}

fn write(open: &mut Option<Open>, path: &str, text: &[u8]) -> io::Result<()> {
    if !open.as_mut().is_some_and(|open| open.path == path && open.is_current()) {
        *open = Some(Open::new(path)?);
    }
    match open {
        Some(open) => open.file.write_all(text),
        None => Ok(()),
    }
}

impl Open {
    fn new(path: &str) -> io::Result<Self> {
        // By their paths these cannot be opened where they are sockets or another user's.
        let file = match path {
            "/dev/stdout" => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            "/dev/stderr" => File::from(io::stderr().as_fd().try_clone_to_owned()?),
            _ => OpenOptions::new().append(true).create(true).open(path)?,
        };
        let about = file.metadata()?;
        let identity = (about.is_file() && !path.starts_with("/dev/")).then(|| identity(&about));
        Ok(Self { path: path.to_owned(), file, identity, looked: Monotonic::now() })
    }

    /// Whether the file's name still leads to it. Looks once a second.
    fn is_current(&mut self) -> bool {
        if self.identity.is_none() || self.looked.elapsed() < LOOK_EVERY {
            return true;
        }
        self.looked = Monotonic::now();
        std::fs::metadata(Path::new(&self.path)).is_ok_and(|about| Some(identity(&about)) == self.identity)
    }
}

fn identity(about: &Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}
