//! Listening sockets of a virtual gateway. Its ports are those of its configuration, so they come and go with it: the control
//! side takes them, one socket for each worker, and each worker accepts from its own.
//!
//! A port that cannot be taken when the proxy starts ends the start, with the reason. Later it is tried again and again while
//! the others serve: a gateway that goes down for a port of which nobody made use yet would serve nobody.

use super::ProxyError;
use super::listener;
use super::shared::{Phase, Shared};
use crate::mesh::snapshot::{NodeConfig, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use tokio::net::{TcpListener, TcpStream};

/// The sockets of all ports.
pub(super) type Doors = BTreeMap<u16, Arc<Door>>;

/// The sockets of one port.
pub(super) struct Door {
    /// Where they listen.
    pub(super) address: SocketAddr,
    /// For each worker, until it takes its own.
    sockets: Vec<Mutex<Option<std::net::TcpListener>>>,
}

impl Door {
    /// The socket of a worker, once.
    fn take(&self, worker: usize) -> Option<std::net::TcpListener> {
        let socket = self.sockets.get(worker)?;
        // A panic while it was held leaves nothing half done: it is one move.
        socket.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Where a gateway's listeners are bound: at `address`, and where the mesh prefers a family, for both on the wildcard (appmesh
/// "Service discovery", table of preferences). Empty for what is no gateway.
fn wanted(config: &NodeConfig, address: IpAddr) -> BTreeSet<SocketAddr> {
    let Some(own) = config.own.as_ref().filter(|own| matches!(own.role, Role::Gateway(_))) else {
        return BTreeSet::new();
    };
    let both = own.ip_preference.binds_both() && address == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let ip = if both { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { address };
    own.listeners.iter().map(|listener| SocketAddr::new(ip, listener.port)).collect()
}

/// Takes the ports that a configuration asks for and gives back those that it does not; workers learn of both. All that can be
/// taken are taken.
///
/// # Errors
/// [`ProxyError::Gateway`] of the first that cannot be taken.
pub(super) fn open(shared: &Shared, config: &NodeConfig) -> Result<(), ProxyError> {
    let Some(address) = shared.gateway else { return Ok(()) };
    if *shared.phase.borrow() != Phase::Serving {
        // Nobody would take what comes to a new one.
        return Ok(());
    }
    let wanted = wanted(config, address);
    let mut doors = Doors::clone(&shared.doors.borrow());
    let before = doors.len();
    doors.retain(|_, door| wanted.contains(&door.address));
    let mut has_changed = doors.len() != before;
    let mut failed = None;
    for address in wanted {
        if doors.contains_key(&address.port()) {
            continue;
        }
        match listener::bind(address, shared.workers.len()) {
            Ok(sockets) => {
                let sockets = sockets.into_iter().map(|socket| Mutex::new(Some(socket))).collect();
                doors.insert(address.port(), Arc::new(Door { address, sockets }));
                has_changed = true;
            }
            Err(source) => {
                failed = failed.or(Some(ProxyError::Gateway { address, source }));
            }
        }
    }
    if has_changed {
        shared.doors.send_replace(Arc::new(doors));
    }
    failed.map_or(Ok(()), Err)
}

/// The sockets of one worker.
pub(super) struct Own {
    worker: usize,
    open: Vec<(SocketAddr, TcpListener)>,
    /// Which one is looked at first, so that a busy port does not keep the others waiting.
    first: usize,
}

impl Own {
    /// Of this worker, none yet.
    pub(super) const fn new(worker: usize) -> Self {
        Self { worker, open: Vec::new(), first: 0 }
    }

    /// Takes what is new; answers what is not to be listened on any more.
    pub(super) fn follow(&mut self, doors: &Doors) -> Vec<TcpListener> {
        let (open, closed) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|(address, _)| doors.get(&address.port()).is_some_and(|door| door.address == *address));
        self.open = open;
        for door in doors.values() {
            // What a runtime cannot listen on, nobody can.
            if let Some(Ok(listener)) = door.take(self.worker).map(TcpListener::from_std) {
                self.open.push((door.address, listener));
            }
        }
        closed.into_iter().map(|(_, listener)| listener).collect()
    }

    /// The next connection to any of them; never without any.
    pub(super) async fn accept(&mut self) -> std::io::Result<TcpStream> {
        poll_fn(|cx| {
            self.first = self.first.wrapping_add(1);
            let count = self.open.len();
            for offset in 0..count {
                let (_, listener) = &self.open[self.first.wrapping_add(offset) % count];
                if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                    return Poll::Ready(accepted.map(|(stream, _)| stream));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// All of them, at the end.
    pub(super) fn into_listeners(self) -> impl Iterator<Item = TcpListener> {
        self.open.into_iter().map(|(_, listener)| listener)
    }
}
