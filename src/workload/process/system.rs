//! What the system tells of processes, and what is asked of it: signals to groups, `/proc` (Linux alone), and what they wrote.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The variable by which a process is known again.
pub(super) const TOKEN: &str = "TIDEGATE_PROCESS";
/// What a process wrote is kept up to about this, and as much of before.
const LOG_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// So much of the end of what it wrote is looked at for its last line.
const TAIL_BYTES: u64 = 4096;

fn group(pid: u32, signal: Signal) {
    if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended.
        let _ = kill_process_group(group, signal);
    }
}

/// Asks a process and what it has started to end.
pub(super) fn ask_to_end(pid: u32) {
    group(pid, Signal::TERM);
}

/// Ends whatever is left of a process and what it has started.
pub(super) fn end_group(pid: u32) {
    group(pid, Signal::KILL);
}

/// When a process was started, in ticks since the machine was (proc(5), field 22 of `/proc/PID/stat`); `None` for one that
/// has ended, and where there is no `/proc`.
pub(super) fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; state is the first field behind it.
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then_some(())?;
    fields.nth(18)?.parse().ok()
}

/// A process by what was noted of it, else by the token in its environment: its number, and when it was started. Elsewhere
/// than on Linux none is found, and one of an earlier daemon shows as a port that is taken.
pub(super) fn find(token: &str, noted: Option<(u32, u64)>) -> Option<(u32, Option<u64>)> {
    if let Some((pid, at)) = noted {
        return (started(pid) == Some(at)).then_some((pid, Some(at)));
    }
    let pids = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut pids = pids.filter(|pid: &u32| leads_its_group(*pid) && has(*pid, token));
    pids.next().map(|pid| (pid, started(pid)))
}

/// Whether it is still the same process that runs.
pub(super) fn runs(pid: u32, at: Option<u64>, token: &str) -> bool {
    match at {
        Some(at) => started(pid) == Some(at),
        None => has(pid, token),
    }
}

fn has(pid: u32, token: &str) -> bool {
    let variable = format!("{TOKEN}={token}");
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environ.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
}

/// By the fields behind the name: state, parent, group.
fn leads_its_group(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let (state, group) = (fields.next(), fields.nth(1));
    state.is_some_and(|state| state != "Z") && group.and_then(|group| group.parse().ok()) == Some(pid)
}

/// The last line that was written to a file since it had a length; empty where there is none.
pub(super) fn last_line(log: &Path, since: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        // It was shortened meanwhile when it has less.
        let since = if since > length { 0 } else { since };
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES).max(since)))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail)?;
        Ok(tail)
    };
    let tail = read().unwrap_or_default();
    let tail = String::from_utf8_lossy(&tail);
    tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// Keeps what a process wrote from filling the disk. It appends, so what is cut off under it does no harm.
pub(super) fn shorten(log: &Path) {
    if std::fs::metadata(log).is_ok_and(|about| about.len() > LOG_MAX_BYTES) {
        let before = log.with_extension("log.1");
        let cut = std::fs::copy(log, before).and_then(|_| std::fs::File::options().write(true).open(log)?.set_len(0));
        if let Err(error) = cut {
            tracing::warn!(log = %log.display(), %error, "what a process wrote cannot be shortened");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_before_is_nobodys() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("a.log");
        std::fs::write(&log, "of before\n").expect("written");
        assert_eq!(last_line(&log, 10), "");
        assert_eq!(last_line(&log, 0), "of before");
        std::fs::write(&log, "of before\nnow\n\n").expect("written");
        assert_eq!((last_line(&log, 10), last_line(&log, 99)), ("now".to_owned(), "now".to_owned()));
        assert_eq!(last_line(&directory.path().join("b.log"), 0), "");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_known_by_number_and_start() {
        let me = std::process::id();
        let at = started(me).expect("it runs");
        assert_eq!(find("nobody's", Some((me, at))), Some((me, Some(at))));
        assert_eq!(find("nobody's", Some((me, at + 1))), None);
        assert_eq!(find("nobody's", None), None);
        assert!(runs(me, Some(at), "") && !runs(me, Some(at + 1), ""));
    }
}
