//! The control plane by TLS: real Envoys believe it and prove who they are, by certificates or by keys. Whoever is refused hears
//! why, and renewed files count without a restart.

use crate::kit::certificates::Authority;
use crate::kit::envoy::{Envoy, binary};
use crate::kit::ports::steady_port;
use crate::program::service::Service;
use crate::program::{Process, command, finish, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tidegate::bootstrap::{Options, Texts, Variables, build};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const SECRET: &str = "admin-secret-admin-secret";
const CALLER: &str = "spiffe://a.test/mesh/shop/virtualNode/caller";

/// A daemon with a mesh of one service and two callers, and the files of everybody.
struct Place {
    folder: TempDir,
    daemon: Process,
    addresses: BTreeMap<String, SocketAddr>,
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn mesh(app: u16) -> String {
    let backend = json!([{ "virtualService": { "virtualServiceName": "served.local" } }]);
    let caller =
        |name: &str| json!({ "meshName": "shop", "virtualNodeName": name, "spec": { "backends": backend.clone() } });
    let listeners = json!([{ "portMapping": { "port": app, "protocol": "http" } }]);
    let discovery = json!({ "dns": { "hostname": "127.0.0.1" } });
    let provider = json!({ "virtualNode": { "virtualNodeName": "served" } });
    let all = [
        json!({ "meshName": "shop", "spec": {} }),
        json!({ "meshName": "shop", "virtualNodeName": "served", "spec": { "listeners": listeners, "serviceDiscovery": discovery } }),
        json!({ "meshName": "shop", "virtualServiceName": "served.local", "spec": { "provider": provider } }),
        caller("caller"),
        caller("other"),
    ];
    all.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

impl Place {
    async fn start(authority: &Authority, app: u16) -> Self {
        let folder = TempDir::with_prefix("tidegate-test-").unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        write(folder.path(), "ca.crt", &authority.pem);
        write(folder.path(), "clients.crt", &authority.pem);
        renew(folder.path(), authority);
        std::fs::create_dir(folder.path().join("policies")).unwrap();
        let config = format!(
            "[api]\nlisten = \"127.0.0.1:0\"\nauth = \"none\"\n[database]\ndata_dir = \"{}\"\n[policies]\ndirectory = \"{}\"\n\
             [mesh]\nlisten = \"127.0.0.1:0\"\nxds_listen = \"127.0.0.1:0\"\ncertificate = \"{}\"\nkey = \"{}\"\n\
             clients = \"{}\"\n[mesh.keys.admin]\nid = \"AKIDADMIN\"\nsecret = \"{SECRET}\"\nallow = \"write\"\n",
            at("data"),
            at("policies"),
            at("server.crt"),
            at("server.key"),
            at("clients.crt")
        );
        let config = write(folder.path(), "tidegate.toml", &config);
        let mut serve = command(&["serve", "--output", "json", "--config", &config]);
        // Of handshakes that fail one in ten seconds is told without it.
        serve.env("TIDEGATE_LOG", "info,tidegate::xds::server::connections=debug");
        let mut daemon = Process::spawn(serve);
        let addresses = daemon.listening(3).await;
        let mesh = write(folder.path(), "mesh.yaml", &mesh(app));
        let endpoint = format!("https://localhost:{}", addresses["appmesh"].port());
        let mut apply = command(&["mesh", "apply", "--yes", "-f", &mesh, "--endpoint-url", &endpoint]);
        apply.env("AWS_ACCESS_KEY_ID", "AKIDADMIN").env("AWS_SECRET_ACCESS_KEY", SECRET);
        apply.env("TIDEGATE_CA_FILE", at("ca.crt"));
        finish(apply).await.expect(0);
        Self { folder, daemon, addresses }
    }

    /// An Envoy of a node that shows a certificate for these names, or none, and answers where requests are sent by it.
    async fn envoy(&self, node: &str, shows: Option<(&Authority, &[&str])>, token: Option<&str>) -> (Envoy, u16) {
        let folder = self.folder.path();
        let [ingress, egress] = std::array::from_fn(|_| steady_port());
        let own = shows.map(|(authority, names)| {
            let (certificate, key) = authority.issue(names);
            let name = |kind: &str| format!("{egress}.{kind}");
            (write(folder, &name("crt"), &certificate), write(folder, &name("key"), &key))
        });
        let (certificate, key) = own.unzip();
        let at = |port: u16| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        let options = Options {
            node: Some(format!("mesh/shop/virtualNode/{node}")),
            control_plane: Some(format!("https://localhost:{}", self.addresses["xds"].port())),
            admin: at(0),
            ingress: at(ingress),
            egress: at(egress),
            ca: Some(folder.join("ca.crt").display().to_string()),
            certificate,
            key,
        };
        let token = token.map(|token| ("TIDEGATE_TOKEN", token));
        let variables: Variables = token.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let config = build(&options, &variables, &Texts::new()).unwrap().config;
        let token: Vec<_> = token.into_iter().collect();
        (Envoy::start_with(&config, &token).await.unwrap(), egress)
    }

    /// The certificate that a listener shows.
    async fn shown(&self, listener: &str, authority: &Authority) -> Option<Vec<u8>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let ring = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
        let (certificate, key) = authority.issue(&[CALLER]);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
        let stream = TcpStream::connect(self.addresses[listener]).await.ok()?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
        Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
    }
}

/// Writes a new certificate of the server, and answers it.
fn renew(folder: &Path, authority: &Authority) -> Vec<u8> {
    let (certificate, key) = authority.issue(&["localhost"]);
    write(folder, "server.crt", &certificate);
    write(folder, "server.key", &key);
    CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap().to_vec()
}

async fn asked(egress: u16) -> Option<u16> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("http://127.0.0.1:{egress}/")).header("host", "served.local");
    Some(request.send().await.ok()?.status().as_u16())
}

#[tokio::test]
async fn envoys_prove_by_certificates_who_they_are() {
    if binary().await.is_none() {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let app = Service::start("app").await;
    let place = Place::start(&authority, app.address.port()).await;
    let (mut caller, egress) = place.envoy("caller", Some((&authority, &[CALLER])), None).await;
    caller.wait_ready().await;
    until("a request gets through", async || (asked(egress).await == Some(200)).then_some(())).await;
    // A certificate of the whole mesh, and a key beside a certificate that names something else.
    let (mut whole, _) = place.envoy("other", Some((&authority, &["spiffe://b.test/mesh/shop"])), None).await;
    let key = format!("AKIDADMIN:{SECRET}");
    let (mut keyed, _) = place.envoy("other", Some((&authority, &["spiffe://b.test/ns/default"])), Some(&key)).await;
    whole.wait_ready().await;
    keyed.wait_ready().await;

    // Another node's certificate is refused, and Envoy's own log has the reason and both ways in.
    let (other, _) = place.envoy("other", Some((&authority, &[CALLER])), None).await;
    let said = until("it is refused", async || {
        let log = other.log();
        // It shows the status as it comes, with its blanks escaped.
        log.lines().find(|line| line.contains("gRPC config stream")).map(|line| line.replace("%20", " "))
    })
    .await;
    for part in [
        "the certificate has spiffe://a.test/mesh/shop/virtualNode/caller and is not for mesh/shop/virtualNode/other",
        "spiffe://TRUST-DOMAIN/mesh/shop/virtualNode/other",
        "a key of [mesh.keys]",
    ] {
        assert!(said.contains(part), "no `{part}`: {said}");
    }
    assert_eq!(other.admin_get("/ready").await.0, 503);
    drop(other);

    // Without a certificate a key helps nobody; one of an authority that is not believed is none.
    let failed = |why: &str| {
        let said = place.daemon.stderr.all();
        let mut failed = said.into_iter().filter(|line| line.contains("a handshake of TLS with a proxy failed"));
        failed.find(|line| line.contains(why))
    };
    let (nameless, _) = place.envoy("other", None, Some(&key)).await;
    let errors = "cluster.tidegate_control_plane.ssl.connection_error";
    until("it is sent away", async || nameless.stats(errors).await.filter(|count| *count > 0)).await;
    let said = until("the daemon says so", async || failed("peer sent no certificates")).await;
    assert!(said.contains("INFO") && said.contains("127.0.0.1:"), "{said}");
    assert_eq!(nameless.admin_get("/ready").await.0, 503);
    drop(nameless);
    let by_stranger = Some((&stranger, &["spiffe://a.test/mesh/shop"][..]));
    let (strange, _) = place.envoy("other", by_stranger, None).await;
    until("it is sent away", async || strange.stats(errors).await.filter(|count| *count > 0)).await;
    until("the daemon says so", async || failed("invalid peer certificate")).await;
    assert_eq!(strange.admin_get("/ready").await.0, 503);
    drop(strange);

    // Renewed on disk: both listeners show the new one, and the stranger gets in now that it is believed.
    write(place.folder.path(), "clients.crt", &stranger.pem);
    let renewed = renew(place.folder.path(), &authority);
    for listener in ["appmesh", "xds"] {
        until("the renewed one is shown", async || {
            (place.shown(listener, &authority).await.as_ref() == Some(&renewed)).then_some(())
        })
        .await;
    }
    let (mut believed, _) = place.envoy("other", by_stranger, None).await;
    believed.wait_ready().await;
    // Who was let in stays.
    let connected = "control_plane.connected_state";
    assert_eq!((caller.stats(connected).await, asked(egress).await), (Some(1), Some(200)));
    let said = place.daemon.stderr.text();
    assert!(!said.contains("PRIVATE KEY") && !said.contains(SECRET), "{said}");
    assert_eq!(place.daemon.terminate().await, Some(0));
}
