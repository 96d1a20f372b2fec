//! What arrives for the application beside the proxy, as part of its configuration: each listener of the own node becomes a
//! service with one route to one address, so that requests for the application take the way of all others. Pure.

use super::names;
use crate::base::ids::RouteRef;
use crate::mesh::snapshot::{
    AppAddress, Cluster, ClusterKey, ClusterPort, Discovery, Listener, NodeConfig, NodeExtensions, Own, Pool, Protocol,
    RetryPolicy, Role, Route, RouteMatch, Target, VirtualService,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What the application's node is called by, behind the own node's name: no virtual node has a name with a blank.
const APPLICATION: &str = " application";

/// Name of the service that is the application on a port. No mesh can have it: names have no line ends.
#[must_use]
pub fn service_name(port: u16) -> String {
    format!("\n{port}")
}

/// The port, if it is such a name.
#[must_use]
pub fn port_of(service_name: &str) -> Option<u16> {
    service_name.strip_prefix('\n')?.parse().ok()
}

/// The listener that a connection is for: by the port that it was sent to before it was redirected here, or the first one
/// when it was sent here. `None`: nobody listens there.
#[must_use]
pub fn listener(own: &Own, sent_to: Option<u16>) -> Option<&Listener> {
    if own.role != Role::Node {
        return None;
    }
    match sent_to {
        Some(port) => own.listeners.iter().find(|listener| listener.port == port),
        None => own.listeners.first(),
    }
}

/// Bounds towards the application on a port.
#[must_use]
pub fn pool(config: &NodeConfig, key: &ClusterKey, port: u16) -> Option<Pool> {
    let own = config.own.as_ref()?;
    (*key == application(own)).then(|| listener(own, Some(port))).flatten()?.pool
}

/// Where the application is.
#[must_use]
pub fn address(own: &Own) -> IpAddr {
    match own.ip_preference.app_address() {
        AppAddress::V4 => Ipv4Addr::LOCALHOST.into(),
        AppAddress::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// The configuration with the application in it.
#[must_use]
pub fn with_application(config: &Arc<NodeConfig>) -> Arc<NodeConfig> {
    let Some(own) = config.own.as_ref().filter(|own| own.role == Role::Node) else { return Arc::clone(config) };
    let mut with = NodeConfig::clone(config);
    let key = application(own);
    let ports = own.listeners.iter().map(|listener| ClusterPort::plain(listener.port, listener.protocol)).collect();
    let discovery = Discovery::by_name(address(own).to_string(), false);
    with.clusters.insert(
        key.clone(),
        Arc::new(Cluster { key: key.clone(), discovery, ports, extensions: NodeExtensions::default() }),
    );
    for listener in own.listeners.iter().filter(|listener| listener.protocol != Protocol::Tcp) {
        let name = service_name(listener.port);
        let route = route(own, listener, &key, config.version);
        let service =
            VirtualService { mesh: own.mesh.clone(), name: name.clone(), ports: Vec::new(), routes: vec![route] };
        with.services.insert(name, Arc::new(service));
    }
    Arc::new(with)
}

/// Names the application as a target.
fn application(own: &Own) -> ClusterKey {
    ClusterKey { mesh: own.mesh.clone(), node: format!("{}{APPLICATION}", own.name) }
}

/// What Envoy calls a set of endpoints: the application's is named by its node.
#[must_use]
pub fn cluster_name((key, port): &(ClusterKey, u16), cluster: Option<&Cluster>) -> String {
    match key.node.strip_suffix(APPLICATION) {
        Some(node) => {
            let own = ClusterKey { mesh: key.mesh.clone(), node: node.into() };
            names::cluster("ingress", &own, cluster, *port)
        }
        None => names::cluster("egress", key, cluster, *port),
    }
}

fn route(own: &Own, listener: &Listener, key: &ClusterKey, version: u64) -> Arc<Route> {
    Arc::new(Route {
        id: RouteRef {
            mesh: own.mesh.clone(),
            router: String::new(),
            route: format!("{} ingress {}", own.name, listener.port),
        },
        version,
        protocol: listener.protocol,
        matches: RouteMatch::default(),
        targets: vec![Target { cluster: key.clone(), port: listener.port, weight: 1 }],
        request_timeout: listener.request_timeout,
        idle_timeout: listener.idle_timeout,
        // Whoever called this node tries again where that is wanted.
        retry: RetryPolicy::default(),
        fallback: None,
        extensions: None,
        fuse: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::snapshot::IpPreference;

    fn own(role: Role, ports: &[(u16, Protocol)]) -> Own {
        let listener = |&(port, protocol): &(u16, Protocol)| Listener {
            port,
            protocol,
            request_timeout: None,
            idle_timeout: None,
            pool: (port == 8080).then(|| Pool { connections: Some(3), ..Pool::default() }),
            tls: None,
        };
        Own {
            mesh: "m".into(),
            name: "web".into(),
            role,
            listeners: ports.iter().map(listener).collect(),
            allow_all: false,
            access_log: None,
            ip_preference: IpPreference::V6Only,
        }
    }

    #[test]
    fn each_listener_for_requests_is_a_service_of_its_own() {
        let own = own(Role::Node, &[(8080, Protocol::Http), (9090, Protocol::Grpc), (5432, Protocol::Tcp)]);
        let config = Arc::new(NodeConfig { version: 4, own: Some(Arc::new(own.clone())), ..NodeConfig::default() });
        let with = with_application(&config);
        let names: Vec<_> = with.services.keys().map(|name| port_of(name).unwrap()).collect();
        assert_eq!(names, [8080, 9090]);
        let key = application(&own);
        assert_eq!(with.clusters[&key].discovery, Discovery::by_name("::1", false));
        assert_eq!(pool(&with, &key, 8080).unwrap().connections, Some(3));
        assert_eq!(pool(&with, &key, 9090), None);
        assert_eq!(with.services[&service_name(9090)].routes[0].targets[0].port, 9090);
        assert_eq!(listener(&own, Some(5432)).unwrap().protocol, Protocol::Tcp);
        assert_eq!(listener(&own, None).unwrap().port, 8080);
        assert_eq!(listener(&own, Some(1)), None);
        assert_eq!(port_of("8080"), None);
    }

    #[test]
    fn a_gateway_and_nobody_have_no_application() {
        let gateway = own(Role::Gateway(Vec::new()), &[(80, Protocol::Http)]);
        assert_eq!(listener(&gateway, None), None);
        for own in [Some(Arc::new(gateway)), None] {
            let config = Arc::new(NodeConfig { own, ..NodeConfig::default() });
            assert!(Arc::ptr_eq(&with_application(&config), &config));
        }
    }
}
