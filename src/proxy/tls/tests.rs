//! TLS between real sockets: who is believed, what is agreed, and what stays when something is wrong.

use super::build::{ClientParts, ClientSide, ServerParts, ServerSide};
use super::keeper::Keeper;
use super::material::{Believed, Secrets, Shown};
use crate::base::certificate::{SecretFiles, SecretPem};
use crate::base::secret::Redacted;
use crate::base::time::Timestamp;
use crate::mesh::snapshot::{
    Certificate, Cluster, ClusterKey, ClusterPort, Discovery, IpPreference, Listener, NodeConfig, NodeExtensions, Own,
    Protocol, Role, ServerTls, ServerTlsMode, Trust, UpstreamTls,
};
use crate::proxy::stream::Stream;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, name: &str) -> Shown {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names.push(match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if name.contains("://") => SanType::URI(name.try_into().unwrap()),
            Err(_) => SanType::DnsName(name.try_into().unwrap()),
        });
        let key = KeyPair::generate().unwrap();
        shown(&params.signed_by(&key, &self.issuer).unwrap().pem(), &key.serialize_pem())
    }

    fn believed(&self) -> Option<Believed> {
        believed(&self.pem)
    }
}

fn shown(chain: &str, key: &str) -> Shown {
    Shown { name: "chain.pem".into(), chain: chain.into(), key_name: "key.pem".into(), key: key.into() }
}

fn believed(pem: &str) -> Option<Believed> {
    Some(Believed { name: "ca.pem".into(), authorities: pem.into() })
}

/// A certificate that is its own authority, as `openssl req -x509` makes it.
fn by_itself(name: &str) -> Shown {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    shown(&params.self_signed(&key).unwrap().pem(), &key.serialize_pem())
}

fn server(shown: Shown, protocol: Protocol) -> ServerParts {
    ServerParts { shown, believed: None, names: Vec::new(), takes_plain: false, protocol }
}

fn client(believed: Option<Believed>, names: &[&str]) -> ClientParts {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    ClientParts { shown: None, believed, names, server_name: Some("a.test".into()), protocol: Protocol::Http }
}

/// What a client hears back over TLS from a server that says back what it hears; `None` when either turned the other away. In
/// TLS 1.3 a client learns what its server thinks of its certificate only behind the handshake.
async fn echo(server: &ServerParts, client: &ClientParts) -> Option<Vec<u8>> {
    let (server, client) = (ServerSide::new(server).unwrap(), ClientSide::new(client).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut stream = server.accept(listener.accept().await.unwrap().0).await?;
        assert!(stream.is_secure());
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await.ok()?;
        stream.write_all(&heard).await.ok()?;
        stream.shutdown().await.ok()
    });
    let socket = TcpStream::connect(address).await.unwrap();
    let talk = async {
        let mut stream = client.connect(socket, address).await?;
        stream.write_all(b"ping").await.ok()?;
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.ok()?;
        (!heard.is_empty()).then_some(heard)
    };
    let heard = talk.await;
    let _ = serving.await.unwrap();
    heard
}

#[tokio::test]
async fn who_is_believed_under_which_name() {
    let (ours, other) = (Authority::new(), Authority::new());
    let own = by_itself("a.test");
    let own_pem = String::from_utf8(own.chain.clone()).unwrap();
    let spiffe = "spiffe://mesh/a";
    for (what, shown, believed, names, is_believed) in [
        ("our authority, its name", ours.issue("a.test"), ours.believed(), &["a.test"][..], true),
        ("any name", ours.issue("a.test"), ours.believed(), &[], true),
        ("one of several", ours.issue("a.test"), ours.believed(), &["b.test", "a.test"], true),
        ("another name", ours.issue("a.test"), ours.believed(), &["b.test"], false),
        ("another authority", other.issue("a.test"), ours.believed(), &["a.test"], false),
        ("nothing is looked at", other.issue("b.test"), None, &[], true),
        ("a wildcard", ours.issue("*.a.test"), ours.believed(), &["x.a.test"], true),
        ("a wildcard is one label", ours.issue("*.a.test"), ours.believed(), &["x.y.a.test"], false),
        ("a URI", ours.issue(spiffe), ours.believed(), &[spiffe], true),
        ("another URI", ours.issue(spiffe), ours.believed(), &["spiffe://mesh/b"], false),
        ("an address", ours.issue("127.0.0.1"), ours.believed(), &["127.0.0.1"], true),
        ("another address", ours.issue("127.0.0.1"), ours.believed(), &["127.0.0.2"], false),
        ("its own authority", own.clone(), self::believed(&own_pem), &["a.test"], true),
        ("its own authority, another name", own.clone(), self::believed(&own_pem), &["b.test"], false),
        ("its own authority, and not ours", own, ours.believed(), &["a.test"], false),
    ] {
        let heard = echo(&server(shown, Protocol::Http), &client(believed, names)).await;
        assert_eq!(heard.is_some(), is_believed, "{what}");
    }
}

#[tokio::test]
async fn servers_that_ask_for_certificates() {
    let (ours, other) = (Authority::new(), Authority::new());
    let own = by_itself("client.test");
    let own_pem = String::from_utf8(own.chain.clone()).unwrap();
    for (what, believed, names, shown, is_taken) in [
        ("one of ours", ours.believed(), &[][..], Some(ours.issue("x.test")), true),
        ("with the name", ours.believed(), &["x.test"], Some(ours.issue("x.test")), true),
        ("with another name", ours.believed(), &["y.test"], Some(ours.issue("x.test")), false),
        ("one of others", ours.believed(), &[], Some(other.issue("x.test")), false),
        ("none", ours.believed(), &[], None, false),
        ("its own authority", self::believed(&own_pem), &["client.test"], Some(own), true),
    ] {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let asking = ServerParts { believed, names, ..server(ours.issue("a.test"), Protocol::Http) };
        let heard = echo(&asking, &ClientParts { shown, ..client(ours.believed(), &["a.test"]) }).await;
        assert_eq!(heard.is_some(), is_taken, "{what}");
    }
}

#[tokio::test]
async fn protocols_that_do_not_meet_are_no_reason_to_part() {
    let ours = Authority::new();
    for (offers, speaks, agreed) in [
        (Protocol::Http, Protocol::Http, Some(b"http/1.1".to_vec())),
        (Protocol::Grpc, Protocol::Http2, Some(b"h2".to_vec())),
        (Protocol::Http2, Protocol::Http, None),
        (Protocol::Http, Protocol::Tcp, None),
        (Protocol::Tcp, Protocol::Http, None),
    ] {
        let server = ServerSide::new(&server(ours.issue("a.test"), speaks)).unwrap();
        let client = ClientSide::new(&ClientParts { protocol: offers, ..client(ours.believed(), &[]) }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = TcpStream::connect(address).await.unwrap();
        let accepted = listener.accept().await.unwrap().0;
        let (served, _called) = tokio::join!(server.accept(accepted), client.connect(socket, address));
        let Some(Stream::OfClient(served)) = served else { panic!("{offers:?} to {speaks:?}") };
        assert_eq!(served.get_ref().1.alpn_protocol(), agreed.as_deref(), "{offers:?} to {speaks:?}");
        assert_eq!(served.get_ref().1.server_name(), Some("a.test"));
    }
}

#[tokio::test]
async fn plain_connections_are_taken_where_they_may_come() {
    let ours = Authority::new();
    for (takes_plain, words, is_taken) in [(true, "GET / HTTP/1.1\r\n", true), (false, "GET / HTTP/1.1\r\n", false)] {
        let parts = ServerParts { takes_plain, ..server(ours.issue("a.test"), Protocol::Http) };
        let side = ServerSide::new(&parts).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        socket.write_all(words.as_bytes()).await.unwrap();
        let stream = side.accept(listener.accept().await.unwrap().0).await;
        assert_eq!(stream.is_some(), is_taken);
        if let Some(mut stream) = stream {
            let mut heard = vec![0; words.len()];
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, words.as_bytes(), "nothing of it is lost");
        }
    }
    // Permissive takes TLS as well, and who says nothing and goes is nobody.
    let parts = ServerParts { takes_plain: true, ..server(ours.issue("a.test"), Protocol::Http) };
    assert_eq!(echo(&parts, &client(ours.believed(), &[])).await, Some(b"ping".to_vec()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
    assert!(ServerSide::new(&parts).unwrap().accept(listener.accept().await.unwrap().0).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_waited_for_so_long() {
    let side = ServerSide::new(&server(Authority::new().issue("a.test"), Protocol::Http)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    assert!(side.accept(listener.accept().await.unwrap().0).await.is_none());
}

const SECRET: &str = "mesh";

/// A configuration that calls one node over TLS, whose authorities are a secret.
fn config(names: &[&str]) -> NodeConfig {
    let key = ClusterKey { mesh: "m".into(), node: "n".into() };
    let policy = UpstreamTls {
        trust: Some(Trust::Acm { arns: vec![SECRET.into()] }),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        certificate: None,
        server_name: None,
    };
    let ports = vec![ClusterPort { tls: Some(policy), ..ClusterPort::plain(443, Protocol::Http) }];
    let cluster =
        Cluster { key: key.clone(), discovery: Discovery::None, ports, extensions: NodeExtensions::default() };
    NodeConfig { clusters: BTreeMap::from([(key, Arc::new(cluster))]), ..NodeConfig::default() }
}

fn secrets(authorities: &str) -> Arc<SecretFiles> {
    let pem = SecretPem { authorities: authorities.into(), ..SecretPem::default() };
    Arc::new(SecretFiles { by_name: BTreeMap::from([(SECRET.to_owned(), pem)]) })
}

#[test]
fn what_was_good_stays_until_the_mesh_says_something_else() {
    let (tell, told) = watch::channel(Arc::default());
    let mut keeper = Keeper::new(Secrets { acm: Some(told), sds: None }, false);
    let key = (ClusterKey { mesh: "m".into(), node: "n".into() }, 443);
    let mut made = |tell: Option<Arc<SecretFiles>>, sender: &watch::Sender<Arc<SecretFiles>>, names: &[&str]| {
        if let Some(secrets) = tell {
            sender.send_replace(secrets);
            keeper.take_secrets();
        }
        keeper.secure(&config(names), Timestamp(0)).towards(&key, true)
    };
    let (ours, other) = (Authority::new(), Authority::new());
    assert!(made(None, &tell, &["a"]).is_unusable(), "nothing was told yet");
    let first = made(Some(secrets(&ours.pem)), &tell, &["a"]);
    assert!(first.tls().is_some() && made(None, &tell, &["a"]).is_as(&first), "the same is the same");
    assert!(made(Some(secrets("half of a")), &tell, &["a"]).is_as(&first), "the last good one stays");
    assert!(made(Some(Arc::default()), &tell, &["a"]).is_as(&first), "also when it is withdrawn");
    let second = made(Some(secrets(&other.pem)), &tell, &["a"]);
    assert!(second.tls().is_some() && !second.is_as(&first), "a new one is taken");
    let third = made(None, &tell, &["b"]);
    assert!(third.tls().is_some() && !third.is_as(&second), "other names are another policy");
    assert!(made(Some(secrets("nothing")), &tell, &["c"]).is_unusable(), "a new policy cannot go by what was");
}

/// A configuration whose listener shows the secret.
fn listening() -> NodeConfig {
    let certificate = Certificate::Acm { arn: SECRET.into() };
    let mode = ServerTlsMode::Strict;
    let tls = Some(ServerTls { mode, certificate, client_trust: None, client_names: Vec::new() });
    let (request_timeout, idle_timeout, pool) = Default::default();
    let listener = Listener { port: 8080, protocol: Protocol::Http, request_timeout, idle_timeout, pool, tls };
    let own = Own {
        mesh: "m".into(),
        name: "n".into(),
        role: Role::Node,
        listeners: vec![listener],
        allow_all: false,
        access_log: None,
        ip_preference: IpPreference::Unset,
    };
    NodeConfig { own: Some(Arc::new(own)), ..NodeConfig::default() }
}

/// A certificate for whole years, the last one excluded.
fn for_years(years: [i32; 2]) -> Arc<SecretFiles> {
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(years[0], 1, 1), date_time_ymd(years[1], 1, 1));
    let key = KeyPair::generate().unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    let pem = SecretPem { chain, key: Redacted::new(key.serialize_pem()), ..SecretPem::default() };
    Arc::new(SecretFiles { by_name: BTreeMap::from([(SECRET.to_owned(), pem)]) })
}

/// The first moment of a year.
fn year(year: i32) -> Timestamp {
    Timestamp(date_time_ymd(year, 1, 1).unix_timestamp() * 1000)
}

#[test]
fn a_certificate_out_of_its_time_waits_while_there_is_a_good_one() {
    let (tell, told) = watch::channel(Arc::default());
    let mut keeper = Keeper::new(Secrets { acm: Some(told), sds: None }, false);
    let mut shown = |secrets: Option<&Arc<SecretFiles>>, now: Timestamp| {
        if let Some(secrets) = secrets {
            tell.send_replace(Arc::clone(secrets));
            keeper.take_secrets();
        }
        let side = keeper.secure(&listening(), now).own(8080).map(Arc::as_ptr);
        (side, keeper.waits())
    };
    let (old, good, next) = (for_years([2001, 2002]), for_years([2010, 2020]), for_years([2015, 2030]));
    let (first, waits) = shown(Some(&old), year(2011));
    assert!(first.is_some() && !waits, "without any other it is shown, as by Envoy");
    let (second, waits) = shown(Some(&good), year(2011));
    assert!(second.is_some() && second != first && !waits);
    assert_eq!(
        shown(Some(&old), year(2011)),
        (second, true),
        "one that has ended does not take the place of a good one"
    );
    assert_eq!(shown(Some(&next), year(2012)), (second, true), "nor does one that has not begun");
    let (third, waits) = shown(None, year(2016));
    assert!(third.is_some() && third != second && !waits, "it has begun, and nothing else has changed");
    assert_eq!(shown(Some(&old), year(2017)), (third, true));
    let (fourth, waits) = shown(None, year(2031));
    assert!(fourth.is_some() && fourth != third && !waits, "both have ended: the files are right then");
}

#[test]
fn files_are_wanted_until_they_were_read() {
    let mut config = config(&[]);
    let cluster = config.clusters.values_mut().next().unwrap();
    let mut changed = Cluster::clone(cluster);
    changed.ports[0].tls = Some(UpstreamTls {
        trust: Some(Trust::File { chain: "ca.pem".into() }),
        names: Vec::new(),
        certificate: Some(Certificate::File { chain: "c.pem".into(), key: "k.pem".into() }),
        server_name: None,
    });
    *cluster = Arc::new(changed);
    let mut keeper = Keeper::new(Secrets::default(), false);
    assert_eq!(keeper.unread(&config), ["c.pem", "ca.pem", "k.pem"]);
    let read = |text: &str| vec![("ca.pem".to_owned(), Ok(text.as_bytes().to_vec()))];
    assert!(keeper.take_files(read("A")) && !keeper.take_files(read("A")) && keeper.take_files(read("B")));
    assert_eq!(keeper.unread(&config), ["c.pem", "k.pem"]);
    keeper.forget_files([&config, &NodeConfig::default()]);
    assert_eq!(keeper.unread(&config), ["c.pem", "k.pem"], "one configuration names it still");
    keeper.forget_files([&NodeConfig::default(), &NodeConfig::default()]);
    assert_eq!(keeper.unread(&config), ["c.pem", "ca.pem", "k.pem"], "what nobody names is read anew");
    let standing_alone = Keeper::new(Secrets::default(), true);
    assert!(standing_alone.unread(&config).is_empty());
}

/// A key is in no error, whatever is wrong with it.
#[test]
fn what_is_wrong_is_said_and_keys_are_not() {
    let ours = Authority::new();
    let good = ours.issue("a.test");
    let wrong = |chain: &[u8], key: &[u8]| {
        let shown = Shown { chain: chain.to_vec(), key: key.to_vec(), ..good.clone() };
        ServerSide::new(&server(shown, Protocol::Http)).err().unwrap()
    };
    assert!(wrong(b"x", &good.key).contains("the certificate chain.pem is not one"));
    let said = wrong(&good.chain, b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n");
    assert!(said.contains("key.pem") && !said.contains("c2Vj"), "{said}");
    assert!(wrong(&good.chain, &ours.issue("a.test").key).contains("does not belong to the certificate"));
    let untrusted = ClientSide::new(&client(self::believed("nothing"), &[])).err().unwrap();
    assert!(untrusted.contains("the file of authorities ca.pem is not one"), "{untrusted}");
}
