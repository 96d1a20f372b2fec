//! Many streams of proxies in one process: each takes whatever comes, as Envoy does, and counts it.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use prost::Message;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

const CLUSTERS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const LISTENERS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// Requests of a proxy that wait to be sent: it answers one message at a time.
const WAITING_MAX: usize = 8;

/// What came to all streams of a kind.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// Streams that have routes.
    pub(super) ready: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl Came {
    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn ready(&self) -> u64 {
        self.ready.load(Ordering::Relaxed)
    }
}

/// Streams, until they are dropped.
#[derive(Default)]
pub(super) struct Proxies(JoinSet<()>);

impl Proxies {
    /// Another proxy, on a connection of its own, as each Envoy has one.
    pub(super) fn connect(&mut self, control: SocketAddr, node: String, came: &Arc<Came>) {
        let came = Arc::clone(came);
        self.0.spawn(async move {
            let ended = run(control, node, &came).await;
            panic!("a stream ended: {ended:?}");
        });
    }

    /// Fails when a stream has ended.
    pub(super) fn expect_all(&mut self) {
        if let Some(ended) = self.0.try_join_next() {
            ended.unwrap();
        }
    }
}

async fn run(control: SocketAddr, node: String, came: &Came) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut client = AggregatedDiscoveryServiceClient::connect(format!("http://{control}")).await?;
    let (requests, waiting) = mpsc::channel(WAITING_MAX);
    let first = |kind: &str, node| DiscoveryRequest { type_url: kind.to_owned(), node, ..Default::default() };
    requests.send(first(CLUSTERS, Some(Node { id: node, ..Default::default() }))).await?;
    requests.send(first(LISTENERS, None)).await?;
    let mut answers = client.stream_aggregated_resources(ReceiverStream::new(waiting)).await?.into_inner();
    let (mut names, mut has_routes) = (BTreeSet::new(), false);
    while let Some(answer) = answers.message().await? {
        came.messages.fetch_add(1, Ordering::Relaxed);
        came.bytes.fetch_add(answer.encoded_len() as u64, Ordering::Relaxed);
        let kind = answer.type_url.clone();
        let asked: Vec<String> = if kind == ROUTES { names.iter().cloned().collect() } else { Vec::new() };
        requests.send(taken(&answer, asked)).await?;
        if kind == LISTENERS {
            names = routes_of(&answer);
            let resource_names = names.iter().cloned().collect();
            requests.send(DiscoveryRequest { resource_names, ..first(ROUTES, None) }).await?;
        }
        if kind == ROUTES && !has_routes {
            has_routes = true;
            came.ready.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn taken(answer: &DiscoveryResponse, resource_names: Vec<String>) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: answer.type_url.clone(),
        version_info: answer.version_info.clone(),
        response_nonce: answer.nonce.clone(),
        resource_names,
        ..Default::default()
    }
}

/// Names of the routes that listeners ask for.
fn routes_of(answer: &DiscoveryResponse) -> BTreeSet<String> {
    let listeners = answer.resources.iter().map(|any| Listener::decode(&*any.value).unwrap());
    let filters = listeners.flat_map(|listener| listener.filter_chains).flat_map(|chain| chain.filters);
    let configs = filters.filter_map(|filter| match filter.config_type {
        Some(filter::ConfigType::TypedConfig(any)) if any.type_url.ends_with(".HttpConnectionManager") => {
            Some(HttpConnectionManager::decode(&*any.value).unwrap())
        }
        _ => None,
    });
    let names = configs.filter_map(|config| match config.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => Some(rds.route_config_name),
        _ => None,
    });
    names.collect()
}
