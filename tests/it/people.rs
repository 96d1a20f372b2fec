//! What people do to a running rollout, over the command line: approvals, retries, and following its events.

use crate::program::service::Behaviour;
use crate::program::world::{QUICK, World};
use crate::program::{text, until};
use serde_json::Value;

/// The quick policy with an approval before everything.
fn asking() -> String {
    QUICK.replace(
        "  - { weight: 100",
        "  - approval: { from: [oncall, tester], need: 2, timeout: 1h }\n  - { weight: 100",
    )
}

#[tokio::test]
async fn two_people_approve_and_one_may_not() {
    let world = World::with("", &asking()).await;
    let daemon = &world.daemon;
    let load = daemon.load();
    let id = daemon.start_rollout().await;
    daemon.until(&id, "the approval", |view| view["phase"] == "awaiting_approval").await;
    daemon
        .run(&["rollout", "approve", &id, "--person", "stranger"])
        .await
        .expect(1)
        .says(&["stranger", "oncall, tester"]);
    let one = daemon.run(&["rollout", "approve", &id, "--reason", "looks fine"]).await.expect(0).json().remove(0);
    assert_eq!((&one["phase"], &one["approval"]["given"][0]), (&"awaiting_approval".into(), &"tester".into()));
    daemon.run(&["rollout", "approve", &id]).await.expect(1).says(&["has approved already"]);
    daemon.run(&["rollout", "promote", &id, "--full", "--reason", "hurry"]).await.expect(1).says(&["awaits approval"]);
    daemon.run(&["rollout", "approve", "checkout", "--person", "oncall"]).await.expect(0);
    assert_eq!(daemon.end(&id).await["phase"], "succeeded");
    load.stop().await;
    world.verify().await.expect(0);
}

#[tokio::test]
async fn a_no_ends_it_and_a_retry_asks_again() {
    let world = World::with("", &asking()).await;
    let daemon = &world.daemon;
    let load = daemon.load();
    let id = daemon.start_rollout().await;
    daemon.run(&["rollout", "retry", &id]).await.expect(1).says(&["cannot retry"]);
    daemon.until(&id, "the approval", |view| view["phase"] == "awaiting_approval").await;
    daemon.run(&["rollout", "reject", &id, "--person", "oncall", "--reason", "not today"]).await.expect(0);
    let end = daemon.end(&id).await;
    assert_eq!((&end["phase"], &end["reason"]), (&"rolled_back".into(), &"rejected by oncall: not today".into()));
    assert_eq!(daemon.weights().await.unwrap()["checkout-v2"], 0);

    let again = daemon.run(&["rollout", "retry", &id]).await.expect(0).json().remove(0);
    let again = text(&again["id"]);
    assert_ne!(again, id);
    // It begins at the weight at which people were asked, not at the first step.
    let asked = daemon.until(&again, "the approval", |view| view["phase"] == "awaiting_approval").await;
    assert_eq!(asked["weights"]["checkout-v2"], 50);
    daemon.run(&["rollout", "abort", &again]).await.expect(0);
    assert_eq!(daemon.end(&again).await["phase"], "aborted");
    load.stop().await;
    world.verify().await.expect(0);
}

/// Reads a stream of events until `enough`, as (id, view).
async fn events(url: &str, after: Option<u64>, enough: impl Fn(&[(u64, Value)]) -> bool) -> Vec<(u64, Value)> {
    let mut request = reqwest::Client::builder().no_proxy().build().unwrap().get(url);
    if let Some(after) = after {
        request = request.header("last-event-id", after.to_string());
    }
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (mut text, mut seen) = (String::new(), Vec::new());
    while !enough(&seen) {
        let Some(chunk) = answer.chunk().await.unwrap() else { break };
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let line = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            if let (Some(id), Some(data)) = (line("id: "), line("data: ")) {
                seen.push((id.parse().unwrap(), serde_json::from_str(&data).unwrap()));
            }
            text = rest.to_owned();
        }
    }
    seen
}

#[tokio::test]
async fn events_tell_every_change_and_resume_where_a_client_stopped() {
    let world = World::start().await;
    let daemon = &world.daemon;
    world.canary.behave(Behaviour::FailsEvery(2));
    let load = daemon.load();
    let id = daemon.start_rollout().await;
    let url = format!("{}/v1/rollouts/{id}/events", daemon.url("api"));
    let ended = |seen: &[(u64, Value)]| seen.last().is_some_and(|(_, view)| view["finished"] == true);
    let seen = events(&url, None, ended).await;
    assert!(seen.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{seen:?}");
    assert_eq!(seen.last().unwrap().1["phase"], "rolled_back");

    // From the middle on: the same changes again, every one of them, and from the journal.
    let middle = seen[seen.len() / 2].0;
    let rest = events(&url, Some(middle), ended).await;
    let expected: Vec<&(u64, Value)> = seen.iter().filter(|(position, _)| *position > middle).collect();
    assert_eq!(rest.iter().collect::<Vec<_>>(), expected);

    // All rollouts: from the beginning of time, nothing is missing.
    let all = events(&format!("{}/v1/events", daemon.url("api")), Some(0), ended).await;
    let seqs: Vec<u64> = all.iter().map(|(_, view)| view["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    load.stop().await;
    let bad = until("an answer", async || {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(&url).header("last-event-id", "yesterday").send().await.ok()
    });
    assert_eq!(bad.await.status().as_u16(), 400);
}
