//! The listening sockets of a proxy as one thing that can be handed to the process after it.
//!
//! A listening socket is closed when its last descriptor is. A proxy that may have a successor therefore keeps a second
//! descriptor of each, which goes over to it; without a successor they are dropped before the workers stop accepting, or
//! clients would go on being taken into queues that nobody looks at.

use super::doors::Inherited;
use super::{Listening, ProxyError, ProxyHandle, ProxySettings, Taken, take};
use crate::mesh::snapshot::NodeConfig;
use crate::ports::EndpointSource;
use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Most workers of a proxy, as `tidegate proxy --workers` has it: more sockets for one address are no proxy's.
pub(super) const MOST_WORKERS: usize = 1024;

/// Most sockets of a virtual gateway: 16 listeners of a proxy with as many workers as there may be.
pub(super) const MOST_OF_GATEWAY: usize = 16 * MOST_WORKERS;

/// What listens for a proxy.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For what applications send, one for each worker.
    pub(super) egress: Vec<TcpListener>,
    /// For what is meant for the application, one for each worker, or none at all.
    pub(super) ingress: Vec<TcpListener>,
    /// For the admin pages, if there are any.
    pub(super) admin: Option<TcpListener>,
    /// For the ports of a virtual gateway, one for each worker and port.
    pub(super) gateway: Vec<TcpListener>,
}

/// How many sockets there are of each kind, in the order in which they are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) egress: u16,
    pub(super) ingress: u16,
    pub(super) admin: u16,
    pub(super) gateway: u16,
}

impl Counts {
    /// Of each kind, in that order.
    pub(super) const fn by_kind(self) -> [u16; 4] {
        [self.egress, self.ingress, self.admin, self.gateway]
    }

    /// All of them.
    pub(super) fn total(self) -> usize {
        self.by_kind().into_iter().map(usize::from).sum()
    }

    /// Whether a proxy may have so many.
    pub(super) fn are_possible(self) -> bool {
        let most = [MOST_WORKERS, MOST_WORKERS, 1, MOST_OF_GATEWAY];
        self.egress > 0 && self.by_kind().into_iter().zip(most).all(|(count, most)| usize::from(count) <= most)
    }
}

impl Sockets {
    /// How many there are. More than there may be are not counted, and not handed over.
    pub(super) fn counts(&self) -> Counts {
        let count = |sockets: &[TcpListener], most| u16::try_from(sockets.len().min(most)).unwrap_or(u16::MAX);
        Counts {
            egress: count(&self.egress, MOST_WORKERS),
            ingress: count(&self.ingress, MOST_WORKERS),
            admin: u16::from(self.admin.is_some()),
            gateway: count(&self.gateway, MOST_OF_GATEWAY),
        }
    }

    /// Their descriptors: egress, ingress, admin, gateway.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let workers = self.egress.iter().take(MOST_WORKERS).chain(self.ingress.iter().take(MOST_WORKERS));
        let all = workers.chain(&self.admin).chain(self.gateway.iter().take(MOST_OF_GATEWAY));
        all.map(TcpListener::as_fd).collect()
    }

    /// The sockets of descriptors that came in the order of [`Sockets::descriptors`].
    pub(super) fn from_descriptors(counts: Counts, descriptors: Vec<OwnedFd>) -> Self {
        let mut all = descriptors.into_iter().map(TcpListener::from);
        let egress = all.by_ref().take(counts.egress.into()).collect();
        let ingress = all.by_ref().take(counts.ingress.into()).collect();
        let admin = all.by_ref().take(counts.admin.into()).next();
        Self { egress, ingress, admin, gateway: all.collect() }
    }

    /// Second descriptors of the same sockets.
    fn again(&self) -> io::Result<Self> {
        let again = |sockets: &[TcpListener]| sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>();
        Ok(Self {
            egress: again(&self.egress)?,
            ingress: again(&self.ingress)?,
            admin: self.admin.as_ref().map(TcpListener::try_clone).transpose()?,
            gateway: again(&self.gateway)?,
        })
    }

    /// The ports of egress and ingress.
    fn ports(&self) -> BTreeSet<u16> {
        let first = self.egress.first().into_iter().chain(self.ingress.first());
        first.filter_map(|socket| Some(socket.local_addr().ok()?.port())).collect()
    }
}

/// Sockets by where they listen.
fn by_address(sockets: Vec<TcpListener>) -> Inherited {
    let mut all = Inherited::new();
    for socket in sockets {
        // What has no address any more is nobody's.
        if let Ok(address) = socket.local_addr() {
            all.entry(address).or_default().push(socket);
        }
    }
    all
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
    let beside = sockets.ports();
    let outwards = failed("the proxy's egress", "--egress", settings.egress);
    let egress = that_listen_at(sockets.egress, settings.egress).map_err(outwards)?;
    let gateway = by_address(sockets.gateway);
    let one_for_each = gateway.values().next().map_or(0, Vec::len);
    let had = [egress.len(), one_for_each].into_iter().find(|count| *count > 0);
    let settings = ProxySettings { workers: had.unwrap_or(settings.workers), ..settings };
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
    take(settings, Taken { egress, ingress, admin, gateway, beside }).await
}

impl Listening {
    /// As [`Listening::start`], beside a process that has the same sockets: the admin interface answers only once that one has
    /// been `released` by what is done there, which happens when all workers listen.
    ///
    /// # Errors
    /// As [`Listening::start`], and [`ProxyError::Secrets`]. Nobody was taken from the other process then.
    pub async fn take_over(
        self,
        released: impl Future<Output = ()>,
        config: watch::Receiver<Arc<NodeConfig>>,
        endpoints: Arc<dyn EndpointSource>,
    ) -> Result<ProxyHandle, ProxyError> {
        self.begin(std::future::ready(()), Some(released), config, endpoints).await
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
        self.spare = Some(spare);
        Ok(())
    }
}

impl ProxyHandle {
    /// Its listening sockets, for a successor; `None` when none were kept or it accepts no more.
    ///
    /// # Errors
    /// What the system said; there are no descriptors left.
    pub fn sockets(&self) -> io::Result<Option<Sockets>> {
        let Some(mut sockets) = self.shared.spare(Sockets::again).transpose()? else { return Ok(None) };
        for door in self.shared.doors.borrow().values() {
            sockets.gateway.extend(door.spare()?);
        }
        Ok(Some(sockets))
    }

    /// What gives the admin address back, so that another process can have it while this one ends.
    pub fn admin_closer(&self) -> impl Fn() + Send + use<> {
        let admin = self.admin_task.clone();
        move || admin.iter().for_each(AbortHandle::abort)
    }

    /// Leaves what comes from now on to a successor that has the sockets, the admin address too. To be drained then. What has
    /// come is taken first, since a successor need not have made every socket its own.
    pub fn step_back(&self) {
        self.shared.has_successor.send_replace(true);
        self.shared.start_draining();
    }
}
