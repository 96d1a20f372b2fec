//! Shell blocks of the documents, and terminals in which tests run them as they stand.
//!
//! `<!-- test: NAME -->` before a block says that a test runs it, `<!-- not run: REASON -->` that none can; a block without
//! either is an error. `RUN` says which test it is. Only addresses are changed: the default ports may be taken on the
//! machine of a test.

use crate::kit::ports::steady_port;
use regex::{Captures, Regex};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tidegate::clock::Monotonic;

/// A walk takes less than a minute on an idle machine; the runner ends tests after four.
const WALK_TIMEOUT: Duration = Duration::from_secs(220);
/// Asked to end, a terminal's programs get so long.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// What a terminal says when a program that was to stay has ended.
const ENDED: &str = "<<ended";
/// Ports of the documents and of the example's mesh.
const PORTS: [&str; 18] = [
    "7070", "7071", "7072", "7073", "15001", "9901", "9001", "9002", "7170", "5432", "15000", "15100", "15101",
    "15110", "15111", "15201", "9911", "9912",
];

/// Which test runs which blocks of which document. `documents::every_shell_block_is_run_or_says_why_not` compares this
/// with the documents, and each of these tests asks for its blocks here and says at its end whether it ran all of them.
pub(crate) const RUN: &[(&str, &str, &[&str])] = &[
    ("README.md", "the_demo_of_the_readme_ends_as_shown", &["demo"]),
    (
        "README.md",
        "the_walk_of_the_readme_does_what_it_says",
        &[
            "services",
            "local",
            "look",
            "load",
            "good",
            "weights",
            "aws",
            "replace",
            "bad",
            "replace again",
            "abort",
            "journal",
            "clear",
        ],
    ),
    ("docs/API.md", "the_pages_about_a_running_daemon_do_what_they_say", &["start", "verb", "events"]),
    ("docs/JOURNAL.md", "the_pages_about_a_running_daemon_do_what_they_say", &["verify", "export"]),
    ("docs/MESH.md", "the_pages_about_a_running_daemon_do_what_they_say", &["tool", "aws"]),
    ("docs/proxy-observability.md", "the_pages_about_a_running_daemon_do_what_they_say", &["counts"]),
    ("docs/proxy-observability.md", "spans_go_as_the_page_says_and_the_last_minute_to_cloudwatch", &["otlp"]),
    ("docs/PROXY.md", "the_pages_about_a_running_daemon_do_what_they_say", &["admin"]),
    (
        "docs/operations.md",
        "the_pages_about_a_running_daemon_do_what_they_say",
        &["freeze", "backup", "backup by python", "restore"],
    ),
    (
        "docs/operations.md",
        "the_smallest_daemon_of_the_operations_page_runs",
        &["tidegate.toml", "print config", "doctor", "serve", "health"],
    ),
    (
        "docs/operations.md",
        "the_database_of_the_operations_page_serves_a_daemon",
        &["tidegate.toml", "postgres", "postgres serve", "postgres verify"],
    ),
    (
        "docs/simulate.md",
        "the_page_about_simulations_answers_as_shown",
        &["simulate", "simulate answer", "replay", "replay answer"],
    ),
    ("docs/operations.md", "the_block_of_the_operations_page_makes_the_first_token_and_the_others", &["tokens"]),
    (
        "docs/aws.md",
        "the_first_canary_of_the_aws_page_is_deployed",
        &[
            "names",
            "registry",
            "database",
            "secrets",
            "files",
            "roles",
            "container",
            "service",
            "push",
            "release",
            "deploy-role.json",
            "signals-role.json",
        ],
    ),
    (
        "docs/chatops.md",
        "the_page_about_slack_leads_to_the_first_approval",
        &["manifest.json", "people.toml", "checkout.yaml", "doctor", "approve"],
    ),
    ("docs/envoy.md", "the_lines_of_the_page_about_metrics_work", &["stats bootstrap", "dashboard"]),
    (
        "docs/appmesh-migration.md",
        "a_live_mesh_moves_in_ten_steps",
        &[
            "validate",
            "secrets",
            "serve",
            "client",
            "load",
            "tools",
            "problems",
            "before",
            "old load",
            "first sidecar",
            "sidecar.json",
            "second sidecar",
            "new load",
            "proxies",
            "without",
            "third sidecar",
            "canary",
            "look",
            "promote",
            "full",
            "end old",
            "prune",
        ],
    ),
    ("docs/TRIGGERS.md", "the_documented_line_is_believed", &["signed"]),
    ("docs/TRIGGERS.md", "the_documented_lines_make_a_queue_for_the_rule_alone", &["queue"]),
    ("docs/TRIGGERS.md", "the_line_for_a_laptop_starts_a_rollout_once", &["laptop"]),
];

/// A marked block of a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Marked blocks by name. Panics where a shell block has no marker, and where a marker has no block.
pub(crate) fn blocks(file: &str, document: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut marker: Option<String> = None;
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let number = number + 1;
        if line.starts_with("<!-- test: ") || line.starts_with("<!-- not run: ") {
            assert!(marker.is_none(), "{file}:{number}: a marker after a marker");
            marker = Some(line.to_owned());
        } else if let Some(language) = line.trim_start().strip_prefix("```").filter(|rest| !rest.is_empty()) {
            let text: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim_start() != "```").collect();
            let marker = marker.take();
            assert!(
                marker.is_some() || !["sh", "bash", "shell", "console"].contains(&language),
                "{file}:{number}: shell block without marker"
            );
            if let Some(named) = marker.as_deref().and_then(|marker| marker.strip_prefix("<!-- test: ")) {
                let name = named.trim_end_matches(" -->").split(',').next().unwrap_or_default().to_owned();
                found.push(Block { name, text: text.join("\n") });
            }
        } else {
            assert!(marker.is_none() || line.is_empty(), "{file}:{number}: a marker without a block");
        }
    }
    found
}

/// Blocks of a document that one test runs.
pub(crate) struct Page {
    file: &'static str,
    test: &'static str,
    blocks: Vec<Block>,
    used: RefCell<Vec<String>>,
}

impl Page {
    /// The blocks of a document that `RUN` has for a test.
    pub(crate) fn of(file: &'static str, test: &'static str) -> Self {
        let document = std::fs::read_to_string(root().join(file)).unwrap();
        Self { file, test, blocks: blocks(file, &document), used: RefCell::default() }
    }

    fn mine(&self) -> &'static [&'static str] {
        let row = RUN.iter().find(|(file, test, _)| (*file, *test) == (self.file, self.test));
        row.unwrap_or_else(|| panic!("RUN has nothing of {} for {}", self.file, self.test)).2
    }

    /// A block as it stands.
    pub(crate) fn raw(&self, name: &str) -> &str {
        assert!(self.mine().contains(&name), "RUN does not say that {} runs `{name}` of {}", self.test, self.file);
        self.used.borrow_mut().push(name.to_owned());
        let found = self.blocks.iter().find(|block| block.name == name);
        &found.unwrap_or_else(|| panic!("{} has no block `{name}`", self.file)).text
    }

    /// A block for other ports than the default ones.
    pub(crate) fn text(&self, name: &str, ports: &Ports) -> String {
        // The documents use the defaults; here they are written out, and then moved.
        let listen = "--api 127.0.0.1:7070 --appmesh 127.0.0.1:7071 --xds 127.0.0.1:7072 --egress 127.0.0.1:15001 --admin 127.0.0.1:9901";
        let text = self.raw(name).replace("tidegate local", &format!("tidegate local {listen}"));
        let text =
            text.replace("cargo run --release -- demo", &format!("tidegate demo --once --scenario bad {listen}"));
        ports.moved(&text)
    }

    /// Says so when one of the test's blocks was not asked for.
    pub(crate) fn done(&self) {
        for name in self.mine() {
            assert!(self.used.borrow().iter().any(|used| used == name), "{}: `{name}` was not run", self.file);
        }
    }
}

/// Panics when words are missing in what was said.
#[track_caller]
pub(crate) fn expect(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "no `{part}` in:\n{said}");
    }
}

/// Free ports in place of the default ones, wherever a text names them.
pub(crate) struct Ports {
    pattern: Regex,
    free: Vec<String>,
}

impl Ports {
    /// Free ones.
    pub(crate) fn pick() -> Self {
        let free = PORTS.map(|_| steady_port().to_string()).into();
        Self { pattern: Regex::new(&format!(r"\b({})\b", PORTS.join("|"))).unwrap(), free }
    }

    /// A text with the free ports in place of the default ones.
    pub(crate) fn moved(&self, text: &str) -> String {
        let free = |found: &Captures<'_>| PORTS.iter().position(|port| *port == &found[0]).map(|at| &self.free[at]);
        self.pattern.replace_all(text, |found: &Captures<'_>| free(found).unwrap().clone()).into_owned()
    }
}

/// A shell as in a terminal of its own: lines are typed into it, and what it and its programs say is read.
pub(crate) struct Terminal {
    shell: Child,
    input: ChildStdin,
    output: Receiver<String>,
    said: String,
    began: Monotonic,
}

impl Terminal {
    /// Opens one in a directory.
    pub(crate) fn open(directory: &Path, began: Monotonic, ports: &Ports) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_tidegate"));
        let mut shell = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(directory)
            .env("PROGRAM", program.parent().unwrap())
            .env("VENV", Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin"))
            .env("TIDEGATE_SERVER", ports.moved("http://127.0.0.1:7070"))
            .env("AWS_ENDPOINT_URL_APP_MESH", ports.moved("http://127.0.0.1:7071"))
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_DEFAULT_OUTPUT", "json")
            .env("AWS_PAGER", "")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("TIDEGATE_LOG")
            .env_remove("TIDEGATE_TOKEN")
            .env_remove("TIDEGATE_DATABASE_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            // Its programs can be ended with it, by the number of the group.
            .process_group(0)
            .spawn()
            .unwrap();
        let (input, output) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let (sender, receiver) = channel();
        std::thread::spawn(move || read_lines(BufReader::new(output), &sender));
        let mut terminal = Self { shell, input, output: receiver, said: String::new(), began };
        terminal.enter("exec 2>&1; export PATH=\"$PROGRAM:$VENV:$PATH\"");
        terminal
    }

    /// Starts a program that stays; a wait in this terminal says at once when it has ended.
    pub(crate) fn stay(&mut self, text: &str) {
        self.enter(text);
        self.enter(&format!("echo \"{ENDED} $?>>\""));
    }

    /// Types Ctrl-C: what runs in front of the shell is asked to end, and has ended when this returns.
    pub(crate) fn interrupt(&mut self) {
        let shell = self.shell.id();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
        assert!(!children.trim().is_empty(), "nothing runs in this terminal; it said:\n{}", self.said);
        for child in children.split_whitespace() {
            let _ = Command::new("kill").args(["-INT", child]).status();
        }
        loop {
            let left = WALK_TIMEOUT.saturating_sub(self.began.elapsed());
            match self.output.recv_timeout(left) {
                Ok(line) if line.starts_with(ENDED) => return,
                Ok(line) => self.said += &line,
                Err(error) => panic!("it does not end ({error}); it said:\n{}", self.said),
            }
        }
    }

    /// Types lines.
    pub(crate) fn enter(&mut self, text: &str) {
        writeln!(self.input, "{text}").unwrap();
    }

    /// Waits until it has said all of this; answers everything that was said since the last wait.
    pub(crate) fn wait_for(&mut self, texts: &[&str]) -> String {
        while let Some(text) = texts.iter().find(|text| !self.said.contains(**text)) {
            let left = WALK_TIMEOUT.saturating_sub(self.began.elapsed());
            match self.output.recv_timeout(left) {
                // The shell reads the next line when the program before it has ended.
                Ok(line) if line.starts_with(ENDED) => {
                    panic!("no `{text}`: the program ended ({}); it said:\n{}", line.trim_end(), self.said)
                }
                Ok(line) => self.said += &line,
                Err(error) => panic!("no `{text}` ({error}); it said:\n{}", self.said),
            }
        }
        std::mem::take(&mut self.said)
    }

    /// Runs a block to its end; answers what it said.
    pub(crate) fn run(&mut self, block: &str) -> String {
        self.enter(block);
        self.enter("echo \"<<end $?>>\"");
        let said = self.wait_for(&["<<end "]);
        assert!(said.contains("<<end 0>>"), "{block}\nfailed; it said:\n{said}");
        said
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let signal = |name: &str| {
            let group = format!("-{}", self.shell.id());
            let _ = Command::new("kill").args([name, "--", &group]).stderr(Stdio::null()).status();
        };
        signal("-TERM");
        // All its programs hold the other end of the pipe: it is closed when the last of them has ended.
        let began = Monotonic::now();
        while END_TIMEOUT > began.elapsed()
            && self.output.recv_timeout(END_TIMEOUT.saturating_sub(began.elapsed())).is_ok()
        {}
        signal("-KILL");
        let _ = self.shell.wait();
    }
}

fn read_lines(mut output: impl BufRead, lines: &Sender<String>) {
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            return;
        }
        line.clear();
    }
}

/// Whether a program is there, in the project's own Python environment or on the path.
pub(crate) fn have(program: &str) -> bool {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin").join(program);
    let path = if venv.exists() { venv } else { program.into() };
    // Its older releases know no `--version`.
    let version = if program == "openssl" { "version" } else { "--version" };
    let run = Command::new(path).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success()) || crate::program::lacks(program)
}

/// Where the documents are.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Copies a directory, with the free ports in its files.
pub(crate) fn copy_moved(from: &Path, to: &Path, ports: &Ports) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != "__pycache__")
    {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_moved(&from, &to, ports);
        } else {
            std::fs::write(to, ports.moved(&std::fs::read_to_string(from).unwrap())).unwrap();
        }
    }
}
