//! Listening sockets of a virtual gateway. Its ports are those of its configuration, so they come and go with it: the control
//! side takes them, one socket for each worker, and each worker accepts from its own.
//!
//! A port that cannot be taken when the proxy starts ends the start, with the reason. Later it is tried again and again while
//! the others serve: a gateway that goes down for a port of which nobody made use yet would serve nobody. Where the mesh wants
//! another address for a port, the new sockets listen before the old ones are closed.

use super::ProxyError;
use super::listener;
use super::shared::{Phase, Shared};
use crate::mesh::snapshot::NodeConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::net::{TcpListener, TcpStream};

/// The sockets of all ports.
pub(super) type Doors = BTreeMap<u16, Arc<Door>>;

/// Sockets that another process handed over, by where they listen.
pub(super) type Inherited = BTreeMap<SocketAddr, Vec<std::net::TcpListener>>;

/// The sockets of one port.
pub(super) struct Door {
    /// Where they listen.
    pub(super) address: SocketAddr,
    /// For each worker, until it takes its own.
    sockets: Vec<Mutex<Option<std::net::TcpListener>>>,
    /// Second descriptors, for a successor; none where there can be none.
    spare: Mutex<Vec<std::net::TcpListener>>,
}

impl Door {
    /// # Errors
    /// There are no descriptors left for a successor.
    fn new(address: SocketAddr, sockets: Vec<std::net::TcpListener>, has_spare: bool) -> io::Result<Self> {
        let spare =
            if has_spare { sockets.iter().map(std::net::TcpListener::try_clone).collect() } else { Ok(Vec::new()) };
        let sockets = sockets.into_iter().map(|socket| Mutex::new(Some(socket))).collect();
        Ok(Self { address, sockets, spare: Mutex::new(spare?) })
    }

    /// The socket of a worker, once.
    fn take(&self, worker: usize) -> Option<std::net::TcpListener> {
        let socket = self.sockets.get(worker)?;
        // A panic while it was held leaves nothing half done: it is one move.
        socket.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn spares(&self) -> MutexGuard<'_, Vec<std::net::TcpListener>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a successor is given; nothing where the port is given up.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(super) fn spare(&self) -> io::Result<Vec<std::net::TcpListener>> {
        self.spares().iter().map(std::net::TcpListener::try_clone).collect()
    }

    /// The port is given up: what the workers close from now on is closed.
    pub(super) fn forget_spare(&self) {
        self.spares().clear();
    }
}

/// Where a gateway's listeners are bound: at `address`, and where the mesh prefers a family, for both on the wildcard (appmesh
/// "Service discovery", table of preferences). Empty for what is no gateway.
fn wanted(config: &NodeConfig, address: IpAddr) -> BTreeSet<SocketAddr> {
    let mut all = BTreeSet::new();
    for (own, _) in config.all_gateways() {
        let both = own.ip_preference.binds_both() && address == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let ip = if both { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { address };
        all.extend(own.listeners.iter().map(|listener| SocketAddr::new(ip, listener.port)));
    }
    all
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
    let last = Arc::clone(&shared.doors.borrow());
    let mut doors = Doors::clone(&last);
    doors.retain(|_, door| wanted.contains(&door.address));
    let mut failed = None;
    for address in wanted {
        if doors.contains_key(&address.port()) {
            continue;
        }
        let before = last.get(&address.port());
        let opened = sockets(shared, address, before.is_some());
        match opened.and_then(|sockets| Door::new(address, sockets, shared.has_spare())) {
            Ok(door) => drop(doors.insert(address.port(), Arc::new(door))),
            Err(source) => {
                failed = failed.or(Some(ProxyError::Gateway { address, source }));
                // At another address than is wanted, which is better than nowhere.
                doors.extend(before.map(|door| (address.port(), Arc::clone(door))));
            }
        }
    }
    // What another process had beside these is closed by it.
    shared.inherit().clear();
    let is_kept = |port: &u16, door: &Arc<Door>| doors.get(port).is_some_and(|kept| Arc::ptr_eq(kept, door));
    let closed: Vec<_> = last.iter().filter(|(port, door)| !is_kept(port, door)).map(|(_, door)| door).collect();
    closed.iter().for_each(|door| door.forget_spare());
    if !closed.is_empty() || doors.len() != last.len() {
        shared.doors.send_replace(Arc::new(doors));
    }
    failed.map_or(Ok(()), Err)
}

/// Sockets for one port: those that another process had there, or new ones.
fn sockets(shared: &Shared, address: SocketAddr, is_ours: bool) -> io::Result<Vec<std::net::TcpListener>> {
    let count = shared.workers.len();
    match shared.inherit().remove(&address) {
        Some(sockets) if sockets.len() == count => Ok(sockets),
        // Who has the port is this proxy at another address, or the one before it: neither is in the way.
        _ if is_ours || shared.is_beside() => listener::bind_beside(address, count),
        _ => listener::bind(address, count),
    }
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
    pub(super) async fn accept(&mut self) -> io::Result<TcpStream> {
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
