//! Any changes of a mesh, against a model of how Envoy takes and refuses what it is sent.

use super::{Ask, Copy, Form, Push, Resources, START, Session, Type, Wanted};
use crate::xds::translate::Encoded;
use envoy_types::pb::google::protobuf::Any;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const CLUSTERS: [&str; 4] = ["a", "b", "e1", "e2"];
const ROUTES: [&str; 3] = ["r", "s", "t"];

/// A mesh: versions of clusters with whether Envoy takes them, and what routes point at.
#[derive(Debug, Clone)]
struct Mesh {
    clusters: BTreeMap<&'static str, (u8, bool)>,
    routes: BTreeMap<&'static str, (u8, bool, BTreeSet<&'static str>)>,
}

#[derive(Debug, Clone)]
enum Step {
    Becomes(Mesh),
    Answers,
}

/// One in five is refused.
fn version() -> impl Strategy<Value = (u8, bool)> {
    (0..3_u8, prop::bool::weighted(0.2))
}

fn mesh() -> impl Strategy<Value = Mesh> {
    let clusters = prop::collection::btree_map(prop::sample::select(&CLUSTERS[..]), version(), 1..=4);
    clusters.prop_flat_map(|clusters| {
        let names: Vec<&str> = clusters.keys().copied().collect();
        let needs = prop::collection::btree_set(prop::sample::select(names), 1..=2);
        let route = (version(), needs).prop_map(|((version, bad), needs)| (version, bad, needs));
        let routes = prop::collection::btree_map(prop::sample::select(&ROUTES[..]), route, 0..=3);
        routes.prop_map(move |routes| Mesh { clusters: clusters.clone(), routes })
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![mesh().prop_map(Step::Becomes), Just(Step::Answers), Just(Step::Answers)];
    prop::collection::vec(step, 1..20)
}

impl Mesh {
    fn resources(&self) -> Arc<Resources> {
        let mut out = Resources::default();
        let encoded = |version: String, needs: &BTreeSet<&str>| Encoded {
            version,
            any: Any::default(),
            needs: needs.iter().map(|name| (*name).to_owned()).collect(),
        };
        let none = BTreeSet::new();
        for (name, (version, bad)) in &self.clusters {
            out.put(Type::Cluster, name, encoded(word(*version, *bad), &none));
            if name.starts_with('e') {
                out.put(Type::Endpoint, name, encoded(word(0, false), &none));
            }
        }
        out.put(Type::Listener, "l", encoded(word(0, false), &none));
        for (name, (version, bad, needs)) in &self.routes {
            out.put(Type::Route, name, encoded(format!("{} {needs:?}", word(*version, *bad)), needs));
        }
        Arc::new(out)
    }
}

fn word(version: u8, bad: bool) -> String {
    format!("{}{version}", if bad { "bad" } else { "good" })
}

/// Envoy: what it goes by, and what it has not answered yet.
struct Envoy {
    session: Session,
    form: Form,
    has: BTreeMap<Type, BTreeMap<String, Arc<Encoded>>>,
    /// Clusters that it takes once it has their endpoints.
    warming: BTreeSet<String>,
    asks_endpoints_of: BTreeSet<String>,
    inbox: Vec<Push>,
}

impl Envoy {
    fn new(form: Form, mesh: &Mesh) -> Self {
        let session = Session::new(form, mesh.resources());
        let has = BTreeMap::new();
        let (warming, asks_endpoints_of) = Default::default();
        let mut envoy = Self { session, form, has, warming, asks_endpoints_of, inbox: Vec::new() };
        for kind in [Type::Cluster, Type::Listener, Type::Route] {
            envoy.ask(kind, "", None, &BTreeSet::new());
        }
        envoy
    }

    fn names(&self, kind: Type) -> BTreeSet<String> {
        match kind {
            Type::Route => ROUTES.iter().map(|name| (*name).to_owned()).collect(),
            Type::Endpoint => self.asks_endpoints_of.clone(),
            _ => BTreeSet::new(),
        }
    }

    fn ask(&mut self, kind: Type, nonce: &str, refusal: Option<String>, gone: &BTreeSet<String>) {
        let names = self.names(kind);
        let wanted = match self.form {
            Form::Whole => Wanted::Names(names),
            Form::Delta => Wanted::Change {
                subscribe: if nonce.is_empty() { &names - &self.told(kind) } else { BTreeSet::new() },
                unsubscribe: gone.clone(),
                has: BTreeMap::new(),
            },
        };
        let ask = Ask { kind, nonce: nonce.to_owned(), refusal, version: String::new(), wanted };
        self.session.ask(ask).unwrap();
    }

    /// Names that it subscribed to before.
    fn told(&self, kind: Type) -> BTreeSet<String> {
        self.session.types.get(&kind).map(|subscription| subscription.names.clone()).unwrap_or_default()
    }

    fn hear(&mut self) {
        while let Some(push) = self.session.next(START) {
            self.inbox.push(push);
            assert!(self.inbox.len() <= Type::ALL.len(), "one of a type is on its way at a time");
        }
    }

    /// Takes the oldest message: clusters and listeners one by one, of others all before the first that is wrong.
    fn answer(&mut self) {
        if self.inbox.is_empty() {
            return;
        }
        let push = self.inbox.remove(0);
        let has = self.has.entry(push.kind).or_default();
        let before = has.clone();
        let mut refusal = None;
        for (name, encoded) in &push.resources {
            if encoded.version.contains("bad") {
                // As Envoy does: all of some types are looked at and named, of the others only the first, without its name.
                if !push.kind.is_whole() {
                    refusal = Some("wrong".to_owned());
                    break;
                }
                refusal = Some(format!("{}{name}: no such file. ", refusal.unwrap_or_default()));
                continue;
            }
            if push.kind == Type::Cluster && name.starts_with('e') && has.get(name) != Some(encoded) {
                self.warming.insert(name.clone());
            }
            if push.kind == Type::Endpoint {
                self.warming.remove(name);
            }
            has.insert(name.clone(), Arc::clone(encoded));
        }
        if self.form == Form::Whole && push.kind.is_whole() {
            has.retain(|name, _| push.resources.iter().any(|(said, _)| said == name));
        }
        has.retain(|name, _| !push.removed.contains(name));
        self.expect_nothing_broken(push.kind, &before);
        self.ask(push.kind, &push.nonce, refusal, &BTreeSet::new());
        if push.kind == Type::Cluster {
            self.ask_for_endpoints();
        }
    }

    fn ask_for_endpoints(&mut self) {
        let clusters = &self.has[&Type::Cluster];
        let wanted: BTreeSet<String> = clusters.keys().filter(|name| name.starts_with('e')).cloned().collect();
        let gone = &self.asks_endpoints_of - &wanted;
        if wanted == self.asks_endpoints_of {
            return;
        }
        self.asks_endpoints_of = wanted;
        self.warming.retain(|name| self.asks_endpoints_of.contains(name));
        let nonce = self.session.types.get(&Type::Endpoint).map(|found| found.last_nonce.clone()).unwrap_or_default();
        let nonce = if self.form == Form::Delta { String::new() } else { nonce };
        self.ask(Type::Endpoint, &nonce, None, &gone);
    }

    /// No route that it had before lost a cluster, and none was changed to one that is missing.
    fn expect_nothing_broken(&self, kind: Type, before: &BTreeMap<String, Arc<Encoded>>) {
        let none = BTreeMap::new();
        let clusters = self.has.get(&Type::Cluster).unwrap_or(&none);
        for (name, route) in self.has.get(&Type::Route).unwrap_or(&none) {
            let lost = route.needs.iter().find(|need| !clusters.contains_key(*need));
            match kind {
                Type::Cluster => {
                    assert!(lost.is_none_or(|need| !before.contains_key(need)), "{name} lost its cluster {lost:?}")
                }
                Type::Route => assert!(
                    lost.is_none() || before.get(name).is_none_or(|old| Arc::ptr_eq(old, route) || old == route),
                    "{name} was pointed at {lost:?}, which is not there"
                ),
                _ => {}
            }
        }
    }

    fn copy(&self, kind: Type, name: &str) -> Option<&Copy> {
        self.session.types.get(&kind)?.copies.get(name)
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            self.hear();
            if self.inbox.is_empty() {
                assert!(!self.session.is_pending(), "nothing is said, and something is waited for");
                return;
            }
            self.answer();
        }
        panic!("it never comes to rest");
    }

    /// It has all that it can take; of what it cannot, an earlier version or none.
    fn expect_all_of(&self, mesh: &Mesh) {
        let none = BTreeMap::new();
        let resources = mesh.resources();
        // Of a node that is gone there are no endpoints to be had any more.
        let waits = self.warming.iter().find(|name| resources.of(Type::Endpoint).contains_key(*name));
        assert_eq!(waits, None, "waits for endpoints");
        for kind in Type::ALL {
            let has = self.has.get(&kind).unwrap_or(&none);
            for (name, encoded) in &**resources.of(kind) {
                let unasked = kind == Type::Endpoint && !self.asks_endpoints_of.contains(name);
                let clusters = self.has.get(&Type::Cluster).unwrap_or(&none);
                // Where it is not known whether it took an earlier one, that is reason enough to wait.
                let copy = self.copy(kind, name);
                let may_have = has.contains_key(name) || copy.is_some_and(|copy| !copy.maybe.is_empty());
                let held = may_have && encoded.needs.iter().any(|need| !clusters.contains_key(need));
                if !encoded.version.contains("bad") && !held && !unasked {
                    let version = has.get(name).map(|has| &has.version);
                    assert_eq!(version, Some(&encoded.version), "{kind:?} {name}");
                }
            }
            // What it may have taken beside something wrong counts as well.
            let needed = self.session.needed().unwrap();
            for name in has.keys().filter(|_| kind == Type::Cluster) {
                let there = resources.of(kind).contains_key(name) || needed.contains(&**name);
                assert!(there, "{name} is gone, and nothing needs it");
            }
        }
        self.expect_refusals_said(&resources);
    }

    fn expect_refusals_said(&self, resources: &Resources) {
        let none = BTreeMap::new();
        let clusters = self.has.get(&Type::Cluster).unwrap_or(&none);
        for (kind, standing) in self.session.standing() {
            let all = resources.of(kind).values();
            // What is held back may be what was refused before.
            if all.clone().any(|encoded| encoded.needs.iter().any(|need| !clusters.contains_key(need))) {
                continue;
            }
            let refused = all.clone().any(|encoded| encoded.version.contains("bad"));
            assert_eq!(standing.refused.is_some(), refused, "{kind:?}: what is said of refusals");
        }
    }
}

proptest! {
    #[test]
    fn whatever_changes_and_is_refused_the_rest_gets_through_and_nothing_breaks(
        first in mesh(),
        steps in steps(),
        delta in any::<bool>(),
    ) {
        let form = if delta { Form::Delta } else { Form::Whole };
        let mut envoy = Envoy::new(form, &first);
        let mut last = first;
        for step in steps {
            envoy.hear();
            match step {
                Step::Becomes(mesh) => {
                    envoy.session.replace(mesh.resources());
                    last = mesh;
                }
                Step::Answers => envoy.answer(),
            }
        }
        envoy.settle();
        envoy.expect_all_of(&last);
    }
}
