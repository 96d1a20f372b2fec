//! Connections that are carried as they are.

use super::harness::{Backend, Mesh, Proxy, eventually};
use crate::kit::ports::steady_port;
use std::net::SocketAddr;
use std::sync::Arc;
use tidegate::base::tally::Outcomes;
use tidegate::mesh::snapshot::{NodeConfig, Protocol, ServicePort, Trust, UpstreamTls};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Its service is for connections on this port.
fn carried(mesh: &Mesh, port: u16) -> Arc<NodeConfig> {
    let mut config = NodeConfig::clone(&mesh.build());
    for service in config.services.values_mut() {
        Arc::make_mut(service).ports = vec![ServicePort { port, protocol: Protocol::Tcp }];
    }
    Arc::new(config)
}

#[tokio::test]
async fn a_target_whose_tls_cannot_be_used_is_not_reached_and_that_is_counted() {
    let backend = Backend::raw(|_| async {}).await;
    let mut mesh = Mesh::new(1).target("v1", backend.address, 1);
    mesh.route.protocol = Protocol::Tcp;
    for cluster in mesh.config.clusters.values_mut() {
        let port = &mut Arc::make_mut(cluster).ports[0];
        port.protocol = Protocol::Tcp;
        let trust = Some(Trust::File { chain: "/nonexistent/authorities.pem".into() });
        port.tls = Some(UpstreamTls { trust, names: Vec::new(), certificate: None, server_name: None });
    }
    let egress = SocketAddr::from(([127, 0, 0, 1], steady_port()));
    let proxy = Proxy::with(mesh.clone(), |settings| {
        settings.egress = egress;
        // A proxy of local mode would call it without TLS.
        settings.ingress = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    })
    .await;
    mesh = mesh.reweighted(&[1]);
    proxy.config.send_replace(carried(&mesh, egress.port()));
    eventually("applied", || async { proxy.handle.applied_version() >= mesh.config.version }).await;
    let mut stream = TcpStream::connect(egress).await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    let outcomes = || proxy.handle.report().series.first().map(|series| series.outcomes).unwrap_or_default();
    eventually("it is counted", || async { outcomes() != Outcomes::default() }).await;
    assert_eq!(outcomes(), Outcomes { requests: 1, reset: 1, ..Outcomes::default() });
    assert_eq!(backend.connections(), 0);
}
