//! Changes under load that must cost nobody an answer: of weights, of endpoints, of the proxy's process, of its control plane.
//!
//! The load (`kit::steady`) checks every answer, over kept and new connections of HTTP/1.1 and HTTP/2, half of the requests
//! with a body. The services are in this process; the control plane and the proxy are the built program.

mod fuse;
mod gateway;
mod task;

use crate::kit::steady::Steady;
use crate::program::{Process, until};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use task::{HOST, Task};

/// Restarts of the proxy's process.
const RESTARTS: usize = 20;
/// Newcomers that die before they serve.
const DEATHS: u64 = 10;
/// Restarts of the control plane.
const CONTROL_PLANES: usize = 5;
/// Changes of weights.
const CHANGES: u32 = 1000;
/// Answers that come in between two changes.
const BETWEEN: u64 = 50;

/// Asks for the health of the admin pages again and again; what it got beside 200.
fn watch_health(task: &Arc<Task>, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<(u64, u64)> {
    let (task, stop) = (Arc::clone(task), Arc::clone(stop));
    tokio::spawn(async move {
        let (mut asked, mut failed) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            asked += 1;
            failed += u64::from(task.page("/ready").await.is_none());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (asked, failed)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_hot_restarts_lose_no_request() {
    let task = Arc::new(Task::start().await);
    let mut proxy = task.serving().await;
    let (outwards, inwards) = (Steady::start(task.address(0), HOST), Steady::start(task.address(1), "web.local"));
    let stop = Arc::new(AtomicBool::new(false));
    let health = watch_health(&task, &stop);
    let mut names = BTreeSet::from([task.name().await]);
    let mut old: Vec<Process> = Vec::new();
    for _ in 0..RESTARTS {
        tokio::join!(outwards.more(BETWEEN), inwards.more(BETWEEN));
        let mut next = task.serving().await;
        let said = format!("took over from process {}", proxy.pid());
        until("it says whose place it took", async || next.stderr.text().contains(&said).then_some(())).await;
        names.insert(task.name().await);
        std::mem::swap(&mut proxy, &mut next);
        old.push(next);
    }
    assert_eq!(names.len(), RESTARTS + 1, "each counts under a name of its own: {names:?}");
    // Those that were replaced end by themselves, as soon as their clients have let go.
    for mut process in old {
        let ended = process.ended().await;
        assert_eq!(ended.code(), Some(0), "{}", process.stderr.text());
        let said = process.stderr.text();
        assert!(said.contains("serves now") && !said.contains("connections cut"), "{said}");
    }
    tokio::join!(outwards.more(BETWEEN), inwards.more(BETWEEN));
    stop.store(true, Ordering::Relaxed);
    let (asked, failed) = health.await.unwrap();
    assert!(asked > 0 && failed == 0, "{failed} of {asked} health checks failed");
    let (outwards, inwards) = (outwards.stop().await, inwards.stop().await);
    outwards.expect_whole();
    inwards.expect_whole();
    assert!(outwards.versions.keys().eq(["v1", "v2"]), "{outwards:?}");
    assert_eq!(proxy.terminate().await, Some(0));
}

/// A newcomer that waits for its configuration and dies, at any instant, leaves the running process as it was. When the running
/// process dies meanwhile, the newcomer has its sockets: whoever comes waits until it serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_on_either_side_of_a_restart_leaves_the_other_serving() {
    let mut task = Task::start().await;
    let proxy = task.serving().await;
    let (outwards, inwards) = (Steady::start(task.address(0), HOST), Steady::start(task.address(1), "web.local"));
    let name = task.name().await;
    task.kill_control().await;
    for instant in 0..DEATHS {
        // Without a control plane it waits for 5 s before it goes by what was kept.
        let newcomer = task.proxy();
        tokio::time::sleep(Duration::from_millis(instant * 20)).await;
        newcomer.kill().await;
        assert_eq!(task.name().await, name);
        tokio::join!(outwards.more(BETWEEN), inwards.more(BETWEEN));
    }
    outwards.stop().await.expect_whole();
    inwards.stop().await.expect_whole();
    let said = proxy.stderr.text();
    assert!(said.contains("ended before it served; this one goes on") && !said.contains("serves now"), "{said}");

    let before = said.matches("is about to take over").count();
    let newcomer = task.proxy();
    until("it has the sockets", async || {
        (proxy.stderr.text().matches("is about to take over").count() > before).then_some(())
    })
    .await;
    proxy.kill().await;
    assert_ne!(task.name().await, name, "it was asked while nobody served yet");
    let outwards = Steady::start(task.address(0), HOST);
    outwards.more(BETWEEN).await;
    outwards.stop().await.expect_whole();
    assert_eq!(newcomer.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_the_control_plane_lose_no_request() {
    let mut task = Task::start().await;
    let proxy = task.serving().await;
    let (outwards, inwards) = (Steady::start(task.address(0), HOST), Steady::start(task.address(1), "web.local"));
    let mut weights = [0, 100];
    for _ in 0..CONTROL_PLANES {
        task.kill_control().await;
        tokio::join!(outwards.more(BETWEEN), inwards.more(BETWEEN));
        task.start_control().await;
        // It follows the new one.
        weights.reverse();
        task.split(weights).await;
        until("the new control plane is followed", async || (task.weights().await? == weights).then_some(())).await;
        tokio::join!(outwards.more(BETWEEN), inwards.more(BETWEEN));
    }
    let (outwards, inwards) = (outwards.stop().await, inwards.stop().await);
    outwards.expect_whole();
    inwards.expect_whole();
    assert!(outwards.versions.keys().eq(["v1", "v2"]), "{outwards:?}");
    assert_eq!(proxy.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_weight_changes_lose_no_request() {
    let task = Task::start().await;
    let proxy = task.serving().await;
    let outwards = Steady::start(task.address(0), HOST);
    for change in 0..CHANGES {
        let weight = change % 101;
        task.split([100 - weight, weight]).await;
    }
    until("the last weights are in force", async || {
        let last = (CHANGES - 1) % 101;
        (task.weights().await? == [100 - last, last]).then_some(())
    })
    .await;
    outwards.more(BETWEEN).await;
    let seen = outwards.stop().await;
    seen.expect_whole();
    assert!(seen.versions.keys().eq(["v1", "v2"]), "{seen:?}");
    assert_eq!(proxy.terminate().await, Some(0));
}
