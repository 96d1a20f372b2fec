//! The examples do what they say: every policy is valid, and the one with an approval asks people.

use crate::kit::ports::steady_port;
use crate::program::service::Service;
use crate::program::world::{Daemon, Files, QUICK, World};
use crate::program::{Process, run, until};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::Stdio;

#[tokio::test]
async fn every_policy_of_the_examples_is_valid() {
    for example in ["approvals", "aws", "health", "local", "processes", "signals", "windows"] {
        let policies = format!("examples/{example}/policies");
        let linted = run(&["policy", "lint", &policies, "--output", "json"]).await.expect(0).json();
        assert!(!linted.is_empty(), "{policies}");
    }
}

#[tokio::test]
async fn the_example_with_signals_is_without_warnings_and_explains_every_gate() {
    let policies = "examples/signals/policies";
    let linted = run(&["policy", "lint", policies, "--output", "json"]).await.expect(0).json();
    assert_eq!(linted[0]["warnings"], json!([]));
    let explained = run(&["policy", "explain", &format!("{policies}/checkout.yaml"), "--output", "json"]).await;
    let explained = explained.expect(0).json().remove(0);
    let (text, plan) = (explained["text"].as_str().unwrap(), &explained["plan"]);
    for gate in plan["gates"].as_array().unwrap() {
        let name = gate["name"].as_str().unwrap();
        assert!(
            text.contains(&format!("Gate {name} ("))
                || text.contains(&format!("Gate {name} only reports"))
                || name == "errors",
            "{name}: {text}"
        );
    }
    assert!(text.contains("of rollouts by the gates errors, together"), "{text}");
}

#[tokio::test]
async fn the_example_with_an_approval_asks_people_and_heeds_both_answers() {
    let policy = std::fs::read_to_string("examples/approvals/policies/checkout.yaml").unwrap();
    // Less proof and shorter stays, for a test.
    let policy = policy.replace("min: 3s", "min: 1s").replace("prove_no_worse_than: 5pp", "prove_no_worse_than: 20pp");
    let world = World::with("", &policy).await;
    let daemon = &world.daemon;
    let load = daemon.load();
    let start = ["rollout", "start", "checkout", "--revision", "v2"];
    let approve = ["rollout", "approve", "checkout", "--person", "alice", "--reason", "looks good"];
    let reject = ["rollout", "reject", "checkout", "--person", "payments-oncall", "--reason", "not today"];
    for (answer, end) in [(reject, "rolled_back"), (approve, "succeeded")] {
        daemon.run(&start).await.expect(0);
        let asks = daemon.until("checkout", "it asks", |view| view["phase"] == "awaiting_approval").await;
        assert_eq!(asks["weights"]["checkout-v2"], 10, "{asks}");
        daemon.run(&answer).await.expect(0);
        assert_eq!(daemon.end("checkout").await["phase"], end);
    }
    load.stop().await;
}

#[tokio::test]
async fn the_example_with_a_health_gate_rolls_back_a_version_that_says_that_it_is_not_well() {
    let stable = Service::start("v1").await;
    let port = steady_port();
    let mut python = tokio::process::Command::new("python3");
    python.args(["examples/local/service.py", "--version", "v2", "--unwell", "--port", &port.to_string()]);
    let _service = Process::spawn({
        python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        python
    });
    until("it listens", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    let files = Files::new([stable.address.port(), port], "");
    files.write("policies/checkout.yaml", &std::fs::read_to_string("examples/health/policies/checkout.yaml").unwrap());
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    let load = daemon.load();
    let ran = daemon.run(&["rollout", "start", "checkout", "--revision", "v2", "--wait"]).await.expect(3);
    load.stop().await;
    let end = ran.json().pop().unwrap();
    let reason = format!("gate alive: canary 1 of 1: 127.0.0.1:{port} answered 503 to /health, 3 times in a row");
    assert_eq!((&end["reason"], &end["evidence"]["canary_errors"]), (&json!(reason), &json!(0)), "{end}");
}

#[tokio::test]
async fn a_running_rollout_keeps_the_plan_that_it_started_with() {
    let World { files, daemon, stable: _stable, canary: _canary } = World::start().await;
    let id = daemon.start_rollout().await;
    assert_eq!(daemon.view(&id).await["steps"], json!([10, 50, 100]));
    files.write(
        "policies/checkout.yaml",
        &QUICK.replace("weight: 10,", "weight: 2,").replace("weight: 50", "weight: 3"),
    );
    assert_eq!(daemon.process.terminate().await, Some(0));

    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    daemon.until(&id, "it is judged", |view| view["phase"] == "judging").await;
    assert_eq!(daemon.weights().await.unwrap()["checkout-v2"], 10);
    daemon.run(&["rollout", "promote", &id, "--reason", "next"]).await.expect(0);
    let next = daemon.until(&id, "the second step", |view| view["step"] == 2 && view["phase"] != "shifting").await;
    assert_eq!((&next["steps"], &next["weights"]["checkout-v2"]), (&json!([10, 50, 100]), &json!(50)));
    daemon.run(&["rollout", "abort", &id]).await.expect(0);
    daemon.end(&id).await;
    let (_, again) = daemon.post("/v1/rollouts", &json!({"policy": "checkout"})).await;
    assert_eq!(again["steps"], json!([2, 3, 100]), "the next one goes by the file as it is now");
}
