//! Tests of `mesh::document`.

mod round;

use super::*;
use crate::base::time::Timestamp;
use crate::mesh::model::Quotas;

const EXAMPLE: &str = include_str!("../../../examples/local/mesh.yaml");

fn context() -> OpContext {
    OpContext {
        now: Timestamp(1),
        uid: String::new(),
        account: "000000000000".into(),
        region: "us-east-1".into(),
        quotas: Quotas::AWS,
        strict: false,
    }
}

/// Loads texts as files `f0`, `f1`, …; the lines or the problems as people see them.
fn load(state: &mut MeshState, texts: &[&str], overwrite: bool) -> Result<Vec<String>, Vec<String>> {
    let told = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut documents = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        documents.extend(parse(&format!("f{at}"), text).map_err(told)?);
    }
    let plan = plan(state, &documents, overwrite, &context(), || "uid".into()).map_err(told)?;
    let lines = plan.lines();
    state.commit(plan.changes);
    Ok(lines)
}

#[track_caller]
fn wrong(text: &str) -> Vec<String> {
    let mut state = MeshState::default();
    load(&mut state, &[EXAMPLE], false).expect("the example loads");
    let before = state.clone();
    let problems = load(&mut state, &[text], false).expect_err("is wrong");
    assert_eq!(state, before);
    problems
}

#[test]
fn the_example_loads_and_loads_again() {
    let mut state = MeshState::default();
    assert_eq!(
        load(&mut state, &[EXAMPLE], false).expect("loads"),
        [
            "created mesh shop",
            "created virtualNode checkout-v1",
            "created virtualNode checkout-v2",
            "created virtualRouter checkout-router",
            "created route checkout-router/checkout",
            "created virtualService checkout.local",
        ]
    );
    let before = state.clone();
    let lines = load(&mut state, &[EXAMPLE], false).expect("loads");
    assert!(lines.iter().all(|line| line.starts_with("unchanged ")), "{lines:?}");
    assert_eq!(state, before);
}

#[test]
fn documents_come_in_any_order_and_form() {
    let json = r#"[
        {"virtualService": {"meshName": "m", "virtualServiceName": "s", "status": {"status": "ACTIVE"},
            "metadata": {"version": 3}, "spec": {"provider": {"virtualNode": {"virtualNodeName": "n"}}}}},
        {"meshName": "m", "virtualNodeName": "n", "meshOwner": "000000000000", "clientToken": "t",
            "tags": [{"key": "a", "value": "b"}], "spec": {}}
    ]"#;
    let mut state = MeshState::default();
    let lines = load(&mut state, &[json, "{\"meshName\": \"m\"}\n---\n---\n"], false).expect("loads");
    assert_eq!(lines, ["created mesh m", "created virtualNode n", "created virtualService s"]);
    let lines = load(&mut state, &[json], false).expect("loads");
    assert_eq!(lines, ["unchanged virtualNode n", "unchanged virtualService s"]);
    let tagged = json.replace(r#""value": "b""#, r#""value": "c""#);
    assert_eq!(load(&mut state, &[&tagged], false).expect("loads")[0], "updated virtualNode n");
}

fn route(v1: u32, v2: u32) -> String {
    format!(
        "meshName: shop\nvirtualRouterName: checkout-router\nrouteName: checkout\nspec:\n  httpRoute:\n    match: {{ \
         prefix: / }}\n    action:\n      weightedTargets:\n        - {{ virtualNode: checkout-v1, weight: {v1} }}\n        \
         - {{ virtualNode: checkout-v2, weight: {v2} }}\n"
    )
}

fn weights(state: &MeshState) -> Vec<u32> {
    let key = Key::grandchild("shop", Kind::Route, "checkout-router", "checkout");
    let route = state.get(&key).and_then(|route| route.spec.route()).expect("is there");
    route.targets().iter().map(|target| target.weight).collect()
}

#[test]
fn the_weights_of_a_route_stay_unless_told_otherwise() {
    let mut state = MeshState::default();
    load(&mut state, &[EXAMPLE], false).expect("loads");
    load(&mut state, &[&route(60, 40)], true).expect("loads");
    assert_eq!(weights(&state), [60, 40]);

    let kept = "kept the weights of route checkout-router/checkout: 60/40 (the file says 100/0)";
    assert_eq!(load(&mut state, &[&route(100, 0)], false).expect("loads"), [kept]);
    let other_match = route(100, 0).replace("prefix: /", "prefix: /shop");
    let lines = load(&mut state, &[&other_match], false).expect("loads");
    assert_eq!(lines, ["updated route checkout-router/checkout", kept]);
    assert_eq!(weights(&state), [60, 40]);

    // A target with traffic cannot vanish, and a new one starts without.
    let lost: String =
        route(100, 0).lines().filter(|line| !line.contains("v2")).map(|line| format!("{line}\n")).collect();
    let problems = load(&mut state, &[&lost], false).expect_err("would lose 40 %");
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("f0:8:7: spec.httpRoute.action.weightedTargets: virtualNode checkout-v2 is missing")
    );
    load(&mut state, &[&lost], true).expect("was told to");
    assert_eq!(weights(&state), [100]);
    load(&mut state, &[&route(50, 50)], false).expect("loads");
    assert_eq!(weights(&state), [100, 0]);
}

#[test]
fn several_listeners_can_come_at_once() {
    let mut state = MeshState::default();
    load(&mut state, &[EXAMPLE], false).expect("loads");
    // Step by step AWS would have three updates; together the documents fit.
    let node = "\n---\nmeshName: shop\nvirtualNodeName: checkout-v1\nspec:\n  serviceDiscovery: { dns: { hostname: a } }\n  \
                listeners:\n    - portMapping: { port: 1, protocol: http }\n    - portMapping: { port: 2, protocol: http }\n";
    let with_port = route(100, 0).replace("checkout-v1,", "checkout-v1, port: 2,");
    load(&mut state, &[&with_port, node], false).expect("loads");
    let problems = load(&mut state, &[&route(100, 0)], false).expect_err("needs a port now");
    assert!(problems[0].contains("weightedTargets[0].port: is required"), "{problems:?}");
}

#[test]
fn problems_say_where() {
    let dangling = route(100, 0).replace("checkout-v2", "checkout-v9");
    assert_eq!(
        wrong(&dangling.replace("routeName: checkout", "routeName: other")),
        ["f0:10:26: VirtualNode with name checkout-v9 is not present under mesh shop for account 000000000000"]
    );
    for (text, expected) in [
        ("meshName: m\nspec:\n  egressFilter:\n    type: ALL\n", "f0:4:11: spec.egressFilter.type: must be one of"),
        ("meshName: m\nspec:\n  egresFilter: {}\n", "f0:3:3: spec.egresFilter: is not known here; did you mean"),
        ("meshName: m\nvirtualNodeName: n\n", "f0:1:1: spec: is required"),
        ("meshName: m\nvirtualNodeName: n n\nspec: {}\n", "f0:2:18: virtualNodeName: may hold only letters"),
        ("meshName: 7\n", "f0:1:11: meshName: must be a string"),
        ("virtualNodeName: n\nspec: {}\n", "f0:1:1: meshName: is required for a virtualNode"),
        ("meshName: m\nspek: {}\n", "f0:2:1: spek: is not known in a document of a mesh; did you mean spec?"),
        ("meshName: m\nsize: {}\n", "f0:2:1: size: is not known in a document of a mesh"),
        ("meshname: m\n", "f0:1:11: meshname: is not known in an App Mesh resource; did you mean meshName?"),
        ("a: b\n", "f0:1:1: is not an App Mesh resource"),
        ("just text\n", "f0:1:1: a document must be an object"),
        ("a: [\n", "f0:2:1: not YAML: "),
        ("meshName: m\nmeshName: n\n", "f0:2:1: not YAML: duplicated key"),
        ("meshName: !Ref x\n", "f0:1:11: the YAML tag !Ref has no meaning outside a CloudFormation template"),
        ("1: x\n", "f0:1:1: a key must be text"),
        ("meshName: m\nvirtualGatewayName: g\nspec: {}\n", "f0:3:1: spec.listeners: is required"),
        ("meshName: m\n---\nmeshName: m\n", "f0:3:1: mesh m is described twice: first at f0:1:1"),
        (
            "route:\n  meshName: shop\n  virtualRouterName: checkout-router\n  routeName: checkout\n  spec: {}\n",
            "f0:5:",
        ),
    ] {
        let problems = wrong(text);
        assert!(problems[0].starts_with(expected), "{text:?}: {problems:?}");
    }
}

#[test]
fn what_is_left_out_or_left_open_is_told_with_its_place() {
    let text = "meshName: m\nspec: { egressFilter: { allowAll: true } }\n---\nmeshName: m\nvirtualNodeName: n\nspec:\n  \
                listeners:\n    - portMapping: { port: 80, protocol: http }\n      healthCheck: { protocol: http, path: /, \
                healthyThreshold: 2,\n        unhealthyThreshold: 3 }\n---\nmeshName: m\nvirtualServiceName: s\nspec: { \
                provider: { virtualRouter: { virtualRouterName: r } } }\n";
    let mut state = MeshState::default();
    let lines = load(&mut state, &[text], false).expect("loads");
    let remarks: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("remark: ")).collect();
    assert_eq!(
        remarks,
        [
            "f0:2:35: spec.egressFilter.allowAll: is no member of the API: {\"type\": \"ALLOW_ALL\"} is taken",
            "f0:9:7: spec.listeners[0].healthCheck.intervalMillis: is not said, and the API requires it: 30000 is taken",
            "f0:9:7: spec.listeners[0].healthCheck.timeoutMillis: is not said, and the API requires it: 5000 is taken",
            "f0:6:1: unresolved: spec.serviceDiscovery: is missing, so nothing says where the node is; until it is there, \
             requests to the node are answered 503",
            "f0:14:57: unresolved: spec.provider.virtualRouter.virtualRouterName: virtualRouter r does not exist yet; \
             until it does, requests are answered 404",
        ]
    );
    let node = state.get(&Key::child("m", Kind::VirtualNode, "n")).expect("is there");
    assert_eq!(node.raw["listeners"][0]["healthCheck"]["intervalMillis"], 30_000);
    let spec = &state.get(&Key::mesh("m")).expect("is there").raw;
    assert_eq!(spec["egressFilter"]["type"], "ALLOW_ALL");
    // The other spellings of the same; and what is neither is refused as ever.
    for (filter, kind) in
        [("allowAll: false", "DROP_ALL"), ("dropAll: true", "DROP_ALL"), ("dropAll: false", "ALLOW_ALL")]
    {
        let mut state = MeshState::default();
        load(&mut state, &[&format!("meshName: m\nspec: {{ egressFilter: {{ {filter} }} }}\n")], false).expect("loads");
        assert_eq!(state.get(&Key::mesh("m")).expect("is there").raw["egressFilter"]["type"], kind);
    }
    for filter in ["allowAll: 1", "allowAll: true, type: DROP_ALL", "allowAll: true, dropAll: false", ""] {
        assert!(wrong(&format!("meshName: m\nspec: {{ egressFilter: {{ {filter} }} }}\n"))[0].starts_with("f0:2:"));
    }
    // Where AWS's rules are asked for, what is left open is refused at the same places.
    let documents = parse("f0", text).expect("reads");
    let strict = OpContext { strict: true, ..context() };
    let problems = plan(&MeshState::default(), &documents, false, &strict, || "uid".into()).expect_err("is refused");
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "f0:6:1: spec.serviceDiscovery: is required when there is a listener",
            "f0:14:57: VirtualRouter with name r is not present under mesh m for account 000000000000",
        ]
    );
}

#[test]
fn all_documents_are_told_of_at_once() {
    let problems = wrong("meshName: m\nvirtualNodeName: n\n---\nmeshName: m\nvirtualRouterName: r\nspec: 1\n");
    assert_eq!(problems, ["f0:1:1: spec: is required", "f0:6:7: spec: must be an object, not a number"]);
}

/// Problems of texts as files `f0`, `f1`, …, loaded together.
fn problems_of(present: &MeshState, texts: &[&str]) -> Vec<String> {
    let named = texts.iter().enumerate();
    let texts: Vec<Text> =
        named.map(|(at, text)| Text { file: format!("f{at}"), text: Ok((*text).to_owned()) }).collect();
    validate_all(present, &texts, &Settings::default(), &context()).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn files_are_validated_together() {
    let nothing = MeshState::default();
    assert_eq!(problems_of(&nothing, &[EXAMPLE]), Vec::<String>::new());
    let route = route(100, 0).replace("routeName: checkout", "routeName: other");
    assert_eq!(problems_of(&nothing, &[EXAMPLE, &route]), Vec::<String>::new());
    assert_eq!(problems_of(&nothing, &[&route]).len(), 1);
    let mut present = MeshState::default();
    load(&mut present, &[EXAMPLE], false).expect("loads");
    assert_eq!(problems_of(&present, &[&route]), Vec::<String>::new());
    // One file that cannot be read, a document that is no resource beside one with a wrong spec, and one that is fine
    // but for a mesh that might be in the others.
    let mixed = "meshName: m\nvirtualNodeName: n\nspec: 7\n---\njust text\n";
    assert_eq!(
        problems_of(&nothing, &["a: [\n", mixed, &route]),
        [
            "f0:2:1: not YAML: while parsing a node, did not find expected node content",
            "f1:3:7: spec: must be an object, not a number",
            "f1:5:1: a document must be an object that describes one App Mesh resource"
        ]
    );
}

fn order_of(state: &MeshState, texts: &[&str]) -> Result<Vec<String>, NoOrder> {
    let documents: Vec<Document> = texts.iter().flat_map(|text| parse("f", text).expect("reads")).collect();
    let plan = plan(state, &documents, false, &context(), || "uid".into()).expect("fits");
    let order = one_by_one(state, &plan.changes, &context())?;
    let mut made = state.clone();
    for change in &order {
        made.commit([change.clone()]);
        ops::check(&made, &context(), &change.0).expect("every step passes");
    }
    Ok(order.iter().map(|(key, _)| key.describe()).collect())
}

#[test]
fn changes_come_in_an_order_that_an_endpoint_takes() {
    let mut state = MeshState::default();
    let order = order_of(&state, &[EXAMPLE]).expect("has one");
    assert_eq!((order.len(), order[0].as_str(), order[4].as_str()), (6, "mesh shop", "route checkout-router/checkout"));

    load(&mut state, &[EXAMPLE], false).expect("loads");
    let node = |ports: &[u16]| {
        let mappings: String =
            ports.iter().map(|port| format!("    - portMapping: {{ port: {port}, protocol: http }}\n")).collect();
        format!(
            "meshName: shop\nvirtualNodeName: checkout-v1\nspec:\n  serviceDiscovery: {{ dns: {{ hostname: a }} }}\n  \
             listeners:\n{mappings}"
        )
    };
    // The route first: then the node may have two listeners.
    let old_port = route(100, 0).replace("checkout-v1,", "checkout-v1, port: 9001,");
    let order = order_of(&state, &[&node(&[9001, 9002]), &old_port]).expect("has one");
    assert_eq!(order, ["route checkout-router/checkout", "virtualNode checkout-v1"]);
    // Neither can be first.
    let new_port = route(100, 0).replace("checkout-v1,", "checkout-v1, port: 9002,");
    let stuck = order_of(&state, &[&node(&[9001, 9002]), &new_port]).expect_err("needs a step between");
    assert_eq!(stuck.left.len(), 2);
    assert!(stuck.left[0].1.message.contains("sends here without a port"), "{stuck:?}");
}

fn exported(state: &MeshState) -> String {
    render(&state.iter().map(|resource| document(resource)).collect::<Vec<_>>())
}

#[test]
fn what_is_written_is_read_back_to_the_same() {
    let mut state = MeshState::default();
    let gateway = "\n---\nmeshName: shop\nvirtualGatewayName: g\nspec:\n  listeners:\n    - portMapping: { port: 80, \
                   protocol: http }\n---\nmeshName: shop\nvirtualGatewayName: g\ngatewayRouteName: x\nspec:\n  \
                   httpRoute:\n    match: { prefix: / }\n    action: { target: { virtualService: { virtualServiceName: \
                   checkout.local } } }\ntags:\n  - { key: 'a: b', value: '- \u{2028} \"' }\n---\nmeshName: other\n";
    load(&mut state, &[EXAMPLE, gateway, &route(60, 40).replace("routeName: checkout", "routeName: 'no'")], true)
        .expect("loads");
    let text = exported(&state);
    assert_eq!(text.matches("---\n").count(), 9, "{text}");
    let mut again = MeshState::default();
    load(&mut again, &[&text], true).expect("loads");
    assert_eq!(again, state);
    assert_eq!(exported(&MeshState::default()), "");
}

#[test]
fn hostile_files_end_in_problems() {
    for text in [
        "- ".repeat(100_000),
        "[".repeat(100_000),
        format!("a: {}", "{a: ".repeat(100)),
        format!("{}x", "? ".repeat(10_000)),
        "a: &a [*a]".into(),
        "\u{0}\u{feff}%YAML 9\n".into(),
    ] {
        assert!(parse("f", &text).is_err(), "{}", &text[..8.min(text.len())]);
    }
    assert_eq!(parse("f", "").expect("is empty"), []);
}

proptest::proptest! {
    #[test]
    fn no_file_panics(text in "[ a-z:\\-\\[\\]{}&*!|>'\"\n\t#?,%@0-9]{0,80}") {
        drop(parse("f", &text));
    }
    #[test]
    fn any_text_survives_being_written(name in "\\PC{1,60}", value in ".{0,60}") {
        let mut state = MeshState::default();
        let input = serde_json::json!([
            { "meshName": "m", "tags": [{ "key": "k", "value": value }] },
            { "meshName": "m", "virtualServiceName": name, "spec": {} },
        ]);
        let documents = [&input[0], &input[1]].map(Value::clone);
        load(&mut state, &[&render(&documents)], false).expect("loads");
        proptest::prop_assert_eq!(&state.get(&Key::mesh("m")).expect("is there").tags["k"], &value);
        proptest::prop_assert!(state.get(&Key::child("m", Kind::VirtualService, &*name)).is_some());
        let mut again = MeshState::default();
        load(&mut again, &[&exported(&state)], true).expect("loads");
        proptest::prop_assert_eq!(again, state);
    }
}
