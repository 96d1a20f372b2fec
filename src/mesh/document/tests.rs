//! Tests of `mesh::document`.

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
    state.commit(plan.changes);
    Ok(plan.lines)
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
        ("meshName: m\nspek: {}\n", "f0:2:1: spek: is not known in a document of a mesh"),
        ("a: b\n", "f0:1:1: is not an App Mesh resource"),
        ("just text\n", "f0:1:1: a document must be an object"),
        ("a: [\n", "f0:2:1: not YAML: "),
        ("meshName: m\nmeshName: n\n", "f0:2:1: not YAML: duplicated key"),
        ("meshName: !Ref x\n", "f0:1:11: "),
        ("1: x\n", "f0:1:1: a key must be text"),
        ("Resources:\n  Mesh: { Type: 'AWS::AppMesh::Mesh' }\n", "f0:1:1: CloudFormation templates are not in this"),
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
fn all_documents_are_told_of_at_once() {
    let problems = wrong("meshName: m\nvirtualNodeName: n\n---\nmeshName: m\nvirtualRouterName: r\nspec: 1\n");
    assert_eq!(problems, ["f0:1:1: spec: is required", "f0:6:7: spec: must be an object, not a number"]);
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
}
