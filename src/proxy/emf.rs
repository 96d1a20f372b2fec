//! App Mesh's metrics (`envoy.appmesh.*`) for CloudWatch, in its embedded metric format: lines of JSON to standard output, where
//! `awslogs` and Lambda take them, or to the CloudWatch agent. What is sent is what was counted since the last time.
//!
//! Names and dimensions are those of the App Mesh image's metrics extension (appmesh "Metrics extension"); the form is that of
//! the CloudWatch User Guide, "Embedded metric format specification".

/// Lines of a period (pure).
pub mod lines;

use super::shared::Shared;
use super::stats;
use crate::clock::{Clock, SystemClock};
use lines::{Period, Source};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// An agent that takes longer than this takes nothing.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// How metrics go to CloudWatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmfSettings {
    /// Where lines go.
    pub to: EmfTarget,
    /// Namespace of the metrics, such as `AppMesh`.
    pub namespace: String,
    /// Group of logs that an agent puts the lines into.
    pub log_group: String,
    /// Time between two reports; a minute is what CloudWatch keeps.
    pub every: Duration,
}

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmfTarget {
    /// Standard output, for a log driver.
    Stdout,
    /// An agent, by a datagram for each line.
    Udp(SocketAddr),
    /// An agent, by a connection for each report.
    Tcp(SocketAddr),
}

/// Reports until its task is aborted.
pub(super) async fn run(shared: Arc<Shared>, settings: EmfSettings) {
    let mut ticks = interval(settings.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Period::default();
    let mut was_told = false;
    loop {
        ticks.tick().await;
        let now = period(&shared);
        let Some(own) = shared.current().config.own.clone() else { continue };
        let is_agent = settings.to != EmfTarget::Stdout;
        let source = Source {
            own: &own,
            namespace: &settings.namespace,
            log_group: is_agent.then_some(settings.log_group.as_str()),
            now: SystemClock.now(),
        };
        let lines = lines::lines(&source, &before, &now);
        let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let sending = send(settings.to, &lines);
        let sent = match settings.to {
            // What was begun there is written in the end, however long that takes: given up, it would be reported twice.
            EmfTarget::Stdout => sending.await,
            EmfTarget::Udp(_) | EmfTarget::Tcp(_) => {
                timeout(MAX_WAIT, sending).await.unwrap_or_else(|late| Err(late.into()))
            }
        };
        match sent {
            Ok(()) => {
                shared.emf_lines[0].fetch_add(count, Ordering::Relaxed);
                (before, was_told) = (now, false);
            }
            Err(error) => {
                // What was counted goes with the next report.
                shared.emf_lines[1].fetch_add(count, Ordering::Relaxed);
                if !was_told {
                    tracing::error!(%error, to = ?settings.to, "metrics for CloudWatch cannot be sent; they are kept for the next report");
                }
                was_told = true;
            }
        }
    }
}

fn period(shared: &Shared) -> Period {
    let names = || shared.workers.iter().map(|worker| &worker.names);
    Period { https: stats::https(names()), targets: stats::targets(names()) }
}

async fn send(to: EmfTarget, lines: &[String]) -> std::io::Result<()> {
    match to {
        EmfTarget::Stdout => {
            let mut out = tokio::io::stdout();
            for line in lines {
                out.write_all(line.as_bytes()).await?;
            }
            out.flush().await
        }
        EmfTarget::Udp(agent) => {
            let any: IpAddr = if agent.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).await?;
            for line in lines {
                socket.send_to(line.as_bytes(), agent).await?;
            }
            Ok(())
        }
        EmfTarget::Tcp(agent) => {
            let mut stream = TcpStream::connect(agent).await?;
            for line in lines {
                stream.write_all(line.as_bytes()).await?;
            }
            stream.shutdown().await
        }
    }
}
