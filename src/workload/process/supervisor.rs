//! Keeps one slot's process: starts it, starts it again when it ends, stops it; or takes one over that an earlier daemon
//! started.

use super::record::Wanted;
use crate::aws::bounded;
use crate::clock::Monotonic;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
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
/// What a process wrote is kept up to about this, and as much of before.
const LOG_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// So much of the end of what it wrote is looked at for its last line.
const TAIL_BYTES: u64 = 4096;
/// The variable by which a process is known again.
const TOKEN: &str = "TIDEGATE_PROCESS";

/// How a slot's process stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Number of the process that runs.
    pub(super) pid: Option<u32>,
    /// How often in a row it ended within [`STEADY`], or could not be started, since what it runs was last changed.
    pub(super) ends: u32,
    /// How it ended last.
    pub(super) last: String,
}

/// One slot.
#[derive(Debug)]
pub(super) struct SlotState {
    pub(super) wanted: watch::Sender<Option<Wanted>>,
    seen: Mutex<Seen>,
    log: PathBuf,
    /// Variables of the daemon that are nobody else's business.
    hidden: Vec<String>,
}

/// A process that runs.
struct Running {
    pid: u32,
    token: String,
    /// `None` for one that another daemon started.
    child: Option<Child>,
    /// Since when this daemon has it.
    began: Monotonic,
}

impl SlotState {
    pub(super) fn new(log: PathBuf, hidden: Vec<String>) -> Self {
        Self { wanted: watch::Sender::new(None), seen: Mutex::default(), log, hidden }
    }

    pub(super) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        // Valid after any panic: every change is one assignment.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an end after so long; answers how many those were.
    fn ended(&self, how: String, lived: Duration) -> u32 {
        let mut seen = self.lock();
        (seen.pid, seen.last) = (None, how);
        if lived >= STEADY {
            seen.ends = 0;
        }
        seen.ends = seen.ends.saturating_add(1);
        seen.ends
    }
}

/// Goes on until the slot is dropped.
pub(super) async fn supervise(slot: Arc<SlotState>) {
    let mut wanted = slot.wanted.subscribe();
    let mut running: Option<Running> = None;
    let mut token = String::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        if running.as_ref().is_some_and(|one| now.as_ref().is_none_or(|now| now.token != one.token))
            && let Some(one) = running.take()
        {
            stop(one).await;
            slot.lock().pid = None;
            // It may be wanted otherwise by now.
            continue;
        }
        let Some(now) = now else {
            *slot.lock() = Seen::default();
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        if token != now.token {
            token.clone_from(&now.token);
            *slot.lock() = Seen::default();
        }
        if running.is_none() {
            match start(&slot, &now).await {
                Ok(one) => {
                    slot.lock().pid = Some(one.pid);
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
                let lived = one.began.elapsed();
                running = None;
                let line = last_line(&slot.log);
                let ends = slot.ended(if line.is_empty() { how } else { format!("{how}; it wrote: {line}") }, lived);
                tracing::warn!(revision = now.revision, port = now.port, how = slot.seen().last, "a process ended by itself");
                if !pause(&mut wanted, ends).await {
                    return;
                }
            }
            () = tokio::time::sleep(LOG_LOOK) => shorten(&slot.log),
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
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
    let token = wanted.token.clone();
    if let Some(pid) = found(&token) {
        return Ok(Running { pid, token, child: None, began: Monotonic::now() });
    }
    let address = (std::net::Ipv4Addr::LOCALHOST, wanted.port);
    match TcpListener::bind(address).await {
        Ok(free) => drop(free),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            return Err(format!("port {} is taken by another program", wanted.port));
        }
        Err(error) => return Err(format!("port {} cannot be listened on: {error}", wanted.port)),
    }
    let (Some(program), arguments) = (wanted.command.first(), wanted.command.get(1..).unwrap_or_default()) else {
        return Err("there is no command".to_owned());
    };
    let log = |error: std::io::Error| format!("{} cannot be written: {error}", slot.log.display());
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&slot.log).map_err(log)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(file.try_clone().map_err(log)?).stderr(file);
    for name in &slot.hidden {
        command.env_remove(name);
    }
    // A group of its own: Ctrl-C in the daemon's terminal is not meant for it, and whatever it starts ends with it.
    command.envs(&wanted.env).env(TOKEN, &token).process_group(0).kill_on_drop(false);
    let child = command.spawn().map_err(|error| not_started(program, &error))?;
    let pid = child.id().ok_or("it ended at once")?;
    tracing::info!(pid, revision = wanted.revision, port = wanted.port, "process started");
    Ok(Running { pid, token, child: Some(child), began: Monotonic::now() })
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
            while found(&one.token) == Some(one.pid) {
                tokio::time::sleep(LOOK).await;
            }
            "it ended".to_owned()
        }
    }
}

/// Asks it to end, and ends it.
async fn stop(mut one: Running) {
    let group = i32::try_from(one.pid).ok().and_then(Pid::from_raw);
    let signal = |signal| group.map(|group| kill_process_group(group, signal));
    let _ = signal(Signal::TERM);
    if tokio::time::timeout(END, end_of(&mut one)).await.is_err() {
        tracing::warn!(pid = one.pid, "a process did not end within 10 s of SIGTERM, and is killed");
        let _ = signal(Signal::KILL);
        end_of(&mut one).await;
    }
    // Whatever it started and left behind.
    let _ = signal(Signal::KILL);
}

/// The process that has a token in its environment, and leads its group. By `/proc`, so on Linux alone: elsewhere a process
/// of an earlier daemon shows as a port that is taken.
fn found(token: &str) -> Option<u32> {
    let variable = format!("{TOKEN}={token}");
    let pids = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut pids = pids.filter(|pid: &u32| leads_its_group(*pid));
    pids.find(|pid| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    })
}

/// By the fields behind the name in `/proc/PID/stat` (proc(5)): state, parent, group. A zombie has ended.
fn leads_its_group(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let (state, group) = (fields.next(), fields.nth(1));
    state.is_some_and(|state| state != "Z") && group.and_then(|group| group.parse().ok()) == Some(pid)
}

fn last_line(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail)?;
        Ok(tail)
    };
    let tail = read().unwrap_or_default();
    let tail = String::from_utf8_lossy(&tail);
    bounded(tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim())
}

/// Keeps what a process wrote from filling the disk. It appends, so what is cut off under it does no harm.
fn shorten(log: &Path) {
    if std::fs::metadata(log).is_ok_and(|about| about.len() > LOG_MAX_BYTES) {
        let before = log.with_extension("log.1");
        let cut = std::fs::copy(log, before).and_then(|_| std::fs::File::options().write(true).open(log)?.set_len(0));
        if let Err(error) = cut {
            tracing::warn!(log = %log.display(), %error, "what a process wrote cannot be shortened");
        }
    }
}
