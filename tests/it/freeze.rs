//! `tidegate freeze` as people use it: during a step, before a start, through a kill, with a bad release.

use crate::program::service::Behaviour;
use crate::program::world::{Daemon, World};
use crate::program::{run, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate::clock::Monotonic;

/// Proof comes within a second or two of load.
const STEPS: &str = "\
version: 1
name: checkout
route: { mesh: shop, router: checkout-router, route: checkout }
versions: [checkout-v1, checkout-v2]
steps:
  - { weight: 50, min: 1s, max: 60s, prove_no_worse_than: 20pp }
  - { weight: 100, min: 1s }
";

#[tokio::test]
async fn a_freeze_holds_through_a_kill_and_is_lifted() {
    let world = World::with("", STEPS).await;
    let load = world.daemon.load();
    let id = world.daemon.start_rollout().await;
    world.daemon.until(&id, "the first step", |view| view["weights"]["checkout-v2"] == 50).await;
    let asked = Monotonic::now();
    let done = world.daemon.run(&["freeze", "checkout", "--reason", "payday"]).await.expect(0).json().remove(0);
    assert_eq!((&done["policy"], &done["rollouts"][0]), (&"checkout".into(), &Value::from(id.as_str())));
    // With the start of the program on a busy machine; the command itself is one commit.
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let proven = |view: &Value| view["phase"] == "judging" && view["evidence"]["proof"].as_f64() >= Some(1.0);
    let held = world.daemon.until(&id, "proof that is not acted on", proven).await;
    assert!(held["frozen"].as_str().unwrap().ends_with(": payday"), "{held}");
    world.daemon.run(&["rollout", "promote", &id, "--reason", "hurry"]).await.expect(1).says(&["payday", "--lift"]);
    load.stop().await;

    let World { files, daemon: Daemon { process, .. }, stable: _stable, canary: _canary } = world;
    process.kill().await;
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    let load = daemon.load();
    let listed = daemon.run(&["freeze"]).await.expect(0).json().remove(0);
    assert_eq!(listed["freezes"][0]["reason"], "payday");
    daemon.until(&id, "proof again", |view| view["phase"] == "judging" && view["frozen"].is_string()).await;
    // Ten looks of the judge, each of which would have taken the step.
    let seq = |view: &Value| view["seq"].as_u64().unwrap();
    let first = seq(&daemon.until(&id, "a look", |_| true).await);
    daemon.until(&id, "more looks", |view| seq(view) >= first + 10).await;
    assert_eq!(daemon.weights().await.unwrap()["checkout-v2"], 50);
    daemon.run(&["freeze", "checkout", "--lift"]).await.expect(0);
    assert_eq!(daemon.end(&id).await["phase"], "succeeded");
    load.stop().await;
    assert_eq!(daemon.process.terminate().await, Some(0));
    crate::program::world::verify(&files.path("data")).await.expect(0);
}

#[tokio::test]
async fn nothing_starts_and_a_bad_release_goes_back() {
    let world = World::with("", STEPS).await;
    let daemon = &world.daemon;
    let load = daemon.load();
    let id = daemon.start_rollout().await;
    daemon.until(&id, "the first step", |view| view["weights"]["checkout-v2"] == 50).await;
    daemon.run(&["freeze", "--all", "--reason", "an \x1b[31mincident"]).await.expect(0);
    world.canary.behave(Behaviour::FailsEvery(2));
    assert_eq!(daemon.end(&id).await["phase"], "rolled_back");
    let refused = daemon.run(&["rollout", "start", "checkout"]).await;
    refused.expect(1).says(&["nothing of policy `checkout` starts", "incident", "freeze --all --lift"]);
    let shown = run(&["rollout", "start", "checkout", "--server", &daemon.url("api")]).await.expect(1).stderr;
    assert!(shown.contains("an  [31mincident") && !shown.contains('\x1b'), "a terminal obeys it: {shown:?}");
    daemon.run(&["freeze", "--all", "--reason", "another"]).await.expect(1).says(&["everything is frozen", "incident"]);
    daemon.run(&["freeze", "--lift"]).await.expect(2).says(&["one policy, or everything"]);
    daemon.run(&["freeze", "checkout", "--lift"]).await.expect(1).says(&["there is no freeze of policy `checkout`"]);
    daemon.run(&["freeze", "chekout", "--reason", "x"]).await.expect(1).says(&["no policy `chekout`"]);
    daemon.run(&["freeze", "checkout"]).await.expect(2).says(&["needs a reason"]);
    daemon.run(&["freeze", "--all", "--lift"]).await.expect(0);
    world.canary.behave(Behaviour::Good);
    let again = daemon.start_rollout().await;
    until("it has begun", async || (daemon.weights().await.unwrap()["checkout-v2"] == 50).then_some(())).await;
    assert_eq!(daemon.end(&again).await["phase"], "succeeded");
    load.stop().await;
    world.verify().await.expect(0);
}
