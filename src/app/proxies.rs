//! The mesh that a process hosts, where it listens: for clients of its API, and for Envoys.

use super::{Addresses, StartupError, bind, bound_address};
use crate::api;
use crate::base::certificate::StandIn;
use crate::clock::{Clock, SystemClock};
use crate::mesh::http::{Callers, MeshControl};
use crate::ports::EndpointSource;
use crate::tls::Tls;
use crate::xds::counts::Counts;
use crate::xds::door::{Door, OpenDoor};
use crate::xds::registry::{HostedMesh, Registry};
use crate::xds::secrets::Secrets;
use crate::xds::server::{AdsParts, AdsServer};
use crate::xds::source::Source;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Where local mode's mesh listens.
pub(super) struct MeshListeners {
    api: TcpListener,
    xds: TcpListener,
    secrets: Secrets,
    /// What Envoys tell of their requests.
    pub(super) counts: Counts,
}

impl MeshListeners {
    /// Reads what stands in for certificates of ACM and takes the addresses, so that one which is taken leaves nothing behind.
    pub(super) async fn bind(listen: &Addresses, certificates: &[StandIn]) -> Result<Self, StartupError> {
        let secrets = secrets(certificates)?;
        let api = bind("the App Mesh API", "--appmesh", listen.appmesh).await?;
        let xds = bind("the control plane of Envoys", "--xds", listen.xds).await?;
        Ok(Self { api, xds, secrets, counts: Counts::default() })
    }

    /// Those that were taken: of the API, and of the control plane of Envoys.
    pub(super) fn addresses(&self, asked: &Addresses) -> (SocketAddr, SocketAddr) {
        (bound_address(&self.api, asked.appmesh), bound_address(&self.xds, asked.xds))
    }

    /// Serves a mesh until the process stops. `endpoints` knows where nodes are, names included where `names_here`.
    pub(super) fn serve(
        self,
        mesh: &MeshControl,
        (endpoints, names_here): (Arc<dyn EndpointSource>, bool),
        clock: Arc<dyn Clock>,
        stopped: &watch::Receiver<bool>,
    ) -> (HostedMesh, Vec<JoinHandle<()>>) {
        // It takes any signature and none, so a page in a browser must be kept out the same way as from the API.
        let router = mesh.router(Callers::Anyone).layer(axum::middleware::from_fn(api::auth::loopback_only));
        let api = serve(self.api, router, stopped.clone());
        let (door, per_resource) = (Arc::new(OpenDoor), usize::MAX);
        let (secrets, counts) = (self.secrets, self.counts);
        let proxies =
            ProxyHost { mesh: mesh.clone(), endpoints, secrets, counts, door, names_here, per_resource, tls: None };
        let (registry, xds) = proxies.serve(self.xds, clock, stopped.clone());
        let leases = keep_leases(mesh, stopped);
        (HostedMesh::new(mesh.clone(), registry), vec![api, xds, leases])
    }
}

/// What stands in for certificates of ACM, as its files are now; what is wrong with any of them is told at once.
pub(super) fn secrets(certificates: &[StandIn]) -> Result<Secrets, StartupError> {
    let secrets = Secrets::open(certificates.to_vec(), SystemClock.now());
    secrets.map_err(|problems| StartupError::Files(problems.join("\n")))
}

/// Counts down the weight leases of a mesh until the process stops.
pub(super) fn keep_leases(mesh: &MeshControl, stopped: &watch::Receiver<bool>) -> JoinHandle<()> {
    let (keeping, mut stopped) = (mesh.clone().keep_leases(), stopped.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = keeping => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    })
}

/// What Envoys are configured from.
pub(super) struct ProxyHost {
    pub(super) mesh: MeshControl,
    pub(super) endpoints: Arc<dyn EndpointSource>,
    /// What stands in for certificates of ACM.
    pub(super) secrets: Secrets,
    /// Where what they tell of their requests is added up.
    pub(super) counts: Counts,
    pub(super) door: Arc<dyn Door>,
    /// Whether names are looked up here, since a file says where they are.
    pub(super) names_here: bool,
    /// Proxies of one node or gateway.
    pub(super) per_resource: usize,
    /// The certificate that is shown to them, whose files somebody else follows; `None` for clear text.
    pub(super) tls: Option<Arc<Tls>>,
}

impl ProxyHost {
    /// Configures Envoys until the process stops.
    pub(super) fn serve(
        self,
        listener: TcpListener,
        clock: Arc<dyn Clock>,
        stopping: watch::Receiver<bool>,
    ) -> (Registry, JoinHandle<()>) {
        let registry = Registry::default();
        let source = Source::new(self.mesh, self.endpoints, self.secrets.watch());
        let following = self.secrets.follow(stopping.clone());
        let server = AdsServer::new(AdsParts {
            source,
            registry: registry.clone(),
            counts: self.counts,
            door: self.door,
            clock,
            names_here: self.names_here,
            per_resource: self.per_resource,
            tls: self.tls,
            stopping,
        });
        let serving = tokio::spawn(async move {
            let (served, ()) = tokio::join!(server.serve(listener), following);
            if let Err(error) = served {
                tracing::error!(%error, "the control plane of Envoys ended");
            }
        });
        (registry, serving)
    }
}

/// Serves until `stop`; then requests under way finish.
fn serve(listener: TcpListener, router: axum::Router, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let stopped = async move {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "a server ended");
        }
    })
}
