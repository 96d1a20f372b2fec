//! The page in a real browser, over the built program: followed live, acted on, lost and found again.
//!
//! Chromium is driven by `tests/peers/page/drive.mjs`, on a phone's screen in the dark and on a desktop's in the light.

mod browser;

use crate::kit::ports::steady_port;
use crate::program::service::Behaviour;
use crate::program::world::{Daemon, Files, World};
use crate::program::{Process, command, run, text, until};
use browser::{Browser, Screen};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Stays where it is however slow the machine is, until somebody promotes it; and people have to agree before everything.
const POLICY: &str = "\
version: 1
name: checkout
route: { mesh: shop, router: checkout-router, route: checkout }
versions: [checkout-v1, checkout-v2]
steps:
  - { weight: 10, min: 20m, max: 40m, prove_no_worse_than: 20pp }
  - approval: { from: [oncall, tester], need: 1, timeout: 1h }
  - { weight: 100, min: 1s }
gates:
  - { name: errors, metric: error_rate, compare: stable, tolerate: { ratio: 1.0, add: 0.1pp } }
  - { name: slow, metric: latency_p99, max: 800ms }
  - { name: alive, health: { http: /health, interval: 1s }, dry_run: true }
";
/// The page shows a change within this time. Half of them do even where the machine builds something meanwhile.
const LIVE_MS: i64 = 1000;

/// Both screens on the page of this address, once it listens.
async fn look(browser: &mut Browser, address: &str) {
    for screen in Screen::BOTH {
        browser.open(screen, address).await;
        browser.wait(screen.name, "#link[data-state=live]", "Live").await;
    }
}

/// No finding of axe, no error, nothing wider than the screen, on both screens.
async fn expect_fine(browser: &mut Browser, moment: &str) {
    for screen in Screen::BOTH {
        let findings = browser.ask(screen.name, "axe", json!({})).await;
        assert_eq!(findings, json!([]), "{moment}, {}", screen.name);
        let errors = browser.ask(screen.name, "errors", json!({})).await;
        assert_eq!(errors, json!([]), "{moment}, {}", screen.name);
        let width = browser.ask(screen.name, "width", json!({})).await;
        assert_eq!(width, screen.width, "{moment}, {}: it scrolls sideways", screen.name);
        browser.shot(screen.name, moment).await;
    }
}

/// Asks for something by a button, with a reason, and says yes.
async fn order(browser: &mut Browser, page: &str, verb: &str, reason: &str) {
    browser.click(page, &format!("#do-{verb}")).await;
    browser.wait(page, "#ask[open]", "").await;
    if !reason.is_empty() {
        browser.ask(page, "fill", json!({"at": "#ask-reason", "text": reason})).await;
    }
    browser.click(page, "#ask-yes").await;
}

/// A button does nothing before it is confirmed, what is refused is said, and what is confirmed is done.
async fn acts_after_confirmation(browser: &mut Browser, daemon: &Daemon, id: &str) {
    let page = "phone";
    let is_paused = async || daemon.view(id).await["phase"] == "paused";
    browser.click(page, "#do-pause").await;
    browser.wait(page, "#ask[open]", "The gates go on judging").await;
    expect_fine(browser, "dialog").await;
    browser.click(page, "#ask-no").await;
    browser.gone(page, "#ask").await;
    browser.click(page, "#do-pause").await;
    browser.ask(page, "press", json!({"at": "#ask-reason", "text": "Escape"})).await;
    browser.gone(page, "#ask").await;
    // Taking a step by hand needs a reason.
    browser.click(page, "#do-promote").await;
    browser.click(page, "#ask-yes").await;
    browser.wait(page, "#ask[open]", "checkout-v2 gets 100 %").await;
    browser.click(page, "#ask-no").await;
    assert_eq!(browser.ask(page, "posts", json!({})).await, json!([]), "nothing was confirmed");
    assert!(!is_paused().await, "nothing was confirmed");

    browser.click(page, "#do-pause").await;
    let (status, _) = daemon.post(&format!("/v1/rollouts/{id}/pause"), &json!({"reason": "by a script"})).await;
    assert_eq!(status, 200);
    browser.click(page, "#ask-yes").await;
    browser.wait(page, "#ask-problem", "it is paused already").await;
    browser.ask(page, "errors", json!({})).await;
    browser.click(page, "#ask-no").await;
    order(browser, page, "resume", "").await;
    until("it goes on", async || (!is_paused().await).then_some(())).await;
    browser.wait(page, "#do-pause", "").await;
    order(browser, page, "pause", "to <b>look</b>").await;
    until("it is paused", async || is_paused().await.then_some(())).await;
    assert_eq!(daemon.view(id).await["reason"], "paused by someone on this machine: to <b>look</b>");
    browser.wait("desktop", ".badge", "Paused").await;
    browser.wait(page, ".flag", "to <b>look</b>").await;
    expect_fine(browser, "paused").await;
    order(browser, page, "resume", "").await;
}

/// Milliseconds from changes to when the page showed them.
async fn delays(browser: &mut Browser, page: &str) -> Vec<i64> {
    let delays = browser.ask(page, "delays", json!({})).await;
    delays.as_array().unwrap().iter().map(|delay| delay.as_i64().unwrap()).collect()
}

#[expect(clippy::print_stderr, reason = "what was measured")]
fn expect_live(mut delays: Vec<i64>) {
    delays.sort_unstable();
    let (count, most) = (delays.len(), delays.last().copied().unwrap_or(0));
    let median = delays.get(count / 2).copied().unwrap_or(i64::MAX);
    eprintln!("the page showed {count} changes after {median} ms in the middle, {most} ms at most");
    assert!(count >= 20 && median < LIVE_MS, "{delays:?}");
}

#[tokio::test]
async fn rollouts_are_followed_live_and_ordered_about() {
    let Some(mut browser) = Browser::start().await else { return };
    let world = World::with("", POLICY).await;
    let (daemon, load) = (&world.daemon, world.daemon.load());
    look(&mut browser, &daemon.url("api")).await;
    expect_fine(&mut browser, "nothing yet").await;
    let hostile = "v2 <script>alert(1)</script>";
    let (status, started) = daemon.post("/v1/rollouts", &json!({"policy": "checkout", "revision": hostile})).await;
    assert_eq!(status, 201, "{started}");
    let id = text(&started["id"]);
    browser.wait("desktop", ".card", hostile).await;
    browser.wait("desktop", ".badge", "Baking").await;
    browser.shot("desktop", "list").await;
    browser.click("phone", ".card a.name").await;
    browser.wait("phone", "h1", hostile).await;
    acts_after_confirmation(&mut browser, daemon, &id).await;

    browser.wait("phone", ".headline .badge", "Baking").await;
    order(&mut browser, "phone", "promote", "nothing is left to see here").await;
    browser.wait("phone", ".badge", "Awaiting approval").await;
    browser.wait("phone", ".flag", "0 of 1 approvals. Asked: oncall, tester").await;
    expect_fine(&mut browser, "approval").await;
    browser.click("phone", "#do-approve").await;
    browser.ask("phone", "select", json!({"at": "#ask-person", "text": "tester"})).await;
    browser.click("phone", "#ask-yes").await;
    browser.wait("phone", ".headline .badge", "Succeeded").await;
    browser.wait("phone", ".log", "approve by someone on this machine for tester").await;
    browser.wait("desktop", ".rows .badge", "Succeeded").await;

    // A page that goes elsewhere forgets them.
    let mut shown = delays(&mut browser, "phone").await;
    // The other slot takes the next release.
    world.stable.behave(Behaviour::FailsEvery(3));
    let bad = daemon.start_rollout().await;
    browser.ask("phone", "go", json!({"url": format!("{}/rollouts/{bad}", daemon.url("api"))})).await;
    browser.wait("phone", ".headline .badge", "Rolled back").await;
    browser.wait("phone", ".charts figcaption", "Failed requests").await;
    browser.wait("desktop", ".rows .badge", "Rolled back").await;
    shown.extend(delays(&mut browser, "desktop").await);
    browser.click("desktop", ".rows li:first-child a").await;
    browser.wait("desktop", ".log", "Rolling back: canary").await;
    expect_fine(&mut browser, "bad release").await;
    shown.extend(delays(&mut browser, "phone").await);
    expect_live(shown);
    load.stop().await;
    browser.end().await;
    world.verify().await.expect(0);
}

#[tokio::test]
async fn a_daemon_that_comes_back_is_found_again() {
    let Some(mut browser) = Browser::start().await else { return };
    let world = World::with("", POLICY).await;
    let World { files, daemon, stable: _stable, canary: _canary } = world;
    assert_eq!(daemon.process.terminate().await, Some(0));
    let ports = BTreeMap::from([("api", steady_port())]);
    let daemon = Daemon::start(&files.local(&ports)).await;
    look(&mut browser, &daemon.url("api")).await;
    let id = daemon.start_rollout().await;
    browser.ask("phone", "go", json!({"url": format!("{}/rollouts/{id}", daemon.url("api"))})).await;
    browser.wait("phone", "#link", "Live").await;
    browser.wait("desktop", ".card .badge", "Baking").await;
    expect_fine(&mut browser, "before").await;
    daemon.process.kill().await;
    for page in ["phone", "desktop"] {
        browser.wait(page, "#link[data-state=lost]", "Connection lost, reconnecting").await;
    }
    browser.shot("phone", "lost").await;
    let daemon = Daemon::start(&files.local(&ports)).await;
    for page in ["phone", "desktop"] {
        browser.wait(page, "#link[data-state=live]", "Live").await;
        // That it was away is the one thing that may be said of it.
        let errors = browser.ask(page, "errors", json!({})).await;
        let network = |error: &Value| error.as_str().is_some_and(|error| error.contains("net::ERR_"));
        assert!(errors.as_array().unwrap().iter().all(network), "{page}: {errors}");
    }
    // What happens from now on is seen, without a reload.
    daemon.run(&["rollout", "abort", &id, "--reason", "enough"]).await.expect(0);
    browser.wait("phone", ".headline .badge", "Aborted").await;
    browser.wait("desktop", ".rows .why", "aborted by tester: enough").await;
    expect_fine(&mut browser, "after").await;
    browser.end().await;
    assert_eq!(daemon.process.terminate().await, Some(0));
}

/// A daemon that asks for tokens, and the port of its API.
async fn serve(files: &Files) -> (Process, String) {
    let toml = format!(
        "[api]\nlisten = \"127.0.0.1:0\"\n[database]\ndata_dir = \"{}\"\n[policies]\ndirectory = \"{}\"\n\
         [mesh]\nendpoint_url = \"http://127.0.0.1:1\"\nsigning = \"none\"\n",
        files.at("serve"),
        files.at("policies")
    );
    files.write("tidegate.toml", &toml);
    let mut process = Process::spawn(command(&["serve", "--config", &files.at("tidegate.toml"), "--output", "json"]));
    let address = process.listening(1).await["api"];
    (process, format!("http://{address}"))
}

#[tokio::test]
async fn who_has_a_token_signs_in_and_out() {
    let Some(mut browser) = Browser::start().await else { return };
    let files = Files::new([1, 2], "");
    let words = ["token", "create", "--role", "viewer", "--name", "vera", "--output", "json", "--data-dir"];
    let made = run(&[&words[..], &[&files.at("serve")]].concat()).await.expect(0).json().remove(0);
    let token = text(&made["token"]);
    let (process, server) = serve(&files).await;
    for screen in Screen::BOTH {
        let page = screen.name;
        browser.open(screen, &format!("{server}/")).await;
        browser.wait(page, "h1", "Sign in").await;
        browser.ask(page, "fill", json!({"at": "#token", "text": "tg_wrong"})).await;
        browser.click(page, "button.go").await;
        browser.wait(page, ".problem", "That is no token").await;
        let refused = browser.ask(page, "errors", json!({})).await;
        assert_eq!(refused.as_array().unwrap().len(), 1, "the answer's status: {refused}");
    }
    expect_fine(&mut browser, "sign-in").await;
    for screen in Screen::BOTH {
        let page = screen.name;
        browser.ask(page, "fill", json!({"at": "#token", "text": token})).await;
        browser.click(page, "button.go").await;
        // The stream of events is let in by the cookie.
        browser.wait(page, "#link[data-state=live]", "Live").await;
        browser.wait(page, ".who", "vera").await;
        let cookies = browser.ask(page, "cookies", json!({})).await;
        let cookie = &cookies[0];
        assert_eq!((&cookie["httpOnly"], &cookie["sameSite"]), (&json!(true), &json!("Strict")), "{cookies}");
    }
    expect_fine(&mut browser, "signed in").await;
    for screen in Screen::BOTH {
        browser.click(screen.name, ".session button").await;
        browser.wait(screen.name, "h1", "Sign in").await;
        assert_eq!(browser.ask(screen.name, "cookies", json!({})).await, json!([]));
        browser.ask(screen.name, "go", json!({"url": format!("{server}/rollouts/r-1")})).await;
        browser.wait(screen.name, "h1", "Sign in").await;
    }
    browser.end().await;
    let said = format!("{}{}", process.stdout.text(), process.stderr.text());
    assert!(!said.contains(&token[16..]), "the daemon printed a token");
    assert_eq!(process.terminate().await, Some(0));
}
