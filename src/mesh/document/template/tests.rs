//! Tests of `mesh::document::template`.

use super::*;
use crate::base::time::Timestamp;
use crate::mesh::document::{Text, parse_all, plan, validate_all};
use crate::mesh::model::{MeshState, Quotas};
use crate::mesh::ops::OpContext;
use serde_json::{Value, json};

const YAML: &str = include_str!("../../../../tests/reference/cloudformation/shop.yaml");
const JSON: &str = include_str!("../../../../tests/reference/cloudformation/shop.json");

fn context() -> OpContext {
    OpContext {
        now: Timestamp(1),
        uid: String::new(),
        account: "000000000000".into(),
        region: "us-east-1".into(),
        quotas: Quotas::AWS,
        strict: true,
    }
}

fn settings(parameters: &[(&str, &str)]) -> Settings {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Settings { parameters, ..Settings::default() }
}

/// The mesh that a template makes, and the remarks; or all that is wrong.
fn load(text: &str, parameters: &[(&str, &str)]) -> Result<(MeshState, Vec<String>), Vec<String>> {
    let told = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let text = Text { file: "dir/shop.stack.yaml".into(), text: Ok(text.to_owned()) };
    let loaded = parse_all(&[text], &settings(parameters)).map_err(told)?;
    let plan = plan(&MeshState::default(), &loaded.documents, true, &context(), || "uid".into()).map_err(told)?;
    let mut state = MeshState::default();
    state.commit(plan.changes);
    Ok((state, loaded.remarks.iter().chain(&plan.remarks).map(ToString::to_string).collect()))
}

/// Spec of the resource of this path.
fn spec(state: &MeshState, path: &str) -> Value {
    let key = Key::from_path(path).expect("is a path");
    state.get(&key).unwrap_or_else(|| panic!("no {path}")).raw.clone()
}

#[test]
fn a_template_becomes_the_mesh_that_it_describes() {
    let (state, remarks) = load(YAML, &[("Stage", "prod"), ("Cluster.Arn", "arn:aws:ecs:x")]).expect("loads");
    let keys: Vec<String> = state.iter().map(|resource| resource.key.path()).collect();
    assert_eq!(
        keys,
        [
            "mesh/shop-prod",
            "mesh/shop-prod/virtualNode/cart-v1",
            "mesh/shop-prod/virtualNode/cart-v2",
            "mesh/shop-prod/virtualRouter/CartRouter",
            "mesh/shop-prod/virtualRouter/CartRouter/route/cart",
            "mesh/shop-prod/virtualService/cart.shop.local",
            "mesh/shop-prod/virtualGateway/edge",
            "mesh/shop-prod/virtualGateway/edge/gatewayRoute/CartAtEdge",
        ]
    );
    assert_eq!(spec(&state, "mesh/shop-prod"), json!({ "egressFilter": { "type": "DROP_ALL" } }));
    let first = spec(&state, "mesh/shop-prod/virtualNode/cart-v1");
    assert_eq!(
        first,
        json!({
            "serviceDiscovery": { "dns": { "hostname": "cart-v1.shop-stage.local", "responseType": "ENDPOINTS" } },
            "listeners": [{
                "portMapping": { "port": 8080, "protocol": "http" },
                "healthCheck": { "protocol": "http", "path": "/health", "healthyThreshold": 2, "unhealthyThreshold": 3,
                    "timeoutMillis": 2000, "intervalMillis": 5000, "port": 8080 },
                "connectionPool": { "http": { "maxConnections": 100, "maxPendingRequests": 10 } },
                "timeout": { "http": { "perRequest": { "unit": "s", "value": 20 } } },
                "outlierDetection": { "maxServerErrors": 5, "maxEjectionPercent": 50,
                    "interval": { "unit": "s", "value": 10 }, "baseEjectionDuration": { "unit": "s", "value": 30 } },
                "tls": { "mode": "PERMISSIVE", "certificate": { "acm": { "certificateArn":
                    "arn:aws:acm:us-east-1:000000000000:certificate/cart" } } },
            }],
            "backends": [{ "virtualService": { "virtualServiceName": "cart.shop.local" } }],
        })
    );
    let second = spec(&state, "mesh/shop-prod/virtualNode/cart-v2");
    assert_eq!(
        second["serviceDiscovery"],
        json!({ "awsCloudMap": { "namespaceName": "shop-stage.local", "serviceName": "cart",
            "attributes": [{ "key": "stack", "value": "shop" }, { "key": "literal", "value": "${Stage}" }] } })
    );
    assert_eq!(
        spec(&state, "mesh/shop-prod/virtualRouter/CartRouter/route/cart"),
        json!({ "priority": 10, "http2Route": { "match": { "prefix": "/", "headers":
            [{ "name": "x-a", "invert": true, "match": { "exact": "7" } }] }, "action": { "weightedTargets": [
            { "virtualNode": "cart-v1", "weight": 90 }, { "virtualNode": "cart-v2", "weight": 10 }] } } })
    );
    let mesh = state.get(&Key::mesh("shop-prod")).expect("is there");
    assert_eq!(mesh.tags, BTreeMap::from([("stage".into(), "prod".into()), ("zone".into(), "b".into())]));
    assert_eq!(
        remarks,
        [
            "dir/shop.stack.yaml:47:3: Cluster (AWS::ECS::Cluster): skipped, not a resource of App Mesh",
            "dir/shop.stack.yaml:49:3: Canary (AWS::AppMesh::VirtualNode): skipped, its condition IsTest is false",
        ]
    );
}

#[test]
fn both_forms_and_both_languages_say_the_same() {
    for parameters in [&[][..], &[("Stage", "prod")], &[("Stage", "test"), ("Weights", "5, 95")]] {
        let (yaml, _) = load(YAML, parameters).expect("loads");
        let (json, _) = load(JSON, parameters).expect("loads");
        assert_eq!(yaml, json, "{parameters:?}");
    }
}

#[test]
fn parameters_and_conditions_choose() {
    let (state, _) =
        load(YAML, &[("Stage", "test"), ("Weights", "1,2"), ("AWS::Region", "cn-north-1")]).expect("loads");
    assert!(state.get(&Key::child("shop-test", Kind::VirtualNode, "Canary")).is_some());
    assert_eq!(spec(&state, "mesh/shop-test"), json!({ "egressFilter": { "type": "ALLOW_ALL" } }));
    let node = spec(&state, "mesh/shop-test/virtualNode/cart-v1");
    assert!(node["listeners"][0].get("tls").is_none(), "AWS::NoValue takes a member away: {node}");
    let route = spec(&state, "mesh/shop-test/virtualRouter/CartRouter/route/cart");
    assert_eq!(route["http2Route"]["action"]["weightedTargets"][1]["weight"], 2);
}

/// A template of one node whose spec is given.
fn node(spec: &str) -> String {
    format!(
        "Parameters:\n  P: {{ Type: String }}\n  D: {{ Type: String, Default: d }}\n  L: {{ Type: CommaDelimitedList, Default: \
         'a,b' }}\nMappings:\n  M: {{ a: {{ b: c, n: {{ x: y }} }} }}\nConditions:\n  Yes: !Equals [1, '1']\n  Loop: !Not [!Condition \
         Loop2]\n  Loop2: !Or [!Condition Loop, !Condition Yes]\nResources:\n  Bucket: {{ Type: 'AWS::S3::Bucket' }}\n  Mesh: {{ \
         Type: 'AWS::AppMesh::Mesh' }}\n  Node:\n    Type: AWS::AppMesh::VirtualNode\n    Properties:\n      MeshName: \
         !GetAtt Mesh.MeshName\n      Spec: {spec}\n"
    )
}

/// Its first problem, without the file's name. The spec begins at line 18, column 13.
fn first_problem(spec: &str) -> String {
    let problems = load(&node(spec), &[]).expect_err(spec);
    problems[0].strip_prefix("dir/shop.stack.yaml:").unwrap_or(&problems[0]).to_owned()
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_what_to_do() {
    let mut others = Vec::new();
    for (spec, expected) in [
        ("!Ref P", "18:13: parameter P has no default: pass --parameter P=VALUE"),
        ("!Ref Q", "18:13: no parameter or resource of this template is called Q"),
        ("!Ref Mehs", "18:13: no parameter or resource of this template is called Mehs; did you mean Mesh?"),
        (
            "!Ref Bucket",
            "18:13: Bucket is AWS::S3::Bucket, of which nothing is known here: pass --parameter Bucket=VALUE",
        ),
        (
            "!GetAtt Bucket.Arn",
            "18:13: Bucket is AWS::S3::Bucket, of which nothing is known here: pass --parameter Bucket.Arn=",
        ),
        ("!GetAtt Mesh.Uid", "18:13: a Uid is known only once there is one: pass --parameter Mesh.Uid=VALUE"),
        ("!GetAtt Mesh.Name", "18:13: AWS::AppMesh::Mesh has no attribute Name; it has Arn, MeshOwner"),
        ("!GetAtt Mesh", "18:13: Fn::GetAtt: must be LOGICAL_ID.ATTRIBUTE"),
        ("!GetAtt Nod.Arn", "18:13: no resource of this template is called Nod; did you mean Node?"),
        ("!ImportValue x:y", "18:13: the export x:y of another stack is not known here: pass --parameter x:y=VALUE"),
        ("!Base64 x", "18:13: Fn::Base64: is not a function that is worked out here"),
        ("!Jion ['', []]", "18:7: Fn::Jion: is not a function that is worked out here; did you mean Fn::Join?"),
        ("!Equals [1, 1]", "18:7: Fn::Equals: stands only in Conditions"),
        ("!If [Loop, 1, 2]", "10:15: condition Loop depends on itself"),
        ("!If [Yse, 1, 2]", "18:18: no condition of this template is called Yse; did you mean Yes?"),
        ("!If [Yes, 1]", "18:13: Fn::If: must be a list of a condition's name and two values"),
        ("!Select [2, [a, b]]", "18:7: Fn::Select: 2 is not the index of one of 2 items"),
        ("!Select [x, !Ref L]", "18:7: Fn::Select: x is not the index of one of 2 items"),
        ("!Split ['', x]", "18:7: Fn::Split: the delimiter must not be empty"),
        ("!Join [',', [[]]]", "18:26: Fn::Join: joins strings, not a list"),
        ("!Join [',', x]", "18:25: Fn::Join: must be a list here, not a string"),
        ("!Sub '${P'", "18:13: Fn::Sub: ${ is not closed"),
        ("!Sub '${L}'", "18:13: Fn::Sub: ${L} is a list, not a string"),
        ("!Sub [x]", "18:13: Fn::Sub: must be a string, or a list of a string and an object"),
        ("!FindInMap [M, a, z]", "18:13: Fn::FindInMap: there is no M, a, z in Mappings"),
        ("!FindInMap [M, a, n]", "6:"),
        ("!Ref AWS::Regoin", "18:13: AWS::Regoin is not a pseudo parameter; did you mean AWS::Region?"),
        (
            "!Ref AWS::StackId",
            "18:13: AWS::StackId is known only to CloudFormation: pass --parameter AWS::StackId=VALUE",
        ),
        ("{ Ref: D, Listeners: [] }", "18:7: Ref: must stand alone in its object"),
        ("{ Listners: [] }", "18:15: spec.Listners: is not known here; did you mean listeners?"),
        ("{ Listeners: [], listeners: [] }", "18:30: spec.listeners: is given twice"),
        (
            "{ Listeners: [{ PortMapping: { Port: !Ref D, Protocol: http } }] }",
            "18:50: spec.listeners[0].portMapping.port: must be",
        ),
        ("!Ref D", "18:13: spec: must be an object, not a string"),
    ] {
        let found = first_problem(spec);
        if !found.starts_with(expected) {
            others.push(format!("{spec}: {found}"));
        }
    }
    for (text, expected) in [
        ("Resources: []\n", "1:1: Resources: must be an object, not a list"),
        ("AWSTemplateFormatVersion: '2010-09-09'\n", "1:1: Resources: is required in a CloudFormation template"),
        (
            "Resorces: {}\nResources: {}\n",
            "1:1: Resorces: is not a section of a CloudFormation template; did you mean Resources?",
        ),
        ("Resources:\n  M: {}\n", "2:3: Resources.M.Type: is required"),
        (
            "Resources:\n  M: { Type: AWS::AppMesh::Mehs }\n",
            "2:3: Resources.M.Type: there is no AWS::AppMesh::Mehs; did you mean Mesh?",
        ),
        (
            "Resources:\n  M:\n    Type: AWS::AppMesh::Mesh\n    Properies: {}\n",
            "4:5: Resources.M.Properies: is not known in a resource; did you mean Properties?",
        ),
        (
            "Resources:\n  M:\n    Type: AWS::AppMesh::Mesh\n    Properties:\n      MeshNme: x\n",
            "5:16: MeshNme: is not a property of AWS::AppMesh::Mesh; did you mean MeshName?",
        ),
        (
            "Resources:\n  N:\n    Type: AWS::AppMesh::VirtualNode\n    Properties:\n      Spec: {}\n",
            "2:3: MeshName: is required for a AWS::AppMesh::VirtualNode",
        ),
        (
            "Resources:\n  M:\n    Type: AWS::AppMesh::Mesh\n    Properties:\n      MeshName: !Ref M\n",
            "5:17: the name of M depends on itself",
        ),
        (
            "Resources:\n  M: { Type: AWS::AppMesh::Mesh }\n  N:\n    Type: AWS::AppMesh::VirtualNode\n    Properties:\n      MeshName: !Ref M\n      Spec: {}\n",
            "6:17: MeshName: is an ARN, which is what Ref yields; the name is !GetAtt X.MeshName",
        ),
        (
            "Parameters:\n  P: { Type: Number, Default: x }\nResources: {}\n",
            "2:3: Parameters.P: must be a number, not \"x\"",
        ),
        (
            "Parameters:\n  P: { Type: String, Default: x, AllowedValues: [a, b] }\nResources: {}\n",
            "2:3: Parameters.P: must be one of a, b, not \"x\"",
        ),
        (
            "Parameters:\n  P: { Type: String, Default: x, AllowedPattern: '[0-9]+' }\nResources: {}\n",
            "2:3: Parameters.P: \"x\" does not match",
        ),
        (
            "Parameters:\n  P: { Type: String, Default: x, MinLength: 2 }\nResources: {}\n",
            "2:3: Parameters.P: \"x\" is shorter",
        ),
        (
            "Parameters:\n  P: { Type: Number, Default: 7, MaxValue: 6 }\nResources: {}\n",
            "2:3: Parameters.P: 7 is not between",
        ),
        ("Parameters:\n  P: {}\nResources: {}\n", "2:3: Parameters.P: Type: is required"),
    ] {
        let problems = load(text, &[]).expect_err(text);
        if !problems[0].starts_with(&format!("dir/shop.stack.yaml:{expected}")) {
            others.push(format!("{text}: {problems:?}"));
        }
    }
    assert_eq!(others, Vec::<String>::new());
}

#[test]
fn what_nothing_here_knows_is_taken_from_the_command_line() {
    let spec = "{ ServiceDiscovery: { DNS: { Hostname: !Join ['.', [!Ref Bucket, !GetAtt Bucket.Arn, !GetAtt Mesh.Uid, \
                !ImportValue 'x:y', !Ref AWS::StackName, !Ref AWS::StackId, !Ref AWS::AccountId, !Ref P]] } }, Listeners: [{ \
                PortMapping: { Port: '80', Protocol: http } }] }";
    let given = [
        ("Bucket", "1"),
        ("Bucket.Arn", "2"),
        ("Mesh.Uid", "3"),
        ("x:y", "4"),
        ("AWS::StackId", "5"),
        ("AWS::AccountId", "6"),
        ("P", "7"),
    ];
    let (state, _) = load(&node(spec), &given).expect("loads");
    let spec = spec_of_node(&state);
    assert_eq!(spec["serviceDiscovery"]["dns"]["hostname"], "1.2.3.4.shop.5.6.7");
    assert_eq!(spec["listeners"][0]["portMapping"]["port"], 80);
    // A name that nothing needs is a slip.
    let problems = load(&node("{}"), &[("P", "x"), ("Strage", "prod"), ("Node.Other", "fine")]).expect_err("is wrong");
    assert_eq!(problems, ["--parameter: Strage: no template among the files has or needs a parameter of that name"]);
}

fn spec_of_node(state: &MeshState) -> Value {
    spec(state, "mesh/Mesh/virtualNode/Node")
}

#[test]
fn a_reference_to_what_a_condition_leaves_out_says_so() {
    let text = "Conditions: { No: !Equals [a, b] }\nResources:\n  M: { Type: AWS::AppMesh::Mesh, Condition: No }\n  N:\n    Type: \
                AWS::AppMesh::VirtualNode\n    Properties: { MeshName: !GetAtt M.MeshName, Spec: {} }\n";
    let problems = load(text, &[]).expect_err("is wrong");
    assert!(problems[0].contains("M is not made, since its condition No is false"), "{problems:?}");
}

/// A template that refers from each resource's name to the next one's.
fn chain(links: usize) -> String {
    let mut text = String::from("Resources:\n");
    for at in 0..links {
        text += &format!(
            "  M{at}: {{ Type: AWS::AppMesh::Mesh, Properties: {{ MeshName: !Sub 'a${{M{}.MeshName}}' }} }}\n",
            at + 1
        );
    }
    text + &format!("  M{links}: {{ Type: AWS::AppMesh::Mesh }}\n")
}

#[test]
fn whatever_a_template_says_working_it_out_ends() {
    let (state, _) = load(&chain(10), &[]).expect("is short");
    assert!(state.get(&Key::mesh("aaaaaaaaaaM10")).is_some());
    let problems = load(&chain(5_000), &[]).expect_err("is long");
    assert!(problems[0].contains("more than 160 deep"), "{}", problems[0]);

    // A mapping that names itself ten times over would grow for ever if it was worked out.
    let refers = "[!FindInMap [M, a, b]]".to_owned();
    let own = format!(
        "Mappings: {{ M: {{ a: {{ b: [{}] }} }} }}\nResources: {{ M: {{ Type: AWS::AppMesh::Mesh, Properties: {{ MeshName: !Join \
         ['', !FindInMap [M, a, b]] }} }} }}\n",
        vec![refers; 10].join(", ")
    );
    assert!(load(&own, &[]).expect_err("is none")[0].contains("a value in Mappings must be a string"));

    // Large times many.
    let large = "x".repeat(100_000);
    let many = vec!["!Ref P"; 1_000].join(", ");
    let text = format!(
        "Parameters: {{ P: {{ Type: String, Default: {large} }} }}\nResources: {{ M: {{ Type: AWS::AppMesh::Mesh, Properties: {{ \
         MeshName: !Join ['', [{many}]] }} }} }}\n"
    );
    assert!(load(&text, &[]).expect_err("is large")[0].contains("more than 16777216 bytes"));
    let problems = load(&text.replace("!Join ['', [", "!Join [!Ref P, [''").replace("!Ref P, !Ref P", "'', ''"), &[]);
    assert!(problems.is_err());
}

#[test]
fn files_of_templates_and_documents_are_checked_together() {
    let route = json!({ "meshName": "shop-test", "virtualRouterName": "CartRouter", "routeName": "other", "spec": {
        "httpRoute": { "match": {}, "action": { "weightedTargets": [{ "virtualNode": "cart-v1", "weight": 1 }] } } } });
    let texts = [("shop.yaml", YAML.to_owned()), ("route.json", route.to_string())]
        .map(|(file, text)| Text { file: file.into(), text: Ok(text) });
    let checked = validate_all(&MeshState::default(), &texts, &Settings::default(), &context());
    assert_eq!(checked.problems, []);
    assert_eq!(checked.resources, BTreeMap::from([("route.json".into(), 1), ("shop.yaml".into(), 9)]));
}

proptest::proptest! {
    #[test]
    fn no_template_panics(spec in "[ !A-Za-z:{}\\[\\]$.,'0-9]{0,60}") {
        drop(load(&node(&spec), &[]));
    }
}
