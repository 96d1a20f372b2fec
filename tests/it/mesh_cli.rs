//! `tidegate mesh …`: the real program against a real `tidegate local`.

mod endpoints;
mod guide;
mod harness;
mod rollouts;

use crate::mesh::cli::{aws, run as run_aws};
use harness::{EXAMPLE, Local, folder, tidegate, with_input, write};
use serde_json::{Value, json};

/// The example's route with other weights and, if wanted, another prefix.
fn route(v1: u32, v2: u32, prefix: &str) -> String {
    let targets =
        json!([{ "virtualNode": "checkout-v1", "weight": v1 }, { "virtualNode": "checkout-v2", "weight": v2 }]);
    let spec = json!({ "httpRoute": { "match": { "prefix": prefix }, "action": { "weightedTargets": targets } } });
    json!({ "meshName": "shop", "virtualRouterName": "checkout-router", "routeName": "checkout", "spec": spec })
        .to_string()
}

#[tokio::test]
async fn files_are_validated_without_an_endpoint() {
    let ran = tidegate(&["mesh", "validate", "-f", EXAMPLE]).await.expect(0);
    assert_eq!(ran.stdout, format!("{EXAMPLE}: valid, 6 resources\n"));
    // A directory stands for its files.
    tidegate(&["mesh", "validate", "-f", "examples/local"]).await.expect(0);

    let folder = folder();
    let dangling = write(&folder, "dangling.json", &route(100, 0, "/").replace("checkout-v2", "checkout-v9"));
    let route_alone = write(&folder, "route.json", &route(100, 0, "/"));
    let broken =
        write(&folder, "broken.yaml", "meshName: shop\nvirtualNodeName: n\nspec:\n  listners: []\n---\na: [\n");
    tidegate(&["mesh", "validate", "--present", EXAMPLE, "-f", &route_alone]).await.expect(0);
    tidegate(&["mesh", "validate", "-f", &route_alone])
        .await
        .expect(2)
        .says(&["Mesh with name shop is not present", "--present FILE"]);
    tidegate(&["mesh", "validate", "--present", EXAMPLE, "-f", &dangling])
        .await
        .expect(2)
        .says(&["dangling.json:1:", "VirtualNode with name checkout-v9 is not present under mesh shop"]);
    // Whatever cannot be read, the others are looked at.
    let policy = "policies/quick-start.yaml";
    let ran = tidegate(&["mesh", "validate", "-f", &broken, "-f", policy, "no-such-file", "docs"]).await.expect(2);
    assert!(ran.stdout.contains(&format!("{policy}: not valid, 1 problem")), "{ran:?}");
    ran.says(&[
        "broken.yaml:",
        ": is not an App Mesh resource: no meshName, virtualNodeName",
        "no-such-file: cannot be read: No such file",
        "docs: no mesh files (*.yaml, *.yml, *.json) here",
    ]);

    let misspelt = write(&folder, "misspelt.yaml", "meshName: shop\nspek: {}\n---\nmeshname: m\n");
    let ran = tidegate(&["mesh", "validate", "-f", &misspelt, EXAMPLE, "--output", "json"]).await.expect(2);
    let files = ran.json();
    assert_eq!(
        files[0]["problems"],
        json!([
            { "message": "spek: is not known in a document of a mesh; did you mean spec?", "line": 2, "column": 1 },
            { "message": "meshname: is not known in an App Mesh resource; did you mean meshName?", "line": 4, "column": 11 },
        ])
    );
    assert_eq!(files[1], json!({ "file": EXAMPLE, "valid": true, "resources": 6, "problems": [], "remarks": [] }));
    assert_eq!(ran.stderr, "");
}

#[tokio::test]
async fn what_is_applied_is_shown_before_and_not_done_twice() {
    let local = Local::start().await;
    let diff = local.mesh(&["diff", "-f", EXAMPLE]).await.expect(1);
    assert!(diff.stdout.starts_with("create    mesh shop\ncreate    virtualNode checkout-v1\n"), "{diff:?}");
    assert!(diff.stdout.ends_with("6 to create, 0 to update, 0 unchanged\n"), "{diff:?}");

    let applied = local.mesh(&["apply", "-f", EXAMPLE]).await.expect(0);
    assert!(applied.stdout.starts_with(&diff.stdout), "the plan comes first: {applied:?}");
    assert!(applied.stdout.contains("\ncreated route checkout-router/checkout\n"), "{applied:?}");
    assert_eq!(local.route().await["spec"]["httpRoute"]["match"], json!({ "prefix": "/" }));
    local.mesh(&["diff", "-f", EXAMPLE]).await.expect(0);
    let again = local.mesh(&["apply", "-f", EXAMPLE, "--yes"]).await.expect(0);
    assert_eq!(again.stdout.lines().filter(|line| line.starts_with("unchanged ")).count(), 6, "{again:?}");
    assert!(again.stdout.ends_with("nothing to change: 6 resources as described\n"), "{again:?}");
    assert_eq!(local.route().await["metadata"]["version"], 1);

    // An update says what changes in it; standard input is a file like others.
    let input = route(100, 0, "/shop");
    let diff = with_input(&["mesh", "diff", "-f", "-", "--endpoint-url", &local.appmesh()], &input).await.expect(1);
    assert_eq!(
        diff.stdout,
        "update    route checkout-router/checkout\n            spec.httpRoute.match.prefix: \"/\" -> \"/shop\"\n\
         0 to create, 1 to update, 0 unchanged\n"
    );
    let applied = ["mesh", "apply", "-f", "-", "--output", "json", "--endpoint-url", &local.appmesh()];
    let applied = with_input(&applied, &input).await.expect(0).json();
    let path = "mesh/shop/virtualRouter/checkout-router/route/checkout";
    assert_eq!(
        applied,
        [
            json!({ "event": "plan", "changes": 1, "resources": [{ "resource": path, "action": "update",
                "changed": [{ "path": "spec.httpRoute.match.prefix", "old": "/", "new": "/shop" }] }], "remarks": [] }),
            json!({ "event": "applied", "resource": path, "action": "update" }),
            json!({ "event": "summary", "applied": 1, "not_applied": [], "unsure": [] }),
        ]
    );
    assert_eq!(local.route().await["metadata"]["version"], 2);
    local.stop().await;
}

#[tokio::test]
async fn weights_stay_unless_told_otherwise() {
    let local = Local::start_with(&["--mesh", EXAMPLE]).await;
    let folder = folder();
    let shifted = write(&folder, "shifted.json", &route(60, 40, "/"));
    let kept = local.mesh(&["apply", "-f", &shifted]).await.expect(0);
    assert!(kept.stdout.contains("            weights stay 100/0 (the file says 60/40)\n"), "{kept:?}");
    assert_eq!(local.weights().await, [100, 0]);

    let diff = local.mesh(&["diff", "-f", &shifted, "--weights"]).await.expect(1);
    assert!(diff.stdout.contains("spec.httpRoute.action.weightedTargets[1].weight: 0 -> 40\n"), "{diff:?}");
    local.mesh(&["apply", "-f", &shifted, "--weights"]).await.expect(0);
    assert_eq!(local.weights().await, [60, 40]);

    // The rest of the file is taken, the weights are not.
    let diff = local.mesh(&["diff", "-f", EXAMPLE, "--output", "json"]).await.expect(0).json();
    assert_eq!(diff[0]["resources"][4]["kept_weights"], json!({ "now": [60, 40], "file": [100, 0] }));
    let moved = write(&folder, "moved.json", &route(100, 0, "/shop"));
    local.mesh(&["apply", "-f", &moved]).await.expect(0);
    assert_eq!(local.weights().await, [60, 40]);
    assert_eq!(local.route().await["spec"]["httpRoute"]["match"]["prefix"], "/shop");

    let lost = write(&folder, "lost.json", &route(100, 0, "/").replace("checkout-v2", "checkout-v1"));
    local.mesh(&["apply", "-f", &lost]).await.expect(2).says(&["lost.json:1:"]);
    assert_eq!(local.weights().await, [60, 40]);
    local.stop().await;
}

#[tokio::test]
async fn tags_are_applied_and_told() {
    let local = Local::start().await;
    let folder = folder();
    let tagged = |team: &str| json!({ "meshName": "shop", "tags": [{ "key": "team", "value": team }] }).to_string();
    let file = write(&folder, "mesh.json", &tagged("payments"));
    local.mesh(&["apply", "-f", &file]).await.expect(0);
    local.mesh(&["diff", "-f", &file]).await.expect(0);
    let file = write(&folder, "mesh.json", &tagged("checkout"));
    let applied = local.mesh(&["apply", "-f", &file]).await.expect(0);
    assert!(applied.stdout.contains("tags.team: \"payments\" -> \"checkout\"\n"), "{applied:?}");
    local.mesh(&["diff", "-f", &file]).await.expect(0);
    local.stop().await;
}

/// A mesh with names that need care, more nodes than a page holds, and uneven weights.
fn awkward() -> String {
    let mut documents = vec![
        json!({ "meshName": "on" }),
        json!({ "meshName": "on", "virtualRouterName": "null", "spec": {} }),
        json!({ "meshName": "on", "virtualServiceName": "a/b c?é#%2F\u{2028}\"'\\: -", "spec": { "provider":
            { "virtualRouter": { "virtualRouterName": "null" } } },
            "tags": [{ "key": "a:b/c", "value": "- \u{85}x #" }] }),
        json!({ "meshName": "on", "virtualServiceName": "---", "spec": {} }),
        json!({ "meshName": "on", "virtualGatewayName": "1e3", "spec":
            { "listeners": [{ "portMapping": { "port": 8088, "protocol": "http" } }] } }),
        json!({ "meshName": "on", "virtualGatewayName": "1e3", "gatewayRouteName": "0x10", "spec": { "httpRoute":
            { "match": { "prefix": "/" }, "action": { "target": { "virtualService":
            { "virtualServiceName": "---" } } } } } }),
        json!({ "meshName": "on", "virtualRouterName": "null", "routeName": "true", "spec": { "httpRoute":
            { "match": { "prefix": "/é" }, "action": { "weightedTargets": [{ "virtualNode": "007", "weight": 33 },
            { "virtualNode": "node-100", "weight": 1 }] } } } }),
        json!({ "meshName": "on", "virtualNodeName": "007", "spec": {} }),
    ];
    documents.extend((0..130).map(|n| json!({ "meshName": "on", "virtualNodeName": format!("node-{n}"), "spec": {} })));
    Value::Array(documents).to_string()
}

#[tokio::test]
async fn an_export_is_the_same_mesh_elsewhere() {
    let (one, other) = (Local::start_with(&["--mesh", EXAMPLE]).await, Local::start().await);
    let folder = folder();
    one.mesh(&["apply", "-f", &write(&folder, "awkward.json", &awkward())]).await.expect(0);
    one.mesh(&["apply", "--weights", "-f", &write(&folder, "route.json", &route(7, 13, "/"))]).await.expect(0);
    let text = one.mesh(&["export"]).await.expect(0).stdout;
    assert_eq!(text.matches("---\n").count(), 6 + 8 + 130 - 1);

    let file = write(&folder, "export.yaml", &text);
    tidegate(&["mesh", "validate", "-f", &file]).await.expect(0);
    one.mesh(&["diff", "--weights", "-f", &file]).await.expect(0);
    other.mesh(&["apply", "--weights", "-f", &file]).await.expect(0);
    assert_eq!(other.mesh(&["export"]).await.expect(0).stdout, text);
    assert_eq!(other.weights().await, [7, 13]);
    other.mesh(&["diff", "--weights", "-f", &file]).await.expect(0);
    other.stop().await;

    let loaded = Local::start_with(&["--mesh", &file]).await;
    assert_eq!(loaded.mesh(&["export"]).await.expect(0).stdout, text);
    // One mesh of several, and as one list for programs; both can be applied too.
    let shop = loaded.mesh(&["export", "--mesh", "shop", "--output", "json"]).await.expect(0);
    assert_eq!(shop.json()[0].as_array().map(Vec::len), Some(6));
    let arguments = ["mesh", "diff", "--weights", "-f", "-", "--endpoint-url", &one.appmesh()];
    with_input(&arguments, &shop.stdout).await.expect(0);
    loaded.mesh(&["export", "--mesh", "shpo"]).await.expect(1).says(&["no mesh shpo at", "there is on, shop"]);
    loaded.stop().await;
    one.stop().await;
}

#[tokio::test]
async fn a_template_is_applied_exported_and_pruned() {
    const TEMPLATE: &str = "tests/reference/cloudformation/shop.yaml";
    let local = Local::start().await;
    let parameters = ["--parameter", "Stage=prod", "--parameter", "Weights=70,30"];
    let validated = tidegate(&[&["mesh", "validate", "-f", TEMPLATE][..], &parameters].concat()).await.expect(0);
    assert_eq!(validated.stdout, format!("{TEMPLATE}: valid, 8 resources\n"));
    let validated = validated.says(&["Cluster (AWS::ECS::Cluster): skipped, not a resource of App Mesh"]);
    assert_eq!(validated.stderr.lines().count(), 2, "{validated:?}");
    tidegate(&["mesh", "validate", "-f", TEMPLATE, "--parameter", "Stag=x"])
        .await
        .expect(2)
        .says(&["--parameter: Stag: no template among the files has or needs a parameter of that name"]);
    tidegate(&["mesh", "validate", "-f", TEMPLATE, "--parameter", "Stage"])
        .await
        .expect(2)
        .says(&["is not NAME=VALUE"]);

    let applied = local.mesh(&[&["apply", "-f", TEMPLATE][..], &parameters].concat()).await.expect(0);
    assert!(applied.stdout.contains("8 to create, 0 to update, 0 unchanged\n"), "{applied:?}");
    local.mesh(&[&["diff", "-f", TEMPLATE][..], &parameters].concat()).await.expect(0);

    // What is written as a template is read back to the same mesh, here and elsewhere.
    let text = local.mesh(&["export", "--format", "cloudformation"]).await.expect(0).stdout;
    let folder = folder();
    let file = write(&folder, "export.yaml", &text);
    local.mesh(&["diff", "--weights", "--prune", "-f", &file]).await.expect(0);
    let loaded = Local::start_with(&["--mesh", &file]).await;
    assert_eq!(loaded.mesh(&["export"]).await.expect(0).stdout, local.mesh(&["export"]).await.expect(0).stdout);
    loaded.stop().await;
    let json = local.mesh(&["export", "--format", "cloudformation", "--output", "json"]).await.expect(0).json();
    assert_eq!(json[0]["Resources"].as_object().map(serde_json::Map::len), Some(8));

    // Without the gateway, whose route and itself go; the plan comes first, and the second time there is nothing to do.
    let smaller = ["mesh", "node-1", "node-2"].iter().zip([
        "{ meshName: shop-prod, spec: { egressFilter: { type: DROP_ALL } } }",
        "{ meshName: shop-prod, virtualNodeName: cart-v1, spec: {} }",
        "{ meshName: shop-prod, virtualNodeName: spare, spec: {} }",
    ]);
    for (name, text) in smaller {
        write(&folder, &format!("{name}.yaml"), text);
    }
    std::fs::remove_file(&file).unwrap();
    let directory = folder.path().to_str().unwrap();
    let diff = local.mesh(&["diff", "--prune", "-f", directory]).await.expect(1);
    let applied = local.mesh(&["apply", "--prune", "-f", directory]).await.expect(0);
    assert!(applied.stdout.starts_with(&diff.stdout), "{applied:?}");
    assert!(applied.stdout.contains("1 to create, 1 to update, 6 to delete, 1 unchanged\n"), "{applied:?}");
    let done: Vec<&str> = applied.stdout.lines().filter(|line| line.starts_with("deleted ")).collect();
    assert_eq!(
        done,
        [
            "deleted gatewayRoute edge/CartAtEdge",
            "deleted virtualGateway edge",
            "deleted virtualService cart.shop.local",
            "deleted route CartRouter/cart",
            "deleted virtualRouter CartRouter",
            "deleted virtualNode cart-v2",
        ]
    );
    local.mesh(&["apply", "--prune", "-f", directory]).await.expect(0);
    local.stop().await;
}

#[tokio::test]
async fn the_aws_cli_sees_what_was_applied_and_its_outputs_are_files() {
    let Some(aws) = aws().await else { return };
    let local = Local::start().await;
    local.mesh(&["apply", "-f", EXAMPLE]).await.expect(0);
    let names = ["--mesh-name", "shop", "--virtual-router-name", "checkout-router", "--route-name", "checkout"];
    let describe = async |arguments: &[&str]| run_aws(&aws, &local.appmesh(), arguments).await.unwrap();
    let described = describe(&[&["describe-route"][..], &names].concat()).await;
    let sent: Value = serde_json::from_str(&route(100, 0, "/")).unwrap();
    assert_eq!(described["route"]["spec"], sent["spec"]);
    let node = describe(&["describe-virtual-node", "--mesh-name", "shop", "--virtual-node-name", "checkout-v1"]).await;
    assert_eq!(node["virtualNode"]["spec"]["listeners"][0]["healthCheck"]["port"], 9001);

    let folder = folder();
    let mut files = vec![write(&folder, "route.json", &described.to_string())];
    for (verb, name) in
        [("mesh", None), ("virtual-node", Some("checkout-v1")), ("virtual-router", Some("checkout-router"))]
    {
        let command = format!("describe-{verb}");
        let flag = format!("--{verb}-name");
        let mut arguments = vec![command.as_str(), "--mesh-name", "shop"];
        arguments.extend(name.into_iter().flat_map(|name| [flag.as_str(), name]));
        files.push(write(&folder, &format!("{verb}.json"), &describe(&arguments).await.to_string()));
    }
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    local.mesh(&[&["apply", "-f"][..], &files].concat()).await.expect(0);
    local.mesh(&[&["diff", "--weights", "-f"][..], &files].concat()).await.expect(0);
    // Edited like a file, the description of a route is one.
    let edited = described.to_string().replace("\"/\"", "\"/v2\"");
    local.mesh(&["apply", "-f", &write(&folder, "edited.json", &edited)]).await.expect(0);
    assert_eq!(local.route().await["spec"]["httpRoute"]["match"]["prefix"], "/v2");
    local.stop().await;
}
