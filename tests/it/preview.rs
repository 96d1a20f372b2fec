//! The new version by a header, before any weight: as the example's route, and as part of a rollout, on a real daemon.

use crate::program::service::Behaviour;
use crate::program::world::{Daemon, HOST, QUICK, World};
use crate::program::{run, text, until};
use axum::Router;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use tidegate::demo::service::VERSION_HEADER;

async fn who_answers(world: &World, preview: Option<&str>) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = http.get(world.daemon.url("egress")).header("host", HOST);
    if let Some(value) = preview {
        request = request.header("x-preview", value);
    }
    let answer = request.send().await.unwrap();
    answer.headers()[VERSION_HEADER].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_header_previews_the_new_version_before_any_weight() {
    let world = World::start().await;
    let endpoint = world.daemon.url("appmesh");
    let apply = ["mesh", "apply", "--yes", "-f", "examples/preview/route.yaml", "--endpoint-url", &endpoint];
    let applied = run(&apply).await.expect(0);
    assert!(applied.stdout.contains("created route checkout-router/checkout-preview"), "{}", applied.stdout);
    assert_eq!(who_answers(&world, Some("1")).await, "v2");
    assert_eq!(who_answers(&world, Some("0")).await, "v1");
    assert_eq!(who_answers(&world, None).await, "v1");
    assert_eq!(world.daemon.weights().await.unwrap()["checkout-v2"], 0);
}

#[tokio::test]
async fn a_page_of_another_site_reaches_neither_the_mesh_nor_the_admin_pages() {
    let world = World::start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (name, path) in [("admin", "/quitquitquit"), ("admin", "/drain_listeners"), ("appmesh", "/v20190125/meshes")] {
        let request = http.post(format!("{}{path}", world.daemon.url(name))).header("origin", "http://evil.example");
        assert_eq!(request.send().await.unwrap().status().as_u16(), 403, "{name}{path}");
    }
    assert_eq!(who_answers(&world, None).await, "v1");
}

// === as part of a rollout ===

/// Whoever judges the preview: asked by a webhook, and answers as it is told to.
struct Judge {
    url: String,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
}

impl Judge {
    async fn start(status: StatusCode) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (status, asked) = (Arc::new(AtomicU16::new(status.as_u16())), Arc::new(AtomicUsize::new(0)));
        let (answers, counts) = (Arc::clone(&status), Arc::clone(&asked));
        let router = Router::new().fallback(async move || {
            counts.fetch_add(1, Ordering::SeqCst);
            StatusCode::from_u16(answers.load(Ordering::SeqCst)).unwrap()
        });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, status, asked }
    }
}

/// The quick policy with a preview, and with a gate that asks this judge.
fn policy(lasts: &str, judge: Option<&Judge>) -> String {
    let gate = judge.map_or_else(String::new, |judge| {
        format!("  - {{ name: smoke, webhook: {{ url: \"{}\", interval: 1s }}, breaches: 2 }}\n", judge.url)
    });
    format!("{QUICK}{gate}preview: {{ header: {{ name: x-preview, value: \"1\" }}, for: {lasts} }}\n")
}

/// The policy of the documentation, as fast as a test would have it.
fn example(judge: &Judge) -> String {
    let text = std::fs::read_to_string("policies/smoke-tests.yaml").unwrap();
    let steps = "steps: [{ weight: 50, min: 1s, prove_no_worse_than: 20pp }, { weight: 100, min: 1s }]";
    let mut moved = text.clone();
    for (from, to) in [
        ("name: checkout-smoke", "name: checkout"),
        ("for: 30s", "for: 1s"),
        ("steps: [1, 10, 50, 100]", steps),
        ("interval: 5s", "interval: 1s"),
        ("interval: 10s", "interval: 1s"),
        ("http://tests.internal:8080/verdict", &judge.url),
    ] {
        assert!(moved.contains(from), "the example has no `{from}` any more");
        moved = moved.replace(from, to);
    }
    moved
}

/// The route under the preview's name, as the mesh has it.
async fn preview_route(daemon: &Daemon) -> Option<Value> {
    let path = "/v20190125/meshes/shop/virtualRouter/checkout-router/routes/checkout-preview";
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(format!("{}{path}", daemon.url("appmesh"))).send().await.unwrap();
    match answer.status().as_u16() {
        404 => None,
        status => {
            assert_eq!(status, 200);
            Some(answer.json().await.unwrap())
        }
    }
}

fn is_in_force(view: &Value) -> bool {
    view["preview"]["until"].is_string()
}

#[tokio::test]
async fn a_rollout_shows_its_release_by_a_header_before_any_user_gets_it() {
    let world = World::with("", &policy("1h", None)).await;
    let load = world.daemon.load();
    let id = world.daemon.start_rollout().await;
    let view = world.daemon.until(&id, "the preview", is_in_force).await;
    assert_eq!((text(&view["phase"]).as_str(), &view["step"]), ("baking", &json!(1)));
    assert_eq!(view["preview"]["header"], "x-preview: 1");
    // Whoever has the header gets the release, however bad it is, and nobody else does.
    world.canary.behave(Behaviour::FailsEvery(2));
    for _ in 0..40 {
        assert_eq!(who_answers(&world, Some("1")).await, "v2");
        assert_eq!(who_answers(&world, Some("0")).await, "v1");
        assert_eq!(who_answers(&world, None).await, "v1");
    }
    assert_eq!(load.seen("v2").requests, 0, "no user got it");
    world.canary.behave(Behaviour::Good);
    assert_eq!(world.daemon.weights().await.unwrap()["checkout-v2"], 0);
    let made = preview_route(&world.daemon).await.unwrap();
    assert_eq!(made["spec"]["priority"], 1000);
    let line = run(&["rollout", "get", &id, "--server", &world.daemon.url("api")]).await.expect(0).stdout;
    assert!(line.contains("preview"), "{line}");
    let (status, view) =
        world.daemon.post(&format!("/v1/rollouts/{id}/promote"), &json!({"reason": "tests passed"})).await;
    assert_eq!(status, 200, "{view}");
    let end = world.daemon.end(&id).await;
    assert_eq!(end["phase"], "succeeded", "{end}");
    assert_eq!(end["evidence"]["canary_errors"], 0, "requests of the preview are judged by nobody");
    assert_eq!(preview_route(&world.daemon).await, None);
    assert_eq!(who_answers(&world, None).await, "v2");
    drop(load);
    world.verify().await.expect(0);
}

#[tokio::test]
async fn its_time_over_and_its_tests_passed_the_first_step_comes() {
    let judge = Judge::start(StatusCode::SERVICE_UNAVAILABLE).await;
    let world = World::with("", &example(&judge)).await;
    let load = world.daemon.load();
    let id = world.daemon.start_rollout().await;
    let waits = |view: &Value| view["phase"] == "judging" && view["preview"].is_object();
    world.daemon.until(&id, "its time to be over", waits).await;
    let asked = judge.asked.load(Ordering::SeqCst);
    until("two more questions", async || (judge.asked.load(Ordering::SeqCst) > asked + 1).then_some(())).await;
    assert!(waits(&world.daemon.view(&id).await), "no answer is no yes");
    assert_eq!(world.daemon.weights().await.unwrap()["checkout-v2"], 0);
    judge.status.store(StatusCode::OK.as_u16(), Ordering::SeqCst);
    let end = world.daemon.end(&id).await;
    assert_eq!((&end["phase"], preview_route(&world.daemon).await), (&json!("succeeded"), None), "{end}");
    drop(load);
}

#[tokio::test]
async fn a_test_that_fails_ends_it_before_any_request_of_a_user_reached_the_release() {
    let judge = Judge::start(StatusCode::UNPROCESSABLE_ENTITY).await;
    let world = World::with("", &policy("1h", Some(&judge))).await;
    let load = world.daemon.load();
    let id = world.daemon.start_rollout().await;
    let end = world.daemon.end(&id).await;
    assert_eq!(end["phase"], "rolled_back", "{end}");
    assert!(text(&end["reason"]).contains("smoke"), "{end}");
    assert_eq!((world.canary.requests(), preview_route(&world.daemon).await), (0, None));
    drop(load);
}

#[tokio::test]
async fn a_daemon_that_is_killed_in_a_preview_goes_on_with_it() {
    let mut world = World::with("", &policy("1h", None)).await;
    let id = world.daemon.start_rollout().await;
    world.daemon.until(&id, "the preview", is_in_force).await;
    world.daemon.process.kill().await;
    world.daemon = Daemon::start(&world.files.local(&std::collections::BTreeMap::new())).await;
    let view = world.daemon.until(&id, "the preview", is_in_force).await;
    assert_eq!(view["phase"], "baking", "{view}");
    assert_eq!(who_answers(&world, Some("1")).await, "v2");
    let (status, view) = world.daemon.post(&format!("/v1/rollouts/{id}/abort"), &json!({"reason": "enough"})).await;
    assert_eq!(status, 200, "{view}");
    assert_eq!((&world.daemon.end(&id).await["phase"], preview_route(&world.daemon).await), (&json!("aborted"), None));
    world.verify().await.expect(0);
}

#[tokio::test]
async fn a_start_whose_preview_cannot_be_made_is_refused_with_what_to_do() {
    let world = World::with("", &policy("1h", None)).await;
    let endpoint = world.daemon.url("appmesh");
    let refused = async |what: &str| {
        let (status, problem) = world.daemon.post("/v1/rollouts", &json!({"policy": "checkout"})).await;
        assert_eq!(status, 409, "{problem}");
        assert!(problem.to_string().contains(what), "{problem}");
    };
    let apply = ["mesh", "apply", "--yes", "-f", "examples/preview/route.yaml", "--endpoint-url", &endpoint];
    run(&apply).await.expect(0);
    refused("aws appmesh delete-route").await;
    assert!(preview_route(&world.daemon).await.is_some(), "it is not ours to remove");
    // A route that is tried first of all leaves no place before it.
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let routes = format!("{endpoint}/v20190125/meshes/shop/virtualRouter/checkout-router/routes");
    assert!(http.delete(format!("{routes}/checkout-preview")).send().await.unwrap().status().is_success());
    let route: Value = http.get(format!("{routes}/checkout")).send().await.unwrap().json().await.unwrap();
    let mut spec = route["spec"].clone();
    spec["priority"] = json!(0);
    let written = http.put(format!("{routes}/checkout")).json(&json!({ "spec": spec })).send().await.unwrap();
    assert!(written.status().is_success());
    refused("priority 0").await;
}
