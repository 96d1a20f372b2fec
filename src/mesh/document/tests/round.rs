//! Meshes that are written and read back, pruned, and large.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn loaded(documents: &[Value]) -> MeshState {
    let mut state = MeshState::default();
    load(&mut state, &[&Value::from(documents.to_vec()).to_string()], true).expect("is valid");
    state
}

fn any_listener() -> impl Strategy<Value = Value> {
    let protocol = prop::sample::select(vec!["http", "http2", "grpc", "tcp"]);
    (protocol, 1..u16::MAX, any::<[bool; 5]>(), 1..1000_u32).prop_map(|(protocol, port, with, number)| {
        let span = json!({ "value": number, "unit": if with[0] { "s" } else { "ms" } });
        let mut listener = json!({ "portMapping": { "port": port, "protocol": protocol } });
        if with[0] {
            listener["healthCheck"] = json!({ "protocol": "tcp", "healthyThreshold": 2, "unhealthyThreshold": 3,
                "intervalMillis": 5000, "timeoutMillis": 2000 });
        }
        if with[1] {
            listener["timeout"] = json!({ protocol: { "idle": span } });
        }
        if with[2] {
            let pool = if matches!(protocol, "http" | "tcp") { "maxConnections" } else { "maxRequests" };
            listener["connectionPool"] = json!({ protocol: { pool: number } });
        }
        if with[3] {
            listener["outlierDetection"] = json!({ "maxServerErrors": number, "interval": span,
                "baseEjectionDuration": span, "maxEjectionPercent": 50 });
        }
        if with[4] {
            listener["tls"] = json!({ "mode": "STRICT",
                "certificate": if with[0] { json!({ "sds": { "secretName": "s" } }) }
                    else { json!({ "acm": { "certificateArn": "arn:aws:acm:r:1:certificate/c" } }) },
                "validation": { "trust": { "file": { "certificateChain": "/ca" } },
                    "subjectAlternativeNames": { "match": { "exact": ["a.b"] } } } });
        }
        listener
    })
}

fn any_node() -> impl Strategy<Value = Value> {
    let discovery = prop::sample::select(vec![
        json!({ "dns": { "hostname": "h.local", "responseType": "ENDPOINTS", "ipPreference": "IPv4_ONLY" } }),
        json!({ "awsCloudMap": { "namespaceName": "${n}", "serviceName": "s", "attributes": [{ "key": "k", "value": "on" }] } }),
        json!({}),
    ]);
    (prop::option::of(any_listener()), discovery, ".{1,12}", any::<bool>()).prop_map(
        |(listener, discovery, text, log)| {
            let mut spec = json!({ "backends": [{ "virtualService": { "virtualServiceName": text } }] });
            if let Some(listener) = listener {
                spec["listeners"] = json!([listener]);
                if discovery != json!({}) {
                    spec["serviceDiscovery"] = discovery;
                }
            }
            if log {
                spec["logging"] = json!({ "accessLog": { "file": { "path": "/dev/stdout",
                "format": { "json": [{ "key": "a", "value": text }] } } } });
                spec["backendDefaults"] = json!({ "clientPolicy": { "tls": { "enforce": false, "ports": [443],
                "validation": { "trust": { "acm": { "certificateAuthorityArns": ["arn:x"] } } } } } });
            }
            spec
        },
    )
}

/// A route to nodes of these names; the weights say to how many.
fn any_route(nodes: Vec<String>) -> impl Strategy<Value = Value> {
    let member = prop::sample::select(vec!["httpRoute", "http2Route", "grpcRoute", "tcpRoute"]);
    let count = nodes.len();
    let weights = prop::collection::vec(1..20_u32, 1..=count.min(4));
    (member, weights, ".{1,12}", any::<[bool; 3]>()).prop_map(move |(member, weights, text, with)| {
        let targets: Vec<Value> =
            nodes.iter().zip(&weights).map(|(node, weight)| json!({ "virtualNode": node, "weight": weight })).collect();
        let mut route = json!({ "action": { "weightedTargets": targets } });
        let named = json!([{ "name": "n", "invert": with[0], "match": { "exact": text } }]);
        match member {
            "tcpRoute" => route["timeout"] = json!({ "tcp": {} })["tcp"].clone(),
            "grpcRoute" => route["match"] = json!({ "serviceName": "a.B", "metadata": named }),
            _ => {
                route["match"] = json!({ "prefix": "/", "headers": named,
                    "queryParameters": [{ "name": "q", "match": { "exact": text } }] });
                route["retryPolicy"] = json!({ "maxRetries": 0, "perRetryTimeout": { "value": 1, "unit": "s" },
                    "tcpRetryEvents": ["connection-error"] });
            }
        }
        let mut spec = json!({ member: route });
        if with[1] {
            spec["priority"] = 0.into();
        }
        spec
    })
}

/// Two meshes' worth of documents, whose names are alike once all but letters and digits are gone.
fn any_mesh() -> impl Strategy<Value = Vec<Value>> {
    let names = prop::collection::btree_set("[aA]([-_]?[bB1]){0,2}", 1..5);
    let nodes = names.prop_flat_map(|names| {
        let names: Vec<String> = names.into_iter().collect();
        let specs = prop::collection::vec(any_node(), names.len());
        let routes = prop::collection::vec(any_route(names.clone()), 0..3);
        (Just(names), specs, routes)
    });
    (nodes, "\\PC{1,20}", ".{0,20}", any::<[bool; 4]>()).prop_map(|((names, specs, routes), service, tag, with)| {
        let filter = if with[0] { json!({ "egressFilter": { "type": "DROP_ALL" } }) } else { json!({}) };
        let mut all = vec![json!({ "meshName": "m", "spec": filter, "tags": [{ "key": "k", "value": tag }] })];
        all.extend(
            names
                .iter()
                .zip(specs)
                .map(|(name, spec)| json!({ "meshName": "m", "virtualNodeName": name, "spec": spec })),
        );
        for router in ["R-1", "R1"] {
            all.push(json!({ "meshName": "m", "virtualRouterName": router, "spec": {} }));
            all.extend(routes.iter().enumerate().map(|(at, spec)| {
                json!({ "meshName": "m", "virtualRouterName": router, "routeName": format!("x{at}"), "spec": spec })
            }));
        }
        let provider = match (with[1], with[2]) {
            (true, _) => json!({ "virtualRouter": { "virtualRouterName": if with[2] { "R1" } else { "later" } } }),
            (false, _) => json!({ "virtualNode": { "virtualNodeName": names[0] } }),
        };
        all.push(json!({ "meshName": "m", "virtualServiceName": service, "spec": { "provider": provider } }));
        let listeners = json!([{ "portMapping": { "port": 80, "protocol": "http2" } }]);
        all.push(json!({ "meshName": "m", "virtualGatewayName": "g", "spec": { "listeners": listeners } }));
        all.push(
            json!({ "meshName": "m", "virtualGatewayName": "g", "gatewayRouteName": "x", "spec": { "http2Route": {
            "match": { "prefix": "/", "hostname": { "suffix": ".a" } }, "action": {
            "target": { "virtualService": { "virtualServiceName": service } },
            "rewrite": { "hostname": { "defaultTargetHostname": "DISABLED" } } } } } }),
        );
        if with[3] {
            all.push(json!({ "meshName": "M" }));
        }
        all
    })
}

proptest! {
    #[test]
    fn every_mesh_comes_back_from_both_formats(documents in any_mesh()) {
        let state = loaded(&documents);
        for text in [exported(&state), render(&[template(&state)])] {
            let mut again = MeshState::default();
            load(&mut again, &[&text], true).map_err(|problems| TestCaseError::fail(format!("{problems:?}\n{text}")))?;
            prop_assert_eq!(&again, &state);
            // Nothing is left to do, pruning or not.
            let documents = parse("f", &text).expect("reads");
            let wish = Wish { overwrite_weights: true, prune: true };
            let plan = plan_for(&state, &documents, wish, &context(), || "uid".into()).expect("fits");
            prop_assert_eq!(plan.changes, vec![]);
        }
    }

    #[test]
    fn pruning_takes_all_away_in_an_order_that_an_endpoint_takes(documents in any_mesh()) {
        let state = loaded(&documents);
        let mesh = parse("f", "meshName: m\n").expect("reads");
        let wish = Wish { overwrite_weights: false, prune: true };
        let plan = plan_for(&state, &mesh, wish, &context(), || "uid".into()).expect("fits");
        let order = one_by_one(&state, &plan.changes, &context()).expect("has one");
        let mut left = state.clone();
        left.commit(order);
        let keys: Vec<String> = left.iter().map(|resource| resource.key.path()).collect();
        prop_assert!(keys.iter().all(|key| key == "mesh/m" || key == "mesh/M"), "{:?}", keys);
    }
}

#[test]
fn pruning_deletes_what_files_do_not_describe_and_says_what_they_still_name() {
    let mut state = MeshState::default();
    load(&mut state, &[EXAMPLE, "{ meshName: other }\n---\n{ meshName: other, virtualNodeName: n, spec: {} }"], false)
        .expect("loads");
    let wish = Wish { overwrite_weights: true, prune: true };
    let without_v2: String = EXAMPLE
        .split("---\n")
        .filter(|doc| !doc.contains("virtualNodeName: checkout-v2"))
        .collect::<Vec<_>>()
        .join("---\n");
    // A route's target has to be there.
    let documents = parse("f", &without_v2).expect("reads");
    let problems = plan_for(&state, &documents, wish, &context(), String::new).expect_err("is still a target");
    assert!(problems[0].message.contains("VirtualNode with name checkout-v2 is not present"), "{problems:?}");
    // So has what a service names and had.
    let service = "meshName: shop\n---\nmeshName: shop\nvirtualServiceName: checkout.local\nspec: { provider: { \
                   virtualRouter: { virtualRouterName: checkout-router } } }\n";
    let documents = parse("f", service).expect("reads");
    let problems = plan_for(&state, &documents, wish, &context(), String::new).expect_err("names the router");
    assert!(
        problems[0].to_string().contains("what this names is not in the files and --prune would delete it"),
        "{problems:?}"
    );
    // Other meshes are not touched, and the order is AWS's.
    let documents = parse("f", "meshName: shop\n").expect("reads");
    let plan = plan_for(&state, &documents, wish, &context(), String::new).expect("fits");
    let lines = plan.lines();
    assert_eq!(
        lines,
        [
            "unchanged mesh shop",
            "deleted virtualService checkout.local",
            "deleted route checkout-router/checkout",
            "deleted virtualRouter checkout-router",
            "deleted virtualNode checkout-v1",
            "deleted virtualNode checkout-v2",
        ]
    );
}
