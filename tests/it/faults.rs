//! What goes wrong with releases: versions that hang, break off or die, both bad at once, nobody calling, and people who
//! change the route meanwhile.

use crate::program::service::{Behaviour, Service};
use crate::program::world::{Daemon, Files, QUICK, World};
use crate::program::{Process, command, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Stdio;

/// Whether it was rolled back because the new version failed and stable did not.
fn expect_rolled_back(end: &Value) {
    assert_eq!(end["phase"], "rolled_back", "{end}");
    assert!(end["reason"].as_str().unwrap().contains("failed"), "{end}");
    assert_eq!((&end["weights"]["checkout-v1"], &end["weights"]["checkout-v2"]), (&100.into(), &0.into()));
    let evidence = &end["evidence"];
    assert!(evidence["canary_errors"].as_u64() > Some(0), "{end}");
    assert_eq!(evidence["stable_errors"], 0, "{end}");
}

/// Releases a version that behaves like this from the start, under load.
async fn release(behaviour: Behaviour) -> Value {
    let world = World::with("timeout: { perRequest: { unit: s, value: 1 } }", QUICK).await;
    let load = world.daemon.load();
    world.canary.behave(behaviour);
    let id = world.daemon.start_rollout().await;
    let end = world.daemon.end(&id).await;
    assert_eq!(world.daemon.weights().await.unwrap()["checkout-v2"], 0);
    load.stop().await;
    world.verify().await.expect(0);
    end
}

#[tokio::test]
async fn a_version_that_never_answers_is_rolled_back() {
    expect_rolled_back(&release(Behaviour::Silent).await);
}

#[tokio::test]
async fn a_version_that_breaks_off_its_answers_is_rolled_back() {
    expect_rolled_back(&release(Behaviour::CutsOff).await);
}

#[tokio::test]
async fn a_version_whose_process_dies_is_rolled_back() {
    let stable = Service::start("v1").await;
    let mut service = command(&["demo-service", "--listen", "127.0.0.1:0", "--version-name", "v2"]);
    // It lives as long as its standard input does.
    service.stdin(Stdio::piped());
    let canary = Process::spawn(service);
    let address = until("the service listens", async || canary.stdout.all().first().cloned()).await;
    let port = address.rsplit(':').next().unwrap().parse().unwrap();
    let files = Files::new([stable.address.port(), port], "");
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    let load = daemon.load();
    let id = daemon.start_rollout().await;
    let served = |view: &Value| view["evidence"]["canary_requests"].as_u64() > Some(5);
    let before = daemon.until(&id, "the new version has traffic", served).await;
    assert_eq!(before["evidence"]["canary_errors"], 0);
    canary.kill().await;
    expect_rolled_back(&daemon.end(&id).await);
    load.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_both_is_not_held_against_the_release() {
    let world = World::start().await;
    let load = world.daemon.load();
    world.stable.behave(Behaviour::FailsEvery(5));
    world.canary.behave(Behaviour::FailsEvery(5));
    let id = world.daemon.start_rollout().await;
    let end = world.daemon.end(&id).await;
    assert_eq!(end["phase"], "succeeded", "{end}");
    let errors = |arm: &str| end["evidence"][arm].as_u64().unwrap();
    assert!(errors("canary_errors") > 5 && errors("stable_errors") > 5, "{end}");
    load.stop().await;
}

#[tokio::test]
async fn without_traffic_it_holds_and_goes_on_when_there_is_some() {
    let world = World::with("", &QUICK.replace("max: 60s", "max: 2s")).await;
    let daemon = &world.daemon;
    let id = daemon.start_rollout().await;
    daemon.until(&id, "it is judged", |view| view["phase"] == "judging").await;
    // Zero requests are data, so it is no silence either. The daemon writes down every 2.5 s that it heard the proxy: two
    // of these lie beyond its longest stay.
    let seq = |view: &Value| view["seq"].as_u64().unwrap();
    let first = seq(&daemon.view(&id).await);
    until("it was heard twice more", async || {
        let view = daemon.view(&id).await;
        assert_eq!((&view["phase"], &view["step"]), (&"judging".into(), &1.into()), "{view}");
        assert_eq!(daemon.weights().await.unwrap()["checkout-v2"], 10);
        (seq(&view) >= first + 2).then_some(())
    })
    .await;
    let load = daemon.load();
    daemon.until(&id, "the second step", |view| view["step"] == 2).await;
    load.stop().await;
}

#[tokio::test]
async fn a_person_who_lowers_the_canary_is_heeded_and_one_who_raises_it_is_not() {
    let world = World::start().await;
    let daemon = &world.daemon;
    let weights = async || daemon.weights().await.unwrap()["checkout-v2"];
    // Without traffic it stays at its first step.
    let id = daemon.start_rollout().await;
    daemon.until(&id, "the step is in force", |view| view["phase"] == "judging").await;

    daemon.set_weights(40, 60).await;
    until("it is put back", async || (weights().await == 10).then_some(())).await;
    let told = |view: &Value| view["trouble"].is_string() && view["phase"] == "judging";
    let raised = daemon.until(&id, "it is told, and judged again", told).await;
    assert!(raised["trouble"].as_str().unwrap().contains("someone raised the canary to 60 %; put back to 10 %"));
    assert_eq!(raised["step"], 1, "{raised}");

    daemon.set_weights(97, 3).await;
    let lowered = daemon.until(&id, "it pauses", |view| view["phase"] == "paused").await;
    let reason = lowered["reason"].as_str().unwrap();
    assert!(
        reason.contains("someone lowered the canary (canary at 3 %") && reason.contains("update-route"),
        "{reason}"
    );
    // Until it has written down once more that it heard the proxy: several readings of the route lie before that.
    until("it was heard once more", async || {
        assert_eq!(weights().await, 3);
        (daemon.view(&id).await["seq"].as_u64() > lowered["seq"].as_u64()).then_some(())
    })
    .await;
    daemon.run(&["rollout", "resume", &id]).await.expect(0);
    until("the step is put back", async || (weights().await == 10).then_some(())).await;
    daemon.until(&id, "it is judged again", |view| view["phase"] == "judging").await;
    daemon.run(&["rollout", "abort", &id]).await.expect(0);
    until("it is taken off", async || (weights().await == 0).then_some(())).await;
    world.verify().await.expect(0);
}
