//! The README's walk, executed: every marked shell block runs as it stands, in the terminals that the text names.
//!
//! `<!-- test: NAME -->` before a block says that it runs here, `<!-- not run: REASON -->` that it cannot; a shell block
//! without either is an error. Only addresses are changed: the default ports may be taken on the machine of a test.

use regex::{Captures, Regex};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tidegate::clock::Monotonic;

/// The walk takes less than a minute on an idle machine; the runner ends tests after four.
const WALK_TIMEOUT: Duration = Duration::from_secs(220);
/// Asked to end, a terminal's programs get so long.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Ports of the README and of the example's mesh.
const PORTS: [&str; 6] = ["7070", "7071", "15001", "9901", "9001", "9002"];

/// A shell block, and what its marker says.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    name: String,
    text: String,
}

/// Marked blocks by name. Panics where a shell block has no marker.
fn blocks(readme: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut marker: Option<String> = None;
    let mut lines = readme.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.starts_with("<!-- test: ") || line.starts_with("<!-- not run: ") {
            marker = Some(line.to_owned());
        } else if line == "```sh" {
            let marker =
                marker.take().unwrap_or_else(|| panic!("README.md:{}: shell block without marker", number + 1));
            let body: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            if let Some(named) = marker.strip_prefix("<!-- test: ") {
                let name = named.trim_end_matches(" -->").split(',').next().unwrap_or_default().to_owned();
                found.push(Block { name, text: body.join("\n") });
            }
        }
    }
    found
}

/// Free ports in place of the default ones, wherever a text names them.
struct Ports {
    pattern: Regex,
    free: Vec<String>,
}

/// Ports looked at by this process so far.
static LOOKED_AT: AtomicU32 = AtomicU32::new(0);

impl Ports {
    fn pick() -> Self {
        // Below those that the system gives to outgoing connections, which could take one before it is listened on; and
        // each process begins elsewhere.
        let first = 10_000 + std::process::id() % 200 * 100;
        let mut free = Vec::new();
        while free.len() < PORTS.len() {
            let port = u16::try_from(first + LOOKED_AT.fetch_add(1, Ordering::Relaxed)).unwrap();
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                free.push(port.to_string());
            }
        }
        Self { pattern: Regex::new(&format!(r"\b({})\b", PORTS.join("|"))).unwrap(), free }
    }

    fn moved(&self, text: &str) -> String {
        let free = |found: &Captures<'_>| PORTS.iter().position(|port| *port == &found[0]).map(|at| &self.free[at]);
        self.pattern.replace_all(text, |found: &Captures<'_>| free(found).unwrap().clone()).into_owned()
    }
}

/// A shell as in a terminal of its own: lines are typed into it, and what it and its programs say is read.
struct Terminal {
    shell: Child,
    input: ChildStdin,
    output: Receiver<String>,
    said: String,
    began: Monotonic,
}

impl Terminal {
    /// Opens one in a directory.
    fn open(directory: &Path, began: Monotonic, ports: &Ports) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_tidegate"));
        let mut shell = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(directory)
            .env("PROGRAM", program.parent().unwrap())
            .env("VENV", Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin"))
            .env("TIDEGATE_SERVER", ports.moved("http://127.0.0.1:7070"))
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_DEFAULT_OUTPUT", "json")
            .env("AWS_PAGER", "")
            .env_remove("TIDEGATE_LOG")
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

    fn enter(&mut self, text: &str) {
        writeln!(self.input, "{text}").unwrap();
    }

    /// Waits until it has said all of this; answers everything that was said since the last wait.
    fn wait_for(&mut self, texts: &[&str]) -> String {
        while let Some(text) = texts.iter().find(|text| !self.said.contains(**text)) {
            let left = WALK_TIMEOUT.saturating_sub(self.began.elapsed());
            match self.output.recv_timeout(left) {
                Ok(line) => self.said += &line,
                Err(error) => panic!("no `{text}` ({error}); it said:\n{}", self.said),
            }
        }
        std::mem::take(&mut self.said)
    }

    /// Runs a block to its end; answers what it said.
    fn run(&mut self, block: &str) -> String {
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
fn have(program: &str) -> bool {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin").join(program);
    let path = if venv.exists() { venv } else { program.into() };
    let run = Command::new(path).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success()) || crate::program::lacks(program)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> Vec<Block> {
    blocks(&std::fs::read_to_string(root().join("README.md")).unwrap())
}

fn copy_moved(from: &Path, to: &Path, ports: &Ports) {
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

/// The block of that name, for other ports than the default ones.
fn block(blocks: &[Block], name: &str, ports: &Ports) -> String {
    let found = blocks.iter().find(|block| block.name == name);
    let text = &found.unwrap_or_else(|| panic!("README.md has no block `{name}`")).text;
    // The walk uses the defaults; here they are written out, and then moved.
    let listen = "--api 127.0.0.1:7070 --appmesh 127.0.0.1:7071 --egress 127.0.0.1:15001 --admin 127.0.0.1:9901";
    let text = text.replace("tidegate local", &format!("tidegate local {listen}"));
    let text = text.replace("cargo run --release -- demo", &format!("tidegate demo --once --scenario bad {listen}"));
    ports.moved(&text)
}

#[test]
fn markers_are_read() {
    let text =
        "<!-- test: a, terminal 2 -->\n```sh\none\ntwo\n```\n\n<!-- not run: b -->\n```sh\nthree\n```\n```text\nx\n```";
    assert_eq!(blocks(text), [Block { name: "a".to_owned(), text: "one\ntwo".to_owned() }]);
    assert!(std::panic::catch_unwind(|| blocks("```sh\none\n```")).is_err());
}

#[test]
fn the_demo_of_the_readme_ends_as_shown() {
    if !have("bash") {
        return;
    }
    let (directory, ports) = (tempfile::tempdir().unwrap(), Ports::pick());
    let mut terminal = Terminal::open(directory.path(), Monotonic::now(), &ports);
    let said = terminal.run(&block(&readme(), "demo", &ports));
    assert!(said.contains("bad: rolled_back, as it should."), "{said}");
}

#[test]
fn the_walk_of_the_readme_does_what_it_says() {
    if !["bash", "python3", "curl"].into_iter().all(have) {
        return;
    }
    let (blocks, ports, began) = (readme(), Ports::pick(), Monotonic::now());
    let directory = tempfile::tempdir().unwrap();
    copy_moved(&root().join("examples"), &directory.path().join("examples"), &ports);
    let [mut first, mut second, mut third] = [(); 3].map(|()| Terminal::open(directory.path(), began, &ports));
    let used = RefCell::new(vec!["demo".to_owned(), "aws".to_owned()]);
    let text = |name: &str| {
        used.borrow_mut().push(name.to_owned());
        block(&blocks, name, &ports)
    };
    let expect = |said: String, parts: &[&str]| {
        for part in parts {
            assert!(said.contains(part), "no `{part}` in:\n{said}");
        }
    };

    first.enter(&text("services"));
    first.wait_for(&["checkout v1 listens", "checkout v2 listens"]);
    second.enter(&text("local"));
    second.wait_for(&["Ctrl-C stops it"]);
    expect(first.run(&text("look")), &["valid, 3 steps", "checkout v1\n"]);
    third.enter(&text("load"));
    third.wait_for(&["checkout v1"]);

    expect(first.run(&text("good")), &["succeeded"]);
    let split = r#"[{"virtualNode":"checkout-v1","weight":0},{"virtualNode":"checkout-v2","weight":100}]"#;
    expect(first.run(&text("weights")), &[r#""phase":"succeeded""#, split]);
    if have("aws") {
        expect(first.run(&text("aws")), &[r#""weight": 100"#]);
    }
    third.wait_for(&["checkout v2"]);
    first.enter(&text("replace"));
    first.wait_for(&["checkout v3 listens"]);
    expect(first.run(&text("bad")), &["rolled_back", "exit code 3"]);
    third.wait_for(&["checkout v3"]);
    first.enter(&text("replace again"));
    first.wait_for(&["checkout v4 listens"]);
    expect(first.run(&text("abort")), &["aborted", "exit code 4"]);
    expect(first.run(&text("journal")), &["3 rollouts, 0 differ"]);
    // Ctrl-C in the others.
    drop((second, third));
    first.run(&text("clear"));
    for Block { name, .. } in &blocks {
        assert!(used.borrow().contains(name), "README.md: block `{name}` is marked and not run");
    }
}
