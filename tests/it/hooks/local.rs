//! Hooks and pushed policies of daemons, from outside: of `tidegate local`, and of `tidegate serve` over its mesh.

use super::{sh, tools};
use crate::program::service::Service;
use crate::program::world::{Answer, Api, Daemon, Files, HOOK_SECRET, QUICK, strs};
use crate::program::{Process, text, until};
use crate::program::{command, run};
use crate::shell::Page;
use serde_json::Value;
use std::collections::BTreeMap;

/// Services, files and a daemon that takes two of the hooks.
struct World {
    files: Files,
    daemon: Daemon,
    _services: [Service; 2],
}

async fn world() -> World {
    let services = [Service::start("v1").await, Service::start("v2").await];
    let files = Files::new([services[0].address.port(), services[1].address.port()], "");
    let daemon = Daemon::spawn(daemon(&files, HOOK_SECRET)).await;
    World { files, daemon, _services: services }
}

fn daemon(files: &Files, secret: &str) -> tokio::process::Command {
    let mut command = command(&strs(&files.local(&BTreeMap::new())));
    command.env("TIDEGATE_HOOK_SECRET_GENERIC", secret).env("TIDEGATE_HOOK_SECRET_ECR", HOOK_SECRET);
    command
}

impl World {
    /// A signed request of the generic hook.
    async fn signed(&self, body: &str) -> Answer {
        self.daemon.hook(body).await.unwrap()
    }

    async fn push(&self, files: &[&str]) -> crate::program::Ran {
        let paths: Vec<String> = files.iter().map(|name| self.files.at(name)).collect();
        self.daemon.run(&[&["policy", "push"], &strs(&paths)[..]].concat()).await
    }
}

#[tokio::test]
async fn the_line_for_a_laptop_starts_a_rollout_once() {
    if !tools().await {
        return;
    }
    let world = world().await;
    let load = world.daemon.load();
    let page = Page::of("docs/TRIGGERS.md", "the_line_for_a_laptop_starts_a_rollout_once");
    let block = page.raw("laptop");
    let send = async || {
        let output = sh(world.daemon.addresses["api"], &["-euc", block]).output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
    };
    let first = send().await;
    let id = text(&first["rollouts"][0]["id"]);
    assert_eq!(first["rollouts"][0]["url"], format!("/v1/rollouts/{id}"));
    let second = send().await;
    assert_eq!((text(&second["rollouts"][0]["id"]), &second["repeated"]), (id.clone(), &Value::Bool(true)));
    let end = world.daemon.end(&id).await;
    assert_eq!((text(&end["phase"]), text(&end["revision"])), ("succeeded".to_owned(), "v2".to_owned()), "{end}");
    assert_eq!(text(&end["started_by"]["via"]), "hook:generic");
    drop(load);
}

#[tokio::test]
async fn a_newer_revision_supersedes_the_live_one_and_pending_starts_are_shown() {
    let world = world().await;
    let (status, first) = world.signed(r#"{"policy":"checkout","revision":"r1"}"#).await;
    assert_eq!(status, 201, "{first}");
    let first = text(&first["rollouts"][0]["id"]);
    let (status, second) = world.signed(r#"{"policy":"checkout","revision":"r2"}"#).await;
    assert_eq!(status, 202, "{second}");
    let second = text(&second["rollouts"][0]["id"]);
    let view = world.daemon.view(&second).await;
    assert_eq!(text(&view["phase"]), "pending", "{view}");
    assert!(text(&view["reason"]).contains(&first), "{view}");
    let (_, list) = world.daemon.try_api("/v1/rollouts").await.unwrap();
    assert_eq!(text(&list["rollouts"][0]["id"]), second, "{list}");
    world.daemon.run(&["rollout", "get", &second]).await.expect(0);
    let end = world.daemon.end(&first).await;
    assert_eq!(text(&end["phase"]), "superseded");
    // `rollout watch` of one that was superseded says that it failed.
    world.daemon.run(&["rollout", "watch", &first]).await.expect(1);
    world.daemon.until(&second, "its first step", |view| view["phase"] != "pending").await;
    let (_, aborted) = world.daemon.post(&format!("/v1/rollouts/{second}/abort"), &serde_json::json!({})).await;
    assert_eq!(text(&aborted["phase"]), "rolling_back", "{aborted}");
}

#[tokio::test]
async fn what_is_not_taken_says_why() {
    let world = world().await;
    let check = |(status, body): Answer, expected: (u16, &str), says: &str| {
        assert_eq!((status, text(&body["type"])), (expected.0, format!("tidegate:{}", expected.1)), "{body}");
        let told = format!("{} {}", text(&body["detail"]), body["hint"].as_str().unwrap_or_default());
        assert!(told.contains(says), "{told}");
    };
    let post = async |path: &str, body: &str| world.daemon.text("POST", path, &[], body).await;
    check(post("/v1/hooks/github", "{}").await, (404, "hook-not-configured"), "TIDEGATE_HOOK_SECRET_GITHUB");
    check(post("/v1/hooks/slack", "{}").await, (404, "no-such-hook"), "generic, github, gitlab, ecr, registry");
    check(post("/v1/hooks/generic", "{}").await, (401, "not-believed"), "`x-tidegate-signature` is missing");
    let large = "x".repeat(1024 * 1024 + 1);
    check(post("/v1/hooks/generic", &large).await, (413, "body-too-large"), "");
    check(world.signed("{}").await, (400, "bad-body"), "one of `policy`, `image` and `repository` is needed");
    check(world.signed(r#"{"policy":"cart"}"#).await, (404, "no-such-policy"), "(there are: checkout)");
    let image = r#"{"policy":"checkout","image":"shop/checkout:v2"}"#;
    check(world.signed(image).await, (409, "refused"), "has no `workload`");
    let (status, nothing) = world.signed(r#"{"image":"shop/checkout:v2"}"#).await;
    let expected = "no policy waits for a pushed image: `start.on` says what one waits for";
    assert_eq!((status, nothing["nothing"][0].as_str()), (200, Some(expected)));
    // What a registry sends is nobody's to correct: 200, or it would send it again.
    let event = include_str!("../../golden/hooks/ecr-delete.json");
    let headers = [("authorization", &*format!("Bearer {HOOK_SECRET}"))];
    let (status, nothing) = world.daemon.text("POST", "/v1/hooks/ecr", &headers, event).await;
    assert_eq!((status, nothing["rollouts"].as_array().map(Vec::len)), (200, Some(0)), "{nothing}");
    assert!(!world.daemon.process.stderr.text().contains("quoted"), "no log has a part of the secret");
}

#[tokio::test]
async fn a_secret_that_can_be_guessed_is_refused_at_the_start() {
    let files = Files::new([1, 2], "");
    let ran = crate::program::finish(daemon(&files, "hunter2")).await.expect(2);
    ran.says(&["the secret of the hook `generic`", "TIDEGATE_HOOK_SECRET_GENERIC", "a secret has 16 to 512 bytes"]);
}

#[tokio::test]
async fn policies_are_pushed_in_versions() {
    let world = world().await;
    let cart = QUICK.replace("name: checkout", "name: cart");
    world.files.write("cart.yaml", &cart);
    world.files.write("bad.yaml", "version: 1\nname: bad\n");
    let ran = world.push(&["cart.yaml", "bad.yaml"]).await.expect(2);
    ran.says(&["bad.yaml:1:1: missing key `route`", "so nothing was pushed"]);
    assert_eq!(world.daemon.try_api("/v1/policies/cart").await.unwrap().0, 404);
    let version = async || world.push(&["cart.yaml"]).await.expect(0).json()[0]["version"].clone();
    assert_eq!((version().await, version().await), (1.into(), 1.into()), "the same text is no new version");
    world.files.write("cart.yaml", &cart.replace("min: 1s", "min: 2s"));
    assert_eq!(version().await, 2);
    let (_, entry) = world.daemon.try_api("/v1/policies/cart").await.unwrap();
    assert_eq!((&entry["version"], &entry["valid"]), (&2.into(), &Value::Bool(true)));
    assert_eq!(
        (text(&entry["actor"]["name"]), text(&entry["text"])),
        ("tester".into(), cart.replace("min: 1s", "min: 2s"))
    );
    let put = async |name: &str, body: &str| world.daemon.text("PUT", &format!("/v1/policies/{name}"), &[], body).await;
    let (status, problem) = put("cart", "version: 1\nname: cart\nsteps: []\n").await;
    assert_eq!((status, text(&problem["type"])), (422, "tidegate:invalid-policy".into()));
    let detail = text(&problem["detail"]);
    assert!(
        detail.contains("cart:1:1: missing key `route`") && detail.contains("what was in force stays so"),
        "{detail}"
    );
    assert_eq!(world.daemon.try_api("/v1/policies/cart").await.unwrap().1["version"], 2, "the last good one stays");
    let (status, problem) = put("basket", &cart).await;
    assert_eq!(status, 422);
    assert!(text(&problem["detail"]).contains("the policy `cart`, and it was pushed as `basket`"), "{problem}");
    assert_eq!(put("cart", &"#".repeat(256 * 1024 + 1)).await.0, 413);
    // The directory has the word.
    world.files.write("checkout.yaml", &QUICK.replace("min: 1s", "min: 2s"));
    let ran = world.push(&["checkout.yaml"]).await.expect(1);
    ran.says(&["the policy `checkout` comes from a file of the daemon's directory", "change the file there"]);
    // And what was pushed can be started.
    let (status, begun) = world.signed(r#"{"policy":"cart","revision":"v2"}"#).await;
    assert_eq!(status, 201, "{begun}");
    run(&["journal", "verify", "--data-dir", &world.files.at("data")]).await.expect(0);
}

/// `tidegate serve` on a database of its own, with the mesh and the proxy of a local daemon.
async fn serve(world: &World) -> (Process, Api) {
    let config = format!(
        "[api]\nlisten = \"127.0.0.1:0\"\nauth = \"none\"\npublic_url = \"https://tidegate.example.com/\"\n\
         [database]\ndata_dir = \"{}\"\n[policies]\ndirectory = \"{}\"\n\
         [mesh]\nendpoint_url = \"{}\"\nsigning = \"none\"\n[telemetry]\nproxies = [\"{}\"]\n[hooks]\ngeneric = '''{HOOK_SECRET}'''\n",
        world.files.at("served"),
        world.files.at("policies"),
        world.daemon.url("appmesh"),
        world.daemon.url("admin"),
    );
    world.files.write("tidegate.toml", &config);
    let process = Process::spawn(command(&["serve", "--config", &world.files.at("tidegate.toml"), "--output", "json"]));
    let address =
        until("it listens", async || process.stdout.events("listening").first().map(|event| text(&event["address"])));
    let addresses = BTreeMap::from([("api".to_owned(), address.await.parse().unwrap())]);
    let mut api = world.daemon.api.clone();
    api.addresses = addresses;
    (process, api)
}

#[tokio::test]
async fn a_served_daemon_that_is_killed_begins_what_had_been_asked_for() {
    let world = world().await;
    let (process, api) = serve(&world).await;
    let drives = until("it drives", async || api.try_api("/v1/rollouts").await.filter(|(status, _)| *status == 200));
    drives.await;
    let (status, first) = api.hook(r#"{"policy":"checkout","revision":"r1"}"#).await.unwrap();
    assert_eq!(status, 201, "{first}");
    let (first, url) = (text(&first["rollouts"][0]["id"]), text(&first["rollouts"][0]["url"]));
    assert_eq!(url, format!("https://tidegate.example.com/v1/rollouts/{first}"));
    let (status, second) = api.hook(r#"{"policy":"checkout","revision":"r2"}"#).await.unwrap();
    assert_eq!(status, 202, "{second}");
    let second = text(&second["rollouts"][0]["id"]);
    process.kill().await;
    let (_process, api) = serve(&world).await;
    let begun = until("the second one begins", async || {
        let (status, view) = api.try_api(&format!("/v1/rollouts/{second}")).await?;
        (status == 200 && view["phase"] != "pending").then_some(view)
    });
    assert_eq!(text(&begun.await["revision"]), "r2");
    assert_eq!(text(&api.view(&first).await["phase"]), "superseded");
    let (_, list) = api.try_api("/v1/rollouts").await.unwrap();
    assert_eq!(list["rollouts"].as_array().map(Vec::len), Some(2), "{list}");
}
