//! Hot restarts of a virtual gateway, whose ports follow the mesh, and what a start finds that has no predecessor to take over from.

use super::BETWEEN;
use super::task::{HOST, Task};
use crate::kit::steady::Steady;
use crate::program::{Process, until};
use tokio::net::TcpStream;

/// Restarts of the gateway's process.
const RESTARTS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hot_restarts_of_a_gateway_lose_no_request() {
    let task = Task::start().await;
    let mut gateway = task.gateway();
    gateway.listening(3).await;
    let outside = Steady::start(task.address(3), HOST);
    let mut old: Vec<Process> = Vec::new();
    let mut has_both = false;
    for restart in 0..RESTARTS {
        outside.more(BETWEEN).await;
        if restart % 2 == 1 {
            // Another port, in time for the next one.
            has_both = !has_both;
            task.open(if has_both { [3, 4] } else { [3, 3] }).await;
            until("the port follows", async || {
                (TcpStream::connect(task.address(4)).await.is_ok() == has_both).then_some(())
            })
            .await;
        }
        let mut next = task.gateway();
        next.listening(if has_both { 4 } else { 3 }).await;
        let said = format!("took over from process {}", gateway.pid());
        until("it says whose place it took", async || next.stderr.text().contains(&said).then_some(())).await;
        assert_eq!(TcpStream::connect(task.address(4)).await.is_ok(), has_both);
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
    assert_eq!(gateway.terminate().await, Some(0));
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
