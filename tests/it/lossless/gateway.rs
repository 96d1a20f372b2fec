//! Hot restarts of a virtual gateway, whose ports follow the mesh, and what a start finds that has no predecessor to take over from.

use super::BETWEEN;
use super::task::{HOST, Task};
use crate::kit::steady::Steady;
use crate::program::{Process, until};
use tokio::net::TcpStream;

/// Restarts of the gateway's process.
const RESTARTS: usize = 5;

/// The process that took the place of this one.
async fn replaced(task: &Task, gateway: &Process) -> Process {
    let mut next = task.gateway();
    next.listening(3).await;
    let said = format!("took over from process {}", gateway.pid());
    until("it says whose place it took", async || next.stderr.text().contains(&said).then_some(())).await;
    next
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hot_restarts_of_a_gateway_lose_no_request() {
    let task = Task::start().await;
    let mut gateway = task.gateway();
    gateway.listening(3).await;
    let outside = Steady::start(task.address(3), HOST);
    let mut old: Vec<Process> = Vec::new();
    for _ in 0..RESTARTS {
        outside.more(BETWEEN).await;
        let mut next = replaced(&task, &gateway).await;
        std::mem::swap(&mut gateway, &mut next);
        old.push(next);
    }
    for mut process in old {
        assert_eq!(process.ended().await.code(), Some(0), "{}", process.stderr.text());
        assert!(!process.stderr.text().contains("connections cut"), "{}", process.stderr.text());
    }
    outside.more(BETWEEN).await;
    let outside = outside.stop().await;
    outside.expect_whole();
    assert!(outside.versions.keys().eq(["v1", "v2"]), "{outside:?}");
    // On another port, which the next one takes over as well.
    let is_open = async |at: usize| TcpStream::connect(task.address(at)).await.is_ok();
    task.move_gateway(4).await;
    until("the port has moved", async || (is_open(4).await && !is_open(3).await).then_some(())).await;
    let mut next = replaced(&task, &gateway).await;
    assert!(is_open(4).await && !is_open(3).await);
    assert_eq!(gateway.ended().await.code(), Some(0), "{}", gateway.stderr.text());
    assert!(is_open(4).await);
    let outside = Steady::start(task.address(4), HOST);
    outside.more(BETWEEN).await;
    outside.stop().await.expect_whole();
    next.signal("TERM").await;
    assert_eq!(next.ended().await.code(), Some(0));
}

/// It neither says that somebody is busy, nor that an address is taken.
#[tokio::test]
async fn a_start_while_the_last_process_ends_waits_for_its_addresses() {
    let task = Task::start().await;
    let mut first = task.gateway();
    first.listening(3).await;
    // A request of which the rest never comes keeps it to the end of its drain.
    let mut slow = TcpStream::connect(task.address(3)).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut slow, b"POST / HTTP/1.1\r\nhost: any\r\ncontent-length: 9\r\n\r\n")
        .await
        .unwrap();
    until("it has come", async || {
        let stats = task.page("/stats").await?;
        stats.lines().any(|line| line == "http.ingress.downstream_rq_active: 1").then_some(())
    })
    .await;
    first.signal("TERM").await;
    until("it ends", async || first.stderr.text().contains("stopping").then_some(())).await;
    let mut second = task.gateway();
    second.listening(3).await;
    assert!(!second.stderr.text().contains("took over"), "{}", second.stderr.text());
    drop(slow);
    assert_eq!(first.ended().await.code(), Some(0), "{}", first.stderr.text());
    let outside = Steady::start(task.address(3), HOST);
    outside.more(BETWEEN).await;
    outside.stop().await.expect_whole();
    assert_eq!(second.terminate().await, Some(0));
}
