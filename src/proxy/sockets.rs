//! The listening sockets of a proxy as one thing that can be handed to the process after it.
//!
//! A listening socket is closed when its last descriptor is. A proxy that may have a successor therefore keeps a second
//! descriptor of each, which goes over to it; without a successor they are dropped before the workers stop accepting, or
//! clients would go on being taken into queues that nobody looks at.

use super::{Listening, ProxyError, ProxyHandle, ProxySettings, Taken, take};
use crate::mesh::snapshot::NodeConfig;
use crate::ports::EndpointSource;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::sync::watch;

/// Most workers of a proxy, as `tidegate proxy --workers` has it: more sockets for one address are no proxy's.
pub(super) const MOST_WORKERS: usize = 1024;

/// What listens for a proxy.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For what applications send, one for each worker.
    pub(super) egress: Vec<TcpListener>,
    /// For what is meant for the application, one for each worker, or none at all.
    pub(super) ingress: Vec<TcpListener>,
    /// For the admin pages, if there are any.
    pub(super) admin: Option<TcpListener>,
}

/// How many sockets there are of each kind, in the order in which they are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) egress: u16,
    pub(super) ingress: u16,
    pub(super) admin: u16,
}

impl Counts {
    /// All of them.
    pub(super) fn total(self) -> usize {
        usize::from(self.egress) + usize::from(self.ingress) + usize::from(self.admin)
    }

    /// Whether a proxy may have so many.
    pub(super) fn are_possible(self) -> bool {
        let most = MOST_WORKERS;
        usize::from(self.egress) <= most && usize::from(self.ingress) <= most && self.admin <= 1 && self.egress > 0
    }
}

impl Sockets {
    /// How many there are. More than [`MOST_WORKERS`] are not counted, and not handed over.
    pub(super) fn counts(&self) -> Counts {
        let count = |sockets: &[TcpListener]| u16::try_from(sockets.len().min(MOST_WORKERS)).unwrap_or(u16::MAX);
        Counts { egress: count(&self.egress), ingress: count(&self.ingress), admin: u16::from(self.admin.is_some()) }
    }

    /// Their descriptors: egress, ingress, admin.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let workers = self.egress.iter().take(MOST_WORKERS).chain(self.ingress.iter().take(MOST_WORKERS));
        workers.chain(&self.admin).map(TcpListener::as_fd).collect()
    }

    /// The sockets of descriptors that came in the order of [`Sockets::descriptors`].
    pub(super) fn from_descriptors(counts: Counts, descriptors: Vec<OwnedFd>) -> Self {
        let mut all = descriptors.into_iter().map(TcpListener::from);
        let egress = all.by_ref().take(counts.egress.into()).collect();
        let ingress = all.by_ref().take(counts.ingress.into()).collect();
        Self { egress, ingress, admin: all.next() }
    }
}

/// The sockets, if they listen where it is wanted; port 0 wants any port. Others are closed.
fn that_listen_at(sockets: Vec<TcpListener>, wanted: SocketAddr) -> io::Result<Vec<TcpListener>> {
    for socket in &sockets {
        let at = socket.local_addr()?;
        if at.ip() != wanted.ip() || wanted.port() != 0 && at.port() != wanted.port() {
            return Ok(Vec::new());
        }
    }
    Ok(sockets)
}

/// Makes a proxy of another process's sockets, which may still accept from them. What it does not have, or not where it is
/// wanted, is taken as [`bind`](super::bind) does. There are as many workers as there are sockets. Must be called within a tokio runtime.
///
/// # Errors
/// [`ProxyError::Bind`].
pub async fn adopt(settings: ProxySettings, sockets: Sockets) -> Result<Listening, ProxyError> {
    let failed = |what, flag, address| move |source| ProxyError::Bind { what, address, flag, source };
    let outwards = failed("the proxy's egress", "--egress", settings.egress);
    let egress = that_listen_at(sockets.egress, settings.egress).map_err(outwards)?;
    let settings =
        ProxySettings { workers: if egress.is_empty() { settings.workers } else { egress.len() }, ..settings };
    let ingress = match settings.ingress {
        Some(wanted) => {
            let inwards = failed("the proxy's ingress", "--ingress", wanted);
            that_listen_at(sockets.ingress, wanted).map_err(inwards)?
        }
        None => Vec::new(),
    };
    let admin = match (sockets.admin, settings.admin) {
        (Some(socket), Some(wanted)) => {
            let failed = failed("the proxy's admin interface", "--admin", wanted);
            let kept = that_listen_at(vec![socket], wanted).map_err(failed)?.pop();
            kept.map(tokio::net::TcpListener::from_std).transpose().map_err(failed)?
        }
        _ => None,
    };
    take(settings, Taken { egress, ingress, admin }).await
}

impl Listening {
    /// As [`Listening::start_after`], beside a process that has the same sockets: the admin interface answers only once that
    /// one has been `released` by what is done there, which happens when all workers listen.
    ///
    /// # Errors
    /// As [`Listening::start`].
    pub async fn take_over(
        self,
        happened: impl Future<Output = ()>,
        released: impl Future<Output = ()>,
        config: watch::Receiver<Arc<NodeConfig>>,
        endpoints: Arc<dyn EndpointSource>,
    ) -> Result<ProxyHandle, ProxyError> {
        self.begin(happened, Some(released), config, endpoints).await
    }

    /// Keeps a second descriptor of each socket, for [`ProxyHandle::sockets`].
    ///
    /// # Errors
    /// What the system said; there are no descriptors left.
    pub fn keep_for_successor(&mut self) -> io::Result<()> {
        let mut spare = Sockets::default();
        for (egress, ingress) in &self.listeners {
            spare.egress.push(egress.try_clone()?);
            spare.ingress.extend(ingress.as_ref().map(TcpListener::try_clone).transpose()?);
        }
        if let Some(admin) = &self.admin {
            spare.admin = Some(TcpListener::from(admin.as_fd().try_clone_to_owned()?));
        }
        self.spare = Some(Arc::new(spare));
        Ok(())
    }
}

impl ProxyHandle {
    /// Its listening sockets, for a successor; `None` when none were kept or it accepts no more.
    #[must_use]
    pub fn sockets(&self) -> Option<Arc<Sockets>> {
        self.shared.spare()
    }

    /// Leaves what comes from now on to a successor that has the sockets, the admin address too. To be drained then.
    pub fn step_back(&self) {
        self.shared.has_successor.send_replace(true);
        self.shared.start_draining();
    }
}
