//! Versions that are processes of this machine: released, rolled back, taken over after a kill, and ended with the daemon.
//! The services are those of the examples, the daemon is the program.

use crate::kit::ports::steady_port;
use crate::program::world::{Daemon, Files, QUICK};
use crate::program::{lacks, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

/// Starts the service of the examples; a revision that begins with `bad` fails every third request, one that begins with
/// `crash` ends at once, and one that begins with `deaf` does not end when it is asked to.
const SCRIPT: &str = r#"#!/bin/sh
case "$2" in
  deaf*) trap "" TERM; share=0 ;;
  crash*) echo "no configuration" >&2; exit 7 ;;
  bad*) share=0.3 ;;
  *) share=0 ;;
esac
exec python3 SERVICE --port "$1" --version "$2" --fail-share "$share"
"#;

struct Shop {
    files: Files,
    ports: [u16; 2],
}

impl Shop {
    /// `None` without python3.
    fn prepare() -> Option<Self> {
        let found = std::process::Command::new("python3").arg("--version").output().is_ok();
        if !found && !lacks("python3") {
            return None;
        }
        let ports = [steady_port(), steady_port()];
        let files = Files::new(ports, "");
        // The service of the examples, whose answers say which version they are of as the load expects it.
        let service = std::fs::read_to_string("examples/local/service.py").unwrap();
        let header = "self.send_header(\"x-demo-version\", self.server.version)\n        self.end_headers()";
        files.write("service.py", &service.replacen("self.end_headers()", header, 1));
        files.write("server", &SCRIPT.replace("SERVICE", &files.at("service.py")));
        std::fs::set_permissions(files.path("server"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let shop = Self { files, ports };
        shop.policy("checkout", &shop.files.at("server"), ("v1", "1s"));
        Some(shop)
    }

    /// A policy that runs this program, in this revision at first, and keeps the version before for so long.
    fn policy(&self, name: &str, program: &str, (initial, keep_for): (&str, &str)) {
        let [first, second] = self.ports;
        let workload = format!(
            "workload:\n  process:\n    command: [{program}, \"{{port}}\", \"{{revision}}\"]\n    ports: {{ checkout-v1: {first}, \
             checkout-v2: {second} }}\n    first: {initial}\n    ready_within: 30s\n    keep_for: {keep_for}\nsteps:"
        );
        let text = QUICK.replace("name: checkout\n", &format!("name: {name}\n")).replacen("steps:", &workload, 1);
        self.files.write(&format!("policies/{name}.yaml"), &text);
    }

    async fn daemon(&self, ports: &BTreeMap<&str, u16>) -> Daemon {
        Daemon::start(&self.files.local(ports)).await
    }

    fn listens(&self, slot: usize) -> bool {
        TcpStream::connect(("127.0.0.1", self.ports[slot])).is_ok()
    }

    /// Numbers of the processes that have the token of a slot's record; none without a record.
    fn running(&self, node: &str) -> Vec<u32> {
        let Ok(record) = std::fs::read_to_string(self.files.path(&format!("data/processes/{node}.json"))) else {
            return Vec::new();
        };
        let record: Value = serde_json::from_str(&record).unwrap();
        let tokens = record["started"].as_array().unwrap().iter();
        tokens.flat_map(|started| with_token(started["token"].as_str().unwrap())).collect()
    }
}

/// Processes that have a token in their environment.
fn with_token(token: &str) -> Vec<u32> {
    let variable = format!("TIDEGATE_PROCESS={token}");
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    pids.filter(has).collect()
}

/// A test that fails leaves nothing running either.
impl Drop for Shop {
    fn drop(&mut self) {
        for node in ["checkout-v1", "checkout-v2"] {
            for pid in self.running(node) {
                let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
        }
    }
}

async fn release(daemon: &Daemon, policy: &str, revision: &str) -> String {
    let body = json!({ "policy": policy, "revision": revision });
    let (status, view) = daemon.post("/v1/rollouts", &body).await;
    assert_eq!(status, 201, "{view}");
    view["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn releases_are_started_judged_and_stopped() {
    let Some(shop) = Shop::prepare() else { return };
    let daemon = shop.daemon(&BTreeMap::new()).await;
    until("stable runs by itself", async || shop.listens(0).then_some(())).await;
    assert!(!shop.listens(1));
    let load = daemon.load();

    let id = release(&daemon, "checkout", "v2").await;
    let view = daemon.end(&id).await;
    assert_eq!(view["phase"], "succeeded", "{view}");
    assert_eq!((shop.listens(0), shop.listens(1)), (false, true), "the version before was stopped");
    assert_eq!(load.totals().1, 0, "a request was lost: {}", load.last_loss());

    // Into the slot that is idle now; stable is not touched.
    let stable = shop.running("checkout-v2");
    let view = daemon.end(&release(&daemon, "checkout", "bad3").await).await;
    assert_eq!((&view["phase"], &view["canary"]), (&json!("rolled_back"), &json!("checkout-v1")), "{view}");
    let view = daemon.end(&release(&daemon, "checkout", "crash4").await).await;
    let reason = view["reason"].as_str().unwrap();
    // Three times, or more until somebody looks again.
    let told = reason.starts_with("the release does not come up: the process ended ");
    assert!(told && reason.ends_with(" times: exit status: 7; it wrote: no configuration"), "{view}");
    assert_eq!(view["phase"], "rolled_back");
    assert_eq!((shop.running("checkout-v2"), shop.listens(0)), (stable, false));
    assert_eq!(load.totals().1, 0, "a request was lost: {}", load.last_loss());
    load.stop().await;

    let running = shop.running("checkout-v2");
    assert_eq!(running.len(), 1);
    assert_eq!(daemon.process.terminate().await, Some(0));
    assert!(!shop.listens(1), "nothing is left behind");
    // It should run still, and so the next daemon starts it again.
    let _daemon = shop.daemon(&BTreeMap::new()).await;
    until("stable runs again", async || shop.listens(1).then_some(())).await;
    assert_ne!(shop.running("checkout-v2"), running);
}

/// A daemon that is killed leaves them running, and the next one takes them over: the same processes, and no second one.
#[tokio::test]
async fn a_killed_daemon_is_followed_by_one_that_takes_its_processes_over() {
    let Some(shop) = Shop::prepare() else { return };
    let ports: BTreeMap<&str, u16> = crate::program::NAMES.into_iter().map(|name| (name, steady_port())).collect();
    let daemon = shop.daemon(&ports).await;
    until("stable runs", async || shop.listens(0).then_some(())).await;
    let load = daemon.load();
    let id = release(&daemon, "checkout", "v2").await;
    daemon.until(&id, "the deployment", |view| view["phase"] != "pending").await;
    daemon.process.kill().await;
    let daemon = shop.daemon(&ports).await;
    daemon.until(&id, "a share", |view| view["weights"]["checkout-v2"] == 10).await;
    let before = [shop.running("checkout-v1"), shop.running("checkout-v2")];
    assert_eq!([before[0].len(), before[1].len()], [1, 1]);
    daemon.process.kill().await;
    assert_eq!([shop.running("checkout-v1"), shop.running("checkout-v2")], before, "they go on without it");
    let daemon = shop.daemon(&ports).await;
    let view = daemon.end(&id).await;
    assert_eq!(view["phase"], "succeeded", "{view}");
    assert_eq!([shop.running("checkout-v1"), shop.running("checkout-v2")], [vec![], before[1].clone()]);
    load.stop().await;
    assert_eq!(daemon.process.terminate().await, Some(0));
    assert!(!shop.listens(1));
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let Some(shop) = Shop::prepare() else { return };
    shop.policy("missing", "./no-such-program", ("v1", "1s"));
    shop.files.write("text", "no program");
    shop.policy("forbidden", &shop.files.at("text"), ("v1", "1s"));
    let daemon = shop.daemon(&BTreeMap::new()).await;
    until("stable runs", async || shop.listens(0).then_some(())).await;
    for (policy, told) in [
        ("missing", "cannot be started: No such file or directory (os error 2); name a program of this machine"),
        ("forbidden", "cannot be started: Permission denied (os error 13); it may not be executed: chmod +x"),
    ] {
        let view = daemon.end(&release(&daemon, policy, "v2").await).await;
        assert!(view["phase"] == "rolled_back" && view["reason"].as_str().unwrap().contains(told), "{view}");
    }
    let taken = std::net::TcpListener::bind(("127.0.0.1", shop.ports[1])).unwrap();
    let view = daemon.end(&release(&daemon, "checkout", "v2").await).await;
    let told = format!("port {} is taken by another program", shop.ports[1]);
    assert!(view["phase"] == "rolled_back" && view["reason"].as_str().unwrap().contains(&told), "{view}");
    drop(taken);
    // Whoever reaches the API may not have programs of their own run.
    let pushed = std::fs::read_to_string(shop.files.path("policies/missing.yaml")).unwrap().replace("missing", "mine");
    let (status, problem) = daemon.text("PUT", "/v1/policies/mine", &[], pushed).await;
    assert_eq!(status, 422, "{problem}");
    assert!(
        problem["detail"].as_str().unwrap().contains("has to be a file of the daemon's own directory"),
        "{problem}"
    );
    // Without a name nothing is released.
    let (status, problem) = daemon.post("/v1/rollouts", &json!({ "policy": "checkout" })).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["hint"].as_str().unwrap().contains("tidegate rollout start checkout --revision v2"), "{problem}");
    assert_eq!(daemon.process.terminate().await, Some(0));
}

/// The slot that takes a release still runs the version before the last, which takes its time to end: whoever listens there is
/// not taken for the release.
#[tokio::test]
async fn a_process_that_is_still_ending_is_not_taken_for_the_release() {
    let Some(shop) = Shop::prepare() else { return };
    shop.policy("checkout", &shop.files.at("server"), ("deaf1", "10m"));
    let daemon = shop.daemon(&BTreeMap::new()).await;
    until("stable runs", async || shop.listens(0).then_some(())).await;
    let load = daemon.load();
    let id = release(&daemon, "checkout", "v2").await;
    daemon.until(&id, "the promotion", |view| view["phase"] == "cleaning").await;
    assert!(shop.listens(0), "the version before is kept");
    let view = daemon.end(&release(&daemon, "checkout", "crash3").await).await;
    let reason = view["reason"].as_str().unwrap();
    assert!(view["phase"] == "rolled_back" && reason.contains("exit status: 7; it wrote: no configuration"), "{view}");
    assert_eq!(view["evidence"]["canary_requests"], 0, "{view}");
    assert_eq!(load.totals().1, 0, "a request was lost: {}", load.last_loss());
    load.stop().await;
    assert_eq!(daemon.process.terminate().await, Some(0));
    assert!(!shop.listens(0) && !shop.listens(1));
}

/// The daemon is killed while a process that does not want to end is being stopped: the next daemon ends it.
#[tokio::test]
async fn a_daemon_that_is_killed_while_it_stops_a_process_leaves_no_orphan() {
    let Some(shop) = Shop::prepare() else { return };
    shop.policy("checkout", &shop.files.at("server"), ("deaf1", "1s"));
    let ports: BTreeMap<&str, u16> = crate::program::NAMES.into_iter().map(|name| (name, steady_port())).collect();
    let daemon = shop.daemon(&ports).await;
    until("stable runs", async || shop.listens(0).then_some(())).await;
    let load = daemon.load();
    let id = release(&daemon, "checkout", "v2").await;
    let ending = |view: &Value| view["instances"].as_str().is_some_and(|said| said.contains("asked to end"));
    daemon.until(&id, "its end", ending).await;
    let orphan = shop.running("checkout-v1");
    assert_eq!(orphan.len(), 1);
    daemon.process.kill().await;
    let daemon = shop.daemon(&ports).await;
    let view = daemon.end(&id).await;
    assert_eq!(view["phase"], "succeeded", "{view}");
    assert!(!shop.listens(0), "{orphan:?} was left behind");
    let view = daemon.end(&release(&daemon, "checkout", "v3").await).await;
    assert_eq!(view["phase"], "succeeded", "{view}");
    load.stop().await;
    assert_eq!(daemon.process.terminate().await, Some(0));
}
