//! Random gateways of a random mesh, and requests from outside.

use super::{Chance, NAMES, SERVICES, VALUES, document, grpc_match, http_match};
use serde_json::{Map, Value, json};

/// Routes of each gateway: as many as there may be.
const ROUTES: usize = 10;

/// Gateways, each with its listeners: the name that their port goes by, and what is spoken. gRPC through a listener for HTTP/1.1
/// is left out, since an Envoy's way to itself loses its trailers there.
pub(super) const GATEWAYS: [(&str, &[(&str, &str)]); 2] =
    [("double", &[("front", "http"), ("back", "http2")]), ("single", &[("side", "grpc")])];

/// All listeners: the name of its port, and what is spoken on it.
pub(super) fn doors() -> impl Iterator<Item = (&'static str, &'static str)> {
    GATEWAYS.iter().flat_map(|(_, listeners)| listeners.iter().copied())
}

/// The ports on which a service of the mesh is called.
fn ports_of(mesh: &[Value], service: &str) -> Vec<u64> {
    let is_it = |document: &&Value| document["virtualServiceName"] == *service;
    let provider = mesh.iter().find(is_it).map_or(&Value::Null, |document| &document["spec"]["provider"]);
    let router = &provider["virtualRouter"]["virtualRouterName"];
    let is_its = |document: &&Value| document["routeName"].is_null() && document["virtualRouterName"] == *router;
    let router = mesh.iter().find(|document| !router.is_null() && is_its(document));
    let listeners = router.and_then(|router| router["spec"]["listeners"].as_array()).into_iter().flatten();
    listeners.filter_map(|listener| listener["portMapping"]["port"].as_u64()).collect()
}

fn rewrite(chance: &mut Chance, matches: &Value) -> Value {
    let mut rewrite = Map::new();
    if chance.is(40) {
        let switch = chance.one(&["DISABLED", "DISABLED", "ENABLED"]);
        rewrite.insert("hostname".into(), json!({ "defaultTargetHostname": switch }));
    }
    if let Some(prefix) = matches["prefix"].as_str() {
        let to = match chance.below(4) {
            0 => Some(json!({ "defaultPrefix": "DISABLED" })),
            1 => Some(json!({ "defaultPrefix": "ENABLED" })),
            2 if prefix.ends_with('/') => Some(json!({ "value": chance.one(&["/red/", "/a/b/", "/x/../"]) })),
            _ => None,
        };
        rewrite.extend(to.map(|to| ("prefix".to_owned(), to)));
    } else if matches["path"].is_object() && chance.is(50) {
        rewrite.insert("path".into(), json!({ "exact": chance.one(&["/fixed", "/a/b", "/a/../b"]) }));
    }
    rewrite.into()
}

fn hostname(chance: &mut Chance) -> Value {
    match chance.below(2) {
        0 => json!({ "exact": chance.one(&["shop.test", "Shop.Test", "a.shop.test", "s1.local"]) }),
        _ => json!({ "suffix": chance.one(&[".test", ".shop.test", "test", ".local"]) }),
    }
}

/// A gateway's routes, for listeners on these ports.
fn routes(chance: &mut Chance, gateway: &str, listeners: &[(u16, &str)], mesh: &[Value]) -> Vec<Value> {
    let mut found = Vec::new();
    for number in 0..ROUTES {
        let (port, protocol) = chance.one(listeners);
        let (member, mut matches) = match protocol {
            "grpc" => ("grpcRoute", grpc_match(chance)),
            "http2" => ("http2Route", http_match(chance)),
            _ => ("httpRoute", http_match(chance)),
        };
        for other in ["scheme", "methodName"] {
            matches.as_object_mut().unwrap().remove(other);
        }
        if listeners.len() > 1 {
            matches["port"] = json!(port);
        }
        if chance.is(40) {
            matches["hostname"] = hostname(chance);
        }
        let service = format!("s{}.local", chance.below(SERVICES));
        let mut target = json!({ "virtualService": { "virtualServiceName": service } });
        let ports = ports_of(mesh, &service);
        if ports.len() > 1 {
            target["port"] = json!(chance.one(&ports));
        }
        let mut action = json!({ "target": target });
        if chance.is(60) {
            action["rewrite"] = rewrite(chance, &matches);
        }
        let mut spec = json!({ member: { "match": matches, "action": action } });
        if chance.is(35) {
            spec["priority"] = json!(chance.one(&[0, 5, 5, 10, 1000]));
        }
        let mut route = document("virtualGatewayName", gateway, &spec).as_object().unwrap().clone();
        route.insert("gatewayRouteName".into(), json!(format!("{}{number}", chance.one(&["a", "m", "z"]))));
        found.push(route.into());
    }
    found
}

/// The gateways of a mesh; `port` knows on which port a listener is.
pub(super) fn gateways(chance: &mut Chance, mesh: &[Value], mut port: impl FnMut(&str) -> u16) -> Vec<Value> {
    let mut found = Vec::new();
    for (name, listeners) in GATEWAYS {
        let listeners: Vec<(u16, &str)> = listeners.iter().map(|(door, protocol)| (port(door), *protocol)).collect();
        let of = |(port, protocol): &(u16, &str)| json!({ "portMapping": { "port": port, "protocol": protocol } });
        let spec = json!({ "listeners": listeners.iter().map(of).collect::<Vec<_>>() });
        found.push(document("virtualGatewayName", name, &spec));
        found.extend(routes(chance, name, &listeners, mesh));
    }
    found
}

/// A request to a listener that speaks this; `{port}` is the listener's.
pub(super) fn request(chance: &mut Chance, listener: &str) -> Value {
    let hosts = ["shop.test", "shop.test", "a.shop.test", "A.Shop.Test", "other.test", "test", "s1.local", "S2.local"];
    let host = format!("{}{}", chance.one(&hosts), chance.one(&["", "", ":{port}", ":9"]));
    let protocol = match listener {
        "http" => chance.one(&["http1", "http1", "h2c"]),
        "http2" => chance.one(&["http1", "h2c", "grpc"]),
        _ => chance.one(&["h2c", "grpc", "grpc", "grpc"]),
    };
    let paths = [
        "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/b", "/b/", "/a..", "/a../b", "//a", "/a/../b", "/a%2Fb",
        "/a.%2e", "/c",
    ];
    let calls = ["/shop.A/Get", "/shop.A/Put", "/shop.B/Get", "/shop.AB/Get", "/a"];
    let path = if protocol == "grpc" { chance.one(&calls) } else { chance.one(&paths) };
    let query = chance.one(&["", "", "", "?q=1", "?q=2&r", "?r=1&q=1", "?q"]);
    let mut headers = Map::new();
    for name in NAMES {
        if chance.is(50) {
            headers.insert((*name).into(), json!(chance.one(VALUES)));
        }
    }
    if chance.is(5) {
        headers.insert("x-app-mesh-virtual-service".into(), json!(format!("s{}.local", chance.below(SERVICES))));
    }
    let method = chance.one(&["GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD"]);
    let body = if matches!(method, "POST" | "PUT") { "text" } else { "" };
    json!({ "host": host, "protocol": protocol, "path": format!("{path}{query}"), "headers": headers, "method": method, "body": body })
}
