//! The program as a command that ends, and as a `tidegate local` that stays.

use crate::program::FREE_PORTS;
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// The example mesh.
pub(super) const EXAMPLE: &str = "examples/local/mesh.yaml";
/// Anything that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program with what a test gives it and nothing of whoever runs the test.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    for name in ["TIDEGATE_SERVER", "TIDEGATE_LOG", "AWS_REGION", "AWS_ENDPOINT_URL_APP_MESH"].into_iter().chain(keys) {
        command.env_remove(name);
    }
    command
}

/// What a command came to.
#[derive(Debug)]
pub(super) struct Ran {
    code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ran {
    /// The exit code, checked.
    #[track_caller]
    pub(super) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Stdout as one JSON document on each line: nothing else may stand there.
    #[track_caller]
    pub(super) fn json(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Whether stderr has every one of these.
    #[track_caller]
    pub(super) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in {}", self.stderr);
        }
        self
    }
}

/// Runs a command to its end.
pub(super) async fn tidegate(arguments: &[&str]) -> Ran {
    finish(command(arguments)).await
}

/// Runs a command with variables to its end.
pub(super) async fn with_variables(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = command(arguments);
    command.envs(variables.iter().copied());
    finish(command).await
}

/// Runs a command with text at its standard input.
pub(super) async fn with_input(arguments: &[&str], input: &str) -> Ran {
    let mut command = command(arguments);
    command.stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    ended(child).await
}

async fn finish(mut command: Command) -> Ran {
    ended(command.spawn().unwrap()).await
}

async fn ended(child: Child) -> Ran {
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A directory for a test's files.
pub(super) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a file; its path.
pub(super) fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A `tidegate local` on free ports.
pub(super) struct Local {
    child: Child,
    /// Kept open: a daemon whose output nobody reads would stop.
    _stdout: Lines<BufReader<ChildStdout>>,
    pub(super) api: String,
    appmesh: String,
    _data: TempDir,
}

impl Local {
    pub(super) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(super) async fn start_with(arguments: &[&str]) -> Self {
        let data = folder();
        let mut command = command(&["local", "--output", "json", "--data-dir", data.path().to_str().unwrap()]);
        command.args(FREE_PORTS).args(arguments);
        // Its log is not read here.
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut api, mut appmesh) = (None, None);
        while api.is_none() || appmesh.is_none() {
            let line = timeout(PATIENCE, stdout.next_line()).await.expect("it listens").unwrap();
            let event: Value = serde_json::from_str(&line.expect("it did not end")).unwrap();
            let url = event["address"].as_str().map(|address| format!("http://{address}"));
            match event["name"].as_str() {
                Some("api") => api = url,
                Some("appmesh") => appmesh = url,
                _ => {}
            }
        }
        Self { child, _stdout: stdout, api: api.unwrap(), appmesh: appmesh.unwrap(), _data: data }
    }

    /// Address of its App Mesh API.
    pub(super) fn appmesh(&self) -> String {
        self.appmesh.clone()
    }

    /// `tidegate mesh …` on it.
    pub(super) async fn mesh(&self, arguments: &[&str]) -> Ran {
        let arguments = [&["mesh"][..], arguments, &["--endpoint-url", &self.appmesh]].concat();
        // `apply` looks for the daemon there, and nowhere else.
        with_variables(&arguments, &[("TIDEGATE_SERVER", &self.api)]).await
    }

    /// The example's route as the API describes it.
    pub(super) async fn route(&self) -> Value {
        let path = "/v20190125/meshes/shop/virtualRouter/checkout-router/routes/checkout";
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(format!("{}{path}", self.appmesh)).send().await.unwrap().json().await.unwrap()
    }

    /// Weights of the example's route.
    pub(super) async fn weights(&self) -> Vec<u64> {
        let route = self.route().await;
        let targets = route["spec"]["httpRoute"]["action"]["weightedTargets"].as_array().unwrap();
        targets.iter().map(|target| target["weight"].as_u64().unwrap()).collect()
    }

    /// Ends it, and waits for that.
    pub(super) async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}
