//! The way to the X-Ray daemon: a datagram for each segment.

use super::queue::Queue;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;
use tokio::sync::watch;

/// Segments that may wait to be sent, about 1 KiB each.
pub(super) const MOST_WAITING: usize = 1024;

/// How segments go to X-Ray.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XraySettings {
    /// Where the X-Ray daemon listens.
    pub daemon: SocketAddr,
    /// Name of the segments; `None` for `MESH/NODE`.
    pub name: Option<String>,
}

/// Sends what is handed over until the proxy has ended.
pub(super) async fn run(queue: &Queue<String>, settings: &XraySettings, mut ended: watch::Receiver<bool>) {
    let Some(mut inbox) = queue.take_inbox() else { return };
    let any: IpAddr = match settings.daemon {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = match UdpSocket::bind((any, 0)).await {
        Ok(socket) => socket,
        // What is handed over finds no room from now on, and is counted.
        Err(error) => return tracing::error!(%error, "no traces: there is no socket for them"),
    };
    loop {
        let datagram = tokio::select! {
            biased;
            Some(datagram) = inbox.recv() => datagram,
            _ = ended.wait_for(|ended| *ended) => return,
        };
        let sent = socket.send_to(datagram.as_bytes(), settings.daemon).await;
        if sent.is_ok() { queue.sent(1) } else { queue.failed(1) }
    }
}
