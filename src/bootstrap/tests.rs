//! What is wrong is told with its place and all at once; text survives YAML. What Envoy makes of a bootstrap is tested in
//! `it::envoy`.

use super::*;
use proptest::prelude::*;

const NODE: (&str, &str) = ("APPMESH_RESOURCE_ARN", "mesh/shop/virtualNode/checkout-v1");
const ENDPOINT: (&str, &str) = ("APPMESH_XDS_ENDPOINT", "tidegate.internal:7072");

fn set(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// With these variables beside a node and a control plane.
fn with(pairs: &[(&str, &str)]) -> Result<Bootstrap, Vec<String>> {
    let pairs = [&[NODE, ENDPOINT][..], pairs].concat();
    build(&Options::default(), &set(&pairs), &Texts::new())
}

fn file(variable: &'static str, text: &str) -> Result<Bootstrap, Vec<String>> {
    build(
        &Options::default(),
        &set(&[NODE, ENDPOINT, (variable, "/etc/x.yaml")]),
        &Texts::from([(variable, text.into())]),
    )
}

#[test]
fn nodes_are_read_as_the_control_plane_reads_them() {
    for (id, is_gateway, mesh, name) in [
        ("mesh/shop/virtualNode/checkout-v1", false, "shop", "checkout-v1"),
        ("mesh/shop/virtualGateway/edge", true, "shop", "edge"),
        ("arn:aws:appmesh:eu-central-1:123456789012:mesh/shop/virtualNode/a_b", false, "shop", "a_b"),
        (
            "arn:aws-cn:appmesh:cn-north-1:123456789012:mesh/shop@210987654321/virtualNode/a",
            false,
            "shop@210987654321",
            "a",
        ),
    ] {
        let node = Node { id: id.into(), mesh: mesh.into(), is_gateway, name: name.into() };
        assert_eq!(Node::parse(id), Some(node), "{id}");
    }
    for id in [
        "",
        "checkout",
        "mesh/shop/virtualNode/",
        "mesh/shop/virtualRouter/r",
        "mesh/shop/virtualNode/a/b",
        "mesh//virtualNode/a",
        "mesh/shop/virtualnode/a",
        "arn:aws:ecs:eu-central-1:123456789012:mesh/shop/virtualNode/a",
        "arn:aws:appmesh:mesh/shop/virtualNode/a",
        "mesh/sh op/virtualNode/a",
    ] {
        assert_eq!(Node::parse(id), None, "{id}");
    }
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    for (pairs, told) in [
        (
            &[("ENVOY_ADMIN_ACCESS_PORT", "99999")][..],
            "ENVOY_ADMIN_ACCESS_PORT is `99999`; it is a whole number from 1 to 65535",
        ),
        (&[("ENVOY_ADMIN_MODE", "udp")], "ENVOY_ADMIN_MODE is `udp`; it is `tcp` or `uds`"),
        (
            &[("ENVOY_ADMIN_ACES_PORT", "1")],
            "is not a variable of the App Mesh image; is ENVOY_ADMIN_ACCESS_PORT meant?",
        ),
        (&[("ENVOY_LOG_LEVEL", "loud")], "ENVOY_LOG_LEVEL is `loud`; it is one of trace, debug, info"),
        (&[("ENVOY_CONCURRENCY", "0")], "ENVOY_CONCURRENCY is `0`"),
        (&[("ENVOY_INITIAL_FETCH_TIMEOUT", "5s")], "ENVOY_INITIAL_FETCH_TIMEOUT is `5s`; it is a whole number"),
        (&[("ENVOY_CONFIG_FILE", "/etc/envoy.yaml")], "names a whole bootstrap (/etc/envoy.yaml)"),
        (&[("ENABLE_ENVOY_STATS_TAGS", "yes")], "ENABLE_ENVOY_STATS_TAGS is `yes`; it is `1` or `0`"),
        (&[("ENVOY_STATS_FLUSH_INTERVAL", "5")], "it is a time from 1ms to 5m"),
        (&[("ENVOY_STATS_FLUSH_INTERVAL", "10m")], "it is a time from 1ms to 5m"),
        (&[("ENABLE_ENVOY_DOG_STATSD", "1"), ("STATSD_ADDRESS", "statsd.local")], "an address and no name"),
        (
            &[("ENABLE_ENVOY_XRAY_TRACING", "1"), ("ENABLE_ENVOY_JAEGER_TRACING", "true")],
            "one tracer at most, and ENABLE_ENVOY_XRAY_TRACING and ENABLE_ENVOY_JAEGER_TRACING ask for one each",
        ),
        (
            &[("ENABLE_ENVOY_XRAY_TRACING", "1"), ("AWS_XRAY_DAEMON_ADDRESS", "xray:2000")],
            "AWS_XRAY_DAEMON_ADDRESS is `xray:2000`",
        ),
        (
            &[("ENABLE_ENVOY_XRAY_TRACING", "1"), ("XRAY_SAMPLING_RATE", "5")],
            "XRAY_SAMPLING_RATE is `5`; it is a share",
        ),
        (&[("ENABLE_ENVOY_XRAY_TRACING", "1"), ("XRAY_SAMPLING_RATE", "NaN")], "XRAY_SAMPLING_RATE is `NaN`"),
        (&[("ENABLE_ENVOY_JAEGER_TRACING", "1"), ("JAEGER_TRACER_VERSION", "3")], "it is PROTO or JSON"),
        (&[("APPMESH_XDS_ENDPOINT", "tidegate")], "APPMESH_XDS_ENDPOINT is `tidegate`: it says no port"),
        (
            &[("APPMESH_RESOURCE_ARN", "checkout")],
            "APPMESH_RESOURCE_ARN is `checkout`; it is mesh/MESH/virtualNode/NAME",
        ),
        (
            &[("APPMESH_XDS_ENDPOINT", "http://tidegate:7072"), ("TIDEGATE_TOKEN", "t")],
            "TIDEGATE_TOKEN would go to another machine in clear text",
        ),
    ] {
        let problems = with(pairs).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(told), "{problems:?}");
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let options = Options {
        control_plane: Some("http://localhost:7072".into()),
        admin: Some("127.0.0.1:1".parse().unwrap()),
        ca: Some("/ca.pem".into()),
        certificate: Some("/own.pem".into()),
        ..Options::default()
    };
    let problems = build(&options, &set(&[("ENVOY_ADMIN_MODE", "uds")]), &Texts::new()).unwrap_err();
    for told in ["which virtual node", "go together", "are for TLS", "--admin is an address"] {
        assert!(problems.iter().any(|problem| problem.contains(told)), "{told}: {problems:?}");
    }
    assert_eq!(problems.len(), 4, "{problems:?}");
}

#[test]
fn control_planes_are_urls_with_a_port() {
    let at = |url: &str| {
        let options = Options { control_plane: Some(url.into()), ..Options::default() };
        build(&options, &set(&[NODE]), &Texts::new())
    };
    for (url, authority) in [
        ("http://127.0.0.1:7072", "127.0.0.1:7072"),
        ("https://tidegate.internal:443/", "tidegate.internal:443"),
        ("https://[fd00::7]:7072", "[fd00::7]:7072"),
        ("unix:///run/tidegate/xds.sock", "localhost"),
    ] {
        let config = at(url).unwrap().config;
        let service = &config["dynamic_resources"]["ads_config"]["grpc_services"][0]["envoy_grpc"];
        assert_eq!(service["authority"], authority, "{url}");
    }
    for url in [
        "",
        "tidegate:7072",
        "ftp://tidegate:7072",
        "http://tidegate",
        "http://:7072",
        "http://tidegate:0",
        "http://tidegate:70720",
        "http://tidegate:7072/path",
        "http://user@tidegate:7072",
        "http://[::1]",
        "http://[tidegate]:7072",
        "http://fd00::7:7072",
        "unix://xds.sock",
        "unix:///",
    ] {
        let problems = at(url).unwrap_err();
        assert!(problems[0].starts_with(&format!("--control-plane is `{url}`: ")), "{problems:?}");
    }
}

#[test]
fn what_does_nothing_is_remarked() {
    for (pairs, told) in [
        (&[("APPMESH_METRIC_EXTENSION_VERSION", "1")][..], "APPMESH_METRIC_EXTENSION_VERSION has no effect"),
        (&[("APPMESH_PREVIEW", "0")], "APPMESH_PREVIEW has no effect"),
        (&[("ENVOY_ADMIN_MODE", "uds"), ("ENVOY_ADMIN_ACCESS_PORT", "1")], "ENVOY_ADMIN_ACCESS_* have no effect"),
        (&[("TIDEGATE_TOKEN", "t")], "start it with that variable"),
        (&[], "amazon linux"),
        (&[], "whoever reaches them can end Envoy"),
    ] {
        let remarks = with(pairs).unwrap().remarks;
        let has = |remark: &String| remark.to_lowercase().contains(&told.to_lowercase());
        assert!(remarks.iter().any(has), "{told}: {remarks:?}");
    }
    // Orchestrators name services in variables like these.
    let others =
        [("ENVOY_SERVICE_HOST", "10.0.0.1"), ("ENVOY_UID", "1337"), ("APPMESH_CONTROLLER_PORT", "tcp://10.0.0.2")];
    assert_eq!(with(&others).unwrap(), with(&[]).unwrap());
    let told = with(&[("ENVOY_LOG_LEVEL", " debug "), ("ENVOY_CONCURRENCY", "2")]).unwrap().arguments;
    assert_eq!(told, ["--log-level", "debug", "--concurrency", "2"]);
}

#[test]
fn files_add_what_they_are_for_and_nothing_else() {
    let made =
        file("ENVOY_TRACING_CFG_FILE", "tracing: {http: {name: x}}\nstaticResources: {clusters: [{name: y}]}").unwrap();
    assert_eq!(made.config["tracing"]["http"]["name"], "x");
    assert_eq!(made.config["static_resources"]["clusters"].as_array().unwrap().len(), 2);
    for (variable, text, told) in [
        ("ENVOY_STATS_CONFIG_FILE", "", "is empty"),
        ("ENVOY_STATS_CONFIG_FILE", "stats_sinks: []", "has no `stats_config`"),
        ("ENVOY_STATS_SINKS_CFG_FILE", "- a", "no mapping"),
        ("ENVOY_STATS_SINKS_CFG_FILE", "stats_sinks: []\nadmin: {}", "has `admin`; it may have"),
        ("ENVOY_STATS_SINKS_CFG_FILE", "stats_sinks: [", "not YAML"),
        ("ENVOY_TRACING_CFG_FILE", "tracing: {}\n---\ntracing: {}", "several documents"),
        ("ENVOY_RESOURCES_CONFIG_FILE", "static_resources: {routes: []}", "it has clusters, listeners, secrets"),
        ("ENVOY_RESOURCES_CONFIG_FILE", "static_resources: {clusters: {}}", "is no list"),
        ("ENVOY_RESOURCES_CONFIG_FILE", "static_resources: []", "of another kind"),
        (
            "ENVOY_RESOURCES_CONFIG_FILE",
            "static_resources: {clusters: [{name: tidegate_control_plane}]}",
            "which is taken",
        ),
    ] {
        let problems = file(variable, text).unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains(told)), "{text}: {problems:?}");
    }
    let twice = set(&[NODE, ENDPOINT]);
    let texts = Texts::from([
        ("ENVOY_TRACING_CFG_FILE", "tracing: {}".into()),
        ("ENVOY_RESOURCES_CONFIG_FILE", "static_resources: {}\ntracing: {}".into()),
    ]);
    let problems = build(&Options::default(), &twice, &texts).unwrap_err();
    assert!(problems[0].contains("is there already"), "{problems:?}");
}

#[test]
fn a_token_is_nowhere_in_the_file() {
    for (endpoint, insecure) in
        [("tidegate:7072", "0"), ("http://tidegate:7072", "1"), ("http://127.0.0.1:7072", "0"), ("unix:///x.sock", "0")]
    {
        let made = with(&[
            ("APPMESH_XDS_ENDPOINT", endpoint),
            ("TIDEGATE_TOKEN", "tg_secret_value"),
            ("TIDEGATE_INSECURE", insecure),
        ]);
        let made = format!("{made:?}");
        assert!(made.contains("%ENVIRONMENT(TIDEGATE_TOKEN)%") && !made.contains("tg_secret_value"), "{made}");
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[-a-z0-9:#{}&*!|>'\" \n\t\\[\\],.%@`~yYnNoO]{0,12}".prop_map(Value::from),
        Just(Value::Null),
        Just(json!("on")),
        Just(json!("1e3")),
        Just(json!("0x10")),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("\\PC{0,8}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(value in json()) {
        let text = emit(&value);
        prop_assert_eq!(yaml::parse(&text), Ok(value), "{}", text);
    }

    #[test]
    fn no_variable_makes_it_panic(at in 0..KNOWN.len(), value in "\\PC{0,40}") {
        let _ = with(&[(KNOWN[at].name, &value)]);
    }
}
