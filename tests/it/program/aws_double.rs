//! The stand-in for AWS services (`tests/peers/aws_double.py`) as a process, and what tests ask of it.

use super::lacks;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// One process of it. Dropping it ends it: its standard input closes.
pub(crate) struct AwsDouble {
    _child: Child,
    http: reqwest::Client,
    pub(crate) url: String,
}

/// The Python of `.venv`, which has botocore, unless it is missing.
pub(crate) fn python() -> Option<std::path::PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    (python.exists() || lacks(".venv with the packages of tests/peers/requirements.txt (make peers)")).then_some(python)
}

/// A script of `tests/peers` that tells its port in a line of JSON, and its address; `None` where the peer is missing. Dropping
/// it ends it: its standard input closes.
pub(crate) async fn python_peer(script: &str) -> Option<(Child, String)> {
    let mut command = Command::new(python()?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script));
    // Several start at once: none may write what another one reads.
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().expect("it ended without a port; its reason is on stderr");
    let line: Value = serde_json::from_str(&line).unwrap();
    let url = format!("http://127.0.0.1:{}", line["port"]);
    Some((child, url))
}

impl AwsDouble {
    /// Starts one, unless the peer is missing.
    pub(crate) async fn start() -> Option<Self> {
        let (child, url) = python_peer("aws_double.py").await?;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Some(Self { _child: child, http, url })
    }

    /// Control: `faults`, or `SERVICE/NAME`.
    pub(crate) async fn control(&self, name: &str, value: Value) -> Value {
        let url = format!("{}/_double/{name}", self.url);
        let response = self.http.post(url).body(value.to_string()).send().await.unwrap();
        let (is_ok, text) = (response.status().is_success(), response.text().await.unwrap());
        assert!(is_ok, "{name}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Makes calls of an ECS operation fail: the next one, unless `more` says otherwise (`times`, `skip`).
    pub(crate) async fn fault(&self, operation: &str, kind: &str, more: Value) {
        self.fault_of("ecs", operation, kind, more).await;
    }

    /// The same for any service.
    pub(crate) async fn fault_of(&self, service: &str, operation: &str, kind: &str, more: Value) {
        let mut rule = json!({ "service": service, "operation": operation, "kind": kind });
        for (key, value) in more.as_object().unwrap() {
            rule[key] = value.clone();
        }
        self.control("faults", rule).await;
    }

    /// A call of ECS by somebody else, which has to succeed. It is in the journal like those under test.
    pub(crate) async fn ecs(&self, operation: &str, parameters: Value) -> Value {
        let request =
            self.http.post(&self.url).header("X-Amz-Target", format!("AmazonEC2ContainerServiceV20141113.{operation}"));
        let scope = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/ecs/aws4_request";
        let response = request.header("Authorization", scope).body(parameters.to_string()).send().await.unwrap();
        let (is_ok, text) = (response.status().is_success(), response.text().await.unwrap());
        assert!(is_ok, "{operation}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Every call so far.
    pub(crate) async fn calls(&self) -> Vec<Value> {
        let response = self.http.get(format!("{}/_double/calls", self.url)).send().await.unwrap();
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }
}
