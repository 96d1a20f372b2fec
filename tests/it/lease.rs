//! A daemon that is gone for longer than the lease of its weights: the mesh puts the traffic back on stable by itself, and the
//! daemon says so when it is there again.

use crate::program::controllers::Outside;
use crate::program::service::Behaviour;
use crate::program::until;
use crate::program::world::QUICK;
use serde_json::json;
use std::time::Duration;

/// As short as the configuration allows, so that the test is.
const LEASE_S: u64 = 5;

#[tokio::test]
async fn a_daemon_that_is_killed_leaves_no_release_half_out_and_says_so_when_it_is_back() {
    let outside = Outside::start(QUICK, Behaviour::Good).await;
    let config = format!(
        "{}[database]\ndata_dir = \"{}\"\n",
        outside.config().replace("signing = \"none\"\n", &format!("signing = \"none\"\nlease = \"{LEASE_S}s\"\n")),
        outside.files.at("own")
    );
    let controller = outside.controller(&config, &[]).await;
    // Without a request nothing is proven, so it stays at its first step.
    let id = controller.api.start_rollout().await;
    controller.api.until(&id, "the first step", |view| view["phase"] == "judging").await;
    let (status, _) = controller.api.post(&format!("/v1/rollouts/{id}/pause"), &json!({"reason": "lunch"})).await;
    assert_eq!(status, 200);
    // Also while it is paused somebody is there.
    tokio::time::sleep(Duration::from_secs(LEASE_S * 2)).await;
    assert_eq!(outside.mesh.weights().await.unwrap()["checkout-v2"], 10);
    let (status, _) = controller.api.post(&format!("/v1/rollouts/{id}/resume"), &json!({})).await;
    assert_eq!(status, 200);
    controller.api.until(&id, "the first step again", |view| view["phase"] == "judging").await;

    controller.process.kill().await;
    assert_eq!(outside.mesh.weights().await.unwrap()["checkout-v2"], 10);
    until("the mesh puts it back", async || {
        (outside.mesh.weights().await?.get("checkout-v2") == Some(&0)).then_some(())
    })
    .await;
    let (_, problems) = outside.mesh.try_api("/v1/mesh/problems").await.unwrap();
    let said = problems["problems"][0]["message"].as_str().unwrap();
    assert!(said.contains("the weight lease of 5s ran out at "), "{said}");

    let controller = outside.controller(&config, &[]).await;
    let view = controller.api.until(&id, "a pause", |view| view["phase"] == "paused").await;
    let reason = view["reason"].as_str().unwrap();
    assert!(reason.starts_with("the lease of the weights ran out at 2"), "{reason}");
    assert!(reason.contains("put the traffic back on stable") && !reason.contains("someone"), "{reason}");
    assert_eq!(outside.mesh.weights().await.unwrap()["checkout-v2"], 0);
    // A person looks at it and goes on.
    let (status, _) = controller.api.post(&format!("/v1/rollouts/{id}/resume"), &json!({})).await;
    assert_eq!(status, 200);
    controller.api.until(&id, "the step once more", |view| view["phase"] == "judging").await;
    assert_eq!(outside.mesh.weights().await.unwrap()["checkout-v2"], 10);
    let (status, _) = controller.api.post(&format!("/v1/rollouts/{id}/abort"), &json!({"reason": "enough"})).await;
    assert_eq!(status, 200);
    assert_eq!(controller.api.end(&id).await["phase"], "aborted");
    let (_, problems) = outside.mesh.try_api("/v1/mesh/problems").await.unwrap();
    assert_eq!(problems["problems"], json!([]));
}

#[tokio::test]
async fn a_daemon_without_a_lease_says_what_that_means() {
    let outside = Outside::start(QUICK, Behaviour::Good).await;
    let config = |lease: &str| {
        let mesh = outside.config().replace("signing = \"none\"\n", &format!("signing = \"none\"\n{lease}"));
        format!("{mesh}[database]\ndata_dir = \"{}\"\n", outside.files.at("own"))
    };
    for (lease, is_told) in [("", false), ("lease = \"off\"\n", true)] {
        let controller = outside.controller(&config(lease), &[]).await;
        let said = controller.process.stderr.text();
        assert_eq!(said.contains("while no daemon drives, a split of the traffic stays"), is_told, "{lease}: {said}");
        assert_eq!(controller.process.terminate().await, Some(0));
    }
}
