//! A daemon that is killed again and again in the middle of a rollout, under load: the rollout ends as it should, and at
//! no look do the weights add up to anything but 100.

use crate::program::service::{Behaviour, Service};
use crate::program::world::{Api, Daemon, Files, QUICK, steady_port, verify};
use crate::program::{NAMES, until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegate::demo::load::Load;

const KILLS: usize = 10;

/// Looks at the route as often as the daemon answers; fails the test when the weights do not add up.
fn watch_weights(api: Api, looks: Arc<AtomicU64>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            if let Some(weights) = api.weights().await {
                assert_eq!(weights.values().sum::<u64>(), 100, "{weights:?}");
                looks.fetch_add(1, Ordering::SeqCst);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
}

/// Kills and restarts at random instants; the phases that it was in at the time.
async fn kill_repeatedly(
    mut daemon: Daemon,
    arguments: &[String],
    id: &str,
    chance: &mut StdRng,
) -> (Daemon, Vec<String>) {
    let mut phases = Vec::new();
    while phases.len() < KILLS {
        // Spread over a rollout of about ten seconds; from before the first reading after a restart to long after it.
        tokio::time::sleep(Duration::from_millis(chance.random_range(5..1500))).await;
        let view = daemon.view(id).await;
        let sum: u64 = view["weights"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
        assert_eq!(sum, 100, "{view}");
        phases.push(view["phase"].as_str().unwrap().to_owned());
        daemon.process.kill().await;
        daemon = Daemon::start(arguments).await;
    }
    (daemon, phases)
}

async fn survive(behaviour: Behaviour, end: &str, canary_share: u64) {
    let seed = tidegate::clock::seed();
    let (stable, canary) = (Service::start("v1").await, Service::start("v2").await);
    canary.behave(behaviour);
    let files = Files::new([stable.address.port(), canary.address.port()], "");
    files.write("policies/checkout.yaml", QUICK);
    let mut taken = Vec::new();
    let ports: BTreeMap<&str, u16> = NAMES.map(|name| (name, steady_port(&mut taken))).into();
    let arguments = files.local(&ports);
    let daemon = Daemon::start(&arguments).await;
    let looks = Arc::new(AtomicU64::new(0));
    let watcher = watch_weights(daemon.api.clone(), Arc::clone(&looks));
    // It goes on against the same address; what it loses while nobody listens is lost.
    let load: Load = daemon.load();
    let id = daemon.start_rollout().await;
    let (daemon, phases) = kill_repeatedly(daemon, &arguments, &id, &mut StdRng::seed_from_u64(seed)).await;
    #[expect(clippy::print_stderr, reason = "what is needed to see the same again")]
    {
        eprintln!("seed {seed}: killed while {}", phases.join(", "));
    }
    let view = daemon.end(&id).await;
    assert_eq!(view["phase"], end, "seed {seed}: {view}");
    assert_eq!(daemon.weights().await.unwrap()["checkout-v2"], canary_share, "seed {seed}");
    let before = looks.load(Ordering::SeqCst);
    until("another look", async || (looks.load(Ordering::SeqCst) > before).then_some(())).await;
    assert!(!watcher.is_finished(), "seed {seed}: {:?}", watcher.await);
    watcher.abort();
    load.stop().await;
    verify(&files.path("data")).await.expect(0);
    assert_eq!(daemon.process.terminate().await, Some(0));
    assert_eq!(verify(&files.path("data")).await.expect(0).json()[0]["verified"], true);
}

#[tokio::test]
async fn a_good_release_succeeds_however_often_the_daemon_is_killed() {
    survive(Behaviour::Good, "succeeded", 100).await;
}

#[tokio::test]
async fn a_bad_release_is_rolled_back_however_often_the_daemon_is_killed() {
    survive(Behaviour::FailsEvery(3), "rolled_back", 0).await;
}
