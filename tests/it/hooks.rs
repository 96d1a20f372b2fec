//! What the documentation and `deploy/ci` send, received by what will receive it: the shell lines are run as they stand.

mod local;

use crate::program::lacks;
use crate::shell::Page;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, body::Bytes};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tidegate::base::secret::Redacted;
use tidegate::clock::{Clock, SystemClock};
use tidegate::trigger::event::{Delivery, Event, Source};
use tidegate::trigger::{deliveries, signature};
use tokio::process::Command;

const SECRET: &str = "it is $quoted \"well\" and 'long'";
const DIGEST: &str = "sha256:5f0c1de6a2b9f8c04d7be1735a90c2846e1f3bd7c8a95b20614fd3e7982ac1b0";

/// A daemon as far as a sender sees one: believes signatures, starts one rollout, then tells phases one after the other.
#[derive(Default)]
struct Daemon {
    /// What was believed.
    deliveries: Vec<Delivery>,
    /// Answers to a look at the rollout; the last one stays.
    looks: VecDeque<(u16, &'static str)>,
    /// What a delivery is answered with.
    answer: &'static str,
    /// Bearer tokens that came with looks.
    tokens: Vec<String>,
}

type Shared = Arc<Mutex<Daemon>>;

const STARTED: &str = r#"{"rollouts":[{"policy":"checkout","id":"r-1","url":"/v1/rollouts/r-1"}],"nothing":[]}"#;

async fn hook(State(daemon): State<Shared>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let secrets = signature::Secrets::new(Redacted::new(SECRET.to_owned()), None).unwrap();
    let verified = signature::verify(Source::Generic, &headers, &body, &secrets, SystemClock.now());
    if let Err(error) = verified {
        return (StatusCode::UNAUTHORIZED, error.to_string());
    }
    match deliveries(Source::Generic, &headers, &body) {
        Ok(found) => {
            let mut daemon = daemon.lock().unwrap();
            daemon.deliveries.extend(found);
            (StatusCode::CREATED, daemon.answer.to_owned())
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
    }
}

async fn look(State(daemon): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> impl IntoResponse {
    let mut daemon = daemon.lock().unwrap();
    let token = headers.get(header::AUTHORIZATION).map(|token| token.to_str().unwrap().to_owned());
    daemon.tokens.extend(token);
    let (status, phase) = if daemon.looks.len() > 1 { daemon.looks.pop_front().unwrap() } else { daemon.looks[0] };
    let body = format!(r#"{{"id":"{id}","phase":"{phase}","phase_since":"x","verdict":"","reason":"errors: worse"}}"#);
    (StatusCode::from_u16(status).unwrap(), body)
}

async fn daemon(looks: &[(u16, &'static str)]) -> (SocketAddr, Shared) {
    let looks = looks.iter().copied().collect();
    let shared = Arc::new(Mutex::new(Daemon { looks, answer: STARTED, ..Daemon::default() }));
    let router = Router::new()
        .route("/v1/hooks/generic", post(hook))
        .route("/v1/rollouts/{id}", get(look))
        .with_state(Arc::clone(&shared));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, shared)
}

/// Whether the programs are there that a sender needs.
async fn tools() -> bool {
    for (program, argument) in [("curl", "--version"), ("openssl", "version")] {
        let run = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        if !run.is_ok_and(|status| status.success()) {
            return lacks(program);
        }
    }
    true
}

/// A shell with the environment of a sender and nothing of whoever runs the test but its path.
fn sh(address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for name in
        ["TIDEGATE_TOKEN", "TIDEGATE_WAIT", "GITHUB_OUTPUT", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    command.env("TIDEGATE_SERVER", format!("http://{address}")).env("TIDEGATE_HOOK_SECRET", SECRET);
    command
}

fn release(address: SocketAddr) -> Command {
    let mut command = sh(address, &[concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/ci/release.sh")]);
    command.env("TIDEGATE_IMAGE", "ghcr.io/shop/checkout:v1.4.0").env("TIDEGATE_POLL", "0");
    command
}

/// Exit code and stderr.
async fn run(mut command: Command) -> (i32, String) {
    let output = command.output().await.unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn the_documented_line_is_believed() {
    if !tools().await {
        return;
    }
    let (address, shared) = daemon(&[(200, "succeeded")]).await;
    let page = Page::of("docs/TRIGGERS.md", "the_documented_line_is_believed");
    let output = sh(address, &["-euc", page.raw("signed")]).output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), STARTED, "{}", String::from_utf8_lossy(&output.stderr));
    let daemon = shared.lock().unwrap();
    assert_eq!(daemon.deliveries[0].ids, ["generic:run-42"]);
    assert!(matches!(&daemon.deliveries[0].event, Event::Start(asked) if asked.policy == "checkout"));
}

#[tokio::test]
async fn the_script_starts_a_rollout_and_waits_for_its_end() {
    if !tools().await {
        return;
    }
    let (address, shared) = daemon(&[(200, "deploying"), (503, ""), (200, "baking"), (200, "succeeded")]).await;
    let outputs = tempfile::NamedTempFile::new().unwrap();
    let mut command = release(address);
    command.env("TIDEGATE_DIGEST", DIGEST).env("TIDEGATE_REVISION", "7c4e1f0").env("TIDEGATE_ACTOR", "Ada Lovelace");
    command.env("TIDEGATE_ID", "run-42").env("TIDEGATE_TOKEN", "of-a-viewer").env("GITHUB_OUTPUT", outputs.path());
    let (code, stderr) = run(command).await;
    assert_eq!(code, 0, "{stderr}");
    for line in
        [&format!("started http://{address}/v1/rollouts/r-1"), "r-1 is deploying", "r-1 is baking", "r-1 is succeeded"]
    {
        assert!(stderr.contains(line), "{line}: {stderr}");
    }
    assert_eq!(std::fs::read_to_string(outputs.path()).unwrap(), "rollout=r-1\nphase=succeeded\n");
    let daemon = shared.lock().unwrap();
    let Event::Image(pushed) = &daemon.deliveries[0].event else { panic!("{:?}", daemon.deliveries) };
    assert_eq!(pushed.image.to_string(), format!("ghcr.io/shop/checkout:v1.4.0@{DIGEST}"));
    assert_eq!((pushed.pushed_by.as_deref(), pushed.revision.as_deref()), (Some("Ada Lovelace"), Some("7c4e1f0")));
    assert!(daemon.deliveries[0].ids[0].starts_with("generic:run-42-"), "{:?}", daemon.deliveries[0].ids);
    assert_eq!(daemon.tokens, vec!["Bearer of-a-viewer"; 4]);
    assert!(!stderr.contains("of-a-viewer") && !stderr.contains("quoted"), "{stderr}");
}

#[tokio::test]
async fn the_scripts_exit_code_is_the_outcome() {
    if !tools().await {
        return;
    }
    for (phase, expected, says) in [
        ("rolled_back", 3, "r-1 is rolled_back: errors: worse"),
        ("aborted", 4, "r-1 is aborted"),
        ("stuck", 1, "r-1 is stuck"),
        ("superseded", 1, "r-1 is superseded"),
        ("paused", 5, "r-1 goes on; no longer waited for after 0 s"),
    ] {
        let (address, _) = daemon(&[(200, phase)]).await;
        let mut command = release(address);
        command.env("TIDEGATE_TIMEOUT", if phase == "paused" { "0" } else { "60" });
        let (code, stderr) = run(command).await;
        assert_eq!(code, expected, "{phase}: {stderr}");
        assert!(stderr.contains(says), "{phase}: {stderr}");
    }
    let (address, _) = daemon(&[(404, "")]).await;
    let (code, stderr) = run(release(address)).await;
    assert!(code == 1 && stderr.contains("status 404"), "{code}: {stderr}");
    let (address, shared) = daemon(&[(200, "baking")]).await;
    let mut command = release(address);
    command.env("TIDEGATE_WAIT", "false");
    assert_eq!(run(command).await.0, 0);
    shared.lock().unwrap().answer = r#"{"rollouts":[],"nothing":["the tag `a` does not fit `v*`"]}"#;
    let (code, stderr) = run(release(address)).await;
    assert!(
        code == 1 && stderr.contains("nothing was started: ") && stderr.contains("does not fit"),
        "{code}: {stderr}"
    );
}

#[tokio::test]
async fn the_script_says_what_is_wrong_with_its_call() {
    if !tools().await {
        return;
    }
    let (address, shared) = daemon(&[(200, "succeeded")]).await;
    for (name, value, expected, says) in [
        ("TIDEGATE_SERVER", "", 2, "set TIDEGATE_SERVER"),
        ("TIDEGATE_HOOK_SECRET", "", 2, "set TIDEGATE_HOOK_SECRET"),
        ("TIDEGATE_IMAGE", "", 2, "set TIDEGATE_IMAGE, TIDEGATE_POLICY or both"),
        ("TIDEGATE_TIMEOUT", "5m", 2, "whole numbers of seconds"),
        (
            "TIDEGATE_ACTOR",
            "a\",\"policy\":\"payments",
            2,
            "a quote, a backslash or a control character in the value of actor",
        ),
        ("TIDEGATE_HOOK_SECRET", "another secret of that length", 1, "refused with status 401: the header"),
        ("TIDEGATE_IMAGE", "Shop:v1", 1, "refused with status 400: `image`: `Shop` is no repository"),
    ] {
        let mut command = release(address);
        command.env(name, value);
        let (code, stderr) = run(command).await;
        assert!(code == expected && stderr.contains(says), "{name}={value}: {code}: {stderr}");
    }
    assert!(shared.lock().unwrap().deliveries.is_empty());
}
