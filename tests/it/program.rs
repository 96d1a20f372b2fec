//! The assembled program from outside: as a command that ends, as a daemon that stays, and bounded waiting for it.

pub(crate) mod aws_double;
pub(crate) mod controllers;
pub(crate) mod database_gate;
pub(crate) mod fleet;
pub(crate) mod gate;
pub(crate) mod github;
pub(crate) mod otlp;
pub(crate) mod service;
pub(crate) mod slack;
pub(crate) mod usual;
pub(crate) mod world;

use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::clock::Monotonic;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

/// The program under test.
pub(crate) const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");
/// Addresses of a daemon, in the order in which it announces them.
pub(crate) const NAMES: [&str; 5] = ["api", "appmesh", "xds", "egress", "admin"];
/// Where `demo` and `local` are told to listen: on free ports. The last is that of the proxy's egress.
pub(crate) const FREE_PORTS: [&str; 10] = {
    let any = "127.0.0.1:0";
    ["--api", any, "--appmesh", any, "--xds", any, "--admin", any, "--egress", any]
};
/// Anything that takes longer than this hangs. What is waited for takes 20 s at most on an idle machine; one that builds
/// other things meanwhile is several times slower.
const PATIENCE: Duration = Duration::from_secs(90);

/// Looks until there is something to see; fails when there is nothing in time.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Monotonic::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Says that a test is skipped for want of a peer, and answers `false`; where `CI` is set that is a failure.
pub(crate) fn lacks(peer: &str) -> bool {
    #[expect(clippy::disallowed_methods, reason = "CI tells that way that a missing peer is a failure")]
    let required = std::env::var("CI").is_ok_and(|value| !value.is_empty());
    assert!(!required, "needs {peer}, and CI is set");
    #[expect(clippy::print_stderr, reason = "the one way in which a test tells that it was skipped")]
    {
        eprintln!("skipped: needs {peer}");
    }
    false
}

/// The program with what a test gives it and nothing of whoever runs the test.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = command_named(TIDEGATE);
    command.args(arguments);
    command
}

/// The same, of a program that was built otherwise.
pub(crate) fn command_named(program: &str) -> Command {
    let mut command = command_of(program);
    for name in [
        "TIDEGATE_SERVER",
        "TIDEGATE_TOKEN",
        "TIDEGATE_CA_FILE",
        "TIDEGATE_INSECURE",
        "TIDEGATE_DATABASE_URL",
        "TIDEGATE_LOG",
        "AWS_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "NO_COLOR",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(name);
    }
    // Help is wrapped to the terminal, the audit trail says who it was.
    command.env("COLUMNS", "100").env("USER", "tester");
    command
}

/// Another program, whose output is kept, and which ends with its handle.
pub(crate) fn command_of(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The exit code, checked.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Stdout as one JSON document on each line: nothing else may stand there.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Whether stderr has every one of these.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in {}", self.stderr);
        }
        self
    }
}

/// Runs a command to its end.
pub(crate) async fn run(arguments: &[&str]) -> Ran {
    finish(command(arguments)).await
}

/// Runs a command that was prepared to its end.
pub(crate) async fn finish(mut command: Command) -> Ran {
    let child = command.spawn().unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("never ended: {command:?}")).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Lines that a child writes, as they come.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub(crate) fn read(source: impl AsyncRead + Unpin + Send + 'static) -> (Self, JoinHandle<()>) {
        let lines = Self::default();
        let kept = lines.clone();
        let reading = tokio::spawn(async move {
            let mut source = BufReader::new(source).lines();
            while let Ok(Some(line)) = source.next_line().await {
                kept.0.lock().unwrap().push(line);
            }
        });
        (lines, reading)
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn text(&self) -> String {
        self.all().join("\n")
    }

    /// Those that are JSON events of this kind.
    pub(crate) fn events(&self, event: &str) -> Vec<Value> {
        let values = self.all().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        values.filter(|value| value["event"] == event).collect()
    }
}

/// A process of the program that stays. Dropping it kills it, by its process id.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
    readers: [JoinHandle<()>; 2],
}

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (stdout, first) = Lines::read(child.stdout.take().unwrap());
        let (stderr, second) = Lines::read(child.stderr.take().unwrap());
        Self { child, stdout, stderr, readers: [first, second] }
    }

    /// With a hand on its standard input.
    pub(crate) fn with_input(command: Command) -> (Self, ChildStdin) {
        let mut process = Self::spawn(command);
        let input = process.child.stdin.take().unwrap();
        (process, input)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it was not waited for yet")
    }

    /// The addresses that it announces, once it does.
    pub(crate) async fn addresses(&mut self) -> BTreeMap<String, SocketAddr> {
        self.listening(NAMES.len()).await
    }

    /// So many addresses, once it announces them.
    pub(crate) async fn listening(&mut self, count: usize) -> BTreeMap<String, SocketAddr> {
        let began = Monotonic::now();
        loop {
            let listening = self.stdout.events("listening");
            if listening.len() == count {
                let pairs = listening.iter().map(|event| (text(&event["name"]), text(&event["address"])));
                return pairs.map(|(name, address)| (name, address.parse().unwrap())).collect();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended at once ({ended:?}): {}", self.stderr.text());
            assert!(began.elapsed() < PATIENCE, "it never listened: {}", self.stderr.text());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) async fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.pid());
        let sent = Command::new("sh").args(["-c", &kill]).status().await.unwrap();
        assert!(sent.success(), "{kill}");
    }

    /// Waits for its end and for the last line that it wrote.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it never ended: {}", self.stderr.text())).unwrap();
        for reader in &mut self.readers {
            let _ = tokio::time::timeout(PATIENCE, reader).await;
        }
        status
    }

    /// SIGTERM, and the exit code.
    pub(crate) async fn terminate(mut self) -> Option<i32> {
        self.signal("TERM").await;
        self.ended().await.code()
    }

    /// SIGKILL: no code of the program runs any more.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A JSON value that must be text.
#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// Compares with `tests/golden/cli/NAME`; `UPDATE_GOLDEN=1` writes it anew.
#[track_caller]
pub(crate) fn golden(name: &str, text: &str) {
    golden_text(&format!("cli/{name}"), text);
}

/// Compares JSON with `tests/golden/NAME`.
#[track_caller]
pub(crate) fn golden_json(name: &str, value: &Value) {
    golden_text(name, &(serde_json::to_string_pretty(value).unwrap() + "\n"));
}

#[track_caller]
fn golden_text(name: &str, text: &str) {
    let path = Path::new("tests/golden").join(name);
    #[expect(clippy::disallowed_methods, reason = "the switch of whoever runs the tests")]
    if std::env::var("UPDATE_GOLDEN").is_ok() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{name}: run with UPDATE_GOLDEN=1 if this is meant");
}
