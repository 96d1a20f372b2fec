//! App Mesh's metrics (`envoy.appmesh.*`) for CloudWatch, in its embedded metric format: lines of JSON to standard output, where
//! `awslogs` and Lambda take them, or to the CloudWatch agent. What is sent is what was counted since the last time.
//!
//! A line that went as a whole is not sent again, also where the report broke off behind it.

/// Lines of a period (pure).
mod lines;

use super::metrics::{self, Period, Portion};
use super::report::{Ticks, period};
use super::shared::Shared;
use crate::clock::{Clock, SystemClock};
use lines::Source;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

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

/// Reports until the proxy has ended, and then once more.
pub(super) async fn run(shared: Arc<Shared>, settings: EmfSettings) {
    let mut ticks = Ticks::new(&shared, settings.every);
    let mut before = Period::default();
    let mut was_told = false;
    loop {
        let is_last = ticks.next().await;
        if let Some(own) = shared.current().config.own.clone() {
            let now = period(&shared);
            let portions = metrics::portions(&own, &before, &now);
            let (sent, result) = report(&settings, &portions).await;
            // What did not go goes with the next report.
            portions.iter().take(sent).for_each(|portion| before.told(portion, &now));
            let count = |lines: usize| u64::try_from(lines).unwrap_or(u64::MAX);
            shared.emf_lines[0].fetch_add(count(sent), Ordering::Relaxed);
            shared.emf_lines[1].fetch_add(count(portions.len() - sent), Ordering::Relaxed);
            match result {
                Ok(()) => was_told = false,
                Err(error) if !was_told => {
                    tracing::error!(%error, to = ?settings.to, "metrics for CloudWatch cannot be sent; they are kept for the next report");
                    was_told = true;
                }
                Err(_) => {}
            }
        }
        if is_last {
            return;
        }
    }
}

/// Sends lines; how many of them went as a whole, also where the next one did not.
async fn report(settings: &EmfSettings, portions: &[Portion]) -> (usize, io::Result<()>) {
    let log_group = (settings.to != EmfTarget::Stdout).then_some(settings.log_group.as_str());
    let source = Source { namespace: &settings.namespace, log_group, now: SystemClock.now() };
    let lines: Vec<String> = portions.iter().map(|portion| lines::line(&source, portion)).collect();
    let mut sent = 0;
    let sending = send(settings.to, &lines, &mut sent);
    let result = match settings.to {
        // What was begun there is written in the end, however long that takes: given up, it would be reported twice.
        EmfTarget::Stdout => sending.await,
        EmfTarget::Udp(_) | EmfTarget::Tcp(_) => {
            timeout(MAX_WAIT, sending).await.unwrap_or_else(|late| Err(late.into()))
        }
    };
    (sent, result)
}

async fn send(to: EmfTarget, lines: &[String], sent: &mut usize) -> io::Result<()> {
    match to {
        EmfTarget::Stdout => {
            let mut out = tokio::io::stdout();
            for line in lines {
                out.write_all(line.as_bytes()).await?;
                out.flush().await?;
                *sent += 1;
            }
            Ok(())
        }
        EmfTarget::Udp(agent) => {
            let any: IpAddr = if agent.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).await?;
            for line in lines {
                socket.send_to(line.as_bytes(), agent).await?;
                *sent += 1;
            }
            Ok(())
        }
        EmfTarget::Tcp(agent) => {
            let mut stream = TcpStream::connect(agent).await?;
            for line in lines {
                stream.write_all(line.as_bytes()).await?;
                *sent += 1;
            }
            stream.shutdown().await
        }
    }
}
