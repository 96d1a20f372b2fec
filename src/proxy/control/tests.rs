//! How long a first configuration waits, by what is known of its endpoints and secrets.

use super::*;
use crate::base::certificate::{SecretFiles, SecretPem};
use crate::mesh::snapshot::{Certificate, IpPreference, Listener, Own, Protocol, Role, ServerTls, ServerTlsMode};
use std::net::Ipv4Addr;

/// Nothing is found out in these tests but by the tests.
struct Silent;

#[async_trait::async_trait]
impl EndpointSource for Silent {
    async fn resolve(&self, _: &Discovery, _: u16) -> Result<Vec<SocketAddr>, Fault> {
        std::future::pending().await
    }
}

const SECRET: &str = "spiffe://mesh/web";

/// A node whose listener shows a secret of the SDS server.
fn with_secret() -> Arc<NodeConfig> {
    let tls = ServerTls {
        mode: ServerTlsMode::Strict,
        certificate: Certificate::Sds { secret: SECRET.into() },
        client_trust: None,
        client_names: Vec::new(),
    };
    let (request_timeout, idle_timeout, pool) = Default::default();
    let tls = Some(tls);
    let listener = Listener { port: 8080, protocol: Protocol::Http, request_timeout, idle_timeout, pool, tls };
    let own = Own {
        mesh: "mesh".into(),
        name: "web".into(),
        role: Role::Node,
        listeners: vec![listener],
        allow_all: false,
        access_log: None,
        ip_preference: IpPreference::Unset,
    };
    Arc::new(NodeConfig { own: Some(Arc::new(own)), ..NodeConfig::default() })
}

/// A service that leads to one node, of which nobody says where it is.
fn with_route() -> Arc<NodeConfig> {
    let mut config = NodeConfig::clone(&with_application(&with_secret()));
    config.own = None;
    Arc::new(config)
}

fn control(config: Arc<NodeConfig>, is_beside: bool) -> (Control, watch::Sender<Arc<SecretFiles>>) {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let first = Compiled::new(0, Arc::default(), &Endpoints::new(), Arc::default());
    let shared = Shared::new(("proxy".into(), nowhere, Some(nowhere), None), 1, 1, 1, first);
    shared.set_beside(is_beside);
    let (told, sds) = watch::channel(Arc::default());
    let (events, _) = mpsc::channel(QUEUE);
    let secrets = Secrets { acm: None, sds: Some(sds) };
    (Control::new(Arc::new(shared), Arc::new(Silent), events, secrets, config), told)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_first_configuration_waits_for_its_secrets_as_long_as_envoy() {
    let (mut control, _told) = control(with_secret(), false);
    control.publish_after(WAIT_AT_FIRST - SECOND);
    assert!(control.first_outcome().is_none());
    control.publish_after(WAIT_AT_FIRST);
    assert!(matches!(control.first_outcome(), Some(Ok(()))), "it serves the rest without");
}

#[tokio::test]
async fn a_secret_that_comes_ends_the_wait() {
    for is_beside in [false, true] {
        let (mut control, told) = control(with_secret(), is_beside);
        control.publish_after(SECOND * 2);
        assert!(control.first_outcome().is_none());
        let by_name = BTreeMap::from([(SECRET.to_owned(), SecretPem::default())]);
        told.send_replace(Arc::new(SecretFiles { by_name }));
        control.tls.take_secrets();
        control.publish_after(SECOND * 2);
        // The application's endpoints, which nobody has looked up here, are still waited for beside another process.
        assert_eq!(control.first_outcome().is_some(), !is_beside);
    }
}

#[tokio::test]
async fn nobodys_place_is_taken_without_its_secrets() {
    let (mut control, _told) = control(with_secret(), true);
    control.publish_after(WAIT_AT_FIRST - SECOND);
    assert!(control.first_outcome().is_none());
    control.publish_after(WAIT_AT_FIRST);
    let said = control.first_outcome().and_then(Result::err).map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains(SECRET) && said.contains("start it again"), "{said}");
    assert!(control.published.is_none());
}

#[tokio::test]
async fn whoever_takes_a_place_waits_longer_for_endpoints() {
    for (is_beside, waits) in [(false, WAIT_FOR_ENDPOINTS), (true, WAIT_AT_FIRST)] {
        let (mut control, _told) = control(with_route(), is_beside);
        control.publish_after(waits - SECOND / 2);
        assert!(control.first_outcome().is_none(), "{is_beside}");
        control.publish_after(waits);
        assert!(matches!(control.first_outcome(), Some(Ok(()))), "{is_beside}");
    }
}
