//! Chromium as a peer: a process of node that does what a line of JSON says and answers with another.

use crate::program::{Lines, lacks, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

/// Where `.ci/peers node` installs what drives the browser.
const PEERS: &str = "tests/peers/page";
/// Where a browser may be, as Debian and others name it.
const BROWSERS: [&str; 3] = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/// A screen that people have, and how bright they like it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub(super) name: &'static str,
    pub(super) width: u32,
    height: u32,
    scheme: &'static str,
}

impl Screen {
    pub(super) const BOTH: [Self; 2] = [
        Self { name: "phone", width: 390, height: 844, scheme: "dark" },
        Self { name: "desktop", width: 1280, height: 900, scheme: "light" },
    ];
}

/// A browser with some pages.
pub(super) struct Browser {
    child: Child,
    input: ChildStdin,
    output: Lines,
    errors: Lines,
    answered: usize,
    pictures: PathBuf,
}

impl Browser {
    /// `None`, said, where it is not installed.
    pub(super) async fn start() -> Option<Self> {
        let browser = BROWSERS.into_iter().find(|path| Path::new(path).exists());
        let node = Command::new("node").arg("--version").stdout(Stdio::null()).status().await;
        let has_packages = Path::new(PEERS).join("node_modules/playwright-core").is_dir();
        let (Some(browser), true, true) = (browser, node.is_ok_and(|status| status.success()), has_packages) else {
            lacks("chromium, node and the packages of tests/peers/page (make peers)");
            return None;
        };
        let mut command = Command::new("node");
        command.args(["drive.mjs", browser]).current_dir(PEERS).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let (output, _) = Lines::read(child.stdout.take().unwrap());
        let (errors, _) = Lines::read(child.stderr.take().unwrap());
        let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
        std::fs::create_dir_all(&pictures).unwrap();
        Some(Self { child, input, output, errors, answered: 0, pictures })
    }

    /// Has a page do something.
    pub(super) async fn ask(&mut self, page: &str, what: &str, mut with: Value) -> Value {
        with["page"] = page.into();
        with["do"] = what.into();
        let line = format!("{with}\n");
        self.input.write_all(line.as_bytes()).await.unwrap();
        let at = self.answered;
        self.answered += 1;
        let answer = until(&line, async || self.output.all().get(at).cloned()).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["error"].is_null(), "{line}{}\n{}", answer["error"], self.errors.text());
        answer["done"].clone()
    }

    /// A new page of this screen's size.
    pub(super) async fn open(&mut self, screen: Screen, url: &str) {
        let Screen { name, width, height, scheme } = screen;
        self.ask(name, "open", json!({"url": url, "width": width, "height": height, "scheme": scheme})).await;
    }

    /// Waits until something is seen, with this text in it.
    pub(super) async fn wait(&mut self, page: &str, at: &str, text: &str) {
        self.ask(page, "wait", json!({"at": at, "text": text})).await;
    }

    /// Waits until something is not seen.
    pub(super) async fn gone(&mut self, page: &str, at: &str) {
        self.ask(page, "gone", json!({"at": at})).await;
    }

    pub(super) async fn click(&mut self, page: &str, at: &str) {
        self.ask(page, "click", json!({"at": at})).await;
    }

    /// A picture for people: `target/tmp/page/MOMENT-PAGE.png`.
    pub(super) async fn shot(&mut self, page: &str, moment: &str) {
        let path = self.pictures.join(format!("{}-{page}.png", moment.replace(' ', "-")));
        self.ask(page, "shot", json!({"path": path, "view": moment == "dialog"})).await;
    }

    /// Closes it: the end of its commands ends it.
    pub(super) async fn end(mut self) {
        drop(self.input);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), self.child.wait()).await;
        assert!(ended.is_ok_and(|status| status.is_ok_and(|status| status.success())), "{}", self.errors.text());
    }
}
