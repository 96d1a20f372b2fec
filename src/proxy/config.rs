//! The snapshot that requests are routed by: a [`NodeConfig`] together with the endpoints known now, compiled so that a
//! request looks up its host and nothing else.
//!
//! Immutable. Routes, endpoint sets, connection pools and count cells refer to each other by index, and a worker keeps
//! its own part of each in plain arrays (`worker.rs`). It holds no state of requests: a request keeps the snapshot that
//! routed it to its end.

mod wanted;

use super::access_log::Log;
use super::application;
use super::balance::Balanced;
use super::budget::Tries;
use super::carried;
use super::entrance::{self, Entered};
use super::fused::Wired;
use super::gate::{Bound, Gate};
use super::health_state::{Health, usable};
use super::intake::Refusal;
use super::leaving::Listeners;
use super::limit::Bucket;
use super::names;
use super::outlier::{Ejection, Failures};
use super::route::{RequestView, matches};
use super::stats::TargetKey;
use super::tls::{Secured, Towards};
use super::upstream::Spoken;
use super::whom::For;
use crate::base::ids::{NodeName, RouteRef};
use crate::clock::Monotonic;
use crate::mesh::snapshot::extension::{Limit, RetryBudget};
use crate::mesh::snapshot::{Cluster, ClusterKey, Discovery, NodeConfig, Own, Pool, Protocol, Route};
use http::{StatusCode, request};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
pub(super) use wanted::{sets_of, weighted_sets_of};

/// A cluster as reached over one port: targets of different routes may use different ports of one node.
pub(super) type SetKey = (ClusterKey, u16);

/// The endpoints known for each set.
pub(super) type Endpoints = BTreeMap<SetKey, Vec<Known>>;

/// An endpoint that is known.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) address: SocketAddr,
    /// By its checks.
    pub(super) health: Health,
    /// By its answers.
    pub(super) failures: Arc<Failures>,
    /// How often it was left out for them, and until when.
    pub(super) ejection: Ejection,
    /// Whether it is left out now.
    pub(super) is_ejected: bool,
    /// Counts who is on the way to it, where that is bounded.
    pub(super) gate: Arc<Gate>,
    /// Since when it is there, or healthy again.
    pub(super) since: Monotonic,
}

impl Known {
    /// One that was just found.
    pub(super) fn new(address: SocketAddr) -> Self {
        let (health, failures, ejection, gate) = Default::default();
        Self { address, health, failures, ejection, is_ejected: false, gate, since: Monotonic::now() }
    }
}

/// Buckets of routes, with the limits that they are for.
pub(super) type Buckets = BTreeMap<RouteRef, (Limit, Arc<Bucket>)>;

/// The compiled snapshot.
pub(super) struct Compiled {
    /// Rises with every publication, also those for endpoints or health alone.
    pub(super) generation: u64,
    /// What it was compiled from.
    pub(super) config: Arc<NodeConfig>,
    /// What connections begin with.
    pub(super) secured: Arc<Secured>,
    /// By name. Few, and a request compares a handful of short strings sooner than it has hashed its own.
    services: BTreeMap<String, CompiledService>,
    /// Ports of all services.
    ports: BTreeSet<u16>,
    /// The application beside the proxy, by its ports.
    applications: BTreeMap<u16, CompiledService>,
    /// The listeners of a virtual gateway, by their ports.
    pub(super) gateway: Listeners,
    /// Those that it has lost, for who is connected to them.
    pub(super) leaving: Listeners,
    /// Routes of connections that are carried as they are, by the port that they are sent to.
    carried: BTreeMap<u16, usize>,
    /// How many are carried to the application at a time, by its ports, where that is bounded.
    pub(super) own_connections: BTreeMap<u16, Bound>,
    /// The routes of all services, those of one service together and in match order.
    pub(super) routes: Vec<CompiledRoute>,
    /// What counts of clients' requests begin with: those to services first, then those of each own listener.
    pub(super) prefixes: Vec<String>,
    /// What is counted of targets, and under which name.
    pub(super) tallies: Vec<TargetKey>,
    /// The own node's or gateway's access log.
    pub(super) log: Option<Arc<Log>>,
    /// All sets that some route may use.
    pub(super) sets: Vec<EndpointSet>,
    /// Number of series: one cell each.
    pub(super) series: usize,
    /// Number of endpoints over all sets: one pool each.
    pub(super) endpoints: usize,
    /// Number of cells for what is not judged, and for all of sessions: two for each target of routes with extensions.
    pub(super) apart: usize,
    /// Number of routes with a fuse: one counter each.
    pub(super) fused: usize,
}

/// A virtual service.
pub(super) struct CompiledService {
    /// Ports that requests may be sent to, in the order of its provider; empty where that has none.
    ports: Vec<u16>,
    /// Its routes.
    routes: Range<usize>,
}

impl CompiledService {
    /// The port that a request is for, by the one in its host: without one, or with the proxy's own, it is the first.
    ///
    /// # Errors
    /// The service has no such port.
    pub(super) fn port(&self, said: Option<u16>, own: u16) -> Result<Option<u16>, u16> {
        match said {
            Some(port) if !self.ports.is_empty() && port != own => {
                self.ports.iter().find(|known| **known == port).map(|port| Some(*port)).ok_or(port)
            }
            _ => Ok(self.ports.first().copied()),
        }
    }

    /// Whether a redirected request is for it, by the port that its connection was sent to and the one in its host: with one in
    /// the host they have to agree.
    fn is_called(&self, sent_to: u16, said: Option<u16>) -> bool {
        match said {
            Some(said) => said == sent_to && self.ports.contains(&sent_to),
            None => self.ports.is_empty() || self.ports.contains(&sent_to),
        }
    }
}

/// A route with its targets resolved.
pub(super) struct CompiledRoute {
    /// The route.
    pub(super) route: Arc<Route>,
    /// Weights in target order.
    pub(super) weights: Vec<u32>,
    /// Targets in the same order.
    pub(super) targets: Vec<CompiledTarget>,
    /// Tokens for its requests, where they are bounded. All snapshots and all services with this route have the same.
    pub(super) bucket: Option<Arc<Bucket>>,
    /// What takes its canary out of the traffic, while that is split. All have the same here as well.
    pub(super) fuse: Option<Box<Wired>>,
}

/// A target of a route.
pub(super) struct CompiledTarget {
    /// The virtual node's name.
    pub(super) node: NodeName,
    /// Its share of the route's total weight.
    pub(super) share: f64,
    /// Index of its endpoint set.
    pub(super) set: usize,
    /// Index of its first series, which is for requests that found no endpoint; endpoint i has the i-th after it.
    pub(super) first_series: usize,
    /// Index of its cell for what is not judged, where its route has extensions or a fuse; behind it is that for all of sessions.
    pub(super) apart: usize,
    /// Index of its counts by Envoy's name.
    pub(super) tally: usize,
}

/// The endpoints of a virtual node on one port.
pub(super) struct EndpointSet {
    /// What it is.
    pub(super) key: SetKey,
    /// What Envoy calls it.
    pub(super) name: String,
    /// The node; `None` when the configuration names one that it does not hold.
    pub(super) cluster: Option<Arc<Cluster>>,
    /// All addresses: those in use first, then the other address family's, tried when a connect is refused.
    pub(super) addresses: Vec<SocketAddr>,
    /// Health by their checks in the same order.
    pub(super) healthy: Vec<bool>,
    /// Whether they are left out for their answers, in the same order.
    pub(super) ejected: Vec<bool>,
    /// Their failures in a row, in the same order.
    pub(super) failures: Vec<Arc<Failures>>,
    /// After how many of these one is left out; `None` for never.
    pub(super) max_failures: Option<u32>,
    /// Indexes to take turns over.
    pub(super) usable: Vec<u32>,
    /// Where the other family's addresses begin.
    pub(super) fallback_from: usize,
    /// Index of its first endpoint among all.
    pub(super) first_endpoint: usize,
    /// What its endpoints speak; `None` where requests cannot be sent to them.
    pub(super) spoken: Option<Spoken>,
    /// What connections to them begin with.
    pub(super) towards: Towards,
    /// How much may be on the way to them, where that is bounded.
    pub(super) bound: Option<Bound>,
    /// How one of them is chosen, where they do not just take turns.
    pub(super) balanced: Option<Balanced>,
    /// How many retries they take, where that is bounded, and what is under way. All snapshots have the same.
    pub(super) budget: Option<(RetryBudget, Arc<Tries>)>,
}

impl EndpointSet {
    fn new(
        key: SetKey,
        cluster: Option<Arc<Cluster>>,
        known: &[Known],
        first_endpoint: usize,
        pool: Option<Pool>,
        secured: &Secured,
    ) -> Self {
        // A name with addresses of both families is one server twice, so only its IPv4 addresses take turns.
        let by_name = cluster.as_ref().is_some_and(|cluster| matches!(cluster.discovery, Discovery::Dns { .. }));
        let mut known = known.to_vec();
        known.sort_by_key(|known| by_name && known.address.is_ipv6());
        let first_is_v4 = known.first().is_some_and(|known| known.address.is_ipv4());
        let falls_back = |known: &Known| by_name && first_is_v4 && known.address.is_ipv6();
        let fallback_from = known.iter().position(falls_back).unwrap_or(known.len());
        let listener = cluster.as_ref().and_then(|cluster| cluster.at(key.1));
        let max_failures = listener.and_then(|listener| listener.outlier).map(|detection| detection.max_server_errors);
        let towards = secured.towards(&key, listener.is_some_and(|listener| listener.tls.is_some()));
        let spoken = match listener.map(|listener| listener.protocol) {
            Some(Protocol::Http) | None => Some(Spoken::Http1),
            Some(Protocol::Http2 | Protocol::Grpc) => Some(Spoken::Http2),
            Some(Protocol::Tcp) => None,
        };
        let healthy: Vec<bool> = known.iter().map(|known| known.health.is_healthy()).collect();
        let ejected: Vec<bool> = known.iter().map(|known| known.is_ejected).collect();
        let in_order: Vec<bool> = healthy.iter().zip(&ejected).map(|(healthy, out)| *healthy && !out).collect();
        let extensions = cluster.as_ref().map(|cluster| cluster.extensions).unwrap_or_default();
        let usable = usable(&in_order[..fallback_from]);
        let since = || known.iter().map(|known| known.since).collect();
        Self {
            balanced: extensions.balance.map(|balance| Balanced::new(balance, since(), &usable)),
            budget: extensions.retry_budget.map(|budget| (budget, Arc::default())),
            name: application::cluster_name(&key, cluster.as_deref()),
            key,
            cluster,
            addresses: known.iter().map(|known| known.address).collect(),
            usable,
            healthy,
            ejected,
            failures: known.iter().map(|known| Arc::clone(&known.failures)).collect(),
            max_failures,
            fallback_from,
            first_endpoint,
            spoken,
            towards,
            bound: pool.zip(known.first().map(|known| Arc::clone(&known.gate))),
        }
    }
}

impl Compiled {
    /// Compiles. Cost is linear in the configuration; nothing here waits.
    pub(super) fn new(generation: u64, config: Arc<NodeConfig>, endpoints: &Endpoints, secured: Arc<Secured>) -> Self {
        let mut building = Building::new(&config, endpoints, &secured);
        let (mut services, mut applications, mut carried) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut routes = Vec::new();
        for (name, service) in &config.services {
            for port in service.ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
                let is_for = |route: &&Arc<Route>| {
                    route.protocol == Protocol::Tcp && route.matches.port.is_none_or(|wanted| wanted == port.port)
                };
                // A connection names no service: the first one by name has the port.
                if let Some(route) = service.routes.iter().find(is_for).filter(|_| !carried.contains_key(&port.port)) {
                    carried.insert(port.port, routes.len());
                    routes.push(building.route(name, route));
                }
            }
            let from = routes.len();
            let requests = service.routes.iter().filter(|route| route.protocol != Protocol::Tcp);
            routes.extend(requests.map(|route| building.route(name, route)));
            let ports = service.ports.iter().filter(|port| port.protocol != Protocol::Tcp).map(|port| port.port);
            let compiled = CompiledService { ports: ports.collect(), routes: from..routes.len() };
            match application::port_of(name) {
                Some(port) => drop(applications.insert(port, compiled)),
                None => drop(services.insert(name.to_ascii_lowercase(), compiled)),
            }
        }
        let Building { sets, series, slots, apart, tallies, .. } = building;
        let mut by_index: Vec<(usize, TargetKey)> = tallies.into_iter().map(|(key, index)| (index, key)).collect();
        by_index.sort_unstable_by_key(|(index, _)| *index);
        let tallies = by_index.into_iter().map(|(_, key)| key).collect();
        let prefixes = prefixes(config.own.as_deref());
        let ports = config.services.values().flat_map(|service| &service.ports).map(|port| port.port).collect();
        let gateway = entrance::listeners(&config, &secured);
        let log = config.own.as_ref().and_then(|own| own.access_log.as_ref()).map(|log| Arc::new(Log::new(log)));
        let mut compiled = Self {
            log,
            prefixes,
            tallies,
            generation,
            services,
            ports,
            applications,
            gateway,
            leaving: Listeners::new(),
            carried,
            own_connections: carried::bounds(config.own.as_deref()),
            routes,
            sets,
            series,
            endpoints: slots,
            apart,
            fused: 0,
            config,
            secured,
        };
        compiled.share_buckets(BTreeMap::new());
        compiled
    }

    /// The buckets of its routes.
    pub(super) fn buckets(&self) -> Buckets {
        let bucket = |route: &CompiledRoute| {
            let limit = route.route.extensions.as_ref()?.limit?;
            Some((route.route.id.clone(), (limit, Arc::clone(route.bucket.as_ref()?))))
        };
        self.routes.iter().filter_map(bucket).collect()
    }

    /// Gives each route that needs one a bucket: one of `known`, so that a new snapshot fills nobody's. Another limit is another
    /// bucket, since what is left in one means nothing under another rate.
    pub(super) fn share_buckets(&mut self, mut known: Buckets) {
        for route in &mut self.routes {
            let Some(limit) = route.route.extensions.as_ref().and_then(|all| all.limit) else { continue };
            let kept = known.entry(route.route.id.clone()).or_insert_with(|| (limit, Arc::default()));
            if kept.0 != limit {
                *kept = (limit, Arc::default());
            }
            route.bucket = Some(Arc::clone(&kept.1));
        }
    }

    /// The service with this name.
    pub(super) fn service(&self, host: &str) -> Option<&CompiledService> {
        self.services.get(host)
    }

    /// The service with this name, for a redirected request.
    pub(super) fn redirected(
        &self,
        host: &str,
        sent_to: u16,
        said: Option<u16>,
    ) -> Option<(&CompiledService, Option<u16>)> {
        let service = self.service(host).filter(|service| service.is_called(sent_to, said))?;
        Some((service, Some(sent_to).filter(|port| service.ports.contains(port))))
    }

    /// Whether what is no part of the mesh may be called too.
    pub(super) fn lets_all_out(&self) -> bool {
        self.config.own.as_ref().is_some_and(|own| own.allow_all)
    }

    /// The application on this port.
    pub(super) fn application(&self, port: u16) -> Option<&CompiledService> {
        self.applications.get(&port)
    }

    /// Takes a request in through a gateway's listener on this port.
    ///
    /// # Errors
    /// As [`entrance::Listener::enter`], or there is no such listener any more.
    pub(super) fn enter(&self, port: u16, is_secure: bool, head: &mut request::Parts) -> Result<Entered<'_>, Refusal> {
        let Some(listener) = self.entrance(port) else {
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                format!("the gateway has no listener on port {port} any more"),
            ));
        };
        listener.enter((port, is_secure), head)
    }

    /// A gateway's listener on this port, also one that it has lost.
    pub(super) fn entrance(&self, port: u16) -> Option<&Arc<entrance::Listener>> {
        self.gateway.get(&port).or_else(|| self.leaving.get(&port))
    }

    /// Whether who is connected so should go: the port is a gateway's no more.
    pub(super) fn is_leaving(&self, whom: For) -> bool {
        matches!(whom, For::Gateway { port } if !self.gateway.contains_key(&port))
    }

    /// Whether any service has this port.
    pub(super) fn is_known(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    /// Index of the route of connections to this port.
    pub(super) fn carried(&self, port: u16) -> Option<usize> {
        self.carried.get(&port).copied()
    }

    /// Index of the first of a service's routes that a request meets.
    pub(super) fn first_match(&self, service: &CompiledService, request: &RequestView<'_>) -> Option<usize> {
        service.routes.clone().find(|index| matches(&self.routes[*index].route.matches, request))
    }
}

/// A snapshot while it is compiled.
struct Building<'a> {
    config: &'a NodeConfig,
    endpoints: &'a Endpoints,
    secured: &'a Secured,
    sets: Vec<EndpointSet>,
    index: BTreeMap<SetKey, usize>,
    tallies: BTreeMap<TargetKey, usize>,
    series: usize,
    slots: usize,
    apart: usize,
}

impl<'a> Building<'a> {
    const fn new(config: &'a NodeConfig, endpoints: &'a Endpoints, secured: &'a Secured) -> Self {
        Self {
            config,
            endpoints,
            secured,
            sets: Vec::new(),
            index: BTreeMap::new(),
            tallies: BTreeMap::new(),
            series: 0,
            slots: 0,
            apart: 0,
        }
    }

    fn route(&mut self, service: &str, route: &Arc<Route>) -> CompiledRoute {
        let total: u64 = route.targets.iter().map(|target| u64::from(target.weight)).sum();
        let targets = route
            .targets
            .iter()
            .map(|target| {
                let set = self.set((target.cluster.clone(), target.port));
                let first_series = self.series;
                self.series += 1 + self.sets[set].addresses.len();
                let share = if total == 0 { 0.0 } else { f64::from(target.weight) / total as f64 };
                let apart = self.apart;
                self.apart += if route.extensions.is_some() || route.fuse.is_some() { 2 } else { 0 };
                CompiledTarget {
                    node: target.cluster.node.clone(),
                    share,
                    set,
                    first_series,
                    apart,
                    tally: self.tally(service, set),
                }
            })
            .collect();
        let weights = route.targets.iter().map(|target| target.weight).collect();
        CompiledRoute { route: Arc::clone(route), weights, targets, bucket: None, fuse: None }
    }

    fn tally(&mut self, service: &str, set: usize) -> usize {
        let EndpointSet { name, key, .. } = &self.sets[set];
        // What is for the application is nobody's target.
        let service = if application::port_of(service).is_some() { "" } else { service };
        let (cluster, service) = (name.clone(), service.to_owned());
        let key = TargetKey { cluster, service, node: key.0.node.clone() };
        let next = self.tallies.len();
        *self.tallies.entry(key).or_insert(next)
    }

    fn set(&mut self, key: SetKey) -> usize {
        if let Some(index) = self.index.get(&key) {
            return *index;
        }
        let known = self.endpoints.get(&key).map_or(&[][..], Vec::as_slice);
        let cluster = self.config.clusters.get(&key.0).cloned();
        let pool = application::pool(self.config, &key.0, key.1);
        self.sets.push(EndpointSet::new(key.clone(), cluster, known, self.slots, pool, self.secured));
        self.slots += known.len();
        self.index.insert(key, self.sets.len() - 1);
        self.sets.len() - 1
    }
}

/// What counts of clients' requests begin with.
fn prefixes(own: Option<&Own>) -> Vec<String> {
    let listeners = own.into_iter().flat_map(|own| own.listeners.iter().map(move |listener| (own, listener)));
    let of_listeners = listeners.map(|(own, listener)| names::prefix("ingress", own, listener.protocol, listener.port));
    std::iter::once("egress".to_owned()).chain(of_listeners).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Millis;
    use crate::mesh::snapshot::extension::Extensions;
    use crate::mesh::snapshot::{ClusterPort, NodeExtensions, RetryPolicy, RouteMatch, Target, VirtualService};

    fn cluster(node: &str, discovery: Discovery) -> (ClusterKey, Arc<Cluster>) {
        let key = ClusterKey { mesh: "m".into(), node: node.into() };
        let ports = vec![ClusterPort::plain(80, Protocol::Http)];
        let cluster = Cluster { key: key.clone(), discovery, ports, extensions: NodeExtensions::default() };
        (key, Arc::new(cluster))
    }

    fn two_targets() -> NodeConfig {
        let a = cluster("a", Discovery::by_name("localhost", true));
        let b = cluster("b", Discovery::None);
        let target = |key: &ClusterKey, weight| Target { cluster: key.clone(), port: 80, weight };
        let retry = RetryPolicy::default();
        let route = Arc::new(Route {
            id: RouteRef { mesh: "m".into(), router: "r".into(), route: "x".into() },
            version: 3,
            protocol: Protocol::Http,
            matches: RouteMatch::default(),
            targets: vec![target(&a.0, 3), target(&b.0, 1), target(&a.0, 0)],
            request_timeout: None,
            idle_timeout: None,
            retry,
            fallback: None,
            extensions: None,
            fuse: None,
        });
        let service =
            VirtualService { mesh: "m".into(), name: "Shop.local".into(), ports: vec![], routes: vec![route] };
        NodeConfig {
            version: 1,
            services: BTreeMap::from([("Shop.local".into(), Arc::new(service))]),
            clusters: BTreeMap::from([a, b]),
            own: None,
            gateways: Vec::new(),
        }
    }

    #[test]
    fn indexes_do_not_overlap_and_cover_every_endpoint() {
        let config = Arc::new(two_targets());
        let key = |node: &str| (ClusterKey { mesh: "m".into(), node: node.into() }, 80);
        let known = ["[::1]:80", "127.0.0.1:80"].map(|text| Known::new(text.parse().unwrap())).to_vec();
        let compiled = Compiled::new(1, Arc::clone(&config), &BTreeMap::from([(key("a"), known)]), Arc::default());

        let service = compiled.service("shop.local").unwrap();
        let headers = http::HeaderMap::new();
        let request = RequestView {
            method: "GET",
            path: "/",
            query: None,
            authority: "",
            scheme: None,
            headers: &headers,
            port: None,
        };
        assert_eq!(compiled.first_match(service, &request), Some(0));
        let route = &compiled.routes[0];
        assert!(compiled.service("other").is_none());
        assert_eq!(route.targets.iter().map(|t| t.first_series).collect::<Vec<_>>(), [0, 3, 4]);
        assert_eq!(route.targets.iter().map(|t| t.share).collect::<Vec<_>>(), [0.75, 0.25, 0.0]);
        assert_eq!((compiled.series, compiled.endpoints, compiled.sets.len()), (7, 2, 2));
        let set = &compiled.sets[0];
        assert_eq!((set.usable.as_slice(), set.fallback_from), (&[0][..], 1), "one name is one endpoint");
        assert_eq!(set.addresses[0], "127.0.0.1:80".parse().unwrap());
        assert_eq!(sets_of(&config).len(), 2);
        assert_eq!(weighted_sets_of(&config).len(), 2);
    }

    #[test]
    fn another_limit_is_another_bucket() {
        let limited = |requests| {
            let mut config = two_targets();
            let service = Arc::make_mut(config.services.get_mut("Shop.local").unwrap());
            let limit = Limit { requests, per: Millis(60_000), burst: 1 };
            Arc::make_mut(&mut service.routes[0]).extensions =
                Some(Box::new(Extensions { limit: Some(limit), ..Extensions::default() }));
            Compiled::new(1, Arc::new(config), &BTreeMap::new(), Arc::default())
        };
        let bucket = |compiled: &Compiled| Arc::clone(compiled.routes[0].bucket.as_ref().unwrap());
        let first = limited(100);
        for (requests, is_same) in [(100, true), (1000, false)] {
            let mut next = limited(requests);
            next.share_buckets(first.buckets());
            assert_eq!(Arc::ptr_eq(&bucket(&next), &bucket(&first)), is_same, "{requests}");
        }
    }
}
