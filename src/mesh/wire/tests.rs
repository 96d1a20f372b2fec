//! Golden requests and replies, one file per operation in `tests/golden/mesh`; `UPDATE_GOLDEN=1` writes them anew.

use super::*;
use crate::mesh::model::{MeshState, Quotas};
use crate::mesh::ops::{self, OpContext};
use std::path::PathBuf;

#[derive(Default)]
struct Golden {
    state: MeshState,
    step: i64,
    seen: Vec<String>,
}

impl Golden {
    /// Sends one request and holds the exchange against its file.
    fn exchange(&mut self, name: &str, method: &str, path: &str, body: &Value) {
        self.step += 1;
        let (raw_path, query) = path.split_once('?').unwrap_or((path, ""));
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let parts = Parts { method, path: raw_path, query, extensions: Asked::default(), body: text.as_bytes() };
        let context = OpContext {
            // From the time of an example of AWS, so many milliseconds per step that fractions differ.
            now: Timestamp(1_563_809_909_282 + self.step * 1037),
            uid: format!("00000000-0000-4000-8000-{:012}", self.step),
            account: "000000000000".into(),
            region: "us-east-1".into(),
            quotas: Quotas::AWS,
            strict: false,
        };
        let done = request(parts).and_then(|request| ops::apply(&self.state, &request, &context));
        let answer = match done {
            Ok(outcome) => {
                self.state.commit(outcome.changes);
                json!({ "status": 200, "body": reply(&outcome.reply) })
            }
            Err(refusal) => json!({
                "status": refusal.code.status(), "x-amzn-errortype": refusal.code.name(), "body": error(&refusal),
            }),
        };
        let exchange = json!({ "request": { "method": method, "path": path, "body": body }, "reply": answer });
        hold(name, &exchange);
        self.seen.push(format!("{name}.json"));
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mesh")
}

fn hold(name: &str, exchange: &Value) {
    let path = folder().join(format!("{name}.json"));
    let text = format!("{exchange:#}\n");
    #[expect(clippy::disallowed_methods, reason = "the usual way to ask a test for new golden files")]
    if std::env::var("UPDATE_GOLDEN").is_ok() {
        std::fs::create_dir_all(folder()).expect("can be made");
        std::fs::write(&path, &text).expect("can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{name}: run with UPDATE_GOLDEN=1 if this is meant");
}

const V: &str = "/v20190125";

#[test]
fn every_operation_has_a_golden_exchange() {
    let mut golden = Golden::default();
    creates(&mut golden);
    updates(&mut golden);
    gateways(&mut golden);
    lists_and_tags(&mut golden);
    errors(&mut golden);
    deletes(&mut golden);
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .expect("is there")
        .map(|entry| entry.expect("is there").file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    golden.seen.sort();
    let operations = golden.seen.iter().filter(|name| name.matches('.').count() == 1).count();
    assert_eq!(operations, 38, "App Mesh has 38 operations");
    assert_eq!(found, golden.seen, "no golden file without its exchange");
}

fn node(port: u16) -> Value {
    json!({
        "serviceDiscovery": { "dns": { "hostname": "checkout.internal" } },
        "listeners": [{
            "portMapping": { "port": port, "protocol": "http" },
            "healthCheck": { "protocol": "http", "path": "/health", "intervalMillis": 5000, "timeoutMillis": 2000,
                "healthyThreshold": 2, "unhealthyThreshold": 2 },
        }],
        "backends": [],
    })
}

fn route(v1: u32, v2: u32) -> Value {
    let targets =
        json!([{ "virtualNode": "checkout-v1", "weight": v1 }, { "virtualNode": "checkout-v2", "weight": v2 }]);
    json!({ "httpRoute": { "match": { "prefix": "/" }, "action": { "weightedTargets": targets } }, "priority": 10 })
}

const ROUTE: &str = "/v20190125/meshes/shop/virtualRouter/checkout-router/routes";
const SERVICE: &str = "/v20190125/meshes/shop/virtualServices";

fn creates(golden: &mut Golden) {
    let token = "2cbcb4d2-7fc5-4b3d-9f0a-7b7f9a1f3c11";
    golden.exchange("CreateMesh", "PUT", &format!("{V}/meshes"), &json!({ "meshName": "shop", "clientToken": token }));
    let nodes = format!("{V}/meshes/shop/virtualNodes");
    let body = json!({ "virtualNodeName": "checkout-v1", "spec": node(9001) });
    golden.exchange("CreateVirtualNode", "PUT", &nodes, &body);
    let body = json!({ "virtualNodeName": "checkout-v2", "spec": node(9002) });
    golden.exchange("CreateVirtualNode.second", "PUT", &nodes, &body);
    let spec = json!({ "listeners": [{ "portMapping": { "port": 9000, "protocol": "http" } }] });
    let body = json!({ "virtualRouterName": "checkout-router", "spec": spec });
    golden.exchange("CreateVirtualRouter", "PUT", &format!("{V}/meshes/shop/virtualRouters"), &body);
    let tags = json!([{ "key": "team", "value": "payments" }, { "key": "stage", "value": "test" }]);
    let body = json!({ "routeName": "checkout", "spec": route(100, 0), "tags": tags });
    golden.exchange("CreateRoute", "PUT", ROUTE, &body);
    let spec = json!({ "provider": { "virtualRouter": { "virtualRouterName": "checkout-router" } } });
    let body = json!({ "virtualServiceName": "shop/checkout local", "spec": spec });
    golden.exchange("CreateVirtualService", "PUT", SERVICE, &body);
}

const GATEWAY_ROUTE: &str = "/v20190125/meshes/shop/virtualGateway/front/gatewayRoutes";

fn gateway_route(prefix: &str) -> Value {
    let target = json!({ "virtualService": { "virtualServiceName": "shop/checkout local" } });
    json!({ "httpRoute": { "match": { "prefix": prefix }, "action": { "target": target } } })
}

fn gateways(golden: &mut Golden) {
    let list = format!("{V}/meshes/shop/virtualGateways");
    let one = format!("{list}/front");
    let spec = |port: u16| json!({ "listeners": [{ "portMapping": { "port": port, "protocol": "http" } }] });
    let body = json!({ "virtualGatewayName": "front", "spec": spec(8088) });
    golden.exchange("CreateVirtualGateway", "PUT", &list, &body);
    golden.exchange("UpdateVirtualGateway", "PUT", &one, &json!({ "spec": spec(8089) }));
    golden.exchange("DescribeVirtualGateway", "GET", &one, &Value::Null);
    golden.exchange("ListVirtualGateways", "GET", &list, &Value::Null);
    let body = json!({ "gatewayRouteName": "all", "spec": gateway_route("/") });
    golden.exchange("CreateGatewayRoute", "PUT", GATEWAY_ROUTE, &body);
    let route = format!("{GATEWAY_ROUTE}/all");
    golden.exchange("UpdateGatewayRoute", "PUT", &route, &json!({ "spec": gateway_route("/shop") }));
    golden.exchange("DescribeGatewayRoute", "GET", &route, &Value::Null);
    golden.exchange("ListGatewayRoutes", "GET", GATEWAY_ROUTE, &Value::Null);
}

fn updates(golden: &mut Golden) {
    let spec = json!({ "egressFilter": { "type": "ALLOW_ALL" } });
    golden.exchange("UpdateMesh", "PUT", &format!("{V}/meshes/shop"), &json!({ "spec": spec }));
    let path = format!("{V}/meshes/shop/virtualNodes/checkout-v2");
    golden.exchange("UpdateVirtualNode", "PUT", &path, &json!({ "spec": node(9003) }));
    let path = format!("{V}/meshes/shop/virtualRouters/checkout-router");
    golden.exchange("UpdateVirtualRouter", "PUT", &path, &json!({ "spec": {} }));
    golden.exchange("UpdateRoute", "PUT", &format!("{ROUTE}/checkout"), &json!({ "spec": route(90, 10) }));
    let spec = json!({ "provider": { "virtualNode": { "virtualNodeName": "checkout-v1" } } });
    let path = format!("{SERVICE}/shop%2Fcheckout%20local");
    golden.exchange("UpdateVirtualService", "PUT", &path, &json!({ "spec": spec }));
    for (name, path) in [
        ("DescribeMesh", format!("{V}/meshes/shop?meshOwner=000000000000")),
        ("DescribeVirtualNode", format!("{V}/meshes/shop/virtualNodes/checkout-v1")),
        ("DescribeVirtualRouter", format!("{V}/meshes/shop/virtualRouters/checkout-router")),
        ("DescribeRoute", format!("{ROUTE}/checkout")),
        ("DescribeVirtualService", path),
    ] {
        golden.exchange(name, "GET", &path, &Value::Null);
    }
}

fn lists_and_tags(golden: &mut Golden) {
    for (name, path) in [
        ("ListMeshes", format!("{V}/meshes")),
        ("ListVirtualNodes", format!("{V}/meshes/shop/virtualNodes?limit=1")),
        ("ListVirtualRouters", format!("{V}/meshes/shop/virtualRouters")),
        ("ListRoutes", ROUTE.to_owned()),
        ("ListVirtualServices", SERVICE.to_owned()),
    ] {
        golden.exchange(name, "GET", &path, &Value::Null);
    }
    let arn = "resourceArn=arn%3Aaws%3Aappmesh%3Aus-east-1%3A000000000000%3Amesh%2Fshop%2FvirtualRouter\
               %2Fcheckout-router%2Froute%2Fcheckout";
    let body = json!({ "tags": [{ "key": "team", "value": "checkout" }] });
    golden.exchange("TagResource", "PUT", &format!("{V}/tag?{arn}"), &body);
    golden.exchange("UntagResource", "PUT", &format!("{V}/untag?{arn}"), &json!({ "tagKeys": ["stage"] }));
    golden.exchange("ListTagsForResource", "GET", &format!("{V}/tags?{arn}"), &Value::Null);
}

fn errors(golden: &mut Golden) {
    let route_path = format!("{ROUTE}/checkout");
    let mut invalid = route(90, 101);
    invalid["httpRoute"]["match"] = json!({ "prefix": 1 });
    golden.exchange("Error.BadRequest", "PUT", &route_path, &json!({ "spec": invalid }));
    let path = format!("{V}/meshes/shop/virtualNodes/checkout-v9");
    golden.exchange("Error.NotFound", "GET", &path, &Value::Null);
    golden.exchange("Error.Conflict", "PUT", &format!("{V}/meshes"), &json!({ "meshName": "shop" }));
    golden.exchange("Error.ResourceInUse", "DELETE", &format!("{V}/meshes/shop"), &Value::Null);
    golden.exchange("Error.UnknownOperation", "POST", &format!("{V}/meshes"), &json!({}));
}

fn deletes(golden: &mut Golden) {
    for (name, path) in [
        ("DeleteGatewayRoute", format!("{GATEWAY_ROUTE}/all")),
        ("DeleteVirtualGateway", format!("{V}/meshes/shop/virtualGateways/front")),
        ("DeleteVirtualService", format!("{SERVICE}/shop%2Fcheckout%20local")),
        ("DeleteRoute", format!("{ROUTE}/checkout")),
        ("DeleteVirtualRouter", format!("{V}/meshes/shop/virtualRouters/checkout-router")),
        ("DeleteVirtualNode", format!("{V}/meshes/shop/virtualNodes/checkout-v1")),
        ("DeleteVirtualNode.second", format!("{V}/meshes/shop/virtualNodes/checkout-v2")),
        ("DeleteMesh", format!("{V}/meshes/shop")),
    ] {
        golden.exchange(name, "DELETE", &path, &Value::Null);
    }
    assert_eq!(golden.state, MeshState::default());
}

#[test]
fn a_path_is_split_before_it_is_decoded() {
    let parts = |path| Parts { method: "GET", path, query: "", extensions: Asked::default(), body: b"" };
    let asked = request(parts("/v20190125/meshes/m/virtualServices/a%2Fb%20c.local")).expect("is known");
    let key = Key::child("m", Kind::VirtualService, "a/b c.local");
    assert_eq!(asked, Request::Describe { key, owner: None });
    assert!(request(parts("/v20190125/meshes/m/virtualServices/a/b")).is_err());
    assert!(request(parts("/v20190125/meshes/%ff")).is_err());
}

#[test]
fn keys_and_paths_of_arns_agree() {
    for key in [
        Key::mesh("m"),
        Key::child("m", Kind::VirtualNode, "n"),
        Key::child("m", Kind::VirtualRouter, "r"),
        Key::grandchild("m", Kind::Route, "r", "x"),
        Key::child("m", Kind::VirtualService, "a/b c/route/d"),
        Key::child("m", Kind::VirtualGateway, "g"),
        Key::grandchild("m", Kind::GatewayRoute, "g", "x"),
    ] {
        assert_eq!(Key::from_path(&key.path()), Some(key));
    }
    for path in ["", "mesh", "shop", "mesh/m/mesh/m", "mesh/m/route/x", "mesh/m/virtualRouter/r/gatewayRoute/x"] {
        assert_eq!(Key::from_path(path), None, "{path}");
    }
}

#[test]
fn times_are_seconds_with_milliseconds() {
    assert_eq!(seconds(Timestamp(1_563_809_909_282)).to_string(), "1563809909.282");
    assert_eq!(seconds(Timestamp(-1)).to_string(), "-0.001");
}
