//! Ten thousand resources in one mesh: created one by one, listed, seen by a proxy, changed, written to a file, read from one,
//! and deleted. Nothing is timed: what took the square of their number would take longer than a test may.

use super::Running;
use serde_json::{Value, json};
use tidegate::mesh::compile::View;
use tidegate::mesh::document::{self, Settings, Text};
use tidegate::mesh::http::MeshControl;
use tidegate::mesh::model::{Extensions, Key, Kind, MeshState, Page, Quotas, Reply, Request};
use tidegate::mesh::ops::OpContext;

/// Services, each with a node, a router and a route of its own: with the mesh and one client, ten thousand resources.
const SERVICES: usize = 2_500;

async fn create(control: &MeshControl, key: &Key, spec: Value) {
    let request = Request::Create {
        kind: key.kind,
        mesh: (key.kind != Kind::Mesh).then(|| key.mesh.clone()),
        parent: (!key.parent.is_empty()).then(|| key.parent.clone()),
        owner: None,
        body: json!({ key.kind.name_member(): key.name, "spec": spec }),
    };
    control.execute(request).await.unwrap_or_else(|error| panic!("{key}: {error}"));
}

fn names(at: usize) -> [Key; 4] {
    let name = format!("s{at:04}");
    [
        Key::child("m", Kind::VirtualNode, &*name),
        Key::child("m", Kind::VirtualRouter, &*name),
        Key::grandchild("m", Kind::Route, &name, "x"),
        Key::child("m", Kind::VirtualService, format!("{name}.local")),
    ]
}

fn route(node: &str, weight: u32) -> Value {
    let targets = json!([{ "virtualNode": node, "weight": weight }]);
    json!({ "httpRoute": { "match": { "prefix": "/" }, "action": { "weightedTargets": targets } } })
}

async fn filled(control: &MeshControl) {
    create(control, &Key::mesh("m"), json!({})).await;
    // Two of the services, and one that is not there.
    let backends = ["s0000.local", "s1234.local", "none.local"];
    let backends = backends.map(|name| json!({ "virtualService": { "virtualServiceName": name } }));
    create(control, &Key::child("m", Kind::VirtualNode, "client"), json!({ "backends": backends })).await;
    let listeners = json!([{ "portMapping": { "port": 80, "protocol": "http" } }]);
    for at in 0..SERVICES {
        let [node, router, route_key, service] = names(at);
        let discovery = json!({ "dns": { "hostname": "127.0.0.1" } });
        create(control, &node, json!({ "serviceDiscovery": discovery, "listeners": listeners })).await;
        create(control, &router, json!({ "listeners": listeners })).await;
        create(control, &route_key, route(&node.name, 1)).await;
        let provider = json!({ "virtualRouter": { "virtualRouterName": router.name } });
        create(control, &service, json!({ "provider": provider })).await;
    }
}

async fn listed(control: &MeshControl, kind: Kind) -> Vec<String> {
    let (mut all, mut next) = (Vec::new(), None);
    loop {
        let page = Page { limit: None, next_token: next };
        let request = Request::List { kind, mesh: Some("m".into()), parent: None, owner: None, page };
        let Reply::List { items, next_token, .. } = control.execute(request).await.unwrap() else { panic!("no list") };
        assert!(items.len() <= 100);
        all.extend(items.iter().map(|item| item.key.name.clone()));
        next = next_token;
        if next.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn ten_thousand_resources_are_a_mesh_like_any_other() {
    let running = Running::start().await;
    let control = &running.control;
    let mut client = control.subscribe(View::Node { mesh: "m".into(), node: "client".into() });
    filled(control).await;
    assert_eq!(running.store.rows().len(), 4 * SERVICES + 2);
    let all = control.subscribe(View::AllServices);
    assert_eq!((all.borrow().services.len(), all.borrow().clusters.len()), (SERVICES, SERVICES));
    assert_eq!(client.borrow_and_update().services.keys().collect::<Vec<_>>(), ["s0000.local", "s1234.local"]);
    assert_eq!(control.problems().len(), 1, "{:?}", control.problems());

    let routers = listed(control, Kind::VirtualRouter).await;
    assert_eq!(routers, (0..SERVICES).map(|at| format!("s{at:04}")).collect::<Vec<_>>());
    for at in 0..SERVICES {
        let [_, _, key, _] = names(at);
        let reply = control.execute(Request::Describe { key, owner: None }).await.unwrap();
        assert!(matches!(reply, Reply::Resource { resource, .. } if resource.version == 1));
    }

    for (at, is_seen) in [(1233, false), (1234, true)] {
        let [node, _, key, service] = names(at);
        let body = json!({ "spec": route(&node.name, 7) });
        let update = Request::Update { key, owner: None, body, extensions: Extensions::default() };
        control.execute(update).await.unwrap();
        assert_eq!(all.borrow().services[&service.name].routes[0].targets[0].weight, 7);
        assert_eq!(client.has_changed().unwrap(), is_seen);
    }

    // Nobody looks while they go.
    drop(all);
    for at in 0..SERVICES {
        let [node, router, route, service] = names(at);
        for key in [service, route, router, node] {
            control.execute(Request::Delete { key, owner: None }).await.unwrap();
        }
    }
    assert_eq!(running.store.rows().len(), 2);
    let all = control.subscribe(View::AllServices);
    assert!(all.borrow().services.is_empty() && all.borrow().clusters.is_empty());
    assert!(client.borrow_and_update().services.is_empty());
    assert_eq!(control.problems().len(), 3);
}

#[tokio::test]
async fn a_file_of_ten_thousand_resources_is_like_any_other() {
    let running = Running::start().await;
    let text: String = (0..SERVICES)
        .map(|at| {
            let [node, router, ..] = names(at);
            let (node, listeners) = (node.name, "listeners: [{ portMapping: { port: 80, protocol: http } }]");
            let discovery = "serviceDiscovery: { dns: { hostname: h } }";
            // Services before what provides them.
            format!(
                "---\n{{ meshName: m, virtualServiceName: {node}.local, spec: {{ provider: {{ virtualRouter: {{ \
                 virtualRouterName: {} }} }} }} }}\n---\n{{ meshName: m, virtualRouterName: {node}, spec: {{ {listeners} \
                 }} }}\n---\n{{ meshName: m, virtualRouterName: {node}, routeName: x, spec: {{ httpRoute: {{ match: {{ \
                 prefix: / }}, action: {{ weightedTargets: [{{ virtualNode: {node}, weight: 1 }}] }} }} }} }}\n---\n{{ \
                 meshName: m, virtualNodeName: {node}, spec: {{ {discovery}, {listeners} }} }}\n",
                router.name
            )
        })
        .chain(["---\nmeshName: m\n".to_owned()])
        .collect();
    let texts = [Text { file: "mesh.yaml".into(), text: Ok(text) }];
    let context = OpContext {
        now: tidegate::base::time::Timestamp(1),
        uid: String::new(),
        account: "000000000000".into(),
        region: "us-east-1".into(),
        quotas: Quotas::OFF,
        strict: true,
    };
    let checked = document::validate_all(&MeshState::default(), &texts, &Settings::default(), &context);
    assert_eq!((checked.problems.len(), checked.resources["mesh.yaml"]), (0, 4 * SERVICES + 1));
    let loaded = document::parse_all(&texts, &Settings::default()).unwrap();
    let report = running.control.load_documents(&loaded.documents, false).await.unwrap();
    assert_eq!(report.lines.iter().filter(|line| line.starts_with("created ")).count(), 4 * SERVICES + 1);
    assert_eq!(running.control.subscribe(View::AllServices).borrow().services.len(), SERVICES);

    // What `mesh apply` does with them, one by one, and what `mesh export` writes.
    let plan = document::plan(&MeshState::default(), &loaded.documents, true, &context, String::new).unwrap();
    let order = document::one_by_one(&MeshState::default(), &plan.changes, &context).unwrap();
    assert_eq!(order.len(), 4 * SERVICES + 1);
    let mut state = MeshState::default();
    state.commit(order);
    let resources = document::template(&state)["Resources"].as_object().map(serde_json::Map::len);
    assert_eq!(resources, Some(4 * SERVICES + 1));
}

/// Names that are alike in a template's ids, and names of nothing: each of them once asked all others.
#[test]
fn a_template_of_names_that_are_alike_or_wrong_is_worked_out() {
    let node = |name: &str| {
        format!(
            "  {name}: {{ Type: AWS::AppMesh::VirtualNode, Properties: {{ MeshName: !Ref No{name}, Spec: {{}} }} }}\n"
        )
    };
    let text: String =
        ["Resources:\n".to_owned()].into_iter().chain((0..4_000).map(|at| node(&format!("Node{at}")))).collect();
    let problems = document::parse("template.yaml", &text).unwrap_err();
    assert_eq!(problems.len(), 1_000);
    let meant = problems.iter().filter(|problem| problem.message.contains("did you mean")).count();
    assert!((1..=100).contains(&meant), "{meant}");
}
