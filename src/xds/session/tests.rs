//! Tests of `xds::session`.

use super::*;
use crate::xds::translate::Encoded;
use envoy_types::pb::google::protobuf::Any;

mod model;

/// Resources by type: name, version, and clusters needed.
fn resources(all: &[(Type, &str, &str, &[&str])]) -> Arc<Resources> {
    let mut out = Resources::default();
    for (kind, name, version, needs) in all {
        let needs = needs.iter().map(|name| (*name).to_owned()).collect();
        out.put(*kind, name, Encoded { version: (*version).to_owned(), any: Any::default(), needs });
    }
    Arc::new(out)
}

const START: Timestamp = Timestamp(1_000_000);

struct Proxy {
    session: Session,
    now: Timestamp,
}

impl Proxy {
    fn new(form: Form, resources: &Arc<Resources>) -> Self {
        Self { session: Session::new(form, Arc::clone(resources)), now: START }
    }

    fn say(&mut self, kind: Type, nonce: &str, refusal: Option<&str>, names: &[&str]) {
        let wanted = Wanted::Names(names.iter().map(|name| (*name).to_owned()).collect());
        let refusal = refusal.map(str::to_owned);
        let ask = Ask { kind, nonce: nonce.to_owned(), refusal, version: String::new(), wanted };
        self.session.ask(ask).unwrap();
    }

    /// What is sent now: type, and names of resources.
    fn heard(&mut self) -> Option<(Push, Vec<String>)> {
        let push = self.session.next(self.now)?;
        let names = push.resources.iter().map(|(name, _)| name.clone()).collect();
        Some((push, names))
    }

    fn expect(&mut self, kind: Type, names: &[&str]) -> String {
        let (push, got) = self.heard().unwrap_or_else(|| panic!("{kind:?} {names:?} should be sent"));
        assert_eq!((push.kind, got), (kind, names.iter().map(|name| (*name).to_owned()).collect()));
        push.nonce
    }

    fn quiet(&mut self) {
        assert_eq!(self.session.next(self.now), None);
    }

    /// Takes everything that is sent, as Envoy does at its start.
    fn settle(&mut self, names: &[(Type, &[&str])]) {
        for (kind, names) in names {
            self.say(*kind, "", None, names);
        }
        while let Some((push, _)) = self.heard() {
            let names = names.iter().find(|(kind, _)| *kind == push.kind).map_or(&[][..], |(_, names)| names);
            self.say(push.kind, &push.nonce, None, names);
        }
    }
}

const ALL: &[(Type, &[&str])] =
    &[(Type::Cluster, &[]), (Type::Endpoint, &["a"]), (Type::Listener, &[]), (Type::Route, &["r"])];

#[test]
fn what_is_pointed_at_is_sent_before_what_points_at_it() {
    let set = resources(&[
        (Type::Cluster, "a", "1", &[]),
        (Type::Endpoint, "a", "1", &[]),
        (Type::Listener, "l", "1", &[]),
        (Type::Route, "r", "1", &["a"]),
    ]);
    let mut proxy = Proxy::new(Form::Whole, &set);
    proxy.say(Type::Listener, "", None, &[]);
    proxy.say(Type::Cluster, "", None, &[]);
    let clusters = proxy.expect(Type::Cluster, &["a"]);
    proxy.quiet();
    proxy.say(Type::Cluster, &clusters, None, &[]);
    proxy.quiet();
    proxy.say(Type::Endpoint, "", None, &["a"]);
    let endpoints = proxy.expect(Type::Endpoint, &["a"]);
    proxy.quiet();
    proxy.say(Type::Endpoint, &endpoints, None, &["a"]);
    let listeners = proxy.expect(Type::Listener, &["l"]);
    proxy.say(Type::Route, "", None, &["r"]);
    let routes = proxy.expect(Type::Route, &["r"]);
    proxy.say(Type::Route, &routes, None, &["r"]);
    proxy.say(Type::Listener, &listeners, None, &[]);
    proxy.quiet();
    assert!(!proxy.session.is_pending());
    let standing = &proxy.session.standing()[&Type::Route];
    assert_eq!(standing.sent, standing.acknowledged);
}

#[test]
fn a_cluster_goes_only_when_no_route_needs_it_any_more() {
    let before =
        resources(&[(Type::Cluster, "a", "1", &[]), (Type::Listener, "l", "1", &[]), (Type::Route, "r", "1", &["a"])]);
    let after =
        resources(&[(Type::Cluster, "b", "1", &[]), (Type::Listener, "l", "1", &[]), (Type::Route, "r", "2", &["b"])]);
    for form in [Form::Whole, Form::Delta] {
        let mut proxy = Proxy::new(form, &before);
        proxy.settle(ALL);
        proxy.session.replace(Arc::clone(&after));
        // In state of the world both are said, since what is not said is gone.
        let both: &[&str] = if form == Form::Whole { &["a", "b"] } else { &["b"] };
        let clusters = proxy.expect(Type::Cluster, both);
        proxy.quiet();
        proxy.say(Type::Cluster, &clusters, None, &[]);
        let routes = proxy.expect(Type::Route, &["r"]);
        proxy.quiet();
        proxy.say(Type::Route, &routes, None, &["r"]);
        let (last, names) = proxy.heard().unwrap();
        let said: (&[&str], &[&str]) = if form == Form::Whole { (&["b"], &[]) } else { (&[], &["a"]) };
        assert_eq!((last.kind, names), (Type::Cluster, said.0.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!(last.removed, said.1);
        proxy.say(Type::Cluster, &last.nonce, None, &[]);
        proxy.quiet();
    }
}

#[test]
fn what_is_refused_is_not_said_again_and_holds_back_only_what_needs_it() {
    let before = resources(&[
        (Type::Cluster, "a", "1", &[]),
        (Type::Cluster, "c", "1", &[]),
        (Type::Listener, "l", "1", &[]),
        (Type::Route, "r", "1", &["a"]),
        (Type::Route, "s", "1", &["a", "c"]),
    ]);
    let names: &[(Type, &[&str])] = &[(Type::Cluster, &[]), (Type::Listener, &[]), (Type::Route, &["r", "s"])];
    let mut proxy = Proxy::new(Form::Whole, &before);
    proxy.settle(names);
    let wrong = resources(&[
        (Type::Cluster, "a", "1", &[]),
        (Type::Cluster, "b", "wrong", &[]),
        (Type::Cluster, "c", "1", &[]),
        (Type::Listener, "l", "1", &[]),
        (Type::Route, "r", "2", &["b"]),
        (Type::Route, "s", "2", &["a", "c"]),
    ]);
    proxy.session.replace(Arc::clone(&wrong));
    let clusters = proxy.expect(Type::Cluster, &["a", "b", "c"]);
    proxy.say(Type::Cluster, &clusters, Some("b: no such file"), &[]);
    // The weights of `s` change all the same: a rollback may be one of them.
    let routes = proxy.expect(Type::Route, &["s"]);
    proxy.say(Type::Route, &routes, None, &["r", "s"]);
    proxy.quiet();
    assert_eq!(proxy.session.standing()[&Type::Cluster].refused.as_ref().unwrap().1, "b: no such file");

    let mended = resources(&[
        (Type::Cluster, "a", "1", &[]),
        (Type::Cluster, "b", "2", &[]),
        (Type::Cluster, "c", "1", &[]),
        (Type::Listener, "l", "1", &[]),
        (Type::Route, "r", "2", &["b"]),
        (Type::Route, "s", "2", &["a", "c"]),
    ]);
    proxy.session.replace(mended);
    let clusters = proxy.expect(Type::Cluster, &["a", "b", "c"]);
    proxy.say(Type::Cluster, &clusters, None, &[]);
    proxy.expect(Type::Route, &["r"]);
    assert_eq!(proxy.session.standing()[&Type::Cluster].refused, None);
}

#[test]
fn names_that_change_after_an_answer_are_heard() {
    let set = resources(&[
        (Type::Cluster, "a", "1", &[]),
        (Type::Listener, "l", "1", &[]),
        (Type::Route, "r", "1", &["a"]),
        (Type::Route, "s", "1", &["a"]),
    ]);
    let mut proxy = Proxy::new(Form::Whole, &set);
    proxy.say(Type::Route, "", None, &["r"]);
    let first = proxy.expect(Type::Route, &["r"]);
    proxy.say(Type::Route, &first, None, &["r"]);
    // As Envoy does: it repeats the nonce that it answered last.
    proxy.say(Type::Route, &first, None, &["r", "s"]);
    let second = proxy.expect(Type::Route, &["s"]);
    // From before the push, and so nothing new.
    proxy.say(Type::Route, &first, None, &["r"]);
    proxy.quiet();
    proxy.say(Type::Route, &second, None, &["r", "s"]);
    proxy.quiet();
    assert!(!proxy.session.is_pending());
}

#[test]
fn a_route_that_is_held_back_keeps_its_cluster() {
    let before =
        resources(&[(Type::Cluster, "a", "1", &[]), (Type::Listener, "l", "1", &[]), (Type::Route, "r", "1", &["a"])]);
    let mut proxy = Proxy::new(Form::Whole, &before);
    proxy.settle(ALL);
    let after =
        resources(&[(Type::Cluster, "b", "1", &[]), (Type::Listener, "l", "1", &[]), (Type::Route, "r", "2", &["b"])]);
    proxy.session.replace(after);
    let clusters = proxy.expect(Type::Cluster, &["a", "b"]);
    proxy.say(Type::Cluster, &clusters, Some("b: no such file"), &[]);
    // The route stays as it was, and with it the cluster that it points at.
    proxy.quiet();
}

#[test]
fn a_proxy_that_never_answers_is_not_waited_for_for_ever() {
    let set = |route: &str| {
        resources(&[
            (Type::Cluster, "a", route, &[]),
            (Type::Listener, "l", "1", &[]),
            (Type::Route, "r", route, &["a"]),
        ])
    };
    let mut proxy = Proxy::new(Form::Whole, &set("1"));
    proxy.settle(ALL);
    proxy.session.replace(set("2"));
    proxy.expect(Type::Cluster, &["a"]);
    proxy.quiet();
    proxy.session.replace(set("3"));
    proxy.quiet();
    proxy.now = proxy.now.plus(PATIENCE);
    proxy.expect(Type::Cluster, &["a"]);
    proxy.now = proxy.now.plus(PATIENCE);
    proxy.expect(Type::Route, &["r"]);
    proxy.quiet();
}

#[test]
fn who_comes_back_with_what_is_current_is_sent_nothing() {
    let set =
        resources(&[(Type::Cluster, "a", "1", &[]), (Type::Listener, "l", "1", &[]), (Type::Route, "r", "1", &["a"])]);
    let mut proxy = Proxy::new(Form::Whole, &set);
    proxy.settle(ALL);
    let versions = proxy.session.standing();
    let mut again = Proxy::new(Form::Whole, &set);
    let mut delta = Proxy::new(Form::Delta, &set);
    for (kind, names) in ALL {
        let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let version = versions.get(kind).and_then(|standing| standing.acknowledged.clone()).unwrap_or_default();
        let ask = |version, wanted| Ask { kind: *kind, nonce: String::new(), refusal: None, version, wanted };
        again.session.ask(ask(version, Wanted::Names(wanted.clone()))).unwrap();
        let has = set.of(*kind).iter().map(|(name, encoded)| (name.clone(), encoded.version.clone())).collect();
        let change = Wanted::Change { subscribe: wanted, unsubscribe: BTreeSet::new(), has };
        delta.session.ask(ask(String::new(), change)).unwrap();
    }
    again.quiet();
    // Delta says of a name without a resource that there is none.
    let missing = delta.heard().unwrap().0;
    assert_eq!((missing.kind, missing.removed), (Type::Endpoint, vec!["a".to_owned()]));
    again.session.replace(resources(&[
        (Type::Cluster, "a", "1", &[]),
        (Type::Listener, "l", "1", &[]),
        (Type::Route, "r", "2", &["a"]),
    ]));
    again.expect(Type::Route, &["r"]);
}

#[test]
fn nobody_asks_for_more_names_than_a_mesh_can_have() {
    let names: BTreeSet<String> = (0..=NAMES_MAX).map(|number| number.to_string()).collect();
    let has = names.iter().map(|name| (name.clone(), "1".to_owned())).collect();
    let subscribes = Wanted::Change { subscribe: names, unsubscribe: BTreeSet::new(), has: BTreeMap::new() };
    let from_before = Wanted::Change { subscribe: BTreeSet::new(), unsubscribe: BTreeSet::new(), has };
    for wanted in [subscribes, from_before] {
        let ask = Ask { kind: Type::Route, nonce: String::new(), refusal: None, version: String::new(), wanted };
        assert_eq!(Session::new(Form::Delta, Arc::default()).ask(ask), Err(TooManyNames));
    }
}
