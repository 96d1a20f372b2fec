//! Health checks that the daemon makes itself: a GET, a gRPC health check or a connection to every endpoint of a version,
//! beside what proxies check; or what ECS says of its tasks (`tasks`).
//!
//! An endpoint that refuses, times out or does not say that it is well has failed: that is an answer. Not to know any
//! endpoint is none.

use super::at_a_time;
use super::tasks::TaskHealth;
use crate::base::fault::Fault;
use crate::policy::plan::HealthProbe;
use crate::ports::{Checked, Health, NodeEndpoints};
use crate::probe::grpc;
use async_trait::async_trait;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// A check that takes longer has failed: the timeout that the user guide of App Mesh gives for health checks of HTTP
/// listeners in its examples.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Endpoints of a version that are asked. More would be load, and an ill version shows in the first ones.
const ASKED: usize = 64;
/// Of these, how many at a time.
const AT_A_TIME: usize = 16;

/// Checks of endpoints themselves.
pub struct EndpointHealth {
    nodes: Arc<dyn NodeEndpoints>,
    client: reqwest::Client,
    tasks: Option<TaskHealth>,
}

impl EndpointHealth {
    /// Over a source of endpoints.
    ///
    /// # Errors
    /// A permanent fault when no HTTP client can be made on this system.
    pub fn new(nodes: Arc<dyn NodeEndpoints>) -> Result<Self, Fault> {
        let client = reqwest::Client::builder()
            // The endpoint itself is meant: no proxy of the environment, no way to elsewhere.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            // It speaks no TLS, and the system's roots take memory.
            .tls_built_in_root_certs(false)
            // A connection that was kept would say little about whether a new client gets through.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION"), " health check"))
            .build();
        Ok(Self { nodes, client: client.map_err(|error| Fault::permanent("health", error))?, tasks: None })
    }

    /// Asks ECS as well, where a policy wants that.
    #[must_use]
    pub fn with_tasks(self, tasks: TaskHealth) -> Self {
        Self { tasks: Some(tasks), ..self }
    }

    /// Of the tasks of a node's service.
    async fn tasks(&self, node: &str, cluster: &str, service: Option<&String>) -> Result<Checked, Fault> {
        let permanent = |why: String| Err(Fault::permanent("health", why));
        match (&self.tasks, service) {
            (Some(tasks), Some(service)) => tasks.check(cluster, service).await,
            (None, _) => permanent("this daemon asks nothing of ECS: `tidegate serve` does".to_owned()),
            (_, None) => permanent(format!("the policy has no service of ECS for {node}")),
        }
    }

    /// What an endpoint did wrong; `None` when it is well.
    async fn ask(&self, addresses: &[SocketAddr], probe: &HealthProbe) -> Result<Option<String>, Fault> {
        match probe {
            HealthProbe::Http { path } => self.get(addresses, path).await,
            HealthProbe::Grpc { service } => Ok(in_time(addresses, probe, async {
                let (address, stream) = connect(addresses).await?;
                grpc::check(stream, service).await.map_err(|why| format!("{address} {why}"))
            })
            .await),
            HealthProbe::Tcp => Ok(in_time(addresses, probe, async { connect(addresses).await.map(|_| ()) }).await),
            // Nothing of it is asked of an endpoint.
            HealthProbe::Ecs { .. } => Ok(None),
        }
    }

    /// By HTTP. Other addresses of the endpoint are asked where one refuses.
    async fn get(&self, addresses: &[SocketAddr], path: &str) -> Result<Option<String>, Fault> {
        let mut refused = None;
        for address in addresses {
            match self.client.get(format!("http://{address}{path}")).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(None),
                Ok(answer) => return Ok(Some(format!("{address} answered {} to {path}", answer.status().as_u16()))),
                Err(error) if error.is_timeout() => {
                    return Ok(Some(format!("{address} did not answer {path} within {} s", TIMEOUT.as_secs())));
                }
                Err(error) if error.is_connect() => {
                    refused.get_or_insert_with(|| format!("{address} takes no connection"));
                }
                // Nobody was asked, so nobody can be blamed.
                Err(error) if error.is_builder() => return Err(Fault::permanent("health", error)),
                Err(_) => return Ok(Some(format!("{address} broke off its answer to {path}"))),
            }
        }
        Ok(refused)
    }
}

/// What a check that may hang came to.
async fn in_time(
    addresses: &[SocketAddr],
    probe: &HealthProbe,
    check: impl Future<Output = Result<(), String>>,
) -> Option<String> {
    let late = || {
        let address = addresses.first().map(ToString::to_string).unwrap_or_default();
        format!("{address} did not answer {probe} within {} s", TIMEOUT.as_secs())
    };
    tokio::time::timeout(TIMEOUT, check).await.unwrap_or_else(|_| Err(late())).err()
}

/// A connection to the first address that takes one.
async fn connect(addresses: &[SocketAddr]) -> Result<(SocketAddr, TcpStream), String> {
    for address in addresses {
        if let Ok(stream) = TcpStream::connect(address).await {
            return Ok((*address, stream));
        }
    }
    let first = addresses.first().map(ToString::to_string).unwrap_or_default();
    Err(format!("{first} takes no connection"))
}

#[async_trait]
impl Health for EndpointHealth {
    async fn check(&self, mesh: &str, node: &str, probe: &HealthProbe) -> Result<Checked, Fault> {
        if let HealthProbe::Ecs { cluster, services } = probe {
            return self.tasks(node, cluster, services.get(node)).await;
        }
        let mut endpoints = self.nodes.endpoints(mesh, node).await?;
        endpoints.truncate(ASKED);
        let asked = endpoints.len();
        let checks = endpoints.iter().map(|addresses| self.ask(addresses, probe)).collect();
        let answers = at_a_time(AT_A_TIME, checks).await.into_iter().collect::<Result<Vec<_>, Fault>>()?;
        let failures: Vec<String> = answers.into_iter().flatten().collect();
        Ok(Checked { asked, failed: failures.len(), first: failures.into_iter().next() })
    }
}
