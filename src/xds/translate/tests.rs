//! Tests of `xds::translate`. What Envoy makes of it is tried with a real one in `tests/it/conformance.rs`.

use super::*;
use crate::base::certificate::SecretPem;
use crate::base::ids::RouteRef;
use crate::base::secret::Redacted;
use crate::base::time::Millis;
use crate::mesh::snapshot::{
    Certificate, Cluster, ClusterPort, Discovery, IpPreference, Listener, NodeExtensions, Own, Protocol, RetryPolicy,
    Route, RouteMatch, ServerTls, ServerTlsMode, ServicePort, Target, Trust, UpstreamTls, VirtualService,
};

fn cluster(node: &str, tls: Option<UpstreamTls>, discovery: Discovery) -> (ClusterKey, Arc<Cluster>) {
    let key = ClusterKey { mesh: "m".into(), node: node.into() };
    let ports = vec![ClusterPort { tls, ..ClusterPort::plain(80, Protocol::Http) }];
    let cluster = Cluster { key: key.clone(), discovery, ports, extensions: NodeExtensions::default() };
    (key, Arc::new(cluster))
}

fn by_name() -> Discovery {
    Discovery::by_name("shop.local", false)
}

/// Node `web`, whose backend `s.local` on port 8080 goes to `a` and `b` by these weights.
fn config(weights: [u32; 2], tls: Option<UpstreamTls>, own_tls: Option<ServerTls>, discovery: Discovery) -> NodeConfig {
    let a = cluster("a", tls, discovery.clone());
    let b = cluster("b", None, discovery);
    let target = |key: &ClusterKey, weight| Target { cluster: key.clone(), port: 80, weight };
    let route = Route {
        id: RouteRef { mesh: "m".into(), router: "r".into(), route: "all".into() },
        version: 7,
        protocol: Protocol::Http,
        matches: RouteMatch::default(),
        targets: vec![target(&a.0, weights[0]), target(&b.0, weights[1])],
        request_timeout: Some(Millis(15_000)),
        idle_timeout: None,
        retry: RetryPolicy::default(),
        fallback: None,
        extensions: None,
        fuse: None,
    };
    let ports = vec![ServicePort { port: 8080, protocol: Protocol::Http }];
    let service = VirtualService { mesh: "m".into(), name: "s.local".into(), ports, routes: vec![Arc::new(route)] };
    let listener = Listener {
        port: 9000,
        protocol: Protocol::Http,
        request_timeout: None,
        idle_timeout: None,
        pool: None,
        tls: own_tls,
    };
    let own = Own {
        mesh: "m".into(),
        name: "web".into(),
        role: Role::Node,
        listeners: vec![listener],
        allow_all: false,
        access_log: None,
        ip_preference: IpPreference::Unset,
    };
    NodeConfig {
        version: 1,
        services: BTreeMap::from([("s.local".to_owned(), Arc::new(service))]),
        clusters: BTreeMap::from([a, b]),
        own: Some(Arc::new(own)),
        gateways: Vec::new(),
    }
}

fn translated(config: &NodeConfig) -> Resources {
    translate(config, &Options::default(), &Endpoints::new(), &SecretFiles::default())
}

fn names(resources: &Resources, kind: Type) -> Vec<&str> {
    resources.of(kind).keys().map(String::as_str).collect()
}

#[test]
fn names_are_those_of_app_mesh() {
    let resources = translated(&config([90, 10], None, None, by_name()));
    assert_eq!(
        names(&resources, Type::Cluster),
        ["cds_egress_m_a_http_80", "cds_egress_m_amazonaws", "cds_egress_m_b_http_80", "cds_ingress_m_web_http_9000"]
    );
    assert_eq!(names(&resources, Type::Listener), ["lds_egress_0.0.0.0_15001", "lds_ingress_0.0.0.0_15000"]);
    assert_eq!(
        names(&resources, Type::Route),
        ["rds_egress_http_15001", "rds_egress_http_8080", "rds_ingress_http_9000"]
    );
    assert!(resources.of(Type::Endpoint).is_empty() && resources.problems.is_empty());
    assert_eq!(translated(&NodeConfig::default()), Resources::default(), "nothing without an own node");
}

#[test]
fn who_calls_the_sidecar_itself_may_name_its_port_in_the_host() {
    let resources = translated(&config([90, 10], None, None, by_name()));
    let domains = |name: &str| {
        let bytes = &*resources.of(Type::Route)[name].any.value;
        let routes =
            <envoy_types::pb::envoy::config::route::v3::RouteConfiguration as prost::Message>::decode(bytes).unwrap();
        routes.virtual_hosts[0].domains.clone()
    };
    assert_eq!(domains("rds_egress_http_15001"), ["s.local", "s.local:15001", "s.local:8080"]);
    assert_eq!(domains("rds_egress_http_8080"), ["s.local", "s.local:8080"], "what is intercepted has its own port");
}

#[test]
fn weights_change_routes_and_nothing_else_and_equal_values_are_equal_bytes() {
    let before = translated(&config([90, 10], None, None, by_name()));
    assert_eq!(before, translated(&config([90, 10], None, None, by_name())));
    let mut after = translated(&config([50, 50], None, None, by_name()));
    after.share_with(&before);
    for kind in [Type::Cluster, Type::Endpoint, Type::Secret, Type::Listener] {
        assert_eq!(before.of(kind), after.of(kind), "{kind:?}");
    }
    let route = |resources: &Resources, name: &str| Arc::clone(&resources.of(Type::Route)[name]);
    assert_ne!(route(&before, "rds_egress_http_8080").version, route(&after, "rds_egress_http_8080").version);
    let same = "rds_ingress_http_9000";
    assert!(Arc::ptr_eq(&route(&before, same), &route(&after, same)), "what did not change is one value");
    let needs: Vec<_> = route(&after, "rds_egress_http_8080").needs.iter().cloned().collect();
    assert_eq!(needs, ["cds_egress_m_a_http_80", "cds_egress_m_b_http_80"]);
}

#[test]
fn endpoints_come_by_the_stream_where_a_proxy_cannot_find_them() {
    let map = Discovery::in_cloud_map("n", "s", BTreeMap::new());
    let key = ClusterKey { mesh: "m".into(), node: "a".into() };
    let known = Endpoints::from([((key, 80), vec!["10.0.0.1:80".parse().unwrap()])]);
    let here = Options { names_by_control_plane: true, ..Options::default() };
    for (discovery, options, expected) in [
        (map, Options::default(), 2),
        (by_name(), here, 2),
        (by_name(), Options::default(), 0),
        (Discovery::None, Options::default(), 0),
    ] {
        let config = config([1, 0], None, None, discovery.clone());
        let resources = translate(&config, &options, &known, &SecretFiles::default());
        assert_eq!(resources.of(Type::Endpoint).len(), expected, "{discovery:?}");
    }
}

#[test]
fn a_certificate_of_acm_needs_a_stand_in_and_nothing_goes_in_the_clear_without() {
    let arn = "arn:aws:acm:us-west-2:1:certificate/c".to_owned();
    let tls = UpstreamTls {
        trust: Some(Trust::Acm { arns: vec![arn.clone()] }),
        names: vec!["shop.local".into()],
        certificate: None,
        server_name: None,
    };
    let own = ServerTls {
        mode: ServerTlsMode::Strict,
        certificate: Certificate::Acm { arn: arn.clone() },
        client_trust: None,
        client_names: Vec::new(),
    };
    let config = config([1, 1], Some(tls), Some(own), by_name());
    let without = translated(&config);
    assert_eq!(without.problems.len(), 2, "{:?}", without.problems);
    assert!(without.problems[0].starts_with("mesh/m/virtualNode/a: is not reached: nothing stands in for arn:aws:acm"));
    let bytes = &without.of(Type::Cluster)["cds_egress_m_a_http_80"].any.value;
    let name = b"shop.local";
    assert!(!bytes.windows(name.len()).any(|window| window == name), "it has no endpoints");

    let pem = SecretPem { chain: "C".into(), key: Redacted::new("K".into()), authorities: "A".into() };
    let secrets = SecretFiles { by_name: BTreeMap::from([(arn.clone(), pem)]) };
    let with = translate(&config, &Options::default(), &Endpoints::new(), &secrets);
    assert!(with.problems.is_empty(), "{:?}", with.problems);
    assert_eq!(names(&with, Type::Secret), [arn]);
    assert!(!format!("{with:?}").contains("\"K\""));
}

#[test]
fn tags_of_a_node_are_members_of_its_cluster() {
    use envoy_types::pb::envoy::config::cluster::v3 as pb;
    use envoy_types::pb::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy};
    let told = |tags: &[(&str, &str)]| {
        let mut config = config([90, 10], None, None, by_name());
        let (extensions, flaws) = NodeExtensions::read(tags.iter().copied());
        assert_eq!(flaws, []);
        for cluster in config.clusters.values_mut().filter(|cluster| &*cluster.key.node == "a") {
            Arc::make_mut(cluster).extensions = extensions;
        }
        let resources = translated(&config);
        let bytes = &*resources.of(Type::Cluster)["cds_egress_m_a_http_80"].any.value;
        <pb::Cluster as prost::Message>::decode(bytes).unwrap()
    };
    let budget = |cluster: &pb::Cluster| cluster.circuit_breakers.as_ref().unwrap().thresholds[0].retry_budget;
    let plain = told(&[]);
    assert_eq!((plain.lb_policy(), &plain.lb_config, budget(&plain)), (LbPolicy::RoundRobin, &None, None));
    assert_eq!(told(&[("tidegate:balance", "by=round-robin")]), plain);
    let least = told(&[("tidegate:balance", "by=least-request"), ("tidegate:retry-budget", "percent=12.5 least=4")]);
    assert_eq!(least.lb_policy(), LbPolicy::LeastRequest);
    let bound = budget(&least).unwrap();
    assert_eq!(
        (bound.budget_percent.map(|percent| percent.value), bound.min_retry_concurrency.unwrap().value),
        (Some(12.5), 4)
    );
    for (tag, policy) in
        [("slow-start=30s", LbPolicy::RoundRobin), ("slow-start=30s by=least-request", LbPolicy::LeastRequest)]
    {
        let slow = told(&[("tidegate:balance", tag)]);
        assert_eq!(slow.lb_policy(), policy);
        let slow_start = match slow.lb_config {
            Some(LbConfig::RoundRobinLbConfig(config)) => config.slow_start_config,
            Some(LbConfig::LeastRequestLbConfig(config)) => config.slow_start_config,
            other => panic!("{other:?}"),
        };
        assert_eq!(slow_start.unwrap().slow_start_window.unwrap().seconds, 30);
    }
}

fn telling(config: &NodeConfig) -> Resources {
    let options = Options { reports_to: Some("control".into()), ..Options::default() };
    translate(config, &options, &Endpoints::new(), &SecretFiles::default())
}

fn with_route(config: &NodeConfig, change: impl Fn(&mut Route)) -> NodeConfig {
    let mut changed = config.clone();
    for service in changed.services.values_mut() {
        Arc::make_mut(service).routes.iter_mut().for_each(|route| change(Arc::make_mut(route)));
    }
    changed
}

/// The log is the same whatever the routes are, so that a route with a second version changes no listener.
#[test]
fn whoever_can_tells_of_requests_to_routes_of_two_versions() {
    let two = config([75, 25], None, None, by_name());
    let one = with_route(&two, |route| route.targets.truncate(1));
    let [silent, told, alone] = [translated(&two), telling(&two), telling(&one)];
    assert_eq!(*silent.counted, CountedRoutes::default());
    assert_ne!(silent.of(Type::Listener), told.of(Type::Listener));
    assert_eq!(told.of(Type::Listener), alone.of(Type::Listener));
    assert_eq!(*alone.counted, CountedRoutes::default());
    assert_ne!(silent.of(Type::Route), told.of(Type::Route), "the route is marked");
    assert_eq!(translated(&one).of(Type::Route), alone.of(Type::Route));

    let route = told.counted.get("r/all@7").expect("it is counted");
    assert_eq!((&*route.id.route, route.version), ("all", 7));
    let share = |node: &str| route.targets[&format!("cds_egress_m_{node}_http_80")].clone();
    assert_eq!((share("a"), share("b")), (("a".into(), 0.75), ("b".into(), 0.25)));
    let placed: Vec<_> = told.counted.within("rds_egress_http_8080").collect();
    assert_eq!(placed, [(&route.id, 7)]);
    assert_eq!(told.counted.within("rds_egress_http_15001").count(), 1);
    assert_eq!(told.counted.within("rds_ingress_http_9000").count(), 0);
}

#[test]
fn the_last_versions_of_a_route_are_known_as_long_as_it_is_there() {
    let first = config([75, 25], None, None, by_name());
    let mut last = telling(&first);
    for version in 8..=20 {
        let mut next = telling(&with_route(&first, |route| route.version = version));
        next.share_with(&last);
        last = next;
    }
    let known = |resources: &Resources| -> Vec<u64> {
        (1..=20).filter(|version| resources.counted.get(&format!("r/all@{version}")).is_some()).collect()
    };
    assert_eq!(known(&last), (13..=20).collect::<Vec<_>>());
    assert_eq!(last.counted.within("rds_egress_http_8080").map(|(_, version)| version).collect::<Vec<_>>(), [20]);
    // One that was made anew counts, whatever its number.
    let mut anew = telling(&with_route(&first, |route| route.version = 1));
    anew.share_with(&last);
    assert_eq!(known(&anew), [1].into_iter().chain(13..=20).collect::<Vec<_>>());
    let mut without = telling(&with_route(&first, |route| route.id.route = "other".into()));
    without.share_with(&anew);
    assert_eq!(known(&without), Vec::<u64>::new());
}
