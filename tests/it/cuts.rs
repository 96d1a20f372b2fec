//! The daemon is killed (`kill -9`) before, during and after every call that a release on ECS makes: each that differs from
//! those before in operation or parameters, of ECS and of the mesh, and each that differs in what it writes, of the
//! database. However that is, the release ends as it should, with one revision and no service left running that should
//! not.
//!
//! Each test prints its table. After each kill a daemon on PostgreSQL waits for the dead one's lease, so of what is
//! written there one in eight is cut, unless `TIDEGATE_CUT_EVERY` says otherwise (`make cuts`: every one).

use crate::kit::postgres::Server;
use crate::program::controllers::{Controller, Outside};
use crate::program::database_gate::DatabaseGate;
use crate::program::fleet::{Fleet, image, pinned};
use crate::program::gate::{Cut, Gate};
use crate::program::service::Behaviour;
use crate::program::world::verify;
use crate::release::POLICY;
use serde_json::{Value, json};
use std::time::Duration;
use tidegate::clock::Monotonic;
use tokio::sync::mpsc;

/// Longest that one release may take with all its cuts: some fifty, each with the ten seconds of a lease.
const PATIENCE: Duration = Duration::from_secs(1200);

#[expect(clippy::disallowed_methods, reason = "the switch of whoever runs the tests")]
fn cut_every() -> usize {
    std::env::var("TIDEGATE_CUT_EVERY").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// A daemon that is killed whenever a gate says so, and started again.
struct Trial {
    outside: Outside,
    fleet: Fleet,
    config: String,
    variables: Vec<(String, String)>,
    daemon: Option<Controller>,
    cuts: mpsc::UnboundedReceiver<String>,
    table: Vec<String>,
}

impl Trial {
    async fn up(&mut self) {
        let variables: Vec<(&str, &str)> =
            self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.daemon = Some(self.outside.controller(&self.config, &variables).await);
    }

    /// How the newest rollout stands; `None` while nobody answers.
    async fn look(&self) -> Option<Value> {
        let (status, list) = self.daemon.as_ref()?.api.try_api("/v1/rollouts").await?;
        (status == 200).then(|| list["rollouts"][0].clone())
    }

    /// Starts the release by a signed request and kills the daemon at every cut until the end. As senders do, the request
    /// is repeated under its id until something came of it.
    async fn run(&mut self, tag: &str) -> Value {
        let body = json!({"image": image(tag), "revision": tag, "id": format!("run-{tag}")}).to_string();
        let began = Monotonic::now();
        let mut starting: Option<tokio::task::JoinHandle<Option<(u16, Value)>>> = None;
        loop {
            assert!(began.elapsed() < PATIENCE, "it never ended: {:#?}", self.table);
            tokio::select! {
                cut = self.cuts.recv() => {
                    let before = self.look_quickly().await;
                    self.daemon.take().unwrap().process.kill().await;
                    self.table.push(format!("{:36} {before}", cut.unwrap()));
                    self.up().await;
                    continue;
                }
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
            if let Some(asked) = starting.take() {
                if asked.is_finished() {
                    let _ = asked.await;
                } else {
                    starting = Some(asked);
                    continue;
                }
            }
            let Some(view) = self.look().await else { continue };
            if view["revision"] == tag {
                if view["finished"] == true {
                    return view;
                }
                continue;
            }
            let (api, body) = (self.daemon.as_ref().unwrap().api.clone(), body.clone());
            starting = Some(tokio::spawn(async move { api.hook(&body).await }));
        }
    }

    async fn look_quickly(&self) -> String {
        let looked = tokio::time::timeout(Duration::from_millis(300), self.look()).await;
        let phase = looked.ok().flatten().and_then(|view| view["phase"].as_str().map(str::to_owned));
        phase.unwrap_or_else(|| "-".to_owned())
    }

    /// However often it was asked for, it began once.
    async fn expect_begun_once(&self) {
        let (_, list) = self.daemon.as_ref().unwrap().api.try_api("/v1/rollouts").await.unwrap();
        assert_eq!(list["rollouts"].as_array().unwrap().len(), 1, "{list}\n{:#?}", self.table);
    }

    /// What must be true at the end of a good release: one revision more, three tasks of it, none of the old one.
    async fn expect_promoted(&self, view: &Value, tag: &str) {
        assert_eq!(view["phase"], "succeeded", "{view}\n{:#?}", self.table);
        self.expect_begun_once().await;
        assert_eq!(self.fleet.revisions("checkout-v2").await, 2, "a revision too many: {:#?}", self.table);
        assert_eq!(self.fleet.revisions("checkout-v1").await, 1);
        assert_eq!(self.fleet.running("checkout-b").await, vec![pinned(tag); 3]);
        assert_eq!(self.fleet.service("checkout-a").await["desiredCount"], 0, "{:#?}", self.table);
        assert_eq!(self.outside.mesh.weights().await.unwrap()["checkout-v2"], 100);
    }

    /// What must be true at the end of a bad one: as before, but for a revision that nobody runs.
    async fn expect_rolled_back(&self, view: &Value) {
        assert_eq!(view["phase"], "rolled_back", "{view}\n{:#?}", self.table);
        self.expect_begun_once().await;
        assert_eq!(self.fleet.revisions("checkout-v2").await, 2, "a revision too many: {:#?}", self.table);
        assert_eq!(self.fleet.service("checkout-b").await["desiredCount"], 0, "{:#?}", self.table);
        assert_eq!(self.fleet.service("checkout-a").await["desiredCount"], 3);
        assert_eq!(self.outside.mesh.weights().await.unwrap()["checkout-v1"], 100);
    }

    #[expect(clippy::print_stderr, reason = "the table of the issue")]
    fn tell(&self, what: &str) {
        eprintln!("{what}: {} kills\n  {}", self.table.len(), self.table.join("\n  "));
    }
}

/// One release whose calls are all cut at the same place.
async fn cut_calls(cut: Cut, tag: &str) {
    let outside = Outside::start(POLICY, Behaviour::Gone).await;
    let Some(fleet) = Fleet::start(&outside).await else { return };
    let (told, cuts) = mpsc::unbounded_channel();
    let mesh = Gate::start(&outside.mesh.url("appmesh"), cut, &[], told.clone()).await;
    let ecs = Gate::start(&fleet.double.url, cut, &[], told).await;
    let config = outside.config().replace(&outside.mesh.url("appmesh"), &mesh.url);
    let config = format!("{config}[database]\ndata_dir = \"{}\"\n", outside.files.at("own"));
    let mut variables = fleet.variables();
    variables.iter_mut().filter(|(name, _)| name == "AWS_ENDPOINT_URL").for_each(|(_, url)| url.clone_from(&ecs.url));
    let load = outside.mesh.load();
    let mut trial = Trial { outside, fleet, config, variables, daemon: None, cuts, table: Vec::new() };
    trial.up().await;
    mesh.cuts(true);
    ecs.cuts(true);
    let view = trial.run(tag).await;
    trial.tell(&format!("{tag}, cut {cut:?}"));
    assert!(trial.table.len() >= 10, "so few calls were cut: {:#?}", trial.table);
    if tag.contains("bad") {
        trial.expect_rolled_back(&view).await;
    } else {
        trial.expect_promoted(&view, tag).await;
    }
    assert_eq!(load.totals().1, 0, "a request was lost: {}", load.last_loss());
    load.stop().await;
    verify(&trial.outside.files.path("own")).await.expect(0);
}

#[tokio::test]
async fn a_good_release_is_promoted_though_every_call_is_cut_before_it_is_made() {
    cut_calls(Cut::Before, "v2").await;
}

#[tokio::test]
async fn a_good_release_is_promoted_though_every_answer_is_lost() {
    cut_calls(Cut::During, "v2").await;
}

#[tokio::test]
async fn a_good_release_is_promoted_though_it_is_killed_after_every_call() {
    cut_calls(Cut::After, "v2").await;
}

#[tokio::test]
async fn a_bad_release_is_rolled_back_though_every_answer_is_lost() {
    cut_calls(Cut::During, "bad2").await;
}

/// One release of which what is written into its database is all cut at the same place.
async fn cut_writes(cut: Cut, tag: &str) {
    let Some(mut server) = Server::prepare() else { return };
    let port = server.listen();
    server.run(&["-clisten_addresses=127.0.0.1"]).await;
    let outside = Outside::start(POLICY, Behaviour::Gone).await;
    let Some(fleet) = Fleet::start(&outside).await else { return };
    let (told, cuts) = mpsc::unbounded_channel();
    let gate = DatabaseGate::start(port, cut, cut_every(), told).await;
    let mut variables = fleet.variables();
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", gate.port);
    variables.push(("TIDEGATE_DATABASE_URL".to_owned(), url));
    let config = outside.config();
    let load = outside.mesh.load();
    let mut trial = Trial { outside, fleet, config, variables, daemon: None, cuts, table: Vec::new() };
    trial.up().await;
    gate.cuts(true);
    let view = trial.run(tag).await;
    trial.tell(&format!("{tag}, {} different writes, one in {} cut {cut:?}", gate.seen(), cut_every()));
    assert!(gate.seen() >= 20, "so few writes were told apart: {:#?}", trial.table);
    assert!(trial.table.len() >= 20 / cut_every(), "so few were cut: {:#?}", trial.table);
    if tag.contains("bad") {
        trial.expect_rolled_back(&view).await;
    } else {
        trial.expect_promoted(&view, tag).await;
    }
    assert_eq!(load.totals().1, 0, "a request was lost: {}", load.last_loss());
    load.stop().await;
}

#[tokio::test]
async fn a_good_release_is_promoted_though_it_is_killed_before_it_can_write() {
    cut_writes(Cut::Before, "v2").await;
}

#[tokio::test]
async fn a_good_release_is_promoted_though_it_never_learns_that_it_has_written() {
    cut_writes(Cut::During, "v2").await;
}

#[tokio::test]
async fn a_good_release_is_promoted_though_it_is_killed_after_it_has_written() {
    cut_writes(Cut::After, "v2").await;
}

#[tokio::test]
async fn a_bad_release_is_rolled_back_though_it_never_learns_that_it_has_written() {
    cut_writes(Cut::During, "bad2").await;
}
