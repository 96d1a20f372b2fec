//! A mesh of the daemon's own: the control plane, its listener, and how the controller beside it gets there. It answers
//! whether this daemon drives rollouts or stands by.

use super::proxies::{ProxyHost, keep_leases, secrets};
use super::{StartupError, bind, bound_address};
use crate::api::auth;
use crate::api::listen::{self, Limits};
use crate::base::access_key::{AccessKey, Right};
use crate::base::certificate::ServerFiles;
use crate::base::fault::Fault;
use crate::base::secret::Redacted;
use crate::base::time::Millis;
use crate::clock::{Clock, SystemClock, new_uuid};
use crate::config::daemon::DaemonConfig;
use crate::config::loopback;
use crate::config::mesh::MeshHost;
use crate::mesh::access::Keys;
use crate::mesh::http::{Callers, MeshControl, MeshSettings};
use crate::mesh::model::Quotas;
use crate::ports::{EndpointSource, MeshStore, Telemetry};
use crate::signals::proxies::RemoteTelemetry;
use crate::signals::together::Together;
use crate::tls::Tls;
use crate::traffic::appmesh::AppMesh;
use crate::xds::counts::Counts;
use crate::xds::door::{Door, KeysDoor, OpenDoor};
use crate::xds::registry::HostedMesh;
use crate::xds::secrets::Secrets;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A mesh of one's own that is about to be served.
pub(super) struct Hosted {
    /// Where its API listens.
    pub(super) address: SocketAddr,
    /// Where Envoys are configured.
    pub(super) xds: SocketAddr,
    /// The mesh, for whatever else serves it.
    pub(super) control: MeshControl,
    /// What Envoys tell of their requests.
    pub(super) counts: Counts,
    /// By whom it is called: for whatever else checks that.
    pub(super) callers: Callers,
    region: String,
    /// Identifier and secret of the controller's key: known to this process alone, and new with each start.
    own: (String, Redacted<String>),
    /// Proxies of one node or gateway.
    per_resource: usize,
    listeners: Listeners,
}

/// Where a mesh listens.
pub(super) struct Listeners {
    api: TcpListener,
    xds: TcpListener,
    /// The certificate of both, with the controller's own way to the API.
    tls: Option<(Arc<Tls>, OwnWay)>,
    secrets: Secrets,
}

/// The API once more for the controller of this process, in clear text on a loopback address of the system's choice, where the
/// others reach it by TLS.
///
/// Their certificate is for a name that need not lead here and by an authority that this machine need not believe, and it
/// changes while the process runs: a client that is to accept all that accepts too much, or fails with the next renewal. Nothing
/// of it leaves the machine, no secret goes over it (the key signs), and nobody gets more by it than by the other listener: it
/// asks for the same signatures, or for none where everyone on this machine may call. And whoever takes all connections of the
/// other one does not shut the controller out.
struct OwnWay {
    listener: TcpListener,
    address: SocketAddr,
}

impl OwnWay {
    async fn bind() -> Result<Self, StartupError> {
        let listener = bind("the controller's way to the App Mesh API", "mesh.listen", loopback(0)).await?;
        let address = bound_address(&listener, loopback(0));
        Ok(Self { listener, address })
    }
}

impl Hosted {
    /// Reads the certificates and what stands in for those of ACM, and takes the addresses, so that one which is taken leaves
    /// nothing behind.
    pub(super) async fn bind(host: &MeshHost) -> Result<Listeners, StartupError> {
        let secrets = secrets(&host.certificates)?;
        let open = |files: &ServerFiles| Tls::open(files.clone(), SystemClock.now());
        let tls = host.tls.as_ref().map(open).transpose();
        let tls =
            tls.map_err(|error| StartupError::Tls { keys: "mesh.certificate, mesh.key and mesh.clients", error })?;
        let tls = match tls {
            Some(tls) => Some((Arc::new(tls), OwnWay::bind().await?)),
            None => None,
        };
        let api = bind("the App Mesh API", "mesh.listen", host.listen).await?;
        let xds = bind("the control plane of Envoys", "mesh.xds_listen", host.xds_listen).await?;
        Ok(Listeners { api, xds, tls, secrets })
    }

    /// `http` or `https`.
    pub(super) const fn scheme(&self) -> &'static str {
        if self.listeners.tls.is_some() { "https" } else { "http" }
    }

    /// Reads the mesh from the store.
    pub(super) async fn open(
        host: &MeshHost,
        listeners: Listeners,
        store: Arc<dyn MeshStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartupError> {
        let settings = MeshSettings {
            region: host.region.clone(),
            account: host.account.clone(),
            quotas: if host.has_quotas { Quotas::AWS } else { Quotas::OFF },
            strict: host.strict,
        };
        let control = MeshControl::open_with(store, clock, settings).await?;
        let own = (format!("tidegate-{}", new_uuid()), Redacted::new(format!("{}{}", new_uuid(), new_uuid())));
        let key = AccessKey {
            name: "controller".to_owned(),
            id: own.0.clone(),
            secrets: vec![own.1.clone()],
            right: Right::Write,
            mesh: None,
        };
        let callers = match &host.keys {
            Some(keys) => Callers::Signed(Arc::new(Keys::new(keys.iter().cloned().chain([key]).collect()))),
            None => Callers::Anyone,
        };
        let address = bound_address(&listeners.api, host.listen);
        let xds = bound_address(&listeners.xds, host.xds_listen);
        // A quota of AWS (appmesh "Quotas").
        let per_resource = if host.has_quotas { 50 } else { usize::MAX };
        let (region, counts) = (host.region.clone(), Counts::default());
        Ok(Self { address, xds, control, counts, callers, region, own, per_resource, listeners })
    }

    /// The way of the controller: by HTTP and signed, like everybody else's.
    pub(super) fn traffic(&self, lease: Option<Millis>) -> AppMesh {
        let own = self.listeners.tls.as_ref().map(|(_, own)| own.address);
        let endpoint = format!("http://{}", own.unwrap_or_else(|| reached(self.address)));
        let (id, secret) = &self.own;
        AppMesh::signing(&endpoint, &self.region, id, secret).with_lease(lease)
    }

    /// Serves until `stop`, and takes over what other daemons on the same database change. `endpoints` knows where nodes are,
    /// names included where `names_here`.
    pub(super) fn serve(
        self,
        (endpoints, names_here): (Arc<dyn EndpointSource>, bool),
        clock: Arc<dyn Clock>,
        stop: watch::Receiver<bool>,
    ) -> (HostedMesh, Vec<JoinHandle<()>>) {
        let door: Arc<dyn Door> = match &self.callers {
            Callers::Signed(keys) => Arc::new(KeysDoor::new(Arc::clone(keys))),
            Callers::Anyone => Arc::new(OpenDoor),
        };
        let Listeners { api, xds, tls, secrets } = self.listeners;
        let (control, counts, per_resource) = (self.control.clone(), self.counts, self.per_resource);
        let (tls, own) = tls.unzip();
        let proxies = ProxyHost {
            mesh: control.clone(),
            endpoints,
            secrets,
            counts,
            door,
            names_here,
            per_resource,
            tls: tls.clone(),
        };
        let (registry, proxies) = proxies.serve(xds, clock, stop.clone());
        let router = self.control.router(self.callers.clone());
        let router = match self.callers {
            Callers::Signed(_) => router,
            // Nothing is asked for, so a page in a browser must be kept out the same way as from the API.
            Callers::Anyone => router.layer(axum::middleware::from_fn(auth::loopback_only)),
        };
        let leases = keep_leases(&self.control, &stop);
        let mut stopped = stop.clone();
        let following = self.control.follow();
        let follower = tokio::spawn(async move {
            tokio::select! {
                () = following => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
        let limits = Limits::default();
        let own = own.map(|own| listen::serve(own.listener, router.clone(), None, limits, stop.clone()));
        // It follows the files of the certificate, for proxies too.
        let api = listen::serve(api, router, tls, limits, stop);
        let all = [api, follower, proxies, leases].into_iter().chain(own).collect();
        (HostedMesh::new(control, registry), all)
    }
}

/// What rollouts are judged by: the native proxies that are named, and the Envoys of a mesh of one's own.
///
/// # Errors
/// A proxy's address that is none.
pub(super) fn telemetry(config: &DaemonConfig, hosted: Option<&Hosted>) -> Result<Arc<dyn Telemetry>, Fault> {
    let envoys = hosted.map(|hosted| Arc::new(hosted.counts.clone()) as Arc<dyn Telemetry>);
    match envoys {
        // Nobody forgot to name one.
        Some(envoys) if config.proxies.is_empty() => Ok(envoys),
        Some(envoys) => Ok(Arc::new(Together::new(vec![Arc::new(RemoteTelemetry::new(&config.proxies)?), envoys]))),
        None => Ok(Arc::new(RemoteTelemetry::new(&config.proxies)?)),
    }
}

/// An address at which this machine itself reaches what listens on it.
fn reached(address: SocketAddr) -> SocketAddr {
    let loopback = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(loopback, address.port())
}
