//! A version that answers everything, and slowly: through a real proxy, against stable and against a fixed limit.

use crate::program::service::Behaviour;
use crate::program::world::{QUICK, World};
use serde_json::Value;

/// The quick policy with another gate; its first step lasts until latencies can have been compared.
async fn release_slow(gate: &str) -> Value {
    let policy = QUICK.replace("weight: 10, min: 1s", "weight: 10, min: 20s") + gate;
    let world = World::with("", &policy).await;
    world.canary.behave(Behaviour::Slow(60));
    let load = world.daemon.load();
    let id = world.daemon.start_rollout().await;
    let end = world.daemon.end(&id).await;
    load.stop().await;
    assert_eq!(end["evidence"]["canary_errors"], 0, "{end}");
    world.verify().await.expect(0);
    end
}

#[tokio::test]
async fn a_slower_version_is_rolled_back_against_stable() {
    let end = release_slow("  - { name: latency, metric: latency, compare: stable, tolerate: 10% }\n").await;
    assert_eq!(end["phase"], "rolled_back", "{end}");
    assert!(end["reason"].as_str().unwrap().contains("slower"), "{end}");
}

#[tokio::test]
async fn a_slower_version_is_rolled_back_by_a_limit() {
    let end = release_slow("  - { name: p99, metric: latency_p99, max: 20ms }\n").await;
    assert_eq!(end["phase"], "rolled_back", "{end}");
}
