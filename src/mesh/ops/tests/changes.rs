//! What is kept up change by change: after any operations it is what a look at everything would find.

use super::*;
use crate::mesh::compile::{self, View, Whole};
use crate::mesh::problems::Problems;
use crate::mesh::snapshot::NodeConfig;
use proptest::prelude::*;

/// Few names, so that operations meet: two meshes, services that differ in the case of a letter.
const NAMES: [&str; 4] = ["a", "b", "A", "c"];

/// A name of [`NAMES`] by its place.
fn name(at: usize) -> &'static str {
    NAMES[at % NAMES.len()]
}

/// A call that is most often valid: method, path and body.
fn any_call() -> impl Strategy<Value = (&'static str, String, Value)> {
    let mesh = prop::sample::select(vec!["m", "n"]);
    (mesh, 0..7_usize, prop::array::uniform3(0..NAMES.len()), 0..10_u8, 0..4_u8).prop_map(
        |(mesh, kind, [own, other, parent], deed, variant)| {
            let kind = Kind::ALL[kind];
            let key = match kind {
                Kind::Mesh => Key::mesh(mesh),
                kind if kind.parent().is_some() => Key::grandchild(mesh, kind, name(parent), name(own)),
                kind => Key::child(mesh, kind, name(own)),
            };
            let path = wire::ask::resource_path(&key).trim_start_matches("/v20190125/").to_owned();
            let spec = spec(kind, name(other), variant);
            match deed {
                0..6 => {
                    let path = wire::ask::collection_path(&key).trim_start_matches("/v20190125/").to_owned();
                    (
                        "PUT",
                        path,
                        json!({ kind.name_member(): key.name, "spec": spec, "clientToken": format!("{variant}") }),
                    )
                }
                6..8 => ("PUT", path, json!({ "spec": spec })),
                _ => ("DELETE", path, Value::Null),
            }
        },
    )
}

fn spec(kind: Kind, other: &str, variant: u8) -> Value {
    let ports: &[u16] = if variant == 0 { &[] } else { &[80] };
    match kind {
        Kind::Mesh if variant == 0 => json!({}),
        Kind::Mesh => json!({ "serviceDiscovery": { "ipPreference": "IPv6_ONLY" } }),
        Kind::VirtualNode => {
            let mut spec = node(ports);
            spec["backends"] = json!([{ "virtualService": { "virtualServiceName": other } }]);
            if variant == 1 {
                spec["serviceDiscovery"] = Value::Null;
            }
            spec
        }
        Kind::VirtualRouter => router(ports),
        Kind::Route => match variant {
            0 => route(other, json!({ "prefix": "/", "port": 80 })),
            // A problem of the view of all services, where the router says nothing of its protocol.
            1 => json!({ "tcpRoute": { "action": { "weightedTargets": [{ "virtualNode": other, "weight": 1 }] } } }),
            _ => route(other, json!({ "prefix": "/" })),
        },
        Kind::VirtualService => match variant {
            0 => json!({}),
            1 => provided("Node", other),
            _ => provided("Router", other),
        },
        Kind::VirtualGateway => json!({ "listeners": [{ "portMapping": { "port": 80, "protocol": "http" } }] }),
        Kind::GatewayRoute => {
            let target = json!({ "virtualService": { "virtualServiceName": other } });
            json!({ "httpRoute": { "match": { "prefix": "/" }, "action": { "target": target } } })
        }
    }
}

/// What is kept up beside a state.
#[derive(Default)]
struct Kept {
    whole: Whole,
    problems: Problems,
}

impl Kept {
    /// Takes changes over; how many services were compiled, and the problems that came and went.
    fn update(&mut self, state: &MeshState, changed: &[Key]) -> (usize, usize) {
        let before: Vec<_> = self.problems.iter().cloned().collect();
        let touched = self.whole.update(state, changed);
        let compiled = touched.compiled;
        let difference = self.problems.update(state, changed, touched);
        let now: Vec<_> = self.problems.iter().cloned().collect();
        let came: Vec<_> = now.iter().filter(|problem| !before.contains(problem)).cloned().collect();
        let went: Vec<_> = before.iter().filter(|problem| !now.contains(problem)).cloned().collect();
        assert_eq!((&difference.came, &difference.went), (&came, &went));
        (compiled, came.len() + went.len())
    }

    /// That it is what a look at everything finds.
    fn check(&mut self, state: &MeshState) {
        let afresh = compile::compile(state, &View::AllServices, &Arc::default(), 1);
        let shown = self.whole.show(1);
        assert_eq!((&shown.services, &shown.clusters), (&afresh.config.services, &afresh.config.clusters));
        let mut other = Self::default();
        other.update(state, &keys(state));
        assert_eq!(self.problems, other.problems);
    }
}

fn keys(state: &MeshState) -> Vec<Key> {
    state.iter().map(|resource| resource.key.clone()).collect()
}

proptest! {
    #[test]
    fn whatever_changes_what_is_kept_is_what_a_look_at_everything_finds(
        calls in prop::collection::vec((any_call(), 1..4_usize), 1..80),
    ) {
        let mut world = World::default();
        for mesh in ["m", "n"] {
            world.put("meshes", json!({ "meshName": mesh }));
        }
        let mut kept = Kept::default();
        let mut changed = keys(&world.state);
        for ((method, path, body), every) in calls {
            let before = world.state.clone();
            if world.call(method, &path, &body).is_ok() {
                let all = keys(&before).into_iter().chain(keys(&world.state));
                changed.extend(all.filter(|key| before.get(key) != world.state.get(key)));
            }
            prop_assert_eq!(&world.state, &MeshState::new(world.state.iter().map(|resource| Resource::clone(resource))));
            // Several changes may be taken over at once.
            if changed.len() >= every {
                kept.update(&world.state, &std::mem::take(&mut changed));
                kept.check(&world.state);
            }
        }
        for resource in world.state.iter() {
            let beside = |other: &&Arc<Resource>| {
                let (key, other) = (&resource.key, &other.key);
                key.kind == other.kind && (key.kind == Kind::Mesh || (&key.mesh, &key.parent) == (&other.mesh, &other.parent))
            };
            prop_assert_eq!(world.state.count(&resource.key), world.state.iter().filter(beside).count());
        }
    }
}

/// Of many services a change compiles those that it touches, however many others there are.
#[test]
fn a_change_compiles_what_it_touches() {
    let mut world = World::default();
    world.put("meshes", json!({ "meshName": "m" }));
    world.put("meshes/m/virtualNodes", json!({ "virtualNodeName": "shared", "spec": node(&[80]) }));
    for at in 0..60 {
        let own = format!("n{at}");
        world.put("meshes/m/virtualNodes", json!({ "virtualNodeName": own, "spec": node(&[80]) }));
        world.put("meshes/m/virtualRouters", json!({ "virtualRouterName": own, "spec": router(&[80]) }));
        // The first ten send to a node that they share.
        let target = if at < 10 { "shared" } else { &own };
        let body = json!({ "routeName": "x", "spec": route(target, json!({ "prefix": "/" })) });
        world.put(&format!("meshes/m/virtualRouter/{own}/routes"), body);
        world.put("meshes/m/virtualServices", json!({ "virtualServiceName": own, "spec": provided("Router", &own) }));
    }
    let mut kept = Kept::default();
    assert_eq!(kept.update(&world.state, &keys(&world.state)), (60, 0));
    let child = |kind, name: &str| Key::child("m", kind, name);
    for (what, changed, compiled) in [
        ("a route", Key::grandchild("m", Kind::Route, "n3", "x"), 1),
        ("a router", child(Kind::VirtualRouter, "n3"), 1),
        ("a service", child(Kind::VirtualService, "n3"), 1),
        ("a node of one service", child(Kind::VirtualNode, "n30"), 1),
        ("a node of ten", child(Kind::VirtualNode, "shared"), 10),
        ("a node of none", child(Kind::VirtualNode, "n3"), 0),
        ("the mesh", Key::mesh("m"), 60),
    ] {
        assert_eq!(kept.update(&world.state, &[changed]), (compiled, 0), "{what}");
    }
    kept.whole.show(2);
    kept.update(&world.state, &keys(&world.state));
    assert!(!kept.whole.has_more(), "nothing is another one than before");
    assert_eq!(kept.whole.show(3).version, 2);
}

#[test]
fn an_empty_mesh_is_shown_as_one() {
    let mut whole = Whole::default();
    assert_eq!(*whole.show(7), NodeConfig::default());
}
