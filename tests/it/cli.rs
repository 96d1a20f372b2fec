//! Every command as a person types it: what it prints where, and its exit code.

use crate::program::service::{Behaviour, Service};
use crate::program::world::{Daemon, Files, World, verify};
use crate::program::{command, finish, golden, run, text};
use std::collections::BTreeMap;

const COMMANDS: [&[&str]; 41] = [
    &[],
    &["demo"],
    &["local"],
    &["serve"],
    &["proxy"],
    &["doctor"],
    &["rollout"],
    &["rollout", "start"],
    &["rollout", "list"],
    &["rollout", "get"],
    &["rollout", "watch"],
    &["rollout", "report"],
    &["rollout", "pause"],
    &["rollout", "resume"],
    &["rollout", "promote"],
    &["rollout", "abort"],
    &["rollout", "approve"],
    &["rollout", "reject"],
    &["rollout", "retry"],
    &["mesh"],
    &["mesh", "validate"],
    &["mesh", "diff"],
    &["mesh", "apply"],
    &["mesh", "export"],
    &["envoy"],
    &["envoy", "bootstrap"],
    &["policy"],
    &["policy", "lint"],
    &["policy", "schema"],
    &["policy", "explain"],
    &["policy", "simulate"],
    &["policy", "replay"],
    &["policy", "push"],
    &["token"],
    &["token", "create"],
    &["token", "list"],
    &["token", "revoke"],
    &["journal"],
    &["journal", "verify"],
    &["journal", "export"],
    &["health"],
];

#[tokio::test]
async fn every_command_explains_itself() {
    for words in COMMANDS {
        let ran = run(&[words, &["--help"]].concat()).await.expect(0);
        assert_eq!(ran.stderr, "");
        golden(&format!("{}.txt", [&["help"], words].concat().join("-")), &ran.stdout);
    }
    let version = run(&["--version"]).await.expect(0);
    assert_eq!(version.stdout, format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn wrong_usage_is_2_and_says_so_on_stderr() {
    let wrong: [&[&str]; 11] = [
        &[],
        &["fly"],
        &["rollout"],
        &["rollout", "start"],
        &["rollout", "promote", "checkout"],
        &["rollout", "start", "checkout", "--wait-timeout-s", "5"],
        &["rollout", "list", "--output", "xml"],
        &["local", "--api", "7070"],
        &["demo", "--scenario", "ugly"],
        &["policy", "lint"],
        &["rollout", "list", "--server", "127.0.0.1:7070"],
    ];
    for arguments in wrong {
        let ran = run(arguments).await.expect(2);
        assert_eq!(ran.stdout, "", "{arguments:?}");
        assert!(!ran.stderr.is_empty(), "{arguments:?}");
    }
    let mut bad_filter = command(&["health"]);
    bad_filter.env("TIDEGATE_LOG", "tidegate=shouting");
    finish(bad_filter).await.expect(2).says(&["TIDEGATE_LOG=tidegate=shouting is not a filter", "for example"]);
}

#[tokio::test]
async fn lint_tells_valid_files_from_others() {
    let ours = run(&["policy", "lint", "policies", "--output", "json"]).await.expect(0);
    assert!(ours.json().len() >= 3 && ours.json().iter().all(|line| line["valid"] == true), "{}", ours.stdout);
    assert!(ours.json().iter().any(|line| line["warnings"][0].as_str().is_some_and(|text| text.contains("one step"))));
    run(&["policy", "lint", "policies/quick-start.yaml"]).await.expect(0).says(&[]);

    let files = Files::new([1, 2], "");
    files.write("policies/slip.yaml", "version: 1\nname: slip\nrout: { mesh: m, router: r, route: x }\n");
    std::fs::write(files.path("policies/bytes.yaml"), b"version: 1 # \xff\n").unwrap();
    let (missing, directory) = (files.at("missing.yaml"), files.at("policies"));
    let both = run(&["policy", "lint", &missing, &directory, "--output", "json"]).await.expect(2);
    let valid: Vec<bool> = both.json().iter().map(|line| line["valid"] == true).collect();
    // missing, bytes, checkout, slip: one bad file keeps no other from being looked at.
    assert_eq!(valid, [false, false, true, false]);
    let slip = both.json()[3]["problems"].to_string();
    assert!(slip.contains("slip.yaml:3:1: ") && slip.contains("`route`"), "{slip}");
    assert!(both.json()[0]["problems"][0].as_str().unwrap().contains("cannot be read"));
    assert_eq!(both.stderr, "");

    let people = run(&["policy", "lint", &directory]).await.expect(2);
    assert!(people.stdout.contains("checkout.yaml: valid, 3 steps\n"), "{}", people.stdout);
    people.says(&["error: ", "slip.yaml:3:1: "]);
    std::fs::create_dir(files.path("empty")).unwrap();
    run(&["policy", "lint", &files.at("empty")]).await.expect(2).says(&["no policy files"]);
}

#[tokio::test]
async fn explain_says_what_a_policy_does() {
    let file = "policies/quick-start.yaml";
    let prose = run(&["policy", "explain", file, "--rate", "200"]).await.expect(0);
    assert!(prose.stdout.contains("Steps\n  1. 10 %") && prose.stderr.is_empty(), "{prose:?}");
    let json = run(&["policy", "explain", file, "--output", "json"]).await.expect(0).json().remove(0);
    assert_eq!((&json["policy"], &json["plan"]["name"]), (&"checkout".into(), &"checkout".into()));
    for rate in ["0", "-1", "nan", "many"] {
        run(&["policy", "explain", file, "--rate", rate]).await.expect(2);
    }
    let files = Files::new([1, 2], "");
    files.write("bad.yaml", "version: 1\nnam: x\n");
    let bad = run(&["policy", "explain", &files.at("bad.yaml")]).await.expect(2);
    assert_eq!(bad.stdout, "");
    bad.says(&["bad.yaml:2:1: ", "bad.yaml is not valid"]);
    run(&["policy", "explain", &files.at("missing.yaml")]).await.expect(2).says(&["missing.yaml: cannot be read"]);
}

#[tokio::test]
async fn the_schema_is_one_json_document_and_the_reference_one_page() {
    for form in ["human", "json"] {
        let ran = run(&["policy", "schema", "--output", form]).await.expect(0);
        let schema: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(schema["properties"]["steps"].is_object());
        assert_eq!(ran.stderr, "");
    }
    let page = run(&["policy", "schema", "--markdown"]).await.expect(0);
    assert_eq!(page.stdout, std::fs::read_to_string("docs/policies.md").unwrap());
}

/// A good release, then a bad one into the other slot; all that can be asked about them afterwards.
#[tokio::test]
async fn a_release_from_start_to_journal() {
    let world = World::start().await;
    let daemon = &world.daemon;
    let load = daemon.load();
    let waited = daemon.run(&["rollout", "start", "checkout", "--wait", "--revision", "r1"]).await.expect(0);
    let last = waited.json().pop().unwrap();
    assert_eq!((&last["phase"], &last["revision"]), (&"succeeded".into(), &"r1".into()));
    assert_eq!((&last["started_by"]["name"], &last["weights"]["checkout-v2"]), (&"tester".into(), &100.into()));
    assert!(waited.stderr.contains("started r-"), "{}", waited.stderr);

    world.stable.behave(Behaviour::FailsEvery(2));
    let bad = daemon.run(&["rollout", "start", "checkout", "--to", "checkout-v1", "--wait"]).await.expect(3);
    let bad = bad.json().pop().unwrap();
    assert_eq!((&bad["phase"], &bad["canary"]), (&"rolled_back".into(), &"checkout-v1".into()));
    let id = text(&bad["id"]);
    for (name, phase) in [(id.as_str(), "rolled_back"), ("checkout", "rolled_back"), (&text(&last["id"]), "succeeded")]
    {
        let got = daemon.run(&["rollout", "get", name]).await.expect(0);
        assert_eq!((got.json().len(), &got.json()[0]["phase"], got.stderr.as_str()), (1, &phase.into(), ""));
    }
    daemon.run(&["rollout", "watch", &id]).await.expect(3);
    daemon.run(&["rollout", "watch", &text(&last["id"])]).await.expect(0);
    let list = daemon.run(&["rollout", "list"]).await.expect(0);
    assert_eq!(list.json()[0]["rollouts"].as_array().unwrap().len(), 2);
    load.stop().await;
    journal(world).await;
}

/// The journal beside a daemon, after it, and after someone tampered with it.
async fn journal(world: World) {
    let beside = world.verify().await.expect(0);
    assert_eq!(beside.json().len(), 2);
    assert!(beside.json().iter().all(|line| line["verified"] == true), "{}", beside.stdout);
    let data = world.files.at("data");
    let export = run(&["journal", "export", "--data-dir", &data]).await.expect(0);
    assert!(export.json().iter().all(|line| line["input"]["seq"].is_number()) && export.json().len() > 20);

    let World { files, daemon, stable: _stable, canary: _canary } = world;
    assert_eq!(daemon.process.terminate().await, Some(0));
    assert_eq!(verify(&files.path("data")).await.expect(0).json().len(), 2);
    let after = run(&["journal", "export", "--data-dir", &data]).await.expect(0);
    assert_eq!(after.stdout, export.stdout);

    let url = format!("sqlite://{}", files.at("data/tidegate.db"));
    let database = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query("DELETE FROM journal WHERE seq = 4").execute(&database).await.unwrap();
    database.close().await;
    let tampered = verify(&files.path("data")).await.expect(1);
    assert!(tampered.json().iter().all(|line| line["verified"] == false), "{}", tampered.stdout);
    let people = run(&["journal", "verify", "--data-dir", &data]).await.expect(1);
    assert!(people.stdout.contains("BAD ") && people.stdout.ends_with("2 rollouts, 2 differ\n"), "{}", people.stdout);
    run(&["journal", "verify", "--data-dir", &files.at("nowhere")]).await.expect(1).says(&["nowhere", "--data-dir"]);
}

#[tokio::test]
async fn people_can_hold_move_and_end_a_rollout() {
    let world = World::start().await;
    let daemon = &world.daemon;
    let rollout = async |words: &[&str]| daemon.run(&[&["rollout"], words].concat()).await;
    // Without traffic nothing is proven, so it stays at the first step until somebody acts.
    let waited = rollout(&["start", "checkout", "--wait", "--wait-timeout-s", "1"]).await.expect(5);
    waited.says(&["timed out waiting; the rollout goes on"]);

    let paused = rollout(&["pause", "checkout", "--reason", "lunch"]).await.expect(0).json().remove(0);
    assert_eq!((&paused["phase"], &paused["reason"]), (&"paused".into(), &"paused by tester: lunch".into()));
    rollout(&["pause", "checkout"]).await.expect(1).says(&["it is paused already (paused by tester: lunch)"]);
    let id = text(&paused["id"]);
    assert_eq!(rollout(&["resume", &id]).await.expect(0).json()[0]["step"], 1);
    rollout(&["resume", &id]).await.expect(1).says(&["it is not paused", "rollout get"]);

    assert_eq!(rollout(&["promote", &id, "--reason", "known good"]).await.expect(0).json()[0]["step"], 2);
    let at_half = daemon.until(&id, "step 2 in force", |view| view["phase"] == "judging").await;
    assert_eq!(at_half["weights"]["checkout-v2"], 50);
    assert_eq!(rollout(&["promote", &id, "--full", "--reason", "all in"]).await.expect(0).json()[0]["step"], 3);
    rollout(&["abort", &id, "--reason", "changed my mind"]).await.expect(0);
    let aborted = rollout(&["watch", &id]).await.expect(4).json().pop().unwrap();
    assert_eq!((&aborted["phase"], &aborted["weights"]["checkout-v1"]), (&"aborted".into(), &100.into()));
    assert_eq!(daemon.weights().await.unwrap()["checkout-v1"], 100);
    rollout(&["abort", &id]).await.expect(1).says(&["has ended (aborted)", "rollout start checkout"]);
    // The release was fine after all: the same once more, at the step where it was.
    let again = rollout(&["retry", &id]).await.expect(0).json().remove(0);
    assert_eq!((&again["finished"], &again["canary"]), (&false.into(), &"checkout-v2".into()));
    assert_ne!(again["id"], *id);
    rollout(&["retry", "checkout"]).await.expect(1).says(&["cannot retry rollout"]);
    rollout(&["approve", "checkout"]).await.expect(1).says(&["cannot approve rollout"]);
    rollout(&["reject", "checkout"]).await.expect(1).says(&["cannot reject rollout"]);
    rollout(&["abort", "checkout"]).await.expect(0);
    assert_eq!(world.verify().await.expect(0).json().len(), 2);
}

#[tokio::test]
async fn clients_say_where_the_daemon_is_not() {
    let files = Files::new([1, 2], "");
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    assert_eq!(daemon.run(&["health"]).await.expect(0).json(), [serde_json::json!({"ready": true})]);
    assert_eq!(run(&["health", "--server", &daemon.url("api")]).await.expect(0).stdout, "ready\n");
    let mut by_variable = command(&["rollout", "list", "--output", "json"]);
    by_variable.env("TIDEGATE_SERVER", daemon.url("api"));
    assert_eq!(finish(by_variable).await.expect(0).json()[0]["rollouts"], serde_json::json!([]));

    let free = crate::kit::ports::steady_port();
    let nobody = format!("http://127.0.0.1:{free}");
    for verb in [&["rollout", "list"][..], &["health"], &["rollout", "start", "x", "--wait"]] {
        let ran = run(&[verb, &["--server", &nobody]].concat()).await.expect(1);
        ran.says(&[&format!("no daemon at {nobody}: nothing answers there"), "refused", "--server URL"]);
    }
    for server in ["ftp://x", "localhost:7070", "", "http://"] {
        run(&["health", "--server", server]).await.expect(2).says(&["for example http://127.0.0.1:7070"]);
    }
    // Another server altogether, one that refuses and one that is content with everything.
    let stranger = Service::start("v1").await;
    for address in [daemon.url("appmesh"), format!("http://{}", stranger.address)] {
        for verb in [&["rollout", "list"][..], &["health"]] {
            let ran = run(&[verb, &["--server", &address]].concat()).await.expect(1);
            ran.says(&["is it a tidegate daemon, and of this version?"]);
        }
    }
    let ran = run(&["health", "--output", "json", "--server", &nobody]).await.expect(1);
    let error: serde_json::Value = serde_json::from_str(ran.stderr.trim()).unwrap();
    assert!(text(&error["error"]).contains("no daemon") && error["hint"].is_string());
    assert_eq!(daemon.process.terminate().await, Some(0));
}
