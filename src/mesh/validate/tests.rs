//! Tests of `mesh::validate`.

#![expect(clippy::needless_pass_by_value, reason = "a spec is written where it is used")]

use super::*;
use serde_json::json;

/// The violations of a spec, one per line.
fn wrong(kind: Kind, raw: &Value) -> Vec<String> {
    match spec(kind, raw, Unknown::Drop) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.iter().map(ToString::to_string).collect(),
    }
}

fn http_route(matches: &Value, targets: &Value) -> Value {
    json!({ "httpRoute": { "match": matches, "action": { "weightedTargets": targets } } })
}

fn one_target() -> Value {
    json!([{ "virtualNode": "a", "weight": 1 }])
}

#[test]
fn everything_wrong_is_said_at_once_with_its_path() {
    let raw = json!({
        "priority": 1001,
        "httpRoute": {
            "match": { "prefix": 7, "method": "get", "headers": [] },
            "action": { "weightedTargets": [{ "virtualNode": "a", "weight": 1 }, { "virtualNode": "", "weight": 101 }] },
            "retryPolicy": { "maxRetries": -1, "perRetryTimeout": { "unit": "h" }, "httpRetryEvents": ["5xx"] },
        },
    });
    assert_eq!(
        wrong(Kind::Route, &raw),
        [
            "spec.priority: must be a whole number from 0 to 1000, not 1001",
            "spec.httpRoute.match.prefix: must be a string, not a number",
            "spec.httpRoute.match.method: must be one of GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH, \
             not \"get\"",
            "spec.httpRoute.match.headers: must have 1 to 10 items, not 0",
            "spec.httpRoute.action.weightedTargets[1].virtualNode: must have 1 to 255 characters, not 0",
            "spec.httpRoute.action.weightedTargets[1].weight: must be a whole number from 0 to 100, not 101",
            "spec.httpRoute.retryPolicy.maxRetries: must be a whole number of at least 0, not -1",
            "spec.httpRoute.retryPolicy.perRetryTimeout.unit: must be one of s, ms, not \"h\"",
            "spec.httpRoute.retryPolicy.perRetryTimeout.value: is required",
            "spec.httpRoute.retryPolicy.httpRetryEvents[0]: must be one of server-error, gateway-error, client-error, \
             stream-error, not \"5xx\"",
        ]
    );
}

#[test]
fn rules_of_routes() {
    let target = one_target();
    for (raw, expected) in [
        (http_route(&json!({}), &target), ""),
        (http_route(&json!({ "port": 3333 }), &target), ""),
        (http_route(&json!({ "path": { "exact": "/a" } }), &target), ""),
        (http_route(&json!({ "path": { "regex": "/a(b|c)+" } }), &target), ""),
        (http_route(&json!({ "headers": [{ "name": "x" }] }), &target), ""),
        (json!({}), "spec: must have exactly one of httpRoute"),
        (json!({ "httpRoute": null }), "spec: must have exactly one of httpRoute"),
        (http_route(&json!({ "prefix": "a" }), &target), "spec.httpRoute.match.prefix: must start with /"),
        (
            http_route(&json!({ "prefix": "/", "path": { "exact": "/" } }), &target),
            "spec.httpRoute.match: must have only one of prefix and path",
        ),
        (
            http_route(&json!({ "path": {} }), &target),
            "spec.httpRoute.match.path: must have exactly one of exact, regex",
        ),
        (
            http_route(&json!({ "path": { "regex": "(?=a)" } }), &target),
            "spec.httpRoute.match.path.regex: is not a regular expression of RE2: look-around",
        ),
        (
            http_route(&json!({ "path": { "regex": "((a{100}){100}){100}" } }), &target),
            "spec.httpRoute.match.path.regex: is not a regular expression of RE2: ",
        ),
        (
            http_route(&json!({ "headers": [{ "name": "x", "match": {} }] }), &target),
            "spec.httpRoute.match.headers[0].match: must have exactly one of exact, prefix, suffix, regex, range; none",
        ),
        (
            http_route(&json!({ "headers": [{ "name": "x", "match": { "exact": "a", "prefix": "b" } }] }), &target),
            "spec.httpRoute.match.headers[0].match: must have exactly one of exact, prefix, suffix, regex, range; exact, \
             prefix are given",
        ),
        (
            http_route(
                &json!({ "headers": [{ "name": "x", "match": { "range": { "start": 2, "end": 2 } } }] }),
                &target,
            ),
            "spec.httpRoute.match.headers[0].match.range: start 2 must be below end 2",
        ),
        (
            http_route(&json!({ "queryParameters": [{ "name": "x", "match": {} }] }), &target),
            "spec.httpRoute.match.queryParameters[0].match: must have the member exact",
        ),
        (
            json!({ "grpcRoute": { "match": { "methodName": "m" }, "action": { "weightedTargets": target } } }),
            "spec.grpcRoute.match.serviceName: is required when there is a methodName",
        ),
        (json!({ "tcpRoute": { "action": { "weightedTargets": target } } }), ""),
        (json!({ "httpRoute": { "action": { "weightedTargets": target } } }), "spec.httpRoute.match: is required"),
    ] {
        check(Kind::Route, &raw, expected);
    }
}

#[test]
fn rules_of_weights() {
    let node = |name: &str, weight: u32| json!({ "virtualNode": name, "weight": weight });
    for (targets, expected) in [
        (json!([node("a", 100), node("b", 0)]), ""),
        (json!([node("a", 1), node("b", 1)]), ""),
        (
            json!([node("a", 60), node("b", 41)]),
            "spec.httpRoute.action.weightedTargets: weights must sum to at most 100",
        ),
        (json!([node("a", 0), node("b", 0)]), "spec.httpRoute.action.weightedTargets: weights must not all be 0"),
        (json!([node("a", 1), node("a", 2)]), "spec.httpRoute.action.weightedTargets[1].virtualNode: a is given twice"),
        (json!([]), "spec.httpRoute.action.weightedTargets: must have 1 to 10 items, not 0"),
        (json!(vec![node("a", 1); 11]), "spec.httpRoute.action.weightedTargets: must have 1 to 10 items, not 11"),
        (json!([{ "virtualNode": "a", "weight": 1.5 }]), "spec.httpRoute.action.weightedTargets[0].weight: must be a"),
        (json!([{ "virtualNode": "a" }]), "spec.httpRoute.action.weightedTargets[0].weight: is required"),
    ] {
        check(Kind::Route, &http_route(&json!({}), &targets), expected);
    }
}

fn node(listener: Value) -> Value {
    json!({ "serviceDiscovery": { "dns": { "hostname": "a" } }, "listeners": [listener] })
}

fn listener(extra: Value) -> Value {
    let mut listener = json!({ "portMapping": { "port": 80, "protocol": "http" } });
    let Value::Object(extra) = extra else { panic!("an object") };
    listener.as_object_mut().expect("an object").extend(extra);
    listener
}

fn health(protocol: &str, path: &str, port: u16) -> Value {
    json!({ "healthCheck": { "protocol": protocol, "path": path, "port": port, "intervalMillis": 5000,
        "timeoutMillis": 2000, "healthyThreshold": 2, "unhealthyThreshold": 2 } })
}

#[test]
fn shapes_and_rules_are_told_together() {
    let targets = json!([{ "virtualNode": "a", "weight": u32::MAX }, { "virtualNode": "a", "weight": u32::MAX }]);
    let told = wrong(Kind::Route, &http_route(&json!({ "prefix": "x", "method": "get" }), &targets));
    assert_eq!(told.len(), 6, "{told:#?}");
    let long = format!("({}", "a".repeat(1100));
    let told = wrong(Kind::Route, &http_route(&json!({ "path": { "regex": long } }), &one_target()));
    assert_eq!(told, ["spec.httpRoute.match.path.regex: must have 1 to 255 characters, not 1101"]);
}

#[test]
fn rules_of_virtual_nodes() {
    for (raw, expected) in [
        (json!({}), ""),
        (node(listener(json!({}))), ""),
        (node(listener(health("http", "/h", 80))), ""),
        (node(listener(health("tcp", "ignored", 80))), ""),
        (node(listener(health("http", "h", 80))), "spec.listeners[0].healthCheck.path: must start with /"),
        (
            node(listener(health("http", "/h", 81))),
            "spec.listeners[0].healthCheck.port: must be the listener's port, 80",
        ),
        (
            node(listener(health("grpc", "", 80))),
            "spec.listeners[0].healthCheck.protocol: GRPC HealthCheck requires listener type of HTTP2 or GRPC.",
        ),
        (
            node(listener(json!({ "timeout": { "http2": {} } }))),
            "spec.listeners[0].timeout: must have the member http, as the listener's protocol",
        ),
        (
            node(listener(json!({ "connectionPool": { "tcp": { "maxConnections": 1 } } }))),
            "spec.listeners[0].connectionPool: must have the member http, as the listener's protocol",
        ),
        (json!({ "listeners": [listener(json!({}))] }), ""),
        (
            json!({ "serviceDiscovery": { "dns": { "hostname": "a" } } }),
            "spec.serviceDiscovery: Service Discovery can't be set without a listener.",
        ),
        (
            json!({ "serviceDiscovery": { "dns": { "hostname": "a" } },
                "listeners": [listener(json!({})), listener(json!({}))] }),
            "spec.listeners[1].portMapping.port: port 80 is used by another listener",
        ),
        (
            json!({ "backends": [{ "virtualService": { "virtualServiceName": "s" } },
                { "virtualService": { "virtualServiceName": "s" } }] }),
            "spec.backends[1].virtualService.virtualServiceName: s is given twice",
        ),
        (
            node(listener(json!({ "portMapping": { "port": 0, "protocol": "https" } }))),
            "spec.listeners[0].portMapping.port: must be a whole number from 1 to 65535, not 0",
        ),
    ] {
        check(Kind::VirtualNode, &raw, expected);
    }
}

#[test]
fn rules_of_gateway_routes() {
    let route = |matches: Value, rewrite: Value| {
        let target = json!({ "virtualService": { "virtualServiceName": "s" } });
        json!({ "http2Route": { "match": matches, "action": { "target": target, "rewrite": rewrite } } })
    };
    let none = json!({});
    for (raw, expected) in [
        (route(json!({ "port": 80 }), none.clone()), ""),
        (route(json!({ "prefix": "/a/" }), json!({ "prefix": { "value": "/b/" } })), ""),
        (route(json!({ "prefix": "/a" }), json!({ "prefix": { "defaultPrefix": "DISABLED" } })), ""),
        (route(json!({ "path": { "exact": "/a" } }), json!({ "path": { "exact": "/b" } })), ""),
        (route(json!({ "hostname": { "suffix": ".x" } }), json!({ "hostname": {} })), ""),
        (json!({}), "spec: must have exactly one of httpRoute, http2Route, grpcRoute"),
        (
            route(json!({ "hostname": {} }), none.clone()),
            "spec.http2Route.match.hostname: must have exactly one of exact, suffix",
        ),
        (route(json!({ "prefix": "/aws-appmesh-x" }), none), "spec.http2Route.match.prefix: is reserved"),
        (
            route(json!({ "prefix": "/a" }), json!({ "prefix": { "value": "/b/" } })),
            "spec.http2Route.match.prefix: must end with / when",
        ),
        (
            route(json!({ "prefix": "/a/" }), json!({ "prefix": { "value": "b" } })),
            "spec.http2Route.action.rewrite.prefix.value: must start and end with /",
        ),
        (
            route(json!({}), json!({ "prefix": {} })),
            "spec.http2Route.action.rewrite.prefix: needs a match.prefix to rewrite",
        ),
        (
            route(json!({}), json!({ "path": { "exact": "/" } })),
            "spec.http2Route.action.rewrite.path: needs a match.path to rewrite",
        ),
    ] {
        check(Kind::GatewayRoute, &raw, expected);
    }
    let tcp = json!({ "listeners": [{ "portMapping": { "port": 1, "protocol": "tcp" } }] });
    check(Kind::VirtualGateway, &tcp, "spec.listeners[0].portMapping.protocol: must be one of http, http2, grpc");
    check(Kind::VirtualGateway, &json!({}), "spec.listeners: is required");
}

#[track_caller]
fn check(kind: Kind, raw: &Value, expected: &str) {
    let found = wrong(kind, raw);
    if expected.is_empty() {
        assert!(found.is_empty(), "{raw}: {found:?}");
    } else {
        assert!(found.first().is_some_and(|first| first.starts_with(expected)), "{raw}: {found:?}");
    }
}

#[test]
fn the_complete_node_is_read_and_echoed() {
    let tls = json!({ "mode": "STRICT", "certificate": { "acm": { "certificateArn": "arn" } },
        "validation": { "trust": { "file": { "certificateChain": "/ca" } },
            "subjectAlternativeNames": { "match": { "exact": ["a"] } } } });
    let policy = json!({ "tls": { "enforce": false, "ports": [443], "certificate": { "sds": { "secretName": "s" } },
        "validation": { "trust": { "acm": { "certificateAuthorityArns": ["arn"] } } } } });
    let duration = json!({ "value": 3, "unit": "s" });
    let raw = json!({
        "serviceDiscovery": { "awsCloudMap": { "namespaceName": "n", "serviceName": "s",
            "attributes": [{ "key": "k", "value": "v" }], "ipPreference": "IPv6_ONLY" } },
        "listeners": [{
            "portMapping": { "port": 80, "protocol": "http" }, "tls": tls,
            "timeout": { "http": { "idle": duration, "perRequest": { "value": 0, "unit": "ms" } } },
            "connectionPool": { "http": { "maxConnections": 1, "maxPendingRequests": 2 } },
            "outlierDetection": { "maxServerErrors": 5, "interval": duration, "baseEjectionDuration": duration,
                "maxEjectionPercent": 50 },
        }],
        "backends": [{ "virtualService": { "virtualServiceName": "b", "clientPolicy": policy } }],
        "backendDefaults": { "clientPolicy": policy },
        "logging": { "accessLog": { "file": { "path": "/dev/stdout",
            "format": { "json": [{ "key": "a", "value": "%PROTOCOL%" }] } } } },
    });
    let pair = spec(Kind::VirtualNode, &raw, Unknown::Refuse).expect("is valid");
    assert_eq!(pair.raw, raw);
    let node = pair.typed.virtual_node().expect("is a node");
    assert!(node.logging.is_some() && node.backend_defaults.is_some() && node.listeners[0].tls.is_some());
}

#[test]
fn the_port_of_a_health_check_is_filled_in() {
    let mut raw = node(listener(health("http", "/", 80)));
    let check = raw.pointer_mut("/listeners/0/healthCheck").and_then(Value::as_object_mut).expect("is there");
    check.remove("port");
    let pair = spec(Kind::VirtualNode, &raw, Unknown::Drop).expect("is valid");
    assert_eq!(pair.raw.pointer("/listeners/0/healthCheck/port"), Some(&json!(80)));
}

#[test]
fn unknown_members_and_nulls_are_dropped_or_refused() {
    let raw = json!({ "egressFilter": { "type": "ALLOW_ALL", "kind": 1 }, "serviceDiscovery": null, "other": [] });
    let pair = spec(Kind::Mesh, &raw, Unknown::Drop).expect("is valid");
    assert_eq!(pair.raw, json!({ "egressFilter": { "type": "ALLOW_ALL" } }));
    let raw = json!({ "egressFiltr": {}, "x": 1 });
    let told: Vec<String> =
        spec(Kind::Mesh, &raw, Unknown::Refuse).expect_err("is wrong").iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "spec.egressFiltr: is not known here; did you mean egressFilter?",
            "spec.x: is not known here; known are egressFilter, serviceDiscovery",
        ]
    );
}

#[test]
fn names_tokens_and_tags() {
    let long = "n".repeat(256);
    for (kind, name, fits) in [
        (Kind::VirtualNode, "checkout-v1_A", true),
        (Kind::VirtualNode, "a.b", false),
        (Kind::VirtualNode, "a/b", false),
        (Kind::VirtualNode, "", false),
        (Kind::VirtualNode, &long, false),
        (Kind::VirtualService, "a/b c.local", true),
        (Kind::VirtualService, "a\nb", false),
        (Kind::VirtualService, &long, false),
    ] {
        let body = json!({ kind.name_member(): name, "spec": {} });
        assert_eq!(create_body(kind, &body, Unknown::Drop).is_ok(), fits, "{name:?}");
    }
    for (token, fits) in
        [("a-Z_9", true), ("", false), ("a b", false), (&"t".repeat(36), true), (&"t".repeat(37), false)]
    {
        let body = json!({ "meshName": "m", "clientToken": token });
        assert_eq!(create_body(Kind::Mesh, &body, Unknown::Drop).is_ok(), fits, "{token:?}");
    }
    let tags = json!([{ "key": "a", "value": "" }, { "key": "a", "value": "b" }]);
    let told = tag_body(&json!({ "tags": tags }), None).expect_err("twice");
    assert_eq!(told[0].to_string(), "tags[1].key: \"a\" is given twice");
    let body = create_body(Kind::Mesh, &json!([]), Unknown::Drop).expect_err("is no object");
    assert_eq!(body[0].to_string(), "body: must be an object, not a list");
}

#[test]
fn tags_of_a_node_are_looked_at_and_those_of_others_are_not() {
    let listener = json!({ "portMapping": { "port": 80, "protocol": "http" } });
    let spec = json!({ "listeners": [listener], "serviceDiscovery": { "dns": { "hostname": "a.local" } } });
    let body = |kind: Kind, tag: &str, value: &str| {
        let tags = json!([{ "key": "team", "value": "x" }, { "key": tag, "value": value }]);
        let spec = if kind == Kind::VirtualNode { spec.clone() } else { json!({}) };
        json!({ kind.name_member(): "a", "spec": spec, "tags": tags })
    };
    let create = |kind, tag, value| create_body(kind, &body(kind, tag, value), Unknown::Drop);
    assert!(create(Kind::VirtualNode, "tidegate:balance", "by=least-request").is_ok());
    let refused = create(Kind::VirtualNode, "tidegate:balance", "by=fastest").expect_err("it is none");
    assert_eq!((refused.len(), &*refused[0].path), (1, "tags[1].value"));
    assert!(refused[0].message.starts_with("tidegate:balance, character 4: by must be"), "{}", refused[0].message);
    assert!(create(Kind::VirtualNode, "tidegate:limit", "requests=1").is_err(), "it is for routes");
    assert!(create(Kind::Mesh, "tidegate:balance", "by=fastest").is_ok());
}
