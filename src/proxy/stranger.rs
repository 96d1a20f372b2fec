//! Requests to what is no part of the mesh: under `ALLOW_ALL` one whose host no service has goes to where its connection was
//! sent before it was redirected, in HTTP/1.1, without limits of the mesh and without a second try, as with Envoy (appmesh
//! "Egress filter").
//!
//! It takes the way of all others, by a snapshot of its own that holds nothing but the address. Nobody is judged by it.

use super::config::{Compiled, Endpoints, Known};
use super::names;
use super::stats::TargetKey;
use super::worker::{Local, Placement, Worker};
use crate::base::ids::RouteRef;
use crate::base::time::Millis;
use crate::mesh::snapshot::{
    Cluster, ClusterKey, ClusterPort, Discovery, NodeConfig, NodeExtensions, Protocol, RetryPolicy, Route, RouteMatch,
    Target, VirtualService,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// How long both sides may be silent: Envoy's default for a stream, since the mesh says nothing of it.
const IDLE_TIMEOUT: Millis = Millis::from_seconds(300);
/// Name of the service and the node that it stands for. No mesh has it: names have no line ends.
const NAME: &str = "\nstranger";

impl Placement {
    /// To an address that is no part of the mesh.
    pub(super) fn out(worker: &Worker, address: SocketAddr) -> Option<Self> {
        let (mut compiled, now) = (only(address), worker.local());
        compiled.log.clone_from(&now.compiled.log);
        if let Some(own) = &now.compiled.config.own {
            // It is told as Envoy tells it, and as connections that are let out are: by the one cluster of all of them.
            let cluster = names::outside_cluster(own);
            for (set, tally) in compiled.sets.iter_mut().zip(&mut compiled.tallies) {
                set.name.clone_from(&cluster);
                *tally = TargetKey { cluster: cluster.clone(), service: String::new(), node: String::new() };
            }
            Arc::make_mut(&mut compiled.config).own = Some(Arc::clone(own));
        }
        let local = Local::unjudged(Arc::new(compiled), worker.draw());
        Self::drawn(worker, Rc::new(local), 0)
    }
}

/// A snapshot of one address.
fn only(address: SocketAddr) -> Compiled {
    let key = ClusterKey { mesh: String::new(), node: NAME.into() };
    let ports = vec![ClusterPort::plain(address.port(), Protocol::Http)];
    let cluster =
        Cluster { key: key.clone(), discovery: Discovery::None, ports, extensions: NodeExtensions::default() };
    let route = Route {
        id: RouteRef { mesh: String::new(), router: String::new(), route: "allow-all".into() },
        version: 0,
        protocol: Protocol::Http,
        matches: RouteMatch::default(),
        targets: vec![Target { cluster: key.clone(), port: address.port(), weight: 1 }],
        request_timeout: None,
        idle_timeout: Some(IDLE_TIMEOUT),
        retry: RetryPolicy::default(),
        fallback: None,
        extensions: None,
        fuse: None,
    };
    let routes = vec![Arc::new(route)];
    let service = VirtualService { mesh: String::new(), name: NAME.into(), ports: Vec::new(), routes };
    let config = NodeConfig {
        services: BTreeMap::from([(NAME.to_owned(), Arc::new(service))]),
        clusters: BTreeMap::from([(key.clone(), Arc::new(cluster))]),
        ..NodeConfig::default()
    };
    let endpoints = Endpoints::from([((key, address.port()), vec![Known::new(address)])]);
    Compiled::new(0, Arc::new(config), &endpoints, Arc::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_all_that_there_is() {
        for text in ["203.0.113.7:8080", "[2001:db8::7]:8080"] {
            let address: SocketAddr = text.parse().unwrap();
            let compiled = only(address);
            assert_eq!((compiled.routes.len(), compiled.sets.len()), (1, 1));
            assert_eq!((&compiled.sets[0].addresses[..], &compiled.sets[0].usable[..]), (&[address][..], &[0][..]));
            let route = &compiled.routes[0].route;
            assert_eq!((route.request_timeout, route.retry.max_retries), (None, 0));
        }
    }
}
