//! Tests of `mesh::ops`.

#![expect(clippy::needless_pass_by_value, reason = "a spec is written where it is used")]

mod changes;
mod leases;
mod properties;

use super::*;
use crate::mesh::wire;

pub(crate) const ACCOUNT: &str = "000000000000";

fn context(now: i64, strict: bool) -> OpContext {
    OpContext {
        now: Timestamp(now),
        uid: format!("uid-{now}"),
        account: ACCOUNT.into(),
        region: "us-east-1".into(),
        quotas: Quotas::AWS,
        strict,
    }
}

/// A control plane without the shell: each call is one millisecond later.
#[derive(Default)]
struct World {
    state: MeshState,
    now: i64,
    /// Whether what AWS refuses is refused.
    strict: bool,
}

impl World {
    /// One operation, as the wire names it; the reply as the wire shows it, or `code: message`.
    fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        self.call_with(method, path, body, None)
    }

    fn call_with(&mut self, method: &str, path: &str, body: &Value, generation: Option<&str>) -> Result<Value, String> {
        self.call_asking(method, path, body, wire::Asked { generation, ..wire::Asked::default() })
    }

    fn call_asking(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
        extensions: wire::Asked<'_>,
    ) -> Result<Value, String> {
        self.now += 1;
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let path = format!("/v20190125/{path}");
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let parts = wire::Parts { method, path: &path, query, extensions, body: text.as_bytes() };
        let told = |error: ApiError| format!("{}: {error}", error.code.name());
        let request = wire::request(parts).map_err(told)?;
        let outcome = apply(&self.state, &request, &context(self.now, self.strict)).map_err(told)?;
        assert!(request.writes() || outcome.changes.is_empty(), "reading changes nothing");
        self.state.commit(outcome.changes);
        Ok(wire::reply(&outcome.reply))
    }

    fn put(&mut self, path: &str, body: Value) -> Value {
        self.call("PUT", path, &body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn refused(&mut self, method: &str, path: &str, body: Value) -> String {
        let before = self.state.clone();
        let error = self.call(method, path, &body).expect_err("is refused");
        assert_eq!(self.state, before);
        error
    }

    /// Mesh `m`, nodes `a` and `b`, router `r` with route `x`, service `s`.
    fn shop() -> Self {
        let mut world = Self::default();
        world.put("meshes", json!({ "meshName": "m" }));
        for (name, port) in [("a", 80), ("b", 81)] {
            world.put("meshes/m/virtualNodes", json!({ "virtualNodeName": name, "spec": node(&[port]) }));
        }
        world.put("meshes/m/virtualRouters", json!({ "virtualRouterName": "r", "spec": router(&[90]) }));
        world.put("meshes/m/virtualRouter/r/routes", json!({ "routeName": "x", "spec": route("a", json!({})) }));
        world.put("meshes/m/virtualServices", json!({ "virtualServiceName": "s", "spec": provided("Router", "r") }));
        world
    }
}

fn node(ports: &[u16]) -> Value {
    let listeners: Vec<Value> =
        ports.iter().map(|port| json!({ "portMapping": { "port": port, "protocol": "http" } })).collect();
    json!({ "serviceDiscovery": { "dns": { "hostname": "h" } }, "listeners": listeners })
}

fn router(ports: &[u16]) -> Value {
    let listeners: Vec<Value> =
        ports.iter().map(|port| json!({ "portMapping": { "port": port, "protocol": "http" } })).collect();
    json!({ "listeners": listeners })
}

fn route(node: &str, matches: Value) -> Value {
    let targets = json!([{ "virtualNode": node, "weight": 1 }]);
    json!({ "httpRoute": { "match": matches, "action": { "weightedTargets": targets } } })
}

fn provided(kind: &str, name: &str) -> Value {
    json!({ "provider": { format!("virtual{kind}"): { format!("virtual{kind}Name"): name } } })
}

#[test]
fn versions_times_and_identity() {
    let mut world = World::shop();
    let path = "meshes/m/virtualRouter/r/routes/x";
    let made = world.call("GET", path, &Value::Null).expect("is there");
    let metadata = &made["metadata"];
    assert_eq!(metadata["arn"], "arn:aws:appmesh:us-east-1:000000000000:mesh/m/virtualRouter/r/route/x");
    assert_eq!((&metadata["version"], &metadata["createdAt"]), (&json!(1), &json!(0.005)));
    let updated = world.put(path, json!({ "spec": route("b", json!({ "prefix": "/" })) }));
    assert_eq!(updated["metadata"]["version"], 2);
    assert_eq!(updated["metadata"]["createdAt"], metadata["createdAt"]);
    assert_eq!(updated["metadata"]["lastUpdatedAt"], 0.008);
    assert_eq!(updated["metadata"]["uid"], metadata["uid"]);
    // The same again is a version more, too.
    assert_eq!(world.put(path, json!({ "spec": updated["spec"] }))["metadata"]["version"], 3);
    let gone = world.call("DELETE", path, &Value::Null).expect("may go");
    assert_eq!((&gone["metadata"]["version"], &gone["status"]["status"]), (&json!(4), &json!("DELETED")));
    assert!(world.refused("GET", path, Value::Null).starts_with("NotFoundException: Route with name x is not present"));
}

#[test]
fn what_must_be_there_first() {
    let mut world = World { strict: true, ..World::shop() };
    for (path, body, expected) in [
        ("meshes/o/virtualNodes", json!({ "virtualNodeName": "a", "spec": {} }), "Mesh with name o is not present"),
        (
            "meshes/m/virtualRouter/q/routes",
            json!({ "routeName": "x", "spec": route("a", json!({})) }),
            "VirtualRouter with name q is not present under mesh m for account 000000000000",
        ),
        (
            "meshes/m/virtualRouter/r/routes",
            json!({ "routeName": "y", "spec": route("z", json!({})) }),
            "VirtualNode with name z is not present under mesh m for account 000000000000",
        ),
        (
            "meshes/m/virtualRouter/r/routes/x",
            json!({ "spec": route("z", json!({})) }),
            "VirtualNode with name z is not present under mesh m for account 000000000000",
        ),
        (
            "meshes/m/virtualServices",
            json!({ "virtualServiceName": "t", "spec": provided("Node", "z") }),
            "VirtualNode with name z is not present",
        ),
        (
            "meshes/m/virtualServices/s",
            json!({ "spec": provided("Router", "z") }),
            "VirtualRouter with name z is not present",
        ),
        ("meshes/m/virtualNodes/z", json!({ "spec": {} }), "VirtualNode with name z is not present"),
    ] {
        let error = world.refused("PUT", path, body);
        assert!(error.starts_with(&format!("NotFoundException: {expected}")), "{path}: {error}");
    }
    // Backends are not looked up.
    let backend = json!({ "backends": [{ "virtualService": { "virtualServiceName": "nowhere" } }] });
    world.put("meshes/m/virtualNodes", json!({ "virtualNodeName": "c", "spec": backend }));
}

#[test]
fn what_comes_later_may_be_named_and_is_told_of_until_it_is_there() {
    let mut world = World::shop();
    let told = |world: &World| -> Vec<String> {
        let all = unresolved(&world.state).into_iter();
        all.map(|open| format!("{}: {}: {}", open.key.describe(), open.path, open.message)).collect()
    };
    assert_eq!(told(&world), Vec::<String>::new());
    let open = json!({ "listeners": [{ "portMapping": { "port": 80, "protocol": "http" } }] });
    let services = "meshes/m/virtualServices";
    let creations = [
        (services, json!({ "virtualServiceName": "t", "spec": provided("Router", "later") })),
        (services, json!({ "virtualServiceName": "u", "spec": provided("Node", "c") })),
        ("meshes/m/virtualNodes", json!({ "virtualNodeName": "d", "spec": open })),
    ];
    for (path, body) in &creations {
        let mut strict = World { strict: true, state: world.state.clone(), now: world.now };
        let error = strict.refused("PUT", path, body.clone());
        let expected =
            if *path == services { "NotFoundException: Virtual" } else { "BadRequestException: spec.service" };
        assert!(error.starts_with(expected), "{error}");
        world.put(path, body.clone());
    }
    let backends = json!({ "backends": [
        { "virtualService": { "virtualServiceName": "s" } },
        { "virtualService": { "virtualServiceName": "arn:aws:appmesh:r:000000000000:mesh/m/virtualService/v" } },
    ] });
    world.put("meshes/m/virtualNodes/b", json!({ "spec": backends }));
    let lines = told(&world);
    for (line, expected) in lines.iter().zip([
        "virtualNode b: spec.backends[1].virtualService.virtualServiceName: virtualService v does not exist yet",
        "virtualNode d: spec.serviceDiscovery: is missing, so nothing says where the node is",
        "virtualService t: spec.provider.virtualRouter.virtualRouterName: virtualRouter later does not exist yet",
        "virtualService u: spec.provider.virtualNode.virtualNodeName: virtualNode c does not exist yet",
    ]) {
        assert!(line.starts_with(expected), "{line}");
    }
    assert_eq!(lines.len(), 4);
    // A route's targets must be there in any case.
    let error = world.refused(
        "PUT",
        "meshes/m/virtualRouter/r/routes",
        json!({ "routeName": "y", "spec": route("later", json!({})) }),
    );
    assert!(error.starts_with("NotFoundException: VirtualNode with name later is not present"), "{error}");

    world.put("meshes/m/virtualRouters", json!({ "virtualRouterName": "later", "spec": router(&[90]) }));
    world.put("meshes/m/virtualNodes", json!({ "virtualNodeName": "c", "spec": node(&[80]) }));
    world.put("meshes/m/virtualNodes/d", json!({ "spec": node(&[80]) }));
    world.put(services, json!({ "virtualServiceName": "v", "spec": {} }));
    assert_eq!(told(&world), Vec::<String>::new());
    // What provides a service stays, as ever.
    let error = world.refused("DELETE", "meshes/m/virtualNodes/c", Value::Null);
    assert!(error.starts_with("ResourceInUseException"), "{error}");
}

#[test]
fn what_keeps_a_resource_from_being_deleted() {
    let mut world = World::shop();
    world.put("meshes/m/virtualServices", json!({ "virtualServiceName": "t", "spec": provided("Node", "b") }));
    let none = Value::Null;
    for (path, expected) in [
        (
            "meshes/m",
            "Mesh m for account 000000000000 has active VirtualServices, please delete VirtualServices before deleting \
             the Mesh",
        ),
        (
            "meshes/m/virtualRouters/r",
            "VirtualRouter with name r cannot be deleted because it is a VirtualService provider",
        ),
        (
            "meshes/m/virtualNodes/a",
            "VirtualNode with name a cannot be deleted because it is the target of one or more routes.",
        ),
        (
            "meshes/m/virtualNodes/b",
            "VirtualNode with name b cannot be deleted because it is a VirtualService provider",
        ),
    ] {
        let error = world.refused("DELETE", path, none.clone());
        assert_eq!(error, format!("ResourceInUseException: {expected}"));
    }
    for path in ["meshes/m/virtualServices/s", "meshes/m/virtualServices/t"] {
        world.call("DELETE", path, &none).expect("may go");
    }
    let error = world.refused("DELETE", "meshes/m/virtualRouters/r", none.clone());
    assert!(error.contains("it has one or more routes"), "{error}");
    for path in ["virtualRouter/r/routes/x", "virtualRouters/r", "virtualNodes/a"] {
        world.call("DELETE", &format!("meshes/m/{path}"), &none).expect("may go");
    }
    let error = world.refused("DELETE", "meshes/m", none.clone());
    assert!(error.contains("has active VirtualNodes, please delete VirtualNodes before"), "{error}");
    world.call("DELETE", "meshes/m/virtualNodes/b", &none).expect("may go");
    assert_eq!(world.call("DELETE", "meshes/m", &none).expect("may go")["metadata"]["version"], 1);
    assert_eq!(world.state, MeshState::default());
}

#[test]
fn several_listeners_ask_for_ports() {
    let mut world = World::shop();
    let error = world.refused("PUT", "meshes/m/virtualRouters/r", json!({ "spec": router(&[90, 91]) }));
    assert_eq!(
        error,
        "BadRequestException: All Routes for this Virtual Router must define a port match before adding multiple \
         listeners to this Virtual Router. 1 Route(s) are missing port. Listing up to 5 route names: [x]"
    );
    let path = "meshes/m/virtualRouter/r/routes/x";
    let error = world.refused("PUT", path, json!({ "spec": route("a", json!({ "port": 91 })) }));
    assert!(error.contains("spec.httpRoute.match.port: the virtual router has no listener on port 91"), "{error}");
    world.put(path, json!({ "spec": route("a", json!({ "port": 90 })) }));
    world.put("meshes/m/virtualRouters/r", json!({ "spec": router(&[90, 91]) }));
    let error = world.refused("PUT", path, json!({ "spec": route("a", json!({})) }));
    assert!(error.ends_with("Route must define a port match criteria if the Virtual Router has multiple listeners"));

    let error = world.refused("PUT", "meshes/m/virtualNodes/a", json!({ "spec": node(&[80, 82]) }));
    assert!(error.contains("route r/x sends here without a port"), "{error}");
    let mut with_port = route("a", json!({ "port": 90 }));
    with_port["httpRoute"]["action"]["weightedTargets"][0]["port"] = json!(80);
    world.put(path, json!({ "spec": with_port }));
    world.put("meshes/m/virtualNodes/a", json!({ "spec": node(&[80, 82]) }));
    let error = world.refused("PUT", "meshes/m/virtualNodes/a", json!({ "spec": node(&[82]) }));
    assert!(error.contains("no longer listen on"), "{error}");
    with_port["httpRoute"]["action"]["weightedTargets"][0]["port"] = json!(83);
    let error = world.refused("PUT", path, json!({ "spec": with_port }));
    assert!(error.contains("weightedTargets[0].port: virtualNode a has no listener on port 83"), "{error}");
}

#[test]
fn tcp_and_http_do_not_mix() {
    let mut world = World::shop();
    let tcp = json!({ "tcpRoute": { "action": { "weightedTargets": [{ "virtualNode": "a", "weight": 1 }] } } });
    let error = world.refused("PUT", "meshes/m/virtualRouter/r/routes/x", json!({ "spec": tcp }));
    assert!(error.contains("a listener of protocol http cannot have a tcpRoute"), "{error}");
    let tcp = json!({ "listeners": [{ "portMapping": { "port": 90, "protocol": "tcp" } }] });
    let error = world.refused("PUT", "meshes/m/virtualRouters/r", json!({ "spec": tcp }));
    assert!(error.contains("route r/x is of another type"), "{error}");
    let http2 = json!({ "listeners": [{ "portMapping": { "port": 90, "protocol": "http2" } }] });
    world.put("meshes/m/virtualRouters/r", json!({ "spec": http2 }));
}

#[test]
fn client_tokens() {
    let mut world = World::default();
    let create = json!({ "meshName": "m", "clientToken": "t1", "spec": { "egressFilter": { "type": "DROP_ALL" } } });
    let first = world.put("meshes", create.clone());
    let update = json!({ "clientToken": "t2", "spec": {} });
    let second = world.put("meshes/m", update.clone());
    assert_eq!(world.put("meshes", create.clone()), first, "the answer of then");
    assert_eq!(world.put("meshes/m", update), second);
    let other = json!({ "meshName": "n", "clientToken": "t1" });
    assert!(
        world.refused("PUT", "meshes", other).starts_with("ConflictException: The request contains a client token")
    );
    let again = json!({ "meshName": "m", "clientToken": "t3" });
    assert_eq!(world.refused("PUT", "meshes", again), "ConflictException: Mesh with name m already exists");
    for token in ["u1", "u2", "u3"] {
        world.put("meshes/m", json!({ "clientToken": token, "spec": {} }));
    }
    // Four are remembered; t1 is not, and so its request is one for a name that is taken.
    assert!(world.refused("PUT", "meshes", create).contains("already exists"));
    assert_eq!(world.state.get(&Key::mesh("m")).map(|mesh| mesh.tokens.len()), Some(TOKENS_KEPT));
    world.call("DELETE", "meshes/m", &Value::Null).expect("may go");
    assert_eq!(world.state, MeshState::default(), "no token outlives its resource");
}

#[test]
fn generations_rise() {
    let mut world = World::shop();
    let path = "meshes/m/virtualRouter/r/routes/x";
    let body = json!({ "spec": route("b", json!({})) });
    world.call_with("PUT", path, &body, Some("5")).expect("is the first");
    let error = world.call_with("PUT", path, &body, Some("4")).expect_err("is stale");
    assert!(error.starts_with("ConflictException: x-tidegate-generation 4 is stale"), "{error}");
    world.call_with("PUT", path, &body, None).expect("asks nothing");
    world.call_with("PUT", path, &body, Some("5")).expect("is the same");
    let stored = world.state.get(&Key::grandchild("m", Kind::Route, "r", "x")).expect("is there");
    let row = Resource::from_row(&stored.to_row()).expect("reads its own");
    assert_eq!((&row, row.generation), (&**stored, Some(5)));
}

#[test]
fn lists_come_in_pages() {
    let mut world = World::shop();
    for name in ["d", "c"] {
        world.put("meshes/m/virtualNodes", json!({ "virtualNodeName": name, "spec": {} }));
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["virtualNodes"].as_array().expect("a list").iter();
        items.map(|item| item["virtualNodeName"].as_str().expect("a name").to_owned()).collect()
    };
    let first = world.call("GET", "meshes/m/virtualNodes?limit=2", &Value::Null).expect("a page");
    assert_eq!(names(&first), ["a", "b"]);
    let token = first["nextToken"].as_str().expect("there is more").to_owned();
    // A page goes on where the last one ended, whatever was created meanwhile.
    world.put("meshes/m/virtualNodes", json!({ "virtualNodeName": "a2", "spec": {} }));
    let path = format!("meshes/m/virtualNodes?nextToken={token}");
    let second = world.call("GET", &path, &Value::Null).expect("a page");
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second.get("nextToken"), None);
    for path in [
        format!("meshes/m/virtualRouters?nextToken={token}"),
        "meshes/m/virtualNodes?nextToken=zz".into(),
        "meshes/m/virtualNodes?nextToken=%C3%A4".into(),
        "meshes/m/virtualNodes?limit=0".into(),
        "meshes/m/virtualNodes?limit=101".into(),
        "meshes?limit=x".into(),
    ] {
        assert!(world.refused("GET", &path, Value::Null).starts_with("BadRequestException: "), "{path}");
    }
    let error = world.refused("GET", "meshes/o/virtualNodes", Value::Null);
    assert!(error.starts_with("NotFoundException: Mesh with name o"), "{error}");
}

#[test]
fn tags_are_bounded_and_merged() {
    let mut world = World::default();
    let tags: Vec<Value> = (0..50).map(|at| json!({ "key": format!("k{at:02}"), "value": "v" })).collect();
    world.put("meshes", json!({ "meshName": "m", "tags": tags }));
    let arn = "arn:aws:appmesh:eu-west-1:000000000000:mesh/m";
    let error =
        world.refused("PUT", &format!("tag?resourceArn={arn}"), json!({ "tags": [{ "key": "n", "value": "" }] }));
    assert!(error.starts_with("TooManyTagsException: "), "{error}");
    world.put(&format!("tag?resourceArn={arn}"), json!({ "tags": [{ "key": "k00", "value": "w" }] }));
    world.put(&format!("untag?resourceArn={arn}"), json!({ "tagKeys": ["k01", "unknown"] }));
    let list = world.call("GET", &format!("tags?resourceArn={arn}&limit=1"), &Value::Null).expect("a page");
    assert_eq!(list["tags"], json!([{ "key": "k00", "value": "w" }]));
    assert!(list["nextToken"].is_string());
    let made = world.call("GET", "meshes/m", &Value::Null).expect("is there");
    assert_eq!(made["metadata"]["version"], 1);
    for (path, code) in [
        ("tags", "BadRequestException: resourceArn: is required"),
        ("tags?resourceArn=mesh/m", "BadRequestException: resourceArn: "),
        ("tags?resourceArn=arn:aws:appmesh:r:111111111111:mesh/m", "NotFoundException"),
        ("tags?resourceArn=arn:aws:appmesh:r:000000000000:mesh/o", "NotFoundException"),
    ] {
        let error = world.refused("GET", path, Value::Null);
        assert!(error.starts_with(code), "{path}: {error}");
    }
}

#[test]
fn quotas_and_owners() {
    let mut world = World::default();
    for at in 0..15 {
        world.put("meshes", json!({ "meshName": format!("m{at}") }));
    }
    let error = world.refused("PUT", "meshes", json!({ "meshName": "m15" }));
    assert_eq!(error, "LimitExceededException: the account already has 15 meshes, and 15 are allowed");
    let backends: Vec<Value> =
        (0..51).map(|at| json!({ "virtualService": { "virtualServiceName": format!("s{at}") } })).collect();
    let body = json!({ "virtualNodeName": "n", "spec": { "backends": backends } });
    assert!(world.refused("PUT", "meshes/m1/virtualNodes", body).starts_with("LimitExceededException: "));

    world.call("GET", "meshes/m1?meshOwner=000000000000", &Value::Null).expect("is ours");
    let error = world.refused("GET", "meshes/m1?meshOwner=111111111111", Value::Null);
    assert_eq!(error, "NotFoundException: Mesh with name m1 is not present for account 111111111111");
}

#[test]
fn gateways_and_their_routes() {
    let mut world = World::shop();
    let gateway = |ports: &[u16]| json!({ "listeners": router(ports)["listeners"] });
    let route = |matches: Value, target: &str| {
        let target = json!({ "virtualService": { "virtualServiceName": target } });
        json!({ "httpRoute": { "match": matches, "action": { "target": target } } })
    };
    world.put("meshes/m/virtualGateways", json!({ "virtualGatewayName": "g", "spec": gateway(&[88]) }));
    let routes = "meshes/m/virtualGateway/g/gatewayRoutes";
    let body = json!({ "gatewayRouteName": "y", "spec": route(json!({ "prefix": "/" }), "nowhere") });
    let error = world.refused("PUT", routes, body);
    assert!(error.starts_with("NotFoundException: VirtualService with name nowhere is not present"), "{error}");
    let body = json!({ "gatewayRouteName": "y", "spec": route(json!({ "prefix": "/" }), "s") });
    let made = world.put(routes, body);
    assert_eq!(made["virtualGatewayName"], "g");
    assert_eq!(
        made["metadata"]["arn"],
        "arn:aws:appmesh:us-east-1:000000000000:mesh/m/virtualGateway/g/gatewayRoute/y"
    );
    let error = world.refused("PUT", "meshes/m/virtualGateways/g", json!({ "spec": gateway(&[88, 89]) }));
    assert!(error.contains("gatewayRoute g/y has no match.port"), "{error}");
    let path = format!("{routes}/y");
    let error = world.refused("PUT", &path, json!({ "spec": route(json!({ "port": 1 }), "s") }));
    assert!(error.contains("spec.httpRoute.match.port: the virtual gateway has no listener on port 1"), "{error}");
    world.put(&path, json!({ "spec": route(json!({ "prefix": "/", "port": 88 }), "s") }));
    world.put("meshes/m/virtualGateways/g", json!({ "spec": gateway(&[88, 89]) }));

    let error = world.refused("DELETE", "meshes/m/virtualServices/s", Value::Null);
    assert_eq!(
        error,
        "ResourceInUseException: VirtualService s is being referenced in the following: GATEWAY_ROUTE: \
         [mesh/m/virtualGateway/g/gatewayRoute/y]"
    );
    let error = world.refused("DELETE", "meshes/m/virtualGateways/g", Value::Null);
    assert!(error.contains("cannot be deleted because it has one or more gateway routes."), "{error}");
    for path in [path.as_str(), "meshes/m/virtualGateways/g", "meshes/m/virtualServices/s"] {
        world.call("DELETE", path, &Value::Null).expect("may go");
    }
}
