//! How `tidegate local` stops: in good order when asked once, at once when asked twice, and never with a decision.

use crate::program::service::Behaviour;
use crate::program::until;
use crate::program::world::{Daemon, World};
use serde_json::Value;
use std::collections::BTreeMap;
use tidegate::clock::Monotonic;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Proof is there long before the stay is over, so the step that follows is due at a known time.
const SLOW: &str = "\
version: 1
name: checkout
route: { mesh: shop, router: checkout-router, route: checkout }
versions: [checkout-v1, checkout-v2]
steps:
  - { weight: 50, min: 4s, max: 60s, prove_no_worse_than: 20pp }
  - { weight: 100, min: 1s }
";

/// A request that is under way for as long as the stream lives.
async fn hanging_request(world: &World) -> TcpStream {
    let before = world.stable.requests();
    world.stable.behave(Behaviour::Silent);
    let mut stream = TcpStream::connect(world.daemon.addresses["egress"]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: checkout.local\r\n\r\n").await.unwrap();
    until("the request is with the service", async || (world.stable.requests() > before).then_some(())).await;
    world.stable.behave(Behaviour::Good);
    stream
}

#[tokio::test]
async fn a_stop_in_the_middle_decides_nothing() {
    let world = World::with("", SLOW).await;
    // It keeps the proxy busy while it drains, and the step falls due in that time.
    let hanging = hanging_request(&world).await;
    let load = world.daemon.load();
    let id = world.daemon.start_rollout().await;
    let proven = |view: &Value| view["phase"] == "baking" && view["evidence"]["proof"].as_f64() >= Some(1.0);
    let before = world.daemon.until(&id, "proven while it bakes", proven).await;
    assert_eq!(before["step"], 1);
    world.daemon.process.signal("TERM").await;
    load.stop().await;
    let World { files, daemon: Daemon { mut process, .. }, stable: _stable, canary: _canary } = world;
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.stderr.text());
    drop(hanging);
    assert!(process.stdout.all().iter().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    assert!(!process.stderr.text().contains("effect failed"), "{}", process.stderr.text());

    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    let remark = "1 live rollout taken up again";
    until(remark, async || daemon.process.stderr.text().contains(remark).then_some(())).await;
    let load = daemon.load();
    let end = daemon.end(&id).await;
    assert_eq!(end["phase"], "succeeded", "{end}");
    load.stop().await;
    assert_eq!(daemon.process.terminate().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let world = World::start().await;
    let _hanging = hanging_request(&world).await;
    let World { files: _files, daemon: Daemon { mut process, .. }, stable: _stable, canary: _canary } = world;
    process.signal("INT").await;
    until("it drains", async || process.stderr.text().contains("stopping: ").then_some(())).await;
    let asked = Monotonic::now();
    process.signal("INT").await;
    assert_eq!(process.ended().await.code(), Some(1));
    // In good order it would have waited ten seconds for the request.
    assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
    assert!(process.stderr.text().contains("stopped at once"), "{}", process.stderr.text());
}

#[tokio::test]
async fn a_listener_does_not_hold_up_the_end() {
    let world = World::start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut events = http.get(format!("{}/v1/events", world.daemon.url("api"))).send().await.unwrap();
    world.daemon.start_rollout().await;
    assert!(String::from_utf8_lossy(&events.chunk().await.unwrap().unwrap()).contains("event: rollout"));
    let World { files: _files, daemon: Daemon { process, .. }, stable: _stable, canary: _canary } = world;
    let asked = Monotonic::now();
    assert_eq!(process.terminate().await, Some(0));
    assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn the_admin_page_can_end_it() {
    let world = World::start().await;
    let World { files: _files, mut daemon, stable: _stable, canary: _canary } = world;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.post(format!("{}/quitquitquit", daemon.url("admin"))).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(daemon.process.ended().await.code(), Some(0));
}
