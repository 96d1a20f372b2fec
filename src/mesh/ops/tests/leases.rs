//! Weight leases without the shell.

use super::*;
use crate::mesh::model::lease::Term;
use crate::mesh::ops::lease;

const PATH: &str = "meshes/m/virtualRouter/r/routes/x";
const LEASE: &str = "1m; fallback=a=100";

fn split(a: u32, b: u32) -> Value {
    let targets = json!([{ "virtualNode": "a", "weight": a }, { "virtualNode": "b", "weight": b }]);
    json!({ "spec": { "httpRoute": { "match": { "prefix": "/" }, "action": { "weightedTargets": targets } } } })
}

impl World {
    fn leased(&mut self, body: &Value, lease: &str) -> Result<Value, String> {
        self.call_asking("PUT", PATH, body, wire::Asked { lease: Some(lease), ..wire::Asked::default() })
    }

    fn route(&self) -> Arc<Resource> {
        Arc::clone(self.state.get(&Key::grandchild("m", Kind::Route, "r", "x")).expect("is there"))
    }

    fn term(&self) -> Term {
        self.route().term().expect("has a lease")
    }

    fn expire(&mut self, term: &Term) -> Option<String> {
        let expired = lease::expire(&self.state, &self.route().key, term, &context(7_000, false))?;
        self.state.commit([expired.change]);
        Some(expired.said)
    }

    fn weights(&self) -> Vec<u32> {
        self.route().spec.route().expect("is one").targets().iter().map(|target| target.weight).collect()
    }
}

#[test]
fn a_renewal_changes_the_lease_alone() {
    let mut world = World::shop();
    let first = world.leased(&split(90, 10), LEASE).expect("is taken");
    assert_eq!(first["metadata"]["version"], 2);
    let tokens = world.route().tokens.clone();
    // The same weights again, written otherwise and with a token of the client's.
    let mut again = split(90, 10);
    again["clientToken"] = "t".into();
    for (lease, renewals) in [(LEASE, 1), ("90s; fallback=a=100,b=0", 2), ("2m; fallback=a=100; renews=2", 3)] {
        let answer = world.leased(&again, lease).expect("is renewed");
        assert_eq!(answer["metadata"], first["metadata"]);
        assert_eq!((world.term().renewals, &world.route().tokens), (renewals, &tokens));
    }
    let route = world.route();
    assert_eq!(Resource::from_row(&route.to_row()).as_ref(), Ok(&*route));
    let headers = wire::announced(&route);
    assert_eq!(headers[0], ("x-tidegate-features", "generation, lease, fuse".to_owned()));
    assert_eq!(headers[1], ("x-tidegate-lease", "2m; fallback=a=100; renewals=3".to_owned()));
}

#[test]
fn a_renewal_of_what_has_changed_is_refused_and_any_other_update_ends_the_lease() {
    let mut world = World::shop();
    world.leased(&split(90, 10), LEASE).expect("is taken");
    for (body, lease, why) in [
        (
            split(90, 10),
            "1m; fallback=a=100; renews=1",
            "ConflictException: x-tidegate-lease: version 1 cannot be renewed",
        ),
        (split(80, 20), "1m; fallback=a=100; renews=2", "is at version 2, with another spec"),
        (split(90, 10), "1m; fallback=c=100", "the fallback names c, which is no target of the route"),
        (split(90, 10), "1m", "BadRequestException: x-tidegate-lease: fallback"),
    ] {
        let before = world.state.clone();
        let error = world.leased(&body, lease).expect_err(lease);
        assert!(error.contains(why), "{lease}: {error}");
        assert_eq!(world.state, before);
    }
    // Other weights under a lease: a new version, and a lease that was never renewed.
    world.leased(&split(50, 50), LEASE).expect("is taken");
    assert_eq!((world.route().version, world.term().renewals), (3, 0));
    // Equal weights without one.
    assert_eq!(world.put(PATH, split(50, 50))["metadata"]["version"], 4);
    assert_eq!(world.route().lease, None);
    // And a lease for weights that are there already, by whoever knows their version.
    assert_eq!(world.leased(&split(50, 50), "1m; fallback=a=100; renews=4").expect("begins")["metadata"]["version"], 4);
    assert!(world.route().lease.is_some());
}

#[test]
fn one_that_runs_out_is_followed_by_its_fallback_with_the_reason() {
    let mut world = World::shop();
    world.leased(&split(90, 10), LEASE).expect("is taken");
    let early = world.term();
    world.leased(&split(90, 10), LEASE).expect("is renewed");
    assert_eq!(world.expire(&early), None, "it was renewed since");
    let term = world.term();
    let said = world.expire(&term).expect("it ran out");
    assert_eq!(
        said,
        "the weight lease of 1m ran out: nobody renewed it, and its fallback was written as version 3: a=100, b=0 (was a=90, \
         b=10)"
    );
    let route = world.route();
    assert_eq!((world.weights(), route.version, route.last_updated_at), (vec![100, 0], 3, Timestamp(7_000)));
    assert_eq!(Resource::from_row(&route.to_row()).as_ref(), Ok(&*route));
    assert_eq!(
        wire::announced(&route)[1],
        ("x-tidegate-lease", "expired; at=1970-01-01T00:00:07.000Z; lease=1m".to_owned())
    );
    assert!(lease::told(&route).expect("is told").contains("ran out at 1970-01-01T00:00:07.000Z: nobody renewed it"));
    assert_eq!(world.expire(&term), None, "once");
    // Told for as long as these weights stay, whatever else is changed.
    let mut other = split(100, 0);
    other["spec"]["priority"] = 7.into();
    world.put(PATH, other);
    assert!(world.route().lapsed.is_some());
    world.leased(&split(90, 10), LEASE).expect("is taken");
    assert_eq!(world.route().lapsed, None);
}

#[test]
fn nodes_of_a_fallback_cannot_go_and_a_file_does_not_end_a_lease() {
    let mut world = World::shop();
    world.leased(&split(90, 10), "1m; fallback=b=100").expect("is taken");
    assert!(world.refused("DELETE", "meshes/m/virtualNodes/b", Value::Null).starts_with("ResourceInUse"));
    // A file that says something else of the route, and keeps its weights.
    let key = world.route().key.clone();
    let mut spec = split(90, 10)["spec"].clone();
    spec["priority"] = 3.into();
    let file = |spec: &Value| validate::spec(Kind::Route, spec, Unknown::Refuse).expect("is one");
    let updated = update(&world.state, &context(8_000, false), &key, file(&spec)).expect("is taken");
    assert!(updated.lease.is_some() && updated.version == 3);
    // Other weights on purpose, or no such target any more: what the file says stays.
    for targets in [json!([{ "virtualNode": "a", "weight": 90 }]), json!([{ "virtualNode": "b", "weight": 5 }])] {
        spec["httpRoute"]["action"]["weightedTargets"] = targets;
        let updated = update(&world.state, &context(8_000, false), &key, file(&spec)).expect("is taken");
        assert_eq!(updated.lease, None);
    }
    let stale = {
        let mut world = World::shop();
        world.leased(&split(90, 10), LEASE).expect("is taken");
        world.term()
    };
    assert_eq!(world.expire(&Term { uid: "another".into(), ..stale }), None);
}

#[test]
fn a_fuse_is_kept_until_the_next_update_and_a_renewal_brings_another() {
    let mut world = World::shop();
    let fuse = |threshold: &str| format!("5; canary=b; rollout=r-1; threshold={threshold}; ratio=1; add=0.001");
    let (first, second) = (fuse("5.73"), fuse("6.43"));
    let asked = wire::Asked { fuse: Some(&first), lease: Some(LEASE), ..wire::Asked::default() };
    world.call_asking("PUT", PATH, &split(90, 10), asked).expect("is taken");
    let (route, told) = (world.route(), |route: &Resource| wire::announced(route).pop());
    assert_eq!(Resource::from_row(&route.to_row()).as_ref(), Ok(&*route));
    assert_eq!(told(&route), Some(("x-tidegate-fuse", first.clone())));
    // A lease that is renewed without one keeps it; with one it changes alone.
    world.leased(&split(90, 10), LEASE).expect("is renewed");
    assert_eq!((world.route().version, told(&world.route())), (route.version, Some(("x-tidegate-fuse", first))));
    let asked = wire::Asked { fuse: Some(&second), lease: Some(LEASE), ..wire::Asked::default() };
    world.call_asking("PUT", PATH, &split(90, 10), asked).expect("is renewed");
    assert_eq!((world.route().version, told(&world.route())), (route.version, Some(("x-tidegate-fuse", second))));
    // Without a lease its own word does the same, for the version and the weights that are there.
    let lease = world.route().lease.clone();
    let (third, at) = (fuse("7.13"), route.version);
    let mut rearm = |spec: &Value, version: i64| {
        let text = format!("{third}; renews={version}");
        world.call_asking("PUT", PATH, spec, wire::Asked { fuse: Some(&text), ..wire::Asked::default() })
    };
    for (spec, version) in [(split(90, 10), at + 1), (split(80, 20), at)] {
        let refused = rearm(&spec, version).expect_err("is refused");
        assert!(refused.contains("x-tidegate-fuse: version") && refused.contains("cannot be renewed"), "{refused}");
    }
    rearm(&split(90, 10), at).expect("is taken");
    let now = world.route();
    assert_eq!((now.version, told(&now), &now.lease), (at, Some(("x-tidegate-fuse", third)), &lease));
    world.put(PATH, split(90, 10));
    assert_eq!(world.route().fuse, None);
    for (canary, why) in [("c", "canary is c, which is no target of the route"), ("", "canary must be a name")] {
        let text = format!("5; canary={canary}; rollout=r-1; threshold=5");
        let asked = wire::Asked { fuse: Some(&text), ..wire::Asked::default() };
        let refused = world.call_asking("PUT", PATH, &split(80, 20), asked).expect_err("is refused");
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn a_row_with_a_number_for_a_fuse_has_none() {
    let world = World::shop();
    let row = world.route().to_row();
    let old = row.replacen(r#""format":1,"#, r#""format":1,"fuse":5,"#, 1);
    assert_ne!(old, row);
    assert_eq!(Resource::from_row(&old).expect("is read"), *world.route());
}
