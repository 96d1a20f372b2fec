//! A fuse on its way: asked for by a header, carried to a proxy in a process of its own, and renewed there.

use super::{Plane, route};
use crate::program::service::Behaviour;
use crate::program::until;
use serde_json::{Value, json};
use std::net::SocketAddr;

impl Plane {
    /// Writes the split with this fuse, or renews its lease.
    async fn arm(&self, v1: u32, v2: u32, threshold: &str) -> Value {
        let url =
            format!("http://127.0.0.1:{}/v20190125/meshes/shop/virtualRouter/checkout/routes/main", self.ports[0]);
        let fuse = format!("1000; canary=v2; rollout=r-1; threshold={threshold}; ratio=1; add=0");
        let call = self.http.put(url).json(&json!({ "spec": route(v1, v2) }));
        let call = call.header("x-tidegate-lease", "1h; fallback=v1=100").header("x-tidegate-fuse", fuse);
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    /// How the fuse stands in the proxy.
    async fn fuse(&self, admin: SocketAddr) -> Option<Value> {
        let told = self.http.get(format!("http://{admin}/tidegate/report")).send().await.ok()?;
        let report: Value = told.json().await.ok()?;
        report["fuses"].get(0).cloned()
    }
}

#[tokio::test]
async fn a_fuse_reaches_a_proxy_of_its_own_and_a_renewal_changes_its_threshold() {
    let plane = Plane::start().await;
    let mut proxy = plane.proxy();
    let addresses = proxy.listening(3).await;
    let (egress, admin) = (addresses["egress"], addresses["admin"]);
    plane.expect(egress, "v1").await;

    let written = plane.arm(50, 50, "900").await;
    let armed = until("it is armed", async || plane.fuse(admin).await.filter(|fuse| fuse["threshold"] == 900.0)).await;
    assert_eq!((&armed["state"], &armed["rollout"]), (&json!("armed"), &json!("r-1")), "{armed}");
    assert_eq!(armed["version"], written["metadata"]["version"], "{armed}");
    // A renewal is no new version of the weights.
    let renewed = plane.arm(50, 50, "3").await;
    assert_eq!(renewed["metadata"]["version"], written["metadata"]["version"]);
    let armed = until("it has another", async || plane.fuse(admin).await.filter(|fuse| fuse["threshold"] == 3.0)).await;
    assert_eq!((&armed["state"], &armed["version"]), (&json!("armed"), &written["metadata"]["version"]), "{armed}");

    plane.services[1].behave(Behaviour::FailsOneIn(1));
    until("it trips", async || {
        plane.answers(egress).await;
        plane.fuse(admin).await.filter(|fuse| fuse["state"] == "tripped")
    })
    .await;
    for _ in 0..50 {
        assert_eq!(plane.answers(egress).await, "v1");
    }
    assert_eq!(proxy.terminate().await, Some(0));
}
