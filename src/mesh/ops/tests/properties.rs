//! Operations in any order: what holds of the state whatever was asked of it.

use super::*;
use proptest::prelude::*;

/// Any JSON, with member names of the API so that checks are reached.
fn any_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "spec",
        "httpRoute",
        "match",
        "action",
        "weightedTargets",
        "virtualNode",
        "weight",
        "port",
        "listeners",
        "portMapping",
        "protocol",
        "healthCheck",
        "serviceDiscovery",
        "dns",
        "hostname",
        "provider",
        "meshName",
        "virtualNodeName",
        "tags",
        "key",
        "value",
        "clientToken",
        "path",
        "regex",
        "prefix",
        "timeout",
        "perRequest",
        "unit",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["http", "s", "/", "a", "(", "m"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((words.clone(), inner), 0..6)
                .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

fn any_path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        prop::sample::select(vec![
            "meshes",
            "m",
            "virtualNodes",
            "virtualRouter",
            "r",
            "routes",
            "x",
            "virtualServices",
            "virtualGateways",
            "s",
            "tag",
            "untag",
            "tags?resourceArn=arn:aws:appmesh:r:000000000000:mesh/m",
            "meshes?limit=1&nextToken=00",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,6}",
    ];
    prop::collection::vec(segment, 1..7).prop_map(|segments| segments.join("/"))
}

proptest! {
    #[test]
    fn no_request_panics_and_none_that_is_refused_changes_anything(
        method in prop::sample::select(vec!["GET", "PUT", "DELETE", "POST"]),
        path in any_path(),
        generation in prop::option::of(".{0,4}"),
        body in any_json(),
    ) {
        let mut world = World::shop();
        let before = world.state.clone();
        if world.call_with(method, &path, &body, generation.as_deref()).is_err() {
            prop_assert_eq!(world.state, before);
        }
    }

    #[test]
    fn no_body_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let path = "/v20190125/meshes";
        let parts = wire::Parts { method: "PUT", path, query: "", extensions: wire::Asked::default(), body: &bytes };
        drop(wire::request(parts));
    }

    #[test]
    fn what_is_accepted_is_stored_and_read_back(
        spec in any_json(),
        kind in prop::sample::select(Kind::ALL.to_vec()),
    ) {
        if let Ok(pair) = validate::spec(kind, &spec, Unknown::Drop) {
            prop_assert_eq!(validate::spec(kind, &pair.raw, Unknown::Refuse).map(|again| again.raw), Ok(pair.raw));
        }
    }
}
