//! Several daemons on one PostgreSQL database: one drives, the others hand requests on, and when the driver dies, hangs
//! or leaves, another takes its rollouts over and brings them to the same end.
//!
//! `TIDEGATE_TAKEOVERS` is the number of kills in all (4 unless it is set; `make takeovers` makes it 30). `TIDEGATE_SEED`
//! repeats a run's instants.

use crate::kit::postgres::Server;
use crate::program::controllers::{Controller, Outside};
use crate::program::service::Behaviour;
use crate::program::world::QUICK;
use crate::program::{command, finish, until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::time::Duration;
use tidegate::clock::Monotonic;
use tidegate::demo::load::Load;

/// Kills of both tests together.
const KILLS: u64 = 4;

#[expect(clippy::disallowed_methods, reason = "the switches of whoever runs the tests")]
fn switch(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// `journal verify` on the shared database: every rollout follows from its journal.
async fn verify(server: &Server) -> Vec<Value> {
    let mut program = command(&["journal", "verify", "--output", "json", "--database"]);
    program.env("TIDEGATE_DATABASE_URL", server.url().reveal());
    let rollouts = finish(program).await.expect(0).json();
    assert!(rollouts.iter().all(|rollout| rollout["verified"] == true), "{rollouts:?}");
    rollouts
}

/// Ends the load: requests sent, and those that the proxy lost.
async fn sent_and_lost(load: Load) -> (u64, u64) {
    let totals = load.totals();
    load.stop().await;
    totals
}

/// Two daemons on a database of their own, over a mesh and services.
struct Pair {
    server: Server,
    outside: Outside,
    driver: Controller,
    standby: Controller,
}

impl Pair {
    /// Both of them up and one driving; `None` without PostgreSQL.
    async fn start(canary: Behaviour) -> Option<Self> {
        let server = Server::start().await?;
        let outside = Outside::start(QUICK, canary).await;
        let mut both =
            vec![outside.shared_controller(&server.url()).await, outside.shared_controller(&server.url()).await];
        let driver = until("one of them drives", async || both.iter().position(Controller::drives)).await;
        let (driver, standby) = (both.remove(driver), both.remove(0));
        Some(Self { server, outside, driver, standby })
    }

    /// Starts a rollout and waits for its first share.
    async fn begin(standby: &Controller) -> String {
        let id = standby.api.start_rollout().await;
        standby.api.until(&id, "a share", |view| view["weights"]["checkout-v2"] == 10).await;
        id
    }
}

#[tokio::test]
async fn whoever_stands_by_hands_every_request_on() {
    let Some(Pair { server, outside: _outside, driver, standby }) = Pair::start(Behaviour::Good).await else { return };
    let ready = |api: &crate::program::world::Api| {
        let url = format!("{}/readyz", api.url("api"));
        async move { reqwest::get(url).await.unwrap().text().await.unwrap() }
    };
    assert_eq!(ready(&driver.api).await, "ready\n");
    until("it knows who drives", async || {
        ready(&standby.api).await.starts_with("ready, standing by: tidegate-").then_some(())
    })
    .await;
    standby.api.run(&["health"]).await.expect(0);
    let load = standby.api.load();
    // Start, events, a verb and an error: all of it by way of the one that does not drive.
    let id = standby.api.start_rollout().await;
    let watch = ["rollout", "watch", id.as_str()];
    let watching = standby.api.run(&watch);
    let paused = standby.api.until(&id, "a share", |view| view["weights"]["checkout-v2"] == 10);
    let (watched, ()) = tokio::join!(watching, async {
        paused.await;
        let (status, view) = standby.api.post(&format!("/v1/rollouts/{id}/pause"), &json!({"reason": "lunch"})).await;
        assert_eq!((status, &view["phase"]), (200, &json!("paused")));
        let (status, _) = driver.api.post(&format!("/v1/rollouts/{id}/resume"), &json!({})).await;
        assert_eq!(status, 200);
    });
    watched.expect(0);
    assert_eq!(driver.api.view(&id).await, standby.api.view(&id).await);
    let (status, problem) = standby.api.post(&format!("/v1/rollouts/{id}/pause"), &json!({"reason": "late"})).await;
    assert_eq!((status, &problem["type"]), (409, &json!("tidegate:refused")));
    assert_eq!(sent_and_lost(load).await.1, 0);
    verify(&server).await;
}

#[tokio::test]
async fn a_driver_that_leaves_is_followed_at_once() {
    let Some(Pair { server, outside: _outside, driver, standby }) = Pair::start(Behaviour::Good).await else { return };
    let load = standby.api.load();
    let id = Pair::begin(&standby).await;
    assert_eq!(driver.process.terminate().await, Some(0));
    // It gave the lease back, so nobody waits until that runs out.
    let left = Monotonic::now();
    until("the other one drives", async || standby.drives().then_some(())).await;
    assert!(left.elapsed() < tidegate::ports::LEASE, "{:?}", left.elapsed());
    assert_eq!(standby.api.end(&id).await["phase"], "succeeded");
    assert_eq!(sent_and_lost(load).await.1, 0);
    verify(&server).await;
}

/// Its process stands still for longer than its lease, as a machine does that is suspended. When it goes on it believes
/// that it drives, and whatever it was about to write is refused.
#[tokio::test]
async fn a_driver_that_hung_writes_nothing_more() {
    let Some(Pair { server, outside: _outside, driver, standby }) = Pair::start(Behaviour::Good).await else { return };
    let load = standby.api.load();
    let id = Pair::begin(&standby).await;
    driver.process.signal("STOP").await;
    until("the other one drives", async || standby.drives().then_some(())).await;
    driver.process.signal("CONT").await;
    until("it knows that it was taken over", async || (!driver.drives()).then_some(())).await;
    assert_eq!(standby.api.end(&id).await["phase"], "succeeded");
    // And it goes on serving by handing on.
    until("it hands on", async || {
        driver.api.try_api(&format!("/v1/rollouts/{id}")).await.filter(|(status, _)| *status == 200)
    })
    .await;
    assert_eq!(sent_and_lost(load).await.1, 0);
    verify(&server).await;
}

/// Kills whoever drives at random instants of rollouts, and starts another in its place.
#[expect(clippy::print_stderr, reason = "what was seen, and what is needed to see the same again")]
async fn kill_drivers(behaviour: Behaviour, end: &str) {
    let Some(Pair { server, outside, mut driver, mut standby }) = Pair::start(behaviour).await else { return };
    let seed = switch("TIDEGATE_SEED").unwrap_or_else(tidegate::clock::seed);
    let mut chance = StdRng::seed_from_u64(seed);
    let mut kills = switch("TIDEGATE_TAKEOVERS").unwrap_or(KILLS).div_ceil(2);
    let load = outside.mesh.load();
    let (mut phases, mut gaps) = (Vec::new(), Vec::new());
    while kills > 0 {
        let id = driver.api.start_rollout().await;
        loop {
            tokio::time::sleep(Duration::from_millis(chance.random_range(5..2500))).await;
            let before = driver.api.view(&id).await;
            if before["finished"] == true || kills == 0 {
                break;
            }
            driver.process.kill().await;
            kills -= 1;
            phases.push(before["phase"].as_str().unwrap().to_owned());
            let killed = Monotonic::now();
            until("the other one drives", async || standby.drives().then_some(())).await;
            gaps.push(killed.elapsed().as_millis());
            driver = std::mem::replace(&mut standby, outside.shared_controller(&server.url()).await);
            until("it takes commands", async || {
                driver.api.try_api("/readyz").await.or(driver.api.try_api("/v1/rollouts").await)
            })
            .await;
        }
        let view = driver.api.end(&id).await;
        assert_eq!(view["phase"], end, "seed {seed}: {view}");
        let weights = driver.api.weights().await.unwrap();
        let share = if end == "succeeded" { 100 } else { 0 };
        assert_eq!(weights[view["canary"].as_str().unwrap()], share, "seed {seed}: {weights:?}");
    }
    let (sent, lost) = sent_and_lost(load).await;
    eprintln!(
        "TIDEGATE_SEED={seed}: {} drivers killed while {}; nobody drove for {gaps:?} ms; {sent} requests, {lost} lost",
        phases.len(),
        phases.join(", ")
    );
    assert_eq!(lost, 0, "seed {seed}");
    verify(&server).await;
    assert_eq!(driver.process.terminate().await, Some(0));
}

#[tokio::test]
async fn a_good_release_succeeds_however_often_the_driver_dies() {
    kill_drivers(Behaviour::Good, "succeeded").await;
}

#[tokio::test]
async fn a_bad_release_is_rolled_back_however_often_the_driver_dies() {
    kill_drivers(Behaviour::FailsEvery(3), "rolled_back").await;
}
