//! Health gates on a real daemon: a version that answers its requests and fails its health check, alone or with stable.

use crate::program::service::Behaviour;
use crate::program::until;
use crate::program::world::{QUICK, World};

fn policy() -> String {
    format!("{QUICK}  - {{ name: alive, health: {{ http: /health, interval: 1s }}, breaches: 2 }}\n")
}

#[tokio::test]
async fn a_version_that_fails_its_health_check_is_rolled_back() {
    let world = World::with("", &policy()).await;
    world.canary.behave(Behaviour::Unwell);
    let load = world.daemon.load();
    let id = world.daemon.start_rollout().await;
    let end = world.daemon.end(&id).await;
    load.stop().await;
    assert_eq!(end["phase"], "rolled_back", "{end}");
    let (reason, address) = (end["reason"].as_str().unwrap(), world.canary.address.to_string());
    assert!(reason.contains(&format!("{address} answered 503 to /health")), "{reason}");
    assert_eq!(end["evidence"]["canary_errors"], 0, "{end}");
    world.verify().await.expect(0);
}

#[tokio::test]
async fn when_stable_fails_it_too_nobody_is_blamed_and_it_goes_on_when_both_are_well() {
    let world = World::with("", &policy()).await;
    world.canary.behave(Behaviour::Unwell);
    world.stable.behave(Behaviour::Unwell);
    let load = world.daemon.load();
    let id = world.daemon.start_rollout().await;
    let told = until("somebody is told", async || {
        let view = world.daemon.api.view(&id).await;
        assert_eq!(view["finished"], false, "{view}");
        view["trouble"].as_str().map(str::to_owned)
    });
    let told = told.await;
    assert!(told.contains("stable itself is beyond the limit of gate alive"), "{told}");
    world.stable.behave(Behaviour::Good);
    world.canary.behave(Behaviour::Good);
    let end = world.daemon.end(&id).await;
    load.stop().await;
    assert_eq!(end["phase"], "succeeded", "{end}");
    world.verify().await.expect(0);
}
