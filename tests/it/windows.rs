//! Windows as people meet them, by the policy of examples/windows: a start by hand is refused and begins with a reason, an
//! event waits through a kill and begins when a window is open. What time does is tested on a clock that jumps
//! (`inbox::schedule`).

use crate::program::service::Service;
use crate::program::world::{Daemon, Files, HOOK_SECRET, strs};
use crate::program::{command, run, text};
use std::collections::BTreeMap;
use tidegate::base::time::Timestamp;
use tidegate::clock::{Clock, SystemClock};

const EXAMPLE: &str = "examples/windows/policies/checkout.yaml";

/// The policy of the example with other windows, no departures, and less proof.
fn policy(window: &str) -> String {
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let without = |line: &&str| !line.trim_start().starts_with("at:");
    let text: String = text.lines().filter(without).map(|line| format!("{line}\n")).collect();
    text.replace("Mon-Thu 09:00-16:00 Europe/Berlin", window)
        .replace("min: 3s", "min: 1s")
        .replace("prove_no_worse_than: 5pp", "prove_no_worse_than: 20pp")
}

/// A window of an hour that is closed for ten hours from now on at least, by the clocks of UTC.
fn closed() -> String {
    let hour: u32 = SystemClock.now().rfc3339()[11..13].parse().unwrap();
    format!("daily {:02}:00-{:02}:30 UTC", (hour + 11) % 24, (hour + 11) % 24)
}

async fn daemon(files: &Files) -> Daemon {
    let mut command = command(&strs(&files.local(&BTreeMap::new())));
    command.env("TIDEGATE_HOOK_SECRET_GENERIC", HOOK_SECRET);
    Daemon::spawn(command).await
}

#[tokio::test]
async fn the_example_waits_for_its_window_and_begins_outside_of_it_with_a_reason() {
    let services = [Service::start("v1").await, Service::start("v2").await];
    let files = Files::new([services[0].address.port(), services[1].address.port()], "");
    let window = closed();
    files.write("policies/checkout.yaml", &policy(&window));
    let first = daemon(&files).await;
    let refused = first.run(&["rollout", "start", "checkout"]).await;
    let closed = format!("nothing begins: no window of policy `checkout` is open ({window}); the next one opens at 20");
    refused.expect(1).says(&[&closed, "--outside-windows REASON", "audit trail"]);
    let needless = first.run(&["rollout", "start", "checkout", "--outside-windows", " "]).await;
    needless.expect(1).says(&["needs a reason"]);

    // An event waits, through a kill as well.
    let (status, asked) = first.hook(r#"{"policy":"checkout","revision":"r2"}"#).await.unwrap();
    assert_eq!(status, 202, "{asked}");
    let event = text(&asked["rollouts"][0]["id"]);
    let waits = first.view(&event).await;
    assert!(text(&waits["reason"]).starts_with("it waits: no window of policy `checkout` is open"), "{waits}");
    first.process.kill().await;
    let second = daemon(&files).await;
    second.until(&event, "it waits again", |view| text(&view["reason"]).starts_with("it waits: no window")).await;
    let shown = run(&["rollout", "list", "--server", &second.url("api")]).await.expect(0).stdout;
    assert!(shown.contains(&event) && shown.contains("pending"), "{shown}");

    // So does what a person asks for ahead of its time, until it is given up.
    let ahead = |at: &'static str| ["rollout", "start", "checkout", "--at", at, "--outside-windows", "night work"];
    second.run(&ahead("2026-01-31T09:00:00Z")).await.expect(1).says(&["2026-01-31T09:00:00.000Z is past"]);
    second.run(&ahead("tomorrow")).await.expect(1).says(&["`tomorrow` is no time", "2026-11-30T09:00:00+01:00"]);
    let at = Timestamp(SystemClock.now().0 + 86_400_000).rfc3339();
    let late = second.run(&["rollout", "start", "checkout", "--at", &at]).await;
    late.expect(1).says(&[&format!("no window of policy `checkout` is open at {at}")]);
    let asked = ["rollout", "start", "checkout", "--at", &at, "--outside-windows", "night work"];
    let asked = text(&second.run(&asked).await.expect(0).json()[0]["id"]);
    assert_eq!(text(&second.view(&asked).await["reason"]), format!("it waits: it is to begin at {at}"));
    second.run(&["rollout", "abort", &asked]).await.expect(0);
    second.run(&["rollout", "get", &asked]).await.expect(1).says(&["has begun no rollout: aborted by"]);

    // By hand and with a reason it begins, and what an event had asked for before comes to nothing: it would undo that.
    let load = second.load();
    let begun = second.run(&["rollout", "start", "checkout", "--outside-windows", "the site is down"]).await;
    let begun = text(&begun.expect(0).json()[0]["id"]);
    let view = second.until(&begun, "it goes on", |view| view["weights"]["checkout-v2"] == 10).await;
    let says = format!("began outside of its windows ({window}): the site is down");
    assert_eq!(text(&view["windows"]), says);
    second.run(&["rollout", "abort", &begun, "--reason", "enough"]).await.expect(0);
    assert_eq!(text(&second.end(&begun).await["phase"]), "aborted");
    second.run(&["rollout", "retry", &begun]).await.expect(1).says(&["no window of policy `checkout` is open"]);
    let again = second.run(&["rollout", "retry", &begun, "--outside-windows", "still down"]).await;
    let again = text(&again.expect(0).json()[0]["id"]);
    second.run(&["rollout", "abort", &again, "--reason", "enough"]).await.expect(0);
    assert_eq!(text(&second.end(&again).await["phase"]), "aborted");
    let journal = run(&["journal", "export", "--data-dir", &files.at("data")]).await.expect(0).stdout;
    assert!(journal.contains(r#""outside_windows":"still down""#), "the reason is in the journal");

    second.run(&["rollout", "get", &event]).await.expect(1).says(&["a newer rollout", "began before it"]);

    // With a window that is open now the next one begins by itself.
    let (status, asked) = second.hook(r#"{"policy":"checkout","revision":"r3"}"#).await.unwrap();
    assert_eq!(status, 202, "{asked}");
    let event = text(&asked["rollouts"][0]["id"]);
    files.write("policies/checkout.yaml", &policy("daily 00:00-24:00 UTC"));
    let view = second.until(&event, "it begins", |view| view["phase"] != "pending").await;
    assert!(text(&view["windows"]).ends_with("and goes on when they end"), "{view}");
    assert_eq!(text(&second.end(&event).await["phase"]), "succeeded");
    load.stop().await;
    assert_eq!(second.process.terminate().await, Some(0));
    crate::program::world::verify(&files.path("data")).await.expect(0);
}

#[tokio::test]
async fn the_example_explains_when_it_begins_and_is_without_warnings() {
    let linted = run(&["policy", "lint", EXAMPLE, "--output", "json"]).await.expect(0).json();
    assert_eq!(linted[0]["warnings"], serde_json::json!([]));
    let explained = run(&["policy", "explain", EXAMPLE]).await.expect(0).stdout;
    let expected = "Start\n  Begins within Mon-Thu 09:00-16:00 Europe/Berlin only. What events ask for outside of that waits, the \
                    newest alone; a start by hand is refused unless `--outside-windows` says why.\n  What has begun goes on \
                    when its window ends.\n  What events ask for waits for the next departure, the newest alone: 0 9,14 * * \
                    Mon-Thu Europe/Berlin. A start by hand does not.\n\n";
    assert!(explained.contains(expected), "{explained}");
}
