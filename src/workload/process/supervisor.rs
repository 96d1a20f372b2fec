//! Keeps one slot's process: starts it, starts it again when it ends, stops it; or takes one over that an earlier daemon
//! started. Nothing is started that is not written down before, nor forgotten before its end was seen.

use super::record::{self, Kept, Started, Wanted};
use super::system::{self, end_group};
use crate::aws::bounded;
use crate::base::fault::Fault;
use crate::clock::Monotonic;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Asked to end, a process gets so long.
const END: Duration = Duration::from_secs(10);
/// The first wait before an ended process is started again; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// One that lived for so long has run: its end begins a new count.
const STEADY: Duration = Duration::from_secs(60);
/// How often one is looked for that another daemon started, whose end nobody tells.
const LOOK: Duration = Duration::from_millis(200);
/// How often the size of what it wrote is looked at.
const LOG_LOOK: Duration = Duration::from_secs(10);

/// How a slot's process stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Which one this is about: the token of what was wanted when it was started.
    pub(super) token: String,
    /// Number of the process that runs.
    pub(super) pid: Option<u32>,
    /// How often in a row it ended within [`STEADY`], or could not be started.
    pub(super) ends: u32,
    /// How it ended last.
    pub(super) last: String,
}

/// One slot.
#[derive(Debug)]
pub(super) struct SlotState {
    pub(super) wanted: watch::Sender<Option<Wanted>>,
    seen: Mutex<Seen>,
    kept: Mutex<Kept>,
    node: String,
    directory: PathBuf,
    /// Variables of the daemon that are nobody else's business.
    hidden: Vec<String>,
}

/// A process that runs.
struct Running {
    pid: u32,
    token: String,
    /// By which an adopted one is known; `None` where only its environment tells.
    started: Option<u64>,
    /// `None` for one that another daemon started.
    child: Option<Child>,
    /// Since when this daemon has it, and what had been written to its log by then.
    began: Monotonic,
    log_from: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Valid after any panic: every change is an assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SlotState {
    pub(super) fn new(directory: PathBuf, node: String, kept: Kept, hidden: Vec<String>) -> Self {
        let wanted = watch::Sender::new(kept.wanted.clone());
        Self { wanted, seen: Mutex::default(), kept: Mutex::new(kept), node, directory, hidden }
    }

    pub(super) fn seen(&self) -> Seen {
        locked(&self.seen).clone()
    }

    /// Whether processes of before may still run.
    pub(super) fn is_ending(&self) -> bool {
        let kept = locked(&self.kept);
        let wanted = kept.wanted.as_ref().map(|wanted| wanted.token.as_str());
        kept.started.iter().any(|started| Some(started.token.as_str()) != wanted)
    }

    /// Whether any process that was started may still run.
    pub(super) fn has_started(&self) -> bool {
        !locked(&self.kept).started.is_empty()
    }

    /// Has the slot run something else, or nothing. Written down first.
    pub(super) fn want(&self, wanted: Option<Wanted>) -> Result<(), Fault> {
        self.keep(|kept| kept.wanted.clone_from(&wanted))?;
        self.wanted.send_replace(wanted);
        Ok(())
    }

    fn keep(&self, change: impl FnOnce(&mut Kept)) -> Result<(), Fault> {
        let mut kept = locked(&self.kept);
        let mut changed = kept.clone();
        change(&mut changed);
        record::save(&self.directory, &self.node, &changed)?;
        *kept = changed;
        Ok(())
    }

    /// Notes a process, or another number for one that is noted.
    fn note(&self, token: &str, process: Option<(u32, u64)>) -> Result<(), Fault> {
        self.keep(|kept| {
            kept.started.retain(|started| started.token != token);
            kept.started.push(Started { token: token.to_owned(), process });
        })
    }

    /// The end of a process was seen. Where that cannot be noted, it is looked for once more by the next daemon.
    fn forget(&self, token: &str) {
        if let Err(fault) = self.keep(|kept| kept.started.retain(|started| started.token != token)) {
            tracing::warn!(%fault, "the end of a process was not noted");
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.join(format!("{}.log", self.node))
    }

    fn shows(&self, token: &str, pid: Option<u32>) {
        let mut seen = locked(&self.seen);
        if seen.token != token {
            *seen = Seen { token: token.to_owned(), ..Seen::default() };
        }
        seen.pid = pid;
    }

    /// Notes an end after so long; answers how many those were.
    fn ended(&self, how: String, lived: Duration) -> u32 {
        let mut seen = locked(&self.seen);
        (seen.pid, seen.last) = (None, how);
        if lived >= STEADY {
            seen.ends = 0;
        }
        seen.ends = seen.ends.saturating_add(1);
        seen.ends
    }

    /// Ends every process but one that may still run: of earlier daemons, and of what was wanted before.
    async fn end_others(&self, wanted: Option<&str>) {
        let others: Vec<Started> = locked(&self.kept).started.clone();
        for other in others.into_iter().filter(|other| Some(other.token.as_str()) != wanted) {
            if let Some((pid, started)) = system::find(&other.token, other.process) {
                let (token, began) = (other.token.clone(), Monotonic::now());
                stop(Running { pid, token, started, child: None, began, log_from: 0 }).await;
            }
            self.forget(&other.token);
        }
    }
}

/// Goes on for as long as the daemon, whatever becomes of the slot's process.
pub(super) async fn supervise(slot: Arc<SlotState>) {
    let mut wanted = slot.wanted.subscribe();
    let mut running: Option<Running> = None;
    loop {
        let now = wanted.borrow_and_update().clone();
        let token = now.as_ref().map(|now| now.token.as_str());
        if let Some(one) = running.take_if(|one| Some(one.token.as_str()) != token) {
            let ended = one.token.clone();
            stop(one).await;
            slot.forget(&ended);
        }
        slot.end_others(token).await;
        let Some(now) = now else {
            slot.shows("", None);
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        slot.shows(&now.token, running.as_ref().map(|one| one.pid));
        if running.is_none() {
            match start(&slot, &now).await {
                Ok(one) => {
                    slot.shows(&now.token, Some(one.pid));
                    running = Some(one);
                }
                Err(why) => {
                    let ends = slot.ended(why, Duration::ZERO);
                    if pause(&mut wanted, ends).await { continue } else { return }
                }
            }
        }
        let Some(one) = &mut running else { continue };
        tokio::select! {
            how = end_of(one) => {
                let ends = note_end(&slot, one, how, &now);
                running = None;
                if !pause(&mut wanted, ends).await {
                    return;
                }
            }
            () = tokio::time::sleep(LOG_LOOK) => system::shorten(&slot.log()),
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// It ended by itself. What it had started ends with it, since it would keep the port.
fn note_end(slot: &SlotState, one: &Running, how: String, wanted: &Wanted) -> u32 {
    end_group(one.pid);
    slot.forget(&one.token);
    let line = system::last_line(&slot.log(), one.log_from);
    let how = if line.is_empty() { how } else { format!("{how}; it wrote: {}", bounded(&line)) };
    tracing::warn!(revision = wanted.revision, port = wanted.port, how, "a process ended by itself");
    slot.ended(how, one.began.elapsed())
}

/// Waits before the next start, or until something else is wanted; `false` when nobody wants anything any more.
async fn pause(wanted: &mut watch::Receiver<Option<Wanted>>, ends: u32) -> bool {
    let wait = (FIRST_WAIT * 2_u32.saturating_pow(ends.saturating_sub(1).min(8))).min(LONGEST_WAIT);
    tokio::select! {
        () = tokio::time::sleep(wait) => true,
        changed = wanted.changed() => changed.is_ok(),
    }
}

/// The one that an earlier daemon started, or a new one.
async fn start(slot: &SlotState, wanted: &Wanted) -> Result<Running, String> {
    let (token, began, log) = (wanted.token.clone(), Monotonic::now(), slot.log());
    let log_from = std::fs::metadata(&log).map_or(0, |about| about.len());
    let noted = locked(&slot.kept).started.iter().find(|started| started.token == token).cloned();
    if let Some(noted) = noted
        && let Some((pid, started)) = system::find(&token, noted.process)
    {
        return Ok(Running { pid, token, started, child: None, began, log_from });
    }
    is_free(wanted.port).await?;
    let (Some(program), arguments) = (wanted.command.first(), wanted.command.get(1..).unwrap_or_default()) else {
        return Err("there is no command".to_owned());
    };
    let unwritable = |error: std::io::Error| format!("{} cannot be written: {error}", log.display());
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).map_err(unwritable)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(file.try_clone().map_err(unwritable)?).stderr(file);
    for name in &slot.hidden {
        command.env_remove(name);
    }
    // A group of its own: Ctrl-C in the daemon's terminal is not meant for it, and whatever it starts ends with it.
    command.envs(&wanted.env).env(system::TOKEN, &token).process_group(0).kill_on_drop(false);
    slot.note(&token, None).map_err(|fault| fault.message)?;
    let child = command.spawn().map_err(|error| {
        slot.forget(&token);
        not_started(program, &error)
    })?;
    let pid = child.id().ok_or("it ended at once")?;
    let started = system::started(pid);
    if let Err(fault) = slot.note(&token, started.map(|started| (pid, started))) {
        // Its environment still tells.
        tracing::warn!(%fault, pid, "the number of a process was not noted");
    }
    tracing::info!(pid, revision = wanted.revision, port = wanted.port, "process started");
    Ok(Running { pid, token, started, child: Some(child), began, log_from })
}

async fn is_free(port: u16) -> Result<(), String> {
    match TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(format!("port {port} is taken by another program"))
        }
        Err(error) => Err(format!("port {port} cannot be listened on: {error}")),
    }
}

fn not_started(program: &str, error: &std::io::Error) -> String {
    let todo = match error.kind() {
        std::io::ErrorKind::NotFound => "; name a program of this machine in `workload.process.command`",
        std::io::ErrorKind::PermissionDenied => "; it may not be executed: chmod +x",
        _ => "",
    };
    format!("`{}` cannot be started: {error}{todo}", bounded(program))
}

/// Waits for its end; answers how it ended.
async fn end_of(one: &mut Running) -> String {
    match &mut one.child {
        Some(child) => match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => format!("its end is not known: {error}"),
        },
        None => {
            while system::runs(one.pid, one.started, &one.token) {
                tokio::time::sleep(LOOK).await;
            }
            "it ended".to_owned()
        }
    }
}

/// Asks it to end, and ends it.
async fn stop(mut one: Running) {
    system::ask_to_end(one.pid);
    if tokio::time::timeout(END, end_of(&mut one)).await.is_err() {
        tracing::warn!(pid = one.pid, "a process did not end within 10 s of SIGTERM, and is killed");
        end_group(one.pid);
        end_of(&mut one).await;
    }
    // Whatever it started and left behind.
    end_group(one.pid);
}
