//! Tests of `mesh::compile`.

#![expect(clippy::needless_pass_by_value, reason = "a spec is written where it is used")]

use super::*;
use crate::mesh::model::{Quotas, Request};
use crate::mesh::ops::{self, OpContext};
use crate::mesh::snapshot::{
    Discovery, HeaderMatch, NodeExtensions, PathMatch, Pattern, QueryMatch, RetryPolicy, ValueMatch,
};
use serde_json::{Value, json};

/// A state made of create and update requests.
#[derive(Default)]
struct Mesh(MeshState);

impl Mesh {
    fn create(&mut self, mesh: &str, kind: Kind, parent: &str, name: &str, spec: Value) -> &mut Self {
        let body = json!({ kind.name_member(): name, "spec": spec });
        let parent = (!parent.is_empty()).then(|| parent.to_owned());
        let mesh = (kind != Kind::Mesh).then(|| mesh.to_owned());
        self.apply(&Request::Create { kind, mesh, parent, owner: None, body })
    }

    fn update(&mut self, key: &Key, spec: Value) -> &mut Self {
        self.apply(&Request::Update {
            key: key.clone(),
            owner: None,
            body: json!({ "spec": spec }),
            extensions: crate::mesh::model::Extensions::default(),
        })
    }

    fn apply(&mut self, request: &Request) -> &mut Self {
        let context = OpContext {
            now: crate::base::time::Timestamp(1),
            uid: "uid".into(),
            account: "000000000000".into(),
            region: "us-east-1".into(),
            quotas: Quotas::AWS,
            strict: false,
        };
        let outcome = ops::apply(&self.0, request, &context).expect("is valid");
        self.0.commit(outcome.changes);
        self
    }

    /// Mesh `m` with nodes `a` and `b`, router `r` (port 90), service `s.local` of the router.
    fn shop() -> Self {
        let mut mesh = Self::default();
        mesh.create("", Kind::Mesh, "", "m", json!({}));
        for (name, port) in [("a", 80), ("b", 81)] {
            mesh.create("m", Kind::VirtualNode, "", name, node(port, json!({})));
        }
        let listener = json!({ "portMapping": { "port": 90, "protocol": "http" } });
        mesh.create("m", Kind::VirtualRouter, "", "r", json!({ "listeners": [listener] }));
        let provider = json!({ "provider": { "virtualRouter": { "virtualRouterName": "r" } } });
        mesh.create("m", Kind::VirtualService, "", "S.local", provider);
        mesh
    }

    fn route(&mut self, name: &str, spec: Value) -> &mut Self {
        self.create("m", Kind::Route, "r", name, spec)
    }

    fn compiled(&self) -> Compiled {
        compile(&self.0, &View::AllServices, &Arc::default(), 1)
    }
}

fn node(port: u16, extra: Value) -> Value {
    let mut listener = json!({ "portMapping": { "port": port, "protocol": "http" } });
    if let (Value::Object(extra), Some(listener)) = (extra, listener.as_object_mut()) {
        listener.extend(extra);
    }
    json!({ "serviceDiscovery": { "dns": { "hostname": "127.0.0.1" } }, "listeners": [listener] })
}

fn http(matches: Value) -> Value {
    let action = json!({ "weightedTargets": [{ "virtualNode": "a", "weight": 1 }] });
    json!({ "httpRoute": { "match": matches, "action": action } })
}

fn with(mut spec: Value, member: &str, value: Value) -> Value {
    if member == "priority" {
        spec["priority"] = value;
    } else {
        spec["httpRoute"][member] = value;
    }
    spec
}

fn only_route(config: &NodeConfig) -> &Route {
    &config.services["s.local"].routes[0]
}

#[test]
fn routes_are_tried_in_the_documented_order() {
    let mut mesh = Mesh::shop();
    mesh.route("any", http(json!({})))
        .route("root", http(json!({ "prefix": "/" })))
        .route("long", http(json!({ "prefix": "/aaaa" })))
        .route("long-get", http(json!({ "prefix": "/bbbb", "method": "GET" })))
        .route("long-also", http(json!({ "prefix": "/cccc" })))
        .route("exact", http(json!({ "path": { "exact": "/" } })))
        .route("regex", http(json!({ "path": { "regex": "/.*" } })))
        .route("late", with(http(json!({ "prefix": "/aaaaaaaa" })), "priority", json!(1000)))
        .route("first", with(http(json!({ "prefix": "/" })), "priority", json!(0)));
    let config = mesh.compiled().config;
    let names: Vec<&str> = config.services["s.local"].routes.iter().map(|route| route.id.route.as_str()).collect();
    assert_eq!(names, ["first", "late", "exact", "long-get", "long", "long-also", "root", "any", "regex"]);
}

#[test]
fn matches_and_targets() {
    let mut mesh = Mesh::shop();
    let targets = json!([{ "virtualNode": "a", "weight": 3 }, { "virtualNode": "b", "weight": 0, "port": 81 }]);
    let matches = json!({ "prefix": "/x", "method": "POST", "port": 90 });
    mesh.route("x", json!({ "httpRoute": { "match": matches, "action": { "weightedTargets": targets } } }));
    let compiled = mesh.compiled();
    assert_eq!(compiled.problems, []);
    let service = &compiled.config.services["s.local"];
    assert_eq!((service.name.as_str(), service.mesh.as_str()), ("S.local", "m"));
    let route = only_route(&compiled.config);
    assert_eq!(
        route.matches,
        RouteMatch { path: PathMatch::Prefix("/x".into()), method: Some("POST".into()), ..RouteMatch::default() }
    );
    let targets: Vec<_> = route.targets.iter().map(|t| (t.cluster.node.as_str(), t.port, t.weight)).collect();
    assert_eq!(targets, [("a", 80, 3), ("b", 81, 0)]);
    for target in &route.targets {
        assert!(compiled.config.clusters.contains_key(&target.cluster));
    }
}

#[test]
fn defaults_and_overrides_of_time_and_retries() {
    let default = RetryPolicy {
        max_retries: 2,
        per_try_timeout: None,
        on_connect_failure: true,
        on_reset: true,
        on_refused_stream: true,
        statuses: vec![503],
        grpc: vec!["unavailable".into()],
    };
    let policy = |events: Value| {
        let mut policy = json!({ "maxRetries": 1, "perRetryTimeout": { "value": 5, "unit": "s" } });
        if let (Value::Object(events), Some(policy)) = (events, policy.as_object_mut()) {
            policy.extend(events);
        }
        with(http(json!({})), "retryPolicy", policy)
    };
    let own = |on_connect_failure, on_reset, statuses: &[u16]| RetryPolicy {
        max_retries: 1,
        per_try_timeout: Some(Millis(5000)),
        on_connect_failure,
        on_reset,
        statuses: statuses.to_vec(),
        ..RetryPolicy::default()
    };
    let timeout = |value: u64, unit: &str| json!({ "perRequest": { "value": value, "unit": unit } });
    for (spec, time, retry) in [
        (http(json!({})), Some(15_000), default.clone()),
        (with(http(json!({})), "timeout", json!({})), Some(15_000), default.clone()),
        (with(http(json!({})), "timeout", timeout(250, "ms")), Some(250), default.clone()),
        (with(http(json!({})), "timeout", timeout(0, "s")), None, default.clone()),
        (
            policy(json!({ "httpRetryEvents": ["gateway-error", "client-error", "stream-error"] })),
            Some(15_000),
            RetryPolicy { on_refused_stream: true, ..own(true, true, &[409, 502, 503, 504]) },
        ),
        (
            policy(json!({ "httpRetryEvents": ["server-error"] })),
            Some(15_000),
            own(true, true, &[500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511]),
        ),
        (policy(json!({ "tcpRetryEvents": ["connection-error"] })), Some(15_000), own(true, false, &[])),
        (policy(json!({ "httpRetryEvents": ["client-error"] })), Some(15_000), own(false, false, &[409])),
    ] {
        let mut mesh = Mesh::shop();
        mesh.route("x", spec.clone());
        let config = mesh.compiled().config;
        let route = only_route(&config);
        assert_eq!((route.request_timeout, &route.retry), (time.map(Millis), &retry), "{spec}");
    }
}

#[test]
fn headers_queries_and_patterns_are_compiled() {
    let range = json!({ "name": "x", "match": { "range": { "start": 1, "end": 9 } }, "invert": true });
    let present = json!({ "name": "X-Here" });
    let mut mesh = Mesh::shop();
    mesh.route(
        "x",
        http(json!({
            "scheme": "http",
            "path": { "regex": "/v[0-9]+" },
            "headers": [present, range],
            "queryParameters": [{ "name": "a" }, { "name": "b", "match": { "exact": "1" } }],
        })),
    );
    let compiled = mesh.compiled();
    assert!(compiled.problems.is_empty(), "{:?}", compiled.problems);
    let header = |name: &str, value, invert| HeaderMatch { name: name.to_owned(), value, invert };
    let query = |name: &str, exact: Option<&str>| QueryMatch { name: name.into(), exact: exact.map(str::to_owned) };
    let expected = RouteMatch {
        path: PathMatch::Regex(Pattern::new("/v[0-9]+").unwrap()),
        method: None,
        headers: vec![
            header("x-here", ValueMatch::Present, false),
            header("x", ValueMatch::Range { start: 1, end: 9 }, true),
        ],
        query: vec![query("a", None), query("b", Some("1"))],
        scheme: Some("http".into()),
        ..RouteMatch::default()
    };
    assert_eq!(only_route(&compiled.config).matches, expected);
}

#[test]
fn tcp_is_left_out_with_a_problem() {
    let mut mesh = Mesh::shop();
    let listener = json!({ "portMapping": { "port": 91, "protocol": "tcp" } });
    mesh.create("m", Kind::VirtualRouter, "", "t", json!({ "listeners": [listener] }));
    let action = json!({ "weightedTargets": [{ "virtualNode": "a", "weight": 1 }] });
    mesh.create("m", Kind::Route, "t", "x", json!({ "tcpRoute": { "action": action } }));
    let provider = json!({ "provider": { "virtualRouter": { "virtualRouterName": "t" } } });
    mesh.create("m", Kind::VirtualService, "", "t.local", provider);
    let compiled = mesh.compiled();
    assert!(compiled.config.services["t.local"].routes.is_empty());
    assert_eq!(
        compiled.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "mesh/m/virtualRouter/t/route/x: left out: the proxy of local mode takes requests alone (`tidegate proxy` carries connections)"
        ]
    );
}

#[test]
fn a_service_serves_as_soon_as_what_it_names_is_there() {
    let mut mesh = Mesh::shop();
    for (service, kind, name) in [("u.local", "Router", "later"), ("v.local", "Node", "c")] {
        let provider = json!({ "provider": { format!("virtual{kind}"): { format!("virtual{kind}Name"): name } } });
        mesh.create("m", Kind::VirtualService, "", service, provider);
    }
    let routes = |mesh: &Mesh, service: &str| mesh.compiled().config.services[service].routes.len();
    assert_eq!((routes(&mesh, "u.local"), routes(&mesh, "v.local")), (0, 0));
    // A node that says nowhere where it is has no endpoints, and its requests no healthy upstream.
    let listener = json!({ "portMapping": { "port": 80, "protocol": "http" } });
    mesh.create("m", Kind::VirtualNode, "", "c", json!({ "listeners": [listener] }));
    mesh.create("m", Kind::VirtualRouter, "", "later", json!({}));
    assert_eq!((routes(&mesh, "u.local"), routes(&mesh, "v.local")), (0, 1));
    let action = json!({ "weightedTargets": [{ "virtualNode": "c", "weight": 1 }] });
    mesh.create("m", Kind::Route, "later", "x", json!({ "httpRoute": { "match": {}, "action": action } }));
    assert_eq!(routes(&mesh, "u.local"), 1);
    let key = ClusterKey { mesh: "m".into(), node: "c".into() };
    assert_eq!(mesh.compiled().config.clusters[&key].discovery, Discovery::None);
    mesh.update(&Key::child("m", Kind::VirtualNode, "c"), node(80, json!({})));
    assert!(matches!(mesh.compiled().config.clusters[&key].discovery, Discovery::Dns { .. }));
}

#[test]
fn a_node_as_provider_gets_everything() {
    let mut mesh = Mesh::shop();
    let timeout = json!({ "timeout": { "http": { "perRequest": { "value": 3, "unit": "s" } } } });
    mesh.create("m", Kind::VirtualNode, "", "c", node(82, timeout));
    let provider = json!({ "provider": { "virtualNode": { "virtualNodeName": "c" } } });
    mesh.create("m", Kind::VirtualService, "", "c.local", provider);
    mesh.create("m", Kind::VirtualService, "", "nobody.local", json!({}));
    let config = mesh.compiled().config;
    assert!(config.services["nobody.local"].routes.is_empty());
    let [route] = &config.services["c.local"].routes[..] else { panic!("one route") };
    assert_eq!(route.id, RouteRef { mesh: "m".into(), router: String::new(), route: "c.local".into() });
    assert_eq!(route.matches, RouteMatch::default());
    assert_eq!(route.request_timeout, Some(Millis(3000)));
    assert_eq!((route.targets[0].port, route.targets[0].weight), (82, 100));
}

#[test]
fn clusters_say_how_a_node_is_found_and_watched() {
    let mut mesh = Mesh::shop();
    let check = json!({ "healthCheck": { "protocol": "http", "intervalMillis": 5000, "timeoutMillis": 2000,
        "healthyThreshold": 2, "unhealthyThreshold": 3 } });
    let mut spec = node(83, check);
    spec["serviceDiscovery"] = json!({ "awsCloudMap": { "namespaceName": "n", "serviceName": "s",
        "attributes": [{ "key": "k", "value": "v" }] } });
    mesh.create("m", Kind::VirtualNode, "", "c", spec);
    let provider = json!({ "provider": { "virtualNode": { "virtualNodeName": "c" } } });
    mesh.create("m", Kind::VirtualService, "", "c.local", provider);
    let config = mesh.compiled().config;
    let cluster = &config.clusters[&ClusterKey { mesh: "m".into(), node: "c".into() }];
    let attributes = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let discovery = Discovery::in_cloud_map("n", "s", attributes);
    assert_eq!(cluster.discovery, discovery);
    let health = cluster.ports[0].health_check.as_ref().expect("has one");
    assert_eq!((health.path.as_str(), health.port, health.unhealthy_threshold), ("/", None, 3));
}

#[test]
fn what_did_not_change_keeps_its_pointer() {
    let mut mesh = Mesh::shop();
    mesh.route("x", http(json!({ "prefix": "/" }))).route("y", http(json!({ "prefix": "/y" })));
    let provider = json!({ "provider": { "virtualNode": { "virtualNodeName": "b" } } });
    mesh.create("m", Kind::VirtualService, "", "b.local", provider);
    let first = mesh.compiled().config;
    let same = compile(&mesh.0, &View::AllServices, &first, 2).config;
    assert!(Arc::ptr_eq(&first, &same) && same.version == 1);

    mesh.update(&Key::grandchild("m", Kind::Route, "r", "x"), http(json!({ "prefix": "/x" })));
    let second = compile(&mesh.0, &View::AllServices, &first, 3).config;
    assert_eq!(second.version, 3);
    assert!(Arc::ptr_eq(&first.services["b.local"], &second.services["b.local"]));
    assert!(!Arc::ptr_eq(&first.services["s.local"], &second.services["s.local"]));
    let find = |config: &NodeConfig, name: &str| {
        let routes = &config.services["s.local"].routes;
        Arc::clone(routes.iter().find(|route| route.id.route == name).expect("is there"))
    };
    assert!(Arc::ptr_eq(&find(&first, "y"), &find(&second, "y")));
    assert!(!Arc::ptr_eq(&find(&first, "x"), &find(&second, "x")));
    for (key, cluster) in &first.clusters {
        assert!(Arc::ptr_eq(cluster, &second.clusters[key]));
    }
}

#[test]
fn the_first_mesh_by_name_has_a_service_name() {
    let mut mesh = Mesh::shop();
    mesh.create("", Kind::Mesh, "", "k", json!({}));
    mesh.create("k", Kind::VirtualService, "", "s.LOCAL", json!({}));
    let compiled = mesh.compiled();
    assert_eq!(compiled.config.services["s.local"].mesh, "k");
    let problem = compiled.problems[0].to_string();
    assert!(problem.starts_with("mesh/m/virtualService/S.local: not served, because mesh k"), "{problem}");
}

#[test]
fn a_node_sees_its_backends_by_name_and_by_arn() {
    let mut mesh = Mesh::shop();
    mesh.create("m", Kind::VirtualService, "", "b/c.local", json!({}));
    let backend = |name: &str| json!({ "virtualService": { "virtualServiceName": name } });
    let arn = "arn:aws:appmesh:us-east-1:000000000000:mesh/m/virtualService/b/c.local";
    let backends = json!([backend("S.local"), backend(arn), backend("missing")]);
    mesh.create("m", Kind::VirtualNode, "", "web", json!({ "backends": backends }));
    let names = |node: &str| {
        let view = View::Node { mesh: "m".into(), node: node.into() };
        let config = compile(&mesh.0, &view, &Arc::default(), 1).config;
        config.services.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names("web"), ["b/c.local", "s.local"]);
    assert!(names("a").is_empty() && names("unknown").is_empty());
}

#[test]
fn tags_of_a_node_are_its_clusters_and_a_wrong_one_is_a_problem() {
    let mut mesh = Mesh::shop();
    let target = json!({ "weightedTargets": [{ "virtualNode": "a", "weight": 1 }] });
    mesh.route("x", json!({ "httpRoute": { "match": { "prefix": "/" }, "action": target } }));
    let key = Key::child("m", Kind::VirtualNode, "a");
    let mut tagged = |tags: &[(&str, &str)]| {
        let old = mesh.0.get(&key).expect("it is there");
        let tags = tags.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect();
        let resource = Resource { tags, ..Resource::clone(old) };
        mesh.0.commit(vec![(key.clone(), Some(Arc::new(resource)))]);
        let Compiled { config, problems, .. } = mesh.compiled();
        let cluster = config.clusters.values().find(|cluster| &*cluster.key.node == "a").expect("it is a target");
        (cluster.extensions, problems.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(tagged(&[("team", "x")]), (NodeExtensions::default(), Vec::new()));
    let (extensions, problems) = tagged(&[("tidegate:balance", "by=least-request"), ("tidegate:retry-budget", "x=1")]);
    assert!(extensions.balance.is_some() && extensions.retry_budget.is_none());
    assert_eq!(problems.len(), 1);
    let said = "mesh/m/virtualNode/a: tidegate:retry-budget, character 1: \"x\" is not known here";
    assert!(problems[0].starts_with(said) && problems[0].ends_with("; this tag is not in force"), "{problems:?}");
}
