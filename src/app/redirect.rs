//! Connections of the machine are redirected to a proxy as long as that runs: the application's ports are those of its node's
//! listeners, and follow them.

use crate::intercept::{self, Address, Installed, InterceptError, Interception};
use crate::mesh::snapshot::NodeConfig;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A change that was refused is tried again so often: meanwhile what comes for a new port goes past the proxy.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Administrators come in by this port, and are not to be locked out (appmesh "Interception").
const SSH: u16 = 22;

/// What is not redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirecting {
    /// Connections to these go where they are sent to.
    pub ignored_addresses: Vec<Address>,
    /// As do those to these ports, and to that of SSH.
    pub ignored_ports: Vec<u16>,
}

/// Redirection that is in force.
pub(super) struct Redirect {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Redirect {
    /// Begins to redirect to a proxy that takes what is sent at `egress`, and what is meant for the application at `ingress`.
    pub(super) async fn begin(
        wanted: Redirecting,
        [egress, ingress]: [SocketAddr; 2],
        mut config: watch::Receiver<Arc<NodeConfig>>,
    ) -> Result<Self, InterceptError> {
        let ignored_uid = own_uid();
        if ignored_uid == 0 {
            tracing::warn!("as root: nothing that root sends is redirected; run the application as another user");
        }
        let mut ignored_ports: BTreeSet<u16> = wanted.ignored_ports.into_iter().collect();
        ignored_ports.insert(SSH);
        let first = Interception {
            ingress_port: ingress.port(),
            egress_port: egress.port(),
            app_ports: ports(&config.borrow_and_update()),
            ignored_uid,
            ignored_addresses: wanted.ignored_addresses,
            ignored_ports,
            both_families: egress.is_ipv6() && ingress.is_ipv6(),
        };
        let installed = Installed::new(first).await?;
        tracing::info!(ports = ?installed.interception().app_ports, uid = ignored_uid, "connections are redirected");
        let (stop, stopped) = oneshot::channel();
        Ok(Self { stop, task: tokio::spawn(follow(installed, config, stopped)) })
    }

    /// Lets this process's own connections out, whoever's rules are in force: before it calls its control plane.
    pub(super) async fn prepare() {
        intercept::let_through(own_uid()).await;
    }

    /// Ends it: connections go where they are sent to again.
    pub(super) async fn end(self) {
        drop(self.stop);
        // A panic of the task was told by its own message.
        let _ = self.task.await;
    }
}

/// Keeps the rules those of the configuration until `stopped`, then removes them.
async fn follow(
    mut installed: Installed,
    mut config: watch::Receiver<Arc<NodeConfig>>,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        tokio::select! {
            changed = config.changed() => if changed.is_err() { break },
            () = sleep(TRY_AGAIN), if ports(&config.borrow()) != installed.interception().app_ports => {}
            _ = &mut stopped => break,
        }
        let app_ports = ports(&config.borrow_and_update());
        if app_ports == installed.interception().app_ports {
            continue;
        }
        let next = Interception { app_ports, ..installed.interception().clone() };
        match installed.change(next).await {
            Ok(()) => tracing::info!(ports = ?installed.interception().app_ports, "other ports are redirected"),
            Err(error) => tracing::error!(%error, "the listeners have changed, and what is redirected has not"),
        }
    }
    if let Err(error) = installed.remove().await {
        tracing::error!(%error, "connections are still redirected, to a proxy that ends; docs/PROXY.md says how to end that");
    }
}

fn ports(config: &NodeConfig) -> BTreeSet<u16> {
    config.own.iter().flat_map(|own| &own.listeners).map(|listener| listener.port).collect()
}

/// The user whose sockets this process makes, as the system knows it; root where it does not say.
fn own_uid() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    // Real, effective, saved, and that of the file system, which sockets have.
    ids.and_then(|ids| ids.split_whitespace().nth(3)?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_user() {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(own_uid(), std::fs::metadata("/proc/self").unwrap().uid());
    }
}
