//! The mesh control plane over HTTP, driven by clients that are not ours: the AWS SDK for Rust and the AWS CLI.

mod beside;
mod boto;
mod bulk;
pub(crate) mod cli;
mod hosted;
mod leases;
mod plain;
mod sdk;
mod signed;
mod tls;

use crate::mesh_store::FakeMeshStore;
use std::net::SocketAddr;
use std::sync::Arc;
use tidegate::clock::{Clock, SystemClock};
use tidegate::mesh::http::{Callers, MeshControl, MeshSettings};
use tidegate::mesh::model::Quotas;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A control plane on a free port, until it is dropped.
pub(crate) struct Running {
    pub(crate) control: MeshControl,
    pub(crate) store: Arc<FakeMeshStore>,
    pub(crate) address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::with_store(Arc::default()).await
    }

    pub(crate) async fn with_store(store: Arc<FakeMeshStore>) -> Self {
        Self::made(store, Quotas::OFF, Callers::Anyone, Arc::new(SystemClock)).await
    }

    pub(crate) async fn for_callers(store: Arc<FakeMeshStore>, callers: Callers) -> Self {
        Self::made(store, Quotas::OFF, callers, Arc::new(SystemClock)).await
    }

    pub(crate) async fn with(store: Arc<FakeMeshStore>, quotas: Quotas) -> Self {
        Self::made(store, quotas, Callers::Anyone, Arc::new(SystemClock)).await
    }

    /// By a clock of the test's.
    pub(crate) async fn with_clock(store: Arc<FakeMeshStore>, clock: Arc<dyn Clock>) -> Self {
        Self::made(store, Quotas::OFF, Callers::Anyone, clock).await
    }

    async fn made(store: Arc<FakeMeshStore>, quotas: Quotas, callers: Callers, clock: Arc<dyn Clock>) -> Self {
        let settings = MeshSettings { quotas, ..MeshSettings::local("us-east-1".into()) };
        let control = MeshControl::open_with(Arc::clone(&store) as _, clock, settings).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = control.clone();
        tokio::spawn(async move {
            server.serve(listener, callers, async { drop(stopped.await) }).await.unwrap();
        });
        Self { control, store, address, _stop: stop }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Loads the example mesh.
    pub(crate) async fn load_example(&self) -> Vec<String> {
        let text = std::fs::read_to_string("examples/local/mesh.yaml").unwrap();
        let documents = tidegate::mesh::document::parse("examples/local/mesh.yaml", &text).unwrap();
        self.control.load_documents(&documents, false).await.unwrap().lines
    }
}
