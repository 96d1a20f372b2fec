//! `tidegate demo`: how it ends by itself, and that nothing is left of it however it is ended.

use crate::program::{FREE_PORTS, Process, TIDEGATE, command, text, until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

/// A demo with a directory of its own for temporary files.
struct Demo {
    process: Process,
    temporary: TempDir,
    /// Everything it started, as far as was looked.
    children: BTreeSet<u32>,
    addresses: BTreeMap<String, SocketAddr>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let temporary = TempDir::with_prefix("tidegate-test-").unwrap();
        let mut command = command(&[&["demo", "--once", "--output", "json"], arguments, &FREE_PORTS].concat());
        command.env("TMPDIR", temporary.path());
        Self { process: Process::spawn(command), temporary, children: BTreeSet::new(), addresses: BTreeMap::new() }
    }

    fn look(&mut self) {
        self.children.extend(children_of(self.process.pid()));
        for event in self.process.stdout.events("listening") {
            self.addresses.insert(text(&event["name"]), text(&event["address"]).parse().unwrap());
        }
    }

    /// Waits for something that its output says.
    async fn reaches(&mut self, what: &str, reached: impl Fn(&Process) -> bool) {
        until(what, async || reached(&self.process).then_some(())).await;
        self.look();
    }

    /// Nothing is left: no process, no port, and (unless it had no chance) no file.
    async fn left_nothing(&self) {
        self.left_no_process().await;
        for (name, address) in &self.addresses {
            assert!(std::net::TcpListener::bind(address).is_ok(), "{name} {address} is still held");
        }
        let files: Vec<_> = std::fs::read_dir(self.temporary.path()).unwrap().flatten().collect();
        assert!(files.is_empty(), "{files:?}");
    }

    async fn left_no_process(&self) {
        assert!(!self.children.is_empty(), "none was seen, so nothing was checked");
        for pid in &self.children {
            until("a service process ends", async || (!is_service(*pid)).then_some(())).await;
        }
    }
}

/// Processes whose parent this is.
fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it is in parentheses and may hold anything.
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a process is a service of a demo and runs (a zombie has no command line).
fn is_service(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("demo-service"))
}

#[tokio::test]
async fn both_releases_end_as_they_must() {
    let mut demo = Demo::start(&[]);
    demo.reaches("the good release", |process| !process.stdout.events("scenario").is_empty()).await;
    demo.reaches("the bad release", |process| process.stdout.events("scenario").len() == 2).await;
    demo.reaches("the end", |process| !process.stdout.events("summary").is_empty()).await;
    assert_eq!(demo.process.ended().await.code(), Some(0), "{}", demo.process.stderr.text());
    let lines = demo.process.stdout.all();
    assert!(lines.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines:?}");
    let summary: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!((&summary["event"], &summary["lost_requests"]), (&"summary".into(), &0.into()));
    let [good, bad] = summary["scenarios"].as_array().unwrap().as_slice() else { panic!("{summary}") };
    assert_eq!((&good["name"], &good["outcome"]), (&"good".into(), &"succeeded".into()), "{summary}");
    assert_eq!((&bad["name"], &bad["outcome"]), (&"bad".into(), &"rolled_back".into()), "{summary}");
    assert_eq!(good["failed_requests"], 0);
    assert!(bad["failed_requests"].as_u64() > Some(0) && bad["detect_ms"].is_u64() && bad["rollback_ms"].is_u64());
    assert_eq!(demo.process.stderr.text(), "");
    demo.left_nothing().await;
}

#[tokio::test]
async fn the_bad_release_alone() {
    let mut demo = Demo::start(&["--scenario", "bad"]);
    demo.reaches("the release", |process| !process.stdout.events("scenario").is_empty()).await;
    demo.reaches("the end", |process| !process.stdout.events("summary").is_empty()).await;
    assert_eq!(demo.process.ended().await.code(), Some(0), "{}", demo.process.stderr.text());
    let summary = demo.process.stdout.events("summary").remove(0);
    assert_eq!(summary["scenarios"].as_array().unwrap().len(), 1, "{summary}");
    assert_eq!(summary["scenarios"][0]["outcome"], "rolled_back", "{summary}");
    demo.left_nothing().await;
}

/// A moment and how its output shows it.
type Moment = (&'static str, fn(&Process) -> bool);

const MOMENTS: [Moment; 4] = [
    ("its services start", |process| !children_of(process.pid()).is_empty()),
    ("it listens", |process| process.stdout.events("listening").len() == 5),
    ("the scenario begins", |process| !process.stdout.events("scenario").is_empty()),
    ("the rollout bakes", |process| process.stdout.text().contains("\"phase\":\"baking\"")),
];

async fn stops_clean(signal: &str) {
    for (moment, reached) in MOMENTS {
        let mut demo = Demo::start(&["--scenario", "good"]);
        demo.reaches(moment, reached).await;
        demo.process.signal(signal).await;
        assert_eq!(demo.process.ended().await.code(), Some(1), "{moment}: {}", demo.process.stderr.text());
        let said = demo.process.stderr.text();
        assert!(said.contains("stopped") && said.lines().count() == 1, "{moment}: {said}");
        demo.left_nothing().await;
    }
}

#[tokio::test]
async fn ctrl_c_leaves_nothing_behind() {
    stops_clean("INT").await;
}

#[tokio::test]
async fn a_terminal_that_is_closed_leaves_nothing_behind() {
    stops_clean("HUP").await;
}

#[tokio::test]
async fn sigterm_leaves_nothing_behind() {
    stops_clean("TERM").await;
}

/// Requests over one connection until an answer says that it is the last; an error when the connection breaks instead.
async fn call_until_told(address: SocketAddr, answered: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    loop {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: checkout.local\r\n\r\n").await?;
        let (mut last, mut length) = (false, 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_lowercase();
            last |= line == "connection: close";
            length = line.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
            if line.is_empty() {
                break;
            }
        }
        stream.read_exact(&mut vec![0; length]).await?;
        answered.fetch_add(1, Ordering::SeqCst);
        if last {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn a_demo_that_stops_breaks_no_connection() {
    let mut demo = Demo::start(&["--scenario", "good"]);
    demo.reaches("the scenario", |process| !process.stdout.events("scenario").is_empty()).await;
    let answered = Arc::new(AtomicU64::new(0));
    let caller = tokio::spawn(call_until_told(demo.addresses["egress"], Arc::clone(&answered)));
    until("an answer", async || (answered.load(Ordering::SeqCst) > 10).then_some(())).await;
    demo.process.signal("INT").await;
    caller.await.unwrap().unwrap();
    assert_eq!(demo.process.ended().await.code(), Some(1));
    demo.left_nothing().await;
}

#[tokio::test]
async fn a_killed_demo_takes_its_services_with_it() {
    let mut demo = Demo::start(&[]);
    demo.reaches("the scenario", |process| !process.stdout.events("scenario").is_empty()).await;
    assert_eq!(demo.children.len(), 2);
    demo.process.signal("KILL").await;
    demo.process.ended().await;
    demo.left_no_process().await;
}

#[tokio::test]
async fn in_a_terminal_it_stays_until_ctrl_c() {
    let temporary = TempDir::with_prefix("tidegate-test-").unwrap();
    // Not every shell gives its process to its last command by itself, and `script` takes the one that `SHELL` names.
    let line = [&["exec", TIDEGATE, "demo", "--scenario", "bad"], &FREE_PORTS[..]].concat().join(" ");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
    script.env("SHELL", "/bin/sh").env("TMPDIR", temporary.path()).kill_on_drop(true);
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().await.is_err() {
        #[expect(clippy::print_stderr, reason = "the one way in which a test tells that it was skipped")]
        {
            eprintln!("skipped: needs script");
        }
        return;
    }
    let (mut process, mut keyboard) = Process::with_input(script);
    let says = async |text: &str| until(text, async || process.stdout.text().contains(text).then_some(())).await;
    says("Everything is still running").await;
    let demo = until("the demo's process", async || children_of(process.pid()).first().copied()).await;
    let services = children_of(demo);
    assert_eq!(services.len(), 2);
    // The block of the rollout was drawn over itself.
    says("\x1b[J").await;
    says("rolled_back").await;
    // Through the terminal, as a person does it.
    keyboard.write_all(b"\x03").await.unwrap();
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.stdout.text());
    assert!(process.stdout.text().contains("stopped"), "{}", process.stdout.text());
    for pid in services {
        assert!(!is_service(pid), "{pid} still runs");
    }
    let files: Vec<_> = std::fs::read_dir(Path::new(temporary.path())).unwrap().flatten().collect();
    assert!(files.is_empty(), "{files:?}");
}
