//! A daemon that is killed again and again at random instants, under load: every rollout ends as it should, what people
//! said is kept, at no look do the weights add up to anything but 100, the journal verifies after every kill, and the
//! proxy loses no request while it lives.
//!
//! `TIDEGATE_KILLS` is the number of kills in all (10 unless it is set; `make kills` makes it 50), shared out evenly among
//! the five tests. Each prints its seed; `TIDEGATE_SEED` sets it.

mod load;

use crate::kit::ports::steady_port;
use crate::program::service::{Behaviour, Service};
use crate::program::world::{Api, Daemon, Files, QUICK, strs, verify};
use crate::program::{NAMES, Process, command, until};
use load::{Load, Span};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegate::clock::Monotonic;

/// Kills of all tests of this file together.
const KILLS: u64 = 10;
/// The tests of this file.
const TESTS: u64 = 5;
/// Kills of one rollout; what is left of them goes to the next one, so that late phases are hit as well as early ones.
const KILLS_OF_ONE: u64 = 5;

#[expect(clippy::disallowed_methods, reason = "the switches of whoever runs the tests")]
fn switch(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

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

/// A daemon that is killed, with all that is around it.
struct Trial {
    seed: u64,
    chance: StdRng,
    kills_left: u64,
    /// The phases it was killed in.
    phases: Vec<String>,
    /// From each kill to when it listened again.
    down: Vec<Span>,
    daemon: Option<Daemon>,
    api: Api,
    arguments: Vec<String>,
    files: Files,
    load: Load,
    watcher: tokio::task::JoinHandle<()>,
    looks: Arc<AtomicU64>,
    _services: [Service; 2],
}

impl Trial {
    async fn start(policy: &str, behaviour: Behaviour) -> Self {
        let seed = switch("TIDEGATE_SEED").unwrap_or_else(tidegate::clock::seed);
        let kills_left = switch("TIDEGATE_KILLS").unwrap_or(KILLS).div_ceil(TESTS);
        let services = [Service::start("v1").await, Service::start("v2").await];
        services[1].behave(behaviour);
        let files = Files::new([services[0].address.port(), services[1].address.port()], "");
        files.write("policies/checkout.yaml", policy);
        let ports: BTreeMap<&str, u16> = NAMES.map(|name| (name, steady_port())).into();
        let arguments = files.local(&ports);
        let daemon = Daemon::start(&arguments).await;
        let (api, looks) = (daemon.api.clone(), Arc::default());
        Self {
            seed,
            chance: StdRng::seed_from_u64(seed),
            kills_left,
            phases: Vec::new(),
            down: Vec::new(),
            load: Load::start(api.addresses["egress"]),
            watcher: watch_weights(api.clone(), Arc::clone(&looks)),
            daemon: Some(daemon),
            api,
            arguments,
            files,
            looks,
            _services: services,
        }
    }

    /// Kills the daemon now, looks at its journal, and starts it again; one time in four the new one is killed before it
    /// listens.
    async fn kill(&mut self, phase: &str) {
        let killed = Monotonic::now();
        self.daemon.take().unwrap().process.kill().await;
        self.phases.push(phase.to_owned());
        self.kills_left -= 1;
        if self.kills_left > 0 && self.chance.random_bool(0.25) {
            let starting = Process::spawn(command(&strs(&self.arguments)));
            tokio::time::sleep(Duration::from_millis(self.chance.random_range(0..200))).await;
            starting.kill().await;
            self.phases.push("starting".to_owned());
            self.kills_left -= 1;
        }
        verify(&self.files.path("data")).await.expect(0);
        self.daemon = Some(Daemon::start(&self.arguments).await);
        self.down.push((killed, Monotonic::now()));
    }

    /// Kills it at random instants of a rollout until the share of kills is used up or the rollout has ended. `kept` looks
    /// at how the rollout stands before and after each kill.
    async fn kill_during(&mut self, id: &str, kept: impl Fn(&Value)) {
        let least = self.kills_left.saturating_sub(KILLS_OF_ONE);
        while self.kills_left > least {
            // A rollout takes about ten seconds; from before the first reading after a restart to long after it.
            tokio::time::sleep(Duration::from_millis(self.chance.random_range(5..2000))).await;
            let view = self.api.view(id).await;
            kept(&view);
            if view["finished"] == true {
                return;
            }
            self.kill(view["phase"].as_str().unwrap()).await;
            let view = self.api.view(id).await;
            let sum: u64 = view["weights"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
            assert_eq!(sum, 100, "seed {}: {view}", self.seed);
            kept(&view);
        }
    }

    /// Waits for the end, which must be this one, with all the weight where it belongs.
    async fn expect_end(&self, id: &str, end: &str) {
        let view = self.api.end(id).await;
        assert_eq!(view["phase"], end, "seed {}: {view}", self.seed);
        let weights = self.api.weights().await.unwrap();
        let share = if end == "succeeded" { 100 } else { 0 };
        assert_eq!(weights[view["canary"].as_str().unwrap()], share, "seed {}: {weights:?}", self.seed);
    }

    async fn post(&self, id: &str, verb: &str, body: &Value) -> Value {
        let (status, view) = self.api.post(&format!("/v1/rollouts/{id}/{verb}"), body).await;
        assert_eq!(status, 200, "seed {}: {view}", self.seed);
        view
    }

    /// The end of the trial: nothing was lost by the proxy's own doing, and every rollout follows from its journal.
    #[expect(clippy::print_stderr, reason = "what was seen, and what is needed to see the same again")]
    async fn finish(self) {
        let seed = self.seed;
        let before = self.looks.load(Ordering::SeqCst);
        until("another look", async || (self.looks.load(Ordering::SeqCst) > before).then_some(())).await;
        assert!(!self.watcher.is_finished(), "seed {seed}: {:?}", self.watcher.await);
        self.watcher.abort();
        let (sent, lost, own) = self.load.stop(&self.down);
        let (kills, looks, phases) = (self.phases.len(), self.looks.load(Ordering::SeqCst), self.phases.join(", "));
        let own_count = own.len();
        eprintln!(
            "TIDEGATE_SEED={seed}: {kills} kills while {phases}; {looks} looks at the weights; {sent} requests, \
             {lost} lost, {own_count} of them while the daemon lived"
        );
        assert!(own.is_empty(), "seed {seed}: lost by the proxy: {own:#?}");
        assert_eq!(self.daemon.unwrap().process.terminate().await, Some(0));
        let rollouts = verify(&self.files.path("data")).await.expect(0).json();
        assert!(rollouts.iter().all(|rollout| rollout["verified"] == true), "seed {seed}: {rollouts:?}");
    }
}

#[tokio::test]
async fn a_good_release_succeeds_however_often_the_daemon_is_killed() {
    let mut trial = Trial::start(QUICK, Behaviour::Good).await;
    while trial.kills_left > 0 {
        let id = trial.api.start_rollout().await;
        trial.kill_during(&id, |_| ()).await;
        trial.expect_end(&id, "succeeded").await;
    }
    trial.finish().await;
}

#[tokio::test]
async fn a_bad_release_is_rolled_back_however_often_the_daemon_is_killed() {
    let mut trial = Trial::start(QUICK, Behaviour::FailsEvery(3)).await;
    while trial.kills_left > 0 {
        let id = trial.api.start_rollout().await;
        trial.kill_during(&id, |_| ()).await;
        trial.expect_end(&id, "rolled_back").await;
    }
    trial.finish().await;
}

#[tokio::test]
async fn a_paused_release_stays_where_it_is_however_often_the_daemon_is_killed() {
    let mut trial = Trial::start(QUICK, Behaviour::Good).await;
    while trial.kills_left > 0 {
        let id = trial.api.start_rollout().await;
        let delay = Duration::from_millis(trial.chance.random_range(0..3000));
        tokio::time::sleep(delay).await;
        let paused = trial.post(&id, "pause", &json!({"reason": "lunch"})).await;
        let same = |view: &Value| {
            for key in ["phase", "step", "weights", "reason"] {
                assert_eq!(view[key], paused[key], "{view}");
            }
        };
        trial.kill_during(&id, same).await;
        trial.post(&id, "resume", &json!({})).await;
        trial.expect_end(&id, "succeeded").await;
    }
    trial.finish().await;
}

#[tokio::test]
async fn approvals_are_kept_however_often_the_daemon_is_killed() {
    let asking = "  - approval: { from: [oncall, lead], need: 2, timeout: 1h }\n  - { weight: 100";
    let policy = QUICK.replace("  - { weight: 50, min: 1s, max: 60s, prove_no_worse_than: 20pp }\n", "");
    let mut trial = Trial::start(&policy.replace("  - { weight: 100", asking), Behaviour::Good).await;
    while trial.kills_left > 0 {
        let id = trial.api.start_rollout().await;
        trial.api.until(&id, "the approval", |view| view["phase"] == "awaiting_approval").await;
        // Not yet settled when it is killed, half the time.
        let given = trial.post(&id, "approve", &json!({"person": "oncall"})).await["approval"].clone();
        assert_eq!(given["given"], json!(["oncall"]));
        if trial.chance.random_bool(0.5) {
            trial.kill("awaiting_approval").await;
        }
        trial.kill_during(&id, |view| assert_eq!(view["approval"], given, "{view}")).await;
        trial.post(&id, "approve", &json!({"person": "lead"})).await;
        if trial.kills_left > 0 {
            trial.kill("approved").await;
        }
        let view = trial.api.view(&id).await;
        assert!(view["approval"].is_null(), "asked again: {view}");
        trial.expect_end(&id, "succeeded").await;
    }
    trial.finish().await;
}

#[tokio::test]
async fn a_promotion_is_taken_whole_or_not_at_all_however_often_the_daemon_is_killed() {
    let mut trial = Trial::start(QUICK, Behaviour::Good).await;
    while trial.kills_left > 0 {
        let id = trial.api.start_rollout().await;
        let delay = Duration::from_millis(trial.chance.random_range(0..1500));
        tokio::time::sleep(delay).await;
        let (api, path) = (trial.api.clone(), format!("/v1/rollouts/{id}/promote"));
        let hurry = json!({"full": true, "reason": "hurry"});
        let body = hurry.clone();
        // Killed while the command is on its way, under way, or just answered.
        let answered = tokio::spawn(async move { api.try_post(&path, &body).await });
        let delay = Duration::from_millis(trial.chance.random_range(0..20));
        tokio::time::sleep(delay).await;
        trial.kill("promoting").await;
        let taken = matches!(answered.await.unwrap(), Some((200, _)));
        let view = trial.api.view(&id).await;
        let at_last = view["weights"][view["canary"].as_str().unwrap()] == 100;
        assert!(at_last || !taken, "seed {}: an answered promotion was forgotten: {view}", trial.seed);
        if !at_last {
            trial.post(&id, "promote", &hurry).await;
        }
        trial.kill_during(&id, |_| ()).await;
        trial.expect_end(&id, "succeeded").await;
    }
    trial.finish().await;
}
