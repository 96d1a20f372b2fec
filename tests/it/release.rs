//! A release on AWS, end to end: a signed webhook tells of an image, which is deployed into the idle service, judged step by
//! step under load, promoted, and the old service scaled in; or rolled back with the old one untouched. ECS is our double,
//! the mesh, the proxy, the database and the daemon are real.

use crate::kit::postgres::Server;
use crate::program::controllers::{Controller, Outside};
use crate::program::fleet::{FIRST_IMAGE, Fleet, image, pinned};
use crate::program::gate::{Cut, Gate};
use crate::program::github::{self, Github};
use crate::program::service::Behaviour;
use crate::program::until;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// A policy that deploys: four steps, and the old service is kept for two seconds.
pub(crate) const POLICY: &str = "\
version: 1
name: checkout
route: { mesh: shop, router: checkout-router, route: checkout }
versions: [checkout-v1, checkout-v2]
workload:
  ecs:
    cluster: prod
    services: { checkout-v1: checkout-a, checkout-v2: checkout-b }
    container: app
    keep_for: 2s
start: { on: { image: { repository: shop/checkout, tag: \"*\" } } }
notify: [{ github: { repository: shop/checkout, environment: production } }]
steps:
  - { weight: 1, min: 1s, max: 60s, prove_no_worse_than: 90pp }
  - { weight: 10, min: 1s, max: 60s, prove_no_worse_than: 40pp }
  - { weight: 50, min: 1s, max: 60s, prove_no_worse_than: 20pp }
  - { weight: 100, min: 1s }
gates:
  - { name: errors, metric: error_rate, compare: stable, tolerate: { ratio: 1.0, add: 0.1pp } }
";

/// Commits of the releases at GitHub.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const BAD_COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// A mesh, a fleet, a database, a daemon, and GitHub, which is told.
struct Shop {
    github: Github,
    /// Stands before the mesh and counts; it cuts nothing.
    mesh: Gate,
    outside: Outside,
    fleet: Fleet,
    server: Server,
    daemon: Controller,
}

impl Shop {
    async fn start() -> Option<Self> {
        let server = Server::start().await?;
        let outside = Outside::start(POLICY, Behaviour::Gone).await;
        let fleet = Fleet::start(&outside).await?;
        let github = Github::start().await;
        github.knows("v2", COMMIT);
        github.knows("bad3", BAD_COMMIT);
        let mesh = Gate::start(&outside.mesh.url("appmesh"), Cut::Before, &[], mpsc::unbounded_channel().0).await;
        let mut variables = fleet.variables();
        variables.push(("TIDEGATE_GITHUB_TOKEN".to_owned(), github::TOKEN.to_owned()));
        variables.push(("TIDEGATE_GITHUB_API_URL".to_owned(), github.url.clone()));
        variables.push(("TIDEGATE_DATABASE_URL".to_owned(), server.url().reveal().clone()));
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let config = outside.config().replace(&outside.mesh.url("appmesh"), &mesh.url);
        let daemon = outside.controller(&config, &variables).await;
        Some(Self { github, mesh, outside, fleet, server, daemon })
    }

    /// The last status of a commit, once it is as wanted.
    async fn commit_status(&self, commit: &str, wanted: &str) -> String {
        let told = until("what GitHub is told", async || {
            let (state, description) = self.github.statuses(commit, "tidegate/checkout").pop()?;
            (state == wanted).then_some(description)
        });
        told.await
    }

    /// Tells of an image as a pipeline does: no policy is named, and whichever waits for it begins.
    async fn release(&self, tag: &str) -> String {
        let body = json!({"image": image(tag), "revision": tag, "actor": "ada"}).to_string();
        let (status, answer) = self.daemon.api.hook(&body).await.unwrap();
        assert_eq!((status, &answer["rollouts"][0]["policy"]), (201, &json!("checkout")), "{answer}");
        answer["rollouts"][0]["id"].as_str().unwrap().to_owned()
    }
}

/// Calls of AWS by operation: those that the daemon made, since tests use another key.
async fn calls(fleet: &Fleet, since: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in &fleet.double.calls().await[since..] {
        *counts.entry(call["operation"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the budget of docs/aws.md")]
async fn an_image_is_deployed_promoted_and_the_next_bad_one_is_rolled_back() {
    let Some(shop) = Shop::start().await else { return };
    let load = shop.outside.mesh.load();
    let before = shop.fleet.definition("checkout-b").await;
    let stable_before = shop.fleet.service("checkout-a").await;
    let since = shop.fleet.double.calls().await.len();

    let id = shop.release("v2").await;
    let view = shop.daemon.api.end(&id).await;
    assert_eq!(view["phase"], "succeeded", "{view}");
    assert_eq!(view["started_by"], json!({ "name": "ada", "via": "hook:generic" }));
    let counts = calls(&shop.fleet, since).await;
    eprintln!("calls of ECS for a promoted release: {counts:?}, {} in all", counts.values().sum::<usize>());
    assert_eq!((counts["RegisterTaskDefinition"], counts["UpdateService"]), (1, 2), "{counts:?}");
    // Writing a step's weights reads the route first: nothing else of it may change.
    let (reads, writes) = (shop.mesh.came("mesh GET").len(), shop.mesh.came("mesh PUT").len());
    eprintln!("calls of App Mesh for it: DescribeRoute {reads}, UpdateRoute {writes}");
    assert_eq!(writes, 4, "one for each step");
    // The new revision differs in the image alone, runs in as many tasks as stable did, and the old slot has none.
    let mut expected = before;
    expected["containerDefinitions"][0]["image"] = json!(pinned("v2"));
    assert_eq!(shop.fleet.definition("checkout-b").await, expected);
    assert_eq!(shop.fleet.running("checkout-b").await, vec![pinned("v2"); 3]);
    assert_eq!(shop.fleet.service("checkout-a").await["desiredCount"], 0);
    assert_eq!(shop.fleet.service("checkout-a").await["taskDefinition"], stable_before["taskDefinition"]);
    assert_eq!(load.totals().1, 0, "a request was lost: {}", load.last_loss());
    assert_eq!(shop.commit_status(COMMIT, "success").await, "100 %: every step passed");

    // The next one goes into the slot that is idle now.
    let stable_before = shop.fleet.service("checkout-b").await;
    let id = shop.release("bad3").await;
    let view = shop.daemon.api.end(&id).await;
    assert_eq!(view["phase"], "rolled_back", "{view}");
    assert_eq!(view["canary"], "checkout-v1");
    // Whoever pushed the commit reads why, and where.
    let said = shop.commit_status(BAD_COMMIT, "failure").await;
    assert!(said.starts_with("rolled back: canary ") && said.contains(" failed"), "{said}");
    let deployments = shop.github.deployments();
    let ends: Vec<_> = deployments.iter().map(|(one, states)| (&one["sha"], states.last().unwrap().as_str())).collect();
    assert_eq!(ends, [(&json!(COMMIT), "success"), (&json!(BAD_COMMIT), "failure")], "{deployments:?}");
    let stable_after = shop.fleet.service("checkout-b").await;
    for member in ["taskDefinition", "desiredCount", "runningCount"] {
        assert_eq!(stable_after[member], stable_before[member], "stable's service is not touched");
    }
    assert_eq!(shop.fleet.service("checkout-a").await["desiredCount"], 0);
    assert_eq!((shop.fleet.revisions("checkout-v1").await, shop.fleet.revisions("checkout-v2").await), (2, 2));
    let weights = shop.daemon.api.weights().await.unwrap();
    assert_eq!(weights["checkout-v2"], 100, "{weights:?}");
    let (sent, lost) = load.totals();
    assert_eq!(lost, 0, "a request of {sent} was lost: {}", load.last_loss());
    load.stop().await;
    assert_eq!(shop.fleet.running("checkout-a").await, Vec::<String>::new());
    assert!(FIRST_IMAGE.ends_with(":v1"));
}

/// What a person reads of a release that does not come up: why, by what ECS says; no request ever reached it.
#[tokio::test]
async fn a_release_that_does_not_come_up_gets_no_traffic() {
    let Some(shop) = Shop::start().await else { return };
    let load = shop.outside.mesh.load();
    shop.fleet.double.control("ecs/behave", json!({ "image": pinned("v2"), "kind": "crash", "after": 0 })).await;
    let id = shop.release("v2").await;
    let view = shop.daemon.api.end(&id).await;
    assert_eq!(view["phase"], "rolled_back", "{view}");
    let reason = view["reason"].as_str().unwrap();
    assert!(reason.contains("tasks stopped: Essential container in task exited: app exit code 1"), "{view}");
    assert_eq!(shop.fleet.service("checkout-b").await["desiredCount"], 0);
    let requests: Value = shop.outside.services[1].requests().into();
    assert_eq!(requests, 0, "the release got requests");
    assert_eq!(load.totals().1, 0);
    load.stop().await;
}

/// What AWS refuses ends the release before it has any traffic, and whoever pushed the commit reads what is missing.
#[tokio::test]
async fn a_right_that_is_missing_is_told_where_the_commit_is() {
    let Some(shop) = Shop::start().await else { return };
    shop.fleet.double.fault("RegisterTaskDefinition", "deny", json!({})).await;
    let id = shop.release("v2").await;
    let view = shop.daemon.api.end(&id).await;
    let missing = "not allowed: ecs:RegisterTaskDefinition on family checkout-v2; add it to the role";
    assert!(view["phase"] == "rolled_back" && view["reason"].as_str().unwrap().contains(missing), "{view}");
    let said = shop.commit_status(COMMIT, "failure").await;
    assert!(said.contains("not allowed: ecs:RegisterTaskDefinition on family checkout-v2"), "{said}");
    assert_eq!((shop.fleet.revisions("checkout-v2").await, &shop.fleet.running("checkout-b").await[..]), (1, &[][..]));
    assert_eq!(shop.outside.services[1].requests(), 0);
}

/// Somebody deletes the service that the release runs in, while it has traffic.
#[tokio::test]
async fn a_service_that_is_deleted_under_its_release_ends_it() {
    let Some(shop) = Shop::start().await else { return };
    let load = shop.outside.mesh.load();
    let id = shop.release("v2").await;
    shop.daemon.api.until(&id, "a share", |view| view["weights"]["checkout-v2"] == 10).await;
    let delete = json!({ "cluster": "prod", "service": "checkout-b", "force": true });
    shop.fleet.double.ecs("DeleteService", delete).await;
    let view = shop.daemon.api.end(&id).await;
    assert_eq!(view["phase"], "rolled_back", "{view}");
    assert_eq!(shop.daemon.api.weights().await.unwrap()["checkout-v1"], 100);
    load.stop().await;
    // The next one says at once what is missing.
    let id = shop.release("bad3").await;
    let view = shop.daemon.api.end(&id).await;
    let reason = view["reason"].as_str().unwrap();
    assert!(reason.contains("service checkout-b in cluster prod") && reason.contains("create it"), "{view}");
}

/// The database goes away in the middle of a release and comes back: nothing is decided meanwhile, no request is lost.
#[tokio::test]
async fn a_database_that_is_restarted_under_a_release_delays_it() {
    let Some(mut shop) = Shop::start().await else { return };
    let load = shop.outside.mesh.load();
    let id = shop.release("v2").await;
    shop.daemon.api.until(&id, "a share", |view| view["weights"]["checkout-v2"] == 10).await;
    shop.server.stop();
    // Requests go on by the last weights.
    let (sent, _) = load.totals();
    until("more requests", async || (load.totals().0 > sent + 300).then_some(())).await;
    let weights = shop.daemon.api.weights().await.unwrap();
    assert!([10, 50].contains(&weights["checkout-v2"]), "{weights:?}");
    shop.server.run(&[]).await;
    until("the end", async || {
        let (status, view) = shop.daemon.api.try_api(&format!("/v1/rollouts/{id}")).await?;
        (status == 200 && view["finished"] == true).then(|| assert_eq!(view["phase"], "succeeded", "{view}"))
    })
    .await;
    assert_eq!(load.totals().1, 0, "a request was lost: {}", load.last_loss());
    load.stop().await;
    assert_eq!(shop.fleet.revisions("checkout-v2").await, 2);
    assert_eq!(shop.commit_status(COMMIT, "success").await, "100 %: every step passed");
}
