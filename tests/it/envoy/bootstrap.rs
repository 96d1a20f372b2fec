//! Bootstraps for a table of environments: kept as golden files, checked by the real Envoy, and tried by running it.

use crate::kit::certificates::Authority;
use crate::kit::envoy::{Envoy, binary, validate, validate_text};
use crate::program::{command, finish, golden_json, until};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::bootstrap::{Options, Texts, Variables, build, emit};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

const NODE: &str = "mesh/shop/virtualNode/checkout-v1";
const ARN: &str = "arn:aws:appmesh:eu-central-1:123456789012:mesh/shop/virtualGateway/edge";

/// One environment: a name, options as on the command line (`node`, `control_plane`), variables, and files.
type Case = (
    &'static str,
    [Option<&'static str>; 2],
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str)],
);

const TRACING: &str = "
tracing:
  http:
    name: envoy.tracers.zipkin
    typed_config:
      '@type': type.googleapis.com/envoy.config.trace.v3.ZipkinConfig
      collector_cluster: collector
      collector_endpoint: /api/v2/spans
      collector_endpoint_version: HTTP_JSON
static_resources:
  clusters:
  - name: collector
    connect_timeout: 1s
    load_assignment: { cluster_name: collector }
";
const SINKS: &str = "
statsSinks:
- name: envoy.stat_sinks.statsd
  typed_config:
    '@type': type.googleapis.com/envoy.config.metrics.v3.StatsdSink
    address: { socket_address: { address: 127.0.0.1, port_value: 8125, protocol: UDP } }
";

const CASES: &[Case] = &[
    ("plain", [Some(NODE), Some("http://127.0.0.1:7072")], &[], &[]),
    ("gateway over tls", [Some(ARN), Some("https://tidegate.internal:7072")], &[], &[]),
    ("tls to an address", [Some(NODE), Some("https://[fd00::7]:7072")], &[], &[]),
    ("a token", [Some(NODE), Some("https://tidegate.internal:7072")], &[("TIDEGATE_TOKEN", "tg_secret_value")], &[]),
    (
        "the image's own",
        [None, None],
        &[("APPMESH_VIRTUAL_NODE_NAME", NODE), ("APPMESH_XDS_ENDPOINT", "tidegate.internal:443")],
        &[],
    ),
    (
        "a socket",
        [None, None],
        &[
            ("APPMESH_RESOURCE_ARN", ARN),
            ("APPMESH_RESOURCE_CLUSTER", "edge"),
            ("APPMESH_XDS_ENDPOINT", "unix:///run/tidegate/xds.sock"),
            ("ENVOY_ADMIN_MODE", "uds"),
            ("APPMESH_SDS_SOCKET_PATH", "/run/spire/agent.sock"),
        ],
        &[],
    ),
    (
        "admin",
        [Some(NODE), Some("http://localhost:7072")],
        &[
            ("ENVOY_ADMIN_ACCESS_PORT", "9902"),
            ("ENVOY_ADMIN_ACCESS_ENABLE_IPV6", "1"),
            ("ENVOY_ADMIN_ACCESS_LOG_FILE", "/dev/stdout"),
            ("ENVOY_INITIAL_FETCH_TIMEOUT", "30"),
            ("ENVOY_OUTLIER_DETECTION_EVENT_LOG_PATH", "/dev/stderr"),
            ("ENVOY_LOG_LEVEL", "debug"),
            ("ENVOY_CONCURRENCY", "2"),
        ],
        &[],
    ),
    (
        "stats",
        [Some(NODE), Some("http://localhost:7072")],
        &[
            ("ENABLE_ENVOY_STATS_TAGS", "1"),
            ("ENABLE_ENVOY_DOG_STATSD", "true"),
            ("STATSD_PORT", "8126"),
            ("ENVOY_STATS_FLUSH_INTERVAL", "2500ms"),
        ],
        &[],
    ),
    (
        "stats to a socket",
        [Some(ARN), Some("http://localhost:7072")],
        &[
            ("ENABLE_ENVOY_STATS_TAGS", "1"),
            ("ENABLE_ENVOY_DOG_STATSD", "1"),
            ("STATSD_SOCKET_PATH", "/run/statsd.sock"),
            ("ENVOY_STATS_FLUSH_INTERVAL", "10s"),
        ],
        &[],
    ),
    (
        "x-ray",
        [Some(NODE), Some("http://localhost:7072")],
        &[
            ("ENABLE_ENVOY_XRAY_TRACING", "1"),
            ("AWS_XRAY_DAEMON_ADDRESS", "10.0.0.9:2001"),
            ("XRAY_SAMPLING_RATE", "0.25"),
        ],
        &[],
    ),
    (
        "x-ray by rules",
        [Some(ARN), Some("http://localhost:7072")],
        &[
            ("ENABLE_ENVOY_XRAY_TRACING", "1"),
            ("XRAY_DAEMON_PORT", "2002"),
            ("XRAY_SEGMENT_NAME", "edge"),
            ("XRAY_SAMPLING_RULE_MANIFEST", "/etc/rules.json"),
        ],
        &[],
    ),
    ("datadog", [Some(NODE), Some("http://localhost:7072")], &[("ENABLE_ENVOY_DATADOG_TRACING", "1")], &[]),
    (
        "jaeger",
        [Some(NODE), Some("http://localhost:7072")],
        &[("ENABLE_ENVOY_JAEGER_TRACING", "1"), ("JAEGER_TRACER_ADDRESS", "jaeger"), ("JAEGER_TRACER_VERSION", "json")],
        &[],
    ),
    (
        "files",
        [Some(NODE), Some("http://localhost:7072")],
        &[],
        &[
            ("ENVOY_TRACING_CFG_FILE", TRACING),
            ("ENVOY_STATS_SINKS_CFG_FILE", SINKS),
            ("ENVOY_STATS_CONFIG_FILE", "stats_config: { stats_tags: [{ tag_name: team, fixed_value: payments }] }"),
            (
                "ENVOY_RESOURCES_CONFIG_FILE",
                "static_resources: { secrets: [{ name: s, generic_secret: { secret: { inline_string: x } } }] }",
            ),
        ],
    ),
];

fn made((name, [node, control_plane], variables, files): &Case) -> Value {
    let options = Options {
        node: node.map(str::to_owned),
        control_plane: control_plane.map(str::to_owned),
        ..Options::default()
    };
    let paths = files.iter().map(|(variable, _)| (*variable, "/etc/file.yaml"));
    let variables: Variables =
        variables.iter().copied().chain(paths).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let texts: Texts = files.iter().map(|(variable, text)| (*variable, (*text).to_owned())).collect();
    build(&options, &variables, &texts).unwrap_or_else(|problems| panic!("{name}: {problems:?}")).config
}

/// The same text with files that exist in place of those of the table.
fn with_files(text: &str, directory: &Path) -> String {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(
        directory.join("rules.json"),
        json!({ "version": 2, "rules": [], "default": { "fixed_target": 1, "rate": 0.5 } }).to_string(),
    )
    .unwrap();
    let path = |name: &str| directory.join(name).display().to_string();
    text.replace("/etc/ssl/certs/ca-certificates.crt", &path("ca.crt")).replace("/etc/rules.json", &path("rules.json"))
}

#[tokio::test]
async fn envoy_takes_every_bootstrap_in_both_forms() {
    let envoy = binary().await;
    let directory = tempfile::tempdir().unwrap();
    for case in CASES {
        let config = made(case);
        golden_json(&format!("envoy/{}.json", case.0.replace(' ', "-")), &config);
        let Some(envoy) = &envoy else { continue };
        let yaml = with_files(&emit(&config), directory.path());
        assert_eq!(validate_text(envoy, "bootstrap.yaml", &yaml).await, Ok(()), "{}: {yaml}", case.0);
        let json = with_files(&config.to_string(), directory.path());
        assert_eq!(validate_text(envoy, "bootstrap.json", &json).await, Ok(()), "{}", case.0);
    }
}

/// What a control plane was asked first.
#[derive(Debug, Clone)]
struct Asked {
    path: String,
    authority: String,
    token: Option<String>,
    body: Vec<u8>,
}

/// A control plane that notes what it is asked and never answers.
async fn listen(tls: Option<ServerConfig>) -> (u16, Arc<Mutex<Vec<Asked>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
    let noted = Arc::clone(&asked);
    let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (noted, acceptor) = (Arc::clone(&noted), acceptor.clone());
            let answer = service_fn(move |request| note(request, Arc::clone(&noted)));
            tokio::spawn(async move {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // Whoever is refused, or leaves, is none of the test's business.
                let _ = match acceptor {
                    None => server.serve_connection(TokioIo::new(stream), answer).await,
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => server.serve_connection(TokioIo::new(stream), answer).await,
                        Err(_) => Ok(()),
                    },
                };
            });
        }
    });
    (port, asked)
}

async fn note(request: Request<Incoming>, noted: Arc<Mutex<Vec<Asked>>>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let token = head.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let mut asked = Asked {
        path: head.uri.path().to_owned(),
        authority: head.uri.authority().unwrap().to_string(),
        token,
        body: Vec::new(),
    };
    // The first message; the stream stays open.
    if let Some(Ok(frame)) = body.frame().await {
        asked.body.extend_from_slice(frame.data_ref().unwrap());
    }
    noted.lock().unwrap().push(asked);
    std::future::pending().await
}

fn options(node: &str, control_plane: String) -> Options {
    let admin = Some("127.0.0.1:0".parse().unwrap());
    Options { node: Some(node.to_owned()), control_plane: Some(control_plane), admin, ..Options::default() }
}

#[tokio::test]
async fn envoy_asks_by_its_node_and_with_a_token_that_no_file_has() {
    let (port, asked) = listen(None).await;
    let options = options(NODE, format!("http://localhost:{port}"));
    let variables = BTreeMap::from([("TIDEGATE_TOKEN".to_owned(), "tg_other".to_owned())]);
    let config = build(&options, &variables, &Texts::new()).unwrap().config;
    let Some(envoy) = Envoy::start_with(&config, &[("TIDEGATE_TOKEN", "tg_secret")]).await else { return };
    let first = until("it asks", async || asked.lock().unwrap().first().cloned()).await;
    assert_eq!(first.path, "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources");
    assert_eq!(first.authority, format!("localhost:{port}"));
    assert_eq!(first.token.as_deref(), Some("Bearer tg_secret"));
    let holds = |text: &str| first.body.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(NODE), "{:?}", first.body);
    assert!(!envoy.config_dump().await.to_string().contains("tg_secret"), "its pages show the token");
    // It waits for ever: nothing is served before there is a configuration.
    assert_eq!(envoy.admin_get("/ready").await.0, 503);
}

impl Authority {
    /// A server for that name that wants certificates of this authority.
    fn server(&self, host: &str) -> ServerConfig {
        let (certificate, key) = self.issue(&[host]);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let ring = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&ring)).build().unwrap();
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let builder = ServerConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

#[tokio::test]
async fn envoy_believes_the_right_name_alone_and_proves_its_own() {
    let authority = Authority::new();
    let (port, asked) = listen(Some(authority.server("localhost"))).await;
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (certificate, key) = authority.issue(&["envoy"]);
    let with = |control_plane: String| {
        let mut options = options(ARN, control_plane);
        options.ca = Some(write("ca.crt", &authority.pem));
        options.certificate = Some(write("own.crt", &certificate));
        options.key = Some(write("own.key", &key));
        build(&options, &Variables::new(), &Texts::new()).unwrap().config
    };
    let Some(stranger) = Envoy::start(&with(format!("https://127.0.0.1:{port}"))).await else { return };
    let refused = "cluster.tidegate_control_plane.ssl.fail_verify_san";
    until("it refuses the name", async || stranger.stats(refused).await.filter(|count| *count > 0)).await;
    assert!(asked.lock().unwrap().is_empty(), "it spoke to a server of another name");
    drop(stranger);
    let _envoy = Envoy::start(&with(format!("https://localhost:{port}"))).await.unwrap();
    let first = until("it asks", async || asked.lock().unwrap().first().cloned()).await;
    assert!(first.body.windows(ARN.len()).any(|window| window == ARN.as_bytes()));
}

/// A listener that takes traces as the bootstrap has them, with a regular expression beyond Envoy's own limit.
fn listener() -> Value {
    let words: Vec<String> = (0..500).map(|n| format!("abcdefghij{n:03}")).collect();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "tracing": {},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        }],
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
            { "match": { "safe_regex": { "regex": format!("/({})[0-9]{{10}}", words.join("|")) } },
              "direct_response": { "status": 404 } },
            { "match": { "prefix": "/" }, "direct_response": { "status": 200 } },
        ] }] },
    });
    json!([{
        "name": "test",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
        "filter_chains": [{ "filters": [{ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager }] }],
    }])
}

#[tokio::test]
async fn traces_and_counts_arrive_as_the_variables_say() {
    let Some(envoy) = binary().await else { return };
    let (xray, statsd) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let variables = [
        ("ENABLE_ENVOY_XRAY_TRACING", "1".to_owned()),
        ("AWS_XRAY_DAEMON_ADDRESS", xray.local_addr().unwrap().to_string()),
        ("XRAY_SAMPLING_RATE", "1".to_owned()),
        ("ENABLE_ENVOY_DOG_STATSD", "1".to_owned()),
        ("STATSD_PORT", statsd.local_addr().unwrap().port().to_string()),
        ("ENABLE_ENVOY_STATS_TAGS", "1".to_owned()),
        ("ENVOY_STATS_FLUSH_INTERVAL", "100ms".to_owned()),
    ];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let options = options(NODE, "http://127.0.0.1:7072".to_owned());
    let mut config = build(&options, &variables, &Texts::new()).unwrap().config;
    // Without a control plane no listener begins, one in the bootstrap neither.
    config.as_object_mut().unwrap().remove("dynamic_resources");
    config["static_resources"]["listeners"] = listener();
    let mut small = config.clone();
    small.as_object_mut().unwrap().remove("layered_runtime");
    assert!(validate(&envoy, &small).await.unwrap_err().contains("RE2 program size"), "the limit has a reason");

    let mut envoy = Envoy::start(&config).await.unwrap();
    envoy.wait_ready().await;
    let listeners: Value = serde_json::from_str(&envoy.admin_get("/listeners?format=json").await.1).unwrap();
    let port = &listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"];
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(http.get(format!("http://127.0.0.1:{port}/cart")).send().await.unwrap().status(), 200);
    let segment = received(&xray, "\"name\"").await;
    assert!(segment.contains("\"name\":\"shop/checkout-v1\"") && segment.contains("AWS::AppMesh::Proxy"), "{segment}");
    assert!(segment.contains("\"virtual_node_name\":\"checkout-v1\""), "{segment}");
    let counts = received(&statsd, "downstream_rq_total").await;
    assert!(counts.contains("appmesh.mesh:shop") && counts.contains("appmesh.virtual_node:checkout-v1"), "{counts}");
}

/// The next datagram that has this in it.
async fn received(socket: &UdpSocket, part: &str) -> String {
    let mut bytes = vec![0; 65_536];
    let wait = async {
        loop {
            let length = socket.recv(&mut bytes).await.unwrap();
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.contains(part) {
                return text;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("no datagram with {part}"))
}

#[tokio::test]
async fn the_command_prints_the_file_and_says_the_rest_beside_it() {
    let arguments = ["envoy", "bootstrap", "--node", NODE, "--control-plane", "http://127.0.0.1:7072"];
    let yaml = finish(command(&arguments)).await.expect(0);
    assert!(
        yaml.stdout.starts_with("node:\n  id: mesh/shop/virtualNode/checkout-v1\n") && yaml.stderr.is_empty(),
        "{yaml:?}"
    );
    let json = finish(command(&[&arguments[..], &["--output", "json"]].concat())).await.expect(0).json().remove(0);
    assert_eq!(json, made(&CASES[0]));
    if let Some(envoy) = binary().await {
        assert_eq!(validate_text(&envoy, "bootstrap.yaml", &yaml.stdout).await, Ok(()));
    }

    let mut concurrency = command(&arguments);
    concurrency.env("ENVOY_CONCURRENCY", "2");
    finish(concurrency).await.expect(0).says(&["note: start Envoy with --concurrency 2"]);
    let mut missing = command(&arguments);
    missing.env("ENVOY_TRACING_CFG_FILE", "/nowhere/tracing.yaml");
    let missing = finish(missing).await.expect(2);
    missing.says(&[
        "error: ENVOY_TRACING_CFG_FILE: /nowhere/tracing.yaml cannot be read: ",
        "hint: it is read by this command",
    ]);
    let wrong = finish(command(&["envoy", "bootstrap", "--node", "checkout"])).await.expect(2);
    assert_eq!(wrong.stdout, "");
    wrong.says(&["--node is `checkout`", "where the control plane is", "error: no bootstrap: 2 problems"]);
}
