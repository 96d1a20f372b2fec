//! Certificates that stand in for those of ACM: real Envoys and native proxies get them over xDS, and renewed ones without a
//! restart.

use crate::kit::certificates::Authority;
use crate::kit::envoy::{Envoy, binary};
use crate::kit::ports::steady_port;
use crate::program::service::Service;
use crate::program::{FREE_PORTS, Process, command, finish, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tidegate::bootstrap::{Options, Texts, Variables, build};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const CERTIFICATE: &str = "arn:aws:acm:eu-central-1:123456789012:certificate/served";
const AUTHORITY: &str = "arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/mesh";
const OTHER: &str = "arn:aws:acm-pca:eu-central-1:123456789012:certificate-authority/other";

fn mesh(app: u16) -> String {
    let listener = json!([{
        "portMapping": { "port": app, "protocol": "http" },
        "tls": { "mode": "STRICT", "certificate": { "acm": { "certificateArn": CERTIFICATE } } },
    }]);
    let caller = |name: &str, authority: &str| {
        let tls = json!({ "validation": { "trust": { "acm": { "certificateAuthorityArns": [authority] } } } });
        let backend =
            json!({ "virtualService": { "virtualServiceName": "served.local", "clientPolicy": { "tls": tls } } });
        json!({ "meshName": "shop", "virtualNodeName": name, "spec": { "backends": [backend] } })
    };
    let discovery = json!({ "dns": { "hostname": "served.test" } });
    let provider = json!({ "virtualNode": { "virtualNodeName": "served" } });
    let all = [
        json!({ "meshName": "shop", "spec": {} }),
        json!({ "meshName": "shop", "virtualNodeName": "served", "spec": { "listeners": listener, "serviceDiscovery": discovery } }),
        json!({ "meshName": "shop", "virtualServiceName": "served.local", "spec": { "provider": provider } }),
        caller("caller", AUTHORITY),
        caller("stranger", OTHER),
    ];
    all.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

/// A proxy of either kind, which ends with it.
enum Proxy {
    Envoy(Box<Envoy>),
    Native(Box<Process>),
}

/// What runs proxies.
#[derive(Clone, Copy)]
enum Plane {
    Envoy,
    Native,
}

impl Plane {
    async fn proxy(self, node: &str, (xds, discovery): (SocketAddr, &str), ports: [u16; 2]) -> Proxy {
        match self {
            Self::Envoy => Proxy::Envoy(Box::new(envoy(node, xds, ports).await)),
            Self::Native => Proxy::Native(Box::new(native(node, (xds, discovery), ports).await)),
        }
    }
}

/// A native proxy of a node.
async fn native(node: &str, (xds, discovery): (SocketAddr, &str), ports: [u16; 2]) -> Process {
    let [ingress, egress] = ports.map(|port| format!("127.0.0.1:{port}"));
    let (node, control_plane) = (format!("mesh/shop/virtualNode/{node}"), format!("http://{xds}"));
    let mut command = command(&["proxy", "--output", "json", "--node", &node, "--control-plane", &control_plane]);
    command.args(["--ingress", &ingress, "--egress", &egress, "--admin", "127.0.0.1:0"]);
    command.args(["--discovery", discovery]);
    let mut proxy = Process::spawn(command);
    proxy.listening(3).await;
    proxy
}

/// An Envoy of a node.
async fn envoy(node: &str, xds: SocketAddr, [ingress, egress]: [u16; 2]) -> Envoy {
    let at = |port: u16| Some(SocketAddr::from(([127, 0, 0, 1], port)));
    let options = Options {
        node: Some(format!("mesh/shop/virtualNode/{node}")),
        control_plane: Some(format!("http://{xds}")),
        admin: at(0),
        ingress: at(ingress),
        egress: at(egress),
        ..Options::default()
    };
    let config = build(&options, &Variables::new(), &Texts::new()).unwrap().config;
    let mut envoy = Envoy::start(&config).await.unwrap();
    envoy.wait_ready().await;
    envoy
}

/// The certificate that a listener shows, to whoever believes this authority.
async fn shown(ingress: u16, authority: &Authority) -> Option<Vec<u8>> {
    shown_on(TcpStream::connect(("127.0.0.1", ingress)).await.ok()?, authority).await
}

/// The same on a connection that is there.
async fn shown_on(stream: TcpStream, authority: &Authority) -> Option<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let ring = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("served.test").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

async fn asked(egress: u16) -> Option<u16> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("http://127.0.0.1:{egress}/")).header("host", "served.local");
    Some(request.send().await.ok()?.status().as_u16())
}

/// A file with all sections.
fn sections(folder: &Path) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    format!(
        "[mesh.certificates.\"{CERTIFICATE}\"]\nchain = \"{}\"\nkey = \"{}\"\nauthorities = \"{}\"\n\
         [mesh.certificates.\"{AUTHORITY}\"]\nauthorities = \"{}\"\n[mesh.certificates.\"{OTHER}\"]\nauthorities = \"{}\"\n",
        path("served.crt"),
        path("served.key"),
        path("ca.crt"),
        path("ca.crt"),
        path("other.crt")
    )
}

#[tokio::test]
async fn certificates_of_acm_reach_envoys_and_are_renewed_without_a_restart() {
    if binary().await.is_some() {
        renewed_without_a_restart(Plane::Envoy).await;
    }
}

#[tokio::test]
async fn certificates_of_acm_reach_native_proxies_and_are_renewed_without_a_restart() {
    renewed_without_a_restart(Plane::Native).await;
}

async fn renewed_without_a_restart(plane: Plane) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (authority, other) = (Authority::new(), Authority::new());
    let renew = |names: &[&str]| {
        let (certificate, key) = authority.issue(names);
        write("served.crt", &certificate);
        write("served.key", &key);
        CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap().to_vec()
    };
    let first = renew(&["served.test"]);
    write("ca.crt", &authority.pem);
    write("other.crt", &other.pem);
    let app = Service::start("app").await;
    let [ingress, egress, strange, a, b, c] = std::array::from_fn(|_| steady_port());
    let mesh = write("mesh.yaml", &mesh(app.address.port()));
    let discovery =
        write("discovery.json", &json!({ "dns": { "served.test": [format!("127.0.0.1:{ingress}")] } }).to_string());
    let certificates = write("certificates.toml", &sections(folder.path()));
    let (data, policies) = (folder.path().join("data"), folder.path().join("policies"));
    let arguments = |certificates: &str| {
        let mut program = command(&["local", "--output", "json", "--mesh", &mesh, "--discovery", &discovery]);
        program.args(["--certificates", certificates]).args(FREE_PORTS);
        program.arg("--data-dir").arg(&data).arg("--policies").arg(&policies);
        program
    };
    let wrong = write("wrong.toml", &sections(folder.path()).replace("served.key", "ca.crt"));
    finish(arguments(&wrong)).await.expect(2).says(&[CERTIFICATE, "the key", "no private key in PEM"]);
    let mut control = Process::spawn(arguments(&certificates));
    let addresses: BTreeMap<String, SocketAddr> = control.addresses().await;
    let sources = (addresses["xds"], discovery.as_str());
    let served = plane.proxy("served", sources, [ingress, a]).await;
    let caller = plane.proxy("caller", sources, [b, egress]).await;
    let stranger = plane.proxy("stranger", sources, [c, strange]).await;
    until("the request gets through", async || (asked(egress).await == Some(200)).then_some(())).await;
    assert_eq!(asked(strange).await, Some(503), "it believes another authority");
    assert_eq!(shown(ingress, &authority).await.as_ref(), Some(&first));

    // Renewed on disk: the same Envoy shows the new one.
    let second = renew(&["served.test"]);
    until("the renewed one is shown", async || {
        (shown(ingress, &authority).await.as_ref() == Some(&second)).then_some(())
    })
    .await;
    assert_eq!(asked(egress).await, Some(200));
    if let Proxy::Envoy(served) = &served {
        assert_eq!(served.stats("server.hot_restart_epoch").await.unwrap_or_default(), 0);
    }
    // Half of a renewal is not taken.
    write("served.key", &authority.issue(&["served.test"]).1);
    until("it is said", async || control.stderr.text().contains("the last good certificate stays").then_some(())).await;
    assert_eq!((shown(ingress, &authority).await.as_ref(), asked(egress).await), (Some(&second), Some(200)));
    let said = control.stderr.text();
    assert!(said.contains(CERTIFICATE) && !said.contains("PRIVATE KEY"), "{said}");
    assert_eq!(control.terminate().await, Some(0));
    if let Proxy::Native(mut served) = served {
        let said = served.stderr.text();
        assert!(!said.contains("PRIVATE KEY"), "{said}");
        // Its last answer came over TLS without a control plane.
        assert_eq!(asked(egress).await, Some(200));
        // Who is in the middle of a handshake when it ends is waited for, as who has a connection is.
        drop((caller, stranger));
        let waiting = TcpStream::connect(("127.0.0.1", ingress)).await.unwrap();
        served.signal("TERM").await;
        assert_eq!(shown_on(waiting, &authority).await.as_ref(), Some(&second));
        assert_eq!(served.ended().await.code(), Some(0));
    }
}
