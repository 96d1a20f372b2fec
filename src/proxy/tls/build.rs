//! The two sides of TLS, made of what was found.

use super::material::{Believed, Shown};
use super::verify::Judge;
use crate::mesh::snapshot::Protocol;
use crate::proxy::stream::Stream;
use crate::tls;
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

/// How long a client may take until its connection is secured: as long as Envoy waits to learn what a connection is.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// First byte of a connection of TLS: a record of the handshake (RFC 8446 section 5.1). No method of HTTP begins with it.
const HANDSHAKE_RECORD: u8 = 22;

/// What a server's side is made of. Without `Debug`: it holds a key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ServerParts {
    pub(super) shown: Shown,
    pub(super) believed: Option<Believed>,
    pub(super) names: Vec<String>,
    pub(super) takes_plain: bool,
    pub(super) protocol: Protocol,
}

/// What a client's side is made of. Without `Debug`: it may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ClientParts {
    pub(super) shown: Option<Shown>,
    pub(super) believed: Option<Believed>,
    pub(super) names: Vec<String>,
    pub(super) server_name: Option<String>,
    pub(super) protocol: Protocol,
}

/// What connections of clients begin with.
pub(in crate::proxy) struct ServerSide {
    config: Arc<ServerConfig>,
    /// For clients that offer protocols of which none is the listener's: they are told none, as Envoy does, where rustls by
    /// itself would turn them away.
    without_protocol: Arc<ServerConfig>,
    takes_plain: bool,
}

/// What connections to endpoints begin with.
pub(in crate::proxy) struct ClientSide {
    connector: TlsConnector,
    /// The name asked for; `None` where the mesh knows none.
    name: Option<ServerName<'static>>,
}

/// The protocols that are spoken over TLS, as App Mesh's Envoys said them.
fn protocols(protocol: Protocol) -> Vec<Vec<u8>> {
    match protocol {
        Protocol::Http => vec![b"http/1.1".to_vec()],
        Protocol::Http2 | Protocol::Grpc => vec![b"h2".to_vec()],
        Protocol::Tcp => Vec::new(),
    }
}

fn certified(shown: &Shown) -> Result<CertifiedKey, String> {
    let (chain, key) = (shown.name.as_ref(), shown.key_name.as_ref());
    tls::certified(chain, key, &shown.chain, &shown.key).map_err(|error| error.to_string())
}

fn judge(believed: Option<&Believed>, names: &[String]) -> Result<Arc<Judge>, String> {
    let believed = believed.map(|believed| (&*believed.name, &*believed.authorities));
    Judge::new(believed, names.to_vec()).map(Arc::new)
}

impl ServerSide {
    /// # Errors
    /// What is wrong with the certificate, the key or the authorities.
    pub(super) fn new(parts: &ServerParts) -> Result<Self, String> {
        let resolver = Arc::new(SingleCertAndKey::from(certified(&parts.shown)?));
        let builder = ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let mut config = match &parts.believed {
            None => builder.with_no_client_auth(),
            Some(believed) => builder.with_client_cert_verifier(judge(Some(believed), &parts.names)?),
        }
        .with_cert_resolver(resolver);
        if parts.believed.is_some() {
            // Who takes up a session again is not verified anew, although its certificate may have ended since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else if let Ok(tickets) = rustls::crypto::ring::Ticketer::new() {
            // Nothing is kept for a session, so workers share no memory for it.
            config.ticketer = tickets;
        }
        let without_protocol = Arc::new(config.clone());
        config.alpn_protocols = protocols(parts.protocol);
        Ok(Self { config: Arc::new(config), without_protocol, takes_plain: parts.takes_plain })
    }

    /// Takes TLS off a connection that begins with it, or leaves it as it is where that is allowed; `None` where it is not,
    /// where the two sides do not find together, and where nothing comes in time.
    pub(in crate::proxy) async fn accept(&self, socket: TcpStream) -> Option<Stream> {
        timeout(HANDSHAKE_TIMEOUT, self.find_out(socket)).await.ok()?
    }

    async fn find_out(&self, socket: TcpStream) -> Option<Stream> {
        let mut first = [0];
        // One byte is there or the connection has ended.
        if socket.peek(&mut first).await.ok()? == 0 {
            return None;
        }
        if first[0] != HANDSHAKE_RECORD {
            return self.takes_plain.then_some(Stream::Plain(socket));
        }
        let _ = socket.set_nodelay(true);
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await.ok()?;
        let offered: Vec<&[u8]> = hello.client_hello().alpn().into_iter().flatten().collect();
        let fits = offered.is_empty() || self.config.alpn_protocols.iter().any(|known| offered.contains(&&**known));
        let config = if fits { &self.config } else { &self.without_protocol };
        match hello.into_stream(Arc::clone(config)).into_fallible().await {
            Ok(stream) => Some(Stream::OfClient(Box::new(stream))),
            Err((_, mut socket)) => {
                // The alert is on its way; closing with anything unread would be a reset, which overtakes it.
                let _ = socket.read(&mut [0; 1024]).await;
                None
            }
        }
    }
}

impl ClientSide {
    /// # Errors
    /// What is wrong with the certificate, the key or the authorities.
    pub(super) fn new(parts: &ClientParts) -> Result<Self, String> {
        let builder = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?.dangerous();
        let builder = builder.with_custom_certificate_verifier(judge(parts.believed.as_ref(), &parts.names)?);
        let mut config = match &parts.shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified(shown)?))),
        };
        config.alpn_protocols = protocols(parts.protocol);
        // An address is no name to ask for (RFC 6066 section 3).
        let name = parts.server_name.clone().filter(|name| name.parse::<IpAddr>().is_err());
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Begins TLS with the server at this address; `None` where the two do not find together. Without a limit of its own.
    pub(in crate::proxy) async fn connect(&self, socket: TcpStream, address: SocketAddr) -> Option<Stream> {
        let name = self.name.clone().unwrap_or_else(|| ServerName::from(address.ip()));
        let stream = self.connector.connect(name, socket).await.ok()?;
        Some(Stream::ToServer(Box::new(stream)))
    }
}
