//! Health checks that the daemon makes itself: a plain GET to every endpoint of a version, beside what proxies check.
//!
//! An endpoint that refuses, times out or answers anything but success has failed: that is an answer. Not to know any
//! endpoint is none.

use crate::base::fault::Fault;
use crate::ports::{Checked, Health, NodeEndpoints};
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A check that takes longer has failed: the timeout that the user guide of App Mesh gives for health checks of HTTP
/// listeners in its examples.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Endpoints of a version that are asked. More would be load, and an ill version shows in the first ones.
const ASKED: usize = 64;
/// Of these, how many at a time.
const AT_A_TIME: usize = 16;

/// Checks over HTTP.
pub struct HttpHealth {
    nodes: Arc<dyn NodeEndpoints>,
    client: reqwest::Client,
}

impl HttpHealth {
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
        Ok(Self { nodes, client: client.map_err(|error| Fault::permanent("health", error))? })
    }

    /// What an endpoint did wrong; `None` when it answered with success. Its other addresses are asked where one refuses.
    async fn ask(&self, addresses: &[SocketAddr], path: &str) -> Result<Option<String>, Fault> {
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

#[async_trait]
impl Health for HttpHealth {
    async fn check(&self, mesh: &str, node: &str, path: &str) -> Result<Checked, Fault> {
        let mut endpoints = self.nodes.endpoints(mesh, node).await?;
        endpoints.truncate(ASKED);
        let asked = endpoints.len();
        let answers = futures_util::stream::iter(endpoints)
            .map(|addresses| async move { self.ask(&addresses, path).await })
            .buffered(AT_A_TIME);
        let answers: Vec<Option<String>> = answers.try_collect().await?;
        let failures: Vec<String> = answers.into_iter().flatten().collect();
        Ok(Checked { asked, failed: failures.len(), first: failures.into_iter().next() })
    }
}
