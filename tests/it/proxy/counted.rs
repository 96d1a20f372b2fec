//! What is counted, where things come and go: pages for Prometheus, listeners, copies, snapshots that nobody routes by any more.

use super::harness::{Backend, Mesh, Proxy, eventually};
use super::observe::of_node;
use http::Method;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidegate::base::tally::Outcomes;
use tidegate::mesh::snapshot::extension::NodeExtensions;
use tidegate::mesh::snapshot::{Cluster, ClusterKey, ClusterPort, Discovery, Listener, Protocol, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Labels of a sample, as `name="value"` pairs in their order; fails where the text format does not allow them.
fn labels(text: &str) -> Vec<(String, String)> {
    let (mut rest, mut all) = (text, Vec::new());
    while !rest.is_empty() {
        let (name, more) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {rest}"));
        assert!(!name.is_empty() && name.chars().all(|one| one.is_ascii_alphanumeric() || one == '_'), "{name}");
        let mut value = String::new();
        let mut characters = more.char_indices();
        let end = loop {
            match characters.next().unwrap_or_else(|| panic!("no end: {more}")) {
                (at, '"') => break at,
                (_, '\\') => {
                    let (_, escaped) = characters.next().unwrap();
                    assert!(['\\', '"', 'n'].contains(&escaped), "{more}");
                    value.push(escaped);
                }
                (_, plain) => value.push(plain),
            }
        };
        all.push((name.to_owned(), value));
        let more = &more[end + 1..];
        rest =
            if more.is_empty() { more } else { more.strip_prefix(',').unwrap_or_else(|| panic!("no comma: {more}")) };
    }
    all
}

/// Reads a page as strictly as Prometheus' own checker does: each family once, its samples together, no sample twice, buckets that
/// rise to the count. Answers the samples.
fn prometheus(page: &str) -> BTreeMap<String, f64> {
    let (mut families, mut samples) = (BTreeSet::new(), BTreeMap::new());
    let (mut family, mut kind) = ("", "");
    for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP ")) {
        if let Some(begins) = line.strip_prefix("# TYPE ") {
            (family, kind) = begins.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(families.insert(family), "{family} is there twice");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, inside) = series.split_once('{').unwrap_or((series, "}"));
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} stands below {family}"));
        let expected: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(expected.contains(&suffix), "{line} is no {kind}");
        assert!(name.chars().all(|one| one.is_ascii_alphanumeric() || one == '_'), "{name}");
        let mut labels = labels(inside.strip_suffix('}').unwrap());
        let names: BTreeSet<&String> = labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), labels.len(), "{line}");
        labels.sort();
        let before = samples.insert(format!("{name} {labels:?}"), value.parse::<f64>().unwrap());
        assert_eq!(before, None, "{line} is there twice");
    }
    samples
}

#[tokio::test]
async fn pages_for_prometheus_have_every_series_once_whatever_things_are_called() {
    let backend = Backend::text("hello").await;
    // Names that are the same once signs are left out: of clusters by `_`, of series by what `_` stands for.
    let mut mesh = of_node(Mesh::new(1).target("a-b", backend.address, 1).target("a_b", backend.address, 1), None);
    mesh = mesh.target("c", backend.address, 1);
    let port = backend.address.port();
    for (name, node) in [("m_c", "c"), ("m", "c_c")] {
        let key = ClusterKey { mesh: name.into(), node: node.into() };
        let cluster = Cluster {
            key: key.clone(),
            discovery: Discovery::by_name("127.0.0.1", false),
            ports: vec![ClusterPort::plain(port, Protocol::Http)],
            extensions: NodeExtensions::default(),
        };
        mesh.config.clusters.insert(key.clone(), Arc::new(cluster));
        mesh.route.targets.push(Target { cluster: key, port, weight: 1 });
    }
    let proxy = Proxy::with(mesh, |settings| settings.stats_tags = true).await;
    let mut client = proxy.client().await;
    for _ in 0..200 {
        client.get("/").await.unwrap();
    }
    let requests = |page: &BTreeMap<String, f64>| -> f64 {
        page.iter().filter(|(name, _)| name.starts_with("tidegate_proxy_requests_total ")).map(|(_, count)| count).sum()
    };
    for page in ["/stats/prometheus", "/stats?format=prometheus", "/stats?format=prometheus&usedonly"] {
        let samples = prometheus(&proxy.admin(Method::GET, page).await.text());
        assert_eq!(requests(&samples), 200.0, "{page}");
        assert!(samples.keys().any(|name| name.starts_with("envoy_cluster_membership_total ")), "{page}");
    }
    let text = proxy.admin(Method::GET, "/stats").await.text();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    let once: BTreeSet<&&str> = names.iter().collect();
    let shared: Vec<&&str> = names.iter().filter(|name| name.contains("membership_total")).collect();
    assert_eq!((once.len(), shared.len()), (names.len(), 4), "{shared:?}");
}

/// A connection to the application, over which one request went.
async fn to_application(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.handle.ingress_address().unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

#[tokio::test]
async fn a_connection_ends_where_it_began_also_when_listeners_changed_meanwhile() {
    let (application, other) = (Backend::text("hello").await, Backend::text("other").await);
    let listen = |mut mesh: Mesh, ports: &[u16]| {
        let plain = |port: &u16| Listener {
            port: *port,
            protocol: Protocol::Http,
            request_timeout: None,
            idle_timeout: None,
            pool: None,
            tls: None,
        };
        let own = mesh.config.own.as_mut().map(Arc::make_mut).unwrap();
        own.listeners = ports.iter().map(plain).collect();
        mesh
    };
    let (first, second) = (application.address.port(), other.address.port());
    let mesh = listen(of_node(Mesh::new(1).target("v1", other.address, 1), None), &[first]);
    let any = Some(([127, 0, 0, 1], 0).into());
    let proxy = Proxy::with(mesh.clone(), |settings| settings.ingress = any).await;
    let stream = to_application(&proxy).await;
    assert_eq!(proxy.stat("http.ingress.downstream_cx_active").await, 1);
    // With two of them each has a name of its own.
    proxy.publish(&listen(mesh.reweighted(&[1]), &[first, second])).await;
    drop(stream);
    eventually("it ends", async || proxy.stat("http.ingress.downstream_cx_destroy").await == 1).await;
    assert_eq!(proxy.stat("http.ingress.downstream_cx_active").await, 0);
    let _stream = to_application(&proxy).await;
    let name = format!("http.ingress.http.{first}.downstream_cx");
    assert_eq!((proxy.stat(&format!("{name}_total")).await, proxy.stat(&format!("{name}_active")).await), (1, 1));
}

#[tokio::test]
async fn a_websocket_that_is_logged_does_not_hold_the_configuration_that_it_began_under() {
    let backend = Backend::raw(|mut stream| async move {
        let mut asked = [0; 1024];
        let _ = stream.read(&mut asked).await;
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(switch).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    let format = "%REQ(:PATH)% %UPSTREAM_CLUSTER% %ROUTE_NAME% %BYTES_SENT%\n";
    let mesh = of_node(Mesh::new(1).target("v1", backend.address, 1), Some((&path, format)));
    let proxy = Proxy::start(mesh.clone()).await;
    let first = Arc::downgrade(&proxy.config.borrow());
    let mut stream = TcpStream::connect(proxy.handle.egress_address()).await.unwrap();
    let ask = b"GET /chat HTTP/1.1\r\nhost: shop.local\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let mut echo = [0; 5];
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut echo).await.unwrap();
    proxy.publish(&mesh.reweighted(&[1])).await;
    eventually("nobody has it any more", async || first.upgrade().is_none()).await;
    drop(stream);
    let line = format!("/chat cds_egress_m_v1_http_{} shop/all@1 5\n", backend.address.port());
    eventually("its line says all the same", async || {
        tokio::fs::read_to_string(&path).await.unwrap_or_default() == line
    })
    .await;
}

#[tokio::test]
async fn copies_that_end_badly_behind_a_good_head_are_no_good_ones() {
    let v1 = Backend::text("v1").await;
    for (answer, wanted) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhal"[..], Outcomes { reset: 1, ..Outcomes::default() }),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 13\r\n\r\n",
            Outcomes { status_5xx: 1, ..Outcomes::default() },
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n",
            Outcomes::default(),
        ),
    ] {
        let v2 = Backend::raw(move |mut stream| async move {
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await;
            let _ = stream.write_all(answer).await;
        })
        .await;
        let mesh = Mesh::new(1).target("v1", v1.address, 1).target("v2", v2.address, 0);
        let proxy = Proxy::start(mesh.tag("tidegate:mirror", "target=v2")).await;
        assert_eq!(proxy.client().await.get("/").await.unwrap().text(), "v1");
        let copies = || proxy.handle.report().unjudged.iter().map(|series| series.outcomes).next();
        eventually("the copy is counted", async || copies().is_some_and(|outcomes| outcomes.requests == 1)).await;
        assert_eq!(copies(), Some(Outcomes { requests: 1, ..wanted }));
    }
}
