//! `rollout report` of a real release, and `policy replay` of its journal: a bad one that a daemon rolled back.

use crate::program::service::Behaviour;
use crate::program::world::World;
use crate::program::{run, text};

#[tokio::test]
async fn a_release_is_reported_and_replayed_from_its_journal() {
    let world = World::start().await;
    let daemon = &world.daemon;
    let load = daemon.load();
    world.canary.behave(Behaviour::FailsEvery(2));
    let words = ["rollout", "start", "checkout", "--wait", "--revision", "<b>r1</b>"];
    let bad = daemon.run(&words).await.expect(3).json().pop().unwrap();
    load.stop().await;
    let (id, data) = (text(&bad["id"]), world.files.at("data"));

    let file = world.files.at("report.html");
    run(&["rollout", "report", &id, "--file", &file, "--data-dir", &data]).await.expect(0);
    let page = std::fs::read_to_string(&file).unwrap();
    for part in
        ["<!doctype html>", "Evidence", "against it 100 %", "Failed requests", "Rolled back", "&#60;b&#62;r1", &id]
    {
        assert!(page.contains(part), "no `{part}` in {page}");
    }
    // By itself: nothing is loaded, and nothing that others wrote is markup.
    for part in ["<script", "<b>r1", "href=\"/assets", "<button", "http://", "https://"] {
        assert!(!page.contains(part), "`{part}` in {page}");
    }
    let by_policy = run(&["rollout", "report", "checkout", "--data-dir", &data]).await.expect(0);
    assert_eq!(by_policy.stdout, page);
    let nobody = run(&["rollout", "report", "r-none", "--data-dir", &data]).await;
    nobody.expect(1).says(&["there is no rollout `r-none`", "journal verify"]);

    let policy = world.files.at("policies/checkout.yaml");
    let replay = ["policy", "replay", &policy, "--journal", &id, "--data-dir", &data, "--output", "json"];
    let replayed = run(&replay).await.expect(0).json().remove(0);
    let moments = replayed["moments"].as_array().unwrap();
    let last = moments.last().unwrap();
    assert_eq!(
        (&moments[0]["what"], &last["what"], &last["weight"]),
        (&"started".into(), &"rolled_back".into(), &0.into())
    );
    // The same requests, the same verdict in the same words.
    assert_eq!(last["why"], bad["reason"], "{replayed}");
    let nobody = run(&["policy", "replay", &policy, "--journal", "r-none", "--data-dir", &data]).await;
    nobody.expect(1).says(&["there is no rollout `r-none` in the journal"]);
}
